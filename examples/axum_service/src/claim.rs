//! `POST /keys/current/claim`: an unattended client fetches the next token with its current one.

use std::net::SocketAddr;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::Response;
use keyrota::http::{ClaimAnswer, Credentials, claim_id};
use keyrota::{Actor, Claim, ManageError};

use crate::service::App;
use crate::tower_layer::{add, respond};

/// The body is `{"claim_id":"…"}`. The route stands behind a layer, although a claim authenticates itself by its token:
/// so what is no token of ours never comes as far as the database.
pub async fn claim(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    fields: HeaderMap,
    body: Bytes,
) -> Response {
    let id = match claim_id(&body) {
        Ok(id) => id,
        Err(problem) => return respond(problem),
    };
    let keys = app.keys.clone();
    // The fields go along, so that the token in them is not copied.
    let answer = tokio::task::spawn_blocking(move || {
        let credentials = Credentials::of(fields.get_all("authorization"), fields.get_all("x-api-key"));
        let token = credentials.map_err(|_| ManageError::UnknownToken)?.expose();
        keys.by(Actor::service("orders")).claim(Claim::with_token(token, id).from(peer.ip()))
    });
    match answer.await {
        Ok(Ok(claimed)) => {
            let answer = ClaimAnswer::of(&claimed);
            let mut response = Response::new(Body::from(answer.expose_body().to_vec()));
            add(response.headers_mut(), answer.headers());
            response
        }
        Ok(Err(error)) => {
            eprintln!("a claim was refused: {error}");
            respond(app.answers.claim_refused(&error))
        }
        // The pool is shutting down, or the closure has panicked: the client repeats its claim with the same id.
        Err(_) => respond(app.answers.claim_refused(&ManageError::Busy)),
    }
}

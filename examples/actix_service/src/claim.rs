//! `POST /keys/current/claim`: an unattended client fetches the next token with its current one.

use std::net::SocketAddr;

use actix_web::web::{self, Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};
use keyrota::http::{ClaimAnswer, Credentials, claim_id};
use keyrota::{Actor, Claim, ManageError};

use crate::guard::{add, respond};
use crate::service::App;

/// The body is `{"claim_id":"…"}`. The route stands behind a guard, although a claim authenticates itself by its token:
/// so what is no token of ours never comes as far as the database.
pub async fn claim(app: Data<App>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let id = match claim_id(&body) {
        Ok(id) => id,
        Err(problem) => return respond(problem),
    };
    let keys = app.keys.clone();
    let from = request.peer_addr().as_ref().map(SocketAddr::ip);
    // The fields go along, so that the token in them is not copied by itself.
    let fields = request.headers().clone();
    let answer = web::block(move || {
        let credentials = Credentials::of(fields.get_all("authorization"), fields.get_all("x-api-key"));
        let token = credentials.map_err(|_| ManageError::UnknownToken)?.expose();
        let claim = Claim::with_token(token, id);
        keys.by(Actor::service("orders")).claim(match from {
            Some(from) => claim.from(from),
            None => claim,
        })
    });
    match answer.await {
        Ok(Ok(claimed)) => {
            let answer = ClaimAnswer::of(&claimed);
            let mut response = HttpResponse::Ok().body(answer.expose_body().to_vec());
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

//! The service: its routes, and its life from the first request to the last.

use std::error::Error;
use std::future::Future;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::http::Extensions;
use axum::routing::{get, post};
use keyrota::http::Answers;
use keyrota::{KeyManager, Validator};
use tokio::sync::watch;

use crate::orders::{self, Orders};
use crate::tower_layer::KeyLayer;
use crate::{claim, upkeep};

/// How long the last requests may take after the service was told to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// What handlers share. Cheap to clone.
#[derive(Clone)]
pub struct App {
    pub(crate) keys: KeyManager,
    pub(crate) validator: Validator,
    pub(crate) answers: Answers,
    pub(crate) orders: Arc<Orders>,
}

/// The client's address, as the connection has it. Behind a proxy all requests would come from that one.
fn peer(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip())
}

fn routes(app: App) -> Result<Router, Box<dyn Error + Send + Sync>> {
    let key = KeyLayer::new(app.validator.clone(), app.answers.clone()).source(peer);
    let reading = key.scope("orders:read".parse()?);
    let writing = key.scope("orders:write".parse()?);
    // Who has used up a limit must still get the next token.
    let claiming = key.cost(0);
    Ok(Router::new()
        .route("/health", get(|| async { "fine" }))
        .route("/whoami", get(orders::who_am_i).route_layer(key))
        .route(
            "/orders",
            get(orders::list).route_layer(reading).merge(post(orders::create).route_layer(writing)),
        )
        .route(
            "/keys/current/claim",
            post(claim::claim).route_layer(DefaultBodyLimit::max(2_048)).route_layer(claiming),
        )
        .with_state(app))
}

/// Serves until `stop` comes; then answers the requests that have begun, ticks no more, and hands over what was counted.
///
/// # Errors
/// What keeps the service from beginning, or from handing over its last counts.
pub async fn serve(
    listener: TcpListener,
    keys: KeyManager,
    validator: Validator,
    upkeep_every: Duration,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let answers = Answers::new("orders")?.claim_at("/keys/current/claim")?;
    let orders = Arc::new(Orders::default());
    let routes = routes(App { keys: keys.clone(), validator: validator.clone(), answers, orders })?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;

    let (stopping, stopped) = watch::channel(false);
    let upkeep = tokio::spawn(upkeep::run(keys.clone(), validator.clone(), upkeep_every, stopped.clone()));
    let told = |mut stopped: watch::Receiver<bool>| async move { drop(stopped.wait_for(|stop| *stop).await) };
    let last = told(stopped.clone());
    let server = axum::serve(listener, routes.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(told(stopped));
    tokio::spawn(async move {
        stop.await;
        stopping.send_replace(true);
    });
    tokio::select! {
        served = async { server.await } => served?,
        () = async { last.await; tokio::time::sleep(LAST_REQUESTS).await } => eprintln!("some requests took too long"),
    }
    upkeep.await?;
    // The last: after this each validation would answer *unavailable*.
    tokio::task::spawn_blocking(move || validator.close().and_then(|()| keys.close())).await??;
    Ok(())
}

//! The service: its routes, and its life from the first request to the last.

use std::error::Error;
use std::future::Future;
use std::net::TcpListener;
use std::time::Duration;

use actix_web::web::{Data, PayloadConfig, ServiceConfig, get, head, post, resource};
use actix_web::{App as Application, HttpServer, rt, web};
use keyrota::http::Answers;
use keyrota::{KeyManager, Scope, Validator};
use tokio::sync::watch;

use crate::guard::KeyGuard;
use crate::orders::{self, Orders};
use crate::{claim, upkeep};

/// How long the last requests may take after the service was told to stop, in seconds.
const LAST_REQUESTS: u64 = 10;

/// How long a connection stays open without a request: longer than what stands in front keeps it, or a request that is on
/// its way finds it closed. The balancers of the large clouds keep one for up to ten minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(620);

/// How long a client may take to send the head of its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(60);

/// What handlers share.
pub struct App {
    pub(crate) keys: KeyManager,
    pub(crate) validator: Validator,
    pub(crate) answers: Answers,
    pub(crate) orders: Orders,
}

/// The guards of the routes.
#[derive(Clone)]
struct Guards {
    any: KeyGuard,
    reading: KeyGuard,
    writing: KeyGuard,
    claiming: KeyGuard,
}

impl Guards {
    fn new(app: &App) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let any = KeyGuard::new(app.validator.clone(), app.answers.clone());
        let scope = |text: &str| text.parse::<Scope>();
        Ok(Self {
            reading: any.scope(scope("orders:read")?),
            writing: any.scope(scope("orders:write")?),
            // Who has used up a limit must still get the next token.
            claiming: any.cost(0),
            any,
        })
    }

    fn routes(self, config: &mut ServiceConfig) {
        config
            .route("/health", get().to(|| async { "fine" }))
            .service(resource("/whoami").route(get().to(orders::who_am_i).wrap(self.any)))
            .service(
                resource("/orders")
                    .route(get().to(orders::list).wrap(self.reading.clone()))
                    .route(head().to(orders::list).wrap(self.reading))
                    .route(post().to(orders::create).wrap(self.writing)),
            )
            .service(
                resource("/keys/current/claim")
                    .app_data(PayloadConfig::new(2_048))
                    .route(post().to(claim::claim).wrap(self.claiming)),
            );
    }
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
    stop: impl Future<Output = ()> + 'static,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let answers = Answers::new("orders")?.claim_at("/keys/current/claim")?;
    let app = App { keys: keys.clone(), validator: validator.clone(), answers, orders: Orders::default() };
    let guards = Guards::new(&app)?;
    let app = Data::new(app);
    let server = HttpServer::new(move || {
        Application::new().app_data(app.clone()).configure(|config| guards.clone().routes(config))
    })
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(FIRST_REQUEST)
    .listen(listener)?
    .shutdown_timeout(LAST_REQUESTS)
    .disable_signals()
    .run();

    let (stopping, stopped) = watch::channel(false);
    let upkeep = rt::spawn(upkeep::run(keys.clone(), validator.clone(), upkeep_every, stopped));
    let handle = server.handle();
    rt::spawn(async move {
        stop.await;
        stopping.send_replace(true);
        handle.stop(true).await;
    });
    server.await?;
    upkeep.await?;
    // The last: after this each validation would answer *unavailable*.
    web::block(move || validator.close().and_then(|()| keys.close())).await??;
    Ok(())
}

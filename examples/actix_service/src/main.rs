//! Orders behind API keys.
//!
//! ```sh
//! export KEYROTA_MASTER_KEY=$(openssl rand -hex 32)
//! cargo run --package actix_service -- issue ada ci orders:read orders:write   # prints the token, once
//! cargo run --package actix_service                                            # serves on 127.0.0.1:8080
//! curl -i -H "X-API-Key: $TOKEN" localhost:8080/orders
//! ```
//!
//! `ORDERS_KEYS` is the database's file, `ORDERS_ADDRESS` where to listen; `API_KEYS` has tokens from before, if there are any.

use std::env;
use std::error::Error;
use std::future::Future as _;
use std::net::TcpListener;
use std::time::Duration;

use actix_service::{legacy, service};
use actix_web::rt::{System, signal};
use keyrota::{Actor, ImportSource, KeyManager, Keyring, NewKey, OwnerId, ScopeSet, SqliteStore, TokenList};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let setting = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let store = SqliteStore::open(setting("ORDERS_KEYS", "keys.db"))?;
    let keys = KeyManager::open(store, Keyring::from_env("KEYROTA_MASTER_KEY")?)?;
    let arguments: Vec<_> = env::args().skip(1).collect();
    if let [command, owner, name, scopes @ ..] = arguments.as_slice()
        && command == "issue"
    {
        let scopes: Vec<_> = scopes.iter().map(|scope| scope.parse()).collect::<Result<_, _>>()?;
        let new = NewKey::new(OwnerId::new(owner)?, name)?.scopes(ScopeSet::new(scopes)?).auto_rotation(true);
        println!("{}", keys.by(Actor::operator("console")).issue(new)?.token.expose());
        return Ok(());
    }
    if env::var_os("API_KEYS").is_some() {
        let report = legacy::take_over(&keys, ImportSource::env("API_KEYS", TokenList::Any)?)?;
        eprintln!("took over {} of the {} tokens in API_KEYS", report.imported, report.lines);
    }
    let listener = TcpListener::bind(setting("ORDERS_ADDRESS", "127.0.0.1:8080"))?;
    eprintln!("serving on {}", listener.local_addr()?);
    // Opened before the runtime begins: loading the replica blocks, too.
    let validator = keys.validator()?;
    System::new().block_on(service::serve(listener, keys, validator, Duration::from_secs(60), told_to_stop()))
}

/// Control-C, or what a process manager sends.
async fn told_to_stop() {
    #[cfg(unix)]
    if let Ok(mut terminated) = signal::unix::signal(signal::unix::SignalKind::terminate()) {
        let mut interrupted = std::pin::pin!(signal::ctrl_c());
        return std::future::poll_fn(|context| {
            let is_told =
                terminated.poll_recv(context).is_ready() || interrupted.as_mut().poll(context).is_ready();
            if is_told { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
    drop(signal::ctrl_c().await);
}

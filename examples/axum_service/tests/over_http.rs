//! The service over a real socket.

#[path = "../../over_http/mod.rs"]
mod over_http;

use std::thread::JoinHandle;

use axum_service::{legacy, service};
use keyrota::{ImportSource, TokenList};
use over_http::stage::Parts;

#[cfg(unix)]
const PROGRAM: &str = env!("CARGO_BIN_EXE_axum_service");

fn start(parts: Parts) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let Parts { listener, keys, validator, api_keys, upkeep_every, stop } = parts;
        if let Some(list) = api_keys {
            legacy::take_over(&keys, ImportSource::tokens(&list, TokenList::Any)).unwrap();
        }
        let stop = async { drop(stop.await) };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(service::serve(listener, keys, validator, upkeep_every, stop)).unwrap();
    })
}

service!(start);

#[cfg(unix)]
#[test]
fn the_program_issues_takes_over_serves_and_ends_when_it_is_told() {
    over_http::program::the_program_issues_takes_over_serves_and_ends_when_it_is_told(PROGRAM);
}

#[cfg(unix)]
#[test]
fn the_program_does_not_begin_without_a_token_of_its_list() {
    over_http::program::the_program_does_not_begin_without_a_token_of_its_list(PROGRAM);
}

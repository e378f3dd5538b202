//! The service over a real socket.

#[path = "../../over_http/mod.rs"]
mod over_http;

use std::thread::JoinHandle;

use actix_service::service;
use over_http::stage::Parts;

fn start(parts: Parts) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let Parts { listener, keys, validator, upkeep_every, stop } = parts;
        let stop = async { drop(stop.await) };
        let system = actix_web::rt::System::new();
        system.block_on(service::serve(listener, keys, validator, upkeep_every, stop)).unwrap();
    })
}

service!(start);

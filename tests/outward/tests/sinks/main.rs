//! The sinks of the examples, as they are: on real files, and with a server of the KV version 2 interface.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and says what was left out"
)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../../../../examples/in_app_feed.rs"]
#[allow(dead_code, reason = "an example with a `main` of its own")]
mod in_app_feed;
#[path = "../../../../examples/secret_sink_file.rs"]
#[allow(dead_code, reason = "an example with a `main` of its own")]
mod secret_sink_file;
#[path = "../../../../examples/secret_sink_vault.rs"]
#[allow(dead_code, reason = "an example with a `main` of its own")]
mod secret_sink_vault;

mod feed;
mod file;
mod kv;
mod vault;

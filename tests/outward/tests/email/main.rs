//! Mails through real servers on loopback, good ones and bad ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, says what was left out, and measures how long a server was waited for"
)]

#[path = "../support/mod.rs"]
mod support;

mod delivered;
mod misbehaving;
mod script;
mod words;

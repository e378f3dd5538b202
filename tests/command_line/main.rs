//! The command line, as people and programs use it: in a pipe, at a terminal, and when something is wrong.
#![cfg(all(feature = "cli", unix))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod every_command;
mod guide;
mod killed;
mod stage;
#[cfg(target_os = "linux")]
mod terminal;
mod troubles;

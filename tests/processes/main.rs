//! Several real processes on one database file: what one of them has done, all of them go by.
//!
//! A test starts this same executable again; the copy runs nothing but [`child_entry`], which reads commands from its
//! standard input and answers each with one line. Nobody waits by the clock: a line ends each step, and time itself is
//! injected.
#![cfg(feature = "sqlite")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../delegating/mod.rs"]
mod delegating;

mod blocked;
mod killed;
mod quota;
mod races;
mod slow;
mod stage;
mod telling;
mod threads;
mod together;
mod verdicts;
mod worker;

/// What a child process runs; in the parent there is nothing to do.
#[test]
fn child_entry() {
    if std::env::var_os(stage::CHILD).is_some() {
        worker::serve();
    }
}

//! The strict stamp under attack by a second real process: whatever that one does, and however it ends, a stamp
//! that has not moved vouches for what was read before.
//!
//! A test starts this same executable again; the copy runs nothing but [`child_entry`], which reads commands from
//! its standard input and answers each with one line. `KEYROTA_STRESS_SECONDS=60` makes the stress and the soak
//! last as long.
#![cfg(all(feature = "sqlite", target_os = "linux"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, prints what it counted, and lasts so many seconds"
)]

mod attack;
mod crash;
mod detector;
mod engines;
mod process;
mod shared;
mod soak;
mod stress;
mod witness;
mod worker;

/// What a child process runs; in the parent there is nothing to do.
#[test]
fn child_entry() {
    if std::env::var_os(process::CHILD).is_some() {
        worker::serve();
    }
}

/// How long a stress lasts.
fn seconds() -> std::time::Duration {
    let asked = std::env::var("KEYROTA_STRESS_SECONDS").ok();
    std::time::Duration::from_secs(asked.map_or(1, |text| text.parse().unwrap()))
}

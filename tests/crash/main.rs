//! Crashes and failing system calls: whatever happens to the calls by which SQLite writes, no act is lost that was
//! acknowledged, none is done by half, and nothing that was revoked is ever accepted.
//!
//! The test program defines `pwrite`, `fsync` and their like itself. SQLite is linked into it, so that its calls come
//! here first, where they are counted, killed, torn, refused or written down (see [`calls`]).
//!
//! Where there are too many calls for every run, each so-manieth is tried; `KEYROTA_CRASH_ALL=1` tries them all.
#![cfg(all(feature = "sqlite", target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a child process talks by its output"
)]

mod calls;
mod disk;
mod full;
mod killed;
mod power;
mod read_errors;
mod stage;
mod story;
mod torn;
mod write_errors;

/// What a child process runs; in the parent there is nothing to do.
#[test]
fn child_entry() {
    if let Some(orders) = std::env::var_os(stage::ORDERS) {
        stage::obey(orders.to_str().unwrap());
    }
}

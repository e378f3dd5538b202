//! Notifications: what is told, to whom, in which order, and that nothing of it is lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../delegating/mod.rs"]
mod delegating;

mod acts;
mod blocked;
mod crash;
mod delivery;
mod rotation;
mod stage;
mod time;
mod year;

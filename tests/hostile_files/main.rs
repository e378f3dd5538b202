//! Hostile files and paths: what `SqliteStore::open` refuses, by which error, and that a refusal leaves every byte,
//! name and right as it was; what it takes; and what an open handle answers when its files are taken away.
#![cfg(all(unix, feature = "sqlite"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod companions;
mod contents;
mod founding;
mod moved;
mod paths;
mod rights;
mod scene;
mod schema;

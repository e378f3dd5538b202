//! Orders behind API keys: an axum service in front of which stands keyrota, complete enough to copy.
//!
//! | | |
//! |---|---|
//! | `GET /health` | open |
//! | `GET /whoami` | any valid key |
//! | `GET /orders`, `POST /orders` | the scopes `orders:read` and `orders:write` |
//! | `POST /keys/current/claim` | any valid key: claims the successor that waits |
//!
//! A service that has its tokens in a list until now starts with them in `API_KEYS`, and [takes them over](legacy).
//!
//! **What blocks, and where.** axum's tasks must not wait for a disk. [`keyrota::Validator::validate_for`] does not: it is
//! called directly, in the [layer](tower_layer). Whatever else of the library is called writes to the database, or may:
//! the [claim](claim), and the [upkeep](upkeep) with its tick and its flush. They go through
//! [`tokio::task::spawn_blocking`], one closure for one act.

mod caller;
mod claim;
pub mod legacy;
mod orders;
pub mod service;
#[allow(dead_code, reason = "it is an example of its own, too")]
#[path = "../../tower_layer.rs"]
pub mod tower_layer;
mod upkeep;

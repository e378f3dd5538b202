//! Orders behind API keys: an actix service in front of which stands keyrota, complete enough to copy.
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
//! **What blocks, and where.** Each of actix's workers is one thread, and must not wait for a disk.
//! [`keyrota::Validator::validate_for`] does not: it is called directly, in the [guard]. Whatever else of the library is
//! called writes to the database, or may: the claim, and the upkeep with its tick and its flush. They go through
//! [`actix_web::web::block`], one closure for one act.

mod caller;
mod claim;
pub mod guard;
pub mod legacy;
mod orders;
pub mod service;
mod upkeep;

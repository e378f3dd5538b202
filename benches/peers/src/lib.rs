//! Other ways to verify an API key, each as its documentation or common practice has it: given so many keys, the tokens
//! that were issued and what verifies one. Each holds a key's owner, scopes and expiry, and looks at them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a benchmark stops where something is wrong, and reads the clock as its subjects do"
)]

mod libraries;
mod lookups;
mod ours;

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

pub use libraries::{api_keys_simplified, authrs, prefixed_api_key};
pub use lookups::{cached_lookup, hash_map, uncached_lookup};
pub use ours::keyrota;

/// Whether a token is valid and allows [`SCOPE`].
pub type Verify = Box<dyn FnMut(&str) -> bool>;
/// The tokens of a peer's keys, and how it verifies one.
pub type Peer = Result<(Vec<String>, Verify), Box<dyn Error>>;

/// What each request asks for, and each key has.
pub const SCOPE: &str = "orders:read";
const DAY: u64 = 86_400;

/// What hosts keep of a key beside its secret.
#[derive(Clone, Debug)]
struct Record {
    owner: String,
    scopes: Vec<String>,
    expires_at: u64,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Record {
    fn of(number: usize) -> Self {
        let scopes = vec![SCOPE.to_owned(), format!("area-{}:read", number % 50)];
        Self { owner: format!("owner-{}", number % 1_000), scopes, expires_at: now() + 30 * DAY }
    }

    fn allows(&self) -> bool {
        !self.owner.is_empty() && now() < self.expires_at && self.scopes.iter().any(|scope| scope == SCOPE)
    }
}

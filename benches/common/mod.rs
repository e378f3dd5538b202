//! What the benchmarks share.
#![allow(dead_code, reason = "each benchmark uses its own part")]

#[cfg(feature = "sqlite")]
pub(crate) mod bare;
pub(crate) mod floor;
pub(crate) mod heap;
pub(crate) mod issuing;
pub(crate) mod measure;
pub(crate) mod stores;
pub(crate) mod tokens;

pub(crate) type Error = Box<dyn std::error::Error>;

/// One HMAC's key.
pub(crate) fn hmac_key() -> ring::hmac::Key {
    ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[7; 32])
}

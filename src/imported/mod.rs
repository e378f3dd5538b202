//! Imported secrets: those that another system made, of which this one got a token or only a digest.
//!
//! A token of another system has no locator. Its version is found by one that is computed from the token: a keyed hash
//! of the digest as the other system kept it. So a token that was imported twice is recognised as long as its row is
//! there, and neither the locator nor the row says anything about the token to whoever does not hold the master key:
//! the other system's digest itself is never stored.

mod form;
mod mark;
mod naming;
mod strength;

pub use form::{DigestError, DigestForm, ForeignDigest};
pub use mark::WeakAction;
pub(crate) use mark::{ImportedMark, Upgrade};
pub(crate) use naming::{keyed, locator, wrapped};
pub use strength::Strength;

/// The longest token of another system that is looked at, in bytes.
pub(crate) const MAX_TOKEN: usize = 512;

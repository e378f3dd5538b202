//! The stamp: by which a follower notices that somebody has committed.

use std::time::Duration;

/// A value that differs whenever anybody has committed to the store since it was last read.
///
/// Only equality means anything, and only between stamps of one handle. A store that counts its commits makes one
/// of the count: `Stamp::from(count)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp(pub [u64; 7]);

impl From<u64> for Stamp {
    fn from(count: u64) -> Self {
        Self([count, 0, 0, 0, 0, 0, 0])
    }
}

/// How fresh a stamp is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freshness {
    /// A stamp read after anybody's commit returned differs from one read before it began.
    Exact,
    /// As [`Freshness::Exact`], but each stamp costs a query, because the store has no cheaper way here.
    ExactByQuery,
    /// A commit shows in the stamp after at most this long.
    Within(Duration),
}

//! Leeway: how far behind the store a validator may be, where its host has chosen that.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::time::Timestamp;

/// How long a validator may go on without asking the store whether anybody has committed: so long may a key that was
/// revoked still be accepted. From 1 millisecond to 1 minute.
///
/// Worth its price only where to ask is dear: where [`Validator::freshness`](crate::Validator::freshness) says
/// [`ExactByQuery`](crate::Freshness::ExactByQuery), or where other processes commit for each request. On a store with a
/// cheap stamp the clock that this asks for instead costs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoundedStaleness(Duration);

/// A bound lies outside 1 millisecond to 1 minute.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("staleness must be bounded by 1 millisecond to 1 minute; without a bound, validation is exact")]
#[non_exhaustive]
pub struct StalenessError;

crate::text::debug_as_told!(StalenessError);

impl BoundedStaleness {
    /// A bound, as the host's clock measures it.
    ///
    /// # Errors
    /// [`StalenessError`] outside 1 millisecond to 1 minute.
    pub fn new(at_most: Duration) -> Result<Self, StalenessError> {
        let allowed = Duration::from_millis(1)..=Duration::from_secs(60);
        if allowed.contains(&at_most) { Ok(Self(at_most)) } else { Err(StalenessError) }
    }

    /// The bound.
    #[must_use]
    pub fn at_most(self) -> Duration {
        self.0
    }
}

/// When the store was last asked, and for how long that is enough.
#[derive(Debug)]
pub(crate) struct Leeway {
    pub(crate) bound: BoundedStaleness,
    asked_at: AtomicI64,
}

impl Leeway {
    pub(crate) fn new(bound: BoundedStaleness) -> Self {
        Self { bound, asked_at: AtomicI64::new(i64::MAX) }
    }

    /// Whether the last asking is recent enough; not by a clock that has gone back since.
    pub(crate) fn covers(&self, now: Timestamp) -> bool {
        let asked_at = Timestamp::from_unix_micros(self.asked_at.load(Ordering::Relaxed));
        asked_at.is_ok_and(|asked_at| asked_at <= now && now.since(asked_at) < self.bound.0)
    }

    /// Notes that the store was asked after this time.
    pub(crate) fn note(&self, time: Timestamp) {
        self.asked_at.store(time.unix_micros(), Ordering::Relaxed);
    }
}

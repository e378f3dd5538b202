//! The clock: where time enters, once for each operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::time::{TimeError, Timestamp};

/// A source of the time of day. It may jump and go back: the library keeps a high-water mark of its own.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the system's time enters")]
    fn now(&self) -> Timestamp {
        Timestamp::saturating_from(std::time::SystemTime::now())
    }
}

/// When something that waits for others has to be over, by a clock that nobody sets.
#[cfg(feature = "email")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(std::time::Instant);

#[cfg(feature = "email")]
#[expect(clippy::disallowed_methods, reason = "how long something takes is no time of day")]
impl Deadline {
    /// So long from now.
    pub(crate) fn after(span: Duration) -> Self {
        Self(std::time::Instant::now() + span)
    }

    /// How long there still is; `None` is over.
    pub(crate) fn left(self) -> Option<Duration> {
        self.0.checked_duration_since(std::time::Instant::now()).filter(|left| !left.is_zero())
    }

    /// The earlier of this one and so long from now.
    pub(crate) fn or_after(self, span: Duration) -> Self {
        Self(self.0.min(Self::after(span).0))
    }
}

/// A clock that stands still until it is told to move; for tests and simulations. Clones share their time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows this time.
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(start.unix_micros())))
    }

    /// Sets the clock, forward or back.
    pub fn set(&self, time: Timestamp) {
        self.0.store(time.unix_micros(), Ordering::SeqCst);
    }

    /// Moves the clock forward.
    ///
    /// # Errors
    /// [`TimeError::OutOfRange`] past the year 9999; the clock stays where it was.
    pub fn advance(&self, span: Duration) -> Result<(), TimeError> {
        self.set(self.now().plus(span)?);
        Ok(())
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.0.load(Ordering::SeqCst)).unwrap_or(Timestamp::MIN)
    }
}

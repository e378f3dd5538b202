//! Cells: the limits of keys that need more than one word, or that several threads use at once. They never move, and
//! stay when a key's row is replaced.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use crate::id::KeyId;
use crate::limit::{Lease, Limits, Period, Place, Quota};
use crate::time::Timestamp;

/// Where the limits of one key are counted.
#[derive(Debug)]
pub(crate) struct Cells {
    pub(crate) key: KeyId,
    issued_at: AtomicI64,
    /// The number of the key's [`Stripes`](crate::validate::stripes::Stripes), by one more than it is; 0 is none.
    stripes: AtomicU32,
    counted: Counted,
}

/// What changes with each use: in a cache line of its own, so that nobody waits for it who only looks for the others.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Counted {
    /// One word for each rate limit.
    paces: [AtomicU64; Limits::MAX_RATES],
    allowance: Allowance,
}

impl Cells {
    pub(crate) fn new(key: KeyId, issued_at: Timestamp) -> Self {
        let issued_at = AtomicI64::new(issued_at.unix_micros());
        Self { key, issued_at, stripes: AtomicU32::new(0), counted: Counted::default() }
    }

    /// From when on the key's quota is refilled.
    pub(crate) fn issued_at(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.issued_at.load(Ordering::Relaxed)).unwrap_or(Timestamp::MIN)
    }

    pub(crate) fn set_issued_at(&self, issued_at: Timestamp) {
        self.issued_at.store(issued_at.unix_micros(), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn stripes(&self) -> Option<u32> {
        self.stripes.load(Ordering::Acquire).checked_sub(1)
    }

    pub(crate) fn set_stripes(&self, number: Option<u32>) {
        self.stripes.store(number.map_or(0, |number| number + 1), Ordering::Release);
    }

    #[inline]
    pub(crate) fn paces(&self) -> &[AtomicU64; Limits::MAX_RATES] {
        &self.counted.paces
    }

    pub(crate) fn allowance(&self) -> &Allowance {
        &self.counted.allowance
    }
}

impl Place for AtomicU64 {
    fn load(&self) -> u64 {
        Self::load(self, Ordering::Acquire)
    }
    fn replace(&self, current: u64, new: u64) -> Result<(), u64> {
        self.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }
}

/// What this process may use of a key's quota without asking the store: its lease.
///
/// One thread at a time renews it, any number take from it. It holds what was leased for one period; what is left of
/// it when the period is over is worth nothing.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    left: AtomicU64,
    since: AtomicI64,
    /// The end of the period; the largest number where it has none.
    until: AtomicI64,
}

impl Allowance {
    /// Takes so many uses, or says how many are left.
    pub(crate) fn take(&self, t: Timestamp, cost: u64) -> Result<u64, u64> {
        if t.unix_micros() >= self.until.load(Ordering::Acquire) {
            return Err(0);
        }
        let left = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(cost));
        left.map(|left| left - cost)
    }

    /// Gives back what a request took that was refused after all.
    pub(crate) fn give_back(&self, cost: u64) {
        self.left.fetch_add(cost, Ordering::AcqRel);
    }

    /// How many uses are left for a period.
    pub(crate) fn left(&self, period: Period) -> u64 {
        let is_of_it = self.since().is_some_and(|since| period.contains(since));
        if is_of_it { self.left.load(Ordering::Acquire) } else { 0 }
    }

    fn since(&self) -> Option<Timestamp> {
        let until = self.until.load(Ordering::Acquire);
        (until != 0).then(|| Timestamp::from_unix_micros(self.since.load(Ordering::Acquire)).ok()).flatten()
    }

    /// Adds a lease. What was left of another period is void first.
    pub(crate) fn add(&self, lease: Lease) {
        if self.since() != Some(lease.since) {
            self.left.store(0, Ordering::Release);
        }
        self.since.store(lease.since.unix_micros(), Ordering::Release);
        self.until.store(lease.until.map_or(i64::MAX, Timestamp::unix_micros), Ordering::Release);
        self.left.fetch_add(lease.uses, Ordering::AcqRel);
    }

    /// Takes out all that is left, with the beginning of the period that it was leased for.
    pub(crate) fn close(&self) -> Option<(Timestamp, u64)> {
        let since = self.since()?;
        let left = self.left.swap(0, Ordering::AcqRel);
        (left > 0).then_some((since, left))
    }

    /// Whether the lease should be renewed: half of it is used, or it is of another period.
    pub(crate) fn is_low(&self, quota: &Quota, period: Period) -> bool {
        self.left(period) <= quota.lease() / 2
    }
}

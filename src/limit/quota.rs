//! Quotas: uses left until they are refilled, shared by processes through leases.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::{Date, OffsetDateTime};

use crate::id::KeyId;
use crate::limit::{LimitError, LimitStatus};
use crate::time::Timestamp;

/// When a quota is full again. What was left over is not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refill {
    /// Never: the key has so many uses in all.
    Never,
    /// Each time that this span has passed since the key was issued: one hour to 36 500 days, in whole microseconds.
    Every(Duration),
    /// At midnight UTC.
    Daily,
    /// On the first of each month at midnight UTC.
    Monthly,
}

impl Refill {
    const SHORTEST: Duration = Duration::from_secs(3_600);
    const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

    /// The period in which `t` lies, for a key that was issued then. A clock before the issue is in the first one.
    pub(crate) fn period(self, issued_at: Timestamp, t: Timestamp) -> Period {
        match self {
            Self::Never => Period { since: issued_at, until: None },
            Self::Every(span) => {
                let span_us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1);
                let past = u64::try_from(t.since(issued_at).as_micros()).unwrap_or(u64::MAX);
                let whole = Duration::from_micros(past / span_us * span_us);
                let since = issued_at.plus(whole).unwrap_or(issued_at);
                Period { since, until: since.plus(span).ok() }
            }
            Self::Daily => {
                const DAY: Duration = Duration::from_secs(86_400);
                let into = Duration::from_micros(t.unix_micros().unsigned_abs() % 86_400_000_000);
                let since = t.minus_or_min(into);
                Period { since, until: since.plus(DAY).ok() }
            }
            Self::Monthly => {
                let date = OffsetDateTime::from(t).date();
                let (year, month) = (date.year(), date.month());
                let next = if month == time::Month::December { year + 1 } else { year };
                let first = |year, month| {
                    let date = Date::from_calendar_date(year, month, 1).ok()?;
                    Timestamp::try_from(date.midnight().assume_utc()).ok()
                };
                let since = first(year, month).unwrap_or(Timestamp::MIN);
                Period { since, until: first(next, month.next()) }
            }
        }
    }

    /// Whether each refill is also one of `other`'s.
    fn is_among(self, other: Self) -> bool {
        match (self, other) {
            (Self::Never, _) | (Self::Monthly, Self::Daily) => true,
            (Self::Every(rare), Self::Every(often)) => {
                rare.as_micros().is_multiple_of(often.as_micros().max(1))
            }
            (one, other) => one == other,
        }
    }
}

/// So many uses, refilled on a schedule; valid by construction.
///
/// # Several processes
/// The store remembers how many uses were leased in the current period. A process leases some when it flushes, and
/// uses up what it leased without asking anybody; when it closes, and when it flushes, it gives back what it does not
/// need. With a quota of *q*, leases of *c*, *p* processes that validate and *k* that ended in the period without
/// closing:
///
/// > *q* − *c* × (*p* − 1 + *k*) ≤ uses in a period ≤ *q*
///
/// The upper bound always holds. The lower one is what is left to a process that keeps asking: uses that lie in the
/// leases of others are not to be had until they give them back, and those of a process that was killed are lost until
/// the refill. One process alone has exactly *q* uses. Between two flushes a process has at most what it leased: with
/// [`Quota::with_lease`] a host that runs one process takes the whole quota at once.
///
/// The text form is `100000 monthly`, `500 daily`, `50 every 7d`, `3 once`, and `500 daily lease 100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "QuotaFields", into = "QuotaFields")]
pub struct Quota {
    uses: u64,
    refill: Refill,
    lease: u64,
}

impl Quota {
    /// The most uses of a quota.
    pub const MAX_USES: u64 = 1_000_000_000_000_000;

    /// So many uses, refilled so. A process leases a sixteenth of them at a time, at least one.
    ///
    /// # Errors
    /// [`LimitError`] for no uses, more than [`Quota::MAX_USES`], or a refill out of its bounds.
    pub fn new(uses: u64, refill: Refill) -> Result<Self, LimitError> {
        let refill = match refill {
            Refill::Every(span) if !(Refill::SHORTEST..=Refill::LONGEST).contains(&span) => {
                return Err(LimitError::Refill);
            }
            Refill::Every(span) => {
                Refill::Every(Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
            }
            refill => refill,
        };
        match uses {
            0 => Err(LimitError::NoUses),
            1..=Self::MAX_USES => Ok(Self { uses, refill, lease: Self::usual_lease(uses) }),
            _ => Err(LimitError::QuotaTooLarge),
        }
    }

    /// The same, of which a process leases so many uses at a time. More makes it rarer that a process runs out between
    /// two flushes; fewer leaves more to the others.
    ///
    /// # Errors
    /// [`LimitError::Lease`] for none, or more than the quota.
    pub fn with_lease(self, uses: u64) -> Result<Self, LimitError> {
        if uses == 0 || uses > self.uses { Err(LimitError::Lease) } else { Ok(Self { lease: uses, ..self }) }
    }

    fn usual_lease(uses: u64) -> u64 {
        (uses / 16).max(1)
    }

    /// How many uses a period has.
    #[must_use]
    pub fn uses(&self) -> u64 {
        self.uses
    }

    /// When they are refilled.
    #[must_use]
    pub fn refill(&self) -> Refill {
        self.refill
    }

    /// How many uses a process leases at a time.
    #[must_use]
    pub fn lease(&self) -> u64 {
        self.lease
    }

    /// Whether the lease is the one that a quota has unasked.
    pub(crate) fn has_usual_lease(&self) -> bool {
        self.lease == Self::usual_lease(self.uses)
    }

    /// What to tell when so many uses of the period are left for a request of this cost, or were after it.
    pub(crate) fn status(&self, left: u64, period: Period, t: Timestamp, cost: u64) -> LimitStatus {
        let refill = period.until.map(|until| until.since(t));
        let refused = left < cost && cost <= self.uses;
        let window = period.until.map(|until| until.since(period.since));
        LimitStatus::new([self.uses, left], window, refill, refill.filter(|_| refused))
    }

    /// Whether this quota allows nothing that `other` does not: it has not more uses, and is refilled only when the
    /// other is too. Another schedule can refill earlier, even a slower one.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.uses <= other.uses && self.refill.is_among(other.refill)
    }
}

/// The stored form; the lease where it is not the usual one.
#[derive(Serialize, Deserialize)]
struct QuotaFields {
    uses: u64,
    refill: RefillFields,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RefillFields {
    Never,
    Daily,
    Monthly,
    EveryUs(u64),
}

impl From<Quota> for QuotaFields {
    fn from(quota: Quota) -> Self {
        let refill = match quota.refill {
            Refill::Never => RefillFields::Never,
            Refill::Daily => RefillFields::Daily,
            Refill::Monthly => RefillFields::Monthly,
            Refill::Every(span) => RefillFields::EveryUs(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        };
        Self { uses: quota.uses, refill, lease: (!quota.has_usual_lease()).then_some(quota.lease) }
    }
}

impl TryFrom<QuotaFields> for Quota {
    type Error = LimitError;
    fn try_from(fields: QuotaFields) -> Result<Self, LimitError> {
        let refill = match fields.refill {
            RefillFields::Never => Refill::Never,
            RefillFields::Daily => Refill::Daily,
            RefillFields::Monthly => Refill::Monthly,
            RefillFields::EveryUs(micros) => Refill::Every(Duration::from_micros(micros)),
        };
        let quota = Self::new(fields.uses, refill)?;
        fields.lease.map_or(Ok(quota), |lease| quota.with_lease(lease))
    }
}

/// The time between two refills, half open; without an end there is none to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    pub(crate) since: Timestamp,
    pub(crate) until: Option<Timestamp>,
}

impl Period {
    pub(crate) fn contains(&self, t: Timestamp) -> bool {
        self.since <= t && self.until.is_none_or(|until| t < until)
    }
}

/// Uses that one process may allow by itself, in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Which period they are of; what is left is given back to it.
    pub(crate) since: Timestamp,
    /// They are worthless from then on.
    pub(crate) until: Option<Timestamp>,
    pub(crate) uses: u64,
}

/// What was leased of a key's quota: all that the store remembers of it. Missing, nothing was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuotaRecord {
    pub(crate) key: KeyId,
    /// The latest two periods in which uses were leased, the earlier one first. Two, so that the next period's can be
    /// leased shortly before it begins, and a single process whose clock is ahead leaves the others theirs.
    leased: Vec<Leased>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Leased {
    since: Timestamp,
    uses: u64,
}

impl QuotaRecord {
    const PERIODS: usize = 2;

    pub(crate) fn new(key: KeyId) -> Self {
        Self { key, leased: Vec::new() }
    }

    /// Leases up to `wanted` uses, as many as are left in the period. `None`, and no change, when none are.
    ///
    /// Of no period more than the quota is ever leased: a period whose count is gone lies before all that are
    /// remembered, and gets nothing. After a change of schedule a period that began before what is remembered goes on
    /// with the latest count in it, so that no change but to a wider quota makes uses come back.
    pub(crate) fn lease(&mut self, quota: &Quota, period: Period, wanted: u64) -> Option<Lease> {
        let since = match self.leased.iter().rev().find(|leased| period.contains(leased.since)) {
            Some(leased) => leased.since,
            None => period.since,
        };
        let counted = self.counted(since)?;
        let uses = wanted.min(quota.uses.saturating_sub(counted));
        if uses == 0 {
            return None;
        }
        match self.leased.iter_mut().find(|leased| leased.since == since) {
            Some(leased) => leased.uses = counted.saturating_add(uses),
            None => self.leased.push(Leased { since, uses }),
        }
        self.leased.sort_by_key(|leased| leased.since);
        let forgotten = self.leased.len().saturating_sub(Self::PERIODS);
        self.leased.drain(..forgotten);
        Some(Lease { since, until: period.until, uses })
    }

    /// How many uses of a period were leased; `None` when that is no longer known.
    fn counted(&self, since: Timestamp) -> Option<u64> {
        match self.leased.iter().find(|leased| leased.since == since) {
            Some(leased) => Some(leased.uses),
            None if self.leased.len() < Self::PERIODS => Some(0),
            None => self.leased.first().is_some_and(|oldest| oldest.since < since).then_some(0),
        }
    }

    /// Takes back what is left of a lease; of a period that is over it is worth nothing.
    pub(crate) fn give_back(&mut self, since: Timestamp, unused: u64) {
        if let Some(leased) = self.leased.iter_mut().find(|leased| leased.since == since) {
            leased.uses = leased.uses.saturating_sub(unused);
        }
    }

    /// How many uses of the period nobody has leased.
    pub(crate) fn left(&self, quota: &Quota, period: Period) -> u64 {
        let latest = self.leased.iter().rev().find(|leased| period.contains(leased.since));
        let counted = latest.map_or_else(|| self.counted(period.since), |leased| Some(leased.uses));
        counted.map_or(0, |counted| quota.uses.saturating_sub(counted))
    }
}

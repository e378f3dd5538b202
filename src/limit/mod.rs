//! Limits of a key: how fast and how often it may be used, by all of its versions together.
//!
//! Rate limits hold within one process and start fresh with it. A quota holds across processes: see [`Quota`].

mod gcra;
mod quota;
mod slice;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use gcra::LimitStatus;
pub(crate) use gcra::{MOVED, Pace, Place, Refusal, check, reserve};
pub(crate) use quota::{Lease, Period, QuotaRecord};
pub use quota::{Quota, Refill};
pub(crate) use slice::Slice;

/// Limits contradict their bounds, or are not in their text form.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// A limit of no uses: revoke or suspend instead.
    #[error("a limit must allow at least one use; to allow none, revoke the key or suspend its owner")]
    NoUses,
    /// The span of a rate limit lies outside one millisecond to 366 days.
    #[error("the span of a rate limit must lie between one millisecond and 366 days")]
    Span,
    /// The rate limit is faster than 10 million uses a second.
    #[error("a rate limit must not be faster than 10000000 uses a second")]
    TooFast,
    /// The burst is zero, or it would take more than 36 500 days to earn it again.
    #[error("a burst must be at least one use, and be earned again within 36500 days; lower it")]
    Burst,
    /// More than four rate limits.
    #[error("a key has at most {} rate limits; leave out those that others contain", Limits::MAX_RATES)]
    TooManyRates,
    /// A quota of more than 10^15 uses.
    #[error("a quota must not exceed 1000000000000000 uses")]
    QuotaTooLarge,
    /// The span of a refill lies outside one hour to 36 500 days.
    #[error("a quota is refilled every hour to every 36500 days; for shorter spans use a rate limit")]
    Refill,
    /// A lease is none, or larger than the quota.
    #[error("a lease must be at least one use and not more than the quota")]
    Lease,
    /// The text does not have the form of a limit.
    #[error("a limit does not have the form {form}")]
    Syntax {
        /// The form, in words.
        form: &'static str,
    },
}

crate::text::debug_as_told!(LimitError);

/// So many uses in a span of time, on average, and so many at once; valid by construction.
///
/// The uses are earned evenly: with 60 uses a minute, one each second. Up to `burst` of them, earned but not yet
/// used, can be taken at once; a fresh limit begins with all of them. So in any time *s* the key has at most
/// `burst + s × uses ÷ span` uses.
///
/// # Exactness
/// Nothing is rounded that would add up: time is counted in a unit of which one use takes a whole number, chosen for
/// each limit. Only the reading of the clock is rounded, down, by less than one unit, which is at most a third of
/// the time in which a use is earned; where that time is a whole number of microseconds, as for 10 a second or 1000 a
/// minute, not even that.
///
/// # Scope
/// A rate limit holds in each process by itself and starts fresh with it: `n` processes allow `n` times the rate. A
/// clock that goes forward earns what the time would have earned. A clock that goes back by more than a second leaves
/// the limit as if the burst had just been used up, so that the next use is earned after one interval: nobody is
/// locked out, and nothing is given away.
///
/// Of a key that several threads use at once, thousands of times a second, each thread sets uses aside if the burst is
/// 1024 or more: all of them together at most a sixty-fourth of it, and only while half of it is left. A request is refused
/// only when neither the limit nor anything that was set aside allows it. So nothing beyond the rule is ever allowed, and
/// while uses that were set aside wait, that sixty-fourth may be missing.
///
/// The text form is `60/min`, `10/s burst 50`, `1000/15min`; units `us`, `ms`, `s`, `min`, `h`, `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RateFields", into = "RateFields")]
pub struct RateLimit {
    // In this order rate limits are sorted.
    span_us: u64,
    uses: u32,
    burst: u32,
}

impl RateLimit {
    const SHORTEST_US: u64 = 1_000;
    const LONGEST_US: u64 = 366 * 86_400_000_000;
    /// The longest time in which a burst is earned again.
    const LONGEST_REFILL_US: u64 = 36_500 * 86_400_000_000;
    /// Uses in a microsecond.
    const FASTEST: u64 = 10;

    /// So many uses in this span: one millisecond to 366 days; finer parts than microseconds are dropped. At first
    /// `burst` is the same number.
    ///
    /// # Errors
    /// [`LimitError`] for no uses, a span out of bounds, or more than 10 million uses a second.
    pub fn per(uses: u32, span: Duration) -> Result<Self, LimitError> {
        let span_us = u64::try_from(span.as_micros()).map_err(|_| LimitError::Span)?;
        if uses == 0 {
            Err(LimitError::NoUses)
        } else if !(Self::SHORTEST_US..=Self::LONGEST_US).contains(&span_us) {
            Err(LimitError::Span)
        } else if u64::from(uses) > Self::FASTEST * span_us {
            Err(LimitError::TooFast)
        } else {
            Ok(Self { span_us, uses, burst: uses })
        }
    }

    /// So many uses a second.
    ///
    /// # Errors
    /// [`LimitError`], as of [`RateLimit::per`].
    pub fn per_second(uses: u32) -> Result<Self, LimitError> {
        Self::per(uses, Duration::from_secs(1))
    }

    /// So many uses a minute.
    ///
    /// # Errors
    /// [`LimitError`], as of [`RateLimit::per`].
    pub fn per_minute(uses: u32) -> Result<Self, LimitError> {
        Self::per(uses, Duration::from_secs(60))
    }

    /// So many uses an hour.
    ///
    /// # Errors
    /// [`LimitError`], as of [`RateLimit::per`].
    pub fn per_hour(uses: u32) -> Result<Self, LimitError> {
        Self::per(uses, Duration::from_secs(3_600))
    }

    /// So many uses a day of 24 hours.
    ///
    /// # Errors
    /// [`LimitError`], as of [`RateLimit::per`].
    pub fn per_day(uses: u32) -> Result<Self, LimitError> {
        Self::per(uses, Duration::from_secs(86_400))
    }

    /// The same rate with so many uses at once. A request that costs more than this is never allowed.
    ///
    /// # Errors
    /// [`LimitError::Burst`].
    pub fn with_burst(self, burst: u32) -> Result<Self, LimitError> {
        let refill = u128::from(burst) * u128::from(self.span_us);
        if burst == 0 || refill > u128::from(self.uses) * u128::from(Self::LONGEST_REFILL_US) {
            Err(LimitError::Burst)
        } else {
            Ok(Self { burst, ..self })
        }
    }

    /// How many uses are earned in each [`RateLimit::span`].
    #[must_use]
    pub fn uses(&self) -> u32 {
        self.uses
    }

    /// The span in which [`RateLimit::uses`] are earned.
    #[must_use]
    pub fn span(&self) -> Duration {
        Duration::from_micros(self.span_us)
    }

    /// How many uses may be taken at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Whether this limit allows nothing that `other` does not: neither its rate nor its burst is greater.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let rate = |of: &Self, by: &Self| u128::from(of.uses) * u128::from(by.span_us);
        rate(self, other) <= rate(other, self) && self.burst <= other.burst
    }
}

/// The stored form; the burst where it differs from the uses.
#[derive(Serialize, Deserialize)]
struct RateFields {
    uses: u32,
    span_us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
}

impl From<RateLimit> for RateFields {
    fn from(RateLimit { span_us, uses, burst }: RateLimit) -> Self {
        Self { uses, span_us, burst: (burst != uses).then_some(burst) }
    }
}

impl TryFrom<RateFields> for RateLimit {
    type Error = LimitError;
    fn try_from(fields: RateFields) -> Result<Self, LimitError> {
        let limit = Self::per(fields.uses, Duration::from_micros(fields.span_us))?;
        fields.burst.map_or(Ok(limit), |burst| limit.with_burst(burst))
    }
}

/// All limits of a key: up to four rate limits, all of which must allow a request, and a quota. A request that one of
/// them refuses is charged to none. By default there is no limit.
///
/// The text form joins them by commas: `10/s burst 50, 1000/h, quota 100000 monthly`; without any it is `none`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "LimitsFields", into = "LimitsFields")]
pub struct Limits {
    /// Sorted.
    rates: Vec<RateLimit>,
    quota: Option<Quota>,
}

impl Limits {
    /// The most rate limits of one key.
    pub const MAX_RATES: usize = 4;

    /// No limit.
    pub const NONE: Self = Self { rates: Vec::new(), quota: None };

    /// These rate limits together; repetitions count once.
    ///
    /// # Errors
    /// [`LimitError::TooManyRates`].
    pub fn new(rates: impl IntoIterator<Item = RateLimit>) -> Result<Self, LimitError> {
        let mut sorted = Vec::with_capacity(Self::MAX_RATES);
        for rate in rates {
            if sorted.contains(&rate) {
                continue;
            }
            if sorted.len() == Self::MAX_RATES {
                return Err(LimitError::TooManyRates);
            }
            sorted.push(rate);
        }
        sorted.sort();
        Ok(Self { rates: sorted, quota: None })
    }

    /// The same with this quota.
    #[must_use]
    pub fn with_quota(self, quota: Quota) -> Self {
        Self { quota: Some(quota), ..self }
    }

    /// The rate limits, those of the shortest span first.
    #[must_use]
    pub fn rates(&self) -> &[RateLimit] {
        &self.rates
    }

    /// The quota.
    #[must_use]
    pub fn quota(&self) -> Option<&Quota> {
        self.quota.as_ref()
    }

    /// Whether there is no limit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rates.is_empty() && self.quota.is_none()
    }

    /// Whether these limits allow nothing that `other` does not: each limit of `other` contains one of these.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let rates = other.rates.iter().all(|bound| self.rates.iter().any(|rate| rate.is_within(bound)));
        let quota = match (&self.quota, &other.quota) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(quota), Some(bound)) => quota.is_within(bound),
        };
        rates && quota
    }
}

impl From<RateLimit> for Limits {
    fn from(rate: RateLimit) -> Self {
        Self { rates: vec![rate], quota: None }
    }
}

impl From<Quota> for Limits {
    fn from(quota: Quota) -> Self {
        Self::NONE.with_quota(quota)
    }
}

/// The stored form.
#[derive(Serialize, Deserialize)]
struct LimitsFields {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rates: Vec<RateLimit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<Quota>,
}

impl From<Limits> for LimitsFields {
    fn from(Limits { rates, quota }: Limits) -> Self {
        Self { rates, quota }
    }
}

impl TryFrom<LimitsFields> for Limits {
    type Error = LimitError;
    fn try_from(LimitsFields { rates, quota }: LimitsFields) -> Result<Self, LimitError> {
        Ok(Self { quota, ..Self::new(rates)? })
    }
}

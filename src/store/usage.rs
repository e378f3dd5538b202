//! Usage: what validating processes counted, as it goes to a store and comes back.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::time::Timestamp;

/// Why a validation was denied although its secret was right: the reasons that usage tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CountedReason {
    /// The version or its key was revoked.
    Revoked,
    /// The owner was suspended.
    Suspended,
    /// The version's lifetime was over.
    Expired,
    /// The version's grace was over.
    Retired,
    /// The version was withdrawn before it was handed over.
    Cancelled,
    /// The version was never handed over.
    Undelivered,
    /// The version's window had not begun.
    NotYet,
    /// The key's or the owner's row had been edited.
    Tampered,
    /// The request came from outside the key's networks.
    Network,
    /// The scopes did not cover what was demanded.
    Scope,
    /// A rate limit was reached.
    RateLimit,
    /// The quota was used up.
    Quota,
}

impl CountedReason {
    /// All of them, in the order in which they are stored.
    pub const ALL: [Self; 12] = [
        Self::Revoked,
        Self::Suspended,
        Self::Expired,
        Self::Retired,
        Self::Cancelled,
        Self::Undelivered,
        Self::NotYet,
        Self::Tampered,
        Self::Network,
        Self::Scope,
        Self::RateLimit,
        Self::Quota,
    ];

    /// Its name in views and exports, such as `rate_limit`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
            Self::Retired => "retired",
            Self::Cancelled => "cancelled",
            Self::Undelivered => "undelivered",
            Self::NotYet => "not_yet",
            Self::Tampered => "tampered",
            Self::Network => "network",
            Self::Scope => "scope",
            Self::RateLimit => "rate_limit",
            Self::Quota => "quota",
        }
    }
}

impl fmt::Display for CountedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for CountedReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The largest count that is kept: what every store has room for. Sums stop there.
const MOST: u64 = i64::MAX as u64;

fn sum(a: u64, b: u64) -> u64 {
    a.saturating_add(b).min(MOST)
}

/// Denials by reason. Serialises as an object of those that are not zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DenialCounts([u64; CountedReason::ALL.len()]);

impl DenialCounts {
    /// How many were denied for this reason.
    #[must_use]
    pub fn get(&self, reason: CountedReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// Counts more of a reason.
    pub fn add(&mut self, reason: CountedReason, denied: u64) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = sum(*count, denied);
        }
    }

    /// How many were denied for any reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |all, count| sum(all, *count))
    }

    /// The reasons that occurred, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (CountedReason, u64)> {
        let all = CountedReason::ALL.into_iter().zip(self.0);
        all.filter(|(_, count)| *count > 0)
    }

    /// Adds other counts.
    pub fn absorb(&mut self, other: &Self) {
        other.iter().for_each(|(reason, count)| self.add(reason, count));
    }
}

impl Serialize for DenialCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// What was counted. A count stops at 2⁶³ − 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UsageCounts {
    /// Granted validations.
    pub allowed: u64,
    /// Denied validations after the secret had matched, by reason.
    pub denied: DenialCounts,
    /// The latest grant.
    pub last_used: Option<Timestamp>,
}

impl UsageCounts {
    /// Adds other counts.
    pub fn absorb(&mut self, other: &Self) {
        self.allowed = sum(self.allowed, other.allowed);
        self.denied.absorb(&other.denied);
        self.last_used = self.last_used.max(other.last_used);
    }

    /// Granted and denied together.
    #[must_use]
    pub fn requests(&self) -> u64 {
        sum(self.allowed, self.denied.total())
    }
}

/// What was counted of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsageEntry {
    /// The id of the key's row.
    pub key: String,
    /// The number of the version.
    pub version: u32,
    /// What was counted.
    pub counts: UsageCounts,
}

impl UsageEntry {
    /// An entry for one version, with nothing counted yet.
    #[must_use]
    pub fn new(key: String, version: u32) -> Self {
        Self { key, version, counts: UsageCounts::default() }
    }
}

/// What one validating process counted since its last batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageBatch {
    /// The process that counted, by a name that no other has.
    pub writer: String,
    /// The number of the batch, from 1, higher with each batch of the writer. A store adds a batch only when its number
    /// is above the writer's last: so one whose fate is not known can be handed over again.
    pub sequence: u64,
    /// All uses before this time are in this or an earlier batch of the writer; the hour in which it lies is the one
    /// that the counts belong to.
    pub flushed_at: Timestamp,
    /// Whether the writer has ended: nothing is to be expected of it any more.
    pub ended: bool,
    /// The counts since the writer's last batch.
    pub entries: Vec<UsageEntry>,
}

/// Up to when a validating process has handed over what it counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UsageWriter {
    /// The process.
    pub name: String,
    /// The number of its last batch.
    pub sequence: u64,
    /// All its uses before this time are in the store.
    pub flushed_at: Timestamp,
    /// Whether it has ended: nothing is to be expected of it any more.
    pub ended: bool,
}

impl UsageWriter {
    /// How long after its last batch a writer is remembered: 30 days.
    pub const KEPT: Duration = Duration::from_secs(30 * 86_400);

    /// The writer as it is after its first batch.
    #[must_use]
    pub fn new(batch: &UsageBatch) -> Self {
        let UsageBatch { writer, sequence, flushed_at, ended, .. } = batch;
        Self { name: writer.clone(), sequence: *sequence, flushed_at: *flushed_at, ended: *ended }
    }

    /// Takes in the next batch, unless it was taken in before: `false` then, and its entries are not to be added.
    #[must_use]
    pub fn follow(&mut self, batch: &UsageBatch) -> bool {
        let is_new = batch.sequence > self.sequence;
        if is_new {
            self.sequence = batch.sequence;
            self.flushed_at = self.flushed_at.max(batch.flushed_at);
            self.ended = batch.ended;
        }
        is_new
    }
}

/// The stretch of time that counts belong to, in UTC.
///
/// Counts come as hours. A day whose end is two days ago is kept as one, and what is 400 days old goes into one total
/// for each version, which is kept for good: no count ever falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UsageBucket {
    /// All that is older than the days.
    Total,
    /// The day that begins then.
    Day(Timestamp),
    /// The hour that begins then.
    Hour(Timestamp),
}

impl UsageBucket {
    /// How long after the end of a day its hours are kept apart: 48 hours.
    pub const HOURS_KEPT: Duration = Duration::from_secs(48 * 3_600);
    /// How long after its end a day is kept apart: 400 days.
    pub const DAYS_KEPT: Duration = Duration::from_secs(400 * 86_400);

    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(86_400);

    /// The hour in which a time lies.
    #[must_use]
    pub fn hour_of(time: Timestamp) -> Self {
        Self::Hour(floor(time, Self::HOUR))
    }

    /// The day in which a time lies.
    #[must_use]
    pub fn day_of(time: Timestamp) -> Self {
        Self::Day(floor(time, Self::DAY))
    }

    /// When it begins; 1970 for the total.
    #[must_use]
    pub fn begin(self) -> Timestamp {
        match self {
            Self::Total => Timestamp::MIN,
            Self::Day(begin) | Self::Hour(begin) => begin,
        }
    }

    /// When it ends; `None` for the total, which grows with each day that goes into it.
    #[must_use]
    pub fn end(self) -> Option<Timestamp> {
        let span = match self {
            Self::Total => return None,
            Self::Day(_) => Self::DAY,
            Self::Hour(_) => Self::HOUR,
        };
        Some(self.begin().plus(span).unwrap_or(Timestamp::MAX))
    }

    /// The times before which an hour has to begin, and a day, to be kept no longer at `now`.
    #[must_use]
    pub fn horizons(now: Timestamp) -> (Timestamp, Timestamp) {
        let horizon = |kept| floor(now.minus_or_min(kept), Self::DAY);
        (horizon(Self::HOURS_KEPT), horizon(Self::DAYS_KEPT))
    }

    /// The bucket in which its counts are kept at `now`: itself, the day of an hour, or the total.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        let (hours, days) = Self::horizons(now);
        match self {
            Self::Hour(begin) | Self::Day(begin) if begin < days => Self::Total,
            Self::Hour(begin) if begin < hours => Self::day_of(begin),
            same => same,
        }
    }
}

fn floor(time: Timestamp, span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    let micros = time.unix_micros();
    Timestamp::from_unix_micros(micros - micros.rem_euclid(span)).unwrap_or(Timestamp::MIN)
}

/// Which counts to read; an absent field asks nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsageQuery<'a> {
    /// Only keys from this id on.
    pub first_key: Option<&'a str>,
    /// Only keys up to this id, which is included.
    pub last_key: Option<&'a str>,
    /// Only buckets that begin at this time or later.
    pub from: Option<Timestamp>,
    /// Only buckets that begin before this time.
    pub until: Option<Timestamp>,
}

impl<'a> UsageQuery<'a> {
    /// All counts of a key.
    #[must_use]
    pub fn of_key(key: &'a str) -> Self {
        Self { first_key: Some(key), last_key: Some(key), ..Self::default() }
    }

    /// Whether the key is among those asked for.
    #[must_use]
    pub fn asks_for_key(&self, key: &str) -> bool {
        self.first_key.is_none_or(|first| key >= first) && self.last_key.is_none_or(|last| key <= last)
    }

    /// Whether the bucket is among those asked for.
    #[must_use]
    pub fn asks_for_bucket(&self, bucket: UsageBucket) -> bool {
        let begin = bucket.begin();
        self.from.is_none_or(|from| begin >= from) && self.until.is_none_or(|until| begin < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_hour_becomes_part_of_its_day_two_days_after_that_and_of_the_total_after_400() {
        let hour = UsageBucket::hour_of(at("2027-01-01T05:59:59.999999Z"));
        assert_eq!(hour, UsageBucket::Hour(at("2027-01-01T05:00:00Z")));
        assert_eq!(hour.end(), Some(at("2027-01-01T06:00:00Z")));
        let day = UsageBucket::Day(at("2027-01-01T00:00:00Z"));
        assert_eq!(day.end(), Some(at("2027-01-02T00:00:00Z")));
        for (now, kept) in [
            ("2027-01-01T06:00:00Z", hour),
            ("2027-01-03T23:59:59.999999Z", hour),
            ("2027-01-04T00:00:00Z", day),
            ("2028-02-05T23:59:59.999999Z", day),
            ("2028-02-06T00:00:00Z", UsageBucket::Total),
        ] {
            assert_eq!(hour.at(at(now)), kept, "{now}");
            let of_day = if kept == hour { day } else { kept };
            assert_eq!(day.at(at(now)), of_day, "{now}");
        }
        assert_eq!(UsageBucket::Total.at(Timestamp::MAX), UsageBucket::Total);
        assert_eq!(UsageBucket::hour_of(Timestamp::MAX).at(Timestamp::MIN).end(), Some(Timestamp::MAX));
    }

    #[test]
    fn counts_stop_at_the_largest_and_never_wrap() {
        let mut counts = UsageCounts { allowed: MOST - 1, ..UsageCounts::default() };
        counts.denied.add(CountedReason::Scope, u64::MAX);
        counts.denied.add(CountedReason::Quota, 7);
        counts.absorb(&counts.clone());
        assert_eq!((counts.allowed, counts.denied.get(CountedReason::Scope)), (MOST, MOST));
        assert_eq!((counts.denied.get(CountedReason::Quota), counts.denied.total()), (14, MOST));
        assert_eq!(counts.requests(), MOST);
        assert_eq!(
            serde_json::to_string(&counts.denied).unwrap(),
            format!(r#"{{"scope":{MOST},"quota":14}}"#)
        );
    }
}

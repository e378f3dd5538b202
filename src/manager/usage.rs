//! Reports of usage: a key over time and by version, the keys that are used most, and why requests were denied.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Serialize;

use crate::error::ManageError;
use crate::id::{KeyId, VersionNo};
use crate::manager::KeyManager;
use crate::store::{DenialCounts, UsageBucket, UsageCounts, UsageQuery, UsageWriter};
use crate::time::Timestamp;

/// Which usage to report: that of the buckets which begin in a window. Counts come as hours, which become days after two
/// days and one total after 400; a day or the total is in the window or not, as a whole.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct UsageFilter {
    from: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl UsageFilter {
    /// All usage.
    pub fn all() -> Self {
        Self::default()
    }

    /// Buckets that begin at this time or later.
    pub fn from(mut self, time: Timestamp) -> Self {
        self.from = Some(time);
        self
    }

    /// Buckets that begin before this time.
    pub fn until(mut self, time: Timestamp) -> Self {
        self.until = Some(time);
        self
    }

    fn query(self) -> UsageQuery<'static> {
        UsageQuery { from: self.from, until: self.until, ..UsageQuery::default() }
    }
}

/// Up to when a report tells everything: validating processes hand over what they count only now and then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UsageAsOf {
    /// All uses before this time are in the report, unless a process was killed before it could hand them over: the
    /// earliest last flush of the processes that have flushed within a day and have not ended; the latest flush of all
    /// where there is none of these; `None` where nobody has ever flushed.
    pub at: Option<Timestamp>,
    /// Each validating process of the last 30 days with its last flush, the latest first.
    pub writers: Vec<UsageWriter>,
}

/// Usage in all, and bucket by bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UsageSeries {
    /// In all.
    pub counts: UsageCounts,
    /// Over time: by when the buckets begin. Buckets without usage are left out.
    pub buckets: Vec<(UsageBucket, UsageCounts)>,
}

/// The usage of one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VersionUsage {
    /// The version.
    pub version: VersionNo,
    /// Its usage.
    pub usage: UsageSeries,
}

/// The usage of a key: see [`KeyManager::usage`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UsageReport {
    /// Up to when it is complete.
    pub as_of: UsageAsOf,
    /// All versions together.
    pub usage: UsageSeries,
    /// Each version that was used, by its number.
    pub versions: Vec<VersionUsage>,
}

/// A key among those that are used most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyUsage {
    /// The key.
    #[serde(rename = "key_id")]
    pub key: KeyId,
    /// Its usage, of all versions together.
    pub counts: UsageCounts,
}

/// The keys that are used most: see [`KeyManager::top_keys`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TopKeys {
    /// Up to when it is complete.
    pub as_of: UsageAsOf,
    /// The keys, the most requests first.
    pub keys: Vec<KeyUsage>,
}

/// Why requests were denied: see [`KeyManager::denied_by_reason`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DenialReport {
    /// Up to when it is complete.
    pub as_of: UsageAsOf,
    /// How many requests with a right secret were denied, by reason.
    pub denied: DenialCounts,
}

/// Sums of buckets.
type Sums = BTreeMap<UsageBucket, UsageCounts>;

fn series(sums: &Sums) -> UsageSeries {
    let mut series = UsageSeries::default();
    sums.values().for_each(|counts| series.counts.absorb(counts));
    series.buckets = sums.iter().map(|(bucket, counts)| (*bucket, *counts)).collect();
    series.buckets.sort_by_key(|(bucket, _)| bucket.begin());
    series
}

impl KeyManager {
    /// How long a process may be silent before reports stop waiting for it.
    pub(super) const SILENCE: Duration = Duration::from_secs(86_400);

    /// Up to when usage is complete, and which validating processes have flushed how far.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn usage_as_of(&self) -> Result<UsageAsOf, ManageError> {
        let now = self.now()?;
        let mut writers = Vec::new();
        self.inner.records.store.usage_writers(&mut |writer| writers.push(writer.clone()))?;
        writers.sort_by(|a, b| (b.flushed_at, &a.name).cmp(&(a.flushed_at, &b.name)));
        let is_awaited =
            |writer: &&UsageWriter| !writer.ended && now.since(writer.flushed_at) <= Self::SILENCE;
        let awaited = writers.iter().rfind(is_awaited);
        let at = awaited.or(writers.first()).map(|writer| writer.flushed_at);
        Ok(UsageAsOf { at, writers })
    }

    /// How often a key was granted and denied, and when it was last granted: in all, over time, and by version. A key that
    /// was never used, or is unknown, has no usage; that of a purged key stays.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn usage(&self, key: KeyId, filter: &UsageFilter) -> Result<UsageReport, ManageError> {
        // Before the counts: a flush between the two makes the report older than it is, not newer.
        let as_of = self.usage_as_of()?;
        let id = key.to_string();
        let query = UsageQuery { first_key: Some(&id), last_key: Some(&id), ..filter.query() };
        let (mut all, mut versions) = (Sums::new(), BTreeMap::<u32, Sums>::new());
        self.inner.records.store.usage(&query, &mut |bucket, entry| {
            all.entry(bucket).or_default().absorb(&entry.counts);
            versions.entry(entry.version).or_default().entry(bucket).or_default().absorb(&entry.counts);
        })?;
        let version = |(number, sums): (&u32, &Sums)| VersionUsage {
            version: VersionNo::new(*number),
            usage: series(sums),
        };
        Ok(UsageReport { as_of, usage: series(&all), versions: versions.iter().map(version).collect() })
    }

    /// Up to `limit` keys (1 to 1000) with the most requests, granted and denied together; of equals, the one that was
    /// issued first. Takes memory for each key that was used in the window.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn top_keys(&self, filter: &UsageFilter, limit: usize) -> Result<TopKeys, ManageError> {
        let as_of = self.usage_as_of()?;
        let mut sums = HashMap::<KeyId, UsageCounts>::new();
        self.inner.records.store.usage(&filter.query(), &mut |_, entry| {
            // What is no key's id, somebody else has put there.
            if let Ok(key) = entry.key.parse() {
                sums.entry(key).or_default().absorb(&entry.counts);
            }
        })?;
        let mut keys: Vec<_> = sums.into_iter().map(|(key, counts)| KeyUsage { key, counts }).collect();
        keys.sort_unstable_by_key(|usage| (std::cmp::Reverse(usage.counts.requests()), usage.key));
        keys.truncate(limit.clamp(1, 1_000));
        Ok(TopKeys { as_of, keys })
    }

    /// How many requests with a right secret were denied, by reason, of all keys together.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn denied_by_reason(&self, filter: &UsageFilter) -> Result<DenialReport, ManageError> {
        let as_of = self.usage_as_of()?;
        let mut denied = DenialCounts::default();
        let each = &mut |_, entry: &crate::store::UsageEntry| denied.absorb(&entry.counts.denied);
        self.inner.records.store.usage(&filter.query(), each)?;
        Ok(DenialReport { as_of, denied })
    }

    /// When a key was last used, as of the last flush of each validating process.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn last_used(&self, key: KeyId) -> Result<Option<Timestamp>, ManageError> {
        let key = key.to_string();
        Ok(self.last_uses(&UsageQuery::of_key(&key))?.remove(&key))
    }

    /// When the keys of a query were last used: those that were.
    pub(super) fn last_uses(
        &self,
        query: &UsageQuery<'_>,
    ) -> Result<HashMap<String, Timestamp>, ManageError> {
        let mut uses = HashMap::<String, Timestamp>::new();
        self.inner.records.store.usage(query, &mut |_, entry| {
            if let Some(time) = entry.counts.last_used {
                match uses.get_mut(&entry.key) {
                    Some(last) => *last = time.max(*last),
                    None => drop(uses.insert(entry.key.clone(), time)),
                }
            }
        })?;
        Ok(uses)
    }
}

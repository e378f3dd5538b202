//! What validation counts: kept in memory, handed to the store by a flush.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::id::{KeyId, VersionNo};
use crate::store::{KeyStore, StoreError, UsageBatch, UsageEntry};
use crate::time::Timestamp;

/// The counts of one version since the last flush.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    allowed: AtomicU64,
    denied: AtomicU64,
    /// Microseconds since 1970; zero is never.
    last_used: AtomicI64,
}

impl Counter {
    pub(crate) fn granted(&self, at: Timestamp) {
        self.allowed.fetch_add(1, Ordering::Relaxed);
        self.last_used.fetch_max(at.unix_micros(), Ordering::Relaxed);
    }

    pub(crate) fn denied(&self) {
        self.denied.fetch_add(1, Ordering::Relaxed);
    }

    fn add(&self, entry: &UsageEntry) {
        self.allowed.fetch_add(entry.allowed, Ordering::Relaxed);
        self.denied.fetch_add(entry.denied, Ordering::Relaxed);
        self.last_used.fetch_max(entry.last_used.map_or(0, Timestamp::unix_micros), Ordering::Relaxed);
    }

    /// Takes the counts out, if there are any.
    fn take(&self, key: KeyId, version: VersionNo) -> Option<UsageEntry> {
        let mut entry = UsageEntry::new(key.to_string(), version.get());
        entry.allowed = self.allowed.swap(0, Ordering::Relaxed);
        entry.denied = self.denied.swap(0, Ordering::Relaxed);
        let last_used = self.last_used.swap(0, Ordering::Relaxed);
        entry.last_used = Timestamp::from_unix_micros(last_used).ok().filter(|time| *time > Timestamp::MIN);
        (entry.allowed > 0 || entry.denied > 0).then_some(entry)
    }
}

/// The counters of all versions that the replica has held since the last flush.
#[derive(Debug)]
pub(crate) struct Counts {
    writer: String,
    counters: Mutex<HashMap<(KeyId, VersionNo), Arc<Counter>>>,
}

impl Counts {
    pub(crate) fn new(writer: String) -> Self {
        Self { writer, counters: Mutex::default() }
    }

    /// The counter of a version; one for all entries that it has had.
    pub(crate) fn of(&self, key: KeyId, version: VersionNo) -> Arc<Counter> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(counters.entry((key, version)).or_default())
    }

    /// Hands all counts to the store; when it refuses them, they are kept for the next time.
    pub(crate) fn flush(&self, store: &dyn KeyStore, now: Timestamp) -> Result<usize, StoreError> {
        // The lock is not held while the store writes: a catch-up that finds a new version needs it.
        let taken = self.take();
        if taken.is_empty() {
            return Ok(0);
        }
        let entries = taken.iter().map(|(_, entry)| entry.clone()).collect();
        let batch = UsageBatch { writer: self.writer.clone(), flushed_at: now, entries };
        let added = store.add_usage(&batch);
        if added.is_err() {
            taken.iter().for_each(|(counter, entry)| counter.add(entry));
        }
        added.map(|()| taken.len())
    }

    fn take(&self) -> Vec<(Arc<Counter>, UsageEntry)> {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: Vec<_> = counters
            .iter()
            .filter_map(|((key, version), counter)| {
                Some((Arc::clone(counter), counter.take(*key, *version)?))
            })
            .collect();
        // A counter that only this map holds belongs to a version that is gone, and has nothing more to tell.
        counters.retain(|_, counter| Arc::strong_count(counter) > 1);
        taken
    }
}

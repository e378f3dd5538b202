//! What validation counts: kept in memory, handed to the store by a flush.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::id::{KeyId, VersionNo};
use crate::store::{KeyStore, StoreError, UsageBatch, UsageEntry};
use crate::time::Timestamp;
use crate::validate::follow::Follower;

/// Denials are counted apart from grants: they are rare, unless somebody goes on using what is over.
#[derive(Debug)]
pub(crate) struct Counts {
    writer: String,
    denied: [Mutex<HashMap<(KeyId, VersionNo), u64>>; Self::STRIPES],
}

impl Counts {
    const STRIPES: usize = 16;
    const ROOM: usize = 64;

    pub(crate) fn new(writer: String) -> Self {
        // Room enough, so that to deny allocates nothing either.
        Self { writer, denied: std::array::from_fn(|_| Mutex::new(HashMap::with_capacity(Self::ROOM))) }
    }

    /// Counts a denial of a version whose secret was presented.
    pub(crate) fn denied(&self, key: KeyId, version: VersionNo) {
        // The low bits of a key's id are random.
        let stripe = u128::from(key) as usize % Self::STRIPES;
        if let Some(stripe) = self.denied.get(stripe) {
            *stripe.lock().unwrap_or_else(PoisonError::into_inner).entry((key, version)).or_default() += 1;
        }
    }

    /// Hands all counts to the store; when it refuses them, they are kept for the next time.
    pub(crate) fn flush(
        &self,
        follower: &Follower,
        store: &dyn KeyStore,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let mut entries: HashMap<(String, u32), UsageEntry> = HashMap::new();
        let mut add = |entry: UsageEntry| match entries.entry((entry.key.clone(), entry.version)) {
            std::collections::hash_map::Entry::Occupied(mut there) => there.get_mut().absorb(&entry),
            std::collections::hash_map::Entry::Vacant(vacant) => drop(vacant.insert(entry)),
        };
        follower.with_keeper(|keeper| keeper.take_counts(&follower.replica)).into_iter().for_each(&mut add);
        for stripe in &self.denied {
            let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            for ((key, version), denied) in stripe.drain() {
                add(UsageEntry { denied, ..UsageEntry::new(key.to_string(), version.get()) });
            }
        }
        if entries.is_empty() {
            return Ok(0);
        }
        let batch = UsageBatch {
            writer: self.writer.clone(),
            flushed_at: now,
            entries: entries.into_values().collect(),
        };
        // No lock is held while the store writes.
        let added = store.add_usage(&batch);
        let count = batch.entries.len();
        if added.is_err() {
            follower.with_keeper(|keeper| keeper.keep_counts(batch.entries));
        }
        added.map(|()| count)
    }
}

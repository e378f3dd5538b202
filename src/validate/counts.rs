//! What validation counts: kept in memory, handed to the store by a flush.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use crate::id::{KeyId, VersionNo};
use crate::records::Records;
use crate::rotate::record_first_uses;
use crate::store::{CountedReason, KeyStore, StoreError, UsageBatch, UsageCounts, UsageEntry};
use crate::time::Timestamp;
use crate::validate::denial::Denial;
use crate::validate::follow::Follower;
use crate::validate::signals::Signals;
use crate::validate::tell::misused;

/// How many first uses one commit records.
const FIRST_USES: usize = 100;

/// The grants of a version since they were last asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granted {
    pub(crate) key: KeyId,
    pub(crate) version: VersionNo,
    pub(crate) allowed: u64,
    pub(crate) last_used: Option<Timestamp>,
    /// Whether the version's first use was not recorded yet.
    pub(crate) is_first: bool,
}

/// Denials of each version by reason.
type Denied = HashMap<(KeyId, VersionNo, CountedReason), u64>;

/// Denials are counted apart from grants: they are rare, unless somebody goes on using what is over.
#[derive(Debug)]
pub(crate) struct Counts {
    writer: String,
    denied: [Mutex<Denied>; Self::STRIPES],
    /// Held while a batch is handed over: a store takes those of one writer only in their order.
    outgoing: Mutex<Outgoing>,
    /// Versions of which a first use was seen and is still to be recorded.
    first: Mutex<BTreeSet<(KeyId, VersionNo)>>,
}

#[derive(Debug, Default)]
struct Outgoing {
    /// The number of the last batch.
    sequence: u64,
    ended: bool,
    /// The last batch, until the store has taken it. One that failed may be in the store all the same: it keeps its
    /// number and its entries, and nothing else goes before it.
    batch: Option<UsageBatch>,
}

impl Outgoing {
    /// Hands over the batch that waits, and tells how many entries it had.
    fn hand_over(&mut self, store: &dyn KeyStore) -> Result<usize, StoreError> {
        let Some(batch) = &self.batch else { return Ok(0) };
        store.add_usage(batch)?;
        Ok(self.batch.take().map_or(0, |batch| batch.entries.len()))
    }
}

impl Counts {
    const STRIPES: usize = 16;
    const ROOM: usize = 64;

    /// `writer` is a name that no other validator has.
    pub(crate) fn new(writer: String) -> Self {
        // Room enough, so that to deny allocates nothing either.
        let denied = std::array::from_fn(|_| Mutex::new(HashMap::with_capacity(Self::ROOM)));
        Self { writer, denied, outgoing: Mutex::default(), first: Mutex::default() }
    }

    /// Counts a denial of a version whose secret was presented; others are nobody's.
    pub(crate) fn denied(&self, denial: &Denial) {
        let (Some(key), Some(version), Some(reason)) =
            (denial.key(), denial.version(), denial.reason().counted())
        else {
            return;
        };
        // The low bits of a key's id are random.
        let stripe = u128::from(key) as usize % Self::STRIPES;
        if let Some(stripe) = self.denied.get(stripe) {
            let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            *stripe.entry((key, version, reason)).or_default() += 1;
        }
    }

    /// Takes out all that was counted, by key and version.
    fn take(&self, follower: &Follower) -> Vec<UsageEntry> {
        let granted = follower.with_keeper(|keeper| keeper.take_counts(&follower.replica));
        let first = granted.iter().filter(|granted| granted.is_first);
        self.with_first(|seen| seen.extend(first.map(|granted| (granted.key, granted.version))));
        let mut counted: Vec<_> = granted
            .into_iter()
            .map(|Granted { key, version, allowed, last_used, .. }| (key, version, None, allowed, last_used))
            .collect();
        for stripe in &self.denied {
            let mut stripe = stripe.lock().unwrap_or_else(PoisonError::into_inner);
            let denied = stripe.drain();
            counted.extend(denied.map(|((key, version, reason), n)| (key, version, Some(reason), n, None)));
        }
        // In the order of the keys, which is how a store keeps them.
        counted.sort_unstable();
        let mut last = None;
        let mut entries: Vec<UsageEntry> = Vec::with_capacity(counted.len());
        for (key, version, reason, n, last_used) in counted {
            if last.replace((key, version)) != Some((key, version)) {
                entries.push(UsageEntry::new(String::from(key), version.get()));
            }
            if let Some(UsageEntry { counts, .. }) = entries.last_mut() {
                match reason {
                    Some(reason) => counts.denied.add(reason, n),
                    None => {
                        counts.absorb(&UsageCounts { allowed: n, last_used, ..UsageCounts::default() });
                    }
                }
            }
        }
        entries
    }

    fn with_first<T>(&self, look: impl FnOnce(&mut BTreeSet<(KeyId, VersionNo)>) -> T) -> T {
        look(&mut self.first.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records the first uses that were seen; those that cannot be recorded now are kept for the next time.
    pub(crate) fn record_first_uses(&self, records: &Records, now: Timestamp) -> Result<(), StoreError> {
        let seen: Vec<_> = self.with_first(|seen| seen.iter().copied().collect());
        for batch in seen.chunks(FIRST_USES) {
            let recorded = record_first_uses(records, batch, now)?;
            self.with_first(|seen| seen.retain(|version| !recorded.contains(version)));
        }
        Ok(())
    }

    /// Hands all counts to the store, in one batch, which also tells that there are no more of before `now`; when the store
    /// fails, the batch is kept for the next time. Tells how many versions were counted.
    ///
    /// `first` records the first uses that were seen. It is called before the counts that tell of them are handed over:
    /// whoever dies in between leaves no use behind that nobody records.
    pub(crate) fn flush(
        &self,
        follower: &Follower,
        store: &dyn KeyStore,
        now: Timestamp,
        first: impl FnMut(),
        signals: &Signals,
    ) -> Result<usize, StoreError> {
        self.flush_with(follower, store, now, first, signals, |_, _| true)
    }

    /// The same for the last time. A writer that has nothing to tell and never had is not heard of.
    pub(crate) fn finish(
        &self,
        follower: &Follower,
        store: &dyn KeyStore,
        now: Timestamp,
        first: impl FnMut(),
        signals: &Signals,
    ) -> Result<usize, StoreError> {
        self.flush_with(follower, store, now, first, signals, |outgoing, entries| {
            let is_known = outgoing.sequence > 0 && !outgoing.ended;
            outgoing.ended = true;
            is_known || !entries.is_empty()
        })
    }

    fn flush_with(
        &self,
        follower: &Follower,
        store: &dyn KeyStore,
        now: Timestamp,
        mut first: impl FnMut(),
        signals: &Signals,
        is_needed: impl FnOnce(&mut Outgoing, &[UsageEntry]) -> bool,
    ) -> Result<usize, StoreError> {
        let mut outgoing = self.outgoing.lock().unwrap_or_else(PoisonError::into_inner);
        first();
        let before = outgoing.hand_over(store)?;
        let entries = self.take(follower);
        first();
        signals.telling().note(misused(&entries));
        if !is_needed(&mut outgoing, &entries) {
            return Ok(before);
        }
        outgoing.sequence += 1;
        outgoing.batch = Some(UsageBatch {
            writer: self.writer.clone(),
            sequence: outgoing.sequence,
            flushed_at: now,
            ended: outgoing.ended,
            entries,
        });
        Ok(before + outgoing.hand_over(store)?)
    }
}

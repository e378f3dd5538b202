//! `MemoryStore`: rows in maps behind one lock.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound::{self, Excluded, Included, Unbounded};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::store::{
    AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyStore, Revision,
    Row, RowFilter, RowIndex, RowKind, RowRef, Stamp, StoreError, StoreErrorKind, Tail, UsageBatch,
    UsageBucket, UsageCounts, UsageEntry, UsageQuery, UsageWriter, Write,
};
use crate::time::Timestamp;

/// A store in memory: for tests, and for hosts whose keys may end with the process.
///
/// A clone is a second handle on the same data; closing one handle leaves the others open.
#[derive(Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Shared {
    state: RwLock<State>,
    /// Moved only under the write lock: who reads the new value and then the feed waits for the lock and sees
    /// the commit; who reads the old one finds it changed the next time.
    commits: AtomicU64,
}

#[derive(Default)]
struct State {
    head: Option<Head>,
    places: BTreeMap<Name, Place>,
    index: BTreeSet<(RowKind, By, String)>,
    /// What each commit changed and no later one did: followed kinds only.
    feed: BTreeMap<Revision, BTreeSet<Name>>,
    audit: Vec<AuditRow>,
    usage: BTreeMap<UsageBucket, BTreeMap<(String, u32), UsageCounts>>,
    writers: BTreeMap<String, UsageWriter>,
}

type Name = (RowKind, String);

/// What stands under a name: a row or, for the feed, nothing since the commit that deleted it.
struct Place {
    revision: Revision,
    row: Option<Row>,
}

/// By what a row is found, beside its id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    Unique(String),
    Parent(String),
    Owner(String),
    Due(Timestamp),
}

impl By {
    fn all(row: &Row) -> impl Iterator<Item = Self> {
        let RowIndex { unique, parent, owner, due_at, .. } = row.index.clone();
        let [unique, parent] = [unique.map(Self::Unique), parent.map(Self::Parent)];
        [unique, parent, owner.map(Self::Owner), due_at.map(Self::Due)].into_iter().flatten()
    }

    /// The beginning of its entries, or what follows the entry of the id `after`.
    fn start(self, after: Option<&str>) -> Bound<(Self, String)> {
        after.map_or_else(
            || Included((self.clone(), String::new())),
            |id| Excluded((self.clone(), id.to_owned())),
        )
    }
}

impl State {
    fn row(&self, kind: RowKind, id: &str) -> Option<&Row> {
        self.places.get(&(kind, id.to_owned()))?.row.as_ref()
    }

    /// The rows from the index entry `first` to the last one of `last`.
    fn indexed(&self, kind: RowKind, first: Bound<(By, String)>, last: By) -> impl Iterator<Item = &Row> {
        let entries = self.index.range((first.map(|(by, id)| (kind, by, id)), Unbounded));
        let entries = entries.take_while(move |(of, by, _)| *of == kind && *by <= last);
        entries.filter_map(move |(_, _, id)| self.row(kind, id))
    }

    fn find(&self, kind: RowKind, unique: &str) -> Option<&Row> {
        let by = By::Unique(unique.to_owned());
        self.indexed(kind, by.clone().start(None), by).next()
    }

    fn tail(&self) -> Tail {
        let revision = self.feed.keys().next_back().copied().unwrap_or_default();
        Tail { revision, entry: self.audit.last().map_or(0, |entry| entry.seq) }
    }

    /// Puts a place under a name, with all that finds it, and returns the one that stood there.
    fn put(&mut self, name: &Name, place: Option<Place>) -> Option<Place> {
        let (kind, id) = name;
        let old = self.places.remove(name);
        for by in old.iter().filter_map(|place| place.row.as_ref()).flat_map(By::all) {
            self.index.remove(&(*kind, by, id.clone()));
        }
        for by in place.iter().filter_map(|place| place.row.as_ref()).flat_map(By::all) {
            self.index.insert((*kind, by, id.clone()));
        }
        if kind.is_followed() {
            if let Some(old) = &old
                && let Entry::Occupied(mut told) = self.feed.entry(old.revision)
            {
                told.get_mut().remove(name);
                if told.get().is_empty() {
                    told.remove();
                }
            }
            if let Some(place) = &place {
                self.feed.entry(place.revision).or_default().insert(name.clone());
            }
        }
        self.places.extend(place.map(|place| (name.clone(), place)));
        old
    }

    /// Carries out one write, and returns what [`State::put`] needs to take it back.
    fn write(
        &mut self,
        write: Write,
        revision: Revision,
    ) -> Result<Option<(Name, Option<Place>)>, CommitError> {
        let (kind, id, expected, row) = match &write {
            Write::Insert(row) => (row.kind, &row.id, None, Some(row)),
            Write::Replace { row, expected } => (row.kind, &row.id, Some(*expected), Some(row)),
            Write::Delete { kind, id, expected } => (*kind, id, Some(*expected), None),
            Write::Expect { kind, id, expected } => (*kind, id, *expected, None),
        };
        let holder = row.and_then(|row| self.find(kind, row.index.unique.as_deref()?));
        let taken = holder.is_some_and(|holder| holder.id != *id);
        if taken || self.row(kind, id).map(|row| row.revision) != expected {
            return Err(CommitError::Conflict { kind, id: id.clone() });
        }
        let name = (kind, id.clone());
        let place = match write {
            Write::Insert(row) | Write::Replace { row, .. } => {
                Some(Place { revision: row.revision, row: Some(row) })
            }
            Write::Delete { .. } => kind.is_followed().then_some(Place { revision, row: None }),
            Write::Expect { .. } => return Ok(None),
        };
        let old = self.put(&name, place);
        Ok(Some((name, old)))
    }

    /// Adds counts to those of a bucket.
    fn count(&mut self, bucket: UsageBucket, entry: &UsageEntry) {
        let sums = self.usage.entry(bucket).or_default();
        sums.entry((entry.key.clone(), entry.version)).or_default().absorb(&entry.counts);
    }

    /// Forgets deletions that the feed need not tell any more.
    fn raise_floor(&mut self, floor: Revision) {
        let told = self.feed.range(..=floor).flat_map(|(_, names)| names).cloned().collect::<Vec<_>>();
        for name in told {
            if self.places.get(&name).is_some_and(|place| place.row.is_none()) {
                self.put(&name, None);
            }
        }
    }
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) { Err(StoreErrorKind::Closed.into()) } else { Ok(()) }
    }

    /// A poisoned lock is taken all the same: nothing can panic between two changes of a commit.
    fn read(&self) -> Result<RwLockReadGuard<'_, State>, StoreError> {
        self.check_open()?;
        Ok(self.shared.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, State>, StoreError> {
        self.check_open()?;
        Ok(self.shared.state.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        let closed = AtomicBool::new(self.closed.load(Ordering::Acquire));
        Self { shared: Arc::clone(&self.shared), closed }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl KeyStore for MemoryStore {
    fn head(&self) -> Result<Option<Head>, StoreError> {
        Ok(self.read()?.head.clone())
    }

    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        let state = self.read()?;
        state.row(kind, id).map(Row::as_ref).into_iter().for_each(each);
        Ok(())
    }

    fn find(&self, kind: RowKind, unique: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        let state = self.read()?;
        state.find(kind, unique).map(Row::as_ref).into_iter().for_each(each);
        Ok(())
    }

    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let state = self.read()?;
        let (first, last) = match filter {
            RowFilter::All { after } => {
                let first = after
                    .map_or_else(|| Included((kind, String::new())), |id| Excluded((kind, id.to_owned())));
                let places = state.places.range((first, Unbounded)).take_while(|((of, _), _)| *of == kind);
                let _ =
                    places.filter_map(|(_, place)| place.row.as_ref()).map(Row::as_ref).try_for_each(each);
                return Ok(());
            }
            RowFilter::Parent(parent) => {
                let by = By::Parent(parent.to_owned());
                (by.clone().start(None), by)
            }
            RowFilter::Owner { owner, after } => {
                let by = By::Owner(owner.to_owned());
                (by.clone().start(after), by)
            }
            RowFilter::Due { by, after } => {
                let (due, id) = after.map_or((Timestamp::MIN, None), |(due, id)| (due, Some(id)));
                (By::Due(due).start(id), By::Due(by))
            }
        };
        let _ = state.indexed(kind, first, last).map(Row::as_ref).try_for_each(each);
        Ok(())
    }

    fn feed(
        &self,
        since: Revision,
        limit: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError> {
        let state = self.read()?;
        let head = state.head.clone();
        let (floor, revision) =
            head.as_ref().map_or_else(Default::default, |head| (head.floor, head.revision));
        if since < floor || since > revision {
            return Ok(FeedPage { head, up_to: since, more: false });
        }
        let (mut told, mut up_to) = (0, since);
        for (revision, names) in state.feed.range((Excluded(since), Unbounded)) {
            if told >= limit.max(1) {
                return Ok(FeedPage { head, up_to, more: true });
            }
            for (kind, id) in names {
                match state.row(*kind, id) {
                    Some(row) => each(FeedItem::Row(row.as_ref())),
                    None => each(FeedItem::Gone { kind: *kind, id }),
                }
            }
            told += names.len();
            up_to = *revision;
        }
        Ok(FeedPage { head, up_to: revision, more: false })
    }

    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let state = self.read()?;
        let read = state.audit.partition_point(|entry| entry.seq <= query.after);
        let _ = state.audit.iter().skip(read).filter(|entry| query.matches(entry)).try_for_each(each);
        Ok(())
    }

    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        let mut state = self.write().map_err(CommitError::NotWritten)?;
        let sealed = changeset.seal(state.head.as_ref(), state.tail())?;
        let revision = sealed.head.revision;
        let mut done = Vec::with_capacity(sealed.writes.len());
        for write in sealed.writes {
            match state.write(write, revision) {
                Ok(undo) => done.extend(undo),
                Err(conflict) => {
                    for (name, old) in done.into_iter().rev() {
                        state.put(&name, old);
                    }
                    return Err(conflict);
                }
            }
        }
        if state.head.as_ref().is_some_and(|head| head.floor < sealed.head.floor) {
            state.raise_floor(sealed.head.floor);
        }
        state.audit.extend(sealed.audit);
        state.head = Some(sealed.head);
        self.shared.commits.fetch_add(1, Ordering::Release);
        Ok(revision)
    }

    fn stamp(&self) -> Result<Stamp, StoreError> {
        self.check_open()?;
        Ok(self.shared.commits.load(Ordering::Acquire).into())
    }

    fn freshness(&self) -> Freshness {
        Freshness::Exact
    }

    fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        let mut state = self.write()?;
        let is_new = match state.writers.get_mut(&batch.writer) {
            Some(writer) => writer.follow(batch),
            None => state.writers.insert(batch.writer.clone(), UsageWriter::new(batch)).is_none(),
        };
        let entries = if is_new { &batch.entries[..] } else { &[] };
        for entry in entries {
            state.count(UsageBucket::hour_of(batch.flushed_at), entry);
        }
        Ok(())
    }

    fn usage(
        &self,
        query: &UsageQuery<'_>,
        each: &mut dyn FnMut(UsageBucket, &UsageEntry),
    ) -> Result<(), StoreError> {
        let state = self.read()?;
        let first = (query.first_key.unwrap_or_default().to_owned(), 0);
        for (bucket, sums) in state.usage.iter().filter(|(bucket, _)| query.asks_for_bucket(**bucket)) {
            let asked = sums.range(first.clone()..).take_while(|((key, _), _)| query.asks_for_key(key));
            for ((key, version), counts) in asked {
                each(*bucket, &UsageEntry { key: key.clone(), version: *version, counts: *counts });
            }
        }
        Ok(())
    }

    fn usage_writers(&self, each: &mut dyn FnMut(&UsageWriter)) -> Result<(), StoreError> {
        self.read()?.writers.values().for_each(each);
        Ok(())
    }

    fn roll_up_usage(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut state = self.write()?;
        let mut moved = 0;
        while moved < limit.max(1) {
            let Some(from) = state.usage.keys().copied().find(|bucket| bucket.at(now) != *bucket) else {
                break;
            };
            let first = state.usage.get_mut(&from).and_then(BTreeMap::pop_first);
            let Some(((key, version), counts)) = first else {
                state.usage.remove(&from);
                continue;
            };
            state.count(from.at(now), &UsageEntry { key, version, counts });
            moved += 1;
        }
        let known = state.writers.len();
        state.writers.retain(|_, writer| now.since(writer.flushed_at) <= UsageWriter::KEPT);
        Ok(moved + known - state.writers.len())
    }

    /// Nothing that was deleted is left in any file.
    fn scrub(&self) -> Result<(), StoreError> {
        self.read().map(drop)
    }

    fn close(&self) -> Result<(), StoreError> {
        self.closed.store(true, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{Durability, StoreBed};

    impl StoreBed for MemoryStore {
        fn open(&self) -> Arc<dyn KeyStore> {
            Arc::new(self.clone())
        }
        fn durability(&self) -> Durability {
            Durability::WhileOpen
        }
    }

    crate::conformance_suite!(MemoryStore::new());
}

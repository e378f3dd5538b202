//! Stores for benchmarks: one that forgets, so that a million keys are made fast and only the replica holds them, and
//! one that stands before another and watches.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use keyrota::{
    AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyStore, Revision,
    Row, RowFilter, RowKind, RowRef, SealedChangeset, Stamp, StoreError, Tail, Timestamp, UsageBatch,
    UsageBucket, UsageEntry, UsageQuery, UsageWriter, Write,
};

/// A store in memory that keeps owners, roles and settings, and keys and versions only until [`Lean::forget`].
///
/// No two acts may concern the same row at once: it looks for no conflicts. It keeps no log, and finds no key by its
/// owner, which is what makes issuing the thousandth key of an owner as fast as the first.
#[derive(Clone, Default)]
pub(crate) struct Lean(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: RwLock<State>,
    commits: AtomicU64,
}

#[derive(Default)]
struct State {
    head: Option<Head>,
    kept: BTreeMap<(RowKind, String), Row>,
    fresh: BTreeMap<(RowKind, String), Row>,
    entries: u64,
}

impl State {
    fn rows(&self, kind: RowKind) -> &BTreeMap<(RowKind, String), Row> {
        if matches!(kind, RowKind::Key | RowKind::Version) { &self.fresh } else { &self.kept }
    }

    fn of_kind(&self, kind: RowKind, from: &str) -> impl Iterator<Item = &Row> {
        let rows = self.rows(kind).range((kind, from.to_owned())..);
        rows.map(|(_, row)| row).take_while(move |row| row.kind == kind)
    }
}

impl Lean {
    /// Forgets the keys and versions that are there; whoever follows must have caught up.
    pub(crate) fn forget(&self) {
        self.0.state.write().unwrap().fresh = BTreeMap::new();
    }
}

impl KeyStore for Lean {
    fn head(&self) -> Result<Option<Head>, StoreError> {
        Ok(self.0.state.read().unwrap().head.clone())
    }

    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        let state = self.0.state.read().unwrap();
        state.rows(kind).get(&(kind, id.to_owned())).map(Row::as_ref).into_iter().for_each(each);
        Ok(())
    }

    fn find(&self, _: RowKind, _: &str, _: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        Ok(())
    }

    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let state = self.0.state.read().unwrap();
        let from = match filter {
            RowFilter::All { .. } => "",
            RowFilter::Parent(parent) => parent,
            _ => return Ok(()),
        };
        let rows = state.of_kind(kind, from).take_while(|row| row.id.starts_with(from));
        let _ = rows.map(Row::as_ref).filter(|row| filter.matches(row)).try_for_each(each);
        Ok(())
    }

    fn feed(
        &self,
        since: Revision,
        _: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError> {
        let state = self.0.state.read().unwrap();
        let rows = state.fresh.values().chain(state.kept.values());
        let told = rows.filter(|row| row.revision > since && row.kind.is_followed());
        told.map(|row| FeedItem::Row(row.as_ref())).for_each(each);
        let up_to = state.head.as_ref().map_or(since, |head| head.revision);
        Ok(FeedPage { head: state.head.clone(), up_to, more: false })
    }

    fn audit(
        &self,
        _: &AuditQuery<'_>,
        _: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        let mut state = self.0.state.write().unwrap();
        let state = &mut *state;
        let revision = state.head.as_ref().map_or_else(Revision::default, |head| head.revision);
        let sealed = changeset.seal(state.head.as_ref(), Tail { revision, entry: state.entries })?;
        for write in sealed.writes {
            let (Write::Insert(row) | Write::Replace { row, .. }) = write else { continue };
            let rows = match row.kind {
                RowKind::Key | RowKind::Version => &mut state.fresh,
                RowKind::Owner | RowKind::Role | RowKind::Policy => &mut state.kept,
                _ => continue,
            };
            rows.insert((row.kind, row.id.clone()), row);
        }
        state.entries = sealed.audit.last().map_or(state.entries, |entry| entry.seq);
        let revision = sealed.head.revision;
        state.head = Some(sealed.head);
        self.0.commits.fetch_add(1, Ordering::Release);
        Ok(revision)
    }

    fn stamp(&self) -> Result<Stamp, StoreError> {
        Ok(self.0.commits.load(Ordering::Acquire).into())
    }

    fn freshness(&self) -> Freshness {
        Freshness::Exact
    }

    fn add_usage(&self, _: &UsageBatch) -> Result<(), StoreError> {
        Ok(())
    }

    fn usage(
        &self,
        _: &UsageQuery<'_>,
        _: &mut dyn FnMut(UsageBucket, &UsageEntry),
    ) -> Result<(), StoreError> {
        Ok(())
    }

    fn usage_writers(&self, _: &mut dyn FnMut(&UsageWriter)) -> Result<(), StoreError> {
        Ok(())
    }
    fn roll_up_usage(&self, _: Timestamp, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
    fn scrub(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Stands before another store.
#[derive(Clone)]
pub(crate) struct Before {
    store: Arc<dyn KeyStore>,
    /// How often anything but the stamp was asked for.
    calls: Arc<AtomicU64>,
    /// In place of the store's own stamp.
    stamp: Option<Stamp>,
    /// Whether no key is found by its owner, so that issuing does not count an owner's keys.
    hides_owners: bool,
    /// What was committed through it, where that is to be kept.
    recorded: Option<Arc<Mutex<Vec<SealedChangeset>>>>,
}

impl Before {
    pub(crate) fn new(store: impl KeyStore) -> Self {
        let (calls, stamp) = (Arc::default(), None);
        Self { store: Arc::new(store), calls, stamp, hides_owners: false, recorded: None }
    }

    /// With a stamp that never changes.
    pub(crate) fn standing_still(self) -> Self {
        Self { stamp: Some(Stamp::from(1)), ..self }
    }

    pub(crate) fn hiding_owners(self) -> Self {
        Self { hides_owners: true, ..self }
    }

    /// Keeps what is committed through it. Nobody else may commit meanwhile.
    pub(crate) fn recording(self) -> Self {
        Self { recorded: Some(Arc::default()), ..self }
    }

    /// The commits that were kept, which are given away.
    pub(crate) fn recorded(&self) -> Vec<SealedChangeset> {
        self.recorded.iter().flat_map(|recorded| std::mem::take(&mut *recorded.lock().unwrap())).collect()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn store(&self) -> &dyn KeyStore {
        self.calls.fetch_add(1, Ordering::Relaxed);
        &*self.store
    }
}

impl KeyStore for Before {
    fn head(&self) -> Result<Option<Head>, StoreError> {
        self.store().head()
    }
    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.store().get(kind, id, each)
    }
    fn find(&self, kind: RowKind, unique: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.store().find(kind, unique, each)
    }
    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if self.hides_owners && matches!(filter, RowFilter::Owner { .. }) {
            return Ok(());
        }
        self.store().scan(kind, filter, each)
    }
    fn feed(
        &self,
        since: Revision,
        limit: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError> {
        self.store().feed(since, limit, each)
    }
    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.store().audit(query, each)
    }
    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        if let Some(recorded) = &self.recorded {
            let head = self.store.head().map_err(CommitError::NotWritten)?;
            recorded.lock().unwrap().push(changeset.seal(head.as_ref(), Tail::default())?);
        }
        self.store().commit(changeset)
    }
    #[inline]
    fn stamp(&self) -> Result<Stamp, StoreError> {
        self.stamp.map_or_else(|| self.store.stamp(), Ok)
    }
    fn freshness(&self) -> Freshness {
        self.store.freshness()
    }
    fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.store().add_usage(batch)
    }
    fn usage(
        &self,
        query: &UsageQuery<'_>,
        each: &mut dyn FnMut(UsageBucket, &UsageEntry),
    ) -> Result<(), StoreError> {
        self.store().usage(query, each)
    }
    fn usage_writers(&self, each: &mut dyn FnMut(&UsageWriter)) -> Result<(), StoreError> {
        self.store().usage_writers(each)
    }
    fn roll_up_usage(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.store().roll_up_usage(now, limit)
    }
    fn scrub(&self) -> Result<(), StoreError> {
        self.store().scrub()
    }
    fn close(&self) -> Result<(), StoreError> {
        self.store().close()
    }
}

//! A memory store with hooks: it counts its calls, decides the fate of commits, lets others act in between, and shows
//! rows as an editor would have left them.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part, and fails by panicking")]

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use keyrota::{
    AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyStore, MemoryStore,
    Revision, Row, RowFilter, RowKind, RowRef, Stamp, StoreError, StoreErrorKind, Timestamp, UsageBatch,
    UsageBucket, UsageEntry, UsageQuery, UsageWriter,
};

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing was written, for certain.
    NotWritten,
    /// Nothing was written, and nobody can know.
    UnknownAndLost,
    /// It is durable, and nobody can know.
    UnknownAndDurable,
}

type Hook = Box<dyn FnOnce() + Send>;
type RowEdit = Box<dyn Fn(&mut Row) + Send + Sync>;
type AuditEdit = Box<dyn Fn(AuditRow) -> Option<AuditRow> + Send + Sync>;

#[derive(Default)]
pub(crate) struct Hooked {
    pub(crate) inner: MemoryStore,
    calls: Mutex<BTreeMap<&'static str, u64>>,
    fates: Mutex<VecDeque<Fate>>,
    usage_fate: Mutex<Option<Fate>>,
    before_commit: Mutex<Option<Hook>>,
    before_feed: Mutex<Option<Hook>>,
    after_stamp: Mutex<Option<Hook>>,
    before_versions: Mutex<Option<Hook>>,
    row_edit: Mutex<Option<RowEdit>>,
    audit_edit: Mutex<Option<AuditEdit>>,
}

impl Hooked {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How often each method was called since the last `forget`.
    pub(crate) fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        self.calls.lock().unwrap().clear();
    }

    /// The fate of the next commits, one each.
    pub(crate) fn fate(&self, fates: &[Fate]) {
        *self.fates.lock().unwrap() = fates.iter().copied().collect();
    }

    /// The fate of the next batch of usage; of one that was not written nobody knows that either.
    pub(crate) fn usage_fate(&self, fate: Fate) {
        *self.usage_fate.lock().unwrap() = Some(fate);
    }

    /// Called once before the next commit.
    pub(crate) fn before_commit(&self, hook: impl FnOnce() + Send + 'static) {
        *self.before_commit.lock().unwrap() = Some(Box::new(hook));
    }

    /// Called once before the next reading of the feed.
    pub(crate) fn before_feed(&self, hook: impl FnOnce() + Send + 'static) {
        *self.before_feed.lock().unwrap() = Some(Box::new(hook));
    }

    /// Called once when the next stamp was read, before it is told.
    pub(crate) fn after_stamp(&self, hook: impl FnOnce() + Send + 'static) {
        *self.after_stamp.lock().unwrap() = Some(Box::new(hook));
    }

    /// Called once before the versions of a key are read next.
    pub(crate) fn before_versions(&self, hook: impl FnOnce() + Send + 'static) {
        *self.before_versions.lock().unwrap() = Some(Box::new(hook));
    }

    /// Shows every row as this leaves it.
    pub(crate) fn edit_rows(&self, edit: impl Fn(&mut Row) + Send + Sync + 'static) {
        *self.row_edit.lock().unwrap() = Some(Box::new(edit));
    }

    /// Shows every audit entry as this leaves it, if at all.
    pub(crate) fn edit_audit(&self, edit: impl Fn(AuditRow) -> Option<AuditRow> + Send + Sync + 'static) {
        *self.audit_edit.lock().unwrap() = Some(Box::new(edit));
    }

    /// Shows everything as it is again.
    pub(crate) fn put_back(&self) {
        *self.row_edit.lock().unwrap() = None;
        *self.audit_edit.lock().unwrap() = None;
    }

    fn count(&self, method: &'static str) {
        *self.calls.lock().unwrap().entry(method).or_default() += 1;
    }

    fn shown<T>(&self, row: RowRef<'_>, each: impl FnOnce(RowRef<'_>) -> T) -> T {
        let edit = self.row_edit.lock().unwrap();
        match &*edit {
            None => {
                drop(edit);
                each(row)
            }
            Some(edit) => {
                let mut row = row.to_row();
                edit(&mut row);
                each(row.as_ref())
            }
        }
    }
}

impl KeyStore for Hooked {
    fn head(&self) -> Result<Option<Head>, StoreError> {
        self.count("head");
        self.inner.head()
    }
    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.count("get");
        self.inner.get(kind, id, &mut |row| self.shown(row, &mut *each))
    }
    fn find(&self, kind: RowKind, unique: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.count("find");
        self.inner.find(kind, unique, &mut |row| self.shown(row, &mut *each))
    }
    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.count("scan");
        if matches!((kind, filter), (RowKind::Version, RowFilter::Parent(_))) {
            let hook = self.before_versions.lock().unwrap().take();
            if let Some(hook) = hook {
                hook();
            }
        }
        self.inner.scan(kind, filter, &mut |row| self.shown(row, &mut *each))
    }
    fn feed(
        &self,
        since: Revision,
        limit: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError> {
        self.count("feed");
        let hook = self.before_feed.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
        self.inner.feed(since, limit, &mut |item| match item {
            FeedItem::Row(row) => self.shown(row, |row| each(FeedItem::Row(row))),
            other => each(other),
        })
    }
    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.count("audit");
        self.inner.audit(query, &mut |row| match &*self.audit_edit.lock().unwrap() {
            None => each(row),
            Some(edit) => edit(row.clone()).map_or(ControlFlow::Continue(()), |row| each(&row)),
        })
    }
    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        self.count("commit");
        let hook = self.before_commit.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
        let fate = self.fates.lock().unwrap().pop_front();
        let error = || StoreError::new(StoreErrorKind::Io, "planned");
        match fate {
            None => self.inner.commit(changeset),
            Some(Fate::NotWritten) => Err(CommitError::NotWritten(error())),
            Some(Fate::UnknownAndLost) => Err(CommitError::Unknown(error())),
            Some(Fate::UnknownAndDurable) => {
                self.inner.commit(changeset)?;
                Err(CommitError::Unknown(error()))
            }
        }
    }
    fn stamp(&self) -> Result<Stamp, StoreError> {
        self.count("stamp");
        let stamp = self.inner.stamp();
        let hook = self.after_stamp.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
        stamp
    }
    fn freshness(&self) -> Freshness {
        self.inner.freshness()
    }
    fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.count("add_usage");
        match self.usage_fate.lock().unwrap().take() {
            None => return self.inner.add_usage(batch),
            Some(Fate::UnknownAndDurable) => self.inner.add_usage(batch)?,
            Some(Fate::NotWritten | Fate::UnknownAndLost) => {}
        }
        Err(StoreError::new(StoreErrorKind::Io, "planned"))
    }
    fn usage(
        &self,
        query: &UsageQuery<'_>,
        each: &mut dyn FnMut(UsageBucket, &UsageEntry),
    ) -> Result<(), StoreError> {
        self.count("usage");
        self.inner.usage(query, each)
    }
    fn usage_writers(&self, each: &mut dyn FnMut(&UsageWriter)) -> Result<(), StoreError> {
        self.count("usage_writers");
        self.inner.usage_writers(each)
    }
    fn roll_up_usage(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.count("roll_up_usage");
        self.inner.roll_up_usage(now, limit)
    }
    fn scrub(&self) -> Result<(), StoreError> {
        self.count("scrub");
        self.inner.scrub()
    }
    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

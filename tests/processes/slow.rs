//! A store that can be held up between reading something and handing it out.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyrota::{
    AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyStore, Revision,
    RowFilter, RowKind, RowRef, SqliteStore, Stamp, StoreError, Timestamp, UsageBatch, UsageBucket,
    UsageEntry, UsageQuery, UsageWriter,
};

type Hook = Box<dyn FnOnce() + Send>;

/// What was read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Feed,
    Get(RowKind),
}

pub(crate) struct Slow {
    inner: SqliteStore,
    hook: Mutex<Option<(Reading, Hook)>>,
    stamps: AtomicUsize,
}

impl Slow {
    pub(crate) fn new(inner: SqliteStore) -> Self {
        Self { inner, hook: Mutex::default(), stamps: AtomicUsize::new(0) }
    }

    /// What is to happen, once, after the next such reading and before anybody has its result.
    pub(crate) fn after_next(&self, reading: Reading, hook: impl FnOnce() + Send + 'static) {
        *self.hook.lock().unwrap() = Some((reading, Box::new(hook)));
    }

    fn after(&self, reading: Reading) {
        let hook = self.hook.lock().unwrap().take_if(|(awaited, _)| *awaited == reading);
        if let Some((_, hook)) = hook {
            hook();
        }
    }

    /// How often it was asked for the stamp.
    pub(crate) fn stamps(&self) -> usize {
        self.stamps.load(Ordering::SeqCst)
    }
}

impl KeyStore for Slow {
    fn head(&self) -> Result<Option<Head>, StoreError> {
        self.inner.head()
    }
    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        let mut found = None;
        self.inner.get(kind, id, &mut |row| found = Some(row.to_row()))?;
        self.after(Reading::Get(kind));
        if let Some(row) = found {
            each(row.as_ref());
        }
        Ok(())
    }
    fn find(&self, kind: RowKind, unique: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.inner.find(kind, unique, each)
    }
    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.scan(kind, filter, each)
    }
    fn feed(
        &self,
        since: Revision,
        limit: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError> {
        let page = self.inner.feed(since, limit, each);
        self.after(Reading::Feed);
        page
    }
    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.audit(query, each)
    }
    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        self.inner.commit(changeset)
    }
    fn stamp(&self) -> Result<Stamp, StoreError> {
        let stamp = self.inner.stamp();
        self.stamps.fetch_add(1, Ordering::SeqCst);
        stamp
    }
    fn freshness(&self) -> Freshness {
        self.inner.freshness()
    }
    fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.inner.add_usage(batch)
    }
    fn usage(
        &self,
        query: &UsageQuery<'_>,
        each: &mut dyn FnMut(UsageBucket, &UsageEntry),
    ) -> Result<(), StoreError> {
        self.inner.usage(query, each)
    }
    fn usage_writers(&self, each: &mut dyn FnMut(&UsageWriter)) -> Result<(), StoreError> {
        self.inner.usage_writers(each)
    }
    fn roll_up_usage(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.inner.roll_up_usage(now, limit)
    }
    fn scrub(&self) -> Result<(), StoreError> {
        self.inner.scrub()
    }
    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

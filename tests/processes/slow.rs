//! A store that can be held up after it has read a page of the feed, before the page is used.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyrota::{
    AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyStore, Revision,
    RowFilter, RowKind, RowRef, SqliteStore, Stamp, StoreError, UsageBatch, UsageEntry,
};

type Hook = Box<dyn FnOnce() + Send>;

pub(crate) struct Slow {
    inner: SqliteStore,
    after_feed: Mutex<Option<Hook>>,
    stamps: AtomicUsize,
}

impl Slow {
    pub(crate) fn new(inner: SqliteStore) -> Self {
        Self { inner, after_feed: Mutex::default(), stamps: AtomicUsize::new(0) }
    }

    /// What is to happen, once, between reading a page and handing it out.
    pub(crate) fn after_next_feed(&self, hook: impl FnOnce() + Send + 'static) {
        *self.after_feed.lock().unwrap() = Some(Box::new(hook));
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
        self.inner.get(kind, id, each)
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
        let hook = self.after_feed.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
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
    fn usage(&self, key: &str, each: &mut dyn FnMut(&UsageEntry)) -> Result<(), StoreError> {
        self.inner.usage(key, each)
    }
    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

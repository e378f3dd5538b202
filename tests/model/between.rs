//! A store that lets somebody else act between two calls.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use keyrota::{
    AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyStore, Revision,
    RowFilter, RowKind, RowRef, Stamp, StoreError, UsageBatch, UsageEntry,
};

type Other = Box<dyn FnOnce() + Send>;

/// Delegates; before one of the next calls, does what is planned.
pub struct Between {
    pub inner: Arc<dyn KeyStore>,
    plan: Mutex<Option<(usize, Other)>>,
}

impl Between {
    pub fn new(inner: Arc<dyn KeyStore>) -> Arc<Self> {
        Arc::new(Self { inner, plan: Mutex::new(None) })
    }

    pub fn plan(&self, calls: usize, other: impl FnOnce() + Send + 'static) {
        *self.plan.lock().unwrap() = Some((calls, Box::new(other)));
    }

    /// Does what is still planned.
    pub fn finish(&self) {
        let planned = self.plan.lock().unwrap().take();
        planned.into_iter().for_each(|(_, other)| other());
    }

    fn inner(&self) -> &dyn KeyStore {
        let mut plan = self.plan.lock().unwrap();
        match plan.as_mut() {
            Some((0, _)) => {
                drop(plan);
                self.finish();
            }
            Some((calls, _)) => *calls -= 1,
            None => {}
        }
        &*self.inner
    }
}

impl KeyStore for Between {
    fn head(&self) -> Result<Option<Head>, StoreError> {
        self.inner().head()
    }
    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.inner().get(kind, id, each)
    }
    fn find(&self, kind: RowKind, unique: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.inner().find(kind, unique, each)
    }
    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner().scan(kind, filter, each)
    }
    fn feed(
        &self,
        since: Revision,
        limit: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError> {
        self.inner().feed(since, limit, each)
    }
    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner().audit(query, each)
    }
    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        self.inner().commit(changeset)
    }
    fn stamp(&self) -> Result<Stamp, StoreError> {
        self.inner.stamp()
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
    fn scrub(&self) -> Result<(), StoreError> {
        self.inner.scrub()
    }
    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

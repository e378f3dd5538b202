//! A store as a stranger would write it: it hands everything on to another one, and writes down all that it is given
//! and all that it gives back, as `Debug` prints it.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use keyrota::{
    AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyStore, Revision,
    RowFilter, RowKind, RowRef, SqliteStore, Stamp, StoreError, StoreErrorKind, Tail, Timestamp, UsageBatch,
    UsageBucket, UsageEntry, UsageQuery, UsageWriter,
};

pub(crate) struct Eavesdropper {
    inner: SqliteStore,
    heard: Mutex<Vec<String>>,
    loses_answer: AtomicBool,
    calls: AtomicUsize,
    /// The call at which it panics.
    falls_at: AtomicUsize,
}

impl Eavesdropper {
    pub(crate) fn new(inner: SqliteStore) -> Self {
        Self {
            inner,
            heard: Mutex::default(),
            loses_answer: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            falls_at: AtomicUsize::new(usize::MAX),
        }
    }

    pub(crate) fn inner(&self) -> &SqliteStore {
        &self.inner
    }

    /// All that was said.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next commit is carried out, and fails all the same.
    pub(crate) fn lose_next_answer(&self) {
        self.loses_answer.store(true, Ordering::SeqCst);
    }

    /// Panics at a later call, counted from 0, after that call's effect.
    pub(crate) fn fall_at(&self, call: usize) {
        self.calls.store(0, Ordering::SeqCst);
        self.falls_at.store(call, Ordering::SeqCst);
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn hear(&self, text: String) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    /// Passes an answer on, or panics with a message that tells what it was about.
    fn answer<T>(&self, answer: T, about: &dyn Fn() -> String) -> T {
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.falls_at.load(Ordering::SeqCst) {
            panic!("planned: the store of the host, at {}", about());
        }
        answer
    }
}

impl KeyStore for Eavesdropper {
    fn head(&self) -> Result<Option<Head>, StoreError> {
        let head = self.inner.head();
        self.hear(format!("{head:?}"));
        self.answer(head, &|| "the head".to_owned())
    }

    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        let done = self.inner.get(kind, id, &mut |row| {
            self.hear(format!("{row:?}"));
            each(row);
        });
        self.answer(done, &|| format!("{kind} {id}"))
    }

    fn find(&self, kind: RowKind, unique: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        let done = self.inner.find(kind, unique, &mut |row| {
            self.hear(format!("{row:?}"));
            each(row);
        });
        self.answer(done, &|| format!("{kind} {unique}"))
    }

    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let done = self.inner.scan(kind, filter, &mut |row| {
            self.hear(format!("{filter:?} {row:?}"));
            each(row)
        });
        self.answer(done, &|| format!("{kind} {filter:?}"))
    }

    fn feed(
        &self,
        since: Revision,
        limit: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError> {
        let page = self.inner.feed(since, limit, &mut |item| {
            self.hear(format!("{item:?}"));
            each(item);
        });
        self.hear(format!("{page:?}"));
        self.answer(page, &|| format!("the feed since {since}"))
    }

    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let done = self.inner.audit(query, &mut |row| {
            self.hear(format!("{query:?} {row:?}"));
            each(row)
        });
        self.answer(done, &|| format!("{query:?}"))
    }

    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        let head = self.inner.head().map_err(CommitError::NotWritten)?;
        let sealed = changeset.seal(head.as_ref(), Tail::default());
        self.hear(format!("{changeset:?} {changeset:#?}"));
        self.hear(format!("{sealed:?} {sealed:#?}"));
        let done = self.inner.commit(changeset);
        self.hear(format!("{done:?}"));
        if self.loses_answer.swap(false, Ordering::SeqCst) {
            done?;
            return Err(CommitError::Unknown(StoreError::new(StoreErrorKind::Io, "the answer got lost")));
        }
        self.answer(done, &|| format!("{changeset:?}, which is {sealed:?}"))
    }

    fn stamp(&self) -> Result<Stamp, StoreError> {
        let stamp = self.inner.stamp();
        self.answer(stamp, &|| "the stamp".to_owned())
    }

    fn freshness(&self) -> Freshness {
        self.inner.freshness()
    }

    fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.hear(format!("{batch:?}"));
        let done = self.inner.add_usage(batch);
        self.answer(done, &|| format!("{batch:?}"))
    }

    fn usage(
        &self,
        query: &UsageQuery<'_>,
        each: &mut dyn FnMut(UsageBucket, &UsageEntry),
    ) -> Result<(), StoreError> {
        let done = self.inner.usage(query, &mut |bucket, entry| {
            self.hear(format!("{entry:?}"));
            each(bucket, entry);
        });
        self.answer(done, &|| format!("the usage of {query:?}"))
    }

    fn usage_writers(&self, each: &mut dyn FnMut(&UsageWriter)) -> Result<(), StoreError> {
        let done = self.inner.usage_writers(&mut |writer| {
            self.hear(format!("{writer:?}"));
            each(writer);
        });
        self.answer(done, &|| "the writers of usage".to_owned())
    }

    fn roll_up_usage(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let done = self.inner.roll_up_usage(now, limit);
        self.answer(done, &|| "what was rolled up".to_owned())
    }

    fn scrub(&self) -> Result<(), StoreError> {
        self.inner.scrub()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

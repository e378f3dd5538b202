//! A store that hands every call on to another one, and lets a test say what becomes of it: the only one of its kind, so
//! that what a `KeyStore` has to do is written down once.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod planned;

use std::fmt::Debug;
use std::ops::{ControlFlow, Deref};

use keyrota::{
    AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyStore, Revision,
    Row, RowFilter, RowKind, RowRef, Stamp, StoreError, StoreErrorKind, Timestamp, UsageBatch, UsageBucket,
    UsageEntry, UsageQuery, UsageWriter,
};

/// A call, with what it asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Call<'a> {
    Head,
    Get(RowKind, &'a str),
    Find(RowKind, &'a str),
    Scan(RowKind, RowFilter<'a>),
    Feed(Revision),
    Audit(&'a AuditQuery<'a>),
    Commit(&'a Changeset),
    Stamp,
    Freshness,
    AddUsage(&'a UsageBatch),
    Usage(&'a UsageQuery<'a>),
    UsageWriters,
    RollUpUsage,
    Scrub,
    Close,
}

impl Call<'_> {
    /// The method's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Get(..) => "get",
            Self::Find(..) => "find",
            Self::Scan(..) => "scan",
            Self::Feed(_) => "feed",
            Self::Audit(_) => "audit",
            Self::Commit(_) => "commit",
            Self::Stamp => "stamp",
            Self::Freshness => "freshness",
            Self::AddUsage(_) => "add_usage",
            Self::Usage(_) => "usage",
            Self::UsageWriters => "usage_writers",
            Self::RollUpUsage => "roll_up_usage",
            Self::Scrub => "scrub",
            Self::Close => "close",
        }
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Go,
    /// It fails, and has no effect.
    Fail(StoreErrorKind),
    /// It takes effect, and its answer is lost: of a commit, nobody knows.
    GoThenFail,
    /// A commit has no effect, and nobody knows.
    Lost,
    /// A commit conflicts, although nobody was in the way.
    Conflict,
}

/// What a test does at the calls; each default does nothing.
pub(crate) trait Hooks: Send + Sync + 'static {
    /// Before a call; `inner` is the store that it will be handed on to.
    fn before(&self, inner: &dyn KeyStore, call: Call<'_>) -> Turn {
        let _ = (inner, call);
        Turn::Go
    }
    /// After a call has had its effect, and before its caller knows.
    fn after(&self, call: Call<'_>, answer: &dyn Debug) {
        let _ = (call, answer);
    }
    /// What is handed out, or told by the feed.
    fn told(&self, what: &dyn Debug) {
        let _ = what;
    }
    /// How a row is shown; `None` is as it is.
    fn shown(&self, row: RowRef<'_>) -> Option<Row> {
        let _ = row;
        None
    }
    /// How an entry of the audit log is shown, if at all.
    fn shown_entry(&self, entry: &AuditRow) -> Option<AuditRow> {
        Some(entry.clone())
    }
    /// What the feed tells beside what the store does.
    fn feeds(&self, inner: &dyn KeyStore, each: &mut dyn FnMut(FeedItem<'_>)) -> Result<(), StoreError> {
        let _ = (inner, each);
        Ok(())
    }
    fn stamped(&self, stamp: Stamp) -> Stamp {
        stamp
    }
    fn committed(&self, inner: &dyn KeyStore, revision: Revision) {
        let _ = (inner, revision);
    }
}

#[derive(Default)]
pub(crate) struct Delegating<S, H> {
    pub(crate) inner: S,
    hooks: H,
}

impl<S, H> Deref for Delegating<S, H> {
    type Target = H;
    fn deref(&self) -> &H {
        &self.hooks
    }
}

/// What a planned failure says of itself.
pub(crate) fn failure(kind: StoreErrorKind) -> StoreError {
    StoreError::new(kind, "planned")
}

impl<S: KeyStore, H: Hooks> Delegating<S, H> {
    pub(crate) fn over(inner: S, hooks: H) -> Self {
        Self { inner, hooks }
    }

    fn call<T: Debug>(
        &self,
        call: Call<'_>,
        effect: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.hooks.before(&self.inner, call) {
            Turn::Go => {
                let answer = effect();
                self.hooks.after(call, &answer);
                answer
            }
            Turn::Fail(kind) => Err(failure(kind)),
            Turn::GoThenFail => effect().and_then(|_| Err(failure(StoreErrorKind::Io))),
            Turn::Lost | Turn::Conflict => panic!("only a commit has such a fate"),
        }
    }

    fn show<T>(&self, row: RowRef<'_>, each: impl FnOnce(RowRef<'_>) -> T) -> T {
        match self.hooks.shown(row) {
            None => {
                self.hooks.told(&row);
                each(row)
            }
            Some(row) => {
                self.hooks.told(&row);
                each(row.as_ref())
            }
        }
    }

    /// What is read by its name is handed out after the call, when the store has let go of it.
    fn one(
        &self,
        call: Call<'_>,
        each: &mut dyn FnMut(RowRef<'_>),
        read: impl FnOnce(&mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut found = None;
        let done = self.call(call, || read(&mut |row| found = Some(row.to_row())));
        if let Some(row) = found {
            self.show(row.as_ref(), each);
        }
        done
    }
}

impl<S: KeyStore, H: Hooks> KeyStore for Delegating<S, H> {
    fn head(&self) -> Result<Option<Head>, StoreError> {
        self.call(Call::Head, || self.inner.head())
    }
    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.one(Call::Get(kind, id), each, |each| self.inner.get(kind, id, each))
    }
    fn find(&self, kind: RowKind, unique: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.one(Call::Find(kind, unique), each, |each| self.inner.find(kind, unique, each))
    }
    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut each = |row: RowRef<'_>| self.show(row, &mut *each);
        self.call(Call::Scan(kind, filter), || self.inner.scan(kind, filter, &mut each))
    }
    fn feed(
        &self,
        since: Revision,
        limit: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError> {
        let mut tell = |item: FeedItem<'_>| match item {
            FeedItem::Row(row) => self.show(row, |row| each(FeedItem::Row(row))),
            gone => {
                self.hooks.told(&gone);
                each(gone);
            }
        };
        let page = self.call(Call::Feed(since), || self.inner.feed(since, limit, &mut tell))?;
        self.hooks.feeds(&self.inner, &mut tell)?;
        Ok(page)
    }
    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut each = |entry: &AuditRow| match self.hooks.shown_entry(entry) {
            None => ControlFlow::Continue(()),
            Some(entry) => {
                self.hooks.told(&entry);
                each(&entry)
            }
        };
        self.call(Call::Audit(query), || self.inner.audit(query, &mut each))
    }
    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        let call = Call::Commit(changeset);
        let write = || {
            let done = self.inner.commit(changeset);
            if let Ok(revision) = &done {
                self.hooks.committed(&self.inner, *revision);
            }
            done
        };
        let unknown = || CommitError::Unknown(failure(StoreErrorKind::Io));
        match self.hooks.before(&self.inner, call) {
            Turn::Go => {
                let done = write();
                self.hooks.after(call, &done);
                done
            }
            Turn::Fail(kind) => Err(CommitError::NotWritten(failure(kind))),
            Turn::GoThenFail => write().and_then(|_| Err(unknown())),
            Turn::Lost => Err(unknown()),
            Turn::Conflict => Err(CommitError::Conflict { kind: RowKind::Key, id: "planned".to_owned() }),
        }
    }
    fn stamp(&self) -> Result<Stamp, StoreError> {
        self.call(Call::Stamp, || self.inner.stamp().map(|stamp| self.hooks.stamped(stamp)))
    }
    fn freshness(&self) -> Freshness {
        self.hooks.before(&self.inner, Call::Freshness);
        self.inner.freshness()
    }
    fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.call(Call::AddUsage(batch), || self.inner.add_usage(batch))
    }
    fn usage(
        &self,
        query: &UsageQuery<'_>,
        each: &mut dyn FnMut(UsageBucket, &UsageEntry),
    ) -> Result<(), StoreError> {
        let mut each = |bucket: UsageBucket, entry: &UsageEntry| {
            self.hooks.told(entry);
            each(bucket, entry);
        };
        self.call(Call::Usage(query), || self.inner.usage(query, &mut each))
    }
    fn usage_writers(&self, each: &mut dyn FnMut(&UsageWriter)) -> Result<(), StoreError> {
        let mut each = |writer: &UsageWriter| {
            self.hooks.told(writer);
            each(writer);
        };
        self.call(Call::UsageWriters, || self.inner.usage_writers(&mut each))
    }
    fn roll_up_usage(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.call(Call::RollUpUsage, || self.inner.roll_up_usage(now, limit))
    }
    fn scrub(&self) -> Result<(), StoreError> {
        self.call(Call::Scrub, || self.inner.scrub())
    }
    fn close(&self) -> Result<(), StoreError> {
        self.call(Call::Close, || self.inner.close())
    }
}

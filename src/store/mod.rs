//! The store: the port behind which records live.
//!
//! A store keeps **rows** and looks inside none: it sees no key, no secret and no rule. All that is decided is
//! decided above it and arrives as one [`Changeset`]; all that is read streams into a callback.
//!
//! [`MemoryStore`](crate::MemoryStore) and [`SqliteStore`](crate::SqliteStore) implement it; so can a host, and
//! the suite of the feature `conformance` tells whether it got it right.

mod changeset;
mod error;
mod head;
pub(crate) mod memory;
mod row;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;
mod stamp;
mod usage;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::time::Timestamp;

pub use changeset::{AuditRow, Changeset, SealError, SealedChangeset, Tail, Write};
pub(crate) use changeset::{Draft, Segment};
pub use error::{CommitError, StoreError, StoreErrorKind};
#[cfg(test)]
pub(crate) use head::Check as HeadCheck;
pub use head::Head;
pub(crate) use head::HeadBody;
pub(crate) use row::RowFault;
pub use row::{Revision, Row, RowIndex, RowIndexRef, RowKind, RowMac, RowRef};
pub use stamp::{Freshness, Stamp};
pub use usage::{
    CountedReason, DenialCounts, UsageBatch, UsageBucket, UsageCounts, UsageEntry, UsageQuery, UsageWriter,
};

/// Which rows of a kind to read, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RowFilter<'a> {
    /// All, by id, after this id.
    All {
        /// The last id that was already read.
        after: Option<&'a str>,
    },
    /// Those whose parent is this one, by id.
    Parent(&'a str),
    /// Those of this owner, by id, after this id.
    Owner {
        /// The owner.
        owner: &'a str,
        /// The last id that was already read.
        after: Option<&'a str>,
    },
    /// Those with a `due_at` not after `by`, by `due_at` and id.
    Due {
        /// The latest `due_at`.
        by: Timestamp,
        /// The `due_at` and id of the last row that was already read.
        after: Option<(Timestamp, &'a str)>,
    },
}

impl RowFilter<'_> {
    /// Whether a row is among those asked for: for stores without an index of their own.
    #[must_use]
    pub fn matches(&self, row: &RowRef<'_>) -> bool {
        match *self {
            Self::All { after } => after.is_none_or(|after| row.id > after),
            Self::Parent(parent) => row.index.parent == Some(parent),
            Self::Owner { owner, after } => {
                row.index.owner == Some(owner) && after.is_none_or(|after| row.id > after)
            }
            Self::Due { by, after } => row
                .index
                .due_at
                .is_some_and(|due| due <= by && after.is_none_or(|after| (due, row.id) > after)),
        }
    }
}

/// A question for audit entries; an absent field asks nothing. Entries come in the order of their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditQuery<'a> {
    /// Only entries after this number.
    pub after: u64,
    /// Only entries of this kind.
    pub kind: Option<&'a str>,
    /// Only entries by an actor of this name.
    pub actor: Option<&'a str>,
    /// Only entries about this key.
    pub key: Option<&'a str>,
    /// Only entries about this version.
    pub version: Option<u32>,
    /// Only entries about this owner.
    pub owner: Option<&'a str>,
    /// Only entries of this time or later.
    pub from: Option<Timestamp>,
    /// Only entries before this time.
    pub until: Option<Timestamp>,
}

impl AuditQuery<'_> {
    /// Whether an entry is among those asked for: for stores without an index of their own.
    #[must_use]
    pub fn matches(&self, row: &AuditRow) -> bool {
        fn asks<T: PartialEq>(asked: Option<T>, has: Option<T>) -> bool {
            asked.is_none() || asked == has
        }
        row.seq > self.after
            && asks(self.kind, Some(row.kind.as_str()))
            && asks(self.actor, Some(row.actor.as_str()))
            && asks(self.key, row.key.as_deref())
            && asks(self.version, row.version)
            && asks(self.owner, row.owner.as_deref())
            && self.from.is_none_or(|from| row.at >= from)
            && self.until.is_none_or(|until| row.at < until)
    }
}

/// One item of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedItem<'a> {
    /// A row as it is now; it was inserted or replaced (or edited behind the library's back).
    Row(RowRef<'a>),
    /// A row that is gone.
    Gone {
        /// What it recorded.
        kind: RowKind,
        /// Its id.
        id: &'a str,
    },
}

/// Where a reading of the feed has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedPage {
    /// The head in the same snapshot; `None` for an empty store.
    pub head: Option<Head>,
    /// All changes up to this revision have been told.
    pub up_to: Revision,
    /// Whether there are later ones.
    pub more: bool,
}

/// Where rows live. Object-safe; each method may be called from any thread.
///
/// Contract, one test each in the conformance suite: a commit is atomic and durable when it has returned; reads
/// see all commits that returned before they began; revisions grow by one with each commit; the feed tells
/// changes of followed kinds in the order of their commits, deletions included, down to its floor; usage touches
/// no row and no revision. A callback must not call the store.
pub trait KeyStore: Send + Sync + 'static {
    /// The head, or `None` for an empty store.
    ///
    /// # Errors
    /// [`StoreError`].
    fn head(&self) -> Result<Option<Head>, StoreError>;

    /// The row with this kind and id; `each` is called at most once.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError>;

    /// The row with this kind and unique field; `each` is called at most once.
    ///
    /// # Errors
    /// [`StoreError`].
    fn find(&self, kind: RowKind, unique: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError>;

    /// Rows of a kind in the filter's order, until `each` breaks.
    ///
    /// # Errors
    /// [`StoreError`].
    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// Changes of followed kinds after `since`, about `limit` items but always whole commits.
    ///
    /// When `since` is below the floor or above the head's revision, nothing is told and `up_to` is `since`:
    /// the follower loads anew.
    ///
    /// # Errors
    /// [`StoreError`].
    fn feed(
        &self,
        since: Revision,
        limit: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError>;

    /// Audit entries in the order of their numbers, until `each` breaks.
    ///
    /// # Errors
    /// [`StoreError`].
    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// Writes a changeset: all of it or nothing. Returns the new revision once it is durable.
    ///
    /// Under its write lock the store gives [`Changeset::seal`] the head that it holds, and as [`Tail`] what it holds
    /// whatever the head says, and writes what that returns.
    ///
    /// # Errors
    /// [`CommitError`], which says precisely what became of the commit.
    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError>;

    /// The stamp now.
    ///
    /// # Errors
    /// [`StoreError`].
    fn stamp(&self) -> Result<Stamp, StoreError>;

    /// How fresh this handle's stamps are.
    fn freshness(&self) -> Freshness;

    /// Adds the counts of a batch to the hour of its `flushed_at`, and notes how far its writer has come; touches no row,
    /// no revision and no state of a key. All of it or nothing; and a batch whose number is not above the writer's last
    /// was added before: nothing happens then, and the answer is `Ok`.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was added then, or, where reading and writing itself failed
    /// ([`StoreErrorKind::Io`]), perhaps all of it. Either way the same batch may be handed over again, before a later one
    /// of its writer: it counts once.
    fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError>;

    /// What was counted, in parts and in no order: what is told several times of one version and bucket is to be added
    /// up. All parts are of one moment.
    ///
    /// # Errors
    /// [`StoreError`].
    fn usage(
        &self,
        query: &UsageQuery<'_>,
        each: &mut dyn FnMut(UsageBucket, &UsageEntry),
    ) -> Result<(), StoreError>;

    /// The validating processes that have handed over counts, in no order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn usage_writers(&self, each: &mut dyn FnMut(&UsageWriter)) -> Result<(), StoreError>;

    /// Moves counts to the buckets in which they are kept at `now` ([`UsageBucket::at`]), and forgets writers that have
    /// been silent for longer than [`UsageWriter::KEPT`]. A tick calls it again and again.
    ///
    /// One step of about `limit` entries, all of it or nothing; no sum changes. Returns how many entries and writers were
    /// moved or forgotten: fewer than `limit` when nothing is left to do, and then another call writes nothing.
    ///
    /// # Errors
    /// [`StoreError`]; what was not moved is left for the next call.
    fn roll_up_usage(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// Overwrites what deleted rows have left behind in the store's files, as far as nobody reads there just now. A
    /// tick calls it each time; it does nothing while nothing that was sealed has been deleted.
    ///
    /// # Errors
    /// [`StoreError`]; what is left stays for the next call.
    fn scrub(&self) -> Result<(), StoreError>;

    /// Releases what the handle holds; later calls answer [`StoreErrorKind::Closed`].
    ///
    /// # Errors
    /// [`StoreError`].
    fn close(&self) -> Result<(), StoreError>;
}

impl<S: KeyStore + ?Sized> KeyStore for Arc<S> {
    fn head(&self) -> Result<Option<Head>, StoreError> {
        (**self).head()
    }
    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        (**self).get(kind, id, each)
    }
    fn find(&self, kind: RowKind, unique: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        (**self).find(kind, unique, each)
    }
    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        (**self).scan(kind, filter, each)
    }
    fn feed(
        &self,
        since: Revision,
        limit: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError> {
        (**self).feed(since, limit, each)
    }
    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        (**self).audit(query, each)
    }
    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        (**self).commit(changeset)
    }
    fn stamp(&self) -> Result<Stamp, StoreError> {
        (**self).stamp()
    }
    fn freshness(&self) -> Freshness {
        (**self).freshness()
    }
    fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        (**self).add_usage(batch)
    }
    fn usage(
        &self,
        query: &UsageQuery<'_>,
        each: &mut dyn FnMut(UsageBucket, &UsageEntry),
    ) -> Result<(), StoreError> {
        (**self).usage(query, each)
    }
    fn usage_writers(&self, each: &mut dyn FnMut(&UsageWriter)) -> Result<(), StoreError> {
        (**self).usage_writers(each)
    }
    fn roll_up_usage(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        (**self).roll_up_usage(now, limit)
    }
    fn scrub(&self) -> Result<(), StoreError> {
        (**self).scrub()
    }
    fn close(&self) -> Result<(), StoreError> {
        (**self).close()
    }
}

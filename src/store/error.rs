//! What can go wrong in a store, and what becomes of a commit that does not succeed.

use std::error::Error;
use std::fmt;

use crate::store::changeset::SealError;
use crate::store::row::RowKind;

/// What sort of trouble a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Somebody else holds the store's lock for too long; try again.
    Busy,
    /// There is no room left; make room and try again.
    Full,
    /// The store cannot be written by this process.
    ReadOnly,
    /// Reading or writing failed.
    Io,
    /// What the store read back is not what a store writes, or its disk could not read it at all: SQLite does not
    /// tell the one from the other.
    Corrupt,
    /// The store was closed.
    Closed,
    /// The handle was inherited through a fork; open the store after the fork, not before.
    Forked,
    /// The store's files were moved, deleted or exchanged under an open handle; put them back, or open the store again.
    Moved,
    /// Anything else; see the source.
    Other,
}

/// A store could not do what it was asked.
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<Box<dyn Error + Send + Sync>>,
}

crate::text::debug_as_told!(StoreError);

impl StoreError {
    /// An error of this kind with its cause.
    pub fn new(kind: StoreErrorKind, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    /// What sort of trouble it is.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl From<StoreErrorKind> for StoreError {
    fn from(kind: StoreErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Busy => "the store is busy; try again",
            StoreErrorKind::Full => "the store has no room left; make room and try again",
            StoreErrorKind::ReadOnly => "the store cannot be written by this process; check its permissions",
            StoreErrorKind::Io => "the store could not be read or written",
            StoreErrorKind::Corrupt => {
                "the store is damaged, or its disk cannot read it; check the disk, and restore a backup if this stays"
            }
            StoreErrorKind::Closed => "the store was closed",
            StoreErrorKind::Forked => {
                "the handle was inherited through a fork; open the store after the fork, not before"
            }
            StoreErrorKind::Moved => "the store's files were moved; put them back, or open the store again",
            StoreErrorKind::Other => "the store failed",
        })
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// What became of a commit that did not succeed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// An expectation did not hold; nothing was written. Read again and decide again.
    #[error("somebody else changed {kind} {id} meanwhile; nothing was written")]
    Conflict {
        /// What the row records.
        kind: RowKind,
        /// Its id.
        id: String,
    },
    /// The changeset cannot be sealed on the store's head; nothing was written.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Nothing was written, for certain.
    #[error("nothing was written: {0}")]
    NotWritten(#[source] StoreError),
    /// The commit failed in a way that leaves open whether it is durable.
    #[error("it is not known whether the commit is durable: {0}")]
    Unknown(#[source] StoreError),
}

crate::text::debug_as_told!(CommitError);

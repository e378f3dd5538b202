//! `SqliteStore`: rows in one SQLite file, shared by any number of threads and processes of one machine.

mod backup;
mod connection;
mod error;
mod file;
mod foreign;
mod header;
mod held;
mod identity;
mod inspection;
mod packed;
mod read;
mod schema;
mod stamp;
#[cfg(test)]
mod tests;
mod usage;
mod write;

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::store::sqlite::connection::{Connections, Place, Role};
use crate::store::sqlite::held::Held;
use crate::store::sqlite::stamp::Anchor;
use crate::store::{
    AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyStore, Revision,
    RowFilter, RowKind, RowRef, Stamp, StoreError, StoreErrorKind, UsageBatch, UsageBucket, UsageEntry,
    UsageQuery, UsageWriter,
};
use crate::time::Timestamp;

pub use backup::SqliteBackup;
pub(crate) use backup::Staged;
pub use error::{BackupError, SqliteOpenError};
pub(crate) use foreign::ForeignTable;
pub use stamp::StampFallback;

/// How a [`SqliteStore`] is opened.
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteOptions {
    busy_timeout: Duration,
    query_stamps: bool,
}

impl SqliteOptions {
    /// How long to wait for another process's write before answering *busy*. Default 5 seconds.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Asks SQLite for each stamp with a query instead of reading its shared memory. As exact, and about a thousand
    /// times slower; for a platform on which the shared memory is not to be trusted. Default: only where the store
    /// finds out itself that it cannot be read; see [`SqliteStore::stamp_fallback`].
    pub fn query_stamps(mut self, wanted: bool) -> Self {
        self.query_stamps = wanted;
        self
    }

    /// Opens the database file, or makes it with mode 0600; see [`SqliteStore::open`].
    ///
    /// # Errors
    /// [`SqliteOpenError`]; what lies there was not changed.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<SqliteStore, SqliteOpenError> {
        let path = file::resolve(path.as_ref())?;
        let place = Place::new(path, self.busy_timeout)?;
        let Connections { writer, reader, follower, anchor, files } = place.open()?;
        let place = Arc::new(place);
        let anchor = Anchor::new(Arc::clone(&place), anchor, &writer, !self.query_stamps);
        Ok(SqliteStore {
            writer: Held::new(Arc::clone(&place), Role::Writer, writer, files),
            reader: Held::new(Arc::clone(&place), Role::Reader, reader, files),
            follower: Held::new(Arc::clone(&place), Role::Reader, follower, files),
            anchor,
            remnants: AtomicBool::new(true),
            place,
        })
    }
}

/// Rows in one SQLite file on a local file system.
///
/// Write-ahead logging with a full sync at each commit: what a commit has written survives a loss of power. Any
/// number of handles, in this process and in others of the same machine, may share the file. SQLite's locks do not
/// survive a fork: a handle that a forked child inherits answers
/// [`StoreErrorKind::Forked`](crate::StoreErrorKind::Forked), and the child cannot open a file that its parent had open
/// ([`SqliteOpenError::OpenBeforeFork`]); open it in the child alone, or start the child as a program. People may read
/// the tables, and the views `v_keys`, `v_versions`, `v_rotations`, `v_audit`, `v_outbox` and `v_usage`, with any SQLite
/// shell; a row that they edit is refused.
pub struct SqliteStore {
    place: Arc<Place>,
    /// Apart from the writer, so that nobody who reads waits for the sync of a commit. Whoever needs several locks
    /// takes the writer's first, then the reader's, then the follower's.
    reader: Held,
    /// Apart from the reader, so that validation never waits for somebody's long reading.
    follower: Held,
    writer: Held,
    anchor: Anchor,
    /// Whether the write-ahead log may still hold sealed copies that were deleted: those of this handle's commits, and
    /// at first those of whoever had the file before.
    remnants: AtomicBool,
}

impl SqliteStore {
    /// Opens the database file, or makes it with mode 0600 under any umask.
    ///
    /// The file must belong to the effective user, root included, have one name, and be neither a link nor anything
    /// but a regular file; so must what lies beside it as `-wal`, `-shm` and `-journal`. The folder may be named through
    /// links; it must exist and be writable. A store that others may read or write, as a backup that was put back may
    /// be, is taken and closed to them: mode 0600 from then on. An empty file is taken as new, unless a log lies
    /// beside it. A migration that was cut off is taken up again.
    ///
    /// Do not move, delete or exchange the files while a handle is open. Commits, the feed and the flush of usage look
    /// for that (some microseconds), and from then on the handle answers
    /// [`StoreErrorKind::Moved`](crate::StoreErrorKind::Moved) until the files are back; a process that only validates
    /// learns of it at its next flush.
    ///
    /// # Errors
    /// [`SqliteOpenError`]; what lies there was not changed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SqliteOpenError> {
        Self::options().open(path)
    }

    /// Settings to change before opening.
    pub fn options() -> SqliteOptions {
        SqliteOptions { busy_timeout: Duration::from_secs(5), query_stamps: false }
    }
}

impl SqliteStore {
    /// Why each stamp costs a query, if it does; [`Freshness::ExactByQuery`] then. A validation of an unchanged
    /// store takes some microseconds longer, and is as strict.
    #[must_use]
    pub fn stamp_fallback(&self) -> Option<StampFallback> {
        self.anchor.fallback()
    }

    /// The stamp where it takes more than reading shared memory, or the reason why there is none: `PRAGMA data_version`
    /// of the follower, which moves with each commit of every other connection, the writer's included; and how often the
    /// follower was opened again, because each connection counts for itself.
    #[cold]
    fn query_stamp(&self) -> Result<Stamp, StoreError> {
        self.anchor.refusal()?;
        let mut follower = self.follower.lock();
        let version = read::data_version(follower.connection()?).map_err(error::store_error);
        let version = follower.settle(version)?;
        Ok(self.anchor.stamp_of(version, follower.epoch()))
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.place.path).finish_non_exhaustive()
    }
}

impl KeyStore for SqliteStore {
    fn head(&self) -> Result<Option<Head>, StoreError> {
        self.reader.with_in_place(|connection| read::head(connection))
    }

    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.reader.with(|connection| read::get(connection, kind, id, each))
    }

    fn find(&self, kind: RowKind, unique: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.reader.with(|connection| read::find(connection, kind, unique, each))
    }

    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.reader.with(|connection| read::scan(connection, kind, filter, each))
    }

    fn feed(
        &self,
        since: Revision,
        limit: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError> {
        self.follower.with_in_place(|connection| read::feed(connection, since, limit, each))
    }

    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.reader.with(|connection| read::audit(connection, query, each))
    }

    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        let mut writer = self.writer.lock();
        if changeset.deletes(RowKind::Sealed) {
            self.remnants.store(true, Ordering::Release);
        }
        let before = self.anchor.stamp();
        let done = write::commit(writer.connection_in_place().map_err(CommitError::NotWritten)?, changeset);
        match &done {
            Ok(_) => self.anchor.expect_other_than(before),
            Err(CommitError::Unknown(_)) => {
                self.anchor.begin_epoch();
                writer.lose();
                self.reader.lock().lose();
                self.follower.lock().lose();
            }
            Err(CommitError::NotWritten(error)) => writer.doubt(error),
            _ => {}
        }
        done
    }

    fn stamp(&self) -> Result<Stamp, StoreError> {
        match self.anchor.stamp() {
            Some(stamp) => Ok(stamp),
            None => self.query_stamp(),
        }
    }

    fn freshness(&self) -> Freshness {
        if self.anchor.fallback().is_some() { Freshness::ExactByQuery } else { Freshness::Exact }
    }

    fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        let before = self.anchor.stamp();
        if self.writer.with_in_place(|connection| usage::add(connection, batch))? {
            self.anchor.expect_other_than(before);
        }
        Ok(())
    }

    fn usage(
        &self,
        query: &UsageQuery<'_>,
        each: &mut dyn FnMut(UsageBucket, &UsageEntry),
    ) -> Result<(), StoreError> {
        self.reader.with(|connection| usage::usage(connection, query, each))
    }

    fn usage_writers(&self, each: &mut dyn FnMut(&UsageWriter)) -> Result<(), StoreError> {
        self.reader.with(|connection| usage::writers(connection, each))
    }

    fn roll_up_usage(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let before = self.anchor.stamp();
        let moved = self.writer.with_in_place(|connection| usage::roll_up(connection, now, limit))?;
        if moved > 0 {
            self.anchor.expect_other_than(before);
        }
        Ok(moved)
    }

    /// A checkpoint that truncates the write-ahead log; the pages of the database itself are overwritten with each
    /// deletion (`secure_delete`).
    fn scrub(&self) -> Result<(), StoreError> {
        if !self.remnants.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let done = self.writer.with(|connection| {
            connection.busy_timeout(Duration::ZERO)?;
            let done = write::truncate_log(connection);
            self.place.wait_for_others(connection)?;
            done
        });
        if !matches!(done, Ok(true)) {
            self.remnants.store(true, Ordering::Release);
        }
        match done {
            // Like a reader in the way: it is for the next time.
            Err(error) if error.kind() == StoreErrorKind::Full => Ok(()),
            done => done.map(drop),
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        self.anchor.close();
        let reader = self.reader.lock().close();
        let follower = self.follower.lock().close();
        // The anchor stays, so that closing the writer does not bring the log into the file.
        writer.empty_the_log();
        writer.close().and(reader).and(follower)
    }
}

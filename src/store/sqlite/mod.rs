//! `SqliteStore`: rows in one SQLite file, shared by any number of threads and processes of one machine.

mod connection;
mod error;
mod file;
mod header;
mod read;
mod schema;
mod stamp;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::store::sqlite::connection::{Connections, Held, Place, Role};
use crate::store::sqlite::stamp::Anchor;
use crate::store::{
    AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyStore, Revision,
    RowFilter, RowKind, RowRef, Stamp, StoreError, UsageBatch, UsageEntry,
};

pub use error::SqliteOpenError;
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

    /// Opens the database file, or makes it with mode 0600.
    ///
    /// # Errors
    /// [`SqliteOpenError`]; what the file holds was not changed.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<SqliteStore, SqliteOpenError> {
        let path = file::resolve(path.as_ref())?;
        let place = Place { path, busy_timeout: self.busy_timeout, process: std::process::id() };
        let Connections { writer, reader, follower, anchor } = place.open()?;
        let place = Arc::new(place);
        let anchor = Anchor::new(Arc::clone(&place), anchor, &writer, !self.query_stamps);
        Ok(SqliteStore {
            writer: Held::new(Arc::clone(&place), Role::Writer, writer),
            reader: Held::new(Arc::clone(&place), Role::Reader, reader),
            follower: Held::new(Arc::clone(&place), Role::Reader, follower),
            anchor,
            place,
        })
    }
}

/// Rows in one SQLite file on a local file system.
///
/// Write-ahead logging with a full sync at each commit: what a commit has written survives a loss of power. Any
/// number of handles, in this process and in others of the same machine, may share the file; a forked child has to
/// open one of its own: the one it inherits answers [`StoreErrorKind::Forked`](crate::StoreErrorKind::Forked).
/// People may read the tables, and the views `v_keys`, `v_versions`, `v_rotations`, `v_audit`, `v_outbox` and
/// `v_usage`, with any SQLite shell; a row that they edit is refused.
pub struct SqliteStore {
    place: Arc<Place>,
    /// Apart from the writer, so that nobody who reads waits for the sync of a commit. Whoever needs several locks
    /// takes the writer's first, then the reader's, then the follower's.
    reader: Held,
    /// Apart from the reader, so that validation never waits for somebody's long reading.
    follower: Held,
    writer: Held,
    anchor: Anchor,
}

impl SqliteStore {
    /// Opens the database file, or makes it with mode 0600.
    ///
    /// # Errors
    /// [`SqliteOpenError`]; what the file holds was not changed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SqliteOpenError> {
        Self::options().open(path)
    }

    /// Settings to change before opening.
    pub fn options() -> SqliteOptions {
        SqliteOptions { busy_timeout: Duration::from_secs(5), query_stamps: false }
    }

    /// Why each stamp costs a query, if it does; [`Freshness::ExactByQuery`] then. A validation of an unchanged
    /// store takes some microseconds longer, and is as strict.
    #[must_use]
    pub fn stamp_fallback(&self) -> Option<StampFallback> {
        self.anchor.fallback()
    }

    /// The stamp where it takes more than reading shared memory, or the reason why there is none.
    #[cold]
    fn query_stamp(&self) -> Result<Stamp, StoreError> {
        self.anchor.check_again()?;
        if let Some(stamp) = self.anchor.stamp() {
            return Ok(stamp);
        }
        let mut follower = self.follower.lock();
        let version = read::data_version(follower.connection()?).map_err(error::store_error)?;
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
        self.anchor.check()?;
        self.reader.with(|connection| read::head(connection))
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
        self.anchor.check()?;
        self.follower.with(|connection| read::feed(connection, since, limit, each))
    }

    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.reader.with(|connection| read::audit(connection, query, each))
    }

    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        self.anchor.check().map_err(CommitError::NotWritten)?;
        let mut writer = self.writer.lock();
        let before = self.anchor.stamp();
        let done = write::commit(writer.connection().map_err(CommitError::NotWritten)?, changeset);
        match done {
            Ok(_) => self.anchor.expect_other_than(before),
            Err(CommitError::Unknown(_)) => {
                self.anchor.begin_epoch();
                writer.lose();
                self.reader.lock().lose();
                self.follower.lock().lose();
            }
            Err(_) => {}
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
        self.anchor.check()?;
        let before = self.anchor.stamp();
        self.writer.with(|connection| write::add_usage(connection, batch))?;
        if batch.entries.iter().any(|entry| entry.allowed > 0 || entry.denied > 0) {
            self.anchor.expect_other_than(before);
        }
        Ok(())
    }

    fn usage(&self, key: &str, each: &mut dyn FnMut(&UsageEntry)) -> Result<(), StoreError> {
        self.reader.with(|connection| read::usage(connection, key, each))
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        self.anchor.close();
        let reader = self.reader.lock().close();
        let follower = self.follower.lock().close();
        // The anchor stays, so that closing the writer does not bring the log into the file.
        let emptied = writer.empty_the_log();
        writer.close().and(reader).and(follower).and(emptied)
    }
}

//! `SqliteStore`: rows in one SQLite file, shared by any number of threads and processes of one machine.

mod connection;
mod error;
mod file;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::store::sqlite::connection::{Connections, Held, Place, Role};
use crate::store::{
    AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyStore, Revision,
    RowFilter, RowKind, RowRef, Stamp, StoreError, UsageBatch, UsageEntry,
};

pub use error::SqliteOpenError;

/// How a [`SqliteStore`] is opened.
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteOptions {
    busy_timeout: Duration,
}

impl SqliteOptions {
    /// How long to wait for another process's write before answering *busy*. Default 5 seconds.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Opens the database file, or makes it with mode 0600.
    ///
    /// # Errors
    /// [`SqliteOpenError`]; what the file holds was not changed.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<SqliteStore, SqliteOpenError> {
        let path = file::resolve(path.as_ref())?;
        let place = Place { path, busy_timeout: self.busy_timeout, process: std::process::id() };
        let Connections { writer, reader, follower } = place.open()?;
        let place = Arc::new(place);
        Ok(SqliteStore {
            writer: Held::new(Arc::clone(&place), Role::Writer, writer),
            reader: Held::new(Arc::clone(&place), Role::Reader, reader),
            follower: Held::new(Arc::clone(&place), Role::Reader, follower),
            place,
        })
    }
}

/// Rows in one SQLite file on a local file system.
///
/// Write-ahead logging with a full sync at each commit: what a commit has written survives a loss of power. Any
/// number of handles, in this process and in others of the same machine, may share the file; a forked child has to open
/// one of its own: the one it inherits answers [`StoreErrorKind::Forked`](crate::StoreErrorKind::Forked). People may read the tables, and the views `v_keys`, `v_versions`,
/// `v_rotations`, `v_audit`, `v_outbox` and `v_usage`, with any SQLite shell; a row that they edit is refused.
pub struct SqliteStore {
    place: Arc<Place>,
    /// Apart from the writer, so that nobody who reads waits for the sync of a commit. Whoever needs several locks
    /// takes the writer's first, then the reader's, then the follower's.
    reader: Held,
    /// Apart from the reader, so that validation never waits for somebody's long reading.
    follower: Held,
    writer: Held,
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
        SqliteOptions { busy_timeout: Duration::from_secs(5) }
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.place.path).finish_non_exhaustive()
    }
}

impl KeyStore for SqliteStore {
    fn head(&self) -> Result<Option<Head>, StoreError> {
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
        let mut writer = self.writer.lock();
        let done = write::commit(writer.connection().map_err(CommitError::NotWritten)?, changeset);
        match &done {
            Err(CommitError::Unknown(_)) => {
                writer.lose();
                self.reader.lock().lose();
                self.follower.lock().lose();
            }
            Err(CommitError::NotWritten(error)) => writer.doubt(error),
            _ => {}
        }
        done
    }

    /// `PRAGMA data_version` of the follower, which moves with each commit of every other connection, the writer's
    /// included; and how often the follower was opened again, because each connection counts for itself.
    fn stamp(&self) -> Result<Stamp, StoreError> {
        let mut follower = self.follower.lock();
        let version = match read::data_version(follower.connection()?).map_err(error::store_error) {
            Ok(version) => version,
            Err(error) => {
                follower.doubt(&error);
                return Err(error);
            }
        };
        let mut stamp = [0; 48];
        let parts = version.to_le_bytes().into_iter().chain(follower.epoch().to_le_bytes());
        stamp.iter_mut().zip(parts).for_each(|(slot, byte)| *slot = byte);
        Ok(Stamp(stamp))
    }

    fn freshness(&self) -> Freshness {
        Freshness::Exact
    }

    fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.writer.with(|connection| write::add_usage(connection, batch))
    }

    fn usage(&self, key: &str, each: &mut dyn FnMut(&UsageEntry)) -> Result<(), StoreError> {
        self.reader.with(|connection| read::usage(connection, key, each))
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        let reader = self.reader.lock().close();
        let follower = self.follower.lock().close();
        writer.close().and(reader).and(follower)
    }
}

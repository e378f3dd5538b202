//! Connections: how one is opened, and how a handle holds its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::store::sqlite::error::{SqliteOpenError, open_error, store_error};
use crate::store::sqlite::{file, schema};
use crate::store::{StoreError, StoreErrorKind};

/// The first SQLite without the bug by which a reset of the write-ahead log could lose commits.
const OLDEST_ENGINE: i32 = 3_051_003;

/// Held while a file is opened, so that no two threads of this process make and prepare one at once.
static OPENING: Mutex<()> = Mutex::new(());

/// Where the database is, and how long its connections wait for each other.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) busy_timeout: Duration,
    /// The process that opened it: SQLite's locks do not survive a fork, and a child that used or even closed the
    /// connections could damage the file.
    pub(super) process: u32,
}

/// The connections of a handle.
pub(super) struct Connections {
    pub(super) writer: Connection,
    pub(super) reader: Connection,
    pub(super) follower: Connection,
    /// Keeps SQLite's shared memory mapped for stamps.
    pub(super) anchor: Connection,
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Writer,
    Reader,
}

impl Place {
    /// Opens the store's connections, after making the file and its tables where they are missing.
    pub(super) fn open(&self) -> Result<Connections, SqliteOpenError> {
        if rusqlite::version_number() < OLDEST_ENGINE {
            return Err(SqliteOpenError::OldEngine { found: rusqlite::version().to_owned() });
        }
        let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        file::ensure(&self.path)?;
        self.prepare()
    }

    /// Opens the connections to a file that is there.
    pub(super) fn prepare(&self) -> Result<Connections, SqliteOpenError> {
        let mut writer = self.connect().map_err(|error| self.failed(error))?;
        self.accept(&writer)?;
        self.configure(&writer, Role::Writer)?;
        schema::migrate(&mut writer, &self.path)?;
        let reader = self.connect_reader()?;
        let follower = self.connect_reader()?;
        let anchor = self.connect_reader()?;
        Ok(Connections { writer, reader, follower, anchor })
    }

    fn connect_reader(&self) -> Result<Connection, SqliteOpenError> {
        let reader = self.connect().map_err(|error| self.failed(error))?;
        self.configure(&reader, Role::Reader)?;
        Ok(reader)
    }

    /// Whether this is a forked child's copy of what its parent opened.
    pub(super) fn is_inherited(&self) -> bool {
        self.process != std::process::id()
    }

    /// Opens one connection again, to a database that was open before.
    fn reopen(&self, role: Role) -> Result<Connection, StoreError> {
        let other = |error| match error {
            SqliteOpenError::Store { source, .. } => source,
            error => StoreError::new(StoreErrorKind::Corrupt, error),
        };
        let connection = self.connect().map_err(store_error)?;
        let found = self.accept(&connection).map_err(other)?;
        if found != schema::SUPPORTED {
            return Err(StoreError::new(StoreErrorKind::Corrupt, "the database file was exchanged"));
        }
        self.configure(&connection, role).map_err(other)?;
        Ok(connection)
    }

    /// A connection that has changed nothing yet. It makes no file and follows no symbolic link.
    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        // rusqlite panics on more milliseconds than fit an i32.
        let longest = Duration::from_millis(i32::MAX.unsigned_abs().into());
        connection.busy_timeout(self.busy_timeout.min(longest))?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    }

    /// The schema of the database, when it is ours or empty; reads only.
    fn accept(&self, connection: &Connection) -> Result<u32, SqliteOpenError> {
        // A log left by a crash would be written into the file when a refused connection closes.
        let spare = |on| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, on);
        spare(file::has_write_ahead_log(&self.path)).map_err(|error| self.failed(error))?;
        let found = self.patiently(|| schema::recognise(connection)).map_err(|error| self.failed(error))?;
        let version = found.accept(&self.path)?;
        spare(false).map_err(|error| self.failed(error))?;
        Ok(version)
    }

    /// Puts the settings in force that a connection has, not the file; and write-ahead logging, which the file
    /// keeps.
    fn configure(&self, connection: &Connection, role: Role) -> Result<(), SqliteOpenError> {
        let mode = self.patiently(|| {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
            // They are there to tell what others write.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
            // Else SQLite plans a statement anew whenever a value is bound that could matter to a partial index.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            connection.pragma_update(None, "trusted_schema", false)?;
            connection.pragma_update(None, "cell_size_check", true)?;
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))
        });
        let mode = mode.map_err(|error| self.failed(error))?;
        if mode != "wal" {
            return Err(SqliteOpenError::NoWriteAheadLog { path: self.path.clone(), mode });
        }
        if role == Role::Reader {
            connection.pragma_update(None, "query_only", true).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// Tries again while another process is opening the file too: SQLite answers *busy* at once, without waiting,
    /// where two connections would wait for each other.
    fn patiently<T>(&self, mut attempt: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        const PAUSE: Duration = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        loop {
            match attempt() {
                Err(error)
                    if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                        && waited < self.busy_timeout =>
                {
                    thread::sleep(PAUSE);
                    waited += PAUSE;
                }
                done => return done,
            }
        }
    }

    fn failed(&self, error: rusqlite::Error) -> SqliteOpenError {
        open_error(&self.path, error)
    }
}

/// One of a handle's connections, behind a lock of its own.
pub(super) struct Held(Mutex<Slot>);

pub(super) struct Slot {
    place: Arc<Place>,
    role: Role,
    state: State,
    /// How often the connection was opened again.
    epoch: u64,
}

enum State {
    Open(Connection),
    /// Dropped after a failure; opened again when it is next needed.
    Lost,
    Closed,
}

impl Held {
    pub(super) fn new(place: Arc<Place>, role: Role, connection: Connection) -> Self {
        Self(Mutex::new(Slot { place, role, state: State::Open(connection), epoch: 0 }))
    }

    /// A panic in somebody's callback leaves at most a transaction open, and [`Slot::connection`] ends that.
    pub(super) fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works with the connection.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        work(self.lock().connection()?).map_err(store_error)
    }
}

impl Slot {
    /// The connection, outside any transaction; opened again if it was lost.
    pub(super) fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        if self.place.is_inherited() {
            return Err(StoreErrorKind::Forked.into());
        }
        if let State::Open(connection) = &self.state
            && !connection.is_autocommit()
            && connection.execute_batch("ROLLBACK").is_err()
        {
            self.lose();
        }
        if let State::Lost = self.state {
            self.state = State::Open(self.place.reopen(self.role)?);
            self.epoch += 1;
        }
        match &mut self.state {
            State::Open(connection) => Ok(connection),
            State::Lost | State::Closed => Err(StoreErrorKind::Closed.into()),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Drops the connection, after a failure that leaves its view of the file in doubt.
    pub(super) fn lose(&mut self) {
        if let State::Open(_) = self.state {
            self.state = State::Lost;
        }
    }

    /// Brings what the log holds into the database file, as far as nobody else is in the way.
    pub(super) fn empty_the_log(&mut self) -> Result<(), StoreError> {
        if self.place.is_inherited() {
            return Err(StoreErrorKind::Forked.into());
        }
        let State::Open(connection) = &self.state else { return Ok(()) };
        let checkpoint = || {
            connection.busy_timeout(Duration::ZERO)?;
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        };
        checkpoint().map_err(store_error)
    }

    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        if self.place.is_inherited() {
            return Err(StoreErrorKind::Forked.into());
        }
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(connection) => connection.close().map_err(|(_, error)| store_error(error)),
            State::Lost | State::Closed => Ok(()),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.place.is_inherited() {
            // The parent's connection: it must not be closed here.
            std::mem::forget(std::mem::replace(&mut self.state, State::Closed));
        }
    }
}

//! Connections: how one is opened, and how a handle holds its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

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
        let may_be_recovered = file::has_write_ahead_log(&self.path);
        self.accept(&writer)?;
        self.configure(&writer, Role::Writer)?;
        if may_be_recovered {
            self.make_durable(&writer).map_err(|error| self.failed(error))?;
        }
        schema::migrate(&mut writer, &self.path)?;
        let reader = self.connect_reader()?;
        let follower = self.connect_reader()?;
        Ok(Connections { writer, reader, follower })
    }

    fn connect_reader(&self) -> Result<Connection, SqliteOpenError> {
        let reader = self.connect().map_err(|error| self.failed(error))?;
        self.configure(&reader, Role::Reader)?;
        Ok(reader)
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

    /// Syncs the write-ahead log, and moves it into the file as far as that is possible.
    ///
    /// A process that was killed before the sync of its last commit has left that commit in the system's memory.
    /// SQLite reads it from there as it reads any other, and whoever repeats the act's request is told that it is
    /// done: so it must not be lost any more.
    fn make_durable(&self, writer: &Connection) -> rusqlite::Result<()> {
        let moved = self.patiently(|| {
            let busy: bool = writer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(0))?;
            let refusal = || rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None);
            if busy { Err(refusal()) } else { Ok(()) }
        });
        match moved.as_ref().map_err(rusqlite::Error::sqlite_error_code) {
            // The sync of the log comes first, in whatever process is at it.
            Err(Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy)) => Ok(()),
            _ => moved,
        }
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
    /// It failed, and is replaced when it is next needed. Until then it stays: with its last connection a process
    /// gives up the memory that it shares with others, which cannot be had again while the disk is full.
    Lost(Option<Connection>),
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
        let mut slot = self.lock();
        let done = work(slot.connection()?).map_err(store_error);
        if let Err(error) = &done {
            slot.doubt(error);
        }
        done
    }
}

impl Slot {
    /// The connection, outside any transaction; opened again if it was lost.
    pub(super) fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        if self.is_inherited() {
            return Err(StoreErrorKind::Forked.into());
        }
        if let State::Open(connection) = &self.state
            && !connection.is_autocommit()
            && connection.execute_batch("ROLLBACK").is_err()
        {
            self.lose();
        }
        if let State::Lost(_) = self.state {
            self.state = State::Open(self.place.reopen(self.role)?);
            self.epoch += 1;
        }
        match &mut self.state {
            State::Open(connection) => Ok(connection),
            State::Lost(_) | State::Closed => Err(StoreErrorKind::Closed.into()),
        }
    }

    /// Whether this is a forked child's copy of its parent's handle.
    fn is_inherited(&self) -> bool {
        self.place.process != std::process::id()
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Has the connection replaced, after a failure that leaves its view of the file in doubt.
    pub(super) fn lose(&mut self) {
        if let State::Open(_) = self.state
            && let State::Open(connection) = std::mem::replace(&mut self.state, State::Lost(None))
        {
            // One that cannot end its transaction would keep its lock for as long as it stays.
            let is_free = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
            self.state = State::Lost(is_free.then_some(connection));
        }
    }

    /// Has the connection replaced if this error can lie in what it holds of the file.
    pub(super) fn doubt(&mut self, error: &StoreError) {
        if matches!(error.kind(), StoreErrorKind::Io | StoreErrorKind::Corrupt) {
            self.lose();
        }
    }

    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        if self.is_inherited() {
            return Err(StoreErrorKind::Forked.into());
        }
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(connection) | State::Lost(Some(connection)) => {
                connection.close().map_err(|(_, error)| store_error(error))
            }
            State::Lost(None) | State::Closed => Ok(()),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.is_inherited() {
            // The parent's connection: it must not be closed here.
            std::mem::forget(std::mem::replace(&mut self.state, State::Closed));
        }
    }
}

//! Connections: how one is opened, and how a handle holds its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, ffi};

use crate::store::sqlite::error::{SqliteOpenError, open_error, reopen_error};
use crate::store::sqlite::identity::Identity;
use crate::store::sqlite::{file, inspection, schema};
use crate::store::{StoreError, StoreErrorKind};

/// The first SQLite without the bug by which a reset of the write-ahead log could lose commits.
const OLDEST_ENGINE: i32 = 3_051_003;

/// Held while a file is opened, so that no two threads of this process make and prepare one at once.
pub(super) static OPENING: Mutex<()> = Mutex::new(());

/// The files that this process, or one that it was forked from, has open.
static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

#[derive(Debug, PartialEq, Eq)]
struct Opened {
    path: PathBuf,
    process: u32,
}

/// Where the database is, and how long its connections wait for each other.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) busy_timeout: Duration,
    /// The process that opened it: SQLite's locks do not survive a fork, and a child that used or even closed the
    /// connections could damage the file.
    process: u32,
    /// Once a name of the database was seen to stand for another file, each call looks before it answers.
    pub(super) in_doubt: AtomicBool,
}

/// The connections of a handle, and the files that they have open.
pub(super) struct Connections {
    pub(super) writer: Connection,
    pub(super) reader: Connection,
    pub(super) follower: Connection,
    /// Keeps SQLite's shared memory mapped for stamps.
    pub(super) anchor: Connection,
    pub(super) files: Identity,
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Writer,
    Reader,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        // A child's copy of what its parent opened stays noted.
        let is_this =
            |other: &Opened| !self.is_inherited() && other.process == self.process && other.path == self.path;
        if let Some(at) = opened.iter().position(is_this) {
            opened.swap_remove(at);
        }
    }
}

impl Place {
    /// Notes that the file is open here, unless a process that this one was forked from had it open: SQLite, which
    /// keeps its locks by process and remembers them by file, would take that one's for its own, and lock nothing.
    /// <https://sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_>
    pub(super) fn new(path: PathBuf, busy_timeout: Duration) -> Result<Self, SqliteOpenError> {
        let process = std::process::id();
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.iter().any(|other| other.path == path && other.process != process) {
            return Err(SqliteOpenError::OpenBeforeFork { path });
        }
        opened.push(Opened { path: path.clone(), process });
        Ok(Self { path, busy_timeout, process, in_doubt: AtomicBool::new(false) })
    }

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
        self.accept_alone()?;
        let mut writer = self.connect()?;
        // Not before: an overlay file system may give a file another number when it is first opened for writing.
        let before = Identity::of_file(&self.path);
        let may_be_recovered = file::has(&self.path, "-wal");
        self.accept(&writer)?;
        file::keep_private(&self.path)?;
        self.configure(&writer, Role::Writer)?;
        if may_be_recovered {
            self.make_durable(&writer).map_err(|error| self.failed(error))?;
        }
        schema::migrate(&mut writer, &self.path)?;
        let reader = self.connect_as(Role::Reader)?;
        let follower = self.connect_as(Role::Reader)?;
        let anchor = self.connect_as(Role::Reader)?;
        let files = Identity::of(&self.path);
        if !files.may_be(&before) {
            let source = StoreErrorKind::Moved.into();
            return Err(SqliteOpenError::Store { path: self.path.clone(), source });
        }
        Ok(Connections { writer, reader, follower, anchor, files })
    }

    /// One more connection to a database that is open.
    pub(super) fn connect_as(&self, role: Role) -> Result<Connection, SqliteOpenError> {
        let connection = self.connect()?;
        self.configure(&connection, role)?;
        Ok(connection)
    }

    /// Opens one connection again, to a database that was open before.
    pub(super) fn reopen(&self, role: Role, before: &Identity) -> Result<(Connection, Identity), StoreError> {
        // A log and a shared memory may be new ones: between two connections there may have been none.
        let is_moved = || !Identity::of_file(&self.path).may_be(before);
        if is_moved() {
            return Err(self.moved());
        }
        inspection::inspect(&self.path).map_err(reopen_error)?;
        let connection = self.connect().map_err(reopen_error)?;
        let found = self.accept(&connection).map_err(reopen_error)?;
        if found != schema::SUPPORTED {
            return Err(StoreError::new(StoreErrorKind::Corrupt, "the database file was exchanged"));
        }
        self.configure(&connection, role).map_err(reopen_error)?;
        if is_moved() { Err(self.moved()) } else { Ok((connection, Identity::of(&self.path))) }
    }

    pub(super) fn moved(&self) -> StoreError {
        self.in_doubt.store(true, Ordering::Relaxed);
        StoreErrorKind::Moved.into()
    }

    /// A connection that has changed nothing yet and does not wait. It makes no file and follows no symbolic link.
    fn connect(&self) -> Result<Connection, SqliteOpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
        let connect = || {
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(Duration::ZERO)?;
            connection.set_prepared_statement_cache_capacity(64);
            // SQLite opens what it may not write for reading only, and says nothing.
            Ok((connection.is_readonly(MAIN_DB)?, connection))
        };
        match connect().map_err(|error| self.failed(error))? {
            (true, _) => Err(SqliteOpenError::ReadOnlyFile { path: self.path.clone() }),
            (false, connection) => Ok(connection),
        }
    }

    /// The schema of the database, when it is ours or empty; reads only.
    fn accept(&self, connection: &Connection) -> Result<u32, SqliteOpenError> {
        let failed = |error| self.failed(error);
        // A log left by a crash would be written into the file when a refused connection closes.
        let spare = |on| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, on);
        spare(file::has(&self.path, "-wal")).map_err(failed)?;
        // In one transaction, because another process may be making the tables, or writing the log into the file.
        let moment = self.patiently(|| {
            let moment = connection.unchecked_transaction()?;
            Ok((schema::recognise(&moment)?, moment))
        });
        let (found, moment) = moment.map_err(failed)?;
        self.measure(found.bytes)?;
        let version = found.accept(&self.path)?;
        if let Some(object) = schema::altered(&moment, version).map_err(failed)? {
            return Err(SqliteOpenError::AlteredSchema { path: self.path.clone(), object });
        }
        moment.finish().map_err(failed)?;
        spare(false).map_err(failed)?;
        Ok(version)
    }

    /// Looks at a log of a crash whose shared memory is gone without making that anew, as it would be left behind by a
    /// refusal. It takes the database for itself; whoever has it open already has made the shared memory too.
    fn accept_alone(&self) -> Result<(), SqliteOpenError> {
        if !file::has(&self.path, "-wal") || file::has(&self.path, "-shm") {
            return Ok(());
        }
        let alone = self.connect()?;
        let locked = alone.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()));
        locked.map_err(|error| self.failed(error))?;
        match self.accept(&alone) {
            Ok(_) | Err(SqliteOpenError::Busy { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Refuses a file whose end is missing: SQLite notices only whole pages. What a log holds need not be in the file.
    fn measure(&self, expected: u64) -> Result<(), SqliteOpenError> {
        let length = |path: &Path| fs::symlink_metadata(path).map(|found| found.len());
        if length(&inspection::beside(&self.path, "-wal")).is_ok_and(|log| log > 0) {
            return Ok(());
        }
        match length(&self.path) {
            Ok(found) if found < expected => {
                Err(SqliteOpenError::Truncated { path: self.path.clone(), found, expected })
            }
            _ => Ok(()),
        }
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
        self.wait_for_others(connection).map_err(|error| self.failed(error))?;
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

    /// Puts the busy timeout in force.
    pub(super) fn wait_for_others(&self, connection: &Connection) -> rusqlite::Result<()> {
        // rusqlite panics on more milliseconds than fit an i32.
        let longest = Duration::from_millis(i32::MAX.unsigned_abs().into());
        connection.busy_timeout(self.busy_timeout.min(longest))
    }

    /// Tries again while another process is opening the file too. SQLite's own waiting is no help, as it answers *busy*
    /// at once where two connections would wait for each other; and it is off here, as it would wait at each attempt.
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

    /// Whether this is a forked child's copy of its parent's handle.
    pub(super) fn is_inherited(&self) -> bool {
        self.process != std::process::id()
    }

    fn failed(&self, error: rusqlite::Error) -> SqliteOpenError {
        open_error(&self.path, error)
    }
}

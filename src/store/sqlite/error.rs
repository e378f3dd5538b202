//! What SQLite's result codes mean to a store, and why a database file cannot be opened.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use crate::store::{StoreError, StoreErrorKind};

/// A database file cannot be opened as a store; whatever lies there was not changed.
///
/// `path` is the database file, or that of its companions (`-wal`, `-shm`, `-journal`) which is at fault.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SqliteOpenError {
    /// The path is empty; such a database ends with its connection.
    #[error("an empty path names no file; name one, or use MemoryStore")]
    EmptyPath,
    /// The path is `:memory:`; such a database ends with its connection.
    #[error("`:memory:` names no file; name one, or use MemoryStore")]
    InMemory,
    /// The path begins with `file:`, as a URI does; settings in a URI could switch off what the store relies on.
    #[error("{path:?} is a URI; name the file by its path (./file:… where a file is really called so)")]
    Uri {
        /// The path.
        path: PathBuf,
    },
    /// The path holds a NUL byte, at which SQLite would cut it off.
    #[error("{path:?} holds a NUL byte; name a file without")]
    NulInPath {
        /// The path.
        path: PathBuf,
    },
    /// SQLite cannot name a file this long, with the names of its log and journal.
    #[error("{path:?} is longer than SQLite can open; use a shorter path")]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The path names a directory, or one lies where a file of SQLite belongs.
    #[error("{path:?} is a directory; name the database file itself, or move the directory away")]
    Directory {
        /// The path.
        path: PathBuf,
    },
    /// The path names a FIFO, a socket or a device, or one lies where a file of SQLite belongs.
    #[error("{path:?} is a FIFO, a socket or a device; name a regular file, or move it away")]
    SpecialFile {
        /// The path.
        path: PathBuf,
    },
    /// The path names a symbolic link, behind which the file could be exchanged; or one lies where a file of SQLite
    /// belongs. The directory may be named through links.
    #[error("{path:?} is a symbolic link; name the database file itself, or move the link away")]
    SymbolicLink {
        /// The path.
        path: PathBuf,
    },
    /// The file has another name too, and under each name SQLite would keep a log of its own.
    #[error("{path:?} has {names} names (hard links); leave it one, or open a copy")]
    HardLinked {
        /// The path.
        path: PathBuf,
        /// How many names it has.
        names: u64,
    },
    /// The folder of the file does not exist, or is none.
    #[error("the folder of {path:?} does not exist; make it first")]
    FolderMissing {
        /// The path.
        path: PathBuf,
    },
    /// This process may not search the folder of the file.
    #[error("the folder of {path:?} may not be searched by this process; let it")]
    FolderForbidden {
        /// The path.
        path: PathBuf,
    },
    /// This process may not write in the folder of the file, where the write-ahead log has to lie.
    #[error(
        "the folder of {path:?} may not be written by this process, and the log has to lie there; let it"
    )]
    ReadOnlyFolder {
        /// The path.
        path: PathBuf,
    },
    /// The file may not be read and written by its owner, or its file system may not be written. The rights that count
    /// are those of the file: root is refused as well.
    #[error("{path:?} may not be read and written; give its owner both rights (chmod 600)")]
    ReadOnlyFile {
        /// The path.
        path: PathBuf,
    },
    /// The file belongs to another user than the one this process runs as; root is refused as well, as its files
    /// would lock out the other.
    #[error(
        "{path:?} belongs to user {owner} and this process runs as {user}; run it as {owner}, or change the owner"
    )]
    WrongOwner {
        /// The path.
        path: PathBuf,
        /// The user id of the file.
        owner: u32,
        /// The effective user id of this process.
        user: u32,
    },
    /// Others may use the file, and the file system did not let that be changed.
    #[error("{path:?} stays open to others (mode {mode:o}); move it to a file system that keeps permissions")]
    NotPrivate {
        /// The path.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file can neither be found nor made, for some other reason.
    #[error("{path:?} can neither be found nor made; see what the system says")]
    Unreachable {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A write-ahead log lies there without its database: the file is missing or empty. To open it would delete the log.
    #[error("{path:?} is missing or empty and its -wal is there; put the file back, or move the -wal away")]
    LogWithoutDatabase {
        /// The path.
        path: PathBuf,
    },
    /// What lies in the place of the write-ahead log is none; to open the database would write over it.
    #[error("{path:?} is not a write-ahead log; move it away")]
    NotALog {
        /// The path.
        path: PathBuf,
    },
    /// A rollback journal that this library did not leave lies beside the file; to open the database would play it back.
    #[error(
        "beside {path:?} lies the journal of another program; let that program finish, or the sqlite3 shell recover the file"
    )]
    Journal {
        /// The path.
        path: PathBuf,
    },
    /// The file is not an SQLite database, or an encrypted one.
    #[error("{path:?} is not an SQLite database, or an encrypted one; check the path")]
    NotADatabase {
        /// The path.
        path: PathBuf,
    },
    /// The file is a damaged SQLite database.
    #[error("{path:?} is a damaged database; restore a backup")]
    Corrupt {
        /// The path.
        path: PathBuf,
        /// What SQLite said.
        source: StoreError,
    },
    /// The end of the file is missing.
    #[error("{path:?} has {found} bytes of {expected}; restore a backup")]
    Truncated {
        /// The path.
        path: PathBuf,
        /// How many bytes the file has.
        found: u64,
        /// How many it says that it has.
        expected: u64,
    },
    /// The file is a database of another application.
    #[error("{path:?} is a database of another application; give keyrota a file of its own")]
    ForeignDatabase {
        /// The path.
        path: PathBuf,
    },
    /// The database keeps text in another encoding than UTF-8, in which names have another order.
    #[error("{path:?} keeps text as {encoding}; give keyrota a file of its own")]
    ForeignEncoding {
        /// The path.
        path: PathBuf,
        /// The encoding.
        encoding: String,
    },
    /// A table, index, view or trigger of the store is missing, was altered, or was added to a table of the store.
    #[error(
        "{object} of {path:?} was altered, dropped or added by somebody else; undo that, or restore a backup"
    )]
    AlteredSchema {
        /// The path.
        path: PathBuf,
        /// What it is, by its name.
        object: String,
    },
    /// A later version of keyrota wrote the file.
    #[error("{path:?} has schema {found}, and this keyrota knows up to {supported}; use a later keyrota")]
    NewerSchema {
        /// The path.
        path: PathBuf,
        /// The schema of the file.
        found: u32,
        /// The latest schema that this version of the library knows.
        supported: u32,
    },
    /// The file system cannot share memory between processes, which write-ahead logging needs.
    #[error(
        "{path:?} cannot use write-ahead logging (it stays in mode {mode:?}); move it to a local file system"
    )]
    NoWriteAheadLog {
        /// The path.
        path: PathBuf,
        /// The journal mode that the database has instead.
        mode: String,
    },
    /// Another process holds the database locked for longer than the busy timeout.
    #[error("{path:?} is locked by another process; end that process, or try again")]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// The process was forked while its parent had the file open, which SQLite's locks do not survive.
    #[error("{path:?} was open when this process was forked; open it after the fork, or close it before")]
    OpenBeforeFork {
        /// The path.
        path: PathBuf,
    },
    /// SQLite below 3.51.3 can lose commits when the write-ahead log is reset.
    #[error("SQLite {found} can lose commits; link 3.51.3 or later, as the bundled one is")]
    OldEngine {
        /// The version of the SQLite that is linked.
        found: String,
    },
    /// SQLite could not open the file for some other reason.
    #[error("{path:?} could not be opened: {source}; see what SQLite says")]
    Store {
        /// The path.
        path: PathBuf,
        /// What sort of trouble it is.
        source: StoreError,
    },
}

crate::text::debug_as_told!(SqliteOpenError);

/// A backup could not be written or read; the database itself was not changed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// There is a file of that name; nothing is written over. Name another, or move it away.
    #[error("{path:?} is there already, and nothing is written over; name another file")]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The backup file holds nothing.
    #[error("{path:?} holds no store; check the path")]
    Empty {
        /// The path.
        path: PathBuf,
    },
    /// A file cannot be opened as a store, or made.
    #[error(transparent)]
    Open(#[from] SqliteOpenError),
    /// The file could not get its name.
    #[error("{path:?} could not be written")]
    Output {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was copied is damaged, and so is what it was copied from.
    #[error("the database is damaged and was not copied ({finding}); restore an earlier backup")]
    Damaged {
        /// What SQLite found first.
        finding: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

crate::text::debug_as_told!(BackupError);

impl From<StoreErrorKind> for BackupError {
    fn from(kind: StoreErrorKind) -> Self {
        Self::Store(kind.into())
    }
}

/// The kind of trouble behind an error of SQLite.
fn kind(error: &rusqlite::Error) -> StoreErrorKind {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            StoreErrorKind::Busy
        }
        Some(ErrorCode::DiskFull) => StoreErrorKind::Full,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreErrorKind::ReadOnly,
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => StoreErrorKind::Io,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Other,
    }
}

/// An error of SQLite as the port tells it.
pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    StoreError::new(kind(&error), error)
}

/// An error of SQLite while a file was being opened.
pub(super) fn open_error(path: &Path, error: rusqlite::Error) -> SqliteOpenError {
    let path = path.to_owned();
    match error.sqlite_error().map(|error| error.extended_code) {
        Some(ffi::SQLITE_NOTADB) => return SqliteOpenError::NotADatabase { path },
        Some(ffi::SQLITE_CANTOPEN_SYMLINK) => return SqliteOpenError::SymbolicLink { path },
        Some(ffi::SQLITE_READONLY_DIRECTORY) => return SqliteOpenError::ReadOnlyFolder { path },
        // A number in its header is of no known format.
        Some(ffi::SQLITE_ERROR) => return SqliteOpenError::Corrupt { path, source: store_error(error) },
        _ => {}
    }
    match kind(&error) {
        StoreErrorKind::Busy => SqliteOpenError::Busy { path },
        StoreErrorKind::ReadOnly => SqliteOpenError::ReadOnlyFile { path },
        StoreErrorKind::Corrupt => SqliteOpenError::Corrupt { path, source: store_error(error) },
        _ => SqliteOpenError::Store { path, source: store_error(error) },
    }
}

/// The error of opening a connection again, as the port tells it.
pub(super) fn reopen_error(error: SqliteOpenError) -> StoreError {
    let kind = match &error {
        SqliteOpenError::Store { source, .. } => source.kind(),
        SqliteOpenError::Busy { .. } => StoreErrorKind::Busy,
        SqliteOpenError::ReadOnlyFile { .. } | SqliteOpenError::ReadOnlyFolder { .. } => {
            StoreErrorKind::ReadOnly
        }
        SqliteOpenError::FolderMissing { .. }
        | SqliteOpenError::FolderForbidden { .. }
        | SqliteOpenError::Unreachable { .. } => StoreErrorKind::Io,
        _ => StoreErrorKind::Corrupt,
    };
    StoreError::new(kind, error)
}

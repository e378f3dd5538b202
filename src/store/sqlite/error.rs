//! What SQLite's result codes mean to a store, and why a database file cannot be opened.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

use crate::store::{StoreError, StoreErrorKind};

/// A database file cannot be opened as a store; whatever the file holds was not changed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SqliteOpenError {
    /// The path is empty or `:memory:`, and such a database ends with its connection.
    #[error("an empty path or `:memory:` names no file; name one, or use MemoryStore")]
    NoFile,
    /// The path names a directory, a device or the like.
    #[error("{path:?} is not a regular file; name the database file itself")]
    NotARegularFile {
        /// The path.
        path: PathBuf,
    },
    /// The path names a symbolic link, behind which the file could be exchanged.
    #[error("{path:?} is a symbolic link; name the database file itself")]
    SymbolicLink {
        /// The path.
        path: PathBuf,
    },
    /// The file can neither be found nor made; its directory has to exist and be writable.
    #[error("{path:?} can neither be found nor made; make its directory and let this process write there")]
    Unreachable {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not an SQLite database.
    #[error("{path:?} is not an SQLite database; check the path")]
    NotADatabase {
        /// The path.
        path: PathBuf,
    },
    /// The file is a database of another application.
    #[error("{path:?} is a database of another application; give keyrota a file of its own")]
    ForeignDatabase {
        /// The path.
        path: PathBuf,
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
    /// SQLite below 3.51.3 can lose commits when the write-ahead log is reset.
    #[error("SQLite {found} can lose commits; link 3.51.3 or later, as the bundled one is")]
    OldEngine {
        /// The version of the SQLite that is linked.
        found: String,
    },
    /// SQLite could not open the file.
    #[error("{path:?} could not be opened: {source}")]
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
        Some(ffi::SQLITE_NOTADB) => SqliteOpenError::NotADatabase { path },
        Some(ffi::SQLITE_CANTOPEN_SYMLINK) => SqliteOpenError::SymbolicLink { path },
        _ => SqliteOpenError::Store { path, source: store_error(error) },
    }
}

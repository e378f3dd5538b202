//! The database file: which one a path names, how a new one is made, and how all are kept private.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf, is_separator};

use crate::store::sqlite::error::SqliteOpenError;
use crate::store::sqlite::inspection::{self, beside};

/// The file that a path names, with its directory made absolute and free of symbolic links.
///
/// Absolute for two reasons: connections are opened again later, after the process may have changed its
/// directory; and the bundled SQLite reads every name that begins with `file:` as a URI, whatever the flags say.
pub(super) fn resolve(named: &Path) -> Result<PathBuf, SqliteOpenError> {
    let path = || named.to_owned();
    let bytes = named.as_os_str().as_encoded_bytes();
    if bytes.is_empty() {
        return Err(SqliteOpenError::EmptyPath);
    } else if bytes == b":memory:" {
        return Err(SqliteOpenError::InMemory);
    } else if bytes.starts_with(b"file:") {
        return Err(SqliteOpenError::Uri { path: path() });
    } else if bytes.contains(&0) {
        return Err(SqliteOpenError::NulInPath { path: path() });
    }
    let names_a_directory = bytes.last().is_some_and(|&byte| is_separator(char::from(byte)));
    let Some(name) = named.file_name().filter(|_| !names_a_directory) else {
        return Err(SqliteOpenError::Directory { path: path() });
    };
    let directory = named.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = fs::canonicalize(directory).map_err(|source| unreachable(named, source))?;
    let resolved = directory.join(name);
    // SQLite's limit on Unix is 512 bytes, of which it keeps 8 for `-journal`.
    if cfg!(unix) && resolved.as_os_str().len() > 504 {
        return Err(SqliteOpenError::PathTooLong { path: path() });
    }
    Ok(resolved)
}

/// Makes the file, readable by its owner only, unless it is there; refuses what must not be opened.
pub(super) fn ensure(path: &Path) -> Result<(), SqliteOpenError> {
    if inspection::inspect(path)? {
        return Ok(());
    }
    match create(path) {
        // Somebody else was quicker: what lies there now is looked at like any other.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => inspection::inspect(path).map(drop),
        done => done.map_err(|source| unreachable(path, source)),
    }
}

/// Takes every right from others than the owner, which a copy or a backup that was put back may have given.
#[cfg(unix)]
pub(super) fn keep_private(path: &Path) -> Result<(), SqliteOpenError> {
    use std::os::unix::fs::PermissionsExt as _;
    for path in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        let mode = || Some(fs::symlink_metadata(&path).ok()?.permissions().mode() & 0o7777);
        let is_open = |mode: &u32| mode & 0o077 != 0;
        if let Some(found) = mode().filter(is_open) {
            let private = fs::Permissions::from_mode(found & 0o700);
            // Whether it helped is what counts.
            drop(fs::set_permissions(&path, private));
            if let Some(mode) = mode().filter(is_open) {
                return Err(SqliteOpenError::NotPrivate { path, mode });
            }
        }
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn keep_private(_: &Path) -> Result<(), SqliteOpenError> {
    Ok(())
}

/// Whether this companion lies beside the file.
pub(super) fn has(path: &Path, suffix: &str) -> bool {
    fs::symlink_metadata(beside(path, suffix)).is_ok()
}

fn create(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    // The umask can only have taken bits away; SQLite gives its companion files the mode of this one.
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    drop(file);
    Ok(())
}

/// What the system's refusal to look at a path means.
pub(super) fn unreachable(path: &Path, source: io::Error) -> SqliteOpenError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => SqliteOpenError::FolderMissing { path },
        io::ErrorKind::PermissionDenied => SqliteOpenError::FolderForbidden { path },
        _ => SqliteOpenError::Unreachable { path, source },
    }
}

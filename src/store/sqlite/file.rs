//! The database file: which one a path names, and how a new one is made.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::store::sqlite::error::SqliteOpenError;

/// The file that a path names, with its directory made absolute and free of symbolic links.
///
/// Absolute for two reasons: connections are opened again later, after the process may have changed its
/// directory; and the bundled SQLite reads every name that begins with `file:` as a URI, whatever the flags say.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, SqliteOpenError> {
    if path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return Err(SqliteOpenError::NoFile);
    }
    let Some(name) = path.file_name() else {
        return Err(SqliteOpenError::NotARegularFile { path: path.to_owned() });
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let directory = fs::canonicalize(directory).map_err(|source| unreachable(path, source))?;
    Ok(directory.join(name))
}

/// Makes the file, readable by its owner only, unless it is there.
///
/// A file that is there is only looked at by its name: to open and close it would drop the locks that SQLite
/// holds on it in this process.
pub(super) fn ensure(path: &Path) -> Result<(), SqliteOpenError> {
    match create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(path).map_err(|source| unreachable(path, source))?;
            if found.is_symlink() {
                Err(SqliteOpenError::SymbolicLink { path: path.to_owned() })
            } else if found.is_file() {
                Ok(())
            } else {
                Err(SqliteOpenError::NotARegularFile { path: path.to_owned() })
            }
        }
        Err(error) => Err(unreachable(path, error)),
    }
}

/// Whether the write-ahead log beside the file holds anything.
pub(super) fn has_write_ahead_log(path: &Path) -> bool {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    fs::metadata(name).is_ok_and(|log| log.len() > 0)
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

fn unreachable(path: &Path, source: io::Error) -> SqliteOpenError {
    SqliteOpenError::Unreachable { path: path.to_owned(), source }
}

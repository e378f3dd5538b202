//! Whether the names of a database still stand for the files that a connection has open.

use std::fs;
use std::io;
use std::path::Path;

use crate::store::sqlite::inspection::beside;

/// Which files stood behind the names of the database, its log and its shared memory when a connection was opened.
///
/// As long as a connection is open, nobody who keeps to SQLite's protocol exchanges any of the three. By names
/// alone, because to open and close them would drop SQLite's locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity([Seen; 3]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// Device and number on the device.
    File(u64, u64),
    Nothing,
    /// The system does not say, as after the process gave up its rights to the folder.
    Unknown,
}

impl Identity {
    pub(super) fn of(path: &Path) -> Self {
        Self([look(path), look(&beside(path, "-wal")), look(&beside(path, "-shm"))])
    }

    /// The same of the database file alone.
    pub(super) fn of_file(path: &Path) -> Self {
        Self([look(path), Seen::Unknown, Seen::Unknown])
    }

    /// Whether nothing is known to be another file, or gone.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&other.0);
        pairs.all(|(a, b)| a == b || matches!((a, b), (Seen::Unknown, _) | (_, Seen::Unknown)))
    }
}

fn look(path: &Path) -> Seen {
    match fs::symlink_metadata(path) {
        #[cfg(unix)]
        Ok(found) => {
            use std::os::unix::fs::MetadataExt as _;
            Seen::File(found.dev(), found.ino())
        }
        #[cfg(not(unix))]
        Ok(_) => Seen::File(0, 0),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Seen::Nothing
        }
        Err(_) => Seen::Unknown,
    }
}

//! What lies at the path of a database and beside it, before SQLite touches any of it.
//!
//! All is looked at by its name. To open and close the database or its `-shm` would drop the locks that SQLite
//! holds on them in this process; the log and the journal are never locked, and their first bytes are read.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::store::sqlite::error::SqliteOpenError;
use crate::store::sqlite::file::unreachable;

/// The file of SQLite that belongs to a database and lies beside it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(OsStr::new(suffix));
    name.into()
}

/// Refuses what SQLite must not touch, and says whether the file is there.
///
/// Another process may be founding a store here at this moment. It makes the file before a log, and has its journal
/// only while the file is at most one page long; hence the order of the looks.
pub(super) fn inspect(path: &Path) -> Result<bool, SqliteOpenError> {
    let (log, journal) = (beside(path, "-wal"), beside(path, "-journal"));
    let found_log = fit(&log)?;
    let found = fit(path)?;
    let found_journal = fit(&journal)?;
    fit(&beside(path, "-shm"))?;
    may_write_in_folder(path)?;
    let length = found.as_ref().map_or(0, Metadata::len);
    if found_log.is_some() {
        if length <= EMPTY {
            return Err(SqliteOpenError::LogWithoutDatabase { path: path.to_owned() });
        }
        if !is_log(&first_bytes(&log)?) {
            return Err(SqliteOpenError::NotALog { path: log });
        }
    }
    let remains = match found_journal {
        Some(_) => Journal::of(&first_bytes(&journal)?, length),
        None => Journal::Spent,
    };
    if remains == Journal::Others {
        return Err(SqliteOpenError::Journal { path: path.to_owned() });
    }
    if length == EMPTY && remains == Journal::Spent {
        return Err(SqliteOpenError::NotADatabase { path: path.to_owned() });
    }
    Ok(found.is_some())
}

/// SQLite takes a file of one byte for an empty one, and would write over it.
const EMPTY: u64 = 1;

/// Looks at one of the files; `None` if there is none.
fn fit(path: &Path) -> Result<Option<Metadata>, SqliteOpenError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreachable(path, error)),
    };
    let path = || path.to_owned();
    if found.is_symlink() {
        return Err(SqliteOpenError::SymbolicLink { path: path() });
    } else if found.is_dir() {
        return Err(SqliteOpenError::Directory { path: path() });
    } else if !found.is_file() {
        return Err(SqliteOpenError::SpecialFile { path: path() });
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let user = rustix::process::geteuid().as_raw();
        if found.uid() != user {
            return Err(SqliteOpenError::WrongOwner { path: path(), owner: found.uid(), user });
        } else if found.nlink() > 1 {
            return Err(SqliteOpenError::HardLinked { path: path(), names: found.nlink() });
        } else if found.mode() & 0o600 != 0o600 {
            return Err(SqliteOpenError::ReadOnlyFile { path: path() });
        }
    }
    #[cfg(not(unix))]
    if found.permissions().readonly() {
        return Err(SqliteOpenError::ReadOnlyFile { path: path() });
    }
    Ok(Some(found))
}

#[cfg(unix)]
fn may_write_in_folder(path: &Path) -> Result<(), SqliteOpenError> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    use rustix::io::Errno;
    let folder = path.parent().unwrap_or(path);
    match accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
            Err(SqliteOpenError::ReadOnlyFolder { path: path.to_owned() })
        }
        // What else there is to say, making or opening a file says better.
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn may_write_in_folder(_: &Path) -> Result<(), SqliteOpenError> {
    Ok(())
}

/// The length of a journal's header, as far as it is looked at.
const HEADER: usize = 28;

fn first_bytes(path: &Path) -> Result<Vec<u8>, SqliteOpenError> {
    let mut bytes = Vec::with_capacity(HEADER);
    match File::open(path).and_then(|file| file.take(HEADER as u64).read_to_end(&mut bytes)) {
        // Whoever owned it has just deleted it.
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unreachable(path, error)),
        _ => Ok(bytes),
    }
}

/// Whether a write-ahead log may begin like this. A loss of power can leave a new one cut off or full of zeros.
fn is_log(bytes: &[u8]) -> bool {
    const MAGIC: [[u8; 4]; 3] = [[0x37, 0x7f, 0x06, 0x82], [0x37, 0x7f, 0x06, 0x83], [0; 4]];
    let begun = bytes.get(..4).unwrap_or(bytes);
    MAGIC.iter().any(|magic| magic.starts_with(begun))
}

/// What the journal beside a file is to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Journal {
    /// It is over, or not begun, and there is nothing in it that is not in the file.
    Spent,
    /// A store was being founded: it was begun on a file without pages, of which at most the first was written since.
    Founding,
    Others,
}

impl Journal {
    fn of(bytes: &[u8], length: u64) -> Self {
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let (pages_before, page) = (word(16), word(24));
        match bytes.first() {
            None => Self::Spent,
            // Its header is wiped, or not written yet. Beside a file without pages SQLite would delete it all the same.
            Some(0) if length > EMPTY => Self::Spent,
            _ if pages_before == Some(0) && page.is_some_and(|page| length <= page.into()) => Self::Founding,
            _ => Self::Others,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_known_by_its_first_four_bytes() {
        for log in [&b""[..], &[0; 3], &[0; 28], &[0x37], &[0x37, 0x7f, 6, 0x82, 9], &[0x37, 0x7f, 6, 0x83]] {
            assert!(is_log(log), "{log:?}");
        }
        for other in [&b"x"[..], &[0, 0, 1], &[0, 0, 0, 1], &[0x37, 0x7f, 6, 0x84], b"SQLite format 3\0"] {
            assert!(!is_log(other), "{other:?}");
        }
    }

    #[test]
    fn a_journal_is_a_founding_s_only_on_no_page_and_beside_one_at_most() {
        let journal = |first: u8, pages: u8| {
            let mut bytes = vec![first];
            bytes.extend(b"\xd5\x05\xf9\x20\xa1\x63\xd7");
            bytes.extend([0, 0, 0, 0, 7, 7, 7, 7, 0, 0, 0, pages, 0, 0, 2, 0, 0, 0, 16, 0]);
            bytes
        };
        let [founding, others] = [0, 1].map(|pages| journal(0xd9, pages));
        for (bytes, length, expected) in [
            (&founding[..], 0, Journal::Founding),
            (&founding, 1, Journal::Founding),
            (&founding, 4_096, Journal::Founding),
            (&founding, 4_097, Journal::Others),
            (&founding[..27], 0, Journal::Others),
            (&others, 0, Journal::Others),
            (&others, 4_096, Journal::Others),
            (b"", 0, Journal::Spent),
            (b"", 9_999, Journal::Spent),
            (&[0; 28], 9_999, Journal::Spent),
            (&journal(0, 1), 4_096, Journal::Spent),
            (&journal(0, 1), 0, Journal::Others),
            (&journal(0, 1), 1, Journal::Others),
            (b"text", 0, Journal::Others),
            (b"text", 4_096, Journal::Others),
        ] {
            assert_eq!(Journal::of(bytes, length), expected, "{bytes:?} beside {length} bytes");
        }
    }
}

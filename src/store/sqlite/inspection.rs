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
        if length == 0 {
            return Err(SqliteOpenError::LogWithoutDatabase { path: path.to_owned() });
        }
        if !is_log(&first_bytes(&log)?) {
            return Err(SqliteOpenError::NotALog { path: log });
        }
    }
    if found_journal.is_some() && !is_spent(&first_bytes(&journal)?, length) {
        return Err(SqliteOpenError::Journal { path: path.to_owned() });
    }
    Ok(found.is_some())
}

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

fn may_write_in_folder(path: &Path) -> Result<(), SqliteOpenError> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        use rustix::fs::{Access, AtFlags, CWD, accessat};
        use rustix::io::Errno;
        match accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => {
                return Err(SqliteOpenError::ReadOnlyFolder { path: path.to_owned() });
            }
            // What else there is to say, making or opening a file says better.
            _ => {}
        }
    }
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

/// Whether a write-ahead log may begin like this. A loss of power can leave a new one empty or full of zeros.
fn is_log(bytes: &[u8]) -> bool {
    match bytes.first_chunk() {
        Some(magic) => matches!(u32::from_be_bytes(*magic), 0 | 0x377f_0682 | 0x377f_0683),
        None => bytes.iter().all(|byte| *byte == 0),
    }
}

/// Whether a journal that begins like this holds nothing of the file: it is over, or it is that of a founding, which
/// was begun on no page and has written at most the first.
fn is_spent(bytes: &[u8], length: u64) -> bool {
    let word =
        |at: usize| bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
    let (pages_before, page) = (word(16), word(24));
    match bytes.first() {
        None => true,
        // Its header is wiped, or not written yet. On a file without pages SQLite would delete it all the same.
        Some(0) if length > 0 => true,
        _ => pages_before == Some(0) && page.is_some_and(|page| length <= page.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_known_by_its_first_four_bytes() {
        for log in [&b""[..], &[0; 3], &[0; 28], &[0x37, 0x7f, 6, 0x82, 9], &[0x37, 0x7f, 6, 0x83]] {
            assert!(is_log(log), "{log:?}");
        }
        for other in [&b"x"[..], &[0, 0, 1], &[0, 0, 0, 1], &[0x37, 0x7f, 6, 0x84], b"SQLite format 3\0"] {
            assert!(!is_log(other), "{other:?}");
        }
    }

    #[test]
    fn only_a_founding_s_journal_and_one_that_is_over_are_spent() {
        let journal = |pages: u8| {
            let mut bytes = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7".to_vec();
            bytes.extend([0, 0, 0, 0, 7, 7, 7, 7, 0, 0, 0, pages, 0, 0, 2, 0, 0, 0, 16, 0]);
            bytes
        };
        assert!(is_spent(&journal(0), 0) && is_spent(&journal(0), 4_096));
        assert!(!is_spent(&journal(0), 4_097), "more than a founding writes by a journal");
        assert!(!is_spent(&journal(1), 0) && !is_spent(&journal(1), 4_096));
        assert!(is_spent(b"", 0) && is_spent(b"", 9_999));
        assert!(is_spent(&[0; 28], 9_999), "wiped");
        let mut wiped = journal(1);
        wiped[0] = 0;
        assert!(is_spent(&wiped, 4_096) && !is_spent(&wiped, 0), "its pages are still in it");
        assert!(!is_spent(b"text", 0) && !is_spent(b"text", 4_096));
    }
}

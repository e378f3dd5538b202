//! A folder with a database in it, and what lies there.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use keyrota::{Actor, KeyManager, Keyring, NewKey, OwnerId, SqliteOpenError, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) struct Scene {
    folder: TempDir,
}

/// What one name of a folder stands for, as a refusal must leave it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Thing {
    inode: u64,
    mode: u32,
    owner: u32,
    /// Of a regular file; a link's text for a link. SQLite may rebuild what lies in a `-shm`.
    bytes: Vec<u8>,
}

/// All that lies in a folder.
pub(crate) fn things(folder: &Path) -> BTreeMap<OsString, Thing> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let found = fs::symlink_metadata(&path).unwrap();
        let is_shared_memory = path.as_os_str().as_encoded_bytes().ends_with(b"-shm");
        let bytes = if found.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else if found.is_file() && !is_shared_memory {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        let name = path.file_name().unwrap().to_owned();
        (name, Thing { inode: found.ino(), mode: found.mode(), owner: found.uid(), bytes })
    });
    entries.collect()
}

impl Scene {
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self { folder: folder.unwrap() }
    }

    /// With a store in which [`works`] finds its keys, closed.
    pub(crate) fn founded() -> Self {
        let scene = Self::new();
        works(&scene.file());
        assert_eq!(scene.names(), ["keys.db"], "closing leaves the file alone");
        scene
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder().join("keys.db")
    }

    pub(crate) fn beside(&self, suffix: &str) -> PathBuf {
        self.folder().join(format!("keys.db{suffix}"))
    }

    pub(crate) fn names(&self) -> Vec<OsString> {
        things(self.folder()).into_keys().collect()
    }

    /// A SQL shell on the file.
    pub(crate) fn shell(&self) -> Connection {
        Connection::open(self.file()).unwrap()
    }

    /// Lets a SQL shell do this to the file.
    pub(crate) fn sql(&self, sql: &str) -> &Self {
        let shell = self.shell();
        shell.execute_batch(sql).unwrap();
        shell.close().unwrap();
        self
    }

    /// Another folder with copies of the regular files as they are now, as a crash at this moment leaves them, with or
    /// without the shared memory.
    pub(crate) fn crashed(&self, suffixes: &[&str]) -> Self {
        let other = Self::new();
        for suffix in suffixes {
            fs::copy(self.beside(suffix), other.beside(suffix)).unwrap();
        }
        other
    }

    /// Opens the file, which may be refused, but then nothing is changed by it.
    pub(crate) fn opened_or_unchanged(&self) -> Result<SqliteStore, SqliteOpenError> {
        let before = things(self.folder());
        let opened = open(self.file());
        if let Err(error) = &opened {
            assert_eq!(things(self.folder()), before, "changed by a refusal: {error}");
        }
        opened
    }

    /// The error by which the file is refused, twice, and nothing is changed by it.
    pub(crate) fn refused(&self) -> SqliteOpenError {
        self.refused_as(self.file())
    }

    /// The same of another name.
    pub(crate) fn refused_as(&self, path: impl AsRef<Path>) -> SqliteOpenError {
        let path = path.as_ref();
        let before = things(self.folder());
        let error = open(path).unwrap_err();
        assert_eq!(things(self.folder()), before, "changed by a refusal: {error}");
        let text = error.to_string();
        assert_eq!(open(path).unwrap_err().to_string(), text, "refused for the same reason again");
        assert_eq!(things(self.folder()), before, "changed by the second refusal: {error}");
        assert!(text.contains("; ") && !text.contains('\n'), "what to do about it: {text}");
        error
    }
}

/// Opens without waiting long for a lock.
pub(crate) fn open(path: impl AsRef<Path>) -> Result<SqliteStore, SqliteOpenError> {
    SqliteStore::options().busy_timeout(Duration::from_millis(50)).open(path)
}

pub(crate) fn keyring() -> Keyring {
    Keyring::from_bytes(&std::array::from_fn(|i| (i as u8).wrapping_mul(113) ^ 0x5a)).unwrap()
}

/// Issues a key in the store, finds it valid, and closes; how many keys there are then.
pub(crate) fn works(path: &Path) -> usize {
    let keys = KeyManager::open(open(path).unwrap(), keyring()).unwrap();
    let ada = OwnerId::new("ada").unwrap();
    let issued = keys.by(Actor::operator("root")).issue(NewKey::new(ada, "ci").unwrap()).unwrap();
    let validator = keys.validator().unwrap();
    validator.validate(issued.token.expose()).unwrap();
    assert!(keys.verify_audit().unwrap().is_sound());
    let held = validator.held_versions().unwrap();
    validator.close().unwrap();
    keys.close().unwrap();
    held
}

/// By which a test knows that it runs as an ordinary user, and where to work.
const FOLDER: &str = "KEYROTA_TEST_FOLDER";

/// Runs a test's body as an ordinary user, in a folder of its own: here, or if this is root, in a second process.
#[allow(clippy::print_stderr, reason = "a test that is skipped says why")]
pub(crate) fn as_ordinary_user(test: &str, body: impl Fn(&Scene)) {
    const NOBODY: u32 = 65_534;
    let scene = Scene::new();
    let me = fs::metadata(scene.folder()).unwrap().uid();
    if me != 0 {
        return body(&scene);
    }
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).uid(NOBODY).gid(NOBODY);
    std::os::unix::fs::chown(scene.folder(), Some(NOBODY), Some(NOBODY)).unwrap();
    command.current_dir(scene.folder()).env("TMPDIR", scene.folder()).env(FOLDER, scene.folder());
    match command.output() {
        Err(error) => eprintln!("skipped: an ordinary user cannot run {:?}: {error}", command.get_program()),
        Ok(run) => {
            let said = [run.stdout, run.stderr].concat();
            assert!(run.status.success(), "{}", String::from_utf8_lossy(&said));
            assert!(String::from_utf8_lossy(&said).contains("1 passed"), "the test ran there");
        }
    }
}

/// A FIFO, a socket or the like cannot be made by the standard library alone.
pub(crate) fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success() && fs::symlink_metadata(path).unwrap().file_type().is_fifo());
}

/// The path with something put after it.
pub(crate) fn after(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Fails unless the error is of this variant.
macro_rules! assert_error {
    ($error:expr, $variant:ident) => {
        $crate::scene::assert_error!($error, $variant, "")
    };
    ($error:expr, $variant:ident, $($what:tt)+) => {{
        let error = $error;
        let is_this = matches!(&error, keyrota::SqliteOpenError::$variant { .. });
        assert!(is_this, "{error}, instead of {}: {}", stringify!($variant), format_args!($($what)+));
        error
    }};
}
pub(crate) use assert_error;

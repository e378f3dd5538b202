//! Backups: a copy of a whole database as of one moment, through SQLite's own backup interface.
//!
//! A copy is made under a name of its own beside its destination and gets its real name when it is complete, so that
//! no crash leaves half a backup that looks like one. It keeps no write-ahead log: one file holds all of it, and it
//! can be read from where nothing can be written.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::crypto;
use crate::encode::hex;
use crate::store::sqlite::connection::{OPENING, Role};
use crate::store::sqlite::error::{BackupError, open_error, store_error};
use crate::store::sqlite::{SqliteStore, file, read, schema, write};
use crate::store::{Head, RowKind, StoreError, StoreErrorKind};

/// A backup to be written; made by [`SqliteStore::backup`].
#[must_use = "nothing is written until `to` is called"]
pub struct SqliteBackup<'a> {
    store: &'a SqliteStore,
    sealed_copies: bool,
    progress: Option<Teller<'a>>,
}

/// Who is told how much of how much is copied.
type Teller<'a> = Box<dyn FnMut(u64, u64) + Send + 'a>;

/// How many pages are copied between two tellings.
const STEP: std::ffi::c_int = 1_024;

impl SqliteStore {
    /// Begins a backup of the store as it is now, while it is in use: nobody waits for it, and it waits for nobody.
    ///
    /// The copy holds what the database holds: digests, which are useless without the master key, and no token. Keep
    /// the master key elsewhere. To put a backup in place, see [`Restore`](crate::Restore).
    pub fn backup(&self) -> SqliteBackup<'_> {
        SqliteBackup { store: self, sealed_copies: true, progress: None }
    }
}

impl<'a> SqliteBackup<'a> {
    /// Leaves out the sealed copies: secrets, encrypted under the master key, that wait to be handed over or shown
    /// once more. What waits then cannot be handed over from the backup; nothing that is in use is touched.
    pub fn without_sealed_copies(mut self) -> Self {
        self.sealed_copies = false;
        self
    }

    /// Is told now and then how many pages are copied, and how many there are.
    pub fn progress(mut self, each: impl FnMut(u64, u64) + Send + 'a) -> Self {
        self.progress = Some(Box::new(each));
        self
    }

    /// Writes the backup to a new file with mode 0600. Blocks for as long as the copying takes.
    ///
    /// # Errors
    /// [`BackupError`]; no file is left at the path then, and one that was there is as it was.
    pub fn to(self, path: impl AsRef<Path>) -> Result<(), BackupError> {
        let place = &self.store.place;
        if place.is_inherited() {
            return Err(StoreErrorKind::Forked.into());
        }
        let source = place.connect_as(Role::Reader)?;
        let mut told = self.progress.unwrap_or_else(|| Box::new(|_, _| {}));
        let staged = Staged::copy(&source, path.as_ref(), &mut *told)?;
        if !self.sealed_copies {
            staged.remove_sealed_copies()?;
        }
        staged.publish()
    }
}

/// A complete copy that does not have its name yet; removed unless it is published.
pub(crate) struct Staged {
    path: PathBuf,
    destination: PathBuf,
}

impl Staged {
    /// Copies a backup file beside the destination, so that what is done with it next does not touch it.
    pub(crate) fn copy_of(backup: &Path, destination: &Path) -> Result<Self, BackupError> {
        let path = file::resolve(backup)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
        let source = Connection::open_with_flags(&path, flags).map_err(|error| open_error(&path, error))?;
        let found = schema::recognise(&source).map_err(|error| open_error(&path, error))?.accept(&path)?;
        if found == 0 {
            return Err(BackupError::Empty { path });
        }
        Self::copy(&source, destination, &mut |_, _| {})
    }

    fn copy(
        source: &Connection,
        destination: &Path,
        told: &mut dyn FnMut(u64, u64),
    ) -> Result<Self, BackupError> {
        let destination = file::resolve(destination)?;
        let mut name = destination.as_os_str().to_owned();
        let random = crypto::random_bytes::<8>()
            .map_err(|error| BackupError::Store(StoreError::new(StoreErrorKind::Other, error)))?;
        name.push(format!(".{}.partial", hex(&random)));
        let path = PathBuf::from(name);
        let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        file::ensure(&path)?;
        let staged = Self { path, destination };
        let mut copy = staged.connect()?;
        pages(source, &mut copy, told).map_err(store_error)?;
        drop(copy);
        // The copy is marked as having a write-ahead log, as its source is; and to know now that it can be read is
        // the point of a backup.
        let copy = staged.connect()?;
        let mode = copy.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0));
        let verdict = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
        match (mode.map_err(store_error)?.as_str(), verdict.map_err(store_error)?.as_str()) {
            ("delete", "ok") => Ok(staged),
            (_, finding) => Err(BackupError::Damaged { finding: finding.to_owned() }),
        }
    }

    fn connect(&self) -> Result<Connection, BackupError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
        let connect = || {
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
            Ok(connection)
        };
        connect().map_err(|error| BackupError::Store(store_error(error)))
    }

    fn remove_sealed_copies(&self) -> Result<(), BackupError> {
        let copy = self.connect()?;
        copy.execute("DELETE FROM row WHERE kind = ?1", (RowKind::Sealed.code(),)).map_err(store_error)?;
        Ok(())
    }

    /// The copy, as a store to work on before it gets its name.
    pub(crate) fn open(&self) -> Result<SqliteStore, BackupError> {
        Ok(SqliteStore::open(&self.path)?)
    }

    /// Gives the copy its name; a file that has the name already stays.
    pub(crate) fn publish(self) -> Result<(), BackupError> {
        let exists = || BackupError::Exists { path: self.destination.clone() };
        let failed = |source| BackupError::Output { path: self.destination.clone(), source };
        // Linking takes no name that is taken; renaming would.
        match fs::hard_link(&self.path, &self.destination) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists()),
            Err(_) if fs::symlink_metadata(&self.destination).is_ok() => return Err(exists()),
            Err(_) => fs::rename(&self.path, &self.destination).map_err(failed)?,
        }
        drop(fs::remove_file(&self.path));
        sync_directory(&self.destination).map_err(failed)
    }

    /// Puts what the copy holds in the place of what a database in use holds, in one transaction there; says whether
    /// that still had the head that the copy was prepared for.
    ///
    /// Not page by page: SQLite's backup interface takes its lock by itself, and what was revoked between the look at
    /// the head and that lock would come back to life.
    pub(crate) fn replace(
        &self,
        target: &SqliteStore,
        prepared_for: Option<&Head>,
    ) -> Result<bool, BackupError> {
        let mut connection = target.place.connect_as(Role::Writer)?;
        self.pour(&mut connection, prepared_for).map_err(|error| BackupError::Store(store_error(error)))
    }

    fn pour(&self, connection: &mut Connection, prepared_for: Option<&Head>) -> rusqlite::Result<bool> {
        connection.execute("ATTACH ?1 AS copy", [write::text(self.path.as_os_str().as_encoded_bytes())])?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if read::head(&transaction)?.as_ref() != prepared_for {
            return Ok(false);
        }
        for table in schema::tables(&transaction)? {
            transaction.execute_batch(&format!(
                "DELETE FROM main.\"{table}\"; INSERT INTO main.\"{table}\" SELECT * FROM copy.\"{table}\";"
            ))?;
        }
        transaction.commit()?;
        Ok(true)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for companion in ["", "-journal", "-wal", "-shm"] {
            let mut name = self.path.as_os_str().to_owned();
            name.push(companion);
            drop(fs::remove_file(name));
        }
    }
}

/// Copies all pages: one moment of the source, which is held by a transaction, and one transaction in the destination.
fn pages(
    source: &Connection,
    destination: &mut Connection,
    told: &mut dyn FnMut(u64, u64),
) -> rusqlite::Result<()> {
    let moment = source.unchecked_transaction()?;
    moment.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let backup = Backup::new(source, destination)?;
    loop {
        let step = backup.step(STEP)?;
        let pages = |count: std::ffi::c_int| u64::try_from(count).unwrap_or(0);
        let progress = backup.progress();
        told(pages(progress.pagecount - progress.remaining), pages(progress.pagecount));
        match step {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            _ => {
                let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                return Err(rusqlite::Error::SqliteFailure(busy, None));
            }
        }
    }
}

/// Makes a new name durable, where directories can be synchronised.
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if cfg!(unix) => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

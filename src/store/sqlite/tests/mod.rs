//! What the shared suite cannot see: the file, the pragmas, the schema, crashes, and edits behind the library's
//! back.

mod edits;
mod handles;
mod opening;
mod stamps;
mod views;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rusqlite::Connection;
use tempfile::TempDir;

use super::{SqliteOpenError, SqliteStore};
use crate::id::StoreId;
use crate::keyring::Keyring;
use crate::store::conformance::{Durability, StoreBed};
use crate::store::{Changeset, CommitError, Draft, FeedItem, KeyStore, Revision, RowIndex, RowKind};
use crate::time::Timestamp;

impl StoreBed for TempDir {
    fn open(&self) -> Arc<dyn KeyStore> {
        Arc::new(SqliteStore::open(self.path().join("keys.db")).unwrap())
    }
    fn durability(&self) -> Durability {
        Durability::AfterClose
    }
}

mod conformance {
    crate::conformance_suite!(tempfile::tempdir().unwrap());
}

/// A founded store (revision 1), its file, and the keyring of its rows.
struct Fixture {
    folder: PathBuf,
    keyring: Keyring,
    store: SqliteStore,
    /// Removed at the end.
    _folder: Option<TempDir>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Self::at(folder.path());
        Self { _folder: Some(folder), ..fixture }
    }

    /// A store in a folder that stays.
    fn at(folder: &Path) -> Self {
        let store = SqliteStore::open(folder.join("keys.db")).unwrap();
        let keyring =
            Keyring::from_bytes(&std::array::from_fn(|i| (i as u8).wrapping_mul(113) ^ 0x5a)).unwrap();
        let id = StoreId::new(Timestamp::MIN, [7; 10]);
        store.commit(&Changeset::founding(&keyring, id, Timestamp::MIN)).unwrap();
        Self { folder: folder.to_owned(), keyring, store, _folder: None }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("keys.db")
    }

    /// A SQL shell on the file: a connection with nothing but its defaults.
    fn shell(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn commit(&self, fill: impl FnOnce(&mut Changeset)) -> Result<Revision, CommitError> {
        let mut changeset = Changeset::new(&self.keyring);
        fill(&mut changeset);
        self.store.commit(&changeset)
    }

    fn insert(&self, kind: RowKind, id: &str) -> Revision {
        self.commit(|changeset| changeset.insert(draft(kind, id))).unwrap()
    }

    /// What the feed tells after `since`: ids, with a minus for those that are gone, and where it ends.
    fn feed(&self, since: Revision, limit: usize) -> (Vec<String>, Revision, bool) {
        let mut told = Vec::new();
        let page = self.store.feed(since, limit, &mut |item| {
            told.push(match item {
                FeedItem::Row(row) => {
                    let sound = if row.verify(&self.keyring).is_ok() { "" } else { "!" };
                    format!("{sound}{}", row.id)
                }
                FeedItem::Gone { id, .. } => format!("-{id}"),
            });
        });
        let page = page.unwrap();
        (told, page.up_to, page.more)
    }
}

fn draft(kind: RowKind, id: &str) -> Draft {
    Draft { kind, id: id.to_owned(), index: RowIndex::default(), body: b"{\"a\":1}".to_vec() }
}

fn told(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|&id| id.to_owned()).collect()
}

fn refused(path: &Path) -> SqliteOpenError {
    SqliteStore::open(path).unwrap_err()
}

/// This test program once more, to run one test under what the shell is told first; `folder` is handed to it.
fn again(test: &str, first: &str, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{first}; exec \"$@\""), "sh"]);
    command.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]);
    command.env(FOLDER, folder);
    command
}

/// By which a test knows that it was started by [`again`], and where to work.
const FOLDER: &str = "KEYROTA_TEST_FOLDER";

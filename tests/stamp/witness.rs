//! A store in this process that watches what another process does to its file.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use keyrota::{
    Actor, Freshness, KeyId, KeyManager, KeyStore as _, Keyring, NewKey, OwnerId, OwnerLimit, SqliteStore,
    Stamp,
};

/// A founded database with two watchers: by shared memory and by query.
pub(crate) struct Witness {
    pub(crate) store: SqliteStore,
    queried: SqliteStore,
    seen: [HashSet<Stamp>; 2],
    pub(crate) keys: KeyManager,
    pub(crate) folder: tempfile::TempDir,
}

pub(crate) fn keyring() -> Keyring {
    Keyring::from_bytes(&std::array::from_fn(|i| (i as u8).wrapping_mul(113) ^ 0x5a)).unwrap()
}

/// A folder for a database: in memory where the system has that, which makes a sync of the disk cheap.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Witness {
    pub(crate) fn new() -> Self {
        let folder = folder();
        let path = folder.path().join("keys.db");
        let manager = KeyManager::builder(SqliteStore::open(&path).unwrap(), keyring());
        let keys = manager.owner_limit(OwnerLimit::new(1_000_000).unwrap()).open().unwrap();
        let store = SqliteStore::open(&path).unwrap();
        if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            assert_eq!((store.freshness(), store.stamp_fallback()), (Freshness::Exact, None));
        }
        let queried = SqliteStore::options().query_stamps(true).open(&path).unwrap();
        let mut witness = Self { store, queried, seen: Default::default(), keys, folder };
        witness.saw_a_change("at first");
        witness
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("keys.db")
    }

    fn stamps(&self) -> [Stamp; 2] {
        [&self.store, &self.queried].map(|store| store.stamp().unwrap())
    }

    /// Somebody has committed: each watcher's stamp is one that it has never shown before.
    pub(crate) fn saw_a_change(&mut self, why: &str) {
        let stamps = self.stamps();
        for (stamp, seen) in stamps.into_iter().zip(&mut self.seen) {
            assert!(seen.insert(stamp), "{why}: the stamp has not moved, or come back");
        }
    }

    /// Something happened that may move the stamp but need not, because no row has changed.
    pub(crate) fn may_have_seen_a_change(&mut self) {
        let stamps = self.stamps();
        for (stamp, seen) in stamps.into_iter().zip(&mut self.seen) {
            seen.insert(stamp);
        }
    }

    pub(crate) fn saw_nothing(&self, why: &str) {
        let stamps = self.stamps();
        assert!(
            stamps.iter().zip(&self.seen).all(|(stamp, seen)| seen.contains(stamp)),
            "{why}: nobody has committed"
        );
    }

    pub(crate) fn issue(&self, name: &str) -> (KeyId, String) {
        let owner = OwnerId::new("ada").unwrap();
        let issued = self.keys.by(Actor::operator("root")).issue(NewKey::new(owner, name).unwrap()).unwrap();
        (issued.key, issued.token.expose().to_owned())
    }

    /// How many rows the other process has left in the table that it writes to, as the store reads the file.
    pub(crate) fn flushes(path: &Path) -> u32 {
        let shell = rusqlite::Connection::open(path).unwrap();
        shell.query_row("SELECT count(*) FROM writer", [], |row| row.get(0)).unwrap()
    }
}

//! Files that are taken away from under an open handle.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use keyrota::{
    Actor, DenialReason, KeyManager, KeyStore as _, ManageError, NewKey, OwnerId, Revision, SqliteStore,
    StoreErrorKind, Timestamp, Unavailable, UsageBatch, Validator,
};

use crate::scene::{Scene, as_ordinary_user, keyring, open, things, works};

/// A store that is open, with one valid token.
struct Running {
    scene: Scene,
    store: Arc<SqliteStore>,
    keys: KeyManager,
    validator: Validator,
    token: String,
}

impl Running {
    fn new() -> Self {
        let scene = Scene::founded();
        let store = Arc::new(open(scene.file()).unwrap());
        let keys = KeyManager::open(Arc::clone(&store), keyring()).unwrap();
        let validator = Validator::open(Arc::clone(&store), keyring()).unwrap();
        let ada = OwnerId::new("ada").unwrap();
        let issued = keys.by(Actor::operator("root")).issue(NewKey::new(ada, "ci").unwrap()).unwrap();
        let token = issued.token.expose().to_owned();
        validator.validate(&token).unwrap();
        Self { scene, store, keys, validator, token }
    }

    fn issue(&self) -> Result<(), ManageError> {
        let bob = OwnerId::new("bob").unwrap();
        self.keys.by(Actor::operator("root")).issue(NewKey::new(bob, "ci").unwrap()).map(drop)
    }

    /// Nothing is read, written or granted; and what lies there now is left alone.
    fn is_lost(&self, what: &str) {
        let before = things(self.scene.folder());
        for error in
            [self.issue().unwrap_err(), self.keys.tick().unwrap_err(), self.keys.settings().unwrap_err()]
        {
            assert_eq!(kind_of(&error), Some(StoreErrorKind::Moved), "{what}: {error}");
        }
        assert_eq!(self.store.head().unwrap_err().kind(), StoreErrorKind::Moved, "{what}");
        assert_eq!(self.store.stamp().unwrap_err().kind(), StoreErrorKind::Moved, "{what}");
        assert_eq!(self.validator.flush().unwrap_err().kind(), StoreErrorKind::Moved, "{what}");
        let denial = self.validator.validate(&self.token).unwrap_err();
        assert_eq!(denial.reason(), DenialReason::Unavailable(Unavailable::Store), "{what}");
        assert_eq!(things(self.scene.folder()), before, "{what}");
    }
}

fn kind_of(error: &ManageError) -> Option<StoreErrorKind> {
    use keyrota::ReadError;
    match error {
        ManageError::NotWritten(error) | ManageError::Read(ReadError::Store(error)) => Some(error.kind()),
        _ => None,
    }
}

fn away(path: &Path) -> std::path::PathBuf {
    path.parent().unwrap().join("away")
}

#[test]
fn a_file_that_was_deleted_or_moved_is_no_longer_read_written_or_granted_by() {
    for suffix in ["", "-wal", "-shm"] {
        let running = Running::new();
        fs::remove_file(running.scene.beside(suffix)).unwrap();
        running.is_lost(&format!("{suffix:?} deleted"));
        let running = Running::new();
        fs::rename(running.scene.beside(suffix), away(&running.scene.file())).unwrap();
        running.is_lost(&format!("{suffix:?} moved"));
    }
}

#[test]
fn a_file_that_was_exchanged_is_not_taken_for_the_one_that_is_open() {
    for suffix in ["", "-wal", "-shm"] {
        let running = Running::new();
        let path = running.scene.beside(suffix);
        let copy = away(&path);
        fs::copy(&path, &copy).unwrap();
        fs::rename(&copy, &path).unwrap();
        running.is_lost(&format!("{suffix:?} exchanged for a copy"));
        fs::rename(&path, &copy).unwrap();
        std::os::unix::fs::symlink("away", &path).unwrap();
        running.is_lost(&format!("{suffix:?} exchanged for a link"));
    }
}

#[test]
fn a_folder_that_was_moved_takes_its_files_away() {
    let running = Running::new();
    let (folder, moved) = (running.scene.folder().to_owned(), running.scene.folder().with_extension("moved"));
    fs::rename(&folder, &moved).unwrap();
    assert_eq!(running.store.head().unwrap_err().kind(), StoreErrorKind::Moved);
    fs::rename(&moved, &folder).unwrap();
    running.issue().unwrap();
}

#[test]
fn the_first_to_notice_tells_every_validation_after_it() {
    let running = Running::new();
    fs::remove_file(running.scene.file()).unwrap();
    assert_eq!(running.validator.flush().unwrap_err().kind(), StoreErrorKind::Moved);
    assert!(running.validator.validate(&running.token).is_err());
    let running = Running::new();
    fs::remove_file(running.scene.file()).unwrap();
    assert!(running.keys.tick().is_err());
    assert!(running.validator.validate(&running.token).is_err());
}

#[test]
fn a_file_that_is_put_back_goes_on() {
    for suffix in ["", "-wal", "-shm"] {
        let running = Running::new();
        let path = running.scene.beside(suffix);
        fs::rename(&path, away(&path)).unwrap();
        running.is_lost(suffix);
        fs::rename(away(&path), &path).unwrap();
        running.validator.validate(&running.token).unwrap();
        running.issue().unwrap();
        running.keys.tick().unwrap();
    }
}

#[test]
fn closing_a_handle_whose_file_is_gone_leaves_the_new_file_alone() {
    let running = Running::new();
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(running.scene.beside(suffix)).unwrap();
    }
    assert_eq!(works(&running.scene.file()), 1, "a new store under the old name");
    let other = open(running.scene.file()).unwrap();
    let keys = KeyManager::open(other, keyring()).unwrap();
    let before = things(running.scene.folder());
    running.is_lost("exchanged for a new store");
    let Running { scene, store, keys: old, validator, .. } = running;
    drop((old.close(), validator.close(), store));
    assert_eq!(things(scene.folder()), before);
    keys.tick().unwrap();
    keys.close().unwrap();
    assert_eq!(works(&scene.file()), 2);
}

#[test]
fn a_file_that_was_cut_off_while_open_grants_nothing_that_it_does_not_hold() {
    for kept in [0, 1, 100, 4_096, 10_000] {
        let running = Running::new();
        running.validator.catch_up().unwrap();
        // Behind the log: what a checkpoint has brought into the file is cut off.
        let shell = running.scene.shell();
        shell.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        fs::OpenOptions::new().write(true).open(running.scene.file()).unwrap().set_len(kept).unwrap();
        let fresh = Validator::open(Arc::clone(&running.store), keyring());
        if let Ok(fresh) = fresh {
            assert!(fresh.validate(&running.token).is_err(), "{kept}");
        }
        let again = open(running.scene.file());
        assert!(again.is_err(), "{kept}: a cut file is not opened once more");
    }
}

#[test]
fn rights_that_are_taken_while_it_is_open_stop_nobody_who_has_it_open() {
    use std::os::unix::fs::PermissionsExt as _;
    let running = Running::new();
    fs::set_permissions(running.scene.file(), fs::Permissions::from_mode(0o000)).unwrap();
    running.issue().unwrap();
    running.validator.validate(&running.token).unwrap();
    fs::set_permissions(running.scene.file(), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_process_that_may_no_longer_look_into_the_folder_goes_on_with_what_it_has_open() {
    use std::os::unix::fs::PermissionsExt as _;
    as_ordinary_user(
        "moved::a_process_that_may_no_longer_look_into_the_folder_goes_on_with_what_it_has_open",
        |_| {
            let running = Running::new();
            let allow = |mode| fs::set_permissions(running.scene.folder(), fs::Permissions::from_mode(mode));
            allow(0o000).unwrap();
            running.issue().unwrap();
            running.keys.tick().unwrap();
            running.validator.flush().unwrap();
            running.validator.validate(&running.token).unwrap();
            allow(0o700).unwrap();
        },
    );
}

#[test]
fn each_way_to_the_store_but_the_stamp_notices_by_itself() {
    let ways: [fn(&Running) -> StoreErrorKind; 3] = [
        |running| running.store.head().unwrap_err().kind(),
        |running| running.store.feed(Revision(0), 10, &mut |_| ()).unwrap_err().kind(),
        |running| {
            let writer = "w".to_owned();
            let batch = UsageBatch {
                writer,
                sequence: 1,
                ended: false,
                flushed_at: Timestamp::MIN,
                entries: Vec::new(),
            };
            running.store.add_usage(&batch).unwrap_err().kind()
        },
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let running = Running::new();
        running.store.stamp().unwrap();
        fs::remove_file(running.scene.file()).unwrap();
        assert!(running.store.stamp().is_ok(), "it costs no look, so that it costs nothing");
        assert_eq!(way(&running), StoreErrorKind::Moved, "{number}");
        assert_eq!(running.store.stamp().unwrap_err().kind(), StoreErrorKind::Moved, "{number}");
    }
}

//! Backups that are made while the store is in use, and what restoring one brings back: all that it holds, and nothing
//! that was revoked since.
#![cfg(feature = "sqlite")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Bed, DAY, Place, START, at, keyring, keyring_of, new_key, owner, v};
use keyrota::{
    Actor, AuditVerdict, BackupError, DenialReason, EventKind, KeyManager, ManageError, NewKey, OpenError,
    Restore, RestoreError, RestoreReport, SqliteOpenError, SqliteStore, StoreErrorKind, Validator,
};

struct Stage {
    bed: Bed,
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        Self { bed: Bed::at(Place::sqlite(), at(START)), folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn live(&self) -> PathBuf {
        self.bed.place.file().unwrap()
    }

    fn back_up(&self) -> PathBuf {
        let path = self.path("backup.db");
        drop(fs::remove_file(&path));
        SqliteStore::open(self.live()).unwrap().backup().to(&path).unwrap();
        path
    }

    fn restore(&self, to: &Path) -> Result<RestoreReport, RestoreError> {
        let restore = Restore::new(self.path("backup.db"), keyring(), Actor::operator("root"));
        restore.because("the disk was lost").clock(self.bed.clock.clone()).to(to)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn opened(&self, path: &Path) -> (KeyManager, Validator) {
        let store = SqliteStore::open(path).unwrap();
        let keys = KeyManager::builder(store, keyring()).clock(self.bed.clock.clone()).open().unwrap();
        let validator = keys.validator().unwrap();
        (keys, validator)
    }
}

fn reason(validator: &Validator, token: &str) -> Option<DenialReason> {
    validator.validate(token).err().map(|denial| denial.reason())
}

#[test]
fn a_backup_is_one_file_for_its_owner_alone_and_restores_what_it_held() {
    let stage = Stage::new();
    let ci = stage.bed.issue("ci");
    let second = stage.bed.rotate(ci.key);
    let anchor = stage.bed.keys.audit_head().unwrap();
    let backup = stage.back_up();
    assert_eq!(stage.names(), ["backup.db"]);
    let bytes = fs::read(&backup).unwrap();
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&backup).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        // Even where nothing can be written.
        fs::set_permissions(&backup, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
    }

    let report = stage.restore(&stage.path("new.db")).unwrap();
    assert_eq!(stage.names(), ["backup.db", "new.db"]);
    assert!(fs::read(&backup).unwrap() == bytes, "the backup was changed");
    assert!(report.check.is_sound() && report.carried_over.is_none() && report.back_to == anchor);
    let (keys, validator) = stage.opened(&stage.path("new.db"));
    assert!(validator.validate(ci.token.expose()).unwrap().is_deprecated());
    assert!(validator.validate(&second).is_ok());
    assert!(keys.verify_audit_against(&anchor).unwrap().is_sound());
    let last = keys.audit(&keyrota::AuditFilter::all().after(anchor.seq), 10).unwrap();
    let [entry] = last.as_slice() else { panic!("{last:?}") };
    assert_eq!(entry.event.kind, EventKind::StoreRestored);
    assert_eq!(entry.event.actor.name(), "root");
    assert_eq!(entry.event.reason.as_deref(), Some("the disk was lost"));
    // It goes on by itself.
    keys.by(Actor::operator("root")).revoke(ci.key).unwrap();
    assert!(stage.bed.is_granted(&second));
}

#[test]
fn a_backup_can_be_made_while_others_write_and_is_one_moment_of_the_store() {
    let stage = Stage::new();
    let writer = stage.bed.keys.clone();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..10_000 {
                let new = NewKey::new(owner(&format!("owner {number}")), "ci").unwrap();
                writer.by(Actor::operator("root")).issue(new).unwrap();
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for number in 0..10 {
            let path = stage.path(&format!("{number}.db"));
            SqliteStore::open(stage.live()).unwrap().backup().to(&path).unwrap();
            let (keys, _) = stage.opened(&path);
            assert!(keys.check(None).unwrap().is_sound());
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn what_was_revoked_since_the_backup_stays_revoked_when_it_replaces_a_store_in_use() {
    let stage = Stage::new();
    let bed = &stage.bed;
    let names = ["kept", "revoked", "version", "purged", "replaced", "edited"];
    let [kept, revoked, version, purged, replaced, edited] = names.map(|name| bed.issue(name));
    let second = bed.rotate(version.key);
    let suspended = bed.root().issue(NewKey::new(owner("bob"), "bob's").unwrap()).unwrap();
    let follower = bed.other_validator();
    stage.back_up();

    let late = bed.issue("late");
    let third = bed.rotate(kept.key);
    bed.root().revoke(revoked.key).unwrap();
    bed.root().revoke((version.key, v(1))).unwrap();
    bed.root().revoke(purged.key).unwrap();
    bed.root().suspend(owner("bob")).unwrap();
    bed.root().replace(replaced.key).unwrap();
    bed.tick_to(at("2027-01-03"));
    assert_eq!(bed.root().purge(Duration::from_secs(3_600)).unwrap().purged, 2, "purged and revoked");
    let anchor = bed.keys.audit_head().unwrap();
    for token in [late.token.expose(), &third] {
        assert_eq!(reason(&follower, token), None);
    }

    let report = stage.restore(&stage.live()).unwrap();
    let carried = report.carried_over.unwrap();
    assert_eq!((carried.keys, carried.versions, carried.owners), (2, 2, 1));
    assert!(report.check.is_sound());
    for validator in [&bed.validator, &follower, &bed.other_validator()] {
        assert_eq!(reason(validator, kept.token.expose()), None);
        assert_eq!(reason(validator, edited.token.expose()), None);
        assert_eq!(reason(validator, &second), None);
        for revoked in [&revoked, &version, &purged, &replaced] {
            assert_eq!(reason(validator, revoked.token.expose()), Some(DenialReason::Revoked));
        }
        assert_eq!(reason(validator, suspended.token.expose()), Some(DenialReason::Suspended));
        // What came after the backup is gone.
        assert_eq!(reason(validator, late.token.expose()), Some(DenialReason::Unknown));
        assert_eq!(reason(validator, &third), Some(DenialReason::Unknown));
    }
    // Both the anchor that only the replaced store had, and the library's own time.
    assert!(!bed.keys.verify_audit_against(&anchor).unwrap().is_sound());
    assert!(matches!(bed.keys.verify_audit().unwrap(), AuditVerdict::Sound { .. }));
    assert!(bed.keys.now().unwrap() >= at("2027-01-03"));
    // The manager that was open goes on, and followers see what it does.
    bed.root().revoke(kept.key).unwrap();
    assert_eq!(reason(&follower, kept.token.expose()), Some(DenialReason::Revoked));
}

#[test]
fn no_revocation_that_was_acknowledged_is_lost_to_a_restoration_at_the_same_time() {
    for _ in 0..5 {
        let stage = Stage::new();
        let issued: Vec<_> = (0..10).map(|n| stage.bed.issue(&format!("key {n}"))).collect();
        stage.back_up();
        std::thread::scope(|scope| {
            let restored = scope.spawn(|| stage.restore(&stage.live()));
            for key in &issued {
                stage.bed.root().revoke(key.key).unwrap();
                assert_eq!(stage.bed.denial(key.token.expose()), Some(DenialReason::Revoked));
            }
            restored.join().unwrap().unwrap();
        });
        for key in &issued {
            assert_eq!(stage.bed.denial(key.token.expose()), Some(DenialReason::Revoked));
        }
        assert!(stage.bed.keys.check(None).unwrap().is_sound());
    }
}

#[test]
fn sealed_copies_are_in_a_backup_unless_it_leaves_them_out() {
    let stage = Stage::new();
    let issue = |keys: &KeyManager| keys.by(Actor::operator("root")).request("req-1").issue(new_key("ci"));
    let token = issue(&stage.bed.keys).unwrap().token;
    let store = SqliteStore::open(stage.live()).unwrap();
    let (with, without) = (stage.path("backup.db"), stage.path("bare.db"));
    store.backup().to(&with).unwrap();
    store.backup().without_sealed_copies().to(&without).unwrap();

    let (keys, _) = stage.opened(&with);
    assert_eq!(issue(&keys).unwrap().token.expose(), token.expose());
    let shell = rusqlite::Connection::open(&with).unwrap();
    let sealed: String =
        shell.query_row("SELECT body FROM row WHERE body LIKE '%ciphertext%'", [], |row| row.get(0)).unwrap();
    let sealed: serde_json::Value = serde_json::from_str(&sealed).unwrap();
    let ciphertext = sealed["ciphertext"].as_str().unwrap();
    let holds = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(ciphertext.len()).any(|window| window == ciphertext.as_bytes())
    };
    assert!(holds(&with) && !holds(&without));
    let (keys, validator) = stage.opened(&without);
    assert!(matches!(issue(&keys), Err(ManageError::AlreadyDone { .. })));
    assert!(validator.validate(token.expose()).is_ok() && keys.check(None).unwrap().is_sound());
}

#[test]
fn nothing_is_written_over_and_nothing_is_left_behind_by_a_failure() {
    let stage = Stage::new();
    stage.bed.issue("ci");
    let store = SqliteStore::open(stage.live()).unwrap();
    let taken = stage.path("notes.txt");
    fs::write(&taken, "mine").unwrap();
    assert!(matches!(store.backup().to(&taken), Err(BackupError::Exists { .. })));
    assert_eq!(fs::read(&taken).unwrap(), b"mine");
    let nowhere = store.backup().to(stage.path("missing/backup.db"));
    assert!(matches!(nowhere, Err(BackupError::Open(SqliteOpenError::FolderMissing { .. }))));
    for path in ["", ":memory:"] {
        let refused = store.backup().to(path);
        assert!(matches!(
            refused,
            Err(BackupError::Open(SqliteOpenError::EmptyPath | SqliteOpenError::InMemory))
        ));
    }
    assert_eq!(stage.names(), ["notes.txt"]);
    store.backup().to(stage.path("backup.db")).unwrap();
    assert!(matches!(store.backup().to(stage.path("backup.db")), Err(BackupError::Exists { .. })));
    assert_eq!(stage.names(), ["backup.db", "notes.txt"]);
}

#[test]
fn a_backup_that_is_none_or_of_another_store_or_key_is_refused_and_changes_nothing() {
    let stage = Stage::new();
    let ci = stage.bed.issue("ci");
    let (backup, new) = (stage.path("backup.db"), stage.path("new.db"));
    let refused = |stage: &Stage, keyring, what: &str| {
        let mut errors = Vec::new();
        for target in [&new, &stage.live()] {
            let head = stage.bed.store.head().unwrap();
            let restore = Restore::new(&backup, keyring_of(keyring), Actor::operator("root"));
            errors.push(restore.clock(stage.bed.clock.clone()).to(target).expect_err(what));
            assert_eq!(stage.bed.store.head().unwrap(), head, "{what}");
            assert!(stage.bed.is_granted(ci.token.expose()), "{what}");
        }
        let left: Vec<_> = stage.names().into_iter().filter(|name| name != "backup.db").collect();
        assert_eq!(left, Vec::<String>::new(), "{what}");
        errors
    };

    for error in refused(&stage, 7, "no backup") {
        assert!(matches!(error, RestoreError::Backup(BackupError::Open(_))), "{error}");
    }
    fs::write(&backup, [0x5A; 5_000]).unwrap();
    for error in refused(&stage, 7, "not a database") {
        let is_none =
            matches!(error, RestoreError::Backup(BackupError::Open(SqliteOpenError::NotADatabase { .. })));
        assert!(is_none, "{error}");
    }
    fs::write(&backup, []).unwrap();
    for error in refused(&stage, 7, "an empty file") {
        assert!(matches!(error, RestoreError::Backup(BackupError::Empty { .. })), "{error}");
    }
    stage.back_up();
    for error in refused(&stage, 8, "another master key") {
        assert!(matches!(error, RestoreError::Open(OpenError::WrongMasterKey(_))), "{error}");
    }
    let mut bytes = fs::read(&backup).unwrap();
    let middle = 4_096 * 3 + 8;
    bytes[middle..middle + 64].fill(0xFF);
    fs::write(&backup, bytes).unwrap();
    for error in refused(&stage, 7, "a damaged database") {
        let is_damage = match &error {
            RestoreError::Backup(BackupError::Damaged { .. }) => true,
            RestoreError::Backup(BackupError::Store(error)) => error.kind() == StoreErrorKind::Corrupt,
            _ => false,
        };
        assert!(is_damage, "{error}");
    }
    let other = Stage::new();
    fs::copy(other.back_up(), &backup).unwrap();
    let restore = Restore::new(&backup, keyring(), Actor::operator("root"));
    assert!(matches!(restore.to(stage.live()), Err(RestoreError::OtherStore)));
    assert!(stage.bed.is_granted(ci.token.expose()));
}

#[test]
fn a_store_whose_head_was_edited_can_be_replaced_and_the_report_says_that_nothing_was_carried_over() {
    let stage = Stage::new();
    let ci = stage.bed.issue("ci");
    stage.back_up();
    stage.bed.root().revoke(ci.key).unwrap();
    let shell = rusqlite::Connection::open(stage.live()).unwrap();
    shell.execute("UPDATE head SET mac = zeroblob(32)", []).unwrap();
    assert!(matches!(stage.bed.denial(ci.token.expose()), Some(DenialReason::Unavailable(_))));
    let report = stage.restore(&stage.live()).unwrap();
    assert_eq!(report.carried_over, None);
    assert!(report.check.is_sound());
    assert!(stage.bed.is_granted(ci.token.expose()));
}

#[test]
fn a_restored_store_has_the_age_of_its_backup_and_a_tick_goes_on_from_there() {
    let stage = Stage::new();
    let ci = stage.bed.issue("ci");
    stage.back_up();
    stage.bed.go("2027-01-20");
    stage.restore(&stage.path("new.db")).unwrap();
    let (keys, validator) = stage.opened(&stage.path("new.db"));
    assert!(validator.validate(ci.token.expose()).is_ok());
    let report = keys.tick().unwrap();
    assert!(!report.more && report.faults == 0);
    stage.bed.clock.advance(72 * DAY).unwrap();
    assert_eq!(reason(&validator, ci.token.expose()), Some(DenialReason::Expired));
}

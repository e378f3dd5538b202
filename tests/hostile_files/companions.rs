//! What lies beside the file: logs, journals and shared memory that are none, that belong to nothing, or to others.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use keyrota::{SqliteOpenError, SqliteStore};

use crate::scene::{Scene, assert_error, make_fifo, open, works};

const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The path that an error names.
fn named(error: &SqliteOpenError) -> &Path {
    match error {
        SqliteOpenError::Directory { path }
        | SqliteOpenError::SpecialFile { path }
        | SqliteOpenError::SymbolicLink { path }
        | SqliteOpenError::HardLinked { path, .. }
        | SqliteOpenError::NotALog { path } => path,
        error => panic!("{error}"),
    }
}

/// A founded store, and no file at all: both, with the same beside them, are refused.
fn with_and_without_a_file(put: impl Fn(&Scene)) -> [SqliteOpenError; 2] {
    [Scene::founded(), Scene::new()].map(|scene| {
        put(&scene);
        scene.refused()
    })
}

#[test]
fn what_is_no_regular_file_beside_the_database_is_refused_by_its_own_name() {
    for suffix in COMPANIONS {
        for error in with_and_without_a_file(|scene| fs::create_dir(scene.beside(suffix)).unwrap()) {
            assert!(named(&assert_error!(error, Directory)).ends_with(format!("keys.db{suffix}")));
        }
        for error in with_and_without_a_file(|scene| make_fifo(&scene.beside(suffix))) {
            assert!(named(&assert_error!(error, SpecialFile)).ends_with(format!("keys.db{suffix}")));
        }
        for target in ["elsewhere", "/etc/passwd", "keys.db"] {
            for error in with_and_without_a_file(|scene| symlink(target, scene.beside(suffix)).unwrap()) {
                assert!(named(&assert_error!(error, SymbolicLink)).ends_with(format!("keys.db{suffix}")));
            }
        }
    }
}

#[test]
fn a_companion_with_a_second_name_is_refused() {
    for suffix in COMPANIONS {
        let scene = Scene::founded();
        fs::write(scene.folder().join("letter.txt"), "dear").unwrap();
        fs::hard_link(scene.folder().join("letter.txt"), scene.beside(suffix)).unwrap();
        assert!(named(&assert_error!(scene.refused(), HardLinked)).ends_with(format!("keys.db{suffix}")));
    }
}

/// A store whose process was killed before its log went into the file.
fn killed() -> Scene {
    let scene = Scene::new();
    works(&scene.file());
    let running = scene.shell();
    running.execute_batch("PRAGMA wal_autocheckpoint = 0; CREATE TABLE note (a)").unwrap();
    scene.crashed(&["", "-wal"])
}

#[test]
fn an_empty_file_beside_a_log_is_not_initialised_over() {
    let scene = killed();
    fs::write(scene.file(), b"").unwrap();
    assert_error!(scene.refused(), LogWithoutDatabase);
    fs::write(scene.beside("-wal"), b"").unwrap();
    assert_error!(scene.refused(), LogWithoutDatabase, "an empty log");
    fs::write(scene.beside("-wal"), b"letters").unwrap();
    assert_error!(scene.refused(), LogWithoutDatabase, "what is no log");
}

#[test]
fn no_file_is_made_beside_a_log() {
    let scene = killed();
    fs::remove_file(scene.file()).unwrap();
    assert_error!(scene.refused(), LogWithoutDatabase);
    assert!(!scene.file().exists());
}

#[test]
fn a_log_of_a_killed_process_is_taken_with_or_without_its_shared_memory() {
    let scene = killed();
    assert_eq!(works(&scene.file()), 2);
    let log = "SELECT * FROM note";
    assert!(scene.shell().prepare(log).is_ok(), "what the log held is in the file");

    let scene = killed();
    fs::write(scene.beside("-shm"), b"rubbish".repeat(9_000)).unwrap();
    assert_eq!(works(&scene.file()), 2);
    assert!(scene.shell().prepare(log).is_ok());
}

#[test]
fn what_lies_in_the_place_of_the_log_and_is_none_is_not_written_over() {
    for bytes in [b"x".to_vec(), b"dear log".to_vec(), b"SQLite format 3\0".repeat(300), vec![0xff; 5_000]] {
        let scene = Scene::founded();
        fs::write(scene.beside("-wal"), &bytes).unwrap();
        assert!(named(&assert_error!(scene.refused(), NotALog)).ends_with("keys.db-wal"));
    }
    for bytes in [vec![], vec![0; 3], vec![0; 5_000]] {
        let scene = Scene::founded();
        fs::write(scene.beside("-wal"), &bytes).unwrap();
        assert_eq!(works(&scene.file()), 2, "as a loss of power leaves a new log");
    }
}

/// A foreign database in the middle of a large transaction: with `wal`, beside its log; else beside its hot journal.
fn foreign_in_mid_transaction(wal: bool) -> Scene {
    let scene = Scene::new();
    let running = scene.shell();
    let mode = if wal { "WAL" } else { "DELETE" };
    running
        .execute_batch(&format!(
            "PRAGMA journal_mode = {mode}; PRAGMA cache_size = 5; CREATE TABLE t (a);
             INSERT INTO t SELECT randomblob(900) FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]');
             BEGIN; UPDATE t SET a = randomblob(1000); UPDATE t SET a = randomblob(990)"
        ))
        .unwrap();
    scene.crashed(&["", if wal { "-wal" } else { "-journal" }])
}

#[test]
fn a_foreign_database_keeps_the_log_of_its_crash_and_gets_nothing_beside_it() {
    let scene = foreign_in_mid_transaction(true);
    assert_error!(scene.refused(), ForeignDatabase);
    assert_eq!(scene.names(), ["keys.db", "keys.db-wal"], "no shared memory is left");
    fs::write(scene.beside("-shm"), b"").unwrap();
    assert_error!(scene.refused(), ForeignDatabase, "with shared memory");
}

#[test]
fn a_hot_journal_is_left_to_the_program_that_wrote_it() {
    let scene = foreign_in_mid_transaction(false);
    assert_error!(scene.refused(), Journal);
    scene.sql("SELECT * FROM t");
    assert_error!(scene.refused(), ForeignDatabase, "once it has recovered its file");

    let ours = Scene::founded();
    fs::copy(foreign_in_mid_transaction(false).beside("-journal"), ours.beside("-journal")).unwrap();
    assert_error!(ours.refused(), Journal, "a stranger's beside a file of ours");
    fs::remove_file(ours.file()).unwrap();
    assert_error!(ours.refused(), Journal, "SQLite deletes it where the file is missing");
    fs::write(ours.file(), b"").unwrap();
    assert_error!(ours.refused(), Journal, "or empty");
    fs::write(ours.beside("-journal"), b"dear journal").unwrap();
    assert_error!(ours.refused(), Journal, "what is none");
}

#[test]
fn a_journal_that_is_over_is_in_nobody_s_way() {
    for spent in [vec![], vec![0; 28], vec![0; 5_000]] {
        let scene = Scene::founded();
        fs::write(scene.beside("-journal"), spent).unwrap();
        assert_eq!(works(&scene.file()), 2);
    }
}

#[test]
fn a_database_that_another_locks_for_ever_is_busy_and_not_waited_for() {
    let scene = Scene::founded();
    let other = scene.shell();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE note (a)").unwrap();
    assert_error!(open(scene.file()).unwrap_err(), Busy, "in WAL mode");
    drop(other);
    assert_eq!(works(&scene.file()), 2);

    let scene = Scene::new();
    let other = scene.shell();
    other.execute_batch("BEGIN EXCLUSIVE; CREATE TABLE t (a)").unwrap();
    assert_error!(open(scene.file()).unwrap_err(), Busy, "a file that another is about to fill");
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    assert_error!(scene.refused(), ForeignDatabase);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how long a call waits is what is asked here")]
fn opening_waits_once_for_as_long_as_it_was_told() {
    let scene = Scene::new();
    let other = scene.shell();
    other.execute_batch("BEGIN EXCLUSIVE; CREATE TABLE t (a)").unwrap();
    let timeout = Duration::from_millis(300);
    let begun = Instant::now();
    let error = SqliteStore::options().busy_timeout(timeout).open(scene.file()).unwrap_err();
    assert_error!(error, Busy);
    let waited = begun.elapsed();
    assert!(waited >= timeout && waited < 10 * timeout, "{waited:?}");
}

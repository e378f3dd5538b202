//! Opening: which files are taken, how new ones are made, and what is in force then.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::{FOLDER, Fixture, again, refused};
use crate::store::KeyStore;
use crate::store::sqlite::connection::Place;
use crate::store::sqlite::{SqliteOpenError, SqliteStore, schema};

#[cfg(unix)]
#[test]
fn all_its_files_are_for_their_owner_alone_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    // The umask is the process's own, so another process has to have it.
    if let Some(folder) = std::env::var_os(FOLDER) {
        let fixture = Fixture::at(Path::new(&folder));
        for name in ["keys.db", "keys.db-wal", "keys.db-shm"] {
            let mode = fs::metadata(Path::new(&folder).join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "{name}");
        }
        return drop(fixture);
    }
    for umask in ["umask 000", "umask 777", "umask 022"] {
        let folder = tempfile::tempdir().unwrap();
        let test =
            "store::sqlite::tests::opening::all_its_files_are_for_their_owner_alone_whatever_the_umask";
        let run = again(test, umask, folder.path()).output().unwrap();
        assert!(run.status.success(), "{umask}: {}", String::from_utf8_lossy(&run.stderr));
        assert!(folder.path().join("keys.db").exists(), "the test ran there");
    }
}

#[test]
fn a_foreign_database_is_refused_and_keeps_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("foreign.db");
    for foreign in [
        "CREATE TABLE t (a)",
        "PRAGMA application_id = 7",
        "PRAGMA user_version = 1",
        "PRAGMA journal_mode = WAL; CREATE TABLE t (a)",
    ] {
        let shell = Connection::open(&path).unwrap();
        shell.execute_batch(foreign).unwrap();
        drop(shell);
        let bytes = fs::read(&path).unwrap();
        assert!(matches!(refused(&path), SqliteOpenError::ForeignDatabase { .. }), "{foreign}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{foreign}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing lies about after {foreign}");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_refused_database_keeps_the_log_that_a_crash_has_left() {
    let folder = tempfile::tempdir().unwrap();
    let (running, crashed) = (folder.path().join("running.db"), folder.path().join("crashed.db"));
    let shell = Connection::open(&running).unwrap();
    shell.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (a)").unwrap();
    fs::copy(&running, &crashed).unwrap();
    fs::copy(folder.path().join("running.db-wal"), folder.path().join("crashed.db-wal")).unwrap();
    let before = (fs::read(&crashed).unwrap(), fs::read(folder.path().join("crashed.db-wal")).unwrap());
    assert!(matches!(refused(&crashed), SqliteOpenError::ForeignDatabase { .. }));
    let after = (fs::read(&crashed).unwrap(), fs::read(folder.path().join("crashed.db-wal")).unwrap());
    assert_eq!(after, before);
}

#[test]
fn a_newer_schema_is_refused_and_keeps_its_bytes() {
    let fixture = Fixture::new();
    fixture.shell().pragma_update(None, "user_version", schema::SUPPORTED + 1).unwrap();
    fixture.store.close().unwrap();
    let bytes = fs::read(fixture.path()).unwrap();
    let error = refused(&fixture.path());
    let (found, supported) = (schema::SUPPORTED + 1, schema::SUPPORTED);
    assert!(
        matches!(error, SqliteOpenError::NewerSchema { found: f, supported: s, .. } if (f, s) == (found, supported))
    );
    assert_eq!(fs::read(fixture.path()).unwrap(), bytes);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_keeps_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    for bytes in [b"x".repeat(5_000), b"short".to_vec(), b"SQLite format 3\0".to_vec()] {
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(refused(&path), SqliteOpenError::NotADatabase { .. }), "{} bytes", bytes.len());
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn both_connections_have_their_pragmas_in_force() {
    let fixture = Fixture::new();
    let SqliteStore { writer, reader, follower, .. } = &fixture.store;
    for (held, reads_only) in [(writer, 0), (reader, 1), (follower, 1)] {
        let mut slot = held.lock();
        let connection = slot.connection().unwrap();
        let pragma =
            |name: &str| -> i64 { connection.pragma_query_value(None, name, |row| row.get(0)).unwrap() };
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
        assert_eq!(pragma("synchronous"), 2, "full");
        assert_eq!(pragma("secure_delete"), 1);
        assert_eq!(pragma("busy_timeout"), 5_000);
        assert_eq!(pragma("trusted_schema"), 0);
        assert_eq!(pragma("cell_size_check"), 1);
        assert_eq!(pragma("temp_store"), 2, "memory");
        assert_eq!(pragma("query_only"), reads_only);
        assert!(connection.db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE).unwrap());
        assert!(connection.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG).unwrap());
        assert!(!connection.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER).unwrap());
        assert!(!connection.db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE).unwrap());
    }
    let longest = SqliteStore::options().busy_timeout(Duration::MAX).open(fixture.path());
    assert!(longest.is_ok(), "a timeout beyond SQLite's own is cut, not a panic");
}

#[test]
fn connections_that_prepare_one_new_file_at_once_all_succeed() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..10 {
        let path = folder.path().join(format!("{round}.db"));
        fs::write(&path, b"").unwrap();
        // Past the lock that keeps the threads of one process apart, as other processes are.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    Place::new(path.clone(), Duration::from_secs(5)).unwrap().prepare().unwrap();
                });
            }
        });
    }
}

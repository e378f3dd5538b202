//! Stamps out of shared memory, and what makes a store fall back from them.
#![allow(unsafe_code, reason = "a VFS can only be made to misbehave through SQLite's C interface")]

use std::ffi::{c_int, c_void};
use std::fs;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rusqlite::{Connection, ffi};

use super::{FOLDER, Fixture, again, draft};
use crate::store::conformance::{Durability, StoreBed};
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::stamp::{Anchor, StampFallback};
use crate::store::{CommitError, Freshness, KeyStore, Revision, RowKind, StoreErrorKind, UsageBatch};
use crate::time::Timestamp;

/// Stores that ask SQLite for each stamp.
struct Queried(tempfile::TempDir);

impl StoreBed for Queried {
    fn open(&self) -> Arc<dyn KeyStore> {
        let store = SqliteStore::options().query_stamps(true).open(self.0.path().join("keys.db")).unwrap();
        assert_eq!(store.stamp_fallback(), Some(StampFallback::Asked));
        assert_eq!(store.freshness(), Freshness::ExactByQuery);
        Arc::new(store)
    }
    fn durability(&self) -> Durability {
        Durability::AfterClose
    }
}

mod queried {
    use super::Queried;
    crate::conformance_suite!(Queried(tempfile::tempdir().unwrap()));
}

/// What an anchor on the fixture's file falls back for, tested against the connection for writing.
fn anchor(fixture: &Fixture, connection: Connection) -> Anchor {
    let mut writer = fixture.store.writer.lock();
    Anchor::new(Arc::clone(&fixture.store.place), connection, writer.connection().unwrap(), true)
}

#[test]
fn a_connection_of_sqlite_s_own_vfs_on_the_file_passes_the_test() {
    let fixture = Fixture::new();
    let connection = fixture.shell();
    connection.query_row("SELECT count(*) FROM row", [], |_| Ok(())).unwrap();
    let anchor = anchor(&fixture, connection);
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    assert_eq!((anchor.fallback(), fixture.store.stamp_fallback()), (None, None));
    assert_eq!(anchor.stamp(), fixture.store.anchor.stamp());
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn the_mapping_of_another_file_does_not_pass() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let connection = other.shell();
    connection.query_row("SELECT count(*) FROM row", [], |_| Ok(())).unwrap();
    let anchor = anchor(&fixture, connection);
    assert_eq!((anchor.fallback(), anchor.stamp()), (Some(StampFallback::Disagreement), None));
}

/// The file of a connection's main database.
fn file(connection: &Connection) -> *mut ffi::sqlite3_file {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    let argument = (&raw mut file).cast();
    let operation = ffi::SQLITE_FCNTL_FILE_POINTER;
    // SAFETY: an open connection of this thread, and the argument that the operation takes.
    unsafe { ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), operation, argument) };
    file
}

unsafe extern "C" fn immutable(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_IMMUTABLE
}

unsafe extern "C" fn no_map(
    _: *mut ffi::sqlite3_file,
    _: c_int,
    _: c_int,
    _: c_int,
    _: *mut *mut c_void,
) -> c_int {
    ffi::SQLITE_IOERR_SHMMAP
}

unsafe extern "C" fn empty_map(
    _: *mut ffi::sqlite3_file,
    _: c_int,
    _: c_int,
    _: c_int,
    at: *mut *mut c_void,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { *at = ptr::null_mut() };
    ffi::SQLITE_OK
}

/// Sixteen words of its own.
static ELSEWHERE: [AtomicU64; 16] = [const { AtomicU64::new(0) }; 16];

unsafe extern "C" fn odd_map(
    _: *mut ffi::sqlite3_file,
    _: c_int,
    _: c_int,
    _: c_int,
    at: *mut *mut c_void,
) -> c_int {
    // SAFETY: the caller's; within the words.
    unsafe { *at = ELSEWHERE.as_ptr().cast_mut().cast::<u8>().add(4).cast() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn other_map(
    _: *mut ffi::sqlite3_file,
    _: c_int,
    _: c_int,
    _: c_int,
    at: *mut *mut c_void,
) -> c_int {
    // SAFETY: the caller's.
    unsafe { *at = ELSEWHERE.as_ptr().cast_mut().cast() };
    ffi::SQLITE_OK
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn a_vfs_that_does_not_do_as_sqlite_s_own_makes_a_store_fall_back() {
    type Spoil = fn(&mut ffi::sqlite3_io_methods);
    let fixture = Fixture::new();
    let cases: [(&str, StampFallback, Spoil); 7] = [
        ("old methods", StampFallback::Vfs, |methods| methods.iVersion = 1),
        ("no method", StampFallback::NoSharedMemory, |methods| methods.xShmMap = None),
        ("immutable", StampFallback::NoSharedMemory, |methods| {
            methods.xDeviceCharacteristics = Some(immutable);
        }),
        ("an error", StampFallback::NoSharedMemory, |methods| methods.xShmMap = Some(no_map)),
        ("nothing", StampFallback::NoSharedMemory, |methods| methods.xShmMap = Some(empty_map)),
        ("not aligned", StampFallback::NoSharedMemory, |methods| methods.xShmMap = Some(odd_map)),
        ("other memory", StampFallback::Disagreement, |methods| methods.xShmMap = Some(other_map)),
    ];
    for (name, why, spoil) in cases {
        let connection = fixture.shell();
        connection.query_row("SELECT count(*) FROM row", [], |_| Ok(())).unwrap();
        let file = file(&connection);
        // SAFETY: the file of an open connection, whose methods SQLite keeps for ever; they are put back before it closes.
        let own = unsafe { (*file).pMethods };
        let mut spoilt = unsafe { ptr::read(own) };
        spoil(&mut spoilt);
        unsafe { (*file).pMethods = &raw const spoilt };
        let anchor = anchor(&fixture, connection);
        assert_eq!((anchor.fallback(), anchor.stamp()), (Some(why), None), "{name}");
        unsafe { (*file).pMethods = own };
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn a_commit_that_the_shared_memory_does_not_show_makes_the_store_fall_back() {
    let other = Fixture::new();
    let blind = || {
        let mut fixture = Fixture::new();
        let [first, second] = [other.shell(), other.shell()];
        for connection in [&first, &second] {
            connection.query_row("SELECT count(*) FROM row", [], |_| Ok(())).unwrap();
        }
        fixture.store.anchor = Anchor::new(Arc::clone(&other.store.place), first, &second, true);
        assert_eq!(fixture.store.freshness(), Freshness::Exact);
        fixture
    };
    let fixture = blind();
    let mut seen = vec![fixture.store.stamp().unwrap()];
    for id in ["a", "b", "c"] {
        fixture.insert(RowKind::Key, id);
        assert_eq!(fixture.store.stamp_fallback(), Some(StampFallback::CommitUnseen));
        assert_eq!(fixture.store.freshness(), Freshness::ExactByQuery);
        let stamp = fixture.store.stamp().unwrap();
        assert!(!seen.contains(&stamp));
        seen.push(stamp);
    }

    let fixture = blind();
    let before = fixture.store.stamp().unwrap();
    fixture.store.roll_up_usage(Timestamp::MAX, 10).unwrap();
    assert_eq!(fixture.store.stamp_fallback(), None, "it has not written anything");
    let batch = UsageBatch {
        writer: "w".to_owned(),
        sequence: 1,
        flushed_at: Timestamp::MIN,
        ended: false,
        entries: vec![],
    };
    fixture.store.add_usage(&batch).unwrap();
    assert_eq!(fixture.store.stamp_fallback(), Some(StampFallback::CommitUnseen));
    assert_ne!(fixture.store.stamp().unwrap(), before);
}

#[cfg(unix)]
#[test]
fn under_another_vfs_the_store_asks_and_is_as_strict() {
    if std::env::var_os(FOLDER).is_some() {
        // SAFETY: SQLite's own VFS, which lives for ever, under another name; nothing was opened yet in this process.
        unsafe {
            let mut other = ptr::read(ffi::sqlite3_vfs_find(ptr::null()));
            (other.zName, other.pNext) = (c"other".as_ptr(), ptr::null_mut());
            assert_eq!(ffi::sqlite3_vfs_register(Box::leak(Box::new(other)), 1), ffi::SQLITE_OK);
        }
        let fixture = Fixture::new();
        assert_eq!(fixture.store.stamp_fallback(), Some(StampFallback::Vfs));
        let second = SqliteStore::open(fixture.path()).unwrap();
        for id in ["a", "b", "c"] {
            let before = second.stamp().unwrap();
            fixture.insert(RowKind::Key, id);
            assert_ne!(second.stamp().unwrap(), before);
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let test = "store::sqlite::tests::stamps::under_another_vfs_the_store_asks_and_is_as_strict";
    let run = again(test, "true", folder.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(String::from_utf8_lossy(&run.stdout).contains("1 passed"));
}

#[cfg(unix)]
#[test]
fn a_file_that_was_moved_away_or_exchanged_is_refused_stamps_included() {
    for query in [false, true] {
        let fixture = Fixture::new();
        let store = SqliteStore::options().query_stamps(query).open(fixture.path()).unwrap();
        let away = fixture.folder.join("away.db");
        assert!(store.stamp().is_ok());
        fs::rename(fixture.path(), &away).unwrap();
        let refuses = |store: &SqliteStore| {
            let batch = UsageBatch {
                writer: "w".to_owned(),
                sequence: 1,
                flushed_at: Timestamp::MIN,
                ended: false,
                entries: vec![],
            };
            let mut changes = crate::store::Changeset::new(&fixture.keyring);
            changes.insert(draft(RowKind::Key, "k1"));
            let errors = [
                store.feed(Revision(0), 1, &mut |_| ()).unwrap_err(),
                store.head().unwrap_err(),
                store.add_usage(&batch).unwrap_err(),
                match store.commit(&changes) {
                    Err(CommitError::NotWritten(error)) => error,
                    done => panic!("{done:?}"),
                },
                store.stamp().unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), StoreErrorKind::Moved, "{error:?}");
            }
        };
        refuses(&store);
        fs::write(fixture.path(), "another file").unwrap();
        refuses(&store);
        fs::remove_file(fixture.path()).unwrap();
        refuses(&store);
        fs::rename(&away, fixture.path()).unwrap();
        assert!(store.stamp().is_ok(), "it is back");
        assert_eq!(store.head().unwrap().unwrap().revision, Revision(1));
    }
}

#[test]
fn whatever_happens_to_a_follower_the_stamp_differs_afterwards() {
    let fixture = Fixture::new();
    let before = fixture.store.stamp().unwrap();
    fixture.store.anchor.begin_epoch();
    assert_ne!(fixture.store.stamp().unwrap(), before);
    let queried = SqliteStore::options().query_stamps(true).open(fixture.path()).unwrap();
    let before = queried.stamp().unwrap();
    queried.anchor.begin_epoch();
    assert_ne!(queried.stamp().unwrap(), before);
    assert_ne!(
        queried.stamp().unwrap().0[0],
        fixture.store.stamp().unwrap().0[0],
        "never equal to one read from memory"
    );
}

#[test]
fn nobody_takes_the_file_out_of_write_ahead_mode_while_a_store_is_open() {
    let fixture = Fixture::new();
    let mode = |shell: &Connection, mode: &str| {
        shell.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |row| row.get::<_, String>(0))
    };
    for other in ["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"] {
        let shell = fixture.shell();
        assert!(mode(&shell, other).is_err(), "{other}: locked");
        assert_eq!(mode(&shell, "WAL").unwrap(), "wal");
        let before = fixture.store.stamp().unwrap();
        fixture.insert(RowKind::Key, other);
        assert_ne!(fixture.store.stamp().unwrap(), before);
    }
    fixture.store.close().unwrap();
    assert!(mode(&fixture.shell(), "DELETE").is_err(), "a closed handle that is still held keeps it, too");
    let Fixture { store, folder, _folder, .. } = fixture;
    drop(store);
    let path = folder.join("keys.db");
    assert_eq!(mode(&Connection::open(&path).unwrap(), "DELETE").unwrap(), "delete");
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.head().unwrap().unwrap().revision, Revision(6));
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    assert_eq!(store.freshness(), Freshness::Exact, "opening put it into write-ahead mode again");
}

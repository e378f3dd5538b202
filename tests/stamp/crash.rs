//! Ways to die in the middle of a commit, at the places that matter to a stamp.
#![allow(unsafe_code, reason = "the places are inside SQLite, behind its C interface")]

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};

use rusqlite::{Connection, ffi};

fn file(connection: &Connection, operation: c_int) -> *mut ffi::sqlite3_file {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    let (main, argument) = (c"main".as_ptr(), (&raw mut file).cast());
    // SAFETY: an open connection of this thread, and the argument that both operations take.
    unsafe { ffi::sqlite3_file_control(connection.handle(), main, operation, argument) };
    file
}

/// Gives a file other methods, for as long as the process lives.
fn change(file: *mut ffi::sqlite3_file, change: impl FnOnce(&mut ffi::sqlite3_io_methods)) {
    // SAFETY: the file of an open connection of this thread; its methods are copied and never freed.
    unsafe {
        let mut methods = Box::new(ptr::read((*file).pMethods));
        change(&mut methods);
        (*file).pMethods = Box::leak(methods);
    }
}

fn live_on(connection: &Connection, sql: &str) -> String {
    connection.execute_batch(sql).unwrap();
    "survived".to_owned()
}

unsafe extern "C" fn die_at_sync(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    std::process::abort()
}

/// All frames of the commit are in the log, the header tells nobody.
pub(crate) fn before_the_header(connection: &Connection, sql: &str) -> String {
    connection.execute_batch("PRAGMA synchronous = FULL; SELECT count(*) FROM writer").unwrap();
    // The log's file, in write-ahead mode.
    change(file(connection, ffi::SQLITE_FCNTL_JOURNAL_POINTER), |methods| methods.xSync = Some(die_at_sync));
    live_on(connection, sql)
}

/// The mapped header, where a barrier looks at it.
static HEADER: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

unsafe extern "C" fn die_between_the_copies(_: *mut ffi::sqlite3_file) {
    let header = HEADER.load(Relaxed);
    // SAFETY: twelve words, mapped as long as the connection is open.
    let word = |n| unsafe { (*header.add(n)).load(Relaxed) };
    if (0..6).any(|n| word(n) != word(n + 6)) {
        std::process::abort()
    }
}

/// The second copy of the header is new, the first is old.
pub(crate) fn between_the_copies(connection: &Connection, sql: &str) -> String {
    connection.execute_batch("SELECT count(*) FROM writer").unwrap();
    let file = file(connection, ffi::SQLITE_FCNTL_FILE_POINTER);
    let mut header = ptr::null_mut();
    // SAFETY: the file of an open connection in write-ahead mode, mapped as SQLite maps it.
    unsafe { (*(*file).pMethods).xShmMap.unwrap()(file, 0, 32_768, 0, &raw mut header) };
    HEADER.store(header.cast(), Relaxed);
    change(file, |methods| methods.xShmBarrier = Some(die_between_the_copies));
    live_on(connection, sql)
}

unsafe extern "C" fn die_after_commit(
    _: *mut c_void,
    _: *mut ffi::sqlite3,
    _: *const c_char,
    _: c_int,
) -> c_int {
    std::process::abort()
}

/// All is written, but nobody is told.
pub(crate) fn before_commit_returns(connection: &Connection, sql: &str) -> String {
    // SAFETY: an open connection of this thread; SQLite calls the hook after the commit is written, before it returns.
    unsafe { ffi::sqlite3_wal_hook(connection.handle(), Some(die_after_commit), ptr::null_mut()) };
    live_on(connection, sql)
}

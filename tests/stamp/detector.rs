//! Detectors of commits, and the check that catches one which is blind.
#![allow(unsafe_code, reason = "the blind detector exists in SQLite's C interface only")]

use std::path::Path;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use keyrota::{KeyStore, Stamp};
use rusqlite::{Connection, ffi};

use crate::shared::Course;

/// What a check has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) checks: u64,
    pub(crate) changes: u64,
    /// Checks that found nothing new although a commit had begun after the last change was seen, and had returned.
    pub(crate) stale: u64,
}

/// Checks a detector for so long, while another process commits.
pub(crate) fn check<T: PartialEq>(course: &Course, time: Duration, detect: impl Fn() -> T) -> Seen {
    let end = Instant::now() + time;
    let mut seen = Seen::default();
    let mut last = detect();
    // What is begun after this is read was begun after the detector looked, too.
    let mut begun = course.begun.load(Acquire);
    while Instant::now() < end {
        for _ in 0..1_000 {
            let done = course.done.load(Acquire);
            let now = detect();
            seen.checks += 1;
            if now != last {
                seen.changes += 1;
                last = now;
                begun = course.begun.load(Acquire);
            } else if done > begun {
                seen.stale += 1;
            }
        }
    }
    seen
}

/// Checks that a stamp vouches for what was read after it: reads the stamp, then the number of the last commit, and
/// relies on that number for as long as the stamp stays.
pub(crate) fn follow(course: &Course, time: Duration, store: &dyn KeyStore, path: &Path) -> Seen {
    let end = Instant::now() + time;
    let mut seen = Seen::default();
    let reader = Connection::open(path).unwrap();
    let mut read = reader.prepare("SELECT flushed_at FROM writer WHERE name = 'w'").unwrap();
    while Instant::now() < end {
        let stamp = store.stamp().unwrap();
        let read: i64 = read.query_row([], |row| row.get(0)).unwrap();
        seen.changes += 1;
        for _ in 0..1_000 {
            let done = course.done.load(Acquire);
            if store.stamp().unwrap() != stamp {
                break;
            }
            seen.checks += 1;
            seen.stale += u64::from(read.cast_unsigned() < done);
        }
    }
    seen
}

/// The store's stamp.
pub(crate) fn stamp(store: &dyn KeyStore) -> Stamp {
    store.stamp().unwrap()
}

/// A detector that does not see what other connections commit until it reads itself.
pub(crate) struct Blind(Connection);

impl Blind {
    pub(crate) fn open(path: &Path) -> Self {
        let connection = Connection::open(path).unwrap();
        connection.query_row("SELECT count(*) FROM head", [], |_| Ok(())).unwrap();
        Self(connection)
    }

    pub(crate) fn version(&self) -> u32 {
        let mut version = 0_u32;
        let (main, argument) = (c"main".as_ptr(), (&raw mut version).cast());
        // SAFETY: an open connection of this thread, and the argument that the operation takes.
        unsafe { ffi::sqlite3_file_control(self.0.handle(), main, ffi::SQLITE_FCNTL_DATA_VERSION, argument) };
        version
    }
}

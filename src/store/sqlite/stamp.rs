//! The strict stamp: the words by which SQLite itself notices that somebody has committed, read where SQLite reads
//! them.
//!
//! In write-ahead mode all processes that have a database open share its *wal-index*, mapped from the file `-shm`.
//! It begins with two copies of a header of 48 bytes. A read transaction of SQLite compares the header with the one
//! that it saw last, and keeps all pages in its cache when they are equal; it takes no lock for that. A stamp is
//! the first copy, read the same way. So two equal stamps mean what SQLite itself takes equal headers for: nobody
//! has committed in between.
//!
//! # Why an equal stamp is never stale
//!
//! - **A commit that has returned shows.** COMMIT writes the header after the frames and their sync, the *second*
//!   copy first, then a barrier, then the *first* copy, and returns later. Memory is coherent: who learns that
//!   COMMIT has returned, by whatever message, and then reads the first copy, reads the new one. That also holds
//!   for a process that is killed: before the first copy is written nobody can have seen COMMIT return, and who
//!   reads the database next finds two different copies, recovers the log, and writes a new header.
//! - **Different commits have different headers.** It counts commits, names the last frame, carries the running
//!   checksum over all frames since the log began, the salts, which differ in each log, and its own checksum. All
//!   of it is compared, because the count alone begins anew after a recovery.
//! - **A torn read is a difference.** The words are read one by one, perhaps while the copy is being written. If
//!   the mixture equals the header seen last, then each word that the writer changes was read before he changed it:
//!   his COMMIT had not returned when the reading began. A mixture that equals no header at all only costs a
//!   catching up.
//! - **The feed is at least as new as the stamp read before it.** Who has read words of a new first copy and then
//!   begins a read transaction finds, behind the fence here and the barrier in SQLite, that copy or a later one,
//!   and the second copy, which was written before it. Either both agree on the new header, or SQLite waits for the
//!   writer. So a follower reads the stamp, then the feed, then publishes both together.
//!
//! What moves the header without a change of rows (emptying the log, recovery, VACUUM) costs a catching up that
//! finds nothing. So does every flush of usage, because it commits to the same file.
//!
//! # Under which conditions
//!
//! 1. The mapping must outlive every reading, and readers hold no lock. So one connection, the *anchor*, is opened
//!    with the store and closed when the store is dropped, not by `close()`; it runs no transaction after opening,
//!    so that no failure of reading or writing gives a reason to open it again. While it is open nobody can leave
//!    write-ahead mode, which needs the file for itself alone.
//! 2. Opening a connection here ends in write-ahead mode or fails, and only then is the mapping asked for, in a way
//!    that makes none. No pointer, no methods, no shared memory, an immutable file, another VFS than SQLite's own,
//!    or another platform: fall back.
//! 3. All 48 bytes are compared, and an epoch of this handle beside them, which moves after each failure that
//!    leaves the outcome of a commit open.
//! 4. The reading comes first, the rows later, both are published together (see the fourth point above).
//! 5. Self-test. At opening, without writing: the mapping is the one that the connection for writing has, the
//!    copies agree, format and checksum are right, page size and page count are those that a read transaction sees.
//!    Later, each own commit has to move it. If not: fall back.
//! 6. Flushes of usage move the stamp, as told above.
//! 7. A file that was replaced on disk goes unnoticed by SQLite, too. So whoever writes, flushes, or reads the feed
//!    or the head looks first whether the name still leads to the file; if not, the store refuses, stamps included.
//! 8. Nobody may open and close the database or its `-shm` outside of SQLite: that drops SQLite's locks. A forked
//!    child reads nothing here: a word that the kernel wipes at a fork says so. On a network file system
//!    write-ahead mode itself does not work, and the fallback would be just as blind.
//!
//! The fallback is `PRAGMA data_version`, as exact and about a thousand times slower.
#![allow(unsafe_code, reason = "SQLite's shared memory can only be reached through its C interface")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rusqlite::{Connection, ffi};

use crate::store::sqlite::connection::Place;
use crate::store::sqlite::header::{self, Size, WORDS};
use crate::store::{Stamp, StoreError, StoreErrorKind};

/// Why a [`SqliteStore`](crate::SqliteStore) asks SQLite for each stamp by a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StampFallback {
    /// The host wanted it so: [`SqliteOptions::query_stamps`](crate::SqliteOptions::query_stamps).
    Asked,
    /// This platform is not one on which SQLite's shared memory is known to be read rightly.
    Platform,
    /// The system cannot tell a forked child cheaply.
    Fork,
    /// The file was opened through another VFS than SQLite's own.
    Vfs,
    /// There is no shared memory: the file is immutable, or locked by one process for itself.
    NoSharedMemory,
    /// When the store was opened, the shared memory did not say what a read transaction saw.
    Disagreement,
    /// A commit of this handle did not move the shared memory.
    CommitUnseen,
}

impl fmt::Display for StampFallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "the host asked for it",
            Self::Platform => "the platform is not known to be fit",
            Self::Fork => "the system cannot tell a forked child cheaply",
            Self::Vfs => "SQLite uses another VFS than its own",
            Self::NoSharedMemory => "there is no shared memory",
            Self::Disagreement => "the shared memory did not say what a read transaction saw",
            Self::CommitUnseen => "a commit did not move the shared memory",
        })
    }
}

const IS_FIT: bool = cfg!(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
    target_endian = "little",
    not(miri)
));

/// The two copies of the header, in the memory that SQLite maps.
type Copies = [AtomicU64; 2 * WORDS];

/// Where the copies lie. To be read only while the connection is open that it was asked of.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mapping(NonNull<Copies>);

// SAFETY: a pointer to atomic words, in memory that all threads of all processes share.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Asks the VFS of a connection in write-ahead mode for its mapping.
    fn of(connection: &Connection) -> Result<Self, StampFallback> {
        const REGION: c_int = 32_768;
        // SAFETY: the handle of an open connection, which nobody else uses meanwhile: all connections here are
        // borrowed from whoever holds their lock. Each file control is given what SQLite documents for it: a `char
        // *`, set to a string that the caller frees, and a `sqlite3_file *`, valid while the connection is open.
        // What can be missing in an `sqlite3_file` of a foreign VFS is looked at before it is used; of `unix`, the
        // methods of version 2 are there. `xShmMap` is called as SQLite calls it, for the first region in the size
        // that SQLite always uses; a zero for `bExtend` makes nothing that is not there.
        let first = unsafe {
            let database = connection.handle();
            let mut name: *mut c_char = ptr::null_mut();
            control(database, ffi::SQLITE_FCNTL_VFSNAME, (&raw mut name).cast());
            let is_own = !name.is_null() && CStr::from_ptr(name) == c"unix";
            ffi::sqlite3_free(name.cast());
            if !is_own {
                return Err(StampFallback::Vfs);
            }
            let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
            control(database, ffi::SQLITE_FCNTL_FILE_POINTER, (&raw mut file).cast());
            let methods = file.as_ref().and_then(|file| file.pMethods.as_ref());
            let methods = methods.filter(|methods| methods.iVersion >= 2).ok_or(StampFallback::Vfs)?;
            let map = methods.xShmMap.ok_or(StampFallback::NoSharedMemory)?;
            let traits = methods.xDeviceCharacteristics.map_or(0, |traits| traits(file));
            if traits & ffi::SQLITE_IOCAP_IMMUTABLE != 0 {
                return Err(StampFallback::NoSharedMemory);
            }
            let mut first: *mut c_void = ptr::null_mut();
            if map(file, 0, REGION, 0, &raw mut first) != ffi::SQLITE_OK {
                return Err(StampFallback::NoSharedMemory);
            }
            first.cast::<Copies>()
        };
        let first = NonNull::new(first).filter(|first| first.is_aligned());
        first.map(Self).ok_or(StampFallback::NoSharedMemory)
    }

    /// The words as they are now.
    ///
    /// # Safety
    /// The connection that the mapping was asked of is open.
    #[inline]
    unsafe fn words<const N: usize>(self) -> [u64; N] {
        const { assert!(N <= 2 * WORDS) };
        // SAFETY: SQLite maps 32 KiB here until its last connection in this process lets go of the file, and one is
        // open. It is aligned: checked when it was asked for. Others write to it meanwhile, with plain stores that
        // no compiler sees beside these loads; so each load is atomic, and one that meets a store reads a value
        // from before or after it, word by word. The memory is never borrowed in any other way.
        let copies = unsafe { self.0.as_ref() };
        let words = std::array::from_fn(|n| copies.get(n).map_or(0, |word| word.load(Ordering::Relaxed)));
        // What is read later, of the database or of what is made from it, is read after the words.
        fence(Ordering::Acquire);
        words
    }
}

/// A file control of the main database; 0 when SQLite did it.
///
/// # Safety
/// The database is open and nobody else uses it; `argument` is what SQLite documents for the operation.
unsafe fn control(database: *mut ffi::sqlite3, operation: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: promised by the caller. The name of the schema ends with a zero.
    unsafe { ffi::sqlite3_file_control(database, c"main".as_ptr(), operation, argument) }
}

/// Closed: stamps are refused.
const CLOSED: u64 = 1;
/// Stamps are asked for by a query.
const QUERIED: u64 = 4;
/// From here on the state counts.
const EPOCH: u64 = 8;

/// What is read for a stamp.
struct Source {
    mapping: Mapping,
    /// The word that the kernel wipes at a fork.
    process: &'static AtomicU64,
    /// What the word was when the store was opened.
    opener: u64,
}

/// The connection that keeps the mapping, and what a handle has to know to make stamps of it.
pub(super) struct Anchor {
    source: Option<Source>,
    state: AtomicU64,
    fallback: OnceLock<StampFallback>,
    /// Never closed before this is dropped, and never used for a transaction.
    connection: Mutex<ManuallyDrop<Connection>>,
    place: Arc<Place>,
}

impl Anchor {
    /// Takes a connection for itself, and tests its mapping against what another connection, which is outside any
    /// transaction, reads.
    pub(super) fn new(place: Arc<Place>, connection: Connection, other: &Connection, wanted: bool) -> Self {
        let tested = if wanted { Source::of(&connection, other) } else { Err(StampFallback::Asked) };
        let (source, why) = match tested {
            Ok(source) => (Some(source), None),
            Err(why) => (None, Some(why)),
        };
        let anchor = Self {
            source,
            state: AtomicU64::new(0),
            fallback: OnceLock::new(),
            connection: Mutex::new(ManuallyDrop::new(connection)),
            place,
        };
        if let Some(why) = why {
            anchor.fall_back(why);
        }
        anchor
    }

    /// The stamp, out of shared memory: no call of the system, no lock. `None` where it takes more than that.
    #[inline]
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let Source { mapping, process, opener } = self.source.as_ref()?;
        let state = self.state.load(Ordering::Relaxed);
        let is_inherited = process.load(Ordering::Relaxed) != *opener;
        if state & (CLOSED | QUERIED) != 0 || is_inherited || self.place.in_doubt.load(Ordering::Relaxed) {
            return None;
        }
        // SAFETY: the anchor's connection is open until this is dropped, and this is no forked child.
        let [a, b, c, d, e, f]: [u64; WORDS] = unsafe { mapping.words() };
        Some(Stamp([a, b, c, d, e, f, state]))
    }

    /// A stamp made of a connection's data version; it equals none that was read out of shared memory.
    pub(super) fn stamp_of(&self, data_version: i64, reopened: u64) -> Stamp {
        Stamp([0, data_version.cast_unsigned(), reopened, 0, 0, 0, self.state.load(Ordering::Relaxed)])
    }

    /// Refuses where the handle is closed or inherited.
    pub(super) fn refusal(&self) -> Result<(), StoreError> {
        if self.place.is_inherited() {
            Err(StoreErrorKind::Forked.into())
        } else if self.state.load(Ordering::Relaxed) & CLOSED != 0 {
            Err(StoreErrorKind::Closed.into())
        } else {
            Ok(())
        }
    }

    /// Makes all stamps from now on differ from those before.
    pub(super) fn begin_epoch(&self) {
        self.state.fetch_add(EPOCH, Ordering::Relaxed);
    }

    /// To be told after each own commit which changed something: what the stamp was before it.
    pub(super) fn expect_other_than(&self, before: Option<Stamp>) {
        if before.is_some() && before == self.stamp() {
            self.fall_back(StampFallback::CommitUnseen);
        }
    }

    fn fall_back(&self, why: StampFallback) {
        self.fallback.get_or_init(|| why);
        self.state.fetch_or(QUERIED, Ordering::Relaxed);
    }

    /// Why stamps are queried, if they are.
    pub(super) fn fallback(&self) -> Option<StampFallback> {
        self.fallback.get().copied()
    }

    /// Refuses from now on. The mapping stays: somebody may be reading it.
    pub(super) fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::Relaxed);
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        if !self.place.is_inherited() {
            let connection = self.connection.get_mut().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: taken once, and not used afterwards.
            drop(unsafe { ManuallyDrop::take(connection) });
        }
    }
}

impl Source {
    fn of(anchor: &Connection, other: &Connection) -> Result<Self, StampFallback> {
        if !IS_FIT {
            return Err(StampFallback::Platform);
        }
        let (process, opener) = system::process_word().ok_or(StampFallback::Fork)?;
        let mapping = tested(Mapping::of(anchor)?, other)?;
        Ok(Self { mapping, process, opener })
    }
}

/// The mapping, if it is the one that the other connection reads and writes, and says what that one sees.
fn tested(mapping: Mapping, other: &Connection) -> Result<Mapping, StampFallback> {
    // Others may commit in between; then the reading is repeated.
    const ATTEMPTS: usize = 1_000;
    if Mapping::of(other)? != mapping {
        return Err(StampFallback::Disagreement);
    }
    let ask = |pragma| other.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0));
    for _ in 0..ATTEMPTS {
        // SAFETY: the other connection has the same mapping, and is open.
        let before: [u64; 2 * WORDS] = unsafe { mapping.words() };
        let (Ok(page_size), Ok(page_count)) = (ask("page_size"), ask("page_count")) else {
            return Err(StampFallback::Disagreement);
        };
        // SAFETY: as above.
        let after = unsafe { mapping.words() };
        let ([first, second], []) = before.as_chunks::<WORDS>() else { break };
        if before == after && first == second {
            let is_sound = header::is_sound(first, Size { page_size, page_count });
            return is_sound.then_some(mapping).ok_or(StampFallback::Disagreement);
        }
    }
    Err(StampFallback::Disagreement)
}

#[cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
mod system {
    use std::ffi::{c_int, c_void};
    use std::ptr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    unsafe extern "C" {
        fn mmap(
            at: *mut c_void,
            length: usize,
            access: c_int,
            flags: c_int,
            file: c_int,
            offset: i64,
        ) -> *mut c_void;
        fn madvise(at: *mut c_void, length: usize, advice: c_int) -> c_int;
    }

    /// A word that a forked child finds wiped, however it was forked, and its present value.
    pub(super) fn process_word() -> Option<(&'static AtomicU64, u64)> {
        static WORD: OnceLock<Option<&'static AtomicU64>> = OnceLock::new();
        /// How often this process and those it was forked from have set the word.
        static SET: AtomicU64 = AtomicU64::new(0);
        let word = (*WORD.get_or_init(wiped_at_a_fork))?;
        if word.load(Ordering::Relaxed) == 0 {
            let next = SET.fetch_add(1, Ordering::Relaxed) + 1;
            // Another thread may have been first; then its value holds.
            let _ = word.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        Some((word, word.load(Ordering::Relaxed)))
    }

    fn wiped_at_a_fork() -> Option<&'static AtomicU64> {
        const LENGTH: usize = 4096;
        const READ_AND_WRITE: c_int = 1 | 2;
        const PRIVATE_AND_ANONYMOUS: c_int = 0x02 | 0x20;
        const WIPE_ON_FORK: c_int = 18;
        const FAILED: *mut c_void = ptr::without_provenance_mut(usize::MAX);
        // SAFETY: a new anonymous page, which nothing else names. It is zeroed, aligned, and never unmapped, so
        // that a reference to it may live for ever.
        unsafe {
            let page = mmap(ptr::null_mut(), LENGTH, READ_AND_WRITE, PRIVATE_AND_ANONYMOUS, -1, 0);
            if page == FAILED || madvise(page, LENGTH, WIPE_ON_FORK) != 0 {
                return None;
            }
            Some(&*page.cast::<AtomicU64>())
        }
    }
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", not(miri))))]
mod system {
    use std::sync::atomic::AtomicU64;

    pub(super) fn process_word() -> Option<(&'static AtomicU64, u64)> {
        None
    }
}

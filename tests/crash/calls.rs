//! The system calls by which SQLite reaches its files, on their way through this program.
//!
//! What is planned concerns the calls of the thread that planned it, and only those on files of a database: the
//! tests run beside each other and do not disturb the test harness.
#![allow(unsafe_code, reason = "these are the C library's functions, in its place")]

use std::cell::{Cell, RefCell};
use std::ffi::CStr;

use libc::{c_char, c_int, c_void, off_t, size_t, ssize_t};

/// The sorts of calls that a plan may name, to be added up.
pub(crate) mod sort {
    pub(crate) const WRITE: u8 = 1;
    pub(crate) const SYNC: u8 = 2;
    pub(crate) const TRUNCATE: u8 = 4;
    pub(crate) const UNLINK: u8 = 8;
    pub(crate) const READ: u8 = 16;
    /// All that leaves something behind.
    pub(crate) const LASTING: u8 = WRITE | SYNC | TRUNCATE | UNLINK;
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The process is killed by SIGKILL, and the call has no effect.
    KilledBefore,
    /// The process is killed by SIGKILL when half of the bytes are written.
    KilledWithin,
    /// The process is killed by SIGKILL once the call has taken effect.
    KilledAfter,
    /// The call has no effect and answers with this error number.
    Refused(c_int),
    /// Half of the bytes are written; the attempt to write the rest is answered with this error number.
    Torn(c_int),
    /// The call takes effect and answers with this error number all the same.
    Denied(c_int),
}

/// Which calls are to fail, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// What sorts of calls are counted.
    pub(crate) sorts: u8,
    /// Only those on this file.
    pub(crate) file: Option<File>,
    /// The first that fails, counted from zero.
    pub(crate) at: u64,
    /// Whether all later ones fail too.
    pub(crate) for_ever: bool,
    pub(crate) fate: Fate,
}

/// A file of a database, by what its name ends in; or the folder of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum File {
    Database,
    Log,
    Index,
    Journal,
    Folder,
}

/// A call that left something behind, or tried to.
#[derive(Clone, Debug)]
pub(crate) enum Done {
    Write {
        file: File,
        offset: u64,
        bytes: Vec<u8>,
    },
    Truncate {
        file: File,
        length: u64,
    },
    Unlink {
        file: File,
    },
    Sync {
        file: File,
        succeeded: bool,
    },
    /// Set by the test between two calls.
    Milestone(usize),
}

thread_local! {
    static PLAN: Cell<Option<Plan>> = const { Cell::new(None) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static FAILED: Cell<u64> = const { Cell::new(0) };
    /// The error number that the rest of a torn write is answered with.
    static REST: Cell<Option<c_int>> = const { Cell::new(None) };
    static RECORD: RefCell<Option<Vec<Done>>> = const { RefCell::new(None) };
}

/// Plans for the calls of this thread from now on.
pub(crate) fn plan(plan: Plan) {
    COUNT.set(0);
    FAILED.set(0);
    REST.set(None);
    PLAN.set(Some(plan));
}

/// Ends the plan. Returns how many calls of its sorts there were, and how many of them failed.
pub(crate) fn end() -> (u64, u64) {
    PLAN.set(None);
    (COUNT.get(), FAILED.get())
}

/// How many calls of these sorts the work makes when none fails.
pub(crate) fn count<T>(sorts: u8, work: impl FnOnce() -> T) -> (T, u64) {
    plan(Plan { sorts, file: None, at: u64::MAX, for_ever: false, fate: Fate::Refused(libc::EIO) });
    let done = work();
    (done, end().0)
}

/// Works under a plan, and demands that it came to pass.
pub(crate) fn under<T>(planned: Plan, work: impl FnOnce() -> T) -> T {
    plan(planned);
    let done = work();
    let (_, failed) = end();
    assert!(failed > 0, "{planned:?}: no such call");
    done
}

/// Begins to write down the calls of this thread.
pub(crate) fn record() {
    RECORD.with(|record| *record.borrow_mut() = Some(Vec::new()));
}

pub(crate) fn milestone(number: usize) {
    note(|| Done::Milestone(number));
}

/// What was written down.
pub(crate) fn recorded() -> Vec<Done> {
    RECORD.with(|record| record.borrow_mut().take()).unwrap()
}

fn note(done: impl FnOnce() -> Done) {
    // Whoever is being torn down, or is at its own record, notes nothing.
    let _ = RECORD.try_with(|record| {
        if let Ok(mut record) = record.try_borrow_mut()
            && let Some(record) = record.as_mut()
        {
            record.push(done());
        }
    });
}

/// What the plan says of a call of this sort.
fn fate(sort: u8, file: File) -> Option<Fate> {
    let plan = PLAN.try_with(Cell::get).ok().flatten()?;
    if plan.sorts & sort == 0 || plan.file.is_some_and(|planned| planned != file) {
        return None;
    }
    let number = COUNT.replace(COUNT.get() + 1);
    let fails = number == plan.at || (plan.for_ever && number > plan.at);
    if fails {
        FAILED.set(FAILED.get() + 1);
    }
    fails.then_some(plan.fate)
}

fn is_watched() -> bool {
    let recording = RECORD.try_with(|record| record.try_borrow().is_ok_and(|record| record.is_some()));
    PLAN.try_with(Cell::get).ok().flatten().is_some() || recording.unwrap_or(false)
}

/// Which file of a database a path names.
fn file_of(path: &[u8]) -> Option<File> {
    let ends = [
        (&b"/keys.db"[..], File::Database),
        (b"/keys.db-wal", File::Log),
        (b"/keys.db-shm", File::Index),
        (b"/keys.db-journal", File::Journal),
    ];
    ends.into_iter().find(|(end, _)| path.ends_with(end)).map(|(_, file)| file)
}

/// Which file of a database a descriptor stands for; `None` also when nobody wants to know.
fn watched(fd: c_int) -> Option<File> {
    if !is_watched() {
        return None;
    }
    let mut link = [0_u8; 32];
    let mut rest = &mut link[..];
    std::io::Write::write_fmt(&mut rest, format_args!("/proc/self/fd/{fd}\0")).ok()?;
    let mut path = [0_u8; 1_024];
    // SAFETY: both buffers live here, the first ends in a zero, and the second's length is told.
    let length = unsafe { libc::readlink(link.as_ptr().cast(), path.as_mut_ptr().cast(), path.len()) };
    let path = path.get(..usize::try_from(length).ok()?)?;
    file_of(path.strip_suffix(b" (deleted)").unwrap_or(path))
}

/// Which file a descriptor that is to be synced stands for: nothing but SQLite syncs in a thread that is watched.
fn watched_or_folder(fd: c_int) -> Option<File> {
    if is_watched() { Some(watched(fd).unwrap_or(File::Folder)) } else { None }
}

fn refuse(number: c_int) -> c_int {
    // SAFETY: the C library's own place for the number, of this thread.
    unsafe { *libc::__errno_location() = number };
    -1
}

fn die() -> ! {
    // SAFETY: kills this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    loop {
        std::hint::spin_loop();
    }
}

/// A call that has an effect or not.
fn whole(sort: u8, file: Option<File>, call: impl FnOnce() -> c_int) -> c_int {
    match file.and_then(|file| fate(sort, file)) {
        None => call(),
        Some(Fate::KilledBefore) => die(),
        Some(Fate::KilledWithin | Fate::KilledAfter) => {
            call();
            die()
        }
        Some(Fate::Refused(number) | Fate::Torn(number)) => refuse(number),
        Some(Fate::Denied(number)) => {
            call();
            refuse(number)
        }
    }
}

/// A write of so many bytes; `call` writes the first of them.
fn write_some(
    file: Option<File>,
    offset: impl FnOnce() -> u64,
    (start, length): (*const c_void, size_t),
    call: impl Fn(size_t) -> ssize_t,
) -> ssize_t {
    let Some(file) = file else { return call(length) };
    let offset = offset();
    let call = |length| {
        let written = call(length);
        if let Ok(written) = usize::try_from(written) {
            // SAFETY: the caller's buffer, of which so many bytes were written.
            let bytes = || unsafe { std::slice::from_raw_parts(start.cast::<u8>(), written) }.to_vec();
            note(|| Done::Write { file, offset, bytes: bytes() });
        }
        written
    };
    if let Some(number) = REST.take() {
        return refuse(number) as ssize_t;
    }
    match fate(sort::WRITE, file) {
        None => call(length),
        Some(Fate::KilledBefore) => die(),
        Some(Fate::KilledWithin) => {
            call(length / 2);
            die()
        }
        Some(Fate::KilledAfter) => {
            call(length);
            die()
        }
        Some(Fate::Refused(number)) => refuse(number) as ssize_t,
        Some(Fate::Torn(number)) if length < 2 => refuse(number) as ssize_t,
        Some(Fate::Torn(number)) => {
            REST.set(Some(number));
            call(length / 2)
        }
        Some(Fate::Denied(number)) => {
            call(length);
            refuse(number) as ssize_t
        }
    }
}

fn sync(fd: c_int, call: impl FnOnce() -> c_int) -> c_int {
    let file = watched_or_folder(fd);
    let answer = whole(sort::SYNC, file, call);
    if let Some(file) = file {
        note(|| Done::Sync { file, succeeded: answer == 0 });
    }
    answer
}

fn cut(fd: c_int, length: off_t) -> c_int {
    let file = watched(fd);
    whole(sort::TRUNCATE, file, || {
        // SAFETY: the caller's arguments, passed on.
        let answer = unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) } as c_int;
        if let (Some(file), 0, Ok(length)) = (file, answer, u64::try_from(length)) {
            note(|| Done::Truncate { file, length });
        }
        answer
    })
}

fn read_some(fd: c_int, call: impl FnOnce() -> ssize_t) -> ssize_t {
    match watched(fd).and_then(|file| fate(sort::READ, file)) {
        Some(Fate::Refused(number)) => refuse(number) as ssize_t,
        _ => call(),
    }
}

#[unsafe(no_mangle)]
extern "C" fn write(fd: c_int, start: *const c_void, length: size_t) -> ssize_t {
    // SAFETY: asks where the descriptor stands.
    let offset = || unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) }.try_into().unwrap_or(0);
    write_some(watched(fd), offset, (start, length), |length| {
        // SAFETY: the caller's arguments, passed on; never more bytes than it has.
        unsafe { libc::syscall(libc::SYS_write, fd, start, length) as ssize_t }
    })
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(fd: c_int, start: *const c_void, length: size_t, offset: off_t) -> ssize_t {
    let place = || offset.try_into().unwrap_or(0);
    write_some(watched(fd), place, (start, length), |length| {
        // SAFETY: the caller's arguments, passed on; never more bytes than it has.
        unsafe { libc::syscall(libc::SYS_pwrite64, fd, start, length, offset) as ssize_t }
    })
}

#[unsafe(no_mangle)]
extern "C" fn pwrite(fd: c_int, start: *const c_void, length: size_t, offset: off_t) -> ssize_t {
    pwrite64(fd, start, length, offset)
}

#[unsafe(no_mangle)]
extern "C" fn read(fd: c_int, start: *mut c_void, length: size_t) -> ssize_t {
    // SAFETY: the caller's arguments, passed on.
    read_some(fd, || unsafe { libc::syscall(libc::SYS_read, fd, start, length) as ssize_t })
}

#[unsafe(no_mangle)]
extern "C" fn pread64(fd: c_int, start: *mut c_void, length: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the caller's arguments, passed on.
    read_some(fd, || unsafe { libc::syscall(libc::SYS_pread64, fd, start, length, offset) as ssize_t })
}

#[unsafe(no_mangle)]
extern "C" fn pread(fd: c_int, start: *mut c_void, length: size_t, offset: off_t) -> ssize_t {
    pread64(fd, start, length, offset)
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    // SAFETY: the caller's argument, passed on.
    sync(fd, || unsafe { libc::syscall(libc::SYS_fsync, fd) } as c_int)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: the caller's argument, passed on.
    sync(fd, || unsafe { libc::syscall(libc::SYS_fdatasync, fd) } as c_int)
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate(fd: c_int, length: off_t) -> c_int {
    cut(fd, length)
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(fd: c_int, length: off_t) -> c_int {
    cut(fd, length)
}

#[unsafe(no_mangle)]
extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller's text, which ends in a zero.
    let file = if is_watched() { file_of(unsafe { CStr::from_ptr(path) }.to_bytes()) } else { None };
    whole(sort::UNLINK, file, || {
        // SAFETY: the caller's argument, passed on.
        let answer = unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0) } as c_int;
        if let (Some(file), 0) = (file, answer) {
            note(|| Done::Unlink { file });
        }
        answer
    })
}

/// Lets this process make no file longer than so many bytes; more is an error, not a signal.
pub(crate) fn limit_files(bytes: u64) {
    // SAFETY: plain numbers, and a structure that lives here.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        assert_eq!(libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit), 0);
        limit.rlim_cur = bytes.min(limit.rlim_max);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
}

/// Puts a file system in memory in the place of a folder, for this thread alone and what it starts.
pub(crate) fn mount_memory(folder: &std::path::Path, options: &str) -> std::io::Result<()> {
    let text = |text: &str| std::ffi::CString::new(text).unwrap();
    let (kind, options) = (text("tmpfs"), text(options));
    let (root, place) = (text("/"), text(folder.to_str().unwrap()));
    let none = std::ptr::null();
    // SAFETY: texts that live here.
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(none, root.as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) == 0
            && libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

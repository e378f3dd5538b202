//! Counters in memory that processes share.
#![allow(unsafe_code, reason = "only the system can share memory between processes")]

use std::ffi::{c_int, c_void};
use std::fs::OpenOptions;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};

unsafe extern "C" {
    fn mmap(
        at: *mut c_void,
        length: usize,
        access: c_int,
        flags: c_int,
        file: c_int,
        offset: i64,
    ) -> *mut c_void;
}

/// How far the process that commits has come.
#[repr(C, align(64))]
#[derive(Default)]
pub(crate) struct Course {
    /// How many commits were begun.
    pub(crate) begun: AtomicU64,
    /// How many have returned.
    pub(crate) done: AtomicU64,
    /// Set when it is to stop.
    pub(crate) stop: AtomicBool,
}

/// The course that all processes share which map this file.
pub(crate) fn course(path: &Path) -> &'static Course {
    const LENGTH: usize = 4096;
    let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).unwrap();
    file.set_len(LENGTH as u64).unwrap();
    // SAFETY: a new mapping of a whole page that the file has, read and written as atomics alone, and never unmapped.
    unsafe {
        let page = mmap(std::ptr::null_mut(), LENGTH, 1 | 2, 1, file.as_raw_fd(), 0);
        assert_ne!(page.addr(), usize::MAX);
        &*page.cast()
    }
}

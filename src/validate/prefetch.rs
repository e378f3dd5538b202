//! Hints: to the processor, that a value will be read or written soon, and to the system, that memory will be read at
//! random. They change nothing but the time.
#![allow(unsafe_code, reason = "instructions and system calls are only to be had as unsafe ones")]

use std::mem::MaybeUninit;

/// Asks for the cache line in which a value begins; does nothing where there is no such instruction.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads and writes no memory and cannot fault, whatever the address; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = value;
}

/// Asks for large pages (2 MiB) for what will be made here, where the system gives them on request: one in 512 addresses
/// of pages is to be found then. Only before the memory is touched, and as far as it holds whole ones.
pub(crate) fn ask_for_large_pages<T>(room: &[MaybeUninit<T>]) {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        /// A multiple of every size of an ordinary page.
        const PAGE: usize = 64 << 10;
        const LARGE_PAGE: usize = 2 << 20;
        let (start, end) = (room.as_ptr().addr().next_multiple_of(PAGE), room.as_ptr_range().end.addr());
        let length = end.saturating_sub(start) / PAGE * PAGE;
        if length < LARGE_PAGE {
            return;
        }
        let start = room.as_ptr().cast::<libc::c_void>().cast_mut().with_addr(start);
        // SAFETY: the advice changes no value, and the range lies within `room`. A system that refuses it is left alone.
        unsafe { libc::madvise(start, length, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = room;
}

//! Prefetching: a hint to the processor that a value will be read soon. It changes nothing but the time.
#![allow(unsafe_code, reason = "a prefetch instruction is only to be had as an unsafe intrinsic")]

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

/// Asks for the cache line in which a value begins, to write to it: no other processor has it then, and the write need
/// not ask again. Does nothing where there is no such instruction.
#[inline]
pub(crate) fn prefetch_to_write<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: it reads and writes no memory and cannot fault, whatever the address; a processor of x86-64 that does not
    // have it takes it for no operation.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) std::ptr::from_ref(value), options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = value;
}

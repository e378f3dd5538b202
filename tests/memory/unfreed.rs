//! An allocator that hands no place out twice: what was freed stays as it was left, so that no later allocation hides
//! from the search what was not wiped.
#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};

struct Unfreed;

#[global_allocator]
static ALLOCATOR: Unfreed = Unfreed;

// SAFETY: memory comes from the system's allocator as it is asked for, and is never given back. Growing is left to the
// trait, which takes a new place and copies.
unsafe impl GlobalAlloc for Unfreed {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

//! The sequence lock: one writer changes what readers copy, and each reader learns whether its copy is of one moment.
//!
//! Everything under the lock is atomic words, so that a torn copy is no undefined behaviour, only a copy to throw
//! away. Readers write nothing, so that any number of them never disturb each other.
//!
//! Why a copy that is kept is of one moment. The writer makes the number odd, then a release fence, then stores the
//! words; a reader loads the words, then an acquire fence, then the number again. If one of its loads saw a word of the
//! writer's, the fences order the odd number before the reader's second look, which then differs from its first. And
//! the first look, an acquire load of an even number, sees all that was stored before the writer's release store of it.

use super::sync::{AtomicU64, Ordering, fence};

/// The number that a writer makes odd while it works.
#[derive(Debug, Default)]
pub(crate) struct Sequence(AtomicU64);

/// A reader's first look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen(u64);

impl Sequence {
    /// Begins to copy; `None` while the writer works.
    #[inline]
    pub(crate) fn begin(&self) -> Option<Seen> {
        let number = self.0.load(Ordering::Acquire);
        number.is_multiple_of(2).then_some(Seen(number))
    }

    /// Whether all that was loaded since the first look is of one moment.
    #[inline]
    pub(crate) fn holds(&self, seen: Seen) -> bool {
        fence(Ordering::Acquire);
        self.0.load(Ordering::Relaxed) == seen.0
    }

    /// Begins to write, which ends when the guard is dropped. There is one writer at a time; the caller sees to that.
    pub(crate) fn write(&self) -> Writing<'_> {
        let number = self.0.load(Ordering::Relaxed);
        self.0.store(number | 1, Ordering::Relaxed);
        fence(Ordering::Release);
        Writing { sequence: self, next: (number | 1).wrapping_add(1) }
    }
}

/// The writer's turn.
#[derive(Debug)]
pub(crate) struct Writing<'a> {
    sequence: &'a Sequence,
    next: u64,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.sequence.0.store(self.next, Ordering::Release);
    }
}

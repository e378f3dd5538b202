//! The slab: the entries of all held versions, each at a place that never moves.
//!
//! Slot and row of a version are found by one number, so that both can be on their way from memory while the digest is
//! computed; and who counts at a place counts there for as long as the version is held.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::id::KeyId;
use crate::validate::arena::Arena;
use crate::validate::entry::Entry;

/// How many entries are made at once.
const CHUNK: usize = 1024;
const BITS: usize = 64;

/// Entries that were made together, and which of them have been counted in.
#[derive(Debug)]
struct Chunk {
    entries: Box<[Entry]>,
    counted: [AtomicU64; CHUNK / BITS],
}

/// All entries, by position.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    chunks: Arena<Chunk>,
    /// How many positions have been made.
    length: AtomicU32,
}

impl Slab {
    #[inline]
    pub(crate) fn get(&self, position: u32) -> Option<&Entry> {
        let position = position as usize;
        self.chunks.get(position / CHUNK)?.entries.get(position % CHUNK)
    }

    /// The entry of a position, made if it is not there yet.
    pub(crate) fn make(&self, position: u32) -> Option<&Entry> {
        let number = position as usize / CHUNK;
        if self.chunks.get(number).is_none() {
            let entries = (0..CHUNK).map(|_| Entry::default()).collect();
            self.chunks.set(number, Chunk { entries, counted: Default::default() });
        }
        self.length.fetch_max(position.saturating_add(1), Ordering::Relaxed);
        self.get(position)
    }

    /// Some position, by a number that is nobody's to choose; of no meaning while there is none.
    #[inline]
    pub(crate) fn any(&self, number: u64) -> u32 {
        let length = u64::from(self.length.load(Ordering::Relaxed));
        ((length * (number & 0xFFFF_FFFF)) >> 32) as u32
    }

    /// Notes that an entry has counts to be taken.
    #[cold]
    pub(crate) fn note(&self, position: u32) {
        let position = position as usize;
        let word =
            self.chunks.get(position / CHUNK).and_then(|chunk| chunk.counted.get(position % CHUNK / BITS));
        if let Some(word) = word {
            word.fetch_or(1 << (position % BITS), Ordering::Release);
        }
    }

    /// The entries among the first `length` that were noted since they were last asked for.
    pub(crate) fn noted(&self, length: u32, mut each: impl FnMut(u32, &Entry)) {
        for number in 0..(length as usize).div_ceil(CHUNK) {
            let Some(chunk) = self.chunks.get(number) else { return };
            for (n, word) in chunk.counted.iter().enumerate() {
                let mut bits =
                    if word.load(Ordering::Relaxed) == 0 { 0 } else { word.swap(0, Ordering::Acquire) };
                while bits != 0 {
                    let place = n * BITS + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    if let Some(entry) = chunk.entries.get(place) {
                        each((number * CHUNK + place) as u32, entry);
                    }
                }
            }
        }
    }
}

/// A hash of two words that nobody outside the process can foresee.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed(pub(crate) [u64; 2]);

impl Seed {
    #[inline]
    pub(crate) fn hash(&self, [first, second]: [u64; 2]) -> u64 {
        let [a, b] = self.0;
        let fold = |x: u64, y: u64| {
            let product = u128::from(x) * u128::from(y);
            (product as u64) ^ ((product >> 64) as u64)
        };
        fold(fold(first ^ a, second ^ b) ^ first, 0x9E37_79B9_7F4A_7C15)
    }
}

/// A key's id as the two words of a name.
pub(crate) fn key_words(key: KeyId) -> [u64; 2] {
    let key = u128::from(key);
    [(key >> 64) as u64, key as u64]
}

//! The slab: the entries of all held versions, each at a place that never moves.
//!
//! Slot and row of a version are found by one number, so that both can be on their way from memory while the digest is
//! computed; and who counts at a place counts there for as long as the version is held.
//!
//! Entries are met at random, so that most of what a large slab waits for is not memory itself but where its pages are:
//! all but the first entries are made in chunks of several large pages.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::id::KeyId;
use crate::validate::arena::Arena;
use crate::validate::entry::Entry;
use crate::validate::prefetch::ask_for_large_pages;

/// How many entries are made at once: few of them first, for those who hold few, then eight megabytes.
const SMALL: usize = 1024;
const SMALL_CHUNKS: usize = 16;
const LARGE: usize = 65_536;
const BITS: usize = 64;

/// The chunk of a position, and the place there.
#[inline]
fn place(position: u32) -> (usize, usize) {
    let position = position as usize;
    match position.checked_sub(SMALL * SMALL_CHUNKS) {
        None => (position / SMALL, position % SMALL),
        Some(beyond) => (SMALL_CHUNKS + beyond / LARGE, beyond % LARGE),
    }
}

/// The first position of a chunk.
fn beginning(chunk: usize) -> usize {
    match chunk.checked_sub(SMALL_CHUNKS) {
        None => chunk * SMALL,
        Some(beyond) => SMALL * SMALL_CHUNKS + beyond * LARGE,
    }
}

/// Entries that were made together, and which of them have been counted in.
#[derive(Debug)]
struct Chunk {
    entries: Box<[Entry]>,
    counted: Box<[AtomicU64]>,
}

impl Chunk {
    fn new(length: usize) -> Self {
        let mut entries = Vec::with_capacity(length);
        ask_for_large_pages(entries.spare_capacity_mut());
        entries.extend((0..length).map(|_| Entry::default()));
        let counted = (0..length / BITS).map(|_| AtomicU64::new(0)).collect();
        Self { entries: entries.into(), counted }
    }
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
        let (chunk, place) = place(position);
        self.chunks.get(chunk)?.entries.get(place)
    }

    /// The entry of a position, made if it is not there yet.
    pub(crate) fn make(&self, position: u32) -> Option<&Entry> {
        let (number, _) = place(position);
        if self.chunks.get(number).is_none() {
            self.chunks.set(number, Chunk::new(beginning(number + 1) - beginning(number)));
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
        let (chunk, place) = place(position);
        if let Some(word) = self.chunks.get(chunk).and_then(|chunk| chunk.counted.get(place / BITS)) {
            word.fetch_or(1 << (place % BITS), Ordering::Release);
        }
    }

    /// The entries among the first `length` that were noted since they were last asked for.
    pub(crate) fn noted(&self, length: u32, mut each: impl FnMut(u32, &Entry)) {
        for number in (0..).take_while(|number| beginning(*number) < length as usize) {
            let Some(chunk) = self.chunks.get(number) else { return };
            for (n, word) in chunk.counted.iter().enumerate() {
                let mut bits =
                    if word.load(Ordering::Relaxed) == 0 { 0 } else { word.swap(0, Ordering::Acquire) };
                while bits != 0 {
                    let place = n * BITS + bits.trailing_zeros() as usize;
                    bits &= bits - 1;
                    if let Some(entry) = chunk.entries.get(place) {
                        each((beginning(number) + place) as u32, entry);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_position_has_a_place_of_its_own_in_a_chunk_that_has_room_for_it() {
        let mut before = None;
        for position in (0..40_000).chain(16_384 + 3 * 65_536 - 10..16_384 + 3 * 65_536 + 10) {
            let (chunk, place) = place(position);
            assert_eq!(beginning(chunk) + place, position as usize);
            assert!(beginning(chunk) + place < beginning(chunk + 1));
            assert!(before.replace((chunk, place)) < Some((chunk, place)));
        }
    }

    #[test]
    fn entries_that_were_noted_are_told_once_by_their_positions() {
        let slab = Slab::default();
        let positions = [0, 63, 1023, 1024, 16_383, 16_384, 16_384 + 65_535, 16_384 + 65_536];
        (0..SMALL_CHUNKS + 2).for_each(|chunk| assert!(slab.make(beginning(chunk) as u32).is_some()));
        positions.iter().for_each(|position| slab.note(*position));
        let mut told = Vec::new();
        slab.noted(u32::MAX, |position, _| told.push(position));
        assert_eq!(told, positions);
        slab.noted(u32::MAX, |position, _| panic!("{position} was told twice"));
    }
}

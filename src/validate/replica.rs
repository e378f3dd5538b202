//! The replica: all versions that a token can name, with what decides about them, in memory.
//!
//! Readers share it without a lock: they copy what they need and then ask the sequence lock whether the copy is of one
//! moment. The [`Keeper`](crate::validate::keeper::Keeper) is the one writer, and the feed the one way in. A row that
//! cannot be believed, or is gone, leaves an entry that denies, never a gap that an older state could show through.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use crate::crypto::{self, RandomError};
use crate::store::Stamp;
use crate::time::Timestamp;
use crate::validate::arena::Arena;
use crate::validate::cells::Cells;
use crate::validate::entry::Entry;
use crate::validate::facts::Shared;
use crate::validate::index::Index;
use crate::validate::sequence::Sequence;
use crate::validate::slab::{Seed, Slab, key_words};
use crate::validate::stripes::Stripes;

/// The locator of an entry that no token leads to.
pub(crate) const NOWHERE: [u64; 2] = [0, 0];

/// What validation looks at.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) sequence: Sequence,
    pub(crate) seed: Seed,
    /// From the hash of a locator to positions in the slab.
    pub(crate) index: Index,
    pub(crate) slab: Slab,
    pub(crate) shared: Shared,
    pub(crate) cells: Arena<Cells>,
    pub(crate) stripes: Arena<Stripes>,
    synced: Point,
}

/// The point of the store that a replica stands at.
#[derive(Debug, Default)]
struct Point {
    /// Whether the replica is the store's state at one moment: not while the feed is being read, nor after that failed.
    whole: AtomicBool,
    stamp: [AtomicU64; 7],
    high_water: AtomicI64,
}

impl Replica {
    /// An empty replica, which stands nowhere.
    pub(crate) fn new() -> Result<Self, RandomError> {
        let [a, b]: [[u8; 8]; 2] = [crypto::random_bytes()?, crypto::random_bytes()?];
        Ok(Self {
            sequence: Sequence::default(),
            seed: Seed([u64::from_ne_bytes(a), u64::from_ne_bytes(b)]),
            index: Index::for_readers(),
            slab: Slab::default(),
            shared: Shared::default(),
            cells: Arena::default(),
            stripes: Arena::default(),
            synced: Point::default(),
        })
    }

    /// Whether the replica is whole.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        self.synced.whole.load(Ordering::Relaxed)
    }

    /// Whether the replica is the store's state at this stamp.
    #[inline]
    pub(crate) fn is_at(&self, stamp: &Stamp) -> bool {
        let same = self.synced.stamp.iter().zip(stamp.0);
        self.is_whole() && same.fold(0, |all, (a, b)| all | (a.load(Ordering::Relaxed) ^ b)) == 0
    }

    /// The latest time that a tick has recorded.
    #[inline]
    pub(crate) fn high_water(&self) -> Timestamp {
        Timestamp::from_unix_micros(self.synced.high_water.load(Ordering::Relaxed)).unwrap_or(Timestamp::MIN)
    }

    /// Leaves the point at which the replica stood.
    pub(crate) fn leave(&self) {
        let _writing = self.sequence.write();
        self.synced.whole.store(false, Ordering::Relaxed);
    }

    /// Arrives at a point: the replica is whole from now on.
    pub(crate) fn arrive(&self, stamp: &Stamp, high_water: Timestamp) {
        let _writing = self.sequence.write();
        self.synced.stamp.iter().zip(stamp.0).for_each(|(word, new)| word.store(new, Ordering::Relaxed));
        self.synced.high_water.store(high_water.unix_micros(), Ordering::Relaxed);
        self.synced.whole.store(true, Ordering::Relaxed);
    }

    /// Makes a locator lead to an entry, and to no other. The writer's.
    pub(crate) fn place_at(&self, position: u32, entry: &Entry, locator: [u64; 2]) {
        if entry.locator() == locator {
            return;
        }
        self.take_away(position, entry);
        if let Some(other) = self.position_of(locator)
            && let Some(entry) = self.slab.get(other)
        {
            self.take_away(other, entry);
        }
        entry.set_locator(locator);
        self.index.add(self.seed.hash(locator), position, self.hash_of_locator());
    }

    /// Makes no locator lead to an entry. The writer's.
    pub(crate) fn take_away(&self, position: u32, entry: &Entry) {
        if entry.locator() != NOWHERE {
            self.index.remove(self.seed.hash(entry.locator()), position, self.hash_of_locator());
            entry.set_locator(NOWHERE);
        }
    }

    fn hash_of_locator(&self) -> impl Fn(u32) -> u64 {
        |position| self.slab.get(position).map_or(0, |entry| self.seed.hash(entry.locator()))
    }

    /// From a position to the hash of its key.
    pub(crate) fn hash_of_key(&self) -> impl Fn(u32) -> u64 {
        let key = |position| self.slab.get(position).map(Entry::key);
        move |position| key(position).map_or(0, |key| self.seed.hash(key_words(key)))
    }

    /// Where the entry of a locator is.
    pub(crate) fn position_of(&self, locator: [u64; 2]) -> Option<u32> {
        let hash = self.seed.hash(locator);
        self.index.find(hash, |position| self.slab.get(position).is_some_and(|entry| entry.is_at(locator)))
    }

    /// Asks for the memory in which a search for this locator begins.
    #[inline]
    pub(crate) fn prefetch_index(&self, locator: [u64; 2]) {
        self.index.prefetch(self.seed.hash(locator));
    }

    /// The entry that a locator probably leads to, or somebody's where it leads nowhere: so that what is unknown is
    /// looked for in as much memory as what is known. It is on its way from memory from then on.
    #[inline]
    pub(crate) fn likely(&self, locator: [u64; 2]) -> Option<Likely<'_>> {
        let hash = self.seed.hash(locator);
        let found = self.index.likely(hash);
        let position = found.unwrap_or_else(|| self.slab.any(hash));
        let entry = self.slab.get(position)?;
        entry.prefetch();
        Some(Likely { place: Place { position, entry }, is_nobodys: found.is_none() })
    }

    /// The entry that a locator leads to, given the likely one, and whether nothing has changed since that was looked
    /// for. No two entries have one locator, so that the likely one is the right one if it has it.
    #[inline]
    pub(crate) fn find<'a>(
        &'a self,
        locator: [u64; 2],
        likely: Option<&Likely<'a>>,
        is_unchanged: bool,
    ) -> Option<Place<'a>> {
        match likely {
            Some(Likely { is_nobodys: true, .. }) if is_unchanged => None,
            Some(Likely { place, .. }) if place.entry.is_at(locator) => Some(*place),
            _ => self.search(locator),
        }
    }

    #[cold]
    fn search(&self, locator: [u64; 2]) -> Option<Place<'_>> {
        let position = self.position_of(locator)?;
        Some(Place { position, entry: self.slab.get(position)? })
    }
}

/// Where a locator probably leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Likely<'a> {
    pub(crate) place: Place<'a>,
    /// Whether the index knew nothing of the locator.
    is_nobodys: bool,
}

/// An entry, and its position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) position: u32,
    pub(crate) entry: &'a Entry,
}

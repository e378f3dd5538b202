//! The index: from the hash of a name to positions in the slab. Lock-free for readers, one writer.
//!
//! Each entry is one word: 32 bits of the hash and the position. Eight of them share a cache line, and are looked at
//! together, without a branch that depends on which of them it is: such a branch would be guessed wrongly half the time,
//! and only after the line has come from memory, so that nothing else could be done meanwhile.
//!
//! An index grows without moving what it points to, in 256 parts that double one by one and not at the same moment. Tables that were outgrown stay, because a reader may be in
//! one; together they are as large as those in use. An index that only the writer reads gives them back.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::validate::prefetch::prefetch;

const PARTS: usize = 256;
/// From 16 entries on, doubled each time: enough for 2³² entries in all.
const LEVELS: usize = 22;
const SMALLEST: usize = 16;

/// A position's place in an entry when there was one that is gone; a search goes on behind it.
const GONE: u32 = u32::MAX;

/// A line of entries; where it is full, those that belong here follow in the next.
#[derive(Debug, Default)]
#[repr(align(32))]
struct Line([AtomicU64; 4]);

type Table = Box<[Line]>;

impl Line {
    /// The first entry of this tag, which may be gone; 0 where there is none.
    #[inline]
    fn first(&self, tag: u32) -> u64 {
        let entries = self.0.each_ref().map(|entry| entry.load(Ordering::Relaxed));
        entries.iter().rev().fold(0, |found, entry| if (entry >> 32) as u32 == tag { *entry } else { found })
    }
}

/// One of the parts.
#[derive(Debug)]
struct Part {
    level: AtomicUsize,
    tables: [OnceLock<Table>; LEVELS],
    /// How many entries of the table in use are not empty. The writer's alone.
    filled: AtomicUsize,
}

/// Positions by the hash of a name.
#[derive(Debug)]
pub(crate) struct Index {
    parts: Box<[Part]>,
}

/// The parts of a hash: which part, where in its table, and by what an entry is recognised.
#[derive(Clone, Copy)]
struct Split {
    part: usize,
    place: u64,
    tag: u32,
}

fn split(hash: u64) -> Split {
    Split { part: (hash >> 56) as usize, place: (hash >> 24) & 0xFFFF_FFFF, tag: hash as u32 }
}

fn entry(tag: u32, position: u32) -> u64 {
    (u64::from(tag) << 32) | u64::from(position.wrapping_add(1))
}

/// The position in an entry, if it has this tag.
fn position(entry: u64, tag: u32) -> Option<u32> {
    let position = (entry as u32).wrapping_sub(1);
    ((entry >> 32) as u32 == tag && entry as u32 != 0 && position != GONE - 1).then_some(position)
}

impl Default for Index {
    fn default() -> Self {
        let part = |_| Part {
            level: AtomicUsize::new(0),
            tables: [const { OnceLock::new() }; LEVELS],
            filled: AtomicUsize::new(0),
        };
        Self { parts: (0..PARTS).map(part).collect() }
    }
}

impl Part {
    /// How many lines a level's table has. The parts' sizes lie between a power of two and the next, so that they do not all
    /// double at once.
    fn size(number: usize, level: usize) -> usize {
        (((SMALLEST * (PARTS + number)) << level) / PARTS).div_ceil(4)
    }

    #[inline]
    fn table(&self) -> &[Line] {
        let table = self.tables.get(self.level.load(Ordering::Acquire)).and_then(OnceLock::get);
        table.map_or(&[], |table| table)
    }

    /// Makes room for one more.
    fn make_room(&self, number: usize, hash_of: impl Fn(u32) -> u64) {
        let level = self.level.load(Ordering::Relaxed);
        let old = self.table();
        let filled = self.filled.load(Ordering::Relaxed);
        if !old.is_empty() && filled < old.len() * 3 {
            return;
        }
        let live = || entries(old).map(|entry| entry.load(Ordering::Relaxed)).filter(|entry| is_live(*entry));
        // A table full of what is gone is rebuilt one level higher all the same: a reader may be in this one.
        let level = if old.is_empty() { level } else { level + 1 };
        let Some(cell) = self.tables.get(level) else { return };
        let table: Table = (0..Self::size(number, level)).map(|_| Line::default()).collect();
        let mut kept = 0;
        for entry in live() {
            let position = (entry as u32).wrapping_sub(1);
            insert(&table, split(hash_of(position)).place, entry);
            kept += 1;
        }
        drop(cell.set(table));
        self.filled.store(kept, Ordering::Relaxed);
        self.level.store(level, Ordering::Release);
    }
}

fn is_live(entry: u64) -> bool {
    entry as u32 != 0 && entry as u32 != GONE
}

fn entries<'a>(lines: impl IntoIterator<Item = &'a Line>) -> impl Iterator<Item = &'a AtomicU64> {
    lines.into_iter().flat_map(|line| &line.0)
}

/// The line in which a search in a table begins.
#[inline]
fn start(table: &[Line], place: u64) -> usize {
    ((place * table.len() as u64) >> 32) as usize
}

/// All entries of a table, in the order in which a search for this place looks at them.
#[inline]
fn from(table: &[Line], place: u64) -> impl Iterator<Item = &AtomicU64> {
    let (before, after) = table.split_at_checked(start(table, place)).unwrap_or((&[], table));
    entries(after.iter().chain(before))
}

/// Puts an entry into the first empty place; says whether there was one.
fn insert(table: &[Line], place: u64, entry: u64) -> bool {
    let empty = from(table, place).find(|cell| cell.load(Ordering::Relaxed) == 0);
    empty.map(|cell| cell.store(entry, Ordering::Relaxed)).is_some()
}

impl Index {
    /// Asks for the cache line in which a search for this hash begins.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        let Split { part, place, .. } = split(hash);
        if let Some(table) = self.parts.get(part).map(Part::table)
            && let Some(line) = table.get(start(table, place))
        {
            prefetch(line);
        }
    }

    /// The position that this hash most probably leads to.
    #[inline]
    pub(crate) fn likely(&self, hash: u64) -> Option<u32> {
        let Split { part, place, tag } = split(hash);
        let table = self.parts.get(part)?.table();
        let line = table.get(start(table, place))?;
        position(line.first(tag), tag).or_else(|| self.find(hash, |_| true))
    }

    /// The first position of this hash that is the one looked for.
    ///
    /// While the writer works, the answer may be wrong: the caller's sequence lock says so.
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let Split { part, place, tag } = split(hash);
        for cell in from(self.parts.get(part)?.table(), place) {
            let entry = cell.load(Ordering::Relaxed);
            if entry == 0 {
                return None;
            }
            if let Some(position) = position(entry, tag)
                && is_it(position)
            {
                return Some(position);
            }
        }
        None
    }

    /// Adds a position. `hash_of` gives the hash of each position that is in already.
    pub(crate) fn add(&self, hash: u64, position: u32, hash_of: impl Fn(u32) -> u64) {
        let Split { part: number, place, tag } = split(hash);
        let Some(part) = self.parts.get(number) else { return };
        part.make_room(number, hash_of);
        if insert(part.table(), place, entry(tag, position)) {
            part.filled.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives back the tables that the part of this hash has outgrown; nobody can be in one.
    pub(crate) fn forget_outgrown(&mut self, hash: u64) {
        if let Some(part) = self.parts.get_mut(split(hash).part) {
            let outgrown = *part.level.get_mut();
            part.tables.iter_mut().take(outgrown).for_each(|table| drop(table.take()));
        }
    }

    /// Removes a position, or puts another in its place.
    pub(crate) fn change(&self, hash: u64, position: u32, to: Option<u32>) {
        let Split { part, place, tag } = split(hash);
        let table = self.parts.get(part).map_or(&[] as &[_], Part::table);
        let wanted = entry(tag, position);
        if let Some(cell) = from(table, place).find(|cell| cell.load(Ordering::Relaxed) == wanted) {
            let gone = (u64::from(tag) << 32) | u64::from(GONE);
            cell.store(to.map_or(gone, |to| entry(tag, to)), Ordering::Relaxed);
        }
    }
}

//! The index: from the hash of a name to positions in the slab. Lock-free for readers, one writer.
//!
//! Each entry is 32 bits: as many for the position as the table may need, the others of the hash. Memory is what a search
//! waits for, so that the smaller index is the faster one; who is led to a wrong place once in hundreds of times looks on.
//! Four entries are looked at together, without a branch that depends on which of them it is: such a branch would be
//! guessed wrongly half the time, and only after the line has come from memory, so that nothing else could be done meanwhile.
//!
//! What is removed leaves no trace, so that an index in which names come and go for ever stays as large as it is. It
//! grows without moving what it points to, in 256 parts that double one by one and not at the same moment. Tables that
//! were outgrown stay, because a reader may be in one; together they are as large as those in use. An index that only the
//! writer reads gives them back.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::validate::lines::{Line, Lines, Quarry};
use crate::validate::prefetch::prefetch;

const PARTS: usize = 256;
/// From 16 entries on, doubled each time: enough for 2²⁸ entries in all.
const LEVELS: usize = 17;
const SMALLEST: usize = 16;
/// How many bits of an entry tell the position in a table of the first level: room for three times as many positions as
/// all parts of that level hold entries.
const POSITION: u32 = 14;

/// The entries of a part, and how they are written.
#[derive(Debug)]
struct Table {
    lines: Lines,
    form: Form,
}

/// How a table writes its entries: which bits tell the position, by one more than it is; the others are the hash's. An
/// empty place is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    position: u32,
}

impl Form {
    const fn of_level(level: usize) -> Self {
        Self { position: (1 << (POSITION + level as u32)) - 1 }
    }

    /// The entry of a position, if it can be written.
    fn entry(self, split: Split, position: u32) -> Option<u32> {
        let place = position.checked_add(1).filter(|place| *place <= self.position)?;
        Some(split.tag & !self.position | place)
    }

    #[inline]
    fn has_tag(self, entry: u32, tag: u32) -> bool {
        (entry ^ tag) & !self.position == 0
    }

    /// The position in an entry, if it has this tag.
    #[inline]
    fn position(self, entry: u32, tag: u32) -> Option<u32> {
        let position = (entry & self.position).checked_sub(1)?;
        self.has_tag(entry, tag).then_some(position)
    }

    /// The first entry of a line with this tag; 0 where there is none.
    #[inline]
    fn first(self, line: &Line, tag: u32) -> u32 {
        let entries = line.0.each_ref().map(|entry| entry.load(Ordering::Relaxed));
        entries.iter().rev().fold(0, |found, entry| if self.has_tag(*entry, tag) { *entry } else { found })
    }
}

/// Positions by the hash of a name.
///
/// What a search reads of all parts lies side by side, so that it stays near the processor: their levels, and the heads
/// of the tables of one level.
#[derive(Debug)]
pub(crate) struct Index {
    /// At which level each part is.
    levels: Box<[AtomicU8]>,
    /// Of each level the tables of all parts.
    tables: [OnceLock<Box<[OnceLock<Table>]>>; LEVELS],
    /// How many entries of each part's table in use are not empty. The writer's alone.
    filled: Box<[AtomicUsize]>,
    quarry: Quarry,
}

/// The parts of a hash: which part, where in its table, and by what an entry is recognised.
#[derive(Clone, Copy)]
struct Split {
    part: usize,
    place: u64,
    tag: u32,
}

fn split_of(hash: u64) -> Split {
    Split { part: (hash >> 56) as usize, place: (hash >> 24) & 0xFFFF_FFFF, tag: hash as u32 }
}

impl Default for Index {
    fn default() -> Self {
        Self::of(Quarry::Apart)
    }
}

impl Index {
    /// One that is read all the time, and by many: nothing of it is ever given back.
    pub(crate) fn for_readers() -> Self {
        Self::of(Quarry::Shared(Mutex::default()))
    }

    fn of(quarry: Quarry) -> Self {
        Self {
            levels: (0..PARTS).map(|_| AtomicU8::new(0)).collect(),
            tables: [const { OnceLock::new() }; LEVELS],
            filled: (0..PARTS).map(|_| AtomicUsize::new(0)).collect(),
            quarry,
        }
    }
}

impl Table {
    fn new(number: usize, level: usize, quarry: &Quarry) -> Self {
        // The parts' sizes lie between a power of two and the next, so that they do not all double at once.
        let lines = (((SMALLEST * (PARTS + number)) << level) / PARTS).div_ceil(4);
        Self { lines: quarry.lines(lines), form: Form::of_level(level) }
    }

    /// The line in which a search begins.
    #[inline]
    fn start(&self, place: u64) -> usize {
        ((place * self.lines.len() as u64) >> 32) as usize
    }

    /// All lines with their numbers, in the order in which a search that begins here looks at them.
    #[inline]
    fn from(&self, start: usize) -> impl Iterator<Item = (usize, &Line)> {
        let (before, after) = self.lines.split_at_checked(start).unwrap_or((&[], &*self.lines));
        (start..self.lines.len()).zip(after).chain((0..start).zip(before))
    }

    /// The positions of all entries.
    fn positions(&self) -> impl Iterator<Item = u32> {
        self.lines.iter().flat_map(Line::entries).filter_map(|(_, entry)| self.position(entry))
    }

    fn position(&self, entry: u32) -> Option<u32> {
        self.form.position(entry, entry)
    }

    /// Puts a position into the first empty place; says whether there was one.
    fn insert(&self, split: Split, position: u32) -> bool {
        let mut empty = self.from(self.start(split.place)).filter_map(|(_, line)| line.place_of(0));
        let entry = self.form.entry(split, position);
        entry.zip(empty.next()).map(|(entry, cell)| cell.store(entry, Ordering::Relaxed)).is_some()
    }

    /// Empties the place of a position, and lets those come nearer that went on because it was taken: they are found
    /// still, and no search goes further than it must. Says whether the position was there.
    fn remove(&self, split: Split, position: u32, hash_of: impl Fn(u32) -> u64) -> bool {
        let Some(wanted) = self.form.entry(split, position) else { return false };
        let mut lines = self.from(self.start(split.place));
        let found = lines.find_map(|(number, line)| Some((number, line, line.place_of(wanted)?)));
        let Some((mut hole, mut previous, mut place)) = found else { return false };
        let from = |line: usize, to: usize| (to + self.lines.len() - line) % self.lines.len();
        for (number, line) in self.from(hole).skip(1) {
            // Nobody goes on from a line that has an empty place.
            if !previous.is_full() {
                break;
            }
            let passed_the_hole = |entry| {
                let home = self.position(entry).map(|position| self.start(split_of(hash_of(position)).place));
                home.is_some_and(|home| from(home, number) >= from(hole, number))
            };
            if let Some((cell, entry)) = line.entries().find(|(_, entry)| passed_the_hole(*entry)) {
                place.store(entry, Ordering::Relaxed);
                (hole, place) = (number, cell);
            }
            previous = line;
        }
        place.store(0, Ordering::Relaxed);
        true
    }

    /// Whether one more has room, and its position can be written.
    fn has_room(&self, filled: usize, position: u32) -> bool {
        filled < self.lines.len() * 3
            && self.form.entry(Split { part: 0, place: 0, tag: 0 }, position).is_some()
    }
}

impl Index {
    #[inline]
    fn table(&self, split: Split) -> Option<&Table> {
        let level = self.levels.get(split.part)?.load(Ordering::Acquire);
        self.tables.get(usize::from(level))?.get()?.get(split.part)?.get()
    }

    /// Makes room for one more in a part, of whose table so many entries are filled.
    fn make_room(
        &self,
        split: Split,
        filled: &AtomicUsize,
        position: u32,
        hash_of: impl Fn(u32) -> u64,
    ) -> Option<()> {
        let level = self.levels.get(split.part)?;
        loop {
            let (at, old) = (level.load(Ordering::Relaxed), self.table(split));
            if old.is_some_and(|old| old.has_room(filled.load(Ordering::Relaxed), position)) {
                return Some(());
            }
            let next = if old.is_none() { at } else { at + 1 };
            let tables = self.tables.get(usize::from(next))?;
            let tables = tables.get_or_init(|| (0..PARTS).map(|_| OnceLock::new()).collect());
            let table = Table::new(split.part, next.into(), &self.quarry);
            let kept = old.into_iter().flat_map(Table::positions);
            let kept = kept.filter(|position| table.insert(split_of(hash_of(*position)), *position)).count();
            drop(tables.get(split.part)?.set(table));
            filled.store(kept, Ordering::Relaxed);
            level.store(next, Ordering::Release);
        }
    }

    /// Asks for the cache line in which a search for this hash begins.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        let split = split_of(hash);
        if let Some(table) = self.table(split)
            && let Some(line) = table.lines.get(table.start(split.place))
        {
            prefetch(line);
        }
    }

    /// The position that this hash most probably leads to.
    #[inline]
    pub(crate) fn likely(&self, hash: u64) -> Option<u32> {
        let split = split_of(hash);
        let table = self.table(split)?;
        let line = table.lines.get(table.start(split.place))?;
        let position = table.form.position(table.form.first(line, split.tag), split.tag);
        // Nobody goes on from a line that has an empty place.
        if position.is_some() || !line.is_full() { position } else { self.find(hash, |_| true) }
    }

    /// The first position of this hash that is the one looked for.
    ///
    /// While the writer works, the answer may be wrong: the caller's sequence lock says so.
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let split = split_of(hash);
        let table = self.table(split)?;
        for (_, line) in table.from(table.start(split.place)) {
            let mut positions = line.entries().filter_map(|(_, entry)| table.form.position(entry, split.tag));
            if let Some(position) = positions.find(|position| is_it(*position)) {
                return Some(position);
            }
            if !line.is_full() {
                return None;
            }
        }
        None
    }

    /// Adds a position. `hash_of` gives the hash of each position that is in already.
    pub(crate) fn add(&self, hash: u64, position: u32, hash_of: impl Fn(u32) -> u64) {
        let split = split_of(hash);
        let Some(filled) = self.filled.get(split.part) else { return };
        // Where the last table can grow no more, it is filled to its end.
        let _room = self.make_room(split, filled, position, hash_of);
        if self.table(split).is_some_and(|table| table.insert(split, position)) {
            filled.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Gives back the tables that the part of this hash has outgrown; nobody can be in one.
    pub(crate) fn forget_outgrown(&mut self, hash: u64) {
        let part = split_of(hash).part;
        let outgrown = self.levels.get_mut(part).map_or(0, |level| usize::from(*level.get_mut()));
        for tables in self.tables.iter_mut().take(outgrown).filter_map(OnceLock::get_mut) {
            tables.get_mut(part).and_then(OnceLock::take);
        }
    }

    /// Removes a position. `hash_of` gives the hash of each position that is in.
    pub(crate) fn remove(&self, hash: u64, position: u32, hash_of: impl Fn(u32) -> u64) {
        let split = split_of(hash);
        let is_removed = self.table(split).is_some_and(|table| table.remove(split, position, hash_of));
        if let Some(filled) = self.filled.get(split.part).filter(|_| is_removed) {
            filled.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Positions by hashes that crowd: all in one part, most of them in few places.
    fn crowded(position: u32) -> u64 {
        let mixed = u64::from(position).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed % 23) << 51 | mixed >> 40
    }

    fn found(index: &Index, position: u32) -> bool {
        index.find(crowded(position), |at| at == position) == Some(position)
    }

    #[test]
    fn what_comes_and_goes_in_any_order_is_found_while_it_is_there_and_never_after() {
        let (index, mut held) = (Index::default(), BTreeSet::new());
        let mut chance = 7u64;
        for _ in 0..20_000 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let position = (chance >> 33) as u32 % 90;
            if held.insert(position) {
                index.add(crowded(position), position, crowded);
            } else {
                held.remove(&position);
                index.remove(crowded(position), position, crowded);
            }
            assert!((0..90).all(|position| found(&index, position) == held.contains(&position)));
        }
        let filled: usize = index.filled.iter().map(|filled| filled.load(Ordering::Relaxed)).sum();
        assert_eq!(filled, held.len());
    }

    #[test]
    fn an_index_in_which_names_come_and_go_for_ever_stays_as_large_as_it_is() {
        let index = Index::default();
        let level = || index.levels.iter().map(|level| level.load(Ordering::Relaxed)).max();
        (0..200).for_each(|position| index.add(crowded(position), position, crowded));
        let before = level();
        for position in 0..20_000 {
            index.remove(crowded(position), position, crowded);
            index.add(crowded(position + 200), position + 200, crowded);
        }
        assert_eq!(level(), before);
    }

    #[test]
    fn a_position_that_the_table_has_no_bits_for_makes_it_grow() {
        let index = Index::default();
        for position in [3, (1 << POSITION) - 2, (1 << POSITION) - 1, 1 << 20, (1 << 30) - 2] {
            index.add(crowded(position), position, crowded);
            assert!(found(&index, position) && found(&index, 3), "{position}");
        }
        index.add(crowded(u32::MAX), u32::MAX, crowded);
        assert!(!found(&index, u32::MAX) && found(&index, 3));
    }
}

//! The lines of the index's tables: those of large tables lie together, in large pages where the system gives them.
//!
//! Lines are met at random. From some millions of names on, most of what is waited for at a line in ordinary pages is
//! where its page is.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::validate::prefetch::ask_for_large_pages;

/// From how many lines on a table shares a block.
const SHARING: usize = 1 << 10;
/// The lines of a block: eight megabytes.
const BLOCK: usize = 1 << 19;

/// A line of entries; where it is full, those that belong here follow in the next.
#[derive(Debug, Default)]
#[repr(align(16))]
pub(super) struct Line(pub(super) [AtomicU32; 4]);

impl Line {
    pub(super) fn entries(&self) -> impl Iterator<Item = (&AtomicU32, u32)> {
        self.0.iter().map(|cell| (cell, cell.load(Ordering::Relaxed)))
    }

    /// Where this entry is.
    pub(super) fn place_of(&self, wanted: u32) -> Option<&AtomicU32> {
        self.entries().find_map(|(cell, entry)| (entry == wanted).then_some(cell))
    }

    /// Looked at together: which of them is empty is not to be foreseen.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.entries().fold(true, |all, (_, entry)| all & (entry != 0))
    }
}

/// Lines that were made together.
type Block = Arc<Box<[Line]>>;

fn block() -> Block {
    let mut lines = Vec::with_capacity(BLOCK);
    ask_for_large_pages(lines.spare_capacity_mut());
    lines.extend((0..BLOCK).map(|_| Line::default()));
    Arc::new(lines.into())
}

/// The lines of one table.
#[derive(Debug)]
pub(super) enum Lines {
    /// All of them, and nobody else's.
    Own(Box<[Line]>),
    /// Those from one number to another in a block.
    Part(Block, u32, u32),
}

impl Deref for Lines {
    type Target = [Line];

    #[inline]
    fn deref(&self) -> &[Line] {
        match self {
            Self::Own(lines) => lines,
            Self::Part(block, begin, end) => block.get(*begin as usize..*end as usize).unwrap_or_default(),
        }
    }
}

/// Where tables get their lines from.
#[derive(Debug)]
pub(super) enum Quarry {
    /// Each table from a block of its own, which goes with it.
    Apart,
    /// Large tables from blocks that they share, and the next free line of the last one.
    Shared(Mutex<Option<(Block, usize)>>),
}

impl Quarry {
    /// New lines, all of them empty.
    pub(super) fn lines(&self, length: usize) -> Lines {
        match self {
            Self::Shared(last) if (SHARING..=BLOCK).contains(&length) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                let room = last.take().filter(|(_, free)| free + length <= BLOCK);
                let (block, begin) = room.unwrap_or_else(|| (block(), 0));
                let end = begin + length;
                *last = Some((Arc::clone(&block), end));
                Lines::Part(block, begin as u32, end as u32)
            }
            _ => Lines::Own((0..length).map(|_| Line::default()).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tables_have_a_line_in_common() {
        let quarry = Quarry::Shared(Mutex::default());
        let lengths = [1, SHARING - 1, SHARING, BLOCK / 2, BLOCK / 2, 3 * SHARING, BLOCK, BLOCK + 1, SHARING];
        let tables = lengths.map(|length| quarry.lines(length));
        for (table, length) in tables.iter().zip(lengths) {
            assert_eq!(table.len(), length);
            for cell in table.iter().flat_map(|line| &line.0) {
                assert_eq!(cell.swap(1, Ordering::Relaxed), 0);
            }
        }
        let blocks: Vec<_> = tables
            .iter()
            .filter_map(|table| match table {
                Lines::Part(block, ..) => Some(Arc::as_ptr(block)),
                Lines::Own(_) => None,
            })
            .collect();
        assert_eq!((blocks.len(), blocks[0]), (6, blocks[1]), "{blocks:?}");
    }
}

//! The header of SQLite's wal-index: what its 48 bytes say, and whether they can be the live ones.

/// How many words of eight bytes the header has.
pub(super) const WORDS: usize = 6;

/// The only format of the wal-index that SQLite has had.
const FORMAT: u32 = 3_007_000;

/// What a read transaction says of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) page_size: u32,
    pub(super) page_count: u32,
}

/// Whether this is a header as SQLite writes them, of a database of this size.
///
/// Little-endian, as all systems are on which it is read. The fields, each of four bytes: format, padding, count of
/// commits, flags and page size, last frame of the log, pages of the database, checksum of the last frame (two), salt
/// (two), checksum of the fields before (two).
pub(super) fn is_sound(words: &[u64; WORDS], size: Size) -> bool {
    let mut fields = [0_u32; 2 * WORDS];
    for (pair, word) in fields.as_chunks_mut::<2>().0.iter_mut().zip(words) {
        *pair = [*word as u32, (*word >> 32) as u32];
    }
    let [format, _, _, flags, last_frame, pages, _, _, _, _, first_sum, second_sum] = fields;
    let is_initialised = flags & 0xff == 1;
    let page_size = (flags >> 16 & 0xfe00) | (flags >> 16 & 1) << 16;
    // Where the log is empty, both may be left out: the database file itself tells them.
    let says = |found, expected| found == expected || (last_frame == 0 && found == 0);
    let is_of_size = says(page_size, size.page_size) && (last_frame == 0 || pages == size.page_count);
    let sums = checksum(fields.as_chunks::<2>().0.split_last().map_or(&[], |(_, summed)| summed));
    format == FORMAT && is_initialised && is_of_size && sums == [first_sum, second_sum]
}

fn checksum(fields: &[[u32; 2]]) -> [u32; 2] {
    fields.iter().fold([0; 2], |[first, second], [even, odd]| {
        let first = first.wrapping_add(*even).wrapping_add(second);
        [first, second.wrapping_add(*odd).wrapping_add(first)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { page_size: 4096, page_count: 7 };

    /// A header of these fields, summed.
    fn header(format: u32, flags: u32, last_frame: u32, pages: u32) -> [u64; WORDS] {
        let mut fields = [format, 0, 5, flags, last_frame, pages, 11, 12, 13, 14, 0, 0];
        let [first, second] = checksum(fields[..10].as_chunks::<2>().0);
        (fields[10], fields[11]) = (first, second);
        std::array::from_fn(|n| u64::from(fields[2 * n]) | u64::from(fields[2 * n + 1]) << 32)
    }

    #[test]
    fn a_header_is_sound_when_all_that_can_be_checked_is_right() {
        assert!(is_sound(&header(FORMAT, 4096 << 16 | 1, 3, 7), SIZE));
        assert!(is_sound(&header(FORMAT, 1 << 16 | 1, 3, 7), Size { page_size: 65_536, ..SIZE }));
        assert!(
            is_sound(&header(FORMAT, 4096 << 16 | 1, 0, 2), SIZE),
            "the file has grown since the log was emptied"
        );
        assert!(is_sound(&header(FORMAT, 1, 0, 0), SIZE), "as recovered without a log");
        for (name, unsound) in [
            ("format", header(FORMAT + 1, 4096 << 16 | 1, 3, 7)),
            ("not initialised", header(FORMAT, 4096 << 16, 3, 7)),
            ("page size", header(FORMAT, 8192 << 16 | 1, 3, 7)),
            ("no page size", header(FORMAT, 1, 3, 7)),
            ("page count", header(FORMAT, 4096 << 16 | 1, 3, 8)),
            ("zeros", [0; WORDS]),
        ] {
            assert!(!is_sound(&unsound, SIZE), "{name}");
        }
        for bit in 0..64 * WORDS {
            let mut flipped = header(FORMAT, 4096 << 16 | 1, 3, 7);
            flipped[bit / 64] ^= 1 << (bit % 64);
            assert!(!is_sound(&flipped, SIZE), "bit {bit}");
        }
    }
}

//! The search: every part of every secret in all memory that this process can write to.
//!
//! The searcher itself holds no secret: of each window of twelve bytes it keeps a number of 64 bits, and compares that
//! with the number of each window of the memory, computed as it passes over it.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use zeroize::Zeroize as _;

/// How many bytes of a secret are too many.
pub(crate) const WINDOW: usize = 12;
/// How much is read at a time.
const BLOCK: usize = 256 * 1024;
const PAGE: usize = 4096;
static ZEROS: [u8; PAGE] = [0; PAGE];
/// How far above the searching function its callers' part of the stack may reach.
const CALLERS: u64 = 64 * 1024;

/// An odd factor: each byte that leaves the window can be taken out again.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// What a byte weighs that has been passed by so many others since.
const fn weight(age: usize) -> u64 {
    let (mut power, mut n) = (1u64, 0);
    while n < age {
        power = power.wrapping_mul(FACTOR);
        n += 1;
    }
    power
}

fn roll(number: u64, leaving: u8, entering: u8) -> u64 {
    let out = u64::from(leaving).wrapping_mul(const { weight(WINDOW - 1) });
    number.wrapping_sub(out).wrapping_mul(FACTOR).wrapping_add(u64::from(entering))
}

/// Calls with the offset and the number of each window.
fn each_window(bytes: &[u8], mut each: impl FnMut(usize, u64)) {
    if bytes.len() < WINDOW {
        return;
    }
    let mut number = bytes[..WINDOW].iter().fold(0, |number, byte| roll(number, 0, *byte));
    each(0, number);
    for (at, ends) in bytes.windows(WINDOW + 1).enumerate() {
        number = roll(number, ends[0], ends[WINDOW]);
        each(at + 1, number);
    }
}

/// What to look for.
pub(crate) struct Needles {
    names: HashMap<u64, &'static str>,
    /// Which numbers may be among them, by their upper bits: most windows of the memory are decided by this.
    likely: Vec<bool>,
}

impl Default for Needles {
    fn default() -> Self {
        Self { names: HashMap::new(), likely: vec![false; 1 << 20] }
    }
}

/// Where a secret was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// On the heap, or in any other memory that is not the stack.
    pub(crate) heap: BTreeSet<&'static str>,
    /// On the stack of the searching thread, or on that of the main thread, where the environment lies, too.
    pub(crate) stack: BTreeSet<&'static str>,
}

impl Needles {
    /// Each window of a secret. The caller keeps no copy of it.
    pub(crate) fn add(&mut self, name: &'static str, secret: &[u8]) {
        assert!(secret.len() >= WINDOW);
        each_window(secret, |_, number| {
            self.names.insert(number, name);
            self.likely[(number >> 44) as usize] = true;
        });
    }

    fn look(&self, bytes: &[u8], found: &mut BTreeSet<&'static str>) {
        each_window(bytes, |_, number| {
            if self.likely[(number >> 44) as usize]
                && let Some(name) = self.names.get(&number)
            {
                found.insert(name);
            }
        });
    }

    /// Passes over what was never used, page by page: it is all zeros.
    fn look_at_used(&self, bytes: &[u8], found: &mut BTreeSet<&'static str>) {
        let mut from = 0;
        while from + WINDOW <= bytes.len() {
            let to = bytes.len().min(from + PAGE);
            if bytes[from..to] != ZEROS[..to - from] {
                self.look(&bytes[from..bytes.len().min(to + WINDOW - 1)], found);
            }
            from = to;
        }
    }

    /// Reads all memory that this process can write to, freed or not. Only one may search at a time: what it reads
    /// lies in its own buffer for that while.
    #[inline(never)]
    pub(crate) fn search(&self) -> Found {
        let memory = File::open("/proc/self/mem").unwrap();
        let mut buffer = vec![0u8; WINDOW - 1 + BLOCK];
        let own = buffer.as_ptr() as u64..buffer.as_ptr() as u64 + buffer.len() as u64;
        let here = std::ptr::from_ref(&memory) as u64;
        let mut found = Found::default();
        let mut read = 0u64;
        for Mapping { from, to, name } in mappings() {
            let is_own_stack = (from..to).contains(&here);
            let mut at = from;
            // What stands before a block is kept in front of it, so that no window is cut in two.
            let mut kept = 0;
            while at < to {
                let mut end = to.min(at + BLOCK as u64);
                if own.contains(&at) {
                    (at, kept) = (own.end, 0);
                    continue;
                }
                if at < own.start {
                    end = end.min(own.start);
                }
                let length = (end - at) as usize;
                if memory.read_exact_at(&mut buffer[kept..kept + length], at).is_err() {
                    // Part of it is not there: page by page.
                    if length > PAGE {
                        end = at + PAGE as u64;
                        if memory.read_exact_at(&mut buffer[kept..kept + PAGE], at).is_err() {
                            (at, kept) = (end, 0);
                            continue;
                        }
                    } else {
                        (at, kept) = (end, 0);
                        continue;
                    }
                }
                let length = kept + (end - at) as usize;
                read += end - at;
                let on_stack = name == "[stack]" || is_own_stack && at < here + CALLERS;
                let place = if on_stack { &mut found.stack } else { &mut found.heap };
                self.look_at_used(&buffer[..length], place);
                kept = length.min(WINDOW - 1);
                buffer.copy_within(length - kept..length, 0);
                at = end;
            }
        }
        buffer.zeroize();
        assert!(read > 1 << 20, "only {read} bytes were searched");
        found
    }
}

struct Mapping {
    from: u64,
    to: u64,
    name: String,
}

fn mappings() -> Vec<Mapping> {
    let text = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapping = |line: &str| {
        let mut words = line.split_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let address = |text| u64::from_str_radix(text, 16).unwrap();
        let is_writable = words.next()?.starts_with("rw");
        let name = words.nth(3).unwrap_or("").to_owned();
        is_writable.then(|| Mapping { from: address(from), to: address(to), name })
    };
    text.lines().filter_map(mapping).collect()
}

#[test]
fn each_window_has_the_number_that_it_has_alone() {
    let bytes: Vec<u8> = (0..100u8).map(|n| n.wrapping_mul(113) ^ 0x5A).collect();
    let mut seen = 0;
    each_window(&bytes, |at, number| {
        each_window(&bytes[at..at + WINDOW], |_, alone| assert_eq!(alone, number));
        seen += 1;
    });
    assert_eq!(seen, bytes.len() - WINDOW + 1);
}

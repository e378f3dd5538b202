//! The floor: what a validation cannot do without, as bare code over one array, against which the library is measured.
//!
//! Parse, checksum, ring's HMAC, lookup in flat slots with a prefetch, constant-time comparison, window, rate limit,
//! one count, last used, and the wall clock. No stamp, no scopes, no networks, no revocation, no rotation, no growth.
#![allow(unsafe_code, reason = "a prefetch instruction is only to be had as an unsafe intrinsic")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use ring::hmac;
use subtle::ConstantTimeEq as _;

use super::tokens::{COVERED, LENGTH, Tokens, checksum};

const PREFIX: &[u8] = b"key";
/// Slots for a hundred keys.
const SPREAD: usize = 208;
/// A use, and how many of them at once, in nanoseconds of the rate limit.
const PACE: u64 = 20;
const BURST: u64 = 1_000_000_000;

#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Slot {
    locator: (u64, u32),
    is_used: u32,
    valid_until: u64,
    key: u64,
    digest: [u64; 4],
}

#[derive(Default)]
#[repr(align(32))]
struct Row {
    pace: AtomicU64,
    allowed: AtomicU64,
    last_used: AtomicU64,
    owner: u32,
    profile: u32,
}

/// All keys.
pub(crate) struct Floor {
    key: hmac::Key,
    seed: u64,
    slots: Box<[Slot]>,
    rows: Box<[Row]>,
}

/// Whose the token is.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "what an answer holds is handed out, and looked at by nobody here")]
pub(crate) struct Answer {
    key: u64,
    owner: u32,
    profile: u32,
    valid_until: u64,
}

fn locator(covered: &[u8]) -> Option<(u64, u32)> {
    let (first, rest) = covered.split_first_chunk()?;
    Some((u64::from_le_bytes(*first), u32::from_le_bytes(*rest.first_chunk()?)))
}

fn words(tag: &hmac::Tag) -> Option<[u64; 4]> {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(tag.as_ref().chunks_exact(8)) {
        *word = u64::from_le_bytes(*bytes.first_chunk()?);
    }
    Some(words)
}

#[inline]
fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads and writes no memory and cannot fault, whatever the address; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

impl Floor {
    pub(crate) fn of(tokens: &Tokens, key: hmac::Key) -> Self {
        let size = (tokens.len() * SPREAD / 100).max(2);
        let rows = (0..size).map(|_| Row::default()).collect();
        let mut floor =
            Self { key, seed: 0x51_7C_C1_B7_27_22_0A_95, slots: vec![Slot::default(); size].into(), rows };
        let valid_until = now() + 30 * 86_400 * 1_000_000_000;
        for (number, token) in tokens.iter().enumerate() {
            let covered = &token[4..4 + COVERED];
            let locator = locator(covered).unwrap();
            let mut at = floor.start(locator);
            while floor.slots[at].is_used != 0 {
                at = (at + 1) % size;
            }
            let digest = words(&hmac::sign(&floor.key, covered)).unwrap();
            floor.slots[at] = Slot { locator, is_used: 1, valid_until, key: number as u64, digest };
            floor.rows[at].owner = (number % 1_000) as u32;
            floor.rows[at].profile = (number % 50) as u32;
        }
        floor
    }

    #[inline]
    fn start(&self, (first, rest): (u64, u32)) -> usize {
        let mixed = u128::from(first ^ self.seed) * u128::from(0x9E37_79B9_7F4A_7C15 ^ u64::from(rest) << 8);
        let hash = (mixed >> 64) as u64 ^ mixed as u64;
        ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize
    }

    /// Whether the token is valid now.
    #[inline(never)]
    pub(crate) fn validate(&self, token: &[u8]) -> Option<Answer> {
        if token.len() > LENGTH + 21 {
            return None;
        }
        let (head, tail) = token.split_at_checked(token.len().checked_sub(COVERED + 6)?)?;
        let (covered, check) = tail.split_at_checked(COVERED)?;
        let locator = locator(covered)?;
        let start = self.start(locator);
        prefetch(self.slots.get(start)?);
        prefetch(self.rows.get(start)?);
        let is_base62 = tail.iter().fold(true, |all, byte| all & byte.is_ascii_alphanumeric());
        if head.strip_suffix(b"_")? != PREFIX || !is_base62 || checksum(covered) != check {
            return None;
        }
        let digest = words(&hmac::sign(&self.key, covered))?;
        let mut at = start;
        let slot = loop {
            let slot = self.slots.get(at)?;
            if slot.is_used == 0 {
                return None;
            }
            if slot.locator == locator {
                break slot;
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        };
        let pairs = digest.iter().zip(&slot.digest);
        if !bool::from(pairs.fold(subtle::Choice::from(1), |all, (a, b)| all & a.ct_eq(b))) {
            return None;
        }
        let now = now();
        let row = self.rows.get(at)?;
        if now >= slot.valid_until {
            return None;
        }
        let mut pace = row.pace.load(Ordering::Relaxed);
        loop {
            let next = pace.max(now) + PACE;
            if next > now + BURST {
                return None;
            }
            match row.pace.compare_exchange_weak(pace, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => pace = other,
            }
        }
        row.allowed.fetch_add(1, Ordering::Relaxed);
        row.last_used.store(now, Ordering::Relaxed);
        Some(Answer { key: slot.key, owner: row.owner, profile: row.profile, valid_until: slot.valid_until })
    }
}

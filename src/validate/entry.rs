//! An entry: what decides about one held version, in 128 bytes.
//!
//! The first 64 bytes are the slot, which only the writer changes; the others are the row, in which validations count.
//! All of it is atomic words: a copy that is torn is thrown away by the sequence lock, and is no undefined behaviour.

mod facts;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::id::{KeyId, VersionNo};
use crate::keyring::Generation;
use crate::lifecycle;
use crate::limit::MOVED;
use crate::time::Timestamp;
use crate::validate::prefetch::prefetch;
use crate::version::{EndReason, Stage, VersionRecord};

pub(crate) use facts::{Facts, Following};

/// A version's place.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Entry {
    words: [AtomicU64; 16],
}

/// Which word holds what. Times take the upper 58 bits of theirs; the lower six hold a small number.
mod word {
    /// Eight bytes of the locator; four more, and the next version of the same key.
    pub(super) const LOCATOR: usize = 0;
    pub(super) const NEXT: usize = 1;
    /// The version's number; the generation of its digest, or the one that is missing.
    pub(super) const NUMBER: usize = 2;
    /// The end, and the [`State`](super::State).
    pub(super) const END: usize = 3;
    pub(super) const DIGEST: usize = 4;
    pub(super) const KEY: usize = 8;
    /// The numbers of owner and profile; with a key that is not believed, the generation that is missing.
    pub(super) const OWNER: usize = 10;
    /// When the version was superseded, or, with [`WAITS`], until when its successor can be claimed.
    pub(super) const DEPRECATED: usize = 11;
    pub(super) const WAITS: u64 = 1;
    /// The [`Cell`](super::Cell).
    pub(super) const CELL: usize = 12;
    pub(super) const ALLOWED: usize = 13;
    pub(super) const LAST_USED: usize = 14;
    /// The beginning of the window, and the [`KeyState`](super::KeyState).
    pub(super) const NOT_BEFORE: usize = 15;
}

macro_rules! small {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $number:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum $name { $($(#[$of])* $variant = $number,)+ }

        impl $name {
            fn of(word: u64) -> Self {
                match word & 63 { $($number => Self::$variant,)+ _ => Self::UNKNOWN }
            }
        }
    };
}

small! {
    /// What a version's own row says of it.
    State {
        /// Nothing: the place is empty, or the row is gone.
        Absent = 0,
        /// Handed over; at its end it expires.
        Live = 1,
        /// Handed over; at its end its grace is over.
        Leaving = 2,
        /// Never handed over.
        Undelivered = 3,
        Revoked = 4,
        Expired = 5,
        Retired = 6,
        Cancelled = 7,
        /// The row was edited.
        Tampered = 8,
        /// The row was written under a generation that is not held.
        Behind = 9,
        /// Handed over, and its first use is still to be recorded; at its end it expires.
        Fresh = 10,
        /// Offered to a sink, which has not taken it over yet; at its end it is withdrawn.
        Offered = 11,
    }
}

impl State {
    const UNKNOWN: Self = Self::Tampered;

    fn of_version(version: &VersionRecord) -> Self {
        match (version.end_reason, version.stage) {
            (Some(EndReason::Revoked), _) => Self::Revoked,
            (Some(EndReason::Expired), Stage::Ended) => Self::Expired,
            (Some(EndReason::Retired), Stage::Ended) => Self::Retired,
            (_, Stage::Ended) => Self::Cancelled,
            _ if version.delivered_at.or(version.offered_at).is_none() => Self::Undelivered,
            _ if lifecycle::deadline_reason(version, None) == EndReason::Cancelled => Self::Offered,
            _ if version.awaits_use => Self::Fresh,
            _ if lifecycle::deadline_reason(version, None) == EndReason::Retired => Self::Leaving,
            _ => Self::Live,
        }
    }
}

small! {
    /// What the row of a version's key says of it.
    KeyState {
        /// There is no row, or it was edited.
        Missing = 0,
        Sound = 1,
        Revoked = 2,
        /// The row was written under a generation that is not held.
        Behind = 3,
    }
}

impl KeyState {
    const UNKNOWN: Self = Self::Missing;
}

/// Where the limits of a key are counted, as one word says: here, by a time, or elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// In this word itself.
    Here,
    /// In the cell of another entry, at this position.
    With(u32),
    /// In the key's [`Cells`](crate::validate::cells::Cells) of this number.
    Cells(u32),
}

impl Cell {
    /// With [`MOVED`]: the number is one of cells.
    const NUMBERED: u64 = 1 << 61;

    #[inline]
    fn of(word: u64) -> Self {
        match (word >= MOVED, word & Self::NUMBERED != 0) {
            (false, _) => Self::Here,
            (true, false) => Self::With(word as u32),
            (true, true) => Self::Cells(word as u32),
        }
    }

    /// The word that says so; of a cell that is here, the one of limits that were never used.
    fn word(self) -> u64 {
        match self {
            Self::Here => 0,
            Self::With(position) => MOVED | u64::from(position),
            Self::Cells(number) => MOVED | Self::NUMBERED | u64::from(number),
        }
    }
}

fn with_time(time: Option<Timestamp>, small: u8) -> u64 {
    // Zero is no time; so all others are told by one more.
    let micros = time.map_or(0, |time| time.unix_micros().unsigned_abs() + 1);
    (micros << 6) | u64::from(small)
}

fn time_of(word: u64) -> Option<Timestamp> {
    let micros = (word >> 6).checked_sub(1)?;
    Timestamp::from_unix_micros(micros.cast_signed()).ok()
}

fn key_of([first, second]: [u64; 2]) -> KeyId {
    KeyId::from((u128::from(first) << 64) | u128::from(second))
}

impl Entry {
    #[inline]
    fn get(&self, word: usize) -> u64 {
        self.words.get(word).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn set(&self, word: usize, value: u64) {
        if let Some(word) = self.words.get(word) {
            word.store(value, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn prefetch(&self) {
        self.words.first().into_iter().chain(self.words.get(word::KEY)).for_each(prefetch);
    }

    /// Where in memory the digest is, and how many bytes it has.
    #[cfg(test)]
    pub(crate) fn place_of_digest(&self) -> (usize, usize) {
        (std::ptr::from_ref(&self.words[word::DIGEST]).addr(), 32)
    }

    #[inline]
    pub(crate) fn is_at(&self, [first, second]: [u64; 2]) -> bool {
        self.get(word::LOCATOR) == first && self.get(word::NEXT) & 0xFFFF_FFFF == second
    }

    pub(crate) fn locator(&self) -> [u64; 2] {
        [self.get(word::LOCATOR), self.get(word::NEXT) & 0xFFFF_FFFF]
    }

    /// All that decides, as it is now; whether it is of one moment, the caller's sequence lock says.
    #[inline]
    pub(crate) fn facts(&self) -> Facts {
        Facts {
            number: self.get(word::NUMBER),
            end: self.get(word::END),
            digest: [0, 1, 2, 3].map(|n| self.get(word::DIGEST + n)),
            key: [0, 1].map(|n| self.get(word::KEY + n)),
            owner: self.get(word::OWNER),
            deprecated: self.get(word::DEPRECATED),
            not_before: self.get(word::NOT_BEFORE),
        }
    }

    #[inline]
    pub(crate) fn key(&self) -> KeyId {
        key_of([0, 1].map(|n| self.get(word::KEY + n)))
    }

    pub(crate) fn number(&self) -> VersionNo {
        VersionNo::new(self.get(word::NUMBER) as u32)
    }

    pub(crate) fn state(&self) -> State {
        State::of(self.get(word::END))
    }

    /// The next version of the same key.
    pub(crate) fn next(&self) -> Option<u32> {
        ((self.get(word::NEXT) >> 32) as u32).checked_sub(1)
    }

    pub(crate) fn set_next(&self, next: Option<u32>) {
        let locator = self.get(word::NEXT) & 0xFFFF_FFFF;
        self.set(word::NEXT, (u64::from(next.map_or(0, |next| next + 1)) << 32) | locator);
    }

    /// Gives the entry to a version of a key of which nothing else is known yet.
    pub(crate) fn name(&self, key: KeyId, version: VersionNo) {
        let key = u128::from(key);
        self.set(word::KEY, (key >> 64) as u64);
        self.set(word::KEY + 1, key as u64);
        self.set(word::NUMBER, u64::from(version.get()));
    }

    pub(crate) fn set_locator(&self, locator: [u64; 2]) {
        let [first, second] = locator;
        self.set(word::LOCATOR, first);
        self.set(word::NEXT, (self.get(word::NEXT) >> 32 << 32) | second);
    }

    pub(crate) fn set_version(&self, version: &VersionRecord) {
        self.set_locator(version.locator.words());
        let generation = u64::from(version.digest.generation.get());
        self.set(word::NUMBER, (generation << 32) | u64::from(version.number.get()));
        for (n, word) in version.digest.words().into_iter().enumerate() {
            self.set(word::DIGEST + n, word);
        }
        let end = version.ended_at.filter(|_| version.is_ended()).or(lifecycle::end(version, None));
        self.set(word::END, with_time(end, State::of_version(version) as u8));
        // Whether a successor waits, the key's row says.
        if version.deprecated_at.is_some() || self.get(word::DEPRECATED) & word::WAITS == 0 {
            self.set(word::DEPRECATED, with_time(version.deprecated_at, 0));
        }
        let key_state = KeyState::of(self.get(word::NOT_BEFORE));
        self.set(word::NOT_BEFORE, with_time(Some(version.not_before), key_state as u8));
    }

    /// Makes the entry deny: its row cannot be believed, or is gone.
    pub(crate) fn set_unbelievable(&self, state: State, missing: Option<Generation>) {
        self.set(word::END, with_time(None, state as u8));
        let number = self.get(word::NUMBER) & 0xFFFF_FFFF;
        self.set(word::NUMBER, (u64::from(missing.map_or(0, Generation::get)) << 32) | number);
        (0..4).for_each(|n| self.set(word::DIGEST + n, 0));
    }

    pub(crate) fn set_key(&self, state: KeyState, owner: u32, profile: u32) {
        let not_before = self.get(word::NOT_BEFORE) >> 6 << 6;
        self.set(word::NOT_BEFORE, not_before | u64::from(state as u8));
        self.set(word::OWNER, (u64::from(profile) << 32) | u64::from(owner));
    }

    /// Says until when the version's successor can be claimed, unless it is superseded already.
    pub(crate) fn set_successor(&self, by: Option<Timestamp>) {
        let deprecated = self.get(word::DEPRECATED);
        if deprecated & word::WAITS != 0 || time_of(deprecated).is_none() {
            let waits = if by.is_some() { word::WAITS } else { 0 };
            self.set(word::DEPRECATED, with_time(by, 0) | waits);
        }
    }

    /// Where the key's limits are counted.
    #[inline]
    pub(crate) fn cell(&self) -> Cell {
        Cell::of(self.get(word::CELL))
    }

    /// The word of a limit that is counted here.
    #[inline]
    pub(crate) fn pace(&self) -> Option<&AtomicU64> {
        self.words.get(word::CELL)
    }

    pub(crate) fn set_cell(&self, cell: Cell) {
        self.set(word::CELL, cell.word());
    }

    /// Moves what is counted here to cells that nobody knows yet; whoever counts meanwhile does so before or after.
    pub(crate) fn move_to(&self, number: u32, pace: &AtomicU64) {
        let Some(word) = self.pace() else { return };
        let moved = |counted| {
            pace.store(counted, Ordering::Relaxed);
            (counted < MOVED).then_some(Cell::Cells(number).word())
        };
        let _elsewhere = word.fetch_update(Ordering::Release, Ordering::Acquire, moved);
    }

    /// Takes over the cell of another version of the same key.
    pub(crate) fn copy_cell(&self, of: &Self) {
        self.set(word::CELL, of.get(word::CELL));
    }

    /// The number of the key's profile, while the key is believed.
    pub(crate) fn profile(&self) -> Option<u32> {
        let believed =
            matches!(KeyState::of(self.get(word::NOT_BEFORE)), KeyState::Sound | KeyState::Revoked);
        believed.then(|| (self.get(word::OWNER) >> 32) as u32)
    }

    /// Takes over what is known of the key from another of its versions.
    pub(crate) fn copy_key(&self, of: &Self) {
        let state = KeyState::of(of.get(word::NOT_BEFORE));
        let owner = of.get(word::OWNER);
        self.set_key(state, owner as u32, (owner >> 32) as u32);
        if let Following::Waits(by) = of.facts().following() {
            self.set_successor(Some(by));
        }
    }

    pub(crate) fn clear(&self) {
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// Counts a grant; tells how many there were since the counts were taken.
    #[inline]
    pub(crate) fn count(&self, at: Timestamp) -> u64 {
        // The time first: whoever takes the count takes the time with it.
        if self.get(word::LAST_USED) < at.unix_micros().unsigned_abs() {
            self.set(word::LAST_USED, at.unix_micros().unsigned_abs());
        }
        self.words.get(word::ALLOWED).map_or(0, |allowed| allowed.fetch_add(1, Ordering::Release))
    }

    /// Takes the counts out.
    pub(crate) fn take_counts(&self) -> (u64, Option<Timestamp>) {
        let take = |word: usize| self.words.get(word).map_or(0, |word| word.swap(0, Ordering::Acquire));
        let allowed = take(word::ALLOWED);
        let last_used = Timestamp::from_unix_micros(take(word::LAST_USED).cast_signed()).ok();
        (allowed, last_used.filter(|time| *time > Timestamp::MIN))
    }
}

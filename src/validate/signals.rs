//! Signals of this process: what was denied, by source and by locator, in memory that is allotted once.
//!
//! Denials count here, grants never. Who finds the place taken does not wait: one failure goes uncounted, which is itself
//! counted. Nothing is read of the time until a flush, which begins a new table with each hour.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::crypto::{self, RandomError};
use crate::id::{KeyId, VersionNo};
use crate::signal::alarm::Misuse;
use crate::signal::shelf::{Frequent, Shelf, WAYS};
use crate::signal::{SignalSettings, Source, SourceName};
use crate::store::UsageBucket;
use crate::time::Timestamp;
use crate::token::Locator;
use crate::validate::denial::{Denial, DenialClass, DenialReason};
use crate::validate::slab::Seed;

/// How many shelves a table has.
const SHELVES: usize = 256;
/// How many misuses wait to be told, and how many are remembered as told.
const MOST: usize = 4_096;

/// A shelf, and in front of it the places of those who are met so often that they have a name: whoever is met again
/// counts there without a lock.
#[derive(Debug)]
#[repr(align(64))]
struct Slot<N> {
    /// The hash of the name in each place; 0 where none is kept.
    tags: [AtomicU64; WAYS],
    /// How often it was met since the shelf was last looked at, and in the upper half how much of that was outdated.
    met: [AtomicU64; WAYS],
    shelf: Mutex<Shelf<N>>,
    /// How often the shelf was taken when somebody came.
    missed: AtomicU64,
}

impl<N: Copy> Slot<N> {
    fn new() -> Self {
        let (tags, met) = (Default::default(), Default::default());
        Self { tags, met, shelf: Mutex::default(), missed: AtomicU64::new(0) }
    }

    #[inline]
    fn count(&self, hash: u64, outdated: bool, name: impl FnOnce() -> N) {
        // Who is interrupted between the two for so long that his place is taken meanwhile counts for another: by one.
        let met = self.tags.iter().zip(&self.met).find(|(tag, _)| tag.load(Ordering::Relaxed) == hash);
        match met {
            Some((_, met)) => _ = met.fetch_add(1 | (u64::from(outdated) << 32), Ordering::Relaxed),
            None => self.count_anew(hash, outdated, name),
        }
    }

    fn count_anew(&self, hash: u64, outdated: bool, name: impl FnOnce() -> N) {
        let mut shelf = match self.shelf.try_lock() {
            Ok(shelf) => shelf,
            Err(std::sync::TryLockError::Poisoned(shelf)) => shelf.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        self.gather(&mut shelf);
        let mut place = shelf.place_of(hash);
        // Who is to lose his place counts there no longer, and what he has counted is his.
        while let Some(tag) = self.tags.get(place.at).filter(|_| !place.is_its)
            && tag.load(Ordering::Relaxed) != 0
        {
            tag.store(0, Ordering::Relaxed);
            self.gather(&mut shelf);
            place = shelf.place_of(hash);
        }
        if shelf.count(place, hash, outdated, name)
            && let Some(tag) = self.tags.get(place.at)
        {
            tag.store(hash, Ordering::Relaxed);
        }
    }

    /// Puts on the shelf what was counted in front of it.
    fn gather(&self, shelf: &mut Shelf<N>) {
        for (at, met) in self.met.iter().enumerate() {
            if met.load(Ordering::Relaxed) > 0 {
                let met = met.swap(0, Ordering::Relaxed);
                shelf.add(at, met as u32, (met >> 32) as u32);
            }
        }
    }

    /// The shelf as it is now.
    fn lock(&self) -> MutexGuard<'_, Shelf<N>> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        self.gather(&mut shelf);
        shelf
    }

    fn clear(&self) {
        let mut shelf = self.lock();
        *shelf = Shelf::default();
        self.tags.iter().for_each(|tag| tag.store(0, Ordering::Relaxed));
        self.missed.store(0, Ordering::Relaxed);
    }
}

/// The most frequent of any number of names.
#[derive(Debug)]
pub(crate) struct Table<N>(Box<[Slot<N>]>);

impl<N: Copy> Table<N> {
    fn new(shelves: usize) -> Self {
        Self((0..shelves).map(|_| Slot::new()).collect())
    }

    fn slot(&self, hash: u64) -> Option<&Slot<N>> {
        // The upper bits choose the shelf; all of them are compared on it.
        self.0.get(((u128::from(hash) * self.0.len() as u128) >> 64) as usize)
    }

    fn count(&self, hash: u64, outdated: bool, name: impl FnOnce() -> N) {
        // 0 is nobody's.
        let hash = hash | 1;
        if let Some(slot) = self.slot(hash) {
            slot.count(hash, outdated, name);
        }
    }

    /// Those that are frequent enough to have a name, the worst first.
    pub(crate) fn frequent(&self) -> Vec<Frequent<N>> {
        let mut all = Vec::new();
        self.0.iter().for_each(|slot| all.extend(slot.lock().frequent()));
        all.sort_by_key(|known| std::cmp::Reverse((known.at_least, known.at_most)));
        all
    }

    pub(crate) fn note_told(&self, hash: u64, level: u8) {
        if let Some(slot) = self.slot(hash) {
            slot.lock().note_told(hash, level);
        }
    }

    /// How many were counted, and how many were not.
    pub(crate) fn seen(&self) -> (u64, u64) {
        let sum = |(seen, missed): (u64, u64), slot: &Slot<N>| {
            (seen + slot.lock().seen(), missed + slot.missed.load(Ordering::Relaxed))
        };
        self.0.iter().fold((0, 0), sum)
    }

    fn clear(&self) {
        self.0.iter().for_each(Slot::clear);
    }
}

/// One version, and what it was when it was presented.
pub(crate) type MisusedVersion = (KeyId, VersionNo, Misuse);

/// What flushes have told and are to tell.
#[derive(Debug)]
pub(crate) struct Telling {
    /// Since when the tables count, and the hour that this is of.
    pub(crate) since: Timestamp,
    pub(crate) hour: Timestamp,
    /// How often versions were presented that are over, as far as that is not told.
    pub(crate) misused: BTreeMap<MisusedVersion, u64>,
    /// What was told on a day.
    pub(crate) told: (Timestamp, BTreeSet<MisusedVersion>),
}

impl Telling {
    fn begin(now: Timestamp) -> Self {
        let hour = UsageBucket::hour_of(now).begin();
        Self { since: now, hour, misused: BTreeMap::new(), told: (hour, BTreeSet::new()) }
    }

    /// Notes denials that were counted.
    pub(crate) fn note(&mut self, denied: impl IntoIterator<Item = (MisusedVersion, u64)>) {
        for (version, n) in denied {
            if self.misused.len() < MOST || self.misused.contains_key(&version) {
                *self.misused.entry(version).or_default() += n;
            }
        }
    }

    /// Begins the day of `now`, if it is another one.
    pub(crate) fn begin_day(&mut self, now: Timestamp) {
        let day = UsageBucket::day_of(now).begin();
        if self.told.0 != day {
            self.told = (day, BTreeSet::new());
        }
    }

    /// Notes what was told, or was told before.
    pub(crate) fn note_told(&mut self, version: MisusedVersion) {
        self.misused.remove(&version);
        if self.told.1.len() < MOST {
            self.told.1.insert(version);
        }
    }
}

/// What one validator has counted.
#[derive(Debug)]
pub(crate) struct Signals {
    seed: Seed,
    pub(crate) settings: SignalSettings,
    pub(crate) sources: Table<SourceName>,
    pub(crate) locators: Table<Locator>,
    telling: Mutex<Telling>,
}

impl Signals {
    pub(crate) fn new(settings: SignalSettings, now: Timestamp) -> Result<Self, RandomError> {
        let [a, b]: [[u8; 8]; 2] = [crypto::random_bytes()?, crypto::random_bytes()?];
        let shelves = if settings.is_on { SHELVES } else { 0 };
        Ok(Self {
            seed: Seed([u64::from_ne_bytes(a), u64::from_ne_bytes(b)]),
            settings,
            sources: Table::new(shelves),
            locators: Table::new(shelves),
            telling: Mutex::new(Telling::begin(now)),
        })
    }

    pub(crate) fn telling(&self) -> MutexGuard<'_, Telling> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: Source<'_>, outdated: bool) {
        self.sources.count(source.hash(|words| self.seed.hash(words)), outdated, || source.name());
    }

    /// Counts a denial. An unknown token and a wrong secret are counted alike, so that the time does not tell them apart.
    #[cold]
    pub(crate) fn denied(&self, denial: &Denial, source: Option<Source<'_>>, locator: Option<Locator>) {
        if denial.class() != DenialClass::Unauthenticated {
            return;
        }
        let outdated = matches!(
            denial.reason(),
            DenialReason::Revoked | DenialReason::Expired | DenialReason::Retired | DenialReason::Cancelled
        );
        if let Some(source) = source {
            self.failed(source, outdated);
        }
        if let Some(locator) = locator.filter(|_| denial.reason() == DenialReason::Unknown) {
            self.locators.count(self.seed.hash(locator.words()), false, || locator);
        }
    }

    /// Begins anew.
    pub(crate) fn begin(&self, telling: &mut Telling, now: Timestamp) {
        (telling.since, telling.hour) = (now, UsageBucket::hour_of(now).begin());
        self.sources.clear();
        self.locators.clear();
    }
}

#[cfg(test)]
#[allow(clippy::print_stdout, reason = "the number of bytes is shown")]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn signals() -> Signals {
        Signals::new(SignalSettings::default(), at("2027-01-01T00:00:00Z")).unwrap()
    }

    fn locator(n: u64) -> Locator {
        format!("{n:012}").try_into().unwrap()
    }

    #[test]
    fn a_million_sources_and_locators_take_no_memory_and_hide_no_attack() {
        let signals = signals();
        let name = |n: u32| Source::Address(core::net::Ipv4Addr::from_bits(n).into());
        for n in 0..1_000_000_u32 {
            signals.denied(&Denial::UNKNOWN, Some(name(n)), Some(locator(n.into())));
            if n % 100 == 0 {
                signals.denied(
                    &Denial::UNKNOWN,
                    Some(Source::Named("attacker")),
                    Some(locator(u64::MAX >> 30)),
                );
            }
        }
        let bytes = size_of::<Slot<SourceName>>() * SHELVES + size_of::<Slot<Locator>>() * SHELVES;
        println!("{bytes} bytes, whatever is counted");
        assert!(bytes < 400_000, "{bytes}");
        assert_eq!(signals.sources.seen(), (1_010_000, 0));
        // One in 101 failures: its part is known with what was taken for it before.
        let sources = signals.sources.frequent();
        assert_eq!(sources[0].name.to_string(), "attacker");
        assert!((9_000..=10_000).contains(&sources[0].at_least), "{:?}", sources[0]);
        assert!(sources[1..].iter().all(|other| other.at_least < 100), "{:?}", sources[1]);
        let locators = signals.locators.frequent();
        assert_eq!(locators[0].name, locator(u64::MAX >> 30));
        assert!(locators[1..].iter().all(|other| other.at_least < 100));
    }

    #[test]
    fn who_finds_a_shelf_taken_does_not_wait() {
        let signals = signals();
        let source = Source::Named("a");
        let hash = source.hash(|words| signals.seed.hash(words)) | 1;
        let taken = signals.sources.slot(hash).unwrap().lock();
        (0..10).for_each(|_| signals.denied(&Denial::UNKNOWN, Some(source), None));
        drop(taken);
        signals.denied(&Denial::UNKNOWN, Some(source), None);
        assert_eq!(signals.sources.seen(), (1, 10));
    }

    #[test]
    fn nothing_is_lost_or_counted_twice_by_threads_at_once() {
        let signals = signals();
        let names: Vec<_> = (0..5).map(|n| format!("source-{n}")).collect();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (signals, names) = (&signals, &names);
                scope.spawn(move || {
                    for n in 0..20_000 {
                        let source = Source::Named(&names[(n + thread) % 5]);
                        signals.denied(&Denial::UNKNOWN, Some(source), None);
                    }
                });
            }
            // Whoever looks meanwhile changes nothing.
            (0..100).for_each(|_| drop(signals.sources.frequent()));
        });
        let (seen, missed) = signals.sources.seen();
        assert_eq!(seen + missed, 80_000);
        let frequent = signals.sources.frequent();
        assert_eq!(frequent.iter().map(|known| u64::from(known.at_least)).sum::<u64>(), seen);
        assert!(frequent.len() == 5 && frequent.iter().all(|known| known.at_least <= 16_000));
        assert!(missed < 8_000, "{missed} were missed");
    }

    #[test]
    fn what_is_switched_off_counts_nothing_and_holds_nothing() {
        let signals = Signals::new(SignalSettings::off(), at("2027-01-01T00:00:00Z")).unwrap();
        (0..100).for_each(|n| signals.denied(&Denial::UNKNOWN, Some(Source::Named("a")), Some(locator(n))));
        assert!(signals.sources.frequent().is_empty() && signals.locators.frequent().is_empty());
        assert_eq!(signals.sources.0.len(), 0);
    }

    #[test]
    fn only_what_a_client_sees_as_unauthenticated_counts_as_a_failure() {
        let signals = signals();
        let key = KeyId::new(at("2027-01-01T00:00:00Z"), [1; 10]);
        let denied = |reason| {
            let before = signals.sources.seen().0;
            let denial = Denial::of(reason, key, VersionNo::new(1));
            signals.denied(&denial, Some(Source::Named("a")), Some(locator(1)));
            signals.sources.seen().0 - before
        };
        for reason in [DenialReason::Scope, DenialReason::RateLimit, DenialReason::Quota] {
            assert_eq!(denied(reason), 0, "{reason}");
        }
        for reason in [DenialReason::Retired, DenialReason::Suspended, DenialReason::Network] {
            assert_eq!(denied(reason), 1, "{reason}");
        }
        assert_eq!(signals.locators.seen().0, 0, "their secrets were right");
    }
}

//! Stripes: where the uses of a hot key are counted, one that several threads use at once. Each thread has a stripe of
//! its own there, in cache lines of its own, with a [slice](Slice) of the key's rate limit; so it asks others for
//! nothing, most of the time.
//!
//! Whoever is at a stripe holds it, for some instructions, and never waits for another one then. A thread that finds its
//! stripe held, by another with the same stripe, counts in the common places, as everybody does with other keys.

use std::cell::Cell;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::id::KeyId;
use crate::limit::{LimitStatus, Pace, Refusal, Slice};
use crate::time::Timestamp;

/// As many as a limit may have slices.
const STRIPES: usize = Pace::SLICES;

/// How often a stripe is tried at which somebody is: some milliseconds, where its holder needs nanoseconds to go on.
const PATIENCE: u32 = 1 << 20;

/// The number of the thread that calls, counted from the first that ever asked.
pub(crate) fn this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    thread_local! { static NUMBER: Cell<usize> = const { Cell::new(0) } }
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// A limit that is counted in stripes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit<'a> {
    pub(crate) key: KeyId,
    pub(crate) pace: &'a Pace,
    pub(crate) word: &'a AtomicU64,
}

impl Limit<'_> {
    fn name(&self) -> [u64; 3] {
        let [first, second] = self.pace.marks();
        [first, second, u128::from(self.key) as u64]
    }
}

/// The stripes of one key.
#[derive(Debug, Default)]
pub(crate) struct Stripes {
    stripes: [Stripe; STRIPES],
    /// Which of them may have a slice.
    sliced: AtomicU64,
}

/// What one thread counts. All but the first word belongs to whoever holds it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    is_held: AtomicBool,
    /// The version that is counted, by one more than its position; 0 is none.
    position: AtomicU32,
    slice: [AtomicU64; 2],
    /// Of which limit the slice is: its marks, and the random half of its key's id.
    of: [AtomicU64; 3],
    allowed: AtomicU64,
    last_used: AtomicU64,
}

/// A stripe that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    stripe: &'a Stripe,
    sliced: &'a AtomicU64,
    number: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.stripe.is_held.store(false, Ordering::Release);
    }
}

impl Stripes {
    /// The stripe of the thread that calls, unless another thread is at it.
    #[inline]
    pub(crate) fn own(&self) -> Option<Held<'_>> {
        self.hold(this_thread() % STRIPES)
    }

    #[inline]
    fn hold(&self, number: usize) -> Option<Held<'_>> {
        let stripe = self.stripes.get(number)?;
        let is_free =
            !stripe.is_held.load(Ordering::Relaxed) && !stripe.is_held.swap(true, Ordering::Acquire);
        // Not `then_some`: what is dropped unused would let go what another thread holds.
        is_free.then(|| Held { stripe, sliced: &self.sliced, number })
    }

    /// A stripe, as soon as nobody is at it. Not for who holds one. If somebody stays there it is left out, rather than that
    /// all the others wait for it: what is there stays there.
    fn wait_for(&self, number: usize) -> Option<Held<'_>> {
        (0..PATIENCE).find_map(|turn| {
            let held = self.hold(number);
            // Who holds it may wait for this processor.
            match held {
                Some(_) => {}
                None if turn % 64 == 63 => std::thread::yield_now(),
                None => spin_loop(),
            }
            held
        })
    }

    /// All stripes, one after the other.
    fn each(&self) -> impl Iterator<Item = Held<'_>> {
        (0..STRIPES).filter_map(|number| self.wait_for(number))
    }

    /// Whether any of the limit may be in slices.
    pub(crate) fn has_slices(&self) -> bool {
        self.sliced.load(Ordering::Acquire) != 0
    }

    /// Charges a request to the limit's word and all slices together. Not for who holds a stripe.
    #[cold]
    pub(crate) fn take(&self, limit: &Limit<'_>, t: Timestamp, cost: u32) -> Result<LimitStatus, Refusal> {
        let all: [_; STRIPES] = std::array::from_fn(|number| self.wait_for(number));
        let mut slices =
            all.each_ref().map(|held| held.as_ref().map_or_else(Slice::default, |held| held.slice(limit)));
        let taken = limit.pace.take_with(&mut slices, limit.word, t, cost);
        for (held, slice) in all.iter().zip(slices) {
            let Some(held) = held else { continue };
            held.set_slice(limit, slice);
            if limit.pace.uses(slice, t) == 0 {
                self.sliced.fetch_and(!(1 << held.number), Ordering::AcqRel);
            }
        }
        taken
    }

    /// The version that is counted, if all of them count one.
    pub(crate) fn position(&self) -> Option<u32> {
        let [first, ..] = &self.stripes;
        first.position.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Forgets what was set aside: the limit is another one.
    pub(crate) fn forget_slices(&self) {
        self.each()
            .for_each(|held| held.stripe.slice.iter().for_each(|word| word.store(0, Ordering::Relaxed)));
    }

    /// Takes the counts out, and counts another version from now on, or none: each stripe's counts, with the position of
    /// the version.
    pub(crate) fn serve(&self, position: Option<u32>, mut each: impl FnMut(u32, u64, Option<Timestamp>)) {
        for held in self.each() {
            held.take_counts(&mut each);
            held.stripe.position.store(position.map_or(0, |position| position + 1), Ordering::Relaxed);
        }
    }

    /// Takes the counts out.
    pub(crate) fn take_counts(&self, mut each: impl FnMut(u32, u64, Option<Timestamp>)) {
        self.each().for_each(|held| held.take_counts(&mut each));
    }
}

impl Held<'_> {
    fn slice(&self, limit: &Limit<'_>) -> Slice {
        let is_of_it = self.stripe.of.each_ref().map(|word| word.load(Ordering::Relaxed)) == limit.name();
        let [from, to] = self.stripe.slice.each_ref().map(|word| word.load(Ordering::Relaxed));
        if is_of_it { Slice { from, to } } else { Slice::default() }
    }

    fn set_slice(&self, limit: &Limit<'_>, slice: Slice) {
        let all = self.stripe.slice.iter().zip([slice.from, slice.to]);
        let of = self.stripe.of.iter().zip(limit.name());
        all.chain(of).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
    }

    /// Charges a request to the slice that is here, to a new one, or to the limit's word.
    #[inline]
    pub(crate) fn charge(&self, limit: &Limit<'_>, t: Timestamp, cost: u32) -> Result<LimitStatus, Refusal> {
        let mut slice = self.slice(limit);
        let taken = limit.pace.take_of(&mut slice, limit.word, t, cost, || self.note_slice());
        self.set_slice(limit, slice);
        taken
    }

    /// Says that a slice may be here: who is refused from then on looks for it.
    fn note_slice(&self) {
        let own = 1 << self.number;
        if self.sliced.load(Ordering::Relaxed) & own == 0 {
            self.sliced.fetch_or(own, Ordering::AcqRel);
        }
    }

    /// Counts a grant of a version, if it is the one that is counted here.
    #[inline]
    pub(crate) fn count(&self, position: u32, at: Timestamp) -> bool {
        let is_it = self.stripe.position.load(Ordering::Relaxed) == position + 1;
        if is_it {
            let add = |word: &AtomicU64, more: u64| {
                word.store(word.load(Ordering::Relaxed) + more, Ordering::Relaxed);
            };
            add(&self.stripe.allowed, 1);
            let last_used = self.stripe.last_used.load(Ordering::Relaxed);
            self.stripe.last_used.store(last_used.max(at.unix_micros().unsigned_abs()), Ordering::Relaxed);
        }
        is_it
    }

    fn take_counts(&self, each: &mut impl FnMut(u32, u64, Option<Timestamp>)) {
        let Stripe { position, allowed, last_used, .. } = self.stripe;
        let allowed = allowed.swap(0, Ordering::Relaxed);
        let last_used = Timestamp::from_unix_micros(last_used.swap(0, Ordering::Relaxed).cast_signed());
        if let (Some(position), 1..) = (position.load(Ordering::Relaxed).checked_sub(1), allowed) {
            each(position, allowed, last_used.ok().filter(|time| *time > Timestamp::MIN));
        }
    }
}

//! The replica's protocol in every order that the memory model allows, by loom.
//!
//! What is checked is `src/validate/sequence.rs` itself, compiled with loom's atomics; the writer and the reader around
//! it do what the keeper and a validation do. Each control takes away one thing that the protocol stands on, and then
//! loom has to find what goes wrong: so the check can fail, and nothing in the protocol is there for nothing.
#![allow(
    clippy::duplicate_mod,
    reason = "the file is compiled once sound and once for each order that is weakened"
)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use loom::sync::atomic::{AtomicU64, Ordering};

/// The sequence lock as it is.
#[path = "../src/validate"]
mod sound {
    pub(crate) mod sync {
        pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
    }
    pub(crate) mod sequence;
}

/// The same source under other names for its atomics, one of which is weaker than it says.
macro_rules! weakened {
    ($($(#[$doc:meta])* $name:ident: Acquire = $acquire:ident, Release = $release:ident, fences: $fences:expr;)+) => {
        $($(#[$doc])*
        #[path = "../src/validate"]
        mod $name {
            pub(crate) mod sync {
                pub(crate) use loom::sync::atomic::AtomicU64;
                use loom::sync::atomic::Ordering as Of;

                pub(crate) struct Ordering;

                #[allow(non_upper_case_globals, reason = "they stand for variants")]
                impl Ordering {
                    pub(crate) const Relaxed: Of = Of::Relaxed;
                    pub(crate) const Acquire: Of = Of::$acquire;
                    pub(crate) const Release: Of = Of::$release;
                }

                /// Whichever was weakened of the two, what is left of it as a fence is the fence that it was.
                pub(crate) fn fence(order: Of) {
                    let order = match (order, Ordering::Acquire) {
                        (Of::Relaxed, Of::Relaxed) => Of::Acquire,
                        (Of::Relaxed, _) => Of::Release,
                        (order, _) => order,
                    };
                    if $fences.contains(&order) {
                        loom::sync::atomic::fence(order);
                    }
                }
            }
            pub(crate) mod sequence;
        })+
    };
}

weakened! {
    /// The writer's words may be seen before the odd number.
    without_the_writers_fence: Acquire = Acquire, Release = Release, fences: [Of::Acquire];
    /// The second look may be taken before the words.
    without_the_readers_fence: Acquire = Acquire, Release = Release, fences: [Of::Release];
    /// The words may be loaded before the first look.
    with_a_relaxed_first_look: Acquire = Relaxed, Release = Release, fences: [Of::Acquire, Of::Release];
    /// The even number may be seen before the words.
    with_a_relaxed_end: Acquire = Acquire, Release = Relaxed, fences: [Of::Acquire, Of::Release];
}

/// A sequence lock, whichever way it was compiled.
trait Lock: Default + Send + Sync + 'static {
    type Seen: Copy;
    fn begin(&self) -> Option<Self::Seen>;
    fn holds(&self, seen: Self::Seen) -> bool;
    fn write(&self, work: impl FnOnce());
}

macro_rules! locks {
    ($($name:ident)+) => { $(
        impl Lock for $name::sequence::Sequence {
            type Seen = $name::sequence::Seen;
            fn begin(&self) -> Option<Self::Seen> { self.begin() }
            fn holds(&self, seen: Self::Seen) -> bool { self.holds(seen) }
            fn write(&self, work: impl FnOnce()) {
                let _writing = self.write();
                work();
            }
        }
    )+ };
}

locks! {
    sound without_the_writers_fence without_the_readers_fence with_a_relaxed_first_look with_a_relaxed_end
}

type Sound = sound::sequence::Sequence;

/// A store, and a replica of it that has room for two words.
struct Place<L> {
    /// What the store was last committed as: its stamp.
    committed: AtomicU64,
    sequence: L,
    whole: AtomicU64,
    stamp: AtomicU64,
    words: [AtomicU64; 2],
}

impl<L: Lock> Place<L> {
    fn new() -> Self {
        let word = || AtomicU64::new(0);
        Self {
            committed: word(),
            sequence: L::default(),
            whole: AtomicU64::new(1),
            stamp: word(),
            words: [word(), word()],
        }
    }

    fn set(&self, word: &AtomicU64, to: u64) {
        word.store(to, Ordering::Relaxed);
    }

    fn leave(&self) {
        self.sequence.write(|| self.set(&self.whole, 0));
    }

    /// Takes in a page of the feed.
    fn apply(&self, words: &[usize], to: u64) {
        self.sequence.write(|| words.iter().for_each(|word| self.set(&self.words[*word], to)));
    }

    fn arrive(&self, at: u64) {
        self.sequence.write(|| {
            self.set(&self.stamp, at);
            self.set(&self.whole, 1);
        });
    }

    fn is_at(&self, stamp: u64) -> bool {
        self.whole.load(Ordering::Relaxed) == 1 && self.stamp.load(Ordering::Relaxed) == stamp
    }

    fn copy(&self) -> [u64; 2] {
        [0, 1].map(|word| self.words[word].load(Ordering::Relaxed))
    }

    /// What a validation copies: the stamp that it compared, and the words.
    fn validate(&self) -> Option<(u64, [u64; 2])> {
        let stamp = self.committed.load(Ordering::Acquire);
        let seen = self.sequence.begin().filter(|_| self.is_at(stamp))?;
        let copy = self.copy();
        self.sequence.holds(seen).then_some((stamp, copy))
    }
}

/// All that readers kept, in all orders.
type Kept = BTreeSet<(u64, [u64; 2])>;

type Write<L> = fn(&Place<L>);
type Read<L> = fn(&Place<L>) -> Option<(u64, [u64; 2])>;

/// Runs a writer and some readers in every order with two preemptions, or one beside two readers, until somebody keeps something wrong.
/// What a load may show is explored beside that, and has no bound. `KEYROTA_LOOM_PREEMPTIONS=3` goes on for minutes.
fn in_every_order<L: Lock>(readers: usize, write: Write<L>, read: Read<L>) -> Kept {
    let kept = Arc::new(Mutex::new(Kept::new()));
    let noted = Arc::clone(&kept);
    let mut model = loom::model::Builder::new();
    let asked = std::env::var("KEYROTA_LOOM_PREEMPTIONS").ok();
    model.preemption_bound = Some(asked.map_or(3 - readers, |asked| asked.parse().unwrap()));
    let all = catch_unwind(AssertUnwindSafe(|| {
        model.check(move || {
            let place = loom::sync::Arc::new(Place::new());
            let threads: Vec<_> = (0..readers)
                .map(|_| {
                    let (place, noted) = (loom::sync::Arc::clone(&place), Arc::clone(&noted));
                    loom::thread::spawn(move || noted.lock().unwrap().extend(read(&place)))
                })
                .collect();
            write(&place);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(wrong(&noted.lock().unwrap()), []);
        });
    }));
    let kept = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(all.is_err(), !wrong(&kept).is_empty(), "a model ends early only for what is wrong: {kept:?}");
    kept
}

/// Torn, or of another moment than its stamp.
fn wrong(kept: &Kept) -> Vec<(u64, [u64; 2])> {
    kept.iter().copied().filter(|(stamp, words)| words.iter().any(|word| word != stamp)).collect()
}

/// Words and stamp in one turn of the writer's.
fn in_one_turn<L: Lock>(place: &Place<L>, at: u64) {
    place.committed.store(at, Ordering::Release);
    place.sequence.write(|| {
        place.set(&place.stamp, at);
        place.words.iter().for_each(|word| place.set(word, at));
    });
}

fn in_two_turns<L: Lock>(place: &Place<L>) {
    in_one_turn(place, 1);
    in_one_turn(place, 2);
}

/// As the keeper catches up with a commit whose feed has two pages.
fn in_pages<L: Lock>(place: &Place<L>) {
    place.committed.store(1, Ordering::Release);
    place.leave();
    place.apply(&[0], 1);
    place.apply(&[1], 1);
    place.arrive(1);
}

#[test]
fn no_reader_keeps_a_torn_copy_or_one_that_is_not_of_its_stamp() {
    let kept = in_every_order::<Sound>(1, in_two_turns, Place::validate);
    assert_eq!(wrong(&kept), []);
    assert_eq!(kept.len(), 3, "each of the three moments is seen by somebody: {kept:?}");
}

#[test]
fn neither_do_two_readers_of_one_writer() {
    let kept = in_every_order::<Sound>(2, |place| in_one_turn(place, 1), Place::validate);
    assert_eq!((wrong(&kept), kept.len()), (vec![], 2), "{kept:?}");
}

#[test]
fn a_reader_sees_all_pages_of_a_catching_up_or_none() {
    let kept = in_every_order::<Sound>(1, in_pages, Place::validate);
    assert_eq!((wrong(&kept), kept.len()), (vec![], 2), "{kept:?}");
}

/// Control: the check fails without any of the four orders that the lock is made of.
#[test]
fn without_any_one_of_its_orders_the_lock_is_found_broken() {
    fn found<L: Lock>() -> Vec<(u64, [u64; 2])> {
        wrong(&in_every_order::<L>(1, in_two_turns, Place::validate))
    }
    assert_ne!(found::<without_the_writers_fence::sequence::Sequence>(), [], "the writer's fence");
    assert_ne!(found::<without_the_readers_fence::sequence::Sequence>(), [], "the reader's fence");
    assert_ne!(found::<with_a_relaxed_first_look::sequence::Sequence>(), [], "the first look");
    assert_ne!(found::<with_a_relaxed_end::sequence::Sequence>(), [], "the end of the writer's turn");
}

/// Control: what the writer and the reader do with the lock matters as well.
#[test]
fn a_writer_or_a_reader_that_leaves_out_a_step_is_found() {
    fn found(write: Write<Sound>, read: Read<Sound>) -> bool {
        !wrong(&in_every_order(1, write, read)).is_empty()
    }
    fn stamp_first(place: &Place<Sound>) {
        place.committed.store(1, Ordering::Release);
        place.arrive(1);
        place.apply(&[0, 1], 1);
    }
    fn without_leaving(place: &Place<Sound>) {
        place.committed.store(1, Ordering::Release);
        place.apply(&[0], 1);
        place.apply(&[1], 1);
        place.arrive(1);
    }
    fn without_a_second_look(place: &Place<Sound>) -> Option<(u64, [u64; 2])> {
        let stamp = place.committed.load(Ordering::Acquire);
        place.sequence.begin().filter(|_| place.is_at(stamp))?;
        Some((stamp, place.copy()))
    }
    fn stamp_compared_last(place: &Place<Sound>) -> Option<(u64, [u64; 2])> {
        let stamp = place.committed.load(Ordering::Acquire);
        let seen = place.sequence.begin()?;
        let copy = place.copy();
        (place.sequence.holds(seen) && place.is_at(stamp)).then_some((stamp, copy))
    }
    assert!(found(stamp_first, Place::validate), "the stamp before the words");
    assert!(found(without_leaving, Place::validate), "pages, and the replica whole all the while");
    assert!(found(in_two_turns, without_a_second_look), "no second look");
    assert!(found(in_two_turns, stamp_compared_last), "the stamp compared outside");
}

//! Several rate limits together, and several threads.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::limit::tests::{SECOND, limited, micros};
use crate::limit::{LimitStatus, Limits, Pace, Place, RateLimit, check, reserve};

fn words(limits: &Limits) -> (Vec<Pace>, Vec<AtomicU64>) {
    limits.rates().iter().map(|rate| (Pace::new(rate), AtomicU64::new(0))).unzip()
}

#[test]
fn of_several_limits_all_must_allow_and_a_refusal_charges_none() {
    let limits: Limits = "3/s, 5/min, 100/h".parse().unwrap();
    let (paces, places) = words(&limits);
    let ask = |now: u64, cost| {
        let t = micros(now);
        check(&paces, &places, t, cost)?;
        reserve(&paces, &places, t, cost).map(Option::unwrap).map_err(limited)
    };
    let remaining = |status: LimitStatus| (status.limit(), status.remaining());
    assert_eq!(ask(0, 1).map(remaining), Ok((3, 2)), "the one with the fewest left is told");
    assert_eq!(ask(0, 2).map(remaining), Ok((3, 0)));
    let values = |places: &[AtomicU64]| places.iter().map(Place::load).collect::<Vec<_>>();
    let before = values(&places);
    let refused = ask(0, 1).unwrap_err();
    assert_eq!((remaining(refused), refused.retry_after()), ((3, 0), Some(Duration::from_micros(333_334))));
    assert_eq!(ask(SECOND, 2).map(remaining), Ok((5, 0)));
    let after = values(&places);
    assert!(before.iter().zip(&after).all(|(before, after)| before < after));
    let refused = ask(2 * SECOND, 3).unwrap_err();
    assert_eq!(remaining(refused), (5, 0), "the longest wait is told");
    assert_eq!(refused.retry_after(), Some(Duration::from_secs(34)));
    assert_eq!(ask(2 * SECOND, 4).unwrap_err().retry_after(), None, "waiting does not help the first");
    assert_eq!(values(&places), after, "check has charged none");
    assert!(reserve(&paces, &places, micros(2 * SECOND), 3).is_err());
    assert_eq!(values(&places), after, "and what was reserved is put back");
    assert_eq!(reserve::<AtomicU64>(&[], &[], micros(0), 1), Ok(None));
    assert_eq!(check::<AtomicU64>(&[], &[], micros(0), 1), Ok(()));
}

/// A place that lets another request in between two swaps.
struct Crowded<'a> {
    word: &'a AtomicU64,
    swaps: &'a AtomicUsize,
    /// Before which swap the other one comes, and what it does then.
    at: usize,
    other: &'a dyn Fn(),
}

impl Place for Crowded<'_> {
    fn load(&self) -> u64 {
        Place::load(self.word)
    }
    fn replace(&self, current: u64, new: u64) -> Result<(), u64> {
        if self.swaps.fetch_add(1, Ordering::SeqCst) == self.at {
            (self.other)();
        }
        self.word.replace(current, new)
    }
}

/// Another request comes before each swap in turn; whatever comes of it, no limit allows more than its rule, and what
/// both are charged is at least what was allowed.
#[test]
fn whatever_comes_between_two_swaps_no_limit_allows_too_much() {
    for (first, second, cost, others) in
        [(10, 10, 1, 1), (10, 3, 2, 2), (3, 10, 2, 2), (5, 5, 3, 3), (10, 4, 3, 2), (10, 4, 5, 1)]
    {
        for at in 0..6 {
            let rates = [1_u32, 2].map(|minutes| Duration::from_secs(60 * u64::from(minutes)));
            let rate = |span, burst| RateLimit::per(10, span).unwrap().with_burst(burst).unwrap();
            let limits = Limits::new([rate(rates[0], first), rate(rates[1], second)]).unwrap();
            let (paces, places) = words(&limits);
            let (swaps, allowed_other) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let t = micros(0);
            let other = || {
                if reserve(&paces, &places, t, others).is_ok() {
                    allowed_other.fetch_add(others as usize, Ordering::SeqCst);
                }
            };
            let crowded: Vec<_> =
                places.iter().map(|word| Crowded { word, swaps: &swaps, at, other: &other }).collect();
            let own = if reserve(&paces, &crowded, t, cost).is_ok() { cost as usize } else { 0 };
            let allowed = own + allowed_other.load(Ordering::SeqCst);
            assert!(allowed <= first.min(second) as usize, "{first} {second} {cost} {others} at {at}");
            for (pace, place) in paces.iter().zip(&places) {
                let left = pace.allowed(Place::load(place), pace.at(t));
                assert!(left.limit() - left.remaining() >= allowed as u64, "a charge was taken away");
            }
        }
    }
}

fn allowed_by_threads(limits: &Limits, threads: usize, each: usize) -> usize {
    let (paces, places) = words(limits);
    let allowed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..each {
                    let asked = check(&paces, &places, micros(0), 1).is_ok()
                        && reserve(&paces, &places, micros(0), 1).is_ok();
                    allowed.fetch_add(usize::from(asked), Ordering::Relaxed);
                }
            });
        }
    });
    allowed.into_inner()
}

#[test]
fn a_hundred_uses_among_eight_threads_are_exactly_a_hundred() {
    for _ in 0..50 {
        let single = RateLimit::per_minute(100).unwrap();
        assert_eq!(allowed_by_threads(&single.into(), 8, 50), 100);
        for several in ["100/min, 200/h", "200/s, 100/min", "1000/s, 500/min, 100/h, 300/d"] {
            assert_eq!(allowed_by_threads(&several.parse().unwrap(), 8, 50), 100, "{several}");
        }
    }
}

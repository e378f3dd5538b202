//! Slices of a limit: together they are the limit, neither more nor less.

use std::sync::atomic::AtomicU64;

use crate::limit::tests::rates::Account;
use crate::limit::tests::{Dice, SECOND, limited, micros};
use crate::limit::{LimitStatus, Pace, RateLimit, Slice};

/// A limit with slices, of which each is another thread's.
struct Sliced {
    pace: Pace,
    word: AtomicU64,
    slices: [Slice; Pace::SLICES],
    cuts: usize,
}

impl Sliced {
    fn new(limit: RateLimit) -> Self {
        let (word, slices) = (AtomicU64::new(0), [Slice::default(); Pace::SLICES]);
        Self { pace: Pace::new(&limit), word, slices, cuts: 0 }
    }

    /// As a thread asks: first of its own slice, and before it is refused, of all.
    fn ask(&mut self, thread: usize, now: u64, cost: u32) -> Result<LimitStatus, LimitStatus> {
        let (t, cuts) = (micros(now), &mut self.cuts);
        let own = self.pace.take_of(&mut self.slices[thread], &self.word, t, cost, || *cuts += 1);
        own.or_else(|_| self.pace.take_with(&mut self.slices, &self.word, t, cost)).map_err(limited)
    }
}

fn limits() -> [RateLimit; 6] {
    ["100000/s", "1000/s burst 100000", "10000000/s", "5000/min", "300/s burst 2000", "7/s burst 50"]
        .map(|text| text.parse().unwrap())
}

#[test]
fn while_time_stands_still_exactly_the_burst_is_allowed_whoever_asks() {
    for limit in limits().into_iter().filter(|limit| limit.burst() <= 100_000) {
        for most in [1, 3, 200] {
            let (mut sliced, mut dice) = (Sliced::new(limit), Dice(most));
            let mut left = limit.burst();
            while left > 0 {
                let cost = (1 + dice.below(most) as u32).min(left);
                let status = sliced.ask(dice.below(16) as usize, 0, cost).expect("there is as much left");
                left -= cost;
                assert!(status.remaining() <= u64::from(left));
                assert!(
                    status.remaining() + u64::from(limit.burst() / Pace::PART) >= u64::from(left),
                    "{limit}"
                );
            }
            for thread in 0..16 {
                let refused = sliced.ask(thread, 0, 1).unwrap_err();
                assert_eq!(refused.remaining(), 0);
                let retry = refused.retry_after().unwrap().as_micros() as u64;
                assert!(sliced.ask(thread, retry - 1, 1).is_err(), "{limit}");
            }
            assert_eq!(sliced.cuts > 0, limit.burst() >= 1024, "{limit}");
        }
    }
}

#[test]
fn slices_allow_nothing_beyond_the_rule_and_refuse_little_within_it() {
    let (mut allowed, mut refused, mut cuts) = (0, 0, 0);
    for (seed, limit) in limits().into_iter().enumerate() {
        let interval = (limit.span().as_micros() as u64 / u64::from(limit.uses())).max(1);
        let (mut sliced, mut account) = (Sliced::new(limit), Account::new(limit));
        let (mut dice, mut now) = (Dice(seed as u64), 0);
        for round in 0..200_000_u32 {
            // Now slower than the limit, now faster, and a silence from time to time.
            now += match (round / 20_000 % 2, dice.below(5_000)) {
                (_, 0) => dice.below(2 * SECOND),
                (0, _) => dice.below(6 * interval),
                (_, roll) => u64::from(roll.is_multiple_of(50)) * dice.below(interval + 1),
            };
            let cost = [1, 1, 1, 2, 70][dice.below(5) as usize];
            match sliced.ask(dice.below(16) as usize, now, cost) {
                Ok(_) => {
                    assert!(account.allows(now, cost), "{limit}: more than the rule in round {round}");
                    allowed += 1;
                }
                Err(_) => {
                    let lost = limit.burst() / Pace::PART + 1;
                    assert!(!account.would_allow(now, cost + lost), "{limit}: less in round {round}");
                    refused += 1;
                }
            }
        }
        cuts += sliced.cuts;
    }
    assert!(allowed > 100_000 && refused > 10_000 && cuts > 10_000, "{allowed} {refused} {cuts}");
}

#[test]
fn a_slice_of_before_the_clock_went_back_is_worth_nothing_and_locks_nobody_out() {
    let limit: RateLimit = "1000/s burst 20000".parse().unwrap();
    let mut sliced = Sliced::new(limit);
    let day = 86_400 * SECOND;
    (0..Pace::SLICES).for_each(|thread| assert!(sliced.ask(thread, day, 1).is_ok()));
    // As if the burst had just been used up: nothing is given away, and a second later a second's uses are there.
    let allowed =
        |sliced: &mut Sliced, now| (0..30_000).filter(|n| sliced.ask(n % 16, now, 1).is_ok()).count();
    assert_eq!(allowed(&mut sliced, 0), 0);
    assert_eq!(allowed(&mut sliced, SECOND), 1000);
}

#[test]
fn a_use_that_time_has_earned_again_is_not_there_twice() {
    let limit: RateLimit = "2000/s".parse().unwrap();
    let mut sliced = Sliced::new(limit);
    // Each thread sets uses aside; a second later all are earned again, and those that were set aside are over.
    (0..Pace::SLICES).for_each(|thread| assert!(sliced.ask(thread, 0, 1).is_ok()));
    let allowed = (0..5_000).filter(|n| sliced.ask(n % 16, 10 * SECOND, 1).is_ok()).count();
    assert_eq!(allowed, 2000);
}

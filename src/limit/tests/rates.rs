//! One rate limit: against an exact account of its rule and against an independent implementation, at the fastest and
//! the slowest rates, and under clocks that go back.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use governor::clock::FakeRelativeClock;

use crate::limit::tests::{Dice, SECOND, limited, micros};
use crate::limit::{LimitStatus, Pace, Place, RateLimit};
use crate::time::Timestamp;

/// One limit with its word.
struct Counted {
    pace: Pace,
    word: AtomicU64,
}

impl Counted {
    fn new(limit: RateLimit) -> Self {
        Self { pace: Pace::new(&limit), word: AtomicU64::new(0) }
    }
    fn ask(&self, t: Timestamp, cost: u32) -> Result<LimitStatus, LimitStatus> {
        self.pace.take(&self.word, t, cost).map_err(limited)
    }
    fn allows(&self, t: Timestamp, cost: u32) -> bool {
        self.ask(t, cost).is_ok()
    }
}

/// The rule in its own words, exactly: what was used and not earned again, in uses times the span.
pub(super) struct Account {
    limit: RateLimit,
    owed: u128,
    seen: u64,
}

impl Account {
    pub(super) fn new(limit: RateLimit) -> Self {
        Self { limit, owed: 0, seen: 0 }
    }
    fn settle(&mut self, now: u64) {
        let earned = u128::from(now - self.seen) * u128::from(self.limit.uses());
        (self.owed, self.seen) = (self.owed.saturating_sub(earned), now);
    }
    pub(super) fn would_allow(&mut self, now: u64, cost: u32) -> bool {
        self.settle(now);
        let owed = self.owed + u128::from(cost) * self.limit.span().as_micros();
        owed <= u128::from(self.limit.burst()) * self.limit.span().as_micros()
    }
    pub(super) fn allows(&mut self, now: u64, cost: u32) -> bool {
        let allowed = self.would_allow(now, cost);
        if allowed {
            self.owed += u128::from(cost) * self.limit.span().as_micros();
        }
        allowed
    }
}

/// A step of the clock that makes both answers likely: none, a part of an interval, a few, or a long silence.
fn step(dice: &mut Dice, limit: &RateLimit) -> u64 {
    let interval = (limit.span().as_micros() as u64 / u64::from(limit.uses())).max(1);
    match dice.below(8) {
        0..=2 => 0,
        3 => dice.below(interval + 1),
        4 => interval,
        5 => dice.below(4 * interval + 2),
        6 => dice.below(interval.saturating_mul(u64::from(limit.burst())) + 2),
        _ => dice.below(3 * limit.span().as_micros() as u64),
    }
}

/// Limits whose interval is a fraction of microseconds with a small denominator: these are counted without rounding.
fn exact_limits() -> Vec<RateLimit> {
    let rate = |uses, span_us| RateLimit::per(uses, Duration::from_micros(span_us)).unwrap();
    let mut limits: Vec<_> = [
        (1, 366 * 86_400 * SECOND),
        (1, 365 * 86_400 * SECOND),
        (1, SECOND),
        (3, SECOND),
        (7, 60 * SECOND),
        (35, SECOND),
        (36, 86_400 * SECOND),
        (60, 60 * SECOND),
        (100, SECOND),
        (1_000, 60 * SECOND),
        (10_000, 1_000),
        (1_000_000, SECOND),
        (10_000_000, SECOND),
        (5_000_000, SECOND),
    ]
    .map(|(uses, span)| rate(uses, span))
    .into();
    for index in 0..limits.len() {
        for burst in [1, 2, 5] {
            limits.extend(limits[index].with_burst(burst));
        }
    }
    limits
}

#[test]
fn a_limit_without_rounding_keeps_its_rule_to_the_microsecond() {
    let mut answers = [0; 2];
    for (seed, limit) in exact_limits().into_iter().enumerate() {
        let (mut dice, counted, mut account) = (Dice(seed as u64), Counted::new(limit), Account::new(limit));
        let mut now = dice.below(1_000);
        for _ in 0..2_000 {
            now += step(&mut dice, &limit);
            let cost = dice.below(1 + 2 * u64::from(limit.burst().min(20))) as u32;
            let cost = if dice.below(2) == 0 { 1 } else { cost };
            let expected = account.allows(now, cost);
            assert_eq!(counted.allows(micros(now), cost), expected, "{limit}: {cost} at {now}");
            answers[usize::from(expected)] += 1;
        }
    }
    assert!(answers.iter().all(|count| *count > 10_000), "{answers:?}");
}

/// Odd rates: the clock is read to less than one unit, so that a use may come one microsecond early or late; what
/// adds up is exact.
#[test]
fn an_odd_rate_is_exact_in_sum_and_within_a_microsecond_at_each_use() {
    for (uses, span_us) in [
        (37, 60 * SECOND),
        (9_999_999, SECOND),
        (9_999_991, 1_000_000),
        (333_667, SECOND),
        (1_001, 366 * 86_400 * SECOND),
        (u32::MAX, 86_400 * SECOND),
        (99_991, 997_001),
        (41, 1_000),
    ] {
        let limit = RateLimit::per(uses, Duration::from_micros(span_us)).unwrap();
        for burst in [1, 7, 50] {
            let limit = limit.with_burst(burst).unwrap();
            let (counted, mut dice) = (Counted::new(limit), Dice(u64::from(burst)));
            let mut now = 0;
            // What an unrounded account would allow if the clock were a microsecond off in either direction.
            let (mut early, mut late) = (Account::new(limit), Account::new(limit));
            let margin = u128::from(limit.uses());
            for _ in 0..5_000 {
                now += step(&mut dice, &limit);
                early.settle(now);
                late.settle(now);
                let price = limit.span().as_micros();
                let full = u128::from(burst) * price;
                let allowed = counted.allows(micros(now), 1);
                if allowed {
                    assert!(early.owed + price <= full + margin, "{limit}: too early at {now}");
                    (early.owed, late.owed) = (early.owed + price, late.owed + price);
                } else {
                    assert!(late.owed + price + margin > full, "{limit}: too late at {now}");
                }
            }
        }
        // Hungry for many spans: the burst at first, and then the rate, to the use.
        if uses < 2_000 {
            let counted = Counted::new(limit.with_burst(2).unwrap());
            let (mut now, mut allowed) = (0_u64, 0_u64);
            let spans = 2_000 / u64::from(uses) + 1;
            while now < spans * span_us {
                match counted.ask(micros(now), 1) {
                    Ok(_) => allowed += 1,
                    Err(status) => {
                        assert!(status.retry_after() > Some(Duration::ZERO), "{limit}");
                        now += status.retry_after().unwrap().as_micros() as u64;
                    }
                }
            }
            assert_eq!(allowed, 2 + spans * u64::from(uses) - 1, "{limit}");
        }
    }
}

/// Where the interval is shorter than the clock's microsecond, a hungry key gets what each microsecond has earned.
#[test]
fn the_fastest_rates_do_not_drift() {
    for uses in [10_000_000_u32, 9_999_999, 7_654_321] {
        let limit = RateLimit::per_second(uses).unwrap().with_burst(100).unwrap();
        let (pace, mut word, mut allowed) = (Pace::new(&limit), 0, 0_u64);
        // A look every 5 µs, for a tenth of a second.
        for now in (0..=SECOND / 10).step_by(5) {
            let t = micros(now);
            while let Some(charged) = pace.charge(word, pace.at(t), 1) {
                assert!(charged > word && allowed < u64::from(uses), "{limit}: refused at last");
                (word, allowed) = (charged, allowed + 1);
            }
        }
        assert_eq!(allowed, 100 + u64::from(uses) / 10, "{limit}");
    }
}

/// `governor` counts in whole nanoseconds, so the intervals here are whole microseconds.
#[test]
fn an_independent_limiter_gives_the_same_answers() {
    let mut answers = [0; 2];
    for (seed, (interval_us, burst)) in
        [(1_u64, 1_u32), (1, 100), (3, 7), (1_000, 10), (16_667, 60), (1_000_000, 5), (86_400_000_000, 2)]
            .into_iter()
            .enumerate()
    {
        let uses = if interval_us > SECOND { 1 } else { 1_000 };
        let span = Duration::from_micros(interval_us * u64::from(uses));
        let limit = RateLimit::per(uses, span).unwrap().with_burst(burst).unwrap();
        let quota = governor::Quota::with_period(Duration::from_micros(interval_us)).unwrap();
        let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap());
        let clock = FakeRelativeClock::default();
        let other = governor::RateLimiter::direct_with_clock(quota, clock.clone());
        let (counted, mut dice, mut now) = (Counted::new(limit), Dice(seed as u64), 0);
        for _ in 0..20_000 {
            let step = match dice.below(6) {
                0..=2 => 0,
                3 => dice.below(interval_us + 1),
                4 => interval_us,
                _ => dice.below(interval_us * u64::from(burst + 2)),
            };
            now += step;
            clock.advance(Duration::from_micros(step));
            let cost = if dice.below(3) > 0 { 1 } else { 1 + dice.below(u64::from(burst) + 1) as u32 };
            let expected = matches!(other.check_n(NonZeroU32::new(cost).unwrap()), Ok(Ok(())));
            let answer = counted.ask(micros(now), cost);
            assert_eq!(answer.is_ok(), expected, "{limit}: {cost} at {now}");
            answers[usize::from(expected)] += 1;
            let Err(status) = answer else { continue };
            if cost > burst {
                assert_eq!(status.retry_after(), None);
            }
        }
    }
    assert!(answers.iter().all(|count| *count > 10_000), "{answers:?}");
}

#[test]
fn an_answer_says_what_is_left_and_exactly_when_to_come_again() {
    let limits = exact_limits().into_iter().chain(
        [(37, 60 * SECOND), (9_999_999, SECOND), (1_001, 86_400 * SECOND)]
            .map(|(uses, span)| RateLimit::per(uses, Duration::from_micros(span)).unwrap()),
    );
    for (seed, limit) in limits.enumerate() {
        let (mut dice, mut now) = (Dice(seed as u64), 0);
        let mut counted = Counted::new(limit);
        for _ in 0..300 {
            now += step(&mut dice, &limit);
            let cost = 1 + dice.below(u64::from(limit.burst().min(9)) + 2) as u32;
            let again = |word: u64, after: u64, cost| {
                let counted = Counted { pace: counted.pace, word: AtomicU64::new(word) };
                counted.allows(micros(after), cost)
            };
            let answer = counted.ask(micros(now), cost);
            let word = Place::load(&counted.word);
            let (Ok(status) | Err(status)) = answer;
            assert_eq!(status.limit(), u64::from(limit.burst()));
            let left = u32::try_from(status.remaining()).unwrap();
            assert!(again(word, now, left) && !again(word, now, left + 1), "{limit}: {left} left at {now}");
            let reset = status.reset_after().unwrap().as_micros() as u64;
            assert!(again(word, now + reset, limit.burst()), "{limit}: reset after {reset}");
            assert!(
                reset == 0 || !again(word, now + reset - 1, limit.burst()),
                "{limit}: reset before {reset}"
            );
            match (answer, status.retry_after()) {
                (Ok(_), retry) => assert_eq!(retry, None),
                (Err(_), None) => assert!(cost > limit.burst()),
                (Err(_), Some(retry)) => {
                    let retry = retry.as_micros() as u64;
                    assert!(again(word, now + retry, cost) && !again(word, now + retry - 1, cost), "{limit}");
                }
            }
        }
        counted.word = AtomicU64::new(0);
        let fresh = counted.ask(micros(now), 0).unwrap();
        let told = (fresh.remaining(), fresh.reset_after(), fresh.retry_after());
        assert_eq!(told, (u64::from(limit.burst()), Some(Duration::ZERO), None));
    }
}

/// What a narrower limit allows, the wider one would have allowed too, at any time.
#[test]
fn a_limit_within_another_allows_nothing_that_the_other_does_not() {
    let limits = exact_limits();
    let (mut within, mut beyond) = (0, 0);
    for (seed, narrow) in limits.iter().enumerate() {
        for wide in &limits {
            let (mut dice, mut now) = (Dice(seed as u64), 0);
            let (ours, mut theirs) = (Counted::new(*narrow), Account::new(*wide));
            let mut exceeded = false;
            for _ in 0..60 {
                let of = if dice.below(2) == 0 { narrow } else { wide };
                now += step(&mut dice, of);
                let cost = if dice.below(3) == 0 { narrow.burst() } else { 1 };
                if ours.allows(micros(now), cost) {
                    exceeded |= !theirs.allows(now, cost);
                }
            }
            assert!(!(exceeded && narrow.is_within(wide)), "{narrow} within {wide}");
            within += u32::from(narrow.is_within(wide));
            beyond += u32::from(exceeded);
        }
        assert!(narrow.is_within(narrow));
    }
    assert!(within > 500 && beyond > 500, "{within} {beyond}");
}

#[test]
fn a_clock_that_goes_back_locks_nobody_out_and_gives_nothing_away() {
    let slower_than_the_clock = |limit: &RateLimit| limit.span().as_micros() >= u128::from(limit.uses());
    for limit in exact_limits().into_iter().filter(slower_than_the_clock) {
        let interval = (limit.span().as_micros() as u64).div_ceil(u64::from(limit.uses()));
        let counted = Counted::new(limit);
        assert!(counted.allows(Timestamp::MAX, limit.burst()), "the last microsecond of 9999");
        // Eight thousand years back: as if the burst had just been used up.
        let mut now = 5;
        let refused = counted.ask(micros(now), 1).unwrap_err();
        assert_eq!(refused.retry_after(), Some(Duration::from_micros(interval)), "{limit}");
        assert!(!counted.allows(micros(now + interval - 1), 1) && counted.allows(micros(now + interval), 1));
        assert!(!counted.allows(micros(now + interval), 2), "{limit}");
        // Back to the beginning of time, by steps, and once forward.
        for back in [5 * SECOND, 3_600 * SECOND] {
            now += back;
            assert!(counted.allows(micros(now + 6 * limit.span().as_micros() as u64), limit.burst()));
            let refused = counted.ask(micros(now), 1).unwrap_err();
            let wait = refused.retry_after().unwrap().as_micros() as u64;
            assert!(wait <= interval.max(SECOND + interval), "{limit}: {wait}");
            assert!(counted.allows(micros(now + wait), 1), "{limit}");
        }
        assert!(!counted.allows(Timestamp::MIN, 1), "{limit}");
        assert!(counted.allows(Timestamp::MIN.plus(Duration::from_micros(interval)).unwrap(), 1));
    }
}

#[test]
fn threads_that_read_the_clock_out_of_order_take_nothing_back() {
    let counted = Counted::new(RateLimit::per_second(100).unwrap());
    assert!(counted.allows(micros(SECOND), 100));
    let word = Place::load(&counted.word);
    for late in [1, 1_000, SECOND - 1] {
        assert!(!counted.allows(micros(SECOND - late), 1));
        assert_eq!(Place::load(&counted.word), word, "{late} µs behind");
    }
    let refused = counted.ask(micros(0), 1).unwrap_err();
    assert!(refused.retry_after().unwrap() <= Duration::from_millis(1_010));
}

#[test]
fn a_request_that_costs_nothing_is_allowed_and_changes_nothing() {
    let counted = Counted::new(RateLimit::per_minute(1).unwrap());
    assert!(counted.allows(micros(SECOND), 1));
    let word = Place::load(&counted.word);
    // Of a thread that read the clock before, at the same time, and after the limit has reset.
    for (now, left) in [(1, 0), (SECOND, 0), (SECOND + 1, 0), (62 * SECOND, 1)] {
        let status = counted.ask(micros(now), 0).unwrap();
        assert_eq!((status.remaining(), Place::load(&counted.word)), (left, word), "{now}");
    }
}

#[test]
fn every_limit_fits_its_word_until_the_last_microsecond_of_9999() {
    let mut dice = Dice(1);
    for _ in 0..20_000 {
        let (span, uses) = (1_000 + dice.up_to_bits(45), dice.up_to_bits(32) as u32);
        let Ok(limit) = RateLimit::per(uses, Duration::from_micros(span)) else { continue };
        let burst = dice.up_to_bits(32) as u32;
        let limit = limit.with_burst(burst).unwrap_or(limit);
        let counted = Counted::new(limit);
        let before = Timestamp::MAX.minus_or_min(Duration::from_micros(1));
        assert!(counted.allows(before, limit.burst()), "{limit}");
        let word = Place::load(&counted.word);
        assert!(word < u64::MAX / 2 + u64::MAX / 8, "{limit}: {word}");
        assert_eq!(counted.ask(before, 1).unwrap_err().remaining(), 0, "{limit}");
    }
}

#[test]
fn a_limit_says_in_how_long_its_burst_is_earned() {
    for (limit, window) in [
        ("100/min", 60_000_000),
        ("1000/15min", 900_000_000),
        ("10/s burst 50", 5_000_000),
        ("10/s burst 1", 100_000),
        ("3/s burst 1", 333_334),
        ("7/h burst 7", 3_600_000_000),
        ("1/366d burst 99", 99 * 366 * 86_400_000_000),
    ] {
        let limit: RateLimit = limit.parse().unwrap();
        let status = {
            let pace = Pace::new(&limit);
            pace.allowed(0, pace.at(micros(0)))
        };
        assert_eq!(status.window(), Some(Duration::from_micros(window)), "{limit}");
    }
}

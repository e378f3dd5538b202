//! Quotas: periods, leases, and the bound that the documentation gives.

use std::time::Duration;

use crate::id::KeyId;
use crate::limit::tests::{Dice, SECOND, START, at, micros};
use crate::limit::{Lease, Period, Quota, QuotaRecord, Refill};
use crate::time::Timestamp;

fn quota(text: &str) -> Quota {
    text.parse().unwrap()
}

fn key() -> KeyId {
    KeyId::new(at(START), [7; 10])
}

#[test]
fn periods_begin_in_utc_and_follow_each_other_without_a_gap() {
    let issued = at("2027-01-30T10:20:30.000005Z");
    let every = Refill::Every(Duration::from_secs(3_600));
    for (refill, t, since, until) in [
        (Refill::Daily, "2027-03-01T00:00:00Z", "2027-03-01T00:00:00Z", "2027-03-02T00:00:00Z"),
        (Refill::Daily, "2028-02-29T23:59:59.999999Z", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"),
        (Refill::Monthly, "2027-02-28T23:59:59.999999Z", "2027-02-01T00:00:00Z", "2027-03-01T00:00:00Z"),
        (Refill::Monthly, "2028-02-29T00:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        (Refill::Monthly, "2027-12-31T23:59:59Z", "2027-12-01T00:00:00Z", "2028-01-01T00:00:00Z"),
        (every, "2027-01-30T10:20:30.000005Z", "2027-01-30T10:20:30.000005Z", "2027-01-30T11:20:30.000005Z"),
        (every, "2027-01-31T00:20:30.000004Z", "2027-01-30T23:20:30.000005Z", "2027-01-31T00:20:30.000005Z"),
        (every, "2027-01-01T00:00:00Z", "2027-01-30T10:20:30.000005Z", "2027-01-30T11:20:30.000005Z"),
    ] {
        let expected = Period { since: at(since), until: Some(at(until)) };
        assert_eq!(refill.period(issued, at(t)), expected, "{refill:?} at {t}");
    }
    assert_eq!(Refill::Never.period(issued, Timestamp::MAX), Period { since: issued, until: None });
    for refill in [Refill::Daily, Refill::Monthly, every] {
        assert_eq!(refill.period(issued, Timestamp::MAX).until, None, "{refill:?} in the year 9999");
        let mut t = issued;
        for _ in 0..1_000 {
            let period = refill.period(issued, t);
            assert!(period.since <= t && period.until.is_some_and(|until| t < until));
            let last = period.until.unwrap().minus_or_min(Duration::from_micros(1));
            assert_eq!(refill.period(issued, last), period);
            t = period.until.unwrap();
            assert_eq!(refill.period(issued, t).since, t, "{refill:?}");
        }
    }
}

#[test]
fn of_a_period_no_more_than_the_quota_is_leased_and_what_is_given_back_can_be_leased_again() {
    let quota = quota("10 daily lease 4");
    let today = Refill::Daily.period(at(START), at(START));
    let mut record = QuotaRecord::new(key());
    let lease = |record: &mut QuotaRecord| record.lease(&quota, today, 4).map(|lease| lease.uses);
    assert_eq!([(); 4].map(|()| lease(&mut record)), [Some(4), Some(4), Some(2), None]);
    assert_eq!(record.left(&quota, today), 0);
    record.give_back(today.since, 3);
    assert_eq!((record.left(&quota, today), lease(&mut record), lease(&mut record)), (3, Some(3), None));
    let tomorrow = Refill::Daily.period(at(START), today.until.unwrap());
    let next = record.lease(&quota, tomorrow, 4).unwrap();
    assert_eq!(next, Lease { since: tomorrow.since, until: tomorrow.until, uses: 4 });
    assert_eq!(lease(&mut record), None, "the day before is still counted");
    record.give_back(today.since, 1);
    assert_eq!((record.left(&quota, tomorrow), lease(&mut record)), (6, Some(1)));
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<QuotaRecord>(&text).unwrap(), record);
}

#[test]
fn a_process_whose_clock_is_ahead_leaves_the_others_theirs() {
    let quota = quota("10 daily");
    let day = |number: u64| Refill::Daily.period(at(START), micros(number * 86_400 * SECOND));
    let mut record = QuotaRecord::new(key());
    assert_eq!(record.lease(&quota, day(0), 10).unwrap().uses, 10);
    assert_eq!(record.lease(&quota, day(3_000), 10).unwrap().uses, 10, "eight years ahead");
    for now in 1..50 {
        assert_eq!(record.lease(&quota, day(now), 10).unwrap().uses, 10);
        assert_eq!(record.lease(&quota, day(now), 10), None);
        assert_eq!(record.lease(&quota, day(now - 1), 10), None, "a day whose count is gone gets nothing");
    }
    assert_eq!(record.lease(&quota, day(3_000), 10), None);
}

#[test]
fn no_change_but_to_a_wider_quota_makes_uses_come_back() {
    let issued = at(START);
    let now = at("2027-01-20T12:00:00Z");
    let used_up = |text: &str| {
        let (quota, mut record) = (quota(text), QuotaRecord::new(key()));
        assert_eq!(record.lease(&quota, quota.refill().period(issued, now), 100).unwrap().uses, 100);
        record
    };
    for (before, after) in [
        ("100 daily", "100 monthly"),
        ("100 daily", "100 once"),
        ("100 monthly", "100 once"),
        ("100 every 7d", "100 every 14d"),
        ("100 every 7d", "100 once"),
        ("100 once", "90 once"),
    ] {
        let (before_quota, after) = (quota(before), quota(after));
        assert!(after.is_within(&before_quota));
        let mut record = used_up(before);
        let period = after.refill().period(issued, now);
        assert_eq!(record.left(&after, period), 0, "{before} to {after}");
        assert_eq!(record.lease(&after, period, 100), None, "{before} to {after}");
        if let Some(until) = period.until {
            let next = after.refill().period(issued, until);
            assert_eq!(record.lease(&after, next, 100).unwrap().uses, 100, "{after} is refilled");
        }
    }
    let mut record = used_up("100 once");
    let daily = quota("100 daily");
    assert_eq!(record.lease(&daily, daily.refill().period(issued, now), 100).unwrap().uses, 100, "widened");
}

#[test]
fn a_quota_says_what_is_left_and_when_it_is_refilled() {
    let (quota, t) = (quota("10 daily"), at("2027-01-01T23:00:00Z"));
    let hour = Duration::from_secs(3_600);
    let period = quota.refill().period(at(START), t);
    let told = |left, cost| {
        let status = quota.status(left, period, t, cost);
        assert_eq!((status.limit(), status.remaining(), status.reset_after()), (10, left, Some(hour)));
        assert_eq!(status.window(), Some(24 * hour));
        status.retry_after()
    };
    assert_eq!([told(3, 3), told(3, 4), told(0, 10), told(0, 11)], [None, Some(hour), Some(hour), None]);
    let once: Quota = "10 once".parse().unwrap();
    let never = once.status(0, once.refill().period(at(START), t), t, 1);
    assert_eq!((never.reset_after(), never.retry_after()), (None, None), "waiting does not help");
    assert_eq!(never.window(), None);
}

/// Processes that lease, use, give back, crash and close at random: the formula of [`Quota`]'s documentation, in each
/// period.
#[test]
fn uses_in_a_period_keep_the_bound_of_the_documentation() {
    let (mut tight, mut wanting) = (0, 0);
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let (size, chunk) = (1 + dice.below(500), 1 + dice.below(40));
        let quota = Quota::new(size, Refill::Daily).unwrap().with_lease(chunk.min(size)).unwrap();
        let processes = 1 + dice.below(5);
        let mut record = QuotaRecord::new(key());
        for day in 0..4 {
            let t = micros(day * 86_400 * SECOND + dice.below(86_400) * SECOND);
            let period = quota.refill().period(at(START), t);
            let mut held = vec![0_u64; processes as usize];
            let (mut used, mut killed) = (0, 0);
            let take = |record: &mut QuotaRecord, held: &mut u64| {
                let wanted = quota.lease() - *held;
                *held += record.lease(&quota, period, wanted).map_or(0, |lease| lease.uses);
            };
            for _ in 0..dice.below(400) {
                let process = dice.below(processes) as usize;
                match dice.below(12) {
                    0 => {
                        // What was leased dies with the process.
                        (held[process], killed) = (0, killed + 1);
                    }
                    1 => {
                        record.give_back(period.since, held[process]);
                        held[process] = 0;
                    }
                    2 => take(&mut record, &mut held[process]),
                    _ if held[process] > 0 => (held[process], used) = (held[process] - 1, used + 1),
                    _ => {}
                }
                assert!(used <= size);
            }
            // One of them asks until it gets nothing more.
            loop {
                take(&mut record, &mut held[0]);
                if held[0] == 0 {
                    break;
                }
                (used, held[0]) = (used + held[0], 0);
            }
            let floor = size.saturating_sub(quota.lease() * (processes - 1 + killed));
            assert!((floor..=size).contains(&used), "seed {seed}: {used} of {size}, {killed} killed");
            tight += u32::from(used == size);
            wanting += u32::from(used < size);
            if processes == 1 && killed == 0 {
                assert_eq!(used, size, "one process alone has exactly the quota");
            }
        }
    }
    assert!(tight > 50 && wanting > 50, "{tight} {wanting}");
}

//! Hot keys, which several threads use at once: they are counted and limited as all others are.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::{Bed, MICRO, new_key, on_both_stores, v};
use keyrota::{DenialReason, EditKey, KeyId, Limits, RateLimit, UsageCounts, UsageFilter, VersionNo};

const THREADS: usize = 4;

/// Uses a token by several threads, so often each; tells how many uses were allowed. All others were over the limit.
fn allowed(bed: &Bed, token: &str, each: usize) -> u64 {
    let outcome = || match bed.validator.validate(token) {
        Ok(_) => 1,
        Err(denial) => {
            assert_eq!(denial.reason(), DenialReason::RateLimit);
            assert_eq!(denial.limit().unwrap().remaining(), 0);
            0
        }
    };
    std::thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| scope.spawn(|| (0..each).map(|_| outcome()).sum::<u64>()));
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

fn counts(bed: &Bed, key: KeyId) -> UsageCounts {
    bed.validator.flush().unwrap();
    bed.keys.usage(key, &UsageFilter::all()).unwrap().usage.counts
}

fn of_version(bed: &Bed, key: KeyId, version: VersionNo) -> u64 {
    let report = bed.keys.usage(key, &UsageFilter::all()).unwrap();
    report
        .versions
        .iter()
        .find(|usage| usage.version == version)
        .map_or(0, |usage| usage.usage.counts.allowed)
}

#[test]
fn what_several_threads_use_at_once_is_limited_exactly_and_counted_once() {
    on_both_stores(|bed| {
        let limit: Limits = RateLimit::per_hour(20_000).unwrap().into();
        let issued = bed.root().issue(new_key("hot").limits(limit)).unwrap();
        let token = issued.token.expose();
        assert_eq!(allowed(&bed, token, 6_000), 20_000);
        let counted = counts(&bed, issued.key);
        assert_eq!((counted.allowed, counted.denied.total()), (20_000, 4_000));
        assert_eq!(counted.last_used, Some(keyrota::Clock::now(&bed.clock)));

        // Half an hour earns half of it, and not a use more.
        bed.clock.advance(Duration::from_secs(1_800)).unwrap();
        let earned = allowed(&bed, token, 4_000);
        assert_eq!(earned, 10_000);
        assert_eq!(counts(&bed, issued.key).allowed, 30_000);
    });
}

#[test]
fn one_thread_after_many_is_told_of_each_use_that_is_left() {
    on_both_stores(|bed| {
        let limit: Limits = RateLimit::per_hour(100_000).unwrap().into();
        let issued = bed.root().issue(new_key("hot").limits(limit)).unwrap();
        let token = issued.token.expose();
        let used = allowed(&bed, token, 5_000);
        let told: Vec<_> =
            (0..50).map(|_| bed.validator.validate(token).unwrap().limit().unwrap().remaining()).collect();
        assert!(told.windows(2).all(|pair| pair[1] < pair[0]), "{told:?}");
        // What other threads have set aside is not in it: a sixty-fourth of the burst at most.
        let left = 100_000 - used - 1;
        assert!(told[0] <= left && told[0] + 100_000 / 64 >= left, "{} of {left}", told[0]);
    });
}

#[test]
fn a_hot_key_goes_on_over_rotations_and_each_version_has_its_own_counts() {
    on_both_stores(|bed| {
        let issued = bed.issue("hot");
        let first = issued.token.expose();
        assert_eq!(allowed(&bed, first, 4_000), 16_000);
        bed.clock.advance(MICRO).unwrap();
        let second = bed.rotate(issued.key);
        assert_eq!(allowed(&bed, &second, 4_000), 16_000);
        assert_eq!(allowed(&bed, first, 500), 2_000, "in its grace");
        counts(&bed, issued.key);
        assert_eq!(
            (of_version(&bed, issued.key, v(1)), of_version(&bed, issued.key, v(2))),
            (18_000, 16_000)
        );
        bed.root().revoke(issued.key).unwrap();
        for token in [first, &second] {
            assert_eq!(bed.denial(token), Some(DenialReason::Revoked));
        }
    });
}

#[test]
fn a_limit_that_is_edited_holds_for_a_hot_key_at_once_whatever_was_set_aside() {
    on_both_stores(|bed| {
        let wide: Limits = RateLimit::per_hour(1_000_000).unwrap().into();
        let issued = bed.root().issue(new_key("hot").limits(wide.clone())).unwrap();
        let token = issued.token.expose();
        assert_eq!(allowed(&bed, token, 4_000), 16_000);
        let narrow: Limits = RateLimit::per_hour(10).unwrap().into();
        bed.root().edit(EditKey::of(issued.key).limits(narrow)).unwrap();
        assert_eq!(allowed(&bed, token, 100), 10);
        bed.root().edit(EditKey::of(issued.key).limits(wide).widen()).unwrap();
        assert_eq!(allowed(&bed, token, 100), 400);
        let several =
            Limits::new([RateLimit::per_hour(300).unwrap(), RateLimit::per_day(200).unwrap()]).unwrap();
        bed.root().edit(EditKey::of(issued.key).limits(several)).unwrap();
        assert_eq!(allowed(&bed, token, 100), 200);
    });
}

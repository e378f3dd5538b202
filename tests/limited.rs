//! Limits, quotas and networks as validation holds to them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Bed, DAY, new_key, on_both_stores, scope};
use keyrota::{
    Demand, DenialClass, DenialReason, EditKey, Grant, IssuedKey, Limits, Networks, Quota, RateLimit, Refill,
    Validator,
};

const SECOND: Duration = Duration::from_secs(1);

fn ten_a_second() -> Limits {
    RateLimit::per_second(10).unwrap().into()
}

fn limited(bed: &Bed, limits: Limits) -> IssuedKey {
    bed.root().issue(new_key("limited").limits(limits)).unwrap()
}

/// How many of so many uses are granted; the others have to be refused by a limit.
fn granted(validator: &Validator, token: &str, uses: usize) -> usize {
    let outcome = |_| match validator.validate(token) {
        Ok(_) => true,
        Err(denial) => {
            assert!(matches!(denial.reason(), DenialReason::RateLimit | DenialReason::Quota), "{denial}");
            assert_eq!(denial.class(), DenialClass::Limited);
            false
        }
    };
    (0..uses).filter(|n| outcome(*n)).count()
}

fn from(address: &str) -> Demand<'static> {
    Demand::NOTHING.from(address.parse::<IpAddr>().unwrap())
}

#[test]
fn a_rate_limit_allows_its_burst_at_once_and_then_its_rate_and_says_what_is_left() {
    on_both_stores(|bed| {
        let issued = limited(&bed, ten_a_second());
        let token = issued.token.expose();
        let first = *bed.validator.validate(token).unwrap().limit().unwrap();
        assert_eq!((first.limit(), first.remaining(), first.retry_after()), (10, 9, None));
        assert_eq!(first.reset_after(), Some(Duration::from_millis(100)));
        assert_eq!(granted(&bed.validator, token, 20), 9);
        let denial = bed.validator.validate(token).unwrap_err();
        let limit = *denial.limit().unwrap();
        assert_eq!((limit.remaining(), limit.retry_after()), (0, Some(Duration::from_millis(100))));
        assert_eq!(denial.key(), Some(issued.key));

        bed.clock.advance(limit.retry_after().unwrap()).unwrap();
        assert_eq!(granted(&bed.validator, token, 5), 1);
        bed.clock.advance(SECOND).unwrap();
        assert_eq!(granted(&bed.validator, token, 20), 10);
    });
}

#[test]
fn a_key_without_limits_has_none_to_tell_of() {
    on_both_stores(|bed| {
        let token = bed.issue("ci").token;
        assert!((0..1_000).all(|_| bed.is_granted(token.expose())));
        assert!(bed.validator.validate(token.expose()).unwrap().limit().is_none());
    });
}

#[test]
fn what_is_denied_for_another_reason_is_charged_to_no_limit_and_a_cost_counts_as_so_many_uses() {
    on_both_stores(|bed| {
        let token = limited(&bed, ten_a_second()).token;
        let write = scope("orders:write");
        for _ in 0..50 {
            let denied = bed.validator.validate_for(token.expose(), Demand::scope(&write)).unwrap_err();
            assert_eq!(denied.reason(), DenialReason::Scope);
        }
        let cost = |uses| bed.validator.validate_for(token.expose(), Demand::NOTHING.cost(uses));
        let remaining = |grant: Grant| grant.limit().unwrap().remaining();
        assert_eq!(remaining(cost(0).unwrap()), 10);
        assert_eq!(remaining(cost(7).unwrap()), 3);
        assert_eq!(cost(4).unwrap_err().limit().unwrap().retry_after(), Some(Duration::from_millis(100)));
        assert_eq!(remaining(cost(3).unwrap()), 0);
        let never = cost(11).unwrap_err();
        assert_eq!((never.reason(), never.limit().unwrap().retry_after()), (DenialReason::RateLimit, None));
    });
}

#[test]
fn the_versions_of_a_key_share_its_limits_over_rotations_and_other_keys_do_not() {
    on_both_stores(|bed| {
        let issued = limited(&bed, ten_a_second());
        let other = limited(&bed, ten_a_second());
        assert_eq!(granted(&bed.validator, issued.token.expose(), 4), 4);
        let second = bed.rotate(issued.key);
        assert_eq!(granted(&bed.validator, &second, 3), 3);
        let third = bed.root().rotate(keyrota::RotateNow::of(issued.key).supersede()).unwrap().token;
        assert_eq!(bed.denial(issued.token.expose()), Some(DenialReason::Retired));
        assert_eq!(granted(&bed.validator, &second, 2), 2);
        assert_eq!(granted(&bed.validator, third.expose(), 20), 1);
        assert_eq!(granted(&bed.validator, other.token.expose(), 20), 10);
    });
}

#[test]
fn several_rate_limits_all_have_to_allow_and_none_is_charged_for_what_another_refuses() {
    on_both_stores(|bed| {
        let limits =
            Limits::new([RateLimit::per_second(5).unwrap(), RateLimit::per_minute(12).unwrap()]).unwrap();
        let token = limited(&bed, limits).token;
        assert_eq!(granted(&bed.validator, token.expose(), 50), 5);
        bed.clock.advance(SECOND).unwrap();
        assert_eq!(granted(&bed.validator, token.expose(), 50), 5);
        bed.clock.advance(SECOND).unwrap();
        assert_eq!(granted(&bed.validator, token.expose(), 50), 2);
        let denial = bed.validator.validate(token.expose()).unwrap_err();
        assert_eq!(denial.limit().unwrap().limit(), 12);
    });
}

#[test]
fn a_limit_that_is_edited_holds_at_the_next_validation_in_every_process() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let token = issued.token.expose();
        let other = bed.other_validator();
        assert_eq!(granted(&bed.validator, token, 100), 100);
        bed.root().edit(EditKey::of(issued.key).limits(ten_a_second())).unwrap();
        assert_eq!((granted(&bed.validator, token, 100), granted(&other, token, 100)), (10, 10));
        let narrower: Limits = RateLimit::per_second(2).unwrap().into();
        bed.root().edit(EditKey::of(issued.key).limits(narrower)).unwrap();
        bed.clock.advance(SECOND).unwrap();
        assert_eq!(granted(&bed.validator, token, 100), 2);
        bed.root().edit(EditKey::of(issued.key).name("renamed").unwrap()).unwrap();
        assert_eq!(granted(&bed.validator, token, 100), 0, "an edit of something else earns nothing");
        bed.root().edit(EditKey::of(issued.key).limits(Limits::NONE).widen()).unwrap();
        assert_eq!(granted(&bed.validator, token, 100), 100);
    });
}

#[test]
fn a_clock_that_steps_locks_nobody_out() {
    on_both_stores(|bed| {
        let token = limited(&bed, ten_a_second()).token;
        assert_eq!(granted(&bed.validator, token.expose(), 100), 10);
        bed.go("2026-06-01");
        assert_eq!(granted(&bed.validator, token.expose(), 100), 0, "the high-water mark stands");
        bed.go("2027-02-01");
        assert_eq!(granted(&bed.validator, token.expose(), 1), 1, "what is charged now lies a month ahead");
        bed.go("2027-01-02");
        let next = bed.validator.validate(token.expose()).map(drop).or_else(|denial| {
            bed.clock.advance(denial.limit().unwrap().retry_after().unwrap()).unwrap();
            bed.validator.validate(token.expose()).map(drop)
        });
        assert_eq!(next, Ok(()));
    });
}

#[test]
fn eight_threads_get_exactly_the_burst_together() {
    on_both_stores(|bed| {
        let hundred = || RateLimit::per_day(100).unwrap();
        let quota = Quota::new(100, Refill::Monthly).unwrap().with_lease(100).unwrap();
        for limits in [Limits::from(hundred()), Limits::from(quota)] {
            let token = limited(&bed, limits).token;
            bed.validator.flush().unwrap();
            let count = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        count
                            .fetch_add(granted(&bed.validator, token.expose(), 50) as u64, Ordering::Relaxed);
                    });
                }
            });
            assert_eq!(count.load(Ordering::Relaxed), 100);
        }
    });
}

#[test]
fn a_key_with_networks_is_used_from_there_and_from_nowhere_else() {
    on_both_stores(|bed| {
        let networks: Networks = "192.0.2.0/24, 2001:db8::/32".parse().unwrap();
        let issued = bed.root().issue(new_key("ci").networks(networks).limits(ten_a_second())).unwrap();
        let token = issued.token.expose();
        let asked = |demand| bed.validator.validate_for(token, demand);
        for inside in ["192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1"] {
            assert!(asked(from(inside)).is_ok(), "{inside}");
        }
        for _ in 0..20 {
            for outside in ["192.0.3.7", "2001:db9::1", "::1"] {
                let denial = asked(from(outside)).unwrap_err();
                assert_eq!(denial.reason(), DenialReason::Network);
                assert_eq!(denial.class(), DenialClass::Unauthenticated, "outwardly like any other");
            }
        }
        assert_eq!(
            asked(Demand::NOTHING).unwrap_err().reason(),
            DenialReason::Network,
            "from nobody knows where"
        );
        let grant = asked(from("192.0.2.8")).unwrap();
        assert_eq!(grant.limit().unwrap().remaining(), 6, "what was denied was not charged");
        assert!(bed.validator.still_valid(&grant).is_ok());
        let second = bed.rotate(issued.key);
        assert_eq!(bed.denial(&second), Some(DenialReason::Network), "a rotation keeps them");
    });
}

#[test]
fn a_quota_is_used_up_exactly_and_refilled_at_its_time() {
    on_both_stores(|bed| {
        let quota = Quota::new(100, Refill::Daily).unwrap();
        let issued = limited(&bed, quota.into());
        let token = issued.token.expose();
        assert_eq!(bed.keys.quota_left(issued.key).unwrap(), Some(100));
        assert_eq!(granted(&bed.validator, token, 10), 0, "nothing is leased before the first flush");
        let mut used = 0;
        for _ in 0..100 {
            bed.validator.flush().unwrap();
            used += granted(&bed.validator, token, 3);
        }
        assert_eq!(used, 100);
        let denial = bed.validator.validate(token).unwrap_err();
        assert_eq!(denial.reason(), DenialReason::Quota);
        assert_eq!(denial.limit().unwrap().retry_after(), Some(DAY));
        assert_eq!(bed.keys.quota_left(issued.key).unwrap(), Some(0));

        bed.clock.advance(DAY).unwrap();
        assert_eq!(granted(&bed.validator, token, 1), 0);
        bed.validator.flush().unwrap();
        let grant = bed.validator.validate(token).unwrap();
        assert_eq!(grant.limit().unwrap().limit(), 100);
        assert_eq!(bed.keys.quota_left(issued.key).unwrap(), Some(94), "a sixteenth is leased");
        // What a process gives back when it closes, another can lease.
        bed.validator.close().unwrap();
        assert_eq!(bed.keys.quota_left(issued.key).unwrap(), Some(99));
        let other = bed.other_validator();
        assert_eq!(granted(&other, token, 100), 6, "leased when it was opened");
    });
}

#[test]
fn processes_together_never_use_more_than_the_quota_even_when_one_is_lost() {
    on_both_stores(|bed| {
        let quota = Quota::new(64, Refill::Monthly).unwrap();
        let issued = limited(&bed, quota.into());
        let token = issued.token.expose();
        let others: Vec<_> = (0..3).map(|_| bed.other_validator()).collect();
        let mut used = 0;
        for round in 0..200 {
            for (n, validator) in others.iter().enumerate() {
                // The last one stops in the middle, with its lease.
                if n < 2 || round < 2 {
                    validator.flush().unwrap();
                    used += granted(validator, token, 1);
                }
            }
        }
        assert!((60..=64).contains(&used), "{used}");
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

//! Times to the microsecond: windows are half open, nothing overflows, and the clock may lie.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::{Bed, DAY, HOUR, MICRO, Place, START, at, new_key, on_both_places, on_both_stores, owner, v};
use keyrota::{
    ClockState, DenialReason, EndReason, EventKind, IssuedKey, LifecycleError, ManageError, NewKey,
    PolicyError, RotationPolicy, Stage, TimeError, Timestamp,
};

/// The last moment of the year 9999.
const LAST: Timestamp = Timestamp::MAX;

fn policy(lifetime: Duration, overlap: Duration) -> RotationPolicy {
    RotationPolicy::builder().lifetime(lifetime).overlap(overlap).build().unwrap()
}

/// Granted one microsecond before `end`, denied at it; whether or not a tick came first.
fn assert_ends(bed: &Bed, issued: &IssuedKey, end: Timestamp, reason: DenialReason) {
    let token = issued.token.expose();
    bed.clock.set(end.minus_or_min(MICRO));
    assert_eq!(bed.denial(token), None, "{end} - 1 µs");
    assert_eq!(bed.validator.validate(token).unwrap().valid_until(), Some(end));
    bed.tick();
    assert_eq!(bed.denial(token), None, "{end} - 1 µs, after a tick");
    bed.clock.set(end);
    assert_eq!(bed.denial(token), Some(reason), "{end}");
    bed.tick();
    assert_eq!(bed.denial(token), Some(reason), "{end}, after a tick");
    let version = &bed.keys.get(issued.key).unwrap().versions[0];
    assert_eq!((version.stage, version.ended_at), (Stage::Ended, Some(end)));
}

fn entries_of(bed: &Bed, key: keyrota::KeyId, kind: EventKind) -> usize {
    bed.keys.audit(&keyrota::AuditFilter::all().key(key).kind(kind), 100).unwrap().len()
}

#[test]
fn a_version_validates_until_the_microsecond_of_its_expiry() {
    on_both_stores(|bed| {
        let lifetime = 20 * DAY + Duration::from_micros(1);
        let issued = bed.root().issue(new_key("ci").lifetime(lifetime)).unwrap();
        assert_eq!(issued.valid_until, Some(at("2027-01-21T00:00:00.000001Z")));
        assert_ends(&bed, &issued, at("2027-01-21T00:00:00.000001Z"), DenialReason::Expired);
        assert_eq!(entries_of(&bed, issued.key, EventKind::VersionEnded), 1);
    });
}

#[test]
fn a_grace_ends_at_its_microsecond() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        bed.clock.set(at("2027-01-10T12:34:56.789012Z"));
        bed.rotate(issued.key);
        assert_ends(&bed, &issued, at("2027-01-11T12:34:56.789012Z"), DenialReason::Retired);
        assert_eq!(entries_of(&bed, issued.key, EventKind::RotationCompleted), 1);
    });
}

#[test]
fn a_hard_end_is_the_last_microsecond_of_all_versions() {
    on_both_stores(|bed| {
        let end = at("2027-01-20T06:00:00.000007Z");
        let issued = bed.root().issue(new_key("ci").until(end)).unwrap();
        let never = bed.root().issue(new_key("never").until(end).never_expires()).unwrap();
        assert_eq!((issued.valid_until, never.valid_until), (Some(end), Some(end)));
        bed.go("2027-01-19 12:00");
        let rotated = bed.root().rotate(issued.key).unwrap();
        assert_eq!((rotated.valid_until, rotated.old_valid_until), (Some(end), Some(end)));
        assert_ends(&bed, &issued, end, DenialReason::Expired);
        assert_eq!(bed.denial(rotated.token.expose()), Some(DenialReason::Expired));
        assert_eq!(bed.denial(never.token.expose()), Some(DenialReason::Expired));
        let ended = bed.root().rotate(issued.key).unwrap_err();
        assert!(matches!(ended, ManageError::Lifecycle(LifecycleError::KeyEnded { at }) if at == end));
    });
}

#[test]
fn a_window_begins_at_its_microsecond() {
    on_both_stores(|bed| {
        let (from, until) = (at("2027-01-05T00:00:00.000003Z"), at("2027-01-09"));
        let windowed = bed.root().issue(new_key("ci").window(from, until)).unwrap();
        let later = bed.root().issue(new_key("later").not_before(from)).unwrap();
        for issued in [&windowed, &later] {
            bed.clock.set(from.minus_or_min(MICRO));
            assert_eq!(bed.denial(issued.token.expose()), Some(DenialReason::NotYet));
            bed.clock.set(from);
            assert_eq!(bed.denial(issued.token.expose()), None);
        }
        assert_ends(&bed, &windowed, until, DenialReason::Expired);
        let one =
            bed.root().issue(new_key("one").window(at("2027-01-12"), at("2027-01-12").plus(MICRO).unwrap()));
        let one = one.unwrap();
        for (time, expected) in [
            (at("2027-01-12").minus_or_min(MICRO), Some(DenialReason::NotYet)),
            (at("2027-01-12"), None),
            (at("2027-01-12").plus(MICRO).unwrap(), Some(DenialReason::Expired)),
        ] {
            bed.clock.set(time);
            assert_eq!(bed.denial(one.token.expose()), expected, "a window of one microsecond");
        }
    });
}

#[test]
fn a_window_that_is_empty_or_over_is_refused_and_nothing_is_written() {
    on_both_stores(|bed| {
        let before = bed.seq();
        let now = at(START);
        let past = now.minus_or_min(MICRO);
        let new = || new_key("ci");
        for refused in [
            new().until(now),
            new().until(past),
            new().until(Timestamp::MIN),
            new().window(now, now),
            new().window(past, now),
            new().window(Timestamp::MIN, past),
            new().window(at("2027-02-01"), at("2027-02-01")),
            new().window(at("2027-02-02"), at("2027-02-01")),
            new().window(LAST, LAST).never_expires(),
        ] {
            let error = bed.root().issue(refused.clone()).unwrap_err();
            assert!(
                matches!(error, ManageError::Lifecycle(LifecycleError::EmptyWindow)),
                "{refused:?}: {error}"
            );
        }
        assert_eq!(bed.seq(), before);
        assert!(bed.keys.owners().unwrap().is_empty());
        let issued = bed.root().issue(new().not_before(past)).unwrap();
        assert_eq!(bed.denial(issued.token.expose()), None, "a beginning in the past is now");
        assert_eq!(bed.keys.get(issued.key).unwrap().versions[0].not_before, now);
    });
}

#[test]
fn deadlines_hold_in_the_years_2038_and_9999() {
    for (start, lifetime, end) in [
        ("2037-12-31T23:59:59.999999Z", 90 * DAY, "2038-03-31T23:59:59.999999Z"),
        ("2038-01-19T03:14:07Z", Duration::from_secs(60), "2038-01-19T03:15:07Z"),
        ("2106-02-07T06:28:15Z", Duration::from_secs(61), "2106-02-07T06:29:16Z"),
        ("9999-10-02T23:59:59.999999Z", 90 * DAY, "9999-12-31T23:59:59.999999Z"),
    ] {
        on_both_places(|place| {
            let bed = Bed::at(place, at(start));
            let own = policy(lifetime, Duration::ZERO);
            let issued = bed.root().issue(new_key("ci").policy(own)).unwrap();
            bed.tick_to(at(end).minus_or_min(DAY));
            assert_ends(&bed, &issued, at(end), DenialReason::Expired);
            assert!(bed.keys.check(None).unwrap().is_sound());
        });
    }
}

#[test]
fn a_date_past_the_year_9999_is_an_error_and_nothing_is_written() {
    on_both_places(|place| {
        let bed = Bed::at(place, at("9999-10-03"));
        let before = bed.seq();
        let range = |error: &ManageError| match error {
            ManageError::Time(error) | ManageError::Lifecycle(LifecycleError::Time(error)) => {
                *error == TimeError::OutOfRange
            }
            _ => false,
        };
        let error = bed.root().issue(new_key("ci")).unwrap_err();
        assert!(range(&error), "{error}");
        let century = new_key("ci").lifetime(36_500 * DAY);
        assert!(range(&bed.root().issue(century).unwrap_err()));
        let later = new_key("ci").not_before(LAST).lifetime(2 * DAY);
        assert!(range(&bed.root().issue(later).unwrap_err()));
        assert_eq!(bed.seq(), before);
        let never = bed.root().issue(new_key("never").never_expires()).unwrap();
        let short = bed.root().issue(new_key("short").policy(policy(89 * DAY, 89 * DAY - MICRO))).unwrap();
        bed.tick_to(at("9999-12-31"));
        let before = bed.seq();
        assert!(
            range(&bed.root().rotate(never.key).unwrap_err()),
            "the overlap would end after the last moment"
        );
        assert!(range(&bed.root().deprecate(never.key).unwrap_err()));
        assert!(range(&bed.root().rotate(short.key).unwrap_err()), "the lifetime would");
        bed.clock.set(LAST);
        assert!(range(&bed.root().deprecate(never.key).unwrap_err()));
        assert_eq!(bed.seq(), before);
        assert_eq!(bed.denial(never.token.expose()), None);
        bed.root().revoke(never.key).unwrap();
        assert_eq!(
            bed.denial(never.token.expose()),
            Some(DenialReason::Revoked),
            "a revocation never overflows"
        );
        bed.tick();
        assert_eq!(bed.keys.now().unwrap(), LAST);
    });
}

#[test]
fn a_policy_holds_at_its_bounds_and_is_refused_beyond_them() {
    let minute = Duration::from_secs(60);
    let build = |lifetime, overlap| RotationPolicy::builder().lifetime(lifetime).overlap(overlap).build();
    assert_eq!(build(minute - Duration::from_nanos(1), Duration::ZERO), Err(PolicyError::Lifetime));
    assert_eq!(build(36_500 * DAY + Duration::from_nanos(1), HOUR), Err(PolicyError::Lifetime));
    assert_eq!(build(minute, minute), Err(PolicyError::Overlap));
    assert_eq!(build(minute, Duration::MAX), Err(PolicyError::Overlap));
    on_both_stores(|bed| {
        let shortest = policy(minute, minute - MICRO);
        let issued = bed.root().issue(new_key("shortest").policy(shortest)).unwrap();
        let old = bed.root().rotate(issued.key).unwrap().old_valid_until;
        assert_eq!(old, Some(at(START).plus(minute - MICRO).unwrap()));
        assert_ends(&bed, &issued, old.unwrap(), DenialReason::Retired);
        let longest = policy(36_500 * DAY, 36_500 * DAY - MICRO);
        let issued = bed.root().issue(new_key("longest").policy(longest)).unwrap();
        let end = keyrota::Clock::now(&bed.clock).plus(36_500 * DAY).unwrap();
        assert_eq!(issued.valid_until, Some(end));
        let old = bed.root().rotate(issued.key).unwrap().old_valid_until.unwrap();
        bed.clock.set(old.minus_or_min(MICRO));
        assert_eq!(bed.denial(issued.token.expose()), None);
        bed.clock.set(old);
        assert_eq!(bed.denial(issued.token.expose()), Some(DenialReason::Retired));
    });
}

#[test]
fn with_no_overlap_the_old_version_ends_in_the_moment_of_the_rotation() {
    on_both_stores(|bed| {
        let issued = bed.root().issue(new_key("ci").policy(policy(DAY, Duration::ZERO))).unwrap();
        let rotated = bed.root().rotate(issued.key).unwrap();
        assert_eq!(bed.denial(issued.token.expose()), Some(DenialReason::Retired));
        assert_eq!(bed.denial(rotated.token.expose()), None);
        assert_eq!(rotated.old_valid_until, Some(at(START)));
        let rotations = bed.keys.rotations(issued.key).unwrap();
        assert_eq!(rotations[0].status, keyrota::RotationStatus::Completed);
        assert_eq!(rotations[0].finished_at, Some(at(START)));
        bed.root().rotate(issued.key).unwrap();
        assert_eq!(
            bed.denial(rotated.token.expose()),
            Some(DenialReason::Retired),
            "nothing stands in the way"
        );
    });
}

#[test]
fn a_grace_never_outlives_the_original_expiry() {
    on_both_stores(|bed| {
        let issued = bed.root().issue(new_key("ci").lifetime(10 * DAY)).unwrap();
        bed.go("2027-01-10T00:00:00.000001Z");
        let rotated = bed.root().rotate(issued.key).unwrap();
        assert_eq!(rotated.old_valid_until, Some(at("2027-01-11")));
        assert_ends(&bed, &issued, at("2027-01-11"), DenialReason::Expired);
        let ended = &bed.keys.get(issued.key).unwrap().versions[0];
        assert_eq!(ended.end_reason, Some(EndReason::Expired));
        let deprecated = bed.root().issue(new_key("deprecated").lifetime(26 * HOUR)).unwrap();
        bed.clock.advance(3 * HOUR).unwrap();
        bed.root().deprecate(deprecated.key).unwrap();
        assert_ends(&bed, &deprecated, at("2027-01-12 02:00"), DenialReason::Expired);
    });
}

#[test]
fn after_a_tick_a_clock_that_goes_back_changes_no_verdict_and_no_time() {
    on_both_stores(|bed| {
        let (ended, later) =
            (bed.root().issue(new_key("ended").lifetime(10 * DAY)).unwrap(), bed.issue("later"));
        let deferred = bed.root().issue(new_key("deferred").not_before(at("2027-01-11"))).unwrap();
        bed.go("2027-01-11");
        bed.tick();
        bed.go("2027-01-02");
        let other = bed.other_validator();
        for validator in [&bed.validator, &other] {
            let denial = validator.validate(ended.token.expose()).unwrap_err();
            assert_eq!(denial.reason(), DenialReason::Expired);
            assert!(validator.validate(deferred.token.expose()).is_ok(), "begun by the mark");
            assert!(validator.validate(later.token.expose()).is_ok());
        }
        assert_eq!(bed.keys.now().unwrap(), at("2027-01-11"));
        let issued = bed.issue("by the mark");
        assert_eq!(issued.valid_until, Some(at("2027-04-11")));
        let rotated = bed.root().rotate(later.key).unwrap();
        assert_eq!(rotated.old_valid_until, Some(at("2027-01-12")));
        bed.root().revoke(later.key).unwrap();
        assert_eq!(bed.keys.get(later.key).unwrap().revoked_at, Some(at("2027-01-11")));
    });
}

#[test]
fn before_a_tick_a_clock_that_goes_back_is_believed() {
    on_both_stores(|bed| {
        let issued = bed.root().issue(new_key("ci").lifetime(10 * DAY)).unwrap();
        bed.go("2027-01-11");
        assert_eq!(bed.denial(issued.token.expose()), Some(DenialReason::Expired));
        bed.go("2027-01-02");
        assert_eq!(bed.denial(issued.token.expose()), None);
    });
}

#[test]
fn a_tick_before_the_mark_writes_nothing() {
    on_both_stores(|bed| {
        bed.root().issue(new_key("ci").lifetime(10 * DAY)).unwrap();
        bed.go("2027-01-10");
        bed.tick();
        let store = bed.place.open();
        let before = store.head().unwrap();
        bed.clock.set(at("2027-01-10").minus_or_min(MICRO));
        for _ in 0..2 {
            let report = bed.keys.tick().unwrap();
            assert_eq!(report.clock, ClockState::Behind { mark: at("2027-01-10") });
            assert!(
                report.to_string().ends_with(": nothing was done, the clock is before 2027-01-10T00:00:00Z")
            );
            assert_eq!((report.expired, report.more), (0, false));
        }
        assert_eq!(store.head().unwrap(), before);
        bed.clock.set(at("2027-01-10"));
        assert_eq!(bed.keys.tick().unwrap().clock, ClockState::Steady);
        assert_eq!(store.head().unwrap(), before, "at the mark nothing is due and nothing is written");
    });
}

#[test]
fn a_tick_acts_thirty_days_after_the_mark_and_not_a_microsecond_later() {
    on_both_stores(|bed| {
        bed.root().issue(new_key("ci").lifetime(10 * DAY)).unwrap();
        let store = bed.place.open();
        let before = store.head().unwrap();
        let limit = at(START).plus(30 * DAY).unwrap();
        bed.clock.set(limit.plus(MICRO).unwrap());
        let report = bed.keys.tick().unwrap();
        assert_eq!(report.clock, ClockState::Jumped { mark: at(START) });
        assert_eq!((report.expired, report.cleaned), (0, 0));
        let line = "2027-01-31T00:00:00.000001Z: nothing was done, the clock jumped from 2027-01-01T00:00:00Z and is to be confirmed";
        assert_eq!(report.to_string(), line);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["clock"]["jumped"]["mark"], serde_json::to_value(at(START)).unwrap());
        let plan = bed.keys.plan(limit.plus(MICRO).unwrap()).unwrap();
        assert_eq!((plan.clock, plan.events.len()), (ClockState::Jumped { mark: at(START) }, 0));
        assert_eq!(store.head().unwrap(), before);
        bed.clock.set(limit);
        let report = bed.keys.tick().unwrap();
        assert_eq!((report.clock, report.expired), (ClockState::Steady, 1));
        let told = report.to_string();
        assert!(told.starts_with("2027-01-31T00:00:00Z: expired 1, cleaned 1"), "{told}");
        bed.go("2027-01-01");
        assert_eq!(bed.keys.now().unwrap(), limit);
    });
}

#[test]
fn a_jump_of_the_clock_passes_once_it_is_confirmed() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let refused = |time: Timestamp, mark: Timestamp| {
            let store = bed.place.open();
            let before = store.head().unwrap();
            let clock = keyrota::Clock::now(&bed.clock);
            match bed.root().confirm_clock(time).unwrap_err() {
                ManageError::NothingToConfirm { mark: told, clock: shown } => {
                    assert_eq!((told, shown), (mark, clock));
                }
                other => panic!("{other}"),
            }
            assert_eq!(store.head().unwrap(), before);
        };
        let (start, now) = (at(START), at("2037-02-01"));
        bed.clock.set(now);
        assert_eq!(bed.keys.tick().unwrap().clock, ClockState::Jumped { mark: start });
        assert_eq!(bed.denial(issued.token.expose()), Some(DenialReason::Unknown), "validation is not gated");
        refused(now.plus(MICRO).unwrap(), start);
        refused(start, start);
        refused(Timestamp::MIN, start);
        refused(LAST, start);
        let before = bed.seq();
        bed.root().because("ten years in a drawer").confirm_clock(now).unwrap();
        let entry = &bed.entries(before)[0].event;
        assert_eq!((entry.kind, entry.until), (EventKind::ClockConfirmed, Some(now)));
        refused(now, now);
        let report = bed.keys.tick().unwrap();
        assert_eq!((report.clock, report.expired, report.more), (ClockState::Steady, 1, false));
        let version = &bed.keys.get(issued.key).unwrap().versions[0];
        assert_eq!(version.ended_at, Some(at("2027-04-01")), "ended at its own deadline");
        let store = bed.place.open();
        let head = store.head().unwrap();
        assert!(!bed.keys.tick().unwrap().more);
        assert_eq!(store.head().unwrap(), head, "the second tick of a moment writes nothing");
    });
}

#[test]
fn a_confirmation_may_lie_before_the_clock_and_moves_the_mark_that_far() {
    on_both_stores(|bed| {
        bed.go("2028-01-01");
        bed.root().confirm_clock(at(START).plus(MICRO).unwrap()).unwrap();
        let mark = at(START).plus(MICRO).unwrap();
        assert_eq!(bed.keys.tick().unwrap().clock, ClockState::Jumped { mark });
        bed.root().confirm_clock(at("2027-12-02")).unwrap();
        assert_eq!(bed.keys.tick().unwrap().clock, ClockState::Steady);
    });
}

#[test]
fn emergencies_are_acted_upon_under_any_clock() {
    for time in [Timestamp::MIN, at("2026-12-31"), at("2099-01-01"), LAST] {
        on_both_stores(|bed| {
            let (first, second) = (bed.issue("first"), bed.root().issue(of_eve()).unwrap());
            bed.clock.set(time);
            bed.root().revoke((first.key, v(1))).unwrap();
            bed.root().revoke(first.key).unwrap();
            bed.root().suspend(owner("eve")).unwrap();
            bed.clock.set(at(START));
            assert_eq!(bed.denial(first.token.expose()), Some(DenialReason::Revoked), "{time}");
            assert_eq!(bed.denial(second.token.expose()), Some(DenialReason::Suspended), "{time}");
        });
    }
}

fn of_eve() -> NewKey {
    NewKey::new(owner("eve"), "ci").unwrap()
}

#[test]
fn a_store_may_begin_at_the_first_and_at_the_last_moment() {
    for start in [Timestamp::MIN, LAST] {
        on_both_places(|place: Place| {
            let bed = Bed::at(place, start);
            let issued = bed.root().issue(new_key("ci").never_expires()).unwrap();
            assert_eq!(bed.denial(issued.token.expose()), None);
            bed.tick();
            bed.root().revoke(issued.key).unwrap();
            assert_eq!(bed.denial(issued.token.expose()), Some(DenialReason::Revoked));
        });
    }
}

//! Usage: how often each version was granted and denied, by reason and over time, and what is told of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod hooked;

use std::net::IpAddr;

use common::{Bed, DAY, HOUR, at, keyring, new_key, on_both_stores, owner, scope, v};
use hooked::{Fate, Hooked};
use keyrota::{
    Actor, CountedReason, Demand, DenialCounts, IssuedKey, KeyFilter, KeyId, KeyManager, ManualClock,
    Network, Networks, NewKey, Quota, RateLimit, Refill, Timestamp, UsageBucket, UsageCounts, UsageFilter,
    Validator,
};

fn denied(of: &[(CountedReason, u64)]) -> DenialCounts {
    let mut counts = DenialCounts::default();
    of.iter().for_each(|(reason, n)| counts.add(*reason, *n));
    counts
}

fn counts(bed: &Bed, key: KeyId) -> UsageCounts {
    bed.keys.usage(key, &UsageFilter::all()).unwrap().usage.counts
}

/// Uses a token so often, and flushes.
fn uses(bed: &Bed, token: &str, granted: usize) {
    for _ in 0..granted {
        assert!(bed.is_granted(token));
    }
    bed.validator.flush().unwrap();
}

fn hour(text: &str) -> UsageBucket {
    UsageBucket::Hour(at(text))
}

fn day(text: &str) -> UsageBucket {
    UsageBucket::Day(at(text))
}

/// What is allowed in each bucket.
fn over_time(bed: &Bed, key: KeyId, filter: &UsageFilter) -> Vec<(UsageBucket, u64)> {
    let report = bed.keys.usage(key, filter).unwrap();
    report.usage.buckets.iter().map(|(bucket, counts)| (*bucket, counts.allowed)).collect()
}

#[test]
fn each_denial_after_the_right_secret_is_counted_by_its_reason_and_no_other() {
    on_both_stores(|bed| {
        let root = || bed.keys.by(Actor::operator("root"));
        let networks = Networks::new(["10.0.0.0/8".parse::<Network>().unwrap()]).unwrap();
        let narrow = root().issue(new_key("narrow").networks(networks)).unwrap();
        let once = RateLimit::per_hour(1).unwrap();
        let paced = root().issue(new_key("paced").limits(once)).unwrap();
        let bounded = Quota::new(1, Refill::Never).unwrap();
        let bounded = root().issue(new_key("bounded").limits(bounded)).unwrap();
        let later = root().issue(new_key("later").not_before(at("2027-02-01"))).unwrap();
        let short = root().issue(new_key("short").until(at("2027-01-01 01:00"))).unwrap();
        let revoked = root().issue(new_key("revoked")).unwrap();
        let suspended = root().issue(NewKey::new(owner("eve"), "suspended").unwrap()).unwrap();
        let rotated = root().issue(new_key("rotated")).unwrap();
        bed.rotate(rotated.key);
        root().revoke(revoked.key).unwrap();
        root().suspend(owner("eve")).unwrap();
        bed.validator.flush().unwrap();
        bed.clock.advance(40 * HOUR).unwrap();

        let ask = |issued: &IssuedKey, demand: Demand<'_>| {
            let _ = bed.validator.validate_for(issued.token.expose(), demand);
        };
        let write = scope("orders:write");
        let inside: IpAddr = "10.1.2.3".parse().unwrap();
        for _ in 0..2 {
            ask(&narrow, Demand::NOTHING);
            ask(&narrow, Demand::scope(&write).from(inside));
            for issued in [&paced, &bounded, &later, &short, &revoked, &suspended, &rotated] {
                ask(issued, Demand::NOTHING);
            }
            assert!(bed.validator.validate("key_nonsense").is_err());
            let token = narrow.token.expose();
            let wrong = common::token("key", common::parts(token).1, &"x".repeat(43));
            assert!(bed.validator.validate(&wrong).is_err());
        }
        assert_eq!(bed.validator.flush().unwrap(), 8);

        use CountedReason as By;
        for (issued, expected) in [
            (&narrow, vec![(By::Network, 2), (By::Scope, 2)]),
            (&paced, vec![(By::RateLimit, 1)]),
            (&bounded, vec![(By::Quota, 1)]),
            (&later, vec![(By::NotYet, 2)]),
            (&short, vec![(By::Expired, 2)]),
            (&revoked, vec![(By::Revoked, 2)]),
            (&suspended, vec![(By::Suspended, 2)]),
            (&rotated, vec![(By::Retired, 2)]),
        ] {
            let found = counts(&bed, issued.key);
            assert_eq!(found.denied, denied(&expected), "{expected:?}");
            assert_eq!(found.allowed, u64::from(expected.len() == 1 && expected[0].1 == 1));
        }
        let all = bed.keys.denied_by_reason(&UsageFilter::all()).unwrap().denied;
        let twos = [By::Network, By::Scope, By::NotYet, By::Expired, By::Revoked, By::Suspended, By::Retired]
            .map(|reason| (reason, 2));
        let expected = [&twos[..], &[(By::RateLimit, 1), (By::Quota, 1)]].concat();
        assert_eq!(all, denied(&expected));
        let none = bed.keys.denied_by_reason(&UsageFilter::all().until(at("2027-01-02"))).unwrap();
        assert_eq!(none.denied.total(), 0, "nothing was flushed on the first day");
    });
}

#[test]
fn usage_is_told_by_version_and_over_time_and_a_tick_changes_no_sum() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let second = bed.rotate(issued.key);
        uses(&bed, issued.token.expose(), 3);
        bed.go("2027-01-01 00:59");
        uses(&bed, &second, 2);
        bed.go("2027-01-01 01:00");
        uses(&bed, &second, 1);
        let (first, next) = (hour("2027-01-01"), hour("2027-01-01 01:00"));
        for _ in 0..2 {
            let report = bed.keys.usage(issued.key, &UsageFilter::all()).unwrap();
            assert_eq!(over_time(&bed, issued.key, &UsageFilter::all()), [(first, 5), (next, 1)]);
            assert_eq!(report.usage.counts.allowed, 6);
            assert_eq!(report.usage.counts.last_used, Some(at("2027-01-01 01:00")));
            let versions: Vec<_> = report
                .versions
                .iter()
                .map(|found| (found.version, found.usage.counts.allowed, found.usage.buckets.len()))
                .collect();
            assert_eq!(versions, [(v(1), 3, 1), (v(2), 3, 2)]);
            assert_eq!(report.versions[0].usage.counts.last_used, Some(at(common::START)));
            assert_eq!(bed.keys.last_used(issued.key).unwrap(), Some(at("2027-01-01 01:00")));
            bed.tick();
        }
        let window = UsageFilter::all().from(at("2027-01-01 01:00")).until(at("2027-01-01 02:00"));
        assert_eq!(over_time(&bed, issued.key, &window), [(next, 1)]);
        bed.tick_to(at("2027-01-04"));
        assert_eq!(over_time(&bed, issued.key, &UsageFilter::all()), [(day("2027-01-01"), 6)]);
        bed.tick_to(at("2028-02-06"));
        assert_eq!(over_time(&bed, issued.key, &UsageFilter::all()), [(UsageBucket::Total, 6)]);
        let purged = bed.keys.history(issued.key, v(2)).unwrap().usage;
        assert_eq!((purged.allowed, purged.last_used), (3, Some(at("2027-01-01 01:00"))));
    });
}

#[test]
fn what_was_counted_before_the_hour_and_flushed_after_it_belongs_to_the_hour_of_the_flush() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        bed.go("2027-01-01 00:59");
        assert!(bed.is_granted(issued.token.expose()));
        bed.go("2027-01-01 01:00");
        bed.validator.flush().unwrap();
        let found = over_time(&bed, issued.key, &UsageFilter::all());
        assert_eq!(found, [(hour("2027-01-01 01:00"), 1)]);
        assert_eq!(counts(&bed, issued.key).last_used, Some(at("2027-01-01 00:59")), "to the microsecond");
    });
}

#[test]
fn the_top_keys_are_those_with_the_most_requests_granted_and_denied() {
    on_both_stores(|bed| {
        let [quiet, busy, refused] = ["quiet", "busy", "refused"].map(|name| {
            bed.clock.advance(HOUR / 60).unwrap();
            bed.issue(name)
        });
        uses(&bed, quiet.token.expose(), 2);
        bed.tick();
        uses(&bed, busy.token.expose(), 3);
        let write = scope("orders:write");
        for _ in 0..4 {
            assert!(bed.validator.validate_for(refused.token.expose(), Demand::scope(&write)).is_err());
        }
        bed.go("2027-01-01 05:00");
        uses(&bed, quiet.token.expose(), 1);
        let top = |filter: UsageFilter, limit| -> Vec<_> {
            let top = bed.keys.top_keys(&filter, limit).unwrap();
            top.keys.iter().map(|usage| (usage.key, usage.counts.requests())).collect()
        };
        let all = [(refused.key, 4), (quiet.key, 3), (busy.key, 3)];
        assert_eq!(top(UsageFilter::all(), 10), all);
        assert_eq!(top(UsageFilter::all(), 2), all[..2]);
        assert_eq!(top(UsageFilter::all().until(at("2027-01-01 01:00")), 1), [(busy.key, 3)]);
        assert_eq!(top(UsageFilter::all().until(at("2027-01-01")), 1), []);
    });
}

#[test]
fn a_report_says_as_of_when_it_is_complete_and_which_processes_have_flushed() {
    on_both_stores(|bed| {
        let as_of = || bed.keys.usage_as_of().unwrap();
        assert_eq!((as_of().at, as_of().writers.len()), (None, 0), "nobody has flushed");
        let issued = bed.issue("ci");
        let other = bed.other_validator();
        drop(bed.other_validator());
        assert_eq!(as_of().writers.len(), 0, "a validator that counted nothing is not heard of");
        bed.validator.flush().unwrap();
        bed.go("2027-01-01 06:00");
        assert!(other.validate(issued.token.expose()).is_ok());
        other.flush().unwrap();
        let report = bed.keys.usage(issued.key, &UsageFilter::all()).unwrap();
        assert_eq!(report.as_of.at, Some(at(common::START)), "the other may have counted more since");
        let flushed: Vec<_> = report.as_of.writers.iter().map(|writer| writer.flushed_at).collect();
        assert_eq!(flushed, [at("2027-01-01 06:00"), at(common::START)]);
        bed.validator.flush().unwrap();
        assert_eq!(
            as_of().at,
            Some(at("2027-01-01 06:00")),
            "a flush without counts tells that there are none"
        );

        bed.go("2027-01-01 12:00");
        bed.validator.flush().unwrap();
        assert_eq!(as_of().at, Some(at("2027-01-01 06:00")));
        bed.go("2027-01-01 13:00");
        other.close().unwrap();
        assert_eq!(as_of().at, Some(at("2027-01-01 12:00")), "nobody waits for a validator that was closed");
        assert!(as_of().writers[0].ended);
        bed.go("2027-01-02 12:00");
        assert_eq!(as_of().at, Some(at("2027-01-01 12:00")));
        bed.clock.advance(common::MICRO).unwrap();
        assert_eq!(as_of().at, Some(at("2027-01-01 13:00")), "nor a day after the last flush");
        bed.tick();
        bed.tick_to(at("2027-02-15"));
        assert_eq!((as_of().at, as_of().writers.len()), (None, 0), "writers are forgotten");
        assert_eq!(counts(&bed, issued.key).allowed, 1);
        bed.validator.flush().unwrap();
        assert_eq!(as_of().writers.len(), 1, "and heard of again");
    });
}

#[test]
fn closing_and_dropping_hand_over_what_was_counted_once() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        for end in [
            |other: Validator| other.close().unwrap(),
            |other: Validator| drop(other),
            |other: Validator| {
                other.close().unwrap();
                drop(other);
            },
        ] {
            let before = counts(&bed, issued.key).allowed;
            let other = bed.other_validator();
            assert!(other.validate(issued.token.expose()).is_ok());
            end(other);
            assert_eq!(counts(&bed, issued.key).allowed, before + 1);
        }
        assert!(
            bed.keys.usage_as_of().unwrap().writers.iter().all(|writer| writer.ended && writer.sequence == 1)
        );
    });
}

#[test]
fn keys_unused_since_a_time_are_found_whether_or_not_a_tick_has_added_up_their_usage() {
    on_both_stores(|bed| {
        let issued: Vec<_> = (0..5).map(|n| bed.issue(&format!("key {n}"))).collect();
        uses(&bed, issued[1].token.expose(), 1);
        bed.go("2027-01-10");
        uses(&bed, issued[2].token.expose(), 1);
        for _ in 0..2 {
            for filter in [KeyFilter::all(), KeyFilter::all().owner(owner("ada"))] {
                let page = bed.keys.list(&filter.unused_since(at("2027-01-05")), None, 10).unwrap();
                let mut names: Vec<_> = page.keys.iter().map(|key| key.name.as_str().to_owned()).collect();
                names.sort();
                assert_eq!(names, ["key 0", "key 1", "key 3", "key 4"]);
            }
            bed.tick();
        }
    });
}

/// A store whose answers are lost at the worst moment.
#[test]
fn a_flush_whose_outcome_is_not_known_is_neither_lost_nor_counted_twice() {
    for fate in [Fate::UnknownAndLost, Fate::UnknownAndDurable] {
        let store = Hooked::new();
        let clock = ManualClock::new(at(common::START));
        let keys = KeyManager::builder(store.clone(), keyring()).clock(clock.clone()).open().unwrap();
        let issued = keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap();
        let validator = keys.validator().unwrap();
        let granted = |n: usize| {
            for _ in 0..n {
                assert!(validator.validate(issued.token.expose()).is_ok());
            }
        };
        let allowed = || keys.usage(issued.key, &UsageFilter::all()).unwrap().usage.counts.allowed;
        granted(3);
        store.usage_fate(fate);
        assert!(validator.flush().is_err());
        assert_eq!(allowed(), if fate == Fate::UnknownAndDurable { 3 } else { 0 });
        granted(2);
        clock.advance(HOUR).unwrap();
        store.usage_fate(fate);
        assert!(validator.flush().is_err());
        assert_eq!(allowed(), if fate == Fate::UnknownAndDurable { 3 } else { 0 }, "what came later waits");
        while keys.tick().unwrap().more {}
        assert_eq!(validator.flush().unwrap(), 2, "the batch that was kept, and the new one");
        assert_eq!(allowed(), 5);
        let series = keys.usage(issued.key, &UsageFilter::all()).unwrap().usage.buckets;
        let series: Vec<_> = series.iter().map(|(bucket, counts)| (*bucket, counts.allowed)).collect();
        assert_eq!(series, [(hour("2027-01-01"), 3), (hour("2027-01-01 01:00"), 2)]);
        assert_eq!(keys.usage_as_of().unwrap().writers[0].sequence, 2);
    }
}

/// Threads flush through clones of one validator: their batches arrive in order, so none is taken for a repetition.
#[test]
fn clones_that_flush_at_once_lose_no_count() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let validator = bed.validator.clone();
                let token = issued.token.expose();
                scope.spawn(move || {
                    for _ in 0..20 {
                        assert!(validator.validate(token).is_ok());
                        validator.flush().unwrap();
                    }
                });
            }
        });
        assert_eq!(counts(&bed, issued.key).allowed, 80);
    });
}

#[test]
fn a_tick_rolls_up_a_bounded_part_and_says_that_there_is_more() {
    let place = common::Place::memory();
    let bed = Bed::at(place, at(common::START));
    let key = |n: usize| format!("key {n:06}");
    let entries = |from: usize| (from..from + 15_000).map(|n| keyrota::UsageEntry::new(key(n), 1)).collect();
    for (sequence, from) in [(1, 0), (2, 15_000)] {
        let (writer, flushed_at) = ("w".to_owned(), at(common::START));
        let batch =
            keyrota::UsageBatch { writer, sequence, flushed_at, ended: false, entries: entries(from) };
        bed.store.add_usage(&batch).unwrap();
    }
    assert!(!bed.keys.tick().unwrap().more, "hours stay for two days");
    bed.clock.advance(3 * DAY).unwrap();
    let first = bed.keys.tick().unwrap();
    assert_eq!((first.rolled_up, first.more), (20_000, true));
    let second = bed.keys.tick().unwrap();
    assert_eq!((second.rolled_up, second.more), (10_000, false));
    assert_eq!(bed.keys.tick().unwrap().rolled_up, 0);
}

#[test]
fn a_clock_that_is_not_believed_rolls_nothing_up() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        uses(&bed, issued.token.expose(), 1);
        bed.tick();
        bed.clock.advance(31 * DAY).unwrap();
        assert_eq!(bed.keys.tick().unwrap().rolled_up, 0);
        assert_eq!(over_time(&bed, issued.key, &UsageFilter::all()), [(hour("2027-01-01"), 1)]);
        bed.clock.set(Timestamp::MIN);
        assert_eq!(bed.keys.tick().unwrap().rolled_up, 0);
    });
}

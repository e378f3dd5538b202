//! Signals: who fails often, which versions are used after their time, which keys are used otherwise than before; told
//! once, within bounds, and never a reason to deny.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints what it measured"
)]

mod common;
mod hooked;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{DAY, HOUR, Place, START, at, keyring, new_key, on_both_places, parts, token};
use hooked::{Fate, Hooked};
use keyrota::{
    Act, Actor, Callback, ChannelFilter, Clock, Demand, DenialReason, IssuedKey, KeyManager, KeyStore,
    ManualClock, Notification, NotificationKind, OwnerLimit, RotationPolicy, Severity, SignalSettings,
    UsageBatch, UsageEntry, Validator,
};
#[cfg(feature = "sqlite")]
use keyrota::{Claim, ClaimId, SqliteStore};

struct Bed {
    place: Place,
    clock: ManualClock,
    keys: KeyManager,
    validator: Validator,
    heard: Arc<Mutex<Vec<Notification>>>,
}

impl Bed {
    fn new(place: Place) -> Self {
        let clock = ManualClock::new(at(START));
        let heard = Arc::<Mutex<Vec<Notification>>>::default();
        let ear = Callback::new({
            let heard = Arc::clone(&heard);
            move |told: &Notification| {
                heard.lock().unwrap().push(told.clone());
                Ok(())
            }
        });
        let alarms = ChannelFilter::all().kinds([NotificationKind::Alarm]);
        let keys = KeyManager::builder(place.open(), keyring())
            .clock(clock.clone())
            .owner_limit(OwnerLimit::new(100_000).unwrap())
            .filtered_channel("ops", alarms, ear)
            .open()
            .unwrap();
        keys.tick().unwrap();
        let validator = keys.validator().unwrap();
        Self { place, clock, keys, validator, heard }
    }

    fn root(&self) -> Act<'_> {
        self.keys.by(Actor::operator("root"))
    }

    fn issue(&self, name: &str) -> IssuedKey {
        self.root().issue(new_key(name)).unwrap()
    }

    /// Flushes and ticks; what was told by that.
    fn told(&self) -> Vec<Notification> {
        self.validator.flush().unwrap();
        while self.keys.tick().unwrap().more {}
        std::mem::take(&mut self.heard.lock().unwrap())
    }

    /// The same as lines: `source_failing 192.0.2.1 150`.
    fn lines(&self) -> Vec<String> {
        self.told().iter().map(line).collect()
    }

    fn fail(&self, times: usize, token: &str, demand: Demand<'_>) {
        for _ in 0..times {
            self.validator.validate_for(token, demand).unwrap_err();
        }
    }

    fn pass(&self, span: Duration) {
        self.clock.advance(span).unwrap();
    }
}

fn line(told: &Notification) -> String {
    let parts = [
        told.subject.clone(),
        told.source.clone(),
        told.locator.map(|locator| locator.to_string()),
        told.version.map(|version| version.to_string()),
        told.count.map(|count| count.to_string()),
        told.expected.map(|expected| format!("instead of {expected}")),
        told.more.map(|more| format!("and {more} more")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn on_both(body: impl Fn(Bed)) {
    on_both_places(|place| body(Bed::new(place)));
}

fn address(n: u32) -> Demand<'static> {
    Demand::NOTHING.from(Ipv4Addr::from_bits(0xC000_0200 + n))
}

/// A token as nobody has one.
fn junk(n: u32) -> String {
    token("key", &format!("{n:012}"), &"s".repeat(43))
}

/// The token with another secret.
fn forged(of: &str) -> String {
    let (prefix, locator, _) = parts(of);
    token(prefix, locator, &"s".repeat(43))
}

#[test]
fn a_source_that_fails_often_is_told_once_an_hour_and_again_when_it_is_ten_times_as_bad() {
    on_both(|bed| {
        let (office, issued) = (address(1), bed.issue("ci"));
        bed.fail(99, &junk(1), office);
        bed.fail(99, "not a token", address(2));
        assert_eq!(bed.lines(), [""; 0]);
        bed.fail(1, "not a token", office);
        let told = bed.told();
        assert_eq!(line(&told[0]), "source_failing 192.0.2.1 100");
        assert_eq!(
            (told.len(), told[0].severity, told[0].kind),
            (1, Severity::Warning, NotificationKind::Alarm)
        );
        bed.fail(800, "not a token", office);
        assert_eq!(bed.lines(), [""; 0], "once");
        assert!(bed.validator.validate_for(issued.token.expose(), office).is_ok(), "a signal denies nothing");
        bed.fail(100, "not a token", office);
        let told = bed.told();
        assert_eq!(line(&told[0]), "source_flooding 192.0.2.1 1000");
        assert_eq!((told.len(), told[0].severity), (1, Severity::Critical));
        bed.pass(HOUR);
        assert_eq!(bed.lines(), [""; 0]);
        bed.fail(100, "not a token", office);
        assert_eq!(bed.lines(), ["source_failing 192.0.2.1 100"], "the next hour");
    });
}

#[test]
fn who_uses_the_old_token_after_a_rotation_is_told_apart_from_who_guesses() {
    on_both(|bed| {
        let old = bed.issue("ci");
        bed.root().rotate(old.key).unwrap();
        bed.pass(DAY);
        bed.fail(120, old.token.expose(), Demand::NOTHING.source("build-farm").from(Ipv4Addr::LOCALHOST));
        let told = bed.told();
        let lines: Vec<_> = told.iter().map(line).collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines.contains(&"source_outdated build-farm 120".to_owned()), "{lines:?}");
        assert!(lines.contains(&"retired_version_used v1 120".to_owned()), "{lines:?}");
        let used = told.iter().find(|told| told.version.is_some()).unwrap();
        assert_eq!(
            (used.key, used.owner, used.severity),
            (Some(old.key), Some(common::owner("ada")), Severity::Warning)
        );
        assert_eq!(used.hint, Some(old.token.hint().to_string()));
        // Once a day, by whichever process.
        let other = bed.keys.validator().unwrap();
        for _ in 0..3 {
            bed.pass(HOUR);
            bed.fail(5, old.token.expose(), Demand::NOTHING);
            other.validate(old.token.expose()).unwrap_err();
            other.flush().unwrap();
            assert_eq!(bed.lines(), [""; 0]);
        }
        bed.pass(DAY);
        bed.fail(5, old.token.expose(), Demand::NOTHING);
        assert_eq!(bed.lines(), ["retired_version_used v1 5"]);
    });
}

#[test]
fn a_revoked_version_and_one_that_has_expired_are_told_by_their_names() {
    on_both(|bed| {
        let leaked = bed.issue("leaked");
        bed.root().revoke(leaked.key).unwrap();
        bed.fail(3, leaked.token.expose(), Demand::NOTHING);
        assert_eq!(bed.lines(), ["revoked_version_used v1 3"]);
        let expired = bed.root().issue(new_key("short").until(at("2027-01-02"))).unwrap();
        bed.pass(2 * DAY);
        bed.fail(1, expired.token.expose(), Demand::NOTHING);
        assert_eq!(bed.lines(), ["retired_version_used v1 1"]);
    });
}

/// Who holds a copy of the file and the master keys has the secrets of successors that still wait.
#[cfg(feature = "sqlite")]
#[test]
fn a_version_that_was_never_handed_over_is_denied_and_told_as_critical_once_a_day() {
    let bed = Bed::new(Place::sqlite());
    let issued = bed.root().issue(new_key("ci").auto_rotation(true)).unwrap();
    for _ in 0..84 {
        bed.pass(DAY);
        assert_eq!(bed.lines(), [""; 0]);
    }
    let live = bed.place.file().unwrap();
    let copy = live.with_file_name("stolen.db");
    SqliteStore::open(&live).unwrap().backup().to(&copy).unwrap();
    let thief = KeyManager::builder(SqliteStore::open(&copy).unwrap(), keyring()).clock(bed.clock.clone());
    let claim = Claim::for_owner(issued.key, ClaimId::random().unwrap());
    let stolen = thief.open().unwrap().by(Actor::owner("ada")).claim(claim).unwrap().token;

    let denied = bed.validator.validate_for(stolen.expose(), address(7)).unwrap_err();
    assert_eq!(denied.reason(), DenialReason::Undelivered);
    bed.fail(1, stolen.expose(), address(7));
    let told = bed.told();
    assert_eq!(told.iter().map(line).collect::<Vec<_>>(), ["undelivered_version_used v2 2"]);
    assert_eq!((told[0].kind, told[0].severity), (NotificationKind::Alarm, Severity::Critical));
    assert_eq!((told[0].key, told[0].owner), (Some(issued.key), Some(common::owner("ada"))));
    assert_eq!(told[0].hint, Some(stolen.hint().to_string()));
    bed.pass(HOUR);
    bed.fail(5, stolen.expose(), address(7));
    assert_eq!(bed.lines(), [""; 0], "once a day");
    bed.pass(DAY);
    bed.fail(5, stolen.expose(), address(7));
    assert_eq!(bed.lines(), ["undelivered_version_used v2 5"]);

    // Once it is handed over to whom it belongs, it is a version like any other.
    let claim = Claim::for_owner(issued.key, ClaimId::random().unwrap());
    let claimed = bed.keys.by(Actor::owner("ada")).claim(claim).unwrap();
    assert_eq!(claimed.token.expose(), stolen.expose());
    assert!(bed.validator.validate(claimed.token.expose()).is_ok());
    assert_eq!(bed.lines(), [""; 0]);
}

#[test]
fn wrong_secrets_at_one_locator_are_told_with_the_key_that_has_it_whatever_their_sources() {
    on_both(|bed| {
        let issued = bed.issue("ci");
        let wrong = forged(issued.token.expose());
        (0..100).for_each(|n| bed.fail(1, &wrong, address(n)));
        (0..100).for_each(|n| bed.fail(1, &junk(7), address(100 + n)));
        let told = bed.told();
        let lines: Vec<_> = told.iter().map(line).collect();
        let (_, locator, _) = parts(issued.token.expose());
        assert_eq!(lines.len(), 2);
        assert!(lines.contains(&format!("locator_failing {locator} v1 100")), "{lines:?}");
        assert!(lines.contains(&format!("locator_failing {:012} 100", 7)), "{lines:?}");
        let of_key = told.iter().find(|told| told.key.is_some()).unwrap();
        assert_eq!(
            (of_key.key, of_key.hint.clone()),
            (Some(issued.key), Some(issued.token.hint().to_string()))
        );
        assert!(bed.validator.validate(issued.token.expose()).is_ok());
    });
}

#[test]
fn of_one_sort_twenty_an_hour_are_told_and_the_rest_is_counted() {
    on_both(|bed| {
        for n in 0..30 {
            bed.fail(100 + n as usize, "not a token", address(n));
        }
        bed.fail(1_000, "not a token", Demand::NOTHING.source("the worst"));
        let lines = bed.lines();
        assert_eq!(lines.iter().filter(|line| line.starts_with("source_failing ")).count(), 20, "{lines:?}");
        assert!(lines.contains(&"source_failing 192.0.2.29 129".to_owned()), "the worst first");
        assert!(lines.contains(&"source_flooding the worst 1000".to_owned()), "a sort of its own");
        assert_eq!(bed.lines(), [""; 0]);
        bed.pass(HOUR);
        let rest = bed.told();
        assert_eq!(rest.iter().map(line).collect::<Vec<_>>(), ["source_failing and 10 more"]);
        assert_eq!(rest[0].severity, Severity::Warning, "as those that it counts");
    });
}

/// `KEYROTA_SIGNALS=1000000` for as many.
#[test]
fn a_flood_of_sources_and_locators_raises_no_alarm_but_that_of_the_attack_among_them() {
    let count = std::env::var("KEYROTA_SIGNALS").map_or(60_000, |count| count.parse().unwrap());
    on_both(|bed| {
        let (issued, tokens) = (bed.issue("ci"), (0..1_000).map(junk).collect::<Vec<_>>());
        let wrong = forged(issued.token.expose());
        for n in 0..count {
            // Sources each of their own; a thousand locators by turns are told, so they are not among them.
            let source = format!("flood-{n}");
            let text = if n % 50 == 0 { tokens[n / 50 % 10].as_str() } else { "junk" };
            bed.fail(1, text, Demand::NOTHING.source(&source));
            if n % 100 == 0 {
                bed.fail(1, &wrong, Demand::NOTHING.source("thief"));
            }
        }
        let report = bed.validator.signals();
        println!("{count} sources: the worst is {:?}", report.sources.first());
        assert_eq!(report.sources[0].source, "thief");
        assert!(
            report.sources[0].failures <= count as u64 / 100
                && report.sources[0].at_most >= count as u64 / 100
        );
        let lines = bed.lines();
        assert!(
            lines.iter().any(|line| line.starts_with("source_") && line.contains(" thief ")),
            "{lines:?}"
        );
        assert!(lines.iter().any(|line| line.starts_with("locator_") && line.contains(" v1 ")), "{lines:?}");
        assert!(lines.iter().all(|line| !line.contains("flood-")), "{lines:?}");
        assert!(lines.len() <= 4 * 21, "{lines:?}");
    });
}

#[test]
fn a_validator_without_channels_keeps_its_signals_to_itself_and_one_with_a_channel_elsewhere_writes_them() {
    on_both(|bed| {
        let builder = || Validator::builder(bed.place.open(), keyring()).clock(bed.clock.clone());
        let alone = builder().open().unwrap();
        let settings = SignalSettings::default().source_failures(10).locator_failures(1);
        let elsewhere =
            builder().signals(settings).channel_elsewhere("ops", ChannelFilter::all()).open().unwrap();
        let off = builder().signals(SignalSettings::off()).open().unwrap();
        for validator in [&alone, &elsewhere, &off] {
            (0..200).for_each(|_| _ = validator.validate_for(junk(3), address(9)).unwrap_err());
            validator.flush().unwrap();
        }
        let lines = bed.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines.contains(&"source_flooding 192.0.2.9 200".to_owned()), "{lines:?}");
        let report = alone.signals();
        assert_eq!((report.failures, report.uncounted, report.sources.len()), (200, 0, 1));
        assert_eq!(
            (report.sources[0].failures, report.sources[0].at_most, report.sources[0].outdated),
            (200, 200, 0)
        );
        assert_eq!((report.locators[0].failures, report.locators[0].version), (200, None));
        assert_eq!(off.signals().failures, 0);
        let named = builder().channel_elsewhere("Ops!", ChannelFilter::all()).open();
        assert!(named.is_err(), "a channel is named as everywhere");
    });
}

#[test]
fn what_is_no_failure_of_the_client_s_is_not_counted() {
    on_both(|bed| {
        let issued = bed.issue("ci");
        let scope = common::scope("orders:read");
        for _ in 0..200 {
            bed.validator.validate_for(issued.token.expose(), address(1)).unwrap();
            let denied = bed.validator.validate_for(issued.token.expose(), Demand::scope(&scope).source("a"));
            assert_eq!(denied.unwrap_err().reason(), DenialReason::Scope);
        }
        assert_eq!(bed.validator.signals().failures, 0);
        bed.validator.close().unwrap();
        bed.validator.validate_for(issued.token.expose(), address(1)).unwrap_err();
        assert_eq!(bed.validator.signals().failures, 0, "unavailable");
    });
}

#[test]
fn an_alarm_that_could_not_be_written_is_told_by_the_next_flush() {
    let store = Hooked::new();
    let clock = ManualClock::new(at(START));
    let keys = KeyManager::builder(Arc::clone(&store), keyring())
        .clock(clock.clone())
        .channel_elsewhere("ops", ChannelFilter::all())
        .open()
        .unwrap();
    let validator = keys.validator().unwrap();
    (0..150).for_each(|_| _ = validator.validate_for("junk", address(1)).unwrap_err());
    for fate in [Fate::NotWritten, Fate::UnknownAndLost, Fate::UnknownAndDurable] {
        store.fate(&[fate]);
        assert!(validator.flush().is_err(), "{fate:?}");
        clock.advance(Duration::from_secs(3_600)).unwrap();
    }
    validator.flush().unwrap();
    let waiting = || {
        let mut count = 0;
        let filter = keyrota::RowFilter::Owner { owner: "ops", after: None };
        store
            .inner
            .scan(keyrota::RowKind::Outbox, filter, &mut |_| {
                count += 1;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        count
    };
    assert_eq!(waiting(), 1, "one, although nobody knew whether it was written");
    assert_eq!(validator.signals().failures, 0, "another hour");
}

/// Hands over so many requests of a key as of now.
fn count(store: &dyn KeyStore, clock: &ManualClock, sequence: u64, uses: &[(String, u64)]) {
    let entries = uses.iter().map(|(key, allowed)| {
        let mut entry = UsageEntry::new(key.clone(), 1);
        entry.counts.allowed = *allowed;
        entry.counts.last_used = Some(clock.now());
        entry
    });
    let entries = entries.collect();
    let batch =
        UsageBatch { writer: "w".to_owned(), sequence, flushed_at: clock.now(), ended: false, entries };
    store.add_usage(&batch).unwrap();
}

#[test]
fn a_key_that_is_used_ten_times_as_much_is_told_within_a_day_once_and_one_that_is_used_as_before_never() {
    on_both(|bed| {
        // A Monday.
        bed.clock.set(at("2027-01-04"));
        let policy = RotationPolicy::builder().lifetime(400 * DAY).rotate_every(390 * DAY).build().unwrap();
        let issue = |name| bed.root().issue(new_key(name).policy(policy)).unwrap().key;
        let (same, more, silent) = (issue("same"), issue("more"), issue("silent"));
        let store = bed.place.open();
        let base = |hour: u64| {
            let busy = if (8..18).contains(&(hour % 24)) { 5 } else { 1 };
            if hour / 24 % 7 < 5 { 20 * busy } else { 3 * busy + hour * 7_919 % 5 }
        };
        let mut told = Vec::new();
        for day in 0..7 * 7 {
            let uses = (24 * day..24 * (day + 1)).map(base).sum();
            let uses = [same, more, silent].map(|key| (key.to_string(), uses));
            count(&*store, &bed.clock, day + 1, &uses);
            bed.pass(DAY);
            told.extend(bed.told());
        }
        // On the second day of the eighth week, at eight.
        let changed_at = bed.clock.now().plus(32 * HOUR).unwrap();
        for hour in 24 * 7 * 7..24 * 7 * 9 {
            let changed = bed.clock.now() >= changed_at;
            let base = base(hour);
            let uses = [
                (same.to_string(), base),
                (more.to_string(), if changed { 10 * base } else { base }),
                (silent.to_string(), if changed { 0 } else { base }),
            ];
            count(&*store, &bed.clock, hour + 1, &uses);
            bed.pass(HOUR);
            if hour % 3 == 0 {
                told.extend(bed.told());
            }
        }
        let of = |subject: &str| {
            told.iter().filter(|told| told.subject.as_deref() == Some(subject)).collect::<Vec<_>>()
        };
        let (rose, fell) = (of("usage_rose"), of("usage_fell"));
        println!("found after {:?} and {:?}", rose[0].at.since(changed_at), fell[0].at.since(changed_at));
        assert!(rose.iter().all(|told| told.key == Some(more)), "{rose:?}");
        assert!(rose[0].at.since(changed_at) <= 24 * HOUR);
        assert!(rose.len() <= 2 && rose[0].count > rose[0].expected, "{rose:?}");
        assert!(fell.iter().all(|told| told.key == Some(silent)), "{fell:?}");
        assert!(fell[0].at.since(changed_at) <= 48 * HOUR);
        assert!(fell[0].count < fell[0].expected, "{fell:?}");
        assert_eq!(told.len(), rose.len() + fell.len());
    });
}

#[test]
fn a_plan_names_a_change_before_it_is_told_and_not_after() {
    on_both(|bed| {
        let key = bed.issue("ci").key;
        let store = bed.place.open();
        for day in 1..=60 {
            bed.pass(DAY);
            let uses = if day == 60 { 10_000 } else { 100 };
            count(&*store, &bed.clock, day, &[(key.to_string(), uses)]);
            if day < 60 {
                assert_eq!(bed.lines(), [""; 0], "day {day}");
            }
        }
        let look = bed.clock.now().plus(HOUR).unwrap();
        let planned = bed.keys.plan(look).unwrap().notices;
        assert_eq!(planned.iter().map(line).collect::<Vec<_>>(), ["usage_rose 10000 instead of 100"]);
        bed.pass(HOUR);
        assert_eq!(bed.lines(), ["usage_rose 10000 instead of 100"]);
        assert_eq!(bed.keys.plan(look).unwrap().notices, []);
        assert_eq!(bed.lines(), [""; 0]);
    });
}

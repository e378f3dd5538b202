//! What time alone brings about: warnings, expiry, keys that nobody uses.

use std::time::Duration;

use keyrota::{NewKey, NotificationKind, RotationPolicy};

use crate::common::{DAY, HOUR, Place, START, at, keyring, new_key, on_both_places};
use crate::stage::{Bed, Ear, on_both};

fn issue(bed: &Bed, new: NewKey) -> keyrota::IssuedKey {
    let issued = bed.root().issue(new).unwrap();
    bed.tick();
    issued
}

#[test]
fn a_version_that_nothing_replaces_is_warned_of_twice_and_told_when_it_has_expired() {
    on_both(|bed| {
        let validator = bed.keys.validator().unwrap();
        let issued = issue(&bed, new_key("ci"));
        assert!(validator.validate(issued.token.expose()).is_ok());
        validator.flush().unwrap();
        assert_eq!(bed.ear.lines(), ["issued v1"]);
        bed.at("2027-01-20");
        bed.at("2027-02-15");
        bed.ear.forget();
        assert_eq!(bed.at("2027-03-14"), [""; 0]);
        assert_eq!(bed.at("2027-03-24T23:59:59.999999Z"), [""; 0]);
        assert_eq!(bed.at("2027-03-25"), ["expiring v1 168h"]);
        assert_eq!(bed.at("2027-03-25T00:00:01Z"), [""; 0]);
        assert_eq!(bed.at("2027-03-30T23:59:59.999999Z"), [""; 0]);
        assert_eq!(bed.at("2027-03-31"), ["expiring v1 24h"]);
        assert_eq!(bed.at("2027-04-01"), ["expired v1"]);
        assert_eq!(bed.at("2027-04-20"), [""; 0]);
    });
}

#[test]
fn ticks_that_were_left_out_tell_the_nearest_warning_only() {
    on_both(|bed| {
        issue(&bed, new_key("ci"));
        bed.at("2027-01-30");
        bed.at("2027-02-28");
        assert_eq!(bed.at("2027-03-24"), [""; 0]);
        assert_eq!(bed.at("2027-03-31T12:00:00Z"), ["expiring v1 24h"]);
        assert_eq!(bed.at("2027-03-31T13:00:00Z"), [""; 0]);
        issue(&bed, new_key("late").until(at("2027-04-20")));
        bed.ear.forget();
        bed.at("2027-04-02");
        assert_eq!(bed.at("2027-04-25"), ["expired v1"], "what is over is not warned of");
    });
}

#[test]
fn warnings_beyond_a_key_s_own_window_become_one_that_comes_with_its_making() {
    on_both(|bed| {
        let told = |new: NewKey| {
            issue(&bed, new);
            bed.ear.lines()
        };
        assert_eq!(told(new_key("ninety days")), ["issued v1"]);
        assert_eq!(told(new_key("seven days").until(at("2027-01-08"))), ["issued v1", "expiring v1 168h"]);
        assert_eq!(told(new_key("three").until(at("2027-01-04"))), ["issued v1", "expiring v1 168h"]);
        assert_eq!(
            told(new_key("twelve hours").until(at("2027-01-01 12:00"))),
            ["issued v1", "expiring v1 24h"],
            "the nearer of the two"
        );
        assert_eq!(
            told(new_key("for later").window(at("2027-01-10"), at("2027-01-13"))),
            ["issued v1"],
            "not before it can be used"
        );
        assert_eq!(bed.at("2027-01-01 12:00"), ["expired v1"]);
        assert_eq!(bed.at("2027-01-03"), ["expiring v1 24h"]);
        assert_eq!(bed.at("2027-01-04"), ["expired v1"]);
        assert_eq!(bed.at("2027-01-06"), [""; 0]);
        assert_eq!(bed.at("2027-01-07"), ["expiring v1 24h"]);
        assert_eq!(bed.at("2027-01-07 23:59"), [""; 0]);
        let unused =
            |lines: Vec<String>| lines.into_iter().filter(|line| line != "unused v1").collect::<Vec<_>>();
        assert_eq!(unused(bed.at("2027-01-08 00:01")), ["expired v1"]);
        assert_eq!(bed.at("2027-01-12"), ["expiring v1 24h"]);
        assert_eq!(bed.at("2027-01-13"), ["expired v1"]);
    });
}

#[test]
fn a_version_with_a_successor_is_neither_warned_of_nor_told_as_expired() {
    on_both(|bed| {
        let policy = RotationPolicy::builder().lifetime(90 * DAY).overlap(20 * DAY).build().unwrap();
        let key = issue(&bed, new_key("ci").policy(policy)).key;
        for day in ["2027-01-20", "2027-02-15", "2027-03-15"] {
            bed.at(day);
        }
        bed.root().rotate(key).unwrap();
        bed.tick();
        bed.ear.forget();
        for day in ["2027-03-25", "2027-03-31"] {
            assert_eq!(bed.at(day), [""; 0], "{day}");
        }
        assert_eq!(bed.at("2027-04-01"), ["rotation_completed v2"]);
    });
}

#[test]
fn a_version_that_runs_out_without_a_successor_is_warned_of_no_more_than_it_was() {
    on_both(|bed| {
        let key = issue(&bed, new_key("ci")).key;
        bed.ear.forget();
        bed.root().deprecate(key).unwrap();
        bed.at("2027-01-02");
        assert_eq!(bed.ear.lines(), [""; 0]);
    });
}

#[test]
fn of_several_managers_that_tick_one_tells() {
    on_both_places(|place| {
        let bed = Bed::new(place);
        issue(&bed, new_key("ci"));
        bed.ear.forget();
        let others: Vec<_> =
            (0..3).map(|_| bed.builder().channel("ops", bed.ear.clone()).open().unwrap()).collect();
        let mut months = ["2027-01-20", "2027-02-15", "2027-03-10", "2027-03-26", "2027-04-01"].into_iter();
        let lines = |time: &str| {
            bed.clock.set(at(time));
            std::thread::scope(|scope| {
                for keys in &others {
                    scope.spawn(|| while keys.tick().unwrap().more {});
                }
            });
            bed.tick();
            bed.ear.lines()
        };
        assert_eq!(lines(months.next().unwrap()), ["unused v1"]);
        assert_eq!(lines(months.next().unwrap()), [""; 0]);
        assert_eq!(lines(months.next().unwrap()), [""; 0]);
        assert_eq!(lines(months.next().unwrap()), ["expiring v1 168h"]);
        assert_eq!(lines(months.next().unwrap()), ["expired v1"]);
    });
}

#[test]
fn who_registers_the_first_channel_is_not_told_what_is_long_past() {
    on_both_places(|place| {
        let clock = keyrota::ManualClock::new(at(START));
        let silent =
            keyrota::KeyManager::builder(place.open(), keyring()).clock(clock.clone()).open().unwrap();
        silent.by(keyrota::Actor::operator("root")).issue(new_key("ci")).unwrap();
        for day in ["2027-01-30", "2027-02-28", "2027-03-29"] {
            clock.set(at(day));
            let report = silent.tick().unwrap();
            assert_eq!((report.noticed, report.notified), (0, 0));
        }
        let ear = Ear::new();
        let keys = keyrota::KeyManager::builder(place.open(), keyring())
            .clock(clock.clone())
            .channel("ops", ear.clone())
            .open()
            .unwrap();
        keys.tick().unwrap();
        assert_eq!(ear.lines(), [""; 0]);
        clock.set(at("2027-03-31"));
        keys.tick().unwrap();
        assert_eq!(ear.lines(), ["expiring v1 24h"]);
    });
}

#[test]
fn a_key_that_was_never_used_in_seven_days_is_told_once() {
    on_both(|bed| {
        let validator = bed.keys.validator().unwrap();
        let used = issue(&bed, new_key("used"));
        issue(&bed, new_key("unused"));
        let revoked = issue(&bed, new_key("revoked")).key;
        issue(&bed, new_key("not yet").not_before(at("2027-01-05")));
        bed.root().revoke(revoked).unwrap();
        assert!(validator.validate(used.token.expose()).is_ok());
        validator.flush().unwrap();
        bed.at("2027-01-07T23:59:59Z");
        let heard = |time| {
            bed.clock.set(at(time));
            bed.tick();
            let names: Vec<_> =
                bed.ear.heard().iter().map(|told| (told.kind, told.name.clone().unwrap())).collect();
            bed.ear.forget();
            names
        };
        let told = heard("2027-01-08 00:01");
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].0, told[0].1.as_str()), (NotificationKind::Unused, "unused"));
        assert_eq!(heard("2027-01-20").len(), 1, "the one whose window began late");
        assert_eq!(heard("2027-01-30"), []);
    });
}

#[test]
fn a_key_whose_window_begins_late_is_told_as_unused_seven_days_after_that_and_once() {
    on_both(|bed| {
        let validator = bed.keys.validator().unwrap();
        let from = |name: &str, day: &str| bed.root().issue(new_key(name).not_before(at(day))).unwrap();
        from("soon", "2027-01-05");
        let used = from("used", "2027-01-05");
        let revoked = from("revoked", "2027-01-05").key;
        from("much later", "2027-02-20");
        bed.tick();
        let unused = |time: &str| {
            bed.clock.set(at(time));
            let plan = bed.keys.plan(at(time)).unwrap().notices.len();
            bed.ear.forget();
            let report = bed.tick();
            let told: Vec<_> =
                bed.ear.heard().into_iter().map(|told| told.name.unwrap().as_str().to_owned()).collect();
            assert_eq!(told.len(), plan, "{told:?}");
            (told, report.next_due)
        };
        assert_eq!(unused("2027-01-08 00:01").0, [""; 0]);
        validator.validate(used.token.expose()).unwrap();
        validator.flush().unwrap();
        bed.root().revoke(revoked).unwrap();
        bed.tick();
        let (told, next) = unused("2027-01-11 23:59");
        assert_eq!((told, next), (vec![], Some(at("2027-01-12"))));
        assert_eq!(unused("2027-01-12").0, ["soon"]);
        assert_eq!(unused("2027-01-12").0, [""; 0]);
        unused("2027-02-10");
        assert_eq!(unused("2027-03-09").0, ["much later"], "late rather than never");
        assert_eq!(unused("2027-03-10").0, [""; 0]);
    });
}

#[test]
fn what_came_while_nobody_ticked_is_told_late_also_by_the_first_tick_of_all() {
    on_both_places(|place| {
        let (clock, ear) = (keyrota::ManualClock::new(at(START)), Ear::new());
        let keys = keyrota::KeyManager::builder(place.open(), keyring())
            .clock(clock.clone())
            .channel("ops", ear.clone())
            .open()
            .unwrap();
        let issue = |new: NewKey| keys.by(keyrota::Actor::operator("root")).issue(new).unwrap();
        issue(new_key("unused"));
        issue(new_key("ends").until(at("2027-01-28")));
        clock.set(at("2027-01-22"));
        while keys.tick().unwrap().more {}
        let mut told = ear.lines();
        told.retain(|line| !line.starts_with("issued"));
        told.sort();
        assert_eq!(told, ["expiring v1 168h", "unused v1", "unused v1"]);
        while keys.tick().unwrap().more {}
        assert_eq!(ear.lines(), [""; 0]);
    });
}

#[test]
fn a_key_that_was_not_used_for_thirty_days_is_told_once_for_each_silence() {
    on_both(|bed| {
        let validator = bed.keys.validator().unwrap();
        let policy = RotationPolicy::builder().lifetime(900 * DAY).build().unwrap();
        let key = issue(&bed, new_key("ci").policy(policy));
        let steady = issue(&bed, new_key("steady").policy(policy));
        let use_it = |issued: &keyrota::IssuedKey| {
            assert!(validator.validate(issued.token.expose()).is_ok());
            validator.flush().unwrap();
        };
        let mut told = Vec::new();
        for day in 0..130u32 {
            bed.clock.set(at(START).plus(day * DAY + HOUR).unwrap());
            use_it(&steady);
            if [2, 3, 50].contains(&day) {
                use_it(&key);
            }
            bed.tick();
            for heard in bed.ear.heard() {
                if heard.kind == NotificationKind::PotentiallyStale {
                    told.push((day, heard.key.unwrap() == key.key, heard.last_used.unwrap()));
                }
            }
            bed.ear.forget();
        }
        let last = |day: u32| at(START).plus(day * DAY + HOUR).unwrap();
        // On the day after the thirtieth, when the day of the last use is over for as long.
        assert_eq!(told, [(34, true, last(3)), (81, true, last(50))]);
    });
}

#[test]
fn a_plan_lists_what_the_tick_would_tell_and_writes_nothing() {
    on_both(|bed| {
        issue(&bed, new_key("ci"));
        bed.ear.forget();
        for time in ["2027-01-07", "2027-01-09", "2027-02-05", "2027-03-05", "2027-03-25", "2027-03-31"] {
            bed.clock.set(at(time));
            let before = bed.place.open().head().unwrap();
            let plan = bed.keys.plan(at(time)).unwrap();
            assert_eq!(bed.place.open().head().unwrap(), before);
            let report = bed.keys.tick().unwrap();
            assert_eq!(report.noticed, plan.notices.len(), "{time}");
            assert_eq!(bed.ear.heard(), plan.notices, "{time}");
            bed.ear.forget();
        }
    });
}

#[test]
fn the_next_due_time_is_that_of_the_next_warning() {
    on_both(|bed| {
        let validator = bed.keys.validator().unwrap();
        let issued = issue(&bed, new_key("ci"));
        validator.validate(issued.token.expose()).unwrap();
        validator.flush().unwrap();
        let keys = bed
            .builder()
            .filtered_channel(
                "ops",
                keyrota::ChannelFilter::all().kinds([NotificationKind::Expiring]),
                bed.ear.clone(),
            )
            .open()
            .unwrap();
        let next = |time: &str| {
            bed.clock.set(at(time));
            while keys.tick().unwrap().more {}
            keys.tick().unwrap().next_due.unwrap()
        };
        // The request ids of the acts go after a week, and delivered rows, too.
        next("2027-01-01");
        assert_eq!(next("2027-01-20"), at("2027-03-25"));
        next("2027-02-18");
        assert_eq!(next("2027-03-19"), at("2027-03-25"));
        assert_eq!(next("2027-03-30"), at("2027-03-31"));
        assert!(next("2027-03-31") <= at("2027-04-01"));
    });
}

#[test]
fn a_tick_that_has_nothing_left_to_do_writes_nothing_the_next_time() {
    on_both(|bed| {
        for n in 0..20 {
            bed.root().issue(new_key(&format!("k{n}"))).unwrap();
        }
        for day in ["2027-01-01", "2027-01-08 00:01", "2027-02-03", "2027-03-05", "2027-03-25", "2027-04-01"]
        {
            bed.clock.set(at(day));
            bed.tick();
            let before = bed.place.open().head().unwrap();
            let report = bed.keys.tick().unwrap();
            assert_eq!(bed.place.open().head().unwrap(), before, "{day}");
            assert!(!report.more);
        }
        assert_eq!(bed.ear.count(NotificationKind::Expired), 20);
    });
}

#[test]
fn a_policy_says_when_it_is_warned_whatever_the_process_that_ticks_was_built_with() {
    on_both_places(|place| {
        let clock = keyrota::ManualClock::new(at(START));
        let ears = [Ear::new(), Ear::new()];
        let open = |warnings: &[Duration], ear: &Ear| {
            keyrota::KeyManager::builder(place.open(), keyring())
                .clock(clock.clone())
                .expiry_warnings(warnings.iter().copied())
                .filtered_channel(
                    "ops",
                    keyrota::ChannelFilter::all().kinds([NotificationKind::Expiring]),
                    ear.clone(),
                )
                .open()
                .unwrap()
        };
        // The first one founds the store; what the second one is built with is not asked any more.
        let hosts = [open(&[2 * HOUR, 30 * DAY], &ears[0]), open(&[5 * DAY], &ears[1])];
        let root = |host: usize| hosts[host].by(keyrota::Actor::operator("root"));
        let policy = |warnings: &[Duration]| {
            RotationPolicy::builder().warnings(warnings.iter().copied()).build().unwrap()
        };
        root(1).issue(new_key("by the deployment")).unwrap();
        root(0).issue(new_key("its own").policy(policy(&[10 * DAY]))).unwrap();
        root(0).issue(new_key("silent").policy(policy(&[]))).unwrap();
        let edited = root(0).issue(new_key("edited")).unwrap().key;
        let short = policy(&[10 * DAY]).to_builder().lifetime(3 * DAY).build().unwrap();
        root(1).issue(new_key("short").policy(short)).unwrap();
        let mut told = Vec::new();
        for hour in (0..90 * 24).step_by(12).chain([90 * 24 - 2]) {
            if hour == 48 {
                root(1)
                    .edit(keyrota::EditKey::of(edited).policy(Some(policy(&[3 * DAY, 45 * DAY]))))
                    .unwrap();
            }
            clock.set(at(START).plus(hour * HOUR).unwrap());
            // Now the one ticks, now the other.
            while hosts[(hour / 12 % 2) as usize].tick().unwrap().more {}
            for heard in ears.iter().flat_map(|ear| ear.heard()) {
                let days = heard.threshold.unwrap().as_secs() / 3_600;
                told.push(format!("{hour} {} {days}h", heard.name.unwrap().as_str()));
            }
            ears.iter().for_each(Ear::forget);
        }
        told.sort_by_key(|line| line.split_once(' ').unwrap().0.parse::<u32>().unwrap());
        assert_eq!(
            told,
            [
                "0 short 240h",
                "1080 edited 1080h",
                "1440 by the deployment 720h",
                "1920 its own 240h",
                "2088 edited 72h",
                "2158 by the deployment 2h",
            ]
        );
    });
}

#[test]
fn warnings_that_the_deployment_changes_are_those_of_every_key_without_a_policy_of_its_own() {
    on_both(|bed| {
        issue(&bed, new_key("ci"));
        bed.at("2027-01-20");
        let policy = RotationPolicy::builder().warnings([20 * DAY]).build().unwrap();
        bed.root().set_policy(policy).unwrap();
        bed.at("2027-02-15");
        bed.ear.forget();
        assert_eq!(bed.at("2027-03-11"), [""; 0]);
        assert_eq!(bed.at("2027-03-12"), ["expiring v1 480h"]);
        for day in ["2027-03-25", "2027-03-31"] {
            assert_eq!(bed.at(day), [""; 0], "{day}: the deployment asks for no other any more");
        }
    });
}

#[test]
fn an_edited_row_silences_the_deployment_s_warnings_not() {
    let memory = keyrota::MemoryStore::new();
    let bed = Bed::new(Place::Memory(memory.clone()));
    bed.root().issue(new_key("ci")).unwrap();
    let hooked = crate::crash::Editing::over(memory, |row| {
        if row.kind == keyrota::RowKind::Outbox && row.id == "~warnings" {
            row.body = br#"{"since":{}}"#.to_vec();
        }
    });
    let ear = Ear::new();
    let kinds = keyrota::ChannelFilter::all().kinds([NotificationKind::Expiring]);
    let keys = keyrota::KeyManager::builder(hooked, keyring())
        .clock(bed.clock.clone())
        .filtered_channel("ops", kinds, ear.clone())
        .open()
        .unwrap();
    for day in ["2027-01-20", "2027-02-15", "2027-03-10", "2027-03-25", "2027-03-31"] {
        bed.clock.set(at(day));
        while keys.tick().unwrap().more {}
    }
    let mut lines = ear.lines();
    lines.retain(|line| line.starts_with("expiring"));
    assert_eq!(lines, ["expiring v1 168h", "expiring v1 24h"]);
}

#[test]
fn more_warnings_than_a_policy_has_are_refused_when_the_store_is_opened() {
    let place = Place::memory();
    let warnings = (1..=5).map(|days| days * DAY);
    let opened = keyrota::KeyManager::builder(place.open(), keyring()).expiry_warnings(warnings).open();
    assert!(matches!(opened, Err(keyrota::OpenError::Policy(keyrota::PolicyError::Warnings))));
    assert!(place.open().head().unwrap().is_none(), "nothing was founded");
}

#[test]
fn other_warnings_can_be_asked_for_and_none() {
    let bed = Bed::new(Place::memory());
    let keys = bed.builder().channel("ops", bed.ear.clone()).open().unwrap();
    let warn = |warnings: &[Duration]| {
        let policy = RotationPolicy::builder().warnings(warnings.iter().copied()).build().unwrap();
        bed.root().set_policy(policy).unwrap();
    };
    warn(&[2 * HOUR, 30 * DAY]);
    keys.tick().unwrap();
    keys.by(keyrota::Actor::operator("root")).issue(new_key("ci")).unwrap();
    let mut lines = Vec::new();
    for hours in (0..90 * 24).step_by(12).chain([90 * 24 - 2, 90 * 24]) {
        bed.clock.set(at(START).plus(hours * HOUR).unwrap());
        while keys.tick().unwrap().more {}
        lines.extend(bed.ear.lines());
    }
    assert_eq!(lines, ["issued v1", "unused v1", "expiring v1 720h", "expiring v1 2h", "expired v1"]);
    warn(&[]);
    keys.by(keyrota::Actor::operator("root")).issue(new_key("ci").lifetime(2 * DAY)).unwrap();
    for hours in 0..48u32 {
        bed.clock.advance(HOUR).unwrap();
        while keys.tick().unwrap().more {}
        assert!(hours > 46 || bed.ear.count(NotificationKind::Expiring) == 0);
    }
    assert_eq!(bed.ear.lines(), ["issued v1", "expired v1"]);
}

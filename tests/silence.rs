//! Superseded versions that leave when nobody uses them, and the switches of automatic rotation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod rotating;

use std::time::Duration;

use common::{Bed, DAY, HOUR, at, new_key, on_both_stores, owner};
use keyrota::{
    AutoRotation, EditKey, EventKind, KeyId, ManageError, Retirement, RotationPolicy, Stage, Timestamp,
};

fn when_unused() -> RotationPolicy {
    let retirement = Retirement::WhenUnused { quiet_for: 10 * DAY, at_most: 60 * DAY, notice: DAY };
    RotationPolicy::builder().lifetime(365 * DAY).retirement(retirement).build().unwrap()
}

fn end_of_v1(bed: &Bed, key: KeyId) -> Option<Timestamp> {
    bed.keys.get(key).unwrap().versions[0].ends_at
}

#[test]
fn a_process_that_does_not_flush_keeps_an_unused_version_and_the_plan_names_it() {
    on_both_stores(|bed| {
        let issued = bed.root().issue(new_key("app").policy(when_unused())).unwrap();
        let other = bed.other_validator();
        let new = bed.rotate(issued.key);
        assert!(bed.is_granted(&new) && bed.is_granted(issued.token.expose()));
        bed.validator.flush().unwrap();
        other.flush().unwrap();
        assert_eq!(end_of_v1(&bed, issued.key), Some(at("2027-03-02")), "the cap is told at once");
        bed.tick_to(at("2027-01-11"));
        bed.validator.flush().unwrap();
        let plan = bed.keys.plan(at("2027-01-12")).unwrap();
        assert_eq!(plan.unsettled.len(), 1);
        assert_eq!((plan.unsettled[0].key, plan.unsettled[0].silent.len()), (issued.key, 1));
        assert_eq!(plan.unsettled[0].silent[0].flushed_at, at("2027-01-01"), "the one that has told least");
        assert!(plan.to_string().contains(&plan.unsettled[0].silent[0].name), "{plan}");
        bed.tick_to(at("2027-01-15"));
        assert_eq!(end_of_v1(&bed, issued.key), Some(at("2027-03-02")));
        other.flush().unwrap();
        bed.validator.flush().unwrap();
        bed.tick_to(at("2027-01-16"));
        assert_eq!(end_of_v1(&bed, issued.key), Some(at("2027-01-17")), "after the notice");
        assert!(bed.is_granted(issued.token.expose()), "a late use moves nothing");
        bed.validator.flush().unwrap();
        bed.tick_to(at("2027-01-17"));
        assert!(!bed.is_granted(issued.token.expose()) && bed.is_granted(&new));
    });
}

#[test]
fn a_version_that_is_used_stays_until_the_cap() {
    on_both_stores(|bed| {
        let issued = bed.root().issue(new_key("app").policy(when_unused())).unwrap();
        bed.rotate(issued.key);
        for day in 1..60 {
            bed.clock.set(at("2027-01-01").plus(day * DAY).unwrap());
            assert!(bed.is_granted(issued.token.expose()), "day {day}");
            bed.validator.flush().unwrap();
            bed.tick();
        }
        bed.go("2027-03-02");
        assert!(!bed.is_granted(issued.token.expose()));
    });
}

#[test]
fn where_nobody_ever_flushes_nothing_counts_as_unused() {
    on_both_stores(|bed| {
        let issued = bed.root().issue(new_key("app").policy(when_unused())).unwrap();
        bed.rotate(issued.key);
        bed.tick_to(at("2027-02-20"));
        assert_eq!(end_of_v1(&bed, issued.key), Some(at("2027-03-02")));
    });
}

/// Whether a key's rotation would begin by itself in the last week of its version.
fn rotates(bed: &Bed, key: KeyId) -> bool {
    bed.tick();
    let plan = bed.keys.plan(at("2027-01-30")).unwrap();
    plan.events.iter().any(|event| event.kind == EventKind::RotationStarted && event.key == Some(key))
}

#[test]
fn what_is_said_of_a_key_goes_before_its_owner_and_that_before_the_deployment() {
    on_both_stores(|bed| {
        let short = RotationPolicy::builder().lifetime(31 * DAY).build().unwrap();
        bed.root().set_policy(short).unwrap();
        let (key, own) = (bed.issue("inherits").key, bed.issue("its own").key);
        assert!(!rotates(&bed, key), "off unless it is switched on");
        bed.root().set_auto_rotation(AutoRotation::Deployment, Some(true)).unwrap();
        assert!(rotates(&bed, key) && rotates(&bed, own));
        bed.root().set_auto_rotation(own, Some(false)).unwrap();
        assert!(rotates(&bed, key) && !rotates(&bed, own));
        bed.root().set_auto_rotation(owner("ada"), Some(false)).unwrap();
        assert!(!rotates(&bed, key));
        bed.root().set_auto_rotation(own, Some(true)).unwrap();
        assert!(!rotates(&bed, key) && rotates(&bed, own));
        bed.root().set_auto_rotation(AutoRotation::Deployment, None).unwrap();
        bed.root().set_auto_rotation(owner("ada"), None).unwrap();
        assert!(!rotates(&bed, key) && rotates(&bed, own));
        let newborn = bed.root().issue(new_key("newborn").auto_rotation(true)).unwrap().key;
        assert!(rotates(&bed, newborn));
        let told: Vec<_> = bed
            .entries(0)
            .into_iter()
            .filter(|entry| entry.event.kind == EventKind::AutoRotationSet)
            .map(|entry| entry.event.subject.unwrap())
            .collect();
        assert_eq!(told, ["on", "off", "off", "on", "off", "inherited"]);
        let head = bed.store.head().unwrap();
        bed.root().set_auto_rotation(own, Some(true)).unwrap();
        bed.root().set_auto_rotation(owner("ada"), None).unwrap();
        assert_eq!(bed.store.head().unwrap(), head, "a switch that is there already writes nothing");
    });
}

#[test]
fn a_switch_of_the_deployment_reaches_every_key_and_brings_none_back() {
    on_both_stores(|bed| {
        bed.root().set_default_owner_limit(keyrota::OwnerLimit::new(2_000).unwrap()).unwrap();
        let ended = bed.root().issue(new_key("ended").lifetime(2 * DAY)).unwrap().key;
        let keys: Vec<_> = (0..1_100).map(|n| bed.issue(&format!("k{n}")).key).collect();
        bed.tick_to(at("2027-01-04"));
        bed.root().set_auto_rotation(AutoRotation::Deployment, Some(true)).unwrap();
        let mut ticks = 0;
        while bed.keys.tick().unwrap().more {
            ticks += 1;
        }
        assert!((2..6).contains(&ticks), "{ticks} ticks");
        bed.go("2027-03-26");
        bed.root().confirm_clock(at("2027-03-26")).unwrap();
        bed.tick();
        let pending = keys.iter().filter(|key| bed.stage_of_last(**key) == Stage::Pending).count();
        assert_eq!(pending, keys.len());
        assert_eq!(bed.keys.get(ended).unwrap().versions.len(), 1, "what has ended stays so");
    });
}

trait StageOfLast {
    fn stage_of_last(&self, key: KeyId) -> Stage;
}

impl StageOfLast for Bed {
    fn stage_of_last(&self, key: KeyId) -> Stage {
        self.keys.get(key).unwrap().versions.last().unwrap().stage
    }
}

#[test]
fn while_management_is_off_keys_are_revoked_and_rotate_and_nothing_else_is_done() {
    on_both_stores(|bed| {
        let (key, other) = (bed.issue("ci").key, bed.issue("other").key);
        bed.root().set_auto_rotation(key, Some(true)).unwrap();
        let before = bed.seq();
        bed.root().set_management(false).unwrap();
        bed.root().set_management(false).unwrap();
        assert_eq!(bed.story(before), ["management_set"]);
        let refused: [&dyn Fn() -> Result<(), ManageError>; 7] = [
            &|| bed.root().issue(new_key("x")).map(drop),
            &|| bed.root().rotate(key).map(drop),
            &|| bed.root().edit(EditKey::of(key).name("x").unwrap()).map(drop),
            &|| bed.root().schedule(key, at("2027-02-01")).map(drop),
            &|| bed.root().set_policy(RotationPolicy::mobile()),
            &|| bed.root().set_auto_rotation(key, Some(false)),
            &|| bed.root().purge(Duration::ZERO).map(drop),
        ];
        for act in refused {
            assert!(matches!(bed.refused(act), ManageError::ManagementDisabled));
        }
        bed.root().revoke(other).unwrap();
        bed.root().suspend(owner("eve")).unwrap();
        bed.tick_to(at("2027-03-25"));
        assert_eq!(bed.stage_of_last(key), Stage::Pending, "what runs by itself goes on");
        bed.root().set_management(true).unwrap();
        bed.root().cancel(key).unwrap();
    });
}

#[test]
fn a_key_s_own_policy_is_set_and_taken_away_and_dates_that_were_told_stay() {
    on_both_stores(|bed| {
        let key = bed.root().issue(new_key("ci").auto_rotation(true)).unwrap().key;
        bed.root().edit(EditKey::of(key).policy(Some(RotationPolicy::mobile()))).unwrap();
        assert_eq!(bed.keys.get(key).unwrap().policy, Some(RotationPolicy::mobile()));
        bed.tick_to(at("2027-03-25"));
        let versions = bed.keys.get(key).unwrap().versions;
        assert_eq!(versions[0].ends_at, Some(at("2027-04-01")), "as it was told");
        assert_eq!(versions[1].ends_at, Some(at("2029-03-24")), "by the new policy");
        bed.root().edit(EditKey::of(key).policy(None)).unwrap();
        assert_eq!(bed.keys.get(key).unwrap().policy, None);
        assert_eq!(bed.keys.get(key).unwrap().versions[1].ends_at, Some(at("2029-03-24")));
    });
}

#[test]
fn jitter_brings_a_rotation_forward_by_less_than_it_says_and_differently_for_each_key() {
    on_both_stores(|bed| {
        let policy = RotationPolicy::builder().jitter(DAY).build().unwrap();
        let new = |n: u32| new_key(&format!("k{n}")).auto_rotation(true).policy(policy);
        let keys: Vec<_> = (0..8).map(|n| bed.root().issue(new(n)).unwrap().key).collect();
        bed.tick_to(at("2027-03-24"));
        assert!(keys.iter().all(|key| bed.keys.get(*key).unwrap().versions.len() == 1));
        let mut begun = Vec::new();
        for hour in 1..=24 {
            bed.clock.set(at("2027-03-24").plus(hour * HOUR).unwrap());
            bed.tick();
            begun.push(keys.iter().filter(|key| bed.keys.get(**key).unwrap().versions.len() == 2).count());
        }
        assert_eq!(begun.last(), Some(&8));
        assert!(begun.iter().any(|count| (1..8).contains(count)), "not all at once: {begun:?}");
    });
}

#[test]
fn before_the_old_version_ends_it_is_told_that_clients_still_use_it() {
    on_both_stores(|bed| {
        let lagging = |key: KeyId| {
            let told = bed.entries(0).into_iter().map(|entry| entry.event);
            let told =
                told.filter(|event| event.kind == EventKind::AdoptionLagging && event.key == Some(key));
            told.map(|event| (event.at, event.version, event.until)).collect::<Vec<_>>()
        };
        let keys = ["used", "adopted", "unused"]
            .map(|name| bed.root().issue(new_key(name).auto_rotation(true)).unwrap());
        bed.tick_to(at("2027-03-25"));
        let claim = |issued: &keyrota::IssuedKey| {
            let claim =
                keyrota::Claim::with_token(issued.token.expose(), rotating::claim_id("a client's own"));
            let act = bed.keys.by(keyrota::Actor::service("client"));
            act.claim(claim).unwrap().token.expose().to_owned()
        };
        let [used, adopted, unknown] = keys;
        let new = claim(&adopted);
        let (_, _) = (claim(&used), claim(&unknown));
        bed.go("2027-03-25 11:00");
        assert!(bed.is_granted(used.token.expose()) && bed.is_granted(&new));
        bed.validator.flush().unwrap();
        for hour in 12..24 {
            bed.go(&format!("2027-03-25 {hour}:00"));
            bed.tick();
        }
        let told = (at("2027-03-25 12:00"), Some(common::v(2)), Some(at("2027-03-26")));
        assert_eq!(lagging(used.key), [told], "once");
        assert_eq!(lagging(adopted.key), []);
        assert_eq!(lagging(unknown.key), [told], "nobody has used the successor");
        let adoption = bed.keys.adoption(adopted.key).unwrap().remove(0);
        assert_eq!(
            adoption.new.map(|new| (new.allowed, new.last_used)),
            Some((1, Some(at("2027-03-25 11:00"))))
        );
        assert_eq!(adoption.old.map(|old| (old.version, old.allowed)), Some((common::v(1), 0)));
        assert_eq!((adoption.silent.len(), adoption.as_of), (0, Some(at("2027-03-25 11:00"))));
        bed.go("2027-03-27");
        assert_eq!(bed.keys.adoption(used.key).unwrap()[0].silent.len(), 1);
    });
}

//! The tables of the lifecycle: each row with its guards, and what is recorded in its one commit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Bed, DAY, HOUR, at, new_key, on_both_stores, owner, v};
use keyrota::{
    Actor, ActorKind, DenialReason, EndReason, KeyId, LifecycleError, ManageError, NewKey, OwnerLimit,
    Prefix, Replace, Revoke, RollBack, RotateNow, RotationPolicy, RotationStatus, ScopeSet, Stage,
};

fn nobody() -> KeyId {
    "key_0000000000000000000001".parse().unwrap()
}

/// Each entry after a number was written in one commit, in this actor's name, with this reason and request id.
fn assert_recorded(bed: &Bed, after: (u64, u64), by: &str, expected: &[&str]) {
    assert_eq!(bed.story(after.0), expected);
    assert_eq!(revision(bed), after.1 + 1, "one commit");
    for entry in bed.entries(after.0) {
        let event = entry.event;
        assert_eq!((event.actor.to_string().as_str(), event.reason.as_deref()), (by, Some("why")));
        assert_eq!(event.request.as_ref().map(|id| id.as_str()), Some("req"));
    }
}

fn revision(bed: &Bed) -> u64 {
    bed.store.head().unwrap().unwrap().revision.0
}

fn now(bed: &Bed) -> (u64, u64) {
    (bed.seq(), revision(bed))
}

fn act(bed: &Bed) -> keyrota::Act<'_> {
    bed.keys.by(Actor::service("portal")).because("why").request("req")
}

#[test]
fn v1_an_issue_makes_an_active_version_unless_the_owner_is_suspended_or_full() {
    on_both_stores(|bed| {
        let before = now(&bed);
        let issued = act(&bed).issue(new_key("ci")).unwrap();
        let expected = ["owner_added", "key_issued v1 new=v1 until 2027-04-01"];
        assert_recorded(&bed, before, "service portal", &expected);
        assert_eq!(bed.stage(issued.key, 1), Stage::Active);
        let before = bed.seq();
        bed.issue("second");
        assert_eq!(bed.story(before), ["key_issued v1 new=v1 until 2027-04-01"], "the owner was there");
        let foreign = new_key("x").prefix(Prefix::new("acme").unwrap());
        assert!(matches!(bed.refused(|| bed.root().issue(foreign)), ManageError::PrefixNotAllowed(_)));
        bed.root().set_owner_limit(owner("ada"), Some(OwnerLimit::new(2).unwrap())).unwrap();
        let full = bed.refused(|| bed.root().issue(new_key("x")));
        assert!(
            matches!(full, ManageError::OwnerLimitReached { owner: told, limit } if told == owner("ada") && limit.get() == 2)
        );
        bed.root().suspend(owner("ada")).unwrap();
        assert_eq!(bed.forbidden(|| bed.root().issue(new_key("x"))), LifecycleError::OwnerSuspended);
    });
}

#[test]
fn v3_a_rotation_makes_the_successor_active_and_lets_the_old_version_run_out() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        bed.go("2027-02-01");
        let before = now(&bed);
        let rotated = act(&bed).rotate(issued.key).unwrap();
        let expected = [
            "version_issued v2 new=v2 until 2027-05-02",
            "version_deprecated v1 old=v1 until 2027-02-02",
            "key_rotation v2 old=v1 new=v2 until 2027-02-02",
        ];
        assert_recorded(&bed, before, "service portal", &expected);
        assert_eq!((rotated.version, rotated.old_version), (v(2), Some(v(1))));
        assert_eq!((bed.stage(issued.key, 1), bed.stage(issued.key, 2)), (Stage::Deprecated, Stage::Active));
        let rotation = bed.keys.rotations(issued.key).unwrap().remove(0);
        assert_eq!(
            (rotation.old, rotation.new, rotation.status),
            (Some(v(1)), Some(v(2)), RotationStatus::GracePeriod)
        );
        assert_eq!(
            (rotation.actor.to_string().as_str(), rotation.reason.as_deref()),
            ("service portal", Some("why"))
        );
        assert_eq!((rotation.started_at, rotation.finished_at), (Some(at("2027-02-01")), None));
        assert!(bed.is_granted(issued.token.expose()) && bed.is_granted(rotated.token.expose()));
    });
}

#[test]
fn v3_a_rotation_is_refused_while_one_is_open_and_for_a_key_that_is_over() {
    on_both_stores(|bed| {
        let open = bed.issue("open").key;
        bed.rotate(open);
        let until = at("2027-01-02");
        assert_eq!(bed.forbidden(|| bed.root().rotate(open)), LifecycleError::RotationOpen { until });
        bed.root().roll_back(open).unwrap();
        assert_eq!(bed.forbidden(|| bed.root().rotate(open)), LifecycleError::TooManyLive { until });
        let ended = bed.root().issue(new_key("ended").until(until)).unwrap().key;
        let revoked = bed.issue("revoked").key;
        bed.root().revoke(revoked).unwrap();
        bed.clock.set(until);
        assert_eq!(bed.forbidden(|| bed.root().rotate(ended)), LifecycleError::KeyEnded { at: until });
        assert_eq!(bed.forbidden(|| bed.root().rotate(revoked)), LifecycleError::KeyRevoked);
        assert!(matches!(bed.refused(|| bed.root().rotate(nobody())), ManageError::UnknownKey(_)));
        bed.root().suspend(owner("ada")).unwrap();
        assert_eq!(bed.forbidden(|| bed.root().rotate(open)), LifecycleError::OwnerSuspended);
        bed.root().resume(owner("ada")).unwrap();
        assert_eq!(bed.root().rotate(open).unwrap().version, v(3));
    });
}

#[test]
fn v6_a_deprecated_version_runs_out_without_a_successor_until_a_rotation_brings_one() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let before = now(&bed);
        act(&bed).deprecate(issued.key).unwrap();
        assert_recorded(&bed, before, "service portal", &["version_deprecated v1 old=v1 until 2027-01-02"]);
        assert_eq!(bed.forbidden(|| bed.root().deprecate(issued.key)), LifecycleError::NoActiveVersion);
        assert!(bed.validator.validate(issued.token.expose()).unwrap().is_deprecated());
        assert!(bed.keys.rotations(issued.key).unwrap().is_empty());
        let before = bed.seq();
        bed.rotate(issued.key);
        let expected =
            ["version_issued v2 new=v2 until 2027-04-01", "key_rotation v2 old=v1 new=v2 until 2027-01-02"];
        assert_eq!(bed.story(before), expected);
        bed.root().revoke(issued.key).unwrap();
        assert_eq!(bed.forbidden(|| bed.root().deprecate(issued.key)), LifecycleError::KeyRevoked);
    });
}

#[test]
fn v8_a_rotation_that_supersedes_ends_the_deprecated_version_at_once() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        bed.rotate(issued.key);
        bed.clock.advance(HOUR).unwrap();
        let before = now(&bed);
        act(&bed).rotate(RotateNow::of(issued.key).supersede()).unwrap();
        let expected = [
            "version_ended v1 old=v1 retired",
            "rotation_completed",
            "version_issued v3 new=v3 until 2027-04-01 01:00",
            "version_deprecated v2 old=v2 until 2027-01-02 01:00",
            "key_rotation v3 old=v2 new=v3 until 2027-01-02 01:00",
        ];
        assert_recorded(&bed, before, "service portal", &expected);
        assert_eq!(bed.denial(issued.token.expose()), Some(DenialReason::Retired));
        let statuses: Vec<_> = bed.keys.rotations(issued.key).unwrap().iter().map(|r| r.status).collect();
        assert_eq!(statuses, [RotationStatus::Completed, RotationStatus::GracePeriod]);
    });
}

#[test]
fn v9_a_rollback_makes_the_leaving_version_active_again_while_it_validates() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        assert_eq!(bed.forbidden(|| bed.root().roll_back(issued.key)), LifecycleError::NotRollbackable);
        bed.rotate(issued.key);
        bed.clock.set(at("2027-01-01T23:59:59.999999Z"));
        let before = now(&bed);
        act(&bed).roll_back(issued.key).unwrap();
        let expected = [
            "version_deprecated v2 old=v2 until 2027-01-02T23:59:59.999999Z",
            "version_reactivated v1 new=v1 until 2027-04-01",
            "rotation_rolled_back",
        ];
        assert_recorded(&bed, before, "service portal", &expected);
        let rotation = bed.keys.rotations(issued.key).unwrap().remove(0);
        assert_eq!(
            (rotation.status, rotation.finished_at),
            (RotationStatus::RolledBack, Some(bed.keys.now().unwrap()))
        );
        assert_eq!(bed.forbidden(|| bed.root().roll_back(issued.key)), LifecycleError::NotRollbackable);
        bed.go("2027-01-05");
        bed.rotate(issued.key);
        bed.go("2027-01-06");
        assert_eq!(bed.forbidden(|| bed.root().roll_back(issued.key)), LifecycleError::NotRollbackable);
        bed.go("2027-02-01");
        let leaked = bed.root().rotate(issued.key).unwrap();
        let before = now(&bed);
        bed.root().roll_back(RollBack::of(issued.key).compromised()).unwrap();
        let expected = [
            "version_ended v4 old=v4 revoked",
            "version_reactivated v3 new=v3 until 2027-04-05",
            "rotation_rolled_back",
        ];
        assert_recorded_but_for(&bed, before, &expected, "version_compromised v4 old=v4");
        assert_eq!(bed.denial(leaked.token.expose()), Some(DenialReason::Revoked));
        bed.root().replace(Replace::of(issued.key).grace(4 * HOUR)).unwrap();
        assert_eq!(bed.forbidden(|| bed.root().roll_back(issued.key)), LifecycleError::NotRollbackable);
    });
}

fn assert_recorded_but_for(bed: &Bed, after: (u64, u64), expected: &[&str], but_for: &str) {
    let story = bed.story(after.0);
    assert_eq!(story.iter().filter(|line| *line != but_for).collect::<Vec<_>>(), expected);
    assert_eq!(revision(bed), after.1 + 1);
}

#[test]
fn v11_a_deadline_is_recorded_after_the_fact_with_its_own_time_by_the_library_itself() {
    on_both_stores(|bed| {
        let (ticked, acted) = (bed.issue("ticked").key, bed.issue("acted").key);
        for key in [ticked, acted] {
            bed.rotate(key);
        }
        bed.go("2027-01-03");
        let plan = bed.keys.plan(at("2027-01-03")).unwrap();
        let before = bed.seq();
        bed.root().edit(keyrota::EditKey::of(acted).name("renamed").unwrap()).unwrap();
        let by_the_act = bed.entries(before);
        let before = bed.seq();
        let report = bed.keys.tick().unwrap();
        assert_eq!((report.retired, report.completed, report.more), (1, 1, false));
        assert_eq!(plan.events.len(), 4, "the plan was for both");
        for entries in [&by_the_act[..2], &bed.entries(before)] {
            let lines: Vec<_> = entries.iter().map(|entry| bed.line(&entry.event)).collect();
            assert_eq!(lines, ["version_ended v1 old=v1 retired", "rotation_completed"]);
            for entry in entries {
                assert_eq!((entry.event.at, entry.event.actor.kind()), (at("2027-01-02"), ActorKind::System));
                assert_eq!((&entry.event.reason, &entry.event.request), (&None, &None));
            }
        }
        for key in [ticked, acted] {
            let rotation = bed.keys.rotations(key).unwrap().remove(0);
            assert_eq!(
                (rotation.status, rotation.finished_at),
                (RotationStatus::Completed, Some(at("2027-01-02")))
            );
            assert_eq!(bed.keys.get(key).unwrap().versions[0].end_reason, Some(EndReason::Retired));
        }
        let head = bed.store.head().unwrap();
        assert!(!bed.keys.tick().unwrap().more);
        assert_eq!(bed.store.head().unwrap(), head);
    });
}

#[test]
fn v12_a_revocation_ends_every_version_and_its_repetition_writes_nothing() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let second = bed.rotate(issued.key);
        let before = now(&bed);
        act(&bed).revoke(issued.key).unwrap();
        let expected = [
            "key_revoked",
            "version_ended v1 old=v1 revoked",
            "version_ended v2 old=v2 revoked",
            "rotation_cancelled",
        ];
        assert_recorded(&bed, before, "service portal", &expected);
        for token in [issued.token.expose(), &second] {
            assert_eq!(bed.denial(token), Some(DenialReason::Revoked));
        }
        let head = bed.store.head().unwrap();
        bed.root().revoke(issued.key).unwrap();
        bed.root().revoke((issued.key, v(1))).unwrap();
        act(&bed).revoke(issued.key).unwrap();
        assert_eq!(bed.store.head().unwrap(), head);
        bed.root().revoke(Revoke::of(issued.key).compromised()).unwrap();
        let expected = ["version_compromised v1 old=v1", "version_compromised v2 old=v2"];
        assert_eq!(bed.story(before.0 + 4), expected);
        assert!(matches!(bed.refused(|| bed.root().revoke(nobody())), ManageError::UnknownKey(_)));
        assert!(matches!(bed.refused(|| bed.root().revoke(owner("nobody"))), ManageError::UnknownOwner(_)));
        let none = bed.forbidden(|| bed.root().revoke((issued.key, v(9))));
        assert_eq!(none, LifecycleError::NoSuchVersion(v(9)));
    });
}

#[test]
fn v12_a_revocation_reaches_ended_versions_single_versions_and_all_keys_of_an_owner() {
    on_both_stores(|bed| {
        let (ended, other) =
            (bed.root().issue(new_key("ended").lifetime(2 * DAY)).unwrap(), bed.issue("other"));
        let eve = bed.root().issue(NewKey::new(owner("eve"), "ci").unwrap()).unwrap();
        bed.go("2027-01-04");
        bed.tick();
        let before = bed.seq();
        bed.root().revoke((ended.key, v(1))).unwrap();
        assert_eq!(bed.story(before), ["version_ended v1 old=v1 revoked"]);
        let version = &bed.keys.get(ended.key).unwrap().versions[0];
        assert_eq!(
            (version.ended_at, version.end_reason),
            (Some(at("2027-01-03")), Some(EndReason::Revoked))
        );
        assert_eq!(bed.denial(ended.token.expose()), Some(DenialReason::Revoked));
        let second = bed.rotate(other.key);
        bed.root().revoke((other.key, v(1))).unwrap();
        assert_eq!(bed.denial(other.token.expose()), Some(DenialReason::Revoked));
        assert!(bed.is_granted(&second), "the other version goes on");
        bed.root().revoke(owner("ada")).unwrap();
        assert_eq!(bed.denial(&second), Some(DenialReason::Revoked));
        assert!(bed.is_granted(eve.token.expose()));
    });
}

#[test]
fn nothing_revives_a_revoked_key_or_version() {
    on_both_stores(|bed| {
        let (key, half) = (bed.issue("key"), bed.issue("half"));
        for key in [key.key, half.key] {
            bed.rotate(key);
        }
        bed.root().revoke(key.key).unwrap();
        bed.root().revoke((half.key, v(1))).unwrap();
        let acts: [&dyn Fn() -> Result<(), ManageError>; 6] = [
            &|| bed.root().rotate(key.key).map(drop),
            &|| bed.root().rotate(RotateNow::of(key.key).supersede()).map(drop),
            &|| bed.root().replace(key.key).map(drop),
            &|| bed.root().roll_back(key.key).map(drop),
            &|| bed.root().deprecate(key.key).map(drop),
            &|| bed.root().edit(keyrota::EditKey::of(key.key).scopes(ScopeSet::EMPTY)).map(drop),
        ];
        for act in acts {
            assert_eq!(bed.forbidden(act), LifecycleError::KeyRevoked);
        }
        assert_eq!(bed.forbidden(|| bed.root().roll_back(half.key)), LifecycleError::NotRollbackable);
        bed.root().suspend(owner("ada")).unwrap();
        bed.root().resume(owner("ada")).unwrap();
        bed.root().set_policy(RotationPolicy::builder().lifetime(365 * DAY).build().unwrap()).unwrap();
        bed.tick_to(at("2027-01-20"));
        bed.go("2026-12-31");
        for validator in [&bed.validator, &bed.other_validator()] {
            for token in [&key.token, &half.token] {
                let denial = validator.validate(token.expose()).unwrap_err();
                assert_eq!(denial.reason(), DenialReason::Revoked);
            }
        }
    });
}

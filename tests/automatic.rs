//! The rows of the lifecycle's tables that run by themselves: what begins a rotation and what keeps it from beginning, the
//! sink's turns, first uses, and what is recorded in each one commit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod rotating;

use std::sync::Arc;
use std::time::Duration;

use common::{Bed, DAY, HOUR, at, keyring, new_key, on_both_places, on_both_stores, owner, v};
use keyrota::{
    Act, Actor, ActorKind, Claim, Claimant, Clock as _, ClockStart, Delivery, DenialReason, EventKind, KeyId,
    KeyManager, LifecycleError, NewKey, RotationFailure, RotationPolicy, RotationStatus, SinkError, Stage,
};
use rotating::{FlakySink, claim_id};

const MINUTE: Duration = Duration::from_secs(60);

fn act(bed: &Bed) -> Act<'_> {
    bed.keys.by(Actor::service("portal")).because("why").request("req")
}

fn revision(bed: &Bed) -> u64 {
    bed.store.head().unwrap().unwrap().revision.0
}

/// What was recorded in one commit, in this actor's name.
fn assert_recorded(bed: &Bed, (seq, before): (u64, u64), by: &str, expected: &[&str]) {
    assert_eq!(bed.story(seq), expected);
    assert_eq!(revision(bed), before + 1, "one commit");
    for entry in bed.entries(seq) {
        assert_eq!(entry.event.actor.to_string(), by);
    }
}

fn auto(bed: &Bed, new: NewKey) -> KeyId {
    bed.root().issue(new.auto_rotation(true)).unwrap().key
}

/// Whether a tick now would begin a rotation of a key.
fn begins(bed: &Bed, key: KeyId) -> bool {
    let plan = bed.keys.plan(bed.clock.now()).unwrap();
    plan.events.iter().any(|event| event.kind == EventKind::RotationStarted && event.key == Some(key))
}

#[test]
fn v2_a_tick_makes_a_successor_that_waits_in_one_commit() {
    on_both_stores(|bed| {
        let key = auto(&bed, new_key("ci"));
        bed.tick_to(at("2027-03-24"));
        bed.go("2027-03-25");
        let before = (bed.seq(), revision(&bed));
        let report = bed.keys.tick().unwrap();
        assert_eq!((report.started, report.offered, report.activated, report.more), (1, 0, 0, false));
        let expected = [
            "version_minted v2 new=v2 until 2027-06-23",
            "rotation_started v2 old=v1 new=v2 until 2027-06-16",
        ];
        assert_recorded(&bed, before, "system keyrota", &expected);
        let rotation = bed.keys.rotations(key).unwrap().remove(0);
        assert_eq!((rotation.old, rotation.new), (Some(v(1)), Some(v(2))));
        assert_eq!((rotation.status, rotation.actor.kind()), (RotationStatus::InProgress, ActorKind::System));
        assert_eq!(rotation.reason.as_deref(), Some("Scheduled rotation"));
        assert_eq!((rotation.due_at, rotation.started_at), (Some(at("2027-03-25")), Some(at("2027-03-25"))));
        assert_eq!((rotation.claim_by, rotation.delivered_at), (Some(at("2027-06-16")), None));
        assert_eq!(rotation.delivery, Some(Delivery::Sealed { claimant: Claimant::Holder }));
        assert_eq!((bed.stage(key, 1), bed.stage(key, 2)), (Stage::Active, Stage::Pending));
        assert_eq!(report.next_due, Some(at("2027-04-01")));
    });
}

#[test]
fn v2_what_keeps_a_rotation_from_beginning() {
    on_both_stores(|bed| {
        let keys = [
            auto(&bed, new_key("plain")),
            bed.issue("off").key,
            auto(&bed, new_key("revoked")),
            auto(&bed, new_key("ends").until(at("2027-04-01"))),
            auto(&bed, new_key("scheduled")),
            auto(&bed, new_key("cancelled")),
            auto(&bed, NewKey::new(owner("eve"), "suspended").unwrap()),
            auto(&bed, new_key("runs out")),
        ];
        let [plain, off, revoked, ends, scheduled, cancelled, suspended, runs_out] = keys;
        bed.root().revoke(revoked).unwrap();
        bed.root().schedule(scheduled, at("2027-03-30")).unwrap();
        bed.root().suspend(owner("eve")).unwrap();
        bed.tick_to(at("2027-03-20"));
        bed.root().deprecate(runs_out).unwrap();
        bed.root().schedule(cancelled, at("2027-03-24")).unwrap();
        bed.root().cancel(cancelled).unwrap();
        bed.go("2027-03-24T23:59:59.999999Z");
        assert!(keys.iter().all(|key| !begins(&bed, *key)), "not before its time");
        bed.go("2027-03-25");
        let begun: Vec<_> = keys.iter().filter(|key| begins(&bed, **key)).collect();
        assert_eq!(begun, [&plain, &scheduled], "a schedule never puts off what is due by itself");
        let plan = bed.keys.plan(bed.clock.now()).unwrap();
        assert_eq!(plan.deferred, [suspended]);
        let report = bed.keys.tick().unwrap();
        assert_eq!((report.started, report.deferred, report.more), (2, 1, false));
        bed.go("2027-03-26");
        assert!(begins(&bed, cancelled), "held back for half of what was left");
        bed.tick();
        assert!(
            !begins(&bed, plain) && !begins(&bed, off) && !begins(&bed, ends),
            "one is open; off; at its end"
        );
        bed.root().resume(owner("eve")).unwrap();
        assert!(begins(&bed, suspended));
    });
}

#[test]
fn v2_a_key_whose_own_end_has_passed_unnoticed_is_not_rotated_late() {
    on_both_stores(|bed| {
        let policy = RotationPolicy::builder().rotate_every(12 * DAY).overlap(DAY).build().unwrap();
        let new = || new_key("ci").policy(policy).auto_rotation(true).until(at("2027-02-20"));
        let [plain, scheduled] = [new(), new()].map(|new| bed.root().issue(new).unwrap().key);
        bed.tick();
        bed.root().schedule(scheduled, at("2027-01-12")).unwrap();
        bed.go("2027-01-31");
        // The tick of this moment was missed, too.
        bed.go("2027-02-20");
        bed.root().confirm_clock(at("2027-02-20")).unwrap();
        let report = bed.keys.tick().unwrap();
        assert_eq!((report.started, report.failed, report.lapsed, report.more), (0, 0, 2, false));
        let revision = bed.store.head().unwrap().unwrap().revision;
        assert!(bed.keys.tick().unwrap().next_due.is_none_or(|due| due > at("2027-02-20")));
        assert_eq!(bed.store.head().unwrap().unwrap().revision, revision, "a second tick writes nothing");
        for key in [plain, scheduled] {
            assert_eq!(bed.keys.get(key).unwrap().versions.len(), 1);
        }
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn v2_no_more_versions_are_made_than_may_be_valid() {
    on_both_stores(|bed| {
        let policy = RotationPolicy::builder().overlap(7 * DAY).build().unwrap();
        let key = auto(&bed, new_key("ci").policy(policy));
        bed.tick_to(at("2027-03-24"));
        bed.rotate(key);
        bed.root().roll_back(key).unwrap();
        bed.tick_to(at("2027-03-30"));
        assert_eq!(bed.keys.plan(at("2027-03-30")).unwrap().deferred, [key]);
        assert_eq!(bed.keys.get(key).unwrap().versions.len(), 2);
        bed.tick_to(at("2027-03-31"));
        assert_eq!(bed.keys.get(key).unwrap().versions.len(), 3, "once the other one has ended");
    });
}

#[test]
fn v5_a_claim_and_what_it_begins_are_one_commit_in_the_claimant_s_name() {
    on_both_stores(|bed| {
        let issued = bed.root().issue(new_key("ci").auto_rotation(true)).unwrap();
        bed.tick_to(at("2027-03-25"));
        let before = (bed.seq(), revision(&bed));
        act(&bed).claim(Claim::with_token(issued.token.expose(), claim_id("the client's own"))).unwrap();
        let expected = [
            "version_claimed v2 old=v1 new=v2",
            "version_deprecated v1 old=v1 until 2027-03-26",
            "version_activated v2 new=v2 until 2027-06-23",
            "key_rotation v2 old=v1 new=v2 until 2027-03-26",
        ];
        assert_recorded(&bed, before, "service portal", &expected);
        let rotation = bed.keys.rotations(issued.key).unwrap().remove(0);
        assert_eq!(rotation.status, RotationStatus::GracePeriod);
        assert_eq!(
            (rotation.delivered_at, rotation.grace_end),
            (Some(at("2027-03-25")), Some(at("2027-03-26")))
        );
    });
}

#[test]
fn v7_of_several_processes_that_see_the_first_use_one_records_it() {
    on_both_stores(|bed| {
        let policy = RotationPolicy::builder().clock_starts(ClockStart::FromFirstUse).build().unwrap();
        let key = bed.root().issue(new_key("ci").policy(policy)).unwrap().key;
        let before = (bed.seq(), revision(&bed));
        let second = act(&bed).rotate(key).unwrap().token;
        let expected = [
            "version_minted v2 new=v2 until 2027-04-01",
            "version_delivered v2 new=v2",
            "rotation_started v2 old=v1 new=v2 until 2027-04-01",
        ];
        assert_recorded(&bed, before, "service portal", &expected);
        let open = bed.forbidden(|| bed.root().rotate(key));
        assert_eq!(open, LifecycleError::RotationOpen { until: at("2027-04-01") });
        let others: Vec<_> = (0..3).map(|_| bed.other_validator()).collect();
        for validator in &others {
            validator.validate(second.expose()).unwrap();
        }
        let before = (bed.seq(), revision(&bed));
        for validator in &others {
            validator.flush().unwrap();
        }
        let expected = [
            "version_first_used v2 new=v2",
            "version_deprecated v1 old=v1 until 2027-01-02",
            "version_activated v2 new=v2 until 2027-04-01",
            "key_rotation v2 old=v1 new=v2 until 2027-01-02",
        ];
        assert_recorded(&bed, before, "system keyrota", &expected);
        bed.validator.flush().unwrap();
        assert_eq!(revision(&bed), before.1 + 1);
    });
}

#[test]
fn v7_a_first_use_that_cannot_be_recorded_is_recorded_by_the_next_flush() {
    on_both_stores(|bed| {
        let policy = RotationPolicy::builder().clock_starts(ClockStart::FromFirstUse).build().unwrap();
        let key = bed.root().issue(new_key("ci").policy(policy)).unwrap().key;
        let second = bed.rotate(key);
        assert!(bed.is_granted(&second));
        bed.root().suspend(owner("ada")).unwrap();
        bed.validator.flush().unwrap();
        assert_eq!(bed.stage(key, 2), Stage::Pending, "nothing is activated while the owner is suspended");
        bed.root().resume(owner("ada")).unwrap();
        bed.validator.flush().unwrap();
        assert_eq!(bed.stage(key, 2), Stage::Active);
    });
}

#[test]
fn v10_a_successor_that_was_handed_over_goes_by_an_explicit_act_only() {
    on_both_stores(|bed| {
        let policy = RotationPolicy::builder().clock_starts(ClockStart::FromFirstUse).build().unwrap();
        let key = bed.root().issue(new_key("ci").policy(policy)).unwrap().key;
        let second = bed.rotate(key);
        bed.tick_to(at("2027-03-31"));
        assert!(bed.is_granted(&second));
        assert_eq!(bed.forbidden(|| bed.root().roll_back(key)), LifecycleError::NotRollbackable);
        let before = (bed.seq(), revision(&bed));
        act(&bed).cancel(key).unwrap();
        let expected = ["version_ended v2 old=v2 cancelled", "rotation_cancelled"];
        assert_recorded(&bed, before, "service portal", &expected);
        assert_eq!(bed.forbidden(|| bed.root().cancel(key)), LifecycleError::NothingToCancel);
        assert!(!bed.is_granted(&second));
    });
}

#[test]
fn a_superseding_rotation_withdraws_the_successor_that_waits() {
    on_both_stores(|bed| {
        let key = auto(&bed, new_key("ci"));
        bed.tick_to(at("2027-03-25"));
        let until = at("2027-06-16");
        assert_eq!(bed.forbidden(|| bed.root().rotate(key)), LifecycleError::RotationOpen { until });
        let before = (bed.seq(), revision(&bed));
        act(&bed).rotate(keyrota::RotateNow::of(key).supersede()).unwrap();
        let expected = [
            "version_ended v2 old=v2 cancelled",
            "rotation_cancelled",
            "version_issued v3 new=v3 until 2027-06-23",
            "version_deprecated v1 old=v1 until 2027-03-26",
            "key_rotation v3 old=v1 new=v3 until 2027-03-26",
        ];
        assert_recorded(&bed, before, "service portal", &expected);
    });
}

fn bed_with_sink(place: common::Place, sink: &FlakySink) -> rotating::Bed {
    rotating::Bed::with_sink(place, sink.clone())
}

fn for_sink() -> RotationPolicy {
    RotationPolicy::builder().delivery(Delivery::Sink).build().unwrap()
}

/// A key whose successor a sink was offered on 03-25, and did not take.
fn refused(place: common::Place, why: SinkError) -> (FlakySink, rotating::Bed, KeyId) {
    let sink = FlakySink::default();
    let bed = bed_with_sink(place, &sink);
    let key = auto(&bed, new_key("ci").policy(for_sink()));
    sink.answer(Err(why));
    bed.tick_to(at("2027-03-25"));
    (sink, bed, key)
}

#[test]
fn v4_what_the_sink_refuses_is_put_again_after_ever_longer_pauses_and_validates_all_the_while() {
    on_both_places(|place| {
        let (sink, bed, key) = refused(place, SinkError::Refused);
        assert_eq!(sink.puts(), 1);
        assert!(bed.is_granted(&sink.tokens()[0]), "it is offered before it is put");
        let mut minutes = Vec::new();
        for minute in 1..=200 {
            let puts = sink.puts();
            bed.clock.advance(MINUTE).unwrap();
            bed.keys.tick().unwrap();
            minutes.extend((sink.puts() > puts).then_some(minute));
        }
        assert_eq!(minutes, [1, 3, 7, 15, 31, 63, 123, 183]);
        assert_eq!(sink.tokens().len(), 1);
        let told = bed.entries(0).into_iter().filter(|entry| entry.event.kind == EventKind::DeliveryFailing);
        assert_eq!(told.count(), 1);
        let rotation = bed.keys.rotations(key).unwrap().remove(0);
        assert_eq!((rotation.attempts, rotation.status), (9, RotationStatus::InProgress));
        assert_eq!(bed.stage(key, 1), Stage::Active, "nothing was retired");
        sink.answer(Ok(()));
        bed.clock.advance(HOUR).unwrap();
        let report = bed.keys.tick().unwrap();
        assert_eq!((report.activated, report.retried), (1, 1));
        assert_eq!(bed.stage(key, 2), Stage::Active);
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn v4_a_sink_that_panics_has_not_taken_the_secret_and_keeps_nothing_else_waiting() {
    on_both_places(|place| {
        let sink = FlakySink::default();
        let bed = bed_with_sink(place, &sink);
        let (key, other) = (auto(&bed, new_key("ci").policy(for_sink())), auto(&bed, new_key("other")));
        sink.panic_from_now_on(true);
        bed.tick_to(at("2027-03-25"));
        assert_eq!((bed.stage(key, 2), bed.stage(other, 2)), (Stage::Pending, Stage::Pending));
        sink.panic_from_now_on(false);
        bed.clock.advance(MINUTE).unwrap();
        bed.tick();
        assert_eq!(bed.stage(key, 2), Stage::Active);
    });
}

#[test]
fn v4_a_delivery_is_one_process_s_turn_until_its_lease_is_over() {
    on_both_places(|place| {
        let sink = FlakySink::default();
        let bed = bed_with_sink(place, &sink);
        let key = auto(&bed, new_key("ci").policy(for_sink()));
        bed.tick_to(at("2027-03-24"));
        let second =
            KeyManager::builder(bed.place.open(), keyring()).clock(bed.clock.clone()).sink(sink.clone());
        let second = Arc::new(second.open().unwrap());
        // While the first has its turn, the second ticks.
        let inner = Arc::clone(&second);
        let nested = Nested(Box::new(move || assert!(!inner.tick().unwrap().more)), sink.clone());
        let first = KeyManager::builder(bed.place.open(), keyring()).clock(bed.clock.clone()).sink(nested);
        let first = first.open().unwrap();
        bed.go("2027-03-25");
        first.tick().unwrap();
        assert_eq!(sink.puts(), 1, "two puts at once");
        assert_eq!(bed.stage(key, 2), Stage::Active);
    });
}

struct Nested(Box<dyn Fn() + Send + Sync>, FlakySink);

impl keyrota::SecretSink for Nested {
    fn put(&self, handover: &keyrota::Handover<'_>) -> Result<(), SinkError> {
        (self.0)();
        self.1.put(handover)
    }
}

#[test]
fn a_tick_without_a_sink_leaves_deliveries_to_others() {
    on_both_stores(|bed| {
        let key = auto(&bed, new_key("ci").policy(for_sink()));
        bed.tick_to(at("2027-03-25"));
        let plan = bed.keys.plan(at("2027-03-25")).unwrap();
        assert_eq!(plan.deliveries.iter().map(|delivery| delivery.key).collect::<Vec<_>>(), [key]);
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["deliveries"][0]["key"], key.to_string());
        assert_eq!(
            (json["clock"].as_str(), json["at"].as_i64()),
            (Some("steady"), Some(at("2027-03-25").unix_micros()))
        );
        let head = bed.store.head().unwrap();
        assert!(!bed.keys.tick().unwrap().more);
        assert_eq!(bed.store.head().unwrap(), head);
        let sink = FlakySink::default();
        let other =
            KeyManager::builder(bed.place.open(), keyring()).clock(bed.clock.clone()).sink(sink.clone());
        other.open().unwrap().tick().unwrap();
        assert_eq!((sink.puts(), bed.stage(key, 2)), (1, Stage::Active));
    });
}

#[test]
fn a_sink_that_never_acknowledges_fails_the_rotation_and_the_key_lapses() {
    on_both_places(|place| {
        let (sink, bed, key) = refused(place, SinkError::Unavailable);
        bed.tick_to(at("2027-06-16"));
        let rotation = bed.keys.rotations(key).unwrap().remove(0);
        assert_eq!(
            (rotation.status, rotation.failure),
            (RotationStatus::Failed, Some(RotationFailure::Undelivered))
        );
        bed.tick_to(at("2027-12-01"));
        assert_eq!(bed.keys.get(key).unwrap().versions.len(), 2, "nothing more is made by itself");
        bed.rotate(key);
        sink.answer(Ok(()));
        bed.tick_to(at("2028-03-01"));
        assert_eq!(bed.keys.get(key).unwrap().versions.len(), 4, "once somebody acted, it goes on");
    });
}

#[test]
fn v10_what_a_sink_was_offered_validates_for_as_long_as_its_grants_say_and_no_longer_without_a_tick() {
    on_both_places(|place| {
        let (sink, bed, key) = refused(place, SinkError::Unavailable);
        let offered = sink.tokens().pop().unwrap();
        let until = at("2027-06-16");
        let grant = bed.validator.validate(&offered).unwrap();
        assert_eq!(grant.valid_until(), Some(until));
        assert_eq!(bed.keys.get(key).unwrap().versions[1].ends_at, Some(until));
        bed.tick_to(until.minus_or_min(Duration::from_micros(1)));
        bed.validator.validate(&offered).unwrap();
        bed.clock.set(until);
        let reason = || bed.validator.validate(&offered).unwrap_err().reason();
        assert_eq!(reason(), DenialReason::Cancelled);
        bed.tick();
        assert_eq!(bed.stage(key, 2), Stage::Ended);
        assert_eq!(reason(), DenialReason::Cancelled, "the tick records what was so");
        // Taken over in time, it lasts as long as any other.
        let key = auto(&bed, new_key("other").policy(for_sink()));
        sink.answer(Ok(()));
        bed.tick_to(bed.clock.now().plus(84 * DAY).unwrap());
        let taken = bed.keys.get(key).unwrap().versions.remove(1);
        assert_eq!(taken.ends_at, Some(taken.issued_at.plus(90 * DAY).unwrap()));
    });
}

#[cfg(feature = "sqlite")]
#[test]
fn several_processes_that_tick_at_once_make_one_successor_for_each_key() {
    let bed = Bed::at(common::Place::sqlite(), at(common::START));
    bed.root().set_default_owner_limit(keyrota::OwnerLimit::new(100).unwrap()).unwrap();
    let keys: Vec<_> = (0..60).map(|n| auto(&bed, new_key(&format!("k{n}")))).collect();
    bed.tick_to(at("2027-03-24"));
    bed.go("2027-03-25");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let keys = KeyManager::builder(bed.place.open(), keyring()).clock(bed.clock.clone());
                let keys = keys.open().unwrap();
                while keys.tick().unwrap().more {}
            });
        }
    });
    for key in keys {
        assert_eq!(bed.keys.get(key).unwrap().versions.len(), 2);
        assert_eq!(bed.keys.rotations(key).unwrap().len(), 1);
    }
    assert!(bed.keys.check(None).unwrap().is_sound());
}

#[test]
fn v5_a_service_that_uses_what_it_was_offered_has_it_whatever_became_of_the_acknowledgement() {
    on_both_places(|place| {
        let (sink, bed, key) = refused(place, SinkError::Unavailable);
        assert_eq!(bed.stage(key, 2), Stage::Pending);
        assert!(bed.is_granted(&sink.tokens()[0]));
        bed.validator.flush().unwrap();
        assert_eq!((bed.stage(key, 1), bed.stage(key, 2)), (Stage::Deprecated, Stage::Active));
        let puts = sink.puts();
        bed.tick_to(at("2027-06-16"));
        assert!(bed.is_granted(&sink.tokens()[0]), "nobody takes it away");
        assert_eq!(sink.puts(), puts + 1, "only its successor is put");
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

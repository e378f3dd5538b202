//! Whole stories of automatic rotation as golden tests, on both stores: what was recorded (`+`, with its own time where
//! that is earlier), and what a validation answers whenever that has changed, also before the tick of that moment.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod rotating;

use common::{at, new_key, on_both_places};
use keyrota::{ClockState, Delivery, RotationPolicy, RotationStatus, SinkError};
use rotating::{Bed, FlakySink, Timeline};

#[test]
fn timeline_1_the_default() {
    on_both_places(|place| {
        let mut timeline = Timeline::new(Bed::new(place), new_key("ci").auto_rotation(true));
        timeline.pass_to("2027-03-27 10:00");
        timeline.claim("the client's claim R");
        timeline.pass_to("2027-03-27 10:05");
        timeline.claim("the client's claim R");
        timeline.pass_to("2027-03-28 11:00");
        timeline.pass_to("2027-06-16");
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-04-01
  v1 granted until 2027-04-01
2027-03-25 tick
  + version_minted v2 new=v2 until 2027-06-23
  + rotation_started v2 old=v1 new=v2 until 2027-06-16
  v1 granted until 2027-04-01, successor until 2027-06-16
2027-03-27 10:00 claim \"the client's claim R\"
  + version_claimed v2 old=v1 new=v2 (holder)
  + version_deprecated v1 old=v1 until 2027-03-28 10:00
  + version_activated v2 new=v2 until 2027-06-23
  + key_rotation v2 old=v1 new=v2 until 2027-03-28 10:00
  v1 deprecated until 2027-03-28 10:00
  v2 granted until 2027-06-23
2027-03-28 10:05 passes
  v1 denied: superseded, and its grace is over
2027-03-28 10:05 tick
  + version_ended v1 old=v1 retired at 2027-03-28 10:00
  + rotation_completed at 2027-03-28 10:00
2027-04-27 11:00 passes
  v1 denied: unknown token
2027-06-16 tick
  + version_minted v3 new=v3 until 2027-09-14
  + rotation_started v3 old=v2 new=v3 until 2027-09-07
  v2 granted until 2027-06-23, successor until 2027-09-07
",
        );
    });
}

#[test]
fn timeline_2_the_two_newest_are_kept() {
    on_both_places(|place| {
        let new = new_key("ci").auto_rotation(true).policy(RotationPolicy::keep_two_newest());
        let mut timeline = Timeline::new(Bed::new(place), new);
        timeline.pass_to("2027-04-03");
        timeline.claim("the first claim of v1");
        timeline.pass_to("2027-06-30 12:00");
        timeline.claim("the second claim, by v2");
        timeline.pass_to("2027-07-01 01:00");
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-07-01
  v1 granted until 2027-07-01
2027-04-01 tick
  + version_minted v2 new=v2 until 2027-09-29
  + rotation_started v2 old=v1 new=v2 until 2027-06-30
  v1 granted until 2027-07-01, successor until 2027-06-30
2027-04-03 claim \"the first claim of v1\"
  + version_claimed v2 old=v1 new=v2 (holder)
  + version_deprecated v1 old=v1 until 2027-07-01
  + version_activated v2 new=v2 until 2027-09-29
  + key_rotation v2 old=v1 new=v2
  + rotation_completed
  v1 deprecated until 2027-07-01
  v2 granted until 2027-09-29
2027-06-30 tick
  + version_minted v3 new=v3 until 2027-12-28
  + rotation_started v3 old=v2 new=v3 until 2027-09-28
  v2 granted until 2027-09-29, successor until 2027-09-28
2027-06-30 12:00 claim \"the second claim, by v2\"
  + version_claimed v3 old=v2 new=v3 (holder)
  + version_deprecated v1 old=v1 until 2027-07-01
  + version_deprecated v2 old=v2 until 2027-09-29
  + version_activated v3 new=v3 until 2027-12-28
  + key_rotation v3 old=v2 new=v3 until 2027-07-01
  v2 deprecated until 2027-09-29
  v3 granted until 2027-12-28
2027-07-01 passes
  v1 denied: expired
2027-07-01 tick
  + version_ended v1 old=v1 expired
  + rotation_completed
",
        );
    });
}

fn first_use() -> RotationPolicy {
    RotationPolicy::builder().clock_starts(keyrota::ClockStart::FromFirstUse).build().unwrap()
}

#[test]
fn timeline_3_the_old_version_s_time_counts_from_the_first_use() {
    on_both_places(|place| {
        let new = new_key("ci").auto_rotation(true).policy(first_use());
        let mut timeline = Timeline::new(Bed::new(place), new);
        timeline.pass_to("2027-03-27");
        timeline.claim("the client's claim R");
        timeline.pass_to("2027-03-29 09:00");
        timeline.use_and_die("v2", 1);
        timeline.use_and_flush("v2", 1);
        timeline.pass_to("2027-03-30 10:00");
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-04-01
  v1 granted until 2027-04-01
2027-03-25 tick
  + version_minted v2 new=v2 until 2027-06-23
  + rotation_started v2 old=v1 new=v2 until 2027-06-16
  v1 granted until 2027-04-01, successor until 2027-06-16
2027-03-27 claim \"the client's claim R\"
  + version_claimed v2 old=v1 new=v2 (holder)
  + version_delivered v2 new=v2
  v1 granted until 2027-04-01
  v2 granted until 2027-06-23
2027-03-29T09:00:40Z v2 was used, and that is flushed
  + version_first_used v2 new=v2
  + version_deprecated v1 old=v1 until 2027-03-30T09:00:40Z
  + version_activated v2 new=v2 until 2027-06-23
  + key_rotation v2 old=v1 new=v2 until 2027-03-30T09:00:40Z
  v1 deprecated until 2027-03-30T09:00:40Z
2027-03-30T09:00:40Z passes
  v1 denied: superseded, and its grace is over
2027-03-30T09:00:40Z tick
  + version_ended v1 old=v1 retired
  + rotation_completed
",
        );
    });
}

#[test]
fn timeline_3_a_successor_that_nobody_uses_is_active_when_the_old_version_has_ended() {
    on_both_places(|place| {
        let new = new_key("ci").auto_rotation(true).policy(first_use());
        let mut timeline = Timeline::new(Bed::new(place), new);
        timeline.pass_to("2027-03-27");
        timeline.claim("the client's claim R");
        timeline.pass_to("2027-04-01 01:00");
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-04-01
  v1 granted until 2027-04-01
2027-03-25 tick
  + version_minted v2 new=v2 until 2027-06-23
  + rotation_started v2 old=v1 new=v2 until 2027-06-16
  v1 granted until 2027-04-01, successor until 2027-06-16
2027-03-27 claim \"the client's claim R\"
  + version_claimed v2 old=v1 new=v2 (holder)
  + version_delivered v2 new=v2
  v1 granted until 2027-04-01
  v2 granted until 2027-06-23
2027-04-01 passes
  v1 denied: expired
2027-04-01 tick
  + version_ended v1 old=v1 expired
  + version_activated v2 new=v2 until 2027-06-23
  + key_rotation v2 old=v1 new=v2
  + rotation_completed
",
        );
    });
}

#[test]
fn timeline_4_the_client_never_claims_and_the_owner_does_late() {
    on_both_places(|place| {
        let mut timeline = Timeline::new(Bed::new(place), new_key("ci").auto_rotation(true));
        timeline.pass_to("2027-05-10");
        timeline.claim("the client comes too late");
        timeline.claim_for_owner("the owner's claim of v2");
        timeline.pass_to("2027-05-11");
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-04-01
  v1 granted until 2027-04-01
2027-03-25 tick
  + version_minted v2 new=v2 until 2027-06-23
  + rotation_started v2 old=v1 new=v2 until 2027-06-16
  v1 granted until 2027-04-01, successor until 2027-06-16
2027-04-01 passes
  v1 denied: expired
2027-04-01 tick
  + version_ended v1 old=v1 expired
2027-05-01 passes
  v1 denied: unknown token
2027-05-10 claim \"the client comes too late\": NotClaimable
2027-05-10 claim \"the owner's claim of v2\"
  + version_claimed v2 new=v2 (owner)
  + version_activated v2 new=v2 until 2027-06-23
  + key_rotation v2 old=v1 new=v2
  + rotation_completed
  v2 granted until 2027-06-23
",
        );
    });
}

#[test]
fn timeline_4_nobody_ever_claims() {
    on_both_places(|place| {
        let mut timeline = Timeline::new(Bed::new(place), new_key("ci").auto_rotation(true));
        timeline.pass_to("2027-06-16");
        timeline.claim_for_owner("the owner comes too late");
        timeline.pass_to("2027-12-01");
        let sealed = timeline.sealed_copies();
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-04-01
  v1 granted until 2027-04-01
2027-03-25 tick
  + version_minted v2 new=v2 until 2027-06-23
  + rotation_started v2 old=v1 new=v2 until 2027-06-16
  v1 granted until 2027-04-01, successor until 2027-06-16
2027-04-01 passes
  v1 denied: expired
2027-04-01 tick
  + version_ended v1 old=v1 expired
2027-05-01 passes
  v1 denied: unknown token
2027-06-16 tick
  + version_ended v2 old=v2 cancelled
  + rotation_failed (unclaimed)
2027-06-16 claim \"the owner comes too late\": NothingToClaim
",
        );
        assert_eq!(sealed, 0);
    });
}

#[test]
fn timeline_5_the_sink_is_down_for_three_days_and_the_process_dies_before_the_acknowledgement() {
    on_both_places(|place| {
        let policy = RotationPolicy::builder().delivery(Delivery::Sink).build().unwrap();
        let sink = FlakySink::default();
        let bed = Bed::with_sink(place, sink.clone());
        let mut timeline = Timeline::new(bed, new_key("ci").auto_rotation(true).policy(policy));
        sink.answer(Err(SinkError::Unavailable));
        timeline.pass_to("2027-03-27 23:10");
        timeline.jump_to("2027-03-28 00:10");
        // The service takes it; its process is gone before the answer is recorded.
        sink.answer(Ok(()));
        timeline.put_and_die(&sink);
        timeline.tokens_of_the_sink(&sink);
        timeline.pass_to("2027-03-28 00:15");
        timeline.pass_to("2027-03-29 00:15");
        timeline.pass_to("2027-03-29 01:00");
        assert_eq!(sink.tokens().len(), 1, "the same secret each time");
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-04-01
  v1 granted until 2027-04-01
2027-03-25 tick
  + version_minted v2 new=v2 until 2027-06-23
  + version_offered v2 new=v2
  + rotation_started v2 old=v1 new=v2 until 2027-06-16
  + delivery_failing v2 new=v2
2027-03-28 00:10 the service has it
  v2 granted until 2027-06-16
2027-03-28 00:15 tick
  + version_deprecated v1 old=v1 until 2027-03-29 00:15
  + version_activated v2 new=v2 until 2027-06-23
  + key_rotation v2 old=v1 new=v2 until 2027-03-29 00:15
  v1 deprecated until 2027-03-29 00:15
  v2 granted until 2027-06-23
2027-03-29 00:15 passes
  v1 denied: superseded, and its grace is over
2027-03-29 00:15 tick
  + version_ended v1 old=v1 retired
  + rotation_completed
",
        );
    });
}

#[test]
fn timeline_7_after_a_rollback_the_next_rotation_is_due_as_before() {
    on_both_places(|place| {
        let mut timeline = Timeline::new(Bed::new(place), new_key("ci").auto_rotation(true));
        timeline.pass_to("2027-02-01");
        timeline.act("rotate", |bed, key| bed.root().rotate(key).map(|new| Some(new.token)));
        timeline.pass_to("2027-02-01 06:00");
        timeline.act("roll back", |bed, key| bed.root().roll_back(key).map(|_| None));
        timeline.pass_to("2027-03-25");
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-04-01
  v1 granted until 2027-04-01
2027-02-01 rotate
  + version_issued v2 new=v2 until 2027-05-02
  + version_deprecated v1 old=v1 until 2027-02-02
  + key_rotation v2 old=v1 new=v2 until 2027-02-02
  v1 deprecated until 2027-02-02
  v2 granted until 2027-05-02
2027-02-01 06:00 roll back
  + version_deprecated v2 old=v2 until 2027-02-02 06:00
  + version_reactivated v1 new=v1 until 2027-04-01
  + rotation_rolled_back
  v1 granted until 2027-04-01
  v2 deprecated until 2027-02-02 06:00
2027-02-02 06:00 passes
  v2 denied: superseded, and its grace is over
2027-02-02 06:00 tick
  + version_ended v2 old=v2 retired
2027-03-04 06:00 passes
  v2 denied: unknown token
2027-03-25 tick
  + version_minted v3 new=v3 until 2027-06-23
  + rotation_started v3 old=v1 new=v3 until 2027-06-16
  v1 granted until 2027-04-01, successor until 2027-06-16
",
        );
    });
}

#[test]
fn timeline_8_mobile() {
    on_both_places(|place| {
        let new = new_key("app").auto_rotation(true).policy(RotationPolicy::mobile());
        let mut timeline = Timeline::new(Bed::new(place), new);
        timeline.pass_to("2028-01-05");
        timeline.claim_for_owner("the release's claim");
        timeline.pass_to("2028-02-10");
        timeline.use_and_flush("v2", 1);
        timeline.flushes = true;
        timeline.pass_to("2028-05-01");
        timeline.use_and_flush("v1", 0);
        timeline.pass_to("2028-07-01");
        timeline.use_and_flush("v1", 0);
        timeline.pass_to("2028-09-29");
        timeline.pass_to("2028-09-30");
        timeline.pass_to("2028-10-05");
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2028-12-31
  v1 granted until 2028-12-31
2028-01-01 tick
  + version_minted v2 new=v2 until 2029-12-31
  + rotation_started v2 old=v1 new=v2 until 2028-12-31
  v1 granted until 2028-12-31, successor until 2028-12-31
2028-01-05 claim \"the release's claim\"
  + version_claimed v2 new=v2 (owner)
  + version_delivered v2 new=v2
  v1 granted until 2028-12-31
  v2 granted until 2029-12-31
2028-02-10T00:00:40Z v2 was used, and that is flushed
  + version_first_used v2 new=v2
  + version_deprecated v1 old=v1 until 2028-12-31
  + version_activated v2 new=v2 until 2029-12-31
  + key_rotation v2 old=v1 new=v2 until 2028-12-31
  v1 deprecated until 2028-12-31
2028-09-29 tick
  + version_retiring v1 old=v1 until 2028-09-30
  v1 deprecated until 2028-09-30
2028-09-30 passes
  v1 denied: superseded, and its grace is over
2028-09-30 tick
  + version_ended v1 old=v1 retired
  + rotation_completed
",
        );
    });
}

#[test]
fn timeline_9_ten_years_off() {
    on_both_places(|place| {
        let bed = Bed::new(place);
        let mut timeline = Timeline::new(bed, new_key("ci").auto_rotation(true));
        timeline.pass_to("2027-02-01");
        timeline.jump_to("2037-02-01");
        let report = timeline.bed.keys.tick().unwrap();
        assert_eq!(report.clock, ClockState::Jumped { mark: at("2027-02-01") });
        assert_eq!(report.started, 0);
        timeline.tell("tick");
        timeline.act("confirm", |bed, _| bed.root().confirm_clock(at("2037-02-01")).map(|()| None));
        timeline.bed.tick();
        timeline.tell("tick");
        let head = timeline.bed.store.head().unwrap();
        assert!(!timeline.bed.keys.tick().unwrap().more);
        assert_eq!(timeline.bed.store.head().unwrap(), head, "nothing is left");
        timeline.claim("the client holds nothing");
        timeline.claim_for_owner("the owner's claim");
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-04-01
  v1 granted until 2027-04-01
2037-02-01 passes
  v1 denied: unknown token
2037-02-01 confirm
  + clock_confirmed until 2037-02-01
2037-02-01 tick
  + version_ended v1 old=v1 expired at 2027-04-01
  + version_minted v2 new=v2 until 2037-05-02
  + rotation_started v2 old=v1 new=v2 until 2037-04-25
2037-02-01 claim \"the client holds nothing\": NotClaimable
2037-02-01 claim \"the owner's claim\"
  + version_claimed v2 new=v2 (owner)
  + version_activated v2 new=v2 until 2037-05-02
  + key_rotation v2 old=v1 new=v2
  + rotation_completed
  v2 granted until 2037-05-02
",
        );
    });
}

#[test]
fn timeline_10_suspended_over_the_time_of_the_rotation() {
    on_both_places(|place| {
        let mut timeline = Timeline::new(Bed::new(place), new_key("ci").auto_rotation(true));
        timeline.pass_to("2027-03-20");
        timeline.act("suspend", |bed, _| bed.root().suspend(common::owner("ada")).map(|()| None));
        timeline.pass_to("2027-04-10");
        timeline.act("resume", |bed, _| bed.root().resume(common::owner("ada")).map(|()| None));
        timeline.bed.tick();
        timeline.tell("tick");
        timeline.claim("the client holds nothing");
        timeline.claim_for_owner("the owner's claim");
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-04-01
  v1 granted until 2027-04-01
2027-03-20 suspend
  + owner_suspended
  v1 denied: the owner is suspended
2027-04-01 tick
  + version_ended v1 old=v1 expired
2027-04-10 resume
  + owner_resumed
  v1 denied: expired
2027-04-10 tick
  + version_minted v2 new=v2 until 2027-07-09
  + rotation_started v2 old=v1 new=v2 until 2027-07-02
2027-04-10 claim \"the client holds nothing\": NotClaimable
2027-04-10 claim \"the owner's claim\"
  + version_claimed v2 new=v2 (owner)
  + version_activated v2 new=v2 until 2027-07-09
  + key_rotation v2 old=v1 new=v2
  + rotation_completed
  v2 granted until 2027-07-09
",
        );
    });
}

#[test]
fn timeline_11_a_temporary_key_is_never_due() {
    on_both_places(|place| {
        let new = new_key("ci").auto_rotation(true).until(at("2027-01-08"));
        let mut timeline = Timeline::new(Bed::new(place), new);
        timeline.pass_to("2027-02-01");
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-01-08
  v1 granted until 2027-01-08
2027-01-08 passes
  v1 denied: expired
2027-01-08 tick
  + version_ended v1 old=v1 expired
",
        );
    });
}

#[test]
fn an_announced_rotation_is_the_owner_s_to_make_and_fails_when_nobody_does() {
    on_both_places(|place| {
        let policy = RotationPolicy::builder().delivery(Delivery::Announce).build().unwrap();
        let mut timeline = Timeline::new(Bed::new(place), new_key("ci").auto_rotation(true).policy(policy));
        timeline.pass_to("2027-03-26");
        timeline.act("rotate", |bed, key| bed.root().rotate(key).map(|new| Some(new.token)));
        timeline.pass_to("2027-06-24 01:00");
        timeline.pass_to("2027-12-01");
        let statuses: Vec<_> = timeline.rotations().iter().map(|rotation| rotation.status).collect();
        assert_eq!(statuses, [RotationStatus::Completed, RotationStatus::Failed]);
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-04-01
  v1 granted until 2027-04-01
2027-03-25 tick
  + rotation_started old=v1 until 2027-04-01
2027-03-26 rotate
  + version_issued v2 new=v2 until 2027-06-24
  + version_deprecated v1 old=v1 until 2027-03-27
  + key_rotation v2 old=v1 new=v2 until 2027-03-27
  v1 deprecated until 2027-03-27
  v2 granted until 2027-06-24
2027-03-27 passes
  v1 denied: superseded, and its grace is over
2027-03-27 tick
  + version_ended v1 old=v1 retired
  + rotation_completed
2027-04-26 passes
  v1 denied: unknown token
2027-06-17 tick
  + rotation_started old=v2 until 2027-06-24
2027-06-24 passes
  v2 denied: expired
2027-06-24 tick
  + version_ended v2 old=v2 expired
  + rotation_failed (expired)
2027-07-24 01:00 passes
  v2 denied: unknown token
",
        );
    });
}

#[test]
fn a_rotation_is_scheduled_begun_at_its_time_and_can_be_cancelled_until_its_successor_is_active() {
    on_both_places(|place| {
        let mut timeline = Timeline::new(Bed::new(place), new_key("ci"));
        timeline.act("schedule", |bed, key| bed.root().schedule(key, at("2027-02-01")).map(|_| None));
        timeline.act("rotate", |bed, key| bed.root().rotate(key).map(|new| Some(new.token)));
        timeline.pass_to("2027-02-02");
        timeline.act("cancel", |bed, key| bed.root().cancel(key).map(|()| None));
        timeline.claim("too late");
        timeline.act("schedule", |bed, key| bed.root().schedule(key, at("2027-02-03")).map(|_| None));
        timeline.act("cancel", |bed, key| bed.root().cancel(key).map(|()| None));
        timeline.pass_to("2027-02-02 01:00");
        timeline.act("schedule", |bed, key| bed.root().schedule(key, at("2027-04-01")).map(|_| None));
        timeline.act("schedule", |bed, key| bed.root().schedule(key, at("2027-02-04")).map(|_| None));
        timeline.pass_to("2027-02-04");
        timeline.claim("in time for once");
        timeline.act("cancel", |bed, key| bed.root().cancel(key).map(|()| None));
        timeline.pass_to("2027-02-05");
        let sealed = timeline.sealed_copies();
        let statuses: Vec<_> = timeline.rotations().iter().map(|rotation| rotation.status).collect();
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-04-01
  v1 granted until 2027-04-01
2027-01-01 schedule
  + rotation_scheduled until 2027-02-01
2027-01-01 rotate: RotationOpen until 2027-02-01
2027-02-01 tick
  + version_minted v2 new=v2 until 2027-05-02
  + rotation_started v2 old=v1 new=v2 until 2027-04-25
  v1 granted until 2027-04-01, successor until 2027-04-25
2027-02-02 cancel
  + version_ended v2 old=v2 cancelled
  + rotation_cancelled
  v1 granted until 2027-04-01
2027-02-02 claim \"too late\": NothingToClaim
2027-02-02 schedule
  + rotation_scheduled until 2027-02-03
2027-02-02 cancel
  + rotation_cancelled
2027-02-02 01:00 schedule: ScheduledTooLate until 2027-04-01
2027-02-02 01:00 schedule
  + rotation_scheduled until 2027-02-04
2027-02-04 tick
  + version_minted v3 new=v3 until 2027-05-05
  + rotation_started v3 old=v1 new=v3 until 2027-04-28
  v1 granted until 2027-04-01, successor until 2027-04-28
2027-02-04 claim \"in time for once\"
  + version_claimed v3 old=v1 new=v3 (holder)
  + version_deprecated v1 old=v1 until 2027-02-05
  + version_activated v3 new=v3 until 2027-05-05
  + key_rotation v3 old=v1 new=v3 until 2027-02-05
  v1 deprecated until 2027-02-05
  v2 granted until 2027-05-05
2027-02-04 cancel: NothingToCancel
2027-02-05 passes
  v1 denied: superseded, and its grace is over
2027-02-05 tick
  + version_ended v1 old=v1 retired
  + rotation_completed
",
        );
        assert_eq!(sealed, 0);
        use RotationStatus::{Cancelled, Completed};
        assert_eq!(statuses, [Cancelled, Cancelled, Completed]);
    });
}

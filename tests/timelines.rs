//! Whole stories as golden tests: what was recorded (`+`, with its own time where that is earlier), and what a
//! validation answers whenever that has changed, also before the tick of that moment.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod rotating;

use common::{HOUR, at, new_key, on_both_places};
use keyrota::{Replace, RotateNow, RotatedKey, SecretToken};
use rotating::{Bed, Timeline};

fn token(rotated: RotatedKey) -> Option<SecretToken> {
    Some(rotated.token)
}

#[test]
fn timeline_6_an_emergency_replaces_the_secret_and_revokes_all_others_in_one_commit() {
    on_both_places(|place| {
        let mut timeline = Timeline::new(Bed::new(place), new_key("ci"));
        timeline.pass_to("2027-02-10 06:00");
        timeline.rotate();
        timeline.pass_to("2027-02-10 12:00");
        timeline.act("replace", |bed, key| bed.root().replace(key).map(token));
        timeline.roll_back();
        timeline.pass_to("2027-02-11 12:00");
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-04-01
  v1 granted until 2027-04-01
2027-02-10 06:00 rotate
  + version_issued v2 new=v2 until 2027-05-11 06:00
  + version_deprecated v1 old=v1 until 2027-02-11 06:00
  + key_rotation v2 old=v1 new=v2 until 2027-02-11 06:00
  v1 deprecated until 2027-02-11 06:00
  v2 granted until 2027-05-11 06:00
2027-02-10 12:00 replace
  + version_ended v1 old=v1 revoked
  + version_compromised v1 old=v1
  + version_ended v2 old=v2 revoked
  + version_compromised v2 old=v2
  + rotation_cancelled
  + version_issued v3 new=v3 until 2027-05-11 12:00
  + key_rotation v3 old=v2 new=v3
  + rotation_completed
  v1 denied: revoked
  v2 denied: revoked
  v3 granted until 2027-05-11 12:00
2027-02-10 12:00 roll back: NotRollbackable
",
        );
    });
}

#[test]
fn timeline_6_with_a_grace_the_compromised_version_runs_out_and_is_never_rolled_back_to() {
    on_both_places(|place| {
        let mut timeline = Timeline::new(Bed::new(place), new_key("ci"));
        timeline.pass_to("2027-02-10 12:00");
        timeline.act("replace", |bed, key| bed.root().replace(Replace::of(key).grace(5 * HOUR)).map(token));
        timeline.act("replace", |bed, key| bed.root().replace(Replace::of(key).grace(4 * HOUR)).map(token));
        timeline.pass_to("2027-02-10 13:00");
        timeline.roll_back();
        timeline.pass_to("2027-02-10 17:00");
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-04-01
  v1 granted until 2027-04-01
2027-02-10 12:00 replace: GraceTooLong
2027-02-10 12:00 replace
  + version_deprecated v1 old=v1 until 2027-02-10 16:00
  + version_compromised v1 old=v1
  + version_issued v2 new=v2 until 2027-05-11 12:00
  + key_rotation v2 old=v1 new=v2 until 2027-02-10 16:00
  v1 deprecated until 2027-02-10 16:00
  v2 granted until 2027-05-11 12:00
2027-02-10 13:00 roll back: NotRollbackable
2027-02-10 16:00 passes
  v1 denied: superseded, and its grace is over
2027-02-10 16:00 tick
  + version_ended v1 old=v1 retired
  + rotation_completed
",
        );
    });
}

#[test]
fn timeline_7_a_rollback() {
    on_both_places(|place| {
        let mut timeline = Timeline::new(Bed::new(place), new_key("ci"));
        timeline.pass_to("2027-02-01");
        timeline.rotate();
        timeline.pass_to("2027-02-01 06:00");
        timeline.roll_back();
        timeline.pass_to("2027-02-03");
        timeline.roll_back();
        timeline.pass_to("2027-03-04 07:00");
        timeline.pass_to("2027-04-01 01:00");
        timeline.pass_to("2027-05-01 01:00");
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
2027-02-03 roll back: NotRollbackable
2027-03-04 06:00 passes
  v2 denied: unknown token
2027-04-01 passes
  v1 denied: expired
2027-04-01 tick
  + version_ended v1 old=v1 expired
2027-05-01 passes
  v1 denied: unknown token
",
        );
    });
}

#[test]
fn timeline_7_a_rollback_that_comes_too_late() {
    on_both_places(|place| {
        let mut timeline = Timeline::new(Bed::new(place), new_key("ci"));
        timeline.pass_to("2027-02-01");
        timeline.rotate();
        timeline.pass_to("2027-02-03");
        timeline.roll_back();
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
2027-02-02 passes
  v1 denied: superseded, and its grace is over
2027-02-02 tick
  + version_ended v1 old=v1 retired
  + rotation_completed
2027-02-03 roll back: NotRollbackable
",
        );
    });
}

#[test]
fn timeline_11_a_temporary_key() {
    on_both_places(|place| {
        let mut timeline = Timeline::new(Bed::new(place), new_key("ci").until(at("2027-01-08")));
        timeline.pass_to("2027-01-07");
        timeline.rotate();
        timeline.pass_to("2027-01-08 01:00");
        timeline.rotate();
        timeline.assert(
            "
2027-01-01 issue
  + owner_added
  + key_issued v1 new=v1 until 2027-01-08
  v1 granted until 2027-01-08
2027-01-07 rotate
  + version_issued v2 new=v2 until 2027-01-08
  + version_deprecated v1 old=v1 until 2027-01-08
  + key_rotation v2 old=v1 new=v2 until 2027-01-08
  v1 deprecated until 2027-01-08
  v2 granted until 2027-01-08
2027-01-08 passes
  v1 denied: expired
  v2 denied: expired
2027-01-08 tick
  + version_ended v1 old=v1 expired
  + version_ended v2 old=v2 expired
  + rotation_completed
2027-01-08 01:00 rotate: KeyEnded at 2027-01-08
",
        );
    });
}

#[test]
fn timeline_12_a_double_rotation() {
    on_both_places(|place| {
        let mut timeline = Timeline::new(Bed::new(place), new_key("ci"));
        timeline.pass_to("2027-02-01");
        timeline.rotate();
        timeline.pass_to("2027-02-01 01:00");
        timeline.rotate();
        timeline.act("supersede", |bed, key| bed.root().rotate(RotateNow::of(key).supersede()).map(token));
        timeline.pass_to("2027-02-02 02:00");
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
2027-02-01 01:00 rotate: RotationOpen until 2027-02-02
2027-02-01 01:00 supersede
  + version_ended v1 old=v1 retired
  + rotation_completed
  + version_issued v3 new=v3 until 2027-05-02 01:00
  + version_deprecated v2 old=v2 until 2027-02-02 01:00
  + key_rotation v3 old=v2 new=v3 until 2027-02-02 01:00
  v1 denied: superseded, and its grace is over
  v2 deprecated until 2027-02-02 01:00
  v3 granted until 2027-05-02 01:00
2027-02-02 01:00 passes
  v2 denied: superseded, and its grace is over
2027-02-02 01:00 tick
  + version_ended v2 old=v2 retired
  + rotation_completed
",
        );
    });
}

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

use std::fmt::Write as _;

use common::{Bed, DAY, HOUR, at, day, new_key, on_both_stores};
use keyrota::{Clock, KeyId, LifecycleError, ManageError, NewKey, Replace, RotateNow, RotatedKey};

struct Timeline {
    bed: Bed,
    key: KeyId,
    tokens: Vec<String>,
    verdicts: Vec<String>,
    told: u64,
    text: String,
}

impl Timeline {
    /// A key of 2027-01-01.
    fn new(bed: Bed, new: NewKey) -> Self {
        let told = bed.seq();
        let issued = bed.root().issue(new).unwrap();
        let tokens = vec![issued.token.expose().to_owned()];
        let mut timeline =
            Self { bed, key: issued.key, tokens, verdicts: Vec::new(), told, text: String::new() };
        timeline.tell("issue");
        timeline
    }

    fn verdict(&self, token: &str) -> String {
        match self.bed.validator.validate(token) {
            Ok(grant) => {
                let word = if grant.is_deprecated() { "deprecated" } else { "granted" };
                format!("{word} until {}", grant.valid_until().map_or("for ever".to_owned(), day))
            }
            Err(denial) => format!("denied: {}", denial.reason()),
        }
    }

    /// Writes down what has changed, if anything has.
    fn tell(&mut self, what: &str) {
        let now = self.bed.clock.now();
        let mut changes = String::new();
        for entry in self.bed.entries(self.told) {
            let line = self.bed.line(&entry.event);
            let at =
                if entry.event.at == now { String::new() } else { format!(" at {}", day(entry.event.at)) };
            writeln!(changes, "  + {line}{at}").unwrap();
            self.told = entry.seq;
        }
        let verdicts: Vec<_> = self.tokens.iter().map(|token| self.verdict(token)).collect();
        for (number, verdict) in verdicts.iter().enumerate() {
            if self.verdicts.get(number) != Some(verdict) {
                writeln!(changes, "  v{} {verdict}", number + 1).unwrap();
            }
        }
        self.verdicts = verdicts;
        if !changes.is_empty() {
            write!(self.text, "{} {what}\n{changes}", day(now)).unwrap();
        }
    }

    /// Lets the time pass, with a tick every day, and every hour of the last two days.
    fn pass_to(&mut self, time: &str) {
        while self.bed.clock.now() < at(time) {
            let left = at(time).since(self.bed.clock.now());
            self.bed.clock.advance(if left > 2 * DAY { DAY } else { HOUR }).unwrap();
            self.tell("passes");
            self.bed.tick();
            self.tell("tick");
        }
    }

    fn act(&mut self, name: &str, act: impl FnOnce(&Bed, KeyId) -> Result<Option<RotatedKey>, ManageError>) {
        match act(&self.bed, self.key) {
            Ok(rotated) => {
                self.tokens.extend(rotated.map(|rotated| rotated.token.expose().to_owned()));
                self.tell(name);
            }
            Err(error) => {
                let ManageError::Lifecycle(error) = error else { panic!("{error}") };
                let why = match error {
                    LifecycleError::RotationOpen { until } => format!("RotationOpen until {}", day(until)),
                    LifecycleError::KeyEnded { at } => format!("KeyEnded at {}", day(at)),
                    LifecycleError::NotRollbackable => "NotRollbackable".to_owned(),
                    LifecycleError::GraceTooLong => "GraceTooLong".to_owned(),
                    error => panic!("{error}"),
                };
                writeln!(self.text, "{} {name}: {why}", day(self.bed.clock.now())).unwrap();
                self.tell("in spite of that");
            }
        }
    }

    fn rotate(&mut self) {
        self.act("rotate", |bed, key| bed.root().rotate(key).map(Some));
    }

    fn roll_back(&mut self) {
        self.act("roll back", |bed, key| bed.root().roll_back(key).map(|_| None));
    }

    fn assert(self, expected: &str) {
        let expected = expected.trim_start_matches('\n');
        assert!(self.text == expected, "the story was:\n{}", self.text);
        assert!(self.bed.keys.check(None).unwrap().is_sound());
    }
}

#[test]
fn timeline_6_an_emergency_replaces_the_secret_and_revokes_all_others_in_one_commit() {
    on_both_stores(|bed| {
        let mut timeline = Timeline::new(bed, new_key("ci"));
        timeline.pass_to("2027-02-10 06:00");
        timeline.rotate();
        timeline.pass_to("2027-02-10 12:00");
        timeline.act("replace", |bed, key| bed.root().replace(key).map(Some));
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
    on_both_stores(|bed| {
        let mut timeline = Timeline::new(bed, new_key("ci"));
        timeline.pass_to("2027-02-10 12:00");
        timeline.act("replace", |bed, key| bed.root().replace(Replace::of(key).grace(5 * HOUR)).map(Some));
        timeline.act("replace", |bed, key| bed.root().replace(Replace::of(key).grace(4 * HOUR)).map(Some));
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
    on_both_stores(|bed| {
        let mut timeline = Timeline::new(bed, new_key("ci"));
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
    on_both_stores(|bed| {
        let mut timeline = Timeline::new(bed, new_key("ci"));
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
    on_both_stores(|bed| {
        let mut timeline = Timeline::new(bed, new_key("ci").until(at("2027-01-08")));
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
    on_both_stores(|bed| {
        let mut timeline = Timeline::new(bed, new_key("ci"));
        timeline.pass_to("2027-02-01");
        timeline.rotate();
        timeline.pass_to("2027-02-01 01:00");
        timeline.rotate();
        timeline.act("supersede", |bed, key| bed.root().rotate(RotateNow::of(key).supersede()).map(Some));
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

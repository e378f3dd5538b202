//! The power fails: what no sync has confirmed is lost, or a part of it is. What was acknowledged is not among it.

use crate::calls::{self, Done, Fate, File, Plan, sort};
use crate::disk::{Disk, LOSSES, Loss};
use crate::stage::{Template, database, folder, for_each, is_thorough, log, manager, thinned};
use crate::story::{ACTS, Course, Progress, Story};
use crate::write_errors::{DEEDS, Site};

/// A story with each of its calls.
struct Told {
    course: Course,
    calls: Vec<Done>,
    tokens: Vec<(usize, String)>,
    before: Disk,
}

fn tell(template: &Template) -> Told {
    let bed = template.copy();
    let before = match template {
        Template::Empty => Disk::new(),
        Template::Crashed => Disk::holding([
            (File::Database, std::fs::read(database(bed.path())).unwrap()),
            (File::Log, std::fs::read(log(bed.path())).unwrap()),
        ]),
    };
    calls::record();
    let (course, tokens) = Course::run(bed.path(), sort::LASTING);
    let calls = calls::recorded();
    assert!(calls.iter().any(|call| matches!(call, Done::Sync { file: File::Log, succeeded: true })));
    assert!(calls.iter().any(|call| matches!(call, Done::Sync { file: File::Database, succeeded: true })));
    Told { course, calls, tokens: tokens.into_iter().collect(), before }
}

impl Told {
    /// The disk after so many calls, and how many acts had been acknowledged.
    fn after(&self, calls: usize) -> (Disk, Progress) {
        let mut disk = self.before.clone();
        let mut progress = 0;
        for call in &self.calls[..calls] {
            disk.take(call);
            if let Done::Milestone(done) = call {
                progress = *done;
            }
        }
        (disk, progress)
    }

    fn story(&self, folder: &std::path::Path, done: Progress) -> Story {
        let mut story = Story::at(folder);
        story.tokens.extend(self.tokens.iter().filter(|(number, _)| *number < done).cloned());
        story
    }
}

fn cut_the_power_everywhere(template: &Template, step: u64) {
    let told = tell(template);
    let points: Vec<_> = thinned(told.calls.len() as u64 + 1, step)
        .map(|calls| calls as usize)
        .filter(|calls| told.after(*calls).0.is_in_suspense())
        .collect();
    println!("{} points among {} calls, {} losses at each", points.len(), told.calls.len(), LOSSES.len());
    assert!(!points.is_empty());
    for_each(&points, |&calls| {
        let (disk, done) = told.after(calls);
        for loss in LOSSES {
            let bed = folder();
            disk.restore(loss, bed.path());
            let context = format!("power lost after call {calls}, with {loss:?}");
            let mut story = told.story(bed.path(), done);
            if calls % 8 == 0 || is_thorough() {
                told.course.assert_survives(story, done, &context);
            } else if done > 0 {
                told.course.assert_holds(&story, done..=done + 1, &context);
            } else {
                story.act(0).unwrap_or_else(|error| panic!("{context}: {error}"));
            }
        }
    });
}

#[test]
fn a_loss_of_power_at_any_call_takes_nothing_that_was_acknowledged() {
    cut_the_power_everywhere(&Template::Empty, 2);
}

#[test]
fn nor_does_it_while_the_log_is_moved_into_the_file_and_begun_anew() {
    cut_the_power_everywhere(&Template::Crashed, 5);
}

/// The successor reads what its predecessor has written, and may not take it for durable.
#[test]
fn what_the_successor_of_a_killed_process_confirms_survives_a_loss_of_power() {
    let told = tell(&Template::Empty);
    let points: Vec<_> = thinned(told.calls.len() as u64, 2).map(|calls| calls as usize).collect();
    for_each(&points, |&calls| {
        let (mut disk, done) = told.after(calls);
        if done == ACTS.len() {
            return;
        }
        let bed = folder();
        disk.restore(Loss::Nothing, bed.path());
        let mut story = told.story(bed.path(), done);
        calls::record();
        let repeated = story.act(0).and_then(|()| if done > 0 { story.act(done) } else { Ok(()) });
        let context = format!("killed after call {calls}, then {} was repeated", ACTS[done]);
        repeated.unwrap_or_else(|error| panic!("{context}: {error}"));
        calls::recorded().iter().for_each(|call| disk.take(call));
        let bed = folder();
        disk.restore(Loss::Everything, bed.path());
        let mut seen = told.story(bed.path(), done);
        seen.tokens.extend(story.tokens);
        told.course.assert_holds(&seen, done + 1..=done + 1, &context);
    });
}

/// After a sync that failed, the system may have given up what it was to write, and say nothing of it later.
#[test]
fn what_is_confirmed_after_a_sync_has_failed_survives_a_loss_of_power() {
    for deed in DEEDS {
        for for_ever in [false, true] {
            calls::record();
            let site = Site::new(&Template::Empty);
            let plan =
                Plan { sorts: sort::SYNC, file: None, at: 0, for_ever, fate: Fate::Refused(libc::EIO) };
            let first = calls::under(plan, || {
                let first = site.carry_out(deed);
                assert!(site.denial(&site.bystander).is_none());
                first
            });
            assert!(first.is_err());
            site.carry_out(deed).unwrap();
            let mut disk = Disk::new();
            calls::recorded().iter().for_each(|call| disk.take(call));
            for loss in LOSSES {
                let bed = folder();
                disk.restore(loss, bed.path());
                let found = manager(bed.path(), &site.clock);
                let context = format!("{deed:?}, {loss:?}");
                assert_eq!(found.audit_head().unwrap(), site.keys.audit_head().unwrap(), "{context}");
            }
        }
    }
}

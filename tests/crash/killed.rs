//! A process is killed at each of its system calls that leave something behind, before and after the effect, and
//! in the middle of a write.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::calls::{self, Fate, Plan, sort};
use crate::stage::{Template, answers, child, for_each, is_thorough, say, thinned};
use crate::story::{ACTS, Course, Story};

/// Before each call is also after the one before it: nothing but the shared memory changes in between. What cannot be
/// torn is killed after its effect where a write would be torn.
const FATES: [(&str, Fate); 3] =
    [("before", Fate::KilledBefore), ("within", Fate::KilledWithin), ("after", Fate::KilledAfter)];

/// What the child does: it tells the story, says what it has done after each act, and dies.
pub(crate) fn live(folder: &Path, at: u64, fate: &str) {
    let fate = FATES.iter().find(|(name, _)| *name == fate).unwrap().1;
    let mut story = Story::at(folder);
    calls::plan(Plan { sorts: sort::LASTING, file: None, at, for_ever: false, fate });
    for number in 0..ACTS.len() {
        story.act(number).unwrap();
        say(&format!("{number} {}", story.tokens.get(&number).map_or("-", String::as_str)));
    }
}

fn kill_everywhere(template: &Template, step: u64) {
    let (course, _) = Course::run(template.copy().path(), sort::LASTING);
    for (act, calls) in ACTS.iter().zip(&course.calls) {
        println!("{act}: {calls} calls to be killed at");
    }
    assert!(course.calls.iter().all(|calls| *calls > 0), "each act leaves something behind");
    let total = course.calls.iter().sum();
    let fates = if is_thorough() { FATES.len() } else { FATES.len() - 1 };
    let points: Vec<_> = thinned(total, step)
        .flat_map(|at| FATES.into_iter().take(fates).map(move |(fate, _)| (at, fate)))
        .chain([(total - 1, "after")])
        .collect();
    println!("{} kills at {total} calls", points.len());
    let survivors = AtomicUsize::new(0);
    for_each(&points, |(at, fate)| {
        let folder = template.copy();
        let output = child(&format!("story {} {at} {fate}", folder.path().display()));
        let context = format!("killed {fate} call {at}");
        match output.status.signal() {
            Some(signal) => assert_eq!(signal, libc::SIGKILL, "{context}"),
            // Ids are random, and which pages a tree of them takes differs a little from one telling to the next.
            None => {
                assert!(output.status.success(), "{context}: {}", String::from_utf8_lossy(&output.stderr));
                survivors.fetch_add(1, Ordering::SeqCst);
            }
        }
        let mut story = Story::at(folder.path());
        let mut done = 0;
        for answer in answers(&output) {
            let (number, token) = answer.split_once(' ').unwrap();
            assert_eq!(number, done.to_string());
            if token != "-" {
                story.tokens.insert(done, token.to_owned());
            }
            done += 1;
        }
        course.assert_survives(story, done, &context);
    });
    let survivors = survivors.into_inner();
    assert!(survivors * 20 <= points.len(), "{survivors} of {} were not killed", points.len());
}

#[test]
fn a_process_that_is_killed_at_any_call_has_done_what_it_said_and_the_rest_once_or_not_at_all() {
    kill_everywhere(&Template::Empty, 1);
}

#[test]
fn so_has_one_that_is_killed_while_the_log_is_moved_into_the_file_and_begun_anew() {
    kill_everywhere(&Template::Crashed, 5);
}

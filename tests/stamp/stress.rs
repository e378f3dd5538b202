//! A process that commits as fast as it can, and detectors that look as fast as they can.

use std::sync::atomic::Ordering::{Acquire, Release};

use keyrota::SqliteStore;

use crate::detector::{Blind, Seen, check, follow, stamp};
use crate::process::Process;
use crate::shared::course;
use crate::witness::Witness;

#[test]
fn under_stress_no_stamp_is_stale_and_the_harness_sees_a_blind_detector() {
    let witness = Witness::new();
    let path = witness.path();
    let place = witness.folder.path().join("course");
    let course = course(&place);
    let mut other = Process::start();
    other.tell(&format!("churn {} {}", path.display(), place.display()));
    while course.done.load(Acquire) == 0 {
        std::thread::yield_now();
    }
    let time = crate::seconds();
    let queried = SqliteStore::options().query_stamps(true).open(&path).unwrap();
    let blind = Blind::open(&path);
    let strict = check(course, time, || stamp(&witness.store));
    let followed = follow(course, time / 2, &witness.store, &path);
    let asked = check(course, time / 4, || stamp(&queried));
    let control = check(course, time / 4, || blind.version());
    course.stop.store(true, Release);
    let churned = other.answer().unwrap();
    let (commits, others) = churned.split_once(' ').unwrap();
    println!("{commits} commits by another process, {others} checkpoints, rollbacks, VACUUMs and reopenings");
    let sees = |name: &str, seen: Seen| {
        println!("{name}: {} checks, {} changes seen, {} stale", seen.checks, seen.changes, seen.stale);
        assert!(seen.checks > 1_000, "{name}");
        seen
    };
    let strict = sees("shared memory", strict);
    let followed = sees("its follower", followed);
    let asked = sees("query", asked);
    let control = sees("blind", control);
    assert!(strict.changes > 10 && asked.changes > 1, "there was something to see");
    assert_eq!([strict, followed, asked].map(|seen| seen.stale), [0; 3]);
    assert!(control.stale > 0, "the harness sees staleness where it is");
}

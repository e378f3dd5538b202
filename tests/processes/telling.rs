//! Several processes tick and deliver together: each notification is acknowledged, no two of them try the same one while
//! a lease holds, and what is tried again has the same id.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use keyrota::{
    AuditFilter, ChannelFilter, EventKind, KeyManager, ManualClock, NewKey, Notification, Notifier,
    NotifyError, SqliteStore, Timestamp,
};

use crate::stage::{Bed, HOUR, Process, ask_all_at_once, assert_sound, keyring, owner, root, start};

const LEASE: Duration = Duration::from_secs(60);

/// Writes down each attempt, in the file that all processes share, before and after it.
struct Witness {
    log: PathBuf,
    clock: ManualClock,
    /// The attempts after which it does not return.
    hangs_after: Option<usize>,
    tried: std::sync::atomic::AtomicUsize,
}

impl Witness {
    /// One line in one write: whoever reads a line knows that all before it had happened.
    fn note(&self, what: &str, told: &Notification) {
        let time = keyrota::Clock::now(&self.clock).unix_micros();
        let line = format!("{time} {} {} {what}\n", std::process::id(), told.id);
        let mut log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        log.write_all(line.as_bytes()).unwrap();
    }
}

impl Notifier for Witness {
    fn notify(&self, told: &Notification) -> Result<(), NotifyError> {
        self.note("begins", told);
        let tried = self.tried.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        while self.hangs_after.is_some_and(|after| tried >= after) {
            thread::park();
        }
        // Others get their chance at the same one.
        thread::yield_now();
        // Every fifth fails at its first attempt; not several in a row, which would make the channel pause.
        let id = told.id.to_string();
        let log = std::fs::read_to_string(&self.log).unwrap();
        let is_first = log.matches(&format!("{id} begins")).count() == 1;
        let of_last = log.lines().rfind(|line| !line.ends_with("begins"));
        let may_fail = of_last.is_some_and(|line| line.ends_with("arrives"));
        if is_first && may_fail && id.bytes().map(u32::from).sum::<u32>() % 5 == 0 {
            self.note("fails", told);
            return Err(NotifyError::retry("not yet"));
        }
        self.note("arrives", told);
        Ok(())
    }
}

/// What a child process does: it issues some keys, and ticks and delivers until nothing is due.
pub(crate) fn tell(path: &Path, time: Timestamp, keys: usize, hangs_after: Option<usize>) -> String {
    let clock = ManualClock::new(time);
    let log = path.with_extension("log");
    let witness = Witness { log, clock: clock.clone(), hangs_after, tried: 0.into() };
    let manager = KeyManager::builder(SqliteStore::open(path).unwrap(), keyring())
        .clock(clock)
        .channel("ops", witness)
        .open()
        .unwrap();
    for n in 0..keys {
        let name = format!("{}-{n}", std::process::id());
        let key = manager.by(root()).issue(NewKey::new(owner(&name), "ci").unwrap()).unwrap().key;
        if n % 3 == 0 {
            manager.by(root()).rotate(key).unwrap();
        }
        manager.tick().unwrap();
    }
    let mut told = 0;
    loop {
        let (ticked, delivered) = (manager.tick().unwrap(), manager.deliver("ops").unwrap());
        told += ticked.notified + delivered.notified;
        if !ticked.more && !delivered.more {
            return format!("told {told}");
        }
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    time: i64,
    process: String,
    id: String,
    what: String,
}

fn log(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path.with_extension("log")).unwrap_or_default();
    let line = |line: &str| {
        let [time, process, id, what] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        Line { time: time.parse().unwrap(), process: process.into(), id: id.into(), what: what.into() }
    };
    text.lines().map(line).collect()
}

/// Two attempts at one notification never overlap while the lease of the first holds.
fn assert_apart(lines: &[Line]) {
    let mut open = BTreeMap::<&str, &Line>::new();
    for line in lines {
        match line.what.as_str() {
            "begins" => {
                if let Some(before) = open.insert(&line.id, line) {
                    let apart = line.time - before.time;
                    assert!(apart >= LEASE.as_micros() as i64, "{before:?}, and {line:?} after {apart} µs");
                }
            }
            _ => assert_eq!(open.remove(line.id.as_str()).map(|begun| &begun.process), Some(&line.process)),
        }
    }
}

fn ids(lines: &[Line], what: &str) -> Vec<String> {
    lines.iter().filter(|line| line.what == what).map(|line| line.id.clone()).collect()
}

#[test]
fn four_processes_that_tick_and_deliver_tell_each_once_and_never_two_at_a_time() {
    let bed = Bed::new(10);
    let keys = KeyManager::builder(SqliteStore::open(bed.path()).unwrap(), keyring())
        .clock(bed.clock.clone())
        .channel_elsewhere("ops", ChannelFilter::all())
        .open()
        .unwrap();
    for n in 0..40 {
        keys.by(root()).issue(NewKey::new(owner(&format!("first-{n}")), "ci").unwrap()).unwrap();
    }
    let mut children = bed.processes(4);
    let tell =
        |time: Timestamp, keys: usize| format!("tell {} {} {keys}", bed.path().display(), time.unix_micros());
    let place = bed.folder.path().join("meeting");
    ask_all_at_once(&mut children, &place, &tell(start(), 12));

    // What failed waits for its pause. One process begins an attempt and does not come back from it.
    let lines = log(&bed.path());
    assert_apart(&lines);
    let failed = ids(&lines, "fails");
    assert!(!failed.is_empty(), "of {} attempts", lines.len());
    let by: BTreeSet<_> = lines.iter().map(|line| &line.process).collect();
    assert!(by.len() > 1, "one process did it all, {} attempts", lines.len());
    let later = start().plus(HOUR).unwrap();
    children[0].tell(&format!("tell-hang {} {} 2", bed.path().display(), later.unix_micros()));
    let hangs = || {
        let lines = log(&bed.path());
        let done = ids(&lines, "arrives").len() + ids(&lines, "fails").len();
        let begun = lines.iter().rfind(|line| line.what == "begins")?.clone();
        let is_open = ids(&lines, "begins").len() == done + 1 && lines.last() == Some(&begun);
        (is_open
            && begun.time == later.unix_micros()
            && lines.iter().filter(|line| line.time == begun.time).count() == 5)
            .then_some(begun)
    };
    let lost = loop {
        match hangs() {
            Some(line) => break line,
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    let place = bed.folder.path().join("second-meeting");
    ask_all_at_once(&mut children[1..], &place, &tell(later, 0));
    children[0].kill();
    let arrived = |id: &String| ids(&log(&bed.path()), "arrives").contains(id);
    assert!(failed.iter().all(|id| arrived(id) == (*id != lost.id)), "all but the one that hangs");

    // Dead or not: nobody else tries it before the lease is over, and then somebody does.
    for (after, told) in [(LEASE - Duration::from_micros(1), false), (LEASE, true)] {
        let place = bed.folder.path().join(format!("meeting-after-{}", after.as_micros()));
        ask_all_at_once(&mut children[1..], &place, &tell(later.plus(after).unwrap(), 0));
        assert_eq!(arrived(&lost.id), told, "after {after:?}");
    }

    // What waited for one that failed may have failed itself, and its pause is longer than a lease at times.
    for hours in 1..=2 {
        let place = bed.folder.path().join(format!("last-meeting-{hours}"));
        ask_all_at_once(&mut children[1..], &place, &tell(later.plus(hours * 2 * HOUR).unwrap(), 0));
    }

    let lines = log(&bed.path());
    assert_apart(&lines);
    let arrived = ids(&lines, "arrives");
    let distinct: BTreeSet<_> = arrived.iter().cloned().collect();
    assert_eq!(distinct.len(), arrived.len(), "each arrived once");
    assert_eq!(ids(&lines, "begins").into_iter().collect::<BTreeSet<_>>(), distinct, "and none is missing");
    let count = |kind| bed.keys.audit(&AuditFilter::all().kind(kind), 10_000).unwrap().len();
    assert_eq!(distinct.len(), count(EventKind::KeyIssued) + count(EventKind::KeyRotation));
    assert_eq!(distinct.len(), 40 + 4 * (12 + 4));
    assert_sound(&bed.keys);
    drop::<Vec<Process>>(children);
}

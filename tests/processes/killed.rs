//! A process is killed in the middle of its work: what it had been told was done is done, what it was at is done once
//! or not at all, and everybody else goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use keyrota::{
    AuditFilter, EventKind, KeyId, KeyManager, LifecycleError, ManageError, ManualClock, NewKey,
    RotationPolicy, SqliteStore, Timestamp, Validator,
};

use crate::stage::{Bed, Process, assert_sound, folder, keyring, letter, owner, root, start};

/// How long a version stays valid beside its successor here.
const OVERLAP: Duration = Duration::from_secs(600);

/// What the killed process said that it was going to do.
struct Intent {
    at: Timestamp,
    request: String,
    verb: String,
    object: String,
}

impl Intent {
    fn parse(words: &[&str]) -> Self {
        let [at, request, verb, ref object @ ..] = *words else { panic!("{words:?}") };
        Self {
            at: Timestamp::from_unix_micros(at.parse().unwrap()).unwrap(),
            request: request.to_owned(),
            verb: verb.to_owned(),
            object: object.concat(),
        }
    }

    fn key(&self) -> KeyId {
        self.object.parse().unwrap()
    }
}

/// What is known of a key from the acts on it.
#[derive(Default)]
struct Known {
    /// Each version's token, and when its grace ends.
    versions: Vec<(String, Option<Timestamp>)>,
    revoked: bool,
}

/// All acts that were done, and what follows from them.
#[derive(Default)]
struct Model {
    keys: BTreeMap<String, Known>,
    acts: Vec<(EventKind, String)>,
    ticked: Option<Timestamp>,
}

impl Model {
    /// Takes in what came of an intent.
    fn done(&mut self, intent: &Intent, answer: &[&str]) {
        let Intent { at, request, verb, object } = intent;
        let kind = match (verb.as_str(), answer) {
            ("issue", ["issued", key, token]) => {
                let versions = vec![((*token).to_owned(), None)];
                self.keys.insert((*key).to_owned(), Known { versions, revoked: false });
                EventKind::KeyIssued
            }
            ("rotate", ["rotated", number, token]) => {
                let versions = &mut self.keys.get_mut(object).unwrap().versions;
                versions.last_mut().unwrap().1 = Some(at.plus(OVERLAP).unwrap());
                versions.push(((*token).to_owned(), None));
                assert_eq!(*number, versions.len().to_string());
                EventKind::KeyRotation
            }
            ("revoke", ["done"]) => {
                self.keys.get_mut(object).unwrap().revoked = true;
                EventKind::KeyRevoked
            }
            ("tick", ["ticked", ..]) => {
                self.ticked = Some(*at);
                return;
            }
            // Its predecessor was still in its grace: nothing was done.
            ("rotate", ["open"]) => return,
            _ => panic!("{verb} {object}: {answer:?}"),
        };
        self.acts.push((kind, request.clone()));
    }

    /// What a token must be at a time.
    fn assert_verdicts(&self, validator: &Validator, t: Timestamp) {
        for (key, known) in &self.keys {
            for (n, (token, grace_end)) in known.versions.iter().enumerate() {
                let expected = match grace_end {
                    _ if known.revoked => 'r',
                    Some(end) if *end <= t => 't',
                    _ => 'g',
                };
                assert_eq!(letter(&validator.validate(token)), expected, "{key} v{}", n + 1);
            }
        }
    }

    /// The same for somebody who may not have heard of the last acts yet: what was done is never undone.
    fn assert_nothing_undone(&self, validator: &Validator, t: Timestamp) {
        for (key, known) in &self.keys {
            for (n, (token, grace_end)) in known.versions.iter().enumerate() {
                let allowed: &[char] = match grace_end {
                    _ if known.revoked => &['r'],
                    Some(end) if *end <= t => &['t', 'r'],
                    // Its successor, or its end, may have come meanwhile.
                    _ => &['g', 't', 'r'],
                };
                let verdict = letter(&validator.validate(token));
                assert!(allowed.contains(&verdict), "{key} v{}: {verdict}", n + 1);
            }
        }
    }

    fn assert_log(&self, keys: &KeyManager) {
        for kind in [EventKind::KeyIssued, EventKind::KeyRotation, EventKind::KeyRevoked] {
            let entries = keys.audit(&AuditFilter::all().kind(kind), usize::MAX).unwrap();
            let mut found: Vec<_> =
                entries.iter().map(|entry| entry.event.request.as_ref().unwrap().as_str()).collect();
            let mut expected: Vec<_> = self
                .acts
                .iter()
                .filter(|(done, _)| *done == kind)
                .map(|(_, request)| request.as_str())
                .collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{kind}: each act once, and no other");
        }
    }
}

/// Does what was intended, under its request id; also when it was done already and its answer got lost.
fn carry_out(keys: &KeyManager, intent: &Intent) -> String {
    let act = keys.by(root()).request(intent.request.as_str());
    let result = match intent.verb.as_str() {
        "issue" => act
            .issue(NewKey::new(owner(&intent.object), "ci").unwrap())
            .map(|issued| format!("issued {} {}", issued.key, issued.token.expose())),
        "rotate" => act
            .rotate(intent.key())
            .map(|new| format!("rotated {} {}", new.version.get(), new.token.expose())),
        "revoke" => act.revoke(intent.key()).map(|()| "done".to_owned()),
        _ => keys.tick().map(|_| "ticked".to_owned()),
    };
    match result {
        Err(ManageError::Lifecycle(LifecycleError::RotationOpen { .. })) => "open".to_owned(),
        result => result.unwrap(),
    }
}

fn open(path: &Path, clock: &ManualClock) -> KeyManager {
    let store = SqliteStore::open(path).unwrap();
    KeyManager::builder(store, keyring()).clock(clock.clone()).open().unwrap()
}

fn assert_file_is_whole(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

/// Lets a process work until it has done so many acts, kills it while it is at the next one, and repeats that one.
fn kill_and_look(
    bed: &Bed,
    model: &mut Model,
    round: usize,
    acts: usize,
    meanwhile: &dyn Fn(&Model, Timestamp),
) {
    let path = bed.path();
    let begin = keyrota::Clock::now(&bed.clock);
    let mut process = Process::start();
    let time = begin.unix_micros();
    assert!(process.ask(&format!("open {} {time}", path.display())).starts_with("opened "));
    process.tell(&format!("churn {round} {time}"));
    let mut intended: Option<Intent> = None;
    let mut done = 0;
    let mut take = |line: &str, model: &mut Model| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["intend", rest @ ..] => {
                let intent = Intent::parse(rest);
                bed.clock.set(intent.at);
                intended = Some(intent);
            }
            ["did", request, answer @ ..] => {
                let intent = intended.take().unwrap();
                assert_eq!(*request, intent.request);
                model.done(&intent, answer);
                done += 1;
                meanwhile(model, intent.at);
            }
            _ => panic!("{line}"),
        }
        done
    };
    while take(&process.answer(), model) < acts {}
    // A little later in each round, so that it dies at different points of its next act.
    (0..round * 60).for_each(|_| std::thread::yield_now());
    for line in process.kill() {
        take(&line, model);
    }
    if let Some(intent) = intended {
        let answer = carry_out(&open(&path, &bed.clock), &intent);
        model.done(&intent, &answer.split_whitespace().collect::<Vec<_>>());
    }
}

fn bed_on_disk() -> Bed {
    let policy = RotationPolicy::builder().overlap(OVERLAP).build().unwrap();
    Bed::found(tempfile::tempdir().unwrap(), 10_000, policy)
}

fn look(bed: &Bed, model: &Model) {
    assert_file_is_whole(&bed.path());
    let keys = open(&bed.path(), &bed.clock);
    assert_sound(&keys);
    model.assert_log(&keys);
    model.assert_verdicts(&keys.validator().unwrap(), keyrota::Clock::now(&bed.clock));
    let mark = open(&bed.path(), &ManualClock::new(Timestamp::MIN)).now().unwrap();
    assert!(model.ticked.is_none_or(|ticked| ticked <= mark), "a tick that was reported has left its mark");
}

#[test]
fn what_a_killed_process_had_done_is_there_when_nobody_else_had_the_file_open() {
    let bed = bed_on_disk();
    bed.keys.close().unwrap();
    let mut model = Model::default();
    for round in 0..6 {
        kill_and_look(&bed, &mut model, round, 6 + 5 * round, &|_, _| ());
        look(&bed, &model);
    }
}

#[test]
fn a_process_that_is_killed_does_not_disturb_those_that_work_on() {
    let bed = bed_on_disk();
    let validator = bed.keys.validator().unwrap();
    let mut model = Model::default();
    for round in 0..4 {
        kill_and_look(&bed, &mut model, round, 9 + 7 * round, &|model, at| {
            // All that the other process has said so far was done when it said so.
            model.assert_nothing_undone(&validator, at);
        });
        model.assert_verdicts(&validator, keyrota::Clock::now(&bed.clock));
        let intent = Intent {
            at: keyrota::Clock::now(&bed.clock),
            request: format!("bystander-{round}"),
            verb: "issue".to_owned(),
            object: "bystander".to_owned(),
        };
        let answer = carry_out(&bed.keys, &intent);
        model.done(&intent, &answer.split_whitespace().collect::<Vec<_>>());
        look(&bed, &model);
    }
}

#[test]
fn a_process_that_is_killed_while_it_makes_a_store_leaves_a_file_that_opens() {
    let folder = folder();
    for round in 0..12 {
        let path = folder.path().join(format!("{round}.db"));
        let mut process = Process::start();
        process.ask(&format!("clock {}", start().unix_micros()));
        process.tell(&format!("open {} {}", path.display(), start().unix_micros()));
        (0..round * 40).for_each(|_| std::thread::yield_now());
        process.kill();
        let keys = open(&path, &ManualClock::new(start()));
        let founded = keys.audit(&AuditFilter::all().kind(EventKind::StoreFounded), 10).unwrap();
        assert_eq!(founded.len(), 1);
        assert_sound(&keys);
    }
}

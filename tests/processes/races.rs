//! Races between processes, thousands of rounds of them: while one process uses a key, another one revokes, suspends or
//! purges it. Once that act has returned, no validation begun later grants, in any process; and whatever is granted is
//! granted for the key whose token was presented, with that key's owner and scopes and no other's.
//!
//! `KEYROTA_TEST_RACES=20` runs each race twenty times.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::Duration;

use keyrota::{
    Demand, DenialReason, EventKind, KeyId, KeyManager, LifecycleError, ManageError, ManualClock, NewKey,
    RotateNow, Scope, ScopeSet, Validator,
};

use crate::stage::{Bed, Process, Tally, letter, owner, root, start};

const SECOND: Duration = Duration::from_secs(1);

/// What the administrator does to the key of each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Race {
    Revoke,
    RevokeOwnersKeys,
    Suspend,
    /// Revoked first, since only what has ended is purged.
    Purge,
    /// Revoked while the users do not validate but rotate.
    RevokeRotated,
}

impl Race {
    const ALL: [(Self, &str); 5] = [
        (Self::Revoke, "revoke"),
        (Self::RevokeOwnersKeys, "revoke-owners-keys"),
        (Self::Suspend, "suspend"),
        (Self::Purge, "purge"),
        (Self::RevokeRotated, "revoke-rotated"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(race, _)| *race == self).unwrap().1
    }

    fn named(name: &str) -> Self {
        Self::ALL.iter().find(|(_, known)| *known == name).unwrap().0
    }

    /// What the token is once the act has returned.
    fn last(self) -> char {
        match self {
            Self::Suspend => 's',
            Self::Purge => 'u',
            _ => 'r',
        }
    }

    /// What it may be while the act is under way.
    fn between(self) -> &'static [char] {
        match self {
            Self::Suspend => &['g', 's'],
            Self::Purge => &['g', 'r', 'u'],
            _ => &['g', 'r'],
        }
    }
}

/// The key of a round, as the administrator tells the users of it.
struct Entry {
    token: String,
    key: KeyId,
    owner: String,
    scope: Scope,
    /// A scope that the key of the next round has, and this one has not.
    foreign: Scope,
}

fn scope(n: usize) -> Scope {
    format!("s{}:read", n % 5).parse().unwrap()
}

/// How far all have come. The keys are in a file of lines of one length, so that each is found by its number.
struct Track {
    made: Tally,
    begun: Tally,
    done: Tally,
    seen: Vec<Tally>,
    stopped: Tally,
    entries: File,
}

const LINE: usize = 256;

impl Track {
    fn open(folder: &Path, users: usize) -> Self {
        let tally = |name: &str| Tally::open(folder.join(name));
        let entries = folder.join("entries");
        Self {
            made: tally("made"),
            begun: tally("begun"),
            done: tally("done"),
            seen: (0..users).map(|n| tally(&format!("seen-{n}"))).collect(),
            stopped: tally("stopped"),
            entries: OpenOptions::new().create(true).read(true).append(true).open(entries).unwrap(),
        }
    }

    fn write(&self, words: [&str; 4]) {
        let mut line = serde_json::to_vec(&words).unwrap();
        line.resize(LINE, b' ');
        (&self.entries).write_all(&line).unwrap();
        self.made.add();
    }

    fn read(&self, n: usize) -> Entry {
        use std::os::unix::fs::FileExt as _;
        let mut line = [0; LINE];
        self.entries.read_exact_at(&mut line, (n * LINE) as u64).unwrap();
        let [token, key, owner, scope]: [String; 4] = serde_json::from_slice(&line).unwrap();
        let (key, scope) = (key.parse().unwrap(), scope.parse().unwrap());
        Entry { token, key, owner, scope, foreign: self::scope(n + 1) }
    }

    /// Waits, doing something meanwhile; `false` when somebody has stopped.
    fn wait(&self, until: impl Fn() -> bool, mut meanwhile: impl FnMut()) -> bool {
        while !until() {
            if self.stopped.count() > 0 {
                return false;
            }
            meanwhile();
            thread::yield_now();
        }
        true
    }
}

/// The administrator's process.
pub(crate) fn administer(
    keys: &KeyManager,
    folder: &Path,
    race: &str,
    rounds: usize,
    users: usize,
) -> String {
    let (race, track) = (Race::named(race), Track::open(folder, users));
    for n in 0..rounds {
        // An owner for each round, so that an act on it concerns this round's key alone.
        let name = owner(&format!("owner-{n}"));
        let new = NewKey::new(name, "ci").unwrap().scopes(ScopeSet::new([scope(n)]).unwrap());
        let issued = keys.by(root()).issue(new).unwrap();
        let (key, token) = (issued.key, issued.token.expose());
        track.write([token, &key.to_string(), name.as_str(), &scope(n).to_string()]);
        if !track.wait(|| track.seen.iter().all(|seen| seen.count() > n), || ()) {
            return format!("stopped in round {n}");
        }
        // Each round at another moment of what the users are at.
        (0..n % 23).for_each(|_| thread::yield_now());
        track.begun.add();
        let by = || keys.by(root());
        let done = match race {
            Race::Revoke | Race::RevokeRotated => by().revoke(key),
            Race::RevokeOwnersKeys => by().revoke(name),
            Race::Suspend => by().suspend(name),
            Race::Purge => by().revoke(key).and_then(|()| {
                let report = by().purge(Duration::ZERO)?;
                assert_eq!(report.purged, 1);
                Ok(())
            }),
        };
        if let Err(error) = done {
            track.stopped.add();
            return format!("round {n}: {error:?}");
        }
        track.done.add();
    }
    format!("raced {rounds}")
}

/// A user's process: answers with how many verdicts it had, and how many of these while an act was under way.
pub(crate) fn compete(
    open: &(KeyManager, Validator),
    folder: &Path,
    race: &str,
    rounds: usize,
    (user, users): (usize, usize),
) -> String {
    let (race, track) = (Race::named(race), Track::open(folder, users));
    let mut user =
        User { race, keys: &open.0, validator: &open.1, track, user, over: Vec::new(), counts: [0; 2] };
    for n in 0..rounds {
        let result = user.wait_for(n).and_then(|entry| match race {
            Race::RevokeRotated => user.rotate(n, &entry),
            _ => user.validate(n, &entry),
        });
        if let Err(error) = result {
            user.track.stopped.add();
            return format!("round {n}: {error}");
        }
    }
    format!("competed {} {}", user.counts[0], user.counts[1])
}

struct User<'a> {
    race: Race,
    keys: &'a KeyManager,
    validator: &'a Validator,
    track: Track,
    user: usize,
    /// The tokens of earlier rounds.
    over: Vec<String>,
    counts: [usize; 2],
}

impl User<'_> {
    fn letter(&self, token: &str) -> char {
        letter(&self.validator.validate(token))
    }

    /// Some token of an earlier round is still what it was at the end of that.
    fn look_back(&self, seed: usize) -> Result<(), String> {
        let Some(token) = self.over.get(seed.wrapping_mul(7_919) % self.over.len().max(1)) else {
            return Ok(());
        };
        match self.letter(token) {
            verdict if verdict == self.race.last() => Ok(()),
            verdict => Err(format!("a token of an earlier round has become {verdict}")),
        }
    }

    fn wait_for(&self, n: usize) -> Result<Entry, String> {
        let mut turn = n;
        let mut error = Ok(());
        let arrived = self.track.wait(
            || self.track.made.count() > n,
            || {
                turn += 1;
                if error.is_ok() {
                    error = self.look_back(turn);
                }
            },
        );
        error?;
        if arrived { Ok(self.track.read(n)) } else { Err("stopped".to_owned()) }
    }

    /// Validates until it is denied because the act has returned.
    fn validate(&mut self, n: usize, entry: &Entry) -> Result<(), String> {
        let mut seen = false;
        loop {
            let returned = self.track.done.count() > n;
            let verdict = self.validator.validate_for(&entry.token, Demand::scope(&entry.scope));
            let foreign = self.validator.validate_for(&entry.token, Demand::scope(&entry.foreign));
            let begun = self.track.begun.count() > n;
            self.counts[0] += 1;
            if let Ok(grant) = &verdict
                && (grant.key() != entry.key || grant.owner() != owner(&entry.owner))
            {
                return Err(format!("granted for {grant:?}"));
            }
            match foreign.as_ref().map_err(|denial| denial.reason()) {
                Ok(grant) => return Err(format!("granted with another key's scope: {grant:?}")),
                Err(DenialReason::Scope) if !returned => {}
                Err(_) if begun => {}
                Err(reason) => return Err(format!("denied before the act began: {reason:?}")),
            }
            let said = letter(&verdict);
            let as_it_must = match (returned, begun) {
                (true, _) => said == self.race.last(),
                (false, true) => self.race.between().contains(&said),
                (false, false) => said == 'g',
            };
            if !as_it_must {
                return Err(format!(
                    "{said}; the act had returned before: {returned}, and begun after: {begun}"
                ));
            }
            self.counts[1] += usize::from(begun && !returned);
            if returned {
                break;
            }
            if !seen {
                self.track.seen[self.user].add();
                seen = true;
            }
            self.look_back(n)?;
            // Where there are fewer processors than processes, the administrator is let in.
            thread::yield_now();
        }
        self.over.push(entry.token.clone());
        // What was counted of a key that is gone is handed over all the same.
        if n.is_multiple_of(16) {
            self.validator.flush().map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Rotates until it is refused; of all that it got nothing is left once the act has returned.
    fn rotate(&mut self, n: usize, entry: &Entry) -> Result<(), String> {
        let mut tokens = vec![entry.token.clone()];
        loop {
            let returned = self.track.done.count() > n;
            let result = self.keys.by(root()).rotate(RotateNow::of(entry.key).supersede());
            let begun = self.track.begun.count() > n;
            self.counts[0] += 1;
            self.counts[1] += usize::from(begun && !returned);
            match result {
                Ok(_) if returned => return Err("rotated after the revocation had returned".to_owned()),
                Ok(rotated) => tokens.push(rotated.token.expose().to_owned()),
                Err(ManageError::Lifecycle(LifecycleError::KeyRevoked)) if begun => break,
                Err(ManageError::Busy) => {}
                Err(error) => return Err(format!("{error:?}")),
            }
            if tokens.len() == 2 {
                self.track.seen[self.user].add();
            }
        }
        if !self.track.wait(|| self.track.done.count() > n, || ()) {
            return Err("stopped".to_owned());
        }
        for token in &tokens {
            match self.letter(token) {
                'r' => {}
                verdict => return Err(format!("{verdict} after the revocation had returned")),
            }
        }
        self.over.extend(tokens.pop());
        Ok(())
    }
}

/// How often each race is run.
fn times() -> usize {
    std::env::var("KEYROTA_TEST_RACES").map_or(1, |times| times.parse().unwrap())
}

/// The administrator's process against two users' processes.
fn run(race: Race, rounds: usize) {
    const USERS: usize = 2;
    for _ in 0..times() {
        let bed = Bed::new(10_000);
        let folder = bed.folder.path().display();
        let mut processes = bed.processes(1 + USERS);
        let (admin, users) = processes.split_first_mut().unwrap();
        admin.tell(&format!("administer {folder} {} {rounds} {USERS}", race.name()));
        for (n, user) in users.iter_mut().enumerate() {
            user.tell(&format!("compete {folder} {} {rounds} {n} {USERS}", race.name()));
        }
        let answers: Vec<_> = processes.iter().map(Process::answer).collect();
        assert_eq!(answers[0], format!("raced {rounds}"), "{race:?}: {answers:?}");
        let mut between = 0;
        for answer in &answers[1..] {
            let words: Vec<_> = answer.split_whitespace().collect();
            let ["competed", verdicts, during] = words[..] else { panic!("{race:?}: {answers:?}") };
            assert!(verdicts.parse::<usize>().unwrap() >= 2 * rounds, "{race:?}: {answers:?}");
            between += during.parse::<usize>().unwrap();
        }
        assert!(between > rounds / 4, "{race:?}: hardly anything met: {answers:?}");
        bed.assert_sound();
    }
}

#[test]
fn a_revocation_wins_against_use_in_other_processes_in_each_of_many_rounds() {
    run(Race::Revoke, 500);
}

#[test]
fn a_revocation_of_all_keys_of_an_owner_wins_against_their_use() {
    run(Race::RevokeOwnersKeys, 250);
}

#[test]
fn a_suspension_wins_against_use_in_other_processes_in_each_of_many_rounds() {
    run(Race::Suspend, 600);
}

#[test]
fn a_purge_wins_against_use_and_what_was_purged_answers_with_no_other_key() {
    run(Race::Purge, 500);
}

#[test]
fn a_revocation_wins_against_rotations_in_other_processes() {
    run(Race::RevokeRotated, 20);
}

/// One of two tickers: both come to each second at once. Answers with what its ticks recorded.
pub(crate) fn tick_along(
    open: &(KeyManager, Validator),
    clock: &ManualClock,
    folder: &Path,
    seconds: usize,
    tickers: usize,
) -> String {
    let track = Track::open(folder, 0);
    let arrived = Tally::open(folder.join("arrived"));
    let mut expired = 0;
    for n in 0..seconds {
        arrived.add();
        if !track.wait(|| arrived.count() >= tickers * (n + 1), || ()) {
            return format!("stopped in second {n}");
        }
        clock.set(start().plus(SECOND * (n as u32 + 1)).unwrap());
        // The deadline holds whoever has ticked, and nobody ends what is not over.
        let verdicts = [n, n + 1].map(|n| letter(&open.1.validate(track.read(n).token)));
        if verdicts != ['e', 'g'] {
            track.stopped.add();
            return format!("second {n}: {verdicts:?}");
        }
        loop {
            match open.0.tick() {
                Ok(report) => {
                    expired += report.expired;
                    if !report.more {
                        break;
                    }
                }
                Err(error) => {
                    track.stopped.add();
                    return format!("second {n}: {error:?}");
                }
            }
        }
    }
    format!("expired {expired}")
}

#[test]
fn two_tickers_that_come_to_each_deadline_at_once_record_it_once() {
    const SECONDS: usize = 500;
    const TICKERS: usize = 2;
    for _ in 0..times() {
        let bed = Bed::new(10_000);
        let track = Track::open(bed.folder.path(), 0);
        for n in 0..=SECONDS {
            let end = start().plus(SECOND * (n as u32 + 1)).unwrap();
            let name = owner(&format!("owner-{}", n % 50));
            let issued = bed.keys.by(root()).issue(NewKey::new(name, "ci").unwrap().until(end)).unwrap();
            let key = issued.key.to_string();
            track.write([issued.token.expose(), &key, name.as_str(), &scope(n).to_string()]);
        }
        let mut processes = bed.processes(TICKERS);
        for process in &mut processes {
            process.tell(&format!("tick-along {} {SECONDS} {TICKERS}", bed.folder.path().display()));
        }
        let answers: Vec<_> = processes.iter().map(Process::answer).collect();
        let recorded = |answer: &String| answer.strip_prefix("expired ")?.parse::<usize>().ok();
        let sum: Option<usize> = answers.iter().map(recorded).sum();
        assert_eq!(sum, Some(SECONDS), "{answers:?}");
        let filter = keyrota::AuditFilter::all().kind(EventKind::VersionEnded);
        let entries = bed.keys.audit(&filter, usize::MAX).unwrap();
        for (n, entry) in entries.iter().enumerate() {
            let (event, expected) = (&entry.event, track.read(n));
            assert_eq!(
                event.at,
                start().plus(SECOND * (n as u32 + 1)).unwrap(),
                "each at its deadline, in order"
            );
            assert_eq!(event.key, Some(expected.key));
        }
        assert_eq!(entries.len(), SECONDS);
        bed.assert_sound();
    }
}

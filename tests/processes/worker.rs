//! What a child process does: it carries out one command after the other, and answers each with one line.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use keyrota::{
    KeyFilter, KeyId, KeyManager, KeyStatus, KeyStore as _, LifecycleError, ManageError, ManualClock, NewKey,
    RevokeTarget, RotateNow, SqliteStore, TickReport, Timestamp, Validator, VersionNo,
};

use crate::stage::{ANSWER, Tally, keyring, letter, owner, root};
use crate::telling;
use crate::verdicts::Script;
use crate::{blocked, quota, races};

/// Carries out commands until there are no more.
pub(crate) fn serve() {
    let commands = commands();
    let mut worker = Worker { clock: ManualClock::new(Timestamp::MIN), open: None, tokens: Vec::new() };
    for command in commands {
        let words: Vec<_> = command.split_whitespace().collect();
        say(&worker.carry_out(&words));
    }
}

/// The lines of the standard input. When it ends, the parent is gone, and so is this process, whatever it is at.
fn commands() -> Receiver<String> {
    let (sender, commands) = channel();
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if line.map(|line| sender.send(line)).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    commands
}

/// One line in one write: a parent that has read it knows that what it says was done before.
fn say(answer: &str) {
    writeln!(std::io::stdout().lock(), "{ANSWER}{answer}").unwrap();
}

struct Worker {
    clock: ManualClock,
    open: Option<(KeyManager, Validator)>,
    tokens: Vec<String>,
}

impl Worker {
    fn keys(&self) -> &KeyManager {
        &self.open.as_ref().unwrap().0
    }

    fn validator(&self) -> &Validator {
        &self.open.as_ref().unwrap().1
    }

    fn carry_out(&mut self, words: &[&str]) -> String {
        match *words {
            ["open", path, time] => self.open(Path::new(path), time),
            ["clock", time] => {
                self.clock.set(timestamp(time));
                "set".to_owned()
            }
            ["tokens", path] => {
                self.tokens = Script::read(Path::new(path)).tokens;
                "known".to_owned()
            }
            ["meet", path, number] => meet(Path::new(path), number.parse().unwrap()),
            ["check"] => check(self.validator(), &self.tokens),
            ["watch", folder, threads] => self.watch(Path::new(folder), threads.parse().unwrap()),
            ["perform", folder, threads, burst] => {
                self.perform(Path::new(folder), threads.parse().unwrap(), burst.parse().unwrap())
            }
            ["administer", folder, race, rounds, users] => {
                let (rounds, users) = (rounds.parse().unwrap(), users.parse().unwrap());
                races::administer(self.keys(), Path::new(folder), race, rounds, users)
            }
            ["compete", folder, race, rounds, user, users] => {
                let user = (user.parse().unwrap(), users.parse().unwrap());
                let open = self.open.as_ref().unwrap();
                races::compete(open, Path::new(folder), race, rounds.parse().unwrap(), user)
            }
            ["tick-along", folder, seconds, tickers] => {
                let (seconds, tickers) = (seconds.parse().unwrap(), tickers.parse().unwrap());
                let open = self.open.as_ref().unwrap();
                races::tick_along(open, &self.clock, Path::new(folder), seconds, tickers)
            }
            ["spend", token, threads, times, tally] => {
                let (threads, times) = (threads.parse().unwrap(), times.parse().unwrap());
                quota::spend(self.validator(), token, &Tally::open(tally.into()), threads, times)
            }
            ["tell", path, time, keys] => {
                telling::tell(Path::new(path), timestamp(time), keys.parse().unwrap(), None)
            }
            ["tell-hang", path, time, after] => {
                telling::tell(Path::new(path), timestamp(time), 0, Some(after.parse().unwrap()))
            }
            ["hold", folder, time, token] => blocked::hold(Path::new(folder), timestamp(time), token),
            ["deliver", folder, time, channel] => {
                blocked::deliver(Path::new(folder), timestamp(time), channel)
            }
            ["churn", round, time] => self.churn(round, time),
            _ => self.act(words, None),
        }
    }

    /// Answers with the store's id.
    fn open(&mut self, path: &Path, time: &str) -> String {
        self.open = None;
        self.clock.set(timestamp(time));
        let store = SqliteStore::open(path).unwrap();
        let keys = KeyManager::builder(store, keyring()).clock(self.clock.clone()).open().unwrap();
        let head = SqliteStore::open(path).unwrap().head().unwrap().unwrap();
        let body: serde_json::Value = serde_json::from_slice(&head.body).unwrap();
        let validator = keys.validator().unwrap();
        self.open = Some((keys, validator));
        format!("opened {}", body["store"].as_str().unwrap())
    }

    /// An act, under the request id that ends the command or the one given.
    fn act(&self, words: &[&str], request: Option<&str>) -> String {
        let act = || match request {
            Some(request) => self.keys().by(root()).request(request),
            None => self.keys().by(root()),
        };
        let key = |text: &str| text.parse::<KeyId>().unwrap();
        let done = |result: Result<(), ManageError>| result.map(|()| "done".to_owned());
        let result = match *words {
            [_, _, "as", request] => return self.act(&words[..2], Some(request)),
            ["issue", name] => act()
                .issue(NewKey::new(owner(name), "ci").unwrap())
                .map(|issued| format!("issued {} {}", issued.key, issued.token.expose())),
            ["rotate", id] => act()
                .rotate(key(id))
                .map(|new| format!("rotated {} {}", new.version.get(), new.token.expose())),
            ["supersede", id] => act()
                .rotate(RotateNow::of(key(id)).supersede())
                .map(|new| format!("rotated {} {}", new.version.get(), new.token.expose())),
            ["revoke", id] => done(act().revoke(key(id))),
            ["revoke-version", id, number] => {
                let number = VersionNo::new(number.parse().unwrap());
                done(act().revoke(RevokeTarget::Version(key(id), number)))
            }
            ["revoke-owners", name] => done(act().revoke(owner(name))),
            ["suspend", name] => done(act().suspend(owner(name))),
            ["resume", name] => done(act().resume(owner(name))),
            ["tick"] => self.keys().tick().map(|report| tick_line(&report)),
            _ => panic!("no such command: {words:?}"),
        };
        match result {
            Ok(answer) => answer,
            Err(ManageError::OwnerLimitReached { .. }) => "limit".to_owned(),
            Err(ManageError::Lifecycle(LifecycleError::RotationOpen { .. })) => "open".to_owned(),
            Err(ManageError::Lifecycle(LifecycleError::OwnerSuspended)) => "suspended".to_owned(),
            Err(error) => format!("error {error:?}"),
        }
    }

    /// Validates all tokens of the script, again and again, on several threads.
    fn watch(&self, folder: &Path, threads: usize) -> String {
        let script = Script::read(folder);
        let outcomes: Vec<_> = thread::scope(|scope| {
            let watch = |n| {
                let (validator, script) = (self.validator().clone(), &script);
                scope.spawn(move || Course::open(folder, threads).watch(n, &validator, script))
            };
            let watching: Vec<_> = (0..threads).map(watch).collect();
            watching.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        match outcomes.into_iter().collect::<Result<Vec<usize>, String>>() {
            Ok(rounds) => format!("watched {}", rounds.iter().sum::<usize>()),
            Err(stale) => stale,
        }
    }

    /// Carries out the acts of the script: so many without a pause, the next as soon as all watchers have seen these.
    fn perform(&self, folder: &Path, threads: usize, burst: usize) -> String {
        let script = Script::read(folder);
        let course = Course::open(folder, threads);
        for (n, act) in script.acts.iter().enumerate() {
            course.begun.add();
            let answer = self.act(&act.split_whitespace().collect::<Vec<_>>(), None);
            // This process itself goes by it at once, too.
            let own = check(self.validator(), &script.tokens);
            if answer != "done" || own != script.expected[n + 1] {
                course.stopped.add();
                return format!("{act}: {answer}, after which its own process says {own}");
            }
            course.done.add();
            while (n + 1) % burst == 0 && course.seen.iter().any(|seen| seen.count() <= n) {
                if course.stopped.count() > 0 {
                    return format!("stopped after {act}");
                }
                thread::yield_now();
            }
        }
        "performed".to_owned()
    }

    /// Acts until it is killed. Says what it is going to do before each act, and what came of it afterwards.
    fn churn(&self, round: &str, time: &str) -> ! {
        const CYCLE: [&str; 8] = ["issue", "rotate", "issue", "revoke", "tick", "rotate", "rotate", "tick"];
        self.clock.set(timestamp(time));
        let live = self.keys().list(&KeyFilter::all().status(KeyStatus::Active), None, 1_000).unwrap();
        let mut live: Vec<_> = live.keys.iter().map(|key| key.id.to_string()).collect();
        for (n, verb) in CYCLE.iter().cycle().enumerate() {
            self.clock.advance(Duration::from_secs(60)).unwrap();
            let object = match *verb {
                "issue" => format!("owner-{}", n % 3),
                "revoke" => live.remove(n % live.len()),
                "rotate" => live[n % live.len()].clone(),
                _ => String::new(),
            };
            let request = format!("r{round}-{n}");
            say(&format!(
                "intend {} {request} {verb} {object}",
                keyrota::Clock::now(&self.clock).unix_micros()
            ));
            let words: Vec<_> = [verb, object.as_str()].into_iter().filter(|word| !word.is_empty()).collect();
            let answer = self.act(&words, Some(&request));
            if let ["issued", key, _] = *answer.split_whitespace().collect::<Vec<_>>() {
                live.push(key.to_owned());
            }
            say(&format!("did {request} {answer}"));
        }
        unreachable!("a cycle has no end")
    }
}

fn timestamp(micros: &str) -> Timestamp {
    Timestamp::from_unix_micros(micros.parse().unwrap()).unwrap()
}

fn tick_line(report: &TickReport) -> String {
    let TickReport { expired, retired, completed, cleaned, faults, more, .. } = report;
    format!("ticked {expired} {retired} {completed} {cleaned} {faults} {more}")
}

/// Waits until so many processes have come to this place, and goes on in the same moment as they do.
fn meet(path: &Path, number: usize) -> String {
    let arrived = Tally::open(path.to_owned());
    arrived.add();
    while arrived.count() < number {
        thread::yield_now();
    }
    "met".to_owned()
}

fn check(validator: &Validator, tokens: &[String]) -> String {
    tokens.iter().map(|token| letter(&validator.validate(token))).collect()
}

/// How far watchers and the performer have come.
struct Course {
    begun: Tally,
    done: Tally,
    /// One for each watching thread.
    seen: Vec<Tally>,
    stopped: Tally,
}

impl Course {
    fn open(folder: &Path, threads: usize) -> Self {
        let tally = |name: &str| Tally::open(folder.join(name));
        Self {
            begun: tally("begun"),
            done: tally("done"),
            seen: (0..threads).map(|n| tally(&format!("seen-{n}"))).collect(),
            stopped: tally("stopped"),
        }
    }

    /// Before each round it reads how many acts have returned, after it how many have begun: what lies between may
    /// show or not, everything else has to be as the script says. The performer pauses until each thread has confirmed
    /// what it did, so that the first validation begun after the last act of a burst is judged by that act alone.
    fn watch(&self, thread: usize, validator: &Validator, script: &Script) -> Result<usize, String> {
        let (mut confirmed, mut rounds) = (0, 0);
        while confirmed < script.acts.len() {
            let before = self.done.count();
            let verdicts = check(validator, &script.tokens);
            let after = self.begun.count();
            rounds += 1;
            for (token, verdict) in verdicts.chars().enumerate() {
                let may_be = |act: usize| script.expected[act].chars().nth(token) == Some(verdict);
                if !(before..=after).any(may_be) {
                    self.stopped.add();
                    return Err(format!(
                        "stale: token {token} was {verdict} in a validation begun after {before} acts had returned and ended before {after} had begun"
                    ));
                }
            }
            if self.stopped.count() > 0 {
                return Err("stopped".to_owned());
            }
            while confirmed < before {
                self.seen[thread].add();
                confirmed += 1;
            }
        }
        Ok(rounds)
    }
}

impl Script {
    /// The file beside the database in which the parent keeps the script for its children.
    fn read(folder: &Path) -> Self {
        let path: PathBuf = folder.join("script.json");
        Self::from_json(&std::fs::read(path).unwrap())
    }
}

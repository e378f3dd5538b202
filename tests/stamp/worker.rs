//! What a child process does.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

use keyrota::{Actor, KeyManager, RotateNow, SqliteStore};
use rusqlite::Connection;

use crate::crash;
use crate::process::ANSWER;
use crate::shared::{Course, course};
use crate::witness::keyring;

/// Carries out commands until there are no more.
pub(crate) fn serve() {
    let mut worker = Worker { shell: None, keys: None };
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let answer = worker.carry_out(word, rest);
        say(&answer);
    }
}

fn say(answer: &str) {
    writeln!(std::io::stdout().lock(), "{ANSWER}{answer}").unwrap();
}

struct Worker {
    shell: Option<Connection>,
    keys: Option<KeyManager>,
}

impl Worker {
    fn shell(&self) -> &Connection {
        self.shell.as_ref().unwrap()
    }

    fn carry_out(&mut self, word: &str, rest: &str) -> String {
        match word {
            "open" => {
                let shell = Connection::open(rest).unwrap();
                shell.busy_timeout(Duration::from_secs(30)).unwrap();
                self.shell = Some(shell);
                "ok".to_owned()
            }
            "close" => {
                self.shell.take().unwrap().close().unwrap();
                "ok".to_owned()
            }
            "sql" => {
                self.shell().execute_batch(rest).map_or_else(|error| error.to_string(), |()| "ok".to_owned())
            }
            "die-before-header" => crash::before_the_header(self.shell(), rest),
            "die-within-header" => crash::between_the_copies(self.shell(), rest),
            "die-before-return" => crash::before_commit_returns(self.shell(), rest),
            "keys" => {
                let store = SqliteStore::open(rest).unwrap();
                self.keys = Some(KeyManager::open(store, keyring()).unwrap());
                "ok".to_owned()
            }
            "revoke" => {
                let key = rest.parse::<keyrota::KeyId>().unwrap();
                self.keys.as_ref().unwrap().by(Actor::operator("root")).revoke(key).unwrap();
                "ok".to_owned()
            }
            "churn" => {
                let mut words = rest.split(' ');
                let mut next = || words.next().unwrap();
                churn(Path::new(next()), course(Path::new(next())))
            }
            "rotate" => {
                let (seconds, keys) = rest.split_once(' ').unwrap();
                self.rotate(Duration::from_secs(seconds.parse().unwrap()), keys)
            }
            _ => panic!("no such command: {word}"),
        }
    }

    /// Rotates the keys in turn, at most a thousand times a second, and tells each new token once the call has
    /// returned.
    fn rotate(&self, time: Duration, keys: &str) -> String {
        const RATE: u32 = 1_000;
        let keys: Vec<keyrota::KeyId> = keys.split(' ').map(|key| key.parse().unwrap()).collect();
        let manager = self.keys.as_ref().unwrap();
        let begin = Instant::now();
        let mut count = 0;
        while begin.elapsed() < time {
            if begin.elapsed() * RATE < Duration::from_secs(1) * count {
                std::thread::yield_now();
                continue;
            }
            let index = count as usize % keys.len();
            let rotated =
                manager.by(Actor::operator("root")).rotate(RotateNow::of(keys[index]).supersede()).unwrap();
            say(&format!("token {index} {}", rotated.token.expose()));
            count += 1;
        }
        "rotated".to_owned()
    }
}

/// Numbers without an order that anybody could rely on.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Commits as fast as it can until it is told to stop, each time the number of the commit, and does all else that a process can do to a database in between.
fn churn(path: &Path, course: &Course) -> String {
    let open = || {
        let shell = Connection::open(path).unwrap();
        shell.busy_timeout(Duration::from_secs(30)).unwrap();
        shell
            .execute_batch(
                "PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 200; PRAGMA cache_size = 10",
            )
            .unwrap();
        shell
    };
    let mut shell = open();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut commits, mut others) = (0_u32, 0_u32);
    while !course.stop.load(Acquire) {
        let other = match dice.roll(400) {
            0 => "PRAGMA wal_checkpoint(PASSIVE)",
            1 => "PRAGMA wal_checkpoint(FULL)",
            2 => "PRAGMA wal_checkpoint(RESTART)",
            3 => "PRAGMA wal_checkpoint(TRUNCATE)",
            4 => "BEGIN IMMEDIATE; INSERT INTO writer VALUES ('never', 0, 0, 0); ROLLBACK",
            5 if dice.roll(20) == 0 => "VACUUM",
            6 => {
                shell = open();
                "SELECT 1"
            }
            _ => {
                let sql = if dice.roll(50) == 0 {
                    // More than fits the cache: pages go into the log before COMMIT.
                    "INSERT OR REPLACE INTO writer SELECT 'x' || value || hex(zeroblob(2000)), 0, ?1, 0 \
                     FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]') UNION ALL SELECT 'w', 0, ?1, 0"
                } else {
                    "INSERT OR REPLACE INTO writer VALUES ('w', 0, ?1, 0)"
                };
                let mut statement = shell.prepare_cached(sql).unwrap();
                commits += 1;
                course.begun.store(u64::from(commits), Release);
                statement.execute([commits]).unwrap();
                course.done.store(u64::from(commits), Release);
                continue;
            }
        };
        // A checkpoint that finds a reader in its way says so in a row.
        shell.execute_batch(other).unwrap();
        others += 1;
    }
    format!("{commits} {others}")
}

//! What a tick costs on SQLite, with every commit synced: with nothing due and with ten keys due, among few keys and
//! among many, with no channel and with one that is told of all; and how many automatic rotations it carries out in a second, against a loop of bare SQL that reads and
//! writes the same rows.
//!
//! `cargo bench --bench tick`, with 1 K and 100 K keys; `KEYROTA_BENCH_KEYS=1_000,1_000_000` with others, the first of
//! which is what the others are compared with. `KEYROTA_BENCH_ROTATIONS=100_000` rotates so many in place of 20 K. The
//! databases are made in `/dev/shm` where there is one, and measured in a temporary folder; `KEYROTA_BENCH_DIR` says in
//! which. `KEYROTA_BENCH_PARTS=tick`, `channel` or `rotations` measures only that. At its end lines `ratio NAME VALUE`; names that end
//! in a unit are no ratios. `-- --test` carries out each measurement once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, reports, and stops where something is wrong"
)]

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::measure::{Run, busy_nanos, median, nanos};
use common::stores::{Before, Lean};
use common::{Error, bare};
use keyrota::{
    Actor, Callback, KeyManager, KeyStore, Keyring, ManualClock, NewKey, Notification, OwnerId, OwnerLimit,
    ScopeSet, SqliteStore, TickReport, Timestamp,
};
use rusqlite::Connection;
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// After so long a key's successor is due.
const ROTATE_EVERY: Duration = Duration::from_secs(83 * 86_400);
const OWNERS: usize = 1_000;
/// How many keys are due where some are.
const FEW: usize = 10;

fn main() -> Result<(), Error> {
    let mut run = Run::begin();
    let parts = std::env::var("KEYROTA_BENCH_PARTS").unwrap_or_default();
    let is_wanted = |part: &str| parts.is_empty() || parts.split(',').any(|wanted| wanted == part);
    let wanted: Vec<_> = [("tick", Told::Nobody), ("channel", Told::OneChannel)]
        .into_iter()
        .filter(|(part, _)| is_wanted(part))
        .collect();
    if !wanted.is_empty() {
        let sizes = run.sizes("KEYROTA_BENCH_KEYS", &[1_000, 100_000]);
        let sizes = if run.test { vec![20, 120] } else { sizes };
        let turns = run.pick(31, 1);
        let mut made = Vec::new();
        for count in sizes {
            let began = std::time::Instant::now();
            made.push((count, for_turns(count, turns + 1)?));
            println!("{count} keys made in {:.1} s", began.elapsed().as_secs_f64());
        }
        for (part, told) in wanted {
            ticks(&mut run, &made, turns, part, told)?;
        }
    }
    if is_wanted("rotations") {
        for count in run.sizes("KEYROTA_BENCH_ROTATIONS", &[20_000]) {
            rotations(&mut run, count)?;
        }
    }
    run.end();
    Ok(())
}

/// A database that is made in memory, as far as there is a folder for that, and measured in another place.
struct Made {
    keyring: Keyring,
    folder: TempDir,
}

/// One copy of it; gone when it is dropped.
struct Copied {
    path: PathBuf,
    _folder: TempDir,
}

fn measured_in() -> Result<TempDir, Error> {
    Ok(match std::env::var_os("KEYROTA_BENCH_DIR") {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    })
}

impl Made {
    /// `issue` says which keys it holds.
    fn with(issue: impl FnOnce(&mut Making) -> Result<(), Error>) -> Result<Self, Error> {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let made = Self { keyring: Keyring::generate()?, folder };
        let mut making = Making::at(&made)?;
        issue(&mut making)?;
        making.write()?;
        // The log goes into the file, which is what is copied.
        making.file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(made)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("keys.db")
    }

    fn copy(&self) -> Result<Copied, Error> {
        let folder = measured_in()?;
        let path = folder.path().join("keys.db");
        fs::copy(self.path(), &path)?;
        // What was copied is not to be written while something else is measured.
        File::open(&path)?.sync_all()?;
        Ok(Copied { path, _folder: folder })
    }

    /// A manager at this time, which nobody is to doubt.
    fn manage(&self, store: impl KeyStore, at: Timestamp) -> Result<(KeyManager, ManualClock), Error> {
        self.manage_and_tell(store, at, Told::Nobody)
    }

    fn manage_and_tell(
        &self,
        store: impl KeyStore,
        at: Timestamp,
        told: Told,
    ) -> Result<(KeyManager, ManualClock), Error> {
        let clock = ManualClock::new(at);
        let keys = KeyManager::builder(store, self.keyring.clone()).clock(clock.clone());
        let keys = match told {
            Told::Nobody => keys,
            Told::OneChannel => keys.channel("ops", Callback::new(|_: &Notification| Ok(()))),
        };
        let keys = keys.open()?;
        keys.by(Actor::service("bench")).confirm_clock(at)?;
        Ok((keys, clock))
    }
}

/// Keys are issued by the library, and what it commits is written in few large transactions.
struct Making {
    keys: KeyManager,
    clock: ManualClock,
    /// Where it is committed, and forgotten.
    lean: Lean,
    recording: Before,
    file: Connection,
    issued: usize,
}

impl Making {
    /// How many keys are written together.
    const TOGETHER: usize = 10_000;

    fn at(made: &Made) -> Result<Self, Error> {
        SqliteStore::open(made.path())?.close()?;
        let (lean, clock) = (Lean::default(), ManualClock::new(start()?.minus_or_min(100 * DAY)));
        let recording = Before::new(lean.clone()).recording();
        let keys = KeyManager::builder(recording.clone(), made.keyring.clone())
            .clock(clock.clone())
            .owner_limit(OwnerLimit::new(1_000_000)?)
            .auto_rotation(true)
            .open()?;
        Ok(Self { keys, clock, lean, recording, file: bare::make(&made.path())?, issued: 0 })
    }

    fn issue(&mut self, at: Timestamp, new: NewKey) -> Result<(), Error> {
        self.clock.set(at);
        self.keys.by(Actor::service("bench")).issue(new)?;
        self.issued += 1;
        if self.issued.is_multiple_of(Self::TOGETHER) { self.write() } else { Ok(()) }
    }

    /// Issues so many keys, a millisecond apart.
    fn issue_many(&mut self, from: Timestamp, count: usize) -> Result<(), Error> {
        (0..count).try_for_each(|number| {
            let at = from.plus(Duration::from_millis(number as u64))?;
            self.issue(at, new_key(number)?)
        })
    }

    fn write(&mut self) -> Result<(), Error> {
        self.lean.forget();
        bare::carry_over(&mut self.file, &self.recording.recorded())
    }
}

fn new_key(number: usize) -> Result<NewKey, Error> {
    let owner = OwnerId::new(&format!("owner-{}", number % OWNERS))?;
    let scopes: ScopeSet = ["orders:read", "orders:write"].try_into()?;
    Ok(NewKey::new(owner, format!("key {number}"))?.scopes(scopes))
}

fn start() -> Result<Timestamp, Error> {
    Ok("2027-06-01T00:00:00Z".parse()?)
}

/// Who is told of what a tick finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nobody,
    OneChannel,
}

/// One thing that a tick finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finds {
    Nothing,
    Expired,
    Rotations,
}

impl Finds {
    const ALL: [Self; 3] = [Self::Nothing, Self::Expired, Self::Rotations];

    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing_due",
            Self::Expired => "10_expired",
            Self::Rotations => "10_rotations",
        }
    }

    fn check(self, report: &TickReport, told: Told) {
        let expected = match self {
            Self::Nothing => (0, 0),
            Self::Expired => (FEW, 0),
            Self::Rotations => (0, FEW),
        };
        assert_eq!((report.expired, report.started), expected, "{self:?}: {report:?}");
        let others = report.activated + report.completed + report.failed + report.retired + report.deferred;
        assert_eq!(others, 0, "{report:?}");
        assert!(!report.more && report.faults == 0, "{report:?}");
        let told_of = if told == Told::Nobody || self == Self::Nothing { 0 } else { FEW };
        assert_eq!(report.notified, told_of, "{self:?}: {report:?}");
    }
}

/// When what this finds in this turn has become due.
fn due_at(turn: usize, finds: Finds) -> Result<Timestamp, Error> {
    let place = Finds::ALL.iter().position(|other| *other == finds).unwrap_or_default();
    Ok(start()?.plus(MINUTE * (Finds::ALL.len() * turn + place + 1) as u32)?)
}

/// So many keys that are not due for long, and for each turn a few that expire and a few that rotate.
fn for_turns(count: usize, turns: usize) -> Result<Made, Error> {
    Made::with(|making| {
        for turn in 0..turns {
            let at = due_at(turn, Finds::Rotations)?.minus_or_min(ROTATE_EVERY);
            (0..FEW).try_for_each(|number| making.issue(at, new_key(number)?))?;
        }
        // A millisecond for each comes to less than an hour for 3 M.
        let (earlier, from) = (start()?.minus_or_min(120 * MINUTE), start()?.minus_or_min(60 * MINUTE));
        for turn in 0..turns {
            let until = due_at(turn, Finds::Expired)?;
            let new = |number| Ok::<_, Error>(new_key(number)?.auto_rotation(false).until(until));
            (0..FEW).try_for_each(|number| making.issue(earlier, new(number)?))?;
        }
        making.issue_many(from, count)
    })
}

/// A database that is ticked in turns with others.
struct Ticked {
    count: usize,
    keys: KeyManager,
    clock: ManualClock,
    _copied: Copied,
    /// By what was found: how long it took, and for how long this thread ran, in nanoseconds.
    took: [Vec<(f64, f64)>; 3],
}

impl Ticked {
    fn median(&self, finds: usize, of: fn(&(f64, f64)) -> f64) -> f64 {
        median(self.took[finds].iter().map(of).collect())
    }
}

fn ticks(run: &mut Run, made: &[(usize, Made)], turns: usize, part: &str, told: Told) -> Result<(), Error> {
    let mut all = Vec::new();
    for (count, made) in made {
        let copied = made.copy()?;
        let (keys, clock) = made.manage_and_tell(SqliteStore::open(&copied.path)?, start()?, told)?;
        all.push(Ticked { count: *count, keys, clock, _copied: copied, took: Default::default() });
    }
    for turn in 0..=turns {
        for (place, finds) in Finds::ALL.into_iter().enumerate() {
            for Ticked { keys, clock, took, .. } in &mut all {
                clock.set(due_at(turn, finds)?);
                let (mut report, mut busy) = (None, 0.0);
                let passed = nanos(|| busy = busy_nanos(|| report = Some(keys.tick())));
                finds.check(&report.unwrap()?, told);
                // The first turn reads what is read for the first time.
                if turn > 0 {
                    took[place].push((passed, busy));
                }
            }
        }
    }
    for (place, finds) in Finds::ALL.into_iter().enumerate() {
        println!("\n{part}: a tick that finds {}", finds.name());
        for ticked in &all {
            let (passed, busy) = (ticked.median(place, |took| took.0), ticked.median(place, |took| took.1));
            println!(
                "  {:>9} keys{:>12.1} µs, of which this thread ran {:.1} µs",
                ticked.count,
                passed / 1e3,
                busy / 1e3
            );
        }
        let Some((few, rest)) = all.split_first() else { continue };
        for many in rest {
            // In pairs: what else the machine does at the time hits both.
            let ratio = |of: fn(&(f64, f64)) -> f64| {
                median(
                    many.took[place]
                        .iter()
                        .zip(&few.took[place])
                        .map(|(many, few)| of(many) / of(few))
                        .collect(),
                )
            };
            let name = format!("{}_{}_over_{}", finds.name(), many.count, few.count);
            run.ratio(format!("{part}_{name}"), ratio(|took| took.0));
            run.ratio(format!("{part}_busy_{name}"), ratio(|took| took.1));
        }
    }
    Ok(())
}

/// Ticks until nothing is left to do.
fn tick_until_done(keys: &KeyManager) -> Result<usize, Error> {
    let mut started = 0;
    loop {
        let report = keys.tick()?;
        started += report.started;
        if !report.more {
            return Ok(started);
        }
    }
}

fn contents(path: &Path) -> Result<Vec<(i64, i64, i64)>, Error> {
    bare::contents(&bare::open(path)?)
}

fn rotations(run: &mut Run, count: usize) -> Result<(), Error> {
    let now = start()?;
    // Their successors have been due for an hour at least.
    let from = now.minus_or_min(ROTATE_EVERY + 120 * MINUTE);
    let made = Made::with(|making| making.issue_many(from, count))?;

    // Once to see what is written; at the same time everything runs warm.
    let copied = made.copy()?;
    let store = Before::new(SqliteStore::open(&copied.path)?).recording();
    let (keys, _) = made.manage(store.clone(), now)?;
    drop(store.recorded());
    assert_eq!(tick_until_done(&keys)?, count);
    let commits = store.recorded();
    drop((keys, store));
    let expected = contents(&copied.path)?;
    drop(copied);
    println!("\n{count} rotations: {} commits", commits.len());
    for (what, times) in bare::told(&commits) {
        println!("  {what:<20}{times:>9}");
    }

    let mut measured: Vec<[(f64, f64); 2]> = Vec::new();
    for _ in 0..run.pick(5, 1) {
        let copied = made.copy()?;
        // What the library writes when its clock is confirmed is no part of it.
        drop(made.manage(SqliteStore::open(&copied.path)?, now)?);
        let mut connection = bare::open(&copied.path)?;
        let (mut done, mut busy) = (None, 0.0);
        let mut work = || done = Some(bare::replay(&mut connection, &commits, now));
        let passed = nanos(|| busy = busy_nanos(&mut work));
        done.unwrap()?;
        let bare = (passed, busy);
        assert_eq!(bare::contents(&connection)?, expected);
        drop((connection, copied));

        let copied = made.copy()?;
        let (keys, _) = made.manage(SqliteStore::open(&copied.path)?, now)?;
        let (mut done, mut busy) = (None, 0.0);
        let passed = nanos(|| busy = busy_nanos(|| done = Some(tick_until_done(&keys))));
        assert_eq!(done.unwrap()?, count);
        measured.push([bare, (passed, busy)]);
    }
    let of = |which: usize, of: fn(&(f64, f64)) -> f64| {
        median(measured.iter().map(|turn| of(&turn[which])).collect())
    };
    for (which, name) in ["bare SQL", "ticks"].into_iter().enumerate() {
        let (passed, busy) = (of(which, |took| took.0), of(which, |took| took.1));
        let each = count as f64 * 1e9;
        println!(
            "  {name:<10}{:>10.0} rotations/s; {:>8.1} ms, of which this thread ran {:.1} ms",
            each / passed,
            passed / 1e6,
            busy / 1e6
        );
    }
    let ratio = |of: fn(&(f64, f64)) -> f64| {
        median(measured.iter().map(|[bare, ours]| of(bare) / of(ours)).collect())
    };
    run.ratio(format!("rotations_over_bare_{count}"), ratio(|took| took.0));
    run.ratio(format!("rotations_over_bare_busy_{count}"), ratio(|took| took.1));
    run.ratio(format!("rotations_{count}_per_s"), count as f64 * 1e9 / of(1, |took| took.0));
    Ok(())
}

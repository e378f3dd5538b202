//! The library beside a naive model of it: random acts, and after every step the model, a memory store and an SQLite
//! file have to agree on what was answered, what validates, what is seen and what the audit log says.
//!
//! The model shares no code with the crate: `family.rs` has the rules of one key, `naive.rs` those around it,
//! `views.rs` what may be seen. `acts.rs` chooses by seeded dice; `site.rs` and `asks.rs` put the same to the library,
//! two hosts on each store, whose clocks may differ.
//!
//! A failure prints the seed, the step and the last acts. Longer runs, or one seed again:
//!
//! ```text
//! KEYROTA_MODEL_SEEDS=2000 cargo test --release --test model      that many seeds for each test
//! KEYROTA_MODEL_SEED=17 cargo test --test model                   this seed only
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, reason = "a test has no public interface")]

mod acts;
mod asks;
mod family;
mod naive;
mod site;
mod views;

use std::collections::BTreeMap;
use std::fmt::Debug;

use keyrota::{AuditVerdict, Clock, MemoryStore};

use acts::{Chooser, DEMANDS, OWNERS, Policy, Step};
use asks::{clock_state, ticked};
use family::Entry;
use naive::{Answer, DAY, Failure, HOUR, Naive, Outcome, Time};
use site::{Backing, Site, time};

/// 2027-01-01, and a microsecond.
const START: Time = 1_798_761_600_000_001;
const SEEDS: u64 = 40;
const STEPS: usize = 150;
const FIRST_POLICY: Policy = Policy { lifetime: 90 * DAY, overlap: DAY };
const FIRST_LIMIT: u32 = 3;

struct World {
    seed: u64,
    model: Naive,
    sites: Vec<Site>,
    /// What the hosts' clocks show.
    clocks: [Time; 2],
    history: Vec<String>,
    /// How much of the model's log was compared.
    told: usize,
    /// For each version: validations granted and denied, and the last grant.
    asked: BTreeMap<(usize, u32), (u64, u64, Option<Time>)>,
}

/// Whatever fails says where, and after which acts.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = self.history.len().saturating_sub(30);
            eprintln!("KEYROTA_MODEL_SEED={}, step {}, after:", self.seed, self.history.len());
            self.history[last..].iter().for_each(|step| eprintln!("  {step}"));
        }
    }
}

fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort();
    entries
}

impl World {
    fn new(seed: u64, backings: Vec<(&'static str, Backing)>) -> Self {
        let now = START;
        let site = |(name, backing)| Site::new(name, backing, FIRST_POLICY, FIRST_LIMIT, now);
        Self {
            seed,
            model: Naive::founded(FIRST_POLICY, FIRST_LIMIT, now),
            sites: backings.into_iter().map(site).collect(),
            clocks: [now, now],
            history: Vec::new(),
            told: 0,
            asked: BTreeMap::new(),
        }
    }

    #[track_caller]
    fn agree<T: PartialEq + Debug>(&self, site: &Site, what: &str, model: &T, library: &T) {
        let (seed, step) = (self.seed, self.history.len());
        assert!(
            model == library,
            "seed {seed}, step {step}, {}: {what}\n  the model says   {model:?}\n  the library says {library:?}",
            site.name
        );
    }

    /// The library's own time on a host.
    fn t(&self, host: usize) -> Time {
        self.clocks[host].max(self.model.mark)
    }

    fn step(&mut self, chooser: &mut Chooser) {
        let step = chooser.next(&self.model, self.clocks);
        self.history.push(format!("{:>3} {} {step:?}", self.history.len() + 1, time(self.clocks[0])));
        let mut sites = std::mem::take(&mut self.sites);
        let host = match step {
            Step::Act { host, act, request } => {
                let outcome = self.model.perform(&act, request, self.clocks[host]);
                let left_out = outcome == Err(Failure::Reported);
                for site in sites.iter_mut().filter(|_| !left_out) {
                    let answer = comparable(&outcome, site.perform(host, &act, request));
                    self.agree(site, "the answer of the act", &outcome, &answer);
                }
                host
            }
            Step::Tick { host } => {
                self.tick(&mut sites, host);
                host
            }
            Step::Clocks(clocks) => {
                self.clocks = clocks;
                for site in &sites {
                    site.hosts.iter().zip(clocks).for_each(|(host, now)| host.clock.set(time(now)));
                }
                0
            }
            Step::Flush => {
                self.flush(&sites);
                0
            }
            Step::Reopen { host, both, close } => {
                sites.iter_mut().for_each(|site| site.reopen(self.clocks, host, both, close));
                host
            }
        };
        let news = sorted(self.model.log[self.told..].to_vec());
        self.told = self.model.log.len();
        let dice = &mut chooser.dice;
        let (both, whole, token) = (dice.one_in(2), dice.one_in(10), dice.roll() as usize);
        for site in &mut sites {
            let told = site.news(host);
            self.agree(site, "the audit log", &news, &sorted(told));
        }
        for of in [host, 1 - host].into_iter().take(1 + usize::from(both)) {
            self.compare_verdicts(&mut sites, of, token);
        }
        for site in &mut sites {
            self.compare_keys(site, if both { 1 - host } else { host }, token);
            if whole {
                self.compare_whole(site, host);
            }
        }
        if let Err(broken) = (0..2).try_for_each(|host| self.model.check_rules(self.t(host))) {
            panic!("seed {}, step {}: {broken}", self.seed, self.history.len());
        }
        self.sites = sites;
    }

    /// A tick records what its plan said, and a second one at the same instant writes nothing.
    fn tick(&mut self, sites: &mut [Site], host: usize) {
        let now = self.clocks[host];
        let (clock, events, next_due) = self.model.plan(now);
        let planned = (clock, sorted(events), next_due);
        let report = self.model.tick(now);
        for site in sites {
            let keys = site.hosts[host].keys.clone();
            let plan = keys.plan(time(now)).unwrap();
            let events = plan.events.iter().map(|event| site.entry(event)).collect();
            let plan = (clock_state(plan.clock), sorted(events), asks::micros(plan.next_due));
            self.agree(site, "the plan of a tick", &planned, &plan);
            self.agree(site, "the report of a tick", &report, &ticked(&keys.tick().unwrap()));
            let state =
                || (site.hosts[host].store.head().unwrap().unwrap().revision, keys.audit_head().unwrap());
            let first = state();
            keys.tick().unwrap();
            self.agree(site, "a second tick writes nothing", &first, &state());
        }
    }

    /// Usage reaches the store, and changes nothing else there.
    fn flush(&self, sites: &[Site]) {
        for site in sites {
            let head = site.hosts[0].store.head().unwrap();
            for host in &site.hosts {
                host.validator.flush().unwrap();
            }
            self.agree(site, "the head after a flush", &head, &site.hosts[0].store.head().unwrap());
            for ((key, version), asked) in &self.asked {
                if !self.model.keys[*key].purged {
                    self.agree(site, "usage", asked, &site.usage(1, *key, *version));
                }
            }
        }
    }

    /// Every token ever shown, and for one of them all demands, wrong secrets and an earlier grant.
    fn compare_verdicts(&mut self, sites: &mut [Site], host: usize, chosen: usize) {
        let t = self.t(host);
        for token in 0..self.model.tokens.len() {
            let mut demands = vec![None];
            if token == chosen % self.model.tokens.len() {
                demands.extend(DEMANDS.map(Some));
            }
            for demanded in demands {
                let verdict = self.model.verdict(token, demanded, t);
                let (granted, denied, last) = self.asked.entry(self.model.tokens[token]).or_default();
                match verdict {
                    Ok(_) => (*granted, *last) = (*granted + 1, (*last).max(Some(t))),
                    Err(reason) => *denied += u64::from(reason != "Unknown"),
                }
                for site in &mut *sites {
                    let answer = site.verdict(host, token, demanded);
                    let what = || format!("token {token} of host {host} for {demanded:?} at {}", time(t));
                    if answer != verdict {
                        self.agree(site, &what(), &verdict, &answer);
                    }
                }
            }
        }
    }

    fn compare_keys(&self, site: &mut Site, host: usize, chosen: usize) {
        let t = self.t(host);
        self.agree(site, "keys seen", &self.model.keys.len(), &site.ids.len());
        for key in 0..self.model.keys.len() {
            let view = site.look(host, key);
            self.agree(site, &format!("key {key} on host {host}"), &self.model.look(key, t), &view);
        }
        if let Some(last) = self.model.tokens.len().checked_sub(1) {
            let token = chosen % (last + 1);
            let (key, version) = self.model.tokens[token];
            let rotations =
                if self.model.keys[key].purged { &[][..] } else { &self.model.keys[key].rotations };
            self.agree(site, "rotations", &rotations.to_vec(), &site.rotations(host, key));
            let there = (!self.model.keys[key].purged).then_some((key, version));
            let found = site.find(host, token);
            self.agree(site, "what a token and a forged one name", &[there, None], &found);
            let wrong = site.wrong(host, token);
            self.agree(site, "a wrong secret, and a wrong prefix", &[Err("Unknown"), Err("Unknown")], &wrong);
            if let Some(still) = site.still(host, token) {
                self.agree(site, "an earlier grant", &self.model.verdict(token, None, t), &still);
            }
        }
    }

    /// What is dear to ask: lists, the whole audit log, every row.
    fn compare_whole(&self, site: &mut Site, host: usize) {
        let t = self.t(host);
        let all = site.list_of(host, None, None);
        self.agree(site, "all keys", &self.model.list(None, None, t), &all);
        for (owner, status) in OWNERS.iter().zip(["Active", "Suspended", "Ended"]) {
            let list = site.list_of(host, Some(owner), None);
            self.agree(site, "an owner's keys", &self.model.list(Some(owner), None, t), &list);
            let list = site.list_of(host, Some(owner), Some(status));
            self.agree(
                site,
                "some of an owner's keys",
                &self.model.list(Some(owner), Some(status), t),
                &list,
            );
        }
        for before in [t, t + HOUR, t + 9 * DAY] {
            let list = site.expiring(host, before);
            self.agree(site, "expiring keys", &self.model.expiring(before, t), &list);
        }
        let keys = &site.hosts[host].keys;
        let AuditVerdict::Sound { head } = keys.verify_audit().unwrap() else {
            panic!("an unsound audit log")
        };
        self.agree(site, "the length of the audit log", &(self.model.log.len() as u64), &head.seq);
        let report = keys.check(Some(&head)).unwrap();
        self.agree(site, "findings in the rows", &Vec::new(), &report.findings);
        assert!(report.is_sound());
        self.agree(site, "a host's clock", &time(self.clocks[host]), &site.hosts[host].clock.now());
    }
}

/// An answer without what the model says nothing of.
fn comparable(model: &Outcome, mut library: Outcome) -> Outcome {
    if let (Ok(Answer::Shown { old: None, .. }), Ok(Answer::Shown { old, .. })) = (model, &mut library) {
        *old = None;
    }
    library
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

fn each_seed(usual: u64, run: impl Fn(u64)) {
    match number("KEYROTA_MODEL_SEED") {
        Some(seed) => run(seed),
        None => (1..=number("KEYROTA_MODEL_SEEDS").unwrap_or(usual)).for_each(run),
    }
}

#[test]
fn a_memory_store_agrees_with_the_naive_model_after_every_step() {
    each_seed(SEEDS, |seed| {
        let mut world = World::new(seed, vec![("memory", Backing::Memory(MemoryStore::new()))]);
        let mut chooser = Chooser::new(seed);
        (0..STEPS).for_each(|_| world.step(&mut chooser));
    });
}

#[test]
fn the_dice_reach_every_act_every_refusal_and_every_verdict() {
    let word = |text: String| text.split(|c: char| !c.is_alphabetic()).next().unwrap().to_owned();
    let mut seen = BTreeMap::new();
    let mut saw = |what: String| *seen.entry(what).or_insert(0) += 1;
    for seed in 1..=SEEDS {
        let mut model = Naive::founded(FIRST_POLICY, FIRST_LIMIT, START);
        let (mut chooser, mut clocks) = (Chooser::new(seed), [START; 2]);
        for _ in 0..STEPS {
            match chooser.next(&model, clocks) {
                Step::Act { host, act, request } => {
                    let tokens = model.tokens.len();
                    match model.perform(&act, request, clocks[host]) {
                        Ok(Answer::Shown { token, .. }) if token < tokens => saw("the same token".to_owned()),
                        Ok(_) => saw(word(format!("{act:?}"))),
                        Err(failure) => saw(word(format!("{failure:?}"))),
                    }
                }
                Step::Tick { host } => saw(model.tick(clocks[host]).clock.to_owned()),
                Step::Clocks(set) => clocks = set,
                Step::Flush | Step::Reopen { .. } => {}
            }
            let t = clocks[0].max(model.mark);
            let verdicts = (0..model.tokens.len()).map(|token| model.verdict(token, Some("orders:read"), t));
            verdicts.for_each(|verdict| saw(verdict.err().unwrap_or("granted").to_owned()));
        }
    }
    let wanted = "Issue Rotate Deprecate RollBack Replace RevokeKey RevokeVersion RevokeOwner Suspend Resume \
         SetPolicy SetDefaultLimit SetLimit SetCeiling SetRole Edit Purge ConfirmClock \
         KeyRevoked KeyEnded OwnerSuspended RotationOpen TooManyLive NoActiveVersion NotRollbackable NoSuchVersion \
         EmptyWindow GraceTooLong UnknownKey UnknownOwner UnknownRole NothingToReplace WouldWiden OwnerLimit \
         BadPolicy NothingToConfirm RequestReused AlreadyDone Steady Behind Jumped \
         granted Unknown Revoked Suspended Expired Retired NotYet Scope";
    for what in wanted.split_whitespace().chain(["the same token"]) {
        assert!(seen.contains_key(what), "never seen: {what}, of {seen:?}");
    }
}

#[cfg(feature = "sqlite")]
#[test]
fn an_sqlite_file_agrees_with_a_memory_store_and_the_naive_model_after_every_step() {
    // In memory where that is to be had: a commit waits for the disk.
    let shared = std::path::Path::new("/dev/shm");
    each_seed(10, |seed| {
        let folder =
            if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
        let backings = vec![
            ("memory", Backing::Memory(MemoryStore::new())),
            ("sqlite", Backing::Sqlite(folder.path().join("keys.db"))),
        ];
        // Other seeds than those of the memory store alone.
        let seed = if number("KEYROTA_MODEL_SEED").is_some() { seed } else { seed + 1_000_000 };
        let mut world = World::new(seed, backings);
        let mut chooser = Chooser::new(seed);
        (0..STEPS).for_each(|_| world.step(&mut chooser));
    });
}

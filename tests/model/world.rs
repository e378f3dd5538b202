//! The model and the library side by side, one step after the other.

use std::collections::BTreeMap;
use std::fmt::Debug;

use keyrota::{AuditVerdict, Clock, KeyStore};

use crate::acts::{Chooser, DEMANDS, OWNERS, Policy, Step};
use crate::asks::{clock_state, micros, ticked};
use crate::family::Entry;
use crate::naive::{DAY, HOUR, Naive, Time};
use crate::put::{comparable, put, time};
use crate::site::{Backing, Site};

/// 2027-01-01, and a microsecond.
pub const START: Time = 1_798_761_600_000_001;
pub const FIRST_POLICY: Policy = Policy { lifetime: 90 * DAY, overlap: DAY };
pub const FIRST_LIMIT: u32 = 3;

pub struct World {
    pub seed: u64,
    pub model: Naive,
    pub sites: Vec<Site>,
    /// What the hosts' clocks show.
    pub clocks: [Time; 2],
    pub history: Vec<String>,
    /// How much of the model's log was compared.
    pub told: usize,
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

pub fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort();
    entries
}

impl World {
    pub fn new(seed: u64, backings: Vec<(&'static str, Backing)>) -> Self {
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

    pub fn step(&mut self, chooser: &mut Chooser) {
        let step = chooser.next(&self.model, self.clocks);
        self.history.push(format!("{:>3} {} {step:?}", self.history.len() + 1, time(self.clocks[0])));
        let mut sites = std::mem::take(&mut self.sites);
        let host = match step {
            Step::Act { host, asked } => {
                let outcome = self.model.perform(&asked, self.clocks[host]);
                for site in &mut sites {
                    let answer = put(&site.hosts[host].keys, &site.names, &asked);
                    let answer = comparable(&outcome, site.names.answer(&answer));
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
        self.compare(&mut sites, host, chooser);
        self.sites = sites;
    }

    /// All that may be seen.
    pub fn compare(&mut self, sites: &mut [Site], host: usize, chooser: &mut Chooser) {
        let news = sorted(self.model.log[self.told..].to_vec());
        self.told = self.model.log.len();
        let dice = &mut chooser.dice;
        let (both, whole, token) = (dice.one_in(2), dice.one_in(10), dice.roll() as usize);
        for site in &mut *sites {
            let told = site.news(host);
            let told = told.iter().map(|event| site.names.entry(event)).collect();
            self.agree(site, "the audit log", &news, &sorted(told));
        }
        for of in [host, 1 - host].into_iter().take(1 + usize::from(both)) {
            self.compare_verdicts(sites, of, token);
        }
        for site in &mut *sites {
            self.compare_keys(site, if both { 1 - host } else { host }, token);
            if whole {
                self.compare_whole(site, host);
            }
        }
        if let Err(broken) = (0..2).try_for_each(|host| self.model.check_rules(self.t(host))) {
            panic!("seed {}, step {}: {broken}", self.seed, self.history.len());
        }
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
            let events = plan.events.iter().map(|event| site.names.entry(event)).collect();
            let plan = (clock_state(plan.clock), sorted(events), micros(plan.next_due));
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
        self.agree(site, "keys seen", &self.model.keys.len(), &site.names.ids.len());
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

//! The model and the library side by side, one step after the other.

use std::collections::BTreeMap;
use std::fmt::Debug;

use keyrota::KeyStore;

use crate::acts::{Act, Asked, Planned, Policy, Step};
use crate::answers::{Answer, Failure, Outcome};
use crate::asks::{clock_state, micros, ticked};
use crate::chooser::Dice;
use crate::family::Entry;
use crate::faults::{Fault, Target};
use crate::invariants::{Checked, Watch};
use crate::naive::{DAY, Naive, Time};
use crate::put::{comparable, put, time};
use crate::site::{Backing, Site};
use crate::views::Part;

/// 2027-01-01, and a microsecond.
pub const START: Time = 1_798_761_600_000_001;
pub const FIRST_POLICY: Policy = Policy { lifetime: 90 * DAY, overlap: DAY };
pub const FIRST_LIMIT: u32 = 3;

/// How much is looked at after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Care {
    /// All keys and tokens, most of the time.
    Full,
    /// What the step concerns, and samples.
    Sampled,
    /// The audit log alone: the same beginning is looked at elsewhere.
    Passing,
}

pub struct World {
    pub model: Naive,
    pub sites: Vec<Site>,
    /// What the hosts' clocks show.
    pub clocks: [Time; 2],
    pub watch: Watch,
    /// Acts whose outcome is open, with the request ids that tell.
    pub open: Vec<(u32, Act)>,
    /// The step and the fault of each fault that came.
    pub pairs: Vec<(String, String)>,
    pub steps: usize,
    pub care: Care,
    /// Whether no fault has come yet.
    pub calm: bool,
    /// For each version: validations granted and denied, and the last grant.
    pub asked: BTreeMap<(usize, u32), (u64, u64, Option<Time>)>,
}

pub fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort();
    entries
}

#[track_caller]
pub fn holds(checked: Checked) {
    if let Err(broken) = checked {
        panic!("{broken}");
    }
}

impl World {
    pub fn new(backings: Vec<(&'static str, Backing)>, care: Care) -> Self {
        let now = START;
        let site = |(name, backing)| Site::new(name, backing, FIRST_POLICY, FIRST_LIMIT, now);
        Self {
            model: Naive::founded(FIRST_POLICY, FIRST_LIMIT, now),
            sites: backings.into_iter().map(site).collect(),
            clocks: [now, now],
            watch: Watch::default(),
            open: Vec::new(),
            pairs: Vec::new(),
            steps: 0,
            care,
            calm: true,
            asked: BTreeMap::new(),
        }
    }

    #[track_caller]
    pub fn agree<T: PartialEq + Debug>(&self, site: &Site, what: &str, model: &T, library: &T) {
        assert!(
            model == library,
            "{what}, on {}\n  the model says   {model:?}\n  the library says {library:?}",
            site.name
        );
    }

    /// The library's own time on a host.
    pub fn t(&self, host: usize) -> Time {
        self.clocks[host].max(self.model.mark)
    }

    fn set_clocks(&mut self, sites: &[Site], clocks: [Time; 2]) {
        // Between 1980 and 2900.
        self.clocks = clocks.map(|now| now.clamp(3_650 * DAY, 340_000 * DAY));
        for site in sites {
            site.hosts.iter().zip(self.clocks).for_each(|(host, now)| host.clock.set(time(now)));
        }
    }

    pub fn step(&mut self, planned: &Planned) {
        let Planned { step, fault, salt } = planned;
        self.steps += 1;
        let mut dice = Dice(*salt);
        let mut sites = std::mem::take(&mut self.sites);
        let host = match step {
            Step::Act { host, .. }
            | Step::Tick { host }
            | Step::Validate { host, .. }
            | Step::Flush { host }
            | Step::Reopen { host, .. } => *host,
            Step::Clocks(_) | Step::WrongKey => dice.below(2),
        };
        for host in sites.iter().flat_map(|site| &site.hosts) {
            if dice.one_in(6) {
                host.store.make_room();
                host.eyes.make_room();
            }
        }
        let shown = self.clocks;
        if let Some(Fault::Clock { by, .. }) = fault {
            let mut clocks = self.clocks;
            clocks[host] += by;
            self.set_clocks(&sites, clocks);
        }
        if let Some(Fault::Flip { target, bit }) = fault {
            self.flip(&sites, target, *bit, matches!(step, Step::Tick { .. }));
        }
        let mut came = matches!(fault, Some(Fault::Clock { .. } | Fault::Flip { .. }));
        let mut hot = None;
        match step {
            Step::Act { asked, .. } => {
                hot = asked.act.key();
                if let Some(Fault::Other { at, what }) = fault {
                    self.between(&mut sites, host, asked, *at, what);
                    came = true;
                } else {
                    came |= self.act(&mut sites, host, asked, fault.as_ref());
                }
                hot = hot.or(self.model.keys.len().checked_sub(1));
            }
            Step::Tick { .. } => came |= self.tick(&mut sites, host, fault.as_ref()),
            Step::Clocks(clocks) => self.set_clocks(&sites, *clocks),
            Step::Validate { back, demanded, .. } => {
                let token = self.model.tokens.len().checked_sub(back + 1);
                for site in &mut sites {
                    if let Some(token) = token.filter(|token| site.names.text(*token).is_some()) {
                        came |= if let Some(Fault::Other { at, what }) = fault {
                            self.between_validation(site, host, (token, *demanded), *at, what)
                        } else {
                            self.validate(site, host, token, *demanded, fault.as_ref())
                        };
                    }
                }
            }
            Step::Flush { .. } => came |= self.flush(&sites, host, fault.as_ref()),
            Step::Reopen { both, close, .. } => {
                for site in &mut sites {
                    came |= self.reopen(site, host, [*both, *close], fault.as_ref());
                }
            }
            Step::WrongKey => sites.iter().for_each(|site| self.wrong_key(site)),
        }
        if let Some(Fault::Behind { at }) = fault {
            for site in &mut sites {
                came |= self.behind(site, 1 - host, hot.or(self.model.keys.len().checked_sub(1)), *at);
            }
        }
        if let Some(fault) = fault.as_ref().filter(|_| came) {
            self.pairs.push((step.name(), fault.name()));
            self.calm = false;
        }
        if let Some(Fault::Flip { target, .. }) = fault {
            sites.iter_mut().for_each(|site| self.compare_edited(site, host, target));
            self.model.edited = None;
            sites.iter().for_each(|site| site.disk.flip(None));
        }
        for site in &mut sites {
            for host in 0..2 {
                // A process that has ended begins anew.
                if site.hosts[host].store.is_dead() || site.hosts[host].eyes.is_dead() {
                    site.reopen(self.clocks, host, false, false);
                }
            }
        }
        self.compare(&mut sites, host, hot, &mut dice);
        if let Some(Fault::Clock { stays: false, .. }) = fault {
            self.set_clocks(&sites, shown);
        }
        self.sites = sites;
    }

    /// Arms the fault at the manager's store.
    pub fn arm(store: &crate::faulty::Faulty, fault: Option<&Fault>) {
        if let Some(Fault::Store { site, at }) = fault {
            store.arm(*at, *site);
        }
    }

    fn flip(&mut self, sites: &[Site], target: &Target, bit: usize, tick: bool) {
        for site in sites {
            let (kind, id) = site.row(target);
            site.disk.flip(Some((kind, id, bit)));
        }
        self.model.edited = match target {
            Target::Key(key) => Some(*key),
            // A tick passes over a key of which it cannot read everything.
            Target::Version(key, _) if tick => Some(*key),
            _ => None,
        };
    }

    /// An act; returns whether the store's fault came.
    pub fn act(&mut self, sites: &mut [Site], host: usize, asked: &Asked, fault: Option<&Fault>) -> bool {
        let mut fired = false;
        let before = (sites.len() > 1).then(|| self.model.clone());
        for site in sites {
            if let Some(before) = &before {
                self.model = before.clone();
            }
            let store = &site.hosts[host].store;
            let commits = site.disk.ledger.lock().unwrap().commits;
            Self::arm(store, fault);
            let full = store.is_full();
            let answer = put(&site.hosts[host].keys, &site.names, asked);
            let came = store.disarm();
            let moved = site.disk.ledger.lock().unwrap().commits > commits;
            let excused = came || full || matches!(fault, Some(Fault::Flip { .. }));
            let library = site.names.answer(&answer);
            self.settle(site, host, asked, library, moved, excused);
            fired |= came;
        }
        fired
    }

    /// Brings the model to where the library is, by the answer and by whether anything was committed.
    pub fn settle(
        &mut self,
        site: &mut Site,
        host: usize,
        asked: &Asked,
        library: Outcome,
        moved: bool,
        excused: bool,
    ) {
        let now = self.clocks[host];
        if let Err(trouble @ (Failure::Trouble(_) | Failure::Open(_))) = &library {
            assert!(excused, "the act failed, and nothing else had: {trouble:?}");
            let passed_over =
                matches!(asked.act, Act::RevokeOwner { .. }) && *trouble == Failure::Trouble("Edited");
            if moved {
                let open = matches!(trouble, Failure::Open(_));
                assert!(open || passed_over, "I10: it is called not written, and something was: {trouble:?}");
                let outcome = self.model.perform(asked, now);
                assert!(outcome.is_ok(), "I10: committed, and the model refuses: {outcome:?}");
                if let Ok(Answer::Shown { token, .. }) = outcome
                    && token == site.names.tokens.len()
                {
                    let (key, version) = self.model.tokens[token];
                    site.names.lost(key, version);
                }
            }
            if let Failure::Open(request) = trouble {
                let number = asked.request.unwrap_or_else(|| {
                    let number = 1_000_000 + self.steps as u32;
                    site.names.requests.insert(number, request.clone());
                    if moved && let Some(known) = self.model.requests.last_mut() {
                        known.name = Some(number);
                    }
                    number
                });
                self.agree(site, "the id of an open request", &site.names.request(number), request);
                self.open.push((number, asked.act.clone()));
            }
            self.model.mark(&asked.act, &library);
            if let Some(key) = asked.act.key() {
                self.watch.unknown(key);
            }
            return;
        }
        let outcome = self.model.perform(asked, now);
        let library = comparable(&outcome, library);
        self.agree(site, "the answer of the act", &outcome, &library);
        self.model.mark(&asked.act, &outcome);
        self.watch.done(&asked.act, &outcome, &self.model);
        // An act may set new deadlines; the look that follows tells them.
        if let (Some(key), true) =
            (asked.act.key(), outcome.is_ok() && !matches!(asked.act, Act::Edit { .. }))
        {
            self.watch.unknown(key);
        }
        if let Err(Failure::Other(other)) = &outcome {
            panic!("an answer that nobody expects: {other}");
        }
    }

    /// A tick records what its plan said, and a second one at the same instant writes nothing.
    fn tick(&mut self, sites: &mut [Site], host: usize, fault: Option<&Fault>) -> bool {
        let now = self.clocks[host];
        let (clock, events, next_due) = self.model.plan(now);
        let planned = (clock, sorted(events), next_due);
        let (before, mut fired) = (self.model.clone(), false);
        for site in sites {
            self.model = before.clone();
            let keys = site.hosts[host].keys.clone();
            if fault.is_none() {
                let plan = keys.plan(time(now)).unwrap();
                let events = plan.events.iter().map(|event| site.names.entry(event)).collect();
                let plan = (clock_state(plan.clock), sorted(events), micros(plan.next_due));
                self.agree(site, "the plan of a tick", &planned, &plan);
            }
            let store = &site.hosts[host].store;
            let (commits, full) = (site.disk.ledger.lock().unwrap().commits, store.is_full());
            Self::arm(store, fault);
            let report = keys.tick();
            let came = store.disarm();
            let moved = site.disk.ledger.lock().unwrap().commits - commits;
            fired |= came;
            let mut parts = self.model.parts(now);
            match report {
                Ok(report) if !came && !matches!(fault, Some(Fault::Flip { .. })) => {
                    assert_eq!((report.deferred, report.faults, report.more), (0, 0, false));
                    self.agree(site, "I17: the commits of a tick", &parts.len(), &moved);
                    let expected = self.model.tick(now);
                    self.agree(site, "the report of a tick", &expected, &ticked(&report));
                    let state = || {
                        (site.hosts[host].store.head().unwrap().unwrap().revision, keys.audit_head().unwrap())
                    };
                    let first = state();
                    keys.tick().unwrap();
                    self.agree(site, "I5: a second tick writes nothing", &first, &state());
                    continue;
                }
                Ok(report) if report.deferred > 0 => {
                    assert!(report.more, "I16: what was deferred is not announced");
                    parts.retain(|part| *part != Part::Leftovers);
                    if parts.is_empty() && self.model.mark < now {
                        parts.push(Part::Mark);
                    }
                }
                Ok(_) => {}
                Err(error) => assert!(came || full, "a tick failed, and nothing else had: {error}"),
            }
            assert!(moved <= parts.len(), "I17: a tick commits {moved} times for {parts:?}");
            for part in parts.into_iter().take(moved) {
                self.model.tick_part(part, now);
            }
        }
        fired
    }

    /// While a row is edited, what depends on it is denied, and nothing else is.
    fn compare_edited(&mut self, site: &mut Site, host: usize, target: &Target) {
        for token in 0..self.model.tokens.len() {
            let of = self.model.tokens[token];
            let concerned = match target {
                Target::Key(key) => of.0 == *key,
                Target::Version(key, version) => of == (*key, *version),
                Target::Owner(owner) => self.model.keys[of.0].owner == *owner,
            };
            let near = self.model.tokens.len() - token < 8;
            if (!concerned && !near) || site.names.text(token).is_none() {
                continue;
            }
            let verdict = self.verdict(site, host, token, None);
            if concerned {
                assert!(verdict.is_err(), "I12: the row of {target:?} is edited, and {of:?} is accepted");
            } else {
                self.agree(
                    site,
                    "a verdict beside an edited row",
                    &self.model.verdict(token, None, self.t(host)),
                    &verdict,
                );
            }
        }
    }
}

//! What is compared after a step, and when all is over.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use keyrota::{AuditQuery, AuditVerdict, Clock, KeyStore, RowFilter, RowKind};

use crate::acts::{Act, Asked, DEMANDS, OWNERS};
use crate::chooser::Dice;
use crate::ledger::micros;
use crate::naive::{DAY, HOUR, MONTH};
use crate::put::time;
use crate::site::Site;
use crate::world::{Care, World, holds, sorted};

impl World {
    /// All that may be seen; or what the step concerns, and samples.
    pub fn compare(&mut self, sites: &mut [Site], host: usize, hot: Option<usize>, dice: &mut Dice) {
        let news = sorted(std::mem::take(&mut self.model.log));
        self.model.told += news.len();
        for site in &mut *sites {
            let told = site.news(host);
            let told = told.iter().map(|event| site.names.entry(event)).collect();
            self.agree(site, "the audit log", &news, &sorted(told));
            let broken = std::mem::take(&mut site.disk.ledger.lock().unwrap().broken);
            assert!(broken.is_empty(), "{}", broken.join("\n"));
        }
        if self.care == Care::Passing {
            return;
        }
        let whole = match self.care {
            Care::Full => !dice.one_in(4),
            Care::Sampled | Care::Passing => dice.one_in(40),
        };
        let (both, chosen) = (dice.one_in(2), dice.roll() as usize);
        for of in [host, 1 - host].into_iter().take(1 + usize::from(both)) {
            self.compare_verdicts(sites, of, hot, whole, chosen, dice);
        }
        let of = if both { 1 - host } else { host };
        let dear = dice.one_in(if self.care == Care::Full { 10 } else { 400 });
        for site in sites {
            self.compare_keys(site, of, hot, whole);
            if whole || dice.one_in(6) {
                self.compare_one(site, of, chosen);
            }
            if dear {
                self.compare_whole(site, host);
            }
        }
        if whole && let Err(broken) = (0..2).try_for_each(|host| self.model.check_rules(self.t(host))) {
            panic!("the model itself: {broken}");
        }
    }

    /// Tokens on a host: all that are there, or those of a key and some; for one of them all demands.
    fn compare_verdicts(
        &mut self,
        sites: &mut [Site],
        host: usize,
        hot: Option<usize>,
        whole: bool,
        chosen: usize,
        dice: &mut Dice,
    ) {
        let (t, count) = (self.t(host), self.model.tokens.len());
        let mut accepted: BTreeMap<usize, BTreeSet<u32>> = BTreeMap::new();
        for token in 0..count {
            let of = self.model.tokens[token];
            let gone = self.model.keys[of.0].purged;
            let asked = Some(of.0) == hot
                || token == chosen % count
                || if gone { dice.one_in(40) } else { whole || dice.one_in(8) };
            if !asked {
                continue;
            }
            let all = DEMANDS
                .into_iter()
                .map(Some)
                .filter(|_| token == chosen % count && (whole || dice.one_in(4)));
            for demanded in std::iter::once(None).chain(all) {
                let model = self.model.verdict(token, demanded, t);
                for site in &mut *sites {
                    if site.names.text(token).is_none() {
                        continue;
                    }
                    let verdict = self.verdict(site, host, token, demanded);
                    holds(self.watch.i12_fail_closed(&model, &verdict));
                    holds(self.watch.i2_revoked(of, &verdict));
                    if demanded.is_none() {
                        holds(self.watch.i1_told_deadlines(of, &verdict, t, &self.model));
                        let row = format!("{}/{}", site.names.id(of.0), of.1);
                        holds(self.watch.i6_window(&site.disk.ledger.lock().unwrap(), &row, &verdict, t));
                        if verdict.is_ok() {
                            accepted.entry(of.0).or_default().insert(of.1);
                        }
                    }
                    if verdict != model {
                        let what =
                            format!("token {token} of {of:?} on host {host} for {demanded:?} at {}", time(t));
                        self.agree(site, &what, &model, &verdict);
                    }
                }
            }
        }
        holds(self.watch.i7_bounded(&accepted));
    }

    fn compare_keys(&mut self, site: &mut Site, host: usize, hot: Option<usize>, whole: bool) {
        let t = self.t(host);
        self.agree(site, "keys seen", &self.model.keys.len(), &site.names.ids.len());
        for key in 0..self.model.keys.len() {
            if Some(key) == hot || whole && !self.model.keys[key].purged {
                let view = site.look(host, key);
                self.agree(site, &format!("key {key} on host {host}"), &self.model.look(key, t), &view);
                match view {
                    Ok(view) if Some(key) == hot => self.watch.looked(key, &view),
                    _ => {}
                }
            }
        }
    }

    /// What may be asked of one token.
    fn compare_one(&mut self, site: &mut Site, host: usize, chosen: usize) {
        let Some(last) = self.model.tokens.len().checked_sub(1) else { return };
        let token = chosen % (last + 1);
        if site.names.text(token).is_none() {
            return;
        }
        let (key, version) = self.model.tokens[token];
        self.agree(site, "rotations", &self.model.keys[key].rotations, &site.rotations(host, key));
        let there = (!self.model.keys[key].purged).then_some((key, version));
        let found = site.find(host, token);
        self.agree(site, "what a token and a forged one name", &[there, None], &found);
        let wrong = site.wrong(host, token);
        self.agree(site, "a wrong secret, and a wrong prefix", &[Err("Unknown"), Err("Unknown")], &wrong);
        if let Some(still) = site.still(host, token) {
            let model = self.model.verdict(token, None, self.t(host));
            self.agree(site, "an earlier grant", &model, &still);
        }
    }

    /// What is dear to ask: lists, the whole audit log, every row.
    fn compare_whole(&self, site: &mut Site, host: usize) {
        let t = self.t(host);
        let all = site.list_of(host, None, None);
        self.agree(site, "all keys", &self.model.list(None, None, t), &all);
        for (owner, status) in OWNERS.iter().zip(["Active", "Suspended", "Ended"]) {
            for status in [None, Some(status)] {
                let list = site.list_of(host, Some(owner), status);
                self.agree(site, "an owner's keys", &self.model.list(Some(owner), status, t), &list);
            }
        }
        for before in [t, t + HOUR, t + 9 * DAY] {
            let list = site.expiring(host, before);
            self.agree(site, "expiring keys", &self.model.expiring(before, t), &list);
        }
        let keys = &site.hosts[host].keys;
        let AuditVerdict::Sound { head } = keys.verify_audit().unwrap() else {
            panic!("I3: an unsound audit log")
        };
        let length = self.model.told + self.model.log.len();
        self.agree(site, "the length of the audit log", &(length as u64), &head.seq);
        let report = keys.check(Some(&head)).unwrap();
        self.agree(site, "findings in the rows", &Vec::new(), &report.findings);
        assert!(report.is_sound());
        self.agree(site, "a host's clock", &time(self.clocks[host]), &site.hosts[host].clock.now());
    }

    /// I16 and I13: the faults stop and the clock goes on.
    pub fn finish(&mut self) {
        let mut sites = std::mem::take(&mut self.sites);
        let latest = self.clocks[0].max(self.model.mark);
        for site in &sites {
            for host in &site.hosts {
                host.store.make_room();
                host.eyes.make_room();
            }
        }
        if latest > self.model.mark + MONTH {
            self.clocks = [latest, latest];
            sites.iter().flat_map(|site| &site.hosts).for_each(|host| host.clock.set(time(latest)));
            let act = Act::ConfirmClock(latest);
            self.act(&mut sites, 0, &Asked { who: "root", act, request: None }, None);
        }
        for days in [0, 1, 7, 29] {
            let now = latest + days * DAY;
            self.clocks = [now, now];
            self.model.tick(now);
            for site in &sites {
                site.hosts.iter().for_each(|host| host.clock.set(time(now)));
                let keys = &site.hosts[0].keys;
                let ticks = (1..=20).find(|_| !keys.tick().unwrap().more);
                assert!(ticks.is_some(), "I16: twenty ticks do not come to an end");
                let plan = keys.plan(time(now)).unwrap();
                assert!(plan.events.is_empty(), "I16: left over: {:?}", plan.events);
                let ledger = site.disk.ledger.lock().unwrap();
                for (id, version) in &ledger.versions {
                    let key = id.split('/').next().map(|key| &ledger.keys[key]).unwrap();
                    let ends = [
                        micros(version, "expires_at"),
                        micros(version, "grace_end"),
                        micros(key, "hard_end"),
                    ];
                    let over = ends.into_iter().flatten().any(|end| end <= now);
                    assert!(
                        !over || version["stage"] == "ended",
                        "I16: stuck past its end at {now}: {version}"
                    );
                }
            }
            self.compare(&mut sites, 0, None, &mut Dice(days as u64));
        }
        for site in &mut sites {
            self.compare_whole(site, 1);
            let mut texts = Vec::new();
            for kind in RowKind::ALL {
                let store = &site.hosts[0].store;
                let each = &mut |row: keyrota::RowRef<'_>| {
                    texts.push(row.body.to_vec());
                    texts.push(format!("{:?}", row.index).into_bytes());
                    ControlFlow::Continue(())
                };
                store.scan(kind, RowFilter::All { after: None }, each).unwrap();
            }
            let each = &mut |row: &keyrota::AuditRow| {
                texts.push(row.body.clone());
                ControlFlow::Continue(())
            };
            site.hosts[0].store.audit(&AuditQuery::default(), each).unwrap();
            let hosts = format!("{:?} {:?}", site.hosts[0].keys, site.hosts[0].validator);
            texts.push(hosts.into_bytes());
            let tokens = site.names.tokens.iter().filter_map(|(.., text)| text.as_deref());
            holds(self.watch.i13_secrecy(tokens, texts.iter().map(Vec::as_slice)));
        }
        self.sites = sites;
    }
}

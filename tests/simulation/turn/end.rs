//! When all is over: nothing fails any more, everybody acts, and after some time nothing is left to be done.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use keyrota::{
    Actor, AuditFilter, AuditVerdict, Clock as _, ClockState, EventKind, KeyStore as _, NotificationKind,
    OwnerId, Replace, Revoke, RowFilter, RowKind, Stage,
};

use super::steps::Mood;
use super::world::{Doubted, SKEW, World};
use crate::invariants::Watch;

const ROUNDS: usize = 20;

impl World {
    /// Ends it, and tells what was recorded, a line for each entry.
    pub fn end(mut self) -> Vec<String> {
        self.service.held().mood = Mood::Fine;
        self.ear.heard().mood = Mood::Fine;
        for host in 0..2 {
            // With a farewell: a process that has gone silent keeps unused versions.
            self.hosts[host].store.make_room();
            drop(self.hosts[host].validator.close());
            self.reopen(host);
        }
        let keys = self.hosts[0].keys.clone();
        let act = || keys.by(Actor::operator("root"));
        act().set_management(true).unwrap();
        for owner in ["ada", "bob"] {
            // One that never had a key is not known.
            drop(act().resume(OwnerId::new(owner).unwrap()));
        }
        let mark = self.t();
        self.set_clock(mark);
        if matches!(self.eyes.plan(mark).unwrap().clock, ClockState::Jumped { .. }) {
            act().confirm_clock(mark).unwrap();
        }
        // What is denied by, until somebody knows whether it was recorded, is repeated by whoever runs a service.
        for doubt in std::mem::take(&mut self.doubts) {
            self.memory.decided(doubt.key);
            match doubt.act {
                Doubted::Replace => drop(act().replace(Replace::of(doubt.key))),
                Doubted::Revoke(version) => {
                    let what = version
                        .map_or_else(|| Revoke::of(doubt.key), |version| Revoke::of((doubt.key, version)));
                    if act().revoke(what).is_ok() {
                        self.memory.revoked(doubt.key, version);
                    }
                }
            }
        }
        // At least until what has failed often is tried again.
        for round in 0..ROUNDS {
            let next = self.clock.now().plus(Duration::from_secs(3 * 3_600)).unwrap();
            self.set_clock(next);
            for host in [round % 2, 1 - round % 2] {
                // First what was counted: alarms come of it, which the tick tells.
                self.hosts[host].validator.flush().unwrap();
                while self.hosts[host].keys.tick().unwrap().more {}
            }
            self.steps += 1;
            self.look(round % 2);
        }
        // The host whose clock is behind the other's dates by the mark what its last flush found, and ticks when it has
        // passed that.
        self.set_clock(self.clock.now().plus(SKEW).unwrap());
        for host in 0..2 {
            while self.hosts[host].keys.tick().unwrap().more {}
        }
        self.nothing_is_left();
        self.what_was_told();
        self.who_holds_what();
        self.no_secret_shows();
        assert!(self.eyes.check(None).unwrap().is_sound(), "{:?}", self.eyes.check(None));
        assert!(matches!(self.eyes.verify_audit().unwrap(), AuditVerdict::Sound { .. }));
        self.recorded()
    }

    /// I16.
    fn nothing_is_left(&self) {
        let plan = self.hosts[1].keys.plan(self.hosts[1].clock.now()).unwrap();
        let empty = plan.events.is_empty() && plan.deliveries.is_empty() && plan.notices.is_empty();
        assert!(empty && plan.deferred.is_empty(), "I16: still due: {plan}");
        let mut left = Vec::new();
        let each = &mut |row: keyrota::RowRef<'_>| {
            let body: serde_json::Value = serde_json::from_slice(row.body).unwrap();
            if body["state"] == "pending" && body.get("channel").is_some() {
                left.push(body.to_string());
            }
            ControlFlow::Continue(())
        };
        let all = RowFilter::All { after: None };
        self.hosts[0].store.scan(RowKind::Outbox, all, each).unwrap();
        assert!(left.is_empty(), "I16: still in the outbox: {left:?}");
    }

    /// I4: of facts each was told, unless it was given up.
    fn what_was_told(&self) {
        let heard = self.ear.heard();
        let count = |kind| heard.told.values().filter(|(told, _, heard)| *heard && told.kind == kind).count();
        let dead = self.eyes.dead_letters("ops", 1_000).unwrap();
        let facts = [
            (NotificationKind::Issued, EventKind::KeyIssued),
            (NotificationKind::RotationFailed, EventKind::RotationFailed),
        ];
        for (kind, event) in facts {
            let recorded = self.eyes.audit(&AuditFilter::all().kind(event), 10_000).unwrap().len();
            let dead = dead.iter().filter(|letter| letter.notification.kind == kind).count();
            let (told, tried) =
                (count(kind), heard.told.values().filter(|(told, ..)| told.kind == kind).count());
            assert!(told + dead <= recorded, "I4: {told} of {kind}, and {recorded} were");
            // What was tried and is not told has become a dead letter, and perhaps served its time as one.
            let all = kind != NotificationKind::Issued || self.given_up || tried == recorded;
            assert!(all, "I4: {tried} of {kind} were tried, {told} told, {dead} are dead, of {recorded}");
        }
    }

    /// What the sink holds of an active version validates.
    fn who_holds_what(&self) {
        let held = self.service.held();
        for key in &self.keys {
            let Ok(info) = self.eyes.get(*key) else { continue };
            let Some(active) = info.active_version().filter(|version| version.is_valid) else { continue };
            if let Some(token) = held.tokens.get(&(*key, active.number)) {
                let verdict = self.watcher.validate(token);
                assert!(
                    verdict.is_ok(),
                    "what the sink holds of {key} is denied: {verdict:?}, {active:?}, {token}"
                );
            }
            assert!(info.versions.iter().filter(|version| version.stage == Stage::Active).count() == 1);
        }
    }

    /// I13.
    fn no_secret_shows(&self) {
        let mut texts: Vec<Vec<u8>> = Vec::new();
        let store = &self.hosts[0].store;
        for kind in RowKind::ALL {
            let each = &mut |row: keyrota::RowRef<'_>| {
                texts.push([row.id.as_bytes(), row.body].concat());
                ControlFlow::Continue(())
            };
            store.scan(kind, RowFilter::All { after: None }, each).unwrap();
        }
        texts.extend(self.ear.heard().told.values().map(|(told, ..)| told.to_json().into_bytes()));
        let tokens: BTreeSet<_> = self.memory.secrets().map(|(_, token)| token.as_str()).collect();
        let held = Watch::default().i13_secrecy(tokens.into_iter(), texts.iter().map(Vec::as_slice));
        self.holds(held);
    }

    /// Without what is different each time; keys that act at one moment do so in any order.
    fn recorded(&self) -> Vec<String> {
        let line = |entry: &keyrota::AuditEntry| {
            let event = &entry.event;
            let until = event.until.map(|until| until.to_string()).unwrap_or_default();
            let version = event.version.map(|version| version.to_string()).unwrap_or_default();
            format!("{} {} {version} {until}", event.at, event.kind)
        };
        let mut lines: Vec<_> =
            self.eyes.audit(&AuditFilter::all(), 100_000).unwrap().iter().map(line).collect();
        lines.sort();
        lines
    }
}

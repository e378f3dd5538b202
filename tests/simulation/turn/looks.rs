//! What is looked at after each step.

use std::collections::{BTreeMap, BTreeSet};

use keyrota::{DenialReason, KeyId};

use super::world::{Doubt, Doubted, World};
use crate::invariants::Watch;

/// Of the tokens, so many of the last.
const LOOKED_AT: usize = 16;

impl World {
    pub fn look(&mut self, host: usize) {
        let broken = std::mem::take(&mut self.disk.ledger.lock().unwrap().broken);
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        let broken: Vec<_> =
            [std::mem::take(&mut self.service.held().broken), std::mem::take(&mut self.ear.heard().broken)]
                .concat();
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        let t = self.t();
        let mut accepted: BTreeMap<KeyId, BTreeSet<u32>> = BTreeMap::new();
        let skipped = self.tokens.len().saturating_sub(LOOKED_AT);
        for (key, version, token) in self.tokens.clone().into_iter().skip(skipped) {
            let of = (key, version);
            let verdict = self.watcher.validate(&token);
            let row = format!("{key}/{}", version.get());
            let plain = verdict.map(|_| (0, 0, None, None)).map_err(|_| "denied");
            let window =
                Watch::default().i6_window(&self.disk.ledger.lock().unwrap(), &row, &plain, t.unix_micros());
            self.holds(window);
            match verdict {
                Ok(grant) => {
                    assert!(!self.memory.is_revoked(of), "I2: {of:?} was revoked and is accepted");
                    accepted.entry(key).or_default().insert(version.get());
                    // What was offered to a sink counts as handed over when it is acknowledged, or its use was flushed.
                    if self.disk.ledger.lock().unwrap().versions[&row].get("delivered_at").is_some() {
                        self.memory.granted(of, t, grant.valid_until());
                    }
                }
                Err(denial) => {
                    let promised = self.memory.promised(of).filter(|(seen, until)| *seen <= t && t < *until);
                    let reason = denial.reason();
                    let fair = promised.is_none() || reason == DenialReason::Suspended;
                    assert!(fair, "I1: {of:?} is denied at {t} ({reason}), and was told {promised:?}");
                }
            }
            let is_doubted = |doubt: &Doubt| {
                doubt.denies && doubt.key == key && matches!(doubt.act, Doubted::Revoke(None))
            };
            let denies = self.memory.is_revoked(of) || self.doubts.iter().any(is_doubted);
            if denies && !self.hosts[host].store.is_dead() {
                assert!(
                    self.hosts[host].validator.validate(&token).is_err(),
                    "I2: host {host} accepts {of:?}"
                );
            }
        }
        for (key, versions) in accepted {
            let most = self.memory.max_live(key);
            assert!(versions.len() <= most, "I7: of {key} {versions:?} are accepted, at most {most} may");
        }
    }
}

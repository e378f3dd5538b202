//! The invariants, one function for each, beside the model: from what was answered and from the rows alone. What else
//! the table names is checked where its third column says.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::acts::Act;
use crate::answers::{Answer, Outcome};
use crate::ledger::{Ledger, micros};
use crate::naive::{Naive, Time};
use crate::views::{KeyView, Verdict};

/// Invariant, in short, where it is checked; or what it waits for.
pub const TABLE: [(&str, &str, &str); 17] = [
    ("I1", "a version validates until the deadline that was told last", "Watch::i1_told_deadlines"),
    ("I2", "a revoked version is never accepted", "Watch::i2_revoked, Ledger, model::marks"),
    ("I3", "changes of the rows and audit entries are the same", "Ledger::compare, World::compare_whole"),
    ("I4", "an id says one thing, and each fact is told", "turn::outside::Ear, turn::end::what_was_told"),
    ("I5", "a tick is idempotent, and no stage goes back", "World::tick, Ledger::version"),
    ("I6", "accepted only inside the window", "Watch::i6_window"),
    ("I7", "no more versions than max_live are accepted", "Watch::i7_bounded"),
    ("I8", "no act but an edit changes what a key may do", "Ledger::key, Ledger::version"),
    ("I9", "ids, numbers, locators and digests are used once", "Ledger::never_before"),
    ("I10", "an act is done once or not at all", "World::settle"),
    ("I11", "model, memory and SQLite agree", "World::settle, World::compare"),
    ("I12", "what the library accepts, the model accepts", "Watch::i12_fail_closed"),
    ("I13", "no part of a secret is stored or logged", "Watch::i13_secrecy"),
    ("I14", "one secret for each successor, and one claim", "turn::claims::Memory, turn::outside::Service"),
    (
        "I15",
        "usage never falls, and a flush changes no state",
        "Watch::i15_usage, World::flush; quotas later",
    ),
    ("I16", "when faults stop, nothing due is left", "World::finish"),
    ("I17", "the writes of a tick are bounded", "World::tick; callbacks later"),
];

/// The versions of a key that may be accepted at once.
const MAX_LIVE: usize = 2;

/// What was told of a version's window.
#[derive(Clone, Copy, Debug)]
struct Told {
    from: Time,
    until: Option<Time>,
}

#[derive(Default)]
pub struct Watch {
    told: BTreeMap<(usize, u32), Told>,
    revoked: BTreeSet<(usize, u32)>,
    revoked_keys: BTreeSet<usize>,
    /// Granted, denied, last used: as the store told them last.
    usage: BTreeMap<(usize, u32), (u64, u64, Option<Time>)>,
}

pub type Checked = Result<(), String>;

impl Watch {
    /// An act was carried out, for all that its caller knows.
    pub fn done(&mut self, act: &Act, outcome: &Outcome, model: &Naive) {
        if outcome.is_err() {
            return;
        }
        match (act, outcome) {
            (Act::RevokeKey { key, .. }, _) => drop(self.revoked_keys.insert(*key)),
            (Act::RevokeVersion { key, version, .. }, _) => drop(self.revoked.insert((*key, *version))),
            (Act::RevokeOwner { owner, .. }, _) => {
                let keys = model.keys.iter().enumerate().filter(|(_, key)| key.owner == *owner);
                self.revoked_keys.extend(keys.filter(|(_, key)| key.revoked_at.is_some()).map(|(at, _)| at));
            }
            // A repetition does not tell the old version.
            (Act::Replace { key, grace }, Ok(Answer::Shown { token, old: Some((old, _)), .. })) => {
                let graced = old.filter(|_| *grace > 0);
                let new = model.tokens[*token].1;
                let others = (1..new).filter(|number| Some(*number) != graced);
                self.revoked.extend(others.map(|number| (*key, number)));
            }
            _ => {}
        }
    }

    /// What a look at a key tells of its versions, after an act that may have changed them.
    pub fn looked(&mut self, key: usize, view: &KeyView) {
        for (version, until, _) in &view.versions {
            if version.ended() {
                self.told.remove(&(key, version.number));
            } else {
                self.told.insert((key, version.number), Told { from: version.not_before, until: *until });
            }
        }
    }

    /// Nothing is known of a key any more.
    pub fn unknown(&mut self, key: usize) {
        self.told.retain(|(of, _), _| *of != key);
    }

    pub fn i1_told_deadlines(&self, of: (usize, u32), verdict: &Verdict, t: Time, model: &Naive) -> Checked {
        let Some(told) = self.told.get(&of) else { return Ok(()) };
        let key = &model.keys[of.0];
        let by_act = key.purged
            || key.revoked_at.is_some()
            || model.owners[key.owner].suspended
            || model.marked(of.0, of.1) != (false, false);
        let inside = told.from <= t && told.until.is_none_or(|until| t < until);
        match verdict {
            Err(reason) if inside && !by_act => {
                Err(format!("I1: {of:?} is denied at {t} ({reason}), and was told {told:?}"))
            }
            _ => Ok(()),
        }
    }

    pub fn i2_revoked(&self, of: (usize, u32), verdict: &Verdict) -> Checked {
        let revoked = self.revoked.contains(&of) || self.revoked_keys.contains(&of.0);
        if verdict.is_ok() && revoked {
            Err(format!("I2: {of:?} was revoked and is accepted"))
        } else {
            Ok(())
        }
    }

    pub fn i6_window(&self, ledger: &Ledger, row: &str, verdict: &Verdict, t: Time) -> Checked {
        if verdict.is_err() {
            return Ok(());
        }
        let key = row.split('/').next().and_then(|key| ledger.keys.get(key));
        let (Some(key), Some(version)) = (key, ledger.versions.get(row)) else {
            return Err(format!("I6: {row} is accepted, and there is no such row"));
        };
        let ends = [micros(version, "expires_at"), micros(version, "grace_end"), micros(key, "hard_end")];
        let inside = micros(version, "not_before").is_some_and(|from| from <= t)
            && ends.into_iter().flatten().all(|end| t < end)
            && matches!(version["stage"].as_str(), Some("active" | "deprecated" | "pending"))
            && (version.get("delivered_at").is_some() || version.get("offered_at").is_some())
            && key.get("revoked_at").is_none();
        let enabled = key["owner"].as_str().and_then(|owner| ledger.owners.get(owner));
        if inside && enabled.is_some_and(|owner| owner["suspended"] == false) {
            return Ok(());
        }
        Err(format!("I6: accepted at {t}: {version} of {key}"))
    }

    /// `accepted` has each version of a key that a host accepts at one time.
    pub fn i7_bounded(&self, accepted: &BTreeMap<usize, BTreeSet<u32>>) -> Checked {
        match accepted.iter().find(|(_, versions)| versions.len() > MAX_LIVE) {
            Some(found) => Err(format!("I7: more versions than {MAX_LIVE} are accepted: {found:?}")),
            None => Ok(()),
        }
    }

    pub fn i12_fail_closed(&self, model: &Verdict, library: &Verdict) -> Checked {
        match (library, model) {
            (Ok(_), Err(reason)) => Err(format!("I12: accepted, and the model says {reason}: {library:?}")),
            _ => Ok(()),
        }
    }

    /// No twelve characters of a secret in any of the texts.
    pub fn i13_secrecy<'a>(
        &self,
        tokens: impl Iterator<Item = &'a str>,
        texts: impl Iterator<Item = &'a [u8]>,
    ) -> Checked {
        let secret = |token: &'a str| &token.as_bytes()[token.len() - 49..token.len() - 6];
        let parts: HashSet<&[u8]> = tokens.flat_map(|token| secret(token).windows(12)).collect();
        for text in texts {
            if text.windows(12).any(|part| parts.contains(part)) {
                return Err(format!("I13: part of a secret: {}", String::from_utf8_lossy(text)));
            }
        }
        Ok(())
    }

    pub fn i15_usage(&mut self, of: (usize, u32), now: (u64, u64, Option<Time>)) -> Checked {
        let old = self.usage.insert(of, now).unwrap_or_default();
        if now.0 < old.0 || now.1 < old.1 || now.2 < old.2 {
            return Err(format!("I15: the usage of {of:?} fell from {old:?} to {now:?}"));
        }
        Ok(())
    }
}

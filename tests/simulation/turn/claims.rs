//! What was promised, and to whom: the small memory against which what the library does is held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keyrota::{ClaimId, KeyId, Retirement, RotationPolicy, Timestamp, VersionNo};

pub type Of = (KeyId, VersionNo);

/// By how much two hosts' clocks may differ, and what is told by the one may be off for the other.
const SKEW: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Memory {
    /// Since when, and until when, a grant said that a version validates.
    told: BTreeMap<Of, (Timestamp, Option<Timestamp>)>,
    /// The shortest overlap or notice that ever held for a key, and the most versions that could be valid.
    notice: BTreeMap<KeyId, Duration>,
    live: BTreeMap<KeyId, usize>,
    deployment: Option<(Duration, usize)>,
    revoked: BTreeSet<Of>,
    revoked_keys: BTreeSet<KeyId>,
    /// The secret of each version, and the claim that got it.
    secrets: BTreeMap<Of, String>,
    claimed: BTreeMap<Of, ClaimId>,
}

fn bounds(policy: &RotationPolicy) -> (Duration, usize) {
    let notice = match policy.retirement() {
        Retirement::WhenUnused { notice, .. } => notice.min(policy.overlap()),
        _ => policy.overlap(),
    };
    (notice, policy.max_live())
}

impl Memory {
    /// A policy that holds for a key from now on, beside those that may still be at work.
    pub fn policy(&mut self, key: KeyId, policy: Option<&RotationPolicy>) {
        let of_deployment = self.deployment.unwrap_or((Duration::MAX, 0));
        let (notice, live) = policy.map_or(of_deployment, bounds);
        let before = self.notice.entry(key).or_insert(notice);
        *before = notice.min(*before);
        let before = self.live.entry(key).or_insert(live);
        *before = live.max(*before);
    }

    pub fn deployment(&mut self, policy: &RotationPolicy) {
        let (notice, live) = bounds(policy);
        let before = self.deployment.unwrap_or((notice, live));
        let now = (before.0.min(notice), before.1.max(live));
        self.deployment = Some(now);
        self.notice.values_mut().for_each(|of_key| *of_key = now.0.min(*of_key));
        self.live.values_mut().for_each(|of_key| *of_key = now.1.max(*of_key));
    }

    pub fn max_live(&self, key: KeyId) -> usize {
        self.live.get(&key).copied().unwrap_or(usize::MAX)
    }

    pub fn granted(&mut self, of: Of, t: Timestamp, until: Option<Timestamp>) {
        self.told.insert(of, (t, until));
    }

    /// Somebody decided about a key, or may have: what was told before holds no more.
    pub fn decided(&mut self, key: KeyId) {
        self.told.retain(|of, _| of.0 != key);
    }

    /// A clock that goes back takes with it what was told beyond it.
    pub fn forget(&mut self) {
        self.told.clear();
    }

    pub fn revoked(&mut self, key: KeyId, version: Option<VersionNo>) {
        match version {
            Some(version) => drop(self.revoked.insert((key, version))),
            None => drop(self.revoked_keys.insert(key)),
        }
    }

    pub fn is_revoked(&self, of: Of) -> bool {
        self.revoked.contains(&of) || self.revoked_keys.contains(&of.0)
    }

    /// I1: until when a version must validate, by what was told of it.
    pub fn promised(&self, of: Of) -> Option<(Timestamp, Timestamp)> {
        let (seen, until) = *self.told.get(&of)?;
        let notice = self.notice.get(&of.0).copied().unwrap_or(Duration::ZERO);
        let least = seen.plus(notice.saturating_sub(SKEW)).unwrap_or(Timestamp::MAX);
        // A host whose clock is ahead may record the end by it.
        Some((seen, until.map_or(least, |until| until.minus_or_min(SKEW).min(least))))
    }

    /// I14: one secret for each version.
    pub fn secret(&mut self, of: Of, token: &str) -> Result<(), String> {
        let before = self.secrets.entry(of).or_insert_with(|| token.to_owned());
        if before == token { Ok(()) } else { Err(format!("I14: two secrets of {of:?}")) }
    }

    /// I14: a claim got a secret; another id never does.
    pub fn claimed(&mut self, of: Of, id: &ClaimId, token: &str) -> Result<(), String> {
        self.secret(of, token)?;
        let before = self.claimed.entry(of).or_insert_with(|| id.clone());
        if before == id { Ok(()) } else { Err(format!("I14: two claims got {of:?}")) }
    }

    pub fn secrets(&self) -> impl Iterator<Item = (&Of, &String)> {
        self.secrets.iter()
    }
}

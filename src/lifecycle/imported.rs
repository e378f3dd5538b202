//! Imported keys: how a key of another system is taken over, and what becomes of it when its token is seen.

use std::time::Duration;

use crate::digest::SecretDigest;
use crate::id::VersionNo;
use crate::imported::{ImportedMark, Strength, Upgrade, WeakAction};
use crate::key::KeyRecord;
use crate::lifecycle::change::mint;
use crate::lifecycle::deny::revoke_version;
use crate::lifecycle::{Family, LifecycleError, Minted, Transition, end, finish};
use crate::policy::RotationPolicy;
use crate::time::{Timestamp, earlier};
use crate::version::{EndReason, Stage};

/// What another system says of a key's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ForeignStatus {
    #[default]
    Active,
    /// Superseded, and still valid for a while.
    Deprecated,
    Revoked,
    /// Over, without having been revoked.
    Ended,
}

/// What another system says of a key.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ForeignState {
    pub(crate) status: ForeignStatus,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) deprecated_at: Option<Timestamp>,
    pub(crate) grace_end: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
}

/// A key of another system, as this one keeps it from `t` on: with one version, which says that it was imported. What was
/// over there is over here. Of what the other system does not say nothing is made up: without an expiry there the version
/// has none, and its successors get that of the policy.
pub(crate) fn import(
    key: KeyRecord,
    state: &ForeignState,
    (minted, mark): (Minted, ImportedMark),
    rotate_at: Option<Timestamp>,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<Family, LifecycleError> {
    let past = |time: Option<Timestamp>| time.map(|time| time.min(t));
    // Whatever has passed there came after the beginning, also where nobody wrote that down.
    let dates = [state.expires_at, state.deprecated_at, state.grace_end, state.revoked_at, key.hard_end];
    let first = dates.into_iter().flatten().min().map(|first| first.minus_or_min(Duration::from_secs(1)));
    let created_at = past(state.created_at).or(past(first)).unwrap_or(t);
    let not_before = state.not_before.unwrap_or(created_at);
    let mut family = Family { key, versions: Vec::new(), rotations: Vec::new() };
    let mut version = mint(&family, VersionNo::FIRST, not_before, minted, policy, created_at)?;
    version.expires_at = state.expires_at;
    version.rotate_at = rotate_at;
    version.imported = Some(mark);
    let is_empty = |end: Option<Timestamp>| end.is_some_and(|end| end <= not_before);
    if is_empty(version.expires_at) || is_empty(family.key.hard_end) {
        return Err(LifecycleError::EmptyWindow);
    }
    let mut unrecorded = Vec::new();
    match state.status {
        ForeignStatus::Active => {}
        ForeignStatus::Deprecated => {
            version.stage = Stage::Deprecated;
            version.deprecated_at = Some(past(state.deprecated_at).unwrap_or(t));
            let grace_end = state.grace_end.or(state.expires_at).or(t.plus(policy.overlap()).ok());
            version.grace_end = earlier(state.expires_at, grace_end);
        }
        ForeignStatus::Revoked => {
            let at = past(state.revoked_at).unwrap_or(t);
            family.key.revoked_at = Some(at);
            finish(&mut version, EndReason::Revoked, at, &mut unrecorded);
        }
        ForeignStatus::Ended => {
            let at = past(end(&version, family.key.hard_end)).unwrap_or(t);
            finish(&mut version, EndReason::Expired, at, &mut unrecorded);
        }
    }
    family.versions.push(version);
    // What is over at `t` was over before it came here: the import tells of all that in one.
    family.settle(t);
    Ok(family)
}

/// Puts what was learned of a version's token in the place of what was kept of it: of an imported one, of what another
/// system had kept. A token that turns out to be weak is dealt with as the import said. Nothing for a version that is
/// over, or was upgraded already, as far or farther. That the digest of one of our own tokens is under another generation
/// is no change of state, and no transition.
pub(crate) fn upgrade(
    family: &mut Family,
    number: VersionNo,
    upgrade: &Upgrade,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    let is_done =
        |digest: &SecretDigest| *digest == upgrade.digest || digest.generation > upgrade.digest.generation;
    let version = family.versions.iter_mut().find(|version| version.number == number);
    let Some(version) = version.filter(|version| !version.is_ended() && !is_done(&version.digest)) else {
        return Ok(Vec::new());
    };
    let (mark, (locator, learned)) = match (&mut version.imported, upgrade.imported) {
        (Some(mark), Some(learned)) => (mark, learned),
        (None, None) => {
            version.digest = upgrade.digest;
            return Ok(Vec::new());
        }
        _ => return Ok(Vec::new()),
    };
    let is_news = mark.strength == Strength::Unknown;
    if is_news {
        mark.strength = learned;
    }
    let (strength, weak) = (mark.strength, mark.weak);
    (version.digest, version.locator) = (upgrade.digest, locator);
    let mut transitions = vec![Transition::VersionUpgraded { version: number, strength }];
    match weak {
        _ if !is_news || strength != Strength::Weak => {}
        WeakAction::Flag => {}
        WeakAction::Rotate => {
            version.rotate_at = Some(t);
            family.key.auto_rotation = Some(true);
            family.key.rotates = true;
        }
        WeakAction::Refuse => transitions.extend(revoke_version(family, number, false, t)?),
    }
    Ok(transitions)
}

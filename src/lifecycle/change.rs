//! Acts that make and move versions: issue, rotate, deprecate, roll back.

use std::time::Duration;

use crate::actor::Actor;
use crate::id::{RotationId, VersionNo};
use crate::key::KeyRecord;
use crate::lifecycle::deny::mark_compromised;
use crate::lifecycle::{Family, LifecycleError, Minted, Transition, end, finish, is_over};
use crate::policy::RotationPolicy;
use crate::rotation::{RotationRecord, RotationStatus};
use crate::time::{Timestamp, earlier};
use crate::version::{EndReason, Stage, VersionRecord};

/// V1: a key is born with its first version, handed over by the return of `issue`.
pub(crate) fn issue(
    key: KeyRecord,
    not_before: Option<Timestamp>,
    minted: Minted,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<(Family, Vec<Transition>), LifecycleError> {
    let not_before = not_before.unwrap_or(t).max(t);
    if key.hard_end.is_some_and(|end| end <= not_before) {
        return Err(LifecycleError::EmptyWindow);
    }
    let mut family = Family { key, versions: Vec::new(), rotations: Vec::new() };
    let version = mint(&family, VersionNo::FIRST, not_before, minted, policy, t)?;
    let transition = Transition::KeyIssued { version: version.number, until: family.end(&version) };
    family.versions.push(version);
    Ok((family, vec![transition]))
}

/// A version that is active from its making.
pub(super) fn mint(
    family: &Family,
    number: VersionNo,
    not_before: Timestamp,
    minted: Minted,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<VersionRecord, LifecycleError> {
    let key = &family.key;
    let expires_at = match (key.never_expires, not_before.plus(policy.lifetime()), key.hard_end) {
        (true, _, hard_end) => hard_end,
        (false, Ok(expiry), hard_end) => earlier(Some(expiry), hard_end),
        // Past the year 9999, but the key ends before.
        (false, Err(_), Some(hard_end)) => Some(hard_end),
        (false, Err(error), None) => return Err(error.into()),
    };
    Ok(VersionRecord {
        key: key.id,
        number,
        locator: minted.locator,
        digest: minted.digest,
        fingerprint: minted.fingerprint,
        stage: Stage::Active,
        issued_at: t,
        not_before,
        expires_at,
        offered_at: None,
        delivered_at: Some(t),
        activated_at: Some(t),
        deprecated_at: None,
        grace_end: None,
        compromised: false,
        ended_at: None,
        end_reason: None,
    })
}

/// Who rotates a key, why, and under which id.
#[derive(Clone, Debug)]
pub(crate) struct RotationOrder {
    pub(crate) id: RotationId,
    pub(crate) actor: Actor,
    pub(crate) reason: Option<String>,
    /// Ends the deprecated versions at once instead of refusing.
    pub(crate) supersede: bool,
}

/// V3 and V6: a new active version; the old one validates until its grace ends.
pub(crate) fn rotate(
    family: &mut Family,
    order: RotationOrder,
    minted: Minted,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    alive(&family.key, t)?;
    let deprecated = family.versions.iter().filter(|version| version.stage == Stage::Deprecated);
    let until = deprecated.filter_map(|version| family.end(version)).min();
    match (until, family.open_rotation()) {
        _ if order.supersede => {}
        (until, Some(open)) => {
            let leaving = open.old.and_then(|old| family.version(old)).and_then(|old| family.end(old));
            return Err(LifecycleError::RotationOpen { until: leaving.or(until).unwrap_or(t) });
        }
        (Some(until), None) if family.live(t).count() >= policy.max_live() => {
            return Err(LifecycleError::TooManyLive { until });
        }
        _ => {}
    }
    let number = next_number(family)?;
    let not_before = family.window_start(t);
    let successor = mint(family, number, not_before, minted, policy, t)?;
    let grace_end = t.plus(policy.overlap())?;

    let mut transitions = Vec::new();
    if order.supersede {
        family.at_stage_mut(Stage::Deprecated).for_each(|version| version.grace_end = Some(t));
        transitions.extend(family.settle(t));
    }
    let deprecated = deprecate_active(family, grace_end, t);
    let leaving = family.versions.iter().filter(|version| version.stage == Stage::Deprecated);
    let leaving = leaving.max_by_key(|version| (version.deprecated_at, version.number));
    let leaving = leaving.map(|version| version.number);
    let [issued, started] = start_rotation(family, order, leaving, successor, t);
    transitions.push(issued);
    transitions.extend(deprecated);
    transitions.push(started);
    // With no overlap, or nothing that leaves, the rotation is complete at once.
    transitions.extend(family.settle(t));
    Ok(transitions)
}

impl Family {
    /// When a new version's window begins: at once, but never before the window that its key was issued with.
    pub(super) fn window_start(&self, t: Timestamp) -> Timestamp {
        self.versions.iter().map(|version| version.not_before).fold(t, Timestamp::max)
    }
}

/// The number after the last; none is used twice.
pub(super) fn next_number(family: &Family) -> Result<VersionNo, LifecycleError> {
    let last = family.versions.iter().map(|version| version.number).max().unwrap_or(VersionNo::new(0));
    last.next().ok_or(LifecycleError::VersionsExhausted)
}

/// Adds the successor, and the record of its rotation.
pub(super) fn start_rotation(
    family: &mut Family,
    order: RotationOrder,
    old: Option<VersionNo>,
    successor: VersionRecord,
    t: Timestamp,
) -> [Transition; 2] {
    let new = successor.number;
    let issued = Transition::VersionIssued { version: new, until: family.end(&successor) };
    let until = old.and_then(|old| family.version(old)).and_then(|old| family.end(old));
    let started = Transition::RotationStarted { rotation: order.id, old, new, until };
    family.versions.push(successor);
    family.rotations.push(RotationRecord {
        id: order.id,
        key: family.key.id,
        old,
        new,
        status: RotationStatus::GracePeriod,
        actor: order.actor,
        reason: order.reason,
        started_at: t,
        finished_at: None,
    });
    [issued, started]
}

pub(super) fn alive(key: &KeyRecord, t: Timestamp) -> Result<(), LifecycleError> {
    match (key.revoked_at, key.hard_end) {
        (Some(_), _) => Err(LifecycleError::KeyRevoked),
        (None, Some(at)) if at <= t => Err(LifecycleError::KeyEnded { at }),
        _ => Ok(()),
    }
}

/// V6: the grace never outlives the version's own expiry.
pub(super) fn deprecate_active(
    family: &mut Family,
    grace_end: Timestamp,
    t: Timestamp,
) -> Option<Transition> {
    let hard_end = family.key.hard_end;
    let version = family.at_stage_mut(Stage::Active).next()?;
    version.stage = Stage::Deprecated;
    version.deprecated_at = Some(t);
    version.grace_end = earlier(version.expires_at, Some(grace_end));
    Some(Transition::VersionDeprecated { version: version.number, until: end(version, hard_end) })
}

/// The active version runs out after `overlap`, with no successor.
pub(crate) fn deprecate(
    family: &mut Family,
    overlap: Duration,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    alive(&family.key, t)?;
    let grace_end = t.plus(overlap)?;
    let mut transitions: Vec<_> = deprecate_active(family, grace_end, t).into_iter().collect();
    if transitions.is_empty() {
        return Err(LifecycleError::NoActiveVersion);
    }
    transitions.extend(family.settle(t));
    Ok(transitions)
}

/// V9: the version that is leaving becomes active again; the other one gets the overlap, or is revoked when it
/// is compromised.
pub(crate) fn roll_back(
    family: &mut Family,
    compromised: bool,
    overlap: Duration,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    alive(&family.key, t)?;
    let grace_end = t.plus(overlap)?;
    let is_candidate = |version: &&VersionRecord| {
        version.stage == Stage::Deprecated && !version.compromised && !is_over(family.end(version), t)
    };
    let target = match (family.open_rotation(), family.active()) {
        (Some(open), _) => open.old.and_then(|old| family.version(old)).filter(is_candidate),
        (None, None) => {
            let candidates = family.versions.iter().filter(is_candidate);
            candidates.max_by_key(|version| (version.deprecated_at, version.number))
        }
        (None, Some(_)) => None,
    };
    let target = target.ok_or(LifecycleError::NotRollbackable)?.number;

    let mut transitions = Vec::new();
    if compromised {
        let others =
            family.versions.iter_mut().filter(|version| !version.is_ended() && version.number != target);
        for version in others {
            finish(version, EndReason::Revoked, t, &mut transitions);
            mark_compromised(version, &mut transitions);
        }
    } else {
        transitions.extend(deprecate_active(family, grace_end, t));
    }
    let hard_end = family.key.hard_end;
    if let Some(version) = family.versions.iter_mut().find(|version| version.number == target) {
        version.stage = Stage::Active;
        version.deprecated_at = None;
        version.grace_end = None;
        transitions.push(Transition::VersionReactivated { version: target, until: end(version, hard_end) });
    }
    for rotation in family.rotations.iter_mut().filter(|rotation| rotation.is_open()) {
        rotation.status = RotationStatus::RolledBack;
        rotation.finished_at = Some(t);
        transitions.push(Transition::RotationRolledBack { rotation: rotation.id, at: t });
    }
    transitions.extend(family.settle(t));
    Ok(transitions)
}

//! Acts that make and move versions: issue, rotate, deprecate, roll back.

use std::time::Duration;

use crate::actor::Actor;
use crate::id::{RotationId, VersionNo};
use crate::key::KeyRecord;
use crate::lifecycle::deny::mark_compromised;
use crate::lifecycle::handover::fits;
use crate::lifecycle::retire::{lagging_at, supersede};
use crate::lifecycle::schedule::{hold_back, open_until, withdraw};
use crate::lifecycle::{Family, LifecycleError, Minted, Transition, end, finish, is_over};
use crate::policy::{ClockStart, RotationPolicy};
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
        rotate_at: rotate_at(key, number, not_before, policy),
        claimed_by: None,
        claim: None,
        claim_until: None,
        conflict_at: None,
        awaits_use: false,
        first_used_at: None,
        quiet_at: None,
        offered_at: None,
        offered_until: None,
        delivered_at: Some(t),
        activated_at: Some(t),
        deprecated_at: None,
        grace_end: None,
        compromised: false,
        ended_at: None,
        end_reason: None,
        imported: None,
    })
}

/// When the version's successor is due. The jitter is a hash of key and version, so that it is the same for everybody.
fn rotate_at(
    key: &KeyRecord,
    number: VersionNo,
    not_before: Timestamp,
    policy: &RotationPolicy,
) -> Option<Timestamp> {
    let mut mixed = u128::from(key.id) as u64 ^ (u64::from(number.get()) << 32);
    for factor in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB_u64] {
        mixed = (mixed ^ (mixed >> 31)).wrapping_mul(factor);
    }
    let thousandths = u32::try_from((mixed >> 33) % 1_000).unwrap_or(0);
    let jitter = policy.jitter() / 1_000 * thousandths;
    not_before.plus(policy.rotate_every().saturating_sub(jitter)).ok()
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

impl RotationOrder {
    /// A rotation that begins by itself.
    pub(crate) fn planned(id: RotationId) -> Self {
        let reason = Some(RotationRecord::SCHEDULED.to_owned());
        Self { id, actor: Actor::system(), reason, supersede: false }
    }
}

/// V3 and V6: a new version, whose secret the act hands over; the old one leaves as the policy says. A rotation that was
/// announced is the one that this is.
pub(crate) fn rotate(
    family: &mut Family,
    order: RotationOrder,
    minted: Minted,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    alive(&family.key, t)?;
    let announced = |open: &&RotationRecord| open.status == RotationStatus::InProgress && open.new.is_none();
    let announced = family.open_rotation().filter(announced).map(|open| open.id);
    if !order.supersede {
        match family.open_rotation() {
            Some(open) if announced.is_none() => {
                let until = open_until(family, open).or_else(|| next_end(family));
                return Err(LifecycleError::RotationOpen { until: until.unwrap_or(t) });
            }
            _ => fits(family, policy, t)?,
        }
    }
    let number = next_number(family)?;
    let not_before = family.window_start(t);
    let mut successor = mint(family, number, not_before, minted, policy, t)?;
    t.plus(policy.overlap())?;

    let mut transitions = Vec::new();
    if order.supersede {
        make_room(family, policy, t, &mut transitions);
    }
    let scheduled = announced.and_then(|id| {
        let at = family.rotations.iter().position(|rotation| rotation.id == id && rotation.is_open())?;
        Some(family.rotations.remove(at))
    });
    let waits_for_use = policy.clock_starts() == ClockStart::FromFirstUse && family.active().is_some();
    let issued_until = family.end(&successor);
    let mut rotation =
        scheduled.unwrap_or_else(|| RotationRecord::new(order.id, family.key.id, order.actor, order.reason));
    rotation.new = Some(number);
    rotation.started_at.get_or_insert(t);
    rotation.delivered_at = Some(t);
    family.key.lapsed = false;
    family.key.next_attempt_at = None;
    if waits_for_use {
        rotation.old = family.active().map(|version| version.number);
        rotation.status = RotationStatus::InProgress;
        let (id, old) = (rotation.id, rotation.old);
        family.rotations.push(rotation);
        successor.stage = Stage::Pending;
        successor.activated_at = None;
        successor.awaits_use = true;
        let until = old.and_then(|old| family.version(old)).and_then(|old| family.end(old));
        family.versions.push(successor);
        family.note_rotation();
        transitions.push(Transition::VersionMinted { version: number, until: issued_until });
        transitions.push(Transition::VersionDelivered { version: number });
        transitions.push(Transition::RotationBegun { rotation: id, old, new: Some(number), until });
        return Ok(transitions);
    }
    let superseded = family.active().map(|version| version.number);
    let deprecated = supersede(family, policy, t)?;
    transitions.push(Transition::VersionIssued { version: number, until: issued_until });
    transitions.extend(deprecated);
    transitions.push(join(family, rotation, superseded, successor));
    // Of a rotation that is made by hand, somebody is there to look.
    if let Some(open) = family.open_rotation_mut().filter(|open| open.delivery.is_some()) {
        open.lagging_at = open.grace_end.map(|end| lagging_at(policy, end, t));
    }
    // With no overlap, or nothing that leaves, the rotation is complete at once.
    transitions.extend(family.settle(t));
    Ok(transitions)
}

/// The first end of a version that is superseded.
fn next_end(family: &Family) -> Option<Timestamp> {
    let deprecated = family.versions.iter().filter(|version| version.stage == Stage::Deprecated);
    deprecated.filter_map(|version| family.end(version)).min()
}

/// Ends what is in the way of a rotation that supersedes: a rotation that is not over, the versions that run out, and the
/// oldest of those that are kept.
fn make_room(family: &mut Family, policy: &RotationPolicy, t: Timestamp, transitions: &mut Vec<Transition>) {
    withdraw(family, t, transitions);
    let runs_out = |version: &&mut VersionRecord| version.grace_end.is_some();
    family.at_stage_mut(Stage::Deprecated).filter(runs_out).for_each(|version| version.grace_end = Some(t));
    transitions.extend(family.settle(t));
    while fits(family, policy, t).is_err() {
        let Some(oldest) = family.at_stage_mut(Stage::Deprecated).min_by_key(|version| version.number) else {
            break;
        };
        oldest.grace_end = Some(t);
        transitions.extend(family.settle(t));
    }
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

/// Adds the successor, which is active, and the record of its rotation.
pub(super) fn join(
    family: &mut Family,
    mut rotation: RotationRecord,
    superseded: Option<VersionNo>,
    successor: VersionRecord,
) -> Transition {
    let new = successor.number;
    let deprecated = || family.versions.iter().filter(|version| version.stage == Stage::Deprecated);
    let last = deprecated().max_by_key(|version| (version.deprecated_at, version.number));
    let leaving = deprecated().filter(|version| version.grace_end.is_some());
    let leaving = leaving.max_by_key(|version| (family.end(version), version.number));
    let until = leaving.and_then(|version| family.end(version));
    rotation.status = RotationStatus::GracePeriod;
    rotation.old = superseded.or(last.map(|version| version.number));
    rotation.leaving = leaving.map(|version| version.number).filter(|leaving| Some(*leaving) != rotation.old);
    rotation.grace_end = until;
    let ended = rotation.old.and_then(|old| family.version(old)).filter(|old| old.is_ended());
    let until = until.or(ended.and_then(|old| family.end(old)));
    let told = Transition::RotationStarted { rotation: rotation.id, old: rotation.old, new, until };
    family.versions.push(successor);
    family.rotations.push(rotation);
    told
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
        (Some(open), _) if open.status == RotationStatus::GracePeriod => {
            open.old.and_then(|old| family.version(old)).filter(is_candidate)
        }
        (Some(_), _) => None,
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
        let others = others.filter(|version| version.number > target || version.grace_end.is_some());
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
        version.quiet_at = None;
        transitions.push(Transition::VersionReactivated { version: target, until: end(version, hard_end) });
    }
    for rotation in family.rotations.iter_mut().filter(|rotation| rotation.is_open()) {
        rotation.finish(RotationStatus::RolledBack, t);
        transitions.push(Transition::RotationRolledBack { rotation: rotation.id, at: t });
    }
    hold_back(family, t);
    transitions.extend(family.settle(t));
    Ok(transitions)
}

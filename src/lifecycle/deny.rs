//! Acts that end versions for good: revoking one, a whole key, or all but a fresh one.

use std::time::Duration;

use crate::id::VersionNo;
use crate::lifecycle::change::{RotationOrder, alive, deprecate_active, join, mint, next_number};
use crate::lifecycle::schedule::withdraw;
use crate::lifecycle::{Family, LifecycleError, Minted, Transition, finish, is_over};
use crate::policy::RotationPolicy;
use crate::rotation::{RotationRecord, RotationStatus};
use crate::time::{Timestamp, earlier};
use crate::version::{EndReason, Stage, VersionRecord};

/// The longest that a compromised version may still validate beside its replacement.
const MAX_EMERGENCY_GRACE: Duration = Duration::from_secs(4 * 3_600);

/// V12 for one version, ended or not. Repeating it changes nothing.
pub(crate) fn revoke_version(
    family: &mut Family,
    number: VersionNo,
    compromised: bool,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    let version = family.versions.iter_mut().find(|version| version.number == number);
    let version = version.ok_or(LifecycleError::NoSuchVersion(number))?;
    let mut transitions = Vec::new();
    revoke(version, compromised, t, &mut transitions);
    if compromised {
        cascade(family, number, t, &mut transitions);
    }
    cancel_bereft(family, t, &mut transitions);
    family.settle_rotations(t, &mut transitions);
    Ok(transitions)
}

/// Whoever stole a secret may have claimed with it.
fn cascade(family: &mut Family, from: VersionNo, t: Timestamp, transitions: &mut Vec<Transition>) {
    let mut reached = vec![from];
    for version in &mut family.versions {
        if version.claimed_by.is_some_and(|by| reached.contains(&by)) {
            revoke(version, true, t, transitions);
            reached.push(version.number);
        }
    }
}

/// A successor that waits to be claimed goes with the version that it was to follow, or by itself.
fn cancel_bereft(family: &mut Family, t: Timestamp, transitions: &mut Vec<Transition>) {
    let Some(open) = family.open_rotation() else { return };
    let gone = |number: Option<VersionNo>| {
        number.and_then(|number| family.version(number)).is_some_and(VersionRecord::is_revoked)
    };
    let waits = open.new.and_then(|new| family.version(new)).is_none_or(VersionRecord::is_waiting);
    if gone(open.new) || (gone(open.old) && waits) {
        withdraw(family, t, transitions);
    }
}

/// V12 for the whole key. Repeating it changes nothing.
pub(crate) fn revoke_key(family: &mut Family, compromised: bool, t: Timestamp) -> Vec<Transition> {
    let mut transitions = Vec::new();
    if family.key.revoked_at.is_none() {
        family.key.revoked_at = Some(t);
        transitions.push(Transition::KeyRevoked { at: t });
    }
    family.versions.iter_mut().for_each(|version| revoke(version, compromised, t, &mut transitions));
    family.settle_rotations(t, &mut transitions);
    transitions
}

fn revoke(version: &mut VersionRecord, compromised: bool, t: Timestamp, transitions: &mut Vec<Transition>) {
    if !version.is_revoked() {
        finish(version, EndReason::Revoked, t, transitions);
    }
    if compromised {
        mark_compromised(version, transitions);
    }
}

pub(super) fn mark_compromised(version: &mut VersionRecord, transitions: &mut Vec<Transition>) {
    if !version.compromised {
        version.compromised = true;
        transitions.push(Transition::VersionCompromised { version: version.number });
    }
}

/// An emergency: a fresh version, and every other one revoked as compromised in the same commit. With a grace, the
/// version in use validates until that is over, but is never rolled back to.
pub(crate) fn replace(
    family: &mut Family,
    order: RotationOrder,
    grace: Duration,
    minted: Minted,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    alive(&family.key, t)?;
    if grace > MAX_EMERGENCY_GRACE {
        return Err(LifecycleError::GraceTooLong);
    }
    let grace_end = t.plus(grace)?;
    let number = next_number(family)?;
    let not_before = family.window_start(t);
    let successor = mint(family, number, not_before, minted, policy, t)?;

    let mut transitions = Vec::new();
    // What clients use: the active version, or else the one that was deprecated last.
    let deprecated = family.live(t).filter(|version| version.stage == Stage::Deprecated);
    let deprecated = deprecated.max_by_key(|version| (version.deprecated_at, version.number));
    let leaving = family.active().or(deprecated).map(|version| version.number);
    transitions.extend(if grace.is_zero() { None } else { deprecate_active(family, grace_end, t) });
    for version in &mut family.versions {
        let runs_out =
            version.stage == Stage::Deprecated && Some(version.number) == leaving && !grace.is_zero();
        if runs_out && !is_over(super::end(version, family.key.hard_end), t) {
            version.grace_end = earlier(version.grace_end, Some(grace_end));
            mark_compromised(version, &mut transitions);
        } else {
            revoke(version, true, t, &mut transitions);
        }
    }
    withdraw(family, t, &mut transitions);
    transitions.extend(family.settle(t));
    // The version that leaves now leaves by this rotation; none that was open before stays so.
    for rotation in family.rotations.iter_mut().filter(|rotation| rotation.is_open()) {
        rotation.finish(RotationStatus::Completed, t);
        transitions.push(Transition::RotationCompleted { rotation: rotation.id, at: t });
    }
    let until = family.end(&successor);
    transitions.push(Transition::VersionIssued { version: successor.number, until });
    let rotation = RotationRecord {
        started_at: Some(t),
        delivered_at: Some(t),
        new: Some(successor.number),
        ..RotationRecord::new(order.id, family.key.id, order.actor, order.reason)
    };
    family.key.lapsed = false;
    family.key.next_attempt_at = None;
    transitions.push(join(family, rotation, leaving, successor));
    transitions.extend(family.settle(t));
    Ok(transitions)
}

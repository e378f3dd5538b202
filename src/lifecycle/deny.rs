//! Acts that end versions for good: revoking one, a whole key, or all but a fresh one.

use std::time::Duration;

use crate::id::VersionNo;
use crate::lifecycle::change::{RotationOrder, alive, deprecate_active, mint, next_number, start_rotation};
use crate::lifecycle::{Family, LifecycleError, Minted, Transition, finish, is_over};
use crate::policy::RotationPolicy;
use crate::rotation::RotationStatus;
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
    family.settle_rotations(t, &mut transitions);
    Ok(transitions)
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
    transitions.extend(family.settle(t));
    // The version that leaves now leaves by this rotation; none that was open before stays so.
    for rotation in family.rotations.iter_mut().filter(|rotation| rotation.is_open()) {
        rotation.status = RotationStatus::Completed;
        rotation.finished_at = Some(t);
        transitions.push(Transition::RotationCompleted { rotation: rotation.id, at: t });
    }
    transitions.extend(start_rotation(family, order, leaving, successor, t));
    transitions.extend(family.settle(t));
    Ok(transitions)
}

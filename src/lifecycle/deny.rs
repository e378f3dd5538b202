//! Acts that end versions for good: revoking one, or a whole key.

use crate::id::VersionNo;
use crate::lifecycle::{Family, LifecycleError, Transition, finish};
use crate::time::Timestamp;
use crate::version::EndReason;

/// V12 for one version, ended or not. Repeating it changes nothing.
pub(crate) fn revoke_version(
    family: &mut Family,
    number: VersionNo,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    let version = family.versions.iter_mut().find(|version| version.number == number);
    let version = version.ok_or(LifecycleError::NoSuchVersion(number))?;
    let mut transitions = Vec::new();
    if !version.is_revoked() {
        finish(version, EndReason::Revoked, t, &mut transitions);
    }
    transitions.extend(family.settle(t));
    Ok(transitions)
}

/// V12 for the whole key. Repeating it changes nothing.
pub(crate) fn revoke_key(family: &mut Family, t: Timestamp) -> Vec<Transition> {
    let mut transitions = Vec::new();
    if family.key.revoked_at.is_none() {
        family.key.revoked_at = Some(t);
        transitions.push(Transition::KeyRevoked { at: t });
    }
    for version in family.versions.iter_mut().filter(|version| !version.is_revoked()) {
        finish(version, EndReason::Revoked, t, &mut transitions);
    }
    transitions.extend(family.settle(t));
    transitions
}

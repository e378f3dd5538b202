//! When a rotation begins: scheduled by somebody, or due by itself.

use std::time::Duration;

use crate::lifecycle::change::{RotationOrder, alive};
use crate::lifecycle::{Family, LifecycleError, Transition, finish};
use crate::rotation::{RotationRecord, RotationStatus};
use crate::time::{Timestamp, earlier};
use crate::version::{EndReason, VersionRecord};

/// A rotation is to begin at a time, or earlier where the key rotates by itself before.
pub(crate) fn schedule(
    family: &mut Family,
    order: RotationOrder,
    due_at: Timestamp,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    alive(&family.key, t)?;
    if let Some(open) = family.open_rotation() {
        return Err(LifecycleError::RotationOpen { until: open_until(family, open).unwrap_or(t) });
    }
    let active = family.active().ok_or(LifecycleError::NoActiveVersion)?;
    let (number, until) = (active.number, family.end(active).unwrap_or(Timestamp::MAX));
    if due_at < t || due_at >= until {
        return Err(LifecycleError::ScheduledTooLate { until });
    }
    let rotation = RotationRecord {
        old: Some(number),
        due_at: Some(due_at),
        ..RotationRecord::new(order.id, family.key.id, order.actor, order.reason)
    };
    family.key.lapsed = false;
    family.rotations.push(rotation);
    family.note_rotation();
    Ok(vec![Transition::RotationScheduled { rotation: order.id, until: due_at }])
}

/// V10: a rotation whose successor is not active yet is withdrawn, and the successor with it.
pub(crate) fn cancel(family: &mut Family, t: Timestamp) -> Result<Vec<Transition>, LifecycleError> {
    alive(&family.key, t)?;
    let open = family.open_rotation().ok_or(LifecycleError::NothingToCancel)?;
    if !matches!(open.status, RotationStatus::Scheduled | RotationStatus::InProgress) {
        return Err(LifecycleError::NothingToCancel);
    }
    let mut transitions = Vec::new();
    withdraw(family, t, &mut transitions);
    hold_back(family, t);
    Ok(transitions)
}

/// Withdraws the open rotation, unless its successor is active.
pub(super) fn withdraw(family: &mut Family, t: Timestamp, transitions: &mut Vec<Transition>) {
    let is_withdrawn = |open: &&mut RotationRecord| {
        open.is_open() && matches!(open.status, RotationStatus::Scheduled | RotationStatus::InProgress)
    };
    let Some(open) = family.rotations.iter_mut().find(is_withdrawn) else { return };
    open.finish(RotationStatus::Cancelled, t);
    let (rotation, new) = (open.id, open.new);
    let successor = new.and_then(|new| family.version_mut(new)).filter(|version| !version.is_ended());
    if let Some(version) = successor {
        finish(version, EndReason::Cancelled, t, transitions);
    }
    transitions.push(Transition::RotationCancelled { rotation, at: t });
    family.note_rotation();
}

/// Until when an open rotation stands in the way of another.
pub(super) fn open_until(family: &Family, open: &RotationRecord) -> Option<Timestamp> {
    let leaving = open.running_out().and_then(|old| family.version(old)).and_then(|old| family.end(old));
    match open.status {
        RotationStatus::Scheduled => open.due_at,
        RotationStatus::InProgress => open.claim_by.or(leaving),
        _ => leaving,
    }
}

/// The longest that a rotation which was withdrawn is not begun anew by itself.
const HELD_BACK: Duration = Duration::from_secs(7 * 86_400);

/// After somebody withdrew a rotation, the next one does not begin by itself at once; but it does in the first half of
/// what is left of the version in use.
pub(super) fn hold_back(family: &mut Family, t: Timestamp) {
    let end = family.active().and_then(|version| family.end(version));
    let left = end.map_or(HELD_BACK, |end| end.since(t) / 2);
    family.key.next_attempt_at = t.plus(left.min(HELD_BACK)).ok();
}

/// When the next rotation begins, or should have begun, while none is in the way.
pub(crate) fn rotation_due(family: &Family) -> Option<Timestamp> {
    if family.key.revoked_at.is_some() {
        return None;
    }
    match family.open_rotation() {
        Some(open) if open.status == RotationStatus::Scheduled => earlier(open.due_at, due_by_itself(family)),
        Some(_) => None,
        None => due_by_itself(family),
    }
}

fn due_by_itself(family: &Family) -> Option<Timestamp> {
    let key = &family.key;
    if !key.rotates || key.lapsed {
        return None;
    }
    let current = family.current()?;
    let goes_on = match (key.hard_end, current.expires_at) {
        (None, _) => true,
        (Some(hard_end), Some(expires_at)) => hard_end > expires_at,
        (Some(_), None) => false,
    };
    goes_on.then(|| rotate_at(current)).map(|due| due.max(key.next_attempt_at.unwrap_or(due)))
}

/// When the successor of a version is due: as it was told, or else 83 of 90 parts into its life.
fn rotate_at(version: &VersionRecord) -> Timestamp {
    let by_default = || {
        let life = version
            .expires_at
            .map_or(Duration::from_secs(90 * 86_400), |expires_at| expires_at.since(version.not_before));
        version.not_before.plus(life / 90 * 83).unwrap_or(Timestamp::MAX)
    };
    version.rotate_at.unwrap_or_else(by_default)
}

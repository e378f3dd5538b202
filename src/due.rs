//! The question "is it due?": what time makes of a key, for the tick, its plan and the store's index.

use crate::id::VersionNo;
use crate::key::KeyRecord;
use crate::lifecycle::{self, Family, LifecycleError, Minted, RotationOrder, Silence, Transition};
use crate::owner::OwnerRecord;
use crate::policy::{Delivery, DeploymentSettings, RotationPolicy};
use crate::rotation::RotationStatus;
use crate::time::{Timestamp, earlier};
use crate::version::{Stage, VersionRecord};

/// What a key's own records do not say, and its rotation depends on.
pub(crate) struct Surroundings<'a> {
    pub(crate) policy: &'a RotationPolicy,
    /// Whether the owner is there and not suspended: suspension pauses all but deadlines.
    pub(crate) enabled: bool,
    /// Whether the key rotates by itself.
    pub(crate) rotates: bool,
    /// What is known of the use of its superseded versions.
    pub(crate) silence: &'a dyn Fn(VersionNo) -> Silence,
}

/// Whether a key rotates by itself: what was said of the key itself, or else of its owner, or else of the deployment.
pub(crate) fn rotates(key: &KeyRecord, owner: Option<&OwnerRecord>, settings: &DeploymentSettings) -> bool {
    let of_owner = owner.and_then(|owner| owner.auto_rotation);
    key.auto_rotation.or(of_owner).unwrap_or(settings.auto_rotation)
}

/// Switches the rotation of a key. One that has ended by now is not brought back by that.
pub(crate) fn switch(family: &mut Family, rotates: bool, t: Timestamp) {
    if rotates && !family.key.rotates && family.live(t).next().is_none() {
        family.key.lapsed = true;
    }
    family.key.rotates = rotates;
}

/// What is due.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) transitions: Vec<Transition>,
    /// Versions whose silence is not known, because some process has not told what it counted.
    pub(crate) unknown: Vec<VersionNo>,
    /// Whether something is due that cannot be done now: its owner is suspended, or as many versions are valid as may.
    pub(crate) deferred: bool,
}

/// Makes of this key what time has made of it by `t`. The tick writes it; its plan only looks at it. `mint` is asked for
/// the secret of a successor, and for its rotation, where one is made.
pub(crate) fn plan<E: From<LifecycleError>>(
    family: &mut Family,
    around: &Surroundings<'_>,
    t: Timestamp,
    mint: impl FnOnce(bool) -> Result<(RotationOrder, Option<Minted>), E>,
) -> Result<Outcome, E> {
    let mut outcome = Outcome { transitions: family.settle(t), ..Outcome::default() };
    if family.key.revoked_at.is_some() {
        return Ok(outcome);
    }
    if !around.enabled {
        outcome.deferred = lifecycle::rotation_due(family).is_some_and(|due| due <= t);
        return Ok(outcome);
    }
    switch(family, around.rotates, t);
    outcome.transitions.extend(lifecycle::activate_orphan(family, around.policy, t)?);
    let (ended, unknown) = lifecycle::fall_silent(family, around.policy, t, around.silence);
    outcome.transitions.extend(ended);
    outcome.transitions.extend(lifecycle::note_lagging(family, t, around.silence));
    outcome.unknown = unknown;
    let is_due = lifecycle::rotation_due(family).is_some_and(|due| due <= t);
    let announces = around.policy.delivery() == Delivery::Announce;
    if is_due && family.key.hard_end.is_some_and(|end| end <= t) {
        // Its own end was passed before anybody looked: a successor would be over when it is made.
        family.key.lapsed = true;
        outcome.transitions.extend(lifecycle::cancel(family, t).unwrap_or_default());
    } else if is_due && announces && family.active().is_none() {
        // There is nothing left that an announcement could save.
        family.key.lapsed = true;
    } else if is_due && family.current().is_some() {
        match lifecycle::fits(family, around.policy, t) {
            Ok(()) => {
                let (order, minted) = mint(!announces)?;
                let begun = lifecycle::begin(family, order, minted, around.policy, t)?;
                outcome.transitions.extend(begun);
            }
            Err(_) => outcome.deferred = true,
        }
    } else if is_due {
        // What was scheduled has nothing left to follow.
        outcome.transitions.extend(lifecycle::cancel(family, t).unwrap_or_default());
    }
    Ok(outcome)
}

/// When time next makes something of this key due: the earliest end that is not recorded yet, or what its rotation waits
/// for.
pub(crate) fn next(family: &Family) -> Option<Timestamp> {
    let unrecorded = || family.versions.iter().filter(|version| !version.is_ended());
    let ends = unrecorded().filter_map(|version| family.end(version)).min();
    let silence = unrecorded().filter_map(|version| version.quiet_at).min();
    let open = family.open_rotation().and_then(|open| match open.status {
        RotationStatus::InProgress => {
            let waits = open.new.and_then(|new| family.version(new)).is_some_and(VersionRecord::is_waiting);
            earlier(open.claim_by.filter(|_| waits), open.next_put_at)
        }
        _ => open.lagging_at,
    });
    let is_orphan = |version: &&VersionRecord| {
        version.stage == Stage::Pending && version.delivered_at.is_some() && family.active().is_none()
    };
    let orphan = unrecorded().find(is_orphan).and_then(|version| version.delivered_at);
    [ends, silence, open, orphan, lifecycle::rotation_due(family)].into_iter().fold(None, earlier)
}

/// When the last of a key's versions that were handed over ends: `None` when one never does, or when none is left.
pub(crate) fn last_end(family: &Family) -> Option<Timestamp> {
    let left = family.versions.iter().filter(|version| version.is_handed_over() && !version.is_ended());
    let mut ends = left.map(|version| family.end(version));
    ends.try_fold(None, |last: Option<Timestamp>, end| Some(last.max(Some(end?))))?
}

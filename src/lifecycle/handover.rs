//! Handing a successor over: made and waiting (V2, V4), claimed or acknowledged (V5), used (V7).

use std::time::Duration;

use crate::claim::ClaimDigest;
use crate::id::VersionNo;
use crate::lifecycle::change::{RotationOrder, alive, mint, next_number};
use crate::lifecycle::retire::{lagging_at, supersede};
use crate::lifecycle::{Family, LifecycleError, Minted, Transition};
use crate::policy::{Claimant, ClockStart, Delivery, RotationPolicy};
use crate::rotation::{DeliveryLease, RotationRecord, RotationStatus};
use crate::time::{Timestamp, earlier};
use crate::version::{Stage, VersionRecord};

/// How long a claim can be repeated at least, where nothing else bounds it.
const REPEATED: Duration = Duration::from_secs(15 * 60);
/// How often a conflict of claims about one version is recorded at most.
const CONFLICTS: Duration = Duration::from_secs(3_600);
/// How long one process has for a delivery before another one tries.
const LEASE: Duration = Duration::from_secs(5 * 60);
/// The first and the longest pause after a delivery that failed.
const PAUSES: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3_600));

/// V2 and V4: a rotation begins by itself. The successor is made and waits to be claimed, or is offered to the sink; or
/// its time is only announced. `order` serves where none is scheduled.
pub(crate) fn begin(
    family: &mut Family,
    order: RotationOrder,
    minted: Option<Minted>,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    let is_late = family.active().is_none();
    let old = family.current().map(|version| version.number);
    let mut rotation = match family.rotations.iter().position(RotationRecord::is_open) {
        Some(scheduled) => family.rotations.remove(scheduled),
        None => RotationRecord::new(order.id, family.key.id, order.actor, order.reason),
    };
    let delivery = match policy.delivery() {
        // Whoever still holds the old token can prove nothing by it.
        Delivery::Sealed { .. } if is_late => Delivery::Sealed { claimant: Claimant::Owner },
        delivery => delivery,
    };
    rotation.status = RotationStatus::InProgress;
    rotation.delivery = Some(delivery);
    rotation.old = old;
    rotation.started_at = Some(t);
    rotation.due_at.get_or_insert(t);
    let mut transitions = Vec::new();
    let mut until = old.and_then(|old| family.version(old)).and_then(|old| family.end(old));
    if let Some(minted) = minted {
        let number = next_number(family)?;
        let not_before = family.window_start(t);
        let mut version = mint(family, number, not_before, minted, policy, t)?;
        version.stage = Stage::Pending;
        version.delivered_at = None;
        version.activated_at = None;
        transitions.push(Transition::VersionMinted { version: number, until: family.end(&version) });
        if delivery == Delivery::Sink {
            version.offered_at = Some(t);
            version.awaits_use = true;
            rotation.next_put_at = Some(t);
            transitions.push(Transition::VersionOffered { version: number });
        }
        until = earlier(Some(not_before.plus(policy.rotate_every())?), family.end(&version));
        rotation.new = Some(number);
        rotation.claim_by = until;
        version.offered_until = until.filter(|_| version.offered_at.is_some());
        family.versions.push(version);
    }
    let new = rotation.new;
    transitions.push(Transition::RotationBegun { rotation: rotation.id, old, new, until });
    family.rotations.push(rotation);
    family.note_rotation();
    Ok(transitions)
}

/// Who claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presenter {
    /// Whoever holds the token of this version.
    Holder(VersionNo),
    /// The host, for the key's owner.
    Owner,
}

/// What a claim came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// The successor is handed over.
    Now(VersionNo),
    /// It was, by this very claim, and its secret can be shown once more.
    Before(VersionNo),
    /// It was, by another one.
    ByAnother(VersionNo),
}

/// V5 by a claim. The presenter's version is valid.
pub(crate) fn claim(
    family: &mut Family,
    presenter: Presenter,
    claim: ClaimDigest,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<(Claimed, Vec<Transition>), LifecycleError> {
    alive(&family.key, t)?;
    if let Presenter::Holder(version) = presenter
        && family.version(version).is_none_or(|version| version.compromised)
    {
        return Err(LifecycleError::NotClaimable);
    }
    let waiting = family.open_rotation().and_then(|open| {
        let Delivery::Sealed { claimant } = open.delivery? else { return None };
        let version = family.version(open.new?).filter(|version| version.is_waiting())?;
        Some((claimant, version.number, open.old))
    });
    let Some((claimant, number, old)) = waiting else {
        return claim_again(family, presenter, claim, t);
    };
    let by = match presenter {
        Presenter::Owner => None,
        Presenter::Holder(version) => {
            if claimant != Claimant::Holder || family.active().is_none_or(|active| active.number != version) {
                return Err(LifecycleError::NotClaimable);
            }
            Some(version)
        }
    };
    fits(family, policy, t)?;
    let mut transitions = vec![Transition::VersionClaimed { version: number }];
    if let Some(version) = family.version_mut(number) {
        version.claimed_by = by;
        version.claim = Some(claim);
    }
    transitions.extend(deliver(family, number, policy, t)?);
    let old_end = old.and_then(|old| family.version(old)).and_then(|old| family.end(old));
    let until = old_end.max(Some(t.plus(REPEATED)?));
    if let Some(version) = family.version_mut(number) {
        version.claim_until = until;
    }
    Ok((Claimed::Now(number), transitions))
}

/// A claim while nothing waits: the one that was answered already, or another one.
fn claim_again(
    family: &mut Family,
    presenter: Presenter,
    claim: ClaimDigest,
    t: Timestamp,
) -> Result<(Claimed, Vec<Transition>), LifecycleError> {
    let follows = |version: &&mut VersionRecord| match presenter {
        Presenter::Owner => true,
        Presenter::Holder(presented) => version.number > presented,
    };
    let claimed = family.versions.iter_mut().filter(|version| version.claim.is_some() && !version.is_ended());
    let version = claimed.filter(follows).max_by_key(|version| version.number);
    let version = version.ok_or(LifecycleError::NothingToClaim)?;
    let number = version.number;
    if version.claim == Some(claim) {
        let is_open = version.first_used_at.is_none() && version.claim_until.is_some_and(|until| t < until);
        return if is_open {
            Ok((Claimed::Before(number), Vec::new()))
        } else {
            Err(LifecycleError::AlreadyClaimed { version: number })
        };
    }
    if version.conflict_at.is_some_and(|told| t.since(told) < CONFLICTS && told <= t) {
        return Err(LifecycleError::AlreadyClaimed { version: number });
    }
    version.conflict_at = Some(t);
    Ok((Claimed::ByAnother(number), vec![Transition::ClaimConflict { version: number }]))
}

/// Whether one more version may be valid.
pub(crate) fn fits(family: &Family, policy: &RotationPolicy, t: Timestamp) -> Result<(), LifecycleError> {
    // One that was offered counts already.
    let waits = |version: &&VersionRecord| !version.is_waiting();
    let ends: Vec<_> = family.live(t).filter(waits).map(|version| family.end(version)).collect();
    if ends.len() < policy.max_live() {
        return Ok(());
    }
    let until = ends.into_iter().flatten().min().unwrap_or(Timestamp::MAX);
    Err(LifecycleError::TooManyLive { until })
}

/// V5 and V6: the successor's secret was handed over.
pub(super) fn deliver(
    family: &mut Family,
    number: VersionNo,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    let runs = family.active().is_some();
    if let Some(version) = family.version_mut(number) {
        version.delivered_at = Some(t);
        version.awaits_use = true;
    }
    if let Some(open) = family.open_rotation_mut() {
        open.delivered_at = Some(t);
        open.lease = None;
        open.next_put_at = None;
    }
    family.note_rotation();
    if policy.clock_starts() == ClockStart::FromFirstUse && runs {
        return Ok(vec![Transition::VersionDelivered { version: number }]);
    }
    activate(family, number, policy, t)
}

/// V5, V7 and V6: the successor becomes the active version.
pub(super) fn activate(
    family: &mut Family,
    number: VersionNo,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    let old = family.active().map(|version| version.number);
    let mut transitions = supersede(family, policy, t)?;
    let hard_end = family.key.hard_end;
    if let Some(version) = family.version_mut(number) {
        version.stage = Stage::Active;
        version.activated_at = Some(t);
        let until = super::end(version, hard_end);
        transitions.push(Transition::VersionActivated { version: number, until });
    }
    family.key.lapsed = false;
    let leaving = family
        .versions
        .iter()
        .filter(|version| version.stage == Stage::Deprecated && version.grace_end.is_some())
        .max_by_key(|version| family.end(version));
    let leaving = leaving.map(|version| (version.number, family.end(version)));
    if let Some(open) = family.open_rotation_mut() {
        open.status = RotationStatus::GracePeriod;
        open.old = old.or(open.old);
        open.leaving = leaving.map(|(leaving, _)| leaving).filter(|leaving| Some(*leaving) != open.old);
        open.grace_end = leaving.and_then(|(_, end)| end);
        open.lagging_at = open.grace_end.map(|end| lagging_at(policy, end, t));
        transitions.push(Transition::RotationStarted {
            rotation: open.id,
            old: open.old,
            new: number,
            until: open.grace_end,
        });
    }
    transitions.extend(family.settle(t));
    Ok(transitions)
}

/// V7 by use, recorded at `t`. Nothing for a version whose first use is not awaited. One that was only offered must have
/// been handed over, whether or not the sink could say so: else the service that runs on it would lose it in the end.
pub(crate) fn first_use(
    family: &mut Family,
    number: VersionNo,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    let Some(version) = family.version_mut(number).filter(|version| version.awaits_use) else {
        return Ok(Vec::new());
    };
    version.awaits_use = false;
    version.first_used_at = Some(t);
    let is_pending = version.stage == Stage::Pending;
    let delivered_at = *version.delivered_at.get_or_insert(t);
    if let Some(open) = family.open_rotation_mut().filter(|open| open.new == Some(number)) {
        open.delivered_at = Some(delivered_at);
        open.lease = None;
        open.next_put_at = None;
    }
    let mut transitions = vec![Transition::VersionFirstUsed { version: number }];
    if is_pending {
        transitions.extend(activate(family, number, policy, t)?);
    }
    Ok(transitions)
}

/// V7 by the old version's end: nobody used the successor, but there is nothing else left.
pub(crate) fn activate_orphan(
    family: &mut Family,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    let orphan = family.versions.iter().find(|version| {
        version.stage == Stage::Pending && version.delivered_at.is_some() && family.active().is_none()
    });
    match orphan.map(|version| version.number) {
        Some(number) => activate(family, number, policy, t),
        None => Ok(Vec::new()),
    }
}

/// A process's turn to give the sink the successor's secret; `None` where it is not its turn.
pub(crate) fn take_lease(family: &mut Family, now: Timestamp) -> Option<VersionNo> {
    let open = family.open_rotation_mut()?;
    let is_due = open.next_put_at.is_some_and(|next| next <= now);
    if !is_due || open.lease.is_some_and(|lease| lease.holds_at(now)) {
        return None;
    }
    let until = now.plus(LEASE).ok()?;
    open.lease = Some(DeliveryLease { taken_at: now, until });
    open.attempts = open.attempts.saturating_add(1);
    // Where this process dies, another one tries then.
    open.next_put_at = Some(until);
    open.new
}

/// V5 by the sink's acknowledgement. Nothing where the rotation came to its end meanwhile.
pub(crate) fn acknowledge(
    family: &mut Family,
    number: VersionNo,
    policy: &RotationPolicy,
    t: Timestamp,
) -> Result<Vec<Transition>, LifecycleError> {
    let awaited = family.open_rotation().is_some_and(|open| open.new == Some(number));
    let waits = family.version(number).is_some_and(VersionRecord::is_waiting);
    if awaited && waits { deliver(family, number, policy, t) } else { Ok(Vec::new()) }
}

/// The sink refused: the same version is tried again later.
pub(crate) fn put_failed(family: &mut Family, number: VersionNo, t: Timestamp) -> Vec<Transition> {
    let (first, longest) = PAUSES;
    let Some(open) = family.open_rotation_mut().filter(|open| open.new == Some(number)) else {
        return Vec::new();
    };
    let doublings = open.attempts.saturating_sub(1).min(10);
    let pause = (first * 2u32.pow(doublings)).min(longest);
    open.lease = None;
    open.next_put_at = t.plus(pause).ok();
    // Whoever made the first attempt may have died before it could say so.
    if std::mem::replace(&mut open.is_failing, true) {
        Vec::new()
    } else {
        vec![Transition::DeliveryFailing { rotation: open.id, version: number }]
    }
}

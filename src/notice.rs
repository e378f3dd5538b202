//! The rules of notifying: which event is told as what, what time makes worth telling, and what is not worth it any
//! more. Pure: no clock, no store.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::event::{Event, EventKind};
use crate::id::KeyId;
use crate::key::KeyRecord;
use crate::lifecycle::{Family, end};
use crate::notification::{Notification, NotificationKind};
use crate::time::Timestamp;
use crate::token::Hint;
use crate::version::{EndReason, Stage, VersionRecord};

const DAY: Duration = Duration::from_secs(86_400);
/// How long before the end of a version it is warned of, unless the host says otherwise.
pub(crate) const WARNINGS: [Duration; 2] = [Duration::from_secs(7 * 86_400), DAY];
/// How long after its making a key that was never used is told as such.
pub(crate) const UNUSED_AFTER: Duration = Duration::from_secs(7 * 86_400);
/// After how long a silence a key is told as perhaps stale.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(30 * 86_400);
/// How long a rotation that has just begun stands for the warning of the version that it replaces.
const TOLD_BY_ROTATION: Duration = DAY;

/// What an alarm is about.
pub(crate) const COMPROMISED: &str = "version_compromised";
pub(crate) const CHAIN_BROKEN: &str = "chain_broken";
pub(crate) const DROPPED: &str = "notifications_dropped";

/// How an event is told; `None` is not at all. Without a wildcard: whoever adds a kind of event decides it here.
pub(crate) fn kind_of(event: &Event) -> Option<NotificationKind> {
    match event.kind {
        EventKind::KeyIssued => Some(NotificationKind::Issued),
        EventKind::KeyRotation => Some(NotificationKind::RotationStarted),
        EventKind::RotationCompleted => Some(NotificationKind::RotationCompleted),
        EventKind::RotationRolledBack => Some(NotificationKind::RotationRolledBack),
        EventKind::KeyRevoked => Some(NotificationKind::Revoked),
        EventKind::VersionEnded => match event.end_reason {
            Some(EndReason::Expired) => Some(NotificationKind::Expired),
            Some(EndReason::Revoked) => Some(NotificationKind::Revoked),
            Some(EndReason::Retired | EndReason::Cancelled) | None => None,
        },
        EventKind::OwnerSuspended => Some(NotificationKind::Suspended),
        EventKind::OwnerResumed => Some(NotificationKind::Resumed),
        EventKind::VersionCompromised | EventKind::ChainBroken => Some(NotificationKind::Alarm),
        // The rotation that they belong to tells of them.
        EventKind::VersionIssued | EventKind::VersionDeprecated | EventKind::VersionReactivated => None,
        EventKind::StoreFounded
        | EventKind::StoreRestored
        | EventKind::KeyEdited
        | EventKind::KeyPurged
        | EventKind::OwnerAdded
        | EventKind::OwnerChanged
        | EventKind::RoleSet
        | EventKind::PolicySet
        | EventKind::ClockConfirmed
        | EventKind::NotificationRetried
        | EventKind::NotificationDropped => None,
    }
}

/// What is told of the events of one commit, in their order, each with the event's place among them. A revoked key is
/// told once, as such, and a leaked one raises one alarm, however many versions it has.
pub(crate) fn of_commit(events: &[Event]) -> Vec<(usize, Notification)> {
    let revoked: BTreeSet<KeyId> = events
        .iter()
        .filter(|event| event.kind == EventKind::KeyRevoked)
        .filter_map(|event| event.key)
        .collect();
    let mut alarmed = BTreeSet::new();
    let mut is_told = |event: &Event, kind: NotificationKind| match (event.key, kind) {
        (Some(key), NotificationKind::Alarm) => alarmed.insert(key),
        (Some(key), NotificationKind::Revoked) if revoked.contains(&key) => {
            event.kind == EventKind::KeyRevoked
        }
        (Some(key), kind) if revoked.contains(&key) => kind.outlives_revocation(),
        _ => true,
    };
    let of_event = |(at, event): (usize, &Event)| {
        let kind = kind_of(event).filter(|kind| is_told(event, *kind))?;
        let mut told = Notification::of_event(event, kind);
        told.subject = match event.kind {
            EventKind::VersionCompromised => Some(COMPROMISED.to_owned()),
            EventKind::ChainBroken => Some(CHAIN_BROKEN.to_owned()),
            _ => None,
        };
        if kind == NotificationKind::Expired || kind == NotificationKind::Revoked {
            told.ends_at = event.version.map(|_| event.at);
        }
        Some((at, told))
    };
    events.iter().enumerate().filter_map(of_event).collect()
}

/// Whether a version's expiry is worth telling: that of one with a successor is not.
pub(crate) fn tells_expiry(version: &VersionRecord) -> bool {
    version.deprecated_at.is_none()
}

/// The time from which a version's warnings count: from its window on, but not before it was made.
fn begin(version: &VersionRecord) -> Timestamp {
    version.issued_at.max(version.not_before)
}

/// The warning that a new version is born with: the warnings that lie at its beginning or before it become this one.
pub(crate) fn at_birth(version: &VersionRecord, warnings: &[Duration]) -> Option<Duration> {
    let end = version.expires_at?;
    let passed = |threshold: &&Duration| end.minus_or_min(**threshold) <= begin(version);
    if version.not_before > version.issued_at {
        return None;
    }
    warnings.iter().filter(passed).min().copied()
}

/// Whether this warning of a version is to be told at `t`: it has come, no later one has, the version is the one in
/// use, and nobody has got its successor.
pub(crate) fn warns(
    family: &Family,
    version: &VersionRecord,
    threshold: Duration,
    warnings: &[Duration],
    t: Timestamp,
) -> bool {
    let Some(end) = end(version, family.key.hard_end) else { return false };
    let comes_at = |threshold: Duration| end.minus_or_min(threshold);
    let later_has_come = warnings.iter().any(|later| *later < threshold && comes_at(*later) <= t);
    let handed_over = |other: &VersionRecord| other.stage == Stage::Pending && other.delivered_at.is_some();
    let just_rotated = family.rotations.iter().any(|rotation| {
        rotation.is_open()
            && rotation.old == Some(version.number)
            && t.since(rotation.started_at) < TOLD_BY_ROTATION
    });
    family.key.revoked_at.is_none()
        && version.stage == Stage::Active
        && t < end
        && comes_at(threshold) <= t
        && comes_at(threshold) > begin(version)
        && !later_has_come
        && !family.versions.iter().any(handed_over)
        && !just_rotated
}

/// A notification about a key and one of its versions, that nobody but time brings about.
fn of_version(
    key: &KeyRecord,
    version: &VersionRecord,
    kind: NotificationKind,
    at: Timestamp,
) -> Notification {
    Notification {
        key: Some(key.id),
        name: Some(key.name.clone()),
        version: Some(version.number),
        owner: Some(key.owner),
        hint: Some(Hint::new(key.prefix, version.locator).to_string()),
        old_fingerprint: Some(version.fingerprint),
        ends_at: end(version, key.hard_end),
        ..Notification::new(at, kind)
    }
}

/// The warning of a version's end.
pub(crate) fn expiring(
    key: &KeyRecord,
    version: &VersionRecord,
    threshold: Duration,
    at: Timestamp,
) -> Notification {
    let told = of_version(key, version, NotificationKind::Expiring, at);
    Notification { threshold: Some(threshold), ..told }.identified("")
}

/// A key that is not used: never, or not since `last_used`.
pub(crate) fn idle(family: &Family, last_used: Option<Timestamp>, t: Timestamp) -> Option<Notification> {
    let version = in_use(family, t)?;
    let (kind, since, after) = match last_used {
        None => (NotificationKind::Unused, family.key.issued_at.max(version.not_before), UNUSED_AFTER),
        Some(last) => (NotificationKind::PotentiallyStale, last, STALE_AFTER),
    };
    let told = of_version(&family.key, version, kind, since.plus(after).ok()?);
    // It is the key that is idle, whatever its version: a rotation does not tell it anew.
    let mut told = Notification { version: None, last_used, ..told }.identified("");
    told.version = Some(version.number);
    // Keys are found by their ids, which know the millisecond.
    let millis = |time: Timestamp| time.unix_micros() / 1_000;
    (millis(t) >= millis(told.at)).then_some(told)
}

/// The version that clients are to use now, of a key that is not revoked.
fn in_use(family: &Family, t: Timestamp) -> Option<&VersionRecord> {
    let is_revoked = family.key.revoked_at.is_some();
    let active = family.active().filter(|version| version.not_before <= t);
    active.filter(|version| !is_revoked && family.end(version).is_none_or(|end| t < end))
}

/// Whether a notification that waits is not worth telling any more, because what it asks for is no longer to be done.
/// `None` is a key that is gone.
pub(crate) fn is_moot(told: &Notification, family: Option<&Family>, t: Timestamp) -> bool {
    if told.key.is_none() || !told.kind.asks_to_act() {
        return false;
    }
    let Some(family) = family else { return true };
    let version = told.version.and_then(|number| family.version(number));
    let is_over =
        |version: &VersionRecord| version.is_ended() || family.end(version).is_some_and(|end| end <= t);
    let superseded = |version: &VersionRecord| version.stage == Stage::Deprecated;
    match told.kind {
        _ if family.key.revoked_at.is_some() => true,
        NotificationKind::Expiring => version.is_none_or(|version| is_over(version) || superseded(version)),
        NotificationKind::AdoptionLagging => version.is_some_and(is_over),
        NotificationKind::Unused | NotificationKind::PotentiallyStale => in_use(family, t).is_none(),
        _ => false,
    }
}

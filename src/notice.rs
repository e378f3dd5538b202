//! The rules of notifying: which event is told as what, what time makes worth telling, and what is not worth it any
//! more. Pure: no clock, no store.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::event::{Event, EventKind};
use crate::id::KeyId;
use crate::key::KeyRecord;
use crate::lifecycle::{Family, end};
use crate::notification::{Notification, NotificationKind};
use crate::policy::RotationPolicy;
use crate::time::Timestamp;
use crate::token::Hint;
use crate::version::{EndReason, Stage, VersionRecord};

const DAY: Duration = Duration::from_secs(86_400);
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
        EventKind::KeyRotation | EventKind::RotationStarted => Some(NotificationKind::RotationStarted),
        EventKind::RotationScheduled => Some(NotificationKind::RotationScheduled),
        EventKind::VersionClaimed => Some(NotificationKind::RotationClaimed),
        EventKind::ClaimConflict => Some(NotificationKind::ClaimConflict),
        EventKind::AdoptionLagging => Some(NotificationKind::AdoptionLagging),
        EventKind::RotationFailed => Some(NotificationKind::RotationFailed),
        EventKind::DeliveryFailing => Some(NotificationKind::DeliveryFailing),
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
        EventKind::VersionIssued
        | EventKind::VersionMinted
        | EventKind::VersionOffered
        | EventKind::VersionDelivered
        | EventKind::VersionActivated
        | EventKind::VersionFirstUsed
        | EventKind::VersionRetiring
        | EventKind::VersionUpgraded
        | EventKind::VersionDeprecated
        | EventKind::VersionReactivated
        | EventKind::RotationCancelled => None,
        EventKind::StoreFounded
        | EventKind::StoreRestored
        | EventKind::KeysImported
        | EventKind::KeyEdited
        | EventKind::KeyPurged
        | EventKind::OwnerAdded
        | EventKind::OwnerChanged
        | EventKind::RoleSet
        | EventKind::PolicySet
        | EventKind::AutoRotationSet
        | EventKind::ManagementSet
        | EventKind::ClockConfirmed
        | EventKind::GenerationRetired
        | EventKind::NotificationRetried
        | EventKind::NotificationDropped => None,
    }
}

/// What is told of a commit's events, each with its place among them: of a revoked key once, of a leaked one one alarm.
pub(crate) fn of_commit(events: &[Event]) -> Vec<(usize, Notification)> {
    let revoked: BTreeSet<KeyId> = events
        .iter()
        .filter(|event| event.kind == EventKind::KeyRevoked)
        .filter_map(|event| event.key)
        .collect();
    let claimed: BTreeSet<KeyId> = events
        .iter()
        .filter(|event| event.kind == EventKind::VersionClaimed)
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
        // The claim is told, and when the old version leaves with it.
        let is_of_claim =
            event.kind == EventKind::KeyRotation && event.key.is_some_and(|key| claimed.contains(&key));
        let kind = kind_of(event).filter(|kind| !is_of_claim && is_told(event, *kind))?;
        let mut told = Notification::of_event(event, kind);
        told.subject = match event.kind {
            EventKind::VersionCompromised => Some(COMPROMISED.to_owned()),
            EventKind::ChainBroken => Some(CHAIN_BROKEN.to_owned()),
            EventKind::RotationFailed => event.subject.clone(),
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
pub(crate) fn at_birth(version: &VersionRecord, policy: &RotationPolicy) -> Option<Duration> {
    let end = version.expires_at?;
    let passed = |threshold: &Duration| end.minus_or_min(*threshold) <= begin(version);
    if version.not_before > version.issued_at {
        return None;
    }
    policy.warnings().filter(passed).min()
}

/// Whether this warning of a version is to be told at `t`: its policy asks for it, it has come, no later one has, the
/// version is the one in use, and nobody has got its successor.
pub(crate) fn warns(
    family: &Family,
    version: &VersionRecord,
    threshold: Duration,
    policy: &RotationPolicy,
    t: Timestamp,
) -> bool {
    let Some(end) = end(version, family.key.hard_end) else { return false };
    let comes_at = |threshold: Duration| end.minus_or_min(threshold);
    let later_has_come = policy.warnings().any(|later| later < threshold && comes_at(later) <= t);
    let handed_over = |other: &VersionRecord| other.stage == Stage::Pending && other.delivered_at.is_some();
    let just_rotated = family.rotations.iter().any(|rotation| {
        rotation.is_open()
            && rotation.old == Some(version.number)
            && rotation.started_at.is_some_and(|started| t.since(started) < TOLD_BY_ROTATION)
    });
    policy.warnings().any(|warning| warning == threshold)
        && family.key.revoked_at.is_none()
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

/// From when on a key that is not used yet can be told as such, where its window began too late for that by now.
pub(crate) fn unused_from(family: &Family, t: Timestamp) -> Option<Timestamp> {
    let version = family.active().filter(|_| family.key.revoked_at.is_none())?;
    let from = family.key.issued_at.max(version.not_before).plus(UNUSED_AFTER).ok()?;
    (from > t && family.end(version).is_none_or(|end| from < end)).then_some(from)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::actor::{Actor, Context};

    fn at(days: f64) -> Timestamp {
        Timestamp::from_unix_micros(1_798_761_600_000_000 + (days * 86_400e6) as i64).unwrap()
    }

    fn key() -> KeyRecord {
        let id = KeyId::new(at(0.0), [1; 10]).to_string();
        serde_json::from_value(json!({
            "id": id, "owner": "ada", "name": "ci", "prefix": "key", "scopes": [], "issued_at": at(0.0),
        }))
        .unwrap()
    }

    /// A version that lives from one day to another.
    fn version(number: u32, stage: &str, from: f64, until: f64) -> VersionRecord {
        serde_json::from_value(json!({
            "key": key().id, "number": number, "locator": "AbCdEfGhIjKl", "stage": stage,
            "digest": {"scheme": "hmac_sha256", "generation": 1, "value": "d1".repeat(32)},
            "fingerprint": "fp_0123456789abcdef", "issued_at": at(from), "not_before": at(from),
            "expires_at": at(until),
        }))
        .unwrap()
    }

    fn family(versions: &[VersionRecord]) -> Family {
        Family { key: key(), versions: versions.to_vec(), rotations: Vec::new() }
    }

    /// The default: a week and a day before.
    const WARNINGS: [Duration; 2] = [Duration::from_secs(7 * 86_400), DAY];

    fn policy() -> RotationPolicy {
        assert!(RotationPolicy::default().warnings().eq(WARNINGS));
        RotationPolicy::default()
    }

    #[test]
    fn a_warning_comes_once_its_time_has_come_and_no_later_one_has() {
        let family = family(&[version(1, "active", 0.0, 90.0)]);
        let due =
            |threshold: Duration, t: f64| warns(&family, &family.versions[0], threshold, &policy(), at(t));
        let (week, day) = (7 * DAY, DAY);
        for (t, told_week, told_day) in [
            (0.0, false, false),
            (82.9, false, false),
            (83.0, true, false),
            (88.9, true, false),
            (89.0, false, true),
            (89.9, false, true),
            (90.0, false, false),
            (95.0, false, false),
        ] {
            assert_eq!((due(week, t), due(day, t)), (told_week, told_day), "day {t}");
        }
    }

    #[test]
    fn a_warning_outside_of_the_window_is_told_at_birth_and_at_no_other_time() {
        let born = |days: f64| at_birth(&version(1, "active", 0.0, days), &policy());
        for (days, threshold) in [
            (90.0, None),
            (7.1, None),
            (7.0, Some(7 * DAY)),
            (3.0, Some(7 * DAY)),
            (1.0, Some(DAY)),
            (0.5, Some(DAY)),
        ] {
            assert_eq!(born(days), threshold, "{days} days");
            let family = family(&[version(1, "active", 0.0, days)]);
            for warning in WARNINGS {
                let is_inside = Duration::from_secs_f64(days * 86_400.0) > warning;
                let due = |t: f64| warns(&family, &family.versions[0], warning, &policy(), at(t));
                let told = (0..200).any(|step| due(days * f64::from(step) / 200.0));
                assert_eq!(told, is_inside, "{days} days, {warning:?}");
            }
        }
        let silent = RotationPolicy::builder().warnings([]).build().unwrap();
        assert_eq!(born(90.0).or(at_birth(&version(1, "active", 0.0, 2.0), &silent)), None);
        let later = VersionRecord { not_before: at(10.0), ..version(1, "active", 0.0, 12.0) };
        assert_eq!(at_birth(&later, &policy()), None, "it cannot be used yet");
    }

    #[test]
    fn who_has_the_successor_is_not_warned() {
        let old = || version(1, "active", 0.0, 90.0);
        let due = |family: &Family| warns(family, &family.versions[0], 7 * DAY, &policy(), at(84.0));
        let pending = version(2, "pending", 83.0, 173.0);
        assert!(due(&family(&[old()])));
        assert!(due(&family(&[old(), pending.clone()])), "nobody has fetched it yet");
        let handed = VersionRecord { delivered_at: Some(at(83.5)), ..pending };
        assert!(!due(&family(&[old(), handed])));
        let active = version(2, "active", 83.0, 173.0);
        assert!(!due(&family(&[version(1, "deprecated", 0.0, 90.0), active])));
        let mut revoked = family(&[old()]);
        revoked.key.revoked_at = Some(at(1.0));
        assert!(!due(&revoked));
        let ended = VersionRecord { ended_at: Some(at(80.0)), ..version(1, "ended", 0.0, 90.0) };
        assert!(!due(&family(&[ended])));
    }

    #[test]
    fn a_rotation_that_has_just_begun_stands_for_the_warning() {
        let mut family = family(&[version(1, "active", 0.0, 90.0), version(2, "pending", 83.0, 173.0)]);
        family.rotations.push(
            serde_json::from_value(json!({
                "id": crate::id::RotationId::new(at(83.0), [1; 10]), "key": key().id, "old": 1, "new": 2,
                "status": "grace_period", "actor": {"kind": "system", "name": "keyrota"}, "started_at": at(83.0),
            }))
            .unwrap(),
        );
        let due = |threshold, t| warns(&family, &family.versions[0], threshold, &policy(), at(t));
        assert!(!due(7 * DAY, 83.0) && !due(7 * DAY, 83.9));
        assert!(due(7 * DAY, 84.0) && due(DAY, 89.0), "but not for later ones");
    }

    #[test]
    fn an_idle_key_is_told_by_its_kind_of_silence() {
        let alive = family(&[version(1, "active", 0.0, 90.0)]);
        let kind = |family: &Family, last, t| idle(family, last, at(t)).map(|told| told.kind);
        assert_eq!(kind(&alive, None, 6.9), None);
        assert_eq!(kind(&alive, None, 7.0), Some(NotificationKind::Unused));
        assert_eq!(kind(&alive, Some(at(5.0)), 34.9), None);
        assert_eq!(kind(&alive, Some(at(5.0)), 35.0), Some(NotificationKind::PotentiallyStale));
        assert_eq!(kind(&alive, None, 90.0), None, "it is over");
        let deprecated = family(&[version(1, "deprecated", 0.0, 90.0)]);
        assert_eq!(kind(&deprecated, None, 8.0), None);
        let two = family(&[version(1, "deprecated", 0.0, 90.0), version(2, "active", 5.0, 95.0)]);
        let id = |family: &Family| idle(family, Some(at(5.0)), at(36.0)).unwrap().id;
        assert_eq!(id(&alive), id(&two), "one silence is told once, whatever version there is");
        assert_ne!(id(&alive), idle(&alive, Some(at(5.5)), at(36.0)).unwrap().id, "each silence by itself");
    }

    #[test]
    fn what_asks_to_act_is_moot_once_it_is_too_late_and_what_happened_never_is() {
        let alive = family(&[version(1, "active", 0.0, 90.0)]);
        let told = |kind, number| {
            let key = key();
            let base = of_version(&key, &version(1, "active", 0.0, 90.0), kind, at(80.0));
            Notification { version: Some(crate::id::VersionNo::new(number)), ..base }
        };
        let mut revoked = alive.clone();
        revoked.key.revoked_at = Some(at(84.0));
        let replaced = family(&[version(1, "deprecated", 0.0, 90.0), version(2, "active", 84.0, 170.0)]);
        for kind in NotificationKind::ALL {
            let moot = |family: Option<&Family>, t| is_moot(&told(kind, 1), family, at(t));
            assert!(!moot(Some(&alive), 85.0), "{kind}");
            assert_eq!(moot(Some(&revoked), 85.0), kind.asks_to_act(), "{kind}");
            assert_eq!(moot(None, 85.0), kind.asks_to_act(), "{kind}");
            assert_eq!(moot(Some(&replaced), 85.0), kind == NotificationKind::Expiring, "{kind}");
            let late = [
                NotificationKind::Expiring,
                NotificationKind::AdoptionLagging,
                NotificationKind::Unused,
                NotificationKind::PotentiallyStale,
            ];
            assert_eq!(moot(Some(&alive), 91.0), late.contains(&kind), "{kind}");
        }
    }

    #[test]
    fn of_a_revoked_key_the_revocation_and_one_alarm_are_told() {
        let context = Context::new(Actor::operator("root"), None, None).unwrap();
        let event = |kind, version: Option<u32>, end_reason| Event {
            key: Some(key().id),
            version: version.map(crate::id::VersionNo::new),
            end_reason,
            ..Event::new(at(1.0), kind, &context)
        };
        let kinds = |events: &[Event]| {
            of_commit(events).iter().map(|(place, told)| (*place, told.kind)).collect::<Vec<_>>()
        };
        let (revoked, ended) = (EventKind::KeyRevoked, EventKind::VersionEnded);
        let of_version = |n| event(ended, Some(n), Some(EndReason::Revoked));
        let leaked = |n| event(EventKind::VersionCompromised, Some(n), None);
        let completed = event(EventKind::RotationCompleted, None, None);
        let whole = [
            event(revoked, None, None),
            of_version(1),
            leaked(1),
            of_version(2),
            leaked(2),
            completed.clone(),
        ];
        assert_eq!(kinds(&whole), [(0, NotificationKind::Revoked), (2, NotificationKind::Alarm)]);
        assert_eq!(kinds(&whole[1..2]), [(0, NotificationKind::Revoked)], "one version");
        assert_eq!(kinds(&[completed]), [(0, NotificationKind::RotationCompleted)]);
        assert_eq!(kinds(&[event(ended, Some(1), Some(EndReason::Retired))]), []);
        let mut other = event(revoked, None, None);
        other.key = Some(KeyId::new(at(0.0), [2; 10]));
        let mixed = [other, event(EventKind::KeyIssued, Some(1), None)];
        assert_eq!(kinds(&mixed), [(0, NotificationKind::Revoked), (1, NotificationKind::Issued)]);
    }
}

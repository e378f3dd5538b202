//! Evidence: what the audit log tells of rotations, from entries whose MACs were found right.

use std::collections::HashMap;

use serde::Serialize;

use crate::actor::Actor;
use crate::digest::Fingerprint;
use crate::error::ManageError;
use crate::event::{Event, EventKind};
use crate::id::{KeyId, OwnerId, RotationId, VersionNo};
use crate::records::Records;
use crate::report::compliance::{ComplianceQuery, Listing};
use crate::report::verify::{AuditVerdict, verify};
use crate::rotation::RotationStatus;
use crate::time::Timestamp;

/// One entry of the audit log that tells of a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditPosition {
    /// Its number in the log.
    pub seq: u64,
    /// When that took effect.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
}

/// What the audit log tells of one rotation in the period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RotationEvidence {
    /// The rotation.
    #[serde(rename = "rotation_id")]
    pub rotation: RotationId,
    /// Its key, which may have been purged since.
    #[serde(rename = "key_id")]
    pub key: Option<KeyId>,
    /// The key's owner.
    pub owner: Option<OwnerId>,
    /// The version that came.
    pub version: Option<VersionNo>,
    /// The public name of the secret that left.
    pub old_fingerprint: Option<Fingerprint>,
    /// The public name of the secret that came.
    pub new_fingerprint: Option<Fingerprint>,
    /// Who began it, or is told of first in the period.
    pub actor: Actor,
    /// Why, in the actor's words.
    pub reason: Option<String>,
    /// How far it came within the period.
    pub outcome: RotationStatus,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// The entries that tell of it, by number.
    pub entries: Vec<AuditPosition>,
}

/// How many rotations came how far, by the entries of the period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RotationCounts {
    /// A successor took the place of its predecessor.
    pub rotated: u64,
    /// The predecessor had left.
    pub completed: u64,
    /// Nobody took the successor over in time.
    pub failed: u64,
    /// The predecessor came back.
    pub rolled_back: u64,
    /// It was withdrawn.
    pub cancelled: u64,
}

/// What is found in a period.
pub(crate) struct Evidence {
    pub(crate) counts: RotationCounts,
    pub(crate) evidence: Listing<RotationEvidence>,
    pub(crate) failed: Listing<RotationEvidence>,
    pub(crate) verdict: AuditVerdict,
}

/// Whether an event of the log is asked for, and of a rotation.
pub(crate) fn concerns(query: &ComplianceQuery, event: &Event) -> Option<RotationId> {
    let is_in = query.from.is_none_or(|from| event.at >= from)
        && query.until.is_none_or(|until| event.at < until)
        && query.owner.is_none_or(|owner| event.owner == Some(owner));
    event.rotation.filter(|_| is_in)
}

/// Where an event leaves a rotation, if it moves it.
fn outcome(kind: EventKind) -> Option<RotationStatus> {
    match kind {
        EventKind::RotationScheduled => Some(RotationStatus::Scheduled),
        EventKind::RotationStarted => Some(RotationStatus::InProgress),
        EventKind::KeyRotation => Some(RotationStatus::GracePeriod),
        EventKind::RotationCompleted => Some(RotationStatus::Completed),
        EventKind::RotationFailed => Some(RotationStatus::Failed),
        EventKind::RotationCancelled => Some(RotationStatus::Cancelled),
        EventKind::RotationRolledBack => Some(RotationStatus::RolledBack),
        _ => None,
    }
}

impl RotationEvidence {
    fn begin(rotation: RotationId, event: &Event) -> Self {
        Self {
            rotation,
            key: event.key,
            owner: event.owner,
            version: None,
            old_fingerprint: None,
            new_fingerprint: None,
            actor: event.actor.clone(),
            reason: event.reason.clone(),
            outcome: RotationStatus::Scheduled,
            failure: None,
            entries: Vec::new(),
        }
    }

    fn hear(&mut self, seq: u64, event: &Event) {
        self.version = event.version.or(self.version);
        self.old_fingerprint = event.old_fingerprint.or(self.old_fingerprint);
        self.new_fingerprint = event.new_fingerprint.or(self.new_fingerprint);
        self.outcome = outcome(event.kind).unwrap_or(self.outcome);
        if event.kind == EventKind::RotationFailed {
            self.failure.clone_from(&event.subject);
        }
        self.entries.push(AuditPosition { seq, at: event.at, kind: event.kind });
    }
}

impl RotationCounts {
    fn hear(&mut self, kind: EventKind) {
        match kind {
            EventKind::KeyRotation => self.rotated += 1,
            EventKind::RotationCompleted => self.completed += 1,
            EventKind::RotationFailed => self.failed += 1,
            EventKind::RotationRolledBack => self.rolled_back += 1,
            EventKind::RotationCancelled => self.cancelled += 1,
            _ => {}
        }
    }
}

/// Verifies the whole log, and collects what its entries tell of rotations. Holds as many rotations as are listed, and an
/// id for each other one of the period.
pub(crate) fn of_period(records: &Records, query: &ComplianceQuery) -> Result<Evidence, ManageError> {
    let mut counts = RotationCounts::default();
    let mut places = HashMap::<RotationId, Option<usize>>::new();
    let mut listed: Vec<RotationEvidence> = Vec::new();
    // Those that failed are listed also when they come after the others that are.
    let mut failed = Listing::default();
    let (verdict, _) = verify(records, None, |seq, event| {
        let Some(rotation) = concerns(query, event) else { return };
        counts.hear(event.kind);
        let place = places.entry(rotation).or_insert_with(|| {
            (listed.len() < query.listed).then(|| {
                listed.push(RotationEvidence::begin(rotation, event));
                listed.len() - 1
            })
        });
        let mut own = None;
        let evidence = match place.and_then(|place| listed.get_mut(place)) {
            Some(evidence) => evidence,
            None => own.insert(RotationEvidence::begin(rotation, event)),
        };
        evidence.hear(seq, event);
        if event.kind == EventKind::RotationFailed {
            failed.add(query.listed, || evidence.clone());
        }
    })?;
    let evidence = Listing { total: places.len() as u64, listed };
    Ok(Evidence { counts, evidence, failed, verdict })
}

//! What happened: the one description that the audit log and every notification render.

use core::net::IpAddr;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::actor::{Actor, Context};
use crate::digest::Fingerprint;
use crate::id::{KeyId, OwnerId, RequestId, RotationId, VersionNo};
use crate::key::KeyRecord;
use crate::lifecycle::{Family, Presenter, Transition};
use crate::policy::Claimant;
use crate::time::Timestamp;
use crate::version::EndReason;

/// The kind of an event, one for each transition of LIFECYCLE's tables; the text form is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The store was made.
    StoreFounded,
    /// A backup was put in place; what came after it is gone, except for what the restoring carried over.
    StoreRestored,
    /// A key was born with its first version.
    KeyIssued,
    /// A version was added to a key by a rotation.
    VersionIssued,
    /// A rotation began: from the old version to the new one.
    KeyRotation,
    /// A version was superseded and runs out at `until`.
    VersionDeprecated,
    /// A deprecated version became the active one again.
    VersionReactivated,
    /// A version ended; `end_reason` says why.
    VersionEnded,
    /// The secret of a version is known to be in wrong hands.
    VersionCompromised,
    /// A rotation was scheduled for `until`.
    RotationScheduled,
    /// A rotation began by itself: its successor can be claimed until `until`, or is being delivered; or, without a new
    /// version, it is time to rotate before `until`.
    RotationStarted,
    /// A successor was made, and waits to be handed over.
    VersionMinted,
    /// A successor is about to be given to the sink, and validates from now on.
    VersionOffered,
    /// A successor was claimed.
    VersionClaimed,
    /// A successor was handed over, and the old version stays the active one until the first use.
    VersionDelivered,
    /// A successor became the active version.
    VersionActivated,
    /// A version was used for the first time.
    VersionFirstUsed,
    /// Keys of another system were taken over; `subject` says how many, and which is the first and the last.
    KeysImported,
    /// The token of an imported version was seen: its keyed digest is kept from now on in place of what the other system
    /// had kept. `subject` says how strong it is.
    VersionUpgraded,
    /// A superseded version that nobody uses any more ends at `until`.
    VersionRetiring,
    /// Somebody else tried to claim a successor that was claimed already: one of both may be a thief.
    ClaimConflict,
    /// A superseded version that ends at `until` is still used, or its successor is not used yet.
    AdoptionLagging,
    /// The sink refused a successor; it is tried again.
    DeliveryFailing,
    /// A rotation failed: nobody took the successor over in time. `subject` says why.
    RotationFailed,
    /// A rotation was withdrawn before its successor was active, or its successor was revoked.
    RotationCancelled,
    /// A rotation is complete: the leaving version has ended.
    RotationCompleted,
    /// A rotation was rolled back.
    RotationRolledBack,
    /// The whole key was revoked.
    KeyRevoked,
    /// The key's name, metadata, scopes, role, limits, networks or policy were changed; `subject` says which.
    KeyEdited,
    /// A key that had been over for long was removed, with its versions.
    KeyPurged,
    /// An owner was entered.
    OwnerAdded,
    /// An owner's limit or ceiling of scopes was changed.
    OwnerChanged,
    /// All keys of an owner stopped validating until it is resumed.
    OwnerSuspended,
    /// The keys of an owner validate again.
    OwnerResumed,
    /// A role's scopes were set.
    RoleSet,
    /// The deployment's settings were changed.
    PolicySet,
    /// Automatic rotation was switched for a key, an owner or the deployment; `subject` says on, off or inherited.
    AutoRotationSet,
    /// The management of keys was switched; `subject` says on or off.
    ManagementSet,
    /// A jump of the clock was confirmed by the host.
    ClockConfirmed,
    /// The chain of the audit log was damaged; a new segment starts here.
    ChainBroken,
    /// A generation of the master key was given up. `subject` names it, and vouches for the entries so far, so that they
    /// can be verified without it; or it says how many were lost with it.
    GenerationRetired,
    /// A dead letter was put back into its channel's queue; `subject` names both.
    NotificationRetried,
    /// A dead letter was dropped; `subject` names it and its channel.
    NotificationDropped,
}

impl EventKind {
    /// The stable text form, such as `key_rotation`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StoreFounded => "store_founded",
            Self::StoreRestored => "store_restored",
            Self::KeyIssued => "key_issued",
            Self::VersionIssued => "version_issued",
            Self::KeyRotation => "key_rotation",
            Self::VersionDeprecated => "version_deprecated",
            Self::VersionReactivated => "version_reactivated",
            Self::VersionEnded => "version_ended",
            Self::VersionCompromised => "version_compromised",
            Self::RotationCompleted => "rotation_completed",
            Self::RotationScheduled => "rotation_scheduled",
            Self::RotationStarted => "rotation_started",
            Self::VersionMinted => "version_minted",
            Self::VersionOffered => "version_offered",
            Self::VersionClaimed => "version_claimed",
            Self::VersionDelivered => "version_delivered",
            Self::VersionActivated => "version_activated",
            Self::VersionFirstUsed => "version_first_used",
            Self::KeysImported => "keys_imported",
            Self::VersionUpgraded => "version_upgraded",
            Self::VersionRetiring => "version_retiring",
            Self::ClaimConflict => "claim_conflict",
            Self::AdoptionLagging => "adoption_lagging",
            Self::DeliveryFailing => "delivery_failing",
            Self::RotationFailed => "rotation_failed",
            Self::RotationCancelled => "rotation_cancelled",
            Self::AutoRotationSet => "auto_rotation_set",
            Self::ManagementSet => "management_set",
            Self::RotationRolledBack => "rotation_rolled_back",
            Self::KeyRevoked => "key_revoked",
            Self::KeyEdited => "key_edited",
            Self::KeyPurged => "key_purged",
            Self::OwnerAdded => "owner_added",
            Self::OwnerChanged => "owner_changed",
            Self::OwnerSuspended => "owner_suspended",
            Self::OwnerResumed => "owner_resumed",
            Self::RoleSet => "role_set",
            Self::PolicySet => "policy_set",
            Self::ClockConfirmed => "clock_confirmed",
            Self::ChainBroken => "chain_broken",
            Self::GenerationRetired => "generation_retired",
            Self::NotificationRetried => "notification_retried",
            Self::NotificationDropped => "notification_dropped",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One thing that happened, with who did it and why. Holds public names only, never a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// When it took effect, in the library's own time.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// Who did it.
    pub actor: Actor,
    /// Why, in the actor's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The request id of the act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
    /// The key concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The owner concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerId>,
    /// The version concerned; of a rotation, the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionNo>,
    /// The rotation concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationId>,
    /// Fingerprint of the version that leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_fingerprint: Option<Fingerprint>,
    /// Fingerprint of the version that comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_fingerprint: Option<Fingerprint>,
    /// Why a version ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// The deadline that the event sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Who claimed a successor. Of a holder, `old_fingerprint` names the version whose token was presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimant: Option<Claimant>,
    /// Where a claim came from, as far as the host has said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// What else the event names: a role, a setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl Event {
    /// An event that names nothing but its kind, time and context.
    pub(crate) fn new(at: Timestamp, kind: EventKind, context: &Context) -> Self {
        Self {
            at,
            kind,
            actor: context.actor.clone(),
            reason: context.reason.clone(),
            request: context.request.clone(),
            key: None,
            owner: None,
            version: None,
            rotation: None,
            old_fingerprint: None,
            new_fingerprint: None,
            end_reason: None,
            until: None,
            claimant: None,
            source: None,
            subject: None,
        }
    }

    /// An event about an owner.
    pub(crate) fn of_owner(at: Timestamp, kind: EventKind, context: &Context, owner: OwnerId) -> Self {
        Self { owner: Some(owner), ..Self::new(at, kind, context) }
    }

    /// An event about a named setting.
    pub(crate) fn of_subject(at: Timestamp, kind: EventKind, context: &Context, subject: &str) -> Self {
        Self { subject: Some(subject.to_owned()), ..Self::new(at, kind, context) }
    }

    /// With who claimed, if it is about a claim, and from where.
    pub(crate) fn claimed(self, presenter: Presenter, family: &Family, source: Option<IpAddr>) -> Self {
        if !matches!(self.kind, EventKind::VersionClaimed | EventKind::ClaimConflict) {
            return self;
        }
        let (claimant, presented) = match presenter {
            Presenter::Holder(version) => (Claimant::Holder, family.version(version)),
            Presenter::Owner => (Claimant::Owner, None),
        };
        let old_fingerprint = presented.map(|version| version.fingerprint);
        Self { claimant: Some(claimant), old_fingerprint, source, ..self }
    }

    /// The event of one transition in a key's family.
    pub(crate) fn of_key(t: Timestamp, transition: &Transition, family: &Family, context: &Context) -> Self {
        let KeyRecord { id, owner, .. } = &family.key;
        let name =
            |no: Option<VersionNo>| no.and_then(|no| family.version(no)).map(|version| version.fingerprint);
        let blank =
            Self { key: Some(*id), owner: Some(*owner), ..Self::new(t, EventKind::KeyIssued, context) };
        let kind = |kind| Self { kind, ..blank.clone() };
        let new = |of, version, until| Self {
            version: Some(version),
            new_fingerprint: name(Some(version)),
            until,
            ..kind(of)
        };
        let old = |of, version, until| Self {
            version: Some(version),
            old_fingerprint: name(Some(version)),
            until,
            ..kind(of)
        };
        let change = |of, rotation, (old, new), until| Self {
            version: new,
            rotation: Some(rotation),
            old_fingerprint: name(old),
            new_fingerprint: name(new),
            until,
            ..kind(of)
        };
        let rotated = |of, rotation, at| Self { at, rotation: Some(rotation), ..kind(of) };
        match *transition {
            Transition::KeyIssued { version, until } => new(EventKind::KeyIssued, version, until),
            Transition::VersionIssued { version, until } => new(EventKind::VersionIssued, version, until),
            Transition::VersionMinted { version, until } => new(EventKind::VersionMinted, version, until),
            Transition::VersionOffered { version } => new(EventKind::VersionOffered, version, None),
            Transition::VersionClaimed { version } => new(EventKind::VersionClaimed, version, None),
            Transition::VersionDelivered { version } => new(EventKind::VersionDelivered, version, None),
            Transition::VersionActivated { version, until } => {
                new(EventKind::VersionActivated, version, until)
            }
            Transition::VersionFirstUsed { version } => new(EventKind::VersionFirstUsed, version, None),
            Transition::VersionUpgraded { version, strength } => Self {
                subject: Some(strength.as_str().to_owned()),
                ..new(EventKind::VersionUpgraded, version, None)
            },
            Transition::ClaimConflict { version } => new(EventKind::ClaimConflict, version, None),
            Transition::VersionReactivated { version, until } => {
                new(EventKind::VersionReactivated, version, until)
            }
            Transition::VersionDeprecated { version, until } => {
                old(EventKind::VersionDeprecated, version, until)
            }
            Transition::VersionRetiring { version, until } => old(EventKind::VersionRetiring, version, until),
            Transition::VersionCompromised { version } => old(EventKind::VersionCompromised, version, None),
            Transition::VersionEnded { version, reason, at } => {
                Self { at, end_reason: Some(reason), ..old(EventKind::VersionEnded, version, None) }
            }
            Transition::RotationScheduled { rotation, until } => {
                Self { until: Some(until), ..rotated(EventKind::RotationScheduled, rotation, t) }
            }
            Transition::RotationBegun { rotation, old, new, until } => {
                change(EventKind::RotationStarted, rotation, (old, new), until)
            }
            Transition::RotationStarted { rotation, old, new, until } => {
                change(EventKind::KeyRotation, rotation, (old, Some(new)), until)
            }
            Transition::AdoptionLagging { rotation, old, new, until } => {
                change(EventKind::AdoptionLagging, rotation, (Some(old), Some(new)), until)
            }
            Transition::DeliveryFailing { rotation, version } => {
                change(EventKind::DeliveryFailing, rotation, (None, Some(version)), None)
            }
            Transition::RotationCompleted { rotation, at } => {
                rotated(EventKind::RotationCompleted, rotation, at)
            }
            Transition::RotationFailed { rotation, failure, at } => Self {
                subject: Some(failure.as_str().to_owned()),
                ..rotated(EventKind::RotationFailed, rotation, at)
            },
            Transition::RotationCancelled { rotation, at } => {
                rotated(EventKind::RotationCancelled, rotation, at)
            }
            Transition::RotationRolledBack { rotation, at } => {
                rotated(EventKind::RotationRolledBack, rotation, at)
            }
            Transition::KeyRevoked { at } => Self { at, ..kind(EventKind::KeyRevoked) },
        }
    }
}

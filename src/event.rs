//! What happened: the one description that the audit log and every notification render.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::actor::{Actor, Context};
use crate::digest::Fingerprint;
use crate::id::{KeyId, OwnerId, RequestId, RotationId, VersionNo};
use crate::key::KeyRecord;
use crate::lifecycle::{Family, Transition};
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
    /// A rotation is complete: the leaving version has ended.
    RotationCompleted,
    /// A rotation was rolled back.
    RotationRolledBack,
    /// The whole key was revoked.
    KeyRevoked,
    /// The key's name, metadata, scopes, role, limits or networks were changed; `subject` says which.
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
    /// A jump of the clock was confirmed by the host.
    ClockConfirmed,
    /// The chain of the audit log was damaged; a new segment starts here.
    ChainBroken,
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

    /// The event of one transition in a key's family.
    pub(crate) fn of_key(t: Timestamp, transition: &Transition, family: &Family, context: &Context) -> Self {
        let KeyRecord { id, owner, .. } = &family.key;
        let name =
            |no: Option<VersionNo>| no.and_then(|no| family.version(no)).map(|version| version.fingerprint);
        let blank =
            Self { key: Some(*id), owner: Some(*owner), ..Self::new(t, EventKind::KeyIssued, context) };
        let kind = |kind| Self { kind, ..blank.clone() };
        match *transition {
            Transition::KeyIssued { version, until } => Self {
                version: Some(version),
                new_fingerprint: name(Some(version)),
                until,
                ..kind(EventKind::KeyIssued)
            },
            Transition::VersionIssued { version, until } => Self {
                version: Some(version),
                new_fingerprint: name(Some(version)),
                until,
                ..kind(EventKind::VersionIssued)
            },
            Transition::RotationStarted { rotation, old, new, until } => Self {
                version: Some(new),
                rotation: Some(rotation),
                old_fingerprint: name(old),
                new_fingerprint: name(Some(new)),
                until,
                ..kind(EventKind::KeyRotation)
            },
            Transition::VersionDeprecated { version, until } => Self {
                version: Some(version),
                old_fingerprint: name(Some(version)),
                until,
                ..kind(EventKind::VersionDeprecated)
            },
            Transition::VersionReactivated { version, until } => Self {
                version: Some(version),
                new_fingerprint: name(Some(version)),
                until,
                ..kind(EventKind::VersionReactivated)
            },
            Transition::VersionEnded { version, reason, at } => Self {
                at,
                version: Some(version),
                old_fingerprint: name(Some(version)),
                end_reason: Some(reason),
                ..kind(EventKind::VersionEnded)
            },
            Transition::VersionCompromised { version } => Self {
                version: Some(version),
                old_fingerprint: name(Some(version)),
                ..kind(EventKind::VersionCompromised)
            },
            Transition::RotationCompleted { rotation, at } => {
                Self { at, rotation: Some(rotation), ..kind(EventKind::RotationCompleted) }
            }
            Transition::RotationRolledBack { rotation, at } => {
                Self { at, rotation: Some(rotation), ..kind(EventKind::RotationRolledBack) }
            }
            Transition::KeyRevoked { at } => Self { at, ..kind(EventKind::KeyRevoked) },
        }
    }
}

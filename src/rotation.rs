//! The rotation's record: one change of version, from its beginning to its end.

use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::id::{KeyId, RotationId, VersionNo};
use crate::policy::Delivery;
use crate::time::Timestamp;

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RotationStatus {
    /// Its time has not come.
    Scheduled,
    /// The successor waits to be handed over or used; or, where that was only announced, to be made.
    InProgress,
    /// The successor is active and an old version still runs out.
    GracePeriod,
    /// The successor is active and nothing runs out.
    Completed,
    /// Nobody took the successor over in time.
    Failed,
    /// It was withdrawn before the successor was active, or the successor was revoked.
    Cancelled,
    /// The old version is active again.
    RolledBack,
}

impl RotationStatus {
    /// The stable text form, such as `grace_period`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::InProgress => "in_progress",
            Self::GracePeriod => "grace_period",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// Why a rotation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RotationFailure {
    /// Nobody claimed the successor in time.
    Unclaimed,
    /// The sink did not acknowledge the successor in time.
    Undelivered,
    /// The old version expired before anybody made a successor.
    Expired,
}

impl RotationFailure {
    /// The stable text form, such as `unclaimed`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unclaimed => "unclaimed",
            Self::Undelivered => "undelivered",
            Self::Expired => "expired",
        }
    }
}

/// One process's turn at a delivery. Void once it is over, and for whoever's clock is before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeliveryLease {
    /// When it was taken.
    pub taken_at: Timestamp,
    /// When it is over.
    pub until: Timestamp,
}

impl DeliveryLease {
    /// Whether somebody else is to be left alone until it is over.
    #[must_use]
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.taken_at <= now && now < self.until
    }
}

/// A rotation as the store remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RotationRecord {
    /// Its id.
    pub id: RotationId,
    /// The key that rotates.
    pub key: KeyId,
    /// The version that is superseded; none when the key had no valid version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<VersionNo>,
    /// The version that comes; none before it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<VersionNo>,
    /// The version that runs out, where that is not the superseded one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<VersionNo>,
    /// Where it stands.
    pub status: RotationStatus,
    /// How the successor is handed over, where the rotation does not begin with its making by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Who began it.
    pub actor: Actor,
    /// Why, in the actor's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was, or is, to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Until when the successor can be claimed, or the sink can acknowledge it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_by: Option<Timestamp>,
    /// When the successor's secret was handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// Until when the leaving version validates, as told when its successor became active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_end: Option<Timestamp>,
    /// When to look whether clients still use the leaving version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lagging_at: Option<Timestamp>,
    /// When it came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Why it failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<RotationFailure>,
    /// How often the sink was given the secret.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// When the sink is to be given the secret next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_put_at: Option<Timestamp>,
    /// Whose turn at the delivery it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<DeliveryLease>,
    /// Whether it was recorded that the sink fails: once, by whichever attempt could record it first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_failing: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl RotationRecord {
    /// What a rotation is for of which its actor said nothing.
    pub(crate) const SCHEDULED: &str = "Scheduled rotation";

    /// A rotation of which nothing has happened yet.
    pub(crate) fn new(id: RotationId, key: KeyId, actor: Actor, reason: Option<String>) -> Self {
        Self {
            id,
            key,
            old: None,
            new: None,
            leaving: None,
            status: RotationStatus::Scheduled,
            delivery: None,
            actor,
            reason,
            due_at: None,
            started_at: None,
            claim_by: None,
            delivered_at: None,
            grace_end: None,
            lagging_at: None,
            finished_at: None,
            failure: None,
            attempts: 0,
            next_put_at: None,
            lease: None,
            is_failing: false,
        }
    }

    /// Whether it still waits for something.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.finished_at.is_none()
    }

    /// The version that runs out, if one does.
    pub(crate) fn running_out(&self) -> Option<VersionNo> {
        self.leaving.or(self.old)
    }

    pub(crate) fn finish(&mut self, status: RotationStatus, at: Timestamp) {
        self.status = status;
        self.finished_at = Some(at);
        self.lease = None;
        self.next_put_at = None;
        self.lagging_at = None;
    }
}

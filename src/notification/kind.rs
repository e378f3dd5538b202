//! The kinds of notifications, and how much each matters.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::policy::Claimant;

/// How much a notification matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody has to do something, or something has ended.
    Warning,
    /// Somebody has to do something now.
    Critical,
}

impl Severity {
    /// The stable text form, such as `warning`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a notification is about; the text form is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NotificationKind {
    /// A key was issued.
    Issued,
    /// A rotation was scheduled.
    RotationScheduled,
    /// A rotation began: the new version is there, or waits to be claimed until `claim_by`.
    RotationStarted,
    /// The new version of a rotation was claimed.
    RotationClaimed,
    /// Somebody tried to claim a version that another had claimed.
    ClaimConflict,
    /// A version that is about to leave is still in use.
    AdoptionLagging,
    /// The new version of a rotation could not be delivered; it is tried again.
    DeliveryFailing,
    /// A rotation is complete: the old version has left.
    RotationCompleted,
    /// A rotation failed.
    RotationFailed,
    /// A rotation was rolled back: the old version stays.
    RotationRolledBack,
    /// A version ends soon and nothing has taken its place; `threshold` says how long before.
    Expiring,
    /// A version has expired and nothing had taken its place.
    Expired,
    /// A version, or the whole key, was revoked.
    Revoked,
    /// All keys of an owner stopped validating.
    Suspended,
    /// The keys of an owner validate again.
    Resumed,
    /// A key was not used in its first seven days.
    Unused,
    /// A key was not used for thirty days.
    PotentiallyStale,
    /// Something that should not happen did; `subject` says what. With `more`, that many others of the same hour are
    /// not told one by one.
    Alarm,
}

impl NotificationKind {
    /// All kinds.
    pub const ALL: [Self; 18] = [
        Self::Issued,
        Self::RotationScheduled,
        Self::RotationStarted,
        Self::RotationClaimed,
        Self::ClaimConflict,
        Self::AdoptionLagging,
        Self::DeliveryFailing,
        Self::RotationCompleted,
        Self::RotationFailed,
        Self::RotationRolledBack,
        Self::Expiring,
        Self::Expired,
        Self::Revoked,
        Self::Suspended,
        Self::Resumed,
        Self::Unused,
        Self::PotentiallyStale,
        Self::Alarm,
    ];

    /// The stable text form, such as `rotation_started`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::RotationScheduled => "rotation_scheduled",
            Self::RotationStarted => "rotation_started",
            Self::RotationClaimed => "rotation_claimed",
            Self::ClaimConflict => "claim_conflict",
            Self::AdoptionLagging => "adoption_lagging",
            Self::DeliveryFailing => "delivery_failing",
            Self::RotationCompleted => "rotation_completed",
            Self::RotationFailed => "rotation_failed",
            Self::RotationRolledBack => "rotation_rolled_back",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Suspended => "suspended",
            Self::Resumed => "resumed",
            Self::Unused => "unused",
            Self::PotentiallyStale => "potentially_stale",
            Self::Alarm => "alarm",
        }
    }

    /// How much it matters, unless what it is about makes it matter more or, as of most alarms about use, less.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Issued
            | Self::RotationScheduled
            | Self::RotationStarted
            | Self::RotationClaimed
            | Self::RotationCompleted
            | Self::Resumed
            | Self::Unused
            | Self::PotentiallyStale => Severity::Info,
            Self::AdoptionLagging
            | Self::DeliveryFailing
            | Self::RotationRolledBack
            | Self::Expiring
            | Self::Expired
            | Self::Revoked
            | Self::Suspended => Severity::Warning,
            Self::ClaimConflict | Self::RotationFailed | Self::Alarm => Severity::Critical,
        }
    }

    /// The same of a claim: a token may be in wrong hands, and whoever has stolen it can claim with it.
    pub(crate) fn severity_of(self, claimant: Option<Claimant>) -> Severity {
        match (self, claimant) {
            (Self::RotationClaimed, Some(Claimant::Holder)) => Severity::Warning,
            _ => self.severity(),
        }
    }

    /// Whether it asks somebody to act: once the key is over, there is nothing to be done, and nothing to be told.
    pub(crate) fn asks_to_act(self) -> bool {
        matches!(
            self,
            Self::RotationScheduled
                | Self::RotationStarted
                | Self::AdoptionLagging
                | Self::DeliveryFailing
                | Self::Expiring
                | Self::Unused
                | Self::PotentiallyStale
        )
    }

    /// Whether it is told of a key that was revoked.
    pub(crate) fn outlives_revocation(self) -> bool {
        matches!(self, Self::Revoked | Self::ClaimConflict | Self::Alarm)
    }
}

impl fmt::Display for NotificationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

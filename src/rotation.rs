//! The rotation's record: one change of version, from its beginning to its end.

use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::id::{KeyId, RotationId, VersionNo};
use crate::time::Timestamp;

/// Where a rotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RotationStatus {
    /// The successor is active and the old version still runs out.
    GracePeriod,
    /// The successor is active and nothing runs out.
    Completed,
    /// The old version is active again.
    RolledBack,
}

impl RotationStatus {
    /// The stable text form, such as `grace_period`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GracePeriod => "grace_period",
            Self::Completed => "completed",
            Self::RolledBack => "rolled_back",
        }
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
    /// The version that leaves; none when the key had no valid version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<VersionNo>,
    /// The version that comes.
    pub new: VersionNo,
    /// Where it stands.
    pub status: RotationStatus,
    /// Who began it.
    pub actor: Actor,
    /// Why, in the actor's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

impl RotationRecord {
    /// Whether it still waits for something.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.finished_at.is_none()
    }
}

//! The settings of a whole deployment, as rows.

use serde::{Deserialize, Serialize};

use crate::id::KeyId;
use crate::policy::{PolicyError, RotationPolicy};
use crate::time::Timestamp;

/// The settings of a whole deployment, as its store remembers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeploymentSettings {
    /// The policy of keys without one of their own.
    pub policy: RotationPolicy,
    /// How many keys an owner without a limit of its own may hold.
    pub owner_limit: OwnerLimit,
    /// Whether keys rotate by themselves, where neither the key nor its owner says otherwise. Default no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_rotation: bool,
    /// Whether keys are managed at all: while this is off, keys are validated, revoked and rotated by the tick, and
    /// whoever holds a successor's claim can claim it; nothing else is changed. Default yes.
    #[serde(default = "on", skip_serializing_if = "Clone::clone")]
    pub management_enabled: bool,
}

fn on() -> bool {
    true
}

impl Default for DeploymentSettings {
    fn default() -> Self {
        Self {
            policy: RotationPolicy::default(),
            owner_limit: OwnerLimit(10),
            auto_rotation: false,
            management_enabled: true,
        }
    }
}

/// How many keys an owner may hold that are neither revoked nor ended: 1 to 1 000 000, by default 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct OwnerLimit(u32);

impl OwnerLimit {
    /// A limit of so many keys.
    ///
    /// # Errors
    /// [`PolicyError::OwnerLimit`] outside 1 to 1 000 000.
    pub const fn new(keys: u32) -> Result<Self, PolicyError> {
        if keys == 0 || keys > 1_000_000 { Err(PolicyError::OwnerLimit) } else { Ok(Self(keys)) }
    }

    /// The number of keys.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for OwnerLimit {
    type Error = PolicyError;
    fn try_from(keys: u32) -> Result<Self, PolicyError> {
        Self::new(keys)
    }
}

impl From<OwnerLimit> for u32 {
    fn from(limit: OwnerLimit) -> Self {
        limit.0
    }
}

/// A switch of the whole deployment on its way to the keys: ticks carry it on, some hundred keys at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SweepRecord {
    pub(crate) since: Timestamp,
    /// The last key that it has come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<KeyId>,
}

//! Usage: what validating processes counted, as it goes to a store and comes back.

use crate::time::Timestamp;

/// What validating processes counted, by key and version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageBatch {
    /// The process that counted.
    pub writer: String,
    /// All uses before this time are in this or an earlier batch of the writer.
    pub flushed_at: Timestamp,
    /// The counts since the writer's last batch.
    pub entries: Vec<UsageEntry>,
}

/// What was counted of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsageEntry {
    /// The id of the key's row.
    pub key: String,
    /// The number of the version.
    pub version: u32,
    /// Granted validations.
    pub allowed: u64,
    /// Denied validations after the secret had matched.
    pub denied: u64,
    /// The latest grant.
    pub last_used: Option<Timestamp>,
}

impl UsageEntry {
    /// Counts of one version; add to them with the public fields.
    #[must_use]
    pub fn new(key: String, version: u32) -> Self {
        Self { key, version, allowed: 0, denied: 0, last_used: None }
    }

    /// Adds another count of the same version.
    pub fn absorb(&mut self, other: &Self) {
        self.allowed = self.allowed.saturating_add(other.allowed);
        self.denied = self.denied.saturating_add(other.denied);
        self.last_used = self.last_used.max(other.last_used);
    }
}

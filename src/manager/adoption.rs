//! Adoption: how far clients have moved from one version to the next.

use serde::Serialize;

use crate::error::ManageError;
use crate::id::{KeyId, VersionNo};
use crate::manager::KeyManager;
use crate::manager::usage::{UsageFilter, UsageReport};
use crate::rotation::RotationRecord;
use crate::store::UsageWriter;
use crate::time::Timestamp;

/// The use of one version, as far as validating processes have flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VersionUse {
    /// The version.
    pub version: VersionNo,
    /// How often it was granted.
    pub allowed: u64,
    /// When it was granted last.
    pub last_used: Option<Timestamp>,
}

/// How far clients have moved to the successor of one rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Adoption {
    /// The rotation.
    pub rotation: RotationRecord,
    /// The superseded version.
    pub old: Option<VersionUse>,
    /// Its successor, once there is one.
    pub new: Option<VersionUse>,
    /// Up to when the counts are complete.
    pub as_of: Option<Timestamp>,
    /// Validating processes that have flushed within 30 days, but not within a day: what they have counted is not known.
    pub silent: Vec<UsageWriter>,
}

impl KeyManager {
    /// How far clients have moved in each rotation of a key, oldest first.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read, or a row cannot be believed.
    pub fn adoption(&self, key: KeyId) -> Result<Vec<Adoption>, ManageError> {
        let rotations = self.rotations(key)?;
        let report = self.usage(key, &UsageFilter::all())?;
        let now = self.now()?;
        let is_silent = |writer: &&UsageWriter| !writer.ended && now.since(writer.flushed_at) > Self::SILENCE;
        let silent: Vec<_> = report.as_of.writers.iter().filter(is_silent).cloned().collect();
        let adoption = |rotation: RotationRecord| Adoption {
            old: rotation.old.map(|version| used(&report, version)),
            new: rotation.new.map(|version| used(&report, version)),
            rotation,
            as_of: report.as_of.at,
            silent: silent.clone(),
        };
        Ok(rotations.into_iter().map(adoption).collect())
    }
}

fn used(report: &UsageReport, version: VersionNo) -> VersionUse {
    let counts = report.versions.iter().find(|usage| usage.version == version);
    let counts = counts.map(|usage| usage.usage.counts).unwrap_or_default();
    VersionUse { version, allowed: counts.allowed, last_used: counts.last_used }
}

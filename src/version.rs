//! The version's record: one secret of a key, its stage and its window.

use serde::{Deserialize, Serialize};

use crate::claim::ClaimDigest;
use crate::digest::{Fingerprint, SecretDigest};
use crate::id::{KeyId, VersionNo};
use crate::imported::ImportedMark;
use crate::time::Timestamp;
use crate::token::Locator;

/// Where a version stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Made, and waiting to be handed over or used.
    Pending,
    /// The version that clients should use.
    Active,
    /// Superseded: still valid until its grace ends.
    Deprecated,
    /// Over for good.
    Ended,
}

/// Why a version ended. *Revoked* beats every other reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// Its lifetime was over.
    Expired,
    /// Its grace after a rotation was over.
    Retired,
    /// Somebody revoked it, or the whole key.
    Revoked,
    /// It was withdrawn before it was handed over.
    Cancelled,
}

/// A version as the store remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionRecord {
    pub(crate) key: KeyId,
    pub(crate) number: VersionNo,
    pub(crate) locator: Locator,
    pub(crate) digest: SecretDigest,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) stage: Stage,
    pub(crate) issued_at: Timestamp,
    pub(crate) not_before: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    /// When a sink was about to get the secret, so that it may be in use already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) offered_at: Option<Timestamp>,
    /// Until when the sink has time to take over what it was offered; without that it is over then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) offered_until: Option<Timestamp>,
    /// When its successor is due, as the policy of its making said; absent in rows from before rotation was automatic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rotate_at: Option<Timestamp>,
    /// The version whose token claimed this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) claimed_by: Option<VersionNo>,
    /// What is kept of the id of the claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) claim: Option<ClaimDigest>,
    /// Until when the claim can be repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) claim_until: Option<Timestamp>,
    /// When another id claimed it last, as far as that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) conflict_at: Option<Timestamp>,
    /// Whether its first use is still to be recorded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) awaits_use: bool,
    /// When its first use was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_used_at: Option<Timestamp>,
    /// When to look next whether anybody still uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) quiet_at: Option<Timestamp>,
    /// When the secret was handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delivered_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) activated_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deprecated_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) grace_end: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) compromised: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) end_reason: Option<EndReason>,
    /// Where its secret came from, if it was not made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) imported: Option<ImportedMark>,
}

impl VersionRecord {
    /// Whether the version was revoked, by itself or with its key.
    pub(crate) fn is_revoked(&self) -> bool {
        self.end_reason == Some(EndReason::Revoked)
    }

    /// Whether somebody outside has its secret, or may have it.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.delivered_at.or(self.offered_at).is_some()
    }

    /// Whether it waits to be claimed, or for its sink.
    pub(crate) fn is_waiting(&self) -> bool {
        self.stage == Stage::Pending && self.delivered_at.is_none()
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.stage == Stage::Ended
    }
}

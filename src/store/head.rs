//! The head: the one record that every commit replaces.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::audit::AuditHead;
use crate::crypto;
use crate::encode::{hex, hex_bytes};
use crate::id::StoreId;
use crate::keyring::{Generation, Keyring};
use crate::store::row::{Revision, RowFault, RowMac};
use crate::time::Timestamp;

/// The head of a store: its revision, its feed's floor, and what the library keeps in its body.
///
/// Each commit replaces it in the same transaction; a store returns it as it got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The number of the last commit.
    pub revision: Revision,
    /// Deletions up to this revision are no longer in the feed: a follower that is behind it loads anew.
    pub floor: Revision,
    /// JSON text; to the store only bytes.
    pub body: Vec<u8>,
    /// The MAC over all of the above.
    pub mac: RowMac,
}

/// What the library keeps in the head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeadBody {
    pub(crate) store: StoreId,
    /// The first id of a store that has been restored from a backup, and so has another id now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) restored_from: Option<StoreId>,
    /// Drawn anew by each emergency on a damaged head: revisions count within one segment, since what lies behind
    /// such a head may have been numbered before. 0 at first.
    #[serde(default, skip_serializing_if = "is_first")]
    pub(crate) segment: u64,
    pub(crate) audit: AuditHead,
    /// Where the log begins: the last entry that a retention of the log has removed. Nothing here removes entries; a
    /// later version of the library may, and this one verifies what that leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) audit_start: Option<AuditHead>,
    /// The latest time that a tick has recorded.
    pub(crate) high_water: Timestamp,
    /// For each generation that has written here, a value by which its master key is recognised.
    pub(crate) checks: BTreeMap<Generation, Check>,
    /// For each generation below the highest that has written here, a revision behind which nothing was written under it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) written: BTreeMap<Generation, u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_first(segment: &u64) -> bool {
    *segment == 0
}

/// The check value of one master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check(#[serde(with = "hex_bytes")] pub(crate) [u8; 16]);

impl Head {
    /// Writes a head under the current generation.
    pub(crate) fn write(
        keyring: &Keyring,
        revision: Revision,
        floor: Revision,
        body: &HeadBody,
    ) -> Option<Self> {
        let body = serde_json::to_vec(body).ok()?;
        let generation = keyring.current();
        let tag = Self::tag(keyring, generation, revision, floor, &body)?;
        Some(Self { revision, floor, body, mac: RowMac { generation, tag } })
    }

    /// Reads the body of an unedited head.
    pub(crate) fn read(&self, keyring: &Keyring) -> Result<HeadBody, RowFault> {
        match Self::tag(keyring, self.mac.generation, self.revision, self.floor, &self.body) {
            // A head names the check of each generation that ever wrote one: without it, the number was edited.
            None if self.peek().is_some_and(|body| body.checks.contains_key(&self.mac.generation)) => {
                Err(RowFault::UnknownGeneration(self.mac.generation))
            }
            None => Err(RowFault::Tampered),
            Some(tag) if crypto::ct_eq_32(&tag, &self.mac.tag) => {
                serde_json::from_slice(&self.body).map_err(|_| RowFault::Tampered)
            }
            Some(_) => Err(RowFault::Tampered),
        }
    }

    /// The body, whoever wrote it: only for telling a foreign master key from an edited head.
    pub(crate) fn peek(&self) -> Option<HeadBody> {
        serde_json::from_slice(&self.body).ok()
    }

    fn tag(
        keyring: &Keyring,
        generation: Generation,
        revision: Revision,
        floor: Revision,
        body: &[u8],
    ) -> Option<[u8; 32]> {
        let fields: [&[u8]; 5] = [
            b"head v1",
            &revision.0.to_be_bytes(),
            &floor.0.to_be_bytes(),
            &generation.get().to_be_bytes(),
            body,
        ];
        Some(keyring.keys(generation)?.row.sign_fields(&fields))
    }
}

impl HeadBody {
    /// A body of which nothing but this is known.
    pub(crate) fn new(
        store: StoreId,
        segment: u64,
        audit: AuditHead,
        high_water: Timestamp,
        checks: BTreeMap<Generation, Check>,
    ) -> Self {
        let written = BTreeMap::new();
        Self { store, restored_from: None, segment, audit, audit_start: None, high_water, checks, written }
    }

    /// Notes under which generation a commit is made, for whoever brings all to a later one. As long as there is only one
    /// generation, nothing is to be noted.
    pub(crate) fn note_generation(&mut self, under: Generation, before: Revision, now: Revision) {
        let Some(highest) = self.checks.keys().next_back().copied() else { return };
        for older in self.checks.keys().filter(|generation| **generation < highest) {
            self.written.entry(*older).or_insert(before.0);
        }
        if under < highest {
            self.written.insert(under, now.0);
        }
    }

    /// A revision behind which nothing was written under a generation before this one, as of the head's revision; `None`
    /// where nothing ever was.
    pub(crate) fn last_before(&self, generation: Generation, head: Revision) -> Option<Revision> {
        let older = self.checks.keys().filter(|older| **older < generation);
        older.map(|older| Revision(self.written.get(older).copied().unwrap_or(head.0))).max()
    }

    /// The id that the store was founded with.
    pub(crate) fn origin(&self) -> StoreId {
        self.restored_from.unwrap_or(self.store)
    }

    /// Whether the keyring's master keys are those that wrote here; the number of the first that is not.
    pub(crate) fn foreign_generation(&self, keyring: &Keyring) -> Option<Generation> {
        self.checks
            .iter()
            .find(|(generation, check)| {
                keyring.keys(**generation).is_some_and(|keys| *keys.check() != check.0)
            })
            .map(|(generation, _)| *generation)
    }
}

/// For people: how a head looks in a report.
impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.revision, hex(self.mac.tag.get(..8).unwrap_or_default()))
    }
}

//! Looking: who waits to be claimed.

use std::ops::ControlFlow;

use serde::Serialize;

use crate::error::ManageError;
use crate::id::{KeyId, KeyName, OwnerId, RotationId, VersionNo};
use crate::lifecycle::Family;
use crate::manager::KeyManager;
use crate::policy::{Claimant, Delivery};
use crate::records::{Records, believed, read};
use crate::rotation::RotationStatus;
use crate::seal::SealedCopy;
use crate::store::{RowFilter, RowKind};
use crate::time::Timestamp;

/// A successor that waits to be claimed, as people and programs may see it: no secret, no digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WaitingClaim {
    /// The key.
    pub key: KeyId,
    /// What people call it.
    pub name: KeyName,
    /// Its owner.
    pub owner: OwnerId,
    /// The rotation that made the successor.
    pub rotation: RotationId,
    /// The successor.
    pub version: VersionNo,
    /// Who may claim it: [`Claimant::Holder`] is whoever holds the current version, and the host for the owner.
    pub claimant: Claimant,
    /// Since when it waits.
    pub since: Timestamp,
    /// Until when it can be claimed: then the rotation fails.
    pub claim_by: Timestamp,
    /// The version that clients use until then; none where the last one has expired.
    pub current: Option<VersionNo>,
    /// When that ends; `None` is never.
    pub current_ends_at: Option<Timestamp>,
}

impl WaitingClaim {
    /// What waits of a key at `t`, if something does.
    fn of(family: &Family, t: Timestamp) -> Option<Self> {
        let mut now = family.clone();
        now.settle(t);
        if now.key.revoked_at.is_some() {
            return None;
        }
        let open = now.open_rotation().filter(|open| open.status == RotationStatus::InProgress)?;
        let Some(Delivery::Sealed { claimant }) = open.delivery else { return None };
        let version = now.version(open.new?).filter(|version| version.is_waiting())?;
        let active = now.active();
        Some(Self {
            key: now.key.id,
            name: now.key.name.clone(),
            owner: now.key.owner,
            rotation: open.id,
            version: version.number,
            claimant,
            since: open.started_at.unwrap_or(version.issued_at),
            claim_by: open.claim_by.or(now.end(version))?,
            current: active.map(|active| active.number),
            current_ends_at: active.and_then(|active| now.end(active)),
        })
    }
}

/// A page of successors that wait to be claimed, in the order of the ids of their keys.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WaitingPage {
    /// What waits.
    pub claims: Vec<WaitingClaim>,
    /// Give it to [`KeyManager::waiting_claims`] for the next page; `None` when this is the last. What is claimed or made
    /// meanwhile does not shift the pages.
    pub next: Option<KeyId>,
}

/// How many sealed copies are looked at between two looks at their keys.
const CHUNK: usize = 256;

impl KeyManager {
    /// Up to `limit` successors (1 to 1000) that wait to be claimed, of all owners, after the key `after`: for a host's
    /// page on which they are seen and claimed for their owners. The work grows with what waits, not with all keys.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read. Keys whose rows were edited are left out.
    pub fn waiting_claims(&self, after: Option<KeyId>, limit: usize) -> Result<WaitingPage, ManageError> {
        let records = &self.inner.records;
        let (t, limit) = (self.now()?, limit.clamp(1, 1_000));
        let mut after = SealedCopy::after_claims_of(after);
        let mut claims: Vec<WaitingClaim> = Vec::new();
        loop {
            let chunk = copies(records, &after)?;
            for (_, key) in &chunk {
                let Some(stored) = key.map(|key| believed(records.family(key))).transpose()?.flatten() else {
                    continue;
                };
                let Some(waiting) = WaitingClaim::of(&stored.family, t) else { continue };
                // A successor that was claimed leaves its copy for a while, so that a key may have two.
                if claims.last().is_some_and(|last| last.key == waiting.key) {
                    continue;
                }
                if claims.len() == limit {
                    let next = claims.last().map(|last| last.key);
                    return Ok(WaitingPage { claims, next });
                }
                claims.push(waiting);
            }
            match chunk.into_iter().next_back() {
                Some((last, _)) => after = last,
                None => return Ok(WaitingPage { claims, next: None }),
            }
        }
    }
}

/// The next copies that are kept to be claimed, each with its key where that can be believed.
fn copies(records: &Records, after: &str) -> Result<Vec<(String, Option<KeyId>)>, ManageError> {
    let mut chunk = Vec::new();
    records.store.scan(RowKind::Sealed, RowFilter::All { after: Some(after) }, &mut |row| {
        if chunk.len() == CHUNK || !SealedCopy::is_claim_row_id(row.id) {
            return ControlFlow::Break(());
        }
        let copy = read::<SealedCopy>(&row, &records.keyring);
        chunk.push((row.id.to_owned(), copy.ok().map(|copy| copy.record.key)));
        ControlFlow::Continue(())
    })?;
    Ok(chunk)
}

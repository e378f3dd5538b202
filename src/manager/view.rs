//! Looking: one key with its versions, and lists of keys.

use std::collections::HashMap;
use std::ops::ControlFlow;

use serde::Serialize;

use crate::digest::Fingerprint;
use crate::error::{ManageError, ReadError};
use crate::id::{KeyId, KeyName, OwnerId, RoleName, VersionNo};
use crate::key::{KeyRecord, Metadata};
use crate::lifecycle::{self, Family, Refusal, Validity};
use crate::limit::{Limits, QuotaRecord};
use crate::manager::KeyManager;
use crate::manager::imported::ImportedSecret;
use crate::network::Networks;
use crate::owner::OwnerRecord;
use crate::policy::RotationPolicy;
use crate::records::{Records, read};
use crate::rotation::RotationRecord;
use crate::scope::ScopeSet;
use crate::store::{RowFilter, RowKind, UsageQuery};
use crate::time::Timestamp;
use crate::token::{Hint, Locator, Prefix};
use crate::version::{EndReason, Stage, VersionRecord};

/// What can be said of a key as a whole, at the time of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeyStatus {
    /// Some version of it validates.
    Active,
    /// Its window has not begun.
    NotYet,
    /// Its owner is suspended.
    Suspended,
    /// No version of it is left.
    Ended,
    /// It was revoked.
    Revoked,
}

/// A version, as people and programs may see it: no secret, no digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VersionInfo {
    /// Its number.
    pub number: VersionNo,
    /// The public part of its token.
    pub locator: Locator,
    /// The public name of its secret.
    pub fingerprint: Fingerprint,
    /// Where it stands, with what has passed taken into account.
    pub stage: Stage,
    /// Whether its token validates now.
    pub is_valid: bool,
    /// When it was made.
    pub issued_at: Timestamp,
    /// When its window begins.
    pub not_before: Timestamp,
    /// When it stops validating; `None` is never.
    pub ends_at: Option<Timestamp>,
    /// When it became the version that clients should use.
    pub activated_at: Option<Timestamp>,
    /// When its first use was recorded, where that was awaited: after a claim, or where the policy counts from it.
    pub first_used_at: Option<Timestamp>,
    /// Since when it is superseded.
    pub deprecated_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    pub end_reason: Option<EndReason>,
    /// Whether its secret is known to be in wrong hands.
    pub compromised: bool,
    /// Where its secret came from, if it was not made here.
    pub imported: Option<ImportedSecret>,
}

/// A key, as people and programs may see it: no secret, no digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyInfo {
    /// Its id.
    #[serde(rename = "key_id")]
    pub id: KeyId,
    /// Its owner.
    pub owner: OwnerId,
    /// What people call it.
    pub name: KeyName,
    /// What its tokens begin with.
    pub prefix: Prefix,
    /// Its own scopes; its role may add some, and its owner's ceiling bounds both.
    pub scopes: ScopeSet,
    /// Its role.
    pub role: Option<RoleName>,
    /// How fast and how often it may be used, by all of its versions together.
    pub limits: Limits,
    /// The networks from which it may be used; `None` is everywhere.
    pub networks: Option<Networks>,
    /// What the host keeps with it.
    pub metadata: Metadata,
    /// Its own policy, where it has one; see [`KeyManager::policy_of`].
    pub policy: Option<RotationPolicy>,
    /// Whether it rotates by itself, by what is said of it, its owner and the deployment, as far as that has reached it.
    pub rotates: bool,
    /// Whether nobody took a successor over in time: none is made any more until somebody rotates or schedules.
    pub lapsed: bool,
    /// When its next rotation begins by itself, where one does and none is open.
    pub next_rotation_at: Option<Timestamp>,
    /// What can be said of it as a whole.
    pub status: KeyStatus,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it ends for good, whatever the policy says.
    pub hard_end: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Its versions, by number.
    pub versions: Vec<VersionInfo>,
}

impl KeyInfo {
    /// The version that clients should use, if there is one.
    #[must_use]
    pub fn active_version(&self) -> Option<&VersionInfo> {
        self.versions.iter().find(|version| version.stage == Stage::Active)
    }

    /// What may be shown to recognise a version's token.
    #[must_use]
    pub fn hint(&self, version: &VersionInfo) -> Hint {
        Hint::new(self.prefix, version.locator)
    }
}

pub(crate) fn key_info(family: &Family, owner: &OwnerRecord, t: Timestamp) -> KeyInfo {
    let mut now = family.clone();
    now.settle(t);
    let refusals: Vec<_> = now
        .versions
        .iter()
        .map(|version| Validity::of(version, &now.key).refusal(owner.suspended, t))
        .collect();
    let status = if now.key.revoked_at.is_some() {
        KeyStatus::Revoked
    } else if now.live(t).next().is_none() {
        KeyStatus::Ended
    } else if owner.suspended {
        KeyStatus::Suspended
    } else if refusals.contains(&None) {
        KeyStatus::Active
    } else if refusals.contains(&Some(Refusal::NotYet)) {
        KeyStatus::NotYet
    } else {
        KeyStatus::Ended
    };
    let version = |(version, refusal): (&VersionRecord, &Option<Refusal>)| VersionInfo {
        number: version.number,
        locator: version.locator,
        fingerprint: version.fingerprint,
        stage: version.stage,
        is_valid: refusal.is_none(),
        issued_at: version.issued_at,
        not_before: version.not_before,
        ends_at: now.end(version),
        activated_at: version.activated_at,
        first_used_at: version.first_used_at,
        deprecated_at: version.deprecated_at,
        ended_at: version.ended_at,
        end_reason: version.end_reason,
        compromised: version.compromised,
        imported: ImportedSecret::of(version),
    };
    KeyInfo {
        id: now.key.id,
        owner: now.key.owner,
        name: now.key.name.clone(),
        prefix: now.key.prefix,
        scopes: now.key.scopes.clone(),
        role: now.key.role.clone(),
        limits: now.key.limits.clone(),
        networks: now.key.networks.clone(),
        metadata: now.key.metadata.clone(),
        policy: now.key.policy,
        rotates: now.key.rotates,
        lapsed: now.key.lapsed,
        next_rotation_at: lifecycle::rotation_due(&now),
        status,
        issued_at: now.key.issued_at,
        hard_end: now.key.hard_end,
        revoked_at: now.key.revoked_at,
        versions: now.versions.iter().zip(&refusals).map(version).collect(),
    }
}

/// Which keys to list; an absent field asks nothing.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct KeyFilter {
    owner: Option<OwnerId>,
    status: Option<KeyStatus>,
    expiring_before: Option<Timestamp>,
    unused_since: Option<Timestamp>,
    name: Option<String>,
}

impl KeyFilter {
    /// All keys.
    pub fn all() -> Self {
        Self::default()
    }

    /// Keys of this owner.
    pub fn owner(mut self, owner: OwnerId) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Keys of this status.
    pub fn status(mut self, status: KeyStatus) -> Self {
        self.status = Some(status);
        self
    }

    /// Keys that are neither ended nor revoked, and whose last version ends before that time.
    pub fn expiring_before(mut self, time: Timestamp) -> Self {
        self.expiring_before = Some(time);
        self
    }

    /// Keys that are neither ended nor revoked, were issued before that time and not used since, as far as
    /// validating processes have flushed.
    pub fn unused_since(mut self, time: Timestamp) -> Self {
        self.unused_since = Some(time);
        self
    }

    /// Keys whose name contains this text, in any case.
    pub fn name_contains(mut self, text: impl Into<String>) -> Self {
        self.name = Some(text.into().to_lowercase());
        self
    }
}

/// A page of keys, in the order of their ids, which is the order of their issue.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<KeyInfo>,
    /// Ids of rows that belong here and cannot be believed: edited behind the library's back. They do not validate.
    pub edited: Vec<String>,
    /// Give it to [`KeyManager::list`] for the next page; `None` when this is the last. Keys issued or revoked
    /// meanwhile do not shift the pages.
    pub next: Option<KeyId>,
}

/// How many rows are looked at between two looks at their versions.
const CHUNK: usize = 256;

impl KeyManager {
    /// A key with its versions.
    ///
    /// # Errors
    /// [`ManageError::UnknownKey`], or that the store cannot be read or believed.
    pub fn get(&self, key: KeyId) -> Result<KeyInfo, ManageError> {
        look(&self.inner.records, key, self.now()?)
    }

    /// The policy that a key lives by: its own, or else the deployment's.
    ///
    /// # Errors
    /// As of [`KeyManager::get`].
    pub fn policy_of(&self, key: KeyId) -> Result<RotationPolicy, ManageError> {
        let own = self.get(key)?.policy;
        own.map_or_else(|| Ok(self.settings()?.policy), Ok)
    }

    /// How many uses of a key's quota are not leased to any process in the present period; `None` where the key has no
    /// quota. What is leased may or may not have been used: see [`Quota`](crate::Quota).
    ///
    /// # Errors
    /// As of [`KeyManager::get`].
    pub fn quota_left(&self, key: KeyId) -> Result<Option<u64>, ManageError> {
        let records = &self.inner.records;
        let stored = records.get::<KeyRecord>(&key.to_string())?.ok_or(ManageError::UnknownKey(key))?.record;
        let Some(quota) = stored.limits.quota() else { return Ok(None) };
        let period = quota.refill().period(stored.issued_at, self.now()?);
        let record = records.get::<QuotaRecord>(&key.to_string())?;
        Ok(Some(record.map_or(quota.uses(), |record| record.record.left(quota, period))))
    }

    /// The rotations of a key, oldest first.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read, or a row cannot be believed.
    pub fn rotations(&self, key: KeyId) -> Result<Vec<RotationRecord>, ManageError> {
        let parent = key.to_string();
        let found = self.inner.records.scan::<RotationRecord>(RowFilter::Parent(&parent), usize::MAX)?;
        Ok(found.into_iter().map(|stored| stored.map(|stored| stored.record)).collect::<Result<_, _>>()?)
    }

    /// Up to `limit` keys (1 to 1000) that the filter asks for, after the key `after`.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn list(
        &self,
        filter: &KeyFilter,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<KeyPage, ManageError> {
        let t = self.now()?;
        let limit = limit.clamp(1, 1_000);
        let (mut keys, mut edited) = (Vec::new(), Vec::new());
        let mut after = after.map(|key| key.to_string());
        loop {
            let rows = match &filter.owner {
                Some(owner) => RowFilter::Owner { owner: owner.as_str(), after: after.as_deref() },
                None => RowFilter::All { after: after.as_deref() },
            };
            let mut chunk = Vec::new();
            self.inner.records.store.scan(RowKind::Key, rows, &mut |row| {
                if chunk.len() == CHUNK {
                    return ControlFlow::Break(());
                }
                chunk.push((row.id.to_owned(), read::<KeyRecord>(&row, &self.inner.records.keyring)));
                ControlFlow::Continue(())
            })?;
            let exhausted = chunk.len() < CHUNK;
            let used = self.used(filter, &chunk)?;
            for (id, stored) in chunk {
                let listed = match stored {
                    Ok(stored) => self.listed(filter, &stored.record, used.get(&id).copied(), t),
                    Err(error) => Err(error.into()),
                };
                match listed {
                    Ok(Some(_)) if keys.len() == limit => {
                        let next = keys.last().map(|key: &KeyInfo| key.id);
                        return Ok(KeyPage { keys, edited, next });
                    }
                    Ok(Some(info)) => keys.push(info),
                    Ok(None) => {}
                    Err(ManageError::Read(ReadError::Tampered { .. })) => edited.push(id.clone()),
                    Err(error) => return Err(error),
                }
                after = Some(id);
            }
            if exhausted {
                return Ok(KeyPage { keys, edited, next: None });
            }
        }
    }

    /// When the keys of a chunk were last used, if that is asked. Usage that no tick has added up yet is looked through
    /// whole at each question, so keys that stand together are asked for together.
    fn used<T>(
        &self,
        filter: &KeyFilter,
        chunk: &[(String, T)],
    ) -> Result<HashMap<String, Timestamp>, ManageError> {
        let mut used = HashMap::new();
        let ids: Vec<&str> = chunk.iter().map(|(id, _)| id.as_str()).collect();
        // Between two keys of an owner there may be any number of others.
        let together = if filter.owner.is_some() { 1 } else { CHUNK };
        for ids in ids.chunks(together).filter(|_| filter.unused_since.is_some()) {
            let (first_key, last_key) = (ids.first().copied(), ids.last().copied());
            used.extend(self.last_uses(&UsageQuery { first_key, last_key, ..UsageQuery::default() })?);
        }
        Ok(used)
    }

    fn listed(
        &self,
        filter: &KeyFilter,
        record: &KeyRecord,
        last_used: Option<Timestamp>,
        t: Timestamp,
    ) -> Result<Option<KeyInfo>, ManageError> {
        let named = |text: &String| record.name.as_str().to_lowercase().contains(text);
        if !filter.name.as_ref().is_none_or(named) {
            return Ok(None);
        }
        let Some(family) = self.inner.records.family(record.id)? else { return Ok(None) };
        let family = family.family;
        let info = key_info(&family, &owner_of(&self.inner.records, record)?, t);
        let lives = !matches!(info.status, KeyStatus::Ended | KeyStatus::Revoked);
        let ends_before =
            |time| lives && family.live(t).all(|version| family.end(version).is_some_and(|end| end < time));
        let wanted = filter.status.is_none_or(|status| status == info.status)
            && filter.expiring_before.is_none_or(ends_before)
            && filter.unused_since.is_none_or(|time| {
                lives && info.issued_at < time && last_used.is_none_or(|used| used < time)
            });
        Ok(wanted.then_some(info))
    }

    /// An owner's settings.
    ///
    /// # Errors
    /// [`ManageError::UnknownOwner`], or that the store cannot be read or believed.
    pub fn owner(&self, owner: OwnerId) -> Result<OwnerRecord, ManageError> {
        let stored = self.inner.records.get::<OwnerRecord>(owner.as_str())?;
        Ok(stored.ok_or(ManageError::UnknownOwner(owner))?.record)
    }

    /// All owners, by name.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read, or a row cannot be believed.
    pub fn owners(&self) -> Result<Vec<OwnerRecord>, ManageError> {
        let found = self.inner.records.scan::<OwnerRecord>(RowFilter::All { after: None }, usize::MAX)?;
        Ok(found.into_iter().map(|stored| stored.map(|stored| stored.record)).collect::<Result<_, _>>()?)
    }
}

/// A key as it is at `t`.
pub(crate) fn look(records: &Records, key: KeyId, t: Timestamp) -> Result<KeyInfo, ManageError> {
    let family = records.family(key)?.ok_or(ManageError::UnknownKey(key))?.family;
    Ok(key_info(&family, &owner_of(records, &family.key)?, t))
}

/// A key whose owner's row is missing was robbed of it: no act removes an owner.
fn owner_of(records: &Records, key: &KeyRecord) -> Result<OwnerRecord, ManageError> {
    let stored = records.get::<OwnerRecord>(key.owner.as_str())?;
    let missing = || ReadError::Tampered { kind: RowKind::Owner, id: key.owner.into() };
    Ok(stored.ok_or_else(missing)?.record)
}

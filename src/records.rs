//! The typed view of a store: records in place of rows, each checked before it is believed.

use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::due;
use crate::error::ReadError;
use crate::id::{KeyId, VersionNo};
use crate::key::KeyRecord;
use crate::keyring::Keyring;
use crate::lifecycle::Family;
use crate::limit::QuotaRecord;
use crate::notify::Channels;
use crate::owner::{OwnerRecord, RoleRecord};
use crate::policy::{DeploymentSettings, SweepRecord};
use crate::request::RequestRecord;
use crate::rotation::RotationRecord;
use crate::seal::SealedCopy;
use crate::store::{
    Changeset, Draft, HeadBody, KeyStore, Revision, RowFilter, RowIndex, RowIndexRef, RowKind, RowRef,
};
use crate::time::Timestamp;
use crate::version::VersionRecord;

/// A record that a row stores.
pub(crate) trait Record: Serialize + DeserializeOwned {
    const KIND: RowKind;
    fn row_id(&self) -> String;
    fn index(&self) -> RowIndex;

    fn draft(&self) -> Draft {
        self.draft_with(self.index())
    }

    fn draft_with(&self, index: RowIndex) -> Draft {
        // The records hold nothing that JSON cannot express; an empty body would be refused when it is read.
        let body = serde_json::to_vec(self).unwrap_or_default();
        Draft { kind: Self::KIND, id: self.row_id(), index, body }
    }
}

impl Record for KeyRecord {
    const KIND: RowKind = RowKind::Key;
    fn row_id(&self) -> String {
        self.id.to_string()
    }
    fn index(&self) -> RowIndex {
        RowIndex { owner: Some(self.owner.into()), ..RowIndex::default() }
    }
}

/// The row id of a version.
pub(crate) fn version_row_id(key: KeyId, number: VersionNo) -> String {
    format!("{key}/{}", number.get())
}

/// The version that a row id names.
pub(crate) fn version_of_row_id(id: &str) -> Option<(KeyId, VersionNo)> {
    let (key, number) = id.split_once('/')?;
    let name = (key.parse().ok()?, VersionNo::new(number.parse().ok()?));
    // One form only: `+1` and `01` are numbers, too.
    (version_row_id(name.0, name.1) == id).then_some(name)
}

impl Record for VersionRecord {
    const KIND: RowKind = RowKind::Version;
    fn row_id(&self) -> String {
        version_row_id(self.key, self.number)
    }
    fn index(&self) -> RowIndex {
        let state = match self.stage {
            crate::version::Stage::Pending => "pending",
            crate::version::Stage::Active => "active",
            crate::version::Stage::Deprecated => "deprecated",
            crate::version::Stage::Ended => "ended",
        };
        RowIndex {
            parent: Some(self.key.to_string()),
            // By which those that end soon are found.
            due_at: crate::lifecycle::end(self, None).filter(|_| !self.is_ended()),
            ends_at: crate::lifecycle::end(self, None),
            state: Some(state.to_owned()),
            unique: Some(self.locator.into()),
            ..RowIndex::default()
        }
    }
}

impl Record for RotationRecord {
    const KIND: RowKind = RowKind::Rotation;
    fn row_id(&self) -> String {
        self.id.to_string()
    }
    fn index(&self) -> RowIndex {
        RowIndex {
            parent: Some(self.key.to_string()),
            state: Some(self.status.as_str().to_owned()),
            ..RowIndex::default()
        }
    }
}

impl Record for OwnerRecord {
    const KIND: RowKind = RowKind::Owner;
    fn row_id(&self) -> String {
        self.id.into()
    }
    fn index(&self) -> RowIndex {
        let state = if self.suspended { "suspended" } else { "enabled" };
        RowIndex { state: Some(state.to_owned()), ..RowIndex::default() }
    }
}

impl Record for RoleRecord {
    const KIND: RowKind = RowKind::Role;
    fn row_id(&self) -> String {
        self.name.as_str().to_owned()
    }
    fn index(&self) -> RowIndex {
        RowIndex::default()
    }
}

impl Record for DeploymentSettings {
    const KIND: RowKind = RowKind::Policy;
    fn row_id(&self) -> String {
        Self::ROW_ID.to_owned()
    }
    fn index(&self) -> RowIndex {
        RowIndex::default()
    }
}

impl DeploymentSettings {
    pub(crate) const ROW_ID: &'static str = "deployment";
}

impl Record for RequestRecord {
    const KIND: RowKind = RowKind::Request;
    fn row_id(&self) -> String {
        self.id.as_str().to_owned()
    }
    fn index(&self) -> RowIndex {
        RowIndex { due_at: Some(self.until), ..RowIndex::default() }
    }
}

impl Record for SealedCopy {
    const KIND: RowKind = RowKind::Sealed;
    fn row_id(&self) -> String {
        match &self.request {
            Some(request) => request.as_str().to_owned(),
            None => Self::claim_row_id(self.key, self.version),
        }
    }
    fn index(&self) -> RowIndex {
        RowIndex { parent: Some(self.key.to_string()), due_at: Some(self.until), ..RowIndex::default() }
    }
}

impl Record for SweepRecord {
    const KIND: RowKind = RowKind::Policy;
    fn row_id(&self) -> String {
        Self::ROW_ID.to_owned()
    }
    fn index(&self) -> RowIndex {
        RowIndex { due_at: Some(self.since), ..RowIndex::default() }
    }
}

impl SweepRecord {
    pub(crate) const ROW_ID: &'static str = "sweep";
}

impl Record for QuotaRecord {
    const KIND: RowKind = RowKind::Quota;
    fn row_id(&self) -> String {
        self.key.to_string()
    }
    fn index(&self) -> RowIndex {
        RowIndex { parent: Some(self.key.to_string()), ..RowIndex::default() }
    }
}

/// A record with the revision of its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored<R> {
    pub(crate) record: R,
    pub(crate) revision: Revision,
}

/// The record in a row, once its MAC is found right.
pub(crate) fn read<R: Record>(row: &RowRef<'_>, keyring: &Keyring) -> Result<Stored<R>, ReadError> {
    row.verify(keyring).map_err(|fault| ReadError::of_row(fault, row.kind, row.id))?;
    let tampered = || ReadError::Tampered { kind: row.kind, id: row.id.to_owned() };
    let record: R = serde_json::from_slice(row.body).map_err(|_| tampered())?;
    if row.kind != R::KIND || record.row_id() != row.id {
        return Err(tampered());
    }
    Ok(Stored { record, revision: row.revision })
}

/// What cannot be believed is as good as absent; a store that fails is not.
pub(crate) fn believed<T>(read: Result<Option<T>, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Err(ReadError::Tampered { .. } | ReadError::KeyringBehind(_)) => Ok(None),
        read => read,
    }
}

/// A family as it was read, so that what an act changed can be written with the revisions it relied on.
#[derive(Clone, Debug)]
pub(crate) struct StoredFamily {
    pub(crate) family: Family,
    key: Revision,
    versions: Vec<Revision>,
    rotations: Vec<Revision>,
}

impl StoredFamily {
    /// The revision of the key's row, on which every act on the key relies.
    pub(crate) fn revision(&self) -> Revision {
        self.key
    }

    /// Writes the difference between this family and what became of it. The key's row is always replaced: every
    /// act on a key relies on it, so two acts at once cannot both succeed.
    pub(crate) fn write(&self, after: &Family, changeset: &mut Changeset) {
        changeset.replace(key_draft(after), self.key);
        let versions = self.family.versions.iter().zip(&self.versions);
        write_changed(versions, &after.versions, changeset);
        let rotations = self.family.rotations.iter().zip(&self.rotations);
        write_changed(rotations, &after.rotations, changeset);
    }
}

impl StoredFamily {
    /// Whether an act came between the readings of its rows. As each act replaces the key's row, a row that is newer than
    /// that was written by such an act; and none is left of a key that was removed.
    fn is_torn(&self) -> bool {
        let newest = self.versions.iter().chain(&self.rotations).max();
        self.versions.is_empty() || newest.is_some_and(|newest| *newest > self.key)
    }

    /// Removes the key with its versions and its open rotation.
    pub(crate) fn delete(&self, changeset: &mut Changeset) {
        fn delete<R: Record>(records: &[R], revisions: &[Revision], changeset: &mut Changeset) {
            for (record, revision) in records.iter().zip(revisions) {
                changeset.delete(R::KIND, record.row_id(), *revision);
            }
        }
        delete(&self.family.versions, &self.versions, changeset);
        delete(&self.family.rotations, &self.rotations, changeset);
        changeset.delete(RowKind::Key, self.family.key.row_id(), self.key);
    }
}

/// Writes a family that is not in the store yet.
pub(crate) fn insert_family(family: &Family, changeset: &mut Changeset) {
    changeset.insert(key_draft(family));
    family.versions.iter().for_each(|version| changeset.insert(version.draft()));
    family.rotations.iter().for_each(|rotation| changeset.insert(rotation.draft()));
}

fn write_changed<'a, R: Record + PartialEq + 'a>(
    mut before: impl Iterator<Item = (&'a R, &'a Revision)>,
    after: &[R],
    changeset: &mut Changeset,
) {
    for record in after {
        match before.next() {
            None => changeset.insert(record.draft()),
            Some((old, revision)) if old != record => changeset.replace(record.draft(), *revision),
            Some(_) => {}
        }
    }
}

/// The key's row carries what its versions make of it, so that a store can find what is due.
fn key_draft(family: &Family) -> Draft {
    // A successor that nobody has taken over makes no key count.
    let is_none = |version: &VersionRecord| version.is_ended() || !version.is_handed_over();
    let state = match (family.key.revoked_at, family.versions.iter().all(is_none)) {
        (Some(_), _) => KeyState::REVOKED,
        (None, true) => KeyState::ENDED,
        (None, false) => KeyState::LIVE,
    };
    family.key.draft_with(RowIndex {
        due_at: due::next(family),
        ends_at: due::last_end(family),
        state: Some(state.to_owned()),
        ..family.key.index()
    })
}

/// What the state field of a key's row says.
pub(crate) struct KeyState;

impl KeyState {
    pub(crate) const LIVE: &'static str = "live";
    pub(crate) const ENDED: &'static str = "ended";
    pub(crate) const REVOKED: &'static str = "revoked";

    /// Whether the row says that no version is left.
    pub(crate) fn is_over(index: &RowIndexRef<'_>) -> bool {
        matches!(index.state, Some(Self::ENDED | Self::REVOKED))
    }

    /// Whether the key counts against its owner's limit at `t`.
    pub(crate) fn counts(index: &RowIndexRef<'_>, t: Timestamp) -> bool {
        index.state == Some(Self::LIVE) && index.ends_at.is_none_or(|end| t < end)
    }
}

/// A store, the keyring that its rows are checked with, and who is told of what changes.
#[derive(Clone)]
pub(crate) struct Records {
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) keyring: Keyring,
    pub(crate) channels: Arc<Channels>,
}

impl Records {
    /// With nobody to be told.
    pub(crate) fn new(store: Arc<dyn KeyStore>, keyring: Keyring) -> Self {
        Self { store, keyring, channels: Arc::default() }
    }

    /// The head's body.
    pub(crate) fn head(&self) -> Result<HeadBody, ReadError> {
        let head = self.store.head()?.ok_or(ReadError::NotFounded)?;
        head.read(&self.keyring).map_err(ReadError::of_head)
    }

    pub(crate) fn get<R: Record>(&self, id: &str) -> Result<Option<Stored<R>>, ReadError> {
        let mut found = None;
        self.store.get(R::KIND, id, &mut |row| found = Some(read(&row, &self.keyring)))?;
        found.transpose()
    }

    /// All that the filter finds, each with its own verdict.
    pub(crate) fn scan<R: Record>(
        &self,
        filter: RowFilter<'_>,
        limit: usize,
    ) -> Result<Vec<Result<Stored<R>, ReadError>>, ReadError> {
        let mut found = Vec::new();
        self.store.scan(R::KIND, filter, &mut |row| {
            if found.len() >= limit {
                return ControlFlow::Break(());
            }
            found.push(read(&row, &self.keyring));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Removes the sealed copies of a key's secrets that `concerns` names. Copies that were edited open for nobody.
    pub(crate) fn delete_sealed(
        &self,
        changeset: &mut Changeset,
        key: KeyId,
        concerns: impl Fn(&SealedCopy) -> bool,
    ) -> Result<(), ReadError> {
        let parent = key.to_string();
        for copy in self.scan::<SealedCopy>(RowFilter::Parent(&parent), usize::MAX)? {
            match copy {
                Ok(copy) if concerns(&copy.record) => {
                    changeset.delete(SealedCopy::KIND, copy.record.row_id(), copy.revision);
                }
                Ok(_) | Err(ReadError::Tampered { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A key with its versions and its open rotation, from one moment.
    pub(crate) fn family(&self, id: KeyId) -> Result<Option<StoredFamily>, ReadError> {
        self.load_family(id, false)
    }

    /// The same, leaving out versions whose rows were edited: these do not validate, and must not keep the
    /// others from being revoked.
    pub(crate) fn sound_family(&self, id: KeyId) -> Result<Option<StoredFamily>, ReadError> {
        self.load_family(id, true)
    }

    fn load_family(&self, id: KeyId, sound_only: bool) -> Result<Option<StoredFamily>, ReadError> {
        let text = id.to_string();
        let mut torn = None;
        loop {
            let Some(key) = self.get::<KeyRecord>(&text)? else { return Ok(None) };
            // What was torn and is again as it was is no more than rows that somebody put back or took away.
            let again = torn == Some(key.revision);
            torn = Some(key.revision);
            let family = self.complete(key, sound_only)?;
            if again || !family.is_torn() {
                return Ok(Some(family));
            }
        }
    }

    /// The family of a key whose row was just read, unless somebody has acted on the key since.
    pub(crate) fn family_of(&self, key: Stored<KeyRecord>) -> Result<Option<StoredFamily>, ReadError> {
        let id = key.record.id;
        let family = self.complete(key, false)?;
        if family.is_torn() { self.family(id) } else { Ok(Some(family)) }
    }

    fn complete(&self, key: Stored<KeyRecord>, sound_only: bool) -> Result<StoredFamily, ReadError> {
        let text = key.record.row_id();
        let mut versions = Vec::new();
        for version in self.scan::<VersionRecord>(RowFilter::Parent(&text), usize::MAX)? {
            match version {
                Ok(version) => versions.push(version),
                Err(ReadError::Tampered { .. }) if sound_only => {}
                Err(error) => return Err(error),
            }
        }
        versions.sort_by_key(|version| version.record.number);
        let rotation = match key.record.open_rotation {
            Some(rotation) => self.get::<RotationRecord>(&rotation.to_string())?,
            None => None,
        };
        let (versions, revisions) =
            versions.into_iter().map(|version| (version.record, version.revision)).unzip();
        let (rotations, of_rotations) =
            rotation.into_iter().map(|stored| (stored.record, stored.revision)).unzip();
        Ok(StoredFamily {
            family: Family { key: key.record, versions, rotations },
            key: key.revision,
            versions: revisions,
            rotations: of_rotations,
        })
    }
}

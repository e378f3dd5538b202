//! Restoring: a backup is put in place as a store of its own, and what was revoked since stays revoked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::actor::Context;
use crate::audit::AuditHead;
use crate::crypto;
use crate::error::{ManageError, OpenError, ReadError};
use crate::event::{Event, EventKind};
use crate::id::{KeyId, OwnerId, StoreId, VersionNo};
use crate::key::KeyRecord;
use crate::keyring::Keyring;
use crate::lifecycle;
use crate::owner::OwnerRecord;
use crate::records::{Record, Records, read};
use crate::report::{CheckReport, check, verify};
use crate::seal::SealedCopy;
use crate::store::sqlite::{BackupError, SqliteStore, Staged};
use crate::store::{
    Changeset, CommitError, Head, KeyStore as _, Revision, RowFilter, RowKind, StoreErrorKind,
};
use crate::time::Timestamp;
use crate::validate::check_keyring;
use crate::version::{EndReason, VersionRecord};

/// What restoring a backup did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The end of the audit log as the backup had it: what came after it is gone.
    pub back_to: AuditHead,
    /// What was revoked or suspended after the backup was made, and is so again. `None` when there was no store in
    /// the file's place, or its head could not be believed: compare with what you know.
    pub carried_over: Option<CarriedOver>,
    /// What checking the restored store found.
    pub check: CheckReport,
}

/// What was revoked or suspended after a backup was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CarriedOver {
    /// Keys that were revoked, or purged.
    pub keys: usize,
    /// Versions that were revoked without their key.
    pub versions: usize,
    /// Owners that were suspended.
    pub owners: usize,
}

/// A backup was not restored; what is in its place is as it was.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The backup, or the store in its place, was written under another master key, or cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store in its place is not the one that the backup was made of.
    #[error("the store in its place is not the one that the backup was made of; check both paths")]
    OtherStore,
    /// The store could not be written.
    #[error(transparent)]
    Manage(#[from] ManageError),
}

crate::text::debug_as_told!(RestoreError);

impl From<ReadError> for RestoreError {
    fn from(error: ReadError) -> Self {
        Self::Open(error.into())
    }
}

/// How often a restoration is prepared again because somebody wrote to the store in its place meanwhile.
const ATTEMPTS: usize = 20;
/// How many keys one commit revokes again.
const BATCH: usize = 250;

/// What a restoration is made with.
pub(crate) struct Restoration<'a> {
    pub(crate) backup: &'a Path,
    pub(crate) keyring: &'a Keyring,
    pub(crate) context: &'a Context,
    pub(crate) now: Timestamp,
}

impl Restoration<'_> {
    /// Makes the backup the store at a path.
    pub(crate) fn to(&self, path: &Path) -> Result<RestoreReport, RestoreError> {
        if path.symlink_metadata().is_err() {
            let staged = Staged::copy_of(self.backup, path)?;
            let report = self.prepare(&staged, None)?;
            staged.publish()?;
            return Ok(report);
        }
        let target = Arc::new(SqliteStore::open(path).map_err(BackupError::from)?);
        for _ in 0..ATTEMPTS {
            let staged = Staged::copy_of(self.backup, path)?;
            let head = target.head().map_err(ReadError::from)?;
            let records = Records::new(Arc::clone(&target) as _, self.keyring.clone());
            let report = self.prepare(&staged, head.as_ref().map(|head| (&records, head)))?;
            if staged.replace(&target, head.as_ref())? {
                return Ok(report);
            }
        }
        Err(BackupError::from(StoreErrorKind::Busy).into())
    }

    /// Makes a copy of the backup the store that it will be.
    fn prepare(
        &self,
        staged: &Staged,
        replaced: Option<(&Records, &Head)>,
    ) -> Result<RestoreReport, RestoreError> {
        let store = Arc::new(staged.open()?);
        let records = Records::new(Arc::clone(&store) as _, self.keyring.clone());
        check_keyring(&records)?;
        let head = records.head()?;
        let mut t = self.now.max(head.high_water);
        let (mut beyond, mut over) = (Revision(0), None);
        if let Some((replaced, replaced_head)) = replaced {
            check_keyring_of_replaced(replaced)?;
            beyond = replaced_head.revision;
            if let Ok(body) = replaced_head.read(self.keyring) {
                if body.origin() != head.origin() {
                    return Err(RestoreError::OtherStore);
                }
                t = t.max(body.high_water);
                over = Some((Over::of(replaced)?, body.high_water));
            }
        }
        let id = StoreId::new(t, crypto::random_bytes().map_err(ManageError::from)?);
        let mut changeset = Changeset::restoring(self.keyring, id, beyond);
        let subject = format!("back to audit entry {}", head.audit.seq);
        changeset.record(Event::of_subject(t, EventKind::StoreRestored, self.context, &subject));
        if let Some((_, mark)) = &over {
            changeset.advance_clock(*mark);
        }
        commit(&records, &changeset)?;
        let carried_over = over.map(|(over, _)| over.carry(&records, self.context, t)).transpose()?;
        let check = check(&records, None)?;
        store.close().map_err(BackupError::from)?;
        Ok(RestoreReport { back_to: head.audit, carried_over, check })
    }
}

/// A store whose head was edited may be replaced by its backup; one under another master key is not ours to replace.
fn check_keyring_of_replaced(records: &Records) -> Result<(), OpenError> {
    match check_keyring(records) {
        Err(OpenError::Read(ReadError::HeadTampered)) => Ok(()),
        checked => checked,
    }
}

fn commit(records: &Records, changeset: &Changeset) -> Result<(), RestoreError> {
    match records.store.commit(changeset) {
        Ok(_) => Ok(()),
        Err(CommitError::Seal(error)) => Err(ReadError::from(error).into()),
        // Nobody else knows the copy, so that there is nobody to be in conflict with.
        Err(CommitError::Conflict { .. }) => Err(BackupError::from(StoreErrorKind::Other).into()),
        Err(CommitError::NotWritten(error) | CommitError::Unknown(error)) => {
            Err(BackupError::Store(error).into())
        }
    }
}

/// What a store says is over: its rows, and its audit log for what has no row any more.
#[derive(Default)]
struct Over {
    keys: BTreeSet<KeyId>,
    versions: BTreeMap<KeyId, BTreeMap<VersionNo, bool>>,
    owners: BTreeMap<OwnerId, bool>,
}

impl Over {
    fn of(records: &Records) -> Result<Self, ManageError> {
        let mut over = Self::default();
        // As far as the log is sound: what lies beyond its first break is not told.
        verify(records, None, |_, event| over.hear(event))?;
        let keyring = &records.keyring;
        let scan = |kind, over: &mut Self| {
            records.store.scan(kind, RowFilter::All { after: None }, &mut |row| {
                match kind {
                    RowKind::Key => {
                        let key = read::<KeyRecord>(&row, keyring).ok().map(|key| key.record);
                        over.keys.extend(key.filter(|key| key.revoked_at.is_some()).map(|key| key.id));
                    }
                    RowKind::Version => {
                        let version = read::<VersionRecord>(&row, keyring).ok().map(|version| version.record);
                        if let Some(version) = version.filter(VersionRecord::is_revoked) {
                            over.revoked(version.key, version.number, version.compromised);
                        }
                    }
                    _ => {
                        if let Ok(owner) = read::<OwnerRecord>(&row, keyring) {
                            over.owners.insert(owner.record.id, owner.record.suspended);
                        }
                    }
                }
                ControlFlow::Continue(())
            })
        };
        for kind in [RowKind::Key, RowKind::Version, RowKind::Owner] {
            scan(kind, &mut over)?;
        }
        Ok(over)
    }

    fn hear(&mut self, event: &Event) {
        match (event.kind, event.key, event.version, event.owner) {
            (EventKind::KeyRevoked | EventKind::KeyPurged, Some(key), ..) => {
                self.keys.insert(key);
            }
            (EventKind::VersionEnded, Some(key), Some(version), _)
                if event.end_reason == Some(EndReason::Revoked) =>
            {
                self.revoked(key, version, false);
            }
            (EventKind::VersionCompromised, Some(key), Some(version), _) => {
                self.versions
                    .entry(key)
                    .or_default()
                    .entry(version)
                    .and_modify(|compromised| *compromised = true);
            }
            (EventKind::OwnerSuspended, _, _, Some(owner)) => {
                self.owners.insert(owner, true);
            }
            (EventKind::OwnerResumed, _, _, Some(owner)) => {
                self.owners.insert(owner, false);
            }
            _ => {}
        }
    }

    fn revoked(&mut self, key: KeyId, version: VersionNo, compromised: bool) {
        *self.versions.entry(key).or_default().entry(version).or_default() |= compromised;
    }

    /// Makes it so in a restored store, where it is not.
    fn carry(
        mut self,
        records: &Records,
        context: &Context,
        t: Timestamp,
    ) -> Result<CarriedOver, RestoreError> {
        let mut carried = CarriedOver::default();
        for key in &self.keys {
            self.versions.entry(*key).or_default();
        }
        let families: Vec<_> = self.versions.iter().collect();
        for batch in families.chunks(BATCH) {
            let mut changeset = Changeset::new(&records.keyring);
            for (key, versions) in batch {
                self.end(records, **key, versions, (context, t), &mut changeset, &mut carried)?;
            }
            if !changeset.is_empty() {
                commit(records, &changeset)?;
            }
        }
        let mut changeset = Changeset::new(&records.keyring);
        for owner in self.owners.iter().filter(|(_, suspended)| **suspended).map(|(owner, _)| *owner) {
            let Some(stored) = records.get::<OwnerRecord>(owner.as_str())? else { continue };
            if !stored.record.suspended {
                let record = OwnerRecord { suspended: true, ..stored.record };
                changeset.replace(record.draft(), stored.revision);
                changeset.record(Event::of_owner(t, EventKind::OwnerSuspended, context, owner));
                carried.owners += 1;
            }
        }
        if !changeset.is_empty() {
            commit(records, &changeset)?;
        }
        Ok(carried)
    }

    fn end(
        &self,
        records: &Records,
        key: KeyId,
        versions: &BTreeMap<VersionNo, bool>,
        (context, t): (&Context, Timestamp),
        changeset: &mut Changeset,
        carried: &mut CarriedOver,
    ) -> Result<(), RestoreError> {
        // Edited rows deny as they are, and the check names them.
        let Some(before) = records.sound_family(key).or_else(unless_edited)? else { return Ok(()) };
        let mut after = before.family.clone();
        let mut transitions = Vec::new();
        let whole = self.keys.contains(&key);
        for (version, compromised) in versions {
            // A version that the backup does not know cannot come back.
            transitions
                .extend(lifecycle::revoke_version(&mut after, *version, *compromised, t).unwrap_or_default());
        }
        if whole {
            transitions.extend(lifecycle::revoke_key(&mut after, false, t));
        }
        if transitions.is_empty() {
            return Ok(());
        }
        carried.keys += usize::from(whole);
        carried.versions += if whole { 0 } else { versions.len() };
        before.write(&after, changeset);
        transitions.iter().for_each(|step| changeset.record(Event::of_key(t, step, &after, context)));
        for copy in records.scan::<SealedCopy>(RowFilter::Parent(&key.to_string()), usize::MAX)? {
            let Some(copy) = copy.map(Some).or_else(unless_edited)? else { continue };
            if whole || versions.contains_key(&copy.record.version) {
                changeset.delete(SealedCopy::KIND, copy.record.row_id(), copy.revision);
            }
        }
        Ok(())
    }
}

fn unless_edited<T>(error: ReadError) -> Result<Option<T>, ReadError> {
    match error {
        ReadError::Tampered { .. } => Ok(None),
        error => Err(error),
    }
}

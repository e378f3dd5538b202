//! Revoking and suspending: the acts that deny, at once and in every process.

use serde::Serialize;

use crate::error::{ManageError, ReadError};
use crate::event::{Event, EventKind};
use crate::id::{KeyId, OwnerId, VersionNo};
use crate::lifecycle;
use crate::manager::act::{Act, Attempt, Urgency};
use crate::owner::OwnerRecord;
use crate::records::{Record, Stored};
use crate::request::Operation;
use crate::seal::SealedCopy;
use crate::store::{RowFilter, RowKind};
use crate::validate::Mark;

/// What to revoke: a whole key, one version of it, or all keys of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum RevokeTarget {
    /// A key with all its versions.
    Key(KeyId),
    /// One version of a key, ended or not.
    Version(KeyId, VersionNo),
    /// All keys that the owner holds now.
    OwnersKeys(OwnerId),
}

impl From<KeyId> for RevokeTarget {
    fn from(key: KeyId) -> Self {
        Self::Key(key)
    }
}

impl From<(KeyId, VersionNo)> for RevokeTarget {
    fn from((key, version): (KeyId, VersionNo)) -> Self {
        Self::Version(key, version)
    }
}

impl From<OwnerId> for RevokeTarget {
    fn from(owner: OwnerId) -> Self {
        Self::OwnersKeys(owner)
    }
}

impl From<RevokeTarget> for Mark {
    fn from(target: RevokeTarget) -> Self {
        match target {
            RevokeTarget::Key(key) => Self::Key(key),
            RevokeTarget::Version(key, version) => Self::Version(key, version),
            RevokeTarget::OwnersKeys(owner) => Self::OwnersKeys(owner),
        }
    }
}

/// Whether after this error the thing may or may not be denied in the store.
fn leaves_open(error: &ManageError) -> bool {
    use ManageError::{Busy, NotWritten, OutcomeUnknown, Read};
    matches!(error, OutcomeUnknown { .. } | NotWritten(_) | Busy | Read(_))
}

impl Act<'_> {
    /// Revokes a key, one version of it, or all keys of an owner. Immediate and final: every validation that begins
    /// after this returned denies, in every process on the same store. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`ManageError`]. When the store failed, this process denies all the same until a repetition succeeds; other
    /// processes do not know of it yet.
    pub fn revoke(self, target: impl Into<RevokeTarget>) -> Result<(), ManageError> {
        let target = target.into();
        self.deny(target.into(), &Operation::new("revoke", &target), |attempt| match target {
            RevokeTarget::Key(key) => revoke_key(attempt, key),
            RevokeTarget::Version(key, version) => revoke_version(attempt, key, version),
            RevokeTarget::OwnersKeys(owner) => revoke_owners_keys(attempt, owner),
        })
    }

    /// Keeps all keys of an owner from validating until it is resumed. No key is lost by it, but deadlines go on.
    /// An owner without keys can be suspended too. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`ManageError`]. When the store failed, this process denies all the same until a repetition, or
    /// [`Act::resume`], succeeds.
    pub fn suspend(self, owner: OwnerId) -> Result<(), ManageError> {
        self.deny(Mark::Suspended(owner), &Operation::new("suspend", &owner), |attempt| {
            set_suspended(attempt, owner, true)
        })
    }

    /// Lets the keys of a suspended owner validate again, within their windows. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`ManageError`]: among others when there is no such owner.
    pub fn resume(self, owner: OwnerId) -> Result<(), ManageError> {
        let marks = self.keys.inner.marks.clone();
        self.perform(
            &Operation::new("resume", &owner),
            Urgency::Ordinary,
            |attempt| set_suspended(attempt, owner, false),
            |_, _, _| Ok(()),
        )?;
        marks.lift(Mark::Suspended(owner));
        Ok(())
    }

    fn deny(
        self,
        mark: Mark,
        operation: &Operation,
        decide: impl FnMut(&mut Attempt<'_>) -> Result<(), ManageError>,
    ) -> Result<(), ManageError> {
        let marks = self.keys.inner.marks.clone();
        let outcome = self.perform(operation, Urgency::Emergency, decide, |_, _, _| Ok(()));
        match &outcome {
            Ok(()) => marks.lift(mark),
            Err(error) if leaves_open(error) => marks.set(mark),
            Err(_) => {}
        }
        outcome
    }
}

fn revoke_version(attempt: &mut Attempt<'_>, key: KeyId, number: VersionNo) -> Result<(), ManageError> {
    let before = attempt.records.sound_family(key)?.ok_or(ManageError::UnknownKey(key))?;
    let mut family = attempt.settled(&before);
    let transitions = lifecycle::revoke_version(&mut family, number, attempt.t)?;
    attempt.concerns(key, Some(number));
    if family != before.family {
        before.write(&family, &mut attempt.changeset);
        attempt.record(&transitions, &family);
        delete_sealed_copies(attempt, key, |copy| copy.version == number)?;
    }
    Ok(())
}

fn revoke_key(attempt: &mut Attempt<'_>, key: KeyId) -> Result<(), ManageError> {
    let before = attempt.records.sound_family(key)?.ok_or(ManageError::UnknownKey(key))?;
    let mut family = attempt.settled(&before);
    let transitions = lifecycle::revoke_key(&mut family, attempt.t);
    attempt.concerns(key, None);
    if family != before.family {
        before.write(&family, &mut attempt.changeset);
        attempt.record(&transitions, &family);
        delete_sealed_copies(attempt, key, |_| true)?;
    }
    Ok(())
}

fn revoke_owners_keys(attempt: &mut Attempt<'_>, owner: OwnerId) -> Result<(), ManageError> {
    // A key that is issued meanwhile replaces the owner's row, and this attempt is decided again.
    let stored =
        attempt.records.get::<OwnerRecord>(owner.as_str())?.ok_or(ManageError::UnknownOwner(owner))?;
    let filter = RowFilter::Owner { owner: owner.as_str(), after: None };
    let keys = attempt.records.scan::<crate::key::KeyRecord>(filter, usize::MAX)?;
    for key in keys {
        match key {
            Ok(Stored { record, .. }) if record.revoked_at.is_none() => revoke_key(attempt, record.id)?,
            // An edited key does not validate, and must not keep the others from being revoked.
            Ok(_) | Err(ReadError::Tampered { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if !attempt.changeset.is_empty() {
        attempt.changeset.expect(RowKind::Owner, owner, Some(stored.revision));
    }
    Ok(())
}

fn delete_sealed_copies(
    attempt: &mut Attempt<'_>,
    key: KeyId,
    concerns: impl Fn(&SealedCopy) -> bool,
) -> Result<(), ManageError> {
    let parent = key.to_string();
    for copy in attempt.records.scan::<SealedCopy>(RowFilter::Parent(&parent), usize::MAX)? {
        match copy {
            Ok(copy) if concerns(&copy.record) => {
                attempt.changeset.delete(SealedCopy::KIND, copy.record.row_id(), copy.revision);
            }
            Ok(_) | Err(ReadError::Tampered { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn set_suspended(attempt: &mut Attempt<'_>, owner: OwnerId, suspended: bool) -> Result<(), ManageError> {
    let kind = if suspended { EventKind::OwnerSuspended } else { EventKind::OwnerResumed };
    match attempt.records.get::<OwnerRecord>(owner.as_str())? {
        Some(stored) if stored.record.suspended == suspended => return Ok(()),
        Some(stored) => {
            let record = OwnerRecord { suspended, ..stored.record };
            attempt.changeset.replace(record.draft(), stored.revision);
        }
        None if suspended => {
            let record = OwnerRecord { suspended, ..OwnerRecord::new(owner) };
            super::issue::add_owner(attempt, record)?;
        }
        None => return Err(ManageError::UnknownOwner(owner)),
    }
    attempt.changeset.record(Event::of_owner(attempt.t, kind, attempt.context, owner));
    Ok(())
}

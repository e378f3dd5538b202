//! Revoking and suspending: the acts that deny, at once and in every process.

use serde::Serialize;

use crate::error::{ManageError, ReadError};
use crate::event::{Event, EventKind};
use crate::id::{KeyId, OwnerId, VersionNo};
use crate::lifecycle::{self, Family};
use crate::manager::act::{Act, Attempt, Urgency};
use crate::owner::OwnerRecord;
use crate::records::{Record, Records, Stored};
use crate::request::{Operation, RequestRecord};
use crate::seal::SealedCopy;
use crate::store::{RowFilter, RowKind};
use crate::time::Timestamp;
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

/// How to revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[must_use]
pub struct Revoke {
    target: RevokeTarget,
    compromised: bool,
}

impl Revoke {
    /// Revokes this.
    pub fn of(target: impl Into<RevokeTarget>) -> Self {
        Self { target: target.into(), compromised: false }
    }

    /// Also records that the secrets are known to be in wrong hands.
    pub fn compromised(mut self) -> Self {
        self.compromised = true;
        self
    }
}

impl<T: Into<RevokeTarget>> From<T> for Revoke {
    fn from(target: T) -> Self {
        Self::of(target)
    }
}

/// Whether after this error the thing may or may not be denied in the store.
fn leaves_open(error: &ManageError) -> bool {
    use ManageError::{Busy, NotWritten, OutcomeUnknown, Read};
    matches!(error, OutcomeUnknown { .. } | NotWritten(_) | Busy | Read(_))
}

impl Act<'_> {
    /// Revokes a key, one version of it, or all keys of an owner. Immediate and final: every validation that begins
    /// after this returned denies, in every process on the same store. Repeating it changes nothing. Pass what to revoke,
    /// or [`Revoke`] for its options.
    ///
    /// # Errors
    /// [`ManageError`]. When the store failed, this process denies all the same until a repetition succeeds; other
    /// processes do not know of it yet.
    pub fn revoke(self, how: impl Into<Revoke>) -> Result<(), ManageError> {
        let how = how.into();
        let Revoke { target, compromised } = how;
        let marks = self.keys.inner.marks.clone();
        let edited = self.deny(
            target.into(),
            &Operation::new("revoke", &how),
            |attempt| match target {
                RevokeTarget::Key(key) => revoke_key(attempt, key, compromised).map(|()| None),
                RevokeTarget::Version(key, version) => {
                    revoke_version(attempt, key, version, compromised).map(|()| None)
                }
                RevokeTarget::OwnersKeys(owner) => {
                    revoke_owners_keys(attempt, owner, compromised)?;
                    edited_key(attempt.records, owner)
                }
            },
            |records, _, _| match target {
                RevokeTarget::OwnersKeys(owner) => edited_key(records, owner),
                _ => Ok(None),
            },
        )?;
        match edited {
            None => Ok(()),
            // What cannot be read cannot be revoked: it does not validate as it is, but it could be put back.
            Some(error) => {
                marks.set(target.into());
                Err(error.into())
            }
        }
    }

    /// Keeps all keys of an owner from validating until it is resumed. No key is lost by it, but deadlines go on.
    /// An owner without keys can be suspended too. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`ManageError`]. When the store failed, this process denies all the same until a repetition, or
    /// [`Act::resume`], succeeds.
    pub fn suspend(self, owner: OwnerId) -> Result<(), ManageError> {
        let decide = |attempt: &mut Attempt<'_>| set_suspended(attempt, owner, true);
        self.deny(Mark::Suspended(owner), &Operation::new("suspend", &owner), decide, |_, _, _| Ok(()))
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

    pub(crate) fn deny<T>(
        self,
        mark: Mark,
        operation: &Operation,
        decide: impl FnMut(&mut Attempt<'_>) -> Result<T, ManageError>,
        repeat: impl Fn(&Records, &RequestRecord, Timestamp) -> Result<T, ManageError>,
    ) -> Result<T, ManageError> {
        let marks = self.keys.inner.marks.clone();
        let outcome = self.perform(operation, Urgency::Emergency, decide, repeat);
        match &outcome {
            // Done once is done, whether or not its answer can still be shown.
            Ok(_) | Err(ManageError::AlreadyDone { .. }) => marks.lift(mark),
            Err(error) if leaves_open(error) => marks.set(mark),
            // The key's state was read and decided on: an earlier replacement is no longer in doubt.
            Err(ManageError::Lifecycle(_) | ManageError::NothingToReplace(_))
                if matches!(mark, Mark::Replaced(_)) =>
            {
                marks.lift(mark);
            }
            Err(_) => {}
        }
        outcome
    }
}

pub(crate) fn revoke_version(
    attempt: &mut Attempt<'_>,
    key: KeyId,
    number: VersionNo,
    compromised: bool,
) -> Result<(), ManageError> {
    let before = attempt.records.sound_family(key)?.ok_or(ManageError::UnknownKey(key))?;
    let mut family = attempt.settled_by_sound_clock(&before);
    let transitions = lifecycle::revoke_version(&mut family, number, compromised, attempt.t)?;
    attempt.concerns(key, Some(number));
    if family != before.family {
        before.write(&family, &mut attempt.changeset);
        attempt.record(&transitions, &family);
        // A successor that waited may go along.
        delete_sealed_of_ended(attempt, &family)?;
    }
    Ok(())
}

fn revoke_key(attempt: &mut Attempt<'_>, key: KeyId, compromised: bool) -> Result<(), ManageError> {
    let before = attempt.records.sound_family(key)?.ok_or(ManageError::UnknownKey(key))?;
    let mut family = attempt.settled_by_sound_clock(&before);
    let transitions = lifecycle::revoke_key(&mut family, compromised, attempt.t);
    attempt.concerns(key, None);
    if family != before.family {
        before.write(&family, &mut attempt.changeset);
        attempt.record(&transitions, &family);
        delete_sealed_copies(attempt, key, |_| true)?;
    }
    Ok(())
}

fn revoke_owners_keys(
    attempt: &mut Attempt<'_>,
    owner: OwnerId,
    compromised: bool,
) -> Result<(), ManageError> {
    // A key that is issued meanwhile replaces the owner's row, and this attempt is decided again.
    let stored =
        attempt.records.get::<OwnerRecord>(owner.as_str())?.ok_or(ManageError::UnknownOwner(owner))?;
    let filter = RowFilter::Owner { owner: owner.as_str(), after: None };
    let keys = attempt.records.scan::<crate::key::KeyRecord>(filter, usize::MAX)?;
    for key in keys {
        match key {
            Ok(Stored { record, .. }) if compromised || record.revoked_at.is_none() => {
                revoke_key(attempt, record.id, compromised)?;
            }
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

/// The first key of an owner that was edited, if one was.
fn edited_key(records: &Records, owner: OwnerId) -> Result<Option<ReadError>, ManageError> {
    let filter = RowFilter::Owner { owner: owner.as_str(), after: None };
    let keys = records.scan::<crate::key::KeyRecord>(filter, usize::MAX)?;
    Ok(keys.into_iter().find_map(Result::err))
}

/// Removes the sealed copies of versions that have ended.
pub(crate) fn delete_sealed_of_ended(attempt: &mut Attempt<'_>, family: &Family) -> Result<(), ManageError> {
    delete_sealed_copies(attempt, family.key.id, |copy| {
        let version = family.version(copy.version);
        version.is_none_or(|version| version.is_ended() && copy.goes_with(version.end_reason))
    })
}

pub(crate) fn delete_sealed_copies(
    attempt: &mut Attempt<'_>,
    key: KeyId,
    concerns: impl Fn(&SealedCopy) -> bool,
) -> Result<(), ManageError> {
    Ok(attempt.records.delete_sealed(&mut attempt.changeset, key, concerns)?)
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

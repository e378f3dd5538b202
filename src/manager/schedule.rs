//! Rotations that begin by themselves: scheduled for a time, withdrawn, and switched on and off.

use serde::Serialize;

use crate::due;
use crate::error::{ManageError, ReadError};
use crate::event::{Event, EventKind};
use crate::id::{KeyId, OwnerId, RotationId};
use crate::lifecycle::{self, RotationOrder};
use crate::manager::act::{Act, Attempt, Urgency};
use crate::manager::issue::add_owner;
use crate::manager::revoke::delete_sealed_of_ended;
use crate::manager::rotate::enabled_owner;
use crate::owner::OwnerRecord;
use crate::policy::{DeploymentSettings, SweepRecord};
use crate::records::{Record as _, Records};
use crate::request::Operation;
use crate::rotation::RotationRecord;
use crate::store::RowFilter;
use crate::time::Timestamp;

/// Whose automatic rotation to switch. What is said of a key goes before what is said of its owner, and that before what
/// is said of the deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum AutoRotation {
    /// That of one key.
    Key(KeyId),
    /// That of an owner's keys.
    Owner(OwnerId),
    /// That of all keys.
    Deployment,
}

impl From<KeyId> for AutoRotation {
    fn from(key: KeyId) -> Self {
        Self::Key(key)
    }
}

impl From<OwnerId> for AutoRotation {
    fn from(owner: OwnerId) -> Self {
        Self::Owner(owner)
    }
}

impl Act<'_> {
    /// Has a key rotate at a time, or earlier where it rotates by itself before; a tick begins it then. Without another
    /// reason it is a "Scheduled rotation".
    ///
    /// # Errors
    /// [`ManageError`]: among others when a rotation is open, and [`LifecycleError`](crate::LifecycleError)
    /// `ScheduledTooLate` for a time that is past, or at which the version in use has ended.
    pub fn schedule(self, key: KeyId, at: Timestamp) -> Result<RotationRecord, ManageError> {
        self.perform(
            &Operation::new("schedule", &(key, at)),
            Urgency::Ordinary,
            |attempt| schedule(attempt, key, at),
            |records, _, _| open_rotation(records, key),
        )
    }

    /// Withdraws a rotation whose successor is not active yet, and the successor with it, also where it was handed over
    /// and waits for its first use. An automatic rotation is not begun anew for a while: for half of what is left of the
    /// version in use, at most for a week.
    ///
    /// # Errors
    /// [`ManageError`]: among others [`LifecycleError`](crate::LifecycleError) `NothingToCancel`.
    pub fn cancel(self, key: KeyId) -> Result<(), ManageError> {
        self.perform(
            &Operation::new("cancel", &key),
            Urgency::Ordinary,
            |attempt| {
                let before = attempt.records.family(key)?.ok_or(ManageError::UnknownKey(key))?;
                enabled_owner(attempt, &before.family.key)?;
                let mut family = attempt.settled(&before);
                let transitions = lifecycle::cancel(&mut family, attempt.t)?;
                before.write(&family, &mut attempt.changeset);
                attempt.record(&transitions, &family);
                attempt.concerns(key, None);
                delete_sealed_of_ended(attempt, &family)
            },
            |_, _, _| Ok(()),
        )
    }

    /// Says whether keys rotate by themselves: one key, an owner's keys, or all. `None` leaves it to what is said of the
    /// owner, and of the deployment, where it means no. Keys that have ended are not brought back by it.
    ///
    /// For all keys of a deployment, ticks carry it on; for the others it holds at once.
    ///
    /// # Errors
    /// [`ManageError`].
    pub fn set_auto_rotation(
        self,
        whose: impl Into<AutoRotation>,
        on: Option<bool>,
    ) -> Result<(), ManageError> {
        let whose = whose.into();
        self.perform(
            &Operation::new("set_auto_rotation", &(whose, on)),
            Urgency::Ordinary,
            |attempt| match whose {
                AutoRotation::Key(key) => switch_key(attempt, key, on),
                AutoRotation::Owner(owner) => switch_owner(attempt, owner, on),
                AutoRotation::Deployment => switch_deployment(attempt, on.unwrap_or(false)),
            },
            |_, _, _| Ok(()),
        )
    }

    /// Switches the management of keys. While it is off, keys are validated, revoked, replaced, suspended and claimed,
    /// and what is due is done; every other act is refused.
    ///
    /// # Errors
    /// [`ManageError`].
    pub fn set_management(self, enabled: bool) -> Result<(), ManageError> {
        self.perform(
            &Operation::new("set_management", &enabled),
            Urgency::Always,
            |attempt| {
                let change = |settings| DeploymentSettings { management_enabled: enabled, ..settings };
                if set_settings(attempt, change)? {
                    let event = Event::of_subject(
                        attempt.t,
                        EventKind::ManagementSet,
                        attempt.context,
                        word(Some(enabled)),
                    );
                    attempt.changeset.record(event);
                }
                Ok(())
            },
            |_, _, _| Ok(()),
        )
    }
}

fn word(on: Option<bool>) -> &'static str {
    match on {
        Some(true) => "on",
        Some(false) => "off",
        None => "inherited",
    }
}

fn schedule(attempt: &mut Attempt<'_>, key: KeyId, at: Timestamp) -> Result<RotationRecord, ManageError> {
    let before = attempt.records.family(key)?.ok_or(ManageError::UnknownKey(key))?;
    enabled_owner(attempt, &before.family.key)?;
    let mut family = attempt.settled(&before);
    let reason = attempt.context.reason.clone().or(Some(RotationRecord::SCHEDULED.to_owned()));
    let order = RotationOrder {
        id: RotationId::new(attempt.t, crate::crypto::random_bytes()?),
        actor: attempt.context.actor.clone(),
        reason,
        supersede: false,
    };
    let transitions = lifecycle::schedule(&mut family, order, at, attempt.t)?;
    before.write(&family, &mut attempt.changeset);
    attempt.record(&transitions, &family);
    attempt.concerns(key, None);
    family.open_rotation().cloned().ok_or(ManageError::Busy)
}

fn open_rotation(records: &Records, key: KeyId) -> Result<RotationRecord, ManageError> {
    let family = records.family(key)?.ok_or(ManageError::UnknownKey(key))?.family;
    let mut all =
        records.scan::<RotationRecord>(RowFilter::Parent(&family.key.id.to_string()), usize::MAX)?;
    let last = all.pop().ok_or(ManageError::UnknownKey(key))?;
    Ok(family.open_rotation().cloned().map_or_else(|| last.map(|last| last.record), Ok)?)
}

fn told(attempt: &mut Attempt<'_>, on: Option<bool>, key: Option<KeyId>, owner: Option<OwnerId>) {
    let event = Event::of_subject(attempt.t, EventKind::AutoRotationSet, attempt.context, word(on));
    attempt.changeset.record(Event { key, owner, ..event });
}

fn switch_key(attempt: &mut Attempt<'_>, key: KeyId, on: Option<bool>) -> Result<(), ManageError> {
    let before = attempt.records.family(key)?.ok_or(ManageError::UnknownKey(key))?;
    if before.family.key.revoked_at.is_some() {
        return Err(lifecycle::LifecycleError::KeyRevoked.into());
    }
    let owner = attempt.records.get::<OwnerRecord>(before.family.key.owner.as_str())?;
    let mut wanted = before.family.key.clone();
    wanted.auto_rotation = on;
    let rotates = due::rotates(&wanted, owner.map(|owner| owner.record).as_ref(), &attempt.settings()?);
    if (on, rotates) == (before.family.key.auto_rotation, before.family.key.rotates) {
        return Ok(());
    }
    let mut family = attempt.settled(&before);
    family.key.auto_rotation = on;
    due::switch(&mut family, rotates, attempt.t);
    before.write(&family, &mut attempt.changeset);
    told(attempt, on, Some(key), Some(family.key.owner));
    attempt.concerns(key, None);
    Ok(())
}

fn switch_owner(attempt: &mut Attempt<'_>, owner: OwnerId, on: Option<bool>) -> Result<(), ManageError> {
    let record = match attempt.records.get::<OwnerRecord>(owner.as_str())? {
        Some(stored) if stored.record.auto_rotation == on => return Ok(()),
        Some(stored) => {
            let record = OwnerRecord { auto_rotation: on, ..stored.record };
            attempt.changeset.replace(record.draft(), stored.revision);
            record
        }
        None => {
            let record = OwnerRecord { auto_rotation: on, ..OwnerRecord::new(owner) };
            add_owner(attempt, record.clone())?;
            record
        }
    };
    let settings = attempt.settings()?;
    let filter = RowFilter::Owner { owner: owner.as_str(), after: None };
    for key in attempt.records.scan::<crate::key::KeyRecord>(filter, usize::MAX)? {
        let key = match key {
            Ok(key) => key.record,
            // An edited key does not validate, and rotates no more.
            Err(ReadError::Tampered { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let rotates = due::rotates(&key, Some(&record), &settings);
        if rotates == key.rotates || key.revoked_at.is_some() {
            continue;
        }
        let Some(before) = attempt.records.family(key.id)? else { continue };
        let mut family = before.family.clone();
        due::switch(&mut family, rotates, attempt.t);
        before.write(&family, &mut attempt.changeset);
    }
    told(attempt, on, None, Some(owner));
    Ok(())
}

fn switch_deployment(attempt: &mut Attempt<'_>, on: bool) -> Result<(), ManageError> {
    if !set_settings(attempt, |settings| DeploymentSettings { auto_rotation: on, ..settings })? {
        return Ok(());
    }
    let sweep = SweepRecord { since: attempt.t, after: None };
    match attempt.records.get::<SweepRecord>(SweepRecord::ROW_ID)? {
        Some(stored) => attempt.changeset.replace(sweep.draft(), stored.revision),
        None => attempt.changeset.insert(sweep.draft()),
    }
    told(attempt, Some(on), None, None);
    Ok(())
}

/// Changes the deployment's settings; says whether they differ.
fn set_settings(
    attempt: &mut Attempt<'_>,
    change: impl Fn(DeploymentSettings) -> DeploymentSettings,
) -> Result<bool, ManageError> {
    let stored = attempt.records.get::<DeploymentSettings>(DeploymentSettings::ROW_ID)?;
    let record = change(stored.as_ref().map(|stored| stored.record).unwrap_or_default());
    Ok(super::settings::put(attempt, &record, stored))
}

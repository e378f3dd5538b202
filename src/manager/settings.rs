//! Settings that live in the store, so that processes with other constants do not fight over them: roles, owners'
//! limits and ceilings, the deployment's policy, and the clock's confirmation.

use crate::error::ManageError;
use crate::event::{Event, EventKind};
use crate::id::{OwnerId, RoleName};
use crate::manager::act::{Act, Attempt, Urgency};
use crate::owner::{OwnerRecord, RoleRecord};
use crate::policy::{DeploymentSettings, OwnerLimit, RotationPolicy};
use crate::records::{Record, Stored};
use crate::request::Operation;
use crate::scope::ScopeSet;
use crate::time::Timestamp;

impl Act<'_> {
    /// Sets the scopes of a role, for all keys that have it, at once. Keeps every grant of it within each owner's
    /// ceiling.
    ///
    /// # Errors
    /// [`ManageError`].
    pub fn set_role(self, name: RoleName, scopes: ScopeSet) -> Result<(), ManageError> {
        let record = RoleRecord { name, scopes };
        self.perform(
            &Operation::new("set_role", &record),
            Urgency::Ordinary,
            |attempt| {
                let stored = attempt.records.get::<RoleRecord>(record.name.as_str())?;
                if put(attempt, &record, stored) {
                    let name = record.name.as_str();
                    attempt.changeset.record(Event::of_subject(
                        attempt.t,
                        EventKind::RoleSet,
                        attempt.context,
                        name,
                    ));
                }
                Ok(())
            },
            |_, _, _| Ok(()),
        )
    }

    /// Sets the policy of all keys without one of their own. Versions keep the dates that they were issued with.
    ///
    /// # Errors
    /// [`ManageError`].
    pub fn set_policy(self, policy: RotationPolicy) -> Result<(), ManageError> {
        self.set_settings("policy", &policy, |settings| DeploymentSettings { policy, ..settings })
    }

    /// Sets how many keys an owner without a limit of its own may hold. Keys above a lowered limit stay.
    ///
    /// # Errors
    /// [`ManageError`].
    pub fn set_default_owner_limit(self, owner_limit: OwnerLimit) -> Result<(), ManageError> {
        self.set_settings("owner_limit", &owner_limit, |settings| DeploymentSettings {
            owner_limit,
            ..settings
        })
    }

    /// Sets how many keys this owner may hold; `None` is the deployment's limit. Keys above a lowered limit stay.
    ///
    /// # Errors
    /// [`ManageError`].
    pub fn set_owner_limit(self, owner: OwnerId, limit: Option<OwnerLimit>) -> Result<(), ManageError> {
        self.set_owner("set_owner_limit", owner, &(owner, limit), |record| OwnerRecord { limit, ..record })
    }

    /// Sets the scopes beyond which none of this owner's keys goes; `None` is no ceiling.
    ///
    /// # Errors
    /// [`ManageError`].
    pub fn set_owner_ceiling(self, owner: OwnerId, ceiling: Option<ScopeSet>) -> Result<(), ManageError> {
        let arguments = (owner, ceiling.clone());
        self.set_owner("set_owner_ceiling", owner, &arguments, |record| OwnerRecord {
            ceiling: ceiling.clone(),
            ..record
        })
    }

    /// Confirms that the clock rightly jumped to `now`: ticks act on it again. `now` must lie after the high-water
    /// mark and not after what the clock shows.
    ///
    /// # Errors
    /// [`ManageError::NothingToConfirm`] and others.
    pub fn confirm_clock(self, now: Timestamp) -> Result<(), ManageError> {
        self.perform(
            &Operation::new("confirm_clock", &now),
            Urgency::Always,
            |attempt| {
                let (mark, clock) = (attempt.records.head()?.high_water, attempt.clock);
                if now <= mark || now > clock {
                    return Err(ManageError::NothingToConfirm { mark, clock });
                }
                attempt.changeset.advance_clock(now);
                let event =
                    Event { until: Some(now), ..Event::new(now, EventKind::ClockConfirmed, attempt.context) };
                attempt.changeset.record(event);
                Ok(())
            },
            |_, _, _| Ok(()),
        )
    }

    fn set_settings(
        self,
        subject: &str,
        argument: &impl serde::Serialize,
        change: impl Fn(DeploymentSettings) -> DeploymentSettings,
    ) -> Result<(), ManageError> {
        self.perform(
            &Operation::new(subject, argument),
            Urgency::Ordinary,
            |attempt| {
                let stored = attempt.records.get::<DeploymentSettings>(DeploymentSettings::ROW_ID)?;
                let record = change(stored.as_ref().map(|stored| stored.record).unwrap_or_default());
                if put(attempt, &record, stored) {
                    let event = Event::of_subject(attempt.t, EventKind::PolicySet, attempt.context, subject);
                    attempt.changeset.record(event);
                }
                Ok(())
            },
            |_, _, _| Ok(()),
        )
    }

    fn set_owner(
        self,
        name: &str,
        owner: OwnerId,
        arguments: &impl serde::Serialize,
        change: impl Fn(OwnerRecord) -> OwnerRecord,
    ) -> Result<(), ManageError> {
        self.perform(
            &Operation::new(name, arguments),
            Urgency::Ordinary,
            |attempt| {
                match attempt.records.get::<OwnerRecord>(owner.as_str())? {
                    None => super::issue::add_owner(attempt, change(OwnerRecord::new(owner)))?,
                    Some(stored) => {
                        let record = change(stored.record.clone());
                        if !put(attempt, &record, Some(stored)) {
                            return Ok(());
                        }
                    }
                }
                attempt.changeset.record(Event::of_owner(
                    attempt.t,
                    EventKind::OwnerChanged,
                    attempt.context,
                    owner,
                ));
                Ok(())
            },
            |_, _, _| Ok(()),
        )
    }
}

/// Writes a record where it differs from what is stored; says whether it did.
pub(super) fn put<R: Record + PartialEq>(
    attempt: &mut Attempt<'_>,
    record: &R,
    stored: Option<Stored<R>>,
) -> bool {
    match stored {
        Some(stored) if stored.record == *record => return false,
        Some(stored) => attempt.changeset.replace(record.draft(), stored.revision),
        None => attempt.changeset.insert(record.draft()),
    }
    true
}

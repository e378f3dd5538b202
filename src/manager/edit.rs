//! Editing a key: its name and metadata, and its scopes, role, limits and networks, which only grow narrower unless the
//! act says so.

use serde::Serialize;

use crate::error::ManageError;
use crate::event::{Event, EventKind};
use crate::id::{KeyId, KeyName, RoleName};
use crate::key::{KeyRecord, Metadata};
use crate::lifecycle::LifecycleError;
use crate::limit::Limits;
use crate::manager::act::{Act, Attempt, Urgency};
use crate::manager::rotate::enabled_owner;
use crate::manager::view::{KeyInfo, key_info, look};
use crate::network::Networks;
use crate::owner::RoleRecord;
use crate::policy::RotationPolicy;
use crate::request::Operation;
use crate::scope::ScopeSet;
use crate::text::TextError;

/// What to change of a key. What is not named stays as it is.
#[derive(Clone, Debug, Serialize)]
#[must_use]
pub struct EditKey {
    key: KeyId,
    name: Option<KeyName>,
    metadata: Option<Metadata>,
    scopes: Option<ScopeSet>,
    // These are absent when they are not named: for a request id, that differs from what is taken away.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Option<RoleName>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    networks: Option<Option<Networks>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Option<RotationPolicy>>,
    widen: bool,
}

impl EditKey {
    /// Changes this key.
    pub fn of(key: KeyId) -> Self {
        Self {
            key,
            name: None,
            metadata: None,
            scopes: None,
            role: None,
            limits: None,
            networks: None,
            policy: None,
            widen: false,
        }
    }

    /// Calls it `name`: 1 to 100 bytes of visible text.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn name(mut self, name: impl Into<String>) -> Result<Self, TextError> {
        self.name = Some(KeyName::new(name)?);
        Ok(self)
    }

    /// Keeps this with it instead.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// Gives it these scopes instead.
    pub fn scopes(mut self, scopes: ScopeSet) -> Self {
        self.scopes = Some(scopes);
        self
    }

    /// Gives it this role instead, or none.
    pub fn role(mut self, role: Option<RoleName>) -> Self {
        self.role = Some(role);
        self
    }

    /// Gives it these limits instead; [`Limits::NONE`] takes all away. Narrower are limits of which each one there is
    /// now contains one.
    pub fn limits(mut self, limits: impl Into<Limits>) -> Self {
        self.limits = Some(limits.into());
        self
    }

    /// Gives it these networks instead, or lets it be used from everywhere.
    pub fn networks(mut self, networks: Option<Networks>) -> Self {
        self.networks = Some(networks);
        self
    }

    /// Gives it a complete policy of its own instead, or the deployment's. Versions that there are, and a rotation that is
    /// open, keep the dates that they were told.
    pub fn policy(mut self, policy: Option<RotationPolicy>) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Says that the key may be able to do more afterwards than before; without this such a change is refused.
    pub fn widen(mut self) -> Self {
        self.widen = true;
        self
    }

    fn apply(&self, key: &KeyRecord) -> KeyRecord {
        let mut edited = key.clone();
        edited.name = self.name.clone().unwrap_or(edited.name);
        edited.metadata = self.metadata.clone().unwrap_or(edited.metadata);
        edited.scopes = self.scopes.clone().unwrap_or(edited.scopes);
        edited.role = self.role.clone().unwrap_or(edited.role);
        edited.limits = self.limits.clone().unwrap_or(edited.limits);
        edited.networks = self.networks.clone().unwrap_or(edited.networks);
        edited.policy = self.policy.unwrap_or(edited.policy);
        edited
    }
}

impl Act<'_> {
    /// Changes a key's name, metadata, scopes, role, limits, networks or policy, for all of its versions at once.
    ///
    /// # Errors
    /// [`ManageError`]: among others [`ManageError::WouldWiden`] when the key could do more afterwards and the act
    /// does not say so.
    pub fn edit(self, edit: EditKey) -> Result<KeyInfo, ManageError> {
        let key = edit.key;
        self.perform(
            &Operation::new("edit", &edit),
            Urgency::Ordinary,
            |attempt| apply(attempt, &edit),
            |records, _, t| look(records, key, t),
        )
    }
}

fn apply(attempt: &mut Attempt<'_>, edit: &EditKey) -> Result<KeyInfo, ManageError> {
    let before = attempt.records.family(edit.key)?.ok_or(ManageError::UnknownKey(edit.key))?;
    if before.family.key.revoked_at.is_some() {
        return Err(LifecycleError::KeyRevoked.into());
    }
    let owner = enabled_owner(attempt, &before.family.key)?;
    let edited = edit.apply(&before.family.key);
    if let Some(Some(role)) = &edit.role {
        attempt
            .records
            .get::<RoleRecord>(role.as_str())?
            .ok_or_else(|| ManageError::UnknownRole(role.clone()))?;
    }
    if !edit.widen && !is_within(attempt, &edited, &before.family.key)? {
        return Err(ManageError::WouldWiden(edit.key));
    }
    let fields = changed(&before.family.key, &edited);
    let mut family = before.family.clone();
    if !fields.is_empty() {
        family = attempt.settled_by_sound_clock(&before);
        family.key = edit.apply(&family.key);
        before.write(&family, &mut attempt.changeset);
        let event = Event::of_subject(attempt.t, EventKind::KeyEdited, attempt.context, &fields.join(", "));
        attempt.changeset.record(Event { key: Some(edit.key), owner: Some(family.key.owner), ..event });
    }
    attempt.concerns(edit.key, None);
    Ok(key_info(&family, &owner, attempt.t))
}

/// Whether a key could do nothing that it cannot do before the edit.
fn is_within(attempt: &Attempt<'_>, edited: &KeyRecord, before: &KeyRecord) -> Result<bool, ManageError> {
    let networks = match (&edited.networks, &before.networks) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(networks), Some(bound)) => networks.is_within(bound),
    };
    Ok(networks
        && edited.limits.is_within(&before.limits)
        && reach(attempt, edited)?.is_within(&reach(attempt, before)?))
}

/// All that a key's own scopes and its role allow. A role that is not there adds nothing.
fn reach(attempt: &Attempt<'_>, key: &KeyRecord) -> Result<ScopeSet, ManageError> {
    let role = match &key.role {
        Some(name) => attempt.records.get::<RoleRecord>(name.as_str())?,
        None => None,
    };
    Ok(role.map_or_else(|| key.scopes.clone(), |role| key.scopes.union(&role.record.scopes)))
}

fn changed(before: &KeyRecord, after: &KeyRecord) -> Vec<&'static str> {
    let fields = [
        ("name", before.name != after.name),
        ("metadata", before.metadata != after.metadata),
        ("scopes", before.scopes != after.scopes),
        ("role", before.role != after.role),
        ("limits", before.limits != after.limits),
        ("networks", before.networks != after.networks),
        ("policy", before.policy != after.policy),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

//! Issuing: a key is born with its first version, and its token is shown once.

use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;

use crate::due;
use crate::error::{ManageError, ReadError};
use crate::event::{Event, EventKind};
use crate::id::{KeyId, KeyName, OwnerId, RoleName, VersionNo};
use crate::key::{KeyRecord, Metadata};
use crate::lifecycle::{self, LifecycleError};
use crate::limit::Limits;
use crate::manager::act::{Act, Attempt, Urgency, replayed};
use crate::network::Networks;
use crate::owner::{OwnerRecord, RoleRecord};
use crate::policy::RotationPolicy;
use crate::records::{KeyState, Record, insert_family};
use crate::request::Operation;
use crate::rotate::mint;
use crate::scope::ScopeSet;
use crate::store::{AuditQuery, RowFilter, RowKind};
use crate::text::TextError;
use crate::time::Timestamp;
use crate::token::{Prefix, SecretToken};

/// What a new key is to be. Built step by step, then given to [`Act::issue`].
///
/// Without a window of its own, a version lives as long as the policy says (90 days by default), and rotation
/// gives the next one as much again.
#[derive(Clone, Debug, Serialize)]
#[must_use]
pub struct NewKey {
    owner: OwnerId,
    name: KeyName,
    prefix: Option<Prefix>,
    scopes: ScopeSet,
    role: Option<RoleName>,
    // Absent when empty: a request that was made before there were any is repeated under the same hash.
    #[serde(skip_serializing_if = "Limits::is_empty")]
    limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    networks: Option<Networks>,
    metadata: Metadata,
    policy: Option<RotationPolicy>,
    lifetime: Option<Duration>,
    not_before: Option<Timestamp>,
    hard_end: Option<Timestamp>,
    never_expires: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_rotation: Option<bool>,
}

impl NewKey {
    /// A key of this owner, called `name`: 1 to 100 bytes of visible text.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn new(owner: OwnerId, name: impl Into<String>) -> Result<Self, TextError> {
        Ok(Self {
            owner,
            name: KeyName::new(name)?,
            prefix: None,
            scopes: ScopeSet::EMPTY,
            role: None,
            limits: Limits::NONE,
            networks: None,
            metadata: Metadata::default(),
            policy: None,
            lifetime: None,
            not_before: None,
            hard_end: None,
            never_expires: false,
            auto_rotation: None,
        })
    }

    /// The prefix of its tokens, one of those that the manager was built with. Default: the first of them.
    pub fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = Some(prefix);
        self
    }

    /// What the key may do. Default: nothing, beyond being valid.
    pub fn scopes(mut self, scopes: ScopeSet) -> Self {
        self.scopes = scopes;
        self
    }

    /// A role whose scopes are added to the key's own; it must have been set before.
    pub fn role(mut self, role: RoleName) -> Self {
        self.role = Some(role);
        self
    }

    /// How fast and how often the key may be used: a [`RateLimit`](crate::RateLimit), a [`Quota`](crate::Quota), or
    /// several as [`Limits`]. All versions of the key share them. Default: without limits.
    pub fn limits(mut self, limits: impl Into<Limits>) -> Self {
        self.limits = limits.into();
        self
    }

    /// The networks from which the key may be used. Default: from everywhere.
    pub fn networks(mut self, networks: Networks) -> Self {
        self.networks = Some(networks);
        self
    }

    /// What the host wants to keep with the key. The library never decides by it.
    pub fn metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// A complete policy of its own, in place of the deployment's.
    pub fn policy(mut self, policy: RotationPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Whether the key rotates by itself. Default: as its owner and the deployment say, which is no unless they say so.
    pub fn auto_rotation(mut self, on: bool) -> Self {
        self.auto_rotation = Some(on);
        self
    }

    /// How long each version of this key lives: its policy, or else the deployment's, with another lifetime.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// The key is valid from `from`, and ends for good at `until`, whatever the policy says.
    pub fn window(mut self, from: Timestamp, until: Timestamp) -> Self {
        self.not_before = Some(from);
        self.hard_end = Some(until);
        self
    }

    /// The key is not valid before `from`.
    pub fn not_before(mut self, from: Timestamp) -> Self {
        self.not_before = Some(from);
        self
    }

    /// The key ends for good at `until`, whatever the policy says.
    pub fn until(mut self, until: Timestamp) -> Self {
        self.hard_end = Some(until);
        self
    }

    /// No version of this key expires by itself, unless the key has an end. To be said explicitly, and better not.
    pub fn never_expires(mut self) -> Self {
        self.never_expires = true;
        self
    }
}

/// A key was issued. Its token is here and nowhere else.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IssuedKey {
    /// The key.
    pub key: KeyId,
    /// Its first version.
    pub version: VersionNo,
    /// The token: show it to its owner once.
    pub token: SecretToken,
    /// When the version ends; `None` is never.
    pub valid_until: Option<Timestamp>,
}

impl Act<'_> {
    /// Issues a key. The owner is entered with its first key.
    ///
    /// # Errors
    /// [`ManageError`]: among others when the owner is suspended or holds as many keys as it may, the prefix is not
    /// configured, the role is unknown, or the window is empty.
    pub fn issue(self, new: NewKey) -> Result<IssuedKey, ManageError> {
        let keys = self.keys;
        let prefix = keys.prefix_of(new.prefix)?;
        self.perform(
            &Operation::new("issue", &new),
            Urgency::Ordinary,
            |attempt| issue(attempt, &new, prefix),
            |records, request, t| {
                let (family, version, token) = replayed(records, request, t)?;
                let valid_until = family.version(version).and_then(|version| family.end(version));
                Ok(IssuedKey { key: family.key.id, version, token, valid_until })
            },
        )
    }
}

fn issue(attempt: &mut Attempt<'_>, new: &NewKey, prefix: Prefix) -> Result<IssuedKey, ManageError> {
    let settings = attempt.settings()?;
    claim_place(attempt, new.owner, None)?;
    if let Some(role) = &new.role {
        attempt
            .records
            .get::<RoleRecord>(role.as_str())?
            .ok_or_else(|| ManageError::UnknownRole(role.clone()))?;
    }
    let policy = match new.lifetime {
        Some(lifetime) => {
            Some(new.policy.unwrap_or(settings.policy).to_builder().lifetime(lifetime).build()?)
        }
        None => new.policy,
    };
    let (token, minted) = mint(&attempt.records.keyring, prefix)?;
    let key = KeyRecord {
        id: KeyId::new(attempt.t, crate::crypto::random_bytes()?),
        owner: new.owner,
        name: new.name.clone(),
        prefix,
        scopes: new.scopes.clone(),
        role: new.role.clone(),
        limits: new.limits.clone(),
        networks: new.networks.clone(),
        metadata: new.metadata.clone(),
        policy,
        issued_at: attempt.t,
        never_expires: new.never_expires,
        hard_end: new.hard_end,
        revoked_at: None,
        auto_rotation: new.auto_rotation,
        rotates: false,
        lapsed: false,
        next_attempt_at: None,
        successor_by: None,
        open_rotation: None,
    };
    let policy = policy.unwrap_or(settings.policy);
    let owner = attempt.records.get::<OwnerRecord>(new.owner.as_str())?.map(|owner| owner.record);
    let rotates = due::rotates(&key, owner.as_ref(), &settings);
    let key = KeyRecord { rotates, ..key };
    let (family, transitions) = lifecycle::issue(key, new.not_before, minted, &policy, attempt.t)?;
    insert_family(&family, &mut attempt.changeset);
    attempt.record(&transitions, &family);
    let (key, version) = (family.key.id, VersionNo::FIRST);
    attempt.concerns(key, Some(version));
    attempt.keep_for_replay(&token, key, version)?;
    let valid_until = family.version(version).and_then(|version| family.end(version));
    Ok(IssuedKey { key, version, token, valid_until })
}

/// Takes one of the owner's places for a key that begins to count. The owner's row is replaced, so that of several
/// processes which take the last place at once, one succeeds and the others count again.
///
/// A key that begins to count `again` takes its own place: another process may have given it that place meanwhile, and
/// then it must not be in its own way.
pub(crate) fn claim_place(
    attempt: &mut Attempt<'_>,
    owner: OwnerId,
    again: Option<KeyId>,
) -> Result<(), ManageError> {
    let Some(stored) = attempt.records.get::<OwnerRecord>(owner.as_str())? else {
        return add_owner(attempt, OwnerRecord::new(owner));
    };
    if stored.record.suspended {
        return Err(LifecycleError::OwnerSuspended.into());
    }
    let limit = match stored.record.limit {
        Some(limit) => limit,
        None => attempt.settings()?.owner_limit,
    };
    let mut counted = 0u32;
    let again = again.map(|key| key.to_string());
    let filter = RowFilter::Owner { owner: owner.as_str(), after: None };
    attempt.records.store.scan(RowKind::Key, filter, &mut |row| {
        // An edited row still holds its place: editing must not make room.
        let counts = KeyState::counts(&row.index, attempt.t) || row.verify(&attempt.records.keyring).is_err();
        counted += u32::from(counts && again.as_deref() != Some(row.id));
        if counted >= limit.get() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if counted >= limit.get() {
        return Err(ManageError::OwnerLimitReached { owner, limit });
    }
    attempt.changeset.replace(stored.record.draft(), stored.revision);
    Ok(())
}

/// Enters an owner. One whose row is missing although it has keys, or although the log knows it, was deleted behind the
/// library's back: entering it anew would bring those keys back to life, or end its suspension.
pub(crate) fn add_owner(attempt: &mut Attempt<'_>, record: OwnerRecord) -> Result<(), ManageError> {
    enter_owner(attempt, &record)?;
    attempt.changeset.record(Event::of_owner(attempt.t, EventKind::OwnerAdded, attempt.context, record.id));
    Ok(())
}

/// The same where another entry of the log tells of it.
pub(crate) fn enter_owner(attempt: &mut Attempt<'_>, record: &OwnerRecord) -> Result<(), ManageError> {
    let owner = record.id;
    let mut known = false;
    let filter = RowFilter::Owner { owner: owner.as_str(), after: None };
    attempt.records.store.scan(RowKind::Key, filter, &mut |_| {
        known = true;
        ControlFlow::Break(())
    })?;
    let added = EventKind::OwnerAdded.as_str();
    let entries = AuditQuery { owner: Some(owner.as_str()), kind: Some(added), ..AuditQuery::default() };
    attempt.records.store.audit(&entries, &mut |_| {
        known = true;
        ControlFlow::Break(())
    })?;
    // An owner that is there by now was entered by another process in between: the commit conflicts, and the act is
    // decided again.
    if known && attempt.records.get::<OwnerRecord>(owner.as_str())?.is_none() {
        return Err(ReadError::Tampered { kind: RowKind::Owner, id: owner.into() }.into());
    }
    attempt.changeset.insert(record.draft());
    Ok(())
}

//! Rotating by hand: a new version now, deprecating, and rolling back.

use serde::Serialize;

use crate::error::ManageError;
use crate::id::{KeyId, RotationId, VersionNo};
use crate::key::KeyRecord;
use crate::lifecycle::{self, Family, LifecycleError, RotationOrder, Transition};
use crate::manager::act::{Act, Attempt, Urgency, replayed};
use crate::manager::issue::claim_place;
use crate::manager::revoke::delete_sealed_of_ended;
use crate::manager::view::{KeyInfo, key_info, look};
use crate::owner::OwnerRecord;
use crate::policy::RotationPolicy;
use crate::request::Operation;
use crate::rotate::mint;
use crate::time::Timestamp;
use crate::token::SecretToken;

/// How to rotate a key now.
#[derive(Clone, Copy, Debug, Serialize)]
#[must_use]
pub struct RotateNow {
    key: KeyId,
    supersede: bool,
}

impl RotateNow {
    /// Rotates this key, unless a rotation is open.
    pub fn of(key: KeyId) -> Self {
        Self { key, supersede: false }
    }

    /// Ends versions that are deprecated already at once, instead of refusing while they run out.
    pub fn supersede(mut self) -> Self {
        self.supersede = true;
        self
    }
}

impl From<KeyId> for RotateNow {
    fn from(key: KeyId) -> Self {
        Self::of(key)
    }
}

/// How to roll a rotation back.
#[derive(Clone, Copy, Debug, Serialize)]
#[must_use]
pub struct RollBack {
    key: KeyId,
    compromised: bool,
}

impl RollBack {
    /// Makes the version that is leaving the active one again; the newer one runs out after the overlap.
    pub fn of(key: KeyId) -> Self {
        Self { key, compromised: false }
    }

    /// Revokes the newer version at once, because its secret may be in wrong hands.
    pub fn compromised(mut self) -> Self {
        self.compromised = true;
        self
    }
}

impl From<KeyId> for RollBack {
    fn from(key: KeyId) -> Self {
        Self::of(key)
    }
}

/// A key has a new version, by a rotation or a claim. The new token is here and nowhere else.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RotatedKey {
    /// The key.
    pub key: KeyId,
    /// The new version.
    pub version: VersionNo,
    /// The new token: show it to its owner once.
    pub token: SecretToken,
    /// When the new version ends; `None` is never.
    pub valid_until: Option<Timestamp>,
    /// The version that it supersedes, if there was one.
    pub old_version: Option<VersionNo>,
    /// Until when the old version still validates, as far as is told now; `None` is for ever, or that there was none.
    pub old_valid_until: Option<Timestamp>,
}

impl RotatedKey {
    pub(crate) fn new(family: &Family, version: VersionNo, token: SecretToken) -> Self {
        let until = |number| family.version(number).and_then(|version| family.end(version));
        let of_new = |rotation: &&crate::rotation::RotationRecord| rotation.new == Some(version);
        let old_version = match family.rotations.iter().rfind(of_new) {
            Some(rotation) => rotation.old,
            // The rotation is over: it was the one before.
            None => {
                let handed_over = family.versions.iter().filter(|other| other.is_handed_over());
                handed_over.map(|other| other.number).filter(|other| *other < version).max()
            }
        };
        Self {
            key: family.key.id,
            version,
            token,
            valid_until: until(version),
            old_version,
            old_valid_until: old_version.and_then(until),
        }
    }
}

impl Act<'_> {
    /// Rotates a key now: the new token is returned once, and the old version validates for the policy's overlap,
    /// but never beyond its own expiry. Pass the key's id, or [`RotateNow`] for its options.
    ///
    /// # Errors
    /// [`ManageError`]: among others when the key was revoked or has ended, its owner is suspended, or a rotation
    /// is open.
    pub fn rotate(self, how: impl Into<RotateNow>) -> Result<RotatedKey, ManageError> {
        let how = how.into();
        self.perform(
            &Operation::new("rotate", &how),
            Urgency::Ordinary,
            |attempt| rotate(attempt, how),
            |records, request, t| {
                let (family, version, token) = replayed(records, request, t)?;
                Ok(RotatedKey::new(&family, version, token))
            },
        )
    }

    /// Lets the active version run out after the policy's overlap, without a successor.
    ///
    /// # Errors
    /// [`ManageError`]: among others when the key has no active version.
    pub fn deprecate(self, key: KeyId) -> Result<KeyInfo, ManageError> {
        self.change("deprecate", key, &key, |family, policy, t| {
            lifecycle::deprecate(family, policy.overlap(), t)
        })
    }

    /// Makes the version that is leaving the active one again, while it still validates. The newer one then runs
    /// out after the overlap, or is revoked with [`RollBack::compromised`]. Under a policy that keeps previous versions none
    /// is leaving: there the newer one is to be revoked first, and the previous one validates meanwhile.
    ///
    /// # Errors
    /// [`ManageError`]: among others [`LifecycleError::NotRollbackable`] once the grace is over.
    pub fn roll_back(self, how: impl Into<RollBack>) -> Result<KeyInfo, ManageError> {
        let how = how.into();
        self.change("roll_back", how.key, &how, |family, policy, t| {
            lifecycle::roll_back(family, how.compromised, policy.overlap(), t)
        })
    }

    /// An act on one key that shows no token.
    fn change(
        self,
        name: &str,
        key: KeyId,
        arguments: &impl Serialize,
        rule: impl Fn(&mut Family, &RotationPolicy, Timestamp) -> Result<Vec<Transition>, LifecycleError>,
    ) -> Result<KeyInfo, ManageError> {
        self.perform(
            &Operation::new(name, arguments),
            Urgency::Ordinary,
            |attempt| {
                let before = attempt.records.family(key)?.ok_or(ManageError::UnknownKey(key))?;
                let owner = enabled_owner(attempt, &before.family.key)?;
                let policy = attempt.policy_of(&before.family.key)?;
                let mut family = attempt.settled(&before);
                let transitions = rule(&mut family, &policy, attempt.t)?;
                before.write(&family, &mut attempt.changeset);
                attempt.record(&transitions, &family);
                delete_sealed_of_ended(attempt, &family)?;
                attempt.concerns(key, None);
                Ok(key_info(&family, &owner, attempt.t))
            },
            |records, _, t| look(records, key, t),
        )
    }
}

/// The owner of a key, whose revision the act relies on: nothing is minted or activated for a suspended one.
pub(crate) fn enabled_owner(attempt: &mut Attempt<'_>, key: &KeyRecord) -> Result<OwnerRecord, ManageError> {
    let owner = attempt.records.get::<OwnerRecord>(key.owner.as_str())?;
    let owner = owner.ok_or(ManageError::UnknownOwner(key.owner))?;
    if owner.record.suspended {
        return Err(LifecycleError::OwnerSuspended.into());
    }
    attempt.changeset.expect(crate::store::RowKind::Owner, key.owner, Some(owner.revision));
    Ok(owner.record)
}

fn rotate(attempt: &mut Attempt<'_>, how: RotateNow) -> Result<RotatedKey, ManageError> {
    let before = attempt.records.family(how.key)?.ok_or(ManageError::UnknownKey(how.key))?;
    let mut family = attempt.settled(&before);
    let counted = before.family.key.revoked_at.is_none() && family.live(attempt.t).next().is_some();
    if counted {
        enabled_owner(attempt, &before.family.key)?;
    } else if before.family.key.revoked_at.is_none() {
        // A key that had ended begins to count again.
        claim_place(attempt, before.family.key.owner, Some(how.key))?;
    }
    let policy = attempt.policy_of(&before.family.key)?;
    let (token, minted) = mint(&attempt.records.keyring, family.key.prefix)?;
    let order = RotationOrder {
        id: RotationId::new(attempt.t, crate::crypto::random_bytes()?),
        actor: attempt.context.actor.clone(),
        reason: attempt.context.reason.clone(),
        supersede: how.supersede,
    };
    let transitions = lifecycle::rotate(&mut family, order, minted, &policy, attempt.t)?;
    before.write(&family, &mut attempt.changeset);
    attempt.record(&transitions, &family);
    if how.supersede {
        delete_sealed_of_ended(attempt, &family)?;
    }
    let version = family.versions.last().map_or(VersionNo::FIRST, |version| version.number);
    attempt.concerns(how.key, Some(version));
    attempt.keep_for_replay(&token, how.key, version)?;
    Ok(RotatedKey::new(&family, version, token))
}

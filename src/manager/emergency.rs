//! The acts of an emergency: replacing a leaked key, and finding a version by what is known of it.

use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;

use crate::digest::{Fingerprint, SecretDigest};
use crate::error::ManageError;
use crate::id::{KeyId, RotationId, VersionNo};
use crate::lifecycle::{self, RotationOrder};
use crate::manager::KeyManager;
use crate::manager::act::{Act, Attempt, replayed};
use crate::manager::presented;
use crate::manager::revoke::delete_sealed_copies;
use crate::manager::rotate::{RotatedKey, enabled_owner};
use crate::records::{Records, read};
use crate::request::Operation;
use crate::rotate::mint;
use crate::store::{RowFilter, RowKind};
use crate::token::{Locator, PresentedToken};
use crate::validate::Mark;
use crate::version::VersionRecord;

/// How to replace a key whose secret has leaked.
#[derive(Clone, Copy, Debug, Serialize)]
#[must_use]
pub struct Replace {
    key: KeyId,
    grace: Duration,
}

impl Replace {
    /// A fresh version, and every other one revoked at once.
    pub fn of(key: KeyId) -> Self {
        Self { key, grace: Duration::ZERO }
    }

    /// Lets the version in use validate for at most 4 hours more; whoever has stolen it can use it as long.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}

impl From<KeyId> for Replace {
    fn from(key: KeyId) -> Self {
        Self::of(key)
    }
}

/// What is known of a secret that has leaked.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Evidence<'a> {
    /// The whole token. A wrong secret finds nothing.
    Token(&'a str),
    /// The public part of the token, as in logs.
    Locator(Locator),
    /// The public name of the secret, as in the audit log.
    Fingerprint(Fingerprint),
}

impl std::fmt::Debug for Evidence<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token([redacted])"),
            Self::Locator(locator) => write!(f, "Locator({locator})"),
            Self::Fingerprint(fingerprint) => write!(f, "Fingerprint({fingerprint})"),
        }
    }
}

impl KeyManager {
    /// The version that a token, a locator or a fingerprint names, ended or not; `None` when there is none, also for
    /// a token whose secret is wrong. For the host and its operators: whoever asks from outside is to learn nothing
    /// from the answer. By fingerprint, all versions are looked through.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read, or the row found cannot be believed.
    pub fn find(&self, evidence: Evidence<'_>) -> Result<Option<(KeyId, VersionNo)>, ManageError> {
        find(&self.inner.records, evidence)
    }
}

fn find(records: &Records, evidence: Evidence<'_>) -> Result<Option<(KeyId, VersionNo)>, ManageError> {
    let version = match evidence {
        Evidence::Token(token) => match PresentedToken::parse(token.as_bytes()) {
            Ok(token) => {
                by_locator(records, token.locator)?.filter(|version| is_secret_of(records, &token, version))
            }
            Err(_) => presented::imported(records, token.as_bytes())?,
        },
        Evidence::Locator(locator) => by_locator(records, locator)?,
        Evidence::Fingerprint(fingerprint) => by_fingerprint(records, fingerprint)?,
    };
    Ok(version.map(|version| (version.key, version.number)))
}

fn is_secret_of(records: &Records, token: &PresentedToken<'_>, version: &VersionRecord) -> bool {
    let generation = version.digest.generation;
    records.keyring.keys(generation).is_some_and(|keys| {
        let presented = SecretDigest::of(token, generation, keys);
        crate::crypto::ct_eq_32(&presented.bytes, &version.digest.bytes)
    })
}

pub(super) fn by_locator(records: &Records, locator: Locator) -> Result<Option<VersionRecord>, ManageError> {
    let mut found = None;
    records.store.find(RowKind::Version, locator.as_str(), &mut |row| {
        found = Some(read::<VersionRecord>(&row, &records.keyring));
    })?;
    Ok(found.transpose()?.map(|stored| stored.record))
}

fn by_fingerprint(records: &Records, wanted: Fingerprint) -> Result<Option<VersionRecord>, ManageError> {
    let mut found = None;
    records.store.scan(
        RowKind::Version,
        RowFilter::All { after: None },
        &mut |row| match read::<VersionRecord>(&row, &records.keyring) {
            Ok(stored) if stored.record.fingerprint == wanted => {
                found = Some(stored.record);
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        },
    )?;
    Ok(found)
}

impl Act<'_> {
    /// Replaces a key whose secret has leaked: a fresh token is returned once, and every other version is revoked as
    /// compromised in the same commit. Pass the key's id, or [`Replace`] for a grace of at most 4 hours.
    ///
    /// # Errors
    /// [`ManageError`]. When the store failed, this process denies the whole key until a repetition succeeds.
    pub fn replace(self, how: impl Into<Replace>) -> Result<RotatedKey, ManageError> {
        let how = how.into();
        self.deny(
            Mark::Replaced(how.key),
            &Operation::new("replace", &how),
            |attempt| replace(attempt, how),
            |records, request, t| {
                let (family, version, token) = replayed(records, request, t)?;
                Ok(RotatedKey::new(&family, version, token))
            },
        )
    }

    /// Revokes, as compromised, the version that the evidence names. `None` when it names none: with a token, whoever
    /// reports it has to know the whole secret, so that this may be offered to scanners and finders.
    ///
    /// # Errors
    /// [`ManageError`], as of [`Act::revoke`].
    pub fn report_compromised(
        self,
        evidence: Evidence<'_>,
    ) -> Result<Option<(KeyId, VersionNo)>, ManageError> {
        let Some((key, version)) = find(&self.keys.inner.records, evidence)? else { return Ok(None) };
        self.revoke(crate::manager::Revoke::of((key, version)).compromised())?;
        Ok(Some((key, version)))
    }
}

fn replace(attempt: &mut Attempt<'_>, how: Replace) -> Result<RotatedKey, ManageError> {
    let before = attempt.records.family(how.key)?.ok_or(ManageError::UnknownKey(how.key))?;
    enabled_owner(attempt, &before.family.key)?;
    let mut family = attempt.settled(&before);
    if family.key.revoked_at.is_none() && family.live(attempt.t).next().is_none() {
        return Err(ManageError::NothingToReplace(how.key));
    }
    let policy = attempt.policy_of(&family.key)?;
    let (token, minted) = mint(&attempt.records.keyring, family.key.prefix)?;
    let order = RotationOrder {
        id: RotationId::new(attempt.t, crate::crypto::random_bytes()?),
        actor: attempt.context.actor.clone(),
        reason: attempt.context.reason.clone(),
        supersede: true,
    };
    let transitions = lifecycle::replace(&mut family, order, how.grace, minted, &policy, attempt.t)?;
    before.write(&family, &mut attempt.changeset);
    attempt.record(&transitions, &family);
    delete_sealed_copies(attempt, how.key, |_| true)?;
    let version = family.versions.last().map_or(VersionNo::FIRST, |version| version.number);
    attempt.concerns(how.key, Some(version));
    attempt.keep_for_replay(&token, how.key, version)?;
    Ok(RotatedKey::new(&family, version, token))
}

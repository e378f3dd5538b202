//! What was imported, and how much of it still lives by another system's secrets.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;

use crate::digest::DigestScheme;
use crate::error::{ManageError, ReadError};
use crate::id::{KeyId, VersionNo};
use crate::imported::{DigestForm, Strength};
use crate::keyring::Generation;
use crate::lifecycle;
use crate::manager::KeyManager;
use crate::records::{read, version_of_row_id, version_row_id};
use crate::store::{RowFilter, RowKind};
use crate::version::{Stage, VersionRecord};

/// What a version remembers of the system that its secret came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImportedSecret {
    /// How the other system kept it.
    pub form: DigestForm,
    /// How strong its token is; unknown until that was seen.
    pub strength: Strength,
    /// Whether the token was seen: what is kept of it is a keyed digest of the token itself then, and before a keyed
    /// digest of what the other system kept.
    pub seen: bool,
}

impl ImportedSecret {
    pub(super) fn of(version: &VersionRecord) -> Option<Self> {
        let mark = version.imported?;
        let seen = version.digest.scheme == DigestScheme::ImportedToken;
        Some(Self { form: mark.form, strength: mark.strength, seen })
    }
}

/// An imported version that still validates, or may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImportedVersion {
    /// The key.
    #[serde(rename = "key_id")]
    pub key: KeyId,
    /// The version.
    pub version: VersionNo,
    /// Where it stands.
    pub stage: Stage,
    /// Where its secret came from.
    pub secret: ImportedSecret,
    /// The generation of the master key without which it cannot be found.
    pub generation: Generation,
}

/// How much of what was imported remains: see [`KeyManager::imported`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ImportedReport {
    /// How many imported versions are not over. When there is none, nothing of the other system is left.
    pub remaining: u64,
    /// Of these, how many are superseded and run out.
    pub deprecated: u64,
    /// Of these, how many tokens have not been seen, by the form in which the other system kept them.
    pub unseen: BTreeMap<DigestForm, u64>,
    /// Of these, how many are known to be weak.
    pub weak: u64,
    /// Of these, how many need each generation of the master key.
    pub generations: BTreeMap<Generation, u64>,
    /// How many imported versions are over: rotated, revoked or expired.
    pub over: u64,
    /// How many rows of versions cannot be believed; they do not validate.
    pub edited: u64,
}

impl KeyManager {
    /// How much of what was imported still lives by its old secrets. Looks through all versions.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn imported(&self) -> Result<ImportedReport, ManageError> {
        let mut report = ImportedReport::default();
        let edited = self.each_imported(None, &mut |found| {
            let Some(found) = found else {
                report.over += 1;
                return ControlFlow::Continue(());
            };
            report.remaining += 1;
            report.deprecated += u64::from(found.stage == Stage::Deprecated);
            report.weak += u64::from(found.secret.strength == Strength::Weak);
            *report.generations.entry(found.generation).or_default() += 1;
            if !found.secret.seen {
                *report.unseen.entry(found.secret.form).or_default() += 1;
            }
            ControlFlow::Continue(())
        })?;
        Ok(ImportedReport { edited, ..report })
    }

    /// Up to `limit` imported versions (1 to 1000) that are not over, after one, in the order of their keys.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn imported_versions(
        &self,
        after: Option<(KeyId, VersionNo)>,
        limit: usize,
    ) -> Result<Vec<ImportedVersion>, ManageError> {
        let mut found = Vec::new();
        let limit = limit.clamp(1, 1_000);
        self.each_imported(after, &mut |version| {
            found.extend(version);
            if found.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }

    /// Tells each imported version, `None` for one that is over; returns how many rows cannot be believed.
    fn each_imported(
        &self,
        after: Option<(KeyId, VersionNo)>,
        each: &mut dyn FnMut(Option<ImportedVersion>) -> ControlFlow<()>,
    ) -> Result<u64, ManageError> {
        let t = self.now()?;
        let after = after.map(|(key, version)| version_row_id(key, version));
        let (mut edited, mut trouble) = (0, None);
        let keyring = &self.inner.records.keyring;
        self.inner.records.store.scan(
            RowKind::Version,
            RowFilter::All { after: after.as_deref() },
            &mut |row| {
                let version = match read::<VersionRecord>(&row, keyring) {
                    Ok(stored) => stored.record,
                    Err(ReadError::Tampered { .. }) => {
                        edited += u64::from(version_of_row_id(row.id).is_some());
                        return ControlFlow::Continue(());
                    }
                    Err(error) => {
                        trouble = Some(error);
                        return ControlFlow::Break(());
                    }
                };
                let Some(secret) = ImportedSecret::of(&version) else { return ControlFlow::Continue(()) };
                let is_over =
                    version.is_ended() || lifecycle::end(&version, None).is_some_and(|end| end <= t);
                each((!is_over).then_some(ImportedVersion {
                    key: version.key,
                    version: version.number,
                    stage: version.stage,
                    secret,
                    generation: version.digest.generation,
                }))
            },
        )?;
        trouble.map_or(Ok(edited), |error| Err(error.into()))
    }
}

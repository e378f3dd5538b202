//! The replica: all versions that a token can name, with what decides about them.
//!
//! It is filled by the feed and by nothing else. A row whose MAC is wrong, or which is gone, leaves an entry that
//! denies, never a gap that an older state could show through.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::error::ReadError;
use crate::id::{KeyId, OwnerId, RoleName, VersionNo};
use crate::key::KeyRecord;
use crate::keyring::{Generation, Keyring};
use crate::owner::{OwnerRecord, RoleRecord};
use crate::records::{Record, Stored, read, version_row_id};
use crate::scope::{Scope, ScopeSet};
use crate::store::{FeedItem, Revision, RowKind, RowRef};
use crate::time::Timestamp;
use crate::token::Locator;
use crate::validate::counts::{Counter, Counts};
use crate::version::VersionRecord;

/// A row that cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Finding {
    /// What the row records.
    pub kind: RowKind,
    /// Its id.
    pub id: String,
    /// The master key generation that would be needed to check it, if that is what is missing; otherwise the
    /// row was edited behind the library's back.
    pub missing_generation: Option<Generation>,
}

/// A record, or why it cannot be believed.
#[derive(Clone, Debug)]
pub(crate) enum Held<R> {
    Sound(R),
    Tampered,
    Behind(Generation),
}

/// A version as the hot path finds it.
#[derive(Clone, Debug)]
pub(crate) struct VersionSlot {
    pub(crate) version: VersionRecord,
    pub(crate) counter: Arc<Counter>,
}

/// One kind of record by row id.
#[derive(Debug)]
struct Shelf<R>(HashMap<String, (Held<R>, Revision)>);

impl<R> Default for Shelf<R> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<R: Record> Shelf<R> {
    fn put(
        &mut self,
        row: &RowRef<'_>,
        keyring: &Keyring,
        findings: &mut HashMap<(RowKind, String), Finding>,
    ) {
        let name = (row.kind, row.id.to_owned());
        let (held, missing_generation) = match read::<R>(row, keyring) {
            Ok(Stored { record, .. }) => {
                findings.remove(&name);
                self.0.insert(row.id.to_owned(), (Held::Sound(record), row.revision));
                return;
            }
            Err(ReadError::KeyringBehind(generation)) => (Held::Behind(generation), Some(generation)),
            Err(_) => (Held::Tampered, None),
        };
        self.0.insert(row.id.to_owned(), (held, row.revision));
        let id = row.id.to_owned();
        findings.insert(name, Finding { kind: row.kind, id, missing_generation });
    }

    fn get(&self, id: &str) -> Option<&Held<R>> {
        self.0.get(id).map(|(held, _)| held)
    }
}

/// All that validation looks at.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    slots: HashMap<Locator, Held<VersionSlot>>,
    /// Which locator a version's row had, for rows that come back edited or not at all.
    locators: HashMap<String, Locator>,
    keys: Shelf<KeyRecord>,
    owners: Shelf<OwnerRecord>,
    roles: Shelf<RoleRecord>,
    findings: HashMap<(RowKind, String), Finding>,
}

impl Replica {
    /// Takes in one item of the feed, or one row of the first load.
    pub(crate) fn apply(&mut self, item: FeedItem<'_>, keyring: &Keyring, counts: &Counts) {
        match item {
            FeedItem::Row(row) => match row.kind {
                RowKind::Version => self.put_version(&row, keyring, counts),
                RowKind::Key => self.keys.put(&row, keyring, &mut self.findings),
                RowKind::Owner => self.owners.put(&row, keyring, &mut self.findings),
                RowKind::Role => self.roles.put(&row, keyring, &mut self.findings),
                _ => {}
            },
            FeedItem::Gone { kind, id } => {
                self.findings.remove(&(kind, id.to_owned()));
                match kind {
                    RowKind::Version => {
                        if let Some(locator) = self.locators.remove(id) {
                            self.slots.remove(&locator);
                        }
                    }
                    RowKind::Key => drop(self.keys.0.remove(id)),
                    RowKind::Owner => drop(self.owners.0.remove(id)),
                    RowKind::Role => drop(self.roles.0.remove(id)),
                    _ => {}
                }
            }
        }
    }

    fn put_version(&mut self, row: &RowRef<'_>, keyring: &Keyring, counts: &Counts) {
        let name = (row.kind, row.id.to_owned());
        match read::<VersionRecord>(row, keyring) {
            Ok(Stored { record: version, .. }) => {
                self.findings.remove(&name);
                let locator = version.locator;
                let counter = counts.of(version.key, version.number);
                if let Some(old) = self.locators.insert(name.1, locator).filter(|old| *old != locator) {
                    self.slots.remove(&old);
                }
                self.slots.insert(locator, Held::Sound(VersionSlot { version, counter }));
            }
            Err(error) => {
                let missing_generation = match error {
                    ReadError::KeyringBehind(generation) => Some(generation),
                    _ => None,
                };
                // The locator of a row that cannot be checked is only a claim: it may add a denial where nothing
                // was, and must not take the place of a sound version of another row.
                let claimed = row.index.unique.and_then(|text| Locator::try_from(text.to_owned()).ok());
                let known = self.locators.get(&name.1).copied();
                let held = || missing_generation.map_or(Held::Tampered, Held::Behind);
                if let Some(known) = known {
                    self.slots.insert(known, held());
                }
                if let (Some(claimed), None) = (claimed, known)
                    && let Entry::Vacant(vacant) = self.slots.entry(claimed)
                {
                    vacant.insert(held());
                    self.locators.insert(name.1.clone(), claimed);
                }
                let id = name.1.clone();
                self.findings.insert(name, Finding { kind: RowKind::Version, id, missing_generation });
            }
        }
    }

    pub(crate) fn slot(&self, locator: &Locator) -> Option<&Held<VersionSlot>> {
        self.slots.get(locator)
    }

    /// The slot of a version that is known by its name instead of its token.
    pub(crate) fn slot_of(&self, key: KeyId, version: VersionNo) -> Option<&Held<VersionSlot>> {
        self.slots.get(self.locators.get(&version_row_id(key, version))?)
    }

    pub(crate) fn key(&self, key: KeyId) -> Option<&Held<KeyRecord>> {
        self.keys.get(&key.to_string())
    }

    pub(crate) fn owner(&self, owner: OwnerId) -> Option<&Held<OwnerRecord>> {
        self.owners.get(owner.as_str())
    }

    /// Whether the key's own scopes or its role's, below the owner's ceiling, cover a demand. A role that is
    /// unknown or cannot be believed grants nothing.
    pub(crate) fn covers(&self, key: &KeyRecord, owner: &OwnerRecord, demanded: &Scope) -> bool {
        let of_role = || self.role(key.role.as_ref()).is_some_and(|scopes| scopes.covers(demanded));
        let below = owner.ceiling.as_ref().is_none_or(|ceiling| ceiling.covers(demanded));
        below && (key.scopes.covers(demanded) || of_role())
    }

    /// All that a key allows: its own scopes and its role's, below the owner's ceiling.
    pub(crate) fn effective_scopes(&self, key: &KeyRecord, owner: &OwnerRecord) -> ScopeSet {
        let all = match self.role(key.role.as_ref()) {
            Some(scopes) => key.scopes.union(scopes),
            None => key.scopes.clone(),
        };
        owner.ceiling.as_ref().map_or(all.clone(), |ceiling| all.intersection(ceiling))
    }

    fn role(&self, name: Option<&RoleName>) -> Option<&ScopeSet> {
        match self.roles.get(name?.as_str())? {
            Held::Sound(role) => Some(&role.scopes),
            Held::Tampered | Held::Behind(_) => None,
        }
    }

    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<_> = self.findings.values().cloned().collect();
        findings.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        findings
    }

    /// How many versions are held.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

/// How long an ended version is still answered by its reason.
pub(crate) fn is_forgotten(ended_at: Option<Timestamp>, t: Timestamp) -> bool {
    const KEPT: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);
    ended_at.is_some_and(|ended_at| ended_at.plus(KEPT).is_ok_and(|end| t >= end))
}

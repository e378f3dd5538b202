//! The replica: all versions that a token can name, with what decides about them.
//!
//! It is filled by the feed and by nothing else. A row whose MAC is wrong, or which is gone, leaves an entry that
//! denies, never a gap that an older state could show through.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use crate::error::ReadError;
use crate::id::{KeyId, OwnerId, RoleName, VersionNo};
use crate::key::KeyRecord;
use crate::keyring::{Generation, Keyring};
use crate::owner::{OwnerRecord, RoleRecord};
use crate::records::{Record, Stored, read, version_row_id};
use crate::scope::{Scope, ScopeSet};
use crate::store::{FeedItem, Revision, RowKind, RowMac, RowRef};
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

/// One kind of record by its id.
#[derive(Debug)]
struct Shelf<K, R>(HashMap<K, Held<R>>);

impl<K, R> Default for Shelf<K, R> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash, R: Record> Shelf<K, R> {
    fn put(&mut self, id: K, row: &RowRef<'_>, keyring: &Keyring, findings: &mut Findings) {
        let held = match read::<R>(row, keyring) {
            Ok(Stored { record, .. }) => {
                findings.clear(row.kind, row.id);
                Held::Sound(record)
            }
            Err(error) => findings.add(row, &error),
        };
        self.0.insert(id, held);
    }
}

/// The rows that cannot be believed.
#[derive(Debug, Default)]
struct Findings(HashMap<(RowKind, String), Finding>);

impl Findings {
    fn add<R>(&mut self, row: &RowRef<'_>, error: &ReadError) -> Held<R> {
        let missing_generation = match error {
            ReadError::KeyringBehind(generation) => Some(*generation),
            _ => None,
        };
        let finding = Finding { kind: row.kind, id: row.id.to_owned(), missing_generation };
        self.0.insert((row.kind, row.id.to_owned()), finding);
        missing_generation.map_or(Held::Tampered, Held::Behind)
    }

    fn clear(&mut self, kind: RowKind, id: &str) {
        if !self.0.is_empty() {
            self.0.remove(&(kind, id.to_owned()));
        }
    }
}

/// All that validation looks at.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    slots: HashMap<Locator, Held<VersionSlot>>,
    /// Which locator a version's row had, for rows that come back edited or not at all.
    locators: HashMap<String, Locator>,
    keys: Shelf<KeyId, KeyRecord>,
    owners: Shelf<OwnerId, OwnerRecord>,
    roles: Shelf<RoleName, RoleRecord>,
    findings: Findings,
    /// The latest revision in which each row was sound: an earlier one that comes back was put back.
    latest: HashMap<(RowKind, String), Revision>,
}

impl Replica {
    /// Takes in one item of the feed, or one row of the first load.
    pub(crate) fn apply(&mut self, item: FeedItem<'_>, keyring: &Keyring, counts: &Counts) {
        match item {
            FeedItem::Row(row) => {
                let sound = row.verify(keyring).is_ok();
                let latest = self.latest.entry((row.kind, row.id.to_owned())).or_default();
                if row.revision < *latest {
                    // Sound once, but not the last state that was written: as good as edited.
                    let edited = RowRef { mac: RowMac { tag: [0; 32], ..row.mac }, ..row };
                    self.put(&edited, keyring, counts);
                } else {
                    if sound {
                        *latest = row.revision;
                    }
                    self.put(&row, keyring, counts);
                }
            }
            FeedItem::Gone { kind, id } => self.remove(kind, id),
        }
    }

    fn put(&mut self, row: &RowRef<'_>, keyring: &Keyring, counts: &Counts) {
        let Self { keys, owners, roles, findings, .. } = self;
        let id = row.id;
        let nameless = match row.kind {
            RowKind::Version => {
                self.put_version(row, keyring, counts);
                return;
            }
            RowKind::Key => id.parse().map(|id| keys.put(id, row, keyring, findings)).is_err(),
            RowKind::Owner => OwnerId::new(id).map(|id| owners.put(id, row, keyring, findings)).is_err(),
            RowKind::Role => RoleName::new(id).map(|id| roles.put(id, row, keyring, findings)).is_err(),
            _ => return,
        };
        // No token leads to a row whose id is none.
        if nameless {
            let error = ReadError::Tampered { kind: row.kind, id: id.to_owned() };
            let _: Held<()> = self.findings.add(row, &error);
        }
    }

    fn remove(&mut self, kind: RowKind, id: &str) {
        self.findings.clear(kind, id);
        match kind {
            RowKind::Version => {
                if let Some(locator) = self.locators.remove(id) {
                    self.slots.remove(&locator);
                }
            }
            RowKind::Key => drop(id.parse().map(|id| self.keys.0.remove(&id))),
            RowKind::Owner => drop(OwnerId::new(id).map(|id| self.owners.0.remove(&id))),
            RowKind::Role => drop(RoleName::new(id).map(|id| self.roles.0.remove(&id))),
            _ => {}
        }
    }

    fn put_version(&mut self, row: &RowRef<'_>, keyring: &Keyring, counts: &Counts) {
        match read::<VersionRecord>(row, keyring) {
            Ok(Stored { record: version, .. }) => {
                self.findings.clear(row.kind, row.id);
                let locator = version.locator;
                let counter = counts.of(version.key, version.number);
                let old = self.locators.insert(row.id.to_owned(), locator);
                if let Some(old) = old.filter(|old| *old != locator) {
                    self.slots.remove(&old);
                }
                self.slots.insert(locator, Held::Sound(VersionSlot { version, counter }));
            }
            Err(error) => {
                let held = self.findings.add(row, &error);
                // The locator of a row that cannot be checked is only a claim: it may add a denial where nothing
                // was, and must not take the place of a sound version of another row.
                let claimed = row.index.unique.and_then(|text| Locator::try_from(text.to_owned()).ok());
                if let Some(known) = self.locators.get(row.id) {
                    self.slots.insert(*known, held);
                } else if let Some(claimed) = claimed
                    && let Entry::Vacant(vacant) = self.slots.entry(claimed)
                {
                    vacant.insert(held);
                    self.locators.insert(row.id.to_owned(), claimed);
                }
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
        self.keys.0.get(&key)
    }

    pub(crate) fn owner(&self, owner: OwnerId) -> Option<&Held<OwnerRecord>> {
        self.owners.0.get(&owner)
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
        match self.roles.0.get(name?)? {
            Held::Sound(role) => Some(&role.scopes),
            Held::Tampered | Held::Behind(_) => None,
        }
    }

    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<_> = self.findings.0.values().cloned().collect();
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

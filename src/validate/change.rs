//! What a row of the feed means to the replica: checked and read before anybody's copy is disturbed.

use serde::Deserialize;

use crate::error::ReadError;
use crate::id::{KeyId, OwnerId, RoleName, VersionNo};
use crate::keyring::{Generation, Keyring};
use crate::limit::Limits;
use crate::network::Networks;
use crate::owner::{OwnerRecord, RoleRecord};
use crate::records::{read, version_of_row_id};
use crate::scope::ScopeSet;
use crate::store::{FeedItem, Revision, RowKind, RowRef};
use crate::time::Timestamp;
use crate::token::{Locator, Prefix};
use crate::validate::facts::Traits;
use crate::version::VersionRecord;

/// Why a row is not believed: it was edited, or the generation is missing that it was written under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    Tampered,
    Behind(Generation),
}

impl From<ReadError> for Doubt {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::KeyringBehind(generation) => Self::Behind(generation),
            _ => Self::Tampered,
        }
    }
}

/// A row as it is now, or its absence.
#[derive(Debug)]
pub(crate) enum Told<R> {
    Row { revision: Revision, record: Result<R, Doubt> },
    Gone,
}

/// What the replica keeps of a key's row.
#[derive(Debug)]
pub(crate) struct KeyFacts {
    pub(crate) owner: OwnerId,
    pub(crate) traits: Traits,
    pub(crate) revoked: bool,
    pub(crate) issued_at: Timestamp,
    /// Until when whoever holds the current version can claim its successor, while one waits.
    pub(crate) successor_by: Option<Timestamp>,
}

/// One change of what is followed.
#[derive(Debug)]
pub(crate) enum Change {
    Version {
        key: KeyId,
        number: VersionNo,
        told: Told<Box<VersionRecord>>,
        /// What an unbelievable row says is its locator.
        claimed: Option<Locator>,
    },
    Owner(OwnerId, Told<OwnerRecord>),
    Role(RoleName, Told<RoleRecord>),
    Key(KeyId, Told<KeyFacts>),
    /// A row whose id is none: no token leads to it.
    Nameless(RowKind, String, Doubt),
    /// The absence of such a row, or something that is not followed.
    Nothing(RowKind, String),
}

impl Change {
    /// Reads one item.
    pub(crate) fn of(item: FeedItem<'_>, keyring: &Keyring) -> Self {
        let (kind, id) = match item {
            FeedItem::Row(row) => (row.kind, row.id),
            FeedItem::Gone { kind, id } => (kind, id),
        };
        let change = match kind {
            RowKind::Version => version_of_row_id(id).map(|(key, number)| Self::Version {
                key,
                number,
                told: told(&item, |row| Ok(Box::new(read::<VersionRecord>(row, keyring)?.record))),
                claimed: claimed(&item),
            }),
            RowKind::Key => {
                id.parse().ok().map(|key| Self::Key(key, told(&item, |row| key_facts(row, key, keyring))))
            }
            RowKind::Owner => OwnerId::new(id)
                .ok()
                .map(|owner| Self::Owner(owner, told(&item, |row| Ok(read(row, keyring)?.record)))),
            RowKind::Role => RoleName::new(id)
                .ok()
                .map(|role| Self::Role(role, told(&item, |row| Ok(read(row, keyring)?.record)))),
            _ => None,
        };
        change.unwrap_or_else(|| match item {
            FeedItem::Row(row) if kind.is_followed() => {
                let doubt = row.verify(keyring).err().map(|fault| ReadError::of_row(fault, kind, id).into());
                Self::Nameless(kind, id.to_owned(), doubt.unwrap_or(Doubt::Tampered))
            }
            _ => Self::Nothing(kind, id.to_owned()),
        })
    }

    /// In which order the changes of one page are taken in: what names something comes after it.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Version { .. } => 0,
            Self::Key(..) => 2,
            _ => 1,
        }
    }
}

fn told<R>(item: &FeedItem<'_>, read: impl FnOnce(&RowRef<'_>) -> Result<R, ReadError>) -> Told<R> {
    match item {
        FeedItem::Row(row) => Told::Row { revision: row.revision, record: read(row).map_err(Doubt::from) },
        FeedItem::Gone { .. } => Told::Gone,
    }
}

fn claimed(item: &FeedItem<'_>) -> Option<Locator> {
    match item {
        FeedItem::Row(row) => Locator::try_from(row.index.unique?.to_owned()).ok(),
        FeedItem::Gone { .. } => None,
    }
}

/// Reads of a key's row what decides, and passes by the rest.
fn key_facts(row: &RowRef<'_>, key: KeyId, keyring: &Keyring) -> Result<KeyFacts, ReadError> {
    #[derive(Deserialize)]
    struct Body {
        id: KeyId,
        owner: OwnerId,
        prefix: Prefix,
        scopes: ScopeSet,
        #[serde(default)]
        role: Option<RoleName>,
        #[serde(default)]
        limits: Limits,
        #[serde(default)]
        networks: Option<Networks>,
        issued_at: Timestamp,
        #[serde(default)]
        revoked_at: Option<Timestamp>,
        #[serde(default)]
        successor_by: Option<Timestamp>,
    }
    row.verify(keyring).map_err(|fault| ReadError::of_row(fault, row.kind, row.id))?;
    let tampered = || ReadError::Tampered { kind: row.kind, id: row.id.to_owned() };
    let body: Body = serde_json::from_slice(row.body).map_err(|_| tampered())?;
    if body.id != key {
        return Err(tampered());
    }
    let Body { owner, prefix, scopes, role, limits, networks, issued_at, revoked_at, .. } = body;
    let traits = Traits { prefix, scopes, role, limits, networks };
    let successor_by = body.successor_by;
    Ok(KeyFacts { owner, traits, revoked: revoked_at.is_some(), issued_at, successor_by })
}

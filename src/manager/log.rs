//! Reading the audit log, and verifying its chain.

use std::ops::ControlFlow;

use crate::audit::{self, AuditEntry, AuditHead, Link};
use crate::error::{ManageError, ReadError};
use crate::event::{Event, EventKind};
use crate::id::{KeyId, OwnerId};
use crate::keyring::Generation;
use crate::manager::KeyManager;
use crate::store::{AuditQuery, AuditRow};

/// Which entries of the audit log to read; an absent field asks nothing.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct AuditFilter {
    key: Option<KeyId>,
    owner: Option<OwnerId>,
    kind: Option<EventKind>,
    after: u64,
}

impl AuditFilter {
    /// All entries.
    pub fn all() -> Self {
        Self::default()
    }

    /// Entries about this key.
    pub fn key(mut self, key: KeyId) -> Self {
        self.key = Some(key);
        self
    }

    /// Entries about this owner and its keys.
    pub fn owner(mut self, owner: OwnerId) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Entries of this kind.
    pub fn kind(mut self, kind: EventKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Entries after this number, for the next page.
    pub fn after(mut self, seq: u64) -> Self {
        self.after = seq;
        self
    }
}

/// What verifying the audit log found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditVerdict {
    /// Each entry is as it was written, none is missing, and the last is the one that the head names.
    Sound {
        /// The head: kept elsewhere, it is the anchor against an old file.
        head: AuditHead,
    },
    /// The chain is broken at this entry: it was edited, moved or removed, or one before it was.
    BrokenAt {
        /// The number at which the chain does not go on.
        seq: u64,
    },
    /// The entries end before the one that the head names, or after it: the tail was cut, or the head edited.
    TailDiffers {
        /// The number of the last entry found.
        last: u64,
        /// The number that the head names.
        head: u64,
    },
    /// An entry was written under a master key that this process does not hold.
    KeyringBehind {
        /// The entry's number.
        seq: u64,
        /// The generation that is missing.
        generation: Generation,
    },
}

impl AuditVerdict {
    /// Whether all is as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        matches!(self, Self::Sound { .. })
    }
}

impl KeyManager {
    /// Up to `limit` entries of the audit log, in the order of their numbers.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read, or an entry is not what the library writes. That no entry was
    /// edited is what [`KeyManager::verify_audit`] tells.
    pub fn audit(&self, filter: &AuditFilter, limit: usize) -> Result<Vec<AuditEntry>, ManageError> {
        let key = filter.key.map(|key| key.to_string());
        let query = AuditQuery {
            after: filter.after,
            kind: filter.kind.map(EventKind::as_str),
            key: key.as_deref(),
            owner: filter.owner.as_ref().map(OwnerId::as_str),
            ..AuditQuery::default()
        };
        let mut rows = Vec::new();
        self.inner.records.store.audit(&query, &mut |row| {
            if rows.len() < limit {
                rows.push(entry(row));
            }
            if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(rows.into_iter().collect::<Result<_, _>>()?)
    }

    /// The head of the audit log: the number and MAC of its last entry.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read or its head was edited.
    pub fn audit_head(&self) -> Result<AuditHead, ManageError> {
        Ok(self.inner.records.head()?.audit)
    }

    /// Checks each entry of the audit log against its MAC and its predecessor, and the last against the head.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read or its head was edited. A broken chain is an answer.
    pub fn verify_audit(&self) -> Result<AuditVerdict, ManageError> {
        let head = self.audit_head()?;
        let mut at = AuditHead::EMPTY;
        let mut trouble = None;
        self.inner.records.store.audit(&AuditQuery::default(), &mut |row| {
            // What was appended since the head was read is not part of this verification.
            if at == head && row.seq == head.seq + 1 {
                return ControlFlow::Break(());
            }
            trouble = self.check_link(&at, row);
            at = AuditHead { seq: row.seq, mac: row.mac.tag };
            if trouble.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(match trouble {
            Some(trouble) => trouble,
            None if at == head => AuditVerdict::Sound { head },
            None => AuditVerdict::TailDiffers { last: at.seq, head: head.seq },
        })
    }

    fn check_link(&self, previous: &AuditHead, row: &AuditRow) -> Option<AuditVerdict> {
        let broken = AuditVerdict::BrokenAt { seq: previous.seq + 1 };
        let keyring = &self.inner.records.keyring;
        match audit::check(keyring, row.mac.generation, previous, &row.body, &row.mac.tag) {
            _ if row.seq != previous.seq + 1 => Some(broken),
            Link::UnknownGeneration => {
                Some(AuditVerdict::KeyringBehind { seq: row.seq, generation: row.mac.generation })
            }
            Link::Broken => Some(broken),
            Link::Sound => {
                entry(row).map_or(Some(broken), |entry| (!columns_agree(row, &entry.event)).then_some(broken))
            }
        }
    }
}

/// Whether the fields by which an entry is found say what its body says.
fn columns_agree(row: &AuditRow, event: &Event) -> bool {
    row.at == event.at
        && row.kind == event.kind.as_str()
        && row.actor == event.actor.name()
        && row.key == event.key.map(|key| key.to_string())
        && row.version == event.version.map(crate::id::VersionNo::get)
        && row.owner.as_deref() == event.owner.as_ref().map(OwnerId::as_str)
}

fn entry(row: &AuditRow) -> Result<AuditEntry, ReadError> {
    let event = serde_json::from_slice::<Event>(&row.body).map_err(|_| ReadError::AuditTampered(row.seq))?;
    Ok(AuditEntry { seq: row.seq, event })
}

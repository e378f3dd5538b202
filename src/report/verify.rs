//! Verifying the audit log: each link, the head, and an anchor that the host keeps elsewhere.

use std::ops::ControlFlow;

use serde::Serialize;

use crate::audit::{self, AuditEntry, AuditHead, Link};
use crate::error::{ManageError, ReadError};
use crate::event::{Event, EventKind};
use crate::id::{OwnerId, VersionNo};
use crate::keyring::{Generation, Keyring};
use crate::records::Records;
use crate::report::vouched::vouched_for;
use crate::store::{AuditQuery, AuditRow};

/// What verifying the audit log found; the first trouble, in the order of the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditVerdict {
    /// Each entry is as it was written, none is missing, and the last is the one that the head names.
    Sound {
        /// The head: kept elsewhere, it is the anchor against an old file.
        head: AuditHead,
    },
    /// The chain was damaged once, and an act that could not wait began a new segment; both segments are sound, but
    /// what was lost between them is not known.
    Segmented {
        /// The number of the entry that began the new segment.
        first_break: u64,
        /// The head.
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
    /// The log does not contain the entry that the anchor names: its tail was cut, or the file is an old one.
    NotAnchored {
        /// The number of the last entry found.
        last: u64,
        /// The number that the anchor names.
        anchor: u64,
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

/// Checks each entry against its MAC and its predecessor, the last against the head, and one of them against the
/// anchor. Each sound entry before the first trouble is told to `each`. Returns the verdict, which is the first trouble
/// if there is any, and all troubles: behind each one the chain is taken up again.
pub(crate) fn verify(
    records: &Records,
    anchor: Option<&AuditHead>,
    mut each: impl FnMut(u64, &Event),
) -> Result<(AuditVerdict, Vec<AuditVerdict>), ManageError> {
    walk(records, anchor, |row, event| each(row.seq, event))
}

/// The same, with the stored form of each entry. Those of a generation that is not held are sound where a retirement
/// vouches for them.
pub(crate) fn walk(
    records: &Records,
    anchor: Option<&AuditHead>,
    mut each: impl FnMut(&AuditRow, &Event),
) -> Result<(AuditVerdict, Vec<AuditVerdict>), ManageError> {
    let vouched = vouched_for(records)?;
    let mut doubted = false;
    let body = records.head()?;
    let head = body.audit;
    let mut at = body.audit_start.unwrap_or(AuditHead::EMPTY);
    let mut troubles = Vec::new();
    let mut first_break = None;
    let mut anchored = anchor.is_none_or(|anchor| *anchor == AuditHead::EMPTY || *anchor == at);
    records.store.audit(&AuditQuery::default(), &mut |row| {
        // What was appended since the head was read is not part of this verification.
        if at == head && row.seq == head.seq + 1 {
            return ControlFlow::Break(());
        }
        let link = check_link(&records.keyring, &at, row, vouched.to);
        at = AuditHead { seq: row.seq, mac: row.mac.tag };
        match link {
            Ok(event) => {
                if event.kind == EventKind::ChainBroken {
                    first_break = first_break.or(Some(row.seq));
                }
                anchored |= anchor == Some(&at);
                if troubles.is_empty() {
                    each(row, &event);
                }
            }
            // Which of those that were vouched for together is not as it was, nobody can tell any more.
            Err(AuditVerdict::KeyringBehind { seq, .. }) if seq <= vouched.broken_to => {
                if !std::mem::replace(&mut doubted, true) {
                    troubles.push(AuditVerdict::BrokenAt { seq: vouched.broken_to });
                }
            }
            Err(found) => troubles.push(found),
        }
        ControlFlow::Continue(())
    })?;
    if at != head {
        troubles.push(AuditVerdict::TailDiffers { last: at.seq, head: head.seq });
    }
    if let Some(anchor) = anchor.filter(|_| !anchored) {
        troubles.push(AuditVerdict::NotAnchored { last: at.seq, anchor: anchor.seq });
    }
    let verdict = match (troubles.first(), first_break) {
        (Some(first), _) => *first,
        (None, Some(first_break)) => AuditVerdict::Segmented { first_break, head },
        (None, None) => AuditVerdict::Sound { head },
    };
    Ok((verdict, troubles))
}

fn check_link(
    keyring: &Keyring,
    previous: &AuditHead,
    row: &AuditRow,
    vouched_to: u64,
) -> Result<Event, AuditVerdict> {
    let broken = AuditVerdict::BrokenAt { seq: previous.seq + 1 };
    let event = entry(row).map_err(|_| broken)?.event;
    // An entry that begins a new segment follows nothing but its number.
    let is_break = event.kind == EventKind::ChainBroken;
    let previous = if is_break { &AuditHead { mac: [0; 32], ..*previous } } else { previous };
    match audit::check(keyring, row.mac.generation, previous, &row.body, &row.mac.tag) {
        _ if row.seq != previous.seq + 1 => Err(broken),
        Link::UnknownGeneration if row.seq <= vouched_to && columns_agree(row, &event) => Ok(event),
        Link::UnknownGeneration => {
            Err(AuditVerdict::KeyringBehind { seq: row.seq, generation: row.mac.generation })
        }
        Link::Sound if columns_agree(row, &event) => Ok(event),
        Link::Sound | Link::Broken => Err(broken),
    }
}

/// Whether the fields by which an entry is found say what its body says.
fn columns_agree(row: &AuditRow, event: &Event) -> bool {
    row.at == event.at
        && row.kind == event.kind.as_str()
        && row.actor == event.actor.name()
        && row.key == event.key.map(|key| key.to_string())
        && row.version == event.version.map(VersionNo::get)
        && row.owner.as_deref() == event.owner.as_ref().map(OwnerId::as_str)
}

/// An entry as its row says it.
pub(crate) fn entry(row: &AuditRow) -> Result<AuditEntry, ReadError> {
    let event = serde_json::from_slice::<Event>(&row.body).map_err(|_| ReadError::AuditTampered(row.seq))?;
    Ok(AuditEntry { seq: row.seq, event })
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::actor::Actor;
    use crate::id::RoleName;
    use crate::manager::KeyManager;
    use crate::scope::ScopeSet;
    use crate::store::Head;
    use crate::store::sqlite::SqliteStore;

    #[test]
    fn a_log_whose_beginning_was_removed_under_a_signed_start_is_sound_and_without_that_start_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.db");
        let keyring = Keyring::generate().unwrap();
        let store = Arc::new(SqliteStore::open(&path).unwrap());
        let keys =
            KeyManager::open(Arc::clone(&store) as Arc<dyn crate::store::KeyStore>, keyring.clone()).unwrap();
        let mut heads = Vec::new();
        for name in ["a", "b", "c", "d"] {
            keys.by(Actor::operator("root"))
                .set_role(RoleName::new(name).unwrap(), ScopeSet::default())
                .unwrap();
            heads.push(keys.audit_head().unwrap());
        }
        let shell = rusqlite::Connection::open(&path).unwrap();
        shell.execute("DELETE FROM audit WHERE seq <= ?1", (i64::try_from(heads[1].seq).unwrap(),)).unwrap();
        assert_eq!(keys.verify_audit().unwrap(), AuditVerdict::BrokenAt { seq: 1 });

        let records = Records::new(store, keyring.clone());
        let Head { revision, floor, .. } = records.store.head().unwrap().unwrap();
        let body = crate::store::HeadBody { audit_start: Some(heads[1]), ..records.head().unwrap() };
        let head = Head::write(&keyring, revision, floor, &body).unwrap();
        let row = (str::from_utf8(&head.body).unwrap(), head.mac.tag.as_slice());
        shell.execute("UPDATE head SET body = ?1, mac = ?2", row).unwrap();
        let verdict = |anchor| verify(&records, anchor, |_, _| ()).unwrap().0;
        assert!(verdict(None).is_sound());
        assert!(verdict(Some(&heads[1])).is_sound() && verdict(Some(&heads[2])).is_sound());
        assert!(matches!(verdict(Some(&heads[0])), AuditVerdict::NotAnchored { .. }));
    }
}

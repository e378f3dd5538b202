//! A changeset: all that one commit writes, decided outside and sealed inside the store's transaction.

use std::collections::BTreeMap;

use crate::actor::Context;
use crate::audit::{self, AuditHead};
use crate::event::{Event, EventKind};
use crate::id::{KeyId, OwnerId, StoreId, VersionNo};
use crate::keyring::{Generation, Keyring};
use crate::store::head::{Check, Head, HeadBody};
use crate::store::row::{Revision, Row, RowFault, RowIndex, RowKind, RowMac};
use crate::time::Timestamp;

/// One sealed write. A store carries out all of a commit's writes, in order, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Write {
    /// Add the row; a conflict if its kind and id, or its kind and unique field, are taken.
    Insert(Row),
    /// Put the row in the place of the one with its kind and id; a conflict unless that one has this revision.
    ///
    /// The new row's own revision is what is stored, and what the feed goes by. It may be the one that is expected: the
    /// same record is written again then, only under another master key, and the feed has nothing to tell.
    Replace {
        /// The new row.
        row: Row,
        /// The revision of the row that was read.
        expected: Revision,
    },
    /// Remove the row; a conflict unless it has this revision. Of followed kinds the feed tells it.
    Delete {
        /// What the row records.
        kind: RowKind,
        /// Its id.
        id: String,
        /// The revision of the row that was read.
        expected: Revision,
    },
    /// Write nothing; a conflict unless the row has this revision (`None`: unless there is no such row).
    Expect {
        /// What the row records.
        kind: RowKind,
        /// Its id.
        id: String,
        /// The revision of the row that was read.
        expected: Option<Revision>,
    },
}

/// An entry of the audit log as a store keeps it: appended, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number; without gaps.
    pub seq: u64,
    /// When it took effect.
    pub at: Timestamp,
    /// The event's kind, such as `key_rotation`.
    pub kind: String,
    /// The name of the actor.
    pub actor: String,
    /// The key concerned.
    pub key: Option<String>,
    /// The version concerned.
    pub version: Option<u32>,
    /// The owner concerned.
    pub owner: Option<String>,
    /// JSON text; to the store only bytes.
    pub body: Vec<u8>,
    /// The MAC that links it to its predecessor.
    pub mac: RowMac,
}

/// A changeset with its revision allotted, its entries linked and its MACs computed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SealedChangeset {
    /// The head to put in the place of the one that was given to [`Changeset::seal`].
    pub head: Head,
    /// The writes, in order.
    pub writes: Vec<Write>,
    /// The audit entries to append.
    pub audit: Vec<AuditRow>,
}

/// Why a changeset cannot be written on this head; the store rolls back and answers what it says.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Somebody else founded the store first, or it is not founded yet: read it again.
    #[error("the store was founded, or emptied, meanwhile")]
    Conflict,
    /// The head's MAC is wrong, the head is gone, or it is older than the audit log.
    #[error("the head of the store was edited; run the audit's verification")]
    HeadTampered,
    /// The head was written under a generation that the keyring does not hold.
    #[error(
        "the head of the store was written under master key generation {0}, which the keyring does not hold"
    )]
    UnknownGeneration(Generation),
}

crate::text::debug_as_told!(SealError);

#[derive(Clone, Debug)]
enum Purpose {
    Founding(StoreId),
    Ordinary,
    Emergency(Segment),
    /// A backup becomes a store of its own, with a revision beyond this one.
    Restoring(StoreId, Revision),
    /// Puts a damaged head in place.
    #[cfg(any(test, feature = "conformance"))]
    Damage(Head),
}

/// What an emergency on a damaged head begins with: of that head nothing is taken over that could do harm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// The store's id, as it was when it was opened.
    pub(crate) store: StoreId,
    /// The time of the act.
    pub(crate) now: Timestamp,
    /// A random number, by which followers notice.
    pub(crate) number: u64,
}

/// What a store holds, whatever its head says: a head that was edited, brought back or deleted does not know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// The highest revision of the rows of followed kinds and of the deletions in the feed; 0 without any.
    pub revision: Revision,
    /// The number of the last audit entry; 0 without any.
    pub entry: u64,
}

impl Tail {
    /// No store comes so far by itself: revisions and numbers from here on, which only an edit can bring, need not be
    /// told, so that one edit does not use up all that could follow.
    pub const LIMIT: u64 = 1 << 62;
}

/// A row to be written, before its revision and MAC are known.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) kind: RowKind,
    pub(crate) id: String,
    pub(crate) index: RowIndex,
    pub(crate) body: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Change {
    Insert(Draft),
    Replace(Draft, Revision),
    Rewrite(Draft, Revision),
    Delete(RowKind, String, Revision),
    Expect(RowKind, String, Option<Revision>),
}

/// Everything that one commit writes: rows, expectations, audit entries and the head.
///
/// A store begins its transaction, reads its head, calls [`Changeset::seal`] with it under its write lock, and
/// writes what that returns.
#[derive(Clone, Debug)]
pub struct Changeset {
    keyring: Keyring,
    purpose: Purpose,
    changes: Vec<Change>,
    events: Vec<Event>,
    high_water: Option<Timestamp>,
    floor: Option<Revision>,
}

impl Changeset {
    pub(crate) fn new(keyring: &Keyring) -> Self {
        Self {
            keyring: keyring.clone(),
            purpose: Purpose::Ordinary,
            changes: Vec::new(),
            events: Vec::new(),
            high_water: None,
            floor: None,
        }
    }

    /// The first commit of a store.
    pub(crate) fn founding(keyring: &Keyring, store: StoreId, now: Timestamp) -> Self {
        Self { purpose: Purpose::Founding(store), high_water: Some(now), ..Self::new(keyring) }
    }

    /// An act that a damaged head must not block; on one it starts a new segment of the audit log.
    pub(crate) fn emergency(keyring: &Keyring, segment: Segment) -> Self {
        Self { purpose: Purpose::Emergency(segment), ..Self::new(keyring) }
    }

    /// What a SQL shell does to a head, for stores that have none.
    #[cfg(any(test, feature = "conformance"))]
    pub(crate) fn damage(keyring: &Keyring, head: Head) -> Self {
        Self { purpose: Purpose::Damage(head), ..Self::new(keyring) }
    }

    /// Makes a backup a store of its own: with a new id, so that followers load anew, and beyond a revision that they
    /// may have seen.
    #[cfg_attr(not(feature = "sqlite"), expect(dead_code, reason = "only files have backups"))]
    pub(crate) fn restoring(keyring: &Keyring, store: StoreId, beyond: Revision) -> Self {
        Self { purpose: Purpose::Restoring(store, beyond), ..Self::new(keyring) }
    }

    pub(crate) fn insert(&mut self, draft: Draft) {
        self.changes.push(Change::Insert(draft));
    }

    pub(crate) fn replace(&mut self, draft: Draft, expected: Revision) {
        self.changes.push(Change::Replace(draft, expected));
    }

    /// Writes a row again under the current generation. What it records stays as it is, and so does its revision: nobody
    /// who has read it has anything to learn.
    pub(crate) fn rewrite(&mut self, draft: Draft, expected: Revision) {
        self.changes.push(Change::Rewrite(draft, expected));
    }

    pub(crate) fn delete(&mut self, kind: RowKind, id: impl Into<String>, expected: Revision) {
        self.changes.push(Change::Delete(kind, id.into(), expected));
    }

    pub(crate) fn expect(&mut self, kind: RowKind, id: impl Into<String>, expected: Option<Revision>) {
        self.changes.push(Change::Expect(kind, id.into(), expected));
    }

    pub(crate) fn record(&mut self, event: Event) {
        self.events.push(event);
    }

    /// What it records so far.
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// Whether it may begin a new segment of the audit log.
    pub(crate) fn is_emergency(&self) -> bool {
        matches!(self.purpose, Purpose::Emergency(_))
    }

    /// The rows that it writes, each with the revision of the one that it replaces; 0 for a new one.
    pub(crate) fn drafts(&self) -> impl Iterator<Item = (&Draft, Revision)> {
        self.changes.iter().filter_map(|change| match change {
            Change::Insert(draft) => Some((draft, Revision(0))),
            Change::Replace(draft, expected) => Some((draft, *expected)),
            Change::Rewrite(..) | Change::Delete(..) | Change::Expect(..) => None,
        })
    }

    /// Advances the high-water mark; it never goes back.
    pub(crate) fn advance_clock(&mut self, now: Timestamp) {
        self.high_water = Some(now);
    }

    /// Drops deletions up to `floor` from the feed.
    pub(crate) fn raise_floor(&mut self, floor: Revision) {
        self.floor = Some(floor);
    }

    /// Whether it removes a row of this kind: a store that keeps files learns here that there is something to
    /// [scrub](crate::KeyStore::scrub).
    #[must_use]
    pub fn deletes(&self, kind: RowKind) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Delete(of, ..) if *of == kind))
    }

    /// Whether committing this would write nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.events.is_empty() && self.high_water.is_none() && self.floor.is_none()
    }

    /// Allots the revision, links the audit entries and computes the MACs.
    ///
    /// To be called by a store inside its transaction, under its write lock, with the head that it holds
    /// (`None` for an empty store) and what it holds besides. Pure: the same gives the same result.
    ///
    /// # Errors
    /// [`SealError`]; the store writes nothing then.
    pub fn seal(&self, head: Option<&Head>, tail: Tail) -> Result<SealedChangeset, SealError> {
        #[cfg(any(test, feature = "conformance"))]
        if let Purpose::Damage(head) = &self.purpose {
            return Ok(SealedChangeset { head: head.clone(), writes: Vec::new(), audit: Vec::new() });
        }
        let Base { revision, floor, mut body, broken } = self.base(head, tail)?;
        let revision = match self.purpose {
            Purpose::Restoring(store, beyond) => {
                body.restored_from.get_or_insert(body.store);
                body.store = store;
                revision.max(beyond)
            }
            _ => revision,
        };
        let before = revision;
        let revision = Revision(revision.0 + 1);
        // Nobody knows what the feed lacks behind a damaged head: all followers load anew.
        let floor = if broken { revision } else { self.floor.unwrap_or(floor).clamp(floor, revision) };
        if let Some(now) = self.high_water {
            body.high_water = body.high_water.max(now);
        }
        let generation = self.keyring.current();
        let check = Check(*self.keyring.current_keys().check());
        body.checks.entry(generation).or_insert(check);
        body.note_generation(generation, before, revision);
        let notice = broken.then(|| self.events.first().map(chain_broken)).flatten();
        let mut audit = Vec::with_capacity(self.events.len());
        for event in notice.iter().chain(&self.events) {
            let row = audit_row(&self.keyring, &mut body.audit, event).ok_or(SealError::HeadTampered)?;
            audit.push(row);
        }
        let writes = self.changes.iter().map(|change| self.write(change, revision)).collect();
        let head = Head::write(&self.keyring, revision, floor, &body).ok_or(SealError::HeadTampered)?;
        Ok(SealedChangeset { head, writes, audit })
    }

    /// What this commit goes on from.
    fn base(&self, head: Option<&Head>, tail: Tail) -> Result<Base, SealError> {
        let damaged = match (head, &self.purpose) {
            (None, Purpose::Founding(store)) if tail == Tail::default() => return self.founded(*store),
            // Emptied as a whole, or not founded yet.
            (None, _) if tail == Tail::default() => return Err(SealError::Conflict),
            (Some(_), Purpose::Founding(_)) => return Err(SealError::Conflict),
            (None, _) => None,
            (Some(head), _) => match head.read(&self.keyring) {
                // An old head that was put back is sound, and knows less than the log.
                Ok(body) if body.audit.seq >= tail.entry => {
                    return Ok(Base { revision: head.revision, floor: head.floor, body, broken: false });
                }
                Err(RowFault::UnknownGeneration(generation)) => {
                    return Err(SealError::UnknownGeneration(generation));
                }
                Ok(_) | Err(RowFault::Tampered) => Some(head),
            },
        };
        match self.purpose {
            // Nobody may block a revocation by damaging the head: it goes on behind all that there is, and says so.
            Purpose::Emergency(segment) => Ok(self.behind(damaged, tail, segment)),
            _ => Err(SealError::HeadTampered),
        }
    }

    fn founded(&self, store: StoreId) -> Result<Base, SealError> {
        let high_water = self.high_water.ok_or(SealError::Conflict)?;
        let checks = BTreeMap::new();
        let body = HeadBody::new(store, 0, AuditHead::EMPTY, high_water, checks);
        Ok(Base { revision: Revision(0), floor: Revision(0), body, broken: false })
    }

    fn behind(&self, damaged: Option<&Head>, tail: Tail, segment: Segment) -> Base {
        let Segment { store, now, number } = segment;
        let said = damaged.map_or(Revision(0), |head| head.revision);
        // What it says counts where it leaves room.
        let revision = if said.0 < Tail::LIMIT / 2 { said.max(tail.revision) } else { tail.revision };
        let high_water = match damaged.map(|head| (head.read(&self.keyring), head.peek())) {
            Some((Ok(body), _)) => body.high_water,
            // A mark that somebody wrote must not end what has not ended yet.
            Some((Err(_), Some(body))) => body.high_water.min(now),
            Some((Err(_), None)) | None => now,
        };
        let keys = |generation| Some((generation, Check(*self.keyring.keys(generation)?.check())));
        let checks = self.keyring.generations().filter_map(keys).collect();
        let audit = AuditHead { seq: tail.entry, mac: [0; 32] };
        let body = HeadBody::new(store, number, audit, high_water, checks);
        Base { revision, floor: Revision(0), body, broken: true }
    }

    fn write(&self, change: &Change, revision: Revision) -> Write {
        match change {
            Change::Insert(draft) => Write::Insert(self.row(draft, revision)),
            Change::Replace(draft, expected) => {
                Write::Replace { row: self.row(draft, revision), expected: *expected }
            }
            Change::Rewrite(draft, expected) => {
                Write::Replace { row: self.row(draft, *expected), expected: *expected }
            }
            Change::Delete(kind, id, expected) => {
                Write::Delete { kind: *kind, id: id.clone(), expected: *expected }
            }
            Change::Expect(kind, id, expected) => {
                Write::Expect { kind: *kind, id: id.clone(), expected: *expected }
            }
        }
    }

    fn row(&self, draft: &Draft, revision: Revision) -> Row {
        let generation = self.keyring.current();
        let mut row = Row {
            kind: draft.kind,
            id: draft.id.clone(),
            revision,
            index: draft.index.clone(),
            body: draft.body.clone(),
            mac: RowMac { generation, tag: [0; 32] },
        };
        if let Some(tag) = row.as_ref().tag(&self.keyring, generation) {
            row.mac.tag = tag;
        }
        row
    }
}

/// What a commit goes on from.
struct Base {
    revision: Revision,
    floor: Revision,
    body: HeadBody,
    /// Whether the audit log's chain was broken before it.
    broken: bool,
}

/// The entry that opens a new segment, in the name of whoever acted on the damaged log.
fn chain_broken(event: &Event) -> Event {
    let context = Context { actor: event.actor.clone(), reason: None, request: event.request.clone() };
    Event::new(event.at, EventKind::ChainBroken, &context)
}

fn audit_row(keyring: &Keyring, head: &mut AuditHead, event: &Event) -> Option<AuditRow> {
    let body = serde_json::to_vec(event).ok()?;
    *head = audit::append(keyring, head, &body);
    Some(AuditRow {
        seq: head.seq,
        at: event.at,
        kind: event.kind.as_str().to_owned(),
        actor: event.actor.name().to_owned(),
        key: event.key.map(|key: KeyId| key.to_string()),
        version: event.version.map(VersionNo::get),
        owner: event.owner.map(|owner: OwnerId| owner.as_str().to_owned()),
        body,
        mac: RowMac { generation: keyring.current(), tag: head.mac },
    })
}

//! A row: one record's stored form. A store keeps rows and looks inside none.

use std::fmt;

use crate::crypto;
use crate::keyring::{Generation, Keyring};
use crate::time::Timestamp;

/// The number of a commit, counted from 1: the stored rows' `revision` is the commit that last changed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// What a row records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RowKind {
    /// A key; its id is the key's.
    Key,
    /// A version of a key; the parent is the key, the unique field its locator.
    Version,
    /// An owner.
    Owner,
    /// A role.
    Role,
    /// The deployment's settings.
    Policy,
    /// A rotation; the parent is its key.
    Rotation,
    /// A secret sealed at rest; the parent is its key.
    Sealed,
    /// A request id that was used.
    Request,
    /// A notification to be delivered.
    Outbox,
    /// What was leased of a key's quota; its id and its parent are the key's.
    Quota,
}

impl RowKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Key,
        Self::Version,
        Self::Owner,
        Self::Role,
        Self::Policy,
        Self::Rotation,
        Self::Sealed,
        Self::Request,
        Self::Outbox,
        Self::Quota,
    ];

    /// A stable number to store.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Key => 1,
            Self::Version => 2,
            Self::Owner => 3,
            Self::Role => 4,
            Self::Policy => 5,
            Self::Rotation => 6,
            Self::Sealed => 7,
            Self::Request => 8,
            Self::Outbox => 9,
            Self::Quota => 10,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Whether changes of such rows appear in the feed: those by which validation is decided.
    #[must_use]
    pub const fn is_followed(self) -> bool {
        matches!(self, Self::Key | Self::Version | Self::Owner | Self::Role)
    }

    /// The name people read.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Version => "version",
            Self::Owner => "owner",
            Self::Role => "role",
            Self::Policy => "policy",
            Self::Rotation => "rotation",
            Self::Sealed => "sealed",
            Self::Request => "request",
            Self::Outbox => "outbox",
            Self::Quota => "quota",
        }
    }
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The typed fields by which a store finds rows; it must return them as it got them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowIndex {
    /// The id of the row that this one belongs to.
    pub parent: Option<String>,
    /// The owner that this row belongs to.
    pub owner: Option<String>,
    /// When time next makes something of this row due.
    pub due_at: Option<Timestamp>,
    /// When what the row describes ends.
    pub ends_at: Option<Timestamp>,
    /// A short state for people and filters.
    pub state: Option<String>,
    /// A value that no two rows of one kind may share.
    pub unique: Option<String>,
}

/// [`RowIndex`], borrowed from a store for the time of a callback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowIndexRef<'a> {
    /// See [`RowIndex::parent`].
    pub parent: Option<&'a str>,
    /// See [`RowIndex::owner`].
    pub owner: Option<&'a str>,
    /// See [`RowIndex::due_at`].
    pub due_at: Option<Timestamp>,
    /// See [`RowIndex::ends_at`].
    pub ends_at: Option<Timestamp>,
    /// See [`RowIndex::state`].
    pub state: Option<&'a str>,
    /// See [`RowIndex::unique`].
    pub unique: Option<&'a str>,
}

/// A MAC with the generation of the master key under which it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowMac {
    /// The generation.
    pub generation: Generation,
    /// HMAC-SHA256.
    pub tag: [u8; 32],
}

/// A stored row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it records.
    pub kind: RowKind,
    /// Its id, unique within the kind; at most 200 bytes.
    pub id: String,
    /// The commit that last changed it.
    pub revision: Revision,
    /// The fields by which it is found.
    pub index: RowIndex,
    /// The record, as JSON text; to the store only bytes.
    pub body: Vec<u8>,
    /// The MAC over all of the above.
    pub mac: RowMac,
}

/// A [`Row`], borrowed from a store for the time of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef<'a> {
    /// See [`Row::kind`].
    pub kind: RowKind,
    /// See [`Row::id`].
    pub id: &'a str,
    /// See [`Row::revision`].
    pub revision: Revision,
    /// See [`Row::index`].
    pub index: RowIndexRef<'a>,
    /// See [`Row::body`].
    pub body: &'a [u8],
    /// See [`Row::mac`].
    pub mac: RowMac,
}

impl Row {
    /// The row, borrowed.
    #[must_use]
    pub fn as_ref(&self) -> RowRef<'_> {
        let RowIndex { parent, owner, due_at, ends_at, state, unique } = &self.index;
        RowRef {
            kind: self.kind,
            id: &self.id,
            revision: self.revision,
            index: RowIndexRef {
                parent: parent.as_deref(),
                owner: owner.as_deref(),
                due_at: *due_at,
                ends_at: *ends_at,
                state: state.as_deref(),
                unique: unique.as_deref(),
            },
            body: &self.body,
            mac: self.mac,
        }
    }
}

/// Why a row's bytes are not to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowFault {
    /// Its MAC is wrong: the row was edited, moved or brought back.
    Tampered,
    /// The keyring does not hold the generation that it was written under.
    UnknownGeneration(Generation),
}

fn presence(present: bool) -> &'static [u8] {
    if present { b"+" } else { b"-" }
}

impl<'a> RowRef<'a> {
    /// An owned copy.
    #[must_use]
    pub fn to_row(&self) -> Row {
        let RowIndexRef { parent, owner, due_at, ends_at, state, unique } = self.index;
        Row {
            kind: self.kind,
            id: self.id.to_owned(),
            revision: self.revision,
            index: RowIndex {
                parent: parent.map(str::to_owned),
                owner: owner.map(str::to_owned),
                due_at,
                ends_at,
                state: state.map(str::to_owned),
                unique: unique.map(str::to_owned),
            },
            body: self.body.to_vec(),
            mac: self.mac,
        }
    }

    /// The tag that this row has to have under a generation's key.
    pub(crate) fn tag(&self, keyring: &Keyring, generation: Generation) -> Option<[u8; 32]> {
        // An absent field and an empty one must not read alike, so each is preceded by its presence.
        let text = |text: Option<&'a str>| [presence(text.is_some()), text.unwrap_or("").as_bytes()];
        let micros = |time: Option<Timestamp>| time.map_or([0; 8], |time| time.unix_micros().to_be_bytes());
        let RowIndexRef { parent, owner, due_at, ends_at, state, unique } = self.index;
        let head: [&[u8]; 5] = [
            b"row v1",
            &[self.kind.code()],
            self.id.as_bytes(),
            &self.revision.0.to_be_bytes(),
            &generation.get().to_be_bytes(),
        ];
        let index = [
            text(parent),
            text(owner),
            [presence(due_at.is_some()), &micros(due_at)],
            [presence(ends_at.is_some()), &micros(ends_at)],
            text(state),
            text(unique),
        ];
        let mut fields = [&[][..]; 18];
        let parts = head.into_iter().chain(index.into_iter().flatten()).chain([self.body]);
        fields.iter_mut().zip(parts).for_each(|(slot, part)| *slot = part);
        Some(keyring.keys(generation)?.row.sign_fields(&fields))
    }

    /// Whether the row is as the library wrote it.
    pub(crate) fn verify(&self, keyring: &Keyring) -> Result<(), RowFault> {
        match self.tag(keyring, self.mac.generation) {
            None => Err(RowFault::UnknownGeneration(self.mac.generation)),
            Some(tag) if crypto::ct_eq_32(&tag, &self.mac.tag) => Ok(()),
            Some(_) => Err(RowFault::Tampered),
        }
    }
}

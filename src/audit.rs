//! The audit log: each event in a chain of MACs, whose head the store keeps.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::crypto;
use crate::encode::{hex, hex_bytes, unhex};
use crate::event::Event;
use crate::keyring::{Generation, GenerationKeys, Keyring};

/// The end of the chain: how many entries there are, and the MAC of the last one.
///
/// Kept outside the store, it is the anchor against which a cut tail or an old file shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// The number of the last entry; entries are counted from 1 without gaps.
    pub seq: u64,
    /// The MAC of the last entry, which covers all before it.
    #[serde(with = "hex_bytes")]
    pub mac: [u8; 32],
}

impl AuditHead {
    /// The head of an empty log.
    pub(crate) const EMPTY: Self = Self { seq: 0, mac: [0; 32] };
}

/// One entry of the audit log, as it was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Its number in the log.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// The MAC of one entry: over its predecessor's, its number and its stored bytes.
fn chain(keyring: &Keyring, generation: Generation, previous: &AuditHead, body: &[u8]) -> Option<[u8; 32]> {
    let seq = (previous.seq + 1).to_be_bytes();
    let number = generation.get().to_be_bytes();
    let fields: [&[u8]; 5] = [b"audit v1", &previous.mac, &seq, &number, body];
    Some(keyring.keys(generation)?.audit.sign_fields(&fields))
}

/// The head after an entry with this body was added under the current generation.
pub(crate) fn append(keyring: &Keyring, previous: &AuditHead, body: &[u8]) -> AuditHead {
    let mac = chain(keyring, keyring.current(), previous, body).unwrap_or([0; 32]);
    AuditHead { seq: previous.seq + 1, mac }
}

/// All entries up to one, as a retirement of a generation vouches for them: by a MAC over their bytes under the
/// generation that is current then, so that they can be verified without the one under which they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vouched {
    /// The number of the last entry.
    pub(crate) seq: u64,
    pub(crate) tag: [u8; 32],
}

impl Vouched {
    /// Of no entry.
    pub(crate) const NOTHING: Self = Self { seq: 0, tag: [0; 32] };

    /// The same with one more entry: by its number, its body and its MAC, of whatever generation that is.
    pub(crate) fn with(
        self,
        keys: &GenerationKeys,
        seq: u64,
        (generation, mac): (Generation, &[u8; 32]),
        body: &[u8],
    ) -> Self {
        let (number, generation) = (seq.to_be_bytes(), generation.get().to_be_bytes());
        let fields: [&[u8]; 6] = [b"vouched v1", &self.tag, &number, &generation, mac, body];
        Self { seq, tag: keys.audit.sign_fields(&fields) }
    }
}

impl fmt::Display for Vouched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entries to {} as {}", self.seq, hex(&self.tag))
    }
}

impl FromStr for Vouched {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (seq, tag) =
            text.strip_prefix("entries to ").and_then(|rest| rest.split_once(" as ")).ok_or(())?;
        let tag = unhex(tag.as_bytes()).ok_or(())?;
        Ok(Self { seq: seq.parse().map_err(drop)?, tag })
    }
}

/// What a link of the chain turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Sound,
    Broken,
    UnknownGeneration,
}

/// Whether `mac` is right for an entry that follows `previous`.
pub(crate) fn check(
    keyring: &Keyring,
    generation: Generation,
    previous: &AuditHead,
    body: &[u8],
    mac: &[u8; 32],
) -> Link {
    match chain(keyring, generation, previous, body) {
        None => Link::UnknownGeneration,
        Some(expected) if crypto::ct_eq_32(&expected, mac) => Link::Sound,
        Some(_) => Link::Broken,
    }
}

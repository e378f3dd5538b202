//! The audit log: each event in a chain of MACs, whose head the store keeps.

use serde::{Deserialize, Serialize};

use crate::crypto;
use crate::encode::hex_bytes;
use crate::event::Event;
use crate::keyring::{Generation, Keyring};

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

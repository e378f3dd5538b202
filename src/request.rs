//! The record of a request id: what was done under it, so that its repetition is recognised.

use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::crypto;
use crate::encode::hex_bytes;
use crate::id::{KeyId, RequestId, VersionNo};
use crate::time::Timestamp;

/// A request id that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestRecord {
    pub(crate) id: RequestId,
    pub(crate) operation: Operation,
    pub(crate) actor: Actor,
    pub(crate) at: Timestamp,
    /// When the record may go.
    pub(crate) until: Timestamp,
    /// The key that the act concerned, or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<KeyId>,
    /// The version that the act made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<VersionNo>,
}

/// Which act it was, with what: two calls are the same when these are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operation {
    name: String,
    #[serde(with = "hex_bytes")]
    arguments: [u8; 32],
}

impl Operation {
    pub(crate) fn new(name: &str, arguments: &impl Serialize) -> Self {
        let arguments = serde_json::to_vec(arguments).unwrap_or_default();
        Self { name: name.to_owned(), arguments: crypto::sha256(&arguments) }
    }
}

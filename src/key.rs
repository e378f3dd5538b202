//! The key's record: the stable identity that survives every rotation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::{KeyId, KeyName, OwnerId, RoleName, RotationId};
use crate::limit::Limits;
use crate::network::Networks;
use crate::policy::RotationPolicy;
use crate::scope::ScopeSet;
use crate::time::Timestamp;
use crate::token::Prefix;

/// A key's metadata is not an object, too large or too deep.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The JSON text does not parse.
    #[error("the metadata is not JSON")]
    Syntax,
    /// The value is not an object.
    #[error("the metadata is not a JSON object; put it under a name")]
    NotAnObject,
    /// The JSON text is longer than 8 KiB.
    #[error("the metadata is longer than 8192 bytes of JSON; keep a reference instead")]
    TooLarge,
    /// Arrays and objects are nested more than 32 deep.
    #[error("the metadata is nested deeper than 32; flatten it")]
    TooDeep,
}

crate::text::debug_as_told!(MetadataError);

/// What a host keeps with a key: a JSON object of at most 8 KiB and depth 32. The library never decides by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// The longest JSON text, in bytes.
    pub const MAX_BYTES: usize = 8 * 1024;
    /// The deepest nesting; the object itself is the first level.
    pub const MAX_DEPTH: usize = 32;

    /// Takes a JSON object.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn new(value: Value) -> Result<Self, MetadataError> {
        fn within(value: &Value, levels: usize) -> bool {
            match value {
                Value::Array(items) => levels > 0 && items.iter().all(|item| within(item, levels - 1)),
                Value::Object(fields) => levels > 0 && fields.values().all(|field| within(field, levels - 1)),
                _ => true,
            }
        }
        if !within(&value, Self::MAX_DEPTH) {
            return Err(MetadataError::TooDeep);
        }
        let Value::Object(fields) = value else { return Err(MetadataError::NotAnObject) };
        let length = serde_json::to_vec(&fields).map_err(|_| MetadataError::Syntax)?.len();
        if length > Self::MAX_BYTES { Err(MetadataError::TooLarge) } else { Ok(Self(fields)) }
    }

    /// Reads JSON text.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn from_json(text: &str) -> Result<Self, MetadataError> {
        if text.len() > Self::MAX_BYTES {
            return Err(MetadataError::TooLarge);
        }
        // serde_json itself refuses a depth above 128, before the stack is in danger.
        let too_deep = |error: serde_json::Error| {
            if error.to_string().contains("recursion limit") {
                MetadataError::TooDeep
            } else {
                MetadataError::Syntax
            }
        };
        Self::new(serde_json::from_str(text).map_err(too_deep)?)
    }

    /// The fields.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Value> for Metadata {
    type Error = MetadataError;
    fn try_from(value: Value) -> Result<Self, MetadataError> {
        Self::new(value)
    }
}

impl From<Metadata> for Value {
    fn from(metadata: Metadata) -> Self {
        Self::Object(metadata.0)
    }
}

/// A key as the store remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    pub(crate) id: KeyId,
    pub(crate) owner: OwnerId,
    pub(crate) name: KeyName,
    pub(crate) prefix: Prefix,
    pub(crate) scopes: ScopeSet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<RoleName>,
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub(crate) limits: Limits,
    /// Absent, the key may be used from everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) networks: Option<Networks>,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub(crate) metadata: Metadata,
    /// A complete policy of its own; absent, the deployment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<RotationPolicy>,
    pub(crate) issued_at: Timestamp,
    /// No version of a never-expiring key has an expiry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) never_expires: bool,
    /// The end of the whole key, which no rotation passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hard_end: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at: Option<Timestamp>,
    /// Whether it rotates by itself, where that was said of this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) auto_rotation: Option<bool>,
    /// Whether it rotates by itself, by what key, owner and deployment say; where this lags behind, a tick finds out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) rotates: bool,
    /// Nobody took a successor over: none is made any more until somebody acts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) lapsed: bool,
    /// Before this no successor is made by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next_attempt_at: Option<Timestamp>,
    /// Until when whoever holds the current version can claim its successor, while one waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) successor_by: Option<Timestamp>,
    /// The rotation that is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) open_rotation: Option<RotationId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_an_object_of_bounded_size_and_depth() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(Metadata::from_json(&nested(32)).is_ok());
        assert_eq!(Metadata::from_json(&nested(33)), Err(MetadataError::TooDeep));
        assert_eq!(Metadata::from_json(&nested(1_000)), Err(MetadataError::TooDeep));
        let sized = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        assert!(Metadata::from_json(&sized(8_192)).is_ok());
        assert_eq!(Metadata::from_json(&sized(8_193)), Err(MetadataError::TooLarge));
        assert_eq!(Metadata::new(Value::Array(vec![])), Err(MetadataError::NotAnObject));
        assert_eq!(Metadata::from_json("{"), Err(MetadataError::Syntax));
        let value = serde_json::json!({ "a": "x".repeat(9_000) });
        assert_eq!(Metadata::new(value), Err(MetadataError::TooLarge));
    }
}

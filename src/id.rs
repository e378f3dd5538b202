//! The names of things: keys, versions, rotations, owners, roles, requests, stores, notifications.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::encode::{base62_fixed, base62_value};
use crate::text::{self, TextError};
use crate::time::Timestamp;

/// 48 bits of milliseconds, then 80 random bits: later ids sort later, which keeps a store's pages local.
fn time_ordered(now: Timestamp, random: [u8; 10]) -> u128 {
    let millis = (now.unix_micros() / 1_000) as u128 & 0xFFFF_FFFF_FFFF;
    random.iter().fold(millis, |value, byte| (value << 8) | u128::from(*byte))
}

macro_rules! time_ordered_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        ///
        /// Sixteen bytes that sort by the time of creation; shown as a prefix and 22 base62 characters.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; 16]);

        impl $name {
            /// A new id of that moment.
            pub(crate) fn new(now: Timestamp, random: [u8; 10]) -> Self {
                Self(time_ordered(now, random).to_be_bytes())
            }

            fn digits(self) -> [u8; 22] {
                base62_fixed(u128::from_be_bytes(self.0))
            }
        }

        impl From<$name> for u128 {
            fn from(id: $name) -> Self {
                Self::from_be_bytes(id.0)
            }
        }

        impl From<u128> for $name {
            fn from(number: u128) -> Self {
                Self(number.to_be_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(std::str::from_utf8(&self.digits()).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = TextError;
            fn from_str(text: &str) -> Result<Self, TextError> {
                let syntax = TextError::Syntax {
                    field: stringify!($name), form: concat!($prefix, " and 22 base62 characters"),
                };
                let digits = text.strip_prefix($prefix).filter(|digits| digits.len() == 22).ok_or(syntax)?;
                base62_value(digits.as_bytes()).map(|value| Self(value.to_be_bytes())).ok_or(syntax)
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextError;
            fn try_from(text: String) -> Result<Self, TextError> {
                text.parse()
            }
        }

        /// Made at once: the texts of ids are made by the thousand.
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                let digits = id.digits();
                let mut text = Self::with_capacity($prefix.len() + digits.len());
                text.push_str($prefix);
                text.push_str(std::str::from_utf8(&digits).unwrap_or_default());
                text
            }
        }
    };
}

time_ordered_id!(
    /// The stable identity of a key; it survives every rotation.
    KeyId, "key_"
);
time_ordered_id!(
    /// The identity of one rotation of a key.
    RotationId, "rot_"
);
time_ordered_id!(
    /// The identity of a store; a restored copy gets another one.
    StoreId, "sto_"
);
time_ordered_id!(
    /// The identity of one notification, the same on every channel and on each repetition: by it a receiver recognises
    /// what it has been told before.
    NotificationId, "ntf_"
);

/// The number of a version within its key, counted from 1 and never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionNo(u32);

impl VersionNo {
    /// The version that a key is born with.
    pub const FIRST: Self = Self(1);

    /// Version number `number`.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number after this one; `None` once four billion are used up.
    pub(crate) fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// `v1`, `v2` …
impl fmt::Display for VersionNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// The host's user, organisation or tenant, as the host names it: 1 to 63 bytes of visible text.
///
/// `Copy`, because each grant carries it. Keyrota names owners and never authenticates them.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OwnerId {
    len: u8,
    bytes: [u8; Self::MAX_BYTES],
}

impl OwnerId {
    /// The longest name of an owner, in bytes of UTF-8.
    pub const MAX_BYTES: usize = 63;

    /// An owner by the host's name for it.
    ///
    /// # Errors
    /// [`TextError`] when the name is empty, longer than [`OwnerId::MAX_BYTES`], or not plain visible text.
    pub fn new(name: &str) -> Result<Self, TextError> {
        text::check("owner", name, Self::MAX_BYTES)?;
        let mut bytes = [0; Self::MAX_BYTES];
        bytes.iter_mut().zip(name.bytes()).for_each(|(slot, byte)| *slot = byte);
        Ok(Self { len: name.len() as u8, bytes })
    }

    /// The host's name for the owner.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|used| str::from_utf8(used).ok()).unwrap_or("")
    }
}

impl PartialEq for OwnerId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for OwnerId {}

impl PartialOrd for OwnerId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for OwnerId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for OwnerId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl TryFrom<String> for OwnerId {
    type Error = TextError;
    fn try_from(name: String) -> Result<Self, TextError> {
        Self::new(&name)
    }
}

impl TryFrom<&str> for OwnerId {
    type Error = TextError;
    fn try_from(name: &str) -> Result<Self, TextError> {
        Self::new(name)
    }
}

impl FromStr for OwnerId {
    type Err = TextError;
    fn from_str(name: &str) -> Result<Self, TextError> {
        Self::new(name)
    }
}

impl From<OwnerId> for String {
    fn from(owner: OwnerId) -> Self {
        owner.as_str().to_owned()
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $field:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The longest text, in bytes of UTF-8.
            pub const MAX_BYTES: usize = $max;

            /// Takes the text after checking it.
            ///
            /// # Errors
            /// [`TextError`] when it is empty, longer than `MAX_BYTES`, or not plain visible text.
            pub fn new(text: impl Into<String>) -> Result<Self, TextError> {
                let text = text.into();
                text::check($field, &text, Self::MAX_BYTES)?;
                Ok(Self(text))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextError;
            fn try_from(text: String) -> Result<Self, TextError> {
                Self::new(text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = TextError;
            fn try_from(text: &str) -> Result<Self, TextError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

text_id!(
    /// What people call a key: 1 to 100 bytes of visible text, not unique.
    KeyName, "key name", 100
);
text_id!(
    /// The name of a role, a named set of scopes.
    RoleName, "role", 64
);
text_id!(
    /// The caller's own id of one operation, by which its repetition is recognised.
    RequestId, "request id", 100
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_their_time_and_read_back_from_their_text() {
        let early = KeyId::new(Timestamp::from_unix_micros(1_000_000).unwrap(), [255; 10]);
        let late = KeyId::new(Timestamp::from_unix_micros(1_001_000).unwrap(), [0; 10]);
        assert!(early < late && early.to_string() < late.to_string());
        assert_eq!(early.to_string().parse(), Ok(early));
        assert_eq!(KeyId::new(Timestamp::MAX, [255; 10]).to_string().len(), 26);
        for bad in [
            "",
            "key_",
            "rot_0000000000000000000000",
            "key_00000000000000000000_0",
            "key_zzzzzzzzzzzzzzzzzzzzzz",
        ] {
            assert!(bad.parse::<KeyId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_owner_is_plain_visible_text_of_at_most_63_bytes() {
        assert_eq!(OwnerId::new("Müller & Söhne").unwrap().as_str(), "Müller & Söhne");
        assert!(OwnerId::new(&"x".repeat(63)).is_ok());
        assert_eq!(OwnerId::new(&"x".repeat(64)), Err(TextError::TooLong { field: "owner", max: 63 }));
        assert!(OwnerId::new("a\nb").is_err() && OwnerId::new("").is_err());
        assert!(serde_json::from_str::<OwnerId>("\"a\\u202eb\"").is_err());
        assert_ne!(OwnerId::new("a").unwrap(), OwnerId::new("b").unwrap());
        assert_eq!(size_of::<OwnerId>(), 64);
    }
}

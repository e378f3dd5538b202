//! A claim's id: made by the client, so that a claim whose answer got lost can be repeated.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::crypto::{self, RandomError};
use crate::encode::hex_bytes;
use crate::text::TextError;

/// What a client made up for one claim: 16 to 128 bytes that nobody else can guess, in any form.
///
/// Together with the token that it is used with it shows the successor's secret: to be kept like one until the
/// successor is in use. The store keeps a hash of it only.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimId(Vec<u8>);

impl ClaimId {
    /// Takes bytes of a client's making.
    ///
    /// # Errors
    /// [`TextError::Syntax`] for less than 16 bytes, more than 128, or bytes that are all alike.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, TextError> {
        let bytes = bytes.as_ref();
        let varies = bytes.iter().any(|byte| Some(byte) != bytes.first());
        if !(16..=128).contains(&bytes.len()) || !varies {
            return Err(TextError::Syntax { field: "claim id", form: "of 16 to 128 random bytes" });
        }
        Ok(Self(bytes.to_owned()))
    }

    /// A fresh id, for clients that are written with this library.
    ///
    /// # Errors
    /// [`RandomError`] when the operating system gives no randomness.
    pub fn random() -> Result<Self, RandomError> {
        Ok(Self(crypto::random_bytes::<16>()?.to_vec()))
    }

    /// The bytes, to be kept by the client until the claim is settled.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn digest(&self) -> ClaimDigest {
        ClaimDigest(crypto::sha256(&self.0))
    }
}

impl fmt::Debug for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimId([redacted])")
    }
}

/// What is stored of a claim's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ClaimDigest(#[serde(with = "hex_bytes")] [u8; 32]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_id_is_long_and_shows_itself_nowhere() {
        assert!(ClaimId::new([7; 16]).is_err(), "all alike");
        assert!(ClaimId::new("fifteen bytes..").is_err() && ClaimId::new("x1".repeat(65)).is_err());
        let id = ClaimId::new("sixteen bytes...").unwrap();
        assert_eq!(format!("{id:?}"), "ClaimId([redacted])");
        assert_eq!(ClaimId::new(id.expose()).unwrap().digest(), id.digest());
        assert_ne!(ClaimId::random().unwrap().digest(), ClaimId::random().unwrap().digest());
    }
}

//! The digest of a token's secret under a master key, and the fingerprint that stands for it in public.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::encode::hex_bytes;
use crate::keyring::{Generation, GenerationKeys};
use crate::token::PresentedToken;

/// How a digest was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DigestScheme {
    /// HMAC-SHA256 of locator and secret under the digest key of a generation.
    HmacSha256,
    /// HMAC-SHA256 of the digest that another system kept of an imported token.
    ImportedDigest,
    /// HMAC-SHA256 of an imported token.
    ImportedToken,
}

/// The stored digest of one version's secret. Useless without the master key; still never shown.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecretDigest {
    pub(crate) scheme: DigestScheme,
    pub(crate) generation: Generation,
    #[serde(rename = "value", with = "hex_bytes")]
    pub(crate) bytes: [u8; 32],
}

impl SecretDigest {
    /// The digest of a presented token under a generation's key.
    pub(crate) fn of(token: &PresentedToken<'_>, generation: Generation, keys: &GenerationKeys) -> Self {
        Self { scheme: DigestScheme::HmacSha256, generation, bytes: keys.digest.sign(token.covered) }
    }

    /// Its value as four words, for comparing.
    pub(crate) fn words(&self) -> [u64; 4] {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(self.bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words
    }

    /// The public name of the secret behind this digest.
    pub(crate) fn fingerprint(&self, keys: &GenerationKeys) -> Fingerprint {
        let tag = keys.digest.sign_fields(&[b"fingerprint v1", &self.bytes]);
        Fingerprint(tag.first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretDigest({:?} {} [redacted])", self.scheme, self.generation)
    }
}

/// A short public name for a version's secret, computed once when the version is made; for audit and
/// notifications. It reveals nothing about the secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 8]);

impl Fingerprint {
    /// Of a secret that is only planned.
    pub(crate) const BLANK: Self = Self([0; 8]);
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fp_{}", crate::encode::hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = crate::text::TextError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let syntax = crate::text::TextError::Syntax {
            field: "fingerprint",
            form: "fp_ and 16 hexadecimal characters",
        };
        let digits = text.strip_prefix("fp_").ok_or(syntax)?;
        crate::encode::unhex(digits.as_bytes()).map(Self).ok_or(syntax)
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::Keyring;
    use crate::token::{Prefix, SecretToken};

    #[test]
    fn the_digest_depends_on_the_secret_and_on_the_master_key_but_not_on_the_prefix() {
        let (one, other) = (Keyring::generate().unwrap(), Keyring::generate().unwrap());
        let token = SecretToken::generate(Prefix::default()).unwrap();
        let second = SecretToken::generate(Prefix::default()).unwrap();
        let digest = |token: &SecretToken, ring: &Keyring| {
            SecretDigest::of(&token.presented().unwrap(), ring.current(), ring.current_keys())
        };
        assert_eq!(digest(&token, &one), digest(&token, &one));
        assert_ne!(digest(&token, &one).bytes, digest(&token, &other).bytes);
        assert_ne!(digest(&token, &one).bytes, digest(&second, &one).bytes);
        let shown = format!("{:?}", digest(&token, &one));
        assert!(
            shown.contains("redacted")
                && !shown.contains(&crate::encode::hex(&digest(&token, &one).bytes)[..12])
        );
    }

    #[test]
    fn a_fingerprint_is_stable_and_reads_back() {
        let ring = Keyring::generate().unwrap();
        let token = SecretToken::generate(Prefix::default()).unwrap();
        let digest = SecretDigest::of(&token.presented().unwrap(), ring.current(), ring.current_keys());
        let fingerprint = digest.fingerprint(ring.current_keys());
        assert_eq!(Fingerprint::try_from(fingerprint.to_string()), Ok(fingerprint));
        assert!(Fingerprint::try_from("fp_12".to_owned()).is_err());
    }
}

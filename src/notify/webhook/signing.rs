//! Signing as Standard Webhooks says: HMAC-SHA256 over `id.timestamp.body`, version `v1`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::{self, RandomError};
use crate::secret::SecretBuffer;

const PREFIX: &str = "whsec_";
/// The shortest and the longest secret, in bytes.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret by which webhooks are signed and verified: `whsec_` and the base64 of 24 to 64 random bytes.
///
/// Wiped on drop, never printed.
#[derive(Clone)]
pub struct WebhookSecret {
    text: SecretBuffer,
    bytes: SecretBuffer,
}

/// A text is no secret of a webhook.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook's secret is `whsec_` and the base64 of 24 to 64 random bytes")]
#[non_exhaustive]
pub struct WebhookSecretError;

crate::text::debug_as_told!(WebhookSecretError);

impl WebhookSecret {
    /// Takes a secret from its text form; white space around it is dropped. The caller wipes its own copy.
    ///
    /// # Errors
    /// [`WebhookSecretError`] when the text does not have the form.
    pub fn new(text: &str) -> Result<Self, WebhookSecretError> {
        let text = text.trim();
        let encoded = text.strip_prefix(PREFIX).ok_or(WebhookSecretError)?;
        if encoded.len() > 4 * (BYTES.end() / 3 + 1) {
            return Err(WebhookSecretError);
        }
        let mut bytes = SecretBuffer::from_vec(vec![0; encoded.len()]);
        let length = STANDARD.decode_slice(encoded, bytes.expose_mut()).map_err(|_| WebhookSecretError)?;
        if !BYTES.contains(&length) {
            return Err(WebhookSecretError);
        }
        bytes.truncate(length);
        Ok(Self { text: SecretBuffer::concat(&[text.as_bytes()]), bytes })
    }

    /// A fresh secret of 32 bytes from the operating system's generator.
    ///
    /// # Errors
    /// [`RandomError`] when the system gives no randomness.
    pub fn generate() -> Result<Self, RandomError> {
        let mut bytes = SecretBuffer::from_vec(vec![0; 32]);
        crypto::fill_random(bytes.expose_mut())?;
        let mut text = SecretBuffer::from_vec(vec![0; PREFIX.len() + 44]);
        let (prefix, encoded) = text.expose_mut().split_at_mut(PREFIX.len());
        prefix.copy_from_slice(PREFIX.as_bytes());
        // 32 bytes are 44 characters.
        STANDARD.encode_slice(bytes.expose(), encoded).map_err(|_| RandomError)?;
        Ok(Self { text, bytes })
    }

    /// The text form, for whoever receives the webhooks.
    #[must_use]
    pub fn expose(&self) -> &str {
        str::from_utf8(self.text.expose()).unwrap_or_default()
    }

    pub(super) fn tag(&self, id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
        let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        crypto::hmac_sha256(self.bytes.expose(), &parts)
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret([redacted])")
    }
}

/// The signature's header: one signature under each secret.
pub(super) fn signatures(secrets: &[WebhookSecret], id: &str, timestamp: &str, body: &[u8]) -> String {
    let sign = |secret: &WebhookSecret| format!("v1,{}", STANDARD.encode(secret.tag(id, timestamp, body)));
    secrets.iter().map(sign).collect::<Vec<_>>().join(" ")
}

/// The tags of version 1 among the signatures of a header; others are left alone, as a later version may send them.
pub(super) fn tags(header: &str) -> impl Iterator<Item = [u8; 32]> {
    header.split(' ').filter_map(|signature| {
        let encoded = signature.strip_prefix("v1,")?;
        let mut tag = [0; 33];
        // A tag's text is 44 characters, which the decoder takes to need up to 33 bytes.
        let length = STANDARD.decode_slice(encoded, &mut tag).ok()?;
        tag.first_chunk().filter(|_| length == 32).copied()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_the_prefix_and_24_to_64_bytes() {
        for length in 0..100 {
            let text = format!("whsec_{}", STANDARD.encode(vec![7; length]));
            let secret = WebhookSecret::new(&format!(" {text}\n"));
            assert_eq!(secret.is_ok(), (24..=64).contains(&length), "{length} bytes");
            if let Ok(secret) = secret {
                assert_eq!((secret.expose(), secret.bytes.expose().len()), (text.as_str(), length));
            }
        }
        let encoded = STANDARD.encode([7; 24]);
        for bad in
            [encoded.clone(), format!("whsk_{encoded}"), format!("whsec_{}", &encoded[1..]), String::new()]
        {
            assert_eq!(WebhookSecret::new(&bad).unwrap_err(), WebhookSecretError, "{bad}");
        }
    }

    #[test]
    fn a_fresh_secret_is_read_back_and_no_other_has_it() {
        let [one, other] = [(); 2].map(|()| WebhookSecret::generate().unwrap());
        assert_ne!(one.expose(), other.expose());
        assert_eq!(WebhookSecret::new(one.expose()).unwrap().bytes.expose(), one.bytes.expose());
        assert_eq!(format!("{one:?}"), "WebhookSecret([redacted])");
    }
}

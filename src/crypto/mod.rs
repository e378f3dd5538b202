//! Every primitive: randomness, HMAC, HKDF, AEAD and constant-time comparison. The only room that knows ring, sha2
//! and subtle.

mod mac;

use std::hint::black_box;

use ring::rand::{SecureRandom, SystemRandom};
use ring::{aead, digest, hkdf};
use subtle::ConstantTimeEq;

pub(crate) use mac::MacKey;

use crate::secret::{OF_KEY, SecretBuffer, SecretBytes, on_wiped_stack};

/// The operating system gave no randomness, so nothing was made.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no randomness; nothing was written, try again")]
#[non_exhaustive]
pub struct RandomError;

crate::text::debug_as_told!(RandomError);

/// Fills a buffer from the operating system's generator.
pub(crate) fn fill_random(buffer: &mut [u8]) -> Result<(), RandomError> {
    SystemRandom::new().fill(buffer).map_err(|_| RandomError)
}

/// Random bytes that are not secret.
pub(crate) fn random_bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    fill_random(&mut bytes)?;
    Ok(bytes)
}

/// SHA-256 (FIPS 180-4), for recognising what is not secret.
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    to_32(digest::digest(&digest::SHA256, data).as_ref())
}

/// HMAC-SHA256 under a key of any length, of parts that are joined as they are: for a protocol that others have made.
#[cfg(feature = "webhook")]
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    use ring::hmac;
    on_wiped_stack::<OF_KEY, _>(|| {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        parts.iter().for_each(|part| context.update(part));
        to_32(context.sign().as_ref())
    })
}

/// SHA-512 (FIPS 180-4), for recognising digests of other systems.
pub(crate) fn sha512(data: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    let digest = digest::digest(&digest::SHA512, data);
    out.iter_mut().zip(digest.as_ref()).for_each(|(slot, byte)| *slot = *byte);
    out
}

/// Whether two 32-byte values are equal; the time does not depend on the values.
pub(crate) fn ct_eq_32(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let words = |bytes: &[u8; 32]| {
        let mut words = [0u64; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        words
    };
    ct_eq_words(words(a), words(b))
}

/// Whether four words are equal to four others; the time does not depend on the values.
#[inline]
pub(crate) fn ct_eq_words(a: [u64; 4], b: [u64; 4]) -> bool {
    // All differences in one word first, and one comparison that the optimizer cannot look into: each is a detour of its
    // own through memory.
    let differences = a.iter().zip(&b).fold(0, |all, (a, b)| all | (a ^ b));
    black_box(differences).ct_eq(&0).into()
}

fn to_32(tag: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.iter_mut().zip(tag).for_each(|(slot, byte)| *slot = *byte);
    out
}

/// HKDF-SHA256 (RFC 5869) from one master key to keys for separate purposes. It lives on a stack that is wiped.
pub(crate) struct Derivation(hkdf::Prk);

struct Len32;

impl hkdf::KeyType for Len32 {
    fn len(&self) -> usize {
        32
    }
}

impl Derivation {
    pub(crate) fn new(salt: &[u8], master: &SecretBytes<32>) -> Self {
        let extract = || Self(hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(master.expose()));
        on_wiped_stack::<OF_KEY, _>(extract)
    }

    /// The 32 bytes for one purpose.
    pub(crate) fn key(&self, purpose: &[u8]) -> SecretBytes<32> {
        let fill = |out: &mut [u8; 32]| self.0.expand(&[purpose], Len32).and_then(|okm| okm.fill(out));
        let filled = on_wiped_stack::<OF_KEY, _>(|| SecretBytes::fill(fill));
        // HKDF can only fail for outputs above 255 hashes; 32 bytes is one.
        filled.unwrap_or_else(|_: ring::error::Unspecified| unreachable!("32 bytes are within HKDF's bound"))
    }
}

/// A ChaCha20-Poly1305 key (RFC 8439) for sealing secrets at rest. ring's form of it lives no longer than its use.
pub(crate) struct AeadKey(SecretBytes<32>);

/// Why a sealed text did not open: it was edited, moved to another row, or sealed under another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenSealError;

impl AeadKey {
    pub(crate) fn new(key: SecretBytes<32>) -> Self {
        Self(key)
    }

    fn prepared(&self) -> aead::LessSafeKey {
        let unbound = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, self.0.expose());
        let unbound = unbound.unwrap_or_else(|_| unreachable!("the key has the algorithm's 32 bytes"));
        aead::LessSafeKey::new(unbound)
    }

    /// `nonce ‖ ciphertext ‖ tag` under a random 96-bit nonce, bound to `context`.
    pub(crate) fn seal(&self, context: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, RandomError> {
        let nonce: [u8; aead::NONCE_LEN] = random_bytes()?;
        // Sized once: the plaintext is encrypted where it was put, and leaves no copy behind.
        let mut out = Vec::with_capacity(aead::NONCE_LEN + plaintext.len() + aead::MAX_TAG_LEN);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plaintext);
        let body = out.get_mut(aead::NONCE_LEN..).unwrap_or(&mut []);
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let sealed = on_wiped_stack::<OF_KEY, _>(|| {
            self.prepared().seal_in_place_separate_tag(nonce, aead::Aad::from(context), body)
        });
        let Ok(tag) = sealed else {
            drop(SecretBuffer::from_vec(out));
            return Err(RandomError);
        };
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    /// The plaintext that was sealed for `context`.
    pub(crate) fn open(&self, context: &[u8], sealed: &[u8]) -> Result<SecretBuffer, OpenSealError> {
        let (nonce, body) = sealed.split_at_checked(aead::NONCE_LEN).ok_or(OpenSealError)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenSealError)?;
        let mut buffer = SecretBuffer::from_vec(body.to_vec());
        let opened = on_wiped_stack::<OF_KEY, _>(|| {
            let opened = self.prepared().open_in_place(nonce, aead::Aad::from(context), buffer.expose_mut());
            opened.map(|plaintext| plaintext.len())
        });
        // What lies behind the plaintext is the tag, which is not secret.
        buffer.truncate(opened.map_err(|_| OpenSealError)?);
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{hex, unhex};

    #[test]
    fn each_purpose_has_a_key_of_its_own() {
        let prk = Derivation::new(b"salt", &SecretBytes::copy_of(&[1; 32]));
        assert_ne!(prk.key(b"digest").expose(), prk.key(b"row").expose());
        assert_eq!(prk.key(b"digest").expose(), prk.key(b"digest").expose());
    }

    #[test]
    fn a_sealed_text_opens_only_in_its_own_context_and_unedited() {
        let key = AeadKey::new(SecretBytes::copy_of(&[9; 32]));
        let sealed = key.seal(b"row 1", b"secret").unwrap();
        assert_eq!(key.open(b"row 1", &sealed).unwrap().expose(), b"secret");
        assert_eq!(key.open(b"row 2", &sealed).unwrap_err(), OpenSealError);
        for at in 0..sealed.len() {
            let mut edited = sealed.clone();
            edited[at] ^= 1;
            assert!(key.open(b"row 1", &edited).is_err());
            assert!(key.open(b"row 1", &sealed[..at]).is_err());
        }
        assert_ne!(key.seal(b"row 1", b"secret").unwrap(), sealed, "nonces do not repeat");
    }

    #[test]
    fn comparison_sees_every_bit() {
        let zero = [0u8; 32];
        assert!(ct_eq_32(&zero, &zero));
        for bit in 0..256 {
            let mut other = zero;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!ct_eq_32(&zero, &other));
        }
        assert_eq!(unhex::<32>(hex(&zero).as_bytes()), Some(zero));
    }
}

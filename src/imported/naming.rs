//! Naming: the keyed digests of an imported token, and the locator under which its version is found.

use crate::digest::{DigestScheme, SecretDigest};
use crate::imported::form::ForeignDigest;
use crate::keyring::{Generation, GenerationKeys};
use crate::token::Locator;

/// What is stored of a token of which only another system's digest is known: a keyed hash of that digest.
pub(crate) fn wrapped(
    foreign: &ForeignDigest,
    generation: Generation,
    keys: &GenerationKeys,
) -> SecretDigest {
    let fields = [&b"imported digest v1"[..], foreign.form().as_str().as_bytes(), foreign.bytes()];
    SecretDigest { scheme: DigestScheme::ImportedDigest, generation, bytes: keys.digest.sign_fields(&fields) }
}

/// What is stored of an imported token that was seen: a keyed hash of all of it.
pub(crate) fn keyed(token: &[u8], generation: Generation, keys: &GenerationKeys) -> SecretDigest {
    let bytes = keys.digest.sign_fields(&[b"imported token v1", token]);
    SecretDigest { scheme: DigestScheme::ImportedToken, generation, bytes }
}

/// The locator of the version that has this wrapped digest. It stays when the digest of the token takes the place of the
/// wrapped one: so that the same secret is not imported a second time, whatever has become of the first.
pub(crate) fn locator(wrapped: &SecretDigest, keys: &GenerationKeys) -> Locator {
    let tag = keys.digest.sign_fields(&[b"imported locator v1", &wrapped.bytes]);
    Locator::of_number(u128::from_be_bytes(tag.first_chunk().copied().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imported::form::DigestForm;
    use crate::keyring::Keyring;

    const TOKEN: &[u8] = b"sk_live_7Fh2kQ9zXw4VbN8mT3cYpL6r";

    #[test]
    fn digest_and_locator_depend_on_token_form_and_master_key() {
        let (one, other) = (Keyring::generate().unwrap(), Keyring::generate().unwrap());
        let of = |token: &[u8], form, ring: &Keyring| {
            let digest = wrapped(&ForeignDigest::of_token(form, token), ring.current(), ring.current_keys());
            (digest.bytes, locator(&digest, ring.current_keys()))
        };
        let first = of(TOKEN, DigestForm::Sha256, &one);
        assert_eq!(first, of(TOKEN, DigestForm::Sha256, &one));
        for differing in [
            of(&TOKEN[1..], DigestForm::Sha256, &one),
            of(TOKEN, DigestForm::Sha512, &one),
            of(TOKEN, DigestForm::Sha256LastPart, &one),
            of(TOKEN, DigestForm::Sha256, &other),
        ] {
            assert!(first.0 != differing.0 && first.1 != differing.1);
        }
        let keyed = keyed(TOKEN, one.current(), one.current_keys());
        assert!(keyed.bytes != first.0 && locator(&keyed, one.current_keys()) != first.1);
    }

    /// What has no underscore is its own last part: the two forms still have two digests.
    #[test]
    fn a_form_is_part_of_what_is_hashed() {
        let ring = Keyring::generate().unwrap();
        let [whole, last] = [DigestForm::Sha256, DigestForm::Sha256LastPart].map(|form| {
            wrapped(&ForeignDigest::of_token(form, b"opaque"), ring.current(), ring.current_keys()).bytes
        });
        assert_ne!(whole, last);
    }
}

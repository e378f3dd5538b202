//! Minting: a fresh secret, and what its version stores of it.

use crate::digest::{DigestScheme, Fingerprint, SecretDigest};
use crate::error::ManageError;
use crate::keyring::{Generation, Keyring};
use crate::lifecycle::Minted;
use crate::text::TextError;
use crate::token::{Locator, Prefix, SecretToken};

/// A fresh token, with what its version stores of it.
pub(crate) fn mint(keyring: &Keyring, prefix: Prefix) -> Result<(SecretToken, Minted), ManageError> {
    let token = SecretToken::generate(prefix)?;
    let keys = keyring.current_keys();
    let presented =
        token.presented().ok_or(TextError::Syntax { field: "token", form: "of a fresh token" })?;
    let digest = SecretDigest::of(&presented, keyring.current(), keys);
    let minted = Minted { locator: token.locator(), digest, fingerprint: digest.fingerprint(keys) };
    Ok((token, minted))
}

/// In place of a secret that is only planned.
pub(super) fn blank(generation: Generation) -> Minted {
    let digest = SecretDigest { scheme: DigestScheme::HmacSha256, generation, bytes: [0; 32] };
    Minted { locator: Locator::BLANK, digest, fingerprint: Fingerprint::BLANK }
}

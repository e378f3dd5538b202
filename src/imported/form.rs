//! Forms: how other systems keep the secrets of their keys.

use std::fmt;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use crate::crypto;
use crate::encode::unhex;
use crate::secret::on_wiped_stack;

/// How another system keeps a secret: an unsalted digest, by which a token can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DigestForm {
    /// SHA-256 of the whole token.
    Sha256,
    /// SHA-512 of the whole token, as djangorestframework-api-key keeps it.
    Sha512,
    /// SHA-256 of what stands behind the token's last `_`, as `prefixed-api-key` keeps it.
    Sha256LastPart,
}

impl DigestForm {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha512, Self::Sha256LastPart];

    /// Its stable name, such as `sha256`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Sha256LastPart => "sha256_last_part",
        }
    }

    const fn length(self) -> usize {
        match self {
            Self::Sha256 | Self::Sha256LastPart => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for DigestForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text is not the digest of a token in a form that can be imported.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// It is no digest in any form that is known.
    #[error("not a digest: SHA-256 or SHA-512 in hexadecimal or base64, or sha512$$…")]
    Syntax,
    /// It is a digest, but not in the form that was announced.
    #[error("the digest does not have the form {0}")]
    OtherForm(DigestForm),
    /// It is the digest of the empty text, which is no secret.
    #[error("it is the digest of the empty text, which is no secret")]
    OfNothing,
    /// It is salted: a token cannot be looked up by it.
    #[error("the digest is salted, and no token can be looked up by it; take its key over when it is used")]
    Salted,
}

crate::text::debug_as_told!(DigestError);

/// The digest of a token as another system kept it. Whoever has it can try out weak tokens: it is never stored, and its
/// `Debug` says nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ForeignDigest {
    form: DigestForm,
    bytes: [u8; 64],
}

/// How salted digests begin.
const SALTED: [&str; 12] = [
    "pbkdf2", "$pbkdf2", "bcrypt", "$2a$", "$2b$", "$2y$", "$argon2", "argon2", "scrypt", "$scrypt", "$5$",
    "$6$",
];

impl ForeignDigest {
    fn new(form: DigestForm, digest: &[u8]) -> Self {
        let mut bytes = [0; 64];
        bytes.iter_mut().zip(digest).for_each(|(slot, byte)| *slot = *byte);
        Self { form, bytes }
    }

    /// Of a presented token.
    pub(crate) fn of_token(form: DigestForm, token: &[u8]) -> Self {
        let last = || token.rsplit(|byte| *byte == b'_').next().unwrap_or_default();
        on_wiped_stack::<2048, _>(|| match form {
            DigestForm::Sha256 => Self::new(form, &crypto::sha256(token)),
            DigestForm::Sha512 => Self::new(form, &crypto::sha512(token)),
            DigestForm::Sha256LastPart => Self::new(form, &crypto::sha256(last())),
        })
    }

    /// Reads a digest: hexadecimal or base64 (standard or URL-safe, with or without padding) of 32 or 64 bytes, bare or
    /// behind `sha256` or `sha512` and one of `$$`, `$`, `:` and `-`. `form` is what the other system is known to use;
    /// without it, 32 bytes are [`DigestForm::Sha256`].
    ///
    /// # Errors
    /// [`DigestError`].
    pub fn parse(text: &str, form: Option<DigestForm>) -> Result<Self, DigestError> {
        let text = text.trim();
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        if SALTED.iter().any(|beginning| lower.starts_with(beginning)) {
            return Err(DigestError::Salted);
        }
        let named = match lower.get(..6) {
            Some("sha256") => Some(DigestForm::Sha256),
            Some("sha512") => Some(DigestForm::Sha512),
            _ => None,
        };
        let digits = match named {
            None => text,
            Some(_) => {
                let rest = text.get(6..).unwrap_or_default();
                let beginnings = ["$$", "$", ":", "-"];
                let rest = beginnings.iter().find_map(|mark| rest.strip_prefix(mark));
                rest.ok_or(DigestError::Syntax)?
            }
        };
        if named.is_some() && digits.contains('$') {
            // Django's `algorithm$salt$digest`.
            return Err(DigestError::Salted);
        }
        let found = decode(digits).ok_or(DigestError::Syntax)?;
        let by_length = if found.1 == 64 { DigestForm::Sha512 } else { DigestForm::Sha256 };
        let form = form.or(named).unwrap_or(by_length);
        let agrees = named.is_none_or(|named| named.length() == form.length());
        if !agrees || found.1 != form.length() {
            return Err(DigestError::OtherForm(form));
        }
        let digest = Self::new(form, found.0.get(..found.1).unwrap_or_default());
        // Every token that ends in `_` would have it.
        if digest == Self::of_token(form, b"_") || digest == Self::of_token(form, b"") {
            return Err(DigestError::OfNothing);
        }
        Ok(digest)
    }

    /// Its form.
    #[must_use]
    pub fn form(&self) -> DigestForm {
        self.form
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.form.length()).unwrap_or_default()
    }
}

impl fmt::Debug for ForeignDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignDigest({} [redacted])", self.form)
    }
}

/// 32 or 64 bytes, and how many.
fn decode(text: &str) -> Option<([u8; 64], usize)> {
    let mut bytes = [0; 64];
    let mut take = |found: &[u8]| {
        bytes.iter_mut().zip(found).for_each(|(slot, byte)| *slot = *byte);
        Some((bytes, found.len()))
    };
    if let Some(found) = unhex::<32>(text.as_bytes()) {
        return take(&found);
    }
    if let Some(found) = unhex::<64>(text.as_bytes()) {
        return take(&found);
    }
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    // Room for what `decode_slice` may want beyond the bytes that count.
    let mut buffer = [0; 72];
    for alphabet in [base64::alphabet::STANDARD, base64::alphabet::URL_SAFE] {
        let decoded = GeneralPurpose::new(&alphabet, config).decode_slice(text, &mut buffer);
        if let Ok(length @ (32 | 64)) = decoded {
            return take(buffer.get(..length)?);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, form: Option<DigestForm>) -> Result<ForeignDigest, DigestError> {
        ForeignDigest::parse(text, form)
    }

    /// Made by the libraries themselves: `KeyGenerator().generate()` of djangorestframework-api-key 3.1.0 (the second
    /// with a key that was chosen, through `KeyGenerator().hash`).
    const DJANGO: [(&str, &str); 3] = [
        (
            "bDzNbdcX.i5CCDJaCmiVTgjq0j10XmDI8u6XcO8GK",
            "sha512$$085f1d71d78da09e8ce82a88da43a55d0d28c1be7e1fd17b14bda64bd77c1afe223945ef837f538e83e7cdc2c1be6c17e26a37f92860077b0ced37a87b21f18e",
        ),
        (
            "Zr9Hq0bV.4gJm2xkQe8TnYw6cLs1uAoDiPfRtB5hE",
            "sha512$$5d526971985ad289023f46dca2e395bf5e205e6417ae367630635a3920277f88963216d6942b446ea95d0e7d3a59cd129d6c12e3fe0e9da1132e2151b63bfb8d",
        ),
        (
            "pjEidLLq.pJDOb8cftIjPeGFNUA0BX4zQp7MKgibQ",
            "sha512$$3d398b9556c8c513e177b1139f24f5377d46119f6c1c0733d767fa64743a9626d371d6b6bda0b470eae992e8fce98c7c1f0669a3577b0d81e22be5f21eda2377",
        ),
    ];

    /// `generateAPIKey` of prefixed-api-key 1.1.1 (npm), the second of which has `_` in its prefix, and the one of its
    /// documentation; and `generate_key_and_hash` with `seam_defaults` of prefixed-api-key 0.3 (crates.io).
    const PREFIXED: [(&str, &str); 5] = [
        (
            "mycompany_937Q3qbH_9GBugYXq8Xa8JM1iQWfqRGHn",
            "d92bd3027cafceac4735c02858a0b7f36610655bc6b25c6abd23b66c40e9e61e",
        ),
        (
            "my_company_iWKYNtHa_45Mjduim4tbsNfN6wEQAQur7",
            "861e83294f42db769f2308e356f2ee4183542223543209f47600492a056b2222",
        ),
        (
            "mycompany_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG",
            "d70d981d87b449c107327c2a2afbf00d4b58070d6ba571aac35d7ea3e7c79f37",
        ),
        (
            "my_company_DxKbKUxdMBG_znmitE6MZUPLiYwmB8Y94FgBcArUqF3U",
            "8d73d0d2e0472ef5e01499b11c7488d401e286491f7d50be45aaff53d73d9d39",
        ),
        (
            "my_company_C53a3VtFK3X_KZVFQbgEp6nrmJSKqisU3NTJPu1dL4NiK",
            "6d0c963734645cca58689ec31d950a2bc255b887bf5e64460f50b282a997a8be",
        ),
    ];

    /// Python's `hashlib` and `base64`.
    const TOKEN: &str = "sk_live_7Fh2kQ9zXw4VbN8mT3cYpL6r";
    const SHA256: &str = "8607d7a64164f14dc0555be7d408ce12559b51e9514d4814b714f6a9a482262e";
    const SHA256_BASE64: &str = "hgfXpkFk8U3AVVvn1AjOElWbUelRTUgUtxT2qaSCJi4=";
    const SHA512: &str = "9d6dfa83d3115604445595c81eb43b3ec5f9e05798fff07f9440b9d48d5c682f21c9457630c4452eb1e34a916652897d01c72c3c0141b25132bb4cecd009c4f7";

    #[test]
    fn what_djangorestframework_api_key_stores_is_the_digest_of_its_keys() {
        for (key, stored) in DJANGO {
            let digest = parsed(stored, None).unwrap();
            assert_eq!(digest, ForeignDigest::of_token(DigestForm::Sha512, key.as_bytes()), "{key}");
            assert_ne!(digest, ForeignDigest::of_token(DigestForm::Sha512, &key.as_bytes()[1..]));
        }
    }

    #[test]
    fn what_prefixed_api_key_stores_is_the_digest_of_the_last_part() {
        for (key, stored) in PREFIXED {
            let digest = parsed(stored, Some(DigestForm::Sha256LastPart)).unwrap();
            assert_eq!(digest, ForeignDigest::of_token(DigestForm::Sha256LastPart, key.as_bytes()), "{key}");
            assert_ne!(digest, ForeignDigest::of_token(DigestForm::Sha256, key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn sha_256_is_read_in_hexadecimal_and_both_base64_alphabets_and_with_its_name() {
        let expected = ForeignDigest::of_token(DigestForm::Sha256, TOKEN.as_bytes());
        let url_safe = SHA256_BASE64.replace('+', "-").replace('/', "_");
        for text in [
            SHA256.to_owned(),
            SHA256.to_uppercase(),
            format!("  {SHA256}\n"),
            SHA256_BASE64.to_owned(),
            SHA256_BASE64.trim_end_matches('=').to_owned(),
            url_safe,
            format!("sha256:{SHA256}"),
            format!("SHA256${SHA256}"),
            format!("sha256$${SHA256}"),
            format!("sha256-{SHA256_BASE64}"),
        ] {
            assert_eq!(parsed(&text, None), Ok(expected), "{text}");
            assert_eq!(parsed(&text, Some(DigestForm::Sha256)), Ok(expected), "{text}");
        }
        assert_eq!(parsed(SHA512, None), Ok(ForeignDigest::of_token(DigestForm::Sha512, TOKEN.as_bytes())));
    }

    #[test]
    fn salted_digests_are_told_apart_from_what_is_no_digest() {
        for salted in [
            // `PBKDF2PasswordHasher().encode` of Django 5.2.
            "pbkdf2_sha256$1000$saltsaltsaltsalt$V5t414KfNIwiILrbNqNqzQF6ZywC05Xo0xJavhgymcU=",
            "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
            "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$V5t414KfNIwiILrbNqNqzQ",
            "sha512$salt$abcdef",
        ] {
            assert_eq!(parsed(salted, None), Err(DigestError::Salted), "{salted}");
        }
        for bad in ["", "abc", &SHA256[1..], &format!("{SHA256}0"), "sha256", "sha256:", "sha1$$00", "é$$"] {
            assert_eq!(parsed(bad, None), Err(DigestError::Syntax), "{bad}");
        }
        for (text, form) in [
            (SHA256, DigestForm::Sha512),
            (SHA512, DigestForm::Sha256),
            (DJANGO[0].1, DigestForm::Sha256LastPart),
        ] {
            assert_eq!(parsed(text, Some(form)), Err(DigestError::OtherForm(form)));
        }
    }

    #[test]
    fn the_digest_of_nothing_is_refused() {
        let of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for form in [DigestForm::Sha256, DigestForm::Sha256LastPart] {
            assert_eq!(parsed(of_nothing, Some(form)), Err(DigestError::OfNothing));
        }
        let empty = ForeignDigest::of_token(DigestForm::Sha256LastPart, b"anything_");
        assert_eq!(empty, ForeignDigest::of_token(DigestForm::Sha256LastPart, b""));
    }

    #[test]
    fn debug_says_nothing_of_a_digest() {
        assert_eq!(format!("{:?}", parsed(SHA256, None).unwrap()), "ForeignDigest(sha256 [redacted])");
    }
}

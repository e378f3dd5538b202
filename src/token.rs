//! Tokens: the text that a client sends, `{prefix}_{locator}{secret}{checksum}`.
//!
//! Fixed widths read from the right, so that a prefix may hold `_`. The checksum is the zlib CRC-32 of
//! `locator‖secret` in base62, as GitHub's tokens have it: a typing error or a scanner's false hit is told apart
//! without a look at the store.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::crypto::{self, RandomError};
use crate::encode::{base62_digit, base62_fixed, checksum, is_base62, is_checksum};
use crate::secret::{SecretBuffer, on_wiped_stack};
use crate::text::TextError;

const LOCATOR: usize = 12;
const SECRET: usize = 43;
const CHECKSUM: usize = 6;
/// Everything behind the prefix and its `_`.
const TAIL: usize = LOCATOR + SECRET + CHECKSUM;

/// What stands before the first random character of a token, such as `acme_live`.
///
/// 1 to 24 characters: lower-case letters, digits and `_`, beginning with a letter, not ending in `_`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    len: u8,
    bytes: [u8; Self::MAX_BYTES],
}

impl Prefix {
    /// The longest prefix, in bytes.
    pub const MAX_BYTES: usize = 24;

    /// Takes a prefix after checking its form.
    ///
    /// # Errors
    /// [`TextError::Syntax`] when it has another form.
    pub fn new(text: &str) -> Result<Self, TextError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let well_formed = (1..=Self::MAX_BYTES).contains(&text.len())
            && text.bytes().all(allowed)
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && !text.ends_with('_');
        if !well_formed {
            let form = "of 1 to 24 lower-case letters, digits and `_`, from a letter to a letter or digit";
            return Err(TextError::Syntax { field: "prefix", form });
        }
        let mut bytes = [0; Self::MAX_BYTES];
        bytes.iter_mut().zip(text.bytes()).for_each(|(slot, byte)| *slot = byte);
        Ok(Self { len: text.len() as u8, bytes })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or("")
    }

    /// Whether a text whose first part has so many bytes begins with this prefix, and only with it. Three words at once:
    /// a comparison of a length that is not known is a call.
    #[inline]
    fn is_first(&self, length: usize, text: &[u8; Self::MAX_BYTES]) -> bool {
        let words = |bytes: &[u8; Self::MAX_BYTES]| {
            let mut words = [0; Self::MAX_BYTES / 8];
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            words
        };
        // How many bits of each word belong to the first part.
        let mut bits = 8 * length;
        let pairs = words(&self.bytes).into_iter().zip(words(text));
        let differences = pairs.fold(0, |all, (own, other)| {
            let mask = !u64::MAX.checked_shl(bits as u32).unwrap_or(0);
            bits = bits.saturating_sub(64);
            all | (own ^ other & mask)
        });
        usize::from(self.len) == length && differences == 0
    }
}

/// `key`.
impl Default for Prefix {
    fn default() -> Self {
        let mut bytes = [0; Self::MAX_BYTES];
        bytes.iter_mut().zip(*b"key").for_each(|(slot, byte)| *slot = byte);
        Self { len: 3, bytes }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl TryFrom<String> for Prefix {
    type Error = TextError;
    fn try_from(text: String) -> Result<Self, TextError> {
        Self::new(&text)
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.as_str().to_owned()
    }
}

/// The public, random part of a token by which a version is found: 12 base62 characters, 71 random bits.
///
/// Safe in logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Locator([u8; LOCATOR]);

impl Locator {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or("")
    }
}

impl Locator {
    /// Of a token that is only planned.
    pub(crate) const BLANK: Self = Self([b'0'; LOCATOR]);

    /// The locator of a number, of which the lowest 71 bits count.
    pub(crate) fn of_number(number: u128) -> Self {
        Self(base62_fixed(number))
    }

    /// Its bytes as two words.
    pub(crate) fn words(&self) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.0;
        [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from(u32::from_le_bytes([i, j, k, l]))]
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl TryFrom<String> for Locator {
    type Error = TextError;
    fn try_from(text: String) -> Result<Self, TextError> {
        let syntax = TextError::Syntax { field: "locator", form: "of 12 base62 characters" };
        let bytes: [u8; LOCATOR] = text.as_bytes().try_into().map_err(|_| syntax)?;
        if is_base62(&bytes) { Ok(Self(bytes)) } else { Err(syntax) }
    }
}

impl From<Locator> for String {
    fn from(locator: Locator) -> Self {
        locator.as_str().to_owned()
    }
}

/// What people are shown of a token: prefix and locator, never a character of the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hint {
    prefix: Prefix,
    locator: Locator,
}

impl Hint {
    pub(crate) fn new(prefix: Prefix, locator: Locator) -> Self {
        Self { prefix, locator }
    }
}

/// `acme_live_4fTq0Zr1xYbA…`
impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}…", self.prefix, self.locator)
    }
}

/// A token, whole. Not `Display`, not `Serialize`, redacted in `Debug`, wiped on drop: the one way to its text is
/// [`SecretToken::expose`].
#[derive(Clone)]
pub struct SecretToken {
    text: SecretBuffer,
    hint: Hint,
}

impl SecretToken {
    /// Draws a fresh token.
    pub(crate) fn generate(prefix: Prefix) -> Result<Self, RandomError> {
        on_wiped_stack::<{ 4 * 1024 }, _>(|| Self::draw(prefix))
    }

    fn draw(prefix: Prefix) -> Result<Self, RandomError> {
        let mut random = Zeroizing::new([0u8; LOCATOR + SECRET]);
        draw_base62(random.as_mut_slice())?;
        let check = checksum(&[random.as_slice()]);
        let text = SecretBuffer::concat(&[prefix.as_str().as_bytes(), b"_", random.as_slice(), &check]);
        let mut locator = [0; LOCATOR];
        locator.iter_mut().zip(random.iter()).for_each(|(slot, byte)| *slot = *byte);
        Ok(Self { text, hint: Hint::new(prefix, Locator(locator)) })
    }

    /// Takes a token's text over, as it was sealed.
    pub(crate) fn from_buffer(text: SecretBuffer) -> Option<Self> {
        let parsed = PresentedToken::parse(text.expose()).ok()?;
        let prefix = Prefix::new(str::from_utf8(parsed.prefix).ok()?).ok()?;
        let hint = Hint::new(prefix, parsed.locator);
        Some(Self { text, hint })
    }

    /// The token's text: to be shown to its owner once and kept nowhere.
    #[must_use]
    pub fn expose(&self) -> &str {
        str::from_utf8(self.text.expose()).unwrap_or("")
    }

    /// What may be shown later to recognise the token.
    #[must_use]
    pub fn hint(&self) -> Hint {
        self.hint
    }

    /// The part of the token that a digest covers.
    pub(crate) fn presented(&self) -> Option<PresentedToken<'_>> {
        PresentedToken::parse(self.text.expose()).ok()
    }

    pub(crate) fn locator(&self) -> Locator {
        self.hint.locator
    }
}

impl fmt::Debug for SecretToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretToken({} [redacted])", self.hint)
    }
}

/// Random base62 characters by rejection sampling: bytes of 248 and above would favour the first digits.
fn draw_base62(out: &mut [u8]) -> Result<(), RandomError> {
    let mut pool = Zeroizing::new([0u8; 96]);
    let mut left = pool.len();
    for slot in out {
        *slot = loop {
            if left == pool.len() {
                crypto::fill_random(pool.as_mut_slice())?;
                left = 0;
            }
            let byte = pool.get(left).copied().unwrap_or(255);
            left += 1;
            if byte < 248 {
                break base62_digit(byte);
            }
        };
    }
    Ok(())
}

/// A text is not a token; nothing was looked up.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It does not have the form of a token.
    #[error("not a token: it does not have the form prefix_locator…checksum")]
    Malformed,
    /// It has the form, but its checksum is wrong: a character was lost or changed.
    #[error("not a token: its checksum is wrong, so a character was lost or changed")]
    Checksum,
}

crate::text::debug_as_told!(TokenError);

/// A well-formed token as a client presented it, borrowed from the request.
#[derive(Clone, Copy)]
pub(crate) struct PresentedToken<'a> {
    prefix: &'a [u8],
    /// The first bytes of the text, of which the prefix is a part: what stands behind it is longer than any prefix.
    begin: &'a [u8; Prefix::MAX_BYTES],
    pub(crate) locator: Locator,
    /// Locator and secret, 55 bytes of ASCII: what the digest covers, within one block of SHA-256.
    pub(crate) covered: &'a [u8; LOCATOR + SECRET],
}

impl<'a> PresentedToken<'a> {
    /// Reads a token from the right; no allocation, no time that depends on the secret's characters.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, TokenError> {
        Self::parse_noting(text, |_| ())
    }

    /// The same, telling what stands in the locator's place, whatever it is, before the characters are looked at.
    #[inline]
    pub(crate) fn parse_noting(text: &'a [u8], note: impl FnOnce(&Locator)) -> Result<Self, TokenError> {
        if text.len() > Prefix::MAX_BYTES + 1 + TAIL {
            return Err(TokenError::Malformed);
        }
        let head = text.len().checked_sub(TAIL).ok_or(TokenError::Malformed)?;
        let (head, tail) = text.split_at_checked(head).ok_or(TokenError::Malformed)?;
        let tail: &[u8; TAIL] = tail.first_chunk().ok_or(TokenError::Malformed)?;
        let prefix =
            head.strip_suffix(b"_").filter(|prefix| !prefix.is_empty()).ok_or(TokenError::Malformed)?;
        let (covered, check) = tail.split_first_chunk().ok_or(TokenError::Malformed)?;
        let check: &[u8; CHECKSUM] = check.first_chunk().ok_or(TokenError::Malformed)?;
        let locator = covered.first_chunk().copied().map(Locator).ok_or(TokenError::Malformed)?;
        note(&locator);
        if !is_base62(tail) {
            return Err(TokenError::Malformed);
        }
        if !is_checksum(check, covered) {
            return Err(TokenError::Checksum);
        }
        let begin = text.first_chunk().ok_or(TokenError::Malformed)?;
        Ok(Self { prefix, begin, locator, covered })
    }

    /// Whether its prefix is this one.
    #[inline]
    pub(crate) fn has_prefix(&self, prefix: &Prefix) -> bool {
        prefix.is_first(self.prefix.len(), self.begin)
    }
}

/// Checks offline whether a text is a token: its form and its checksum. Says nothing about whether it validates.
///
/// # Errors
/// [`TokenError`].
pub fn check_token(text: &str) -> Result<(), TokenError> {
    PresentedToken::parse(text.as_bytes()).map(|_| ())
}

/// A regular expression, without look-around, by which secret scanners find tokens with these prefixes; a hit is
/// confirmed by [`check_token`].
#[must_use]
pub fn scanner_regex(prefixes: &[Prefix]) -> String {
    let alternatives: Vec<_> = prefixes.iter().map(Prefix::as_str).collect();
    format!("(?:{})_[0-9A-Za-z]{{{TAIL}}}", alternatives.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> SecretToken {
        SecretToken::generate(Prefix::new("acme_live").unwrap()).unwrap()
    }

    #[test]
    fn a_fresh_token_parses_and_its_hint_shows_no_character_of_the_secret() {
        let token = token();
        let parsed = token.presented().unwrap();
        assert_eq!(parsed.prefix, b"acme_live");
        assert_eq!(parsed.covered.len(), 55);
        assert_eq!(token.expose().len(), 9 + 1 + 61);
        assert_eq!(token.hint().to_string(), format!("acme_live_{}…", parsed.locator));
        let secret = &token.expose()[22..65];
        for text in [format!("{token:?}"), token.hint().to_string()] {
            assert!(!text.contains(&secret[..4]));
        }
    }

    #[test]
    fn every_single_character_change_is_noticed() {
        let token = token();
        let good = token.expose().as_bytes();
        for at in 10..good.len() {
            for other in [b'0', b'z', b'_', b'-', 0, 0xFF] {
                let mut bad = good.to_vec();
                if bad[at] != other {
                    bad[at] = other;
                    assert!(PresentedToken::parse(&bad).is_err());
                }
            }
            assert!(PresentedToken::parse(&good[..at]).is_err());
        }
    }

    #[test]
    fn what_is_not_a_token_is_malformed() {
        let good = token().expose().to_owned();
        let tail = &good["acme_live".len()..];
        let long = "a".repeat(25) + tail;
        let huge = "a".repeat(10 << 20);
        for bad in ["", "acme_live", "acme_live_", "_", tail, &good[1..].replace('_', ""), &long, &huge] {
            assert_eq!(check_token(bad), Err(TokenError::Malformed), "{:.40}", bad);
        }
        for bad in [good.clone() + "\n", format!(" {good}"), good.replace('_', "__"), format!("{good}\0")] {
            let parsed = PresentedToken::parse(bad.as_bytes());
            assert!(parsed.is_err() || parsed.is_ok_and(|parsed| parsed.prefix != b"acme_live"), "{bad:?}");
        }
    }

    #[test]
    fn prefixes_are_lower_case_and_may_hold_an_underscore() {
        for good in ["k", "key", "acme_live", "a1_b2_c3", &"a".repeat(24)] {
            assert_eq!(Prefix::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "Key", "1key", "_key", "key_", "ke y", "clé", &"a".repeat(25)] {
            assert!(Prefix::new(bad).is_err(), "{bad}");
        }
        assert_eq!(Prefix::default().as_str(), "key");
    }

    #[test]
    fn the_scanner_finds_a_token_by_a_fixed_length() {
        let prefixes = [Prefix::new("acme_live").unwrap(), Prefix::default()];
        assert_eq!(scanner_regex(&prefixes), "(?:acme_live|key)_[0-9A-Za-z]{61}");
    }

    #[test]
    fn the_drawn_characters_are_uniform() {
        let mut counts = [0u32; 128];
        let mut out = vec![0; 62 * 2_000];
        draw_base62(&mut out).unwrap();
        out.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        let seen: Vec<_> = counts.iter().filter(|count| **count > 0).collect();
        assert_eq!(seen.len(), 62);
        // 2000 expected, standard deviation 44: eight of them are never reached by chance.
        assert!(seen.iter().all(|count| (1_640..2_360).contains(*count)), "{seen:?}");
    }
}

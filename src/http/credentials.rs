//! A request's credentials: the one token that it presents, and in which field.

use std::fmt;

/// The token that a request presents: visible ASCII without a comma, from one field.
///
/// | the request has | it is |
/// |---|---|
/// | `Authorization: Bearer <token>`, the scheme in any case | that token |
/// | `X-API-Key: <token>` | that token |
/// | neither, or nothing in them | [`CredentialsError::Missing`] |
/// | `Authorization` of another scheme | not looked at: it may be meant for a proxy; `X-API-Key` counts |
/// | both, even with the same token | [`CredentialsError::Several`] |
/// | one of the fields twice, whatever is in them | [`CredentialsError::Several`] |
/// | a token with a space, a comma, or what is not visible ASCII | [`CredentialsError::Malformed`] |
///
/// So whoever stands between client and service cannot take one token where the service takes another. Tokens in the
/// address of a request are not looked at: addresses end up in logs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Credentials<'a>(&'a str);

/// Why a request has no credentials that can be validated. It depends on the request's form alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// It presents no token (HTTP 401).
    #[error("the request presents no token")]
    Missing,
    /// It presents more than one token, or one in a field that comes twice (HTTP 400).
    #[error("the request presents more than one token; send one, in one field")]
    Several,
    /// The field holds more than a token, or what no token holds (HTTP 400).
    #[error("the field of the token holds something else; send the token alone")]
    Malformed,
}

impl<'a> Credentials<'a> {
    /// Out of all values that a request has of the fields `Authorization` and `X-API-Key`; the values of headers of the
    /// usual crates will do as they are.
    ///
    /// # Errors
    /// [`CredentialsError`].
    pub fn of<V: AsRef<[u8]> + ?Sized + 'a>(
        authorization: impl IntoIterator<Item = &'a V>,
        api_key: impl IntoIterator<Item = &'a V>,
    ) -> Result<Self, CredentialsError> {
        let bearer = only(authorization)?.and_then(after_scheme);
        let text = match (bearer, only(api_key)?) {
            (Some(_), Some(_)) => return Err(CredentialsError::Several),
            (one, other) => one.or(other).ok_or(CredentialsError::Missing)?,
        };
        let is_of_token = |byte: &u8| byte.is_ascii_graphic() && *byte != b',';
        match std::str::from_utf8(text) {
            Ok(token) if text.iter().all(is_of_token) => Ok(Self(token)),
            _ => Err(CredentialsError::Malformed),
        }
    }

    /// The token: to be validated, and written nowhere.
    #[must_use]
    pub fn expose(self) -> &'a str {
        self.0
    }
}

/// The only value of a field, unless it is empty.
fn only<'a, V: AsRef<[u8]> + ?Sized + 'a>(
    values: impl IntoIterator<Item = &'a V>,
) -> Result<Option<&'a [u8]>, CredentialsError> {
    let mut values = values.into_iter();
    let first = values.next().map(|value| trimmed(value.as_ref()));
    match values.next() {
        Some(_) => Err(CredentialsError::Several),
        None => Ok(first.filter(|value| !value.is_empty())),
    }
}

/// Without the white space around it that belongs to the field, not to its value.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// What stands after the scheme `Bearer`, if anything does.
fn after_scheme(value: &[u8]) -> Option<&[u8]> {
    let end = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = value.split_at_checked(end)?;
    scheme.eq_ignore_ascii_case(b"bearer").then_some(trimmed(rest))
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials([redacted])")
    }
}

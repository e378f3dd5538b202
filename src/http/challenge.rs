//! `WWW-Authenticate`: what a client is told of how to authenticate (RFC 6750, RFC 9110 §11.6.1).

use std::borrow::Cow;

use crate::scope::Scope;
use crate::text::{self, TextError};

/// The challenges of one realm, put together once.
#[derive(Debug)]
pub(super) struct Challenges {
    /// To a request without credentials: no error.
    pub(super) plain: String,
    pub(super) invalid_request: String,
    pub(super) invalid_token: String,
}

impl Challenges {
    pub(super) fn new(realm: &str) -> Result<Self, TextError> {
        text::check("realm", realm, 64)?;
        // The characters that a quoted string holds as they are.
        if realm.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
            Ok(Self::of_checked(realm))
        } else {
            Err(TextError::Syntax { field: "realm", form: "of visible ASCII and spaces, without \" and \\" })
        }
    }

    pub(super) fn of_checked(realm: &str) -> Self {
        let plain = format!("Bearer realm=\"{realm}\"");
        let of = |error| format!("{plain}, error=\"{error}\"");
        Self { invalid_request: of("invalid_request"), invalid_token: of("invalid_token"), plain }
    }

    /// To a token that lacks the scope. A scope holds neither quotes nor spaces.
    pub(super) fn insufficient_scope(&self, demanded: Option<&Scope>) -> Cow<'_, str> {
        let scope = demanded.map(|scope| format!(", scope=\"{}\"", scope.as_str())).unwrap_or_default();
        Cow::Owned(format!("{}, error=\"insufficient_scope\"{scope}", self.plain))
    }
}

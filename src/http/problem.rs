//! Problem documents (RFC 9457): what is answered where nothing was granted.

use std::borrow::Cow;

use serde::Serialize;

use crate::error::ManageError;
use crate::http::challenge::Challenges;
use crate::http::credentials::CredentialsError;
use crate::http::header::{Header, Headers};
use crate::http::limit;
use crate::lifecycle::LifecycleError;
use crate::limit::LimitStatus;
use crate::scope::Scope;
use crate::validate::{Denial, DenialClass};

/// An answer in place of the service's own: a status, headers, and a problem document as the body.
///
/// Until a token's secret has matched, it depends on nothing but the form of the request: a token that never was, one
/// with a wrong secret, and one that is revoked get the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem<'a> {
    status: u16,
    challenge: Option<Cow<'a, str>>,
    /// The limit that is reached.
    limit: Option<LimitStatus>,
    /// Whether it is worth a second attempt soon.
    is_passing: bool,
    body: Cow<'static, str>,
}

/// A problem document of no further type: its title is the status's own (RFC 9457 §4.2.1).
macro_rules! document {
    ($status:literal, $title:literal, $detail:literal) => {
        concat!(
            "{\"type\":\"about:blank\",\"title\":\"",
            $title,
            "\",\"status\":",
            $status,
            ",\"detail\":\"",
            $detail,
            "\"}"
        )
    };
}

const MISSING: &str = document!(
    401,
    "Unauthorized",
    "The request presents no API key. Send it as `Authorization: Bearer <key>` or as `X-API-Key: <key>`."
);
const INVALID: &str = document!(401, "Unauthorized", "The API key is not valid.");
const SEVERAL: &str = document!(
    400,
    "Bad Request",
    "The request presents more than one API key. Send one, in one field: `Authorization: Bearer <key>` or \
     `X-API-Key: <key>`."
);
const MALFORMED: &str = document!(
    400,
    "Bad Request",
    "The field of the API key holds something else. Send `Authorization: Bearer <key>` or `X-API-Key: <key>`, and \
     nothing beside the key."
);
const CLAIM: &str = document!(
    400,
    "Bad Request",
    "The body of a claim is a JSON object with the member `claim_id`: a text of 16 to 128 bytes that nobody else can \
     guess. The document has at most 2048 bytes."
);
const UNAVAILABLE: &str =
    document!(503, "Service Unavailable", "The API key cannot be checked at the moment. Try again.");
const OPEN: &str = document!(
    503,
    "Service Unavailable",
    "It is not known whether the claim was carried out. Repeat it with the same claim id."
);
/// The type that the draft of the rate limit fields registers; see `limit`.
const LIMITED: &str = "{\"type\":\"https://iana.org/assignments/http-problem-types#quota-exceeded\",\
     \"title\":\"Too Many Requests\",\"status\":429,\"detail\":\"A limit of the API key is reached.\",\
     \"violated-policies\":[\"default\"]}";

/// What is worth a second attempt is so soon.
const SOON: &str = "1";

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

impl<'a> Problem<'a> {
    /// The status, of three digits.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The fields; among them the type of the body.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        self.fields(self.challenge.as_deref().map(Cow::Borrowed))
    }

    /// The problem document, in JSON.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The status, the fields and the body, allocated only where they were put together.
    #[must_use]
    pub fn into_parts(mut self) -> (u16, Headers<'a>, Cow<'static, str>) {
        let challenge = self.challenge.take();
        (self.status, self.fields(challenge), self.body)
    }

    fn fields<'b>(&self, challenge: Option<Cow<'b, str>>) -> Headers<'b> {
        let mut headers = Headers::new();
        headers.push(Header::fixed("content-type", "application/problem+json"));
        // Answers to requests with `X-API-Key` are kept by shared caches unless they are told not to.
        headers.push(Header::fixed("cache-control", "no-store"));
        match challenge {
            Some(Cow::Borrowed(challenge)) => headers.push(Header::fixed("www-authenticate", challenge)),
            Some(Cow::Owned(challenge)) => headers.push(Header::made("www-authenticate", challenge)),
            None => {}
        }
        if let Some(status) = &self.limit {
            limit::push(&mut headers, status);
        }
        if self.is_passing {
            headers.push(Header::fixed("retry-after", SOON));
        }
        headers
    }

    fn new(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        Self { status, challenge: None, limit: None, is_passing: false, body: body.into() }
    }

    /// Of no further type, with this detail.
    fn told(status: u16, title: &str, detail: &str) -> Self {
        let document = Document { r#type: "about:blank", title, status, detail };
        Self::new(status, serde_json::to_string(&document).unwrap_or_default())
    }

    fn challenging(self, challenge: impl Into<Cow<'a, str>>) -> Self {
        Self { challenge: Some(challenge.into()), ..self }
    }

    pub(super) fn of_credentials(error: CredentialsError, challenges: &'a Challenges) -> Self {
        let (status, body, challenge) = match error {
            CredentialsError::Missing => (401, MISSING, &challenges.plain),
            CredentialsError::Several => (400, SEVERAL, &challenges.invalid_request),
            CredentialsError::Malformed => (400, MALFORMED, &challenges.invalid_request),
        };
        Self::new(status, body).challenging(challenge.as_str())
    }

    pub(super) fn of_denial(denial: &Denial, demanded: Option<&Scope>, challenges: &'a Challenges) -> Self {
        match denial.class() {
            DenialClass::Unauthenticated => Self::unauthenticated(challenges),
            DenialClass::Forbidden => {
                let scope = demanded.map(|scope| format!(" {}", scope.as_str())).unwrap_or_default();
                Self::told(403, "Forbidden", &format!("The API key lacks the scope{scope}."))
                    .challenging(challenges.insufficient_scope(demanded))
            }
            DenialClass::Limited => Self { limit: denial.limit().copied(), ..Self::new(429, LIMITED) },
            DenialClass::Unavailable => Self::unavailable(UNAVAILABLE),
        }
    }

    fn unauthenticated(challenges: &'a Challenges) -> Self {
        Self::new(401, INVALID).challenging(challenges.invalid_token.as_str())
    }

    fn unavailable(body: &'static str) -> Self {
        Self { is_passing: true, ..Self::new(503, body) }
    }

    /// Of the body of a claim that cannot be read.
    pub(super) fn of_claim_body() -> Self {
        Self::new(400, CLAIM)
    }

    pub(super) fn of_claim(error: &ManageError, challenges: &'a Challenges) -> Self {
        match error {
            // The presented token stopped validating between its validation and the claim.
            ManageError::UnknownToken
            | ManageError::Lifecycle(LifecycleError::KeyRevoked | LifecycleError::OwnerSuspended) => {
                Self::unauthenticated(challenges)
            }
            ManageError::Text(_) => Self::of_claim_body(),
            ManageError::Lifecycle(error @ LifecycleError::NothingToClaim) => {
                Self::told(404, "Not Found", &error.to_string())
            }
            ManageError::Lifecycle(_)
            | ManageError::OwnerLimitReached { .. }
            | ManageError::AlreadyDone { .. }
            | ManageError::RequestReused(_) => Self::told(409, "Conflict", &error.to_string()),
            ManageError::OutcomeUnknown { .. } => Self::unavailable(OPEN),
            _ => Self::unavailable(UNAVAILABLE),
        }
    }
}

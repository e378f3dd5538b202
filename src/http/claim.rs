//! The claim route: what its request and its answer hold.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::claim::ClaimId;
use crate::http::header::{Header, Headers};
use crate::http::problem::Problem;
use crate::id::{KeyId, VersionNo};
use crate::manager::RotatedKey;
use crate::secret::SecretBuffer;
use crate::time::Timestamp;

/// The longest body of a claim, in bytes.
const LONGEST: usize = 2_048;

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    claim_id: Cow<'a, str>,
}

/// The claim's id out of the body of a request, `{"claim_id":"…"}`: a text of 16 to 128 bytes that the client has made up.
/// Members of other names are not looked at.
///
/// # Errors
/// The [`Problem`] to answer (HTTP 400), also to a body of more than 2,048 bytes.
pub fn claim_id(body: &[u8]) -> Result<ClaimId, Problem<'static>> {
    let body = Some(body).filter(|body| body.len() <= LONGEST);
    let request = body.and_then(|body| serde_json::from_slice::<Request<'_>>(body).ok());
    request
        .and_then(|request| ClaimId::new(request.claim_id.as_bytes()).ok())
        .ok_or_else(Problem::of_claim_body)
}

/// The answer to a claim: 200, with the successor's token in its body.
///
/// ```json
/// {"token":"…","key_id":"…","version":2,"valid_until":"2027-06-23T00:00:00Z",
///  "old_version":1,"old_valid_until":"2027-03-28T10:00:00Z"}
/// ```
///
/// A date that is not there is `null`: never, or not told yet.
pub struct ClaimAnswer {
    body: SecretBuffer,
}

/// What stands in the body beside the token.
#[derive(Serialize)]
struct Facts {
    key_id: KeyId,
    version: VersionNo,
    valid_until: Option<String>,
    old_version: Option<VersionNo>,
    old_valid_until: Option<String>,
}

impl ClaimAnswer {
    /// The answer that tells of this successor.
    #[must_use]
    pub fn of(claimed: &RotatedKey) -> Self {
        let told = |time: Option<Timestamp>| time.map(|time| time.to_string());
        let facts = serde_json::to_string(&Facts {
            key_id: claimed.key,
            version: claimed.version,
            valid_until: told(claimed.valid_until),
            old_version: claimed.old_version,
            old_valid_until: told(claimed.old_valid_until),
        });
        let facts = facts.unwrap_or_default();
        let (token, rest) = (claimed.token.expose().as_bytes(), facts.trim_start_matches('{').as_bytes());
        // A token has nothing that JSON would escape.
        Self { body: SecretBuffer::concat(&[b"{\"token\":\"", token, b"\",", rest]) }
    }

    /// The fields: the type of the body, and that nobody may keep it.
    #[must_use]
    pub fn headers(&self) -> Headers<'static> {
        let mut headers = Headers::new();
        headers.push(Header::fixed("content-type", "application/json"));
        headers.push(Header::fixed("cache-control", "no-store"));
        headers
    }

    /// The body, in JSON: to be sent, and written nowhere. It is wiped when this value goes.
    #[must_use]
    pub fn expose_body(&self) -> &[u8] {
        self.body.expose()
    }
}

impl fmt::Debug for ClaimAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimAnswer([redacted])")
    }
}

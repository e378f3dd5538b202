//! What an answer tells of the version that it was granted to.

use std::sync::Arc;

use crate::http::date::{field_date, http_date};
use crate::http::header::{Header, Headers};
use crate::http::limit;
use crate::text::{self, TextError};
use crate::validate::Grant;

/// The relation of the `Link` to the claim route: where this crate's documentation tells how to claim.
pub const CLAIM_RELATION: &str = "https://docs.rs/keyrota/latest/keyrota/guide/claiming/";

/// The value of a `Link` field to the claim route.
pub(super) fn link_to(place: &str) -> Result<Arc<str>, TextError> {
    text::check("claim route", place, 512)?;
    let is_rooted = place.starts_with('/') && !place.starts_with("//");
    let has_scheme = place.strip_prefix("https://").is_some_and(|rest| !rest.is_empty());
    // RFC 3986 leaves these out of a URI; the first of them would end the link.
    let is_of_uri = |byte: u8| byte.is_ascii_graphic() && !br#"<>"\^`{|}"#.contains(&byte);
    if (is_rooted || has_scheme) && place.bytes().all(is_of_uri) {
        Ok(format!("<{place}>; rel=\"{CLAIM_RELATION}\"").into())
    } else {
        Err(TextError::Syntax {
            field: "claim route",
            form: "/path or https://host/path, of a URI's characters",
        })
    }
}

/// The fields that a grant brings about.
pub(super) fn headers<'a>(grant: &Grant, claim: Option<&'a str>) -> Headers<'a> {
    let mut headers = Headers::new();
    if let Some(since) = grant.deprecated_at() {
        headers.push(Header::fixed("x-api-key-deprecated", "true"));
        headers.push(Header::fixed("warning", "299 - \"API key is deprecated and will be revoked soon\""));
        headers.push(Header::made("deprecation", field_date(since)));
        if let Some(until) = grant.valid_until() {
            // RFC 9745 §4: not before the deprecation, whatever the clocks of two processes say.
            headers.push(Header::made("sunset", http_date(until.max(since))));
        }
    }
    if let Some(successor) = grant.successor() {
        headers.push(Header::made("x-api-key-claim-by", http_date(successor.claim_by)));
        if let Some(ends) = successor.ends {
            headers.push(Header::made("sunset", http_date(ends)));
        }
        if let Some(claim) = claim {
            headers.push(Header::fixed("link", claim));
        }
    }
    if let Some(status) = grant.limit() {
        limit::push(&mut headers, status);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{KeyId, OwnerId, VersionNo};
    use crate::time::Timestamp;
    use crate::validate::Following;

    /// Two clocks, or one that went back, can bring an end before the deprecation.
    #[test]
    fn a_sunset_is_never_before_the_deprecation() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let of = |since, until| {
            let grant = Grant {
                key: KeyId::new(at(since), [7; 10]),
                version: VersionNo::FIRST,
                owner: OwnerId::new("ada").unwrap(),
                valid_until: Some(at(until)),
                following: Following::Superseded(at(since)),
                limit: None,
            };
            let headers = headers(&grant, None);
            ["deprecation", "sunset"].map(|name| headers.get(name).unwrap().to_owned())
        };
        let [deprecation, sunset] = of("2027-02-01T12:00:00Z", "2027-02-01T11:00:00Z");
        assert_eq!([&*deprecation, &*sunset], ["@1801483200", "Mon, 01 Feb 2027 12:00:00 GMT"]);
        let [_, sunset] = of("2027-02-01T12:00:00.9Z", "2027-02-01T12:00:01.1Z");
        assert_eq!(sunset, "Mon, 01 Feb 2027 12:00:01 GMT");
    }
}

//! What is left of a limit: the fields of draft-ietf-httpapi-ratelimit-headers-11, which this file alone follows, and
//! `Retry-After` (RFC 9110 §10.2.3).

use std::time::Duration;

use crate::http::header::{Header, Headers};
use crate::limit::LimitStatus;

/// The only name of a policy: a client is told of the limit that binds it, and of no other.
const POLICY: &str = "\"default\"";

/// The largest integer of a structured field (RFC 9651 §3.3.1).
const LARGEST: u64 = 999_999_999_999_999;

/// `RateLimit-Policy`, `RateLimit`, and after a refusal for which waiting helps `Retry-After`.
///
/// After a refusal the effective window of `RateLimit` is the wait: until it is over the client gets no more than what is
/// left, and the draft wants `Retry-After` not to end before it.
pub(super) fn push(headers: &mut Headers<'_>, status: &LimitStatus) {
    let parameter = |name, span: Option<Duration>| {
        span.map(|span| format!(";{name}={}", seconds(span))).unwrap_or_default()
    };
    let (most, left) = (status.limit().min(LARGEST), status.remaining().min(LARGEST));
    let window = parameter('w', status.window());
    let effective = parameter('t', status.retry_after().or(status.reset_after()));
    headers.push(Header::made("ratelimit-policy", format!("{POLICY};q={most}{window}")));
    headers.push(Header::made("ratelimit", format!("{POLICY};r={left}{effective}")));
    if let Some(wait) = status.retry_after() {
        headers.push(Header::made("retry-after", seconds(wait).to_string()));
    }
}

/// Whole seconds, rounded up: whoever comes back after them does not come too early.
fn seconds(span: Duration) -> u64 {
    span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0)).min(LARGEST)
}

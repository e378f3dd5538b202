//! What a receiver's answer means: told, to be tried again, or refused for good.

use std::time::{Duration, SystemTime};

use crate::notify::NotifyError;
use crate::time::Timestamp;

/// The longest that a receiver is waited for, whatever it says.
const LONGEST: Duration = Duration::from_secs(86_400);

/// What is refused for good: the receiver is gone, or will never take this body. Everything else may be mended within
/// the week in which it is tried: also 400 and 401, by which receivers refuse a signature, and redirections.
const FOR_GOOD: [u16; 4] = [410, 413, 415, 422];

/// Judges a status, and the header `Retry-After` as it came.
pub(super) fn judge(status: u16, retry_after: Option<&str>, now: Timestamp) -> Result<(), NotifyError> {
    let why = match status {
        200..=299 => return Ok(()),
        300..=399 => format!("HTTP {status}: redirections are not followed"),
        _ => format!("HTTP {status}"),
    };
    if FOR_GOOD.contains(&status) {
        return Err(NotifyError::permanent(why));
    }
    Err(match retry_after.and_then(|text| pause(text, now)) {
        Some(after) => NotifyError::retry_after(after, why),
        None => NotifyError::retry(why),
    })
}

/// How long to wait: a number of seconds, or until a date.
fn pause(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let asked = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit is as long as can be.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(SystemTime::from(now)).unwrap_or_default()
    };
    Some(asked.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_status_is_told_tried_again_or_refused_for_good() {
        for status in 100..1_000u16 {
            let judged = judge(status, None, at("2027-01-01T00:00:00Z"));
            match status {
                200..=299 => assert_eq!(judged, Ok(())),
                410 | 413 | 415 | 422 => {
                    assert_eq!(judged, Err(NotifyError::permanent(format!("HTTP {status}"))));
                }
                _ => assert!(matches!(judged, Err(NotifyError::Retry { after: None, .. })), "{status}"),
            }
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_a_day_at_most() {
        let now = at("2027-01-01T00:00:00Z");
        for (text, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("86401", Some(86_400)),
            ("99999999999999999999999999", Some(86_400)),
            ("Fri, 01 Jan 2027 00:10:00 GMT", Some(600)),
            ("Friday, 01-Jan-27 00:10:00 GMT", Some(600)),
            ("Fri Jan  1 00:10:00 2027", Some(600)),
            ("Thu, 31 Dec 2026 23:00:00 GMT", Some(0)),
            ("Sat, 01 Jan 2028 00:00:00 GMT", Some(86_400)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
            ("2027-01-01T00:10:00Z", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(pause(text, now), expected, "{text:?}");
            let judged = judge(503, Some(text), now);
            assert_eq!(judged, Err(NotifyError::Retry { after: expected, why: "HTTP 503".to_owned() }));
            assert_eq!(judge(410, Some(text), now), Err(NotifyError::permanent("HTTP 410")));
            assert_eq!(judge(200, Some(text), now), Ok(()));
        }
    }
}

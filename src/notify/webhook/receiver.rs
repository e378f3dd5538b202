//! The receiver's side: whether a webhook is the sender's, and not an old one.

use std::time::Duration;

use crate::crypto;
use crate::notification::Notification;
use crate::notify::webhook::signing::{self, WebhookSecret};
use crate::time::Timestamp;

/// The headers of a webhook, as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookHeaders<'a> {
    /// `webhook-id`: the notification's id, by which a repetition is recognised.
    pub id: &'a str,
    /// `webhook-timestamp`: when it was sent, in seconds since 1970.
    pub timestamp: &'a str,
    /// `webhook-signature`: one or several signatures, with spaces between them.
    pub signature: &'a str,
}

impl<'a> WebhookHeaders<'a> {
    /// Takes them from wherever the host's web framework has them; names are asked for in lower case.
    ///
    /// # Errors
    /// [`WebhookRefused::MissingHeader`].
    pub fn from_fn(header: impl Fn(&'static str) -> Option<&'a str>) -> Result<Self, WebhookRefused> {
        let get = |name| header(name).ok_or(WebhookRefused::MissingHeader(name));
        Ok(Self {
            id: get("webhook-id")?,
            timestamp: get("webhook-timestamp")?,
            signature: get("webhook-signature")?,
        })
    }
}

/// Why a webhook is not to be believed. Unless it is said otherwise, answer with 400, and tell the sender no more.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookRefused {
    /// A header is missing.
    #[error("the header {0} is missing")]
    MissingHeader(&'static str),
    /// The timestamp is not a number of seconds.
    #[error("the header webhook-timestamp is not a number of seconds")]
    Timestamp,
    /// It was sent too long ago: somebody may have kept it, to send it again.
    #[error("it was sent too long ago")]
    TooOld,
    /// It was sent in the future: one of both clocks is wrong.
    #[error("it was sent in the future; one of both clocks is wrong")]
    TooNew,
    /// No signature is made by a secret that is known.
    #[error("no signature fits; body, id or time were changed, or the sender has another secret")]
    Signature,
    /// What was signed is not a notification that this version of the library knows. Answer with 422, so that it is not
    /// sent again.
    #[error("the body is no notification that is known here")]
    Body,
    /// The notification has another id than the header.
    #[error("the body has another id than the header")]
    Id,
}

crate::text::debug_as_told!(WebhookRefused);

/// Verifies webhooks: that they are signed by a secret that both sides have, and sent within the last minutes.
///
/// The body has to be the bytes as they came: parsed and written again it has other bytes. A webhook that is verified
/// may still be a repetition: remember the ids that you have acted upon, for longer than a week.
#[derive(Clone, Debug)]
pub struct WebhookVerifier {
    secrets: Vec<WebhookSecret>,
    tolerance: Duration,
}

impl WebhookVerifier {
    /// How far a webhook's time may lie from the receiver's, before and after, unless it is said otherwise.
    pub const TOLERANCE: Duration = Duration::from_secs(300);

    /// Verifies by this secret.
    #[must_use]
    pub fn new(secret: WebhookSecret) -> Self {
        Self { secrets: vec![secret], tolerance: Self::TOLERANCE }
    }

    /// Verifies by this secret as well, while the sender changes from one to the other.
    #[must_use]
    pub fn or(mut self, secret: WebhookSecret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// How far a webhook's time may lie from the receiver's, before and after.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Whether the body is the sender's, and was sent just now. `now` is the receiver's time.
    ///
    /// # Errors
    /// [`WebhookRefused`].
    ///
    /// # Timing
    /// Each signature is compared in a time that does not depend on where it differs.
    pub fn verify(
        &self,
        headers: &WebhookHeaders<'_>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), WebhookRefused> {
        let WebhookHeaders { id, timestamp, signature } = *headers;
        let is_number = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let seconds: i64 = timestamp.parse().map_err(|_| WebhookRefused::Timestamp)?;
        let sent = seconds.checked_mul(1_000_000).and_then(|micros| Timestamp::from_unix_micros(micros).ok());
        let sent = sent.filter(|_| is_number).ok_or(WebhookRefused::Timestamp)?;
        // Whole seconds are compared, as no finer time is sent.
        let now = now.unix_seconds();
        let tolerance = i64::try_from(self.tolerance.as_secs()).unwrap_or(i64::MAX);
        if now.saturating_sub(sent.unix_seconds()) > tolerance {
            return Err(WebhookRefused::TooOld);
        }
        if sent.unix_seconds().saturating_sub(now) > tolerance {
            return Err(WebhookRefused::TooNew);
        }
        let fits = |tag: &[u8; 32]| {
            let is_of = |secret: &WebhookSecret| crypto::ct_eq_32(&secret.tag(id, timestamp, body), tag);
            self.secrets.iter().any(is_of)
        };
        // A sender signs under few secrets; whoever sends more wants work to be done.
        if signing::tags(signature).take(MAX_SIGNATURES).any(|tag| fits(&tag)) {
            Ok(())
        } else {
            Err(WebhookRefused::Signature)
        }
    }

    /// The notification that a webhook of this library tells, once all of it is verified.
    ///
    /// # Errors
    /// [`WebhookRefused`].
    pub fn notification(
        &self,
        headers: &WebhookHeaders<'_>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Notification, WebhookRefused> {
        self.verify(headers, body, now)?;
        let told: Notification = serde_json::from_slice(body).map_err(|_| WebhookRefused::Body)?;
        if told.format != Notification::FORMAT {
            return Err(WebhookRefused::Body);
        }
        if told.id.to_string() != headers.id {
            return Err(WebhookRefused::Id);
        }
        Ok(told)
    }
}

/// How many signatures of a header are looked at.
const MAX_SIGNATURES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const BODY: &[u8] = br#"{"email":"test@example.com","username":"test_user"}"#;
    /// The example that the specification publishes.
    const VECTOR: WebhookHeaders<'static> = WebhookHeaders {
        id: "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        timestamp: "1649367553",
        signature: "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    };

    fn secret(text: &str) -> WebhookSecret {
        WebhookSecret::new(text).unwrap()
    }

    fn verifier() -> WebhookVerifier {
        WebhookVerifier::new(secret(SECRET))
    }

    fn after(seconds: i64) -> Timestamp {
        Timestamp::from_unix_micros((1_649_367_553 + seconds) * 1_000_000).unwrap()
    }

    #[test]
    fn the_published_vector_is_made_and_verified() {
        let made = signing::signatures(&[secret(SECRET)], VECTOR.id, VECTOR.timestamp, BODY);
        assert_eq!(made, VECTOR.signature);
        assert_eq!(verifier().verify(&VECTOR, BODY, after(0)), Ok(()));
    }

    #[test]
    fn a_change_of_any_part_is_refused() {
        let refused = |headers: &WebhookHeaders<'_>, body: &[u8]| verifier().verify(headers, body, after(0));
        for at in 0..BODY.len() {
            let mut edited = BODY.to_vec();
            edited[at] ^= 1;
            assert_eq!(refused(&VECTOR, &edited), Err(WebhookRefused::Signature), "byte {at}");
        }
        for headers in [
            WebhookHeaders { id: "msg_27UH4WbU6Z5A5EzD8u03UvzRbpl", ..VECTOR },
            WebhookHeaders { id: "", ..VECTOR },
            WebhookHeaders { timestamp: "1649367554", ..VECTOR },
            WebhookHeaders { timestamp: "01649367553", ..VECTOR },
            WebhookHeaders { signature: "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kk0=", ..VECTOR },
            WebhookHeaders { signature: "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kg==", ..VECTOR },
            WebhookHeaders { signature: "v1a,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=", ..VECTOR },
            WebhookHeaders { signature: "tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=", ..VECTOR },
            WebhookHeaders { signature: "v1,", ..VECTOR },
            WebhookHeaders { signature: "", ..VECTOR },
        ] {
            assert_eq!(refused(&headers, BODY), Err(WebhookRefused::Signature), "{headers:?}");
        }
        let other = WebhookVerifier::new(WebhookSecret::generate().unwrap());
        assert_eq!(other.verify(&VECTOR, BODY, after(0)), Err(WebhookRefused::Signature));
        // What is joined alike is not the same: the parts of an id cannot wander into the time.
        let moved = WebhookHeaders {
            id: "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk.1649367553",
            timestamp: "1649367553",
            ..VECTOR
        };
        assert_eq!(refused(&moved, BODY), Err(WebhookRefused::Signature));
    }

    #[test]
    fn a_time_beyond_the_tolerance_is_refused_on_both_sides() {
        let at = |seconds| verifier().verify(&VECTOR, BODY, after(seconds));
        for (seconds, expected) in [
            (300, Ok(())),
            (301, Err(WebhookRefused::TooOld)),
            (-300, Ok(())),
            (-301, Err(WebhookRefused::TooNew)),
            (1_000_000_000, Err(WebhookRefused::TooOld)),
        ] {
            assert_eq!(at(seconds), expected, "{seconds}");
        }
        let strict = verifier().tolerance(Duration::from_secs(1));
        assert_eq!(strict.verify(&VECTOR, BODY, after(2)), Err(WebhookRefused::TooOld));
        let endless = verifier().tolerance(Duration::MAX);
        assert_eq!(endless.verify(&VECTOR, BODY, after(1_000_000_000)), Ok(()));
        for timestamp in [
            "",
            "x",
            "-1",
            "+1649367553",
            " 1649367553",
            "1649367553.0",
            "99999999999999999999",
            "9223372036854775807",
        ] {
            let headers = WebhookHeaders { timestamp, ..VECTOR };
            assert_eq!(
                verifier().verify(&headers, BODY, after(0)),
                Err(WebhookRefused::Timestamp),
                "{timestamp:?}"
            );
        }
    }

    #[test]
    fn either_secret_of_a_change_fits_on_either_side() {
        let (old, new) = (secret(SECRET), WebhookSecret::generate().unwrap());
        let signed =
            |secrets: &[WebhookSecret]| signing::signatures(secrets, VECTOR.id, VECTOR.timestamp, BODY);
        let both = signed(&[new.clone(), old.clone()]);
        assert_eq!(both.split(' ').count(), 2);
        let fits = |verifier: WebhookVerifier, signature: &str| {
            verifier.verify(&WebhookHeaders { signature, ..VECTOR }, BODY, after(0))
        };
        assert_eq!(fits(WebhookVerifier::new(old.clone()), &both), Ok(()));
        assert_eq!(fits(WebhookVerifier::new(new.clone()), &both), Ok(()));
        let of_both = WebhookVerifier::new(new.clone()).or(old.clone());
        for secret in [old, new] {
            assert_eq!(fits(of_both.clone(), &signed(&[secret])), Ok(()));
        }
        let among_others = format!("v2,AAAA v1,!!! {} v1a,xx", VECTOR.signature);
        assert_eq!(fits(verifier(), &among_others), Ok(()));
        let many = format!("{}{}", format!("v1,{} ", "A".repeat(43) + "=").repeat(10_000), VECTOR.signature);
        assert_eq!(fits(verifier(), &many), Err(WebhookRefused::Signature), "work is bounded");
    }

    #[test]
    fn headers_are_taken_by_their_names_and_a_missing_one_is_named() {
        let all = [("webhook-id", "a"), ("webhook-timestamp", "b"), ("webhook-signature", "c")];
        let of = |headers: &[(&str, &'static str)]| {
            let find = |name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
            WebhookHeaders::from_fn(find)
        };
        assert_eq!(of(&all), Ok(WebhookHeaders { id: "a", timestamp: "b", signature: "c" }));
        for missing in 0..3 {
            let mut some = all.to_vec();
            let (name, _) = some.remove(missing);
            assert_eq!(of(&some), Err(WebhookRefused::MissingHeader(name)));
        }
    }

    #[test]
    fn a_signed_body_that_is_no_notification_or_another_one_is_refused() {
        let secret = secret(SECRET);
        let of = |id: &str, body: &str| {
            let signature =
                signing::signatures(std::slice::from_ref(&secret), id, VECTOR.timestamp, body.as_bytes());
            let headers = WebhookHeaders { id, timestamp: VECTOR.timestamp, signature: &signature };
            verifier().notification(&headers, body.as_bytes(), after(0))
        };
        let told = Notification::new(after(0), crate::notification::NotificationKind::Alarm).identified("x");
        let (id, body) = (told.id.to_string(), told.to_json());
        assert_eq!(of(&id, &body), Ok(told));
        assert_eq!(of("ntf_other", &body), Err(WebhookRefused::Id));
        assert_eq!(of(&id, "{}"), Err(WebhookRefused::Body));
        assert_eq!(of(&id, &body.replace("\"format\":1", "\"format\":2")), Err(WebhookRefused::Body));
        assert_eq!(of(&id, &body.replacen('{', "{\"later\":[1],", 1)).unwrap().id.to_string(), id);
    }
}

//! From what a mail says to the bytes that are sent (RFC 5322).

use std::time::SystemTime;

use lettre::Message;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};

use crate::notification::Notification;
use crate::notify::email::EmailAddress;
use crate::notify::email::mail::Mail;
use crate::time::Timestamp;

/// The longest subject, in characters.
const SUBJECT: usize = 200;
/// The longest text and the longest HTML, in bytes.
const BODY: usize = 256 * 1024;

/// The mail cannot be written down: its parts are too long, or no header can express them.
#[derive(Debug)]
pub(super) struct Unwritable;

/// The subject on one line.
fn subject(text: &str) -> String {
    let visible = |c: char| if crate::text::check("subject", &c.to_string(), 4).is_ok() { c } else { ' ' };
    text.chars().take(SUBJECT).map(visible).collect()
}

/// The bytes of a mail. Its id is made of the notification's, so that a mail program recognises a repetition.
pub(super) fn message(
    from: &EmailAddress,
    to: &EmailAddress,
    mail: Mail,
    told: &Notification,
    now: Timestamp,
) -> Result<Vec<u8>, Unwritable> {
    if mail.text.len() > BODY || mail.html.as_ref().is_some_and(|html| html.len() > BODY) {
        return Err(Unwritable);
    }
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let builder = Message::builder()
        .from(Mailbox::new(None, from.inner()))
        .to(Mailbox::new(None, to.inner()))
        .subject(subject(&mail.subject))
        .date(SystemTime::from(now))
        .message_id(Some(format!("<{}@{}>", told.id, from.domain())))
        // Nobody's absence note answers it (RFC 3834).
        .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()));
    let message = match mail.html {
        Some(html) => builder.multipart(MultiPart::alternative_plain_html(mail.text, html)),
        None => builder.singlepart(SinglePart::plain(mail.text)),
    };
    Ok(message.map_err(|_| Unwritable)?.formatted())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notification::NotificationKind;

    fn of(mail: Mail) -> Result<String, Unwritable> {
        let address = EmailAddress::new("ada@example.com").unwrap();
        let at: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        let told = Notification::new(at, NotificationKind::Issued).identified("x");
        message(&address, &address, mail, &told, at).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_subject_is_cut_and_a_mail_that_is_too_long_is_not_written() {
        let written = of(Mail::new("x".repeat(SUBJECT + 1), "text")).unwrap();
        let (subject, _) = written.split_once("Subject: ").unwrap().1.split_once("\r\nDate").unwrap();
        assert_eq!(subject.matches('x').count(), SUBJECT);
        let long = "x".repeat(BODY);
        assert!(of(Mail::new("x", long.clone()).html(long.clone())).is_ok());
        assert!(of(Mail::new("x", format!("{long}x"))).is_err());
        assert!(of(Mail::new("x", "x").html(format!("{long}x"))).is_err());
    }
}

//! What a mail says, and who decides it.

use std::fmt::Write as _;

use crate::notification::Notification;
use crate::notify::email::words::{Words, facts};

/// What a mail says.
///
/// Whatever a template puts into the subject stays in the subject: line breaks and other control characters become
/// spaces, and what is beyond 200 characters is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mail {
    /// The subject.
    pub subject: String,
    /// The text for whoever reads plain text.
    pub text: String,
    /// The same as HTML.
    pub html: Option<String>,
}

impl Mail {
    /// A mail of plain text.
    pub fn new(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { subject: subject.into(), text: text.into(), html: None }
    }

    /// The same as HTML beside it. Put nothing into it that is not [escaped](Self::escape): names and reasons come from
    /// outside.
    #[must_use]
    pub fn html(mut self, html: impl Into<String>) -> Self {
        self.html = Some(html.into());
        self
    }

    /// A text as HTML shows it, also within an attribute's quotes.
    #[must_use]
    pub fn escape(text: &str) -> String {
        let mut escaped = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '&' => escaped.push_str("&amp;"),
                '<' => escaped.push_str("&lt;"),
                '>' => escaped.push_str("&gt;"),
                '"' => escaped.push_str("&quot;"),
                '\'' => escaped.push_str("&#39;"),
                c => escaped.push(c),
            }
        }
        escaped
    }
}

/// Writes the mails of a channel.
pub trait MailTemplate: Send + Sync + 'static {
    /// The mail that tells a notification.
    fn mail(&self, notification: &Notification) -> Mail;
}

impl<F: Fn(&Notification) -> Mail + Send + Sync + 'static> MailTemplate for F {
    fn mail(&self, notification: &Notification) -> Mail {
        self(notification)
    }
}

/// The mails that are sent unless the host writes its own: what happened, what to do, and what is known about it, in
/// English, as plain text and as HTML without pictures, links or scripts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandardMail;

impl MailTemplate for StandardMail {
    fn mail(&self, notification: &Notification) -> Mail {
        let Words { subject, what, to_do } = Words::of(notification);
        let facts = facts(notification);
        let mut text = format!("{what}\n\n{to_do}\n\n");
        let mut rows = String::new();
        for (name, value) in &facts {
            // Writing to a text does not fail.
            let _ = writeln!(text, "{:<14}{value}", format!("{name}:"));
            let row = format!(
                "<tr><th align=\"left\">{}</th><td>{}</td></tr>",
                Mail::escape(name),
                Mail::escape(value)
            );
            rows.push_str(&row);
        }
        let html = format!(
            "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title></head><body><p>{}</p>\
             <p><strong>{}</strong></p><table>{rows}</table></body></html>",
            Mail::escape(&subject),
            Mail::escape(&what),
            Mail::escape(&to_do),
        );
        Mail::new(subject, text).html(html)
    }
}

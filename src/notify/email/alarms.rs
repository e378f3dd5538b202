//! The words of alarms: for each subject what it means, and what to do.

use crate::notification::Notification;
use crate::notify::email::words::{Words, about, capital};

impl Words {
    /// A subject that is not known here is told as it is.
    pub(super) fn of_alarm(told: &Notification) -> Self {
        let subject = told.subject.as_deref().unwrap_or("something that should not happen");
        let about = about(told);
        let times = match told.count {
            Some(1) => "once".to_owned(),
            Some(count) => format!("{count} times"),
            None => "several times".to_owned(),
        };
        let source = told.source.as_deref().unwrap_or("one source");
        let version = told.version.map_or("a version".to_owned(), |version| version.to_string());
        let (what, to_do) = match subject {
            "source_failing" | "source_flooding" => (
                format!("Within an hour {source} failed to authenticate {times}."),
                "Look at what it sends, and limit or block it where your service meets the network.",
            ),
            "source_outdated" => (
                format!(
                    "Within an hour {source} failed to authenticate {times}, mostly with the right secret of a token \
                     that is over."
                ),
                "A client there has missed a rotation: have whoever runs it take the current token.",
            ),
            "locator_failing" | "locator_flooding" => (
                format!(
                    "Within an hour a token with a wrong secret was presented {times} {}.",
                    at_whose(told)
                ),
                "Its hint is known to somebody, or a token was cut. A guess does not succeed; find out where the requests \
                 come from.",
            ),
            "retired_version_used" => (
                format!("{version} of {about} was presented {times} after its end."),
                "A client has missed a rotation: move it to the current token.",
            ),
            "revoked_version_used" => (
                format!("{version} of {about}, which was revoked, was presented {times}."),
                "A client was forgotten, or a thief still tries: find out where the requests come from.",
            ),
            "undelivered_version_used" => (
                format!(
                    "{version} of {about} was presented {times}, and it was never handed over to anybody: its \
                     secret can only have leaked out of the store."
                ),
                "Revoke the key now, replace the master key, and find out who could read the store.",
            ),
            "usage_rose" => (
                format!("{} was used far more than before: {}.", capital(&about), as_expected(told)),
                "Ask its owner whether that is meant: a key that has leaked shows so.",
            ),
            "usage_fell" => (
                format!("{} was used far less than before: {}.", capital(&about), as_expected(told)),
                "Ask its owner whether its clients still run, and whether they have a token that is valid.",
            ),
            "version_compromised" => (
                format!("{version} of {about} was said to be in wrong hands."),
                "Replace what is left of the key, and look at what it was used for.",
            ),
            "chain_broken" => (
                "The audit log was found damaged, and goes on in a new segment.".to_owned(),
                "Keep a copy of the store, verify the log, and find out who could write to it.",
            ),
            "notifications_dropped" => (
                format!("{} notifications waited for too long, and were dropped.", told.more.unwrap_or(1)),
                "See that every channel is served; the audit log has what they told of keys.",
            ),
            _ => (
                format!("An alarm was raised about {}: {subject}.", of_what(told)),
                "Look at it now; the audit log says what led to it.",
            ),
        };
        // The rest of an hour names none of those that it counts.
        let more = told.more.filter(|_| subject != "notifications_dropped");
        let what = match more {
            Some(more) => format!("There were {more} more alarms of this sort that are not told one by one."),
            None => what,
        };
        let title = match more {
            Some(more) => format!("Alarm: {subject}: {more} more"),
            None => format!("Alarm: {subject}: {}", of_what(told)),
        };
        Self { subject: title, what, to_do: to_do.to_owned() }
    }
}

/// What an alarm is about: a source or a locator, unless a key is known.
fn of_what(told: &Notification) -> String {
    match (told.key, told.owner, &told.source, told.locator) {
        (None, None, Some(source), _) => source.clone(),
        (None, None, None, Some(locator)) => format!("the locator {locator}"),
        (None, None, None, None) => "the store".to_owned(),
        _ => about(told),
    }
}

fn at_whose(told: &Notification) -> String {
    match told.key {
        Some(_) => format!("for {}", about(told)),
        None => told
            .locator
            .map_or_else(String::new, |locator| format!("at the locator {locator}, which no key has")),
    }
}

fn as_expected(told: &Notification) -> String {
    match (told.count, told.expected) {
        (Some(count), Some(expected)) => {
            format!("{count} requests on a day, where {expected} were to be expected")
        }
        _ => "otherwise than on this weekday before".to_owned(),
    }
}

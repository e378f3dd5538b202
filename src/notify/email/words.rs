//! The words of the standard mails: for each kind what happened, and what to do.

use crate::notification::{Notification, NotificationKind};
use crate::policy::Claimant;
use crate::time::Timestamp;

/// What a mail says, in three parts.
pub(super) struct Words {
    pub(super) subject: String,
    pub(super) what: String,
    pub(super) to_do: String,
}

/// `2027-04-01 00:00 UTC`.
fn date(time: Timestamp) -> String {
    let text = time.to_string();
    format!("{} UTC", text.get(..16).unwrap_or(&text).replace('T', " "))
}

/// `7 days`, `1 hour`.
fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// What the notification is about, as a person says it: `the key "ci" (key_4fTq…)`.
pub(super) fn about(told: &Notification) -> String {
    let hint = told.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    match (&told.name, told.key, told.owner) {
        (Some(name), ..) => format!("the key {:?}{hint}", name.as_str()),
        (None, Some(key), _) => format!("the key {key}{hint}"),
        (None, None, Some(owner)) => format!("the keys of {owner}"),
        (None, None, None) => "your keys".to_owned(),
    }
}

/// `until 2027-04-01 00:00 UTC`, or else in other words.
fn until(time: Option<Timestamp>, otherwise: &str) -> String {
    time.map_or_else(|| otherwise.to_owned(), |time| format!("until {}", date(time)))
}

impl Words {
    /// Without a wildcard: whoever adds a kind writes its mail.
    pub(super) fn of(told: &Notification) -> Self {
        use NotificationKind as Kind;
        let about = about(told);
        let version =
            told.version.map(|version| version.to_string()).unwrap_or_else(|| "a version".to_owned());
        let old_ends = until(told.ends_at, "as the policy says");
        let (subject, what, to_do) = match told.kind {
            Kind::Issued => (
                format!("Issued: {about}"),
                format!("A token was issued for {about}. It is valid {}.", until(told.ends_at, "until it is revoked")),
                "If you did not expect this, have it revoked.".to_owned(),
            ),
            Kind::RotationScheduled => (
                format!("Rotation scheduled: {about}"),
                match told.ends_at {
                    Some(time) => format!("A rotation of {about} is scheduled for {}.", date(time)),
                    None => format!("A rotation of {about} is scheduled."),
                },
                "Make sure that whoever uses it can take a new token at that time.".to_owned(),
            ),
            Kind::RotationStarted => match told.claim_by {
                Some(claim_by) => (
                    format!("Claim the new token of {about} by {}", date(claim_by)),
                    format!(
                        "A new token waits for {about}. The old one is valid {old_ends}, and the new one can be \
                         claimed until {}.",
                        date(claim_by)
                    ),
                    "Claim the new token, and move every client to it before the old one ends.".to_owned(),
                ),
                None => (
                    format!("Rotated: {about}"),
                    format!("There is a new token for {about}. The old one is valid {old_ends}."),
                    "Move every client to the new token before the old one ends.".to_owned(),
                ),
            },
            Kind::RotationClaimed => (
                format!("New token claimed: {about}"),
                format!("The new token of {about} was claimed. The old one is valid {old_ends}."),
                "If it was not you, have the key replaced now: whoever claimed it has the new token.".to_owned(),
            ),
            Kind::ClaimConflict => (
                format!("Claimed twice: {about}"),
                format!("Somebody tried to claim the new token of {about}, which another had claimed before."),
                "One of both may be a thief. Find out who claimed it; unless both were yours, have the key replaced now."
                    .to_owned(),
            ),
            Kind::AdoptionLagging => (
                format!("Old token still in use: {about}"),
                format!("The old token of {about} is still used, or the new one never was. The old one is valid {old_ends}."),
                "Move the clients that still use the old token: they are denied once it ends.".to_owned(),
            ),
            Kind::DeliveryFailing => (
                format!("New token not delivered: {about}"),
                format!("The new token of {about} could not be put where its service reads it. It is tried again."),
                "See that the place where the service reads its token can be reached and written.".to_owned(),
            ),
            Kind::RotationCompleted => (
                format!("Rotation complete: {about}"),
                format!("The old token of {about} has left; the new one is the only one that was rotated to."),
                "Nothing is to be done.".to_owned(),
            ),
            Kind::RotationFailed => (
                format!("Rotation failed: {about}"),
                format!("Nobody took over the new token of {about} in time, and it was withdrawn."),
                "The key is not rotated by itself any more. Rotate it by hand, or revoke it if nobody needs it.".to_owned(),
            ),
            Kind::RotationRolledBack => (
                format!("Rotation rolled back: {about}"),
                format!("The old token of {about} is the one to be used again."),
                "Move the clients that took the new token back to the old one.".to_owned(),
            ),
            Kind::Expiring => {
                let left = told.threshold.map(|left| format!(" in {}", span(left.as_secs()))).unwrap_or_default();
                (
                    format!("Ends{left}: {about}"),
                    format!("The token of {about} is valid {old_ends}, and nobody has its successor."),
                    "Claim the successor, or rotate the key, and move every client before that.".to_owned(),
                )
            }
            Kind::Expired => (
                format!("Ended: {about}"),
                format!("The token of {about} has ended, and nothing had taken its place. Whoever uses it is denied."),
                "Rotate the key if it is still needed.".to_owned(),
            ),
            Kind::Revoked => (
                format!("Revoked: {about}"),
                match told.version {
                    Some(_) => format!("{version} of {about} was revoked. Whoever uses it is denied."),
                    None => format!("{} was revoked. Whoever uses it is denied.", capital(&about)),
                },
                "If it is still needed, ask for another one.".to_owned(),
            ),
            Kind::Suspended => (
                format!("Suspended: {about}"),
                format!("{} stopped validating.", capital(&about)),
                "They validate again once they are resumed.".to_owned(),
            ),
            Kind::Resumed => (
                format!("Resumed: {about}"),
                format!("{} validate again.", capital(&about)),
                "Nothing is to be done.".to_owned(),
            ),
            Kind::Unused => (
                format!("Never used: {about}"),
                format!("The token of {about} was not used in its first 7 days."),
                "If nobody needs it, revoke it.".to_owned(),
            ),
            Kind::PotentiallyStale => (
                format!("Not used for 30 days: {about}"),
                format!("The token of {about} was not used for 30 days."),
                "If nobody needs it any more, revoke it.".to_owned(),
            ),
            Kind::Alarm => return Self::of_alarm(told),
        };
        Self { subject, what, to_do }
    }
}

/// With its first letter in upper case.
pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn claimed_by(claimant: Claimant) -> &'static str {
    match claimant {
        Claimant::Holder => "whoever holds the old token",
        Claimant::Owner => "the service, for its owner",
    }
}

/// What is known, each with its name.
pub(super) fn facts(told: &Notification) -> Vec<(&'static str, String)> {
    let all = [
        ("Alarm", told.subject.clone()),
        ("Key", told.name.as_ref().map(|name| name.as_str().to_owned())),
        ("Token", told.hint.clone()),
        ("Version", told.version.map(|version| version.to_string())),
        ("Owner", told.owner.map(|owner| owner.to_string())),
        ("Claim by", told.claim_by.map(date)),
        ("Ends", told.ends_at.map(date)),
        ("Last used", told.last_used.map(date)),
        ("Claimed by", told.claimant.map(|claimant| claimed_by(claimant).to_owned())),
        ("From", told.source.clone()),
        ("Locator", told.locator.map(|locator| locator.to_string())),
        ("Seen", told.count.map(|count| count.to_string())),
        ("Expected", told.expected.map(|expected| expected.to_string())),
        ("By", told.actor.as_ref().map(ToString::to_string)),
        ("Reason", told.reason.clone()),
        ("Happened", Some(date(told.at))),
        ("Key id", told.key.map(|key| key.to_string())),
        ("Message", Some(told.id.to_string())),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

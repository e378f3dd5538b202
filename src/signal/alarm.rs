//! The alarms that signals raise: what each is about, and how it names its key, source or locator.

use std::time::Duration;

use crate::id::{KeyId, VersionNo};
use crate::key::KeyRecord;
use crate::notification::{Notification, NotificationKind, Severity};
use crate::signal::change::Change;
use crate::signal::shelf::Frequent;
use crate::signal::{SignalSettings, SourceName};
use crate::time::Timestamp;
use crate::token::{Hint, Locator};
use crate::version::VersionRecord;

/// How many times as many failures raise the second alarm.
const WORSE: u32 = 10;
const WEEK: Duration = Duration::from_secs(7 * 86_400);
/// The first Monday since 1970.
const MONDAY: Duration = Duration::from_secs(4 * 86_400);

/// What a version was that is over, or never was handed over, and is presented all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Misuse {
    /// A client has missed a rotation, or the end of its version.
    Retired,
    /// A client has missed a revocation, or a thief has not noticed it.
    Revoked,
    /// Nobody can have its secret.
    Undelivered,
}

impl Misuse {
    fn subject(self) -> &'static str {
        match self {
            Self::Retired => "retired_version_used",
            Self::Revoked => "revoked_version_used",
            Self::Undelivered => "undelivered_version_used",
        }
    }
}

/// How far the alarms of so many failures go: 0 is nowhere, then one level each.
fn level(failures: u32, threshold: u32) -> u8 {
    u8::from(failures >= threshold) + u8::from(failures >= threshold.saturating_mul(WORSE))
}

fn alarm(at: Timestamp, subject: &str) -> Notification {
    let mut told = Notification::new(at, NotificationKind::Alarm);
    told.severity = Severity::Warning;
    told.subject = Some(subject.to_owned());
    told
}

/// With an id that whoever counts the same in the same span gives it, too.
fn once_in(told: Notification, span_begin: Timestamp, occurrence: &str) -> Notification {
    let at = told.at;
    let named = Notification { at: span_begin, ..told }.identified(occurrence);
    Notification { at, ..named }
}

/// The alarm of a source, with the level that it brings it to; nothing where that was told, or is not reached.
pub(crate) fn of_source(
    found: &Frequent<SourceName>,
    settings: &SignalSettings,
    (hour, t): (Timestamp, Timestamp),
) -> Option<(u8, Notification)> {
    let level = level(found.at_least, settings.source);
    if level <= found.level {
        return None;
    }
    // Most of its failures are those of somebody who once held a key.
    let is_outdated = found.outdated.saturating_mul(2) >= found.at_least;
    let mut told = alarm(
        t,
        match (is_outdated, level) {
            (true, _) => "source_outdated",
            (false, 1) => "source_failing",
            (false, _) => "source_flooding",
        },
    );
    if level > 1 && !is_outdated {
        told.severity = Severity::Critical;
    }
    let name = found.name.to_string();
    told.count = Some(found.at_least.into());
    let told = once_in(told, hour, &format!("{name} {level}"));
    Some((level, Notification { source: Some(name), ..told }))
}

/// The same of a locator, with the version that has it.
pub(crate) fn of_locator(
    found: &Frequent<Locator>,
    settings: &SignalSettings,
    version: Option<&(KeyRecord, VersionRecord)>,
    (hour, t): (Timestamp, Timestamp),
) -> Option<(u8, Notification)> {
    let level = level(found.at_least, settings.locator);
    if level <= found.level {
        return None;
    }
    let mut told = alarm(t, if level == 1 { "locator_failing" } else { "locator_flooding" });
    if level > 1 {
        told.severity = Severity::Critical;
    }
    told.count = Some(found.at_least.into());
    let mut told = once_in(told, hour, &format!("{} {level}", found.name));
    told.locator = Some(found.name);
    if let Some((key, version)) = version {
        told = of_key(told, key, Some(version));
        told.version = Some(version.number);
    }
    Some((level, told))
}

/// With the public names of a key.
fn of_key(told: Notification, key: &KeyRecord, version: Option<&VersionRecord>) -> Notification {
    Notification {
        key: Some(key.id),
        name: Some(key.name.clone()),
        owner: Some(key.owner),
        hint: version.map(|version| Hint::new(key.prefix, version.locator).to_string()),
        old_fingerprint: version.map(|version| version.fingerprint),
        ..told
    }
}

/// The alarm of a version that is presented after its time: once a day, whoever sees it. `names` are its key and itself,
/// where they can be had.
pub(crate) fn of_misuse(
    misuse: Misuse,
    (key, version): (KeyId, VersionNo),
    count: u64,
    names: Option<&(KeyRecord, VersionRecord)>,
    (day, t): (Timestamp, Timestamp),
) -> Notification {
    let mut told = alarm(t, misuse.subject());
    if misuse == Misuse::Undelivered {
        told.severity = Severity::Critical;
    }
    (told.key, told.version, told.count) = (Some(key), Some(version), Some(count));
    // Before the names: these may change within the day, and it is the same alarm.
    let told = once_in(told, day, "");
    match names {
        Some((key, version)) => of_key(told, key, Some(version)),
        None => told,
    }
}

/// The alarm of a key whose use has changed: once a week, counted from Monday.
pub(crate) fn of_change(
    change: Change,
    (requests, expected): (u64, u64),
    key: &KeyRecord,
    version: Option<&VersionRecord>,
    t: Timestamp,
) -> Notification {
    let subject = match change {
        Change::More => "usage_rose",
        Change::Less => "usage_fell",
    };
    let mut told = alarm(t, subject);
    (told.key, told.count, told.expected) = (Some(key.id), Some(requests), Some(expected));
    let since_monday = t.since(Timestamp::MIN).saturating_sub(MONDAY).as_micros() % WEEK.as_micros();
    let since_monday = Duration::from_micros(u64::try_from(since_monday).unwrap_or(0));
    let told = once_in(told, t.minus_or_min(since_monday), "");
    of_key(told, key, version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Source;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn source(at_least: u32, outdated: u32, level: u8) -> Option<(u8, Notification)> {
        let name = Source::Named("gate").name();
        let found = Frequent { tag: 1, name, at_least, at_most: at_least.saturating_add(5), outdated, level };
        let hour = at("2027-01-01T05:00:00Z");
        of_source(&found, &SignalSettings::default(), (hour, at("2027-01-01T05:07:00Z")))
    }

    #[test]
    fn a_source_is_told_at_its_threshold_and_at_ten_times_that() {
        let subject = |told: Option<(u8, Notification)>| {
            told.map(|(level, told)| (level, told.subject.unwrap(), told.severity))
        };
        let told = |failures, outdated, level| subject(source(failures, outdated, level));
        assert_eq!(told(99, 0, 0), None);
        assert_eq!(told(100, 49, 0), Some((1, "source_failing".to_owned(), Severity::Warning)));
        assert_eq!(told(100, 50, 0), Some((1, "source_outdated".to_owned(), Severity::Warning)));
        assert_eq!(told(999, 0, 1), None);
        assert_eq!(told(1_000, 0, 1), Some((2, "source_flooding".to_owned(), Severity::Critical)));
        assert_eq!(told(1_000, 0, 0), Some((2, "source_flooding".to_owned(), Severity::Critical)));
        assert_eq!(told(1_000, 900, 1), Some((2, "source_outdated".to_owned(), Severity::Warning)));
        assert_eq!(told(u32::MAX, 0, 2), None);
        let (_, first) = source(100, 0, 0).unwrap();
        assert_eq!((first.count, first.source.as_deref()), (Some(100), Some("gate")));
        assert_eq!(first.id, source(150, 0, 0).unwrap().1.id, "the same hour, the same alarm");
        assert_ne!(first.id, source(1_000, 0, 1).unwrap().1.id);
    }
}

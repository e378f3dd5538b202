//! Telling: a flush turns what was counted into alarms, for the channels that this process knows.

use crate::error::{ManageError, ReadError};
use crate::id::{KeyId, VersionNo};
use crate::key::KeyRecord;
use crate::notification::NotificationKind;
use crate::outbox;
use crate::records::{Records, version_row_id};
use crate::rotate::{ClockState, clock_state};
use crate::signal::alarm::{self, Misuse};
use crate::signal::{FailingLocator, FailingSource, SignalReport};
use crate::store::{CountedReason, StoreError, UsageBucket, UsageEntry};
use crate::time::Timestamp;
use crate::token::Locator;
use crate::validate::Inner;
use crate::validate::signals::{MisusedVersion, Telling};
use crate::version::VersionRecord;

/// What the denials of a version say of it; the others say nothing.
const MISUSES: [(CountedReason, Misuse); 5] = [
    (CountedReason::Retired, Misuse::Retired),
    (CountedReason::Expired, Misuse::Retired),
    (CountedReason::Cancelled, Misuse::Retired),
    (CountedReason::Revoked, Misuse::Revoked),
    (CountedReason::Undelivered, Misuse::Undelivered),
];

/// The versions among these counts that were presented after their time.
pub(crate) fn misused(entries: &[UsageEntry]) -> impl Iterator<Item = (MisusedVersion, u64)> {
    entries.iter().flat_map(|entry| {
        // Of nearly all entries there is nothing to tell, and to read an id takes longer than all else here.
        let of = move |(reason, misuse)| {
            let n = Some(entry.counts.denied.get(reason)).filter(|n| *n > 0)?;
            Some(((entry.key.parse::<KeyId>().ok()?, VersionNo::new(entry.version), misuse), n))
        };
        MISUSES.into_iter().filter_map(of)
    })
}

/// The records of a version, where they can be had and believed: an alarm without names is better than none.
fn names(records: &Records, key: KeyId, version: VersionNo) -> Option<(KeyRecord, VersionRecord)> {
    let key_record = records.get::<KeyRecord>(&key.to_string()).ok()??.record;
    let version = records.get::<VersionRecord>(&version_row_id(key, version)).ok()??.record;
    Some((key_record, version))
}

impl Inner {
    /// The version that has a locator.
    fn version_at(&self, locator: Locator) -> Option<(KeyId, VersionNo)> {
        let replica = &self.follower.replica;
        // While nobody else has the keeper, nobody writes.
        self.follower.with_keeper(|_| {
            let entry = replica.slab.get(replica.position_of(locator.words())?)?;
            Some((entry.key(), entry.number()))
        })
    }

    /// Tells what is worth it, by a clock that is believed, and begins anew with each hour.
    pub(super) fn tell(&self) -> Result<(), StoreError> {
        let (now, mark) = (self.clock.now(), self.follower.replica.high_water());
        if let ClockState::Jumped { .. } = clock_state(now, mark) {
            return Ok(());
        }
        match self.tell_at(now.max(mark)) {
            Ok(()) => Ok(()),
            Err(
                ManageError::Read(ReadError::Store(error))
                | ManageError::NotWritten(error)
                | ManageError::OutcomeUnknown { source: error, .. },
            ) => Err(error),
            // A head that cannot be believed is told of elsewhere.
            Err(_) => Ok(()),
        }
    }

    fn tell_at(&self, t: Timestamp) -> Result<(), ManageError> {
        let (records, signals) = (&self.records, &self.signals);
        let mut telling = signals.telling();
        if records.channels.ask_for(NotificationKind::Alarm) {
            if !self.tell_all(&mut telling, t)? {
                return Ok(());
            }
        } else {
            telling.misused.clear();
        }
        if UsageBucket::hour_of(t).begin() != telling.hour {
            signals.begin(&mut telling, t);
        }
        Ok(())
    }

    /// Says whether all was told that is worth it.
    fn tell_all(&self, telling: &mut Telling, t: Timestamp) -> Result<bool, ManageError> {
        let (records, signals) = (&self.records, &self.signals);
        telling.begin_day(t);
        let (hour, day) = (telling.hour, telling.told.0);
        let mut alarms = Vec::new();
        let (mut sources, mut locators) = (Vec::new(), Vec::new());
        for found in signals.sources.frequent() {
            if let Some((level, told)) = alarm::of_source(&found, &signals.settings, (hour, t)) {
                alarms.push(told);
                sources.push((found.tag, level));
            }
        }
        for found in signals.locators.frequent() {
            // Only what is told is looked up.
            if alarm::of_locator(&found, &signals.settings, None, (hour, t)).is_none() {
                continue;
            }
            let version = self.version_at(found.name).and_then(|(key, version)| names(records, key, version));
            let told = alarm::of_locator(&found, &signals.settings, version.as_ref(), (hour, t));
            if let Some((level, told)) = told {
                alarms.push(told);
                locators.push((found.tag, level));
            }
        }
        let (known, new): (Vec<_>, Vec<_>) =
            telling.misused.iter().partition(|(version, _)| telling.told.1.contains(version));
        let misused: Vec<_> = known.iter().chain(&new).map(|(version, _)| **version).collect();
        for ((key, version, misuse), count) in new {
            let (key, version) = (*key, *version);
            let names = names(records, key, version);
            alarms.push(alarm::of_misuse(*misuse, (key, version), *count, names.as_ref(), (day, t)));
        }
        if !outbox::raise(records, &alarms, t)? {
            return Ok(false);
        }
        sources.into_iter().for_each(|(tag, level)| signals.sources.note_told(tag, level));
        locators.into_iter().for_each(|(tag, level)| signals.locators.note_told(tag, level));
        misused.into_iter().for_each(|version| telling.note_told(version));
        Ok(true)
    }

    /// What is counted now.
    pub(super) fn signal_report(&self) -> SignalReport {
        let signals = &self.signals;
        let since = signals.telling().since;
        let (failures, uncounted) = signals.sources.seen();
        let sources = signals.sources.frequent().into_iter().map(|found| FailingSource {
            source: found.name.to_string(),
            failures: found.at_least.into(),
            at_most: found.at_most.into(),
            outdated: found.outdated.into(),
        });
        let locators = signals.locators.frequent().into_iter().map(|found| FailingLocator {
            locator: found.name,
            failures: found.at_least.into(),
            at_most: found.at_most.into(),
            version: self.version_at(found.name),
        });
        let (sources, locators) = (sources.collect(), locators.collect());
        SignalReport { since, failures, uncounted, sources, locators }
    }
}

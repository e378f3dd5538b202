//! Purging: keys that have been over for long are removed; the audit log stays.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::error::{ManageError, ReadError};
use crate::event::{Event, EventKind};
use crate::id::KeyId;
use crate::key::KeyRecord;
use crate::lifecycle::Family;
use crate::limit::QuotaRecord;
use crate::manager::KeyManager;
use crate::manager::act::{Act, Attempt, Urgency};
use crate::manager::revoke::delete_sealed_copies;
use crate::records::{Record, Records, believed, read};
use crate::request::Operation;
use crate::rotation::RotationRecord;
use crate::store::{RowFilter, RowKind};
use crate::time::Timestamp;

/// What one step of a purge did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeReport {
    /// How many keys it removed.
    pub purged: usize,
    /// Whether there may be more to remove: purge again.
    pub more: bool,
}

/// How many keys one step removes.
const BATCH: usize = 100;

impl Act<'_> {
    /// Removes up to 100 keys of which no version has been valid for `retention`, with their versions and rotations.
    /// Their tokens are unknown from then on; what the audit log says of them stays.
    ///
    /// # Errors
    /// [`ManageError`].
    pub fn purge(self, retention: Duration) -> Result<PurgeReport, ManageError> {
        self.perform(
            &Operation::new("purge", &retention),
            Urgency::Ordinary,
            |attempt| purge(attempt, retention),
            |_, _, _| Ok(PurgeReport { purged: 0, more: true }),
        )
    }
}

fn purge(attempt: &mut Attempt<'_>, retention: Duration) -> Result<PurgeReport, ManageError> {
    let before = attempt.t.minus_or_min(retention);
    let candidates = candidates(attempt.records, None)?;
    let mut report = PurgeReport { purged: 0, more: false };
    for key in candidates {
        if report.purged == BATCH {
            report.more = true;
            break;
        }
        report.purged += usize::from(purge_key(attempt, key, before)?);
    }
    Ok(report)
}

impl KeyManager {
    /// Up to `limit` keys (1 to 1000), after one, that [`Act::purge`] would remove now.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn purgeable(
        &self,
        retention: Duration,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<Vec<KeyId>, ManageError> {
        let records = &self.inner.records;
        let before = self.now()?.minus_or_min(retention);
        let mut found = Vec::new();
        for key in candidates(records, after)? {
            if found.len() == limit.clamp(1, 1_000) {
                break;
            }
            let stored = believed(records.family(key))?;
            if stored.is_some_and(|stored| has_ended(&stored.family, before)) {
                found.push(key);
            }
        }
        Ok(found)
    }
}

/// The keys after one of which no version is valid any more.
fn candidates(records: &Records, after: Option<KeyId>) -> Result<Vec<KeyId>, ManageError> {
    let mut found = Vec::new();
    let after = after.map(|key| key.to_string());
    records.store.scan(RowKind::Key, RowFilter::All { after: after.as_deref() }, &mut |row| {
        if let Ok(stored) = read::<KeyRecord>(&row, &records.keyring)
            && crate::records::KeyState::is_over(&row.index)
        {
            found.push(stored.record.id);
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Whether all of a key ended before a time, or at it.
fn has_ended(family: &Family, before: Timestamp) -> bool {
    ended_at(family).is_some_and(|ended| ended <= before)
}

/// Removes a key that ended before a time; says whether it did.
fn purge_key(attempt: &mut Attempt<'_>, key: KeyId, before: Timestamp) -> Result<bool, ManageError> {
    let stored = match attempt.records.family(key) {
        Ok(Some(stored)) => stored,
        // Evidence of tampering is not for the broom.
        Ok(None) | Err(ReadError::Tampered { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    if !has_ended(&stored.family, before) {
        return Ok(false);
    }
    stored.delete(&mut attempt.changeset);
    let parent = key.to_string();
    for rotation in attempt.records.scan::<RotationRecord>(RowFilter::Parent(&parent), usize::MAX)? {
        let rotation = rotation?;
        let is_open = stored.family.rotations.iter().any(|open| open.id == rotation.record.id);
        if !is_open {
            attempt.changeset.delete(RotationRecord::KIND, rotation.record.row_id(), rotation.revision);
        }
    }
    delete_sealed_copies(attempt, key, |_| true)?;
    if let Some(quota) = attempt.records.get::<QuotaRecord>(&parent)? {
        attempt.changeset.delete(QuotaRecord::KIND, parent, quota.revision);
    }
    let owner = Some(stored.family.key.owner);
    let event = Event::new(attempt.t, EventKind::KeyPurged, attempt.context);
    attempt.changeset.record(Event { key: Some(key), owner, ..event });
    Ok(true)
}

/// When the last version of a key ended; `None` while one lives.
fn ended_at(family: &Family) -> Option<Timestamp> {
    if family.versions.iter().any(|version| !version.is_ended()) {
        return None;
    }
    family.versions.iter().filter_map(|version| version.ended_at).max().max(family.key.revoked_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::Actor;
    use crate::clock::ManualClock;
    use crate::id::OwnerId;
    use crate::keyring::Keyring;
    use crate::limit::{Quota, Refill};
    use crate::manager::NewKey;
    use crate::store::Changeset;
    use crate::store::memory::MemoryStore;

    #[test]
    fn what_was_leased_of_a_quota_goes_with_its_key() {
        let start = "2027-01-01T00:00:00Z".parse().unwrap();
        let (clock, quota) = (ManualClock::new(start), Quota::new(100, Refill::Never).unwrap());
        let keyring = Keyring::generate().unwrap();
        let keys = KeyManager::builder(MemoryStore::new(), keyring).clock(clock.clone()).open().unwrap();
        let root = || keys.by(Actor::operator("root"));
        let issue = |name: &str| {
            root().issue(NewKey::new(OwnerId::new("ada").unwrap(), name).unwrap().limits(quota)).unwrap().key
        };
        let records = &keys.inner.records;
        let lease = |key| {
            let mut record = QuotaRecord::new(key);
            record.lease(&quota, quota.refill().period(start, start), 7).unwrap();
            let mut changeset = Changeset::new(&records.keyring);
            changeset.insert(record.draft());
            records.store.commit(&changeset).unwrap();
            record
        };
        let stored = |key: KeyId| records.get::<QuotaRecord>(&key.to_string()).unwrap();
        let (gone, left) = (issue("gone"), issue("left"));
        let (_, expected) = (lease(gone), lease(left));
        assert_eq!(stored(left).map(|stored| stored.record), Some(expected.clone()));
        root().revoke(gone).unwrap();
        clock.advance(Duration::from_secs(1)).unwrap();
        assert_eq!(keys.purgeable(Duration::ZERO, None, 10).unwrap(), [gone]);
        assert!(keys.purgeable(Duration::ZERO, Some(gone), 10).unwrap().is_empty());
        assert!(keys.purgeable(Duration::from_secs(2), None, 10).unwrap().is_empty());
        assert_eq!(root().purge(Duration::ZERO).unwrap().purged, 1);
        assert!(stored(gone).is_none());
        assert_eq!(stored(left).map(|stored| stored.record), Some(expected));
        assert!(keys.check(None).unwrap().is_sound());
    }
}

//! The survey: all keys in the order of their ids, some hundred at a time, each with its versions and its use.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use crate::error::{ManageError, ReadError};
use crate::id::{KeyId, OwnerId};
use crate::key::KeyRecord;
use crate::lifecycle::{self, Family};
use crate::notice::{STALE_AFTER, UNUSED_AFTER};
use crate::owner::OwnerRecord;
use crate::records::{KeyState, Records, read};
use crate::report::compliance::{ComplianceQuery, ComplianceStanding, KeyCompliance, NeverRotates};
use crate::store::{RowFilter, RowKind, RowRef, UsageQuery};
use crate::time::Timestamp;
use crate::token::Hint;
use crate::version::VersionRecord;

/// How many keys are looked at together.
const CHUNK: usize = 256;
/// How many owners are remembered.
const OWNERS: usize = 10_000;

/// One key, as far as it can be believed.
pub(crate) enum Surveyed {
    Key(Box<KeyCompliance>),
    /// The id of a row that was edited, or of a key with a version or an owner that was.
    Edited(String),
}

/// A walk over all keys.
pub(crate) struct Survey<'a> {
    records: &'a Records,
    query: &'a ComplianceQuery,
    t: Timestamp,
    after: Option<String>,
    is_over: bool,
    suspended: HashMap<OwnerId, bool>,
}

/// Rows of keys that may count, each with what it says or that it cannot be believed.
type Page = Vec<(String, Result<KeyRecord, ReadError>)>;
type Versions = BTreeMap<KeyId, Result<Vec<VersionRecord>, ReadError>>;

impl<'a> Survey<'a> {
    pub(crate) fn new(records: &'a Records, query: &'a ComplianceQuery, t: Timestamp) -> Self {
        Self { records, query, t, after: None, is_over: false, suspended: HashMap::new() }
    }

    /// The next keys; nothing when there are no more.
    pub(crate) fn next(&mut self) -> Result<Option<Vec<Surveyed>>, ManageError> {
        if self.is_over {
            return Ok(None);
        }
        let page = self.page()?;
        let (Some((first, _)), Some((last, _))) = (page.first(), page.last()) else {
            return Ok(Some(Vec::new()));
        };
        let mut versions = self.versions(first, last, &page)?;
        let used = self.used(first, last, &page)?;
        let mut found = Vec::with_capacity(page.len());
        for (id, key) in page {
            let key = key.and_then(|key| {
                let versions = versions.remove(&key.id).unwrap_or(Ok(Vec::new()))?;
                let family = Family { key, versions, rotations: Vec::new() };
                self.judged(family, used.contains(&id))
            });
            match key {
                Ok(Some(key)) => found.push(Surveyed::Key(Box::new(key))),
                Ok(None) => {}
                Err(ReadError::Tampered { .. }) => found.push(Surveyed::Edited(id)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(found))
    }

    /// The next rows of keys that are not over.
    fn page(&mut self) -> Result<Page, ManageError> {
        let (mut page, mut looked) = (Vec::new(), 0);
        let mut last = None;
        let filter = match &self.query.owner {
            Some(owner) => RowFilter::Owner { owner: owner.as_str(), after: self.after.as_deref() },
            None => RowFilter::All { after: self.after.as_deref() },
        };
        self.is_over = true;
        self.records.store.scan(RowKind::Key, filter, &mut |row| {
            if looked == CHUNK {
                self.is_over = false;
                return ControlFlow::Break(());
            }
            looked += 1;
            last = Some(row.id.to_owned());
            // What an edited row says of its state is not to be believed.
            let key = read::<KeyRecord>(&row, &self.records.keyring);
            if key.is_err() || !KeyState::is_over(&row.index) {
                page.push((row.id.to_owned(), key.map(|stored| stored.record)));
            }
            ControlFlow::Continue(())
        })?;
        self.after = last;
        Ok(page)
    }

    /// The versions of the keys of a page: in one walk where these stand together.
    fn versions(&self, first: &str, last: &str, page: &Page) -> Result<Versions, ManageError> {
        let mut found = Versions::new();
        let mut take = |row: &RowRef<'_>| {
            let key = row.id.split_once('/').and_then(|(key, _)| key.parse().ok());
            let Some(key) = key else { return };
            let versions = found.entry(key).or_insert(Ok(Vec::new()));
            match read::<VersionRecord>(row, &self.records.keyring) {
                Ok(version) => versions.iter_mut().for_each(|versions| versions.push(version.record.clone())),
                Err(error) => *versions = Err(error),
            }
        };
        if self.query.owner.is_none() {
            let filter = RowFilter::All { after: Some(first) };
            self.records.store.scan(RowKind::Version, filter, &mut |row| {
                if row.id.split('/').next().is_some_and(|key| key > last) {
                    return ControlFlow::Break(());
                }
                take(&row);
                ControlFlow::Continue(())
            })?;
        } else {
            for (id, _) in page {
                self.records.store.scan(RowKind::Version, RowFilter::Parent(id), &mut |row| {
                    take(&row);
                    ControlFlow::Continue(())
                })?;
            }
        }
        // Ids sort as texts: the tenth before the second.
        let sort = |versions: &mut Vec<VersionRecord>| versions.sort_by_key(|version| version.number);
        found.values_mut().for_each(|versions| versions.iter_mut().for_each(sort));
        Ok(found)
    }

    /// Those of the keys that were used lately.
    fn used(&self, first: &str, last: &str, page: &Page) -> Result<BTreeSet<String>, ManageError> {
        let since = self.t.minus_or_min(STALE_AFTER);
        let mut used = BTreeSet::new();
        let mut ask = |first: &str, last: &str| {
            // A day's count may tell of a use within it.
            let from = since.minus_or_min(std::time::Duration::from_secs(86_400));
            let query = UsageQuery {
                first_key: Some(first),
                last_key: Some(last),
                from: Some(from),
                ..UsageQuery::default()
            };
            self.records.store.usage(&query, &mut |_, entry| {
                if entry.counts.last_used.is_some_and(|last| last > since) && !used.contains(&entry.key) {
                    used.insert(entry.key.clone());
                }
            })
        };
        if self.query.owner.is_none() {
            ask(first, last)?;
        } else {
            page.iter().try_for_each(|(id, _)| ask(id, id))?;
        }
        Ok(used)
    }

    fn is_suspended(&mut self, owner: OwnerId) -> Result<bool, ReadError> {
        if let Some(known) = self.suspended.get(&owner) {
            return Ok(*known);
        }
        let record = self.records.get::<OwnerRecord>(owner.as_str())?;
        let missing = || ReadError::Tampered { kind: RowKind::Owner, id: owner.into() };
        let suspended = record.ok_or_else(missing)?.record.suspended;
        if self.suspended.len() >= OWNERS {
            self.suspended.clear();
        }
        self.suspended.insert(owner, suspended);
        Ok(suspended)
    }

    /// How a key stands; nothing of one that is over.
    fn judged(&mut self, mut family: Family, used: bool) -> Result<Option<KeyCompliance>, ReadError> {
        let t = self.t;
        if family.key.revoked_at.is_some() {
            return Ok(None);
        }
        family.settle(t);
        let last = || family.live(t).max_by_key(|version| version.number);
        let Some(version) = family.active().filter(|_| family.live(t).next().is_some()).or_else(last) else {
            return Ok(None);
        };
        let key = &family.key;
        let exempt_because = self.query.exempt.get(&key.id).cloned();
        let age = t.since(version.issued_at);
        let standing = if exempt_because.is_some() {
            ComplianceStanding::Exempt
        } else if self.is_suspended(key.owner)? {
            ComplianceStanding::Suspended
        } else if age > self.query.max_age {
            ComplianceStanding::Overdue
        } else {
            ComplianceStanding::Within
        };
        let never_rotates = match (key.rotates, key.lapsed, key.never_expires) {
            (true, false, _) => None,
            (true, true, _) => Some(NeverRotates::Lapsed),
            (false, _, true) => Some(NeverRotates::NeverExpires),
            (false, _, false) => Some(NeverRotates::Off),
        };
        Ok(Some(KeyCompliance {
            key: key.id,
            name: key.name.clone(),
            owner: key.owner,
            hint: Hint::new(key.prefix, version.locator).to_string(),
            version: version.number,
            issued_at: version.issued_at,
            age_days: age.as_secs() / 86_400,
            standing,
            exempt_because,
            never_rotates,
            next_rotation_at: lifecycle::rotation_due(&family),
            ends_at: family.end(version),
            is_stale: !used && t.since(key.issued_at) >= UNUSED_AFTER,
        }))
    }
}

//! What time alone makes worth telling: versions that end soon, keys that nobody uses, or otherwise than before.
//!
//! A row remembers how far each question was asked, so that each is asked once, by whichever process ticks first, and
//! costs what has come due since. Nothing is written to a key or a version.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{ManageError, ReadError};
use crate::id::KeyId;
use crate::notice::{self, STALE_AFTER, UNUSED_AFTER};
use crate::notification::{Notification, NotificationKind};
use crate::outbox::alarm::Alarms;
use crate::outbox::enclose::Rows;
use crate::outbox::entry::Rank;
use crate::outbox::{ATTEMPTS, Committed, commit, patterns};
use crate::records::{Record, Records, StoredFamily, read};
use crate::store::{Changeset, Revision, RowFilter, RowIndex, RowKind, UsageBucket, UsageQuery};
use crate::time::{Timestamp, earlier};
use crate::version::VersionRecord;

/// No id sorts after it.
const LAST: &str = "\u{10FFFF}";
const DAY: Duration = Duration::from_secs(86_400);

/// How far the questions were asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// For each warning, in seconds: the end and the row of the last version that was looked at.
    ends: BTreeMap<u64, (Timestamp, String)>,
    /// The last key of which it was asked whether it is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unused: Option<String>,
    /// The day of whose users it is asked next whether they have come back, and the last key of which it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    silent: Option<(Timestamp, Option<String>)>,
    /// When it is asked next whether keys are used as before, and the last key of which it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) patterns: Option<(Timestamp, Option<String>)>,
}

impl Asked {
    const ID: &'static str = "~asked";
}

impl Record for Asked {
    const KIND: RowKind = RowKind::Outbox;
    fn row_id(&self) -> String {
        Self::ID.to_owned()
    }
    fn index(&self) -> RowIndex {
        RowIndex { state: Some("asked".to_owned()), ..RowIndex::default() }
    }
}

/// What was found worth telling.
#[derive(Debug, Default)]
pub(crate) struct Noticed {
    /// Each notification, with the revision of the key's row that it relies on.
    pub(crate) told: Vec<(Notification, Revision)>,
    pub(crate) more: bool,
    /// When something is worth telling next, as far as is known.
    pub(crate) next_due: Option<Timestamp>,
}

/// Asks what has come due, and writes what is to be told. Returns how many rows that were.
pub(crate) fn notices(
    records: &Records,
    now: Timestamp,
    limit: usize,
) -> Result<(usize, Noticed), ManageError> {
    if records.channels.is_empty() {
        return Ok((0, Noticed::default()));
    }
    for _ in 0..ATTEMPTS {
        let (before, revision) = asked(records)?;
        let mut asked = before.clone();
        let noticed = ask(records, &mut asked, now, limit)?;
        if asked == before {
            return Ok((0, noticed));
        }
        let mut changeset = Changeset::new(&records.keyring);
        let (mut rows, mut alarms) = (Rows::new(records), Alarms::default());
        for (told, revision) in &noticed.told {
            if told.kind == NotificationKind::Alarm {
                alarms.raise_once(&mut rows, records, told, now);
                continue;
            }
            if let Some(key) = told.key {
                changeset.expect(RowKind::Key, key.to_string(), Some(*revision));
            }
            // Those of one key are told in the order of their times, which their ids have.
            rows.add(told, Rank { replaces: *revision, by_change: false, place: 0 }, now);
        }
        let count = rows.count();
        rows.write(&mut changeset);
        alarms.write(&mut changeset);
        match revision {
            Some(revision) => changeset.replace(asked.draft(), revision),
            None => changeset.insert(asked.draft()),
        }
        if let Committed::Done(_) = commit(records, &changeset)? {
            return Ok((count, noticed));
        }
    }
    Ok((0, Noticed { more: true, ..Noticed::default() }))
}

/// What [`notices`] would tell; nothing is written.
pub(crate) fn plan(records: &Records, now: Timestamp, limit: usize) -> Result<Noticed, ManageError> {
    if records.channels.is_empty() {
        return Ok(Noticed::default());
    }
    let mut noticed = ask(records, &mut asked(records)?.0, now, limit)?;
    noticed.told.retain(|(told, _)| records.channels.of(told).next().is_some());
    Ok(noticed)
}

/// How far was asked. A row that was edited is begun anew from now: what it says is not to be believed.
fn asked(records: &Records) -> Result<(Asked, Option<Revision>), ManageError> {
    let mut found = (Asked::default(), None);
    records.store.get(RowKind::Outbox, Asked::ID, &mut |row| {
        let asked = read::<Asked>(&row, &records.keyring).map(|stored| stored.record);
        found = (asked.unwrap_or_default(), Some(row.revision));
    })?;
    Ok(found)
}

fn ask(records: &Records, asked: &mut Asked, now: Timestamp, limit: usize) -> Result<Noticed, ManageError> {
    let mut noticed = Noticed::default();
    if records.channels.ask_for(NotificationKind::Expiring) {
        for warning in &records.channels.warnings {
            ask_ends(records, *warning, asked, now, limit, &mut noticed)?;
        }
    }
    if records.channels.ask_for(NotificationKind::Unused) {
        ask_unused(records, asked, now, limit, &mut noticed)?;
    }
    if records.channels.ask_for(NotificationKind::PotentiallyStale) {
        ask_silent(records, asked, now, limit, &mut noticed)?;
    }
    patterns::ask(records, asked, now, limit, &mut noticed)?;
    Ok(noticed)
}

/// Which versions have come as near to their end as this warning says.
fn ask_ends(
    records: &Records,
    warning: Duration,
    asked: &mut Asked,
    now: Timestamp,
    limit: usize,
    noticed: &mut Noticed,
) -> Result<(), ManageError> {
    let by = now.plus(warning).unwrap_or(Timestamp::MAX);
    let up_to_now = || (by, LAST.to_owned());
    // Who is told for the first time is not told what others would have been told long ago.
    let from = asked.ends.entry(warning.as_secs()).or_insert_with(up_to_now);
    let mut found = Vec::new();
    let mut next = None;
    let filter = RowFilter::Due { by: Timestamp::MAX, after: Some((from.0, &from.1)) };
    records.store.scan(RowKind::Version, filter, &mut |row| {
        let due = row.index.due_at.unwrap_or(Timestamp::MAX);
        if due > by || found.len() == limit {
            next = Some(due);
            return ControlFlow::Break(());
        }
        let version = read::<VersionRecord>(&row, &records.keyring).map(|stored| stored.record);
        found.push(((due, row.id.to_owned()), version.ok()));
        ControlFlow::Continue(())
    })?;
    let is_cut = next.is_some_and(|next| next <= by);
    noticed.more |= is_cut;
    noticed.next_due = earlier(noticed.next_due, next.map(|next| next.minus_or_min(warning).max(now)));
    if let Some((last, _)) = found.last() {
        *from = if is_cut { last.clone() } else { up_to_now() };
    }
    for version in found.into_iter().filter_map(|(_, version)| version) {
        let Some(stored) = family(records, version.key)? else { continue };
        let family = &stored.family;
        let Some(version) = family.version(version.number) else { continue };
        if notice::warns(family, version, warning, &records.channels.warnings, now) {
            let end = family.end(version).unwrap_or(now);
            let told = notice::expiring(&family.key, version, warning, end.minus_or_min(warning));
            noticed.told.push((told, stored.revision()));
        }
    }
    Ok(())
}

/// Which keys have been there for long enough, and were never used. Ids are in the order of their making.
fn ask_unused(
    records: &Records,
    asked: &mut Asked,
    now: Timestamp,
    limit: usize,
    noticed: &mut Noticed,
) -> Result<(), ManageError> {
    let up_to = KeyId::new(now.minus_or_min(UNUSED_AFTER), [255; 10]).to_string();
    let from = asked.unused.get_or_insert_with(|| up_to.clone());
    let mut found = Vec::new();
    let mut next = None;
    records.store.scan(RowKind::Key, RowFilter::All { after: Some(from) }, &mut |row| {
        if row.id > up_to.as_str() || found.len() == limit {
            next = Some(row.id.to_owned());
            return ControlFlow::Break(());
        }
        found.push(row.id.to_owned());
        ControlFlow::Continue(())
    })?;
    let is_cut = next.as_ref().is_some_and(|next| *next <= up_to);
    noticed.more |= is_cut;
    if let Some(key) = next.and_then(|next| next.parse::<KeyId>().ok()) {
        let made = family(records, key)?.map(|stored| stored.family.key.issued_at);
        let due = made.and_then(|made| made.plus(UNUSED_AFTER).ok()).map(|due| due.max(now));
        noticed.next_due = earlier(noticed.next_due, due);
    }
    if let Some(last) = found.last() {
        *from = last.clone();
    }
    for id in found {
        let Some(stored) = id.parse().ok().map(|key| family(records, key)).transpose()?.flatten() else {
            continue;
        };
        if last_use(records, &UsageQuery::of_key(&id))?.is_none() {
            noticed
                .told
                .extend(notice::idle(&stored.family, None, now).map(|told| (told, stored.revision())));
        }
    }
    Ok(())
}

/// Which keys were last used on a day that is as long ago as makes a key perhaps stale.
fn ask_silent(
    records: &Records,
    asked: &mut Asked,
    now: Timestamp,
    limit: usize,
    noticed: &mut Noticed,
) -> Result<(), ManageError> {
    /// How many days without a user one tick passes over.
    const DAYS: usize = 400;
    let today = UsageBucket::day_of(now.minus_or_min(STALE_AFTER)).begin();
    let (day, after) = asked.silent.get_or_insert((today, None));
    for _ in 0..DAYS {
        let end = day.plus(DAY).unwrap_or(Timestamp::MAX);
        if *day >= today {
            let due = end.plus(STALE_AFTER).ok();
            noticed.next_due = earlier(noticed.next_due, due);
            return Ok(());
        }
        let mut users = BTreeSet::new();
        let query = UsageQuery { from: Some(*day), until: Some(end), ..UsageQuery::default() };
        records.store.usage(&query, &mut |_, entry| {
            let is_left = after.as_ref().is_none_or(|after| entry.key > *after);
            if is_left && entry.counts.last_used.is_some() {
                users.insert(entry.key.clone());
                if users.len() > limit {
                    users.pop_last();
                }
            }
        })?;
        let is_cut = users.len() == limit;
        for id in &users {
            let Some(stored) = id.parse().ok().map(|key| family(records, key)).transpose()?.flatten() else {
                continue;
            };
            if let Some(last) = last_use(records, &UsageQuery::of_key(id))?.filter(|last| *last < end) {
                let told = notice::idle(&stored.family, Some(last), now);
                noticed.told.extend(told.map(|told| (told, stored.revision())));
            }
        }
        if is_cut {
            *after = users.pop_last();
            noticed.more = true;
            return Ok(());
        }
        (*day, *after) = (end, None);
    }
    noticed.more = true;
    Ok(())
}

/// When the keys of a query were last used.
fn last_use(records: &Records, query: &UsageQuery<'_>) -> Result<Option<Timestamp>, ManageError> {
    let mut last = None;
    records.store.usage(query, &mut |_, entry| last = last.max(entry.counts.last_used))?;
    Ok(last)
}

/// A key, if it can be had and believed.
pub(super) fn family(records: &Records, key: KeyId) -> Result<Option<StoredFamily>, ManageError> {
    match records.family(key) {
        Ok(family) => Ok(family),
        Err(ReadError::Tampered { .. } | ReadError::KeyringBehind(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

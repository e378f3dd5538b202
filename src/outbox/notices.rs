//! What time alone makes worth telling: versions that end soon, keys that nobody uses, or otherwise than before.
//!
//! A row remembers how far each question was asked, so that each is asked once, by whichever process ticks first, and
//! costs what has come due since. Nothing is written to a key or a version.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ManageError;
use crate::id::KeyId;
use crate::notice::{self, STALE_AFTER, UNUSED_AFTER};
use crate::notification::{Notification, NotificationKind};
use crate::outbox::alarm::Alarms;
use crate::outbox::enclose::Rows;
use crate::outbox::entry::Rank;
use crate::outbox::warnings::{micros, warnings};
use crate::outbox::{ATTEMPTS, Committed, commit, patterns};
use crate::policy::{DeploymentSettings, RotationPolicy};
use crate::records::{Record, Records, believed, read};
use crate::store::{Changeset, Revision, RowFilter, RowIndex, RowKind, UsageBucket, UsageQuery};
use crate::time::{Timestamp, earlier};
use crate::version::VersionRecord;

/// No id sorts after it.
const LAST: &str = "\u{10FFFF}";
const DAY: Duration = Duration::from_secs(86_400);

/// How far the questions were asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// For each warning, in microseconds: the end and the row of the last version that was looked at.
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

/// What is asked, and when.
struct Asking<'a> {
    records: &'a Records,
    now: Timestamp,
    /// Up to when others had ticked. Who is told for the first time is told of what has come since, and not of what
    /// others would have been told long ago.
    mark: Timestamp,
    limit: usize,
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

/// A key of which it is asked only then whether it is used, because its window begins late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Later {
    key: KeyId,
    at: Timestamp,
}

impl Later {
    /// What they are found by; no channel has such a name.
    const QUEUE: &'static str = "~later";
}

impl Record for Later {
    const KIND: RowKind = RowKind::Outbox;
    /// In the order of their times.
    fn row_id(&self) -> String {
        format!("{}/{:020}/{}", Self::QUEUE, self.at.unix_micros().max(0), self.key)
    }
    fn index(&self) -> RowIndex {
        let owner = Some(Self::QUEUE.to_owned());
        RowIndex { owner, state: Some("asked".to_owned()), ..RowIndex::default() }
    }
}

/// What was found worth telling.
#[derive(Debug, Default)]
pub(crate) struct Noticed {
    /// Each notification, with the revision of the key's row that it relies on.
    pub(crate) told: Vec<(Notification, Revision)>,
    /// Keys of which it is to be asked later whether they are used.
    later: Vec<Later>,
    /// Those of which it was.
    settled: Vec<(String, Revision)>,
    pub(crate) more: bool,
    /// When something is worth telling next, as far as is known.
    pub(crate) next_due: Option<Timestamp>,
}

/// Asks what has come due, and writes what is to be told. Returns how many rows that were.
pub(crate) fn notices(
    records: &Records,
    now: Timestamp,
    mark: Timestamp,
    limit: usize,
) -> Result<(usize, Noticed), ManageError> {
    if records.channels.is_empty() {
        return Ok((0, Noticed::default()));
    }
    for _ in 0..ATTEMPTS {
        let (before, revision) = asked(records)?;
        let mut asked = before.clone();
        let noticed = Asking { records, now, mark, limit }.ask(&mut asked)?;
        if asked == before && noticed.settled.is_empty() {
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
        noticed.later.iter().for_each(|later| changeset.insert(later.draft()));
        for (id, revision) in &noticed.settled {
            changeset.delete(RowKind::Outbox, id.clone(), *revision);
        }
        alarms.write(&mut changeset);
        match revision {
            _ if asked == before => {}
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
pub(crate) fn plan(
    records: &Records,
    now: Timestamp,
    mark: Timestamp,
    limit: usize,
) -> Result<Noticed, ManageError> {
    if records.channels.is_empty() {
        return Ok(Noticed::default());
    }
    let mut noticed = Asking { records, now, mark, limit }.ask(&mut asked(records)?.0)?;
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

impl Asking<'_> {
    fn ask(&self, asked: &mut Asked) -> Result<Noticed, ManageError> {
        let mut noticed = Noticed::default();
        let channels = &self.records.channels;
        if channels.ask_for(NotificationKind::Expiring) {
            let is_first = asked.ends.is_empty();
            let settings = believed(self.records.get::<DeploymentSettings>(DeploymentSettings::ROW_ID))?;
            let policy = settings.map(|settings| settings.record.policy).unwrap_or_default();
            let mut asked_for = warnings(self.records)?.0;
            // Nobody silences the deployment's own by editing the row of all.
            asked_for.add(&policy, self.mark);
            for (warning, since) in asked_for.iter() {
                let since = if is_first { since.max(self.mark) } else { since };
                self.ask_ends(warning, since, &policy, asked, &mut noticed)?;
            }
        }
        if channels.ask_for(NotificationKind::Unused) {
            self.ask_unused(asked, &mut noticed)?;
            self.ask_later(&mut noticed)?;
        }
        if channels.ask_for(NotificationKind::PotentiallyStale) {
            self.ask_silent(asked, &mut noticed)?;
        }
        patterns::ask(self.records, asked, self.now, self.limit, &mut noticed)?;
        Ok(noticed)
    }

    /// Which versions have come as near to their end as this warning says, that has been asked for since then.
    fn ask_ends(
        &self,
        warning: Duration,
        since: Timestamp,
        deployment: &RotationPolicy,
        asked: &mut Asked,
        noticed: &mut Noticed,
    ) -> Result<(), ManageError> {
        let Self { records, now, limit, .. } = *self;
        let up_to = |time: Timestamp| (time.plus(warning).unwrap_or(Timestamp::MAX), LAST.to_owned());
        let by = up_to(now).0;
        let from = asked.ends.entry(micros(warning)).or_insert_with(|| up_to(since.min(now)));
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
            *from = if is_cut { last.clone() } else { up_to(now) };
        }
        for version in found.into_iter().filter_map(|(_, version)| version) {
            let Some(stored) = believed(records.family(version.key))? else { continue };
            let family = &stored.family;
            let Some(version) = family.version(version.number) else { continue };
            let policy = family.key.policy.as_ref().unwrap_or(deployment);
            if notice::warns(family, version, warning, policy, now) {
                let end = family.end(version).unwrap_or(now);
                let told = notice::expiring(&family.key, version, warning, end.minus_or_min(warning));
                noticed.told.push((told, stored.revision()));
            }
        }
        Ok(())
    }

    /// Which keys have been there for long enough, and were never used. Ids are in the order of their making. Of those
    /// whose window begins late it is asked again.
    fn ask_unused(&self, asked: &mut Asked, noticed: &mut Noticed) -> Result<(), ManageError> {
        let Self { records, now, limit, .. } = *self;
        let made_by = |time: Timestamp| KeyId::new(time.minus_or_min(UNUSED_AFTER), [255; 10]).to_string();
        let up_to = made_by(now);
        let from = asked.unused.get_or_insert_with(|| made_by(self.mark.min(now)));
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
            let made = believed(records.family(key))?.map(|stored| stored.family.key.issued_at);
            let due = made.and_then(|made| made.plus(UNUSED_AFTER).ok()).map(|due| due.max(now));
            noticed.next_due = earlier(noticed.next_due, due);
        }
        if let Some(last) = found.last() {
            *from = last.clone();
        }
        for id in found {
            self.ask_whether_used(&id, noticed)?;
        }
        Ok(())
    }

    /// The same of keys whose window had begun too late when it was asked first.
    fn ask_later(&self, noticed: &mut Noticed) -> Result<(), ManageError> {
        let Self { records, now, limit, .. } = *self;
        let mut found = Vec::new();
        let filter = RowFilter::Owner { owner: Later::QUEUE, after: None };
        records.store.scan(RowKind::Outbox, filter, &mut |row| {
            // One that was edited stays, and keeps no other waiting.
            let Ok(stored) = read::<Later>(&row, &records.keyring) else { return ControlFlow::Continue(()) };
            let later = stored.record;
            if later.at > now {
                noticed.next_due = earlier(noticed.next_due, Some(later.at));
                return ControlFlow::Break(());
            }
            if found.len() == limit {
                noticed.more = true;
                return ControlFlow::Break(());
            }
            found.push((row.id.to_owned(), row.revision, later.key));
            ControlFlow::Continue(())
        })?;
        for (id, revision, key) in found {
            noticed.settled.push((id, revision));
            self.ask_whether_used(&key.to_string(), noticed)?;
        }
        Ok(())
    }

    fn ask_whether_used(&self, id: &str, noticed: &mut Noticed) -> Result<(), ManageError> {
        let key = id.parse::<KeyId>().ok();
        let Some(stored) = key.map(|key| believed(self.records.family(key))).transpose()?.flatten() else {
            return Ok(());
        };
        if last_use(self.records, &UsageQuery::of_key(id))?.is_some() {
            return Ok(());
        }
        let key = stored.family.key.id;
        match notice::idle(&stored.family, None, self.now) {
            Some(told) => noticed.told.push((told, stored.revision())),
            None => {
                let from = notice::unused_from(&stored.family, self.now);
                noticed.next_due = earlier(noticed.next_due, from);
                noticed.later.extend(from.map(|at| Later { key, at }));
            }
        }
        Ok(())
    }

    /// Which keys were last used on a day that is as long ago as makes a key perhaps stale.
    fn ask_silent(&self, asked: &mut Asked, noticed: &mut Noticed) -> Result<(), ManageError> {
        /// How many days without a user one tick passes over.
        const DAYS: usize = 400;
        let Self { records, now, limit, .. } = *self;
        let long_before = |time: Timestamp| UsageBucket::day_of(time.minus_or_min(STALE_AFTER)).begin();
        let today = long_before(now);
        let (day, after) = asked.silent.get_or_insert_with(|| (long_before(self.mark.min(now)), None));
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
                let key = id.parse().ok();
                let Some(stored) = key.map(|key| believed(records.family(key))).transpose()?.flatten() else {
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
}

/// When the keys of a query were last used.
fn last_use(records: &Records, query: &UsageQuery<'_>) -> Result<Option<Timestamp>, ManageError> {
    let mut last = None;
    records.store.usage(query, &mut |_, entry| last = last.max(entry.counts.last_used))?;
    Ok(last)
}

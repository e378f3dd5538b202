//! Enclosing: what a changeset's events mean for the channels goes into the same commit.

use std::collections::HashMap;

use crate::error::ReadError;
use crate::event::EventKind;
use crate::id::VersionNo;
use crate::key::KeyRecord;
use crate::lifecycle;
use crate::notice;
use crate::notification::{Notification, NotificationKind, Severity};
use crate::outbox::alarm::Alarms;
use crate::outbox::entry::{OutboxEntry, Rank};
use crate::policy::DeploymentSettings;
use crate::records::{Record, Records, version_row_id};
use crate::rotation::RotationRecord;
use crate::store::{Changeset, Draft, Revision, RowKind};
use crate::time::Timestamp;
use crate::token::Hint;
use crate::version::VersionRecord;

/// Outbox rows to be added to a changeset.
pub(crate) struct Rows<'a> {
    records: &'a Records,
    drafts: Vec<Draft>,
    told: usize,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(records: &'a Records) -> Self {
        Self { records, drafts: Vec::new(), told: 0 }
    }

    /// One row for each channel that is told this. What was told before, in whatever way, is not told again.
    pub(crate) fn add(&mut self, notification: &Notification, rank: Rank, t: Timestamp) {
        let records = self.records;
        for channel in records.channels.of(notification) {
            let identity = OutboxEntry::identity(notification, channel);
            let mut is_known = self.drafts.iter().any(|draft| draft.index.unique.as_ref() == Some(&identity));
            // Where the store cannot be read, the commit will say so.
            drop(records.store.find(RowKind::Outbox, &identity, &mut |_| is_known = true));
            if !is_known {
                self.drafts.push(OutboxEntry::new(channel, notification.clone(), rank, t).draft());
                self.told += 1;
            }
        }
    }

    /// Whether nobody asks for this, or everybody who does was told it before.
    pub(crate) fn is_known(&self, notification: &Notification) -> bool {
        let records = self.records;
        records.channels.of(notification).all(|channel| {
            let identity = OutboxEntry::identity(notification, channel);
            let mut is_known = false;
            // Where the store cannot be read, the commit will say so.
            drop(records.store.find(RowKind::Outbox, &identity, &mut |_| is_known = true));
            is_known
        })
    }

    /// Adds what no change of a key brings about.
    pub(crate) fn add_unrelated(&mut self, notification: &Notification, t: Timestamp) {
        let replaces = Revision(u64::try_from(t.unix_micros()).unwrap_or(0));
        self.add(notification, Rank { replaces, by_change: true, place: 0 }, t);
    }

    /// How many rows there are.
    pub(crate) fn count(&self) -> usize {
        self.told
    }

    pub(crate) fn write(self, changeset: &mut Changeset) {
        self.drafts.into_iter().for_each(|draft| changeset.insert(draft));
    }
}

/// The rows that a changeset writes, by kind and id.
struct Drafts<'a>(HashMap<(RowKind, &'a str), (&'a Draft, Revision)>);

impl<'a> Drafts<'a> {
    fn of(changeset: &'a Changeset) -> Self {
        let named =
            |(draft, revision): (&'a Draft, Revision)| ((draft.kind, draft.id.as_str()), (draft, revision));
        Self(changeset.drafts().map(named).collect())
    }

    /// The record as it will be, or else as it is. One that cannot be believed is none.
    fn record<R: Record>(&self, records: &Records, id: &str) -> Option<R> {
        match self.0.get(&(R::KIND, id)) {
            Some((draft, _)) => serde_json::from_slice(&draft.body).ok(),
            None => records.get::<R>(id).ok().flatten().map(|stored| stored.record),
        }
    }

    /// The revision of the row that it replaces, or of the one that is there.
    fn revision(&self, records: &Records, kind: RowKind, id: &str) -> Revision {
        if let Some((_, revision)) = self.0.get(&(kind, id)) {
            return *revision;
        }
        let mut found = Revision(0);
        drop(records.store.get(kind, id, &mut |row| found = row.revision));
        found
    }
}

/// Adds what the changeset's events mean for the channels. Called when all that it writes is decided; nothing that is
/// missing or edited in the outbox keeps an act from being carried out.
pub(crate) fn enclose(records: &Records, changeset: &mut Changeset, t: Timestamp) {
    if records.channels.is_empty() || changeset.events().is_empty() {
        return;
    }
    let told = notice::of_commit(changeset.events());
    let mut rows = Rows::new(records);
    let mut alarms = Alarms::default();
    let alarm = NotificationKind::Alarm;
    if changeset.is_emergency()
        && records.channels.ask_for(alarm)
        && matches!(records.head(), Err(ReadError::HeadTampered))
    {
        let mut broken = Notification::new(t, alarm);
        broken.subject = Some(notice::CHAIN_BROKEN.to_owned());
        for told in alarms.raise(records, broken.identified("head"), t) {
            rows.add_unrelated(&told, t);
        }
    }
    let drafts = Drafts::of(changeset);
    for (place, notification) in told {
        let event = changeset.events().get(place);
        let request = event.and_then(|event| event.request.as_ref());
        let occurrence = request.map(|request| format!("{} {place}", request.as_str())).unwrap_or_default();
        let is_birth = event.is_some_and(|event| event.kind == EventKind::KeyIssued);
        let Some((notification, replaces, warning)) = completed(notification, is_birth, &drafts, records)
        else {
            continue;
        };
        let notification = notification.identified(&occurrence);
        // Two places for each event: its own, and that of a warning that comes with it.
        let rank = |later| Rank { replaces, by_change: true, place: 2 * place + later };
        if notification.kind != alarm {
            rows.add(&notification, rank(0), t);
        } else if records.channels.ask_for(alarm) {
            for told in alarms.raise(records, notification, t) {
                rows.add(&told, rank(0), t);
            }
        }
        if let Some(warning) = warning {
            rows.add(&warning, rank(1), t);
        }
    }
    rows.write(changeset);
    alarms.write(changeset);
}

/// With what the rows tell of its key and version; nothing when it is not to be told after all. And the warning that a
/// key is born with.
fn completed(
    mut told: Notification,
    is_birth: bool,
    drafts: &Drafts<'_>,
    records: &Records,
) -> Option<(Notification, Revision, Option<Notification>)> {
    let mut warning = None;
    let replaces = if let Some(key) = told.key {
        let id = key.to_string();
        if told.kind == NotificationKind::RotationClaimed && told.rotation.is_none() {
            let rotations = drafts.0.values().filter(|(draft, _)| draft.kind == RowKind::Rotation);
            let records = rotations.filter_map(|(draft, _)| serde_json::from_slice(&draft.body).ok());
            let of_version = |rotation: &RotationRecord| rotation.key == key && rotation.new == told.version;
            told.rotation = records.into_iter().find(of_version).map(|rotation| rotation.id);
        }
        if let Some(rotation) = told.rotation {
            let rotation = drafts.record::<RotationRecord>(records, &rotation.to_string());
            complete_rotation(&mut told, rotation.as_ref(), |number| {
                drafts.record::<VersionRecord>(records, &version_row_id(key, number))
            });
        }
        let record = drafts.record::<KeyRecord>(records, &id);
        let number = told.version;
        let version =
            number.and_then(|number| drafts.record::<VersionRecord>(records, &version_row_id(key, number)));
        if let Some(record) = &record {
            told.name = Some(record.name.clone());
            told.hint = version.as_ref().map(|version| Hint::new(record.prefix, version.locator).to_string());
            if record.revoked_at.is_some() && !told.kind.outlives_revocation() {
                return None;
            }
        }
        if let Some(version) = &version {
            if told.kind == NotificationKind::Expired && !notice::tells_expiry(version) {
                return None;
            }
            warning = record.as_ref().filter(|_| is_birth).and_then(|key| {
                let deployment = || drafts.record::<DeploymentSettings>(records, DeploymentSettings::ROW_ID);
                let policy = key.policy.or_else(|| Some(deployment()?.policy)).unwrap_or_default();
                let threshold = notice::at_birth(version, &policy)?;
                Some(notice::expiring(key, version, threshold, version.issued_at))
            });
        }
        drafts.revision(records, RowKind::Key, &id)
    } else if let Some(owner) = told.owner {
        drafts.revision(records, RowKind::Owner, owner.as_str())
    } else {
        Revision(u64::try_from(told.at.unix_micros()).unwrap_or(0))
    };
    if told.kind == NotificationKind::RotationStarted && told.claim_by.is_some() {
        told.severity = Severity::Warning;
    }
    Some((told, replaces, warning))
}

/// What a rotation's record tells beside the event: of one that waits to be claimed, until when, and the old version's
/// end.
fn complete_rotation(
    told: &mut Notification,
    rotation: Option<&RotationRecord>,
    version: impl Fn(VersionNo) -> Option<VersionRecord>,
) {
    let Some(rotation) = rotation else { return };
    told.version = told.version.or(rotation.new);
    let waits = told.kind == NotificationKind::RotationStarted && rotation.delivered_at.is_none();
    if waits || told.kind == NotificationKind::RotationClaimed {
        told.claim_by = rotation.claim_by.filter(|_| waits);
        told.ends_at = rotation.old.and_then(version).and_then(|old| lifecycle::end(&old, None));
    }
}

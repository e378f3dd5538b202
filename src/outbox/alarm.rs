//! Raising alarms: told one by one, or counted.

use crate::error::ManageError;
use crate::notification::{Notification, NotificationKind};
use crate::outbox::enclose::Rows;
use crate::outbox::tally::AlarmTally;
use crate::outbox::{ATTEMPTS, Committed, commit};
use crate::records::{Record, Records, Stored, read};
use crate::store::{Changeset, Revision, RowKind};
use crate::time::Timestamp;

/// Tells these alarms, each once and of each sort no more than an hour has room for. Those that were told before are left
/// out. Says whether that is done: not, where others were in the way.
pub(crate) fn raise(records: &Records, alarms: &[Notification], t: Timestamp) -> Result<bool, ManageError> {
    if alarms.is_empty() || !records.channels.ask_for(NotificationKind::Alarm) {
        return Ok(true);
    }
    for _ in 0..ATTEMPTS {
        let (mut changeset, mut rows) = (Changeset::new(&records.keyring), Rows::new(records));
        let mut tallies = Alarms::default();
        alarms.iter().for_each(|alarm| tallies.raise_once(&mut rows, records, alarm, t));
        rows.write(&mut changeset);
        tallies.write(&mut changeset);
        if let Committed::Done(_) = commit(records, &changeset)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The tallies that a commit touches.
#[derive(Default)]
pub(crate) struct Alarms(Vec<(AlarmTally, Option<Revision>)>);

impl Alarms {
    /// Counts an alarm, and gives back what is to be told: the alarm unless there were too many, and before it the rest
    /// of an hour that is over.
    pub(crate) fn raise(
        &mut self,
        records: &Records,
        alarm: Notification,
        t: Timestamp,
    ) -> impl Iterator<Item = Notification> + use<> {
        let subject = alarm.subject.clone().unwrap_or_default();
        let at = match self.0.iter().position(|(tally, _)| tally.subject == subject) {
            Some(at) => at,
            None => {
                self.0.push(stored(records, &subject, t));
                self.0.len() - 1
            }
        };
        let told = self.0.get_mut(at).map(|(tally, _)| {
            let rest = tally.rest(t);
            (rest, tally.count(alarm.severity, t))
        });
        let (rest, is_told) = told.unwrap_or((None, true));
        rest.into_iter().chain(is_told.then_some(alarm))
    }

    /// Tells an alarm that no change of a key brings about, unless it was told before, or counts it.
    pub(crate) fn raise_once(
        &mut self,
        rows: &mut Rows<'_>,
        records: &Records,
        alarm: &Notification,
        t: Timestamp,
    ) {
        if rows.is_known(alarm) {
            return;
        }
        self.raise(records, alarm.clone(), t).for_each(|told| rows.add_unrelated(&told, t));
    }

    pub(crate) fn write(self, changeset: &mut Changeset) {
        for (tally, revision) in self.0 {
            match revision {
                Some(revision) => changeset.replace(tally.draft(), revision),
                None => changeset.insert(tally.draft()),
            }
        }
    }

    /// Takes up a tally whose hour is over, and gives back what is told of it.
    pub(crate) fn close(&mut self, tally: Stored<AlarmTally>, t: Timestamp) -> Option<Notification> {
        let Stored { mut record, revision } = tally;
        let rest = record.rest(t);
        self.0.push((record, Some(revision)));
        rest
    }
}

/// The tally as it is stored. One that was edited is begun anew, so that nobody silences or blocks an alarm by it.
fn stored(records: &Records, subject: &str, t: Timestamp) -> (AlarmTally, Option<Revision>) {
    let mut found = (AlarmTally::new(subject, t), None);
    let looked = records.store.get(RowKind::Outbox, &AlarmTally::id_of(subject), &mut |row| {
        found.1 = Some(row.revision);
        if let Ok(stored) = read::<AlarmTally>(&row, &records.keyring) {
            found.0 = stored.record;
        }
    });
    // A store that cannot be read will not be written either: the commit says so.
    drop(looked);
    found
}

//! Sweeping: what has served its time goes, the rest of an hour's alarms is told, and a queue that nobody empties is
//! kept within its bound.

use std::ops::ControlFlow;

use crate::error::ManageError;
use crate::notice;
use crate::notification::{Notification, NotificationKind};
use crate::outbox::alarm::Alarms;
use crate::outbox::enclose::Rows;
use crate::outbox::entry::{EntryState, OutboxEntry, UNSERVED_KEPT};
use crate::outbox::tally::AlarmTally;
use crate::outbox::{ATTEMPTS, Committed, commit};
use crate::records::{Record, Records, Stored, read};
use crate::store::{Changeset, Revision, RowFilter, RowKind};
use crate::time::Timestamp;

/// How many notifications may wait on one channel; beyond it the oldest are dropped, and an alarm tells how many.
const BOUND: usize = 10_000;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Rows that had served their time.
    pub(crate) cleaned: usize,
    /// Notifications that will never be told.
    pub(crate) dropped: usize,
    pub(crate) more: bool,
}

/// What is to be removed.
#[derive(Default)]
struct Found {
    gone: Vec<(String, Revision)>,
    dropped: Vec<(String, Revision)>,
    tallies: Vec<Stored<AlarmTally>>,
    more: bool,
}

/// One bounded step of sweeping.
pub(crate) fn sweep(records: &Records, now: Timestamp, limit: usize) -> Result<Swept, ManageError> {
    for _ in 0..ATTEMPTS {
        let mut found = outdated(records, now, limit)?;
        for channel in records.channels.iter() {
            overflow(records, &channel.name, now, limit, &mut found)?;
        }
        let mut changeset = Changeset::new(&records.keyring);
        let mut rows = Rows::new(records);
        let mut alarms = Alarms::default();
        for tally in found.tallies {
            if let Some(rest) = alarms.close(tally, now) {
                rows.add_unrelated(&rest, now);
            }
        }
        if !found.dropped.is_empty() && records.channels.ask_for(NotificationKind::Alarm) {
            let mut alarm = Notification::new(now, NotificationKind::Alarm);
            alarm.subject = Some(notice::DROPPED.to_owned());
            alarm.more = u64::try_from(found.dropped.len()).ok();
            let first = found.dropped.first().map(|(id, _)| id.as_str()).unwrap_or_default();
            for told in alarms.raise(records, alarm.identified(first), now) {
                rows.add_unrelated(&told, now);
            }
        }
        let gone = found.gone.iter().chain(&found.dropped);
        gone.for_each(|(id, revision)| changeset.delete(RowKind::Outbox, id.clone(), *revision));
        rows.write(&mut changeset);
        alarms.write(&mut changeset);
        if let Committed::Done(_) = commit(records, &changeset)? {
            let (cleaned, dropped) = (found.gone.len(), found.dropped.len());
            return Ok(Swept { cleaned, dropped, more: found.more });
        }
    }
    Ok(Swept { more: true, ..Swept::default() })
}

/// Rows whose time has come, whatever channel they are of. Those that were edited stay, as evidence.
fn outdated(records: &Records, now: Timestamp, limit: usize) -> Result<Found, ManageError> {
    let mut found = Found::default();
    records.store.scan(RowKind::Outbox, RowFilter::Due { by: now, after: None }, &mut |row| {
        if found.gone.len() + found.dropped.len() + found.tallies.len() == limit {
            found.more = true;
            return ControlFlow::Break(());
        }
        let named = || (row.id.to_owned(), row.revision);
        let unserved = |due: Timestamp| now.since(due) >= UNSERVED_KEPT;
        match row.index.state {
            Some(EntryState::DELIVERED | EntryState::DEAD) if row.verify(&records.keyring).is_ok() => {
                found.gone.push(named());
            }
            Some(EntryState::PENDING)
                if row.index.due_at.is_some_and(unserved) && row.verify(&records.keyring).is_ok() =>
            {
                found.dropped.push(named());
            }
            Some(AlarmTally::STATE) => found.tallies.extend(read::<AlarmTally>(&row, &records.keyring)),
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// The oldest that wait on a channel beyond its bound. What somebody is telling just now stays.
fn overflow(
    records: &Records,
    channel: &str,
    now: Timestamp,
    limit: usize,
    found: &mut Found,
) -> Result<(), ManageError> {
    let filter = RowFilter::Owner { owner: channel, after: None };
    let mut waiting = 0usize;
    records.store.scan(RowKind::Outbox, filter, &mut |_| {
        waiting += 1;
        ControlFlow::Continue(())
    })?;
    let Some(excess) = waiting.checked_sub(BOUND).filter(|excess| *excess > 0) else { return Ok(()) };
    let stored = records.scan::<OutboxEntry>(filter, usize::MAX)?;
    let mut entries: Vec<_> = stored.into_iter().filter_map(Result::ok).collect();
    entries.retain(|stored| stored.record.lease.is_none_or(|lease| !lease.holds(now)));
    entries.sort_by_key(|stored| stored.record.created_at);
    let room = limit.saturating_sub(found.dropped.len());
    found.more |= excess > room;
    for Stored { record, revision } in entries.into_iter().take(excess.min(room)) {
        let id = record.row_id();
        if found.dropped.iter().all(|(known, _)| *known != id) {
            found.dropped.push((id, revision));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::clock::ManualClock;
    use crate::keyring::Keyring;
    use crate::manager::KeyManager;
    use crate::notify::in_app::Callback;
    use crate::notify::{ChannelFilter, NotifyError};
    use crate::outbox::entry::Rank;
    use crate::store::memory::MemoryStore;

    #[test]
    fn a_queue_that_nobody_empties_keeps_the_latest_ten_thousand_and_an_alarm_tells_of_the_others() {
        let start: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
        let after = |micros| start.plus(std::time::Duration::from_micros(micros)).unwrap();
        let (clock, keyring) = (ManualClock::new(start), Keyring::generate().unwrap());
        let store = MemoryStore::new();
        let told = Arc::new(Mutex::new((false, Vec::new())));
        let ear = Callback::new({
            let told = Arc::clone(&told);
            move |notification: &Notification| {
                let mut told = told.lock().unwrap();
                told.1.push(notification.clone());
                if told.0 { Ok(()) } else { Err(NotifyError::retry("down")) }
            }
        });
        let keys =
            KeyManager::builder(store.clone(), keyring.clone()).clock(clock.clone()).channel("ops", ear);
        let keys = keys.open().unwrap();
        let mut records = Records::new(Arc::new(store), keyring);
        let mut channels = crate::notify::Channels::default();
        channels.add(crate::notify::Channel {
            name: "ops".to_owned(),
            filter: ChannelFilter::all(),
            notifier: None,
        });
        records.channels = Arc::new(channels);
        let mut changeset = Changeset::new(&records.keyring);
        for n in 0..BOUND as u64 + 1_500 {
            let told = Notification::new(after(n), NotificationKind::Issued).identified(&n.to_string());
            let rank = Rank { replaces: Revision(n), by_change: true, place: 0 };
            changeset.insert(OutboxEntry::new("ops", told, rank, after(n)).draft());
        }
        records.store.commit(&changeset).unwrap();
        let waiting =
            || records.scan::<OutboxEntry>(RowFilter::Owner { owner: "ops", after: None }, usize::MAX);
        clock.set(after(1_000_000));
        let first = sweep(&records, after(1_000_000), 1_000).unwrap();
        assert_eq!((first.dropped, first.more), (1_000, true), "in bounded steps");
        assert_eq!(waiting().unwrap().len(), BOUND + 500 + 1, "and the alarm");
        assert_eq!(sweep(&records, after(1_000_000), 1_000).unwrap().dropped, 501);
        assert_eq!(sweep(&records, after(1_000_000), 1_000).unwrap().dropped, 1, "for the second alarm");
        told.lock().unwrap().0 = true;
        while keys.deliver("ops").unwrap().more {}
        let told = &told.lock().unwrap().1;
        let alarms = told.iter().filter(|told| told.kind == NotificationKind::Alarm);
        let of = |told: &Notification| told.subject.as_deref() == Some(notice::DROPPED);
        assert!(alarms.clone().all(of));
        assert!(alarms.clone().filter_map(|told| told.more).sum::<u64>() >= 1_502);
        let issued: Vec<_> = told.iter().filter(|told| told.kind == NotificationKind::Issued).collect();
        assert!(issued.iter().all(|told| told.at >= after(1_500)), "the oldest are dropped");
        assert!(issued.is_sorted_by_key(|told| told.at), "the oldest first");
    }
}

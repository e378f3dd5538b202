//! A channel's queue: what may be told now, in whose order.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::error::{ManageError, ReadError};
use crate::notice;
use crate::outbox::breaker::Breaker;
use crate::outbox::entry::{OutboxEntry, dead_queue};
use crate::records::{Records, Stored, read};
use crate::store::{RowFilter, RowKind};
use crate::time::{Timestamp, earlier};

/// What one look at a channel's queue found.
#[derive(Debug, Default)]
pub(crate) struct Picked {
    /// What may be tried now, the longest due first: of each key, the first that is not told yet.
    pub(crate) entries: Vec<Stored<OutboxEntry>>,
    /// The breaker, if the channel has failed; it does not hold now when there are entries.
    pub(crate) breaker: Option<Stored<Breaker>>,
    /// When something can be tried next.
    pub(crate) next_due: Option<Timestamp>,
    /// Rows that cannot be believed, and are left alone.
    pub(crate) faults: usize,
}

/// The first `limit` things that may be tried on a channel now.
pub(crate) fn pick(
    records: &Records,
    channel: &str,
    now: Timestamp,
    limit: usize,
) -> Result<Picked, ManageError> {
    let breaker = match records.get::<Breaker>(&Breaker::id_of(channel)) {
        Ok(breaker) => breaker,
        // Nobody stops a channel by editing a row.
        Err(ReadError::Tampered { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let mut picked = Picked { breaker, ..Picked::default() };
    if let Some(breaker) = picked.breaker.as_ref().filter(|breaker| breaker.record.holds(now)) {
        picked.next_due = Some(breaker.record.until);
        return Ok(picked);
    }
    let mut before = BTreeSet::new();
    let filter = RowFilter::Owner { owner: channel, after: None };
    records.store.scan(RowKind::Outbox, filter, &mut |row| {
        match read::<OutboxEntry>(&row, &records.keyring) {
            Ok(stored) if stored.record.channel == channel => {
                let is_first = stored.record.subject().is_none_or(|subject| before.insert(subject));
                if is_first && stored.record.is_due(now) {
                    picked.entries.push(stored);
                } else if is_first {
                    picked.next_due = earlier(picked.next_due, Some(stored.record.next_due()));
                }
            }
            // An edited row is not told, and keeps no other from being told.
            _ => picked.faults += 1,
        }
        ControlFlow::Continue(())
    })?;
    picked.entries.sort_by_key(|stored| (stored.record.due_at, stored.record.created_at));
    picked.entries.truncate(limit);
    Ok(picked)
}

/// Whether what waits is not worth telling any more.
pub(crate) fn is_moot(records: &Records, entry: &OutboxEntry, now: Timestamp) -> bool {
    let told = &entry.notification;
    let Some(key) = told.key.filter(|_| told.kind.asks_to_act()) else { return false };
    match records.family(key) {
        Ok(family) => notice::is_moot(told, family.as_ref().map(|stored| &stored.family), now),
        // Where the key cannot be read, rather too much is told than too little.
        Err(_) => false,
    }
}

/// The dead letters of a channel, in the order of what they tell of. Those that were edited are left out.
pub(crate) fn dead_letters(
    records: &Records,
    channel: &str,
    limit: usize,
) -> Result<Vec<Stored<OutboxEntry>>, ManageError> {
    let queue = dead_queue(channel);
    let filter = RowFilter::Owner { owner: &queue, after: None };
    let mut found = Vec::new();
    for stored in records.scan::<OutboxEntry>(filter, limit)? {
        match stored {
            Ok(stored) => found.push(stored),
            Err(ReadError::Tampered { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

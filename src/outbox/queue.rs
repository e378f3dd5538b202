//! A channel's queue: what may be told now, in whose order.

use std::collections::BTreeMap;
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
    /// What may be tried now, the oldest first. Those of one key stand in their order: once one of them fails, the
    /// others are not to be tried.
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
    // Of each subject: since when what waits there may be told, or nothing once something is not due.
    let mut chains: BTreeMap<String, Option<Timestamp>> = BTreeMap::new();
    let mut due = Vec::new();
    let filter = RowFilter::Owner { owner: channel, after: None };
    records.store.scan(RowKind::Outbox, filter, &mut |row| {
        let Some(stored) = read::<OutboxEntry>(&row, &records.keyring)
            .ok()
            .filter(|stored| stored.record.channel == channel)
        else {
            // An edited row is not told, and keeps no other from being told.
            picked.faults += 1;
            return ControlFlow::Continue(());
        };
        let since = stored.record.created_at;
        let (is_first, since) = match stored.record.subject() {
            None => (true, Some(since)),
            Some(subject) => {
                let is_first = !chains.contains_key(&subject);
                let chain = chains.entry(subject).or_insert(Some(since));
                *chain = chain.filter(|_| stored.record.is_due(now)).map(|before| before.max(since));
                (is_first, *chain)
            }
        };
        match since {
            Some(since) if stored.record.is_due(now) => due.push((since, stored)),
            _ if is_first => picked.next_due = earlier(picked.next_due, Some(stored.record.next_due())),
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    // Stable: what is of the same moment keeps the order of the rows.
    due.sort_by_key(|(since, _)| *since);
    due.truncate(limit);
    picked.entries = due.into_iter().map(|(_, stored)| stored).collect();
    Ok(picked)
}

/// When something of the outbox is due after `t`, on whatever channel.
pub(crate) fn next_due(records: &Records, t: Timestamp) -> Result<Option<Timestamp>, ManageError> {
    let mut next = None;
    let filter = RowFilter::Due { by: Timestamp::MAX, after: Some((t, "\u{10FFFF}")) };
    records.store.scan(RowKind::Outbox, filter, &mut |row| {
        next = row.index.due_at;
        ControlFlow::Break(())
    })?;
    Ok(next)
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

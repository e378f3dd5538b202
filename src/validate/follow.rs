//! Following the store: the one way into the replica.

use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::error::ReadError;
use crate::id::StoreId;
use crate::records::Records;
use crate::store::{FeedItem, Revision, Row, RowFilter, RowKind, Stamp};
use crate::time::Timestamp;
use crate::validate::counts::Counts;
use crate::validate::denial::Unavailable;
use crate::validate::replica::Replica;

/// The replica with the point of the store that it stands at.
#[derive(Debug)]
pub(crate) struct Synced {
    pub(crate) replica: Replica,
    pub(crate) high_water: Timestamp,
    store: StoreId,
    revision: Revision,
    /// Within which these revisions count.
    segment: u64,
    stamp: Option<Stamp>,
}

/// Keeps a replica at the state of a store: when the stamp has moved, one caller reads the feed, the others wait
/// for that same reading.
#[derive(Debug)]
pub(crate) struct Follower {
    synced: RwLock<Synced>,
    reading: Mutex<bool>,
    done: Condvar,
    timeout: Duration,
}

/// The right to read the feed; given back on drop, also when a panic passes through.
struct Turn<'a>(&'a Follower);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.reading.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.done.notify_all();
    }
}

/// How many items of the feed are asked for at once.
const PAGE: usize = 10_000;

impl Follower {
    /// Loads the replica from the store.
    pub(crate) fn load(records: &Records, counts: &Counts, timeout: Duration) -> Result<Self, ReadError> {
        // Before the rows: a commit in between makes the stamp differ, and the feed brings it.
        let stamp = records.store.stamp()?;
        let mut synced = load(records, counts)?;
        synced.stamp = Some(stamp);
        let follower =
            Self { synced: RwLock::new(synced), reading: Mutex::new(false), done: Condvar::new(), timeout };
        Ok(follower)
    }

    /// The replica as of the store's state now, or why that cannot be had.
    pub(crate) fn current(
        &self,
        records: &Records,
        counts: &Counts,
    ) -> Result<RwLockReadGuard<'_, Synced>, Unavailable> {
        let stamp = records.store.stamp().map_err(|_| Unavailable::Store)?;
        let synced = self.synced.read().unwrap_or_else(PoisonError::into_inner);
        if synced.stamp == Some(stamp) {
            return Ok(synced);
        }
        drop(synced);
        let _turn = self.turn().ok_or(Unavailable::Timeout)?;
        self.read_feed(records, counts).map_err(|error| match error {
            ReadError::KeyringBehind(generation) => Unavailable::KeyringBehind(generation),
            _ => Unavailable::Store,
        })?;
        // What was read is at least as new as this call's beginning, whatever has been committed since.
        Ok(self.synced.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn turn(&self) -> Option<Turn<'_>> {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut reading, timeout) = self
            .done
            .wait_timeout_while(reading, self.timeout, |reading| *reading)
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() && *reading {
            return None;
        }
        *reading = true;
        Some(Turn(self))
    }

    fn read_feed(&self, records: &Records, counts: &Counts) -> Result<(), ReadError> {
        let stamp = records.store.stamp()?;
        if self.synced.read().unwrap_or_else(PoisonError::into_inner).stamp == Some(stamp) {
            return Ok(());
        }
        loop {
            let since = self.synced.read().unwrap_or_else(PoisonError::into_inner).revision;
            // Collected first: nobody who only reads the replica waits for the store.
            let mut items = Vec::new();
            let page = records.store.feed(since, PAGE, &mut |item| items.push(Owned::from(item)))?;
            let head = page.head.ok_or(ReadError::NotFounded)?;
            let body = head.read(&records.keyring).map_err(ReadError::of_head)?;
            let mut synced = self.synced.write().unwrap_or_else(PoisonError::into_inner);
            let is_elsewhere = (body.store, body.segment) != (synced.store, synced.segment);
            if is_elsewhere || since < head.floor || since > head.revision {
                drop(synced);
                let fresh = load(records, counts)?;
                synced = self.synced.write().unwrap_or_else(PoisonError::into_inner);
                *synced = fresh;
            } else {
                // Until all pages are read, no stamp vouches for what the replica holds.
                synced.stamp = None;
                items.iter().for_each(|item| synced.replica.apply(item.borrow(), &records.keyring, counts));
                synced.revision = page.up_to;
                synced.high_water = synced.high_water.max(body.high_water);
            }
            if !page.more {
                synced.stamp = Some(stamp);
                return Ok(());
            }
        }
    }
}

/// A feed item, kept beyond the callback.
enum Owned {
    Row(Row),
    Gone(RowKind, String),
}

impl From<FeedItem<'_>> for Owned {
    fn from(item: FeedItem<'_>) -> Self {
        match item {
            FeedItem::Row(row) => Self::Row(row.to_row()),
            FeedItem::Gone { kind, id } => Self::Gone(kind, id.to_owned()),
        }
    }
}

impl Owned {
    fn borrow(&self) -> FeedItem<'_> {
        match self {
            Self::Row(row) => FeedItem::Row(row.as_ref()),
            Self::Gone(kind, id) => FeedItem::Gone { kind: *kind, id },
        }
    }
}

/// Reads all that is followed: first the head, then the rows; what is committed meanwhile the feed brings.
fn load(records: &Records, counts: &Counts) -> Result<Synced, ReadError> {
    let head = records.store.head()?.ok_or(ReadError::NotFounded)?;
    let body = head.read(&records.keyring).map_err(ReadError::of_head)?;
    let mut replica = Replica::default();
    for kind in RowKind::ALL.into_iter().filter(|kind| kind.is_followed()) {
        records.store.scan(kind, RowFilter::All { after: None }, &mut |row| {
            replica.apply(FeedItem::Row(row), &records.keyring, counts);
            ControlFlow::Continue(())
        })?;
    }
    Ok(Synced {
        replica,
        high_water: body.high_water,
        store: body.store,
        revision: head.revision,
        segment: body.segment,
        stamp: None,
    })
}

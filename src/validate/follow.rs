//! Following the store: the one way into the replica.

use std::ops::ControlFlow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{OpenError, ReadError};
use crate::id::StoreId;
use crate::records::Records;
use crate::store::{FeedItem, Revision, RowFilter, RowKind, Stamp};
use crate::time::Timestamp;
use crate::validate::change::Change;
use crate::validate::denial::Unavailable;
use crate::validate::keeper::Keeper;
use crate::validate::replica::Replica;

/// Keeps a replica at the state of a store: when the stamp has moved, one caller reads the feed, the others wait
/// for that same reading.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) replica: Replica,
    state: Mutex<State>,
    reading: Mutex<bool>,
    done: Condvar,
    timeout: Duration,
}

/// What only whoever has the turn looks at, and whoever asks for what the replica does not show.
#[derive(Debug)]
struct State {
    keeper: Keeper,
    store: StoreId,
    /// Within which revisions count.
    segment: u64,
    revision: Revision,
    high_water: Timestamp,
    /// Whether the next reading has to begin anew: the last one broke off in the middle of one.
    anew: bool,
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
/// How many rows of a first load are taken in at once.
const BATCH: usize = 1_000;

impl Follower {
    /// Loads the replica from the store.
    pub(crate) fn load(records: &Records, timeout: Duration) -> Result<Self, OpenError> {
        let body = records.head()?;
        let replica = Replica::new().map_err(|error| OpenError::NotFounded(Box::new(error.into())))?;
        let state = State {
            keeper: Keeper::default(),
            store: body.store,
            segment: body.segment,
            revision: Revision::default(),
            high_water: body.high_water,
            anew: true,
        };
        let follower = Self {
            replica,
            state: Mutex::new(state),
            reading: Mutex::new(false),
            done: Condvar::new(),
            timeout,
        };
        follower.read_feed(records)?;
        Ok(follower)
    }

    /// Brings the replica to the store's state now, or tells why that cannot be had.
    ///
    /// What was read then is at least as new as this call's beginning, whatever has been committed since.
    #[cold]
    pub(crate) fn catch_up(&self, records: &Records) -> Result<(), Unavailable> {
        let _turn = self.turn().ok_or(Unavailable::Timeout)?;
        self.read_feed(records).map_err(|error| match error {
            ReadError::KeyringBehind(generation) => Unavailable::KeyringBehind(generation),
            _ => Unavailable::Store,
        })
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works with the keeper, while nobody else does.
    pub(crate) fn with_keeper<T>(&self, work: impl FnOnce(&mut Keeper) -> T) -> T {
        work(&mut self.state().keeper)
    }

    /// The same, unless somebody else does.
    pub(crate) fn try_with_keeper<T>(&self, work: impl FnOnce(&mut Keeper) -> T) -> Option<T> {
        self.state.try_lock().ok().map(|mut state| work(&mut state.keeper))
    }

    fn read_feed(&self, records: &Records) -> Result<(), ReadError> {
        // Before the rows: a commit in between makes the stamp differ, and the feed brings it.
        let stamp = records.store.stamp()?;
        if self.replica.is_at(&stamp) {
            return Ok(());
        }
        loop {
            let (since, anew) = {
                let state = self.state();
                (state.revision, state.anew)
            };
            // Read and checked first: until then nobody's copy is disturbed.
            let mut changes = Vec::new();
            let page = records.store.feed(since, if anew { 0 } else { PAGE }, &mut |item| {
                if !anew {
                    changes.push(Change::of(item, &records.keyring));
                }
            })?;
            let head = page.head.ok_or(ReadError::NotFounded)?;
            let body = head.read(&records.keyring).map_err(ReadError::of_head)?;
            let mut state = self.state();
            let is_elsewhere = (body.store, body.segment) != (state.store, state.segment);
            if anew || is_elsewhere || since < head.floor || since > head.revision {
                drop(state);
                self.load_anew(records, &stamp)?;
                return Ok(());
            }
            // Until all pages are read, the replica is of no one moment.
            self.replica.leave();
            state.keeper.apply(&self.replica, changes);
            state.revision = page.up_to;
            state.high_water = state.high_water.max(body.high_water);
            if !page.more {
                self.replica.arrive(&stamp, state.high_water);
                return Ok(());
            }
        }
    }

    /// Reads all that is followed: first the head, then the rows; what is committed meanwhile makes the stamp differ,
    /// and the feed brings it.
    fn load_anew(&self, records: &Records, stamp: &Stamp) -> Result<(), ReadError> {
        let head = records.store.head()?.ok_or(ReadError::NotFounded)?;
        let body = head.read(&records.keyring).map_err(ReadError::of_head)?;
        let mut state = self.state();
        self.replica.leave();
        let State { keeper, store, segment, revision, anew, .. } = &mut *state;
        *anew = true;
        // Another store, or one that was put back: what is older than what was seen may be the truth there.
        if (*store, *segment) != (body.store, body.segment) || *revision > head.revision {
            keeper.forget_revisions();
        }
        let held = keeper.everything(&self.replica);
        keeper.apply(&self.replica, held);
        // Versions first: a key's row is kept with its versions.
        for kind in [RowKind::Version, RowKind::Owner, RowKind::Role, RowKind::Key] {
            let mut batch = Vec::with_capacity(BATCH);
            records.store.scan(kind, RowFilter::All { after: None }, &mut |row| {
                batch.push(Change::of(FeedItem::Row(row), &records.keyring));
                if batch.len() == BATCH {
                    keeper.apply(&self.replica, std::mem::take(&mut batch));
                }
                ControlFlow::Continue(())
            })?;
            keeper.apply(&self.replica, batch);
        }
        state.store = body.store;
        state.segment = body.segment;
        state.revision = head.revision;
        state.high_water = body.high_water;
        state.anew = false;
        self.replica.arrive(stamp, body.high_water);
        Ok(())
    }
}

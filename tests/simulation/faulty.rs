//! A store that counts its calls and, at one of them, fails, dies, or lets somebody else act; that shows rows as an
//! editor would have left them; and that has each commit entered in a ledger.

use std::sync::{Arc, Mutex, MutexGuard};

use keyrota::{FeedItem, KeyStore, Revision, Row, RowKind, RowRef, Stamp, StoreError, StoreErrorKind};

use crate::delegating::{Call, Delegating, Hooks, Turn};
use crate::faults::Site;
use crate::ledger::Ledger;

type Hook = Box<dyn FnOnce() + Send>;

/// What the handles on one store have in common.
#[derive(Default)]
pub struct Disk {
    pub ledger: Mutex<Ledger>,
    edits: Mutex<Edits>,
}

/// Rows that were edited, or put back.
#[derive(Default)]
struct Edits {
    /// Moves with each edit, as the stamp of a store does that notices them.
    epoch: u64,
    flipped: Option<(RowKind, String, usize)>,
    touched: Vec<(u64, RowKind, String)>,
}

impl Disk {
    /// Flips a bit of a row, or puts the flipped one back.
    pub fn flip(&self, flip: Option<(RowKind, String, usize)>) {
        let mut edits = self.edits.lock().unwrap();
        edits.epoch += 1;
        let epoch = edits.epoch;
        let old = std::mem::replace(&mut edits.flipped, flip.clone());
        let touched = old.into_iter().chain(flip).map(|(kind, id, _)| (epoch, kind, id));
        edits.touched.extend(touched);
    }
}

#[derive(Default)]
struct State {
    /// Calls to wait for, and what happens then.
    trap: Option<(usize, Site)>,
    other: Option<(usize, Hook)>,
    fired: bool,
    dead: bool,
    full: bool,
    busy: usize,
    /// Of the edits, those up to here were told by the feed.
    told: u64,
}

pub struct Trouble {
    disk: Arc<Disk>,
    state: Mutex<State>,
}

pub type Faulty = Delegating<Arc<dyn KeyStore>, Trouble>;

impl Faulty {
    pub fn new(inner: Arc<dyn KeyStore>, disk: Arc<Disk>) -> Arc<Self> {
        let told = disk.edits.lock().unwrap().epoch;
        let state = Mutex::new(State { told, ..State::default() });
        Arc::new(Self::over(inner, Trouble { disk, state }))
    }
}

impl Trouble {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A fault at a call, counted from now.
    pub fn arm(&self, at: usize, site: Site) {
        let mut state = self.state();
        state.trap = Some((at, site));
        state.fired = false;
    }

    /// What somebody else does before a call, counted from now.
    pub fn let_in(&self, at: usize, other: impl FnOnce() + Send + 'static) {
        self.state().other = Some((at, Box::new(other)));
    }

    /// Does what is still planned of others, and forgets a fault that has not come; returns whether one has.
    pub fn disarm(&self) -> bool {
        let other = self.state().other.take();
        other.into_iter().for_each(|(_, other)| other());
        let mut state = self.state();
        (state.trap, state.busy) = (None, 0);
        std::mem::take(&mut state.fired) || state.dead
    }

    /// Whether the process has ended.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub fn is_full(&self) -> bool {
        self.state().full
    }

    pub fn make_room(&self) {
        self.state().full = false;
    }

    fn flipped(&self, row: RowRef<'_>) -> Option<Row> {
        let flipped = self.disk.edits.lock().unwrap().flipped.clone();
        let (.., bit) = flipped.filter(|(kind, id, _)| *kind == row.kind && id == row.id)?;
        let mut row = row.to_row();
        let bits = row.body.len() * 8;
        match bit % (bits + 256) {
            bit if bit < bits => row.body[bit / 8] ^= 1 << (bit % 8),
            bit => row.mac.tag[(bit - bits) / 8] ^= 1 << (bit % 8),
        }
        Some(row)
    }
}

impl Hooks for Trouble {
    fn before(&self, _: &dyn KeyStore, call: Call<'_>) -> Turn {
        if matches!(call, Call::Freshness | Call::Scrub | Call::Close) {
            return Turn::Go;
        }
        let is_commit = matches!(call, Call::Commit(_));
        let is_read = !is_commit && !matches!(call, Call::AddUsage(_) | Call::RollUpUsage);
        let mut state = self.state();
        match state.other.take() {
            Some((0, other)) => {
                drop(state);
                other();
                state = self.state();
            }
            Some((calls, other)) => state.other = Some((calls - 1, other)),
            None => {}
        }
        if state.dead {
            return Turn::Fail(StoreErrorKind::Io);
        }
        if state.full && !is_read {
            state.fired = true;
            return Turn::Fail(StoreErrorKind::Full);
        }
        if state.busy > 0 {
            state.busy -= 1;
            return Turn::Fail(StoreErrorKind::Busy);
        }
        let Some((calls, site)) = state.trap else { return Turn::Go };
        let waits =
            matches!(site, Site::Lost | Site::Conflict) && !is_commit || site == Site::Full && is_read;
        if calls > 0 || waits {
            state.trap = Some((calls.saturating_sub(1), site));
            return Turn::Go;
        }
        (state.trap, state.fired) = (None, true);
        match site {
            Site::Before => Turn::Fail(StoreErrorKind::Io),
            Site::After => Turn::GoThenFail,
            Site::Lost => Turn::Lost,
            Site::Conflict => Turn::Conflict,
            Site::Busy => {
                state.busy = 3;
                Turn::Fail(StoreErrorKind::Busy)
            }
            Site::Full => {
                state.full = true;
                Turn::Fail(StoreErrorKind::Full)
            }
            Site::CrashBefore => {
                state.dead = true;
                Turn::Fail(StoreErrorKind::Io)
            }
            Site::CrashAfter => {
                state.dead = true;
                Turn::GoThenFail
            }
        }
    }

    fn shown(&self, row: RowRef<'_>) -> Option<Row> {
        self.flipped(row)
    }

    /// The rows that were edited since the feed was last read: a store that notices edits tells them.
    fn feeds(&self, inner: &dyn KeyStore, each: &mut dyn FnMut(FeedItem<'_>)) -> Result<(), StoreError> {
        let new: Vec<_> = {
            let edits = self.disk.edits.lock().unwrap();
            let told = std::mem::replace(&mut self.state().told, edits.epoch);
            let new = edits.touched.iter().filter(|(epoch, ..)| *epoch > told);
            new.map(|(_, kind, id)| (*kind, id.clone())).collect()
        };
        new.into_iter().try_for_each(|(kind, id)| inner.get(kind, &id, &mut |row| each(FeedItem::Row(row))))
    }

    /// In the upper half of the last word, which no store uses.
    fn stamped(&self, mut stamp: Stamp) -> Stamp {
        stamp.0[6] ^= self.disk.edits.lock().unwrap().epoch << 32;
        stamp
    }

    fn committed(&self, inner: &dyn KeyStore, revision: Revision) {
        self.disk.ledger.lock().unwrap().enter(inner, revision);
    }
}

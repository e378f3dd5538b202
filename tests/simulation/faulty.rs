//! A store that counts its calls and, at one of them, fails, dies, or lets somebody else act; that shows rows as an
//! editor would have left them; and that has each commit entered in a ledger.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};

use keyrota::{
    AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyStore, Revision,
    RowFilter, RowKind, RowRef, Stamp, StoreError, StoreErrorKind, Timestamp, UsageBatch, UsageBucket,
    UsageEntry, UsageQuery, UsageWriter,
};

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

pub struct Faulty {
    inner: Arc<dyn KeyStore>,
    disk: Arc<Disk>,
    state: Mutex<State>,
}

/// What a call is to do.
enum Pass {
    Go,
    Fail(StoreErrorKind),
    GoThenFail,
    /// A commit only: its fate is not told, and it is lost.
    Lost,
    Conflict,
}

#[derive(Clone, Copy, PartialEq)]
enum Call {
    Read,
    Usage,
    Commit,
}

impl Faulty {
    pub fn new(inner: Arc<dyn KeyStore>, disk: Arc<Disk>) -> Arc<Self> {
        let told = disk.edits.lock().unwrap().epoch;
        Arc::new(Self { inner, disk, state: Mutex::new(State { told, ..State::default() }) })
    }

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
    pub fn before(&self, at: usize, other: impl FnOnce() + Send + 'static) {
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

    fn enter(&self, call: Call) -> Pass {
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
            return Pass::Fail(StoreErrorKind::Io);
        }
        if state.full && call != Call::Read {
            state.fired = true;
            return Pass::Fail(StoreErrorKind::Full);
        }
        if state.busy > 0 {
            state.busy -= 1;
            return Pass::Fail(StoreErrorKind::Busy);
        }
        let Some((calls, site)) = state.trap else { return Pass::Go };
        let waits = matches!(site, Site::Lost | Site::Conflict) && call != Call::Commit
            || site == Site::Full && call == Call::Read;
        if calls > 0 || waits {
            state.trap = Some((calls.saturating_sub(1), site));
            return Pass::Go;
        }
        (state.trap, state.fired) = (None, true);
        match site {
            Site::Before => Pass::Fail(StoreErrorKind::Io),
            Site::After => Pass::GoThenFail,
            Site::Lost => Pass::Lost,
            Site::Conflict => Pass::Conflict,
            Site::Busy => {
                state.busy = 3;
                Pass::Fail(StoreErrorKind::Busy)
            }
            Site::Full => {
                state.full = true;
                Pass::Fail(StoreErrorKind::Full)
            }
            Site::CrashBefore => {
                state.dead = true;
                Pass::Fail(StoreErrorKind::Io)
            }
            Site::CrashAfter => {
                state.dead = true;
                Pass::GoThenFail
            }
        }
    }

    fn call<T>(&self, call: Call, effect: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self.enter(call) {
            Pass::Go => effect(),
            Pass::Fail(kind) => Err(planned(kind)),
            Pass::GoThenFail => effect().and_then(|_| Err(planned(StoreErrorKind::Io))),
            Pass::Lost | Pass::Conflict => unreachable!("only a commit has such a fate"),
        }
    }

    fn shown<T>(&self, row: RowRef<'_>, each: impl FnOnce(RowRef<'_>) -> T) -> T {
        let flipped = self.disk.edits.lock().unwrap().flipped.clone();
        match flipped.filter(|(kind, id, _)| *kind == row.kind && id == row.id) {
            None => each(row),
            Some((.., bit)) => {
                let mut row = row.to_row();
                let bits = row.body.len() * 8;
                match bit % (bits + 256) {
                    bit if bit < bits => row.body[bit / 8] ^= 1 << (bit % 8),
                    bit => row.mac.tag[(bit - bits) / 8] ^= 1 << (bit % 8),
                }
                each(row.as_ref())
            }
        }
    }

    /// The rows that were edited since the feed was last read: a store that notices edits tells them.
    fn tell_edits(&self, each: &mut dyn FnMut(FeedItem<'_>)) -> Result<(), StoreError> {
        let (epoch, told) = {
            let edits = self.disk.edits.lock().unwrap();
            let told = std::mem::replace(&mut self.state().told, edits.epoch);
            let new = edits.touched.iter().filter(|(epoch, ..)| *epoch > told);
            (edits.epoch > told, new.map(|(_, kind, id)| (*kind, id.clone())).collect::<Vec<_>>())
        };
        if epoch {
            for (kind, id) in told {
                self.inner.get(kind, &id, &mut |row| self.shown(row, |row| each(FeedItem::Row(row))))?;
            }
        }
        Ok(())
    }
}

fn planned(kind: StoreErrorKind) -> StoreError {
    StoreError::new(kind, "planned")
}

impl KeyStore for Faulty {
    fn head(&self) -> Result<Option<Head>, StoreError> {
        self.call(Call::Read, || self.inner.head())
    }
    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.call(Call::Read, || self.inner.get(kind, id, &mut |row| self.shown(row, &mut *each)))
    }
    fn find(&self, kind: RowKind, unique: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.call(Call::Read, || self.inner.find(kind, unique, &mut |row| self.shown(row, &mut *each)))
    }
    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.call(Call::Read, || self.inner.scan(kind, filter, &mut |row| self.shown(row, &mut *each)))
    }
    fn feed(
        &self,
        since: Revision,
        limit: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError> {
        self.call(Call::Read, || {
            let page = self.inner.feed(since, limit, &mut |item| match item {
                FeedItem::Row(row) => self.shown(row, |row| each(FeedItem::Row(row))),
                gone => each(gone),
            })?;
            Ok(page)
        })
        .and_then(|page| {
            self.tell_edits(each)?;
            Ok(page)
        })
    }
    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.call(Call::Read, || self.inner.audit(query, each))
    }
    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        let write = || {
            let revision = self.inner.commit(changeset)?;
            self.disk.ledger.lock().unwrap().enter(&*self.inner, revision);
            Ok(revision)
        };
        match self.enter(Call::Commit) {
            Pass::Go => write(),
            Pass::Fail(kind) => Err(CommitError::NotWritten(planned(kind))),
            Pass::Lost => Err(CommitError::Unknown(planned(StoreErrorKind::Io))),
            Pass::Conflict => Err(CommitError::Conflict { kind: RowKind::Key, id: "planned".to_owned() }),
            Pass::GoThenFail => {
                write()?;
                Err(CommitError::Unknown(planned(StoreErrorKind::Io)))
            }
        }
    }
    fn stamp(&self) -> Result<Stamp, StoreError> {
        self.call(Call::Read, || {
            let mut stamp = self.inner.stamp()?;
            // In the upper half of the last word, which no store uses.
            stamp.0[6] ^= self.disk.edits.lock().unwrap().epoch << 32;
            Ok(stamp)
        })
    }
    fn freshness(&self) -> Freshness {
        self.inner.freshness()
    }
    fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.call(Call::Usage, || self.inner.add_usage(batch))
    }
    fn usage(
        &self,
        query: &UsageQuery<'_>,
        each: &mut dyn FnMut(UsageBucket, &UsageEntry),
    ) -> Result<(), StoreError> {
        self.call(Call::Read, || self.inner.usage(query, each))
    }
    fn usage_writers(&self, each: &mut dyn FnMut(&UsageWriter)) -> Result<(), StoreError> {
        self.call(Call::Read, || self.inner.usage_writers(each))
    }
    fn roll_up_usage(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.call(Call::Usage, || self.inner.roll_up_usage(now, limit))
    }
    fn scrub(&self) -> Result<(), StoreError> {
        self.inner.scrub()
    }
    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

//! How a handle holds its connections: each behind a lock, and opened again after a failure.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use crate::store::sqlite::connection::{Place, Role};
use crate::store::sqlite::error::store_error;
use crate::store::sqlite::identity::Identity;
use crate::store::sqlite::write;
use crate::store::{StoreError, StoreErrorKind};

/// One of a handle's connections, behind a lock of its own.
pub(super) struct Held(Mutex<Slot>);

pub(super) struct Slot {
    place: Arc<Place>,
    role: Role,
    state: State,
    /// What the connection has open.
    files: Identity,
    /// How often the connection was opened again.
    epoch: u64,
}

enum State {
    Open(Connection),
    /// It failed, and is replaced when it is next needed. Until then it stays: with its last connection a process
    /// gives up the memory that it shares with others, which cannot be had again while the disk is full.
    Lost(Option<Connection>),
    Closed,
}

impl Held {
    pub(super) fn new(place: Arc<Place>, role: Role, connection: Connection, files: Identity) -> Self {
        Self(Mutex::new(Slot { place, role, state: State::Open(connection), files, epoch: 0 }))
    }

    /// A panic in somebody's callback leaves at most a transaction open, and [`Slot::connection`] ends that.
    pub(super) fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works with the connection.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut slot = self.lock();
        let done = work(slot.connection()?).map_err(store_error);
        slot.settle(done)
    }

    /// Works with the connection, if its files are still where others look for them.
    pub(super) fn with_in_place<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut slot = self.lock();
        let done = work(slot.connection_in_place()?).map_err(store_error);
        slot.settle(done)
    }
}

impl Slot {
    /// The connection, outside any transaction; opened again if it was lost.
    pub(super) fn connection(&mut self) -> Result<&mut Connection, StoreError> {
        self.revive()?;
        if self.place.in_doubt.load(Ordering::Relaxed) {
            self.look()?;
        }
        self.opened()
    }

    /// The connection, once its files were seen to be still where others look for them.
    pub(super) fn connection_in_place(&mut self) -> Result<&mut Connection, StoreError> {
        self.revive()?;
        self.look()?;
        self.opened()
    }

    fn revive(&mut self) -> Result<(), StoreError> {
        if self.place.is_inherited() {
            return Err(StoreErrorKind::Forked.into());
        }
        if let State::Open(connection) = &self.state
            && !connection.is_autocommit()
            && connection.execute_batch("ROLLBACK").is_err()
        {
            self.lose();
        }
        if let State::Lost(_) = self.state {
            let (connection, files) = self.place.reopen(self.role, &self.files)?;
            (self.state, self.files) = (State::Open(connection), files);
            self.epoch += 1;
        }
        Ok(())
    }

    /// A file that was moved away is still read and written by whoever has it open, and by nobody else: what is
    /// read is of no time that others know, and what is written is lost.
    fn look(&self) -> Result<(), StoreError> {
        let place = &self.place;
        // The companions cost as much again each, which counts beside a reading of the feed, not beside a commit.
        let is_thorough = self.role == Role::Writer || place.in_doubt.load(Ordering::Relaxed);
        let seen = if is_thorough { Identity::of(&place.path) } else { Identity::of_file(&place.path) };
        let is_open = matches!(self.state, State::Open(_));
        if is_open && !seen.may_be(&self.files) { Err(place.moved()) } else { Ok(()) }
    }

    fn opened(&mut self) -> Result<&mut Connection, StoreError> {
        match &mut self.state {
            State::Open(connection) => Ok(connection),
            State::Lost(_) | State::Closed => Err(StoreErrorKind::Closed.into()),
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Has the connection replaced, after a failure that leaves its view of the file in doubt.
    pub(super) fn lose(&mut self) {
        if let State::Open(_) = self.state
            && let State::Open(connection) = std::mem::replace(&mut self.state, State::Lost(None))
        {
            // One that cannot end its transaction would keep its lock for as long as it stays.
            let is_free = connection.is_autocommit() || connection.execute_batch("ROLLBACK").is_ok();
            self.state = State::Lost(is_free.then_some(connection));
        }
    }

    /// The same result, after whose error the connection is replaced if it may lie in that.
    pub(super) fn settle<T>(&mut self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &done {
            self.doubt(error);
        }
        done
    }

    /// Has the connection replaced if this error can lie in what it holds of the file.
    pub(super) fn doubt(&mut self, error: &StoreError) {
        if matches!(error.kind(), StoreErrorKind::Io | StoreErrorKind::Corrupt) {
            self.lose();
        }
    }

    /// Brings what the log holds into the database file, as far as nobody else is in the way and there is room; where it
    /// is not possible the log keeps it.
    pub(super) fn empty_the_log(&mut self) {
        if let State::Open(connection) = &self.state
            && !self.place.is_inherited()
        {
            let emptied =
                connection.busy_timeout(Duration::ZERO).and_then(|()| write::truncate_log(connection));
            // What was committed lies in the log, synced: nobody is told of an error that loses nothing.
            drop(emptied);
        }
    }

    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        if self.place.is_inherited() {
            return Err(StoreErrorKind::Forked.into());
        }
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(connection) | State::Lost(Some(connection)) => {
                connection.close().map_err(|(_, error)| store_error(error))
            }
            State::Lost(None) | State::Closed => Ok(()),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.place.is_inherited() {
            // The parent's connection: it must not be closed here.
            std::mem::forget(std::mem::replace(&mut self.state, State::Closed));
        }
    }
}

//! The outbox: what is to be told is written with the change that it tells of, and told afterwards, until it was.

mod alarm;
mod breaker;
mod enclose;
mod entry;
mod notices;
mod patterns;
mod queue;
mod sweep;
mod tally;
mod warnings;

use crate::crypto;
use crate::error::{ManageError, ReadError};
use crate::id::RequestId;
use crate::records::Records;
use crate::store::{Changeset, CommitError, Revision};

pub(crate) use alarm::raise;
pub(crate) use breaker::{Breaker, FAILURES};
pub(crate) use enclose::enclose;
pub(crate) use entry::{EntryState, OutboxEntry};
pub(crate) use notices::{notices, plan};
pub(crate) use queue::{dead_letters, is_moot, next_due, pick};
pub(crate) use sweep::sweep;
pub(crate) use warnings::{Warnings, note_warnings};

/// What became of a commit of a tick, or of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    Done(Revision),
    /// Somebody else was at the same rows; nothing was written.
    Conflict,
}

/// How often something is decided again while others are at the same rows.
const ATTEMPTS: usize = 20;

/// Commits what no act of somebody's is, unless there is nothing to write.
pub(crate) fn commit(records: &Records, changeset: &Changeset) -> Result<Committed, ManageError> {
    if changeset.is_empty() {
        return Ok(Committed::Done(Revision(0)));
    }
    answer(records.store.commit(changeset))
}

/// What a tick makes of the store's answer to a commit.
pub(crate) fn answer(committed: Result<Revision, CommitError>) -> Result<Committed, ManageError> {
    match committed {
        Ok(revision) => Ok(Committed::Done(revision)),
        Err(CommitError::Conflict { .. }) => Ok(Committed::Conflict),
        Err(CommitError::Seal(error)) => Err(ReadError::from(error).into()),
        Err(CommitError::NotWritten(error)) => Err(ManageError::NotWritten(error)),
        // A tick repeats itself: what this one did not do, the next one finds due, and what is still to be told, too.
        Err(CommitError::Unknown(source)) => {
            let request = format!("tick_{}", crate::encode::hex(&crypto::random_bytes::<8>()?));
            Err(ManageError::OutcomeUnknown { request: RequestId::new(request)?, source })
        }
    }
}

//! A step: so many rows are looked at, and those of an older generation written again.

use std::ops::ControlFlow;

use crate::error::{ManageError, ReadError};
use crate::outbox::{self, Committed};
use crate::records::{Record as _, Records, Stored, read};
use crate::rewrite::pass::{Next, Phase, RewriteRecord, Rewriting, next, stored};
use crate::seal::SealedCopy;
use crate::store::{Changeset, CommitError, Draft, Revision, RowFilter, RowKind, RowRef};
use crate::time::Timestamp;

/// How many rows one commit writes again, and how many such commits one tick makes.
const BATCH: usize = 250;
const BATCHES: usize = 4;
/// How many rows are looked at for one commit: to look costs a hundredth of writing.
const LOOKED: usize = 5_000;

/// What a step has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) rewritten: usize,
    /// Rows that were left as they are, because they cannot be believed.
    pub(crate) faults: usize,
    /// How far the pass has come, where one is under way or has just ended.
    pub(crate) progress: Option<Rewriting>,
    pub(crate) more: bool,
    pub(crate) next_due: Option<Timestamp>,
}

/// One bounded step towards all rows being written under the current generation: at most a thousand are written, and
/// twenty thousand looked at. Where nothing was written under an older one, it reads the head and at most one row.
pub(crate) fn step(records: &Records, now: Timestamp) -> Result<Step, ManageError> {
    let mut done = Step::default();
    let head = records.store.head()?.ok_or(ReadError::NotFounded)?;
    let body = head.read(&records.keyring).map_err(ReadError::of_head)?;
    let current = records.keyring.current();
    if body.last_before(current, head.revision).is_none() {
        return Ok(done);
    }
    let (pass, mut at) = stored(records)?;
    let mut pass = match next(pass.as_ref(), current, (&body, head.revision), now) {
        Next::Nothing => return Ok(done),
        Next::Later(due) => {
            done.next_due = Some(due);
            return Ok(done);
        }
        Next::Go(pass) => pass,
    };
    for _ in 0..BATCHES {
        let found = look(records, &mut pass)?;
        if found.is_end {
            pass.turn(now);
        }
        match write(records, &mut pass, at, found.old)? {
            Some((revision, rewritten)) => {
                at = Some(revision);
                done.rewritten += rewritten;
                done.faults += found.faults;
                done.progress = Some(pass.progress());
                done.more = pass.phase != Phase::Over;
            }
            // Another process is at this pass: one of both is enough.
            None => {
                done.more = true;
                break;
            }
        }
        if !done.more {
            break;
        }
    }
    Ok(done)
}

/// What a look at the next rows has found.
#[derive(Default)]
struct Found {
    old: Vec<(Draft, Revision)>,
    faults: usize,
    /// Whether there are no more rows.
    is_end: bool,
}

/// Goes on through the rows, and finds those that are to be written again.
fn look(records: &Records, pass: &mut RewriteRecord) -> Result<Found, ManageError> {
    let mut found = Found::default();
    let (mut looked, phase) = (0, pass.phase);
    let from = pass.kind;
    for kind in RowKind::ALL.into_iter().filter(|kind| kind.code() >= from) {
        let mut is_whole = true;
        if kind.code() > pass.kind {
            (pass.kind, pass.after) = (kind.code(), String::new());
        }
        let behind = std::mem::take(&mut pass.after);
        let mut last = None;
        let mut failed = None;
        records.store.scan(kind, RowFilter::All { after: Some(&behind) }, &mut |row| {
            if looked == LOOKED || found.old.len() == BATCH {
                is_whole = false;
                return ControlFlow::Break(());
            }
            looked += 1;
            let last = last.get_or_insert_with(String::new);
            last.clear();
            last.push_str(row.id);
            match phase {
                _ if !is_old(records, &row) => {}
                Phase::Count => pass.counted += 1,
                Phase::Write | Phase::Over => match again(records, &row) {
                    Ok(Some(draft)) => found.old.push((draft, row.revision)),
                    Ok(None) => found.faults += 1,
                    Err(error) => failed = Some(error),
                },
            }
            if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        pass.after = last.unwrap_or(behind);
        if !is_whole {
            break;
        }
        found.is_end = Some(&kind) == RowKind::ALL.last();
    }
    pass.rewritten += found.old.len() as u64;
    pass.faults += found.faults as u64;
    Ok(found)
}

/// Whether something of a row is of an older generation: its MAC, or the seal of a secret, which may be older.
fn is_old(records: &Records, row: &RowRef<'_>) -> bool {
    let (keyring, current) = (&records.keyring, records.keyring.current());
    let is_older = |copy: Stored<SealedCopy>| copy.record.generation() < current;
    row.mac.generation < current
        || row.kind == RowKind::Sealed && read::<SealedCopy>(row, keyring).is_ok_and(is_older)
}

/// The row as it is to be written again: as it is, but for a sealed secret, which is sealed anew. Nothing where its MAC is
/// wrong, or the secret cannot be opened: a row that was edited must not come by a MAC that is right.
fn again(records: &Records, row: &RowRef<'_>) -> Result<Option<Draft>, ManageError> {
    let keyring = &records.keyring;
    if row.verify(keyring).is_err() {
        return Ok(None);
    }
    if row.kind != RowKind::Sealed {
        let row = row.to_row();
        return Ok(Some(Draft { kind: row.kind, id: row.id, index: row.index, body: row.body }));
    }
    let Ok(copy) = read::<SealedCopy>(row, keyring) else { return Ok(None) };
    Ok(copy.record.sealed_anew(keyring)?.map(|copy| copy.draft()))
}

/// Writes rows again, and in the same commit where the pass stands. Rows that others have replaced meanwhile are left
/// out: what they wrote counts. Nothing where another process has taken the pass farther.
fn write(
    records: &Records,
    pass: &mut RewriteRecord,
    at: Option<Revision>,
    mut old: Vec<(Draft, Revision)>,
) -> Result<Option<(Revision, usize)>, ManageError> {
    loop {
        let mut changeset = Changeset::new(&records.keyring);
        match at {
            Some(revision) => changeset.replace(pass.draft(), revision),
            None => changeset.insert(pass.draft()),
        }
        old.iter().for_each(|(draft, revision)| changeset.rewrite(draft.clone(), *revision));
        match records.store.commit(&changeset) {
            Ok(revision) => return Ok(Some((revision, old.len()))),
            Err(CommitError::Conflict { kind, id }) => {
                let before = old.len();
                old.retain(|(draft, _)| (draft.kind, &draft.id) != (kind, &id));
                if old.len() == before {
                    return Ok(None);
                }
                pass.leave_out(1);
            }
            Err(error) => {
                return outbox::answer(Err(error)).map(|committed| match committed {
                    Committed::Done(revision) => Some((revision, old.len())),
                    Committed::Conflict => None,
                });
            }
        }
    }
}

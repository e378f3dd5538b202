//! Applying: what is due is written, in batches of one commit each.

use crate::actor::Context;
use crate::crypto;
use crate::due;
use crate::error::{ManageError, ReadError};
use crate::event::{Event, EventKind};
use crate::id::RequestId;
use crate::outbox;
use crate::records::{Records, StoredFamily};
use crate::rotate::plan::{ClockState, Due, clock_state, due, family, next_due};
use crate::store::{Changeset, CommitError};
use crate::time::Timestamp;
use crate::version::EndReason;

/// What a tick did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TickReport {
    /// The time that it acted on.
    pub at: Timestamp,
    /// How the clock stood: unless [`ClockState::Steady`], nothing was written.
    pub clock: ClockState,
    /// Versions recorded as expired.
    pub expired: usize,
    /// Versions recorded as retired: their grace was over.
    pub retired: usize,
    /// Rotations recorded as completed.
    pub completed: usize,
    /// Leftover rows removed: old request ids, sealed copies that had served their time.
    pub cleaned: usize,
    /// Counts moved to the hours, days and totals in which they are kept.
    pub rolled_up: usize,
    /// Notifications that time alone brought about: versions that end soon, keys that nobody uses.
    pub noticed: usize,
    /// Notifications that were told and acknowledged, on the channels that are served here.
    pub notified: usize,
    /// Attempts to tell that failed and will be repeated.
    pub retried: usize,
    /// Notifications that became dead letters.
    pub dead: usize,
    /// Notifications that will never be told: nobody served their channel for 30 days, or too many waited on it.
    pub dropped: usize,
    /// Due things left to another process that was at them too, or to the next tick.
    pub deferred: usize,
    /// Due rows left alone because they were edited, or written under a master key that is not held.
    pub faults: usize,
    /// When something is due next; a tick before that has nothing to do but advance the high-water mark and roll up usage.
    pub next_due: Option<Timestamp>,
    /// Whether more is due already: tick again.
    pub more: bool,
}

/// How many keys one commit settles.
const BATCH: usize = 250;
/// How many counts one commit rolls up, so that nobody waits long for it; and how many such commits a tick makes.
const ROLL_UP: usize = 2_000;
const ROLL_UPS: usize = 10;
/// How often a batch is decided again when others are at the same keys.
const ATTEMPTS: usize = 20;
/// Deletions that the feed keeps for followers; one that is farther behind loads anew.
const FEED_KEPT: u64 = 100_000;

/// One bounded, idempotent step of everything that is due at `now`.
pub(crate) fn tick(records: &Records, now: Timestamp, limit: usize) -> Result<TickReport, ManageError> {
    let mark = records.head()?.high_water;
    let mut report = TickReport {
        at: now,
        clock: clock_state(now, mark),
        expired: 0,
        retired: 0,
        completed: 0,
        cleaned: 0,
        rolled_up: 0,
        noticed: 0,
        notified: 0,
        retried: 0,
        dead: 0,
        dropped: 0,
        deferred: 0,
        faults: 0,
        next_due: None,
        more: false,
    };
    if report.clock != ClockState::Steady {
        return Ok(report);
    }
    let found = due(records, now, limit)?;
    (report.faults, report.more) = (found.faults, found.more);
    let Due { families, leftovers, .. } = found;
    for batch in families.chunks(BATCH) {
        settle(records, batch, now, &mut report)?;
    }
    for batch in leftovers.chunks(BATCH) {
        let mut changeset = Changeset::new(&records.keyring);
        batch.iter().for_each(|(kind, id, revision)| changeset.delete(*kind, id.clone(), *revision));
        match commit(records, changeset, now)? {
            Committed::Done => report.cleaned += batch.len(),
            Committed::Conflict => report.deferred += batch.len(),
        }
    }
    // The mark moves even when nothing is due, so that a clock that goes back later is noticed.
    let head = records.head()?;
    if head.high_water < now {
        commit(records, Changeset::new(&records.keyring), now)?;
    }
    for step in 1..=ROLL_UPS {
        let moved = records.store.roll_up_usage(now, ROLL_UP)?;
        report.rolled_up += moved;
        if moved < ROLL_UP {
            break;
        }
        report.more |= step == ROLL_UPS;
    }
    records.store.scrub()?;
    report.more |= report.deferred > 0;
    report.next_due = next_due(records, now)?;
    Ok(report)
}

enum Committed {
    Done,
    Conflict,
}

/// Commits, with the mark advanced if it is behind.
fn commit(records: &Records, mut changeset: Changeset, now: Timestamp) -> Result<Committed, ManageError> {
    let head = records.store.head()?.ok_or(ReadError::NotFounded)?;
    let body = head.read(&records.keyring).map_err(ReadError::of_head)?;
    if body.high_water < now {
        changeset.advance_clock(now);
    }
    if head.revision.0.saturating_sub(head.floor.0) > 2 * FEED_KEPT {
        changeset.raise_floor(crate::store::Revision(head.revision.0 - FEED_KEPT));
    }
    if changeset.is_empty() {
        return Ok(Committed::Done);
    }
    outbox::enclose(records, &mut changeset, now);
    match records.store.commit(&changeset) {
        Ok(_) => Ok(Committed::Done),
        Err(CommitError::Conflict { .. }) => Ok(Committed::Conflict),
        Err(CommitError::Seal(error)) => Err(ReadError::from(error).into()),
        Err(CommitError::NotWritten(error)) => Err(ManageError::NotWritten(error)),
        // A tick repeats itself: what this one did not do, the next one finds due.
        Err(CommitError::Unknown(source)) => {
            Err(ManageError::OutcomeUnknown { request: tick_name()?, source })
        }
    }
}

fn tick_name() -> Result<RequestId, ManageError> {
    Ok(RequestId::new(format!("tick_{}", crate::encode::hex(&crypto::random_bytes::<8>()?)))?)
}

/// Records what time has made of these keys; those that another process settled meanwhile are found settled.
fn settle(
    records: &Records,
    due: &[StoredFamily],
    now: Timestamp,
    report: &mut TickReport,
) -> Result<(), ManageError> {
    let context = Context::system();
    let mut current: Vec<StoredFamily> = due.to_vec();
    for _ in 0..ATTEMPTS {
        let mut changeset = Changeset::new(&records.keyring);
        let mut events = Vec::new();
        for stored in &current {
            let mut after = stored.family.clone();
            let transitions = due::plan(&mut after, now);
            if !transitions.is_empty() {
                stored.write(&after, &mut changeset);
                events.extend(transitions.iter().map(|step| Event::of_key(now, step, &after, &context)));
            }
        }
        events.iter().for_each(|event| changeset.record(event.clone()));
        if let Committed::Done = commit(records, changeset, now)? {
            let count = |wanted: fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
            report.expired += count(|event| event.end_reason == Some(EndReason::Expired));
            report.retired += count(|event| event.end_reason == Some(EndReason::Retired));
            report.completed += count(|event| event.kind == EventKind::RotationCompleted);
            return Ok(());
        }
        current.clear();
        for stored in due {
            match family(records, stored.family.key.id)? {
                Some(stored) => current.push(stored),
                None => report.faults += 1,
            }
        }
    }
    report.deferred += due.len();
    Ok(())
}

//! Planning: what a tick would attempt at a given time, without writing anything.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::actor::Context;
use crate::due;
use crate::error::{ManageError, ReadError};
use crate::event::Event;
use crate::id::KeyId;
use crate::key::KeyRecord;
use crate::notification::Notification;
use crate::records::{Record, Records, StoredFamily, read};
use crate::request::RequestRecord;
use crate::seal::SealedCopy;
use crate::store::{RowFilter, RowKind};
use crate::time::{Timestamp, earlier};

/// How the clock stands to the high-water mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockState {
    /// At the mark or after it: a tick acts.
    Steady,
    /// Before the mark: a tick writes nothing.
    Behind {
        /// The high-water mark.
        mark: Timestamp,
    },
    /// More than 30 days after the mark: a tick writes nothing until the host confirms it with `confirm_clock`.
    Jumped {
        /// The high-water mark.
        mark: Timestamp,
    },
}

/// The farthest that the clock may be ahead of the mark without being confirmed.
const MAX_STEP: Duration = Duration::from_secs(30 * 86_400);

pub(crate) fn clock_state(now: Timestamp, mark: Timestamp) -> ClockState {
    if now < mark {
        ClockState::Behind { mark }
    } else if now.since(mark) > MAX_STEP {
        ClockState::Jumped { mark }
    } else {
        ClockState::Steady
    }
}

/// What a tick at a given time would attempt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The time that it is for.
    pub at: Timestamp,
    /// Whether a tick would act on that time at all.
    pub clock: ClockState,
    /// What would be recorded, in the order of the deadlines of the keys concerned.
    pub events: Vec<Event>,
    /// What time alone makes worth telling: versions that end soon, keys that nobody uses.
    pub notices: Vec<Notification>,
    /// When something is due after that time.
    pub next_due: Option<Timestamp>,
    /// Whether more is due than one tick does.
    pub more: bool,
}

/// What is due, as one tick takes it up.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) families: Vec<StoredFamily>,
    /// Rows that have served their time: requests and sealed copies.
    pub(crate) leftovers: Vec<(RowKind, String, crate::store::Revision)>,
    /// Due rows that cannot be believed, and are left alone.
    pub(crate) faults: usize,
    pub(crate) more: bool,
}

/// The first `limit` things that are due at `t`.
pub(crate) fn due(records: &Records, t: Timestamp, limit: usize) -> Result<Due, ManageError> {
    let mut found = Due::default();
    due_families(records, t, limit, &mut found)?;
    let mut faults = found.faults;
    let leftovers = &mut found.leftovers;
    let mut leftover = |kind, id, revision| leftovers.push((kind, id, revision));
    let more = each_due::<SealedCopy>(records, t, limit, &mut faults, |copy, revision| {
        leftover(SealedCopy::KIND, copy.row_id(), revision);
    })?;
    let rest = each_due::<RequestRecord>(records, t, limit, &mut faults, |request, revision| {
        leftover(RequestRecord::KIND, request.row_id(), revision);
    })?;
    found.more |= more || rest;
    found.faults = faults;
    Ok(found)
}

/// Keys that are due, whole. Those that cannot be believed are counted and passed by, so that no number of them
/// keeps the others waiting.
fn due_families(records: &Records, t: Timestamp, limit: usize, found: &mut Due) -> Result<(), ManageError> {
    const PAGE: usize = 500;
    let mut last: Option<(Timestamp, String)> = None;
    loop {
        let after = last.as_ref().map(|(due, id)| (*due, id.as_str()));
        let mut page = Vec::new();
        records.store.scan(RowKind::Key, RowFilter::Due { by: t, after }, &mut |row| {
            if page.len() == PAGE {
                return ControlFlow::Break(());
            }
            let key = read::<KeyRecord>(&row, &records.keyring).map(|stored| stored.record.id);
            page.push((row.index.due_at.unwrap_or(t), row.id.to_owned(), key.ok()));
            ControlFlow::Continue(())
        })?;
        let exhausted = page.len() < PAGE;
        for (due, id, key) in page {
            let family = key.map(|key| family(records, key)).transpose()?.flatten();
            match family {
                None => found.faults += 1,
                Some(_) if found.families.len() == limit => {
                    found.more = true;
                    return Ok(());
                }
                Some(family) => found.families.push(family),
            }
            last = Some((due, id));
        }
        if exhausted {
            return Ok(());
        }
    }
}

/// Rows of one kind that are due; says whether there are more than `limit`. Rows that cannot be believed are
/// counted and passed by, so that they do not keep the others waiting.
fn each_due<R: Record>(
    records: &Records,
    t: Timestamp,
    limit: usize,
    faults: &mut usize,
    mut each: impl FnMut(R, crate::store::Revision),
) -> Result<bool, ManageError> {
    let (mut taken, mut more) = (0, false);
    records.store.scan(R::KIND, RowFilter::Due { by: t, after: None }, &mut |row| {
        if taken == limit {
            more = true;
            return ControlFlow::Break(());
        }
        match read::<R>(&row, &records.keyring) {
            Ok(stored) => {
                taken += 1;
                each(stored.record, stored.revision);
            }
            Err(_) => *faults += 1,
        }
        ControlFlow::Continue(())
    })?;
    Ok(more)
}

/// When something is due after `t`.
pub(crate) fn next_due(records: &Records, t: Timestamp) -> Result<Option<Timestamp>, ManageError> {
    let mut next = None;
    for kind in [RowKind::Key, RowKind::Sealed, RowKind::Request] {
        let mut first = None;
        // No id sorts after this one, so the scan begins behind `t`.
        let filter = RowFilter::Due { by: Timestamp::MAX, after: Some((t, "\u{10FFFF}")) };
        records.store.scan(kind, filter, &mut |row| {
            first = row.index.due_at;
            ControlFlow::Break(())
        })?;
        next = earlier(next, first);
    }
    Ok(next)
}

/// A due key, if it can still be had.
pub(crate) fn family(records: &Records, key: KeyId) -> Result<Option<StoredFamily>, ManageError> {
    match records.family(key) {
        Ok(family) => Ok(family),
        Err(ReadError::Tampered { .. } | ReadError::KeyringBehind(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What `tick(now)` would attempt; nothing is written.
pub(crate) fn plan(records: &Records, now: Timestamp, limit: usize) -> Result<Plan, ManageError> {
    let clock = clock_state(now, records.head()?.high_water);
    let mut plan = Plan {
        at: now,
        clock,
        events: Vec::new(),
        notices: Vec::new(),
        next_due: next_due(records, now)?,
        more: false,
    };
    if clock == ClockState::Steady {
        let due = due(records, now, limit)?;
        plan.more = due.more;
        let context = Context::system();
        for stored in due.families {
            let mut after = stored.family;
            let transitions = due::plan(&mut after, now);
            plan.events.extend(transitions.iter().map(|step| Event::of_key(now, step, &after, &context)));
        }
    }
    Ok(plan)
}

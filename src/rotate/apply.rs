//! Applying: what is due is written, in batches of one commit each.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::actor::Context;
use crate::crypto;
use crate::due;
use crate::error::{ManageError, ReadError};
use crate::event::Event;
use crate::id::{KeyId, RotationId};
use crate::key::KeyRecord;
use crate::lifecycle::{Family, RotationOrder, Transition};
use crate::outbox::{self, Committed};
use crate::policy::SweepRecord;
use crate::records::{Record as _, Records, StoredFamily, believed, read};
use crate::rotate::lookup::Lookup;
use crate::rotate::mint::mint;
use crate::rotate::plan::{ClockState, Due, PlannedDelivery, due, family, next_due};
use crate::rotate::report::TickReport;
use crate::seal::SealedCopy;
use crate::store::{Changeset, Revision, RowFilter, RowKind, StoreError};
use crate::time::Timestamp;
use crate::version::VersionRecord;

/// How many keys one commit settles.
const BATCH: usize = 250;
/// How long after the last moment to claim it a sealed secret is kept at most.
const SEALED_KEPT: Duration = Duration::from_secs(86_400);
/// How many keys one step of a sweep looks at.
const SWEPT: usize = 500;
/// How many counts one commit rolls up, so that nobody waits long for it; and how many such commits a tick makes.
const ROLL_UP: usize = 2_000;
const ROLL_UPS: usize = 10;
/// How often a batch is decided again when others are at the same keys.
const ATTEMPTS: usize = 20;
/// Deletions that the feed keeps for followers; one that is farther behind loads anew.
const FEED_KEPT: u64 = 100_000;

/// One bounded, idempotent step of everything that is due at `now`, and the deliveries to the sink that are due after it.
pub(crate) fn tick(
    records: &Records,
    now: Timestamp,
    limit: usize,
) -> Result<(TickReport, Vec<PlannedDelivery>), ManageError> {
    let mark = records.head()?.high_water;
    let mut report = TickReport::new(now, mark);
    if report.clock != ClockState::Steady {
        return Ok((report, Vec::new()));
    }
    let mut lookup = Lookup::new(records)?;
    let found = due(records, &mut lookup, now, limit)?;
    (report.faults, report.more) = (found.faults, found.more);
    report.deferred = found.deferred.len();
    let Due { keys, leftovers, deliveries, .. } = found;
    let mut conflicts = 0;
    let mut keys = keys.into_iter().map(|key| key.stored).peekable();
    while keys.peek().is_some() {
        let batch = keys.by_ref().take(BATCH).collect();
        conflicts += settle(records, &mut lookup, batch, now, &mut report)?;
    }
    for batch in leftovers.chunks(BATCH) {
        let mut changeset = Changeset::new(&records.keyring);
        batch.iter().for_each(|(kind, id, revision)| changeset.delete(*kind, id.clone(), *revision));
        match commit(records, changeset, now)? {
            Committed::Done(_) => report.cleaned += batch.len(),
            Committed::Conflict => conflicts += batch.len(),
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
    report.more |= sweep(records, &mut lookup, now)?;
    report.more |= conflicts > 0;
    report.deferred += conflicts;
    report.next_due = next_due(records, now)?;
    Ok((report, deliveries))
}

/// Commits what a tick does at its own time: with the mark advanced if it is behind.
pub(super) fn commit(
    records: &Records,
    mut changeset: Changeset,
    now: Timestamp,
) -> Result<Committed, ManageError> {
    let head = records.store.head()?.ok_or(ReadError::NotFounded)?;
    let body = head.read(&records.keyring).map_err(ReadError::of_head)?;
    if body.high_water < now {
        changeset.advance_clock(now);
    }
    if head.revision.0.saturating_sub(head.floor.0) > 2 * FEED_KEPT {
        changeset.raise_floor(Revision(head.revision.0 - FEED_KEPT));
    }
    commit_as_of(records, changeset, now)
}

/// Commits what happened at `t`, without moving the mark: only a tick's own time does.
pub(super) fn commit_as_of(
    records: &Records,
    mut changeset: Changeset,
    t: Timestamp,
) -> Result<Committed, ManageError> {
    outbox::enclose(records, &mut changeset, t);
    outbox::commit(records, &changeset)
}

/// Records what time has made of these keys; those that another process settled meanwhile are found settled. Returns how
/// many were left, because others were at them again and again.
fn settle(
    records: &Records,
    lookup: &mut Lookup<'_>,
    mut batch: Vec<StoredFamily>,
    now: Timestamp,
    report: &mut TickReport,
) -> Result<usize, ManageError> {
    let context = Context::system();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            let mut again = Vec::with_capacity(batch.len());
            for stored in batch {
                match family(records, stored.family.key.id)? {
                    Some(stored) => again.push(stored),
                    None => report.faults += 1,
                }
            }
            batch = again;
        }
        let mut changeset = Changeset::new(&records.keyring);
        let (mut events, mut done) = (Vec::new(), report.clone());
        lookup.begin(attempt > 0);
        for stored in &batch {
            let Some((after, transitions)) = decide(records, lookup, stored, now, &mut changeset)? else {
                continue;
            };
            done.lapsed += usize::from(after.key.lapsed && !stored.family.key.lapsed);
            events.extend(transitions.iter().map(|step| Event::of_key(now, step, &after, &context)));
        }
        events.iter().for_each(|event| done.count(event));
        events.into_iter().for_each(|event| changeset.record(event));
        if let Committed::Done(_) = commit(records, changeset, now)? {
            *report = done;
            return Ok(0);
        }
    }
    Ok(batch.len())
}

/// Decides what time has made of one key, and writes it into the changeset, with the secret that was made, sealed.
fn decide(
    records: &Records,
    lookup: &mut Lookup<'_>,
    stored: &StoredFamily,
    now: Timestamp,
    changeset: &mut Changeset,
) -> Result<Option<(Family, Vec<Transition>)>, ManageError> {
    let mut after = stored.family.clone();
    let (key, prefix) = (after.key.id, after.key.prefix);
    let mut fresh = None;
    let outcome = lookup.plan(&mut after, now, |minted| {
        let order = RotationOrder::planned(RotationId::new(now, crypto::random_bytes()?));
        if !minted {
            return Ok((order, None));
        }
        let (token, minted) = mint(&records.keyring, prefix)?;
        fresh = Some(token);
        Ok((order, Some(minted)))
    })?;
    if after == stored.family {
        return Ok(None);
    }
    stored.write(&after, changeset);
    lookup.rely(&after.key, &outcome.transitions, changeset);
    let withdrawn: Vec<_> = stored.family.versions.iter().filter(|version| version.is_waiting()).collect();
    let is_over = |number| after.version(number).is_none_or(VersionRecord::is_ended);
    if withdrawn.iter().any(|version| is_over(version.number)) {
        records.delete_sealed(changeset, key, |copy| is_over(copy.version) && copy.goes_with(None))?;
    }
    if let (Some(token), Some(version)) = (fresh, after.versions.last()) {
        // It goes with its rotation; whoever ends that otherwise leaves it to a later tick.
        let claim_by = after.open_rotation().and_then(|open| open.claim_by).unwrap_or(now);
        let until = claim_by.plus(SEALED_KEPT).unwrap_or(Timestamp::MAX);
        let copy = SealedCopy::for_claim(&records.keyring, &token, key, version.number, until)?;
        changeset.insert(copy.draft());
    }
    Ok(Some((after, outcome.transitions)))
}

/// Carries a switch of the whole deployment on to the next keys; says whether there are more.
fn sweep(records: &Records, lookup: &mut Lookup<'_>, now: Timestamp) -> Result<bool, ManageError> {
    let Some(stored) = believed(records.get::<SweepRecord>(SweepRecord::ROW_ID))? else { return Ok(false) };
    let after = stored.record.after.map(|key| key.to_string());
    let mut keys = Vec::new();
    records.store.scan(RowKind::Key, RowFilter::All { after: after.as_deref() }, &mut |row| {
        if keys.len() == SWEPT {
            return ControlFlow::Break(());
        }
        keys.push((row.id.parse::<KeyId>().ok(), read::<KeyRecord>(&row, &records.keyring).ok()));
        ControlFlow::Continue(())
    })?;
    let mut changeset = Changeset::new(&records.keyring);
    lookup.begin(true);
    for key in keys.iter().filter_map(|(_, key)| key.as_ref()).map(|key| &key.record) {
        let rotates = lookup.rotates(key)?;
        if rotates == key.rotates || key.revoked_at.is_some() {
            continue;
        }
        let Some(stored) = family(records, key.id)? else { continue };
        let mut after = stored.family.clone();
        due::switch(&mut after, rotates, now);
        if after != stored.family {
            stored.write(&after, &mut changeset);
        }
    }
    let last = keys.iter().filter_map(|(id, _)| *id).next_back();
    if keys.len() == SWEPT {
        let record = SweepRecord { after: last, ..stored.record };
        changeset.replace(record.draft(), stored.revision);
    } else {
        changeset.delete(SweepRecord::KIND, SweepRecord::ROW_ID, stored.revision);
    }
    commit(records, changeset, now)?;
    // Where somebody was in the way, the next tick goes on from the same place.
    Ok(true)
}

/// What an attempt comes to that is repeated while somebody is in its way; nothing where it cannot be had.
pub(super) fn repeated<T>(
    mut attempt: impl FnMut() -> Result<Option<T>, ManageError>,
) -> Result<Option<T>, StoreError> {
    for _ in 0..ATTEMPTS {
        match attempt() {
            Ok(Some(done)) => return Ok(Some(done)),
            Ok(None) => {}
            Err(
                ManageError::Read(ReadError::Store(error))
                | ManageError::NotWritten(error)
                | ManageError::OutcomeUnknown { source: error, .. },
            ) => return Err(error),
            Err(_) => break,
        }
    }
    Ok(None)
}

/// The same for several things in one commit; where that cannot be had, in halves, so that one which is always in somebody's
/// way keeps no other waiting. Tells what is done, and `alone` of each that cannot be had even by itself.
pub(super) fn each_at_last<T, D>(
    records: &Records,
    things: &[T],
    work: &mut impl FnMut(&[T]) -> Result<Option<Vec<D>>, ManageError>,
    alone: &mut impl FnMut(&T) -> Option<D>,
) -> Result<Vec<D>, StoreError> {
    if let Some(done) = repeated(|| work(things))? {
        return Ok(done);
    }
    // Under a head that cannot be believed, nothing can be had, and it is nobody's fault.
    if records.head().is_err() {
        return Ok(Vec::new());
    }
    match things {
        [] => Ok(Vec::new()),
        [one] => Ok(alone(one).into_iter().collect()),
        _ => {
            let (first, rest) = things.split_at(things.len() / 2);
            let mut done = each_at_last(records, first, work, alone)?;
            done.extend(each_at_last(records, rest, work, alone)?);
            Ok(done)
        }
    }
}

//! Delivering: a successor's secret on its way to the host's sink, under a lease and outside of any transaction.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::actor::Context;
use crate::error::ManageError;
use crate::event::{Event, EventKind};
use crate::lifecycle::{self, Family, Transition};
use crate::outbox::Committed;
use crate::records::{Records, StoredFamily, believed};
use crate::rotate::apply::{commit, commit_as_of};
use crate::rotate::lookup::Lookup;
use crate::rotate::plan::{PlannedDelivery, family};
use crate::rotate::report::TickReport;
use crate::seal::SealedCopy;
use crate::sink::{Handover, SecretSink, SinkError};
use crate::store::Changeset;
use crate::time::Timestamp;
use crate::token::SecretToken;

/// How often a commit is decided again when others are at the same key.
const ATTEMPTS: usize = 20;

/// Delivers one successor, if that is this process's turn: `now` is when the turn is taken, `then` asks for the time when
/// the sink has answered.
pub(crate) fn deliver(
    records: &Records,
    sink: &dyn SecretSink,
    delivery: PlannedDelivery,
    now: Timestamp,
    then: impl FnOnce() -> Timestamp,
    report: &mut TickReport,
) -> Result<(), ManageError> {
    let Some((leased, token)) = lease(records, delivery, now, report)? else { return Ok(()) };
    let answer = put(sink, &leased, delivery, &token);
    let t = then().max(records.head()?.high_water);
    settle(records, delivery, answer, t, report)
}

fn put(
    sink: &dyn SecretSink,
    leased: &Family,
    PlannedDelivery { key, version }: PlannedDelivery,
    secret: &SecretToken,
) -> Result<(), SinkError> {
    let open = leased.open_rotation().ok_or(SinkError::Unavailable)?;
    let handover = Handover {
        key,
        owner: leased.key.owner,
        name: &leased.key.name,
        version,
        rotation: open.id,
        valid_until: leased.version(version).and_then(|version| leased.end(version)),
        attempt: open.attempts,
        secret,
    };
    // A sink that panics has not taken the secret; what it left of itself is its own.
    catch_unwind(AssertUnwindSafe(|| sink.put(&handover))).unwrap_or(Err(SinkError::Unavailable))
}

/// Takes this process's turn, and opens the secret.
fn lease(
    records: &Records,
    PlannedDelivery { key, version }: PlannedDelivery,
    now: Timestamp,
    report: &mut TickReport,
) -> Result<Option<(Family, SecretToken)>, ManageError> {
    let Some(stored) = family(records, key)? else { return Ok(None) };
    let mut after = stored.family.clone();
    if lifecycle::take_lease(&mut after, now) != Some(version) || after == stored.family {
        return Ok(None);
    }
    let copy = believed(records.get::<SealedCopy>(&SealedCopy::claim_row_id(key, version)))?;
    let Some(token) = copy.and_then(|copy| copy.record.open(&records.keyring)) else {
        // What cannot be opened here is not a failure of the sink.
        report.faults += 1;
        return Ok(None);
    };
    let mut changeset = Changeset::new(&records.keyring);
    stored.write(&after, &mut changeset);
    match commit(records, changeset, now)? {
        Committed::Done(_) => {
            let attempts = after.open_rotation().map_or(0, |open| open.attempts);
            report.retried += usize::from(attempts > 1);
            Ok(Some((after, token)))
        }
        Committed::Conflict => {
            report.deferred += 1;
            Ok(None)
        }
    }
}

/// Records what the sink answered.
fn settle(
    records: &Records,
    delivery: PlannedDelivery,
    answer: Result<(), SinkError>,
    t: Timestamp,
    report: &mut TickReport,
) -> Result<(), ManageError> {
    let context = Context::system();
    let mut lookup = Lookup::new(records)?;
    for _ in 0..ATTEMPTS {
        let Some(stored) = family(records, delivery.key)? else { return Ok(()) };
        let mut changeset = Changeset::new(&records.keyring);
        lookup.begin(true);
        let (after, transitions) = decide(&mut lookup, &stored, delivery, answer, t)?;
        if after == stored.family {
            return Ok(());
        }
        stored.write(&after, &mut changeset);
        lookup.rely(&after.key, &transitions, &mut changeset);
        if after.version(delivery.version).is_none_or(|version| !version.is_waiting()) {
            records.delete_sealed(&mut changeset, delivery.key, |copy| copy.version == delivery.version)?;
        }
        for step in &transitions {
            let event = Event::of_key(t, step, &after, &context);
            report.activated += usize::from(event.kind == EventKind::VersionActivated);
            report.completed += usize::from(event.kind == EventKind::RotationCompleted);
            changeset.record(event);
        }
        if let Committed::Done(_) = commit_as_of(records, changeset, t)? {
            return Ok(());
        }
    }
    report.deferred += 1;
    Ok(())
}

fn decide(
    lookup: &mut Lookup<'_>,
    stored: &StoredFamily,
    delivery: PlannedDelivery,
    answer: Result<(), SinkError>,
    t: Timestamp,
) -> Result<(Family, Vec<Transition>), ManageError> {
    let mut after = stored.family.clone();
    let policy = lookup.policy_of(&after.key);
    let enabled = lookup.is_enabled(&after.key)?;
    let mut transitions = after.settle(t);
    transitions.extend(match answer {
        // Nothing is activated while the owner is suspended; the sink is asked again when it is resumed.
        Ok(()) if enabled => lifecycle::acknowledge(&mut after, delivery.version, &policy, t)?,
        _ => lifecycle::put_failed(&mut after, delivery.version, t),
    });
    Ok((after, transitions))
}

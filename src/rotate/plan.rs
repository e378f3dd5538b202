//! Planning: what a tick would attempt at a given time, without writing anything.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;

use crate::actor::Context;
use crate::digest::Fingerprint;
use crate::error::{ManageError, ReadError};
use crate::event::Event;
use crate::id::{KeyId, RotationId, VersionNo};
use crate::key::KeyRecord;
use crate::lifecycle::{Family, RotationOrder, Transition};
use crate::notification::Notification;
use crate::records::{Record, Records, StoredFamily, believed, read};
use crate::request::RequestRecord;
use crate::rotate::lookup::Lookup;
use crate::rotate::mint::blank;
use crate::seal::SealedCopy;
use crate::store::{Revision, RowFilter, RowKind, UsageWriter};
use crate::time::{Timestamp, earlier};

/// How the clock stands to the high-water mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
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

/// As a half-sentence: `the clock is before …`.
impl fmt::Display for ClockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steady => f.write_str("the clock is steady"),
            Self::Behind { mark } => write!(f, "the clock is before {mark}"),
            Self::Jumped { mark } => write!(f, "the clock jumped from {mark} and is to be confirmed"),
        }
    }
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

/// What a tick at a given time would attempt. `Display` tells it to people, `Serialize` to programs.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The time that it is for.
    pub at: Timestamp,
    /// Whether a tick would act on that time at all.
    pub clock: ClockState,
    /// What would be recorded, in the order of the deadlines of the keys concerned. A rotation and a secret that would
    /// be made only then have no name yet.
    pub events: Vec<Event>,
    /// Secrets that would be given to the sink.
    pub deliveries: Vec<PlannedDelivery>,
    /// Superseded versions that would leave because nobody uses them, were it not for processes that have not told what
    /// they counted.
    pub unsettled: Vec<Unsettled>,
    /// Keys whose rotation is due and has to wait: their owner is suspended, or as many versions are valid as may.
    pub deferred: Vec<KeyId>,
    /// What time alone makes worth telling: versions that end soon, keys that nobody uses, or otherwise than before.
    pub notices: Vec<Notification>,
    /// When something is due after that time.
    pub next_due: Option<Timestamp>,
    /// Whether more is due than one tick does.
    pub more: bool,
}

/// A successor whose secret is to be given to the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PlannedDelivery {
    /// The key.
    pub key: KeyId,
    /// The successor.
    pub version: VersionNo,
}

/// A superseded version that may be unused: see [`Plan::unsettled`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Unsettled {
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: VersionNo,
    /// The processes that have told least: those whose last flush is the oldest.
    pub silent: Vec<UsageWriter>,
}

/// A line for each event, and for what keeps a key waiting.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.clock != ClockState::Steady {
            return writeln!(f, "{}: nothing, {}", self.at, self.clock);
        }
        writeln!(f, "{}", self.at)?;
        for event in &self.events {
            write!(f, "  {}", event.kind)?;
            if let Some(key) = event.key {
                write!(f, " {key}")?;
            }
            if let Some(version) = event.version {
                write!(f, " {version}")?;
            }
            match event.until {
                Some(until) => writeln!(f, " until {until}")?,
                None => writeln!(f)?,
            }
        }
        for PlannedDelivery { key, version } in &self.deliveries {
            writeln!(f, "  deliver {key} {version} to the sink")?;
        }
        for Unsettled { key, version, silent } in &self.unsettled {
            let names: Vec<_> = silent.iter().map(|writer| writer.name.as_str()).collect();
            writeln!(f, "  {key} {version} may be unused: waiting for {}", names.join(", "))?;
        }
        for key in &self.deferred {
            writeln!(f, "  {key} waits: its owner is suspended, or as many versions are valid as may")?;
        }
        match self.next_due {
            Some(next) => writeln!(f, "  then {next}"),
            None => Ok(()),
        }
    }
}

/// A key to which time has done something.
#[derive(Debug)]
pub(crate) struct DueKey {
    pub(crate) stored: StoredFamily,
    pub(crate) after: Family,
    pub(crate) transitions: Vec<Transition>,
}

/// What is due, as one tick takes it up.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) keys: Vec<DueKey>,
    pub(crate) deliveries: Vec<PlannedDelivery>,
    pub(crate) unsettled: Vec<(KeyId, VersionNo)>,
    pub(crate) deferred: Vec<KeyId>,
    /// Rows that have served their time: requests and sealed copies.
    pub(crate) leftovers: Vec<(RowKind, String, Revision)>,
    /// Due rows that cannot be believed, and are left alone.
    pub(crate) faults: usize,
    pub(crate) more: bool,
}

impl Due {
    /// Takes up what time does to a key, if it does anything; says whether it does.
    fn take(
        &mut self,
        records: &Records,
        lookup: &mut Lookup<'_>,
        stored: StoredFamily,
        t: Timestamp,
    ) -> Result<bool, ManageError> {
        let mut after = stored.family.clone();
        let key = after.key.id;
        let order = || RotationOrder::planned(RotationId::from(0));
        let outcome = lookup
            .plan(&mut after, t, |minted| Ok((order(), minted.then(|| blank(records.keyring.current())))))?;
        self.unsettled.extend(outcome.unknown.into_iter().map(|version| (key, version)));
        self.deferred.extend(outcome.deferred.then_some(key));
        if let Some(delivery) = delivery(&after, t).filter(|_| !outcome.deferred)
            && lookup.is_enabled(&after.key)?
        {
            self.deliveries.push(delivery);
        }
        let is_due = after != stored.family;
        if is_due {
            self.keys.push(DueKey { stored, after, transitions: outcome.transitions });
        }
        Ok(is_due)
    }
}

/// The delivery to the sink that is due of a key.
fn delivery(family: &Family, t: Timestamp) -> Option<PlannedDelivery> {
    let open = family.open_rotation().filter(|_| family.key.revoked_at.is_none())?;
    let is_due = open.next_put_at.is_some_and(|next| next <= t);
    let is_free = open.lease.is_none_or(|lease| !lease.holds_at(t));
    (is_due && is_free).then_some(PlannedDelivery { key: family.key.id, version: open.new? })
}

/// The first `limit` things that are due at `t`.
pub(crate) fn due(
    records: &Records,
    lookup: &mut Lookup<'_>,
    t: Timestamp,
    limit: usize,
) -> Result<Due, ManageError> {
    let mut found = Due::default();
    due_keys(records, lookup, t, limit, &mut found)?;
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
fn due_keys(
    records: &Records,
    lookup: &mut Lookup<'_>,
    t: Timestamp,
    limit: usize,
    found: &mut Due,
) -> Result<(), ManageError> {
    const PAGE: usize = 500;
    let mut last: Option<(Timestamp, String)> = None;
    loop {
        let after = last.as_ref().map(|(due, id)| (*due, id.as_str()));
        let mut page = Vec::new();
        records.store.scan(RowKind::Key, RowFilter::Due { by: t, after }, &mut |row| {
            if page.len() == PAGE {
                return ControlFlow::Break(());
            }
            let key = read::<KeyRecord>(&row, &records.keyring).ok();
            page.push((row.index.due_at.unwrap_or(t), row.id.to_owned(), key));
            ControlFlow::Continue(())
        })?;
        let exhausted = page.len() < PAGE;
        for (due, id, key) in page {
            let family = key.map(|key| believed(records.family_of(key))).transpose()?.flatten();
            match family {
                None => found.faults += 1,
                Some(_) if found.keys.len() == limit => {
                    found.more = true;
                    return Ok(());
                }
                Some(family) => drop(found.take(records, lookup, family, t)?),
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
    mut each: impl FnMut(R, Revision),
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
    for kind in [RowKind::Key, RowKind::Sealed, RowKind::Request, RowKind::Policy] {
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
pub(crate) fn family(records: &Records, key: KeyId) -> Result<Option<StoredFamily>, ReadError> {
    believed(records.family(key))
}

/// What `tick(now)` would attempt; nothing is written.
pub(crate) fn plan(records: &Records, now: Timestamp, limit: usize) -> Result<Plan, ManageError> {
    let mut plan = Plan {
        at: now,
        clock: clock_state(now, records.head()?.high_water),
        events: Vec::new(),
        notices: Vec::new(),
        deliveries: Vec::new(),
        unsettled: Vec::new(),
        deferred: Vec::new(),
        next_due: next_due(records, now)?,
        more: false,
    };
    if plan.clock != ClockState::Steady {
        return Ok(plan);
    }
    let mut lookup = Lookup::new(records)?;
    let due = due(records, &mut lookup, now, limit)?;
    plan.more = due.more;
    plan.deliveries = due.deliveries;
    plan.deferred = due.deferred;
    for (key, version) in due.unsettled {
        let writers = lookup.writers()?;
        let oldest = writers.iter().map(|writer| writer.flushed_at).min();
        let silent = writers.iter().filter(|writer| Some(writer.flushed_at) == oldest).cloned().collect();
        plan.unsettled.push(Unsettled { key, version, silent });
    }
    let context = Context::system();
    for DueKey { after, transitions, .. } in due.keys {
        plan.events.extend(transitions.iter().map(|step| {
            let event = Event::of_key(now, step, &after, &context);
            let named = |name: &Fingerprint| *name != Fingerprint::BLANK;
            Event {
                rotation: event.rotation.filter(|rotation| u128::from(*rotation) != 0),
                new_fingerprint: event.new_fingerprint.filter(named),
                ..event
            }
        }));
    }
    Ok(plan)
}

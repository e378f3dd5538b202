//! Delivering: what waits in the outbox is told, outside every transaction.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::error::ManageError;
use crate::manager::KeyManager;
use crate::notify::{Channel, Notifier, NotifyError, tell};
use crate::outbox::{self, Breaker, Committed, EntryState, FAILURES, OutboxEntry};
use crate::records::{Record, Records, Stored};
use crate::rotate::{ClockState, Plan, TickReport};
use crate::store::{Changeset, Revision};
use crate::time::{Timestamp, earlier};

/// What a delivery did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryReport {
    /// Notifications that were told and acknowledged.
    pub notified: usize,
    /// Attempts that failed and will be repeated.
    pub retried: usize,
    /// Notifications that became dead letters.
    pub dead: usize,
    /// Notifications that had become pointless, and were removed without being told.
    pub moot: usize,
    /// Rows left alone because they were edited behind the library's back.
    pub faults: usize,
    /// When something can be tried next.
    pub next_due: Option<Timestamp>,
    /// Whether more can be tried already.
    pub more: bool,
}

impl DeliveryReport {
    fn attempts(&self) -> usize {
        self.notified + self.retried + self.dead
    }

    fn add(&mut self, other: &Self) {
        self.notified += other.notified;
        self.retried += other.retried;
        self.dead += other.dead;
        self.moot += other.moot;
        self.faults += other.faults;
        self.next_due = earlier(self.next_due, other.next_due);
        self.more |= other.more;
    }
}

/// How much one delivery does at most.
#[derive(Clone, Copy)]
struct Budget {
    attempts: usize,
    /// After so long no attempt begins.
    span: Duration,
    since: Timestamp,
}

/// How many things that time brings about one tick takes up, of each sort.
const NOTICES: usize = 1_000;
/// How many times in a row a delivery gives way to others at the same rows.
const YIELDS: usize = 100;

/// What an attempt led to, and is not written yet.
struct Outcome {
    entry: OutboxEntry,
    lease: Revision,
    /// What becomes of the channel's breaker.
    breaker: Option<BreakerChange>,
}

/// What became of taking something to be tried.
enum Taken {
    /// It is to be tried here, and nowhere else while the lease holds.
    Here(Box<OutboxEntry>, Revision),
    /// It was not worth telling any more, and is gone.
    Moot,
    ByOthers,
}

enum BreakerChange {
    Open(Breaker, Option<Revision>),
    Close(Revision),
}

impl KeyManager {
    /// Tells what waits on a channel of this manager, at most 1000 notifications or for a minute; the ticks of all
    /// processes do the same in smaller portions. Call it from any thread or process, as often as you like: a
    /// notification that somebody is telling is left alone for a minute, those of one key are told in their order, and
    /// a channel whose receiver fails again and again pauses.
    ///
    /// # Errors
    /// [`ManageError`] when the channel is not registered with a notifier here, or the store failed; what was told and
    /// could not be acknowledged is told again, with the same id.
    pub fn deliver(&self, channel: &str) -> Result<DeliveryReport, ManageError> {
        let found = self.inner.records.channels.get(channel);
        let served = found.and_then(|channel| Some((channel, channel.notifier.as_deref()?)));
        let (channel, notifier) =
            served.ok_or_else(|| ManageError::UnknownChannel(channel.chars().take(40).collect()))?;
        let budget = Budget { attempts: 1_000, span: Duration::from_secs(60), since: self.inner.clock.now() };
        self.serve(channel, notifier, budget)
    }

    /// What a tick does once all else is done: it finds what time has made worth telling, and delivers in turn on all
    /// channels that are served here, at most a hundred notifications each and for five seconds together.
    pub(super) fn notify_due(&self, report: &mut TickReport) -> Result<(), ManageError> {
        let records = &self.inner.records;
        let now = report.at;
        if report.clock != ClockState::Steady {
            return Ok(());
        }
        let swept = outbox::sweep(records, now, NOTICES)?;
        let (noticed, due) = outbox::notices(records, now, report.mark, NOTICES)?;
        report.cleaned += swept.cleaned;
        report.dropped = swept.dropped;
        report.noticed = noticed;
        report.more |= swept.more || due.more;
        report.next_due = earlier(report.next_due, due.next_due);
        report.next_due = earlier(report.next_due, outbox::next_due(records, now)?);
        let budget = Budget { attempts: 100, span: Duration::from_secs(5), since: now };
        let mut delivered = DeliveryReport::default();
        for channel in records.channels.iter() {
            if let Some(notifier) = channel.notifier.as_deref() {
                delivered.add(&self.serve(channel, notifier, budget)?);
            }
        }
        report.notified = delivered.notified;
        report.retried += delivered.retried;
        report.dead = delivered.dead;
        report.cleaned += delivered.moot;
        report.faults += delivered.faults;
        report.more |= delivered.more;
        report.next_due = earlier(report.next_due, delivered.next_due);
        Ok(())
    }

    /// What a tick would find worth telling.
    pub(super) fn plan_notices(&self, plan: &mut Plan) -> Result<(), ManageError> {
        if plan.clock == ClockState::Steady {
            let records = &self.inner.records;
            let noticed = outbox::plan(records, plan.at, records.head()?.high_water, NOTICES)?;
            plan.notices = noticed.told.into_iter().map(|(told, _)| told).collect();
            plan.more |= noticed.more;
            plan.next_due = earlier(plan.next_due, noticed.next_due);
            plan.next_due = earlier(plan.next_due, outbox::next_due(&self.inner.records, plan.at)?);
        }
        Ok(())
    }

    /// Tries what is due on a channel until nothing is, or the budget is spent. Each commit takes the next thing to be
    /// tried, and writes what became of the last.
    fn serve(
        &self,
        channel: &Channel,
        notifier: &dyn Notifier,
        budget: Budget,
    ) -> Result<DeliveryReport, ManageError> {
        let records = &self.inner.records;
        let mut report = DeliveryReport::default();
        let (mut failures, mut yields) = (0, 0);
        let mut last: Option<Outcome> = None;
        'pick: loop {
            let now = self.inner.clock.now();
            let picked = outbox::pick(records, &channel.name, now, budget.attempts)?;
            report.faults = picked.faults;
            report.next_due = picked.next_due;
            if picked.entries.is_empty() {
                break;
            }
            let mut failed_subjects = BTreeSet::new();
            for stored in picked.entries {
                let subject = stored.record.subject();
                if subject.as_ref().is_some_and(|subject| failed_subjects.contains(subject)) {
                    continue;
                }
                let now = self.inner.clock.now();
                if report.attempts() >= budget.attempts || now.since(budget.since) >= budget.span {
                    report.more = true;
                    break 'pick;
                }
                let (taken, lease) = match self.take(&mut last, stored, now)? {
                    Taken::Here(taken, lease) => (taken, lease),
                    Taken::Moot => {
                        report.moot += 1;
                        continue;
                    }
                    Taken::ByOthers if yields < YIELDS => {
                        yields += 1;
                        continue 'pick;
                    }
                    Taken::ByOthers => {
                        report.more = true;
                        break 'pick;
                    }
                };
                yields = 0;
                let told = tell(notifier, &taken.notification);
                let now = self.inner.clock.now();
                let entry = judged(*taken, told, now);
                let failed = entry.state == EntryState::Pending;
                failures = if failed { failures + 1 } else { 0 };
                let breaker = picked.breaker.as_ref();
                let opens = failed && (breaker.is_some() || failures >= FAILURES);
                let breaker = match (opens, breaker) {
                    (true, before) => {
                        let open = Breaker::open(&channel.name, before.map(|before| &before.record), now);
                        Some(BreakerChange::Open(open, before.map(|before| before.revision)))
                    }
                    (false, Some(before)) if !failed => Some(BreakerChange::Close(before.revision)),
                    _ => None,
                };
                count(&entry, &mut report);
                if failed {
                    failed_subjects.extend(subject);
                }
                let has_changed = breaker.is_some();
                last = Some(Outcome { entry, lease, breaker });
                if has_changed {
                    settle(records, &mut last)?;
                    continue 'pick;
                }
            }
            settle(records, &mut last)?;
        }
        settle(records, &mut last)?;
        Ok(report)
    }

    /// Takes something to be tried, and writes what became of the last in the same commit.
    fn take(
        &self,
        last: &mut Option<Outcome>,
        stored: Stored<OutboxEntry>,
        now: Timestamp,
    ) -> Result<Taken, ManageError> {
        let records = &self.inner.records;
        let Stored { record, revision } = stored;
        let is_moot = outbox::is_moot(records, &record, now);
        let taken = record.taken(now);
        let mut changeset = Changeset::new(&records.keyring);
        if let Some(outcome) = last.as_ref() {
            outcome.write(&mut changeset, true);
        }
        if is_moot {
            changeset.delete(OutboxEntry::KIND, taken.row_id(), revision);
        } else {
            changeset.replace(taken.draft(), revision);
        }
        match outbox::commit(records, &changeset)? {
            Committed::Done(lease) => {
                *last = None;
                Ok(if is_moot { Taken::Moot } else { Taken::Here(Box::new(taken), lease) })
            }
            Committed::Conflict => {
                settle(records, last)?;
                Ok(Taken::ByOthers)
            }
        }
    }
}

impl Outcome {
    fn write(&self, changeset: &mut Changeset, with_breaker: bool) {
        changeset.replace(self.entry.draft(), self.lease);
        match &self.breaker {
            Some(BreakerChange::Open(breaker, Some(before))) if with_breaker => {
                changeset.replace(breaker.draft(), *before);
            }
            Some(BreakerChange::Open(breaker, None)) if with_breaker => changeset.insert(breaker.draft()),
            Some(BreakerChange::Close(before)) if with_breaker => {
                // Its id depends on nothing but the channel's name.
                changeset.delete(Breaker::KIND, Breaker::id_of(&self.entry.channel), *before);
            }
            _ => {}
        }
    }
}

/// Writes what became of the last attempt. Where somebody else has taken it up meanwhile, because the lease was over,
/// that is left to them; where only the breaker was changed by others, the rest is written.
fn settle(records: &Records, last: &mut Option<Outcome>) -> Result<(), ManageError> {
    let Some(outcome) = last.take() else { return Ok(()) };
    for with_breaker in [true, false] {
        let mut changeset = Changeset::new(&records.keyring);
        outcome.write(&mut changeset, with_breaker);
        if let Committed::Done(_) = outbox::commit(records, &changeset)? {
            break;
        }
    }
    Ok(())
}

fn judged(taken: OutboxEntry, told: Result<(), NotifyError>, now: Timestamp) -> OutboxEntry {
    match told {
        Ok(()) => taken.delivered(now),
        Err(NotifyError::Retry { after, why }) => taken.failed(now, after, &why),
        Err(NotifyError::Permanent { why }) => taken.dead(now, &why),
    }
}

fn count(entry: &OutboxEntry, report: &mut DeliveryReport) {
    match entry.state {
        EntryState::Delivered => report.notified += 1,
        EntryState::Pending => report.retried += 1,
        EntryState::Dead => report.dead += 1,
    }
}

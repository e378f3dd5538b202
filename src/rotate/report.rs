//! The report of a tick: what it did, and whether its clock was believed.

use std::fmt;

use serde::Serialize;

use crate::event::{Event, EventKind};
use crate::rewrite::{Rewriting, Step};
use crate::rotate::plan::{ClockState, clock_state};
use crate::time::{Timestamp, earlier};
use crate::version::EndReason;

/// What a tick did. `Display` tells it to people on a line, `Serialize` to programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TickReport {
    /// The time that it acted on.
    pub at: Timestamp,
    /// How the clock stood: unless [`ClockState::Steady`], nothing was written, and nothing is done by other ticks either
    /// until the clock is set right or confirmed.
    pub clock: ClockState,
    /// Up to when others had ticked before.
    #[serde(skip)]
    pub(crate) mark: Timestamp,
    /// Rotations that began: a successor was made, or its time announced.
    pub started: usize,
    /// Successors offered to the sink: they validate from then on.
    pub offered: usize,
    /// Successors that became active.
    pub activated: usize,
    /// Rotations recorded as failed: nobody took the successor over.
    pub failed: usize,
    /// Keys for which nothing is made any more until somebody acts.
    pub lapsed: usize,
    /// Deliveries that were tried again, of secrets to the sink, or that failed and will be, of notifications.
    pub retried: usize,
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
    /// Rows of an older generation of the master key that were written again under the current one.
    pub rewritten: usize,
    /// How far all rows are brought under a new generation of the master key, while that is under way.
    pub rewriting: Option<Rewriting>,
    /// Notifications that time alone brought about: versions that end soon, keys that nobody uses.
    pub noticed: usize,
    /// Notifications that were told and acknowledged, on the channels that are served here.
    pub notified: usize,
    /// Notifications that became dead letters.
    pub dead: usize,
    /// Notifications that will never be told: nobody served their channel for 30 days, or too many waited on it.
    pub dropped: usize,
    /// Due things left to another process that was at them too, or to a later tick: also rotations whose owner is
    /// suspended.
    pub deferred: usize,
    /// Due rows left alone because they were edited, or written under a master key that is not held.
    pub faults: usize,
    /// When something is due next; a tick before that has nothing to do but advance the high-water mark and roll up usage.
    pub next_due: Option<Timestamp>,
    /// Whether more is due already: tick again.
    pub more: bool,
}

impl TickReport {
    /// Of a tick that has done nothing yet.
    pub(super) fn new(now: Timestamp, mark: Timestamp) -> Self {
        Self {
            at: now,
            clock: clock_state(now, mark),
            mark,
            started: 0,
            offered: 0,
            activated: 0,
            failed: 0,
            lapsed: 0,
            retried: 0,
            expired: 0,
            retired: 0,
            completed: 0,
            cleaned: 0,
            rolled_up: 0,
            rewritten: 0,
            rewriting: None,
            noticed: 0,
            notified: 0,
            dead: 0,
            dropped: 0,
            deferred: 0,
            faults: 0,
            next_due: None,
            more: false,
        }
    }

    /// Adds what was done for a new generation of the master key.
    pub(crate) fn add_step(&mut self, step: Step) {
        self.rewritten = step.rewritten;
        self.rewriting = step.progress;
        self.faults += step.faults;
        self.more |= step.more;
        self.next_due = earlier(self.next_due, step.next_due);
    }

    /// Counts what is recorded of a key.
    pub(super) fn count(&mut self, event: &Event) {
        match event.kind {
            EventKind::RotationStarted => self.started += 1,
            EventKind::VersionOffered => self.offered += 1,
            EventKind::VersionActivated => self.activated += 1,
            EventKind::RotationFailed => self.failed += 1,
            EventKind::RotationCompleted => self.completed += 1,
            _ => {}
        }
        match event.end_reason {
            Some(EndReason::Expired) => self.expired += 1,
            Some(EndReason::Retired) => self.retired += 1,
            _ => {}
        }
    }
}

/// What there was to do, by the names of the fields: `2027-03-25T00:00:00Z: started 3, notified 3; next 2027-03-26T…`.
impl fmt::Display for TickReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.at)?;
        if self.clock != ClockState::Steady {
            return write!(f, "nothing was done, {}", self.clock);
        }
        let counts = [
            ("started", self.started),
            ("offered", self.offered),
            ("activated", self.activated),
            ("failed", self.failed),
            ("lapsed", self.lapsed),
            ("retried", self.retried),
            ("expired", self.expired),
            ("retired", self.retired),
            ("completed", self.completed),
            ("cleaned", self.cleaned),
            ("rolled up", self.rolled_up),
            ("rewritten", self.rewritten),
            ("noticed", self.noticed),
            ("notified", self.notified),
            ("dead", self.dead),
            ("dropped", self.dropped),
            ("deferred", self.deferred),
            ("faults", self.faults),
        ];
        let told: Vec<_> = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        f.write_str(if told.is_empty() { "nothing to do" } else { "" })?;
        f.write_str(&told.join(", "))?;
        if let Some(Rewriting { generation, remaining, .. }) = self.rewriting {
            match remaining {
                None => write!(f, "; counting what is to be rewritten under {generation}")?,
                Some(0) => write!(f, "; all is rewritten under {generation}")?,
                Some(left) => write!(f, "; {left} rows left to rewrite under {generation}")?,
            }
        }
        match (self.more, self.next_due) {
            (true, _) => f.write_str("; more is due"),
            (false, Some(next)) => write!(f, "; next {next}"),
            (false, None) => Ok(()),
        }
    }
}

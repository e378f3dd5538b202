//! `tick` and `plan`: what time makes due.

use clap::Args;
use keyrota::{ClockState, KeyManager, TickReport, Timestamp};
use serde_json::{Map, Value, json};

use crate::failure::{Done, Failure};
use crate::out::{self, Out};
use crate::place::Place;
use crate::terminal::Progress;
use crate::values;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota tick
  keyrota tick --channel ops --json
  keyrota tick --confirm-clock

Ticks until nothing more is due. Name the channels that your service serves, or what happens is not told there.
Keys whose successors go into a sink are left to the process that has it.

JSON: {\"ticks\", \"at\", \"clock\", \"started\", \"offered\", \"activated\", \"failed\", \"lapsed\", \"retried\", \"expired\",
       \"retired\", \"completed\", \"cleaned\", \"rolled_up\", \"noticed\", \"notified\", \"dead\", \"dropped\", \"deferred\",
       \"faults\", \"next_due\", \"more\"}; numbers are the sums of all ticks. Exit code 1 where the clock is not believed")]
pub(crate) struct Tick {
    /// Tick once only
    #[arg(long)]
    once: bool,
    /// The clock is right although it jumped: confirm it first
    #[arg(long)]
    confirm_clock: bool,
}

/// The counts of a report, each with its name in the answer and for people.
fn counts(report: &TickReport) -> [(&'static str, &'static str, usize); 16] {
    [
        ("started", "rotations begun", report.started),
        ("offered", "offered to the sink", report.offered),
        ("activated", "successors activated", report.activated),
        ("failed", "rotations failed", report.failed),
        ("lapsed", "keys lapsed", report.lapsed),
        ("retried", "deliveries tried again", report.retried),
        ("expired", "versions expired", report.expired),
        ("retired", "versions retired", report.retired),
        ("completed", "rotations completed", report.completed),
        ("cleaned", "leftovers removed", report.cleaned),
        ("rolled_up", "counts rolled up", report.rolled_up),
        ("noticed", "notices", report.noticed),
        ("notified", "told", report.notified),
        ("dead", "dead letters", report.dead),
        ("dropped", "notifications dropped", report.dropped),
        ("faults", "edited rows left alone", report.faults),
    ]
}

/// A confirmation takes the clock as it is, a little after it was asked.
fn confirm_clock(keys: &KeyManager, place: &Place) -> Done {
    let now = values::date("now").map_err(Failure::Usage)?;
    Ok(place.act(keys).confirm_clock(now)?)
}

impl Tick {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        if self.confirm_clock {
            confirm_clock(&keys, place)?;
        }
        let mut progress = Progress::new(place);
        let mut report = keys.tick()?;
        let mut sums = counts(&report);
        let mut ticks = 1_usize;
        while report.more && !self.once {
            let done: usize = sums.iter().map(|(_, _, count)| count).sum();
            progress.say(&format!("tick {ticks}: {done} done"));
            report = keys.tick()?;
            ticks += 1;
            for (sum, (_, _, count)) in sums.iter_mut().zip(counts(&report)) {
                sum.2 += count;
            }
        }
        drop(progress);
        let mut answer: Map<String, Value> =
            sums.iter().map(|(name, _, count)| ((*name).to_owned(), json!(count))).collect();
        let rest = json!({
            "ticks": ticks, "at": report.at, "clock": report.clock, "deferred": report.deferred,
            "next_due": report.next_due, "more": report.more,
        });
        if let Value::Object(rest) = rest {
            answer.extend(rest);
        }
        out.answer(&Value::Object(answer), |out| {
            let done = sums.iter().filter(|(_, _, count)| *count > 0);
            let mut fields: Vec<_> = done.map(|(_, name, count)| (*name, count.to_string())).collect();
            if fields.is_empty() {
                fields.push(("done", "nothing was due".to_owned()));
            }
            if report.deferred > 0 {
                fields.push(("left for later", report.deferred.to_string()));
            }
            fields.push(("next due", out::time_or(report.next_due, "nothing")));
            out.fields(&fields)
        })?;
        believed(report.clock)
    }
}

/// A clock that is not believed is a denial: nothing was done.
fn believed(clock: ClockState) -> Done {
    let why = match clock {
        ClockState::Steady => return Ok(()),
        ClockState::Behind { mark } => {
            format!("the clock is before {mark}, when a tick was made: set it right")
        }
        ClockState::Jumped { mark } => format!(
            "the clock is more than 30 days after the last tick ({mark}), so nothing was done: if it is right, say `keyrota tick --confirm-clock`"
        ),
        _ => "the clock is not believed: set it right".to_owned(),
    };
    Err(Failure::Denied(why))
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota plan
  keyrota plan --at tomorrow

JSON: {\"at\", \"clock\", \"events\": […], \"deliveries\": […], \"unsettled\": […], \"deferred\": […], \"notices\": […],
       \"next_due\", \"more\"}")]
pub(crate) struct Plan {
    /// What a tick would do at this time [default: now]
    #[arg(long, value_name = "DATE", value_parser = values::date)]
    at: Option<Timestamp>,
}

impl Plan {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        let at = self.at.map_or_else(|| keys.now(), Ok)?;
        let plan = keys.plan(at)?;
        out.answer(&plan, |out| out.line(&plan.to_string()))?;
        believed(plan.clock)
    }
}

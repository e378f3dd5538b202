//! `tick` and `plan`: what time makes due.

use clap::Args;
use keyrota::{ClockState, KeyManager, TickReport, Timestamp};
use serde_json::{Map, Value, json};

use crate::failure::{Done, Failure};
use crate::out::{self, Out};
use crate::place::Place;
use crate::terminal::{Progress, confirm};
use crate::values;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota tick
  keyrota tick --channel ops --json
  keyrota tick --confirm-clock --yes

Ticks until nothing more is due. Name the channels that your service serves, or what happens is not told there.
Keys whose successors go into a sink are left to the process that has it.

JSON: {\"ticks\", \"at\", \"clock\", \"started\", \"offered\", \"activated\", \"failed\", \"lapsed\", \"retried\", \"expired\",
       \"retired\", \"completed\", \"cleaned\", \"rolled_up\", \"rewritten\", \"rewriting\", \"noticed\", \"notified\", \"dead\",
       \"dropped\", \"deferred\", \"faults\", \"next_due\", \"more\"}; counts are the sums of all ticks. Exit code 1 where the clock is not believed")]
pub(crate) struct Tick {
    /// Tick once only
    #[arg(long)]
    once: bool,
    /// The clock is right although it jumped: confirm it first
    #[arg(long)]
    confirm_clock: bool,
}

/// Adds what a further tick did: its counts to the sums, and all else in place of what was.
fn add(sums: &mut Map<String, Value>, report: &TickReport) -> Done {
    const TIMES: &[&str] = &["at", "next_due"];
    let Value::Object(fields) = out::json(report)? else { return Ok(()) };
    for (name, value) in fields {
        let sum = sums.entry(name.clone()).or_insert(Value::Null);
        *sum = match (sum.as_u64(), value.as_u64()) {
            (Some(before), Some(more)) if !TIMES.contains(&name.as_str()) => json!(before + more),
            _ => value,
        };
    }
    Ok(())
}

/// The counts above nothing, for people.
fn counts(sums: &Map<String, Value>) -> String {
    let counted = sums.iter().filter(|(name, _)| !["at", "next_due", "ticks"].contains(&name.as_str()));
    let told = counted.filter_map(|(name, count)| match count.as_u64() {
        Some(1..) => Some(format!("{} {count}", name.replace('_', " "))),
        _ => None,
    });
    told.collect::<Vec<_>>().join(", ")
}

/// A confirmation takes the clock as it is, a little after it was asked.
fn confirm_clock(keys: &KeyManager, place: &Place) -> Done {
    let now = values::date("now").map_err(Failure::Usage)?;
    confirm(place, || Ok(format!("Is it {} UTC? What ends by then has ended for good", out::time(now))))?;
    Ok(place.act(keys).confirm_clock(now)?)
}

impl Tick {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        if self.confirm_clock {
            confirm_clock(&keys, place)?;
        }
        let mut progress = Progress::new(place);
        let (mut report, mut sums, mut ticks) = (keys.tick()?, Map::new(), 1_usize);
        add(&mut sums, &report)?;
        while report.more && !self.once {
            let left = report.rewriting.and_then(|rewriting| rewriting.remaining).filter(|left| *left > 0);
            let left = left.map_or(String::new(), |left| format!(", {left} rows left to rewrite"));
            progress.say(&format!("tick {ticks}: {}{left}", counts(&sums)));
            report = keys.tick()?;
            ticks += 1;
            add(&mut sums, &report)?;
        }
        drop(progress);
        sums.insert("ticks".to_owned(), json!(ticks));
        let done = counts(&sums);
        out.answer(&Value::Object(sums), |out| {
            out.fields(&[
                ("done", if done.is_empty() { "nothing was due".to_owned() } else { done }),
                ("more", if report.more { "is due: tick again".to_owned() } else { String::new() }),
                ("next due", out::time_or(report.next_due, "nothing")),
            ])
        })?;
        believed(report.clock)
    }
}

/// A clock that is not believed is a denial: nothing was done.
fn believed(clock: ClockState) -> Done {
    match clock {
        ClockState::Steady => Ok(()),
        ClockState::Jumped { .. } => Err(Failure::Denied(format!(
            "nothing is done, {clock}; if the clock is right, say `keyrota tick --confirm-clock`"
        ))),
        _ => Err(Failure::Denied(format!("nothing is done, {clock}"))),
    }
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

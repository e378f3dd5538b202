//! `usage` and `stale`: how keys are used, and which are not.

use std::time::Duration;

use clap::Args;
use keyrota::{DenialCounts, KeyFilter, KeyId, OwnerId, Timestamp, UsageAsOf, UsageCounts, UsageFilter};
use serde_json::json;

use crate::failure::Done;
use crate::keys::listed;
use crate::out::{self, Out};
use crate::place::Place;
use crate::table::Table;
use crate::values;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota usage
  keyrota usage key_1pKq… --from \"30d ago\"

What validating processes have not flushed yet is not in it; `as_of` says how far it goes.

JSON: with a key {\"key_id\", \"as_of\", \"usage\", \"versions\": […]};
      without {\"as_of\", \"keys\": [{\"key_id\", \"counts\"} …], \"denied\": {reason: count …}}")]
pub(crate) struct Usage {
    key_id: Option<KeyId>,
    /// From this time on
    #[arg(long, value_name = "DATE", value_parser = values::date)]
    from: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "DATE", value_parser = values::date)]
    until: Option<Timestamp>,
    /// Without a key: how many keys, the most used first
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
}

impl Usage {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let mut filter = UsageFilter::all();
        if let Some(from) = self.from {
            filter = filter.from(from);
        }
        if let Some(until) = self.until {
            filter = filter.until(until);
        }
        match self.key_id {
            Some(key) => of_key(place, key, &filter, out),
            None => self.of_all(place, &filter, out),
        }
    }

    fn of_all(&self, place: &Place, filter: &UsageFilter, out: &mut Out) -> Done {
        let keys = place.keys()?;
        let top = keys.top_keys(filter, self.top)?;
        let denied = keys.denied_by_reason(filter)?.denied;
        out.answer(&json!({ "as_of": top.as_of, "keys": top.keys, "denied": denied }), |out| {
            let mut table = Table::new(["key_id", "granted", "denied", "last used"]);
            for usage in &top.keys {
                table.row([
                    usage.key.to_string(),
                    usage.counts.allowed.to_string(),
                    usage.counts.denied.total().to_string(),
                    out::time_or(usage.counts.last_used, ""),
                ]);
            }
            out.table(&table)?;
            out.line(&reasons(&denied))?;
            complete(&top.as_of, out)
        })
    }
}

fn of_key(place: &Place, key: KeyId, filter: &UsageFilter, out: &mut Out) -> Done {
    let report = place.keys()?.usage(key, filter)?;
    let answer = json!({
        "key_id": key, "as_of": report.as_of, "usage": report.usage, "versions": report.versions,
    });
    out.answer(&answer, |out| {
        let mut table = Table::new(["version", "granted", "denied", "last used", "why denied…"]);
        let row = |version: String, counts: &UsageCounts| {
            let denied = counts.denied.total().to_string();
            let why = if counts.denied.total() == 0 { String::new() } else { reasons(&counts.denied) };
            [version, counts.allowed.to_string(), denied, out::time_or(counts.last_used, ""), why]
        };
        for version in &report.versions {
            table.row(row(version.version.to_string(), &version.usage.counts));
        }
        table.row(row("all".to_owned(), &report.usage.counts));
        out.table(&table)?;
        complete(&report.as_of, out)
    })
}

fn reasons(denied: &DenialCounts) -> String {
    let counted = denied.iter().filter(|(_, count)| *count > 0);
    let told: Vec<_> = counted.map(|(reason, count)| format!("{reason} {count}")).collect();
    if told.is_empty() { "denied: none".to_owned() } else { format!("denied: {}", told.join(", ")) }
}

fn complete(as_of: &UsageAsOf, out: &mut Out) -> Done {
    match as_of.at {
        Some(at) => out.line(&format!("complete up to {}", out::time(at))),
        None => out.line("no process has flushed what it counted yet"),
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota stale
  keyrota stale --for 180d --owner ada

Lists keys that are valid, were issued before that, and that no process has told of a use of since.

JSON: as of `keyrota list`")]
pub(crate) struct Stale {
    /// For how long nobody has used them
    #[arg(long = "for", value_name = "SPAN", default_value = "90d", value_parser = values::span)]
    span: Duration,
    /// Keys of this owner
    #[arg(long)]
    owner: Option<OwnerId>,
    /// Keys after this one, for the next page
    #[arg(long, value_name = "KEY_ID")]
    after: Option<KeyId>,
    /// How many keys: up to 1000
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Only their ids, one a line
    #[arg(long)]
    ids: bool,
}

impl Stale {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        let mut filter = KeyFilter::all().unused_since(keys.now()?.minus_or_min(self.span));
        if let Some(owner) = self.owner {
            filter = filter.owner(owner);
        }
        listed(&keys.list(&filter, self.after, self.limit)?, self.ids, out)
    }
}

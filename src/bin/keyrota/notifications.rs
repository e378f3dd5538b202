//! `notifications`: what a channel could not be told.

use clap::{Args, Subcommand};
use keyrota::NotificationId;
use serde_json::json;

use crate::failure::Done;
use crate::out::{self, Out};
use crate::place::Place;
use crate::table::Table;
use crate::terminal::confirm;

#[derive(Subcommand, Debug)]
pub(crate) enum Notifications {
    /// List the dead letters of a channel: what it could not be told
    List(List),
    /// Put a dead letter back into its channel's queue
    Retry(One),
    /// Drop a dead letter: it will not be told
    Drop(One),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  keyrota notifications list ops

JSON: {\"dead_letters\": [{\"channel\", \"notification\", \"attempts\", \"since\", \"error\"} …]}")]
pub(crate) struct List {
    /// The channel's name
    name: String,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota notifications retry ops ntf_1pKq…
  keyrota notifications drop ops ntf_1pKq… --yes

JSON: {\"notification\", \"channel\", \"done\"}")]
pub(crate) struct One {
    /// The channel's name
    name: String,
    /// The notification's id
    id: NotificationId,
}

impl Notifications {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        match self {
            Self::List(list) => list.run(place, out),
            Self::Retry(One { name, id }) => {
                let keys = place.keys()?;
                place.act(&keys).retry_dead_letter(name, *id)?;
                told(name, *id, "queued again", out)
            }
            Self::Drop(One { name, id }) => {
                confirm(place, || Ok(format!("Drop {id}, so that {name} is never told?")))?;
                let keys = place.keys()?;
                place.act(&keys).drop_dead_letter(name, *id)?;
                told(name, *id, "dropped", out)
            }
        }
    }
}

fn told(channel: &str, id: NotificationId, what: &str, out: &mut Out) -> Done {
    let answer = json!({ "notification": id, "channel": channel, "done": what });
    out.answer(&answer, |out| out.line(&format!("{id} on {channel}: {what}")))
}

impl List {
    fn run(&self, place: &Place, out: &mut Out) -> Done {
        let letters = place.keys()?.dead_letters(&self.name, self.limit)?;
        out.answer(&json!({ "dead_letters": letters }), |out| {
            let mut table =
                Table::new(["notification", "kind", "at", "key_id", "tries", "given up", "error…"]);
            for letter in &letters {
                let told = &letter.notification;
                table.row([
                    told.id.to_string(),
                    told.kind.to_string(),
                    out::time(told.at),
                    told.key.map_or(String::new(), |key| key.to_string()),
                    letter.attempts.to_string(),
                    out::time_or(letter.since, ""),
                    letter.error.clone().unwrap_or_default(),
                ]);
            }
            if letters.is_empty() { out.line("no dead letters") } else { out.table(&table) }
        })
    }
}

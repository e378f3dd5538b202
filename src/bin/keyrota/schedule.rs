//! `schedule` and `cancel`.

use clap::Args;
use keyrota::{KeyId, RotationRecord, RotationStatus, Timestamp};
use serde_json::json;

use crate::failure::Done;
use crate::keys::{called, changed};
use crate::out::{self, Out};
use crate::place::Place;
use crate::terminal::confirm;
use crate::values;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota schedule key_1pKq… --at 2027-03-01
  keyrota schedule key_1pKq… --at \"in 3d\" --reason \"maintenance window\"

JSON: {\"key_id\", \"done\", \"rotation\": {\"id\", \"status\", \"due_at\", …}}")]
pub(crate) struct Schedule {
    key_id: KeyId,
    /// When it rotates
    #[arg(long, value_name = "DATE", value_parser = values::date)]
    at: Timestamp,
}

impl Schedule {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        let rotation = place.act(&keys).schedule(self.key_id, self.at)?;
        let what = format!("rotates on {}", out::time(self.at));
        changed(self.key_id, &what, json!({ "rotation": rotation }), out)
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota cancel key_1pKq…
  keyrota cancel key_1pKq… --yes

Asks where the successor is there already: it ends, also where somebody has claimed it.

JSON: {\"key_id\", \"done\"}")]
pub(crate) struct Cancel {
    key_id: KeyId,
}

impl Cancel {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        let rotations = keys.rotations(self.key_id)?;
        let is_begun = |it: &RotationRecord| it.status == RotationStatus::InProgress && it.new.is_some();
        if rotations.iter().any(is_begun) {
            confirm(place, || {
                Ok(format!("End the successor of {}, which waits?", called(&keys.get(self.key_id)?)))
            })?;
        }
        place.act(&keys).cancel(self.key_id)?;
        changed(self.key_id, "rotation cancelled", json!({}), out)
    }
}

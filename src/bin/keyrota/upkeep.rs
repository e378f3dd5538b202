//! `cleanup`, `backup` and `restore`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use keyrota::Restore as Restoring;
use serde_json::json;

use crate::audit::anchor_text;
use crate::failure::{Done, Failure};
use crate::out::Out;
use crate::place::Place;
use crate::terminal::{Progress, confirm};
use crate::values;

/// How many keys are asked for at once, and told of a dry run.
const PAGE: usize = 1_000;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota cleanup --older-than 90d --dry-run
  keyrota cleanup --older-than 90d --yes

Removes keys of which no version has been valid for so long. What the audit log and usage say of them stays.

JSON: {\"dry_run\", \"purged\", \"keys\": […]}; of a dry run, \"purged\" is how many would be, and \"keys\" has the first 1000")]
pub(crate) struct Cleanup {
    /// For how long they have been over
    #[arg(long, value_name = "SPAN", default_value = "90d", value_parser = values::span)]
    older_than: Duration,
    /// Remove nothing: say which keys would be
    #[arg(long)]
    dry_run: bool,
}

impl Cleanup {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        if place.request.is_some() {
            return Err(Failure::Usage(
                "a cleanup is many acts and may be repeated: give no --request".to_owned(),
            ));
        }
        if self.dry_run {
            return self.rehearse(place, out);
        }
        let span = values::told(self.older_than);
        confirm(place, || Ok(format!("Remove all keys that have been over for {span}?")))?;
        let keys = place.keys()?;
        let mut progress = Progress::new(place);
        let mut purged = 0;
        loop {
            let report = place.act(&keys).purge(self.older_than)?;
            purged += report.purged;
            if !report.more {
                break;
            }
            progress.say(&format!("{purged} keys removed"));
        }
        drop(progress);
        let answer = json!({ "dry_run": false, "purged": purged, "keys": [] });
        out.answer(&answer, |out| out.line(&format!("{purged} keys removed")))
    }

    fn rehearse(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        let mut progress = Progress::new(place);
        let first = keys.purgeable(self.older_than, None, PAGE)?;
        let (mut purged, mut last) = (first.len(), first.last().copied());
        let mut is_full = first.len() == PAGE;
        while is_full {
            progress.say(&format!("{purged} keys found"));
            let more = keys.purgeable(self.older_than, last, PAGE)?;
            is_full = more.len() == PAGE;
            (purged, last) = (purged + more.len(), more.last().copied());
        }
        drop(progress);
        out.answer(&json!({ "dry_run": true, "purged": purged, "keys": first }), |out| {
            out.line(&format!("{purged} keys would be removed"))?;
            first.iter().try_for_each(|key| out.line(&key.to_string()))?;
            if purged > first.len() { out.line("…") } else { Ok(()) }
        })
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota backup keys-2027-03-01.db
  keyrota backup keys.copy --without-sealed-copies

The copy is a new file of mode 0600; it is useless without the master key. Services go on meanwhile.

JSON: {\"backup\", \"anchor\"}")]
pub(crate) struct Backup {
    /// The new file
    file: PathBuf,
    /// Leave out secrets, encrypted, that wait to be handed over
    #[arg(long)]
    without_sealed_copies: bool,
}

impl Backup {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        // An anchor from before the copy is in the copy.
        let anchor = anchor_text(&place.keys()?.audit_head()?);
        let store = place.store()?;
        let mut progress = Progress::new(place);
        progress.say("copying …");
        let backup = store.backup().progress(|done, all| progress.bar("copying", done, all));
        let backup = if self.without_sealed_copies { backup.without_sealed_copies() } else { backup };
        backup.to(&self.file)?;
        drop(progress);
        out.answer(&json!({ "backup": self.file.display().to_string(), "anchor": anchor }), |out| {
            out.fields(&[("backup", self.file.display().to_string()), ("anchor", anchor.clone())])
        })
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  keyrota restore keys-2027-03-01.db --reason \"the disk was lost\" --yes

Where a database is in its place, that may be in use; what it had revoked, purged or suspended since the backup
stays so. All else that came after the backup is gone.

JSON: {\"restored\", \"back_to\", \"carried_over\": {\"keys\", \"versions\", \"owners\"}, \"sound\", \"rows\"}; exit code 1 where
      what was restored is not sound")]
pub(crate) struct Restore {
    /// The backup
    file: PathBuf,
}

impl Restore {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let db = place.db()?;
        if db.symlink_metadata().is_ok() {
            confirm(place, || Ok(format!("Put {:?} in the place of {db:?}?", self.file)))?;
        }
        if self.file.symlink_metadata().is_err() {
            return Err(Failure::Store(format!("there is no backup {:?}", self.file)));
        }
        let mut restore = Restoring::new(&self.file, place.keyring()?, place.actor());
        if let Some(reason) = &place.reason {
            restore = restore.because(reason);
        }
        let mut progress = Progress::new(place);
        progress.say("restoring …");
        let report = restore.to(db)?;
        drop(progress);
        let sound = report.check.is_sound();
        let carried = report.carried_over;
        let answer = json!({
            "restored": db.display().to_string(),
            "back_to": anchor_text(&report.back_to),
            "carried_over": carried.map(|over| json!({
                "keys": over.keys, "versions": over.versions, "owners": over.owners,
            })),
            "sound": sound,
            "rows": report.check.rows,
        });
        out.answer(&answer, |out| {
            let over = carried.map_or("nothing: there was no store to compare with".to_owned(), |over| {
                format!("{} keys, {} versions, {} owners", over.keys, over.versions, over.owners)
            });
            out.fields(&[
                ("restored", db.display().to_string()),
                ("back to entry", report.back_to.seq.to_string()),
                ("revoked or suspended again", over),
                ("rows", report.check.rows.to_string()),
                ("check", if sound { "sound".to_owned() } else { "broken".to_owned() }),
            ])?;
            if sound { Ok(()) } else { out.line("see `keyrota doctor`") }
        })?;
        if sound { Ok(()) } else { Err(Failure::Answered) }
    }
}

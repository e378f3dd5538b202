//! `compliance`: how old the secrets in use are, and what shows that they rotate.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use keyrota::{ComplianceQuery, ExportError, KeyId, OwnerId, Timestamp};
use serde_json::json;

use crate::failure::{Done, Failure, usage};
use crate::out::Out;
use crate::place::Place;
use crate::terminal::Progress;
use crate::token::private_file;
use crate::values;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota compliance
  keyrota compliance --max-age 90d --from 2027-01-01 --until 2027-04-01 --json
  keyrota compliance --exempt key_1pKq…=\"printed on devices until 2028\"
  keyrota compliance --keys-csv keys.csv --rotations-csv rotations.csv

JSON: the report's own form, with `format` 1, times as RFC 3339 and \"age_days\" in days; \"files\" names what was
written beside it. Exit code 1 where a key is overdue or the audit log is not sound")]
pub(crate) struct Compliance {
    /// How old the version in use of a key may be
    #[arg(long, value_name = "SPAN", default_value = "90d", value_parser = values::span)]
    max_age: Duration,
    /// Keys of this owner
    #[arg(long)]
    owner: Option<OwnerId>,
    /// Rotations from this time on
    #[arg(long, value_name = "DATE", value_parser = values::date)]
    from: Option<Timestamp>,
    /// Rotations before this time
    #[arg(long, value_name = "DATE", value_parser = values::date)]
    until: Option<Timestamp>,
    /// A key that the maximum does not hold for, and why
    #[arg(long, value_name = "KEY_ID=REASON", value_parser = exemption)]
    exempt: Vec<(KeyId, String)>,
    /// How many lines each list has at most
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    listed: usize,
    /// Write a line of CSV for each key into this new file
    #[arg(long, value_name = "FILE")]
    keys_csv: Option<PathBuf>,
    /// Write a line of CSV for each event of a rotation into this new file
    #[arg(long, value_name = "FILE")]
    rotations_csv: Option<PathBuf>,
}

fn exemption(text: &str) -> Result<(KeyId, String), String> {
    let (key, reason) = text.split_once('=').ok_or("write KEY_ID=REASON")?;
    Ok((key.parse().map_err(|error: keyrota::TextError| error.to_string())?, reason.to_owned()))
}

/// Fills a new file; none is left where that fails.
fn fill(path: &Path, write: impl FnOnce(&mut BufWriter<std::fs::File>) -> Result<u64, ExportError>) -> Done {
    let mut file = BufWriter::new(private_file(path)?);
    let done = write(&mut file).map_err(Failure::from).and_then(|_| {
        file.flush()?;
        Ok(file.get_ref().sync_all()?)
    });
    done.inspect_err(|_| drop(std::fs::remove_file(path)))
}

impl Compliance {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        let mut query = ComplianceQuery::default().max_age(self.max_age).listed(self.listed);
        if let Some(owner) = self.owner {
            query = query.owner(owner);
        }
        if self.from.is_some() || self.until.is_some() {
            query = query.period(self.from.unwrap_or(Timestamp::MIN), self.until.unwrap_or(Timestamp::MAX));
        }
        for (key, reason) in &self.exempt {
            query = query.exempt(*key, reason).map_err(usage)?;
        }
        let mut progress = Progress::new(place);
        progress.say("all keys and the audit log …");
        let report = keys.compliance(&query)?;
        if let Some(path) = &self.keys_csv {
            fill(path, |file| keys.export_compliance(&query, file))?;
        }
        if let Some(path) = &self.rotations_csv {
            fill(path, |file| keys.export_rotations(&query, file))?;
        }
        drop(progress);
        let mut answer = crate::out::json(&report)?;
        let files: Vec<_> = [&self.keys_csv, &self.rotations_csv].into_iter().flatten().collect();
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("files".to_owned(), json!(files));
        }
        out.answer(&answer, |out| out.line(&report.to_string()))?;
        if report.overdue.total == 0 && report.audit.is_sound() { Ok(()) } else { Err(Failure::Answered) }
    }
}

//! `master-key`: its generations, and the next one.

use std::path::Path;

use clap::{Args, Subcommand};
use keyrota::{Generation, GenerationUse, Keyring, MasterKey as Key};
use serde_json::{Value, json};

use crate::failure::{Done, Failure};
use crate::keyring_file;
use crate::out::Out;
use crate::place::Place;
use crate::table::Table;
use crate::terminal::{Progress, confirm};

#[derive(Subcommand, Debug)]
pub(crate) enum MasterKey {
    /// Show the generations, and what was written under each
    Status(Status),
    /// Take the next step to a new master key: first add one, then make it the current one
    Rotate(Rotate),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  keyrota master-key status

JSON: {\"generations\": [{\"generation\", \"held\", \"current\", \"rows\", \"digests\", \"audit_entries\"} …]}")]
pub(crate) struct Status {}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota master-key rotate            first: adds a generation to the file, which nothing is written under yet
  keyrota master-key rotate            then: makes it the current one
  keyrota master-key rotate --retire 1 --yes

Between the two, give the file to every process that works on the database, and start them again: one that does
not hold a generation that another has written under denies with 503. What was written under the old generation
stays readable as long as that is in the file; `keyrota master-key status` counts it. A generation is retired
when nothing needs it; with --force earlier, and what needs it is lost.

JSON: {\"step\": \"added\", \"current\" or \"retired\", \"generation\", \"generations\": […]}")]
pub(crate) struct Rotate {
    /// Take this generation out of the file
    #[arg(long, value_name = "GENERATION", value_parser = generation)]
    retire: Option<Generation>,
    /// Also where rows, tokens or audit entries still need it: they are lost
    #[arg(long, requires = "retire")]
    force: bool,
}

/// `2` or `g2`.
fn generation(text: &str) -> Result<Generation, String> {
    let number = text.strip_prefix('g').unwrap_or(text).parse::<u32>();
    number.map(Generation::new).map_err(|_| "a generation is a number: 2 or g2".to_owned())
}

impl MasterKey {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        match self {
            Self::Status(_) => {
                let mut progress = Progress::new(place);
                progress.say("counting …");
                let found = place.keys()?.generations()?;
                drop(progress);
                out.answer(&json!({ "generations": found }), |out| told(&found, out))
            }
            Self::Rotate(rotate) => rotate.run(place, out),
        }
    }
}

fn told(found: &[GenerationUse], out: &mut Out) -> Done {
    let mut table = Table::new(["generation", "held", "current", "rows", "tokens", "audit entries"]);
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    for one in found {
        table.row([
            one.generation.to_string(),
            yes(one.held),
            yes(one.current),
            one.rows.to_string(),
            one.digests.to_string(),
            one.audit_entries.to_string(),
        ]);
    }
    out.table(&table)
}

impl Rotate {
    fn run(&self, place: &Place, out: &mut Out) -> Done {
        let path = place.master_key_file().ok_or_else(|| {
            Failure::Usage(
                "the new master key goes into the file of the old one: give --master-key-file".to_owned(),
            )
        })?;
        let keyring = place.keyring()?;
        let found = place.keys()?.generations()?;
        if let Some(generation) = self.retire {
            return self.retire(place, path, keyring, generation, &found, out);
        }
        // The latest generation that waits, if one does: one that the store was not written under yet.
        let current = keyring.current();
        let waiting = keyring.generations().filter(|held| *held > current).max();
        let (step, generation, keyring) = match waiting {
            Some(waiting) => ("current", waiting, keyring.with_current(waiting)?),
            None => {
                let known = found.iter().map(|one| one.generation.get()).max().unwrap_or(0);
                let next = known.checked_add(1).map(Generation::new);
                let next = next.ok_or_else(|| Failure::Denied("no generation is left".to_owned()))?;
                ("added", next, keyring.with(next, Key::generate()?)?)
            }
        };
        keyring_file::replace(path, &keyring)?;
        let next = match step {
            "added" => {
                "next: give the file to every process, start them again, then `keyrota master-key rotate` once more"
            }
            _ => {
                "next: give the file to every process once more; `keyrota master-key status` counts what is left of the old"
            }
        };
        answered(place, step, generation, next, out)
    }

    fn retire(
        &self,
        place: &Place,
        path: &Path,
        keyring: Keyring,
        generation: Generation,
        found: &[GenerationUse],
        out: &mut Out,
    ) -> Done {
        if generation == keyring.current() {
            return Err(Failure::Denied(format!("{generation} is the current generation; rotate first")));
        }
        let needed = found
            .iter()
            .find(|one| one.generation == generation)
            .map_or((0, 0, 0), |one| (one.rows, one.digests, one.audit_entries));
        let (rows, tokens, entries) = needed;
        let lost = format!("{rows} rows, {tokens} tokens and {entries} audit entries");
        if needed != (0, 0, 0) && !self.force {
            return Err(Failure::Denied(format!("{lost} still need {generation}; --force would lose them")));
        }
        confirm(place, || Ok(format!("Take {generation} out of {path:?}, and lose {lost}?")))?;
        keyring_file::replace(path, &keyring.without(generation)?)?;
        answered(place, "retired", generation, "next: give the file to every process", out)
    }
}

fn answered(place: &Place, step: &str, generation: Generation, next: &str, out: &mut Out) -> Done {
    // Where a generation was retired by force, the store may no longer open.
    let found = place.keys().and_then(|keys| Ok(keys.generations()?)).ok();
    let generations = found.as_ref().map_or(Value::Null, |found| json!(found));
    let answer = json!({ "step": step, "generation": generation, "generations": generations });
    out.answer(&answer, |out| {
        out.line(&format!("{generation}: {step}"))?;
        out.line(next)?;
        found.as_ref().map_or(Ok(()), |found| told(found, out))
    })
}

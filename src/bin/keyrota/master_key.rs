//! `master-key`: its generations, the next one, and the end of an old one.

use std::path::Path;

use clap::{Args, Subcommand};
use keyrota::{Generation, GenerationUse, MasterKey as Key, RetiredGeneration, Rewriting};
use serde_json::{Value, json};

use crate::failure::{Done, Failure};
use crate::keyring_file;
use crate::out::{self, Out};
use crate::place::Place;
use crate::table::Table;
use crate::terminal::{Progress, confirm};

#[derive(Subcommand, Debug)]
pub(crate) enum MasterKey {
    /// Show the generations, and what was written under each
    Status(Status),
    /// Take the next step to a new master key: first add one, then make it the current one
    Rotate(Rotate),
    /// Give an old generation up, and take it out of the file
    Retire(Retire),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  keyrota master-key status

JSON: {\"generations\": [{\"generation\", \"held\", \"current\", \"rows\", \"sealed\", \"digests\", \"audit_entries\"} …],
       \"rewriting\": null or {\"generation\", \"rewritten\", \"remaining\", \"faults\", \"ended_at\"}}")]
pub(crate) struct Status {}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota master-key rotate            first: adds a generation to the file, which nothing is written under yet
  keyrota master-key rotate            then: makes it the current one

Between the two, give the file to every process that works on the database, and start them again: one that does
not hold a generation that another has written under denies with 503. What was written under the old generation
stays readable as long as that is in the file. Ticks write it again under the new one, a thousand rows each, and the
digest of a token follows when that is used; `keyrota master-key status` counts what is left.

JSON: {\"step\": \"added\" or \"current\", \"generation\", \"generations\": […]}")]
pub(crate) struct Rotate {}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota master-key retire 1 --yes
  keyrota master-key retire 1 --force --yes

First the audit log is verified, and an entry of it vouches for all before it, so that what was written under the
generation can be verified without it. Then the generation is taken out of the file; give that to every process. Where
rows or tokens still need it, the exit code is 1 and nothing is changed; with --force they are lost, and the keys that
die are named. A token moves to the current generation when it is used: one that nobody uses has to be rotated.

JSON: {\"step\": \"retired\", \"generation\", \"lost\": {\"rows\", \"sealed\", \"digests\", \"audit_entries\", \"keys\": [id …]},
       \"generations\": […]}")]
pub(crate) struct Retire {
    /// The generation: 1 or g1
    #[arg(value_parser = generation)]
    generation: Generation,
    /// Also where something still needs it: that is lost
    #[arg(long)]
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
                let keys = place.keys()?;
                let (found, rewriting) = (keys.generations()?, keys.rewriting()?);
                drop(progress);
                out.answer(&json!({ "generations": found, "rewriting": rewriting }), |out| {
                    told(&found, out)?;
                    rewriting.map_or(Ok(()), |rewriting| out.line(&come_so_far(&rewriting)))
                })
            }
            Self::Rotate(rotate) => rotate.run(place, out),
            Self::Retire(retire) => retire.run(place, out),
        }
    }
}

fn told(found: &[GenerationUse], out: &mut Out) -> Done {
    let mut table =
        Table::new(["generation", "held", "current", "rows", "sealed", "tokens", "audit entries"]);
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    for one in found {
        table.row([
            one.generation.to_string(),
            yes(one.held),
            yes(one.current),
            one.rows.to_string(),
            one.sealed.to_string(),
            one.digests.to_string(),
            one.audit_entries.to_string(),
        ]);
    }
    out.table(&table)
}

/// How far the ticks have come, for people.
fn come_so_far(rewriting: &Rewriting) -> String {
    let Rewriting { generation, rewritten, remaining, faults, .. } = *rewriting;
    let left = match remaining {
        None => "it is being counted".to_owned(),
        Some(0) => "nothing is left".to_owned(),
        Some(rows) => format!("{rows} are left"),
    };
    let faults =
        if faults == 0 { String::new() } else { format!("; {faults} cannot be believed, see doctor") };
    format!("to {generation}: {rewritten} rows were written again by ticks, {left}{faults}")
}

/// The file of the master keys.
fn file(place: &Place) -> Done<&Path> {
    place.master_key_file().ok_or_else(|| {
        Failure::Usage("the master keys are to be changed in their file: give --master-key-file".to_owned())
    })
}

impl Rotate {
    fn run(&self, place: &Place, out: &mut Out) -> Done {
        let path = file(place)?;
        let keyring = place.keyring()?;
        let found = place.keys()?.generations()?;
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
        answered(place, step, generation, None, next, out)
    }
}

impl Retire {
    fn run(&self, place: &Place, out: &mut Out) -> Done {
        let (path, keyring, generation) = (file(place)?, place.keyring()?, self.generation);
        let keys = place.keys()?;
        if generation == keyring.current() {
            return Err(Failure::Denied(format!("{generation} is the current generation; rotate first")));
        }
        let mut progress = Progress::new(place);
        progress.say("verifying …");
        let lost = keys.retirement(generation)?;
        drop(progress);
        if lost.is_needed() && !self.force {
            return Err(Failure::Denied(format!(
                "{} still need {generation}; --force would lose them",
                what(&lost)
            )));
        }
        confirm(place, || Ok(format!("Take {generation} out of {path:?}, and lose {}?", what(&lost))))?;
        let act = place.act(&keys);
        let lost = if self.force {
            act.retire_generation_by_force(generation)?
        } else {
            act.retire_generation(generation)?
        };
        // It may have been taken out already, by one who died before the answer.
        if keyring.generations().any(|held| held == generation) {
            keyring_file::replace(path, &keyring.without(generation)?)?;
        }
        answered(place, "retired", generation, Some(&lost), "next: give the file to every process", out)
    }
}

/// What is lost, for people: with the first few keys.
fn what(lost: &RetiredGeneration) -> String {
    let mut text = format!(
        "{} rows, {} sealed secrets, {} tokens and {} audit entries",
        lost.rows, lost.sealed, lost.digests, lost.audit_entries
    );
    let named: Vec<_> = lost.keys.iter().take(5).map(ToString::to_string).collect();
    if !named.is_empty() {
        let more = if lost.keys.len() > named.len() { " …" } else { "" };
        text.push_str(&format!(" ({} keys: {}{more})", lost.keys.len(), named.join(", ")));
    }
    text
}

fn answered(
    place: &Place,
    step: &str,
    generation: Generation,
    lost: Option<&RetiredGeneration>,
    next: &str,
    out: &mut Out,
) -> Done {
    // Where a generation was retired by force, the store may no longer open.
    let found = place.keys().and_then(|keys| Ok(keys.generations()?)).ok();
    let generations = found.as_ref().map_or(Value::Null, |found| json!(found));
    let mut answer = json!({ "step": step, "generation": generation, "generations": generations });
    if let (Some(fields), Some(lost)) = (answer.as_object_mut(), lost) {
        fields.insert("lost".to_owned(), out::json(lost)?);
    }
    out.answer(&answer, |out| {
        out.line(&format!("{generation}: {step}"))?;
        if let Some(lost) = lost.filter(|lost| lost.is_needed()) {
            out.line(&format!("lost: {}", what(lost)))?;
            lost.keys.iter().try_for_each(|key| out.line(&key.to_string()))?;
        }
        out.line(next)?;
        found.as_ref().map_or(Ok(()), |found| told(found, out))
    })
}

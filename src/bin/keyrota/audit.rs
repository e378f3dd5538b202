//! `audit`: reading the log, exporting it, and verifying that nobody changed it.

use std::io::{BufWriter, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use keyrota::{
    AuditEntry, AuditFilter, AuditHead, AuditVerdict, EventKind, KeyId, OwnerId, Timestamp, VersionNo,
};
use serde_json::{Value, json};

use crate::failure::{Done, Failure};
use crate::out::{self, Out};
use crate::place::Place;
use crate::table::Table;
use crate::terminal::Progress;
use crate::token::private_file;
use crate::values;

#[derive(Subcommand, Debug)]
pub(crate) enum Audit {
    /// Show entries
    Query(Query),
    /// Write entries as JSON Lines
    Export(Export),
    /// Verify the chain, and with an anchor that no end was cut off
    Verify(Verify),
}

impl Audit {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        match self {
            Self::Query(query) => query.run(place, out),
            Self::Export(export) => export.run(place, out),
            Self::Verify(verify) => verify.run(place, out),
        }
    }
}

#[derive(Args, Debug)]
struct Which {
    /// About this key
    #[arg(long, value_name = "KEY_ID")]
    key: Option<KeyId>,
    /// About this version of the key
    #[arg(long, value_name = "N", value_parser = values::version, requires = "key")]
    version: Option<VersionNo>,
    /// About this owner and its keys
    #[arg(long)]
    owner: Option<OwnerId>,
    /// Of this kind, such as key_issued
    #[arg(long, value_parser = kind)]
    kind: Option<EventKind>,
    /// By this actor
    #[arg(long = "by", value_name = "NAME")]
    by: Option<String>,
    /// Of this time or later
    #[arg(long, value_name = "DATE", value_parser = values::date)]
    from: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_name = "DATE", value_parser = values::date)]
    until: Option<Timestamp>,
    /// After the entry of this number
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u64,
}

fn kind(text: &str) -> Result<EventKind, String> {
    let known = serde_json::from_value(Value::String(text.to_owned()));
    known.map_err(|_| "no such kind; `keyrota audit query` shows the kinds that there are".to_owned())
}

impl Which {
    fn filter(&self) -> AuditFilter {
        let mut filter = AuditFilter::all().after(self.after);
        match (self.key, self.version) {
            (Some(key), Some(version)) => filter = filter.version(key, version),
            (Some(key), None) => filter = filter.key(key),
            _ => {}
        }
        if let Some(owner) = self.owner {
            filter = filter.owner(owner);
        }
        if let Some(kind) = self.kind {
            filter = filter.kind(kind);
        }
        if let Some(by) = &self.by {
            filter = filter.actor(by);
        }
        if let Some(from) = self.from {
            filter = filter.from(from);
        }
        if let Some(until) = self.until {
            filter = filter.until(until);
        }
        filter
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota audit query --key key_1pKq…
  keyrota audit query --kind key_revoked --from \"7d ago\" --json

JSON: {\"entries\": [{\"seq\", \"at\", \"kind\", \"actor\", \"key_id\", …} …], \"next\"}; `next` goes to --after")]
pub(crate) struct Query {
    #[command(flatten)]
    which: Which,
    /// How many entries
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

impl Query {
    fn run(&self, place: &Place, out: &mut Out) -> Done {
        let limit = self.limit.clamp(1, 100_000);
        let entries = place.keys()?.audit(&self.which.filter(), limit)?;
        let next = entries.last().filter(|_| entries.len() == limit).map(|last| last.seq);
        let flat = entries.iter().map(flat).collect::<Done<Vec<_>>>()?;
        out.answer(&json!({ "entries": flat, "next": next }), |out| {
            let mut table = Table::new(["seq", "at", "kind", "actor…", "key_id", "version", "what…"]);
            for AuditEntry { seq, event, .. } in &entries {
                let about = [&event.subject, &event.reason].into_iter().flatten();
                table.row([
                    seq.to_string(),
                    out::time(event.at),
                    event.kind.to_string(),
                    event.actor.to_string(),
                    event.key.map_or(String::new(), |key| key.to_string()),
                    event.version.map_or(String::new(), |version| version.to_string()),
                    about.map(String::as_str).collect::<Vec<_>>().join("; "),
                ]);
            }
            out.table(&table)?;
            next.map_or(Ok(()), |seq| out.line(&format!("more: --after {seq}")))
        })
    }
}

/// An entry as one object, as exports have it.
fn flat(entry: &AuditEntry) -> Done<Value> {
    out::json(entry)
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota audit export > audit.jsonl
  keyrota audit export --out audit.jsonl --from 2027-01-01 --json

The entries are lines of JSON, times in microseconds since 1970, as the log keeps them.

JSON: with --out {\"exported\", \"file\"}; without, the lines themselves")]
pub(crate) struct Export {
    #[command(flatten)]
    which: Which,
    /// Into this new file (mode 0600), instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Export {
    fn run(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        let filter = self.which.filter();
        let Some(path) = &self.out else {
            keys.export_audit(&filter, out.raw())?;
            return Ok(());
        };
        let file = private_file(path)?;
        let mut file = BufWriter::new(file);
        let exported = keys.export_audit(&filter, &mut file).map_err(Failure::from).and_then(|count| {
            file.flush()?;
            file.get_ref().sync_all()?;
            Ok(count)
        });
        let exported = exported.inspect_err(|_| drop(std::fs::remove_file(path)))?;
        out.answer(&json!({ "exported": exported, "file": path.display().to_string() }), |out| {
            out.line(&format!("{exported} entries written to {}", path.display()))
        })
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota audit verify
  keyrota audit verify --anchor 1024:9f86d081884c7d65…

The answer's anchor is the number and MAC of the last entry. Keep it where the database is not: given back, it
proves that nobody has cut the log's end off or put an old file in its place.

JSON: {\"sound\", \"verdict\", \"anchor\", …}; exit code 1 where it is not sound")]
pub(crate) struct Verify {
    /// An anchor of an earlier answer
    #[arg(long, value_parser = anchor)]
    anchor: Option<AuditHead>,
}

/// `12:` and 64 hexadecimal characters.
pub(crate) fn anchor(text: &str) -> Result<AuditHead, String> {
    let read = || {
        let (seq, hex) = text.trim().split_once(':')?;
        let mut mac = [0; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        for (at, byte) in mac.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(AuditHead { seq: seq.parse().ok()?, mac })
    };
    read().ok_or_else(|| "an anchor is a number, a colon, and 64 hexadecimal characters".to_owned())
}

pub(crate) fn anchor_text(head: &AuditHead) -> String {
    let hex: String = head.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{hex}", head.seq)
}

/// A verdict as a word, and for people.
pub(crate) fn told(verdict: &AuditVerdict) -> (&'static str, String) {
    match verdict {
        AuditVerdict::Sound { head } => ("sound", format!("{} entries, none edited, none missing", head.seq)),
        AuditVerdict::Segmented { first_break, .. } => (
            "segmented",
            format!("the chain was damaged before entry {first_break}; what was lost there is not known"),
        ),
        AuditVerdict::BrokenAt { seq } => (
            "broken",
            format!("entry {seq}, or one before it, was edited, moved or removed: restore a backup"),
        ),
        AuditVerdict::TailDiffers { last, head } => (
            "tail_differs",
            format!("the last entry is {last}, and the head names {head}: an end was cut off"),
        ),
        AuditVerdict::NotAnchored { last, anchor } => (
            "not_anchored",
            format!(
                "the entry {anchor} of the anchor is not in the log, which ends with {last}: it is an old file"
            ),
        ),
        AuditVerdict::KeyringBehind { seq, generation } => (
            "keyring_behind",
            format!(
                "entry {seq} was written under master key generation {generation}: add it to the keyring"
            ),
        ),
        _ => ("other", "a later version of keyrota knows what this is".to_owned()),
    }
}

impl Verify {
    fn run(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        let mut progress = Progress::new(place);
        progress.say("all entries of the log …");
        let verdict = match &self.anchor {
            Some(anchor) => keys.verify_audit_against(anchor)?,
            None => keys.verify_audit()?,
        };
        drop(progress);
        let head = keys.audit_head().ok().map(|head| anchor_text(&head));
        let (word, text) = told(&verdict);
        let answer = json!({ "sound": verdict.is_sound(), "verdict": word, "text": text, "anchor": head });
        out.answer(&answer, |out| {
            let fields = [
                ("audit log", word.to_owned()),
                ("", text.clone()),
                ("anchor", head.clone().unwrap_or_default()),
            ];
            out.fields(&fields)
        })?;
        if verdict.is_sound() { Ok(()) } else { Err(Failure::Answered) }
    }
}

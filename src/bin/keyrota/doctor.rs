//! `doctor`: what is not as it should be, and what to do about it.

use std::path::Path;

use clap::Args;
use keyrota::{
    AuditHead, CheckFinding, ClockState, GenerationUse, KeyManager, Keyring, SqliteStore, UsageWriter,
};
use serde_json::{Value, json};

use crate::audit;
use crate::failure::{Done, Failure};
use crate::out::{self, Out};
use crate::place::Place;
use crate::terminal::Progress;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota doctor
  keyrota doctor --anchor 1024:9f86d081884c7d65… --json

Give --channel for each of your channels, and their dead letters are counted, too.

JSON: {\"healthy\", \"checks\": [{\"check\", \"state\": \"ok\", \"warning\" or \"failed\", \"found\", \"do\"} …]};
      exit code 3 where something failed, 0 where there is nothing worse than warnings")]
pub(crate) struct Doctor {
    /// An anchor that `keyrota audit verify` or `keyrota backup` has told
    #[arg(long, value_parser = audit::anchor)]
    anchor: Option<AuditHead>,
}

/// How something that was examined stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ok,
    Warning,
    Failed,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// Something that was examined.
struct Check {
    name: &'static str,
    state: State,
    found: String,
    to_do: String,
}

#[derive(Default)]
struct Findings(Vec<Check>);

impl Findings {
    fn ok(&mut self, name: &'static str, found: impl Into<String>) {
        self.0.push(Check { name, state: State::Ok, found: found.into(), to_do: String::new() });
    }

    fn warn(&mut self, name: &'static str, found: impl Into<String>, to_do: impl Into<String>) {
        self.0.push(Check { name, state: State::Warning, found: found.into(), to_do: to_do.into() });
    }

    fn fail(&mut self, name: &'static str, found: impl Into<String>, to_do: impl Into<String>) {
        self.0.push(Check { name, state: State::Failed, found: found.into(), to_do: to_do.into() });
    }

    /// What was got, or the failure as a finding. What the library says names what to do.
    fn got<T>(&mut self, name: &'static str, result: Done<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(failure) => {
                self.fail(name, failure.text().unwrap_or("failed"), "do what it says, and run this again");
                None
            }
        }
    }
}

impl Doctor {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let db = place.db()?;
        let mut findings = Findings::default();
        permissions(db, place.master_key_file(), &mut findings);
        let store = findings.got("database", place.store());
        let keyring = findings.got("master key", place.keyring());
        if let (Some(store), Some(keyring)) = (store, keyring) {
            self.opened(place, store, keyring, &mut findings);
        }
        told(&findings.0, out)
    }

    fn opened(&self, place: &Place, store: SqliteStore, keyring: Keyring, findings: &mut Findings) {
        match store.stamp_fallback() {
            None => findings.ok("database", "there, of the right schema, followed through shared memory"),
            Some(why) => findings.warn(
                "database",
                format!("there, of the right schema; each stamp costs a query: {why}"),
                "nothing, unless validation is too slow: keep the file on a local disk",
            ),
        }
        let opened = place.builder(store, keyring).open().map_err(Failure::from);
        let Some(keys) = findings.got("master key", opened) else { return };
        let mut progress = Progress::new(place);
        progress.say("clock and what is due …");
        let examined = [
            generations(&keys, findings),
            time(&keys, findings),
            writers(&keys, findings),
            letters(&keys, place, findings),
        ];
        for result in examined {
            findings.got("store", result);
        }
        progress.say("all rows and the audit log …");
        let result = self.integrity(&keys, findings);
        findings.got("integrity", result);
    }

    fn integrity(&self, keys: &KeyManager, findings: &mut Findings) -> Done {
        let report = keys.check(self.anchor.as_ref())?;
        let (_, text) = audit::told(&report.audit);
        if report.audit.is_sound() {
            let anchored = if self.anchor.is_some() { ", and contains the anchor" } else { "" };
            findings.ok("audit log", text + anchored);
        } else {
            findings.fail(
                "audit log",
                text,
                "find out who wrote to the database; `keyrota restore` a backup",
            );
        }
        if report.findings.is_empty() {
            findings.ok("integrity", format!("{} rows, as the library wrote them", report.rows));
        }
        for finding in &report.findings {
            findings.fail(
                "integrity",
                trouble(finding),
                "find out who wrote to the database; `keyrota restore` a backup",
            );
        }
        Ok(())
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Who may read what.
fn permissions(db: &Path, key_file: Option<&Path>, findings: &mut Findings) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode =
            |path: &Path| path.symlink_metadata().ok().map(|found| found.permissions().mode() & 0o7777);
        let folder = folder_of(db);
        // Whoever may write in the folder may put another file in the place of this one; a sticky folder keeps them off.
        match mode(folder) {
            Some(open) if open & 0o022 != 0 && open & 0o1000 == 0 => findings.warn(
                "permissions",
                format!("others may write in the folder {folder:?} (mode {open:03o})"),
                format!("chmod go-w {folder:?}"),
            ),
            _ => findings.ok("permissions", "only its owner writes where the database is"),
        }
        match key_file.and_then(mode) {
            Some(open) if open & 0o077 != 0 => findings.fail(
                "permissions",
                format!("others may read or change the master key's file (mode {open:03o})"),
                format!(
                    "chmod 600 {:?}; if somebody could have read it, `keyrota master-key rotate`",
                    key_file.unwrap_or(db)
                ),
            ),
            _ => {}
        }
    }
    let beside = |path: &Path| folder_of(path).canonicalize().ok();
    if let Some(key_file) = key_file
        && beside(key_file).is_some()
        && beside(key_file) == beside(db)
    {
        findings.warn(
            "permissions",
            "the master key lies in the folder of the database: whoever copies the folder has both",
            "keep the master key's file elsewhere",
        );
    }
}

fn generations(keys: &KeyManager, findings: &mut Findings) -> Done {
    let found = keys.generations()?;
    let missing: Vec<_> =
        found.iter().filter(|one| !one.held).map(|one| one.generation.to_string()).collect();
    if !missing.is_empty() {
        findings.fail(
            "master key",
            format!(
                "the store was also written under {}, which the keyring does not hold",
                missing.join(", ")
            ),
            "add that generation to the file of the master key",
        );
    }
    let old = found.iter().filter(|one| one.held && !one.current);
    let told: Vec<_> =
        old.map(|one: &GenerationUse| format!("{} tokens of {}", one.digests, one.generation)).collect();
    let rest = if told.is_empty() { String::new() } else { format!("; still there: {}", told.join(", ")) };
    let current =
        found.iter().find(|one| one.current).map_or(String::new(), |one| one.generation.to_string());
    findings.ok("master key", format!("the right one, {current} is current{rest}"));
    Ok(())
}

fn time(keys: &KeyManager, findings: &mut Findings) -> Done {
    let now = crate::values::date("now").map_err(Failure::Usage)?;
    let plan = keys.plan(now)?;
    match plan.clock {
        ClockState::Steady => {
            findings.ok("clock", format!("{} UTC, not before the last tick", out::time(now)))
        }
        ClockState::Behind { mark } => findings.fail(
            "clock",
            format!("it shows {}, which is before the last tick ({})", out::time(now), out::time(mark)),
            "set the clock; ticks do nothing until then",
        ),
        ClockState::Jumped { mark } => findings.fail(
            "clock",
            format!(
                "it shows {}, more than 30 days after the last tick ({})",
                out::time(now),
                out::time(mark)
            ),
            "set the clock, or, if it is right, `keyrota tick --confirm-clock`",
        ),
        _ => findings.warn("clock", "a later version of keyrota knows what this is", "use that"),
    }
    let due = plan.events.len() + plan.deliveries.len() + plan.notices.len();
    let more = if plan.more { " or more" } else { "" };
    if due > 0 {
        findings.warn(
            "due",
            format!("{due}{more} things are due"),
            "tick: your service at least once an hour, or `keyrota tick` now (`keyrota plan` shows what it does)",
        );
    } else {
        findings.ok("due", format!("nothing is overdue; next {}", out::time_or(plan.next_due, "nothing")));
    }
    if !plan.deferred.is_empty() {
        findings.warn(
            "due",
            format!(
                "{} rotations wait: their owner is suspended, or too many versions are valid",
                plan.deferred.len()
            ),
            "resume the owner, or wait until a version has ended (`keyrota plan` names the keys)",
        );
    }
    Ok(())
}

fn writers(keys: &KeyManager, findings: &mut Findings) -> Done {
    let as_of = keys.usage_as_of()?;
    let now = keys.now()?;
    let day = std::time::Duration::from_secs(86_400);
    let is_silent = |writer: &&UsageWriter| !writer.ended && now.since(writer.flushed_at) > day;
    let silent = as_of.writers.iter().filter(is_silent).count();
    match (silent, as_of.at) {
        (0, Some(at)) => findings.ok("usage", format!("complete up to {}", out::time(at))),
        (0, None) => findings.ok("usage", "no process has flushed what it counted yet"),
        (silent, _) => findings.warn(
            "usage",
            format!("{silent} processes have not flushed for more than a day, and have not said that they end"),
            "if they are gone, wait: after 30 days they are forgotten; if not, let them flush at least each minute",
        ),
    }
    Ok(())
}

fn letters(keys: &KeyManager, place: &Place, findings: &mut Findings) -> Done {
    for channel in place.channels() {
        match keys.dead_letters(channel, 1_000)?.len() {
            0 => findings.ok("notifications", format!("{channel}: no dead letters")),
            dead => findings.warn(
                "notifications",
                format!("{channel}: {dead} notifications could not be told"),
                format!("`keyrota notifications list {channel}`, then retry or drop them"),
            ),
        }
    }
    Ok(())
}

fn trouble(finding: &CheckFinding) -> String {
    match finding {
        CheckFinding::EditedRow { kind, id } => format!("{kind} {id} was edited behind the library's back"),
        CheckFinding::UnknownGeneration { kind, id, generation } => {
            format!("{kind} {id} was written under {generation}, which the keyring does not hold")
        }
        CheckFinding::MissingOwner { key, owner } => format!("{key}: the row of its owner {owner} is gone"),
        CheckFinding::MissingKey { key, version } => format!("{key} {version}: the row of its key is gone"),
        CheckFinding::MissingVersion { key, version } => format!("{key} {version}: its row is gone"),
        CheckFinding::OldVersion { key, version } => format!("{key} {version}: an older row was put back"),
        CheckFinding::OldKey { key } => format!("{key}: an older row was put back"),
        CheckFinding::OldOwner { owner } => {
            format!("owner {owner}: an older row was put back, or it is gone")
        }
        _ => "a later version of keyrota knows what this is".to_owned(),
    }
}

fn told(checks: &[Check], out: &mut Out) -> Done {
    let failed = checks.iter().any(|check| check.state == State::Failed);
    let objects: Vec<Value> = checks
        .iter()
        .map(|check| {
            let to_do = (!check.to_do.is_empty()).then_some(&check.to_do);
            json!({ "check": check.name, "state": check.state.word(), "found": check.found, "do": to_do })
        })
        .collect();
    out.answer(&json!({ "healthy": !failed, "checks": objects }), |out| {
        for check in checks {
            let word = format!("{:<7}", check.state.word());
            let state = word.replace(check.state.word(), &out.look.paint(check.state.word()));
            out.line(&format!("{state}  {}: {}", check.name, check.found))?;
            if !check.to_do.is_empty() {
                out.line(&format!("         do: {}", check.to_do))?;
            }
        }
        Ok(())
    })?;
    if failed { Err(Failure::Unsound) } else { Ok(()) }
}

//! The report as a page of text.

use std::fmt;

use crate::report::compliance::{ComplianceReport, KeyCompliance, Listing, RotationEvidence};
use crate::report::verify::AuditVerdict;

/// Begins a list: how many there are.
fn begin<T>(f: &mut fmt::Formatter<'_>, title: &str, listing: &Listing<T>) -> fmt::Result {
    writeln!(f, "\n{title}: {}", listing.total)
}

/// Ends one that was cut.
fn end<T>(f: &mut fmt::Formatter<'_>, listing: &Listing<T>) -> fmt::Result {
    match listing.total.saturating_sub(listing.listed.len() as u64) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more"),
    }
}

fn key(f: &mut fmt::Formatter<'_>, key: &KeyCompliance, note: &str) -> fmt::Result {
    let KeyCompliance { age_days, version, name, owner, hint, .. } = key;
    writeln!(f, "  {age_days:>5} d  {version} of {:?} of {owner} ({hint}){note}", name.as_str())
}

fn keys(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    listing: &Listing<KeyCompliance>,
    note: impl Fn(&KeyCompliance) -> String,
) -> fmt::Result {
    begin(f, title, listing)?;
    listing.listed.iter().try_for_each(|found| key(f, found, &note(found)))?;
    end(f, listing)
}

fn rotations(f: &mut fmt::Formatter<'_>, title: &str, listing: &Listing<RotationEvidence>) -> fmt::Result {
    begin(f, title, listing)?;
    for found in &listing.listed {
        write!(f, "  {}", found.rotation)?;
        if let Some(key) = found.key {
            write!(f, " of {key}")?;
        }
        write!(f, " {} by {}", found.outcome.as_str(), found.actor)?;
        if let Some(reason) = &found.reason {
            write!(f, " ({reason})")?;
        }
        if let Some(failure) = &found.failure {
            write!(f, ": {failure}")?;
        }
        let entries = found.entries.iter().map(|entry| format!("#{} {} {}", entry.seq, entry.kind, entry.at));
        writeln!(f, "; {}", entries.collect::<Vec<_>>().join(", "))?;
    }
    end(f, listing)
}

impl fmt::Display for ComplianceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "API keys as of {}", self.at)?;
        if let Some(owner) = self.owner {
            write!(f, ", of {owner}")?;
        }
        let percent = |part: Option<f64>| part.map_or("–".to_owned(), |part| format!("{part:.2} %"));
        let days = self.max_age.as_secs() / 86_400;
        writeln!(f, "\n\nKeys in use: {}", self.keys)?;
        writeln!(f, "Current version not older than {days} days: {}", self.within)?;
        writeln!(f, "Coverage: {}", percent(self.coverage_percent))?;
        writeln!(f, "Coverage with exceptions counted: {}", percent(self.coverage_of_all_percent))?;
        let reason = |key: &KeyCompliance| {
            key.exempt_because
                .as_ref()
                .map_or_else(|| format!(": {}", key.standing.as_str()), |reason| format!(": {reason}"))
        };
        let never = |key: &KeyCompliance| {
            key.never_rotates.map_or(String::new(), |why| format!(": {}", why.as_str()))
        };
        keys(f, "Overdue, the oldest first", &self.overdue, |_| String::new())?;
        keys(f, "Exceptions", &self.exceptions, reason)?;
        keys(f, "Keys that do not rotate by themselves", &self.never_rotating, never)?;
        keys(f, "Keys that nobody uses", &self.stale, |_| String::new())?;
        begin(f, "Keys whose rows were edited", &self.edited)?;
        self.edited.listed.iter().try_for_each(|id| writeln!(f, "  {id:?}"))?;
        end(f, &self.edited)?;
        let counts = &self.rotations;
        write!(f, "\nRotations")?;
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        if let Some(until) = self.until {
            write!(f, " until {until}")?;
        }
        writeln!(
            f,
            ": {} successors took over, {} completed, {} failed, {} rolled back, {} cancelled",
            counts.rotated, counts.completed, counts.failed, counts.rolled_back, counts.cancelled
        )?;
        rotations(f, "Failed", &self.failed)?;
        rotations(f, "Evidence", &self.evidence)?;
        match self.audit {
            AuditVerdict::Sound { head } => writeln!(f, "\nAudit log: sound, {} entries", head.seq),
            trouble => writeln!(f, "\nAudit log: NOT SOUND, {trouble:?}"),
        }
    }
}

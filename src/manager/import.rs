//! Importing: keys of another system become keys here, in batches of one commit each.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::Serialize;

use crate::error::ManageError;
use crate::id::{KeyId, OwnerId, RequestId, RoleName};
use crate::import::{ImportReport, ImportSource, LineOutcome, LineProblem, LineReport, SourceError};
use crate::imported::WeakAction;
use crate::manager::KeyManager;
use crate::manager::act::{Act, Urgency};
use crate::manager::desk::{Batch, Counted, Desk, Written};
use crate::records::Records;
use crate::request::RequestRecord;
use crate::scope::ScopeSet;
use crate::token::{Locator, Prefix};

/// What to import, and on which terms: see [`Act::import`].
#[must_use]
pub struct Import<'a> {
    source: ImportSource<'a>,
    terms: Terms,
    skips: bool,
    dry_run: bool,
    each_line: Option<Teller<'a>>,
}

/// Who is told what became of each line.
type Teller<'a> = Box<dyn FnMut(&LineReport) + Send + 'a>;

/// What holds for all keys of an import.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Terms {
    pub(crate) owner: Option<OwnerId>,
    pub(crate) prefix: Option<Prefix>,
    pub(crate) scopes: Option<ScopeSet>,
    pub(crate) role: Option<RoleName>,
    pub(crate) weak: WeakAction,
    pub(crate) rotate_within: Option<Duration>,
    pub(crate) raise_limits: bool,
}

impl<'a> Import<'a> {
    /// All keys of a source, or none if one of its lines cannot be imported.
    pub fn from(source: ImportSource<'a>) -> Self {
        Self { source, terms: Terms::default(), skips: false, dry_run: false, each_line: None }
    }

    /// Whose the keys are of which the source does not say it.
    pub fn owner(mut self, owner: OwnerId) -> Self {
        self.terms.owner = Some(owner);
        self
    }

    /// What the keys may do of which the source does not say it. Default: nothing, beyond being valid.
    pub fn scopes(mut self, scopes: ScopeSet) -> Self {
        self.terms.scopes = Some(scopes);
        self
    }

    /// The role of the keys of which the source does not say it.
    pub fn role(mut self, role: RoleName) -> Self {
        self.terms.role = Some(role);
        self
    }

    /// The prefix of the tokens that the keys get when they are rotated. Default: the manager's first.
    pub fn prefix(mut self, prefix: Prefix) -> Self {
        self.terms.prefix = Some(prefix);
        self
    }

    /// What becomes of weak tokens. Of a digest it shows with the first use. Default: reports name them.
    pub fn weak(mut self, action: WeakAction) -> Self {
        self.terms.weak = action;
        self
    }

    /// Has the keys rotate by themselves, the first time at some moment within this time, spread evenly. Without this none
    /// does, whatever is said of its owner and of the deployment; [`Act::set_auto_rotation`] enrols single ones later.
    pub fn rotate_within(mut self, time: Duration) -> Self {
        self.terms.rotate_within = Some(time);
        self
    }

    /// Raises the limits of owners that would hold more keys than they may, to what they hold then.
    pub fn raise_limits(mut self) -> Self {
        self.terms.raise_limits = true;
        self
    }

    /// Leaves out lines that cannot be imported, each with its reason, in place of refusing all.
    pub fn skip_bad_lines(mut self) -> Self {
        self.skips = true;
        self
    }

    /// Writes nothing, and says what would become of each line.
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Is told what became of each line, in their order, once that is certain: a batch after it was committed. Where all is
    /// refused, only of the lines that are the reason.
    pub fn each_line(mut self, each: impl FnMut(&LineReport) + Send + 'a) -> Self {
        self.each_line = Some(Box::new(each));
        self
    }
}

impl std::fmt::Debug for Import<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Import").field("terms", &self.terms).finish_non_exhaustive()
    }
}

/// An import did not come to its end.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The source cannot be read. What was reported as imported is.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Some lines cannot be imported, so none was: mend them, or leave them out with [`Import::skip_bad_lines`]. What the
    /// report counts as imported, weak or of unknown strength are the sound lines, which would be if the others were left
    /// out.
    #[error("{} of {} lines cannot be imported, so none was; mend them, or leave them out", .0.skipped, .0.lines)]
    Refused(Box<ImportReport>),
    /// It stopped before a batch. What was reported is imported; repeat the import under the same request id, and it goes
    /// on from there. Where the outcome of a batch is unknown, the error names that id, also if the caller gave none.
    #[error("the import stopped after {} keys; repeat it under the same request id", report.imported)]
    Stopped {
        /// What was done until then.
        report: Box<ImportReport>,
        /// What stopped it.
        source: ManageError,
    },
}

crate::text::debug_as_told!(ImportError);

/// How many lines one commit takes in.
const BATCH: usize = 1_000;

impl Act<'_> {
    /// Takes over keys of another system. They validate at once, with the tokens that their clients hold; whatever
    /// revokes, suspends, rotates or ends keys does so with them, too.
    ///
    /// Lines are written in batches of 1000, each with one entry of the audit log; memory is needed for one batch, and for
    /// 12 bytes of each line where all is checked first. Unless bad lines are skipped, the whole source is checked before
    /// the first batch is written. Under a request id, an import that was stopped goes on where it was, within seven days;
    /// the source must be the same. A secret that was imported once is not imported again, whatever has become of its key.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn import(self, mut import: Import<'_>) -> Result<ImportReport, ImportError> {
        let keys = self.keys;
        let mut report = ImportReport { dry_run: import.dry_run, ..ImportReport::default() };
        let (act, request) = self
            .named()
            .map_err(|source| ImportError::Stopped { report: Box::new(report.clone()), source })?;
        let stopped = |report: &ImportReport, error| {
            let source = match error {
                // The id of a batch is of no use to whoever repeats the import.
                ManageError::OutcomeUnknown { source, .. } => {
                    ManageError::OutcomeUnknown { request: request.clone(), source }
                }
                error => error,
            };
            ImportError::Stopped { report: Box::new(report.clone()), source }
        };
        // Also the last of many batches needs an id of its own: now is the time to say that there is no room for it.
        if let Some(last) = act.part(u64::MAX).asked() {
            RequestId::new(last).map_err(|error| stopped(&report, error.into()))?;
        }
        let prefix = keys.prefix_of(import.terms.prefix).map_err(|error| stopped(&report, error))?;
        let mut each_line = import.each_line.take();
        let mut tell = |line: &LineReport| each_line.iter_mut().for_each(|each| each(line));
        if import.dry_run || !import.skips {
            let surveyed = act.survey(&mut import, prefix, &mut tell);
            let surveyed = surveyed.map_err(|error| match error {
                Trouble::Source(error) => error.into(),
                Trouble::Manage(error) => stopped(&report, error),
            })?;
            if import.dry_run {
                return Ok(surveyed);
            }
            if surveyed.skipped > 0 {
                return Err(ImportError::Refused(Box::new(surveyed)));
            }
            import.source.rewind()?;
        }
        let mut counted = HashMap::new();
        let mut number = 0;
        while let Some(batch) = Batch::read(&mut import.source, &keys.inner.records.keyring, number, BATCH)? {
            number += 1;
            let written = act.write(&batch, &import, prefix, &mut counted);
            let outcomes = match written {
                Ok(Written::Now(outcomes)) => outcomes,
                Ok(Written::Before) => vec![LineOutcome::Before; batch.len()],
                Ok(Written::Nothing(problems)) => {
                    // Others have changed meanwhile what was found sound.
                    problems.iter().for_each(|problem| report.add(problem));
                    report.ignored_columns = import.source.ignored();
                    return Err(stopped(&report, ManageError::Busy));
                }
                Err(error) => return Err(stopped(&report, error)),
            };
            for (line, outcome) in batch.numbers().zip(outcomes) {
                let line = LineReport { line, outcome };
                report.add(&line);
                tell(&line);
            }
        }
        report.ignored_columns = import.source.ignored();
        Ok(report)
    }

    /// Writes one batch, under a request id of its own.
    fn write(
        &self,
        batch: &Batch,
        import: &Import<'_>,
        prefix: Prefix,
        counted: &mut HashMap<OwnerId, Counted>,
    ) -> Result<Written, ManageError> {
        let repeated = |_: &Records, _: &RequestRecord, _| Ok((Written::Before, HashMap::new()));
        let ((written, places), revision) = self.part(batch.number()).carry_out(
            &batch.operation(&import.terms),
            Urgency::Ordinary,
            |attempt| Desk::write(attempt, batch, &import.terms, prefix, import.skips, counted),
            repeated,
        )?;
        if counted.len() > Counted::KEPT {
            counted.clear();
        }
        let places =
            places.into_iter().filter_map(|(owner, keys)| Some((owner, Counted { keys, at: revision? })));
        counted.extend(places);
        Ok(written)
    }

    /// Looks at all lines, and writes nothing.
    fn survey(
        &self,
        import: &mut Import<'_>,
        prefix: Prefix,
        tell: &mut dyn FnMut(&LineReport),
    ) -> Result<ImportReport, Trouble> {
        let keys = self.keys;
        let records = &keys.inner.records;
        let mut desk = Desk::new(records, &import.terms, prefix, keys.now()?, true)?;
        let mut report = ImportReport { dry_run: import.dry_run, ..ImportReport::default() };
        let mut seen: HashSet<Locator> = HashSet::new();
        let mut number = 0;
        while let Some(batch) = Batch::read(&mut import.source, &records.keyring, number, BATCH)? {
            number += 1;
            let is_before = self.is_done(&batch, &import.terms)?;
            for (line, outcome) in batch.numbers().zip(desk.look(&batch, &mut seen, is_before)?) {
                let line = LineReport { line, outcome };
                report.add(&line);
                if import.dry_run || matches!(line.outcome, LineOutcome::Skipped(_)) {
                    tell(&line);
                }
            }
        }
        report.ignored_columns = import.source.ignored();
        Ok(report)
    }

    /// Whether this very batch was written under the same request id.
    fn is_done(&self, batch: &Batch, terms: &Terms) -> Result<bool, ManageError> {
        let Some(request) = self.part(batch.number()).asked() else { return Ok(false) };
        let found = self.keys.inner.records.get::<RequestRecord>(&request)?;
        Ok(found.is_some_and(|found| found.record.operation == batch.operation(terms)))
    }
}

/// What keeps lines from being looked at.
enum Trouble {
    Source(SourceError),
    Manage(ManageError),
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<ManageError> for Trouble {
    fn from(error: ManageError) -> Self {
        Self::Manage(error)
    }
}

impl From<LineProblem> for LineOutcome {
    fn from(problem: LineProblem) -> Self {
        Self::Skipped(problem)
    }
}

impl KeyManager {
    /// One of the configured prefixes; the first unless another is asked for.
    pub(super) fn prefix_of(&self, asked: Option<Prefix>) -> Result<Prefix, ManageError> {
        match asked {
            None => Ok(self.inner.prefixes.first().copied().unwrap_or_default()),
            Some(prefix) if self.inner.prefixes.contains(&prefix) => Ok(prefix),
            Some(prefix) => Err(ManageError::PrefixNotAllowed(prefix)),
        }
    }
}

/// The id of a key of that moment, of which there are several at once.
pub(super) fn fresh_id(t: crate::time::Timestamp) -> Result<KeyId, ManageError> {
    Ok(KeyId::new(t, crate::crypto::random_bytes()?))
}

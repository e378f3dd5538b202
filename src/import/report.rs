//! Reports: what became of each line, and of all together.

use std::fmt;

use crate::id::KeyId;
use crate::import::problem::LineProblem;
use crate::imported::Strength;

/// What became of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineOutcome {
    /// Its key was imported; its token, if that was there, is as strong as this.
    Imported {
        /// The key.
        key: KeyId,
        /// How strong it is, where that can be told.
        strength: Strength,
    },
    /// It would be imported.
    Sound {
        /// How strong it is, where that can be told.
        strength: Strength,
    },
    /// An earlier call of the same request wrote it already.
    Before,
    /// It was not imported.
    Skipped(LineProblem),
}

/// What became of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LineReport {
    /// Its number in the source, from 1; of a table, its place among the rows.
    pub line: u64,
    /// What became of it.
    pub outcome: LineOutcome,
}

/// What became of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// Whether nothing was to be written.
    pub dry_run: bool,
    /// How many lines were read.
    pub lines: u64,
    /// How many were imported; of a dry run, and of one that was [refused](crate::ImportError::Refused), how many would be if
    /// the others were left out.
    pub imported: u64,
    /// How many an earlier call of the same request had written.
    pub before: u64,
    /// How many were left out.
    pub skipped: u64,
    /// Of those that were imported, how many tokens are weak.
    pub weak: u64,
    /// Of those that were imported, of how many nobody can tell, because only a digest is there.
    pub unknown_strength: u64,
    /// Why lines were left out: the first thousand. All are told to [`Import::each_line`](crate::Import::each_line).
    pub problems: Vec<LineReport>,
    /// The names of columns that were not understood, and left out.
    pub ignored_columns: Vec<String>,
}

impl ImportReport {
    /// How many problems are kept.
    const KEPT: usize = 1_000;

    /// Takes in what became of a line.
    pub(crate) fn add(&mut self, report: &LineReport) {
        self.lines += 1;
        match &report.outcome {
            LineOutcome::Imported { strength, .. } | LineOutcome::Sound { strength } => {
                self.imported += 1;
                self.weak += u64::from(*strength == Strength::Weak);
                self.unknown_strength += u64::from(*strength == Strength::Unknown);
            }
            LineOutcome::Before => self.before += 1,
            LineOutcome::Skipped(_) => {
                self.skipped += 1;
                if self.problems.len() < Self::KEPT {
                    self.problems.push(report.clone());
                }
            }
        }
    }
}

/// For people: the sums, then a line for each problem.
impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.dry_run { "would be imported" } else { "imported" };
        write!(f, "{} lines: {} {verb}, {} left out", self.lines, self.imported, self.skipped)?;
        if self.before > 0 {
            write!(f, ", {} written before", self.before)?;
        }
        if self.weak > 0 {
            write!(f, "; {} weak", self.weak)?;
        }
        if self.unknown_strength > 0 {
            write!(f, "; {} of unknown strength", self.unknown_strength)?;
        }
        if !self.ignored_columns.is_empty() {
            write!(f, "; columns left out: {}", self.ignored_columns.join(", "))?;
        }
        writeln!(f)?;
        for LineReport { line, outcome } in &self.problems {
            if let LineOutcome::Skipped(problem) = outcome {
                writeln!(f, "line {line}: {problem}")?;
            }
        }
        let more = self.skipped.saturating_sub(self.problems.len() as u64);
        if more > 0 { writeln!(f, "and {more} more") } else { Ok(()) }
    }
}

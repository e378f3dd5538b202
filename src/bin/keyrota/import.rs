//! `import`: keys of another system.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, ValueEnum};
use keyrota::{
    DigestForm, Import as Importing, ImportColumn, ImportError, ImportReport, ImportSource, LineOutcome,
    ManageError, OwnerId, Prefix, RoleName, Scope, ScopeSet, SourceError, TokenList, WeakAction,
};
use serde_json::{Value, json};

use crate::failure::{Done, Failure, usage};
use crate::out::Out;
use crate::place::Place;
use crate::terminal::Progress;
use crate::values;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota import --env API_KEYS --owner clients --scope orders:read --dry-run
  keyrota import --csv keys.csv --request move-1 --skip-bad-lines
  keyrota import --sqlite old.db --table api_keys --column token_digest=digest --request move-1
  keyrota import --remaining

All or nothing, unless --skip-bad-lines is given. Under --request, an import that was stopped goes on where it was; one
that was killed without goes on with --skip-bad-lines, and tells what was imported before as left out.

JSON: {\"dry_run\", \"lines\", \"imported\", \"before\", \"skipped\", \"weak\", \"unknown_strength\", \"ignored_columns\",
       \"problems\": [{\"line\", \"problem\"} …]}; --remaining: the counts of what still lives by its old secret. Exit code
      1 where lines are refused")]
pub(crate) struct Import {
    /// Tokens from this environment variable
    #[arg(long, value_name = "VARIABLE", group = "source")]
    env: Option<String>,
    /// Tokens from a file, one a line or as a list
    #[arg(long, value_name = "FILE", group = "source")]
    tokens: Option<PathBuf>,
    /// Digests or tokens from a CSV file
    #[arg(long, value_name = "FILE", group = "source")]
    csv: Option<PathBuf>,
    /// Digests or tokens from a file of JSON Lines
    #[arg(long, value_name = "FILE", group = "source")]
    json_lines: Option<PathBuf>,
    /// Digests or tokens from a table of another SQLite database
    #[arg(long, value_name = "FILE", group = "source", requires = "table")]
    sqlite: Option<PathBuf>,
    /// Import nothing: say what of earlier imports still lives by its old secret
    #[arg(long, group = "source")]
    remaining: bool,
    /// With --sqlite: the table
    #[arg(long, requires = "sqlite")]
    table: Option<String>,
    /// Tokens hold `=` or `:`: take each as it is, without a name before it
    #[arg(long)]
    bare: bool,
    /// What the digests are, where they do not tell themselves
    #[arg(long, value_enum)]
    form: Option<Form>,
    /// What a column says that is not recognised by its name
    #[arg(long, value_name = "COLUMN=WHAT", value_parser = column)]
    column: Vec<(String, ImportColumn)>,
    /// The owner, where lines name none
    #[arg(long)]
    owner: Option<OwnerId>,
    /// The scopes, where lines name none
    #[arg(long, num_args = 1.., value_delimiter = ',')]
    scope: Vec<Scope>,
    /// The role, where lines name none
    #[arg(long, value_parser = values::role)]
    role: Option<RoleName>,
    /// What the tokens of their successors begin with
    #[arg(long, value_parser = values::prefix)]
    prefix: Option<Prefix>,
    /// What to do with weak tokens
    #[arg(long, value_enum)]
    weak: Option<Weak>,
    /// Let them rotate by themselves, spread over so long
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    rotate_within: Option<Duration>,
    /// Raise owners' limits where they do not suffice
    #[arg(long)]
    raise_limits: bool,
    /// Leave lines out that cannot be imported
    #[arg(long)]
    skip_bad_lines: bool,
    /// Write nothing: say what would be imported
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    Sha256,
    Sha512,
    Sha256LastPart,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Weak {
    Flag,
    Rotate,
    Refuse,
}

/// `token_digest=digest`: a column's own name, and one that would be recognised.
fn column(text: &str) -> Result<(String, ImportColumn), String> {
    let (name, what) = text.split_once('=').ok_or("write COLUMN=WHAT, such as token_digest=digest")?;
    match ImportColumn::named(what) {
        ImportColumn::Ignored if what != "ignored" => Err(format!("{what} is nothing that a column says")),
        known => Ok((name.to_owned(), known)),
    }
}

impl Import {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        if self.remaining {
            let report = place.keys()?.imported()?;
            return out.answer(&report, |out| {
                out.fields(&[
                    ("remaining", report.remaining.to_string()),
                    ("superseded", report.deprecated.to_string()),
                    ("never seen", report.unseen.values().sum::<u64>().to_string()),
                    ("weak", report.weak.to_string()),
                    ("over", report.over.to_string()),
                    ("edited rows", report.edited.to_string()),
                ])
            });
        }
        let scopes = ScopeSet::new(self.scope.iter().cloned()).map_err(usage)?;
        let progress = Arc::new(Mutex::new(Progress::new(place)));
        let mut source = self.source(&progress)?;
        if let Some(form) = self.form {
            source = source.form(match form {
                Form::Sha256 => DigestForm::Sha256,
                Form::Sha512 => DigestForm::Sha512,
                Form::Sha256LastPart => DigestForm::Sha256LastPart,
            });
        }
        for (name, column) in &self.column {
            source = source.column(name, *column);
        }
        let (mut imported, counting) = (0_u64, self.sqlite.is_some().then(|| Arc::clone(&progress)));
        if counting.is_some() {
            with(&progress, |progress| {
                progress.say(if self.skip_bad_lines { "importing …" } else { "checking …" })
            });
        }
        let mut import = Importing::from(source).each_line(|line| {
            imported += u64::from(matches!(line.outcome, LineOutcome::Imported { .. }));
            if let Some(progress) = counting.as_ref().filter(|_| line.line.is_multiple_of(1_000)) {
                with(progress, |progress| progress.say(&format!("{} rows", line.line)));
            }
        });
        if let Some(owner) = self.owner {
            import = import.owner(owner);
        }
        if !scopes.is_empty() {
            import = import.scopes(scopes);
        }
        if let Some(role) = &self.role {
            import = import.role(role.clone());
        }
        if let Some(prefix) = self.prefix {
            import = import.prefix(prefix);
        }
        if let Some(weak) = self.weak {
            import = import.weak(match weak {
                Weak::Flag => WeakAction::Flag,
                Weak::Rotate => WeakAction::Rotate,
                Weak::Refuse => WeakAction::Refuse,
            });
        }
        if let Some(span) = self.rotate_within {
            import = import.rotate_within(span);
        }
        import = if self.raise_limits { import.raise_limits() } else { import };
        import = if self.skip_bad_lines { import.skip_bad_lines() } else { import };
        import = if self.dry_run { import.dry_run() } else { import };
        let keyring = place.keyring()?;
        let keys = place.builder(place.store()?, keyring).prefixes(self.prefix).open()?;
        let (act, request) = place.act_with_token(&keys)?;
        let done = act.import(import);
        drop(progress);
        match done {
            Ok(report) => told(&report, false, out),
            Err(ImportError::Refused(report)) => {
                told(&report, true, out)?;
                Err(Failure::Answered)
            }
            Err(ImportError::Stopped { report, source }) => {
                told(&report, false, out)?;
                // Where nobody knows what became of a batch, it is said already.
                let is_said = matches!(source, ManageError::OutcomeUnknown { .. });
                Err(match source.into() {
                    Failure::Store(text) if !is_said => Failure::Store(format!(
                        "{text}; the same command with --request {request} goes on from there"
                    )),
                    failure => failure,
                })
            }
            Err(ImportError::Source(error)) => Err(match (failed(error), imported) {
                (Failure::Store(text), 1..) => Failure::Store(format!(
                    "{text}; {imported} keys were imported before, and the same command with --request {request} goes on \
                     from there"
                )),
                (failure, _) => failure,
            }),
            Err(other) => Err(Failure::Store(format!("{other:?}"))),
        }
    }

    fn source(&self, progress: &Arc<Mutex<Progress>>) -> Done<ImportSource<'static>> {
        let form = if self.bare { TokenList::Bare } else { TokenList::Any };
        let is_checked = self.dry_run || !self.skip_bad_lines;
        let open = |path: &Path| {
            Metered::open(path, is_checked, Arc::clone(progress))
                .map_err(|error| Failure::Store(format!("{path:?} cannot be read: {error}")))
        };
        match (&self.env, &self.tokens, &self.csv, &self.json_lines, &self.sqlite, &self.table) {
            (Some(name), ..) => ImportSource::env(name, form).map_err(failed),
            (_, Some(path), ..) => Ok(ImportSource::token_lines(open(path)?, form)),
            (_, _, Some(path), ..) => Ok(ImportSource::csv(open(path)?)),
            (_, _, _, Some(path), ..) => Ok(ImportSource::json_lines(open(path)?)),
            (_, _, _, _, Some(path), Some(table)) => ImportSource::sqlite(path, table).map_err(failed),
            _ => Err(Failure::Usage(
                "from where? give --env, --tokens, --csv, --json-lines or --sqlite".to_owned(),
            )),
        }
    }
}

/// A file that shows how far it has been read: once to be checked, unless bad lines are left out, and once to be imported.
struct Metered {
    file: File,
    read: u64,
    all: u64,
    is_checked: bool,
    progress: Arc<Mutex<Progress>>,
}

impl Metered {
    fn open(path: &Path, is_checked: bool, progress: Arc<Mutex<Progress>>) -> io::Result<Self> {
        let file = File::open(path)?;
        let all = file.metadata()?.len();
        Ok(Self { file, read: 0, all, is_checked, progress })
    }
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read += read as u64;
        let what = if self.is_checked { "checking" } else { "importing" };
        // A pipe does not say how much there is.
        if self.all > 0 {
            with(&self.progress, |progress| progress.bar(what, self.read, self.all));
        }
        Ok(read)
    }
}

impl Seek for Metered {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.is_checked = false;
        self.read = self.file.seek(to)?;
        Ok(self.read)
    }
}

fn with(progress: &Mutex<Progress>, work: impl FnOnce(&mut Progress)) {
    work(&mut progress.lock().unwrap_or_else(PoisonError::into_inner));
}

fn failed(error: SourceError) -> Failure {
    Failure::Store(match error {
        SourceError::Io(error) if error.kind() == io::ErrorKind::NotSeekable => {
            "a pipe cannot be read twice, once to be checked: give a file, or --skip-bad-lines".to_owned()
        }
        SourceError::Io(error) => format!("the source cannot be read: {error}"),
        error => format!("{error:?}"),
    })
}

/// Of an import that was refused, what it says of sound lines is what they would have been.
fn told(report: &ImportReport, refused: bool, out: &mut Out) -> Done {
    let imported = if refused { 0 } else { report.imported };
    let problems: Vec<Value> = report
        .problems
        .iter()
        .filter_map(|line| match &line.outcome {
            LineOutcome::Skipped(problem) => {
                Some(json!({ "line": line.line, "problem": problem.to_string() }))
            }
            _ => None,
        })
        .collect();
    let answer = json!({
        "dry_run": report.dry_run, "lines": report.lines, "imported": imported, "before": report.before,
        "skipped": report.skipped, "weak": report.weak, "unknown_strength": report.unknown_strength,
        "ignored_columns": report.ignored_columns, "problems": problems,
    });
    out.answer(&answer, |out| {
        if !refused {
            return out.line(&report.to_string());
        }
        out.line("nothing was imported; mend these lines, or leave them out with --skip-bad-lines:")?;
        for line in &report.problems {
            if let LineOutcome::Skipped(problem) = &line.outcome {
                out.line(&format!("line {}: {problem}", line.line))?;
            }
        }
        Ok(())
    })
}

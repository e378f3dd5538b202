//! Sources: where the keys of another system are read from, line by line, and again.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{Read, Seek};
#[cfg(feature = "sqlite")]
use std::path::Path;

use crate::import::column::ImportColumn;
use crate::import::csv::Csv;
use crate::import::json::JsonLines;
use crate::import::key::ForeignKey;
use crate::import::problem::LineProblem;
#[cfg(feature = "sqlite")]
use crate::import::table::Table;
use crate::import::tokens::{Held, TokenLines, TokenList};
use crate::imported::DigestForm;
use crate::secret::SecretBuffer;

/// A source cannot be read.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Reading failed.
    #[error("the source cannot be read")]
    Io(#[from] std::io::Error),
    /// The first line does not name the columns.
    #[error("the first line does not name the columns")]
    Header,
    /// The environment variable is not set, or is not UTF-8.
    #[error("the environment variable {name} is not set, or is not UTF-8")]
    Variable {
        /// The variable.
        name: String,
    },
    /// The SQLite database or its table cannot be read.
    #[cfg(feature = "sqlite")]
    #[error("the table cannot be read: {0}")]
    Table(String),
}

crate::text::debug_as_told!(SourceError);

/// One line, or why it is none.
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) key: Result<Box<ForeignKey>, LineProblem>,
}

/// What gives one line after the other, and can begin anew.
pub(crate) trait Lines {
    fn next(&mut self, columns: &mut Columns) -> Result<Option<Line>, SourceError>;
    fn rewind(&mut self) -> Result<(), SourceError>;
}

/// What columns are called, and which were left out.
#[derive(Default)]
pub(crate) struct Columns {
    /// Of digests whose column says nothing of it.
    pub(crate) form: Option<DigestForm>,
    named: Vec<(String, ImportColumn)>,
    pub(crate) ignored: BTreeSet<String>,
}

impl Columns {
    /// How many names of columns that are left out are told.
    const TOLD: usize = 100;

    pub(crate) fn column(&mut self, name: &str) -> ImportColumn {
        let known = self.named.iter().find(|(known, _)| known == name).map(|(_, column)| *column);
        let column = known.unwrap_or_else(|| ImportColumn::named(name));
        if column == ImportColumn::Ignored && self.ignored.len() < Self::TOLD && !self.ignored.contains(name)
        {
            self.ignored.insert(name.chars().filter(|c| !c.is_control()).take(64).collect());
        }
        column
    }
}

/// Where the keys of another system are read from. It is read once, or, where all or nothing is to be imported, twice.
#[must_use]
pub struct ImportSource<'a> {
    lines: Box<dyn Lines + Send + 'a>,
    columns: Columns,
}

impl<'a> ImportSource<'a> {
    fn new(lines: impl Lines + Send + 'a) -> Self {
        Self { lines: Box::new(lines), columns: Columns::default() }
    }

    /// CSV whose first line names the columns, with commas, semicolons or tabs: see [`ImportColumn`].
    pub fn csv(reader: impl Read + Seek + Send + 'a) -> Self {
        Self::new(Csv::new(reader))
    }

    /// JSON Lines: an object on each line, whose fields are named like columns.
    pub fn json_lines(reader: impl Read + Seek + Send + 'a) -> Self {
        Self::new(JsonLines::new(reader))
    }

    /// A file with one token on each line, as it is or behind a name and `=` or `:`; empty lines and those that begin
    /// with `#` are none.
    pub fn token_lines(reader: impl Read + Seek + Send + 'a, form: TokenList) -> Self {
        Self::new(TokenLines::new(reader, form))
    }

    /// A list of tokens.
    pub fn tokens(text: &str, form: TokenList) -> Self {
        let mut columns = Columns::default();
        let keys = form.parse(text, &mut columns);
        Self { lines: Box::new(Held::new(keys)), columns }
    }

    /// A list of tokens in an environment variable, such as `API_KEYS`.
    ///
    /// # Errors
    /// [`SourceError::Variable`].
    pub fn env(name: &str, form: TokenList) -> Result<Self, SourceError> {
        let missing = || SourceError::Variable { name: name.to_owned() };
        let text = std::env::var_os(name).ok_or_else(missing)?;
        let text = SecretBuffer::from_vec(text.into_encoded_bytes());
        Ok(Self::tokens(str::from_utf8(text.expose()).map_err(|_| missing())?, form))
    }

    /// Keys that the host has put together.
    pub fn keys(keys: impl IntoIterator<Item = ForeignKey>) -> Self {
        Self::new(Held::new(keys.into_iter().map(Ok).collect()))
    }

    /// A table of an SQLite database, with the columns that [`ImportColumn`] names; a digest may be text or a blob. The
    /// database is only read, all of it as it is at one moment; rows in the order of their row ids, or of their primary keys
    /// where there are none.
    ///
    /// # Errors
    /// [`SourceError::Table`].
    #[cfg(feature = "sqlite")]
    pub fn sqlite(path: impl AsRef<Path>, table: &str) -> Result<Self, SourceError> {
        Ok(Self::new(Table::open(path.as_ref(), table)?))
    }

    /// Says that digests have this form where their column says nothing of it. Without it, 32 bytes are
    /// [`DigestForm::Sha256`].
    pub fn form(mut self, form: DigestForm) -> Self {
        self.columns.form = Some(form);
        self
    }

    /// Says what the column of this name says, in place of what its name does; [`ImportColumn::Ignored`] leaves it out.
    pub fn column(mut self, name: impl Into<String>, column: ImportColumn) -> Self {
        self.columns.named.push((name.into(), column));
        self
    }

    pub(crate) fn next(&mut self) -> Result<Option<Line>, SourceError> {
        self.lines.next(&mut self.columns)
    }

    pub(crate) fn rewind(&mut self) -> Result<(), SourceError> {
        self.lines.rewind()
    }

    /// The names of the columns that were left out.
    pub(crate) fn ignored(&self) -> Vec<String> {
        self.columns.ignored.iter().cloned().collect()
    }
}

impl fmt::Debug for ImportSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImportSource")
    }
}

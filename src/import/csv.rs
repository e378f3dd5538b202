//! CSV as RFC 4180 has it, with commas, semicolons or tabs; the first line names the columns.

use std::io::{Read, Seek};

use crate::import::cells::Cells;
use crate::import::column::ImportColumn;
use crate::import::input::Input;
use crate::import::key::ForeignKey;
use crate::import::problem::LineProblem;
use crate::import::source::{Columns, Line, Lines, SourceError};

pub(super) struct Csv<'a> {
    input: Input<'a>,
    cells: Cells,
    separator: u8,
    header: Option<Vec<ImportColumn>>,
}

impl<'a> Csv<'a> {
    pub(super) fn new(reader: impl Read + Seek + Send + 'a) -> Self {
        Self { input: Input::new(reader), cells: Cells::new(), separator: b',', header: None }
    }

    /// Reads one record into the cells; says whether there was one, and whether its quotes were closed.
    fn record(&mut self) -> Result<Option<bool>, SourceError> {
        self.cells.clear();
        if self.input.peek()?.is_none() {
            return Ok(None);
        }
        let mut is_quoted = false;
        loop {
            let Some(byte) = self.input.next()? else {
                self.cells.end_cell();
                return Ok(Some(!is_quoted));
            };
            match byte {
                b'"' if is_quoted && self.input.peek()? == Some(b'"') => {
                    self.input.next()?;
                    self.cells.push(b'"');
                }
                b'"' if is_quoted => is_quoted = false,
                // Within a cell that did not begin with one, it is a character like others.
                b'"' if self.cells.is_at_begin() => is_quoted = true,
                b'\n' if !is_quoted => {
                    self.cells.trim_end(b'\r');
                    self.cells.end_cell();
                    return Ok(Some(true));
                }
                byte if byte == self.separator && !is_quoted => self.cells.end_cell(),
                byte => self.cells.push(byte),
            }
        }
    }

    /// The columns that the first line names; the separator is the one that stands there most.
    fn read_header(&mut self, columns: &mut Columns) -> Result<Vec<ImportColumn>, SourceError> {
        self.separator = b'\n';
        let first = self.record()?;
        let text = self.cells.texts().and_then(|mut texts| texts.next()).unwrap_or_default().to_owned();
        if first != Some(true) || text.is_empty() {
            return Err(SourceError::Header);
        }
        let count = |mark: &u8| text.bytes().filter(|byte| byte == mark).count();
        self.separator = [b'\t', b';', b','].into_iter().max_by_key(count).unwrap_or(b',');
        let names = text.trim_start_matches('\u{FEFF}').split(char::from(self.separator));
        let header: Vec<_> = names.map(|name| columns.column(name.trim().trim_matches('"'))).collect();
        Ok(header)
    }
}

impl Lines for Csv<'_> {
    fn rewind(&mut self) -> Result<(), SourceError> {
        self.header = None;
        self.input.rewind()
    }

    fn next(&mut self, columns: &mut Columns) -> Result<Option<Line>, SourceError> {
        let header = match self.header.take() {
            Some(header) => header,
            None => self.read_header(columns)?,
        };
        let header = self.header.insert(header).len();
        let (number, is_closed) = loop {
            let number = self.input.line;
            match self.record()? {
                None => return Ok(None),
                Some(_) if self.cells.is_blank() => {}
                Some(is_closed) => break (number, is_closed),
            }
        };
        let Some(texts) = self.cells.texts() else {
            return Ok(Some(Line { number, key: Err(LineProblem::Unreadable) }));
        };
        if !is_closed || self.cells.count() != header {
            return Ok(Some(Line { number, key: Err(LineProblem::Cells) }));
        }
        let mut key = ForeignKey::of_form(columns.form);
        let mut set = self.header.iter().flatten().zip(texts);
        let key = set.try_for_each(|(column, text)| key.set(*column, text)).map(|()| key);
        Ok(Some(Line { number, key: key.map(Box::new) }))
    }
}

//! JSON Lines: an object on each line, whose fields are named like columns.

use std::io::{Read, Seek};

use serde_json::{Map, Value};

use crate::import::cells::Cells;
use crate::import::column::ImportColumn;
use crate::import::input::Input;
use crate::import::key::ForeignKey;
use crate::import::problem::LineProblem;
use crate::import::source::{Columns, Line, Lines, SourceError};
use crate::secret::SecretBuffer;

pub(super) struct JsonLines<'a> {
    input: Input<'a>,
    line: Cells,
}

impl<'a> JsonLines<'a> {
    pub(super) fn new(reader: impl Read + Seek + Send + 'a) -> Self {
        Self { input: Input::new(reader), line: Cells::new() }
    }
}

impl Lines for JsonLines<'_> {
    fn rewind(&mut self) -> Result<(), SourceError> {
        self.input.rewind()
    }

    fn next(&mut self, columns: &mut Columns) -> Result<Option<Line>, SourceError> {
        let number = loop {
            let number = self.input.line;
            if !read_line(&mut self.input, &mut self.line)? {
                return Ok(None);
            }
            if !self.line.is_blank() {
                break number;
            }
        };
        let text = self.line.texts().and_then(|mut texts| texts.next());
        let key = text.ok_or(LineProblem::Unreadable).and_then(|text| object(text, columns));
        Ok(Some(Line { number, key: key.map(Box::new) }))
    }
}

/// Reads a line as one cell; says whether there was one.
pub(super) fn read_line(input: &mut Input<'_>, line: &mut Cells) -> Result<bool, SourceError> {
    line.clear();
    if input.peek()?.is_none() {
        return Ok(false);
    }
    while let Some(byte) = input.next()?.filter(|byte| *byte != b'\n') {
        line.push(byte);
    }
    line.trim_end(b'\r');
    line.end_cell();
    Ok(true)
}

fn object(text: &str, columns: &mut Columns) -> Result<ForeignKey, LineProblem> {
    let fields: Map<String, Value> =
        serde_json::from_str(text.trim_start_matches('\u{FEFF}')).map_err(|_| LineProblem::Json)?;
    let mut key = ForeignKey::of_form(columns.form);
    let mut outcome = Ok(());
    for (name, value) in fields {
        let column = columns.column(&name);
        if outcome.is_ok() {
            outcome = set(&mut key, column, value);
        } else {
            // What is not used is wiped all the same.
            drop(text_of(value));
        }
    }
    outcome.map(|()| key)
}

/// Sets a field; what may be a token is wiped where it stood.
pub(super) fn set(key: &mut ForeignKey, column: ImportColumn, value: Value) -> Result<(), LineProblem> {
    let Some(text) = text_of(value) else { return Ok(()) };
    key.set(column, str::from_utf8(text.expose()).unwrap_or_default())
}

fn text_of(value: Value) -> Option<SecretBuffer> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text,
        other => other.to_string(),
    };
    Some(SecretBuffer::from_vec(text.into_bytes()))
}

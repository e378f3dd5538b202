//! A table of an SQLite database as a source.

use std::path::Path;

use crate::import::column::ImportColumn;
use crate::import::key::ForeignKey;
use crate::import::problem::LineProblem;
use crate::import::source::{Columns, Line, Lines, SourceError};
use crate::store::sqlite::ForeignTable;

/// How many rows are read at once.
const CHUNK: usize = 1_000;

pub(super) struct Table {
    table: ForeignTable,
    header: Vec<ImportColumn>,
    chunk: std::vec::IntoIter<Line>,
    told: u64,
}

impl Table {
    pub(super) fn open(path: &Path, table: &str) -> Result<Self, SourceError> {
        let table = ForeignTable::open(path, table).map_err(SourceError::Table)?;
        Ok(Self { table, header: Vec::new(), chunk: Vec::new().into_iter(), told: 0 })
    }
}

impl Lines for Table {
    fn rewind(&mut self) -> Result<(), SourceError> {
        self.table.rewind();
        self.told = 0;
        self.chunk = Vec::new().into_iter();
        Ok(())
    }

    fn next(&mut self, columns: &mut Columns) -> Result<Option<Line>, SourceError> {
        if let Some(line) = self.chunk.next() {
            return Ok(Some(line));
        }
        self.header = self.table.columns().iter().map(|name| columns.column(name)).collect();
        let Self { table, header, told, .. } = self;
        let mut lines = Vec::with_capacity(CHUNK);
        table
            .read(CHUNK, &mut |cells| {
                let mut key = ForeignKey::of_form(columns.form);
                let mut outcome = Ok(());
                for (column, cell) in header.iter().zip(cells) {
                    let Some(text) = cell.filter(|_| *column != ImportColumn::Ignored) else { continue };
                    let text = str::from_utf8(text.expose()).map_err(|_| LineProblem::Unreadable);
                    outcome = outcome.and_then(|()| text.and_then(|text| key.set(*column, text)));
                }
                *told += 1;
                lines.push(Line { number: *told, key: outcome.map(|()| Box::new(key)) });
            })
            .map_err(SourceError::Table)?;
        self.chunk = lines.into_iter();
        Ok(self.chunk.next())
    }
}

//! A table of somebody else's database, read and never written.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::encode::hex;
use crate::secret::SecretBuffer;

/// A table, as it is at the moment of opening.
pub(crate) struct ForeignTable {
    connection: Connection,
    first: String,
    next: String,
    columns: Vec<String>,
}

/// An identifier, quoted.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl ForeignTable {
    pub(crate) fn open(path: &Path, table: &str) -> Result<Self, String> {
        let told = |error: rusqlite::Error| error.to_string();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(told)?;
        // Nothing that the file defines is to be carried out.
        connection
            .execute_batch("PRAGMA trusted_schema = OFF; PRAGMA query_only = ON; BEGIN")
            .map_err(told)?;
        let known = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        let found: i64 = connection.query_row(known, [table], |row| row.get(0)).map_err(told)?;
        if found == 0 {
            return Err(format!("there is no table {}", quoted(table)));
        }
        let names = "SELECT name FROM pragma_table_info(?1) ORDER BY cid";
        let columns: rusqlite::Result<Vec<String>> = connection
            .prepare(names)
            .map_err(told)?
            .query_map([table], |row| row.get(0))
            .map_err(told)?
            .collect();
        let columns = columns.map_err(told)?;
        let list: Vec<_> = columns.iter().map(|name| quoted(name)).collect();
        let (list, table) = (list.join(", "), quoted(table));
        Ok(Self {
            connection,
            first: format!("SELECT rowid, {list} FROM {table} ORDER BY rowid LIMIT ?1"),
            next: format!("SELECT rowid, {list} FROM {table} WHERE rowid > ?2 ORDER BY rowid LIMIT ?1"),
            columns,
        })
    }

    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Up to `limit` rows after one, by their row ids: numbers as text, blobs in hexadecimal.
    pub(crate) fn read(
        &self,
        after: Option<i64>,
        limit: usize,
        each: &mut dyn FnMut(i64, Vec<Option<SecretBuffer>>),
    ) -> Result<(), String> {
        let told = |error: rusqlite::Error| error.to_string();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = if after.is_none() { &self.first } else { &self.next };
        let mut statement = self.connection.prepare_cached(sql).map_err(told)?;
        let mut rows = match after {
            None => statement.query([limit]),
            Some(after) => statement.query([limit, after]),
        }
        .map_err(told)?;
        while let Some(row) = rows.next().map_err(told)? {
            let cell = |n: usize| row.get_ref(n + 1).ok().and_then(text_of);
            each(row.get(0).map_err(told)?, (0..self.columns.len()).map(cell).collect());
        }
        Ok(())
    }
}

fn text_of(value: ValueRef<'_>) -> Option<SecretBuffer> {
    let text = match value {
        ValueRef::Null => return None,
        ValueRef::Integer(number) => number.to_string().into_bytes(),
        ValueRef::Real(number) => number.to_string().into_bytes(),
        ValueRef::Text(text) => text.to_vec(),
        ValueRef::Blob(bytes) => hex(bytes).into_bytes(),
    };
    Some(SecretBuffer::from_vec(text))
}

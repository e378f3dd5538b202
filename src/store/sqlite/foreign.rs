//! A table of somebody else's database, read and never written.

use std::path::Path;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags};

use crate::encode::hex;
use crate::secret::SecretBuffer;

/// A table, as it is at the moment of opening.
pub(crate) struct ForeignTable {
    connection: Connection,
    first: String,
    next: String,
    columns: Vec<String>,
    /// Of how many columns the place of a row consists.
    places: usize,
    /// The place of the row that was read last.
    last: Option<Vec<Place>>,
}

/// A part of a row's place: of its row id, or of its primary key, which may be a token.
enum Place {
    Integer(i64),
    Real(f64),
    Text(SecretBuffer),
    Blob(SecretBuffer),
}

impl Place {
    /// `None` for a NULL, which no place has.
    fn of(value: ValueRef<'_>) -> Option<Self> {
        let copy = |bytes: &[u8]| SecretBuffer::from_vec(bytes.to_vec());
        Some(match value {
            ValueRef::Null => return None,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => Self::Text(copy(text)),
            ValueRef::Blob(bytes) => Self::Blob(copy(bytes)),
        })
    }
}

impl ToSql for Place {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.expose()),
            Self::Blob(bytes) => ValueRef::Blob(bytes.expose()),
        }))
    }
}

/// An identifier, quoted.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn told(error: rusqlite::Error) -> String {
    error.to_string()
}

/// What tells the rows of a table apart, in the order in which they are read.
fn places(connection: &Connection, table: &str, columns: &[String]) -> Result<Vec<String>, String> {
    let kept = "SELECT wr FROM pragma_table_list(?1) WHERE schema = 'main'";
    let is_without_rowid: bool = connection.query_row(kept, [table], |row| row.get(0)).map_err(told)?;
    if is_without_rowid {
        let names = "SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk";
        let keys = texts(connection, names, table)?;
        // What its primary key tells apart by another collation differs in its bytes, too.
        return Ok(keys.iter().map(|name| format!("{} COLLATE BINARY", quoted(name))).collect());
    }
    // A column of such a name hides the row id.
    let is_free = |name: &&str| !columns.iter().any(|column| column.eq_ignore_ascii_case(name));
    let free = ["rowid", "_rowid_", "oid"].into_iter().find(is_free);
    let all_hidden =
        "its columns rowid, _rowid_ and oid hide its row ids; copy it into a table that names them otherwise";
    Ok(vec![free.ok_or(all_hidden)?.to_owned()])
}

fn texts(connection: &Connection, sql: &str, table: &str) -> Result<Vec<String>, String> {
    let mut statement = connection.prepare(sql).map_err(told)?;
    let texts: rusqlite::Result<_> = statement.query_map([table], |row| row.get(0)).map_err(told)?.collect();
    texts.map_err(told)
}

impl ForeignTable {
    pub(crate) fn open(path: &Path, table: &str) -> Result<Self, String> {
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
        let columns = texts(&connection, "SELECT name FROM pragma_table_info(?1) ORDER BY cid", table)?;
        let place = places(&connection, table, &columns)?;
        let list: Vec<_> = columns.iter().map(|name| quoted(name)).collect();
        let (list, table, key) = (list.join(", "), quoted(table), place.join(", "));
        let marks: Vec<_> = (2..place.len() + 2).map(|n| format!("?{n}")).collect();
        let marks = marks.join(", ");
        Ok(Self {
            connection,
            first: format!("SELECT {key}, {list} FROM {table} ORDER BY {key} LIMIT ?1"),
            next: format!(
                "SELECT {key}, {list} FROM {table} WHERE ({key}) > ({marks}) ORDER BY {key} LIMIT ?1"
            ),
            columns,
            places: place.len(),
            last: None,
        })
    }

    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(crate) fn rewind(&mut self) {
        self.last = None;
    }

    /// Up to `limit` further rows: numbers as text, blobs in hexadecimal.
    pub(crate) fn read(
        &mut self,
        limit: usize,
        each: &mut dyn FnMut(Vec<Option<SecretBuffer>>),
    ) -> Result<(), String> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = if self.last.is_none() { &self.first } else { &self.next };
        let mut statement = self.connection.prepare_cached(sql).map_err(told)?;
        let mut values: Vec<&dyn ToSql> = vec![&limit];
        values.extend(self.last.iter().flatten().map(|place| place as &dyn ToSql));
        let mut rows = statement.query(values.as_slice()).map_err(told)?;
        let mut last = None;
        while let Some(row) = rows.next().map_err(told)? {
            let place = (0..self.places).map(|n| row.get_ref(n).ok().and_then(Place::of));
            last = Some(place.collect::<Option<Vec<_>>>().ok_or("a row of the table has no place in it")?);
            let cell = |n: usize| row.get_ref(self.places + n).ok().and_then(text_of);
            each((0..self.columns.len()).map(cell).collect());
        }
        drop(rows);
        drop(statement);
        self.last = last.or(self.last.take());
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

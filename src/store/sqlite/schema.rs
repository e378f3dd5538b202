//! The schema: whose database it is, and the steps that bring it up to date.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::store::sqlite::error::{SqliteOpenError, open_error};

/// `krot`: marks a database file as one of ours.
const APPLICATION_ID: i32 = 0x6B72_6F74;

/// What leads from each schema to the next; `PRAGMA user_version` counts those that were taken.
const STEPS: [&str; 1] = [concat!(include_str!("schema_1.sql"), include_str!("views_1.sql"))];

/// The latest schema that this version of the library knows.
pub(super) const SUPPORTED: u32 = STEPS.len() as u32;

/// What a database says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    application: i32,
    version: i32,
    /// Whether it holds any table, index, view or trigger.
    is_empty: bool,
    encoding: String,
    /// How long the file has to be once the write-ahead log has gone into it.
    pub(super) bytes: u64,
}

/// Reads what a database says about itself, and changes nothing. One statement, because one sees one moment:
/// another process may be making the tables.
pub(super) fn recognise(connection: &Connection) -> rusqlite::Result<Found> {
    const SQL: &str = "SELECT application_id, user_version, NOT EXISTS (SELECT 1 FROM sqlite_schema), encoding, \
            page_count * page_size \
        FROM pragma_application_id, pragma_user_version, pragma_encoding, pragma_page_count, pragma_page_size";
    connection.query_row(SQL, [], |row| {
        Ok(Found {
            application: row.get(0)?,
            version: row.get(1)?,
            is_empty: row.get(2)?,
            encoding: row.get(3)?,
            bytes: row.get::<_, i64>(4)?.unsigned_abs(),
        })
    })
}

impl Found {
    /// The schema, when the database is ours, or empty and nobody's.
    pub(super) fn accept(self, path: &Path) -> Result<u32, SqliteOpenError> {
        let path = || path.to_owned();
        let is_ours = self.application == APPLICATION_ID;
        let is_nobodys = self.application == 0 && self.version == 0 && self.is_empty;
        let version = match u32::try_from(self.version) {
            Ok(found) if is_ours && found > SUPPORTED => {
                return Err(SqliteOpenError::NewerSchema { path: path(), found, supported: SUPPORTED });
            }
            Ok(found) if is_ours || is_nobodys => found,
            _ => return Err(SqliteOpenError::ForeignDatabase { path: path() }),
        };
        if self.encoding != "UTF-8" {
            return Err(SqliteOpenError::ForeignEncoding { path: path(), encoding: self.encoding });
        }
        Ok(version)
    }
}

/// The names of the tables.
pub(super) fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM main.sqlite_schema WHERE type = 'table'")?;
    statement.query_map([], |row| row.get(0))?.collect()
}

/// A table, index, view or trigger: the table that it is of, and the statement that made it.
type Objects = BTreeMap<(String, String), (String, Option<String>)>;

fn objects(connection: &Connection) -> rusqlite::Result<Objects> {
    let mut statement = connection.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema")?;
    statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?))))?.collect()
}

/// What of a database's objects is not as the steps up to this schema made it: of ours any change, of the tables
/// also what was added to them. Other tables and views may be there. A step that was once released is therefore
/// never edited, not even in a comment within a statement.
pub(super) fn altered(connection: &Connection, version: u32) -> rusqlite::Result<Option<String>> {
    let made = Connection::open_in_memory()?;
    for step in STEPS.iter().take(usize::try_from(version).unwrap_or(usize::MAX)) {
        made.execute_batch(step)?;
    }
    let (expected, found) = (objects(&made)?, objects(connection)?);
    let is_added = |(kind, name): &(String, String), (table, _): &(String, Option<String>)| {
        let is_on_ours = expected.contains_key(&("table".to_owned(), table.clone()));
        version == 0 || is_on_ours && !expected.contains_key(&(kind.clone(), name.clone()))
    };
    let changed = expected.iter().find(|(key, object)| found.get(*key) != Some(*object));
    let wrong = changed.or_else(|| found.iter().find(|(key, object)| is_added(key, object)));
    Ok(wrong.map(|((kind, name), _)| format!("{kind} {name:?}")))
}

/// Takes the steps that are missing, each in a transaction of its own together with the number that counts it.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), SqliteOpenError> {
    take(&STEPS, connection, path)
}

fn take(steps: &[&str], connection: &mut Connection, path: &Path) -> Result<(), SqliteOpenError> {
    let failed = |error| open_error(path, error);
    let next = |connection: &Connection| {
        let version = recognise(connection).map_err(failed)?.accept(path)?;
        let step = usize::try_from(version).ok().and_then(|version| steps.get(version));
        Ok(step.map(|step| (version, *step)))
    };
    while next(connection)?.is_some() {
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        // Asked again under the lock: another process may have taken the step meanwhile.
        let Some((version, step)) = next(&transaction)? else { return Ok(()) };
        transaction.execute_batch(step).map_err(failed)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        transaction.pragma_update(None, "user_version", version + 1).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_does_not_come_to_its_end_leaves_the_schema_before_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        let [first] = STEPS;
        let broken = [first, "CREATE TABLE later (a); INSERT INTO nowhere VALUES (1)"];
        assert!(take(&broken, &mut connection, Path::new("keys.db")).is_err());
        let found = recognise(&connection).unwrap();
        assert_eq!((found.application, found.version), (APPLICATION_ID, 1));
        assert!(connection.prepare("SELECT * FROM later").is_err());
        assert!(connection.prepare("SELECT * FROM row").is_ok());
        migrate(&mut connection, Path::new("keys.db")).unwrap();
    }
}

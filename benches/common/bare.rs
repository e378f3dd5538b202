//! Recorded commits once more, as somebody would write them who has nothing but SQL: the same rows are read and
//! written, in the same transactions, by prepared statements on one connection with the settings of the library's.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;

use keyrota::{AuditRow, Head, Row, RowKind, SealedChangeset, Timestamp, Write};
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Params, TransactionBehavior};

use super::Error;

/// A connection to a database of the library's.
pub(crate) fn open(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open(path)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; \
         PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON",
    )?;
    Ok(connection)
}

/// A connection for making a database: fast, and lost when the system fails meanwhile.
pub(crate) fn make(path: &Path) -> Result<Connection, Error> {
    let connection = open(path)?;
    connection.execute_batch(
        "PRAGMA synchronous = OFF; PRAGMA secure_delete = OFF; PRAGMA cache_size = -1000000; \
         PRAGMA wal_autocheckpoint = 100000",
    )?;
    Ok(connection)
}

/// Writes many commits in one transaction, without what remembers that they were carried out: that is gone before long
/// wherever somebody ticks.
pub(crate) fn carry_over(connection: &mut Connection, commits: &[SealedChangeset]) -> Result<(), Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for commit in commits {
        for write in &commit.writes {
            if !matches!(write, Write::Insert(row) if row.kind == RowKind::Request) {
                carry_out(&transaction, write)?;
            }
        }
        for entry in &commit.audit {
            append(&transaction, entry)?;
        }
    }
    if let Some(last) = commits.last() {
        put_head(&transaction, &last.head)?;
    }
    Ok(transaction.commit()?)
}

/// How much each table holds.
pub(crate) fn contents(connection: &Connection) -> Result<Vec<(i64, i64, i64)>, Error> {
    let mut contents = Vec::new();
    for sql in [
        "SELECT kind, count(*), sum(length(body)) FROM row GROUP BY kind ORDER BY kind",
        "SELECT 0, count(*), sum(length(body)) FROM audit",
    ] {
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        contents.extend(rows.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(contents)
}

/// What is written, by kind.
pub(crate) fn told(commits: &[SealedChangeset]) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for commit in commits {
        for write in &commit.writes {
            let what = match write {
                Write::Insert(row) => format!("insert {}", row.kind.as_str()),
                Write::Replace { row, .. } => format!("replace {}", row.kind.as_str()),
                Write::Delete { kind, .. } => format!("delete {}", kind.as_str()),
                Write::Expect { kind, .. } => format!("expect {}", kind.as_str()),
                _ => "other".to_owned(),
            };
            *told.entry(what).or_default() += 1;
        }
        *told.entry("append entry".to_owned()).or_default() += commit.audit.len();
    }
    told
}

/// Reads what the commits' keys have, and writes the commits.
pub(crate) fn replay(
    connection: &mut Connection,
    commits: &[SealedChangeset],
    now: Timestamp,
) -> Result<(), Error> {
    for commit in commits {
        let keys = commit.writes.iter().filter(|write| replaces_a_key(write)).count();
        let due = read(connection, DUE, (RowKind::Key.code(), now.unix_micros(), keys as i64))?;
        for key in &due {
            read(connection, OF_KEY, (RowKind::Version.code(), key))?;
        }
        for write in &commit.writes {
            if let Write::Expect { kind, id, .. } = write {
                read(connection, BY_ID, (kind.code(), id))?;
            }
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.prepare_cached("SELECT revision, body, mac FROM head")?.query_row([], |row| {
            Ok(black_box((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, [u8; 32]>(2)?)))
        })?;
        for write in &commit.writes {
            carry_out(&transaction, write)?;
        }
        for entry in &commit.audit {
            append(&transaction, entry)?;
        }
        put_head(&transaction, &commit.head)?;
        transaction.commit()?;
    }
    Ok(())
}

fn replaces_a_key(write: &Write) -> bool {
    matches!(write, Write::Replace { row, .. } if row.kind == RowKind::Key)
}

macro_rules! rows {
    ($rest:literal) => {
        concat!(
            "SELECT id, kind, revision, parent, owner, due_at, ends_at, state, uniq, body, generation, mac \
             FROM row WHERE kind = ?1 ",
            $rest
        )
    };
}
const DUE: &str = rows!("AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3");
const OF_KEY: &str = rows!("AND parent = ?2 ORDER BY id");
const BY_ID: &str = rows!("AND id = ?2");

/// Reads rows whole; returns their ids.
fn read(connection: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next()? {
        ids.push(row.get(0)?);
        for column in 1..12 {
            black_box(row.get_ref(column)?);
        }
    }
    Ok(ids)
}

fn text(bytes: &[u8]) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(bytes))
}

fn carry_out(connection: &Connection, write: &Write) -> Result<(), Error> {
    match write {
        Write::Insert(row) => put(
            connection,
            "INSERT INTO row (kind, id, revision, parent, owner, due_at, ends_at, state, uniq, body, generation, mac) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            row,
        ),
        Write::Replace { row, .. } => put(
            connection,
            "UPDATE row SET revision = ?3, parent = ?4, owner = ?5, due_at = ?6, ends_at = ?7, state = ?8, \
             uniq = ?9, body = ?10, generation = ?11, mac = ?12 WHERE kind = ?1 AND id = ?2",
            row,
        ),
        Write::Expect { kind, id, .. } => {
            let mut statement =
                connection.prepare_cached("SELECT revision FROM row WHERE kind = ?1 AND id = ?2")?;
            black_box(statement.query_row((kind.code(), id), |row| row.get::<_, i64>(0)).optional()?);
            Ok(())
        }
        Write::Delete { kind, id, .. } if !kind.is_followed() => {
            let mut statement = connection.prepare_cached("DELETE FROM row WHERE kind = ?1 AND id = ?2")?;
            assert_eq!(statement.execute((kind.code(), id))?, 1);
            Ok(())
        }
        other => Err(format!("no rotation writes {other:?}").into()),
    }
}

fn put(connection: &Connection, sql: &str, row: &Row) -> Result<(), Error> {
    let written = connection.prepare_cached(sql)?.execute((
        row.kind.code(),
        &row.id,
        row.revision.0 as i64,
        &row.index.parent,
        &row.index.owner,
        row.index.due_at.map(Timestamp::unix_micros),
        row.index.ends_at.map(Timestamp::unix_micros),
        &row.index.state,
        &row.index.unique,
        text(&row.body),
        row.mac.generation.get(),
        row.mac.tag.as_slice(),
    ))?;
    assert_eq!(written, 1);
    Ok(())
}

fn append(connection: &Connection, entry: &AuditRow) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO audit (seq, at, kind, actor, key, version, owner, body, generation, mac) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute((
            entry.seq as i64,
            entry.at.unix_micros(),
            &entry.kind,
            &entry.actor,
            &entry.key,
            entry.version,
            &entry.owner,
            text(&entry.body),
            entry.mac.generation.get(),
            entry.mac.tag.as_slice(),
        ))?;
    Ok(())
}

fn put_head(connection: &Connection, head: &Head) -> Result<(), Error> {
    connection
        .prepare_cached(
            "INSERT INTO head (id, revision, floor, body, generation, mac) VALUES (1, ?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, floor = excluded.floor, \
             body = excluded.body, generation = excluded.generation, mac = excluded.mac",
        )?
        .execute((
            head.revision.0 as i64,
            head.floor.0 as i64,
            text(&head.body),
            head.mac.generation.get(),
            head.mac.tag.as_slice(),
        ))?;
    Ok(())
}

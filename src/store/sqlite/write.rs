//! Writing: a sealed changeset.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, ffi};

use crate::store::sqlite::error::store_error;
use crate::store::sqlite::read::{self, int};
use crate::store::{
    AuditRow, Changeset, CommitError, Head, Revision, Row, RowKind, StoreError, StoreErrorKind, Write,
};

/// Bytes that are UTF-8, as TEXT.
pub(super) fn text(bytes: &[u8]) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(bytes))
}

fn not_written(error: rusqlite::Error) -> CommitError {
    CommitError::NotWritten(store_error(error))
}

fn conflict(kind: RowKind, id: &str) -> CommitError {
    CommitError::Conflict { kind, id: id.to_owned() }
}

/// Whether a constraint of uniqueness refused the statement.
fn is_taken(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    matches!(code, Some(ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY))
}

/// Seals a changeset on the head as it is under the write lock, and writes all of it or nothing.
pub(super) fn commit(connection: &mut Connection, changeset: &Changeset) -> Result<Revision, CommitError> {
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(not_written)?;
    let before = read::head(&transaction).map_err(not_written)?;
    let tail = read::tail(&transaction).map_err(not_written)?;
    let sealed = changeset.seal(before.as_ref(), tail)?;
    // Nobody but an editor of the head brings the revision so far.
    if i64::try_from(sealed.head.revision.0).is_err() {
        return Err(CommitError::NotWritten(StoreErrorKind::Corrupt.into()));
    }
    for write in &sealed.writes {
        carry_out(&transaction, write, sealed.head.revision)?;
    }
    for entry in &sealed.audit {
        append(&transaction, entry)?;
    }
    finish(&transaction, before.as_ref(), &sealed.head).map_err(not_written)?;
    transaction.commit().map_err(of_commit)?;
    Ok(sealed.head.revision)
}

/// What an error of COMMIT itself leaves behind.
///
/// *Busy* and *full* come before the last frame of the commit is in the write-ahead log. Any other can come after
/// it, and then a later recovery may find the commit complete.
fn of_commit(error: rusqlite::Error) -> CommitError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DiskFull) => not_written(error),
        _ => CommitError::Unknown(store_error(error)),
    }
}

fn carry_out(connection: &Connection, write: &Write, revision: Revision) -> Result<(), CommitError> {
    match write {
        Write::Insert(row) => insert(connection, row),
        Write::Replace { row, expected } => replace(connection, row, *expected),
        Write::Delete { kind, id, expected } => delete(connection, *kind, id, *expected, revision),
        Write::Expect { kind, id, expected } => {
            let found = revision_of(connection, *kind, id).map_err(not_written)?;
            if found == expected.map(|expected| int(expected.0)) { Ok(()) } else { Err(conflict(*kind, id)) }
        }
    }
}

fn insert(connection: &Connection, row: &Row) -> Result<(), CommitError> {
    const SQL: &str = "INSERT INTO row \
        (kind, id, revision, parent, owner, due_at, ends_at, state, uniq, body, generation, mac) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    match put(connection, SQL, row, None) {
        Ok(_) => Ok(()),
        Err(error) if is_taken(&error) => Err(conflict(row.kind, &row.id)),
        Err(error) => Err(not_written(error)),
    }
}

fn replace(connection: &Connection, row: &Row, expected: Revision) -> Result<(), CommitError> {
    const SQL: &str = "UPDATE row SET revision = ?3, parent = ?4, owner = ?5, due_at = ?6, ends_at = ?7, \
        state = ?8, uniq = ?9, body = ?10, generation = ?11, mac = ?12 \
        WHERE kind = ?1 AND id = ?2 AND revision = ?13";
    match put(connection, SQL, row, Some(expected)) {
        Ok(1) => Ok(()),
        Ok(_) => Err(conflict(row.kind, &row.id)),
        Err(error) if is_taken(&error) => Err(conflict(row.kind, &row.id)),
        Err(error) => Err(not_written(error)),
    }
}

fn put(connection: &Connection, sql: &str, row: &Row, expected: Option<Revision>) -> rusqlite::Result<usize> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.raw_bind_parameter(1, row.kind.code())?;
    statement.raw_bind_parameter(2, &row.id)?;
    statement.raw_bind_parameter(3, int(row.revision.0))?;
    statement.raw_bind_parameter(4, &row.index.parent)?;
    statement.raw_bind_parameter(5, &row.index.owner)?;
    statement.raw_bind_parameter(6, row.index.due_at.map(i64::from))?;
    statement.raw_bind_parameter(7, row.index.ends_at.map(i64::from))?;
    statement.raw_bind_parameter(8, &row.index.state)?;
    statement.raw_bind_parameter(9, &row.index.unique)?;
    statement.raw_bind_parameter(10, text(&row.body))?;
    statement.raw_bind_parameter(11, row.mac.generation.get())?;
    statement.raw_bind_parameter(12, row.mac.tag.as_slice())?;
    if let Some(expected) = expected {
        statement.raw_bind_parameter(13, int(expected.0))?;
    }
    statement.raw_execute()
}

fn delete(
    connection: &Connection,
    kind: RowKind,
    id: &str,
    expected: Revision,
    revision: Revision,
) -> Result<(), CommitError> {
    let write = || {
        if kind.is_followed() {
            let mut note = connection.prepare_cached(
                "INSERT INTO gone (kind, id, revision) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (kind, id) DO UPDATE SET revision = excluded.revision",
            )?;
            note.execute((kind.code(), id, int(revision.0)))?;
        }
        let mut statement =
            connection.prepare_cached("DELETE FROM row WHERE kind = ?1 AND id = ?2 AND revision = ?3")?;
        statement.execute((kind.code(), id, int(expected.0)))
    };
    match write() {
        Ok(1) => Ok(()),
        Ok(_) => Err(conflict(kind, id)),
        Err(error) => Err(not_written(error)),
    }
}

fn revision_of(connection: &Connection, kind: RowKind, id: &str) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT revision FROM row WHERE kind = ?1 AND id = ?2")?;
    statement.query_row((kind.code(), id), |row| row.get(0)).optional()
}

fn append(connection: &Connection, entry: &AuditRow) -> Result<(), CommitError> {
    let write = || {
        let mut statement = connection.prepare_cached(
            "INSERT INTO audit (seq, at, kind, actor, key, version, owner, body, generation, mac) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        statement.execute((
            int(entry.seq),
            entry.at.unix_micros(),
            &entry.kind,
            &entry.actor,
            &entry.key,
            entry.version,
            &entry.owner,
            text(&entry.body),
            entry.mac.generation.get(),
            entry.mac.tag.as_slice(),
        ))
    };
    match write() {
        Ok(_) => Ok(()),
        // The next number is free unless somebody edited.
        Err(error) if is_taken(&error) => {
            Err(CommitError::NotWritten(StoreError::new(StoreErrorKind::Corrupt, error)))
        }
        Err(error) => Err(not_written(error)),
    }
}

/// Gives what was changed behind the library's back this commit's revision, and puts the new head in place.
fn finish(transaction: &Transaction<'_>, before: Option<&Head>, head: &Head) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("UPDATE touched SET revision = ?1 WHERE revision IS NULL")?
        .execute((int(head.revision.0),))?;
    if before.is_some_and(|before| before.floor < head.floor) {
        for sql in ["DELETE FROM gone WHERE revision <= ?1", "DELETE FROM touched WHERE revision <= ?1"] {
            transaction.prepare_cached(sql)?.execute((int(head.floor.0),))?;
        }
    }
    let mut statement = transaction.prepare_cached(
        "INSERT INTO head (id, revision, floor, body, generation, mac) VALUES (1, ?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, floor = excluded.floor, \
         body = excluded.body, generation = excluded.generation, mac = excluded.mac",
    )?;
    statement.execute((
        int(head.revision.0),
        int(head.floor.0),
        text(&head.body),
        head.mac.generation.get(),
        head.mac.tag.as_slice(),
    ))?;
    Ok(())
}

/// Brings what the write-ahead log holds into the database and empties the log, unless somebody is reading there;
/// says whether it is empty. <https://sqlite.org/pragma.html#pragma_wal_checkpoint>
pub(super) fn truncate_log(connection: &Connection) -> rusqlite::Result<bool> {
    let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(!busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_commit_is_certain_only_where_it_comes_before_the_last_frame() {
        let error = |code| of_commit(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        for (code, expected) in
            [(ffi::SQLITE_FULL, StoreErrorKind::Full), (ffi::SQLITE_BUSY, StoreErrorKind::Busy)]
        {
            assert!(matches!(error(code), CommitError::NotWritten(error) if error.kind() == expected));
        }
        for code in
            [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_NOMEM]
        {
            assert!(matches!(error(code), CommitError::Unknown(_)), "{code}");
        }
    }
}

//! Reading: rows, the feed and the audit log.
//!
//! What is read may have been edited by anybody. A value that no store writes is read as the nearest that can be
//! told, so that the MAC is wrong for its row and no other row suffers.

use std::borrow::Cow;
use std::ops::ControlFlow;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Params, params_from_iter};

use crate::keyring::Generation;
use crate::store::{
    AuditQuery, AuditRow, FeedItem, FeedPage, Head, Revision, RowFilter, RowIndexRef, RowKind, RowMac,
    RowRef, Tail,
};
use crate::time::Timestamp;

/// The columns of a row, in the order in which [`Cells::row`] reads them.
macro_rules! columns {
    () => {
        "r.kind, r.id, r.revision, r.parent, r.owner, r.due_at, r.ends_at, r.state, r.uniq, r.body, \
         r.generation, r.mac"
    };
}

/// A number that a store counts up from 1 as SQLite keeps it; none comes near the limit.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The cells of a row of a result, from left to right, none of which can fail to be read.
pub(super) struct Cells<'r, 'c> {
    row: &'r rusqlite::Row<'c>,
    next: usize,
}

impl<'r, 'c> Cells<'r, 'c> {
    pub(super) fn of(row: &'r rusqlite::Row<'c>) -> Self {
        Self { row, next: 0 }
    }

    fn cell(&mut self) -> ValueRef<'r> {
        let cell = self.row.get_ref(self.next).unwrap_or(ValueRef::Null);
        self.next += 1;
        cell
    }

    pub(super) fn bytes(&mut self) -> &'r [u8] {
        match self.cell() {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
            _ => &[],
        }
    }

    pub(super) fn text(&mut self) -> Option<Cow<'r, str>> {
        match self.cell() {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes)),
            _ => None,
        }
    }

    pub(super) fn integer<T: TryFrom<i64>>(&mut self) -> Option<T> {
        match self.cell() {
            ValueRef::Integer(number) => T::try_from(number).ok(),
            _ => None,
        }
    }

    fn revision(&mut self) -> Revision {
        Revision(self.integer().unwrap_or(0))
    }

    pub(super) fn time(&mut self) -> Option<Timestamp> {
        self.integer()
    }

    fn mac(&mut self) -> RowMac {
        let generation = Generation::new(self.integer().unwrap_or(0));
        RowMac { generation, tag: self.bytes().try_into().unwrap_or([0; 32]) }
    }

    fn kind(&mut self) -> Option<RowKind> {
        self.integer().and_then(RowKind::from_code)
    }

    /// A stored row, unless it is absent or of no kind that the library knows.
    fn row<T>(mut self, tell: impl FnOnce(RowRef<'_>) -> T) -> Option<T> {
        let kind = self.kind()?;
        let id = self.text().unwrap_or_default();
        let revision = self.revision();
        let (parent, owner) = (self.text(), self.text());
        let (due_at, ends_at) = (self.time(), self.time());
        let (state, unique) = (self.text(), self.text());
        let body = self.bytes();
        let index = RowIndexRef {
            parent: parent.as_deref(),
            owner: owner.as_deref(),
            due_at,
            ends_at,
            state: state.as_deref(),
            unique: unique.as_deref(),
        };
        Some(tell(RowRef { kind, id: &id, revision, index, body, mac: self.mac() }))
    }
}

/// What there is, whatever the head says: the highest revisions below ?1, and of the numbers in the log the last behind
/// which there is room. An entry that somebody put at the end of all numbers is none of the library's.
pub(super) const TAIL: [&str; 3] = [
    "SELECT revision FROM row INDEXED BY row_by_revision WHERE kind IN (1, 2, 3, 4) AND revision < ?1 \
     ORDER BY revision DESC LIMIT 1",
    "SELECT revision FROM gone WHERE revision < ?1 ORDER BY revision DESC LIMIT 1",
    "SELECT seq FROM audit AS a WHERE seq < ?1 \
     AND NOT EXISTS (SELECT 1 FROM audit AS b WHERE b.seq = a.seq + 1) ORDER BY seq DESC LIMIT 1",
];

pub(super) fn tail(connection: &Connection) -> rusqlite::Result<Tail> {
    let last = |sql: &str| -> rusqlite::Result<u64> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query((int(Tail::LIMIT),))?;
        Ok(rows.next()?.and_then(|row| Cells::of(row).integer()).unwrap_or(0))
    };
    let [row, gone, entry] = TAIL;
    Ok(Tail { revision: Revision(last(row)?.max(last(gone)?)), entry: last(entry)? })
}

/// The head, or `None` for an empty store.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<Option<Head>> {
    let mut statement =
        connection.prepare_cached("SELECT revision, floor, body, generation, mac FROM head WHERE id = 1")?;
    let mut rows = statement.query([])?;
    Ok(rows.next()?.map(|row| {
        let mut cells = Cells::of(row);
        Head {
            revision: cells.revision(),
            floor: cells.revision(),
            body: cells.bytes().to_vec(),
            mac: cells.mac(),
        }
    }))
}

/// The row with this kind and id.
pub(super) fn get(
    connection: &Connection,
    kind: RowKind,
    id: &str,
    each: &mut dyn FnMut(RowRef<'_>),
) -> rusqlite::Result<()> {
    const SQL: &str = concat!("SELECT ", columns!(), " FROM row r WHERE kind = ?1 AND id = ?2");
    rows(connection, SQL, (kind.code(), id), |row| {
        each(row);
        ControlFlow::Continue(())
    })
}

/// The row with this kind and unique field.
pub(super) fn find(
    connection: &Connection,
    kind: RowKind,
    unique: &str,
    each: &mut dyn FnMut(RowRef<'_>),
) -> rusqlite::Result<()> {
    const SQL: &str = concat!("SELECT ", columns!(), " FROM row r WHERE kind = ?1 AND uniq = ?2");
    rows(connection, SQL, (kind.code(), unique), |row| {
        each(row);
        ControlFlow::Continue(())
    })
}

/// Rows of a kind in the filter's order, until `each` breaks.
pub(super) fn scan(
    connection: &Connection,
    kind: RowKind,
    filter: RowFilter<'_>,
    each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let sql = scan_sql(&filter);
    let kind = kind.code();
    match filter {
        RowFilter::All { after: None } => rows(connection, sql, (kind,), each),
        RowFilter::All { after: Some(after) } => rows(connection, sql, (kind, after), each),
        RowFilter::Parent(parent) => rows(connection, sql, (kind, parent), each),
        RowFilter::Owner { owner, after: None } => rows(connection, sql, (kind, owner), each),
        RowFilter::Owner { owner, after: Some(after) } => rows(connection, sql, (kind, owner, after), each),
        RowFilter::Due { by, after: None } => rows(connection, sql, (kind, by.unix_micros()), each),
        RowFilter::Due { by, after: Some((due, id)) } => {
            rows(connection, sql, (kind, by.unix_micros(), due.unix_micros(), id), each)
        }
    }
}

/// The statement of a filter: one for each, so that each has an index to walk along.
pub(super) fn scan_sql(filter: &RowFilter<'_>) -> &'static str {
    macro_rules! scan {
        ($rest:literal) => {
            concat!("SELECT ", columns!(), " FROM row r WHERE r.kind = ?1", $rest)
        };
    }
    match filter {
        RowFilter::All { after: None } => scan!(" ORDER BY r.id"),
        RowFilter::All { after: Some(_) } => scan!(" AND r.id > ?2 ORDER BY r.id"),
        RowFilter::Parent(_) => scan!(" AND r.parent = ?2 ORDER BY r.id"),
        RowFilter::Owner { after: None, .. } => scan!(" AND r.owner = ?2 ORDER BY r.id"),
        RowFilter::Owner { after: Some(_), .. } => scan!(" AND r.owner = ?2 AND r.id > ?3 ORDER BY r.id"),
        RowFilter::Due { after: None, .. } => scan!(" AND r.due_at <= ?2 ORDER BY r.due_at, r.id"),
        RowFilter::Due { after: Some(_), .. } => {
            scan!(" AND r.due_at <= ?2 AND (r.due_at, r.id) > (?3, ?4) ORDER BY r.due_at, r.id")
        }
    }
}

fn rows(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    mut each: impl FnMut(RowRef<'_>) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        if let Some(ControlFlow::Break(())) = Cells::of(row).row(&mut each) {
            break;
        }
    }
    Ok(())
}

/// What commits of the library changed after revision ?1 and up to ?2, in their order. Who was deleted and is
/// there again is told as a row.
pub(super) const FEED: &str = concat!(
    "SELECT r.revision, r.kind, r.id, ",
    columns!(),
    " FROM row r INDEXED BY row_by_revision WHERE r.kind IN (1, 2, 3, 4) AND r.revision > ?1 AND r.revision <= ?2 \
     UNION ALL \
     SELECT g.revision, g.kind, g.id, ",
    columns!(),
    " FROM gone g LEFT JOIN row r ON r.kind = g.kind AND r.id = g.id \
     WHERE g.revision > ?1 AND g.revision <= ?2 AND r.n IS NULL \
     UNION ALL \
     SELECT t.revision, t.kind, t.id, ",
    columns!(),
    " FROM touched t LEFT JOIN row r ON r.kind = t.kind AND r.id = t.id \
     WHERE t.revision > ?1 AND t.revision <= ?2 \
     ORDER BY 1"
);

/// What somebody else changed and no commit has given a revision yet, told at every reading; so is a row with a
/// revision above the head's, ?1, which nobody but an editor writes.
pub(super) const FEED_PENDING: &str = concat!(
    "SELECT t.revision, t.kind, t.id, ",
    columns!(),
    " FROM touched t LEFT JOIN row r ON r.kind = t.kind AND r.id = t.id WHERE t.revision IS NULL \
     UNION ALL \
     SELECT r.revision, r.kind, r.id, ",
    columns!(),
    " FROM row r INDEXED BY row_by_revision WHERE r.kind IN (1, 2, 3, 4) AND r.revision > ?1"
);

/// Changes of followed kinds after `since`: about `limit` items, and always whole commits.
pub(super) fn feed(
    connection: &mut Connection,
    since: Revision,
    limit: usize,
    each: &mut dyn FnMut(FeedItem<'_>),
) -> rusqlite::Result<FeedPage> {
    let snapshot = connection.transaction()?;
    let head = head(&snapshot)?;
    let (floor, newest) = head.as_ref().map_or_else(Default::default, |head| (head.floor, head.revision));
    if since < floor || since > newest {
        return Ok(FeedPage { head, up_to: since, more: false });
    }
    let mut told = 0;
    let mut up_to = since;
    let mut statement = snapshot.prepare_cached(FEED)?;
    let mut rows = statement.query((int(since.0), int(newest.0)))?;
    while let Some(row) = rows.next()? {
        let mut cells = Cells::of(row);
        let revision = cells.revision();
        if told >= limit && told > 0 && revision > up_to {
            return Ok(FeedPage { head, up_to, more: true });
        }
        up_to = revision;
        told += usize::from(item(cells, each));
    }
    let mut statement = snapshot.prepare_cached(FEED_PENDING)?;
    let mut rows = statement.query((int(newest.0),))?;
    while let Some(row) = rows.next()? {
        let mut cells = Cells::of(row);
        cells.revision();
        item(cells, each);
    }
    Ok(FeedPage { head, up_to: newest, more: false })
}

/// Tells one item of the feed: the row that is there, or that none is.
fn item(mut cells: Cells<'_, '_>, each: &mut dyn FnMut(FeedItem<'_>)) -> bool {
    let (kind, id) = (cells.kind(), cells.text().unwrap_or_default());
    let Some(kind) = kind.filter(|kind| kind.is_followed()) else { return false };
    if cells.row(|row| each(FeedItem::Row(row))).is_none() {
        each(FeedItem::Gone { kind, id: &id });
    }
    true
}

/// Audit entries in the order of their numbers, until `each` breaks.
pub(super) fn audit(
    connection: &Connection,
    query: &AuditQuery<'_>,
    each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let text = |asked: Option<&str>| asked.map(|text| Value::Text(text.to_owned()));
    let time = |asked: Option<Timestamp>| asked.map(|time| Value::Integer(time.unix_micros()));
    let conditions = [
        (" AND kind = ?", text(query.kind)),
        (" AND actor = ?", text(query.actor)),
        (" AND key = ?", text(query.key)),
        (" AND version = ?", query.version.map(|version| Value::Integer(version.into()))),
        (" AND owner = ?", text(query.owner)),
        (" AND at >= ?", time(query.from)),
        (" AND at < ?", time(query.until)),
    ];
    let mut sql = String::from(
        "SELECT seq, at, kind, actor, key, version, owner, body, generation, mac FROM audit WHERE seq ",
    );
    // From the beginning means from before the first number: what stands there somebody else has put there.
    let (from, after) = if query.after == 0 { (">= ?", i64::MIN) } else { ("> ?", int(query.after)) };
    sql.push_str(from);
    let mut values = vec![Value::Integer(after)];
    for (condition, value) in conditions {
        if let Some(value) = value {
            sql.push_str(condition);
            values.push(value);
        }
    }
    sql.push_str(" ORDER BY seq");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        let mut cells = Cells::of(row);
        let row = AuditRow {
            seq: cells.integer().unwrap_or(0),
            at: cells.time().unwrap_or(Timestamp::MIN),
            kind: cells.text().unwrap_or_default().into_owned(),
            actor: cells.text().unwrap_or_default().into_owned(),
            key: cells.text().map(Cow::into_owned),
            version: cells.integer(),
            owner: cells.text().map(Cow::into_owned),
            body: cells.bytes().to_vec(),
            mac: cells.mac(),
        };
        if each(&row).is_break() {
            break;
        }
    }
    Ok(())
}

/// A number that differs whenever another connection has committed.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
}

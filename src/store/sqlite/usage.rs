//! Usage: batches as they come, each one packed row, and the sums to which a tick adds them.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, Params, TransactionBehavior};

use crate::store::sqlite::packed::{self, FORMAT};
use crate::store::sqlite::read::{Cells, int};
use crate::store::{
    CountedReason, DenialCounts, UsageBatch, UsageBucket, UsageCounts, UsageEntry, UsageQuery, UsageWriter,
};
use crate::time::Timestamp;

/// The columns of a sum, in the order in which [`sum`] reads them: the reasons as in [`CountedReason::ALL`].
macro_rules! sums {
    () => {
        "key, version, unit, begins, allowed, revoked, suspended, expired, retired, cancelled, undelivered, \
         not_yet, tampered, network, scope, rate_limit, quota, last_used"
    };
}

/// How many entries one row holds: a step of rolling up keeps the lock for no longer than these take.
const PACKED: usize = 2_000;

/// Which sums, and how old the day of an hour is: as stored.
mod unit {
    pub(super) const TOTAL: i64 = 0;
    pub(super) const DAY: i64 = 1;
    pub(super) const HOUR: i64 = 2;
}

fn stored(bucket: UsageBucket) -> (i64, i64) {
    let unit = match bucket {
        UsageBucket::Total => unit::TOTAL,
        UsageBucket::Day(_) => unit::DAY,
        UsageBucket::Hour(_) => unit::HOUR,
    };
    (unit, bucket.begin().unix_micros())
}

/// Appends a batch, unless it is there already; says whether anything was written.
pub(super) fn add(connection: &mut Connection, batch: &UsageBatch) -> rusqlite::Result<bool> {
    const WRITER: &str = "INSERT INTO writer (name, sequence, flushed_at, ended) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT (name) DO UPDATE SET sequence = excluded.sequence, \
        flushed_at = max(flushed_at, excluded.flushed_at), ended = excluded.ended \
        WHERE sequence < excluded.sequence";
    const BATCH: &str = "INSERT INTO usage_batch (format, writer, flushed_at, body) VALUES (?1, ?2, ?3, ?4)";
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let flushed_at = batch.flushed_at.unix_micros();
    let writer = (&batch.writer, int(batch.sequence), flushed_at, batch.ended);
    if transaction.prepare_cached(WRITER)?.execute(writer)? == 0 {
        return Ok(false);
    }
    for entries in batch.entries.chunks(PACKED) {
        let row = (FORMAT, &batch.writer, flushed_at, packed::pack(entries));
        transaction.prepare_cached(BATCH)?.execute(row)?;
    }
    transaction.commit()?;
    Ok(true)
}

/// A row of sums; none where somebody has put what no sum is.
fn sum(mut cells: Cells<'_, '_>) -> Option<(UsageBucket, UsageEntry)> {
    let mut entry = UsageEntry::new(cells.text()?.into_owned(), cells.integer()?);
    let (unit, begin) = (cells.integer()?, cells.time()?);
    let bucket = match unit {
        unit::TOTAL => UsageBucket::Total,
        unit::DAY => UsageBucket::Day(begin),
        unit::HOUR => UsageBucket::Hour(begin),
        _ => return None,
    };
    entry.counts.allowed = cells.integer().unwrap_or(0);
    for reason in CountedReason::ALL {
        entry.counts.denied.add(reason, cells.integer().unwrap_or(0));
    }
    entry.counts.last_used = cells.time();
    Some((bucket, entry))
}

/// The sums whose buckets begin from ?1 on and before ?2: of the keys ?3 to ?4, and of all.
pub(super) const SUMS: [&str; 2] = [
    concat!("SELECT ", sums!(), " FROM usage WHERE begins >= ?1 AND begins < ?2 AND key >= ?3 AND key <= ?4"),
    concat!(
        "SELECT ",
        sums!(),
        " FROM usage INDEXED BY usage_by_begin WHERE unit IN (0, 1, 2) AND begins >= ?1 AND begins < ?2"
    ),
];

fn tell_sums(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    each: &mut dyn FnMut(UsageBucket, &UsageEntry),
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        if let Some((bucket, entry)) = sum(Cells::of(row)) {
            each(bucket, &entry);
        }
    }
    Ok(())
}

/// Tells the sums, and what has come since they were last added to.
pub(super) fn usage(
    connection: &mut Connection,
    query: &UsageQuery<'_>,
    each: &mut dyn FnMut(UsageBucket, &UsageEntry),
) -> rusqlite::Result<()> {
    const BATCHES: &str = "SELECT flushed_at, body FROM usage_batch WHERE format = ?1";
    let snapshot = connection.transaction()?;
    let [of_keys, of_all] = SUMS;
    let from = query.from.map_or(0, i64::from);
    let until = query.until.map_or(i64::MAX, i64::from);
    if query.first_key.is_none() && query.last_key.is_none() {
        tell_sums(&snapshot, of_all, (from, until), each)?;
    } else {
        // No text is greater than a blob.
        let last = query.last_key.map_or(Value::Blob(Vec::new()), |last| Value::Text(last.to_owned()));
        let first = query.first_key.unwrap_or_default();
        tell_sums(&snapshot, of_keys, (from, until, first, last), each)?;
    }
    let mut statement = snapshot.prepare_cached(BATCHES)?;
    let mut rows = statement.query((FORMAT,))?;
    while let Some(row) = rows.next()? {
        let mut cells = Cells::of(row);
        let bucket = UsageBucket::hour_of(cells.time().unwrap_or(Timestamp::MIN));
        if !query.asks_for_bucket(bucket) {
            continue;
        }
        for found in packed::unpack(cells.bytes()) {
            let key = found.key();
            if query.asks_for_key(&key) {
                let entry =
                    UsageEntry { key: key.into_owned(), version: found.version, counts: found.counts };
                each(bucket, &entry);
            }
        }
    }
    Ok(())
}

pub(super) fn writers(connection: &Connection, each: &mut dyn FnMut(&UsageWriter)) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("SELECT name, sequence, flushed_at, ended FROM writer")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let mut cells = Cells::of(row);
        each(&UsageWriter {
            name: cells.text().unwrap_or_default().into_owned(),
            sequence: cells.integer().unwrap_or(0),
            flushed_at: cells.time().unwrap_or(Timestamp::MIN),
            ended: cells.integer().unwrap_or(0_i64) != 0,
        });
    }
    Ok(())
}

/// Whether anything is to be rolled up, so that a tick without work takes no lock.
pub(super) const IS_DUE: &str = "SELECT EXISTS (SELECT 1 FROM usage_batch WHERE format = ?1) \
    OR EXISTS (SELECT 1 FROM usage WHERE unit = 2 AND begins < ?2) \
    OR EXISTS (SELECT 1 FROM usage WHERE unit = 1 AND begins < ?3) \
    OR EXISTS (SELECT 1 FROM writer WHERE flushed_at < ?4)";

/// Sums by bucket, each of which is yet to be added to the one that is stored.
type Sums = BTreeMap<(String, u32, UsageBucket), UsageCounts>;

/// One step: batches into sums, hours into days, days into totals; writers that have been silent for long are forgotten.
pub(super) fn roll_up(connection: &mut Connection, now: Timestamp, limit: usize) -> rusqlite::Result<usize> {
    let (hours, days) = UsageBucket::horizons(now);
    let (hours, days) = (hours.unix_micros(), days.unix_micros());
    let silent = now.minus_or_min(UsageWriter::KEPT).unix_micros();
    let is_due = |connection: &Connection| {
        connection.prepare_cached(IS_DUE)?.query_row((FORMAT, hours, days, silent), |row| row.get(0))
    };
    if !is_due(connection)? {
        return Ok(0);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut sums = Sums::new();
    let mut moved = take_batches(&transaction, now, limit.max(1), &mut sums)?;
    for (unit, before) in [(unit::HOUR, hours), (unit::DAY, days)] {
        moved += take_aged(&transaction, (unit, before), now, limit.saturating_sub(moved), &mut sums)?;
    }
    for ((key, version, bucket), counts) in &sums {
        add_to_sum(&transaction, (key, *version, *bucket), counts)?;
    }
    const FORGET: &str =
        "DELETE FROM writer WHERE name IN (SELECT name FROM writer WHERE flushed_at < ?1 LIMIT ?2)";
    let rest = int(limit.saturating_sub(moved) as u64);
    moved += transaction.prepare_cached(FORGET)?.execute((silent, rest))?;
    transaction.commit()?;
    Ok(moved)
}

/// Takes out whole batches, the oldest first, until they have `limit` entries.
fn take_batches(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
    sums: &mut Sums,
) -> rusqlite::Result<usize> {
    const BATCHES: &str = "SELECT n, flushed_at, body FROM usage_batch WHERE format = ?1 ORDER BY n";
    let (mut taken, mut moved) = (Vec::new(), 0);
    {
        let mut statement = connection.prepare_cached(BATCHES)?;
        let mut rows = statement.query((FORMAT,))?;
        while moved < limit
            && let Some(row) = rows.next()?
        {
            let mut cells = Cells::of(row);
            taken.push(cells.integer::<i64>());
            let bucket = UsageBucket::hour_of(cells.time().unwrap_or(Timestamp::MIN)).at(now);
            for entry in packed::unpack(cells.bytes()) {
                moved += 1;
                let sum = sums.entry((entry.key().into_owned(), entry.version, bucket)).or_default();
                sum.absorb(&entry.counts);
            }
        }
    }
    let mut delete = connection.prepare_cached("DELETE FROM usage_batch WHERE n = ?1")?;
    for n in &taken {
        delete.execute((n,))?;
    }
    // A batch without a readable entry was a step too.
    Ok(moved.max(taken.len()))
}

/// Takes out sums of a unit that are kept in a longer bucket by now.
fn take_aged(
    connection: &Connection,
    (unit, before): (i64, i64),
    now: Timestamp,
    limit: usize,
    sums: &mut Sums,
) -> rusqlite::Result<usize> {
    const AGED: &str = concat!(
        "SELECT ",
        sums!(),
        " FROM usage INDEXED BY usage_by_begin WHERE unit = ?1 AND begins < ?2 LIMIT ?3"
    );
    const DELETE: &str = "DELETE FROM usage WHERE key = ?1 AND version = ?2 AND unit = ?3 AND begins = ?4";
    let mut aged = Vec::new();
    let mut statement = connection.prepare_cached(AGED)?;
    let mut rows = statement.query((unit, before, int(limit as u64)))?;
    while let Some(row) = rows.next()? {
        let name: (Value, Value, Value) = (row.get(0)?, row.get(1)?, row.get(3)?);
        aged.push((name, sum(Cells::of(row))));
    }
    let mut delete = connection.prepare_cached(DELETE)?;
    for ((key, version, begins), _) in &aged {
        delete.execute((key, version, unit, begins))?;
    }
    let moved = aged.len();
    for (bucket, entry) in aged.into_iter().filter_map(|(_, sum)| sum) {
        sums.entry((entry.key, entry.version, bucket.at(now))).or_default().absorb(&entry.counts);
    }
    Ok(moved)
}

fn add_to_sum(
    connection: &Connection,
    (key, version, bucket): (&str, u32, UsageBucket),
    counts: &UsageCounts,
) -> rusqlite::Result<()> {
    const FIND: &str = concat!(
        "SELECT ",
        sums!(),
        " FROM usage WHERE key = ?1 AND version = ?2 AND unit = ?3 AND begins = ?4"
    );
    const PUT: &str = concat!(
        "INSERT OR REPLACE INTO usage (",
        sums!(),
        ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)"
    );
    let (unit, begins) = stored(bucket);
    let mut counts = *counts;
    let mut find = connection.prepare_cached(FIND)?;
    let mut rows = find.query((key, version, unit, begins))?;
    if let Some((_, there)) = rows.next()?.and_then(|row| sum(Cells::of(row))) {
        counts.absorb(&there.counts);
    }
    let UsageCounts { allowed, denied, last_used } = counts;
    let mut put = connection.prepare_cached(PUT)?;
    put.raw_bind_parameter(1, key)?;
    put.raw_bind_parameter(2, version)?;
    put.raw_bind_parameter(3, unit)?;
    put.raw_bind_parameter(4, begins)?;
    put.raw_bind_parameter(5, int(allowed))?;
    for (at, count) in denied_cells(&denied) {
        put.raw_bind_parameter(at, count)?;
    }
    put.raw_bind_parameter(18, last_used.map(i64::from))?;
    put.raw_execute().map(drop)
}

/// The parameters of the reasons.
fn denied_cells(denied: &DenialCounts) -> impl Iterator<Item = (usize, i64)> {
    CountedReason::ALL.into_iter().enumerate().map(|(n, reason)| (6 + n, int(denied.get(reason))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_denials_are_named_as_the_reasons_and_in_their_order() {
        let columns: Vec<_> = sums!().split(", ").map(str::trim).collect();
        let reasons: Vec<_> = CountedReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(columns[5..17], reasons);
    }
}

//! What a flush of usage costs for each key that was used, against an update of the key's own row.
//!
//! `cargo bench --bench flush` prints lines `ratio NAME VALUE`; only ratios of one run mean anything on a machine whose
//! speed drifts. `-- --test` runs each measurement once, with few keys. The database lies in a temporary folder: set
//! `TMPDIR` to one on the disk that is meant.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and reports"
)]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use keyrota::{
    Actor, Clock as _, CountedReason, KeyManager, KeyStore, Keyring, NewKey, OwnerId, OwnerLimit,
    SqliteStore, SystemClock, UsageBatch, UsageEntry,
};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

/// A copy of the database, with the settings that the library's connections have.
fn copy(store: &SqliteStore, to: &Path) -> Result<Connection, Box<dyn Error>> {
    store.backup().to(to)?;
    let connection = Connection::open(to)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON")?;
    Ok(connection)
}

/// What a flush would be that counted in the rows of the keys: new revisions, bodies and MACs, in one commit.
fn update_rows(connection: &mut Connection, keys: &[String], round: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut update = transaction.prepare_cached(
            "UPDATE row SET revision = ?2, body = json_set(body, '$.used', ?3), mac = ?4 WHERE kind = 1 AND id = ?1",
        )?;
        for key in keys {
            update.execute((key, 1_000_000 + round, round, [round as u8; 32]))?;
        }
    }
    transaction.commit()
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<(), Box<dyn Error>> {
    let test_mode = std::env::args().any(|argument| argument == "--test");
    let (count, rounds) = if test_mode { (20, 1) } else { (10_000, 21) };
    let folder = tempfile::tempdir()?;
    let store = SqliteStore::open(folder.path().join("keys.db"))?;
    let keys = KeyManager::builder(SqliteStore::open(folder.path().join("keys.db"))?, Keyring::generate()?)
        .owner_limit(OwnerLimit::new(1_000_000)?)
        .open()?;
    let (mut tokens, mut ids) = (Vec::new(), Vec::new());
    for number in 0..count {
        let new = NewKey::new(OwnerId::new(&format!("owner-{}", number % 100))?, "bench")?;
        let issued = keys.by(Actor::service("bench")).issue(new)?;
        ids.push(issued.key.to_string());
        tokens.push(issued.token.expose().to_owned());
    }
    // A stride that visits each once: keys are used in no order.
    let used: Vec<_> = (0..count).filter_map(|n| ids.get(n * 7_919 % count).cloned()).collect();
    let mut rows = copy(&store, &folder.path().join("rows.db"))?;
    let validator = keys.validator()?;

    let [mut flushed, mut added, mut rolled, mut sorted, mut scattered, mut read] = [const { Vec::new() }; 6];
    let per_key = |begin: Instant| begin.elapsed().as_nanos() as f64 / count as f64;
    for round in 0..rounds {
        for token in &tokens {
            validator.validate(token)?;
        }
        let begin = Instant::now();
        let counted = validator.flush()?;
        flushed.push(per_key(begin));
        assert_eq!(counted, count, "each key was used");

        let entry = |id: &String| {
            let mut entry = UsageEntry::new(id.clone(), 1);
            (entry.counts.allowed, entry.counts.last_used) = (1_000, Some(SystemClock.now()));
            entry.counts.denied.add(CountedReason::RateLimit, 7);
            entry
        };
        let (writer, sequence) = ("bench".to_owned(), round as u64 + 1);
        let entries = ids.iter().map(entry).collect();
        let batch = UsageBatch { writer, sequence, flushed_at: SystemClock.now(), ended: false, entries };
        let begin = Instant::now();
        store.add_usage(&batch)?;
        added.push(per_key(begin));

        let begin = Instant::now();
        keys.last_used(ids.first().ok_or("no key")?.parse()?)?;
        read.push(begin.elapsed().as_nanos() as f64 / 1e3);

        let begin = Instant::now();
        while keys.tick()?.more {}
        rolled.push(per_key(begin));

        let begin = Instant::now();
        update_rows(&mut rows, &ids, 2 * round as i64)?;
        sorted.push(per_key(begin));
        let begin = Instant::now();
        update_rows(&mut rows, &used, 2 * round as i64 + 1)?;
        scattered.push(per_key(begin));
    }
    let flush = median(&mut flushed);
    println!("flush                     {flush:>8.0} ns a key of {count}");
    println!("of which in the store     {:>8.0} ns", median(&mut added));
    println!("rolled up by a tick       {:>8.0} ns, both batches", median(&mut rolled));
    println!("last use of one key       {:>8.1} us, with both batches unread by a tick", median(&mut read));
    let (sorted, scattered) = (median(&mut sorted), median(&mut scattered));
    println!("update of rows, in order  {sorted:>8.0} ns");
    println!("update of rows, as used   {scattered:>8.0} ns");
    println!("ratio row_update_over_flush_{count} {:.1}", scattered / flush);
    println!("ratio ordered_row_update_over_flush_{count} {:.1}", sorted / flush);
    Ok(())
}

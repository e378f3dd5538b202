//! What importing digests costs on SQLite, with every commit synced, against a bare loop of prepared statements that
//! inserts the same rows into the same tables; and how much memory it takes.
//!
//! `cargo bench --bench import`, with 100 K digests; `KEYROTA_BENCH_KEYS=1_000_000` with so many. The databases lie in a
//! temporary folder; `KEYROTA_BENCH_DIR` says in which. At its end lines `ratio NAME VALUE`. `-- --test` carries out
//! each measurement once, with few.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, reports, and stops where something is wrong"
)]
#![allow(dead_code, reason = "of what the benchmarks share, this takes its part")]

mod common;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use common::measure::{Run, nanos};
use common::{Error, bare};
use keyrota::{
    Actor, DigestForm, Import, ImportSource, KeyManager, KeyStore as _, Keyring, OwnerLimit, SqliteStore,
};
use rusqlite::types::Value;
use tempfile::TempDir;

/// How many keys an owner has.
const OWNED: usize = 100;
/// How many rows one transaction of the bare loop inserts; those of a batch of the importer.
const ROWS: usize = 2_000;

fn main() -> Result<(), Error> {
    let mut run = Run::begin();
    let sizes = run.sizes("KEYROTA_BENCH_KEYS", &[100_000]);
    for keys in if run.test { vec![2_500] } else { sizes } {
        measure(&mut run, keys)?;
    }
    run.end();
    Ok(())
}

fn folder() -> Result<TempDir, Error> {
    Ok(match std::env::var_os("KEYROTA_BENCH_DIR") {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    })
}

fn token(n: usize) -> String {
    format!("sk_live_{:016x}{n:016x}", (n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn digest(n: usize) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, token(n).as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A table as another system exports it.
fn export(path: &Path, keys: usize) -> Result<(), Error> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "key_hash,user_id,name,role,status,created_at,expires_at,metadata")?;
    for n in 0..keys {
        let owner = n / OWNED;
        let (hash, meta) = (digest(n), "\"{\"\"team\"\":\"\"a\"\"}\"");
        writeln!(file, "{hash},user-{owner},key {n},,active,2026-01-01 00:00:00,2030-01-01,{meta}")?;
    }
    Ok(file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?)
}

/// The most memory that the process has had resident at once, in MiB; 0 where the system does not tell.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn measure(run: &mut Run, count: usize) -> Result<(), Error> {
    let folder = folder()?;
    let (csv, path) = (folder.path().join("keys.csv"), folder.path().join("keys.db"));
    export(&csv, count)?;
    let keyring = Keyring::generate()?;
    let keys = KeyManager::builder(SqliteStore::open(&path)?, keyring)
        .owner_limit(OwnerLimit::new(1_000_000)?)
        .open()?;
    let act = || keys.by(Actor::operator("bench")).request("bench");
    let import = || -> Result<Import<'_>, Error> {
        Ok(Import::from(ImportSource::csv(File::open(&csv)?).form(DigestForm::Sha256)))
    };
    let before = peak();
    let dry = nanos(|| assert_eq!(act().import(import().unwrap().dry_run()).unwrap().imported, count as u64));
    let import_all = nanos(|| assert_eq!(act().import(import().unwrap()).unwrap().imported, count as u64));
    let memory = peak() - before;
    let resumed = nanos(|| assert_eq!(act().import(import().unwrap()).unwrap().before, count as u64));
    let begin = Instant::now();
    let validator = keys.validator()?;
    let loaded = begin.elapsed().as_secs_f64();
    assert_eq!(validator.held_versions().unwrap(), count);
    for n in (0..count).step_by(1 + count / 1_000) {
        validator.validate(token(n)).unwrap();
    }
    drop((validator, keys));
    let (bare_loop, rows) = insert(&path, &folder.path().join("bare.db"))?;
    let seconds = |nanos: f64| nanos / 1e9;
    println!("{count} digests, {rows} rows, {OWNED} keys for each owner");
    println!("  checked without writing         {:>9.2} s", seconds(dry));
    println!("  checked and imported            {:>9.2} s", seconds(import_all));
    println!("  of which writing                {:>9.2} s", seconds(import_all - dry));
    println!("  the same request once more      {:>9.2} s", seconds(resumed));
    println!("  the same rows, bare             {:>9.2} s", seconds(bare_loop));
    println!("  opened by a validator           {loaded:>9.2} s");
    println!("  most memory beyond the beginning {memory:>8.1} MiB");
    run.ratio(format!("import {count} / bare"), import_all / bare_loop);
    run.ratio(format!("import {count} without the check / bare"), (import_all - dry) / bare_loop);
    run.ratio(format!("import {count} memory MiB"), memory);
    Ok(())
}

/// Inserts all rows and entries of one database into another, and tells how long the inserting takes.
fn insert(from: &Path, to: &PathBuf) -> Result<(f64, usize), Error> {
    SqliteStore::open(to)?.close()?;
    let source = bare::open(from)?;
    let target = bare::open(to)?;
    let (mut took, mut rows) = (0.0, 0);
    let tables = [("row", 13), ("audit", 10), ("head", 6)];
    for (table, columns) in tables {
        let marks = vec!["?"; columns].join(", ");
        let sql = format!("INSERT INTO {table} VALUES ({marks})");
        let mut reading = source.prepare(&format!("SELECT * FROM {table} ORDER BY rowid"))?;
        let mut found = reading.query([])?;
        loop {
            let mut chunk: Vec<Vec<Value>> = Vec::with_capacity(ROWS);
            while chunk.len() < ROWS
                && let Some(row) = found.next()?
            {
                chunk.push((0..columns).map(|n| row.get(n)).collect::<Result<_, _>>()?);
            }
            if chunk.is_empty() {
                break;
            }
            rows += chunk.len();
            took += nanos(|| {
                target.execute_batch("BEGIN IMMEDIATE").unwrap();
                let mut statement = target.prepare_cached(&sql).unwrap();
                for row in &chunk {
                    statement.execute(rusqlite::params_from_iter(row)).unwrap();
                }
                target.execute_batch("COMMIT").unwrap();
            });
        }
    }
    Ok((took, rows))
}

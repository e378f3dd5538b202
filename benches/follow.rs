//! Following the store: loading against a bare scan of the rows, catching up after foreign changes, flushing; what junk
//! costs; and what a version takes in memory.
//!
//! `cargo bench --bench follow`, with 1 M keys; `KEYROTA_BENCH_KEYS=100_000` with others. The file is made commit by
//! commit, which takes minutes on a disk: `KEYROTA_BENCH_DIR=/dev/shm` makes it in memory (some gigabytes).
//! `KEYROTA_BENCH_PARTS=memory,junk` measures only these of `memory`, `junk`, `load` and `file`. At its end lines
//! `ratio NAME VALUE`; names that end in a unit are no ratios. `-- --test` carries out each measurement once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, reports, and stops where something is wrong"
)]

mod common;

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::Path;

use common::heap::{Counting, live, resident};
use common::issuing::{Asked, Issued, Issuing, OWNERS, today};
use common::measure::{Run, busy_nanos, median, nanos};
use common::stores::{Before, Lean};
use common::tokens::{Chance, Tokens};
use common::{Error, hmac_key};
use keyrota::{
    DenialReason, KeyStore, Keyring, MemoryStore, RowFilter, RowKind, SqliteStore, UsageBatch, UsageEntry,
    Validator,
};

#[global_allocator]
static HEAP: Counting = Counting;

fn main() -> Result<(), Error> {
    let mut run = Run::begin();
    let parts = std::env::var("KEYROTA_BENCH_PARTS").unwrap_or_default();
    let is_wanted = |part: &str| parts.is_empty() || parts.split(',').any(|wanted| wanted == part);
    let count = run.sizes("KEYROTA_BENCH_KEYS", &[1_000_000]).into_iter().max().unwrap_or_default();
    if is_wanted("memory") {
        let most = count * 14 / 10;
        let worst = worst_memory(OWNERS.min(count), most / 2..=most)?;
        println!("{most} keys, {OWNERS} owners: at worst {worst:.1} bytes for each version");
        run.ratio(format!("bytes_per_version_{count}"), worst);
        let worst = worst_memory(count / 2, count..=count)?;
        println!("{count} keys, {} owners: {worst:.1} bytes for each version", count / 2);
        run.ratio(format!("bytes_per_version_many_owners_{count}"), worst);
    }
    if is_wanted("junk") {
        junk(&mut run, count)?;
    }
    if is_wanted("load") {
        let (store, keyring) = (MemoryStore::new(), Keyring::generate()?);
        Issuing::on(Before::new(store.clone()).hiding_owners(), &keyring, OWNERS)?.issue(count)?;
        let ratio = load(&run, "memory", count, || Ok(store.clone()), &keyring)?;
        run.ratio(format!("open_over_scan_memory_{count}"), ratio);
    }
    if is_wanted("load") || is_wanted("file") {
        let folder = match std::env::var_os("KEYROTA_BENCH_DIR") {
            Some(folder) => tempfile::tempdir_in(folder)?,
            None => tempfile::tempdir()?,
        };
        file(&mut run, count, &folder.path().join("keys.db"))?;
    }
    run.end();
    Ok(())
}

/// The bytes for each version held, at the worst while the number of keys is in this range; owners included.
fn worst_memory(owners: usize, range: std::ops::RangeInclusive<usize>) -> Result<f64, Error> {
    let (store, keyring) = (Lean::default(), Keyring::generate()?);
    let mut issuing = Issuing::on(store.clone(), &keyring, owners)?;
    issuing.enter_owners()?;
    store.forget();
    let before = live();
    let validator = Validator::open(store.clone(), keyring)?;
    let step = (range.end() / 280).clamp(1, 5_000);
    let (mut held, mut worst) = (0, f64::NAN);
    while held < *range.end() {
        let part = step.min(range.end() - held);
        drop(issuing.issue(part)?);
        held += part;
        validator.catch_up()?;
        store.forget();
        if held >= *range.start() {
            worst = worst.max((live() - before) as f64 / held as f64);
        }
    }
    assert_eq!(validator.held_versions()?, held);
    Ok(worst)
}

/// A million tokens that nobody issued.
fn junk(run: &mut Run, count: usize) -> Result<(), Error> {
    let (store, keyring) = (Lean::default(), Keyring::generate()?);
    let mut issuing = Issuing::on(store.clone(), &keyring, OWNERS)?;
    let watched = Before::new(store.clone());
    let validator = Validator::open(watched.clone(), keyring)?;
    let mut tokens = Tokens::default();
    for _ in 0..count.min(100_000).div_ceil(5_000) {
        tokens.append(&issuing.issue(count.min(5_000))?.tokens);
        validator.catch_up()?;
        store.forget();
    }
    let unknown = Tokens::unknown(run.pick(500_000, 40), &mut Chance(7));
    let (malformed, wrong) = (unknown.malformed(), tokens.with_wrong_secrets());
    let all = [&wrong, &unknown, &malformed];
    // The first of each kind may make room once.
    for tokens in all {
        let _ = validator.validate(tokens.at(0));
    }
    let (calls, heap, memory) = (watched.calls(), live(), resident());
    let mut asked = 0;
    for token in all.iter().flat_map(|tokens| tokens.iter()).take(1_000_000) {
        let denial = validator.validate(token).unwrap_err();
        assert_eq!(denial.reason(), DenialReason::Unknown);
        asked += 1;
    }
    let (calls, heap) = (watched.calls() - calls, live().saturating_sub(heap));
    let memory = resident().saturating_sub(memory);
    println!("\n{asked} junk tokens: {calls} calls of the store; {heap} bytes more, resident {memory} more");
    run.ratio("junk_store_calls", calls as f64);
    run.ratio("junk_growth_mib", heap.max(memory) as f64 / f64::from(1 << 20));
    Ok(())
}

/// The rows that a replica reads, only looked at.
fn scan(store: &dyn KeyStore) -> Result<(), Error> {
    for kind in [RowKind::Version, RowKind::Owner, RowKind::Role, RowKind::Key] {
        let mut bytes = 0;
        store.scan(kind, RowFilter::All { after: None }, &mut |row| {
            bytes += black_box(row).body.len();
            ControlFlow::Continue(())
        })?;
        black_box(bytes);
    }
    Ok(())
}

/// How many times as long as a bare scan it takes to open a validator, by this thread's own time: a load that shared
/// its work with other threads would have to be judged by what is printed.
fn load<S: KeyStore>(
    run: &Run,
    name: &str,
    count: usize,
    open: impl Fn() -> Result<S, Error>,
    keyring: &Keyring,
) -> Result<f64, Error> {
    let (mut scans, mut loads, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..run.pick(5, 1) {
        let store = open()?;
        let (mut scanned, mut loaded, mut validator) = (0.0, 0.0, None);
        scans.push(nanos(|| scanned = busy_nanos(|| scan(&store).unwrap())) / 1e6);
        let store = open()?;
        let open = || validator = Some(Validator::open(store, keyring.clone()).unwrap());
        loads.push(nanos(|| loaded = busy_nanos(open)) / 1e6);
        assert_eq!(validator.unwrap().held_versions()?, count);
        ratios.push(loaded / scanned);
    }
    let (scan, load, ratio) = (median(scans), median(loads), median(ratios));
    println!(
        "\n{count} keys, {name}: scan {scan:.1} ms, open {load:.1} ms; by this thread's own time {ratio:.2}"
    );
    Ok(ratio)
}

fn hmac() -> f64 {
    let (key, message) = (hmac_key(), [b'x'; 55]);
    let sign = || black_box(ring::hmac::sign(&key, black_box(&message)));
    nanos(|| (0..1_000).for_each(|_| _ = sign())) / 1_000.0
}

/// Two handles on one file: one changes, the other follows.
fn file(run: &mut Run, count: usize, path: &Path) -> Result<(), Error> {
    let keyring = Keyring::generate()?;
    let theirs = SqliteStore::open(path)?;
    let mut issuing = Issuing::on(Before::new(theirs).hiding_owners(), &keyring, OWNERS)?;
    let Issued { tokens, keys, .. } = issuing.issue(count)?;
    let open = || Ok(SqliteStore::open(path)?);
    let ratio = load(run, "file", count, open, &keyring)?;
    run.ratio(format!("open_over_scan_file_{count}"), ratio);

    let ours = SqliteStore::open(path)?;
    println!("SQLite: {:?}, fallback: {:?}", ours.freshness(), ours.stamp_fallback());
    let validator = Validator::open(ours, keyring.clone())?;
    let asked = Asked::new()?;
    let granted =
        |call: usize| validator.validate_for(tokens.at(count - 1 - call % (count / 2)), asked.met());
    let mut revoked = keys.iter().zip(tokens.iter());
    let mut changes = Vec::new();
    let mut hmacs = Vec::new();
    for call in 0..run.pick(200, 2) {
        let (key, token) = revoked.next().unwrap();
        issuing.revoke(*key)?;
        changes.push(nanos(|| assert!(black_box(granted(call)).is_ok())));
        let denial = validator.validate(token).unwrap_err();
        assert_eq!(denial.reason(), DenialReason::Revoked);
        hmacs.push(hmac());
    }
    let (first, hmac) = (median(changes), median(hmacs));
    println!("\n{count} keys: first validation after a foreign revocation {:.1} µs", first / 1e3);
    run.ratio(format!("first_after_foreign_revocation_over_hmac_{count}"), first / hmac);
    run.ratio(format!("first_after_foreign_revocation_{count}_us"), first / 1e3);

    let many = run.pick(1_000.min(count / 20), 5);
    let mut changes = Vec::new();
    for _ in 0..run.pick(7, 1) {
        for (key, _) in revoked.by_ref().take(many) {
            issuing.revoke(*key)?;
        }
        changes.push(nanos(|| validator.catch_up().unwrap()));
    }
    let caught_up = median(changes);
    println!("{count} keys: catching up after {many} foreign changes {:.1} µs", caught_up / 1e3);
    run.ratio(format!("catch_up_{many}_over_{many}_hmacs_{count}"), caught_up / hmac / many as f64);
    run.ratio(format!("catch_up_{many}_{count}_us"), caught_up / 1e3);
    flush(run, &validator, path, (&tokens, &keys))
}

/// Flushing counts, against the store's bare adding of as many.
fn flush(
    run: &mut Run,
    validator: &Validator,
    path: &Path,
    (tokens, keys): (&Tokens, &[keyrota::KeyId]),
) -> Result<(), Error> {
    let store = SqliteStore::open(path)?;
    let (asked, count) = (Asked::new()?, tokens.len());
    let used = (count / 4).min(10_000);
    let entries = keys.iter().rev().take(used).map(|key| {
        let mut entry = UsageEntry::new(key.to_string(), 1);
        entry.counts.allowed = 1;
        entry.counts.last_used = Some(today());
        entry
    });
    let entries: Vec<_> = entries.collect();
    let (mut flushes, mut adds, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    validator.flush()?;
    for sequence in 0..run.pick(15, 1) {
        for number in 1..=used {
            assert!(validator.validate_for(tokens.at(count - number), asked.met()).is_ok());
        }
        let mut flushed = 0;
        let flush = nanos(|| flushed = validator.flush().unwrap());
        assert_eq!(flushed, used);
        let batch = UsageBatch {
            writer: "bench".to_owned(),
            sequence: sequence as u64 + 1,
            flushed_at: today(),
            ended: false,
            entries: entries.clone(),
        };
        let add = nanos(|| store.add_usage(&batch).unwrap());
        flushes.push(flush / 1e6);
        adds.push(add / 1e6);
        ratios.push(flush / add);
    }
    println!("{used} keys counted: flush {:.2} ms, bare adding {:.2} ms", median(flushes), median(adds));
    run.ratio(format!("flush_over_add_usage_{used}_of_{count}"), median(ratios));
    Ok(())
}

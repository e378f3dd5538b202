//! What it costs to notice that nobody has committed, and what a commit by somebody else costs each follower.
//!
//! `cargo bench --bench stamp`; at its end lines `ratio NAME VALUE`. `-- --test` runs each measurement once.
//!
//! The clock is too coarse to tell a validation with the stamp from one without it; instructions can be counted.
//! `--drive STORE COUNT` carries out so many validations and nothing else, on a store `constant` (whose stamp never
//! changes and costs nothing: stamps off), `memory`, `file` or `query`. The instructions of one validation are what
//! COUNT more of them add:
//!
//! ```text
//! cargo bench --bench stamp --no-run                  # names the program
//! count() { valgrind --tool=callgrind --callgrind-out-file=/dev/null PROGRAM --drive "$1" "$2" 2>&1 | grep Collected; }
//! for store in constant memory file query; do count $store 0; count $store 100000; done
//! ```
//!
//! Valgrind's processor has no SHA instructions, so what it counts of the hash is more than what runs elsewhere:
//! compare the stores with each other, not with the time.
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
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use common::issuing::{Asked, Issuing, today};
use common::measure::{Measured, Run, median, nanos};
use common::stores::Before;
use common::tokens::Tokens;
use common::{Error, hmac_key};
use keyrota::{KeyStore, Keyring, MemoryStore, SqliteStore, UsageBatch, UsageEntry, Validator};

/// A stamp against words that were published, as a validation compares them.
fn compares(store: &dyn KeyStore) -> Result<impl FnMut(usize) + '_, Error> {
    let published = store.stamp()?.0.map(AtomicU64::new);
    Ok(move |_| {
        let is_same = black_box(store).stamp().is_ok_and(|stamp| {
            stamp.0.iter().zip(&published).all(|(word, last)| *word == last.load(Ordering::Relaxed))
        });
        black_box(is_same);
    })
}

/// A validator with some keys, and their tokens.
struct Bed {
    validator: Validator,
    tokens: Tokens,
    keys: Vec<keyrota::KeyId>,
}

impl Bed {
    /// On a store of this kind, newly made.
    fn of(kind: &str, path: &Path, count: usize) -> Result<Self, Error> {
        let keyring = Keyring::generate()?;
        let memory = MemoryStore::new();
        let file = || SqliteStore::options().query_stamps(kind == "query").open(path);
        let in_file = matches!(kind, "file" | "query");
        let store = || -> Result<Before, Error> {
            Ok(if in_file { Before::new(file()?) } else { Before::new(memory.clone()) })
        };
        let issued = Issuing::on(store()?, &keyring, 10)?.issue(count)?;
        let validator = match kind {
            "constant" => Validator::open(store()?.standing_still(), keyring)?,
            "memory" => Validator::open(memory, keyring)?,
            "file" | "query" => Validator::open(file()?, keyring)?,
            other => return Err(format!("no store {other}: constant, memory, file or query").into()),
        };
        Ok(Self { validator, tokens: issued.tokens, keys: issued.keys })
    }

    fn validates<'a>(&'a self, asked: &'a Asked) -> impl FnMut(usize) + 'a {
        assert!(self.tokens.iter().all(|token| self.validator.validate_for(token, asked.met()).is_ok()));
        move |call| {
            let _ = black_box(self.validator.validate_for(black_box(self.tokens.at(call)), asked.met()));
        }
    }
}

fn main() -> Result<(), Error> {
    let folder = tempfile::tempdir()?;
    let (path, asked) = (folder.path().join("keys.db"), Asked::new()?);
    let arguments: Vec<_> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--drive") {
        let (kind, count) = (&arguments[at + 1], arguments[at + 2].parse()?);
        let bed = Bed::of(kind, &path, 100)?;
        (0..count).for_each(bed.validates(&asked));
        return Ok(());
    }
    let mut run = Run::begin();
    let memory = MemoryStore::new();
    let constant_bed = Bed::of("constant", &path, run.pick(1_000, 20))?;
    let memory_bed = Bed::of("memory", &path, run.pick(1_000, 20))?;
    let file_bed = Bed::of("file", &path, run.pick(1_000, 20))?;
    let file = SqliteStore::open(&path)?;
    let queried = SqliteStore::options().query_stamps(true).open(&path)?;
    println!("SQLite: {:?}, fallback: {:?}", file.freshness(), file.stamp_fallback());
    let key = hmac_key();
    let many = run.pick(20_000, 10);
    let round = run.round(
        "nobody commits",
        61,
        vec![
            Measured::call("hmac", many, |_| {
                black_box(ring::hmac::sign(&key, black_box(&[b'x'; 55])));
            }),
            Measured::call("stamp, memory", many, compares(&memory)?),
            Measured::call("stamp, file", many, compares(&file)?),
            Measured::call("stamp, file, by query", run.pick(1_000, 10), compares(&queried)?),
            Measured::call("validate, constant stamp", many, constant_bed.validates(&asked)),
            Measured::call("validate, memory", many, memory_bed.validates(&asked)),
            Measured::call("validate, file", many, file_bed.validates(&asked)),
        ],
    );
    for name in ["stamp, memory", "stamp, file", "stamp, file, by query"] {
        let ratio = format!("{}_over_hmac", name.replace(", ", "_").replace(' ', "_"));
        run.ratio(ratio, round.ratio(name, "hmac"));
    }
    for name in ["memory", "file"] {
        let ratio = round.ratio(&format!("validate, {name}"), "validate, constant stamp");
        run.ratio(format!("validate_{name}_over_constant_stamp"), ratio);
    }
    another_flushes(&mut run, &file_bed, &file)?;
    run.end();
    Ok(())
}

/// A flush by another process touches no state, and yet moves the stamp.
fn another_flushes(run: &mut Run, bed: &Bed, file: &SqliteStore) -> Result<(), Error> {
    let mut entry = UsageEntry::new(bed.keys[0].to_string(), 1);
    entry.counts.allowed = 1;
    let (mut flushes, mut followed) = (Vec::new(), Vec::new());
    for call in 0..run.pick(3_000, 3) {
        let entries = vec![entry.clone()];
        let batch = UsageBatch {
            writer: "bench".to_owned(),
            sequence: call as u64 + 1,
            flushed_at: today(),
            ended: false,
            entries,
        };
        flushes.push(nanos(|| file.add_usage(&batch).unwrap()));
        let token = bed.tokens.at(call);
        followed.push(nanos(|| {
            let _ = black_box(bed.validator.validate(token));
        }));
    }
    let (flush, followed) = (median(flushes), median(followed));
    println!("\nflush by another {flush:.0} ns, validation after it {followed:.0} ns");
    run.ratio("validate_after_foreign_flush_us", followed / 1e3);
    Ok(())
}

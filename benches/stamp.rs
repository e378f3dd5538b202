//! What it costs to notice that nobody has committed, and what a commit by somebody else costs each follower.
//!
//! `cargo bench --bench stamp`; `-- --test` runs each measurement once.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and reports"
)]

use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use keyrota::{
    Actor, Clock as _, KeyManager, KeyStore, Keyring, MemoryStore, NewKey, OwnerId, SqliteStore, SystemClock,
    UsageBatch, UsageEntry,
};

type Measured<'a> = (&'a str, usize, Box<dyn FnMut() + 'a>);

/// A stamp against words that were published, as a validation compares them.
fn compares(store: &dyn KeyStore) -> Result<impl FnMut() + '_, Box<dyn Error>> {
    let published = store.stamp()?.0.map(AtomicU64::new);
    Ok(move || {
        let is_same = black_box(store).stamp().is_ok_and(|stamp| {
            stamp.0.iter().zip(&published).all(|(word, last)| *word == last.load(Ordering::Relaxed))
        });
        black_box(is_same);
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let test_mode = std::env::args().any(|argument| argument == "--test");
    let (batches, scale) = if test_mode { (1, 0) } else { (31, 1) };
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("keys.db");
    let memory = MemoryStore::new();
    let file = SqliteStore::open(&path)?;
    let queried = SqliteStore::options().query_stamps(true).open(&path)?;
    let keys = KeyManager::open(SqliteStore::open(&path)?, Keyring::generate()?)?;
    let issued = keys.by(Actor::service("bench")).issue(NewKey::new(OwnerId::new("ada")?, "ci")?)?;
    let validator = keys.validator()?;
    println!("SQLite: {:?}, fallback: {:?}", file.freshness(), file.stamp_fallback());
    let sequence = std::cell::Cell::new(0);
    let batch = || {
        let mut entry = UsageEntry::new(issued.key.to_string(), 1);
        entry.counts.allowed = 1;
        sequence.set(sequence.get() + 1);
        UsageBatch {
            writer: "bench".to_owned(),
            sequence: sequence.get(),
            flushed_at: SystemClock.now(),
            ended: false,
            entries: vec![entry],
        }
    };
    let mut measured: Vec<Measured<'_>> = vec![
        ("stamp, memory", 1_000_000, Box::new(compares(&memory)?)),
        ("stamp, file", 1_000_000, Box::new(compares(&file)?)),
        ("stamp, file, by query", 2_000, Box::new(compares(&queried)?)),
        (
            "validation, unchanged",
            20_000,
            Box::new(|| {
                let _ = black_box(validator.validate(issued.token.expose()));
            }),
        ),
        ("flush by another", 300, Box::new(|| drop(black_box(file.add_usage(&batch()))))),
    ];
    let mut samples = vec![Vec::new(); measured.len()];
    for _ in 0..batches {
        for ((_, calls, call), samples) in measured.iter_mut().zip(&mut samples) {
            let calls = (*calls * scale).max(1);
            let begin = Instant::now();
            (0..calls).for_each(|_| call());
            samples.push(begin.elapsed().as_nanos() as f64 / calls as f64);
        }
    }
    for ((name, ..), samples) in measured.iter().zip(&mut samples) {
        samples.sort_by(f64::total_cmp);
        println!("{name:<30}{:>10.1} ns", samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN));
    }
    let mut catching_up = Vec::new();
    for _ in 0..batches * 300 * scale + 1 {
        file.add_usage(&batch())?;
        let begin = Instant::now();
        let _ = black_box(validator.validate(issued.token.expose()));
        catching_up.push(begin.elapsed().as_nanos());
    }
    catching_up.sort_unstable();
    let median = catching_up.get(catching_up.len() / 2).copied().unwrap_or_default();
    println!("{:<30}{median:>10}.0 ns", "validation after that flush");
    Ok(())
}

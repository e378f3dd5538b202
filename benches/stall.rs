//! How long a validation stalls at most when very many rows change at once, although its own key is not among them.
//!
//! `cargo bench --bench stall` revokes 50 K keys of one owner in one commit, which changes 100 K rows, while two threads
//! validate the key of another owner; `-- --test` does so with few keys.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and reports"
)]

mod common;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::stores::Before;
use keyrota::{
    Actor, KeyManager, KeyStore, Keyring, MemoryStore, NewKey, OwnerId, OwnerLimit, RevokeTarget,
    SqliteStore, Validator,
};

/// What one thread met.
#[derive(Default)]
struct Met {
    longest: Duration,
    validations: u64,
    denied: u64,
    longer_than_a_millisecond: u64,
}

/// Validates a token over and over, until it is told to stop.
fn validate(validator: &Validator, token: &str, stops: &AtomicBool) -> Met {
    let mut met = Met::default();
    while !stops.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let is_denied = validator.validate(token).is_err();
        let took = begin.elapsed();
        met.longest = met.longest.max(took);
        met.validations += 1;
        met.denied += u64::from(is_denied);
        met.longer_than_a_millisecond += u64::from(took > Duration::from_millis(1));
    }
    met
}

/// Two threads validate while some work is done.
fn during<T>(validator: &Validator, token: &str, work: impl FnOnce() -> T) -> (T, Vec<Met>) {
    let stops = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| validate(validator, token, &stops))).collect();
        let done = work();
        // What was changed is caught up with before this returns, by one of the three.
        let _ = validator.catch_up();
        stops.store(true, Ordering::Relaxed);
        (done, readers.into_iter().filter_map(|reader| reader.join().ok()).collect())
    })
}

fn show(what: &str, met: &[Met]) {
    for met in met {
        println!(
            "  {what:<34} longest {:>9.3} ms; {} of {} above 1 ms, {} denied",
            met.longest.as_secs_f64() * 1e3,
            met.longer_than_a_millisecond,
            met.validations,
            met.denied
        );
    }
}

fn measure(place: &str, store: Arc<dyn KeyStore>, count: usize) -> Result<(), Box<dyn Error>> {
    let keyring = Keyring::generate()?;
    let keys = KeyManager::builder(Arc::clone(&store), keyring.clone())
        .owner_limit(OwnerLimit::new(1_000_000)?)
        .open()?;
    let root = || keys.by(Actor::service("bench"));
    let many = OwnerId::new("many")?;
    // Each issuing counts its owner's keys, which with so many of them takes longer than everything else together.
    let not_counting = Before::new(Arc::clone(&store)).hiding_owners();
    let issuing = KeyManager::builder(not_counting, keyring.clone()).open()?;
    for _ in 0..count {
        issuing.by(Actor::service("bench")).issue(NewKey::new(many, "one-of-many")?)?;
    }
    let apart = root().issue(NewKey::new(OwnerId::new("apart")?, "apart")?)?;
    let token = apart.token.expose();
    let validator = keys.validator()?;
    let alone = Validator::open(Arc::clone(&store), keyring)?;
    println!("{place}, {} rows in one commit:", 2 * count);

    let idle = Duration::from_millis(if count > 1_000 { 1_000 } else { 10 });
    let ((), met) = during(&validator, token, || std::thread::sleep(idle));
    show("nothing changes", &met);

    let begin = Instant::now();
    let (revoked, met) = during(&validator, token, || root().revoke(RevokeTarget::OwnersKeys(many)));
    revoked?;
    println!(
        "  the commit, and catching up beside it        {:>9.3} ms",
        begin.elapsed().as_secs_f64() * 1e3
    );
    show("while all that changes", &met);

    let begin = Instant::now();
    alone.catch_up()?;
    println!(
        "  catching up, nobody beside it                {:>9.3} ms",
        begin.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let test_mode = std::env::args().any(|argument| argument == "--test");
    let count = if test_mode { 50 } else { 50_000 };
    measure("memory", Arc::new(MemoryStore::new()), count)?;
    let folder = tempfile::tempdir()?;
    measure("file", Arc::new(SqliteStore::open(folder.path().join("keys.db"))?), count)
}

//! The hot path: validations a second, against one `ring::hmac::sign` of the same length in the same run.
//!
//! `cargo bench --bench validate` prints lines `ratio NAME VALUE`; only ratios of one run mean anything on a machine
//! whose speed drifts. `-- --test` runs each measurement once.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and reports"
)]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use keyrota::{Actor, KeyManager, Keyring, MemoryStore, NewKey, OwnerId, OwnerLimit, Validator};

/// The median nanoseconds of one call, of batches that take turns so that a drift of the machine hits all alike.
fn medians(batches: usize, calls: usize, measured: &mut [(&str, &mut dyn FnMut(usize))]) -> Vec<f64> {
    let mut samples = vec![Vec::with_capacity(batches); measured.len()];
    for _ in 0..batches {
        for ((_, call), samples) in measured.iter_mut().zip(&mut samples) {
            let begin = Instant::now();
            (0..calls).for_each(&mut *call);
            samples.push(begin.elapsed().as_nanos() as f64 / calls as f64);
        }
    }
    let median = |mut samples: Vec<f64>| {
        samples.sort_by(f64::total_cmp);
        samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
    };
    samples.into_iter().map(median).collect()
}

fn issue(keys: &KeyManager, count: usize) -> Result<Vec<String>, Box<dyn Error>> {
    let mut tokens = Vec::with_capacity(count);
    for number in 0..count {
        let owner = OwnerId::new(&format!("owner-{}", number % 100))?;
        let new = NewKey::new(owner, "bench")?.scopes(["orders:read"].try_into()?);
        tokens.push(keys.by(Actor::service("bench")).issue(new)?.token.expose().to_owned());
    }
    Ok(tokens)
}

fn main() -> Result<(), Box<dyn Error>> {
    let test_mode = std::env::args().any(|argument| argument == "--test");
    let (count, batches, calls) = if test_mode { (10, 1, 10) } else { (1_000, 41, 20_000) };
    let keys = KeyManager::builder(MemoryStore::new(), Keyring::generate()?)
        .owner_limit(OwnerLimit::new(1_000_000)?)
        .open()?;
    let tokens = issue(&keys, count)?;
    let validator: Validator = keys.validator()?;
    let random = |call: usize| tokens.get(call.wrapping_mul(7_919) % count).map_or("", String::as_str);
    let wrong: Vec<_> = tokens.iter().map(|token| token.replace("key_", "oth_")).collect();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[7; 32]);
    let message = [b'x'; 55];

    let mut hmac = |_| {
        black_box(ring::hmac::sign(&key, black_box(&message)));
    };
    let mut granted = |call| {
        let _ = black_box(validator.validate(black_box(random(call))));
    };
    let mut denied = |call: usize| {
        let _ = black_box(validator.validate(wrong.get(call % count).map_or("", |token| token)));
    };
    let mut malformed = |_| {
        let _ = black_box(validator.validate(black_box("key_nonsense")));
    };
    let mut measured: [(&str, &mut dyn FnMut(usize)); 4] = [
        ("hmac", &mut hmac),
        ("granted", &mut granted),
        ("wrong_prefix", &mut denied),
        ("malformed", &mut malformed),
    ];
    let names: Vec<_> = measured.iter().map(|(name, _)| *name).collect();
    let medians = medians(batches, calls, &mut measured);
    let floor = medians.first().copied().unwrap_or(f64::NAN);
    for (name, median) in names.iter().zip(&medians) {
        println!("{name:<14}{median:>8.0} ns");
    }
    for (name, median) in names.iter().zip(&medians).skip(1) {
        println!("ratio {name}_over_hmac_{count} {:.2}", median / floor);
    }
    Ok(())
}

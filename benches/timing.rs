//! Whether the time of a denial tells something, by the method of dudect: Welch's t-test between two classes of tokens
//! that take turns at random. On demand; nothing is asserted, because a machine that is shared decides as well.
//!
//! `cargo bench --bench timing` prints t for each pair of classes, over all measurements and over those below some
//! percentiles; beyond ±4.5 there is a difference, beyond ±10 for certain. `-- --test` measures a few.
//!
//! What a client can vary is the token, not the digest, which is an HMAC of it under a key that nobody has outside. So
//! the first pair holds one wrong secret fixed, and with it one computed digest and one length of the prefix that this
//! has in common with the stored one, against wrong secrets at random, all with the same locator. In the second pair, both
//! are wrong secrets that differ from the right one in the last character only, or in all of them. The third tells how
//! much an unknown locator shows against a wrong secret: a little, by the lookup, and locators are no secret. The two
//! controls are two halves of the same class, which must not differ, and a malformed token, which must.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and reports"
)]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use keyrota::{Actor, KeyManager, Keyring, MemoryStore, NewKey, OwnerId, OwnerLimit, check_token};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A generator that is good enough to draw lots (xorshift64*).
struct Lots(u64);

impl Lots {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn base62(&mut self, length: usize) -> String {
        (0..length)
            .filter_map(|_| DIGITS.get(self.draw() as usize % 62))
            .map(|digit| char::from(*digit))
            .collect()
    }
}

/// A well-formed token of this locator and secret.
fn token(locator: &str, secret: &str) -> String {
    let mut rest = crc32fast::hash(format!("{locator}{secret}").as_bytes());
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS.get(rest as usize % 62).copied().unwrap_or_default();
        rest /= 62;
    }
    format!("key_{locator}{secret}{}", String::from_utf8_lossy(&digits))
}

/// Mean and variance, one measurement at a time (Welford).
#[derive(Clone, Copy, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn of(times: impl Iterator<Item = f64>) -> Self {
        times.fold(Self::default(), |Self { count, mean, squares }, time| {
            let (count, off) = (count + 1.0, time - mean);
            let mean = mean + off / count;
            Self { count, mean, squares: squares + off * (time - mean) }
        })
    }

    /// Welch's t.
    fn t(self, other: Self) -> f64 {
        let error = |of: Self| of.squares / (of.count - 1.0) / of.count;
        (self.mean - other.mean) / (error(self) + error(other)).sqrt()
    }
}

/// Measures two classes in turns drawn by lot, and prints t.
fn compare(name: &str, count: usize, lots: &mut Lots, mut call: impl FnMut(usize, usize)) {
    let mut times = [Vec::with_capacity(count), Vec::with_capacity(count)];
    for n in 0..2 * count {
        let class = lots.draw() as usize & 1;
        let begin = Instant::now();
        call(class, n);
        let took = begin.elapsed().as_nanos() as f64;
        if let Some(times) = times.get_mut(class) {
            times.push(took);
        }
    }
    let mut all: Vec<f64> = times.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let cropped = |share: f64| {
        let bound = all.get((all.len() as f64 * share) as usize).copied().unwrap_or(f64::INFINITY);
        times.each_ref().map(|times| Moments::of(times.iter().copied().filter(|time| *time <= bound)))
    };
    let [one, other] = cropped(0.9);
    print!("{name:<58} {:>6.1} {:>6.1} ns, t", one.mean, other.mean);
    for share in [1.0, 0.99, 0.9, 0.5] {
        let [one, other] = cropped(share);
        print!(" {:>8.2}", one.t(other));
    }
    println!();
}

fn main() -> Result<(), Box<dyn Error>> {
    let test_mode = std::env::args().any(|argument| argument == "--test");
    let (held, count) = if test_mode { (10, 100) } else { (1_000, 1_000_000) };
    let keys = KeyManager::builder(MemoryStore::new(), Keyring::generate()?)
        .owner_limit(OwnerLimit::new(1_000_000)?)
        .open()?;
    let mut issued = Vec::with_capacity(held);
    for _ in 0..held {
        let new = NewKey::new(OwnerId::new("ada")?, "timing")?;
        issued.push(keys.by(Actor::service("bench")).issue(new)?.token.expose().to_owned());
    }
    let validator = keys.validator()?;
    let mut lots = Lots(0x9E37_79B9_7F4A_7C15);
    let (_, tail) = issued.first().map_or(("", ""), |token| token.split_at(token.len().saturating_sub(61)));
    let (locator, right) = (tail.get(..12).unwrap_or(""), tail.get(12..55).unwrap_or(""));
    let nearly = format!("{}{}", right.get(..42).unwrap_or(""), if right.ends_with('x') { 'y' } else { 'x' });

    // As many tokens in each class, of the same length, so that memory is touched alike.
    let pool =
        |mut make: Box<dyn FnMut() -> String + '_>| -> Vec<String> { (0..1_024).map(|_| make()).collect() };
    let fixed_secret = lots.base62(43);
    let fixed = pool(Box::new(|| token(locator, &fixed_secret)));
    let near = pool(Box::new(|| token(locator, &nearly)));
    let random = pool(Box::new(|| token(locator, &lots.base62(43))));
    let halves = pool(Box::new(|| token(locator, &lots.base62(43))));
    let unknown = pool(Box::new(|| token(&lots.base62(12), &lots.base62(43))));
    let mut turn = 0;
    let known = pool(Box::new(|| {
        turn += 1;
        let of = issued.get(turn % held).map_or("", String::as_str);
        token(of.get(4..16).unwrap_or(""), &lots.base62(43))
    }));
    let malformed = pool(Box::new(|| "key_nonsense".to_owned()));
    for class in [&fixed, &near, &random, &halves, &unknown, &known] {
        assert!(class.iter().all(|token| check_token(token).is_ok() && validator.validate(token).is_err()));
    }
    println!("{:<58} means below the 90th percentile; t of all, and below the 99th, 90th, 50th", "");
    for (name, one, other) in [
        ("control: wrong secrets, both at random", &random, &halves),
        ("a fixed wrong secret, wrong secrets at random", &fixed, &random),
        ("wrong in the last character, wrong secrets at random", &near, &random),
        ("unknown locators, wrong secrets of known locators", &unknown, &known),
        ("control: a malformed token, a wrong secret", &malformed, &random),
    ] {
        compare(name, count, &mut lots, |class, n| {
            let token = if class == 0 { one } else { other }.get(n % 1_024).map_or("", String::as_str);
            let _ = black_box(validator.validate(black_box(token)));
        });
    }
    Ok(())
}

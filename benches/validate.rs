//! The hot path: validations with everything on, against one `ring::hmac::sign` of the same message and against the
//! floor of `common/floor.rs`, in random order; each kind of denial; two threads.
//!
//! `cargo bench --bench validate` measures with 1 K, 100 K and 1 M keys; `KEYROTA_BENCH_KEYS=10_000_000` with ten
//! million, which takes minutes and 6 GB. At its end lines `ratio NAME VALUE`. `-- --test` carries out each once.
//! `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` gives floor and library alike huge pages, where the system has them on request.
//! What two threads reach means something only while nothing else runs: time is each thread's own.
//!
//! *Everything on*: 1,000 owners; 50 profiles of scopes, some with networks; every key has a rate limit and a window;
//! the demand names a scope and an address; one in twenty keys is revoked.
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
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::floor::Floor;
use common::issuing::{Asked, Issuing, OWNERS, today};
use common::measure::{Measured, Round, Run};
use common::stores::Lean;
use common::tokens::{Chance, Tokens};
use common::{Error, hmac_key};
use keyrota::{Clock, Demand, DenialReason, Keyring, Timestamp, Validator};

/// The system's clock, so many days ahead.
#[derive(Clone, Default)]
struct Ahead(Arc<AtomicI64>);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        let days = self.0.load(Ordering::Relaxed);
        let day = Duration::from_secs(86_400 * days.unsigned_abs());
        if days < 0 { today().minus_or_min(day) } else { today().plus(day).unwrap_or(Timestamp::MAX) }
    }
}

/// More tokens than this are not kept for the calls: they are met at random among all keys.
const MOST: usize = 1_000_000;

/// Keys in two replicas, and in the floor.
struct World {
    issuing: Issuing,
    validator: Validator,
    /// A second replica, whose clock can be put forward and back.
    elsewhen: Validator,
    ahead: Ahead,
    floor: Floor,
    asked: Asked,
    tokens: Tokens,
    revoked: Tokens,
    walled: Tokens,
    chance: Chance,
}

impl World {
    fn of(count: usize) -> Result<Self, Error> {
        let (store, keyring) = (Lean::default(), Keyring::generate()?);
        let mut issuing = Issuing::on(store.clone(), &keyring, OWNERS)?;
        let validator = Validator::open(store.clone(), keyring.clone())?;
        let ahead = Ahead::default();
        let elsewhen = Validator::builder(store.clone(), keyring).clock(ahead.clone()).open()?;
        let [mut all, mut tokens, mut revoked, mut walled] =
            [const { None::<Tokens> }; 4].map(|_| Tokens::default());
        let mut left = count;
        while left > 0 {
            let part = left.min(5_000);
            let issued = issuing.issue(part)?;
            // The first ones of a part, whose threads and owners vary.
            let revoked_here = part / 20;
            for key in &issued.keys[..revoked_here] {
                issuing.revoke(*key)?;
            }
            for (number, token) in issued.tokens.iter().enumerate() {
                if number < revoked_here { revoked.push(token) } else { tokens.push(token) }
            }
            all.append(&issued.tokens);
            walled.append(&issued.walled);
            for follower in [&validator, &elsewhen] {
                follower.catch_up()?;
            }
            store.forget();
            left -= part;
        }
        assert_eq!(validator.held_versions()?, count);
        let mut chance = Chance(count as u64);
        let floor = Floor::of(&all, hmac_key());
        drop(all);
        let asked = Asked::new()?;
        let is_revoked = |token: &[u8]| {
            validator.validate(token).is_err_and(|denial| denial.reason() == DenialReason::Revoked)
        };
        let mut standing = Tokens::default();
        walled.iter().filter(|token| !is_revoked(token)).for_each(|token| standing.push(token));
        let tokens = tokens.shuffled(MOST, &mut chance);
        let revoked = revoked.shuffled(MOST, &mut chance);
        let walled = standing.shuffled(MOST, &mut chance);
        Ok(Self { issuing, validator, elsewhen, ahead, floor, asked, tokens, revoked, walled, chance })
    }
}

/// That all of these are denied for this reason, or granted.
fn agree(validator: &Validator, tokens: &Tokens, demand: Demand<'_>, reason: Option<DenialReason>) {
    for call in (0..tokens.len()).step_by(tokens.len() / 100 + 1) {
        let answer = validator.validate_for(tokens.at(call), demand);
        assert_eq!(answer.err().map(|denial| denial.reason()), reason);
    }
}

fn measure<'a>(
    name: &'static str,
    calls: usize,
    validator: &'a Validator,
    tokens: &'a Tokens,
    (demand, reason): (Demand<'a>, Option<DenialReason>),
) -> Measured<'a> {
    agree(validator, tokens, demand, reason);
    let begin = begin(name, tokens);
    Measured::call(name, calls, move |call| {
        let _ = black_box(validator.validate_for(black_box(tokens.at(begin + call)), demand));
    })
}

/// Where a measurement begins among the tokens: each elsewhere, or it would meet the entries that the one before it has
/// just called from memory. What is compared with the floor reads the same texts as the floor, whose entries are its own.
fn begin(name: &str, tokens: &Tokens) -> usize {
    let mixed = name.bytes().fold(7, |sum: usize, byte| sum.wrapping_mul(1_000_003) ^ usize::from(byte));
    if name == "validate" { 0 } else { mixed % tokens.len() }
}

fn main() -> Result<(), Error> {
    let mut run = Run::begin();
    for count in run.sizes("KEYROTA_BENCH_KEYS", &[1_000, 100_000, 1_000_000]) {
        let mut world = World::of(count)?;
        one_thread(&mut run, &mut world, count);
        two_threads(&mut run, &world, count);
        at_other_times(&mut run, &world, count)?;
    }
    run.end();
    Ok(())
}

/// Short batches and many: of those that nobody else interrupted there are enough for a median.
const TURNS: usize = 201;
const CALLS: usize = 4_000;

fn report(run: &mut Run, round: &Round, names: &[&str], to: &str, count: usize) {
    for name in names {
        run.ratio(format!("{name}_over_{to}_{count}"), round.ratio(name, to));
    }
}

fn one_thread(run: &mut Run, world: &mut World, count: usize) {
    let calls = run.pick(CALLS, 20);
    let unknown = Tokens::unknown(world.tokens.len(), &mut world.chance);
    let World { validator, floor, asked, tokens, revoked, walled, .. } = &*world;
    let (malformed, mistyped) = (tokens.malformed(), tokens.mistyped());
    let (wrong, other) = (tokens.with_wrong_secrets(), tokens.with_other_prefix());
    let key = hmac_key();
    assert!(tokens.iter().step_by(tokens.len() / 100 + 1).all(|token| floor.validate(token).is_some()));
    let met = asked.met();
    let denied = |reason| (met, Some(reason));
    let unknown_to_all = denied(DenialReason::Unknown);
    let measured = vec![
        Measured::call("hmac", calls, |call| {
            black_box(ring::hmac::sign(&key, black_box(tokens.covered(call))));
        }),
        Measured::call("floor", calls, |call| {
            black_box(floor.validate(black_box(tokens.at(call))));
        }),
        measure("validate", calls, validator, tokens, (met, None)),
        Measured::call("validate_asking_nothing", calls, |call| {
            let call = call + begin("validate_asking_nothing", tokens);
            let _ = black_box(validator.validate(black_box(tokens.at(call))));
        }),
        measure("malformed", calls, validator, &malformed, unknown_to_all),
        measure("bad_checksum", calls, validator, &mistyped, unknown_to_all),
        measure("unknown", calls, validator, &unknown, unknown_to_all),
        measure("wrong_secret", calls, validator, &wrong, unknown_to_all),
        measure("wrong_prefix", calls, validator, &other, unknown_to_all),
        measure("revoked", calls, validator, revoked, denied(DenialReason::Revoked)),
        measure("network", calls, validator, walled, (asked.elsewhere(), Some(DenialReason::Network))),
        measure("scope", calls, validator, tokens, (asked.too_much(), Some(DenialReason::Scope))),
        measure("limit", calls, validator, tokens, (asked.too_often(), Some(DenialReason::RateLimit))),
    ];
    let round = run.round(&format!("{count} keys, one thread"), TURNS, measured);
    report(run, &round, &["validate", "floor"], "hmac", count);
    report(run, &round, &["validate", "validate_asking_nothing"], "floor", count);
    run.ratio(format!("unknown_over_wrong_secret_{count}"), round.ratio("unknown", "wrong_secret"));
    let denials =
        ["malformed", "bad_checksum", "unknown", "wrong_secret", "wrong_prefix", "revoked", "network"];
    report(run, &round, &denials, "hmac", count);
    report(run, &round, &["scope", "limit"], "hmac", count);
}

fn two_threads(run: &mut Run, world: &World, count: usize) {
    let calls = run.pick(5 * CALLS, 20);
    let World { validator, floor, asked, tokens, .. } = world;
    let key = hmac_key();
    // Each thread in its own half.
    let token = |thread: usize, call: usize| tokens.at(call + thread * tokens.len() / 2);
    let hmac = |thread, call| {
        black_box(ring::hmac::sign(&key, black_box(&token(thread, call)[4..59])));
    };
    let bare = |thread, call| {
        black_box(floor.validate(black_box(token(thread, call))));
    };
    let whole = |thread, call| {
        let _ = black_box(validator.validate_for(black_box(token(thread, call)), asked.met()));
    };
    let hot_bare = |_, _| {
        black_box(floor.validate(black_box(tokens.at(0))));
    };
    let hot_whole = |_, _| {
        let _ = black_box(validator.validate_for(black_box(tokens.at(0)), asked.met()));
    };
    let measured = vec![
        Measured::threads("hmac, one thread", calls, 1, hmac),
        Measured::threads("hmac, two threads", calls, 2, hmac),
        Measured::threads("floor, one thread", calls, 1, bare),
        Measured::threads("floor, two threads", calls, 2, bare),
        Measured::threads("validate, one thread", calls, 1, whole),
        Measured::threads("validate, two threads", calls, 2, whole),
        Measured::threads("floor, hot key, one thread", calls, 1, hot_bare),
        Measured::threads("floor, hot key, two threads", calls, 2, hot_bare),
        Measured::threads("validate, hot key, one thread", calls, 1, hot_whole),
        Measured::threads("validate, hot key, two threads", calls, 2, hot_whole),
    ];
    let round =
        run.round(&format!("{count} keys, two threads: from one call to the next"), TURNS / 5, measured);
    for name in ["hmac", "floor", "validate", "floor, hot key", "validate, hot key"] {
        let more = round.ratio(&format!("{name}, one thread"), &format!("{name}, two threads"));
        run.ratio(format!("two_threads_{}_{count}", name.replace(", ", "_").replace(' ', "_")), more);
    }
}

/// Denials that time and owners bring, in the second replica and at last in the first.
fn at_other_times(run: &mut Run, world: &World, count: usize) -> Result<(), Error> {
    let calls = run.pick(CALLS, 20);
    let World { issuing, validator, elsewhen, ahead, asked, tokens, .. } = world;
    let key = hmac_key();
    let hmac = || {
        Measured::call("hmac", calls, |call| {
            black_box(ring::hmac::sign(&key, black_box(tokens.covered(call))));
        })
    };
    for (name, days, reason) in
        [("not_yet", -2, DenialReason::NotYet), ("expired", 40, DenialReason::Expired)]
    {
        ahead.0.store(days, Ordering::Relaxed);
        let denied = measure(name, calls, elsewhen, tokens, (asked.met(), Some(reason)));
        let round =
            run.round(&format!("{count} keys, {days} days from now"), TURNS / 2, vec![hmac(), denied]);
        report(run, &round, &[name], "hmac", count);
    }
    issuing.suspend_all()?;
    let suspended = (asked.met(), Some(DenialReason::Suspended));
    let denied = measure("suspended", calls, validator, tokens, suspended);
    let round = run.round(&format!("{count} keys, all owners suspended"), TURNS / 2, vec![hmac(), denied]);
    report(run, &round, &["suspended"], "hmac", count);
    Ok(())
}

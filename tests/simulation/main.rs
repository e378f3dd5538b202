//! The library beside a naive model of it: one seed drives acts, clocks, faults of the store, crashes and a second
//! host, and after every step the model and the library have to agree on what was answered, what validates, what is
//! seen and what the audit log says; beside that, `invariants.rs` has what must hold whatever the model says.
//!
//! The model shares no code with the crate: `family.rs` has the rules of one key, `naive.rs` those around it,
//! `views.rs` what may be seen. `chooser.rs` and `faults.rs` choose by seeded dice; `site.rs`, `put.rs` and `asks.rs` put
//! the same to the library, two hosts on each store; `faulty.rs` is the store between, which fails as planned and has
//! each commit entered in a `ledger.rs`. `world.rs`, `between.rs` and `compare.rs` take the steps, `play.rs` plays and
//! shortens a history.
//!
//! A failure prints the seed, the step, and a list of acts that is enough for it. Seeds that have failed once are
//! kept in `regressions.tsv`. Longer runs, or one seed again:
//!
//! ```text
//! KEYROTA_SIM_SEEDS=20000 KEYROTA_SIM_STEPS=2000 cargo test --release --test simulation -- --nocapture
//! KEYROTA_SIM_SEED=17 cargo test --test simulation       this seed only
//! KEYROTA_SIM_SHORT=4 …                                  all sequences of that length
//! KEYROTA_SIM_SHRINK=0 …                                 fails at once, with the whole list
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unreachable,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, reason = "a test has no public interface")]

#[path = "../delegating/mod.rs"]
mod delegating;

mod acts;
mod answers;
mod apart;
mod asks;
mod between;
mod chooser;
mod compare;
mod family;
mod faults;
mod faulty;
mod invariants;
mod ledger;
mod marks;
mod naive;
mod play;
mod put;
mod short;
mod site;
mod turn;
mod views;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use acts::{ACTS, Act, Asked, Planned, Policy, REST, Step, Wanted, word};
use answers::Answer;
use chooser::Chooser;
use faults::{Fault, Other, Swarm};
use naive::Naive;
use play::{Case, Store};
use world::{FIRST_LIMIT, FIRST_POLICY, START};

const SEEDS: u64 = 240;
const STEPS: usize = 300;
#[cfg(feature = "sqlite")]
const SQLITE_SEEDS: u64 = 24;

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

fn attempts() -> usize {
    number("KEYROTA_SIM_SHRINK").unwrap_or(300) as usize
}

type Pairs = BTreeMap<(String, String), u64>;

/// Plays seeds on all cores until one fails; returns how many steps they had, and which faults came at them.
fn play_seeds(seeds: u64, steps: usize, case: impl Fn(u64) -> Case + Sync) -> (usize, Pairs) {
    let (next, total) = (AtomicU64::new(1), AtomicUsize::new(0));
    let (failed, pairs) = (Mutex::new(None), Mutex::new(Pairs::new()));
    let stop = AtomicBool::new(false);
    let (next_of, last) = match number("KEYROTA_SIM_SEED") {
        Some(seed) => (seed, seed),
        None => (1, seeds),
    };
    next.store(next_of, Ordering::SeqCst);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed > last {
                        break;
                    }
                    let mut played = case(seed).play(steps);
                    total.fetch_add(played.history.len(), Ordering::SeqCst);
                    for pair in played.pairs.drain(..) {
                        *pairs.lock().unwrap().entry(pair).or_default() += 1;
                    }
                    if played.failure.is_some() {
                        stop.store(true, Ordering::SeqCst);
                        failed.lock().unwrap().get_or_insert((case(seed), played));
                    }
                }
            });
        }
    });
    if let Some((case, played)) = failed.into_inner().unwrap() {
        let (report, total) = (case.report(played, attempts()), total.into_inner());
        panic!("after {total} steps of all seeds: {report}");
    }
    (total.into_inner(), pairs.into_inner().unwrap())
}

fn seeds(usual: u64) -> u64 {
    number("KEYROTA_SIM_SEEDS").unwrap_or(usual)
}

fn steps(usual: usize) -> usize {
    number("KEYROTA_SIM_STEPS").map_or(usual, |steps| steps as usize)
}

#[test]
fn whatever_fails_in_memory_the_invariants_hold_and_every_act_meets_every_fault() {
    let (total, pairs) =
        play_seeds(seeds(SEEDS), steps(STEPS), |seed| Case { seed, store: Store::Memory, faults: true });
    println!("{total} steps in memory, {} faults at them", pairs.values().sum::<u64>());
    if number("KEYROTA_SIM_SEED").is_some() || total < SEEDS as usize * STEPS {
        return;
    }
    let mut missing = Vec::new();
    for act in ACTS.iter().chain(&REST) {
        for fault in faults::names() {
            let pair = ((*act).to_owned(), fault);
            if !pairs.contains_key(&pair) && can_meet(&pair.0, &pair.1) {
                missing.push(pair);
            }
        }
    }
    assert!(missing.is_empty(), "never together: {missing:?}");
}

/// Whether a fault can come at a step: only acts and ticks commit, and in a tick nobody else is let in.
fn can_meet(step: &str, fault: &str) -> bool {
    match fault {
        "Lost" | "Conflict" => !["Validate", "Flush", "Reopen"].contains(&step),
        "Full" => !["Validate", "Reopen"].contains(&step),
        "Behind" => !["Validate", "Flush", "Reopen"].contains(&step),
        "Flip" => !["Flush", "Reopen"].contains(&step),
        "OtherHost" => !["Tick", "Flush", "Reopen"].contains(&step),
        _ => true,
    }
}

#[cfg(feature = "sqlite")]
#[test]
fn whatever_fails_on_sqlite_the_invariants_hold() {
    let case = |seed| Case { seed: 1_000_000 + seed, store: Store::Sqlite, faults: true };
    let (total, _) = play_seeds(seeds(SQLITE_SEEDS), steps(150), case);
    println!("{total} steps on SQLite");
}

#[test]
fn without_faults_the_model_and_a_memory_store_agree() {
    let case = |seed| Case { seed: 2_000_000 + seed, store: Store::Memory, faults: false };
    let (total, _) = play_seeds(seeds(20), steps(150), case);
    println!("{total} steps in memory, without faults");
}

#[cfg(feature = "sqlite")]
#[test]
fn without_faults_the_model_a_memory_store_and_sqlite_agree() {
    let case = |seed| Case { seed: 3_000_000 + seed, store: Store::Both, faults: false };
    let (total, _) = play_seeds(seeds(6), steps(150), case);
    println!("{total} steps in memory and on SQLite, without faults");
}

#[test]
fn every_short_sequence_of_acts_on_one_key_comes_out_as_the_model_says() {
    let longest = number("KEYROTA_SIM_SHORT").unwrap_or(3) as u32;
    (1..=longest).for_each(every_sequence);
}

/// Each is looked at when it ends: what it begins with ends elsewhere.
fn every_sequence(length: u32) {
    let (next, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= short::count(length) {
                        break;
                    }
                    let mut told = Vec::new();
                    let steps = play::told(|| short::run(length, number, &mut |letter| told.push(letter)));
                    match steps {
                        Ok(steps) => drop(total.fetch_add(steps, Ordering::SeqCst)),
                        Err(failure) => {
                            next.store(usize::MAX / 2, Ordering::SeqCst);
                            panic!("sequence {number}, step {}: {failure}\n  {told:#?}", told.len());
                        }
                    }
                }
            });
        }
    });
    println!("{} sequences, {} steps", short::count(length), total.into_inner());
}

/// Seeds that have failed once: `memory|sqlite`, the seed, how many steps, and why.
#[test]
fn seeds_that_have_failed_once_pass() {
    for line in include_str!("regressions.tsv").lines().skip(1) {
        let fields: Vec<_> = line.split('\t').collect();
        let [store, seed, steps, why] = fields[..] else { panic!("not four fields: {line}") };
        let store = match store {
            "memory" => Store::Memory,
            #[cfg(feature = "sqlite")]
            "sqlite" => Store::Sqlite,
            _ => continue,
        };
        let case = Case { seed: seed.parse().unwrap(), store, faults: true };
        let played = case.play(steps.parse().unwrap());
        assert!(played.failure.is_none(), "{why}: {}", case.report(played, attempts()));
    }
}

/// A history that failed once, which the dice reach rarely.
#[test]
fn a_token_that_is_revoked_while_its_request_is_repeated_is_not_shown_again() {
    let case = Case { seed: 0, store: Store::Memory, faults: true };
    let issue = Act::Issue(Wanted::plain("ada"));
    let asked = |act: Act, request| Asked { who: "root", act, request };
    for at in 0..12 {
        let revoke = Act::RevokeVersion { key: 0, version: 1, compromised: false };
        let what = Other::Act(Asked { who: "other", ..asked(revoke, None) });
        let step = Step::Act { host: 0, asked: asked(issue.clone(), Some(1)) };
        let history = [None, Some(Fault::Other { at, what })];
        let history = history.map(|fault| Planned { step: step.clone(), fault, salt: 1 });
        assert_eq!(case.replay(&history), None, "before call {at}");
    }
}

/// Another, of an owner that has no place left.
#[test]
fn a_key_that_two_hosts_bring_back_at_once_is_not_in_its_own_way() {
    let case = Case { seed: 0, store: Store::Memory, faults: true };
    let asked = |who, act: Act| Asked { who, act, request: None };
    let step = |act: Act| Step::Act { host: 0, asked: asked("root", act) };
    let rotate = Act::Rotate { key: 0, supersede: false };
    let policy = Some(Policy { lifetime: naive::HOUR, overlap: 0 });
    for at in 0..12 {
        let what = Other::Act(asked("other", rotate.clone()));
        let history = [
            (step(Act::SetLimit { owner: "ada", limit: Some(1) }), None),
            (step(Act::Issue(Wanted { policy, ..Wanted::plain("ada") })), None),
            (Step::Clocks([START + 2 * naive::HOUR; 2]), None),
            (step(rotate.clone()), Some(Fault::Other { at, what })),
        ];
        let history = history.map(|(step, fault)| Planned { step, fault, salt: 1 });
        assert_eq!(case.replay(&history), None, "before call {at}");
    }
}

#[test]
fn the_dice_reach_every_act_every_refusal_and_every_verdict() {
    let mut seen = BTreeMap::new();
    let mut saw = |what: String| *seen.entry(what).or_insert(0) += 1;
    for seed in 1..=40 {
        let mut model = Naive::founded(FIRST_POLICY, FIRST_LIMIT, START);
        let (mut chooser, mut clocks) = (Chooser::new(seed, Swarm::calm(ACTS.len())), [START; 2]);
        for _ in 0..150 {
            match chooser.next(&model, clocks).step {
                Step::Act { host, asked } => {
                    let (tokens, act) = (model.tokens.len(), &asked.act);
                    match model.perform(&asked, clocks[host]) {
                        Ok(Answer::Shown { token, .. }) if token < tokens => saw("the same token".to_owned()),
                        Ok(_) => saw(word(act)),
                        Err(failure) => saw(word(&failure)),
                    }
                }
                Step::Tick { host } => saw(model.tick(clocks[host]).clock.to_owned()),
                Step::Clocks(set) => clocks = set,
                Step::Flush { .. } | Step::Reopen { .. } | Step::Validate { .. } | Step::WrongKey => {}
            }
            let t = clocks[0].max(model.mark);
            let verdicts = (0..model.tokens.len()).map(|token| model.verdict(token, Some("orders:read"), t));
            verdicts.for_each(|verdict| saw(verdict.err().unwrap_or("granted").to_owned()));
        }
    }
    let wanted = "KeyRevoked KeyEnded OwnerSuspended RotationOpen TooManyLive NoActiveVersion NotRollbackable \
         NoSuchVersion EmptyWindow GraceTooLong UnknownKey UnknownOwner UnknownRole NothingToReplace WouldWiden \
         OwnerLimit BadPolicy NothingToConfirm RequestReused AlreadyDone Steady Behind Jumped \
         granted Unknown Revoked Suspended Expired Retired NotYet Scope";
    for what in wanted.split_whitespace().chain(ACTS).chain(["the same token"]) {
        assert!(seen.contains_key(what), "never seen: {what}, of {seen:?}");
    }
}

#[test]
fn the_table_of_invariants_has_each_of_them_once() {
    let named: BTreeSet<_> = invariants::TABLE.iter().map(|(name, ..)| *name).collect();
    assert_eq!(
        named,
        (1..=17).map(|number| format!("I{number}")).collect::<Vec<_>>().iter().map(String::as_str).collect()
    );
    assert!(invariants::TABLE.iter().all(|(_, short, place)| !short.is_empty() && !place.is_empty()));
}

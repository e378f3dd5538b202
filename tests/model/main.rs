//! The library beside a naive model of it: random acts, and after every step the model, a memory store and an SQLite
//! file have to agree on what was answered, what validates, what is seen and what the audit log says.
//!
//! The model shares no code with the crate: `family.rs` has the rules of one key, `naive.rs` those around it,
//! `views.rs` what may be seen. `acts.rs` chooses by seeded dice; `site.rs` and `asks.rs` put the same to the library,
//! two hosts on each store, whose clocks may differ.
//!
//! A failure prints the seed, the step and the last acts. Longer runs, or one seed again:
//!
//! ```text
//! KEYROTA_MODEL_SEEDS=2000 cargo test --release --test model      that many seeds for each test
//! KEYROTA_MODEL_SEED=17 cargo test --test model                   this seed only
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]
#![allow(unreachable_pub, reason = "a test has no public interface")]

mod acts;
mod answers;
mod asks;
mod between;
mod family;
mod naive;
mod put;
mod site;
mod together;
mod views;
mod world;

use std::collections::BTreeMap;

use keyrota::MemoryStore;

use acts::{Chooser, Step};
use answers::Answer;
use naive::Naive;
use site::Backing;
use world::{FIRST_LIMIT, FIRST_POLICY, START, World};

const SEEDS: u64 = 30;
const STEPS: usize = 150;

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

fn each_seed(usual: u64, run: impl Fn(u64)) {
    match number("KEYROTA_MODEL_SEED") {
        Some(seed) => run(seed),
        None => (1..=number("KEYROTA_MODEL_SEEDS").unwrap_or(usual)).for_each(run),
    }
}

#[test]
fn a_memory_store_agrees_with_the_naive_model_after_every_step() {
    each_seed(SEEDS, |seed| {
        let mut world = World::new(seed, vec![("memory", Backing::Memory(MemoryStore::new()))]);
        let mut chooser = Chooser::new(seed);
        (0..STEPS).for_each(|_| world.step(&mut chooser));
    });
}

#[test]
fn two_hosts_in_the_midst_of_each_other_come_out_as_one_after_the_other() {
    each_seed(15, |seed| {
        let mut world = World::new(seed, vec![("memory", Backing::Memory(MemoryStore::new()))]);
        let mut chooser = Chooser::new(seed);
        (0..STEPS).for_each(|_| world.step_between(&mut chooser));
    });
}

#[test]
fn the_dice_reach_every_act_every_refusal_and_every_verdict() {
    let word = |text: String| text.split(|c: char| !c.is_alphabetic()).next().unwrap().to_owned();
    let mut seen = BTreeMap::new();
    let mut saw = |what: String| *seen.entry(what).or_insert(0) += 1;
    for seed in 1..=SEEDS {
        let mut model = Naive::founded(FIRST_POLICY, FIRST_LIMIT, START);
        let (mut chooser, mut clocks) = (Chooser::new(seed), [START; 2]);
        for _ in 0..STEPS {
            match chooser.next(&model, clocks) {
                Step::Act { host, asked } => {
                    let (tokens, act) = (model.tokens.len(), &asked.act);
                    match model.perform(&asked, clocks[host]) {
                        Ok(Answer::Shown { token, .. }) if token < tokens => saw("the same token".to_owned()),
                        Ok(_) => saw(word(format!("{act:?}"))),
                        Err(failure) => saw(word(format!("{failure:?}"))),
                    }
                }
                Step::Tick { host } => saw(model.tick(clocks[host]).clock.to_owned()),
                Step::Clocks(set) => clocks = set,
                Step::Flush | Step::Reopen { .. } => {}
            }
            let t = clocks[0].max(model.mark);
            let verdicts = (0..model.tokens.len()).map(|token| model.verdict(token, Some("orders:read"), t));
            verdicts.for_each(|verdict| saw(verdict.err().unwrap_or("granted").to_owned()));
        }
    }
    let wanted = "Issue Rotate Deprecate RollBack Replace RevokeKey RevokeVersion RevokeOwner Suspend Resume \
         SetPolicy SetDefaultLimit SetLimit SetCeiling SetRole Edit Purge ConfirmClock \
         KeyRevoked KeyEnded OwnerSuspended RotationOpen TooManyLive NoActiveVersion NotRollbackable NoSuchVersion \
         EmptyWindow GraceTooLong UnknownKey UnknownOwner UnknownRole NothingToReplace WouldWiden OwnerLimit \
         BadPolicy NothingToConfirm RequestReused AlreadyDone Steady Behind Jumped \
         granted Unknown Revoked Suspended Expired Retired NotYet Scope";
    for what in wanted.split_whitespace().chain(["the same token"]) {
        assert!(seen.contains_key(what), "never seen: {what}, of {seen:?}");
    }
}

#[cfg(feature = "sqlite")]
#[test]
fn an_sqlite_file_agrees_with_a_memory_store_and_the_naive_model_after_every_step() {
    // In memory where that is to be had: a commit waits for the disk.
    let shared = std::path::Path::new("/dev/shm");
    each_seed(8, |seed| {
        let folder =
            if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
        let backings = vec![
            ("memory", Backing::Memory(MemoryStore::new())),
            ("sqlite", Backing::Sqlite(folder.path().join("keys.db"))),
        ];
        // Other seeds than those of the memory store alone.
        let seed = if number("KEYROTA_MODEL_SEED").is_some() { seed } else { seed + 1_000_000 };
        let mut world = World::new(seed, backings);
        let mut chooser = Chooser::new(seed);
        (0..STEPS).for_each(|_| world.step(&mut chooser));
    });
}

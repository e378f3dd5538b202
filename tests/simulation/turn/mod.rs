//! Rotation by itself, claims, sinks and notifications under faults, by what must hold whatever happens.
//!
//! The naive model of the other histories knows none of these acts. Here two hosts share a store, a service behind a
//! sink, and a channel, each of which fails in its own ways; clients look, claim, repeat and switch; and beside them
//! stands no second machine that says what comes out, but the ledger, which knows what a commit may do to a row, and
//! `claims.rs`, which remembers what was promised. `steps.rs` draws a list of steps that means the same whatever is
//! left out of it, `world.rs` takes them, `looks.rs` looks at everything after each, and `end.rs` when all is over.

mod claims;
mod end;
mod looks;
mod outside;
mod steps;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::number;
use crate::play::told;
use steps::{Step, Wrong};
use world::World;

const SEEDS: usize = 30;
const STEPS: usize = 160;
/// Shorter histories of the same seed are tried this often.
const ATTEMPTS: usize = 200;

/// Where a history is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum On {
    Memory,
    #[cfg(feature = "sqlite")]
    Sqlite,
}

fn play(on: On, steps: &[Step]) -> Result<Vec<String>, String> {
    told(|| {
        let mut world = World::new(on);
        steps.iter().for_each(|step| world.step(step));
        world.end()
    })
}

/// What a failure says of itself: the seed, and the steps that are enough for it.
fn report(on: On, seed: u64, mut steps: Vec<Step>, failure: &str) -> String {
    let kind = |text: &str| text.chars().take_while(|c| !c.is_ascii_digit()).take(30).collect::<String>();
    let (mut last, mut attempts) = (failure.to_owned(), crate::attempts().min(ATTEMPTS));
    let mut size = steps.len().div_ceil(2);
    while size > 0 && attempts > 0 {
        let (mut at, mut shorter) = (0, false);
        while at < steps.len() && attempts > 0 {
            let mut without = steps.clone();
            without.drain(at..(at + size).min(steps.len()));
            attempts -= 1;
            match play(on, &without) {
                Err(text) if kind(&text) == kind(failure) => (steps, last, shorter) = (without, text, true),
                _ => at += size,
            }
        }
        if size == 1 && !shorter {
            break;
        }
        size = if size == 1 { 1 } else { size.div_ceil(2) };
    }
    let list: Vec<_> = steps.iter().map(|step| format!("    {step:?}")).collect();
    format!(
        "seed {seed} ({on:?}): {failure}\n  these steps are enough:\n{}\n  and end with: {last}",
        list.join("\n")
    )
}

fn play_seeds(on: On, seeds: impl IntoIterator<Item = u64>, length: usize) {
    let seeds: Vec<_> = match number("KEYROTA_SIM_SEED") {
        Some(seed) => vec![seed],
        None => seeds.into_iter().collect(),
    };
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let steps = steps::draw(*seed, length, Wrong::Everything);
                    if let Err(failure) = play(on, &steps) {
                        next.store(usize::MAX / 2, Ordering::SeqCst);
                        failed.lock().unwrap().get_or_insert((*seed, steps, failure));
                    }
                }
            });
        }
    });
    if let Some((seed, steps, failure)) = failed.into_inner().unwrap() {
        panic!("{}", report(on, seed, steps, &failure));
    }
    println!("{} seeds of {length} steps of rotation on {on:?}", seeds.len());
}

fn seeds(usual: usize) -> u64 {
    number("KEYROTA_SIM_SEEDS").unwrap_or(usual as u64)
}

fn length() -> usize {
    number("KEYROTA_SIM_STEPS").map_or(STEPS, |steps| steps as usize)
}

#[test]
fn rotation_by_itself_keeps_the_invariants_whatever_fails_in_memory() {
    play_seeds(On::Memory, 1..=seeds(SEEDS), length());
}

#[cfg(feature = "sqlite")]
#[test]
fn rotation_by_itself_keeps_the_invariants_whatever_fails_on_sqlite() {
    play_seeds(On::Sqlite, 1_000_001..=1_000_000 + seeds(4).min(200), length());
}

#[cfg(feature = "sqlite")]
#[test]
fn without_faults_memory_and_sqlite_record_the_same_rotations() {
    for seed in 2_000_001..=2_000_000 + seeds(3).min(100) {
        let steps = steps::draw(seed, length(), Wrong::Nothing);
        let [memory, sqlite] = [On::Memory, On::Sqlite].map(|on| play(on, &steps));
        let memory =
            memory.unwrap_or_else(|failure| panic!("{}", report(On::Memory, seed, steps.clone(), &failure)));
        let sqlite =
            sqlite.unwrap_or_else(|failure| panic!("{}", report(On::Sqlite, seed, steps.clone(), &failure)));
        let differ = memory.iter().zip(&sqlite).find(|(memory, sqlite)| memory != sqlite);
        assert_eq!((differ, memory.len()), (None, sqlite.len()), "seed {seed}");
    }
}

/// So that none of it is only written down: all that can happen does.
#[test]
fn the_histories_of_rotation_reach_all_that_may_happen() {
    let mut seen = std::collections::BTreeSet::new();
    let drawn = (1..=40).map(|seed| steps::draw(seed, length(), Wrong::Outside));
    for steps in drawn.chain(steps::rare()) {
        let recorded = play(On::Memory, &steps).unwrap_or_else(|failure| panic!("{failure}"));
        seen.extend(recorded.into_iter().filter_map(|line| line.split(' ').nth(1).map(str::to_owned)));
    }
    // Silence that retires a version takes longer than these histories; `tests/silence.rs` is about it.
    let wanted = "key_issued version_issued key_rotation version_deprecated version_reactivated version_ended \
        version_compromised rotation_scheduled rotation_started version_minted version_offered version_claimed \
        version_delivered version_activated version_first_used claim_conflict adoption_lagging \
        delivery_failing rotation_failed rotation_cancelled rotation_completed rotation_rolled_back key_revoked \
        key_edited key_purged owner_suspended owner_resumed policy_set auto_rotation_set management_set \
        notification_retried notification_dropped";
    let missing: Vec<_> = wanted.split_whitespace().filter(|kind| !seen.contains(*kind)).collect();
    assert!(missing.is_empty(), "never seen: {missing:?}");
}

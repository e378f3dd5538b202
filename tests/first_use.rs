//! The first use of a successor, where the process that saw it dies.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod hooked;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{START, at, keyring, new_key};
use hooked::{Fate, Hooked};
use keyrota::{Actor, ClockStart, KeyManager, KeyStore as _, ManualClock, RotationPolicy, Stage, UsageQuery};

/// How many uses the store was told of.
fn told(store: &Hooked) -> u64 {
    let mut told = 0;
    store.inner.usage(&UsageQuery::default(), &mut |_, entry| told += entry.counts.allowed).unwrap();
    told
}

#[test]
fn a_use_that_is_counted_in_the_store_is_recorded_as_the_first_one_before() {
    for closes in [false, true] {
        let (store, clock) = (Hooked::new(), ManualClock::new(at(START)));
        let keys = KeyManager::builder(Arc::clone(&store), keyring()).clock(clock.clone()).open().unwrap();
        let root = || keys.by(Actor::operator("root"));
        let policy = RotationPolicy::builder().clock_starts(ClockStart::FromFirstUse).build().unwrap();
        let issued = root().issue(new_key("ci").policy(policy)).unwrap();
        let second = root().rotate(issued.key).unwrap();
        let validator = keys.validator().unwrap();
        validator.validate(second.token.expose()).unwrap();
        let counted = Arc::new(AtomicU64::new(u64::MAX));
        // The next commit is that of the first use.
        store.before_commit({
            let (store, counted) = (Arc::clone(&store), Arc::clone(&counted));
            move || counted.store(told(&store), Ordering::SeqCst)
        });
        if closes { validator.close() } else { validator.flush().map(drop) }.unwrap();
        assert_eq!(counted.load(Ordering::SeqCst), 0, "whoever dies here has not told of the use");
        assert_eq!(told(&store), 1);
        let versions = keys.get(issued.key).unwrap().versions;
        assert_eq!((versions[0].stage, versions[1].stage), (Stage::Deprecated, Stage::Active));
        assert_eq!(versions[1].first_used_at, Some(at(START)));
    }
}

#[test]
fn a_first_use_that_could_not_be_recorded_is_recorded_by_the_next_flush_and_its_count_kept() {
    let (store, clock) = (Hooked::new(), ManualClock::new(at(START)));
    let keys = KeyManager::builder(Arc::clone(&store), keyring()).clock(clock.clone()).open().unwrap();
    let root = || keys.by(Actor::operator("root"));
    let policy = RotationPolicy::builder().clock_starts(ClockStart::FromFirstUse).build().unwrap();
    let issued = root().issue(new_key("ci").policy(policy)).unwrap();
    let second = root().rotate(issued.key).unwrap();
    let validator = keys.validator().unwrap();
    validator.validate(second.token.expose()).unwrap();
    store.fate(&[Fate::NotWritten]);
    assert!(validator.flush().is_err());
    assert_eq!((told(&store), keys.get(issued.key).unwrap().versions[1].stage), (1, Stage::Pending));
    validator.flush().unwrap();
    assert_eq!((told(&store), keys.get(issued.key).unwrap().versions[1].stage), (1, Stage::Active));
}

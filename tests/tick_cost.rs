//! What a tick reads: what is due, and nothing that grows with the keys that are not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod hooked;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use common::{START, at, keyring, new_key};
use hooked::Hooked;
use keyrota::{Actor, KeyManager, ManualClock, OwnerLimit, RowKind, TickReport, Timestamp};

/// What a tick found expired and began to rotate, the rows that it was shown, and how often it called each method.
type Cost = (usize, usize, u64, BTreeMap<&'static str, u64>);

/// Ticks with nothing due, with one rotation and with one expiry, beside so many keys that are not due.
fn costs(others: usize) -> [Cost; 3] {
    let (store, clock, shown) = (Hooked::new(), ManualClock::new(at(START)), Arc::new(AtomicU64::new(0)));
    let keys = KeyManager::builder(Arc::clone(&store), keyring())
        .clock(clock.clone())
        .owner_limit(OwnerLimit::new(1_000).unwrap())
        .auto_rotation(true)
        .open()
        .unwrap();
    let issue = |new| keys.by(Actor::operator("root")).issue(new).unwrap();
    issue(new_key("rotates"));
    issue(new_key("expires").auto_rotation(false).until(at("2027-03-26")));
    clock.set(at("2027-01-11"));
    for _ in 0..others {
        issue(new_key("other"));
    }
    // What remembers the issuing is cleaned on the way.
    for time in ["2027-01-20", "2027-02-15", "2027-03-05"] {
        clock.set(at(time));
        while keys.tick().unwrap().more {}
    }
    store.edit_rows({
        let shown = Arc::clone(&shown);
        move |_| _ = shown.fetch_add(1, Ordering::Relaxed)
    });
    let cost = |time: Timestamp| {
        clock.set(time);
        store.forget();
        shown.store(0, Ordering::Relaxed);
        let TickReport { expired, started, more, .. } = keys.tick().unwrap();
        assert!(!more);
        (expired, started, shown.load(Ordering::Relaxed), store.calls())
    };
    [at("2027-03-10"), at("2027-03-25"), at("2027-03-26")].map(cost)
}

#[test]
fn what_a_tick_reads_does_not_grow_with_the_keys_that_are_not_due() {
    let (few, many) = (costs(3), costs(300));
    let done = few.each_ref().map(|(expired, started, ..)| (*expired, *started));
    assert_eq!(done, [(0, 0), (0, 1), (1, 0)]);
    assert_eq!(few, many);
}

#[test]
fn a_tick_reads_each_row_of_a_due_key_once() {
    let (store, clock) = (Hooked::new(), ManualClock::new(at(START)));
    let keys = KeyManager::builder(Arc::clone(&store), keyring())
        .clock(clock.clone())
        .owner_limit(OwnerLimit::new(1_000).unwrap())
        .auto_rotation(true)
        .open()
        .unwrap();
    for _ in 0..20 {
        keys.by(Actor::operator("root")).issue(new_key("rotates")).unwrap();
    }
    for time in ["2027-01-20", "2027-02-15", "2027-03-05"] {
        clock.set(at(time));
        while keys.tick().unwrap().more {}
    }
    let shown = Arc::new(Mutex::new(BTreeMap::<_, usize>::new()));
    store.edit_rows({
        let shown = Arc::clone(&shown);
        move |row| *shown.lock().unwrap().entry((row.kind, row.id.clone())).or_default() += 1
    });
    clock.set(at("2027-03-25"));
    let TickReport { started, more, .. } = keys.tick().unwrap();
    assert_eq!((started, more), (20, false));
    let shown = shown.lock().unwrap();
    let often = |wanted: RowKind| {
        let times = shown.iter().filter(|((kind, _), _)| *kind == wanted);
        times.map(|(_, times)| *times).collect::<Vec<_>>()
    };
    // The key that is due first from now on is shown once more, when that is asked.
    let mut of_keys = often(RowKind::Key);
    of_keys.sort_unstable();
    assert_eq!(of_keys, [vec![1; 19], vec![2]].concat());
    assert_eq!(often(RowKind::Version), vec![1; 20]);
    assert_eq!(often(RowKind::Owner).into_iter().max(), Some(1), "of all keys together");
}

#[test]
fn a_key_that_is_rotated_while_it_is_read_is_shown_as_of_one_moment() {
    let (store, clock) = (Hooked::new(), ManualClock::new(at(START)));
    let open = || {
        let keys = KeyManager::builder(Arc::clone(&store), keyring()).clock(clock.clone());
        keys.auto_rotation(true).open().unwrap()
    };
    let (keys, other) = (open(), open());
    let key = keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap().key;
    let before = keys.get(key).unwrap();
    store.before_versions(move || {
        other.by(Actor::operator("root")).rotate(key).unwrap();
    });
    let between = keys.get(key).unwrap();
    assert_eq!(between, keys.get(key).unwrap());
    assert_ne!(between.next_rotation_at, before.next_rotation_at, "of the key's row");
    assert_eq!(between.versions.len(), 2, "of its versions");
}

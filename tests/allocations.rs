//! The hot path allocates nothing: counted by the allocator itself, in a process of its own.
#![allow(unsafe_code, reason = "an allocator can only be implemented so; it forwards each call unchanged")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use keyrota::http::{Answers, Credentials, CredentialsError};
use keyrota::{Actor, Demand, KeyManager, KeyStore, Keyring, MemoryStore, NewKey, OwnerId, RateLimit, Scope};

struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    CALLS.set(CALLS.get() + 1);
}

// SAFETY: every call is the system allocator's own, with its own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_validation_of_an_unchanged_store_allocates_nothing() {
    allocates_nothing_on(MemoryStore::new());
}

#[cfg(feature = "sqlite")]
#[test]
fn a_validation_of_an_unchanged_file_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    allocates_nothing_on(keyrota::SqliteStore::open(folder.path().join("keys.db")).unwrap());
}

fn allocates_nothing_on(store: impl KeyStore) {
    let keys = KeyManager::open(store, Keyring::generate().unwrap()).unwrap();
    let validator = keys.validator().unwrap();
    let root = || keys.by(Actor::operator("root"));
    let new = |name| NewKey::new(OwnerId::new("ada").unwrap(), name).unwrap();
    let granted = root().issue(new("granted").scopes(["orders:read"].try_into().unwrap())).unwrap();
    let revoked = root().issue(new("revoked")).unwrap();
    root().revoke(revoked.key).unwrap();
    let (held, wanting): (Scope, Scope) = ("orders:read".parse().unwrap(), "orders:write".parse().unwrap());
    let (rest, last) = granted.token.expose().split_at(granted.token.expose().len() - 1);
    let wrong = format!("{rest}{}", if last == "x" { "y" } else { "x" });
    validator.catch_up().unwrap();
    let before = CALLS.get();
    let mut grants = 0;
    for _ in 0..100 {
        grants += u32::from(validator.validate_for(granted.token.expose(), Demand::scope(&held)).is_ok());
        grants += u32::from(validator.validate_for(granted.token.expose(), Demand::scope(&wanting)).is_ok());
        grants += u32::from(validator.validate(revoked.token.expose()).is_ok());
        grants += u32::from(validator.validate(&wrong).is_ok());
    }
    assert_eq!((CALLS.get() - before, grants), (0, 100));
    assert!(CALLS.get() > 0, "the allocator counts");
}

/// Four threads use it at once, so that parts of its limit are set aside; a refusal looks into all of them.
#[test]
fn a_refusal_of_a_hot_key_allocates_nothing() {
    let keys = KeyManager::open(MemoryStore::new(), Keyring::generate().unwrap()).unwrap();
    let validator = keys.validator().unwrap();
    let limit = RateLimit::per_day(1_000_000).unwrap();
    let new = NewKey::new(OwnerId::new("ada").unwrap(), "hot").unwrap().limits(limit);
    let issued = keys.by(Actor::operator("root")).issue(new).unwrap();
    let token = issued.token.expose();
    std::thread::scope(|scope| {
        let uses = || assert!((0..5_000).all(|_| validator.validate(token).is_ok()));
        for _ in 0..4 {
            scope.spawn(uses);
        }
    });
    let before = CALLS.get();
    let refused = (0..10).filter(|_| validator.validate_for(token, Demand::NOTHING.cost(999_999)).is_err());
    assert_eq!((refused.count(), CALLS.get() - before), (10, 0));
}

/// What a flood brings, and what a usual request does, is answered with texts that are there already.
#[test]
fn an_http_answer_that_says_nothing_of_its_own_allocates_nothing() {
    let keys = KeyManager::open(MemoryStore::new(), Keyring::generate().unwrap()).unwrap();
    let validator = keys.validator().unwrap();
    let new = NewKey::new(OwnerId::new("ada").unwrap(), "ci").unwrap();
    let issued = keys.by(Actor::operator("root")).issue(new).unwrap();
    let answers = Answers::new("orders").unwrap().claim_at("/claim").unwrap();
    let bearer = format!("Bearer {}", issued.token.expose());
    validator.catch_up().unwrap();
    let before = CALLS.get();
    let mut statuses = 0;
    for (authorization, api_key) in
        [(Some(&*bearer), None), (None, Some("junk")), (Some(&*bearer), Some("junk"))]
    {
        match Credentials::of(authorization, api_key) {
            Ok(credentials) => match validator.validate(credentials.expose()) {
                Ok(grant) => statuses += u32::from(answers.granted(&grant).is_empty()) * 200,
                Err(denial) => statuses += u32::from(answers.denied(&denial, None).into_parts().0),
            },
            Err(error) => statuses += u32::from(answers.without_credentials(error).into_parts().0),
        }
    }
    statuses += u32::from(answers.without_credentials(CredentialsError::Missing).status());
    assert_eq!((CALLS.get() - before, statuses), (0, 200 + 401 + 400 + 401));
}

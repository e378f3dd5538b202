//! A handle that a forked child inherits is refused there, and goes on working in the parent.
#![cfg(all(unix, feature = "sqlite"))]
#![allow(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use keyrota::{
    Actor, DenialReason, Freshness, KeyManager, KeyStore, Keyring, NewKey, OwnerId, SqliteStore,
    StoreErrorKind, Unavailable,
};

/// Runs something in a forked child, and tells whether it held there.
#[allow(unsafe_code, reason = "the only way to run code in a forked child without another dependency")]
fn holds_in_a_child(condition: impl Fn() -> bool + Send + Sync + 'static) -> bool {
    let mut child = Command::new("true");
    // An error that this returns in the child becomes the error of `spawn` in the parent.
    let in_child = move || if condition() { Ok(()) } else { Err(io::Error::from_raw_os_error(1)) };
    // SAFETY: no other thread of this test process holds a lock that the closure needs.
    unsafe { child.pre_exec(in_child) };
    child.status().is_ok_and(|status| status.success())
}

fn is_forked<T>(result: Result<T, keyrota::StoreError>) -> bool {
    result.is_err_and(|error| error.kind() == StoreErrorKind::Forked)
}

fn an_inherited_handle_is_refused_in_the_child_and_unharmed_in_the_parent() {
    for query in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.db");
        let store = Arc::new(SqliteStore::options().query_stamps(query).open(&path).unwrap());
        let keys = KeyManager::open(Arc::clone(&store), Keyring::generate().unwrap()).unwrap();
        let before = store.stamp().unwrap();
        let (inherited, same) = (Arc::clone(&store), path.clone());
        let is_refused = |path: &std::path::Path| {
            matches!(SqliteStore::open(path), Err(keyrota::SqliteOpenError::OpenBeforeFork { .. }))
        };
        assert!(holds_in_a_child(move || is_refused(&same) && is_refused(&same)));
        assert!(holds_in_a_child(move || {
            // The stamp first: it says so by itself, not because another call has noticed.
            is_forked(inherited.stamp())
                && is_forked(inherited.stamp())
                && is_forked(inherited.head())
                && is_forked(inherited.close())
                && is_forked(inherited.stamp())
        }));
        assert!(!holds_in_a_child(|| false), "what does not hold in the child is told");
        assert_eq!(store.stamp().unwrap(), before);
        let expected =
            if query { Freshness::ExactByQuery } else { SqliteStore::open(&path).unwrap().freshness() };
        assert_eq!(store.freshness(), expected);
        assert!(keys.verify_audit().unwrap().is_sound());
        assert_eq!(store.stamp().unwrap(), before);
    }
}

fn an_inherited_validator_answers_unavailable_and_the_parent_s_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("keys.db")).unwrap();
    let keys = KeyManager::open(store, Keyring::generate().unwrap()).unwrap();
    let new = NewKey::new(OwnerId::new("ada").unwrap(), "ci").unwrap();
    let issued = keys.by(Actor::operator("root")).issue(new).unwrap();
    let validator = keys.validator().unwrap();
    let token = issued.token.expose().to_owned();
    validator.validate(&token).unwrap();
    let (inherited, presented) = (validator.clone(), token.clone());
    assert!(holds_in_a_child(move || {
        let verdict = inherited.validate(&presented).map_err(|denial| denial.reason());
        // The copy must not be dropped: its last counts belong to the parent.
        std::mem::forget(inherited.clone());
        verdict == Err(DenialReason::Unavailable(Unavailable::Store))
    }));
    validator.validate(&token).unwrap();
    keys.by(Actor::operator("root")).revoke(issued.key).unwrap();
    assert_eq!(validator.validate(&token).unwrap_err().reason(), DenialReason::Revoked);
}

fn what_the_parent_had_closed_the_child_opens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    drop(SqliteStore::open(&path).unwrap());
    assert!(holds_in_a_child(move || SqliteStore::open(&path).is_ok()));
}

/// A child of a child, too: the mark of a fork is not taken over.
fn a_grandchild_is_no_parent() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path().join("keys.db")).unwrap());
    let other = folder.path().join("other.db");
    assert!(holds_in_a_child(move || {
        // A store of the child's own, on a file that the parent has not open, and then a child of its own.
        let own = Arc::new(SqliteStore::open(&other).unwrap());
        let (inherited, childs) = (Arc::clone(&store), Arc::clone(&own));
        own.stamp().is_ok()
            && is_forked(store.stamp())
            && holds_in_a_child(move || is_forked(inherited.stamp()) && is_forked(childs.stamp()))
            && own.stamp().is_ok()
    }));
}

/// One test, because no other thread may hold a lock while this process is forked.
#[test]
fn what_a_child_inherits_is_refused_there_and_unharmed_in_the_parent() {
    an_inherited_handle_is_refused_in_the_child_and_unharmed_in_the_parent();
    an_inherited_validator_answers_unavailable_and_the_parent_s_goes_on();
    a_grandchild_is_no_parent();
    what_the_parent_had_closed_the_child_opens();
}

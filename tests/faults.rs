//! A store that fails at its N-th call, before or after the effect, once or for ever, for every N: each act is done
//! once or not at all, a repetition under the same request id converges, and nothing is ever accepted that was
//! revoked.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test reports by panicking")]

mod delegating;

use std::sync::Arc;
use std::time::Duration;

use delegating::planned::{Plan, PlannedStore};
use keyrota::{
    Actor, AuditFilter, EventKind, KeyId, KeyManager, Keyring, ManageError, ManualClock, NewKey, OwnerId,
    Timestamp, Validator,
};

struct Bed {
    store: Arc<PlannedStore>,
    clock: ManualClock,
    keys: KeyManager,
    validator: Validator,
}

fn start() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().unwrap()
}

fn keyring() -> Keyring {
    Keyring::from_bytes(b"\x81\x02\xd3\x44\xa5\x06\xf7\x08\x19\xea\x0b\x8c\x0d\x7e\x0f\x10\x91\x12\xc3\x14\x15\xb6\x17\x18\xf9\x1a\x2b\x1c\x9d\x1e\x3f\x20").unwrap()
}

impl Bed {
    fn new() -> Self {
        let (store, clock) = (PlannedStore::new(), ManualClock::new(start()));
        let keys = KeyManager::builder(Arc::clone(&store), keyring()).clock(clock.clone()).open().unwrap();
        let validator = keys.validator().unwrap();
        Self { store, clock, keys, validator }
    }

    fn ada() -> OwnerId {
        OwnerId::new("ada").unwrap()
    }

    fn issue(&self) -> Result<(KeyId, String), ManageError> {
        let new = NewKey::new(Self::ada(), "ci").unwrap();
        let issued = self.keys.by(Actor::operator("root")).request("issue-1").issue(new)?;
        Ok((issued.key, issued.token.expose().to_owned()))
    }

    fn rotate(&self, key: KeyId) -> Result<String, ManageError> {
        let rotated = self.keys.by(Actor::operator("root")).request("rotate-1").rotate(key)?;
        Ok(rotated.token.expose().to_owned())
    }

    fn revoke(&self, key: KeyId) -> Result<(), ManageError> {
        self.keys.by(Actor::operator("root")).request("revoke-1").revoke(key)
    }

    fn count(&self, kind: EventKind) -> usize {
        self.keys.audit(&AuditFilter::all().kind(kind), 100).unwrap().len()
    }

    fn grants(&self, token: &str) -> bool {
        self.validator.validate(token).is_ok()
    }

    fn assert_sound(&self, context: &str) {
        let report = self.keys.check(None).unwrap();
        assert!(report.is_sound(), "{context}: {report:?}");
    }
}

/// How many calls an act makes when nothing fails.
fn calls_of(bed: &Bed, act: impl FnOnce()) -> u64 {
    bed.store.plan(None);
    act();
    bed.store.calls()
}

fn each_plan(calls: u64, mut run: impl FnMut(Plan)) {
    assert!(calls > 0);
    (0..calls).flat_map(Plan::all_at).for_each(&mut run);
}

#[test]
fn an_issue_that_fails_anywhere_is_done_once_by_its_repetition() {
    let dry = Bed::new();
    let calls = calls_of(&dry, || drop(dry.issue().unwrap()));
    each_plan(calls, |plan| {
        let bed = Bed::new();
        bed.store.plan(Some(plan));
        let first = bed.issue();
        bed.store.plan(None);
        let (_, token) = bed.issue().unwrap_or_else(|error| panic!("{plan:?}: {error}"));
        if let Ok((_, shown)) = first {
            assert_eq!(shown, token, "{plan:?}");
        }
        assert!(bed.grants(&token), "{plan:?}");
        assert_eq!(bed.count(EventKind::KeyIssued), 1, "{plan:?}");
        bed.assert_sound(&format!("{plan:?}"));
    });
}

#[test]
fn a_rotation_that_fails_anywhere_is_done_once_and_never_takes_the_old_version_away_early() {
    let dry = Bed::new();
    let (key, _) = dry.issue().unwrap();
    let calls = calls_of(&dry, || drop(dry.rotate(key).unwrap()));
    each_plan(calls, |plan| {
        let bed = Bed::new();
        let (key, old) = bed.issue().unwrap();
        bed.store.plan(Some(plan));
        let first = bed.rotate(key);
        bed.store.plan(None);
        assert!(bed.grants(&old), "{plan:?}");
        let new = bed.rotate(key).unwrap_or_else(|error| panic!("{plan:?}: {error}"));
        if let Ok(shown) = first {
            assert_eq!(shown, new, "{plan:?}");
        }
        assert!(bed.grants(&old) && bed.grants(&new), "{plan:?}");
        assert_eq!(bed.count(EventKind::KeyRotation), 1, "{plan:?}");
        bed.assert_sound(&format!("{plan:?}"));
    });
}

#[test]
fn a_revocation_that_fails_denies_in_this_process_until_its_repetition_has_succeeded() {
    let dry = Bed::new();
    let (key, _) = dry.issue().unwrap();
    let calls = calls_of(&dry, || dry.revoke(key).unwrap());
    each_plan(calls, |plan| {
        let bed = Bed::new();
        let (key, token) = bed.issue().unwrap();
        bed.store.plan(Some(plan));
        let first = bed.revoke(key);
        bed.store.plan(None);
        assert!(!bed.grants(&token), "{plan:?}: {first:?}");
        bed.validator.catch_up().unwrap();
        assert!(!bed.grants(&token), "{plan:?}: a catch-up lifts no mark");
        bed.revoke(key).unwrap_or_else(|error| panic!("{plan:?}: {error}"));
        assert!(!bed.grants(&token), "{plan:?}");
        let fresh =
            Validator::builder(bed.store.inner.clone(), keyring()).clock(bed.clock.clone()).open().unwrap();
        assert!(fresh.validate(&token).is_err(), "{plan:?}");
        assert_eq!(bed.count(EventKind::KeyRevoked), 1, "{plan:?}");
        bed.assert_sound(&format!("{plan:?}"));
    });
}

#[test]
fn a_tick_that_fails_anywhere_is_finished_by_the_next_one() {
    let prepared = || {
        let bed = Bed::new();
        let (key, token) = bed.issue().unwrap();
        bed.rotate(key).unwrap();
        bed.clock.advance(Duration::from_secs(25 * 3_600)).unwrap();
        (bed, token)
    };
    let (dry, _) = prepared();
    let calls = calls_of(&dry, || assert!(dry.keys.tick().unwrap().next_due.is_some()));
    each_plan(calls, |plan| {
        let (bed, old) = prepared();
        bed.store.plan(Some(plan));
        let _ = bed.keys.tick();
        bed.store.plan(None);
        while bed.keys.tick().unwrap_or_else(|error| panic!("{plan:?}: {error}")).more {}
        assert!(!bed.grants(&old), "{plan:?}");
        assert_eq!(bed.count(EventKind::VersionEnded), 1, "{plan:?}");
        assert_eq!(bed.count(EventKind::RotationCompleted), 1, "{plan:?}");
        bed.assert_sound(&format!("{plan:?}"));
    });
}

#[test]
fn a_validation_whose_store_fails_answers_unavailable_and_never_guesses() {
    let bed = Bed::new();
    let (key, token) = bed.issue().unwrap();
    assert!(bed.grants(&token));
    let calls = {
        bed.rotate(key).unwrap();
        calls_of(&bed, || assert!(bed.grants(&token)))
    };
    each_plan(calls, |plan| {
        let bed = Bed::new();
        let (key, token) = bed.issue().unwrap();
        assert!(bed.grants(&token));
        let other =
            KeyManager::builder(bed.store.inner.clone(), keyring()).clock(bed.clock.clone()).open().unwrap();
        other.by(Actor::operator("root")).revoke(key).unwrap();
        bed.store.plan(Some(plan));
        assert!(!bed.grants(&token), "{plan:?}");
        bed.store.plan(None);
        assert!(!bed.grants(&token), "{plan:?}");
    });
}

#[test]
fn opening_that_fails_anywhere_founds_the_store_once_when_it_is_tried_again() {
    let calls = {
        let store = PlannedStore::new();
        KeyManager::builder(Arc::clone(&store), keyring()).open().unwrap();
        store.calls()
    };
    each_plan(calls, |plan| {
        let store = PlannedStore::new();
        store.plan(Some(plan));
        let _ = KeyManager::builder(Arc::clone(&store), keyring()).open();
        store.plan(None);
        let keys = KeyManager::builder(Arc::clone(&store), keyring()).open().unwrap();
        let founded = keys.audit(&AuditFilter::all().kind(EventKind::StoreFounded), 10).unwrap();
        assert_eq!(founded.len(), 1, "{plan:?}");
    });
}

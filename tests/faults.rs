//! A store that fails at its N-th call, before or after the effect, once or for ever, for every N: each act is done
//! once or not at all, a repetition under the same request id converges, and nothing is ever accepted that was
//! revoked.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test reports by panicking")]

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyrota::{
    Actor, AuditFilter, AuditQuery, AuditRow, Changeset, CommitError, EventKind, FeedItem, FeedPage,
    Freshness, Head, KeyId, KeyManager, KeyStore, Keyring, ManageError, ManualClock, MemoryStore, NewKey,
    OwnerId, Revision, RowFilter, RowKind, RowRef, Stamp, StoreError, StoreErrorKind, Timestamp, UsageBatch,
    UsageBucket, UsageEntry, UsageQuery, UsageWriter, Validator,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The call fails and has no effect.
    Before,
    /// The call takes effect, and its answer is lost.
    After,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    at: u64,
    fault: Fault,
    for_ever: bool,
}

/// Delegates to a memory store, and fails as planned.
struct FaultyStore {
    inner: MemoryStore,
    calls: AtomicU64,
    plan: Mutex<Option<Plan>>,
}

impl FaultyStore {
    fn new() -> Arc<Self> {
        Arc::new(Self { inner: MemoryStore::new(), calls: AtomicU64::new(0), plan: Mutex::new(None) })
    }

    fn plan(&self, plan: Option<Plan>) {
        self.calls.store(0, Ordering::SeqCst);
        *self.plan.lock().unwrap() = plan;
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn fault(&self) -> Option<Fault> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let plan = (*self.plan.lock().unwrap())?;
        (call == plan.at || (plan.for_ever && call > plan.at)).then_some(plan.fault)
    }

    fn call<T>(&self, effect: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let io = || Err(StoreError::new(StoreErrorKind::Io, "planned"));
        match self.fault() {
            None => effect(),
            Some(Fault::Before) => io(),
            Some(Fault::After) => effect().and_then(|_| io()),
        }
    }
}

impl KeyStore for FaultyStore {
    fn head(&self) -> Result<Option<Head>, StoreError> {
        self.call(|| self.inner.head())
    }
    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.call(|| self.inner.get(kind, id, each))
    }
    fn find(&self, kind: RowKind, unique: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.call(|| self.inner.find(kind, unique, each))
    }
    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.call(|| self.inner.scan(kind, filter, each))
    }
    fn feed(
        &self,
        since: Revision,
        limit: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError> {
        self.call(|| self.inner.feed(since, limit, each))
    }
    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.call(|| self.inner.audit(query, each))
    }
    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        let io = || StoreError::new(StoreErrorKind::Io, "planned");
        match self.fault() {
            None => self.inner.commit(changeset),
            Some(Fault::Before) => Err(CommitError::NotWritten(io())),
            Some(Fault::After) => {
                self.inner.commit(changeset)?;
                Err(CommitError::Unknown(io()))
            }
        }
    }
    fn stamp(&self) -> Result<Stamp, StoreError> {
        self.call(|| self.inner.stamp())
    }
    fn freshness(&self) -> Freshness {
        self.inner.freshness()
    }
    fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.call(|| self.inner.add_usage(batch))
    }
    fn usage(
        &self,
        query: &UsageQuery<'_>,
        each: &mut dyn FnMut(UsageBucket, &UsageEntry),
    ) -> Result<(), StoreError> {
        self.call(|| self.inner.usage(query, each))
    }
    fn usage_writers(&self, each: &mut dyn FnMut(&UsageWriter)) -> Result<(), StoreError> {
        self.call(|| self.inner.usage_writers(each))
    }
    fn roll_up_usage(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.call(|| self.inner.roll_up_usage(now, limit))
    }
    fn scrub(&self) -> Result<(), StoreError> {
        self.call(|| self.inner.scrub())
    }
    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

struct Bed {
    store: Arc<FaultyStore>,
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
        let (store, clock) = (FaultyStore::new(), ManualClock::new(start()));
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
    for at in 0..calls {
        for fault in [Fault::Before, Fault::After] {
            for for_ever in [false, true] {
                run(Plan { at, fault, for_ever });
            }
        }
    }
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
        let store = FaultyStore::new();
        KeyManager::builder(Arc::clone(&store), keyring()).open().unwrap();
        store.calls()
    };
    each_plan(calls, |plan| {
        let store = FaultyStore::new();
        store.plan(Some(plan));
        let _ = KeyManager::builder(Arc::clone(&store), keyring()).open();
        store.plan(None);
        let keys = KeyManager::builder(Arc::clone(&store), keyring()).open().unwrap();
        let founded = keys.audit(&AuditFilter::all().kind(EventKind::StoreFounded), 10).unwrap();
        assert_eq!(founded.len(), 1, "{plan:?}");
    });
}

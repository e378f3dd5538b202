//! Several managers and validators on one file inside one process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use keyrota::{
    EventKind, KeyManager, NewKey, OwnerLimit, RevokeTarget, RotateNow, RowKind, SqliteStore, Validator,
    VersionNo,
};

use crate::slow::{Reading, Slow};
use crate::stage::{Bed, keyring, letter, owner, root};

/// A token that some thread has made, and how far its revocation has come.
struct Made {
    token: String,
    revoking: AtomicBool,
    revoked: AtomicBool,
}

/// All tokens that have been made, in the order of their making.
#[derive(Default)]
struct Ledger(Mutex<Vec<Arc<Made>>>);

impl Ledger {
    fn enter(&self, token: &str) -> Arc<Made> {
        let (revoking, revoked) = (AtomicBool::new(false), AtomicBool::new(false));
        let made = Arc::new(Made { token: token.to_owned(), revoking, revoked });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&made));
        made
    }

    /// The last few, on which the most happens.
    fn latest(&self) -> Vec<Arc<Made>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all[all.len().saturating_sub(12)..].to_vec()
    }
}

impl Made {
    fn revoke(&self, act: impl FnOnce()) {
        self.revoking.store(true, Ordering::SeqCst);
        act();
        self.revoked.store(true, Ordering::SeqCst);
    }

    fn assert_as_it_must_be(&self, validator: &Validator) {
        let before = self.revoked.load(Ordering::SeqCst);
        let verdict = letter(&validator.validate(&self.token));
        let after = self.revoking.load(Ordering::SeqCst);
        match verdict {
            'g' => assert!(!before, "granted in a validation begun after its revocation had returned"),
            'r' => assert!(after, "denied in a validation that ended before its revocation began"),
            other => panic!("{other}: neither granted nor revoked"),
        }
    }
}

/// Issues, rotates and revokes; each round leaves one token valid.
fn write(keys: &KeyManager, ledger: &Ledger, thread: usize, rounds: usize) {
    let name = owner(&format!("owner-{thread}"));
    for round in 0..rounds {
        let issued = keys.by(root()).issue(NewKey::new(name, "ci").unwrap()).unwrap();
        let first = ledger.enter(issued.token.expose());
        let rotated = keys.by(root()).rotate(RotateNow::of(issued.key)).unwrap();
        let second = ledger.enter(rotated.token.expose());
        first.revoke(|| {
            let first = RevokeTarget::Version(issued.key, VersionNo::FIRST);
            keys.by(root()).revoke(first).unwrap();
        });
        if round % 2 == 0 {
            second.revoke(|| keys.by(root()).revoke(issued.key).unwrap());
        }
    }
}

/// Three threads write, three validate and one verifies the audit log, each on what `of_thread` gives it.
fn work_together(bed: &Bed, of_writer: impl Fn() -> KeyManager, of_reader: impl Fn() -> Validator) {
    const WRITERS: usize = 3;
    const ROUNDS: usize = 12;
    let ledger = Ledger::default();
    let writing = AtomicUsize::new(WRITERS);
    /// Counts down also when its thread panics, so that no other thread waits for it.
    struct Leaving<'a>(&'a AtomicUsize);
    impl Drop for Leaving<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    thread::scope(|scope| {
        for thread in 0..WRITERS {
            let (keys, ledger, writing) = (of_writer(), &ledger, &writing);
            scope.spawn(move || {
                let _leaving = Leaving(writing);
                write(&keys, ledger, thread, ROUNDS);
            });
        }
        let (auditor, writing_still) = (of_writer(), &writing);
        scope.spawn(move || {
            while writing_still.load(Ordering::SeqCst) > 0 {
                let verdict = auditor.verify_audit().unwrap();
                assert!(verdict.is_sound(), "{verdict:?}");
            }
        });
        for _ in 0..3 {
            let (validator, ledger, writing) = (of_reader(), &ledger, &writing);
            scope.spawn(move || {
                while writing.load(Ordering::SeqCst) > 0 {
                    ledger.latest().iter().for_each(|made| made.assert_as_it_must_be(&validator));
                }
            });
        }
    });
    let validator = of_reader();
    let all = ledger.0.into_inner().unwrap();
    assert_eq!(all.len(), 2 * WRITERS * ROUNDS);
    all.iter().for_each(|made| made.assert_as_it_must_be(&validator));
    let valid = all.iter().filter(|made| validator.validate(&made.token).is_ok()).count();
    assert_eq!(valid, WRITERS * ROUNDS / 2);
    assert_eq!(bed.count(EventKind::KeyIssued), WRITERS * ROUNDS);
    assert_eq!(bed.count(EventKind::VersionEnded), all.len() - valid);
    bed.assert_sound();
}

#[test]
fn threads_with_a_handle_of_their_own_each_see_what_the_others_revoked() {
    let bed = Bed::new(100);
    let open = || SqliteStore::open(bed.path()).unwrap();
    work_together(
        &bed,
        || KeyManager::builder(open(), keyring()).clock(bed.clock.clone()).open().unwrap(),
        || Validator::builder(open(), keyring()).clock(bed.clock.clone()).open().unwrap(),
    );
}

#[test]
fn threads_that_share_one_manager_and_one_validator_see_what_the_others_revoked() {
    let bed = Bed::new(100);
    let validator = bed.keys.validator().unwrap();
    work_together(&bed, || bed.keys.clone(), || validator.clone());
}

#[test]
fn a_validation_does_not_rely_on_a_catch_up_that_read_the_feed_before_it_began() {
    let bed = Bed::new(100);
    let (first, (second, token)) = (bed.issue("ada").0, bed.issue("ada"));
    let store = Arc::new(Slow::new(SqliteStore::open(bed.path()).unwrap()));
    // It has time for its turn, however busy the machine is.
    let validator = Validator::builder(Arc::clone(&store), keyring()).timeout(Duration::from_secs(100));
    let validator = validator.clock(bed.clock.clone()).open().unwrap();
    assert_eq!(letter(&validator.validate(&token)), 'g');

    bed.keys.by(root()).revoke(first).unwrap();
    let (has_read, may_go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (reading, going_on) = (Arc::clone(&has_read), Arc::clone(&may_go_on));
    store.after_next(Reading::Feed, move || {
        reading.wait();
        going_on.wait();
    });
    thread::scope(|scope| {
        let catching_up = scope.spawn(|| validator.catch_up());
        has_read.wait();
        bed.keys.by(root()).revoke(second).unwrap();
        let stamps = store.stamps();
        let validating = scope.spawn(|| letter(&validator.validate(&token)));
        while store.stamps() == stamps {
            thread::yield_now();
        }
        // It has seen that something was committed, and waits for its turn, or is about to.
        (0..1_000).for_each(|_| thread::yield_now());
        may_go_on.wait();
        catching_up.join().unwrap().unwrap();
        assert_eq!(validating.join().unwrap(), 'r');
    });
}

/// A manager whose next such reading another one overtakes with an act.
fn overtaken(bed: &Bed, reading: RowKind, act: impl FnOnce(&KeyManager) + Send + 'static) -> KeyManager {
    let store = Arc::new(Slow::new(SqliteStore::open(bed.path()).unwrap()));
    let late = KeyManager::builder(Arc::clone(&store), keyring()).clock(bed.clock.clone()).open().unwrap();
    let early = bed.keys.clone();
    store.after_next(Reading::Get(reading), move || act(&early));
    late
}

fn new_key() -> NewKey {
    NewKey::new(owner("ada"), "ci").unwrap()
}

/// A manager whose look for ada's row is overtaken by the issue of ada's first key.
fn overtaken_by_first_key(bed: &Bed) -> KeyManager {
    overtaken(bed, RowKind::Owner, |early| drop(early.by(root()).issue(new_key()).unwrap()))
}

#[test]
fn a_request_that_another_process_carries_out_meanwhile_is_answered_as_its_repetition() {
    let bed = Bed::new(100);
    let key = bed.issue("ada").0;
    let late = overtaken(&bed, RowKind::Request, move |early| {
        drop(early.by(root()).request("rotate-1").rotate(key).unwrap());
    });
    let answer = late.by(root()).request("rotate-1").rotate(key).unwrap();
    let again = bed.keys.by(root()).request("rotate-1").rotate(key).unwrap();
    assert_eq!(answer.token.expose(), again.token.expose(), "not that a rotation is open");
    assert_eq!(bed.count(EventKind::KeyRotation), 1);
    assert!(bed.keys.by(root()).request("rotate-2").rotate(key).is_err());
}

#[test]
fn an_issue_that_another_one_overtakes_with_the_owners_first_key_succeeds() {
    let bed = Bed::new(100);
    overtaken_by_first_key(&bed).by(root()).issue(new_key()).unwrap();
    assert_eq!(bed.count(EventKind::KeyIssued), 2);
}

#[test]
fn a_suspension_that_the_owners_first_key_overtakes_succeeds() {
    let bed = Bed::new(100);
    overtaken_by_first_key(&bed).by(root()).suspend(owner("ada")).unwrap();
    assert!(bed.keys.owner(owner("ada")).unwrap().suspended);
}

#[test]
fn a_limit_set_for_an_owner_whose_first_key_overtakes_it_is_set() {
    let bed = Bed::new(100);
    let limit = OwnerLimit::new(3).unwrap();
    overtaken_by_first_key(&bed).by(root()).set_owner_limit(owner("ada"), Some(limit)).unwrap();
    assert_eq!(bed.keys.owner(owner("ada")).unwrap().limit, Some(limit));
}

#[test]
fn an_issue_of_the_last_place_that_its_own_repetition_overtakes_answers_the_same_token() {
    let bed = Bed::new(1);
    let issue = |keys: &KeyManager| keys.by(root()).request("issue-1").issue(new_key());
    let late = overtaken(&bed, RowKind::Request, move |early| drop(issue(early).unwrap()));
    let answer = issue(&late).unwrap();
    assert_eq!(answer.token.expose(), issue(&bed.keys).unwrap().token.expose());
}

#[test]
fn a_handle_that_is_closed_takes_nothing_from_the_others_on_the_same_file() {
    let bed = Bed::new(100);
    let (key, token) = bed.issue("ada");
    let validator = bed.keys.validator().unwrap();
    let mut processes = bed.processes(1);
    for _ in 0..5 {
        let other = SqliteStore::open(bed.path()).unwrap();
        let other = KeyManager::builder(other, keyring()).clock(bed.clock.clone()).open().unwrap();
        other.by(root()).suspend(owner("ada")).unwrap();
        other.close().unwrap();
        assert_eq!(letter(&validator.validate(&token)), 's');
        assert_eq!(processes[0].ask("resume ada"), "done");
        assert_eq!(letter(&validator.validate(&token)), 'g');
    }
    assert_eq!(processes[0].ask(&format!("revoke {key}")), "done");
    assert_eq!(letter(&validator.validate(&token)), 'r');
    bed.assert_sound();
}

//! Several managers and validators on one file inside one process.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;

use keyrota::{EventKind, KeyManager, NewKey, RevokeTarget, RotateNow, SqliteStore, Validator, VersionNo};

use crate::slow::Slow;
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

/// Three threads write and three validate, each on what `of_thread` gives it.
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
    let validator =
        Validator::builder(Arc::clone(&store), keyring()).clock(bed.clock.clone()).open().unwrap();
    assert_eq!(letter(&validator.validate(&token)), 'g');

    bed.keys.by(root()).revoke(first).unwrap();
    let (has_read, may_go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (reading, going_on) = (Arc::clone(&has_read), Arc::clone(&may_go_on));
    store.after_next_feed(move || {
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

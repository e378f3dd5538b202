//! Rules that a store puts to the test: when a commit fails or its outcome is not known, when somebody acts in
//! between, when rows and entries were edited, and how little validation asks of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod hooked;

use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use common::{DAY, HOUR, MICRO, START, at, keyring, keyring_of, new_key, owner, scope, v};
use hooked::{Fate, Hooked};
use keyrota::{
    Act, Actor, AuditFilter, AuditVerdict, Demand, DenialReason, EventKind, IssuedKey, KeyManager, KeyStore,
    LifecycleError, ManageError, ManualClock, OpenError, RevokeTarget, RowKind, Timestamp, Unavailable,
    Validator,
};

/// A founded store with hooks, a manager and a validator.
struct Lab {
    store: Arc<Hooked>,
    clock: ManualClock,
    keys: KeyManager,
    validator: Validator,
}

impl Lab {
    fn new() -> Self {
        let (store, clock) = (Hooked::new(), ManualClock::new(at(START)));
        let keys = KeyManager::builder(Arc::clone(&store), keyring()).clock(clock.clone()).open().unwrap();
        let validator = keys.validator().unwrap();
        Self { store, clock, keys, validator }
    }

    fn root(&self) -> Act<'_> {
        self.keys.by(Actor::operator("root"))
    }

    fn issue(&self) -> IssuedKey {
        self.root().issue(new_key("ci")).unwrap()
    }

    /// A manager of another process: on the store itself.
    fn other(&self) -> KeyManager {
        KeyManager::builder(self.store.inner.clone(), keyring()).clock(self.clock.clone()).open().unwrap()
    }

    /// A validator that reads everything anew.
    fn fresh(&self) -> Validator {
        Validator::builder(Arc::clone(&self.store), keyring()).clock(self.clock.clone()).open().unwrap()
    }

    fn reason(&self, token: &str) -> Option<DenialReason> {
        self.validator.validate(token).err().map(|denial| denial.reason())
    }

    fn count(&self, kind: EventKind) -> usize {
        self.keys.audit(&AuditFilter::all().kind(kind), 1_000).unwrap().len()
    }

    fn revision(&self) -> u64 {
        self.store.inner.head().unwrap().unwrap().revision.0
    }
}

const FATES: [Fate; 3] = [Fate::NotWritten, Fate::UnknownAndLost, Fate::UnknownAndDurable];

#[test]
fn a_revocation_whose_outcome_is_open_denies_here_until_its_repetition_converges() {
    let target = |issued: &IssuedKey, which: usize| -> RevokeTarget {
        [issued.key.into(), (issued.key, issued.version).into(), owner("ada").into()][which]
    };
    for fate in FATES {
        for which in 0..3 {
            let lab = Lab::new();
            let issued = lab.issue();
            let token = issued.token.expose();
            let revoke = || lab.root().request("revoke-1").revoke(target(&issued, which));
            lab.store.fate(&[fate]);
            let error = revoke().unwrap_err();
            match fate {
                Fate::NotWritten => assert!(matches!(error, ManageError::NotWritten(_))),
                _ => assert!(
                    matches!(&error, ManageError::OutcomeUnknown { request, .. } if request.as_str() == "revoke-1")
                ),
            }
            // Somebody else's commit brings a catch-up, and a validator opened later begins with the mark.
            lab.other().by(Actor::operator("eve")).issue(new_key("other")).unwrap();
            lab.validator.catch_up().unwrap();
            assert_eq!(lab.reason(token), Some(DenialReason::Revoked), "{fate:?} {which}");
            assert!(lab.fresh().validate(token).is_err(), "{fate:?} {which}");
            revoke().unwrap();
            assert_eq!(lab.reason(token), Some(DenialReason::Revoked), "{fate:?} {which}");
            let ended = AuditFilter::all().kind(EventKind::VersionEnded).key(issued.key);
            assert_eq!(lab.keys.audit(&ended, 10).unwrap().len(), 1, "{fate:?} {which}: once");
        }
    }
}

/// The repetition succeeds, and lifts the mark, while a validation stands between the stamp and the verdict.
#[test]
fn a_validation_under_way_while_a_revocation_converges_denies() {
    for again in [false, true] {
        let lab = Lab::new();
        let issued = lab.issue();
        let (token, key) = (issued.token.expose(), issued.key);
        let grant = lab.validator.validate(token).unwrap();
        lab.store.fate(&[Fate::UnknownAndLost]);
        lab.root().request("revoke-1").revoke(key).unwrap_err();
        assert_eq!(lab.reason(token), Some(DenialReason::Revoked));
        let keys = lab.keys.clone();
        let repeat = move || keys.by(Actor::operator("root")).request("revoke-1").revoke(key).unwrap();
        lab.store.after_stamp(repeat);
        let verdict = if again { lab.validator.still_valid(&grant) } else { lab.validator.validate(token) };
        let denial = verdict.expect_err("it was denied before, and is denied after");
        assert_eq!(denial.reason(), DenialReason::Revoked);
    }
}

#[test]
fn nothing_revives_a_revoked_version() {
    let lab = Lab::new();
    let issued = lab.issue();
    let token = issued.token.expose();
    lab.root().revoke((issued.key, v(1))).unwrap();
    let refused = lab.root().roll_back(issued.key).unwrap_err();
    assert!(matches!(refused, ManageError::Lifecycle(LifecycleError::NotRollbackable)), "{refused}");
    assert_eq!(lab.reason(token), Some(DenialReason::Revoked));
    // A new version revives the key, and not the old version.
    let second = lab.root().rotate(issued.key).unwrap();
    lab.root().suspend(owner("ada")).unwrap();
    lab.root().resume(owner("ada")).unwrap();
    assert_eq!(lab.reason(token), Some(DenialReason::Revoked));
    assert_eq!(lab.reason(second.token.expose()), None);
    lab.root().revoke(issued.key).unwrap();
    assert!(lab.root().rotate(issued.key).is_err() && lab.root().replace(issued.key).is_err());
    assert_eq!(lab.reason(second.token.expose()), Some(DenialReason::Revoked));
}

/// A row that cannot be believed at the time of the revocation, and is put back afterwards, is revoked all the same.
#[test]
fn a_revoked_key_takes_with_it_the_versions_that_could_not_be_read() {
    let lab = Lab::new();
    let issued = lab.issue();
    lab.store.edit_rows(|row| {
        if row.kind == RowKind::Version {
            row.mac.tag[0] ^= 1;
        }
    });
    lab.root().revoke(issued.key).unwrap();
    lab.store.put_back();
    let verdict = lab.fresh().validate(issued.token.expose());
    assert_eq!(verdict.unwrap_err().reason(), DenialReason::Revoked);
}

/// What cannot be read cannot be revoked, and could be put back.
#[test]
fn an_owner_s_revocation_that_met_an_edited_key_says_so_and_denies_it_here() {
    let lab = Lab::new();
    let issued = lab.issue();
    lab.store.edit_rows(|row| {
        if row.kind == RowKind::Key {
            row.mac.tag[0] ^= 1;
        }
    });
    let error = lab.root().revoke(owner("ada")).unwrap_err();
    assert!(matches!(error, ManageError::Read(_)), "{error}");
    lab.store.put_back();
    assert!(lab.fresh().validate(issued.token.expose()).is_err());
    lab.root().revoke(owner("ada")).unwrap();
    assert_eq!(lab.fresh().validate(issued.token.expose()).unwrap_err().reason(), DenialReason::Revoked);
}

#[test]
fn a_commit_that_fails_leaves_neither_state_nor_entry_nor_request() {
    for fate in [Fate::NotWritten, Fate::UnknownAndLost] {
        let lab = Lab::new();
        let issued = lab.issue();
        let before = (lab.revision(), lab.keys.audit_head().unwrap());
        lab.store.fate(&[fate]);
        lab.root().request("rotate-1").rotate(issued.key).unwrap_err();
        assert_eq!((lab.revision(), lab.keys.audit_head().unwrap()), before, "{fate:?}");
        assert_eq!(lab.keys.get(issued.key).unwrap().versions.len(), 1, "{fate:?}");
        lab.root().request("rotate-1").rotate(issued.key).unwrap();
        assert_eq!(lab.revision(), before.0 + 1, "{fate:?}: one commit has it all");
        assert_eq!(lab.count(EventKind::KeyRotation), 1);
        let request = lab.root().request("rotate-1").issue(new_key("x"));
        assert!(matches!(request, Err(ManageError::RequestReused(_))), "the request is remembered");
    }
}

#[test]
fn an_unknown_outcome_names_a_request_and_its_repetition_converges() {
    for fate in [Fate::UnknownAndLost, Fate::UnknownAndDurable] {
        for asked in [Some("issue-1"), None] {
            let lab = Lab::new();
            let act = |id: Option<&str>| match id {
                Some(id) => lab.root().request(id),
                None => lab.root(),
            };
            lab.store.fate(&[fate]);
            let error = act(asked).issue(new_key("ci")).unwrap_err();
            let ManageError::OutcomeUnknown { request, .. } = error else { panic!("{error}") };
            assert!(asked.is_none_or(|asked| request.as_str() == asked));
            let repeated = act(Some(request.as_str())).issue(new_key("ci"));
            match (fate, asked) {
                // Nobody could have asked for the token of an act without a request id of the caller's.
                (Fate::UnknownAndDurable, None) => {
                    assert!(matches!(repeated, Err(ManageError::AlreadyDone { .. })), "{repeated:?}");
                }
                _ => assert_eq!(lab.reason(repeated.unwrap().token.expose()), None),
            }
            assert_eq!(lab.count(EventKind::KeyIssued), 1, "{fate:?} {asked:?}");
        }
    }
}

#[test]
fn a_conflict_is_decided_again_on_what_is_true_then() {
    let lab = Lab::new();
    let issued = lab.issue();
    let (other, key) = (lab.other(), issued.key);
    lab.store.before_commit(move || other.by(Actor::operator("eve")).revoke(key).unwrap());
    let refused = lab.root().rotate(key).unwrap_err();
    assert!(matches!(refused, ManageError::Lifecycle(LifecycleError::KeyRevoked)), "{refused}");
    assert_eq!(lab.count(EventKind::KeyRotation), 0);
    assert_eq!(lab.reason(issued.token.expose()), Some(DenialReason::Revoked));
}

#[test]
fn a_tick_that_comes_second_records_nothing_again() {
    let lab = Lab::new();
    let issued = lab.issue();
    lab.root().rotate(issued.key).unwrap();
    lab.clock.advance(25 * HOUR).unwrap();
    let (other, (told, reports)) = (lab.other(), mpsc::channel());
    lab.store.before_commit(move || told.send(other.tick().unwrap()).unwrap());
    let second = lab.keys.tick().unwrap();
    let first = reports.recv().unwrap();
    assert_eq!((first.retired, first.completed), (1, 1));
    assert_eq!((second.retired, second.completed), (0, 0));
    assert_eq!(lab.count(EventKind::VersionEnded), 1);
    assert_eq!(lab.count(EventKind::RotationCompleted), 1);
}

/// However many cannot be believed, a tick comes to its end and to the others.
#[test]
fn edited_keys_keep_no_other_waiting() {
    let lab = Lab::new();
    for number in 0..1_001 {
        let new = keyrota::NewKey::new(owner(&format!("owner-{number}")), "ci").unwrap();
        lab.root().issue(new.lifetime(2 * DAY)).unwrap();
    }
    let sound = lab.root().issue(new_key("sound").lifetime(2 * DAY + HOUR)).unwrap();
    let parent = sound.key.to_string();
    lab.store.edit_rows(move |row| {
        if row.kind == RowKind::Version && row.index.parent.as_ref() != Some(&parent) {
            row.mac.tag[0] ^= 1;
        }
    });
    lab.clock.advance(3 * DAY).unwrap();
    let report = lab.keys.tick().unwrap();
    assert_eq!((report.faults, report.expired, report.more), (1_001, 1, false), "{report:?}");
}

#[test]
fn validation_writes_nothing_and_asks_the_store_for_nothing_but_its_stamp() {
    let lab = Lab::new();
    let new = || new_key("ci").scopes(["orders:read"].try_into().unwrap());
    let granted = lab.root().issue(new()).unwrap();
    let revoked = lab.root().issue(new()).unwrap();
    lab.root().revoke(revoked.key).unwrap();
    let expired = lab.root().issue(new().lifetime(25 * HOUR)).unwrap();
    lab.clock.advance(2 * DAY).unwrap();
    lab.validator.catch_up().unwrap();
    lab.store.forget();
    let demanded = scope("orders:write");
    let token = granted.token.expose();
    let last = if token.ends_with('0') { '1' } else { '0' };
    let junk = [format!("{token}0"), format!("{}{last}", &token[..token.len() - 1])];
    for _ in 0..100 {
        assert_eq!(lab.reason(granted.token.expose()), None);
        assert_eq!(lab.reason(revoked.token.expose()), Some(DenialReason::Revoked));
        assert_eq!(lab.reason(expired.token.expose()), Some(DenialReason::Expired));
        junk.iter().for_each(|junk| assert_eq!(lab.reason(junk), Some(DenialReason::Unknown)));
        let narrow = lab.validator.validate_for(granted.token.expose(), Demand::scope(&demanded));
        assert_eq!(narrow.unwrap_err().reason(), DenialReason::Scope);
    }
    assert_eq!(
        lab.store.calls(),
        [("stamp", 600)].into(),
        "junk asks whether anything was imported meanwhile"
    );
    lab.validator.flush().unwrap();
    assert_eq!(lab.store.calls(), [("stamp", 601), ("add_usage", 1)].into(), "a flush catches up first");
}

#[test]
fn one_caller_reads_the_feed_and_the_others_wait_for_it() {
    const CALLERS: usize = 8;
    let lab = Lab::new();
    let issued = lab.issue();
    lab.validator.catch_up().unwrap();
    lab.other().by(Actor::operator("eve")).revoke(issued.key).unwrap();
    lab.store.forget();
    let (reading, read) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (begins, ends) = (Arc::clone(&reading), Arc::clone(&read));
    lab.store.before_feed(move || {
        begins.wait();
        ends.wait();
    });
    let verdicts: Vec<_> = thread::scope(|scope| {
        let ask = || lab.reason(issued.token.expose());
        let first = scope.spawn(ask);
        reading.wait();
        let others: Vec<_> = (1..CALLERS).map(|_| scope.spawn(ask)).collect();
        // Each of them has looked at the stamp before the reading goes on.
        while lab.store.calls()["stamp"] < 1 + CALLERS as u64 {
            thread::yield_now();
        }
        read.wait();
        [first].into_iter().chain(others).map(|caller| caller.join().unwrap()).collect()
    });
    assert_eq!(verdicts, [Some(DenialReason::Revoked); CALLERS]);
    assert_eq!(lab.store.calls()["feed"], 1);
}

#[test]
fn a_catch_up_that_takes_too_long_is_unavailable() {
    let lab = Lab::new();
    let issued = lab.issue();
    let validator = lab.keys.validator_builder().timeout(10 * 1_000 * MICRO).open().unwrap();
    lab.other().by(Actor::operator("eve")).issue(new_key("other")).unwrap();
    let (reading, read) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (begins, ends) = (Arc::clone(&reading), Arc::clone(&read));
    lab.store.before_feed(move || {
        begins.wait();
        ends.wait();
    });
    thread::scope(|scope| {
        let first = scope.spawn(|| validator.validate(issued.token.expose()).is_ok());
        reading.wait();
        let second = validator.validate(issued.token.expose());
        read.wait();
        assert_eq!(second.unwrap_err().reason(), DenialReason::Unavailable(Unavailable::Timeout));
        assert!(first.join().unwrap());
    });
}

/// The token's time is over while its validation waits for the store.
#[test]
fn who_waits_for_the_store_is_judged_by_the_time_after_it() {
    let lab = Lab::new();
    let issued = lab.root().issue(new_key("ci").lifetime(10 * DAY)).unwrap();
    assert_eq!(lab.reason(issued.token.expose()), None);
    lab.other().by(Actor::operator("eve")).issue(new_key("other")).unwrap();
    let clock = lab.clock.clone();
    lab.store.before_feed(move || clock.set(at(START).plus(10 * DAY).unwrap()));
    assert_eq!(lab.reason(issued.token.expose()), Some(DenialReason::Expired));
}

#[test]
fn usage_never_touches_the_state_of_a_key() {
    let lab = Lab::new();
    let issued = lab.issue();
    assert_eq!(lab.reason(issued.token.expose()), None);
    lab.root().revoke(issued.key).unwrap();
    let before = lab.revision();
    assert_eq!(lab.validator.flush().unwrap(), 1);
    assert_eq!(lab.revision(), before);
    assert_eq!(lab.keys.last_used(issued.key).unwrap(), Some(at(START)));
    assert_eq!(lab.reason(issued.token.expose()), Some(DenialReason::Revoked));
}

/// Each edit keeps the row readable.
#[test]
fn a_row_is_believed_only_as_it_was_sealed() {
    let edits: [fn(&mut keyrota::Row); 7] = [
        |row| row.mac.tag[31] ^= 0x80,
        |row| row.revision.0 += 1,
        |row| row.body.push(b' '),
        |row| row.index.due_at = Some(Timestamp::MAX),
        |row| row.index.ends_at = None,
        |row| row.index.parent = Some(String::new()),
        |row| row.index.state = Some("live ".to_owned()),
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        let lab = Lab::new();
        let issued = lab.issue();
        lab.store.edit_rows(move |row| {
            if row.kind == RowKind::Key {
                edit(row);
            }
        });
        let edited = lab.fresh();
        let denial = edited.validate(issued.token.expose()).unwrap_err();
        assert_eq!(denial.reason(), DenialReason::Tampered, "edit {number}");
        assert_eq!(edited.findings().unwrap().len(), 1, "edit {number} is reported");
        assert!(lab.keys.get(issued.key).is_err(), "edit {number}");
    }
}

/// Whoever copies one row over another has a row whose MAC is right elsewhere.
#[test]
fn a_row_is_believed_only_in_its_own_place() {
    let lab = Lab::new();
    let issued = lab.issue();
    let other = lab.root().issue(new_key("other").scopes(["*"].try_into().unwrap())).unwrap();
    let mut rows = Vec::new();
    lab.store.inner.get(RowKind::Key, &other.key.to_string(), &mut |row| rows.push(row.to_row())).unwrap();
    let (id, copied) = (issued.key.to_string(), rows.remove(0));
    lab.store.edit_rows(move |row| {
        if row.id == id {
            *row = keyrota::Row { id: id.clone(), ..copied.clone() };
        }
    });
    let verdict = lab.fresh().validate(issued.token.expose());
    assert_eq!(verdict.unwrap_err().reason(), DenialReason::Tampered);
}

#[test]
fn an_edited_audit_log_is_found() {
    let lab = Lab::new();
    let issued = lab.issue();
    let anchor = lab.keys.audit_head().unwrap();
    lab.root().because("leaked").revoke(issued.key).unwrap();
    assert!(lab.keys.verify_audit().unwrap().is_sound());
    let last = lab.keys.audit_head().unwrap().seq;

    lab.store.edit_audit(|mut row| {
        if row.seq == 3 {
            row.body = String::from_utf8(row.body).unwrap().replace("root", "ruth").into_bytes();
            row.actor = "ruth".to_owned();
        }
        Some(row)
    });
    assert_eq!(lab.keys.verify_audit().unwrap(), AuditVerdict::BrokenAt { seq: 3 });

    lab.store.edit_audit(|row| (row.seq != 3).then_some(row));
    assert_eq!(lab.keys.verify_audit().unwrap(), AuditVerdict::BrokenAt { seq: 3 });

    lab.store.edit_audit(move |row| (row.seq != last).then_some(row));
    assert_eq!(lab.keys.verify_audit().unwrap(), AuditVerdict::TailDiffers { last: last - 1, head: last });

    lab.store.put_back();
    assert!(lab.keys.verify_audit_against(&anchor).unwrap().is_sound());
    let elsewhere = keyrota::AuditHead { mac: [7; 32], ..anchor };
    assert!(!lab.keys.verify_audit_against(&elsewhere).unwrap().is_sound());
}

#[test]
fn with_a_wrong_master_key_nothing_opens_and_nothing_changes() {
    let lab = Lab::new();
    let issued = lab.issue();
    let before = lab.store.inner.head().unwrap();
    let manager = KeyManager::open(Arc::clone(&lab.store), keyring_of(9)).unwrap_err();
    assert!(matches!(manager, OpenError::WrongMasterKey(_)), "{manager}");
    let validator = Validator::open(Arc::clone(&lab.store), keyring_of(9)).unwrap_err();
    assert!(matches!(validator, OpenError::WrongMasterKey(_)), "{validator}");
    assert_eq!(lab.store.inner.head().unwrap(), before);
    assert_eq!(lab.reason(issued.token.expose()), None);
}

/// Every byte that the store holds, as text.
fn everything(lab: &Lab) -> String {
    let mut found = String::new();
    for kind in RowKind::ALL {
        let all = keyrota::RowFilter::All { after: None };
        let mut each = |row: keyrota::RowRef<'_>| {
            found += &format!("{row:?} {}\n", String::from_utf8_lossy(row.body));
            std::ops::ControlFlow::Continue(())
        };
        lab.store.inner.scan(kind, all, &mut each).unwrap();
    }
    let mut each = |row: &keyrota::AuditRow| {
        found += &format!("{row:?} {}\n", String::from_utf8_lossy(&row.body));
        std::ops::ControlFlow::Continue(())
    };
    lab.store.inner.audit(&keyrota::AuditQuery::default(), &mut each).unwrap();
    found + &String::from_utf8(lab.store.inner.head().unwrap().unwrap().body).unwrap()
}

#[test]
fn no_row_no_entry_and_no_debug_shows_a_secret() {
    let lab = Lab::new();
    let issued = lab.root().request("issue-1").issue(new_key("ci")).unwrap();
    let rotated = lab.root().request("rotate-1").rotate(issued.key).unwrap();
    let mut shown = everything(&lab);
    assert!(shown.contains("ciphertext"), "the sealed copies are among the rows");
    let replaced = lab.root().request("replace-1").because("leaked").replace(issued.key).unwrap();
    lab.store.fate(&[Fate::UnknownAndLost]);
    let error = lab.root().revoke(issued.key).unwrap_err();
    let denial = lab.validator.validate(issued.token.expose()).unwrap_err();
    let info = lab.keys.get(issued.key).unwrap();
    let evidence = keyrota::Evidence::Token(issued.token.expose());
    shown += &everything(&lab);
    shown += &format!("{issued:?} {rotated:?} {replaced:?} {error:?} {error} {denial:?} {denial} {info:?}");
    shown +=
        &format!("{evidence:?} {:?} {:?} {:?} {:?}", lab.keys, lab.validator, keyring(), issued.token.hint());
    shown += &format!("{:?}", keyring().master(keyring().current()).unwrap());
    let master = keyring().master(keyring().current()).unwrap().expose_hex().to_string();
    let secrets = [&issued.token, &rotated.token, &replaced.token]
        .map(|token| common::parts(token.expose()).2.to_owned());
    for secret in secrets.iter().chain([&master]) {
        for start in 0..=secret.len() - 12 {
            let window = &secret[start..start + 12];
            assert!(!shown.contains(window), "{window} of a secret is shown");
        }
    }
}

//! Reads of the disk that fail: whoever asks is told so and never gets a guess, and the next call works.

use keyrota::{
    DenialReason, KeyId, KeyManager, KeyStore as _, ManageError, ReadError, SqliteStore, StoreErrorKind,
    Unavailable, Validator,
};

use crate::calls::{self, Fate, Plan, sort};
use crate::stage::{Template, assert_sound, database, keyring, manager, root};
use crate::write_errors::{DEEDS, Deed, Site, told};

/// SQLite tells a page that the disk could not read as one that is damaged, unless it is of the file's own beginning.
const UNREADABLE: [StoreErrorKind; 2] = [StoreErrorKind::Io, StoreErrorKind::Corrupt];

fn eio(at: u64, for_ever: bool) -> Plan {
    Plan { sorts: sort::READ, file: None, at, for_ever, fate: Fate::Refused(libc::EIO) }
}

/// Another handle, which has nothing in memory, with a validator that follows it.
fn other(site: &Site) -> Validator {
    let store = SqliteStore::open(database(site.folder.path())).unwrap();
    Validator::builder(store, keyring()).clock(site.clock.clone()).open().unwrap()
}

#[test]
fn a_validation_that_cannot_read_what_others_did_is_unavailable_and_the_next_one_knows() {
    let mut failures = 0;
    for at in 0.. {
        let site = Site::new(&Template::Empty);
        let validator = other(&site);
        validator.validate(&site.token).unwrap();
        site.keys.by(root()).revoke(site.key).unwrap();
        calls::plan(eio(at, false));
        let verdict = validator.validate(&site.token).map_err(|denial| denial.reason());
        let (calls, failed) = calls::end();
        if failed == 0 {
            assert_eq!(verdict, Err(DenialReason::Revoked));
            assert_eq!(calls, at);
            break;
        }
        // SQLite takes a page of its log that it cannot read for one that it has to do without only where it may.
        let unavailable = Err(DenialReason::Unavailable(Unavailable::Store));
        assert!(verdict == unavailable || verdict == Err(DenialReason::Revoked), "call {at}: {verdict:?}");
        failures += usize::from(verdict == unavailable);
        let verdict = validator.validate(&site.token).map_err(|denial| denial.reason());
        assert_eq!(verdict, Err(DenialReason::Revoked), "after call {at}");
    }
    assert!(failures > 0);
}

#[test]
fn while_nothing_can_be_read_every_validation_of_what_may_have_changed_is_unavailable() {
    let site = Site::new(&Template::Empty);
    let validator = other(&site);
    validator.validate(&site.token).unwrap();
    site.keys.by(root()).revoke(site.key).unwrap();
    calls::under(eio(0, true), || {
        for token in [&site.token, &site.bystander, &site.token] {
            let reason = validator.validate(token).unwrap_err().reason();
            assert_eq!(reason, DenialReason::Unavailable(Unavailable::Store));
        }
    });
    assert_eq!(validator.validate(&site.token).unwrap_err().reason(), DenialReason::Revoked);
    assert!(validator.validate(&site.bystander).is_ok());
}

#[test]
fn an_act_that_cannot_read_says_so_and_is_done_once_when_it_is_repeated() {
    let mut seen = Vec::new();
    for deed in DEEDS {
        let mut failures = 0;
        for (at, for_ever) in (0..).flat_map(|at| [(at, false), (at, true)]) {
            let context = format!("{deed:?}, call {at}, for ever {for_ever}");
            let site = Site::new(&Template::Empty);
            // The first handle has all pages in memory; this one has to read them.
            let cold = Site { keys: manager(site.folder.path(), &site.clock), ..site };
            calls::plan(eio(at, for_ever));
            let first = cold.carry_out(deed);
            let meanwhile = cold.denial(&cold.token);
            let (_, failed) = calls::end();
            if let Err(error) = &first {
                failures += 1;
                seen.push(told(error));
                assert!(UNREADABLE.contains(&told(error).1), "{context}: {error}");
            }
            if deed == Deed::Revoke {
                assert!(meanwhile.is_some(), "{context}: {first:?}");
                assert!(cold.denial(&cold.token).is_some(), "{context}: {first:?}");
            }
            let second = cold.carry_out(deed).unwrap_or_else(|error| panic!("{context}: {error}"));
            if let Ok(first) = first {
                assert_eq!(first, second, "{context}");
            }
            cold.assert_done(deed, &second, &context);
            if failed == 0 {
                break;
            }
        }
        println!("{deed:?}: {failures} times it could not read");
        assert!(failures > 0, "{deed:?}");
    }
    assert!(seen.iter().any(|(told, _)| *told == "not read"), "{seen:?}");
}

#[test]
fn a_look_that_cannot_read_is_an_error_of_reading_and_the_next_one_sees_all() {
    type Look = fn(&KeyManager, KeyId) -> Result<(), ManageError>;
    let site = Site::new(&Template::Empty);
    let mut failures = 0;
    let looks: [Look; 4] = [
        |keys, _| keys.audit_head().map(drop),
        |keys, _| keys.verify_audit().map(drop),
        |keys, _| keys.check(None).map(drop),
        |keys, key| keys.get(key).map(drop),
    ];
    for look in looks {
        for at in 0.. {
            let keys = manager(site.folder.path(), &site.clock);
            calls::plan(eio(at, false));
            let looked = look(&keys, site.key);
            let (_, failed) = calls::end();
            if failed == 0 {
                looked.unwrap();
                break;
            }
            if let Err(error) = looked {
                let ManageError::Read(ReadError::Store(error)) = &error else { panic!("call {at}: {error}") };
                assert!(UNREADABLE.contains(&error.kind()), "call {at}: {error}");
                failures += 1;
            }
            look(&keys, site.key).unwrap();
            assert_sound(&keys, "after a read that failed");
        }
    }
    assert!(failures > 0);
}

#[test]
fn a_connection_that_could_not_read_is_opened_again() {
    let site = Site::new(&Template::Empty);
    // Where stamps are asked of the connection itself.
    let store = SqliteStore::options().query_stamps(true).open(database(site.folder.path())).unwrap();
    let stamp = store.stamp().unwrap();
    let revision = store.head().unwrap().unwrap().revision;
    let feed = || store.feed(keyrota::Revision(0), 100, &mut |_| ());
    let error = calls::under(eio(0, true), || feed().unwrap_err());
    assert!(UNREADABLE.contains(&error.kind()), "{error}");
    // Its successor counts the commits of others for itself: whoever held the replica for current looks again.
    assert_ne!(store.stamp().unwrap(), stamp);
    assert_eq!(feed().unwrap().up_to, revision);
    assert_eq!(store.stamp().unwrap(), store.stamp().unwrap());
}

//! How imported keys validate: at once, as everything else does, and like nothing else before the secret matched.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyrota::{
    Actor, Demand, DenialReason, DigestForm, Import, ImportSource, KeyManager, KeyStore, Keyring,
    ManualClock, MasterKey, TokenList, Unavailable, Validator,
};

use crate::common::{self, Bed, DAY, HOUR, on_both_stores, owner, scope};
use crate::hooked::Hooked;
use crate::{csv, foreign, import, import_from, kept, line};

#[test]
fn imported_keys_validate_at_once_in_every_process_whatever_the_form() {
    on_both_stores(|bed| {
        // Another process, which has seen nothing imported so far.
        let other = bed.other_validator();
        let tokens =
            ["opaque-without-underscore-4711aBcD", "shop_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG", &foreign(3)];
        let last = ["x_y_lastpart9GBugYXq8Xa8JM1iQWfqRGHn"];
        assert!(tokens.iter().all(|token| other.validate(token).is_err()));
        let keys = import_from(
            &bed,
            |import| import,
            csv(&[
                format!("{},ada,a,", kept(DigestForm::Sha256, tokens[0])),
                format!("{},ada,b,", kept(DigestForm::Sha512, tokens[1])),
                format!("{},ada,c,active", kept(DigestForm::Sha256, tokens[2])),
            ]),
        );
        let of_last = ImportSource::csv(std::io::Cursor::new(format!(
            "long_token_hash\n{}",
            kept(DigestForm::Sha256LastPart, last[0])
        )));
        let last_key = import_from(&bed, |import| import, of_last);
        let plain = import_from(
            &bed,
            |import| import,
            ImportSource::tokens("env-token-of-the-old-service-77Qz", TokenList::Any),
        );
        let all = [&keys[..], &last_key, &plain].concat();
        let presented = [&tokens[..], &last, &["env-token-of-the-old-service-77Qz"]].concat();
        for (key, token) in all.iter().zip(presented) {
            for validator in [&bed.validator, &other] {
                let grant = validator.validate(token).unwrap_or_else(|denial| panic!("{token}: {denial}"));
                assert_eq!((grant.key(), grant.owner(), grant.valid_until()), (*key, owner("ada"), None));
            }
        }
        // Whoever has a digest has no token.
        assert!(!bed.is_granted(&kept(DigestForm::Sha256, tokens[0])));
        assert!(!bed.is_granted(&kept(DigestForm::Sha512, tokens[1])));
    });
}

#[test]
fn what_is_not_an_imported_token_is_unknown_like_everything_else() {
    on_both_stores(|bed| {
        let token = foreign(1);
        import(&bed, &[&token]);
        let reference = bed.validator.validate("").unwrap_err();
        let long = "x".repeat(513);
        let junk = [
            token[1..].to_owned(),
            token[..token.len() - 1].to_owned(),
            format!("{token} "),
            format!(" {token}"),
            token.to_uppercase(),
            "_".to_owned(),
            "x".repeat(512),
            long,
            "y".repeat(10 << 20),
        ];
        for text in &junk {
            let denial = bed.validator.validate(text).unwrap_err();
            assert_eq!((denial, denial.key()), (reference, None), "{:.40}", text);
            assert_eq!(format!("{denial:?}"), format!("{reference:?}"));
        }
        assert_eq!(bed.validator.validate([0xFF, 0xFE, 0]).unwrap_err(), reference);
        assert!(bed.is_granted(&token));
    });
}

#[test]
fn an_imported_key_is_revoked_suspended_and_scoped_as_any_other() {
    on_both_stores(|bed| {
        let tokens = [foreign(1), foreign(2)];
        let texts: Vec<_> = tokens.iter().map(String::as_str).collect();
        let scoped = |import: Import<'static>| import.scopes(["orders:read"].try_into().unwrap());
        let keys = {
            let lines: Vec<_> = texts.iter().map(|token| line(token)).collect();
            let mut keys = Vec::new();
            crate::run(&bed.keys, scoped(Import::from(csv(&lines))), &mut keys);
            keys
        };
        let other = bed.other_validator();
        let demanded = scope("orders:write");
        let narrow = bed.validator.validate_for(texts[0], Demand::scope(&demanded)).unwrap_err();
        assert_eq!((narrow.reason(), narrow.key()), (DenialReason::Scope, Some(keys[0])));
        bed.root().revoke(keys[0]).unwrap();
        let reasons =
            |token: &str| [&bed.validator, &other].map(|v| v.validate(token).err().map(|d| d.reason()));
        assert_eq!(reasons(texts[0]), [Some(DenialReason::Revoked); 2]);
        assert_eq!(reasons(texts[1]), [None; 2]);
        bed.root().suspend(owner("ada")).unwrap();
        assert_eq!(reasons(texts[1]), [Some(DenialReason::Suspended); 2]);
        bed.root().resume(owner("ada")).unwrap();
        assert_eq!(reasons(texts[1]), [None; 2]);
        assert_eq!(reasons(texts[0]), [Some(DenialReason::Revoked); 2]);
        bed.validator.flush().unwrap();
        let usage = bed.keys.usage(keys[1], &Default::default()).unwrap().usage.counts;
        assert_eq!((usage.allowed, usage.denied.get(keyrota::CountedReason::Suspended)), (2, 1));
    });
}

#[test]
fn what_was_over_in_the_other_system_is_over_here() {
    on_both_stores(|bed| {
        let token: Vec<_> = (0..8).map(foreign).collect();
        let hash = |n: usize| kept(DigestForm::Sha256, &token[n]);
        let text = format!(
            "sha256,status,expires_at,revoked_at,deprecated_at,grace_end,not_before\n\
             {},revoked,,,,,\n{},active,,2026-12-15,,,\n{},active,2026-12-31,,,,\n{},expired,,,,,\n\
             {},deprecated,,,2026-12-30,2027-01-03,\n{},deprecated,,,,,\n{},active,2027-02-01,,,,\n{},,,,,,2027-01-02\n",
            hash(0),
            hash(1),
            hash(2),
            hash(3),
            hash(4),
            hash(5),
            hash(6),
            hash(7)
        );
        let keys = import_from(&bed, |import| import, ImportSource::csv(std::io::Cursor::new(text)));
        let verdicts = || (0..8).map(|n| bed.denial(&token[n])).collect::<Vec<_>>();
        let (revoked, expired) = (Some(DenialReason::Revoked), Some(DenialReason::Expired));
        let mut expected =
            vec![revoked, revoked, expired, expired, None, None, None, Some(DenialReason::NotYet)];
        assert_eq!(verdicts(), expected);
        let grant = bed.validator.validate(&token[4]).unwrap();
        assert_eq!(grant.valid_until(), Some(common::at("2027-01-03")));
        assert_eq!(grant.deprecated_at(), Some(common::at("2026-12-30")));
        let info = bed.keys.get(keys[1]).unwrap();
        assert_eq!(info.revoked_at, Some(common::at("2026-12-15")));
        assert!(bed.keys.check(None).unwrap().is_sound());
        // Deadlines hold without a tick: the overlap of the policy, what the file says, the expiry.
        bed.clock.advance(DAY).unwrap();
        expected[5] = Some(DenialReason::Retired);
        expected[7] = None;
        assert_eq!(verdicts(), expected);
        bed.go("2027-01-03");
        expected[4] = Some(DenialReason::Retired);
        assert_eq!(verdicts(), expected);
        bed.go("2027-02-01");
        expected[6] = expired;
        // Over for longer than 30 days.
        expected[..4].fill(Some(DenialReason::Unknown));
        expected[5] = Some(DenialReason::Unknown);
        assert_eq!(verdicts(), expected);
        bed.tick_to(common::at("2027-02-02"));
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn a_token_in_two_forms_is_denied_by_both_when_it_is_revoked_in_one() {
    on_both_stores(|bed| {
        let token = foreign(1);
        let [first, second] = [DigestForm::Sha256, DigestForm::Sha512].map(|form| {
            let source = csv(&[format!("{},ada,a,active", kept(form, &token))]);
            import_from(&bed, |import| import, source)[0]
        });
        assert_ne!(first, second);
        assert!(bed.is_granted(&token));
        for key in [second, first] {
            bed.root().revoke(key).unwrap();
            assert_eq!(bed.denial(&token), Some(DenialReason::Revoked));
        }
    });
}

#[test]
fn an_edited_row_of_an_imported_version_denies() {
    let store = Hooked::new();
    let keys = KeyManager::open(Arc::clone(&store), common::keyring()).unwrap();
    let token = foreign(1);
    let bed_import = Import::from(csv(&[line(&token)]));
    crate::run(&keys, bed_import, &mut Vec::new());
    let validator = || Validator::open(Arc::clone(&store), common::keyring()).unwrap();
    assert!(validator().validate(&token).is_ok());
    store.edit_rows(|row| {
        if row.kind == keyrota::RowKind::Version {
            let body = String::from_utf8(row.body.clone()).unwrap();
            row.body = body.replace("\"active\"", "\"deprecated\"").into_bytes();
        }
    });
    assert_eq!(validator().validate(&token).unwrap_err().reason(), DenialReason::Unknown);
}

#[test]
fn validating_an_imported_token_asks_the_store_for_its_stamp_alone() {
    let store = Hooked::new();
    let keys = KeyManager::open(Arc::clone(&store), common::keyring()).unwrap();
    let (token, unknown) = (foreign(1), foreign(2));
    crate::run(&keys, Import::from(csv(&[line(&token)])), &mut Vec::new());
    let validator = keys.validator().unwrap();
    store.forget();
    for _ in 0..100 {
        validator.validate(&token).unwrap();
        validator.validate(&unknown).unwrap_err();
        validator.validate("x".repeat(513)).unwrap_err();
    }
    // One to learn whether anything was imported, one for the look itself.
    assert_eq!(store.calls(), BTreeMap::from([("stamp", 400)]));
    store.close().unwrap();
    let denial = validator.validate(&unknown).unwrap_err();
    assert_eq!(denial.reason(), DenialReason::Unavailable(Unavailable::Store), "never a guess");
}

/// The master keys of two generations.
fn generations() -> (keyrota::Generation, MasterKey, MasterKey) {
    (keyrota::Generation::new(2), MasterKey::generate().unwrap(), MasterKey::generate().unwrap())
}

#[test]
fn an_imported_key_moves_to_the_current_generation_when_it_is_used() {
    let (second, one, two) = generations();
    let store = keyrota::MemoryStore::new();
    let clock = ManualClock::new(common::at(common::START));
    let manager = |ring: &Keyring| {
        KeyManager::builder(store.clone(), ring.clone()).clock(clock.clone()).open().unwrap()
    };
    let old = Keyring::new(one);
    let both = old.clone().with(second, two).unwrap().with_current(second).unwrap();
    let (used, unused, seen) = (foreign(1), foreign(2), foreign(4));
    let lines = [line(&used), line(&unused), line(&seen)];
    crate::run(&manager(&old), Import::from(csv(&lines)), &mut Vec::new());
    // One is used before there is another generation: it moves with a later use.
    let before = manager(&old).validator().unwrap();
    assert!(before.validate(&seen).is_ok());
    before.close().unwrap();
    let lagging = Validator::open(store.clone(), old.clone()).unwrap();
    assert!(lagging.validate(&used).is_ok());
    let keys = manager(&both);
    let validator = keys.validator().unwrap();
    assert!(validator.validate(&used).is_ok() && validator.validate(&seen).is_ok());
    assert_eq!(keys.imported().unwrap().generations, [(keyrota::Generation::FIRST, 3)].into());
    validator.flush().unwrap();
    assert_eq!(keys.imported().unwrap().generations, [(keyrota::Generation::FIRST, 1), (second, 2)].into());
    // Both are still recognised when they come again.
    let again = Import::from(csv(&lines)).skip_bad_lines();
    let report = keys.by(Actor::operator("root")).import(again).unwrap();
    assert_eq!((report.imported, report.skipped), (0, 3));
    assert!([&used, &unused, &seen].iter().all(|token| validator.validate(token).is_ok()));
    // A process that does not hold the new generation yet cannot tell what was moved from what is unknown.
    for token in [&used, &unused, &foreign(3)] {
        let behind = DenialReason::Unavailable(Unavailable::KeyringBehind(second));
        assert_eq!(lagging.validate(token).unwrap_err().reason(), behind);
    }
    // Nothing needs the old generation but what has not been used.
    let report = keys.imported().unwrap();
    assert_eq!((report.remaining, report.unseen.len()), (3, 1));
}

#[test]
fn a_bed_without_imports_denies_what_is_no_token_as_ever() {
    let bed = Bed::at(common::Place::memory(), common::at(common::START));
    let issued = bed.issue("ci");
    assert_eq!(bed.denial(&foreign(1)), Some(DenialReason::Unknown));
    bed.clock.advance(HOUR).unwrap();
    assert!(bed.is_granted(issued.token.expose()));
    bed.validator.close().unwrap();
    assert_eq!(bed.denial(&foreign(1)), Some(DenialReason::Unavailable(Unavailable::Closed)));
}

/// The digest of a token of this library's own form says nothing of the form: it is imported, and leads nowhere.
#[test]
fn a_token_of_this_library_s_own_form_never_validates_by_an_imported_digest() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let own = issued.token.expose();
        // Of a store that is not this one.
        let elsewhere = Bed::at(common::Place::memory(), common::at(common::START)).issue("ci");
        let lines: Vec<_> = [own, elsewhere.token.expose()]
            .iter()
            .flat_map(|token| DigestForm::ALL.map(|form| (form, kept(form, token))))
            .filter(|(form, _)| *form != DigestForm::Sha256LastPart)
            .map(|(_, digest)| format!("{digest},eve,x,active"))
            .collect();
        let keys = import_from(&bed, |import| import, csv(&lines));
        assert_eq!(keys.len(), 4);
        for validator in [&bed.validator, &bed.other_validator()] {
            let grant = validator.validate(own).unwrap();
            assert_eq!((grant.key(), grant.owner()), (issued.key, owner("ada")));
            let denial = validator.validate(elsewhere.token.expose()).unwrap_err();
            assert_eq!(denial.reason(), DenialReason::Unknown);
        }
        bed.root().revoke(issued.key).unwrap();
        assert_eq!(bed.denial(own), Some(DenialReason::Revoked), "no imported key takes its place");
    });
}

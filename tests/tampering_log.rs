//! What becomes of edits of the head and of the audit log: they are named, nobody validates by them, and none of them
//! keeps anybody from revoking.
#![cfg(feature = "sqlite")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod tampered;

use common::{Bed, START, at, keyring, new_key, owner, v};
use keyrota::{
    AuditFilter, AuditHead, AuditVerdict, CheckFinding, DenialReason, EventKind, Generation, KeyManager,
    ManageError, ManualClock, OpenError, ReadError, Replace, Revoke, Unavailable, Validator,
};
use tampered::{Scene, Shell};

/// Edits of the head.
const HEAD_EDITS: [&str; 22] = [
    "revision = revision + 1",
    "revision = revision + 1000",
    "revision = 1",
    "floor = 1",
    "body = body || ' '",
    "body = json_set(body, '$.audit.mac', lower(hex(zeroblob(32))))",
    "body = json_set(body, '$.high_water', 1798761600000000)",
    "mac = zeroblob(32)",
    // Numbers that are taken, or that leave no room behind them.
    "body = json_set(body, '$.audit.seq', 3)",
    "body = json_set(body, '$.audit.seq', 0)",
    "body = json_set(body, '$.audit.seq', 9223372036854775807)",
    "revision = 0",
    "revision = 9223372036854775807",
    "floor = 9223372036854775807",
    // A mark by which everything would have ended.
    "body = json_set(body, '$.high_water', 253402300799999999)",
    "body = json_set(body, '$.checks', json('{}'))",
    "body = json_set(body, '$.store', 'sto_0000000000000000000000')",
    "body = json_remove(body, '$.store')",
    "body = '{}'",
    "body = 'x'",
    "body = ''",
    "generation = 9",
];

fn is_head_tampered(error: &ManageError) -> bool {
    matches!(error, ManageError::Read(ReadError::HeadTampered))
}

#[test]
fn an_edited_head_refuses_every_ordinary_act_and_every_opening_and_validates_nothing() {
    for edit in HEAD_EDITS {
        let scene = Scene::new();
        let (other, live) = (scene.bed.other_validator(), scene.key("live"));
        scene.shell().run(&format!("UPDATE head SET {edit}"));
        let (root, keys) = (|| scene.bed.root(), &scene.bed.keys);
        for error in [
            scene.bed.refused(|| root().issue(new_key("new"))),
            scene.bed.refused(|| root().rotate(live)),
            scene.bed.refused(|| root().deprecate(live)),
            scene.bed.refused(|| root().resume(owner("bob"))),
            scene.bed.refused(|| root().purge(std::time::Duration::ZERO)),
            scene.bed.refused(|| root().set_owner_limit(owner("ada"), None)),
            scene.bed.refused(|| keys.tick()),
            scene.bed.refused(|| keys.verify_audit()),
            scene.bed.refused(|| keys.check(None)),
            scene.bed.refused(|| keys.audit_head()),
        ] {
            assert!(is_head_tampered(&error), "{edit}: {error}");
        }
        for validator in [&scene.bed.validator, &other] {
            let denial = validator.validate(scene.token("live")).unwrap_err();
            assert_eq!(denial.reason(), DenialReason::Unavailable(Unavailable::Store), "{edit}");
        }
        let clock = ManualClock::new(at(START));
        let manager = KeyManager::builder(scene.bed.place.open(), keyring()).clock(clock.clone()).open();
        let validator = Validator::builder(scene.bed.place.open(), keyring()).clock(clock).open();
        for error in [manager.map(drop).unwrap_err(), validator.map(drop).unwrap_err()] {
            assert!(matches!(error, OpenError::Read(ReadError::HeadTampered)), "{edit}: {error}");
        }
    }
}

#[test]
fn with_an_edited_head_revocation_works_and_begins_a_new_segment() {
    type Deny = fn(&Scene);
    let denies: [(&str, Deny, DenialReason); 5] = [
        ("live", |scene| scene.bed.root().revoke(scene.key("live")).unwrap(), DenialReason::Revoked),
        ("live", |scene| scene.bed.root().revoke((scene.key("live"), v(1))).unwrap(), DenialReason::Revoked),
        (
            "live",
            |scene| scene.bed.root().revoke(Revoke::of(owner("ada")).compromised()).unwrap(),
            DenialReason::Revoked,
        ),
        ("live", |scene| scene.bed.root().suspend(owner("ada")).unwrap(), DenialReason::Suspended),
        (
            "live",
            |scene| drop(scene.bed.root().replace(Replace::of(scene.key("live"))).unwrap()),
            DenialReason::Revoked,
        ),
    ];
    for (number, edit) in HEAD_EDITS.into_iter().enumerate() {
        // Each edit with one of them, and the first edit with all.
        let chosen = |at: usize| number == 0 || at == number % denies.len();
        for (_, (name, deny, reason)) in denies.into_iter().enumerate().filter(|(at, _)| chosen(*at)) {
            let scene = Scene::new();
            let (other, seq) = (scene.bed.other_validator(), scene.bed.seq());
            scene.shell().run(&format!("UPDATE head SET {edit}"));
            deny(&scene);
            for validator in [&scene.bed.validator, &other, &scene.bed.other_validator()] {
                let denied = validator.validate(scene.token(name)).map_err(|denial| denial.reason());
                assert_eq!(denied.map(drop), Err(reason), "{edit}");
                scene.bystander_goes_on(validator, edit);
            }
            let verdict = scene.bed.keys.verify_audit().unwrap();
            let AuditVerdict::Segmented { first_break, head } = verdict else {
                panic!("{edit}: {verdict:?}")
            };
            assert_eq!((first_break, head), (seq + 1, scene.bed.keys.audit_head().unwrap()));
            let report = scene.bed.keys.check(None).unwrap();
            assert_eq!((report.audit, report.findings), (verdict, vec![]), "{edit}");
            assert!(!scene.bed.keys.check(None).unwrap().is_sound(), "a segment is never forgotten");
            let breaks = AuditFilter::all().kind(EventKind::ChainBroken);
            let [entry] = &scene.bed.keys.audit(&breaks, 10).unwrap()[..] else { panic!("one break") };
            assert_eq!((entry.seq, entry.event.actor.name()), (seq + 1, "root"));

            // All goes on from there, also in those who have followed all along, and the break stays told.
            let donor = scene.bed.rotate(scene.key("donor"));
            scene.bed.tick();
            for validator in [&scene.bed.validator, &other, &scene.bed.other_validator()] {
                let verdict = validator.validate(&donor);
                assert!(verdict.is_ok(), "{edit}: {verdict:?}");
                assert_eq!(validator.findings().unwrap(), [], "{edit}");
                assert_eq!(validator.validate(scene.token(name)).unwrap_err().reason(), reason, "{edit}");
            }
            assert!(matches!(
                scene.bed.keys.verify_audit().unwrap(),
                AuditVerdict::Segmented { first_break, .. } if first_break == seq + 1
            ));
        }
    }
}

/// Edits of head and log together, and what remains to be seen of the log after the emergency.
fn head_and_log_edits(last: u64) -> Vec<(&'static str, String)> {
    let (after, beyond) = (last + 1, last + 2);
    let copy = |seq: &str| {
        format!(
            "INSERT INTO audit SELECT {seq}, at, kind, actor, key, version, owner, body, generation, mac FROM audit \
             WHERE seq = 5"
        )
    };
    let deleted = ("the head is deleted", "DELETE FROM head".to_owned());
    vec![
        deleted.clone(),
        deleted.clone(),
        deleted.clone(),
        deleted.clone(),
        deleted,
        ("head and log are deleted", "DELETE FROM head; DELETE FROM audit".to_owned()),
        (
            "the check of the master key is edited",
            "UPDATE head SET body = json_set(body, '$.checks.\"1\"', '00000000000000000000000000000000')"
                .to_owned(),
        ),
        ("an entry stands where the next one will", copy(&after.to_string())),
        ("an entry stands where the next but one will", copy(&beyond.to_string())),
        ("an entry stands at the end of all numbers", copy("9223372036854775807")),
        ("an entry stands at the end of what is told", copy("4611686018427387903")),
        ("an entry stands before all numbers", copy("-7")),
        (
            "an entry stands at the end of all numbers, and the head is edited",
            format!("{}; UPDATE head SET mac = zeroblob(32)", copy("9223372036854775807")),
        ),
        (
            "entries and a row stand at the end of what is told, and the head is edited",
            format!(
                "{}; UPDATE head SET mac = zeroblob(32); \
                 UPDATE row SET revision = 4611686018427387903 WHERE kind = 3 AND id = 'bob'",
                copy("4611686018427387903")
            ),
        ),
        (
            "the tail is cut, and the head names less",
            format!(
                "DELETE FROM audit WHERE seq > {}; UPDATE head SET body = json_set(body, '$.audit.seq', 3)",
                last - 2
            ),
        ),
    ]
}

#[test]
fn no_edit_of_head_and_log_keeps_a_revocation_from_being_written() {
    for number in 0..head_and_log_edits(20).len() {
        let scene = Scene::new();
        let other = scene.bed.other_validator();
        // Commits that leave no row behind: the head's revision is far ahead of any row's.
        (0..number).for_each(|_| {
            scene.bed.clock.advance(std::time::Duration::from_secs(60)).unwrap();
            scene.bed.tick();
        });
        scene.bystander_goes_on(&other, "before");
        let (what, sql) = head_and_log_edits(scene.bed.seq()).swap_remove(number);
        scene.shell().run(&sql);
        scene.bed.root().revoke(scene.key("live")).unwrap_or_else(|error| panic!("{what}: {error}"));
        scene.bed.root().suspend(owner("zoe")).unwrap_or_else(|error| panic!("{what}: {error}"));
        for validator in [&scene.bed.validator, &other, &scene.bed.other_validator()] {
            let denied = validator.validate(scene.token("live")).map_err(|denial| denial.reason());
            assert_eq!(denied.map(drop), Err(DenialReason::Revoked), "{what}");
            scene.bystander_goes_on(validator, what);
        }
        let donor = scene.bed.rotate(scene.key("donor"));
        for validator in [&scene.bed.validator, &other, &scene.bed.other_validator()] {
            assert!(validator.validate(&donor).is_ok(), "{what}");
        }
        assert!(!scene.bed.keys.check(None).unwrap().is_sound(), "{what}");
        let written = AuditFilter::all().kind(EventKind::KeyRevoked);
        let written = scene.bed.keys.audit(&written, 100).unwrap_or_default();
        assert!(written.iter().any(|entry| entry.event.key == Some(scene.key("live"))), "{what}");
        // It is as final for whoever opens the store later.
        let scene = scene.reopened(|_| ());
        assert_eq!(scene.bed.denial(scene.token("live")), Some(DenialReason::Revoked), "{what}");
    }
}

#[test]
fn an_old_head_that_is_put_back_stops_no_revocation_and_the_log_tells_of_it() {
    let scene = Scene::fresh();
    let (other, shell) = (scene.bed.other_validator(), scene.shell());
    shell.keep_copies();
    scene.bed.root().revoke(scene.key("revoked")).unwrap();
    let second = scene.bed.rotate(scene.key("donor"));
    let seq = scene.bed.seq();
    shell.put_head_back();
    // Sound by its MAC, but older than the log.
    assert!(is_head_tampered(&scene.bed.refused(|| scene.bed.root().issue(new_key("new")))));
    scene.bed.root().revoke(scene.key("live")).unwrap();
    for validator in [&scene.bed.validator, &other, &scene.bed.other_validator()] {
        for name in ["live", "revoked"] {
            let denial = validator.validate(scene.token(name)).unwrap_err();
            assert_eq!(denial.reason(), DenialReason::Revoked, "{name}");
        }
        assert!(validator.validate(&second).is_ok());
        scene.bystander_goes_on(validator, "old head");
    }
    let verdict = scene.bed.keys.verify_audit().unwrap();
    assert!(matches!(verdict, AuditVerdict::Segmented { first_break, .. } if first_break == seq + 1));
    assert_eq!(scene.found(), []);
}

#[test]
fn a_deleted_head_refuses_every_ordinary_act_and_nobody_founds_the_store_anew() {
    let scene = Scene::new();
    let other = scene.bed.other_validator();
    scene.shell().run("DELETE FROM head");
    let (root, keys) = (|| scene.bed.root(), &scene.bed.keys);
    for error in [
        root().issue(new_key("new")).map(drop).unwrap_err(),
        root().rotate(scene.key("live")).map(drop).unwrap_err(),
        keys.tick().map(drop).unwrap_err(),
        keys.verify_audit().map(drop).unwrap_err(),
    ] {
        assert!(matches!(error, ManageError::Read(ReadError::NotFounded)), "{error}");
    }
    for validator in [&scene.bed.validator, &other] {
        let denial = validator.validate(scene.token("live")).unwrap_err();
        assert_eq!(denial.reason(), DenialReason::Unavailable(Unavailable::Store));
    }
    let open =
        || KeyManager::builder(scene.bed.place.open(), keyring()).clock(scene.bed.clock.clone()).open();
    let error = open().map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Read(ReadError::HeadTampered)), "{error}");
    root().revoke(scene.key("live")).unwrap();
    assert_eq!(open().unwrap().audit_head().unwrap(), keys.audit_head().unwrap());
}

#[test]
fn an_edited_head_of_a_closed_file_keeps_it_closed() {
    for edit in HEAD_EDITS {
        let scene = Scene::new();
        let shell = scene.shell();
        shell.keep_copies();
        let Bed { clock, keys, validator, store, place } = scene.bed;
        validator.close().unwrap();
        keys.close().unwrap();
        store.close().unwrap();
        drop((validator, keys, store));
        shell.run(&format!("UPDATE main.head SET {edit}"));
        let open = || KeyManager::builder(place.open(), keyring()).clock(clock.clone()).open();
        let error = open().map(drop).unwrap_err();
        assert!(matches!(error, OpenError::Read(ReadError::HeadTampered)), "{edit}: {error}");
        shell.put_head_back();
        assert!(open().unwrap().check(None).unwrap().is_sound());
    }
}

/// Edits of the audit log alone, and what verifying it finds; the last entry is number `last`.
fn log_edits(last: u64) -> Vec<(&'static str, String, AuditVerdict)> {
    let broken = |seq| AuditVerdict::BrokenAt { seq };
    let mut edits = vec![
        (
            "a number twice",
            "CREATE TABLE copy AS SELECT * FROM audit; DROP TABLE audit; CREATE TABLE audit AS SELECT * FROM copy; \
             INSERT INTO audit SELECT * FROM copy WHERE seq = 5; DROP TABLE copy"
                .to_owned(),
            broken(6),
        ),
        (
            "two entries swapped",
            "UPDATE audit SET seq = 1000 WHERE seq = 5; UPDATE audit SET seq = 5 WHERE seq = 6; \
             UPDATE audit SET seq = 6 WHERE seq = 1000"
                .to_owned(),
            broken(5),
        ),
        ("an entry deleted in the middle", "DELETE FROM audit WHERE seq = 5".to_owned(), broken(5)),
        ("the first entry deleted", "DELETE FROM audit WHERE seq = 1".to_owned(), broken(1)),
        (
            "the gap closed",
            "DELETE FROM audit WHERE seq = 5; UPDATE audit SET seq = -seq + 1 WHERE seq > 5; \
             UPDATE audit SET seq = -seq WHERE seq < 0"
                .to_owned(),
            broken(5),
        ),
        ("the tail cut", format!("DELETE FROM audit WHERE seq > {}", last - 2), {
            AuditVerdict::TailDiffers { last: last - 2, head: last }
        }),
        ("all of it gone", "DELETE FROM audit".to_owned(), AuditVerdict::TailDiffers { last: 0, head: last }),
        (
            "another generation",
            "UPDATE audit SET generation = 9 WHERE seq = 5".to_owned(),
            AuditVerdict::KeyringBehind { seq: 5, generation: Generation::new(9) },
        ),
    ];
    for (what, change) in [
        ("another actor in the body", "body = json_set(body, '$.actor.name', 'mallory')"),
        ("a body with a blank", "body = body || ' '"),
        ("a body that is not JSON", "body = 'x'"),
        ("another entry's body", "body = (SELECT body FROM audit WHERE seq = 4)"),
        ("another time", "at = at + 1"),
        ("another kind", "kind = 'key_revoked'"),
        ("another actor", "actor = 'mallory'"),
        ("another key", "key = 'x'"),
        ("no key", "key = NULL"),
        ("another version", "version = 7"),
        ("no version", "version = NULL"),
        ("another owner", "owner = 'eve'"),
        ("a MAC of zeros", "mac = zeroblob(32)"),
    ] {
        edits.push((what, format!("UPDATE audit SET {change} WHERE seq = 5"), broken(5)));
    }
    edits
}

fn assert_verdict(scene: &Scene, what: &str, anchor: &AuditHead, expected: AuditVerdict) {
    let keys = &scene.bed.keys;
    assert_eq!(keys.verify_audit().unwrap(), expected, "{what}");
    assert_eq!(keys.verify_audit_against(anchor).unwrap(), expected, "{what}");
    let report = keys.check(None).unwrap();
    assert!(!report.is_sound() && report.audit == expected, "{what}: {report:?}");
    assert!(report.findings.is_empty(), "{what}: the rows are sound, {report:?}");
    let fresh = (!is_another_table(what)).then(|| scene.bed.other_validator());
    for validator in [&scene.bed.validator].into_iter().chain(&fresh) {
        scene.bystander_goes_on(validator, what);
        for name in ["revoked", "cut", "expired", "suspended"] {
            assert!(validator.validate(scene.token(name)).is_err(), "{what}: {name}");
        }
    }
}

/// The one edit that puts another table in the place of the log, with which no file is opened.
fn is_another_table(what: &str) -> bool {
    what == "a number twice"
}

#[test]
fn every_edit_of_the_log_is_found_where_it_begins_and_hinders_no_revocation() {
    let count = log_edits(20).len();
    for number in 0..count {
        let scene = Scene::new();
        let entry = scene.bed.entries(4)[0].event.clone();
        assert_eq!(
            (entry.kind, entry.version),
            (EventKind::KeyIssued, Some(v(1))),
            "entry 5 has every column"
        );
        let anchor = scene.bed.keys.audit_head().unwrap();
        let (what, sql, expected) = log_edits(anchor.seq).swap_remove(number);
        scene.shell().run(&sql);
        assert_verdict(&scene, what, &anchor, expected);
        // Another table in the place of the log is found before its entries are; who has it open goes on.
        let scene = if is_another_table(what) {
            let refused = keyrota::SqliteStore::open(scene.bed.place.file().unwrap()).unwrap_err();
            assert!(matches!(refused, keyrota::SqliteOpenError::AlteredSchema { .. }), "{what}: {refused}");
            scene
        } else {
            scene.reopened(|_| ())
        };
        assert_verdict(&scene, what, &anchor, expected);
        scene.bed.root().revoke(scene.key("live")).unwrap();
        assert_eq!(scene.bed.denial(scene.token("live")), Some(DenialReason::Revoked), "{what}");
        assert!(!scene.bed.keys.verify_audit().unwrap().is_sound(), "{what}");
    }
}

#[test]
fn every_edit_of_the_log_of_a_closed_file_is_found_after_opening_it() {
    let count = log_edits(20).len();
    for number in 0..count {
        let scene = Scene::new();
        let anchor = scene.bed.keys.audit_head().unwrap();
        let (what, sql, expected) = log_edits(anchor.seq).swap_remove(number);
        if is_another_table(what) {
            continue;
        }
        let scene = scene.reopened(|file| Shell::on(file).run(&sql));
        assert_verdict(&scene, what, &anchor, expected);
    }
}

#[test]
fn a_tail_that_was_cut_together_with_the_head_is_found_by_an_anchor_alone() {
    let scene = Scene::fresh();
    let shell = scene.shell();
    shell.keep_copies();
    let earlier = scene.bed.keys.audit_head().unwrap();
    scene.unrelated_act();
    scene.unrelated_act();
    let anchor = scene.bed.keys.audit_head().unwrap();
    assert!(scene.bed.keys.verify_audit_against(&earlier).unwrap().is_sound());
    shell.run(&format!(
        "DELETE FROM main.audit WHERE seq > {}; \
         UPDATE main.head SET (revision, floor, body, mac) = (SELECT revision, floor, body, mac FROM kept.head)",
        earlier.seq
    ));
    let keys = &scene.bed.keys;
    assert_eq!(keys.verify_audit().unwrap(), AuditVerdict::Sound { head: earlier });
    let cut = AuditVerdict::NotAnchored { last: earlier.seq, anchor: anchor.seq };
    assert_eq!(keys.verify_audit_against(&anchor).unwrap(), cut);
    let report = keys.check(Some(&anchor)).unwrap();
    assert!(report.audit == cut && !report.is_sound());
    assert!(
        keys.verify_audit_against(&earlier).unwrap().is_sound(),
        "an anchor from before knows nothing of it"
    );
    scene.bystander_goes_on(&scene.bed.validator, "cut");
    // New entries in the place of the cut ones do not hide it.
    while scene.bed.seq() <= anchor.seq {
        scene.unrelated_act();
    }
    assert!(keys.verify_audit().unwrap().is_sound());
    let verdict = keys.verify_audit_against(&anchor).unwrap();
    assert_eq!(verdict, AuditVerdict::NotAnchored { last: scene.bed.seq(), anchor: anchor.seq });
}

#[test]
fn a_whole_old_file_is_found_by_an_anchor_alone() {
    let scene = Scene::fresh();
    let file = scene.file();
    let old = file.with_file_name("old.db");
    scene.shell().define(&format!("VACUUM INTO '{}'", old.display()));
    let earlier = scene.bed.keys.audit_head().unwrap();
    scene.bed.root().revoke(scene.key("live")).unwrap();
    let anchor = scene.bed.keys.audit_head().unwrap();
    let scene = scene.reopened(|file| {
        let beside = ["-wal", "-shm"].map(|suffix| format!("{}{suffix}", file.display()));
        beside.iter().for_each(|file| drop(std::fs::remove_file(file)));
        std::fs::copy(&old, file).unwrap();
    });
    let keys = &scene.bed.keys;
    assert_eq!(keys.verify_audit().unwrap(), AuditVerdict::Sound { head: earlier });
    assert!(keys.check(None).unwrap().is_sound());
    let report = keys.check(Some(&anchor)).unwrap();
    let verdict = AuditVerdict::NotAnchored { last: earlier.seq, anchor: anchor.seq };
    assert_eq!((report.audit, report.findings), (verdict, vec![]));
}

#[test]
fn of_many_edits_of_the_log_each_is_told() {
    let scene = Scene::new();
    let anchor = scene.bed.keys.audit_head().unwrap();
    let last = anchor.seq;
    assert!(last > 12, "{last}");
    let report = scene.bed.keys.check(Some(&anchor)).unwrap();
    assert_eq!((report.audit, report.troubles), (AuditVerdict::Sound { head: anchor }, vec![]));
    scene.shell().run(&format!(
        "UPDATE audit SET actor = 'mallory' WHERE seq = 3; DELETE FROM audit WHERE seq = 6; \
         UPDATE audit SET generation = 9 WHERE seq = 8; UPDATE audit SET body = 'x' WHERE seq = 10; \
         DELETE FROM audit WHERE seq > {}",
        last - 2
    ));
    let report = scene.bed.keys.check(Some(&anchor)).unwrap();
    let expected = [
        AuditVerdict::BrokenAt { seq: 3 },
        AuditVerdict::BrokenAt { seq: 6 },
        AuditVerdict::KeyringBehind { seq: 8, generation: Generation::new(9) },
        AuditVerdict::BrokenAt { seq: 10 },
        AuditVerdict::TailDiffers { last: last - 2, head: last },
        AuditVerdict::NotAnchored { last: last - 2, anchor: last },
    ];
    assert_eq!((report.audit, report.troubles), (expected[0], expected.to_vec()));
    assert_eq!(scene.bed.keys.verify_audit().unwrap(), expected[0]);
}

#[test]
fn where_the_log_is_broken_rows_are_still_checked_for_edits() {
    let scene = Scene::new();
    let sql = format!(
        "DELETE FROM audit WHERE seq = 5; UPDATE row SET state = 'x' WHERE {}",
        scene.version_row("cut")
    );
    scene.shell().run(&sql);
    let report = scene.bed.keys.check(None).unwrap();
    assert_eq!(report.audit, AuditVerdict::BrokenAt { seq: 5 });
    let [CheckFinding::EditedRow { id, .. }] = &report.findings[..] else { panic!("{report:?}") };
    assert_eq!(*id, format!("{}/1", scene.key("cut")));
}

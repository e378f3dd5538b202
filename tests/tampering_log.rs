//! What becomes of edits of the head and of the audit log: they are named, nobody validates by them, and no edit of
//! the head that leaves its record readable keeps anybody from revoking.
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

/// Edits of the head that leave the library what it needs to go on from.
const HEAD_EDITS: [&str; 8] = [
    "revision = revision + 1",
    "revision = revision + 1000",
    "revision = 1",
    "floor = 1",
    "body = body || ' '",
    "body = json_set(body, '$.audit.mac', lower(hex(zeroblob(32))))",
    "body = json_set(body, '$.high_water', 1798761600000000)",
    "mac = zeroblob(32)",
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
    for edit in HEAD_EDITS {
        for (name, deny, reason) in denies {
            let scene = Scene::new();
            let (other, seq) = (scene.bed.other_validator(), scene.bed.seq());
            scene.shell().run(&format!("UPDATE head SET {edit}"));
            deny(&scene);
            for validator in [&scene.bed.validator, &other, &scene.bed.other_validator()] {
                assert_eq!(validator.validate(scene.token(name)).unwrap_err().reason(), reason, "{edit}");
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

            // All goes on from there, and the break stays told.
            assert!(scene.bed.root().rotate(scene.key("donor")).is_ok(), "{edit}");
            scene.bed.tick();
            assert!(matches!(
                scene.bed.keys.verify_audit().unwrap(),
                AuditVerdict::Segmented { first_break, .. } if first_break == seq + 1
            ));
        }
    }
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

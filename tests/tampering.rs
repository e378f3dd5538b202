//! What becomes of edits with a SQL shell: nothing that was edited validates, each edit is named, and nobody else
//! suffers by it.
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

use common::{new_key, owner, v};
use keyrota::{
    CheckFinding, DenialReason, EditKey, Generation, ManageError, NewKey, ReadError, RoleName, RowKind,
    Unavailable, Validator,
};
use tampered::{Edit, Scene, corpus, edited, names, verdict};

fn assert_denied(scene: &Scene, edit: &Edit, validator: &Validator, when: &str) {
    let Edit { what, presented, scope, named, .. } = edit;
    let verdict = verdict(validator, scene.token(presented), scope);
    assert!(verdict.is_err(), "{what}, {when}: {verdict:?}");
    scene.bystander_goes_on(validator, what);
    for finding in named {
        assert!(names(validator, finding), "{what}, {when}: {finding:?} in {:?}", validator.findings());
    }
}

fn assert_found(scene: &Scene, edit: &Edit) {
    let report = scene.bed.keys.check(None).unwrap();
    assert!(report.audit.is_sound() && (edit.named.is_empty() || !report.is_sound()), "{}", edit.what);
    for finding in &edit.named {
        assert!(report.findings.contains(finding), "{}: {finding:?} in {:?}", edit.what, report.findings);
    }
}

#[test]
fn the_scene_is_sound_before_it_is_edited() {
    let scene = Scene::new();
    assert!(scene.bed.keys.check(None).unwrap().is_sound());
    assert_eq!(scene.bed.validator.findings().unwrap(), []);
    let reason = |name| scene.bed.denial(scene.token(name));
    for (name, expected) in [
        ("live", None),
        ("revoked", Some(DenialReason::Revoked)),
        ("cut", Some(DenialReason::Revoked)),
        ("expired", Some(DenialReason::Expired)),
        ("suspended", Some(DenialReason::Suspended)),
        ("donor", None),
        ("bystander", None),
    ] {
        assert_eq!(reason(name), expected, "{name}");
    }
}

#[test]
fn an_edit_on_the_live_file_denies_at_the_next_validation_and_is_named() {
    for number in 0..corpus(&Scene::new()).len() {
        let scene = Scene::new();
        let edit = &corpus(&scene)[number];
        let other = scene.bed.other_validator();
        scene.bystander_goes_on(&other, "before");
        scene.shell().run(&edit.sql);
        for validator in [&other, &scene.bed.validator] {
            assert_denied(&scene, edit, validator, "at once");
        }
        assert_found(&scene, edit);
        // The next commit of the library gives the edit a place in the feed.
        scene.unrelated_act();
        for validator in [&other, &scene.bed.validator, &scene.bed.other_validator()] {
            assert_denied(&scene, edit, validator, "after a commit");
        }
        assert_found(&scene, edit);
    }
}

#[test]
fn an_edit_of_a_closed_file_denies_after_opening_it_and_is_named() {
    for number in 0..corpus(&Scene::new()).len() {
        let scene = Scene::new();
        let edit = corpus(&scene).swap_remove(number);
        let scene = scene.reopened(|file| tampered::Shell::on(file).run(&edit.sql));
        for validator in [&scene.bed.validator, &scene.bed.other_validator()] {
            assert_denied(&scene, &edit, validator, "after opening");
        }
        assert_found(&scene, &edit);
    }
}

#[test]
fn an_edit_that_is_undone_leaves_everything_as_it_was() {
    for number in 0..corpus(&Scene::new()).len() {
        let scene = Scene::new();
        let edit = &corpus(&scene)[number];
        let shell = scene.shell();
        shell.keep_copies();
        shell.run(&edit.sql);
        assert_denied(&scene, edit, &scene.bed.validator, "edited");
        shell.run("DELETE FROM main.row; INSERT INTO main.row SELECT * FROM kept.row");
        assert!(scene.bed.keys.check(None).unwrap().is_sound(), "{}", edit.what);
        for validator in [&scene.bed.validator, &scene.bed.other_validator()] {
            assert_eq!(validator.findings().unwrap(), [], "{}", edit.what);
            assert!(validator.validate(scene.token("live")).is_ok(), "{}", edit.what);
            for name in ["revoked", "cut", "expired", "suspended"] {
                assert!(validator.validate(scene.token(name)).is_err(), "{}: {name}", edit.what);
            }
        }
    }
}

#[test]
fn without_triggers_a_running_validator_keeps_what_it_knows_and_a_fresh_one_sees_the_edit() {
    for number in 0..corpus(&Scene::new()).len() {
        let scene = Scene::new();
        let edit = &corpus(&scene)[number];
        let shell = scene.shell();
        shell.switch_triggers_off();
        let before = verdict(&scene.bed.validator, scene.token(edit.presented), edit.scope);
        shell.run(&edit.sql);
        // A row that says to come from the future is read all the same.
        if !edit.sql.contains("revision = 1000000") && !edit.sql.contains("revision + 1") {
            let after = verdict(&scene.bed.validator, scene.token(edit.presented), edit.scope);
            assert_eq!(after, before, "{}", edit.what);
        }
        assert_found(&scene, edit);
        assert_denied(&scene, edit, &scene.bed.other_validator(), "after a fresh open");
    }
}

#[test]
fn a_row_under_an_unknown_generation_is_unavailable_and_named() {
    for kind in [1, 2, 3] {
        let scene = Scene::new();
        let row = match kind {
            1 => scene.key_row("live"),
            2 => scene.version_row("live"),
            _ => "kind = 3 AND id = 'ada'".to_owned(),
        };
        scene.shell().run(&format!("UPDATE row SET generation = 9 WHERE {row}"));
        for validator in [&scene.bed.validator, &scene.bed.other_validator()] {
            let expected = DenialReason::Unavailable(Unavailable::KeyringBehind(Generation::new(9)));
            assert_eq!(validator.validate(scene.token("live")).unwrap_err().reason(), expected);
            assert_eq!(validator.findings().unwrap()[0].missing_generation, Some(Generation::new(9)));
            scene.bystander_goes_on(validator, "generation");
        }
        let told = |finding: &CheckFinding| matches!(finding, CheckFinding::UnknownGeneration { generation, .. } if generation.get() == 9);
        assert!(scene.found().iter().any(told));
    }
}

#[test]
fn an_edited_row_stops_no_revocation_of_its_key() {
    for edit in ["state = 'x'", "body = '{}'", "mac = zeroblob(32)"] {
        let scene = Scene::new();
        let second = scene.bed.rotate(scene.key("live"));
        scene.shell().run(&format!("UPDATE row SET {edit} WHERE {}", scene.version_row("live")));
        scene.bed.root().revoke(scene.key("live")).unwrap();
        assert_eq!(scene.bed.denial(scene.token("live")), Some(DenialReason::Unknown), "{edit}");
        assert_eq!(scene.bed.denial(&second), Some(DenialReason::Revoked), "{edit}");
        scene.bystander_goes_on(&scene.bed.validator, edit);
    }
}

#[test]
fn issuing_for_an_owner_whose_row_was_deleted_revives_none_of_its_keys() {
    for name in ["ada", "bob"] {
        let scene = Scene::new();
        scene.shell().run(&format!("DELETE FROM row WHERE kind = 3 AND id = '{name}'"));
        let refused = |error| matches!(error, ManageError::Read(ReadError::Tampered { kind: RowKind::Owner, id }) if id == name);
        let root = || scene.bed.root();
        assert!(refused(scene.bed.refused(|| root().issue(NewKey::new(owner(name), "new").unwrap()))));
        assert!(refused(scene.bed.refused(|| root().set_owner_limit(owner(name), None))));
        for validator in [&scene.bed.validator, &scene.bed.other_validator()] {
            for key in ["live", "suspended"].into_iter().filter(|key| (*key == "live") == (name == "ada")) {
                let denial = validator.validate(scene.token(key)).unwrap_err();
                assert_eq!(denial.reason(), DenialReason::Tampered);
            }
            scene.bystander_goes_on(validator, name);
        }
    }
}

#[test]
fn a_suspension_does_not_end_by_deleting_the_row_of_an_owner_without_keys() {
    let scene = Scene::new();
    let zoe = owner("zoe");
    scene.bed.root().suspend(zoe).unwrap();
    scene.shell().run("DELETE FROM row WHERE kind = 3 AND id = 'zoe'");
    assert_eq!(scene.found(), [CheckFinding::OldOwner { owner: zoe }]);
    let error = scene.bed.refused(|| scene.bed.root().issue(NewKey::new(zoe, "new").unwrap()));
    assert!(matches!(error, ManageError::Read(ReadError::Tampered { kind: RowKind::Owner, .. })), "{error}");
    scene.bystander_goes_on(&scene.bed.validator, "zoe");
}

#[test]
fn of_many_edits_at_once_each_is_named() {
    let scene = Scene::new();
    let other = scene.bed.other_validator();
    let (shell, id) = (scene.shell(), |name| scene.key(name).to_string());
    let mut expected = Vec::new();
    for (row, finding) in [
        (scene.key_row("live"), edited(RowKind::Key, id("live"))),
        (scene.version_row("live"), edited(RowKind::Version, format!("{}/1", id("live")))),
        (scene.version_row("cut"), edited(RowKind::Version, format!("{}/1", id("cut")))),
        ("kind = 3 AND id = 'ada'".to_owned(), edited(RowKind::Owner, "ada")),
        ("kind = 4 AND id = 'reader'".to_owned(), edited(RowKind::Role, "reader")),
        ("kind = 5".to_owned(), edited(RowKind::Policy, "deployment")),
        ("kind = 8 AND id = 'issue-donor'".to_owned(), edited(RowKind::Request, "issue-donor")),
    ] {
        shell.run(&format!("UPDATE row SET body = body || ' ' WHERE {row}"));
        expected.push(finding);
    }
    shell.run("DELETE FROM row WHERE kind = 3 AND id = 'bob'");
    expected.push(CheckFinding::MissingOwner { key: scene.key("suspended"), owner: owner("bob") });
    expected.push(CheckFinding::OldOwner { owner: owner("bob") });
    shell.run(&format!("DELETE FROM row WHERE {}", scene.version_row("revoked")));
    expected.push(CheckFinding::MissingVersion { key: scene.key("revoked"), version: v(1) });
    shell.run(&format!("DELETE FROM row WHERE {}", scene.key_row("expired")));
    expected.push(CheckFinding::MissingKey { key: scene.key("expired"), version: v(1) });
    let sorted = |mut findings: Vec<CheckFinding>| {
        findings.sort_by_key(|finding| format!("{finding:?}"));
        findings
    };
    assert_eq!(sorted(scene.found()), sorted(expected));
    for validator in [&scene.bed.validator, &other, &scene.bed.other_validator()] {
        assert_eq!(validator.findings().unwrap().len(), 5, "those that it follows");
        for name in ["live", "cut", "revoked", "expired", "suspended"] {
            assert!(validator.validate(scene.token(name)).is_err(), "{name}");
        }
        assert!(validator.validate(scene.token("bystander")).is_ok());
    }
}

#[test]
fn edited_settings_are_named_and_stop_issuing_but_neither_validation_nor_revocation() {
    for sql in [
        "UPDATE row SET body = json_set(body, '$.owner_limit', 1000000) WHERE kind = 5",
        "UPDATE row SET body = json_set(body, '$.policy.lifetime_us', 3000000000000000) WHERE kind = 5",
        "DELETE FROM row WHERE kind = 5",
    ] {
        let scene = Scene::new();
        scene.shell().run(sql);
        let root = || scene.bed.root();
        let tampered =
            |error| matches!(error, ManageError::Read(ReadError::Tampered { kind: RowKind::Policy, .. }));
        assert!(tampered(scene.bed.refused(|| root().issue(new_key("new")))));
        assert!(tampered(scene.bed.refused(|| root().rotate(scene.key("live")))));
        assert!(tampered(scene.bed.keys.settings().unwrap_err()));
        if sql.starts_with("UPDATE") {
            assert_eq!(scene.found(), [edited(RowKind::Policy, "deployment")]);
        }
        root().revoke(scene.key("live")).unwrap();
        assert_eq!(scene.bed.denial(scene.token("live")), Some(DenialReason::Revoked));
        scene.bystander_goes_on(&scene.bed.other_validator(), sql);
    }
}

#[test]
fn a_sealed_copy_is_believed_only_at_its_own_request() {
    let again = |scene: &Scene, name: &str, of: &str| {
        let new = NewKey::new(owner(of), name).unwrap().role(RoleName::new("reader").unwrap());
        let new = new.scopes(["orders:read"].try_into().unwrap());
        scene.bed.root().request(format!("issue-{name}")).issue(new)
    };
    for sql in [
        "UPDATE row SET (revision, parent, due_at, body, mac) = (SELECT revision, parent, due_at, body, mac FROM row \
         WHERE kind = 7 AND id = 'issue-bystander') WHERE kind = 7 AND id = 'issue-donor'",
        "DELETE FROM row WHERE kind = 7 AND id = 'issue-donor'; \
         UPDATE row SET id = 'issue-donor' WHERE kind = 7 AND id = 'issue-bystander'",
        "UPDATE row SET body = json_set(body, '$.request', 'issue-donor', '$.key', (SELECT parent FROM row \
         WHERE kind = 7 AND id = 'issue-donor')) WHERE kind = 7 AND id = 'issue-bystander'; \
         DELETE FROM row WHERE kind = 7 AND id = 'issue-donor'; \
         UPDATE row SET id = 'issue-donor' WHERE kind = 7 AND id = 'issue-bystander'",
    ] {
        let scene = Scene::fresh();
        assert_eq!(again(&scene, "donor", "eve").unwrap().token.expose(), scene.token("donor"));
        scene.shell().run(sql);
        let error = again(&scene, "donor", "eve").unwrap_err();
        assert!(
            matches!(error, ManageError::Read(ReadError::Tampered { kind: RowKind::Sealed, .. })),
            "{error}"
        );
        assert!(scene.found().contains(&edited(RowKind::Sealed, "issue-donor")));
        scene.bystander_goes_on(&scene.bed.validator, sql);
    }
}

#[test]
fn an_older_sound_row_is_named_and_its_key_can_be_revoked_again() {
    let scene = Scene::fresh();
    let root = || scene.bed.root();
    let shell = scene.shell();
    shell.keep_copies();
    root().revoke((scene.key("cut"), v(1))).unwrap();
    root().revoke(scene.key("revoked")).unwrap();
    root().suspend(owner("bob")).unwrap();
    assert!(scene.bed.keys.check(None).unwrap().is_sound());
    let named = |row: &str, expected: &[CheckFinding]| {
        shell.put_back(row);
        assert_eq!(scene.found(), expected);
        assert!(scene.bed.keys.verify_audit().unwrap().is_sound());
    };
    let (cut, revoked) = (scene.key("cut"), scene.key("revoked"));
    let mut expected = vec![CheckFinding::OldKey { key: revoked }];
    named(&scene.key_row("revoked"), &expected);
    let denial = scene.bed.other_validator().validate(scene.token("revoked")).unwrap_err();
    assert_eq!(denial.reason(), DenialReason::Revoked, "its version says so too");
    expected.push(CheckFinding::OldOwner { owner: owner("bob") });
    named("kind = 3 AND id = 'bob'", &expected);
    expected.push(CheckFinding::OldVersion { key: cut, version: v(1) });
    named(&scene.version_row("cut"), &expected);
    expected.push(CheckFinding::OldVersion { key: revoked, version: v(1) });
    expected.sort_by_key(|finding| format!("{finding:?}"));
    named(&scene.version_row("revoked"), &expected);

    root().revoke((cut, v(1))).unwrap();
    root().revoke(revoked).unwrap();
    root().suspend(owner("bob")).unwrap();
    assert!(scene.bed.keys.check(None).unwrap().is_sound());
    for validator in [&scene.bed.validator, &scene.bed.other_validator()] {
        for name in ["cut", "revoked", "suspended"] {
            assert!(validator.validate(scene.token(name)).is_err(), "{name}");
        }
        scene.bystander_goes_on(validator, "old rows");
    }
}

#[test]
fn without_triggers_an_older_sound_row_revives_nothing_in_a_running_validator() {
    let scene = Scene::fresh();
    let shell = scene.shell();
    shell.keep_copies();
    shell.switch_triggers_off();
    scene.bed.root().revoke((scene.key("cut"), v(1))).unwrap();
    assert_eq!(scene.bed.denial(scene.token("cut")), Some(DenialReason::Revoked));
    shell.put_back(&scene.version_row("cut"));
    assert_eq!(scene.bed.denial(scene.token("cut")), Some(DenialReason::Revoked));
    scene.unrelated_act();
    assert_eq!(scene.bed.denial(scene.token("cut")), Some(DenialReason::Revoked));
    assert_eq!(scene.found(), [CheckFinding::OldVersion { key: scene.key("cut"), version: v(1) }]);
}

#[test]
fn an_older_sound_row_revives_nothing_in_a_validator_that_has_seen_the_newer_one() {
    let scene = Scene::fresh();
    let (root, shell) = (|| scene.bed.root(), scene.shell());
    let validators = [scene.bed.validator.clone(), scene.bed.other_validator()];
    let demanding = |name, demanded| {
        let [here, there] =
            validators.each_ref().map(|validator| verdict(validator, scene.token(name), demanded));
        assert_eq!(here.is_ok(), there.is_ok(), "{name}");
        here.is_ok()
    };
    let presented = [
        ("cut", "orders:read"),
        ("revoked", "orders:read"),
        ("suspended", "orders:read"),
        ("donor", "orders:read"),
        ("live", "reports:read"),
    ];
    let granted = || presented.map(|(name, demanded)| demanding(name, demanded));
    assert_eq!(granted(), [true; 5]);
    shell.keep_copies();
    root().revoke((scene.key("cut"), v(1))).unwrap();
    root().revoke(scene.key("revoked")).unwrap();
    root().suspend(owner("bob")).unwrap();
    root()
        .edit(EditKey::of(scene.key("donor")).scopes(["orders:write"].try_into().unwrap()).widen())
        .unwrap();
    root().set_role(RoleName::new("reader").unwrap(), ["bills:read"].try_into().unwrap()).unwrap();
    assert_eq!(granted(), [false; 5]);
    for row in [
        scene.version_row("cut"),
        scene.key_row("revoked"),
        scene.version_row("revoked"),
        scene.key_row("donor"),
        "kind = 3 AND id = 'bob'".to_owned(),
        "kind = 4 AND id = 'reader'".to_owned(),
    ] {
        shell.put_back(&row);
        assert_eq!(granted(), [false; 5], "{row}");
        scene.unrelated_act();
        assert_eq!(granted(), [false; 5], "{row}, after a commit");
    }
    for validator in &validators {
        assert_eq!(validator.findings().unwrap().len(), 6);
        scene.bystander_goes_on(validator, "old rows");
    }
}

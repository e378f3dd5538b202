//! Compliance: the age of each secret in use against a maximum, the exceptions with their reasons, and what shows the
//! rotations; as data, JSON, CSV and a page of text.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod hooked;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{Bed, DAY, HOUR, MICRO, at, keyring, new_key, on_both_stores, owner};
use hooked::Hooked;
use keyrota::{
    Actor, AuditFilter, AuditVerdict, ComplianceQuery, ComplianceReport, ComplianceStanding, EventKind,
    KeyCompliance, KeyId, KeyManager, ManualClock, NeverRotates, NewKey, OwnerLimit, RotationStatus, RowKind,
};

fn report(bed: &Bed, query: &ComplianceQuery) -> ComplianceReport {
    bed.keys.compliance(query).unwrap()
}

fn names(keys: &[KeyCompliance]) -> Vec<&str> {
    keys.iter().map(|key| key.name.as_str()).collect()
}

/// A key that lives for two years and does not rotate.
fn long(name: &str) -> NewKey {
    new_key(name).lifetime(700 * DAY)
}

/// A table of CSV, read by the letter of RFC 4180.
fn table(text: &str) -> Vec<Vec<String>> {
    let mut rows = vec![vec![String::new()]];
    let (mut chars, mut quoted) = (text.chars().peekable(), false);
    while let Some(c) = chars.next() {
        let row = rows.last_mut().unwrap();
        match (c, quoted) {
            ('"', true) if chars.peek() == Some(&'"') => {
                chars.next();
                row.last_mut().unwrap().push('"');
            }
            ('"', _) => quoted = !quoted,
            (',', false) => row.push(String::new()),
            ('\r', false) => {
                assert_eq!(chars.next(), Some('\n'));
                rows.push(vec![String::new()]);
            }
            ('\n', false) => panic!("a line that ends in LF alone"),
            (c, _) => row.last_mut().unwrap().push(c),
        }
    }
    assert!(!quoted);
    assert_eq!(rows.pop(), Some(vec![String::new()]), "the last line ends, too");
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{rows:?}");
    rows
}

#[test]
fn what_is_overdue_is_told_oldest_first_with_owner_and_hint_and_the_rest_is_covered() {
    on_both_stores(|bed| {
        let oldest = bed.root().issue(long("oldest")).unwrap();
        bed.tick_to(at("2027-01-11"));
        bed.root().issue(long("older")).unwrap();
        let rotated = bed.root().issue(long("rotated")).unwrap();
        bed.tick_to(at("2027-04-02"));
        bed.root().rotate(rotated.key).unwrap();
        bed.root().issue(long("young")).unwrap();
        let gone = bed.root().issue(long("revoked")).unwrap();
        bed.root().revoke(gone.key).unwrap();
        bed.root().issue(new_key("ended").until(at("2027-04-03"))).unwrap();
        // 90 days are not too old, and a microsecond more is.
        bed.tick_to(at("2027-04-11"));
        let on_time = report(&bed, &ComplianceQuery::default());
        assert_eq!(names(&on_time.overdue.listed), ["oldest"]);
        bed.clock.advance(MICRO).unwrap();
        let late = report(&bed, &ComplianceQuery::default());
        assert_eq!(names(&late.overdue.listed), ["oldest", "older"]);
        assert_eq!((late.keys, late.within, late.overdue.total), (4, 2, 2));
        assert_eq!(late.coverage_percent, Some(50.0));
        let first = &late.overdue.listed[0];
        assert_eq!((first.key, first.owner, first.age_days), (oldest.key, owner("ada"), 100));
        assert_eq!(first.hint, oldest.token.hint().to_string());
        assert_eq!((first.standing, first.issued_at), (ComplianceStanding::Overdue, at("2027-01-01")));
        let lax = report(&bed, &ComplianceQuery::default().max_age(365 * DAY));
        assert_eq!((lax.overdue.total, lax.coverage_percent), (0, Some(100.0)));
        let cut = report(&bed, &ComplianceQuery::default().listed(1));
        assert_eq!((names(&cut.overdue.listed), cut.overdue.total), (vec!["oldest"], 2));
        let nobody = report(&bed, &ComplianceQuery::default().owner(owner("eve")));
        assert_eq!((nobody.keys, nobody.coverage_percent), (0, None));
    });
}

#[test]
fn exceptions_are_told_with_their_reason_and_are_no_part_of_the_coverage() {
    on_both_stores(|bed| {
        let sealed = bed.root().issue(long("in hardware")).unwrap().key;
        // In the order of their ids, which know the millisecond.
        bed.clock.advance(HOUR).unwrap();
        bed.root().issue(NewKey::new(owner("eve"), "idle").unwrap().lifetime(700 * DAY)).unwrap();
        bed.root().suspend(owner("eve")).unwrap();
        bed.clock.advance(HOUR).unwrap();
        bed.root().issue(long("overdue")).unwrap();
        bed.tick_to(at("2027-06-01"));
        bed.root().issue(long("young")).unwrap();
        assert!(ComplianceQuery::default().exempt(sealed, "two\nlines").is_err());
        let query = ComplianceQuery::default().exempt(sealed, "replaced with its device").unwrap();
        let found = report(&bed, &query);
        assert_eq!((found.keys, found.within, found.overdue.total), (4, 1, 1));
        assert_eq!((found.coverage_percent, found.coverage_of_all_percent), (Some(50.0), Some(25.0)));
        let told: Vec<_> =
            found.exceptions.listed.iter().map(|key| (key.standing, key.exempt_because.as_deref())).collect();
        let exempt = (ComplianceStanding::Exempt, Some("replaced with its device"));
        assert_eq!(told, [exempt, (ComplianceStanding::Suspended, None)]);
        let unexcepted = report(&bed, &ComplianceQuery::default());
        assert_eq!(names(&unexcepted.overdue.listed), ["in hardware", "overdue"]);
    });
}

#[test]
fn keys_that_never_rotate_or_that_nobody_uses_are_told_whatever_their_age() {
    on_both_stores(|bed| {
        let rotating = bed.root().issue(new_key("rotating").auto_rotation(true)).unwrap();
        bed.clock.advance(MICRO * 1_000).unwrap();
        let used = bed.root().issue(long("used")).unwrap();
        bed.clock.advance(MICRO * 1_000).unwrap();
        bed.root().issue(new_key("forever").never_expires()).unwrap();
        bed.tick_to(at("2027-01-08 00:01"));
        bed.root().issue(long("new")).unwrap();
        bed.validator.validate(used.token.expose()).unwrap();
        bed.validator.flush().unwrap();
        let early = report(&bed, &ComplianceQuery::default());
        assert_eq!(names(&early.stale.listed), ["rotating", "forever"], "unused for seven days");
        bed.tick_to(at("2027-02-01"));
        bed.validator.validate(rotating.token.expose()).unwrap();
        bed.validator.flush().unwrap();
        bed.tick_to(at("2027-02-07 00:01"));
        let found = report(&bed, &ComplianceQuery::default());
        let never: Vec<_> =
            found.never_rotating.listed.iter().map(|key| (key.name.as_str(), key.never_rotates)).collect();
        assert_eq!(
            never,
            [
                ("used", Some(NeverRotates::Off)),
                ("forever", Some(NeverRotates::NeverExpires)),
                ("new", Some(NeverRotates::Off))
            ]
        );
        assert_eq!(
            names(&found.stale.listed),
            ["used", "forever", "new"],
            "not used for thirty days, or never"
        );
        // Nobody claims the successor: after that nothing is made any more.
        bed.tick_to(at("2027-03-26"));
        bed.tick_to(at("2027-06-20"));
        let lapsed = report(&bed, &ComplianceQuery::default().max_age(365 * DAY));
        assert!(lapsed.never_rotating.listed.iter().all(|key| key.name.as_str() != "rotating"), "it is over");
        assert_eq!((lapsed.failed.total, lapsed.rotations.failed), (1, 1));
        let failed = &lapsed.failed.listed[0];
        assert_eq!(
            (failed.key, failed.outcome, failed.failure.as_deref()),
            (Some(rotating.key), RotationStatus::Failed, Some("unclaimed"))
        );
    });
}

#[test]
fn rotations_are_shown_by_the_entries_of_the_audit_log_also_of_keys_that_are_purged() {
    on_both_stores(|bed| {
        let key = bed.issue("ci").key;
        let by = |name: &str| bed.keys.by(Actor::operator(name));
        bed.tick_to(at("2027-02-01"));
        by("grace").because("quarterly").rotate(key).unwrap();
        bed.tick_to(at("2027-02-03"));
        by("root").because("a \"test\", with a comma").rotate(key).unwrap();
        bed.tick_to(at("2027-02-05"));
        by("root").rotate(key).unwrap();
        by("root").roll_back(key).unwrap();
        by("root").revoke(key).unwrap();
        bed.tick_to(at("2027-02-20"));
        assert_eq!(by("root").purge(DAY).unwrap().purged, 1);
        let found = report(&bed, &ComplianceQuery::default());
        assert_eq!(
            (found.rotations.rotated, found.rotations.completed, found.rotations.rolled_back),
            (3, 2, 1)
        );
        assert_eq!((found.evidence.total, found.evidence.listed.len(), found.failed.total), (3, 3, 0));
        let log = bed.keys.audit(&AuditFilter::all(), 10_000).unwrap();
        for evidence in &found.evidence.listed {
            let expected: Vec<_> =
                log.iter().filter(|entry| entry.event.rotation == Some(evidence.rotation)).collect();
            let entries: Vec<_> =
                evidence.entries.iter().map(|entry| (entry.seq, entry.at, entry.kind)).collect();
            let expected: Vec<_> =
                expected.iter().map(|entry| (entry.seq, entry.event.at, entry.event.kind)).collect();
            assert_eq!(entries, expected);
            assert_eq!(evidence.key, Some(key));
        }
        let first = &found.evidence.listed[0];
        assert_eq!(
            (first.actor.to_string().as_str(), first.reason.as_deref()),
            ("operator grace", Some("quarterly"))
        );
        assert_eq!((first.outcome, first.entries[0].at), (RotationStatus::Completed, at("2027-02-01")));
        assert!(first.old_fingerprint.is_some() && first.new_fingerprint.is_some());
        assert_eq!(found.evidence.listed[2].outcome, RotationStatus::RolledBack);
        assert_eq!(found.audit, AuditVerdict::Sound { head: bed.keys.audit_head().unwrap() });

        let period = ComplianceQuery::default().period(at("2027-02-03"), at("2027-02-05"));
        let part = report(&bed, &period);
        assert_eq!((part.rotations.rotated, part.rotations.completed, part.evidence.total), (1, 1, 1));
        let cut = report(&bed, &ComplianceQuery::default().listed(1));
        assert_eq!((cut.evidence.total, cut.evidence.listed.len(), cut.rotations.rotated), (3, 1, 3));
        let eves = report(&bed, &ComplianceQuery::default().owner(owner("eve")));
        assert_eq!(eves.evidence.total, 0);

        let mut csv = Vec::new();
        let lines = bed.keys.export_rotations(&ComplianceQuery::default(), &mut csv).unwrap();
        let rows = table(&String::from_utf8(csv).unwrap());
        let told: usize = found.evidence.listed.iter().map(|evidence| evidence.entries.len()).sum();
        assert_eq!((lines, rows.len()), (told as u64, told + 1));
        assert_eq!(rows[0][..4], ["seq", "at", "event", "rotation_id"]);
        assert!(rows.iter().any(|row| row.contains(&"a \"test\", with a comma".to_owned())), "{rows:?}");
        let seqs: Vec<u64> = rows[1..].iter().map(|row| row[0].parse().unwrap()).collect();
        assert!(seqs.is_sorted());
    });
}

#[test]
fn the_lines_of_csv_are_what_the_report_tells_and_nothing_in_them_is_carried_out() {
    on_both_stores(|bed| {
        for name in ["=cmd|' /C calc'!A0", "+1", "-2+3", "@SUM(A1:A9)", "plain, \"quoted\""] {
            bed.root().issue(new_key(name)).unwrap();
            bed.clock.advance(HOUR).unwrap();
        }
        let query = ComplianceQuery::default();
        let mut csv = Vec::new();
        assert_eq!(bed.keys.export_compliance(&query, &mut csv).unwrap(), 5);
        let rows = table(&String::from_utf8(csv).unwrap());
        let at_name = rows[0].iter().position(|name| name == "name").unwrap();
        let told: Vec<_> = rows[1..].iter().map(|row| row[at_name].as_str()).collect();
        assert_eq!(told, ["'=cmd|' /C calc'!A0", "'+1", "'-2+3", "'@SUM(A1:A9)", "plain, \"quoted\""]);
        for field in rows.iter().flatten() {
            assert!(!field.starts_with(['=', '+', '-', '@']), "{field}");
        }
        let standing = rows[0].iter().position(|name| name == "standing").unwrap();
        assert!(rows[1..].iter().all(|row| row[standing] == "within"));
    });
}

#[test]
fn the_json_form_has_a_number_and_the_page_says_the_same() {
    on_both_stores(|bed| {
        let old = bed.root().issue(long("old")).unwrap();
        bed.tick_to(at("2027-05-01"));
        let found = report(&bed, &ComplianceQuery::default().period(at("2027-01-01"), at("2027-07-01")));
        let json: serde_json::Value = serde_json::from_str(&found.to_json()).unwrap();
        assert_eq!(json["format"], 1);
        assert_eq!(json["max_age"], 90 * 86_400);
        assert_eq!(json["overdue"]["total"], 1);
        assert_eq!(json["overdue"]["listed"][0]["key_id"], old.key.to_string());
        assert_eq!(json["coverage_percent"], 0.0);
        let fields: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields.len(), 19, "a field more is a change of the documented form: {fields:?}");
        let page = found.to_string();
        for told in [
            "Keys in use: 1",
            "Coverage: 0.00 %",
            "Overdue, the oldest first: 1",
            "120 d  v1 of \"old\" of ada (key_",
            "Audit log: sound",
        ] {
            assert!(page.contains(told), "{told}:\n{page}");
        }
        assert!(!page.contains(old.token.expose()) && !found.to_json().contains(&old.token.expose()[16..60]));
    });
}

#[test]
fn edited_rows_are_named_and_counted_nowhere_else() {
    let (store, clock) = (Hooked::new(), ManualClock::new(at(common::START)));
    let keys = KeyManager::builder(Arc::clone(&store), keyring()).clock(clock.clone()).open().unwrap();
    let issue = |name| keys.by(Actor::operator("root")).issue(new_key(name)).unwrap().key;
    let all = [issue("a"), issue("b"), issue("c")];
    for (kind, edited) in [(RowKind::Key, all[1]), (RowKind::Version, all[2])] {
        store.edit_rows(move |row| {
            if row.kind == kind && row.id.starts_with(&edited.to_string()) {
                row.body = String::from_utf8_lossy(&row.body)
                    .replace("2027", "2028")
                    .replace("\"ada\"", "\"eve\"")
                    .into_bytes();
                row.index.state = Some("revoked".to_owned());
            }
        });
        let found = keys.compliance(&ComplianceQuery::default()).unwrap();
        assert_eq!((found.keys, found.edited.total), (2, 1), "{kind:?}");
        assert_eq!(found.edited.listed, [edited.to_string()]);
        assert!(found.to_string().contains(&edited.to_string()));
        store.put_back();
    }
    store.edit_audit(|mut row| {
        if row.kind == EventKind::KeyIssued.as_str() {
            row.body = String::from_utf8_lossy(&row.body).replace("root", "eve_").into_bytes();
        }
        Some(row)
    });
    let found = keys.compliance(&ComplianceQuery::default()).unwrap();
    assert!(!found.audit.is_sound() && found.to_string().contains("NOT SOUND"));
}

#[test]
fn many_keys_are_surveyed_in_parts_and_each_is_told_once() {
    on_both_stores(|bed| {
        let settings = OwnerLimit::new(100_000).unwrap();
        bed.root().set_default_owner_limit(settings).unwrap();
        let mut eves = BTreeSet::new();
        for n in 0..300 {
            let name = if n % 3 == 0 { "eve" } else { "ada" };
            let key = bed.root().issue(NewKey::new(owner(name), format!("{n}")).unwrap()).unwrap().key;
            if n % 3 == 0 {
                eves.insert(key);
            }
            if n % 5 == 0 {
                bed.root().rotate(key).unwrap();
            }
        }
        bed.clock.advance(HOUR).unwrap();
        let exported = |query: &ComplianceQuery| {
            let mut csv = Vec::new();
            let count = bed.keys.export_compliance(query, &mut csv).unwrap();
            let rows = table(&String::from_utf8(csv).unwrap());
            let keys: Vec<KeyId> = rows[1..].iter().map(|row| row[0].parse().unwrap()).collect();
            assert_eq!(keys.len() as u64, count);
            assert!(keys.is_sorted(), "in the order of their issue");
            let versions: usize = rows[1..].iter().filter(|row| row[4] == "2").count();
            (keys.into_iter().collect::<BTreeSet<_>>(), versions)
        };
        let (all, rotated) = exported(&ComplianceQuery::default());
        assert_eq!((all.len(), rotated), (300, 60));
        let (of_eve, rotated) = exported(&ComplianceQuery::default().owner(owner("eve")));
        assert_eq!((of_eve, rotated), (eves, 20));
        let found = report(&bed, &ComplianceQuery::default().listed(7));
        assert_eq!((found.keys, found.within, found.never_rotating.total), (300, 300, 300));
        assert_eq!(
            (found.never_rotating.listed.len(), found.evidence.listed.len(), found.evidence.total),
            (7, 7, 60)
        );
    });
}

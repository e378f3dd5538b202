//! What keeps a store in order: editing keys, purging old ones, and asking again about a grant.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Duration;

use common::{Bed, DAY, MICRO, at, new_key, on_both_stores, owner, scope, v};
use keyrota::{
    AuditFilter, Demand, DenialReason, EditKey, EventKind, Evidence, Grant, KeyId, LifecycleError,
    ManageError, Metadata, PurgeReport, RoleName, RowFilter, RowKind, ScopeSet, Validator,
};
use serde_json::{Value, json};

fn revision(bed: &Bed) -> u64 {
    bed.store.head().unwrap().unwrap().revision.0
}

fn set<const N: usize>(texts: [&str; N]) -> ScopeSet {
    texts.try_into().unwrap()
}

fn role(name: &str) -> RoleName {
    RoleName::new(name).unwrap()
}

fn metadata(value: Value) -> Metadata {
    Metadata::new(value).unwrap()
}

fn allows(validator: &Validator, token: &str, demanded: &str) -> bool {
    validator.validate_for(token, Demand::scope(&scope(demanded))).is_ok()
}

fn rows(bed: &Bed, kind: RowKind) -> usize {
    let mut count = 0;
    let mut each = |_: keyrota::RowRef<'_>| {
        count += 1;
        ControlFlow::Continue(())
    };
    bed.store.scan(kind, RowFilter::All { after: None }, &mut each).unwrap();
    count
}

#[test]
fn an_edit_changes_what_it_names_and_nothing_else_in_one_commit() {
    on_both_stores(|bed| {
        bed.root().set_role(role("reader"), set(["orders:read"])).unwrap();
        let new = new_key("ci").scopes(set(["orders:*"])).metadata(metadata(json!({ "team": 1 })));
        let issued = bed.root().issue(new).unwrap();
        let before = (bed.seq(), revision(&bed), bed.keys.get(issued.key).unwrap());
        let edit =
            EditKey::of(issued.key).name("nightly build").unwrap().metadata(metadata(json!({ "team": 2 })));
        let info = bed.root().because("moved").edit(edit).unwrap();
        assert_eq!(bed.keys.get(issued.key).unwrap(), info);
        assert_eq!((info.name.as_str(), info.metadata.fields()["team"].clone()), ("nightly build", json!(2)));
        let mut expected = before.2;
        (expected.name, expected.metadata) = (info.name.clone(), info.metadata.clone());
        assert_eq!(info, expected);
        assert_eq!(revision(&bed), before.1 + 1);
        let [entry] = &bed.entries(before.0)[..] else { panic!("one entry") };
        assert_eq!((entry.event.kind, entry.event.key), (EventKind::KeyEdited, Some(issued.key)));
        assert_eq!(entry.event.subject.as_deref(), Some("name, metadata"));
        assert_eq!((entry.event.actor.name(), entry.event.reason.as_deref()), ("root", Some("moved")));

        let before = bed.seq();
        let edit = EditKey::of(issued.key).scopes(set(["orders:write"])).role(Some(role("reader")));
        let info = bed.root().edit(edit).unwrap();
        assert_eq!((&info.scopes, &info.role), (&set(["orders:write"]), &Some(role("reader"))));
        assert_eq!(bed.entries(before)[0].event.subject.as_deref(), Some("scopes, role"));
        let info = bed.root().edit(EditKey::of(issued.key).role(None)).unwrap();
        assert_eq!((info.role, info.scopes), (None, set(["orders:write"])));
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn an_edit_applies_to_every_version_and_every_running_validator_at_once() {
    on_both_stores(|bed| {
        let issued = bed.root().issue(new_key("ci").scopes(set(["orders:*"]))).unwrap();
        let second = bed.rotate(issued.key);
        let other = bed.other_validator();
        let allowed = |demanded: &str| {
            let mut verdicts = HashSet::new();
            for validator in [&bed.validator, &other] {
                for token in [issued.token.expose(), &second] {
                    verdicts.insert(allows(validator, token, demanded));
                }
            }
            assert_eq!(verdicts.len(), 1, "{demanded}");
            verdicts.contains(&true)
        };
        assert!(allowed("orders:write"));
        bed.root().edit(EditKey::of(issued.key).scopes(set(["orders:read"]))).unwrap();
        assert!(allowed("orders:read") && !allowed("orders:write"));
        let grant = other.validate(&second).unwrap();
        assert_eq!(other.scopes(&grant).unwrap(), set(["orders:read"]));
        bed.root().edit(EditKey::of(issued.key).scopes(set(["bills:*"])).widen()).unwrap();
        assert!(allowed("bills:pay") && !allowed("orders:read"));
        bed.root().edit(EditKey::of(issued.key).scopes(ScopeSet::EMPTY)).unwrap();
        assert!(!allowed("bills:pay"));
    });
}

#[test]
fn an_edit_widens_only_when_it_says_so() {
    on_both_stores(|bed| {
        for (name, scopes) in
            [("reader", set(["orders:read"])), ("writer", set(["orders:*"])), ("empty", set([]))]
        {
            bed.root().set_role(role(name), scopes).unwrap();
        }
        let scopes = |texts: &[&str]| Some(ScopeSet::try_from(texts).unwrap());
        let to = |name: &str| Some(Some(role(name)));
        let (bare, plain): (Option<&str>, &[&str]) = (None, &["orders:read"]);
        // What the key has, what it is to get, and whether that reaches further.
        for (has_role, has, wanted, wanted_role, widens) in [
            (bare, plain, scopes(&[]), None, false),
            (bare, plain, scopes(&["orders:read"]), None, false),
            (bare, &["orders:*"], scopes(&["orders:read", "orders:write"]), None, false),
            (bare, &["*"], scopes(&["orders:*", "bills:read"]), None, false),
            (bare, plain, scopes(&["orders:read", "orders:write"]), None, true),
            (bare, plain, scopes(&["orders:*"]), None, true),
            (bare, plain, scopes(&["bills:read"]), None, true),
            (bare, &["*"], scopes(&["keyrota:rotate"]), None, true),
            (bare, &[], scopes(&["orders:read"]), None, true),
            (bare, plain, None, to("reader"), false),
            (bare, plain, None, to("empty"), false),
            (bare, plain, None, to("writer"), true),
            (bare, plain, scopes(&[]), to("writer"), true),
            (bare, &["orders:*"], scopes(&[]), to("writer"), false),
            (Some("writer"), &[], None, to("reader"), false),
            (Some("reader"), &[], None, to("writer"), true),
            (Some("writer"), &[], None, Some(None), false),
            (Some("writer"), &[], scopes(&["orders:*"]), Some(None), false),
            (Some("reader"), &[], scopes(&["orders:write"]), None, true),
        ] {
            let mut new = new_key("ci").scopes(ScopeSet::try_from(has).unwrap());
            new = has_role.into_iter().fold(new, |new, name| new.role(role(name)));
            let key = bed.root().issue(new).unwrap().key;
            let mut edit = EditKey::of(key);
            edit = wanted.clone().into_iter().fold(edit, EditKey::scopes);
            edit = wanted_role.clone().into_iter().fold(edit, EditKey::role);
            let case = format!("{has_role:?} {has:?} to {wanted:?} {wanted_role:?}");
            if widens {
                let error = bed.refused(|| bed.root().edit(edit.clone()));
                assert!(matches!(error, ManageError::WouldWiden(told) if told == key), "{case}: {error}");
                edit = edit.widen();
            }
            let info = bed.root().edit(edit).unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(info.scopes, wanted.unwrap_or(info.scopes.clone()), "{case}");
            assert_eq!(info.role, wanted_role.unwrap_or(info.role.clone()), "{case}");
            bed.root().revoke(key).unwrap();
        }
    });
}

#[test]
fn an_edit_is_refused_for_a_revoked_suspended_or_unknown_key_and_an_unknown_role() {
    on_both_stores(|bed| {
        let (revoked, live) = (bed.issue("revoked"), bed.issue("live"));
        bed.root().revoke(revoked.key).unwrap();
        let rename = |key| bed.root().edit(EditKey::of(key).name("x").unwrap());
        assert_eq!(bed.forbidden(|| rename(revoked.key)), LifecycleError::KeyRevoked);
        let nobody: KeyId = "key_0000000000000000000001".parse().unwrap();
        assert!(matches!(bed.refused(|| rename(nobody)), ManageError::UnknownKey(key) if key == nobody));
        let ghost = EditKey::of(live.key).role(Some(role("ghost")));
        for edit in [ghost.clone(), ghost.widen()] {
            let error = bed.refused(|| bed.root().edit(edit));
            assert!(matches!(error, ManageError::UnknownRole(told) if told == role("ghost")));
        }
        assert!(EditKey::of(live.key).name("").is_err() && EditKey::of(live.key).name("a\nb").is_err());
        bed.root().suspend(owner("ada")).unwrap();
        assert_eq!(bed.forbidden(|| rename(live.key)), LifecycleError::OwnerSuspended);
    });
}

#[test]
fn an_edit_that_changes_nothing_records_nothing_and_a_repeated_request_edits_once() {
    on_both_stores(|bed| {
        let key = bed.root().issue(new_key("ci").scopes(set(["orders:read"]))).unwrap().key;
        let before = bed.seq();
        let same = EditKey::of(key).name("ci").unwrap().scopes(set(["orders:read"])).role(None);
        for edit in [EditKey::of(key), same] {
            assert_eq!(bed.root().edit(edit).unwrap(), bed.keys.get(key).unwrap());
        }
        assert_eq!(bed.seq(), before);

        let rename = |name: &str| bed.root().request("rename").edit(EditKey::of(key).name(name).unwrap());
        rename("first").unwrap();
        let before = revision(&bed);
        bed.go("2027-01-07 23:59");
        assert_eq!(rename("first").unwrap().name.as_str(), "first");
        assert!(matches!(rename("second"), Err(ManageError::RequestReused(_))));
        assert_eq!(revision(&bed), before);
        bed.root().edit(EditKey::of(key).name("third").unwrap()).unwrap();
        assert_eq!(rename("first").unwrap().name.as_str(), "third", "the key as it is now");
    });
}

#[test]
fn a_purge_removes_keys_that_have_been_over_for_the_retention_and_no_others() {
    on_both_stores(|bed| {
        let expired = bed.root().issue(new_key("expired").until(at("2027-01-11"))).unwrap();
        let later = bed.root().issue(new_key("revoked later").until(at("2027-01-12"))).unwrap();
        let (revoked, live) = (bed.issue("revoked"), bed.issue("live"));
        let ended = bed.issue("ended");
        let second = bed.rotate(revoked.key);
        let other = bed.other_validator();
        bed.go("2027-01-05");
        bed.root().revoke(revoked.key).unwrap();
        bed.root().revoke((ended.key, v(1))).unwrap();
        bed.tick_to(at("2027-01-20"));
        bed.root().revoke(later.key).unwrap();
        let purge = || bed.root().because("retention").purge(30 * DAY).unwrap();
        let nothing = |report: PurgeReport| (report.purged, report.more) == (0, false);
        bed.tick_to(at("2027-02-04").minus_or_min(MICRO));
        let before = revision(&bed);
        assert!(nothing(purge()));
        assert_eq!(revision(&bed), before, "nothing to do, nothing written");
        bed.tick_to(at("2027-02-04"));
        let (seq, versions) = (bed.seq(), bed.validator.held_versions().unwrap());
        assert_eq!(purge().purged, 2, "revoked, and all of whose versions ended");
        assert!(nothing(purge()));
        bed.tick_to(at("2027-02-10"));
        assert_eq!(purge().purged, 1, "expired");
        bed.tick_to(at("2027-02-18"));
        assert!(nothing(purge()));
        bed.tick_to(at("2027-02-19"));
        assert_eq!(purge().purged, 1, "revoked after it had expired");

        let purged: Vec<_> =
            bed.entries(seq).into_iter().filter(|entry| entry.event.kind == EventKind::KeyPurged).collect();
        let keys: HashSet<_> = purged.iter().map(|entry| entry.event.key.unwrap()).collect();
        assert_eq!(keys, HashSet::from([expired.key, revoked.key, later.key, ended.key]));
        assert!(purged.iter().all(|entry| entry.event.owner == Some(owner("ada"))));
        assert!(purged.iter().all(|entry| entry.event.reason.as_deref() == Some("retention")));
        let tokens = [&expired, &revoked, &later, &ended].map(|issued| issued.token.expose());
        for validator in [&bed.validator, &other, &bed.other_validator()] {
            for token in tokens.iter().chain([&second.as_str()]) {
                assert_eq!(validator.validate(token).unwrap_err().reason(), DenialReason::Unknown);
            }
            assert!(validator.validate(live.token.expose()).is_ok());
            assert_eq!(validator.held_versions().unwrap(), versions - 5);
        }
        for key in keys {
            assert!(matches!(bed.keys.get(key), Err(ManageError::UnknownKey(_))));
            assert!(matches!(bed.root().rotate(key), Err(ManageError::UnknownKey(_))));
            assert!(matches!(bed.root().revoke(key), Err(ManageError::UnknownKey(_))));
            assert!(bed.keys.rotations(key).unwrap().is_empty());
            let told = bed.keys.audit(&AuditFilter::all().key(key), 100).unwrap();
            assert_eq!(told[0].event.kind, EventKind::KeyIssued, "what the log says of it stays");
            assert_eq!(told.last().unwrap().event.kind, EventKind::KeyPurged);
        }
        assert_eq!((rows(&bed, RowKind::Key), rows(&bed, RowKind::Version)), (1, 1));
        assert_eq!(rows(&bed, RowKind::Rotation), 0);
        assert_eq!(bed.keys.find(Evidence::Token(&second)).unwrap(), None);
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn after_a_purge_neither_ids_nor_numbers_nor_answers_come_again() {
    on_both_stores(|bed| {
        let issue = || bed.root().request("issue").issue(new_key("ci"));
        let old = issue().unwrap();
        bed.root().revoke(old.key).unwrap();
        let kept = bed.issue("kept");
        for number in 1..=3 {
            bed.root().revoke((kept.key, v(number))).unwrap();
            assert_eq!(
                bed.root().rotate(kept.key).unwrap().version,
                v(number + 1),
                "an ended version keeps its number"
            );
        }
        assert_eq!(bed.root().purge(Duration::ZERO).unwrap().purged, 1);
        assert!(matches!(issue(), Err(ManageError::AlreadyDone { key, .. }) if key == old.key));
        let new = bed.issue("ci");
        assert!(new.key != old.key && new.token.expose() != old.token.expose());
        assert_eq!(bed.keys.get(kept.key).unwrap().versions.len(), 4);
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn a_grant_is_asked_about_again_through_suspension_revocation_expiry_and_purge() {
    on_both_stores(|bed| {
        let of = |name: &str| bed.root().issue(new_key(name).until(at("2027-01-20"))).unwrap();
        let (expiring, revoked, cut) = (of("expiring"), of("revoked"), of("cut"));
        let replaced = bed.issue("replaced");
        let validators = [bed.validator.clone(), bed.other_validator()];
        let grant = |issued: &keyrota::IssuedKey| validators[1].validate(issued.token.expose()).unwrap();
        let grants = [&expiring, &revoked, &cut, &replaced].map(grant);
        let told = |grant: &Grant| {
            let [here, there] = validators.each_ref().map(|validator| validator.still_valid(grant));
            assert_eq!(here, there);
            here.err().map(|denial| denial.reason())
        };
        let all = || grants.each_ref().map(told);
        assert_eq!(all(), [None; 4]);
        bed.root().suspend(owner("ada")).unwrap();
        assert_eq!(all(), [Some(DenialReason::Suspended); 4]);
        bed.root().resume(owner("ada")).unwrap();
        assert_eq!(all(), [None; 4], "a grant outlives a suspension");
        bed.root().revoke(revoked.key).unwrap();
        bed.root().revoke((cut.key, v(1))).unwrap();
        let revoked_now = Some(DenialReason::Revoked);
        assert_eq!(all(), [None, revoked_now, revoked_now, None]);
        bed.root().rotate(replaced.key).unwrap();
        let again = validators[0].still_valid(&grants[3]).unwrap();
        assert_eq!(
            (again.is_deprecated(), again.valid_until()),
            (true, Some(at("2027-01-02"))),
            "as it is now"
        );
        assert!(!grants[3].is_deprecated(), "as it was then");
        bed.go("2027-01-02");
        assert_eq!(told(&grants[3]), Some(DenialReason::Retired));
        bed.clock.set(at("2027-01-20").minus_or_min(MICRO));
        assert_eq!(told(&grants[0]), None);
        bed.go("2027-01-20");
        assert_eq!(told(&grants[0]), Some(DenialReason::Expired));
        bed.tick();
        assert_eq!(told(&grants[0]), Some(DenialReason::Expired));
        assert_eq!(bed.root().purge(Duration::ZERO).unwrap().purged, 3);
        assert_eq!(grants[..3].iter().map(told).collect::<Vec<_>>(), [Some(DenialReason::Unknown); 3]);
        let flushed = |validator: &Validator| validator.flush().unwrap();
        assert_eq!(validators.each_ref().map(flushed), [0, 4], "asking again counts nothing");
    });
}

#[test]
fn a_request_id_tells_a_role_that_is_taken_away_from_one_that_is_not_named() {
    on_both_stores(|bed| {
        bed.root().set_role(role("reader"), set(["orders:read"])).unwrap();
        let key = bed.root().issue(new_key("ci").role(role("reader"))).unwrap().key;
        let act = || bed.root().request("req");
        act().edit(EditKey::of(key)).unwrap();
        let error = bed.refused(|| act().edit(EditKey::of(key).role(None)));
        assert!(matches!(error, ManageError::RequestReused(_)), "{error}");
        assert_eq!(bed.keys.get(key).unwrap().role, Some(role("reader")));
    });
}

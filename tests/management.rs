//! Managing keys: owners' limits, lists and their pages, request ids, settings that the store keeps, and master keys
//! that do not fit.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::ops::ControlFlow;
use std::time::Duration;

use common::{
    Bed, DAY, HOUR, MICRO, Place, START, at, keyring, keyring_of, new_key, on_both_places, on_both_stores,
    owner, v,
};
use keyrota::{
    Actor, EditKey, EventKind, Generation, KeyFilter, KeyId, KeyManager, KeyManagerBuilder, KeyStatus,
    Keyring, LifecycleError, ManageError, MasterKey, NewKey, OpenError, OwnerLimit, Prefix, ReadError,
    RequestId, Revoke, RoleName, RotateNow, RotationPolicy, RowFilter, RowKind, Validator,
};

fn limit(keys: u32) -> OwnerLimit {
    OwnerLimit::new(keys).unwrap()
}

fn is_full<T>(bed: &Bed, act: impl FnOnce() -> Result<T, ManageError>) -> bool {
    matches!(bed.refused(act), ManageError::OwnerLimitReached { owner: told, .. } if told == owner("ada"))
}

#[test]
fn an_owner_holds_ten_keys_of_which_revoked_and_ended_ones_do_not_count() {
    on_both_stores(|bed| {
        let short = bed.root().issue(new_key("short").lifetime(2 * DAY)).unwrap();
        let leaving = bed.issue("leaving");
        let mut held: Vec<_> = (2..10).map(|number| bed.issue(&format!("key {number}")).key).collect();
        assert!(is_full(&bed, || bed.root().issue(new_key("eleventh"))));
        bed.root().issue(NewKey::new(owner("eve"), "another owner's").unwrap()).unwrap();
        bed.rotate(held[0]);
        bed.root().revoke(held.pop().unwrap()).unwrap();
        held.push(bed.issue("in place of the revoked one").key);
        assert!(is_full(&bed, || bed.root().issue(new_key("eleventh"))));
        bed.root().deprecate(leaving.key).unwrap();
        bed.clock.set(at("2027-01-02").minus_or_min(MICRO));
        assert!(is_full(&bed, || bed.root().issue(new_key("eleventh"))), "what runs out counts to its end");
        bed.go("2027-01-02");
        held.push(bed.issue("in place of the retired one").key);
        bed.clock.set(at("2027-01-03").minus_or_min(MICRO));
        assert!(is_full(&bed, || bed.root().issue(new_key("eleventh"))));
        bed.go("2027-01-03");
        held.push(bed.issue("in place of the expired one, without a tick").key);
        for key in [short.key, leaving.key] {
            assert!(is_full(&bed, || bed.root().rotate(key)), "a key that has ended counts again");
        }
        bed.tick();
        assert!(is_full(&bed, || bed.root().rotate(short.key)));
        bed.root().revoke((held[1], v(1))).unwrap();
        let rotated = bed.root().rotate(short.key).unwrap();
        assert_eq!((rotated.version, rotated.old_version), (v(2), None), "the revoked version made room");
        assert!(bed.is_granted(rotated.token.expose()));
        assert!(is_full(&bed, || bed.root().rotate(held[1])));
    });
}

#[test]
fn a_limit_may_be_raised_and_lowered_and_keys_above_it_stay() {
    on_both_stores(|bed| {
        let tokens: Vec<_> = (0..4).map(|number| bed.issue(&format!("key {number}"))).collect();
        bed.root().set_owner_limit(owner("ada"), Some(limit(2))).unwrap();
        assert!(is_full(&bed, || bed.root().issue(new_key("x"))));
        assert!(tokens.iter().all(|issued| bed.is_granted(issued.token.expose())));
        bed.root().rotate(tokens[0].key).expect("a key that counts may be rotated above the limit");
        bed.root().revoke(tokens[1].key).unwrap();
        bed.root().revoke(tokens[2].key).unwrap();
        assert!(is_full(&bed, || bed.root().issue(new_key("x"))));
        bed.root().revoke(tokens[3].key).unwrap();
        bed.issue("below the limit");
        assert!(is_full(&bed, || bed.root().issue(new_key("x"))));
        bed.root().set_owner_limit(owner("ada"), Some(limit(3))).unwrap();
        bed.issue("raised");
        bed.root().set_default_owner_limit(limit(1)).unwrap();
        assert!(is_full(&bed, || bed.root().issue(new_key("x"))));
        bed.root().set_owner_limit(owner("ada"), Some(limit(4))).unwrap();
        bed.issue("an own limit beats the deployment's");
        bed.root().set_owner_limit(owner("ada"), None).unwrap();
        assert!(is_full(&bed, || bed.root().issue(new_key("x"))));
        bed.root().set_default_owner_limit(limit(5)).unwrap();
        bed.issue("the deployment's again");
        bed.root().set_owner_limit(owner("eve"), Some(limit(1))).unwrap();
        bed.root().issue(NewKey::new(owner("eve"), "only").unwrap()).unwrap();
        assert!(bed.root().issue(NewKey::new(owner("eve"), "second").unwrap()).is_err());
    });
}

fn names(bed: &Bed, filter: &KeyFilter) -> Vec<String> {
    let page = bed.keys.list(filter, None, 1_000).unwrap();
    assert_eq!(page.next, None);
    page.keys.iter().map(|info| info.name.to_string()).collect()
}

#[test]
fn a_list_is_filtered_by_owner_status_expiry_use_and_name() {
    on_both_stores(|bed| {
        let issue = |new: NewKey| {
            bed.clock.advance(Duration::from_millis(1)).unwrap();
            bed.root().issue(new).unwrap()
        };
        let of = |name: &str, key: &str| NewKey::new(owner(name), key).unwrap();
        let active = issue(of("ada", "Active"));
        issue(of("ada", "deferred").not_before(at("2027-03-01")));
        let revoked = issue(of("ada", "revoked"));
        issue(of("ada", "ended").lifetime(2 * DAY));
        issue(of("ada", "temporary").until(at("2027-01-20")));
        issue(of("eve", "suspended"));
        issue(of("bob", "never").never_expires());
        bed.root().revoke(revoked.key).unwrap();
        bed.root().suspend(owner("eve")).unwrap();
        bed.go("2027-01-05");
        let all = || KeyFilter::all();
        assert_eq!(names(&bed, &all()).len(), 7);
        assert_eq!(names(&bed, &all().owner(owner("eve"))), ["suspended"]);
        assert_eq!(names(&bed, &all().owner(owner("nobody"))), <[&str; 0]>::default());
        for (status, expected) in [
            (KeyStatus::Active, &["Active", "temporary", "never"][..]),
            (KeyStatus::NotYet, &["deferred"]),
            (KeyStatus::Revoked, &["revoked"]),
            (KeyStatus::Ended, &["ended"]),
            (KeyStatus::Suspended, &["suspended"]),
        ] {
            assert_eq!(names(&bed, &all().status(status)), expected, "{status:?}");
        }
        assert_eq!(
            names(&bed, &all().status(KeyStatus::Active).owner(owner("ada"))),
            ["Active", "temporary"]
        );
        assert_eq!(names(&bed, &all().expiring_before(at("2027-01-20"))), <[&str; 0]>::default());
        let soon = at("2027-01-20").plus(MICRO).unwrap();
        assert_eq!(names(&bed, &all().expiring_before(soon)), ["temporary"]);
        assert_eq!(
            names(&bed, &all().expiring_before(at("2027-04-02"))),
            ["Active", "temporary", "suspended"]
        );
        bed.rotate(active.key);
        assert_eq!(names(&bed, &all().expiring_before(soon)), ["temporary"], "the successor validates");
        let unused = ["Active", "deferred", "temporary", "suspended", "never"];
        let since = at("2027-01-05");
        assert_eq!(names(&bed, &all().unused_since(since)), unused);
        assert_eq!(names(&bed, &all().unused_since(at("2026-12-31"))), <[&str; 0]>::default());
        assert!(bed.is_granted(active.token.expose()));
        assert_eq!(names(&bed, &all().unused_since(since)), unused, "not flushed yet");
        bed.validator.flush().unwrap();
        assert_eq!(names(&bed, &all().unused_since(since)), unused[1..]);
        assert_eq!(names(&bed, &all().unused_since(since.plus(MICRO).unwrap())), unused);
        assert_eq!(bed.keys.last_used(active.key).unwrap(), Some(since));
        assert_eq!(names(&bed, &all().name_contains("E").owner(owner("bob"))), ["never"]);
        assert_eq!(names(&bed, &all().name_contains("ACTIVE")), ["Active"]);
        bed.root().edit(EditKey::of(active.key).name("renamed").unwrap()).unwrap();
        assert_eq!(names(&bed, &all().name_contains("active")), <[&str; 0]>::default());
    });
}

#[test]
fn pages_stay_where_they_are_while_keys_are_issued_and_revoked_between_them() {
    on_both_stores(|bed| {
        bed.root().set_default_owner_limit(limit(1_000)).unwrap();
        let issue = |number: u32| {
            bed.clock.advance(Duration::from_millis(1)).unwrap();
            bed.issue(&format!("key {number}")).key
        };
        let first: Vec<_> = (0..20).map(issue).collect();
        let (mut seen, mut after, mut pages) = (Vec::<KeyId>::new(), None, 0);
        loop {
            let page = bed.keys.list(&KeyFilter::all().owner(owner("ada")), after, 7).unwrap();
            seen.extend(page.keys.iter().map(|info| info.id));
            pages += 1;
            if pages == 1 {
                assert_eq!((page.keys.len(), page.next), (7, Some(first[6])));
                bed.root().revoke(first[6]).unwrap();
                bed.root().revoke(first[0]).unwrap();
                bed.root().revoke(first[10]).unwrap();
                issue(20);
            }
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        assert_eq!((pages, seen.len()), (3, 21));
        assert!(seen.is_sorted() && seen.starts_with(&first), "each once, in the order of their issue");
        let alive = KeyFilter::all().status(KeyStatus::Active);
        let page = bed.keys.list(&alive, None, 18).unwrap();
        assert_eq!((page.keys.len(), page.next), (18, None), "a full last page has no next one");
        let page = bed.keys.list(&alive, Some(first[10]), 0).unwrap();
        assert_eq!(
            (page.keys.len(), page.keys[0].id),
            (1, first[11]),
            "after a key that the filter passes by"
        );
        let page = bed.keys.list(&alive, Some(seen[20]), 7).unwrap();
        assert_eq!((page.keys.len(), page.next), (0, None));
    });
}

#[test]
fn a_request_id_shows_the_same_token_again_for_fifteen_minutes() {
    on_both_stores(|bed| {
        let act = |id: &str| bed.root().request(id);
        let issued = act("issue").issue(new_key("ci")).unwrap();
        let rotated = act("rotate").rotate(issued.key).unwrap();
        bed.clock.set(at("2027-01-01 00:15").minus_or_min(MICRO));
        let before = bed.store.head().unwrap();
        let again = act("issue").issue(new_key("ci")).unwrap();
        assert_eq!(
            (again.key, again.version, again.token.expose()),
            (issued.key, v(1), issued.token.expose())
        );
        let again = act("rotate").rotate(issued.key).unwrap();
        assert_eq!((again.version, again.token.expose()), (v(2), rotated.token.expose()));
        assert_eq!((again.old_version, again.old_valid_until), (Some(v(1)), Some(at("2027-01-02"))));
        assert_eq!(bed.store.head().unwrap(), before, "a repetition writes nothing");
        let done = |error: ManageError, id: &str, number: u32| match error {
            ManageError::AlreadyDone { request, key, version } => {
                assert_eq!(
                    (request, key, version),
                    (RequestId::new(id).unwrap(), issued.key, Some(v(number)))
                );
            }
            other => panic!("{other}"),
        };
        bed.go("2027-01-01 00:15");
        for _ in 0..2 {
            done(bed.refused(|| act("issue").issue(new_key("ci"))), "issue", 1);
            done(bed.refused(|| act("rotate").rotate(issued.key)), "rotate", 2);
            bed.tick();
        }
        bed.go("2027-01-07 23:59");
        bed.tick();
        done(bed.refused(|| act("rotate").rotate(issued.key)), "rotate", 2);
        bed.go("2027-01-08 00:00");
        bed.tick();
        assert_eq!(act("rotate").rotate(issued.key).unwrap().version, v(3), "forgotten after seven days");
    });
}

#[test]
fn a_request_id_serves_one_act_with_one_set_of_arguments() {
    on_both_stores(|bed| {
        let act = || bed.root().request("req");
        let issued = act().issue(new_key("ci")).unwrap();
        let other = bed.issue("other");
        let reused: [&dyn Fn() -> Result<(), ManageError>; 9] = [
            &|| act().issue(new_key("ci 2")).map(drop),
            &|| act().issue(new_key("ci").never_expires()).map(drop),
            &|| act().issue(NewKey::new(owner("eve"), "ci")?).map(drop),
            &|| act().rotate(issued.key).map(drop),
            &|| act().revoke(issued.key),
            &|| act().suspend(owner("ada")),
            &|| act().deprecate(issued.key).map(drop),
            &|| act().set_default_owner_limit(limit(3)),
            &|| act().edit(EditKey::of(issued.key).name("x")?).map(drop),
        ];
        for act in reused {
            assert!(matches!(bed.refused(act), ManageError::RequestReused(id) if id.as_str() == "req"));
        }
        let act = || bed.root().request("rotate");
        act().rotate(issued.key).unwrap();
        let error = bed.refused(|| act().rotate(RotateNow::of(issued.key).supersede()));
        assert!(matches!(error, ManageError::RequestReused(_)));
        assert!(matches!(bed.refused(|| act().rotate(other.key)), ManageError::RequestReused(_)));
        let act = || bed.root().request("revoke");
        act().revoke(other.key).unwrap();
        let head = bed.store.head().unwrap();
        act().revoke(other.key).expect("the same again is done already");
        assert_eq!(bed.store.head().unwrap(), head);
        assert!(matches!(bed.refused(|| act().revoke(issued.key)), ManageError::RequestReused(_)));
        let compromised = Revoke::of(other.key).compromised();
        assert!(matches!(bed.refused(|| act().revoke(compromised)), ManageError::RequestReused(_)));
        assert!(bed.is_granted(issued.token.expose()));
    });
}

#[test]
fn an_act_that_was_refused_leaves_its_request_id_unused() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        bed.rotate(issued.key);
        let act = || bed.root().request("req");
        assert!(matches!(bed.forbidden(|| act().rotate(issued.key)), LifecycleError::RotationOpen { .. }));
        bed.go("2027-01-02");
        assert_eq!(act().rotate(issued.key).unwrap().version, v(3));
    });
}

#[test]
fn a_revoked_version_s_token_is_not_shown_again() {
    on_both_stores(|bed| {
        let whole = bed.root().request("whole").issue(new_key("whole")).unwrap();
        let single = bed.root().request("single").issue(new_key("single")).unwrap();
        bed.root().revoke(whole.key).unwrap();
        bed.root().revoke((single.key, v(1))).unwrap();
        for name in ["whole", "single"] {
            let repeated = bed.refused(|| bed.root().request(name).issue(new_key(name)));
            assert!(matches!(repeated, ManageError::AlreadyDone { .. }), "{repeated}");
        }
    });
}

fn open(place: &Place, build: impl FnOnce(KeyManagerBuilder) -> KeyManagerBuilder) -> KeyManager {
    let clock = keyrota::ManualClock::new(at(START));
    build(KeyManager::builder(place.open(), keyring()).clock(clock)).open().unwrap()
}

#[test]
fn a_store_keeps_the_settings_that_it_was_founded_with() {
    on_both_places(|place| {
        let role = |name: &str| RoleName::new(name).unwrap();
        let policy =
            |days: u32| RotationPolicy::builder().lifetime(days * DAY).overlap(HOUR).build().unwrap();
        let founder = open(&place, |builder| {
            let scopes = ["orders:read"].try_into().unwrap();
            builder.policy(policy(30)).owner_limit(limit(3)).role(role("reader"), scopes)
        });
        let head = place.open().head().unwrap();
        let second = open(&place, |builder| {
            let builder =
                builder.policy(policy(10)).owner_limit(limit(500)).prefixes([Prefix::new("acme").unwrap()]);
            builder
                .role(role("reader"), ["*"].try_into().unwrap())
                .role(role("admin"), ["*"].try_into().unwrap())
        });
        assert_eq!(place.open().head().unwrap(), head, "opening again writes nothing");
        for keys in [&founder, &second] {
            let settings = keys.settings().unwrap();
            assert_eq!((settings.policy, settings.owner_limit), (policy(30), limit(3)));
            let roles = keys.roles().unwrap();
            assert_eq!((roles.len(), roles[0].scopes.to_string().as_str()), (1, "orders:read"));
        }
        let act = || second.by(Actor::operator("root"));
        let issued = act().issue(new_key("ci")).unwrap();
        assert_eq!(issued.valid_until, Some(at("2027-01-31")));
        assert!(issued.token.expose().starts_with("acme_"), "prefixes belong to the process");
        act().set_policy(policy(60)).unwrap();
        assert_eq!(founder.settings().unwrap().policy, policy(60));
        let rotated = founder.by(Actor::operator("root")).rotate(issued.key).unwrap();
        assert_eq!(rotated.valid_until, Some(at("2027-03-02")));
        assert_eq!(rotated.old_valid_until, Some(at("2027-01-01 01:00")));
        let sets = founder.audit(&keyrota::AuditFilter::all().kind(EventKind::PolicySet), 10).unwrap();
        assert_eq!(sets.len(), 1);
    });
}

fn master(seed: u8) -> MasterKey {
    keyring_of(seed).master(Generation::FIRST).unwrap().clone()
}

/// All that a place holds: the files of a closed database, byte for byte, or every row in memory.
fn snapshot(place: &Place) -> Vec<String> {
    let mut all = Vec::new();
    #[cfg(feature = "sqlite")]
    if let Place::Sqlite(folder) = place {
        for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
            let bytes = std::fs::read(entry.path()).unwrap();
            all.push(format!("{:?} {}", entry.file_name(), bytes.escape_ascii()));
        }
        return all;
    }
    let store = place.open();
    all.push(format!("{:?}", store.head().unwrap()));
    for kind in RowKind::ALL {
        let keep = &mut |row: keyrota::RowRef<'_>| {
            all.push(format!("{row:?}"));
            ControlFlow::Continue(())
        };
        store.scan(kind, RowFilter::All { after: None }, keep).unwrap();
    }
    all
}

#[test]
fn with_a_wrong_or_missing_master_key_nothing_opens_and_nothing_is_changed() {
    on_both_places(|place| {
        let second = Generation::new(2);
        let both = || keyring().with(second, master(9)).unwrap();
        open(&place, |builder| builder).by(Actor::operator("root")).issue(new_key("first")).unwrap();
        let first_only = snapshot(&place);
        fails(&place, keyring_of(8), |error| matches!(error, OpenError::WrongMasterKey(Generation::FIRST)));
        let beside = keyring_of(8).with(second, master(7)).unwrap();
        fails(&place, beside, |error| matches!(error, OpenError::WrongMasterKey(Generation::FIRST)));
        let keys = KeyManager::open(place.open(), both()).unwrap();
        assert!(keys.check(None).unwrap().is_sound(), "another generation beside the right one does no harm");
        drop(keys);
        assert!(snapshot(&place) == first_only, "nor does it change anything by itself");
        let keys = KeyManager::open(place.open(), both().with_current(second).unwrap()).unwrap();
        let issued = keys.by(Actor::operator("root")).issue(new_key("second")).unwrap();
        drop(keys);
        fails(
            &place,
            keyring(),
            |error| matches!(error, OpenError::Read(ReadError::KeyringBehind(behind)) if behind.get() == 2),
        );
        let wrong = keyring().with(second, master(8)).unwrap();
        fails(&place, wrong, |error| matches!(error, OpenError::WrongMasterKey(wrong) if wrong.get() == 2));
        let keys = KeyManager::open(place.open(), both()).unwrap();
        assert_eq!(keys.get(issued.key).unwrap().name.as_str(), "second");
        assert!(keys.check(None).unwrap().is_sound());
    });
}

/// Neither a manager nor a validator opens, and not a byte is changed.
fn fails(place: &Place, keyring: Keyring, is_expected: impl Fn(&OpenError) -> bool) {
    let before = snapshot(place);
    let error = KeyManager::open(place.open(), keyring.clone()).unwrap_err();
    assert!(is_expected(&error), "{error:?}");
    let error = Validator::open(place.open(), keyring).unwrap_err();
    assert!(is_expected(&error), "{error:?}");
    assert!(snapshot(place) == before, "something was changed");
}

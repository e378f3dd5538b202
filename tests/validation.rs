//! What a validation answers: in which order of reasons, for how long, by which scopes, and when rows are gone or
//! edited.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::{
    Bed, DAY, HOUR, MICRO, START, at, keyring, new_key, on_both_stores, owner, parts, scope, token, v,
};
use keyrota::{
    BoundedStaleness, Clock as _, Demand, Denial, DenialClass, DenialReason, EditKey, Freshness, Grant,
    IssuedKey, KeyManager, ManageError, NewKey, Revoke, RevokeTarget, RoleName, ScopeSet, Unavailable,
    Validator,
};

/// Why a key may be denied, in the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Revoked,
    Suspended,
    Retired,
    Expired,
    NotYet,
    Scope,
}

const CAUSES: [(Cause, DenialReason); 6] = [
    (Cause::Revoked, DenialReason::Revoked),
    (Cause::Suspended, DenialReason::Suspended),
    (Cause::Retired, DenialReason::Retired),
    (Cause::Expired, DenialReason::Expired),
    (Cause::NotYet, DenialReason::NotYet),
    (Cause::Scope, DenialReason::Scope),
];

/// A token that all of these causes deny three days after the start.
struct Case {
    causes: Vec<(Cause, DenialReason)>,
    owner: keyrota::OwnerId,
    key: keyrota::KeyId,
    token: String,
}

impl Case {
    /// One for each set of causes that can meet.
    fn all(bed: &Bed) -> Vec<Self> {
        let sets =
            (1_u32..64).map(|bits| (0..6).filter(move |bit| bits >> bit & 1 == 1).map(|bit| CAUSES[bit]));
        let cases = sets.enumerate().map(|(number, set)| {
            let causes: Vec<_> = set.collect();
            let has = |wanted| causes.iter().any(|(cause, _)| *cause == wanted);
            (!(has(Cause::Expired) && has(Cause::NotYet))).then(|| {
                let owner = owner(&format!("owner-{number}"));
                let mut new = NewKey::new(owner, "ci").unwrap();
                if has(Cause::Expired) {
                    new = new.lifetime(2 * DAY);
                }
                if has(Cause::NotYet) {
                    new = new.not_before(at("2027-01-11"));
                }
                let issued = bed.root().issue(new).unwrap();
                if has(Cause::Retired) {
                    bed.rotate(issued.key);
                }
                let token = issued.token.expose().to_owned();
                Self { owner, key: issued.key, token, causes: causes.clone() }
            })
        });
        cases.flatten().collect()
    }

    fn has(&self, wanted: Cause) -> bool {
        self.causes.iter().any(|(cause, _)| *cause == wanted)
    }

    fn act(&self, bed: &Bed, whole_key: bool) {
        let target = if whole_key { RevokeTarget::Key(self.key) } else { (self.key, v(1)).into() };
        if self.has(Cause::Suspended) {
            bed.root().suspend(self.owner).unwrap();
        }
        if self.has(Cause::Revoked) {
            bed.root().revoke(Revoke::of(target)).unwrap();
        }
    }
}

#[test]
fn of_all_reasons_that_apply_the_first_of_the_order_is_told() {
    for (acts_first, whole_key) in [(true, true), (true, false), (false, true), (false, false)] {
        on_both_stores(|bed| check_order(&bed, acts_first, whole_key));
    }
}

fn check_order(bed: &Bed, acts_first: bool, whole_key: bool) {
    let demanded = scope("orders:read");
    let cases = Case::all(bed);
    assert_eq!(cases.len(), 47);
    if acts_first {
        cases.iter().for_each(|case| case.act(bed, whole_key));
    }
    bed.go("2027-01-04");
    if !acts_first {
        cases.iter().for_each(|case| case.act(bed, whole_key));
    }
    for recorded in [false, true] {
        if recorded {
            bed.tick();
        }
        for case in &cases {
            let demand = if case.has(Cause::Scope) { Demand::scope(&demanded) } else { Demand::NOTHING };
            let told = bed.validator.validate_for(&case.token, demand).unwrap_err();
            let (cause, first) = case.causes[0];
            assert_eq!(told.reason(), first, "{:?} recorded: {recorded}", case.causes);
            assert_eq!((told.key(), told.version()), (Some(case.key), Some(v(1))), "{:?}", case.causes);
            let class =
                if cause == Cause::Scope { DenialClass::Forbidden } else { DenialClass::Unauthenticated };
            assert_eq!(told.class(), class);
            let (prefix, locator, secret) = parts(&case.token);
            let wrong = token(prefix, locator, &secret.chars().rev().collect::<String>());
            let told = bed.validator.validate_for(&wrong, demand).unwrap_err();
            assert_eq!(told, bed.validator.validate("").unwrap_err(), "{:?}", case.causes);
        }
    }
}

#[test]
fn the_deadline_that_came_first_names_the_reason() {
    on_both_stores(|bed| {
        let (early, late) = (new_key("early").lifetime(26 * HOUR), new_key("late").lifetime(26 * HOUR));
        let (early, late) = (bed.root().issue(early).unwrap(), bed.root().issue(late).unwrap());
        bed.rotate(early.key);
        bed.clock.advance(2 * HOUR).unwrap();
        bed.rotate(late.key);
        bed.clock.advance(24 * HOUR).unwrap();
        assert_eq!(bed.denial(early.token.expose()), Some(DenialReason::Retired));
        assert_eq!(
            bed.denial(late.token.expose()),
            Some(DenialReason::Expired),
            "not a moment more by grace"
        );
    });
}

#[test]
fn an_ended_version_answers_its_reason_for_thirty_days_and_unknown_from_then_on() {
    for recorded in [false, true] {
        on_both_stores(|bed| {
            let expired = bed.root().issue(new_key("expired").lifetime(2 * DAY)).unwrap();
            let ended = bed.root().issue(new_key("ended").until(at("2027-01-05"))).unwrap();
            let both = bed.root().issue(new_key("expired, then revoked").lifetime(3 * DAY)).unwrap();
            let [retired, revoked] = ["retired", "revoked"].map(|name| bed.issue(name));
            let successor = bed.rotate(retired.key);
            bed.go("2027-01-06");
            bed.root().revoke(revoked.key).unwrap();
            bed.go("2027-01-20");
            bed.root().revoke(both.key).unwrap();
            let ends: [(_, &str, _); 5] = [
                (retired, "2027-01-02", DenialReason::Retired),
                (expired, "2027-01-03", DenialReason::Expired),
                (both, "2027-01-04", DenialReason::Revoked),
                (ended, "2027-01-05", DenialReason::Expired),
                (revoked, "2027-01-06", DenialReason::Revoked),
            ];
            for (issued, end, reason) in ends {
                let forgotten = at(end).plus(30 * DAY).unwrap();
                let last = forgotten.minus_or_min(MICRO);
                for (time, expected) in [(last, reason), (forgotten, DenialReason::Unknown)] {
                    bed.clock.set(time);
                    if recorded {
                        bed.tick();
                    }
                    for validator in [&bed.validator, &bed.other_validator()] {
                        let denial = validator.validate(issued.token.expose()).unwrap_err();
                        assert_eq!(denial.reason(), expected, "{end} recorded: {recorded}");
                        assert_eq!(denial.key().is_some(), expected == reason);
                    }
                }
            }
            assert!(bed.is_granted(&successor));
        });
    }
}

fn denies_scope(bed: &Bed, token: &str, demanded: &str) -> bool {
    match bed.validator.validate_for(token, Demand::scope(&scope(demanded))) {
        Ok(_) => false,
        Err(denial) => {
            assert_eq!((denial.reason(), denial.class()), (DenialReason::Scope, DenialClass::Forbidden));
            true
        }
    }
}

#[test]
fn a_scope_covers_its_action_its_wildcard_all_actions_and_the_star_all_but_the_reserved_resource() {
    let demands =
        ["orders:read", "orders:*", "orders2:read", "bills:read", "*", "keyrota:rotate", "keyrota:*"];
    let cases: [(&[&str], &[&str]); 7] = [
        (&[], &[]),
        (&["orders:read"], &["orders:read"]),
        (&["orders:*"], &["orders:read", "orders:*"]),
        (&["*"], &["orders:read", "orders:*", "orders2:read", "bills:read", "*"]),
        (&["keyrota:rotate"], &["keyrota:rotate"]),
        (&["keyrota:*"], &["keyrota:rotate", "keyrota:*"]),
        (&["orders:read", "bills:*"], &["orders:read", "bills:read"]),
    ];
    on_both_stores(|bed| {
        for (held, allowed) in cases {
            let new = new_key("ci").scopes(held.try_into().unwrap());
            let issued = bed.root().issue(new).unwrap();
            assert!(bed.is_granted(issued.token.expose()), "without a demand a key need hold no scope");
            for demanded in demands {
                let denied = denies_scope(&bed, issued.token.expose(), demanded);
                assert_eq!(denied, !allowed.contains(&demanded), "{held:?} for {demanded}");
            }
            bed.root().revoke(issued.key).unwrap();
        }
    });
}

#[test]
fn a_role_adds_its_scopes_and_its_change_applies_at_once() {
    on_both_stores(|bed| {
        let name = RoleName::new("reader").unwrap();
        let set = |scopes: &[&str]| bed.root().set_role(name.clone(), scopes.try_into().unwrap()).unwrap();
        let new = || new_key("ci").scopes(["orders:read"].try_into().unwrap()).role(name.clone());
        let before = bed.seq();
        assert!(matches!(bed.root().issue(new()), Err(ManageError::UnknownRole(role)) if role == name));
        assert_eq!(bed.seq(), before);
        set(&["bills:read"]);
        let issued = bed.root().issue(new()).unwrap();
        let token = issued.token.expose();
        let other = bed.other_validator();
        let allows = |demanded: &str| {
            let granted = other.validate_for(token, Demand::scope(&scope(demanded))).is_ok();
            assert_eq!(granted, !denies_scope(&bed, token, demanded));
            granted
        };
        assert!(allows("bills:read") && allows("orders:read") && !allows("bills:write"));
        set(&["bills:*"]);
        assert!(allows("bills:read") && allows("bills:write") && allows("orders:read"));
        set(&["*"]);
        assert!(allows("bills:write") && !allows("keyrota:rotate"));
        set(&[]);
        assert!(!allows("bills:read") && allows("orders:read"));
        let ghost = RoleName::new("ghost").unwrap();
        let edit = EditKey::of(issued.key).role(Some(ghost));
        assert!(matches!(bed.root().edit(edit), Err(ManageError::UnknownRole(_))));
        set(&["bills:read"]);
        bed.root().edit(EditKey::of(issued.key).role(None)).unwrap();
        assert!(!allows("bills:read") && allows("orders:read"));
    });
}

#[test]
fn the_owner_s_ceiling_bounds_the_key_s_scopes_and_the_role_s() {
    on_both_stores(|bed| {
        let role = RoleName::new("admin").unwrap();
        bed.root().set_role(role.clone(), ["*", "keyrota:*"].try_into().unwrap()).unwrap();
        let new = new_key("ci").scopes(["orders:*", "bills:read"].try_into().unwrap()).role(role);
        let issued = bed.root().issue(new).unwrap();
        let token = issued.token.expose();
        let ceiling = |scopes: Option<&[&str]>| {
            let scopes = scopes.map(|scopes| ScopeSet::try_from(scopes).unwrap());
            bed.root().set_owner_ceiling(owner("ada"), scopes).unwrap();
        };
        assert!(!denies_scope(&bed, token, "keyrota:rotate") && !denies_scope(&bed, token, "x:y"));
        ceiling(Some(&["orders:read", "bills:*"]));
        assert!(!denies_scope(&bed, token, "orders:read") && !denies_scope(&bed, token, "bills:write"));
        for demanded in ["orders:write", "orders:*", "x:y", "*", "keyrota:rotate"] {
            assert!(denies_scope(&bed, token, demanded), "{demanded}");
        }
        let grant = bed.validator.validate(token).unwrap();
        let effective: ScopeSet = ["bills:*", "bills:read", "orders:read"].try_into().unwrap();
        assert_eq!(bed.validator.scopes(&grant).unwrap(), effective);
        ceiling(Some(&["*"]));
        assert!(!denies_scope(&bed, token, "x:y") && denies_scope(&bed, token, "keyrota:rotate"));
        ceiling(Some(&[]));
        assert!(denies_scope(&bed, token, "orders:read") && bed.is_granted(token));
        assert_eq!(bed.validator.scopes(&grant).unwrap(), ScopeSet::EMPTY);
        ceiling(None);
        assert!(!denies_scope(&bed, token, "keyrota:rotate"));
    });
}

#[test]
fn a_grant_is_a_small_copy_that_names_owner_version_window_and_deprecation() {
    fn is_free<T: Copy + Send + Sync + 'static>() {}
    is_free::<Grant>();
    is_free::<Denial>();
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let first = bed.validator.validate(issued.token.expose()).unwrap();
        assert_eq!((first.key(), first.version(), first.owner()), (issued.key, v(1), owner("ada")));
        assert_eq!((first.valid_until(), first.deprecated_at()), (Some(at("2027-04-01")), None));
        bed.go("2027-02-01");
        let second = bed.rotate(issued.key);
        let old = bed.validator.validate(issued.token.expose()).unwrap();
        let ends = (Some(at("2027-02-02")), Some(at("2027-02-01")));
        assert_eq!((old.valid_until(), old.deprecated_at(), old.is_deprecated()), (ends.0, ends.1, true));
        let new = bed.validator.validate(&second).unwrap();
        assert_eq!((new.version(), new.valid_until()), (v(2), Some(at("2027-05-02"))));
        assert!(!new.is_deprecated());
        assert_eq!(bed.validator.still_valid(&first), Ok(old), "an old grant is judged anew");
        let never = bed.root().issue(new_key("never").never_expires()).unwrap();
        assert_eq!(bed.validator.validate(never.token.expose()).unwrap().valid_until(), None);
    });
}

#[test]
fn a_validator_that_was_opened_apart_sees_every_act_at_once() {
    on_both_stores(|bed| {
        let other = bed.other_validator();
        let reason = |token: &str| other.validate(token).err().map(|denial| denial.reason());
        let issued = bed.issue("ci");
        let first = issued.token.expose();
        assert_eq!(reason(first), None);
        let second = bed.rotate(issued.key);
        assert_eq!((reason(first), reason(&second)), (None, None));
        bed.root().suspend(owner("ada")).unwrap();
        assert_eq!(reason(first), Some(DenialReason::Suspended));
        bed.root().resume(owner("ada")).unwrap();
        bed.root().revoke((issued.key, v(1))).unwrap();
        assert_eq!((reason(first), reason(&second)), (Some(DenialReason::Revoked), None));
        bed.root().revoke(issued.key).unwrap();
        assert_eq!(reason(&second), Some(DenialReason::Revoked));
        let never = bed.root().issue(new_key("never").never_expires()).unwrap();
        let of_the_system_s_clock = Validator::open(bed.place.open(), keyring()).unwrap();
        assert!(
            of_the_system_s_clock.validate(never.token.expose()).is_ok(),
            "the mark is later than the clock"
        );
    });
}

#[test]
fn a_closed_validator_is_unavailable_and_has_handed_over_its_counts() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let token = issued.token.expose();
        let clone = bed.validator.clone();
        assert!(bed.is_granted(token));
        clone.close().unwrap();
        assert_eq!(bed.keys.last_used(issued.key).unwrap(), Some(at(START)));
        for _ in 0..2 {
            let denial = bed.validator.validate(token).unwrap_err();
            assert_eq!(denial.reason(), DenialReason::Unavailable(Unavailable::Closed));
            assert_eq!((denial.class(), denial.key()), (DenialClass::Unavailable, None));
        }
        assert!(bed.validator.catch_up().is_err());
        let other = bed.other_validator();
        assert!(other.validate(token).is_ok(), "another one is not touched");
        let fresh = KeyManager::builder(bed.place.open(), keyring()).clock(bed.clock.clone()).open().unwrap();
        let of_fresh = fresh.validator().unwrap();
        fresh.close().unwrap();
        let denial = of_fresh.validate(token).unwrap_err();
        assert_eq!(denial.reason(), DenialReason::Unavailable(Unavailable::Store));
        assert!(other.validate(token).is_ok());
    });
}

#[cfg(feature = "sqlite")]
mod edited_rows {
    use super::*;

    #[test]
    fn a_row_that_is_edited_or_gone_denies_until_it_is_put_back() {
        let tampered = Some(DenialReason::Tampered);
        let kinds = [
            ("key", 1, tampered),
            ("version", 2, Some(DenialReason::Unknown)),
            ("owner", 3, tampered),
            ("role", 4, Some(DenialReason::Scope)),
        ];
        let edits = [
            "UPDATE row SET body = replace(body, '}', ' }') WHERE kind = ?1",
            "UPDATE row SET revision = revision + 1 WHERE kind = ?1",
            "UPDATE row SET ends_at = 253402300799999999 WHERE kind = ?1",
            "UPDATE row SET state = 'live' || coalesce(state, '') WHERE kind = ?1",
            "UPDATE row SET mac = zeroblob(32) WHERE kind = ?1",
            "DELETE FROM row WHERE kind = ?1",
        ];
        let bed = Bed::at(common::Place::sqlite(), at(START));
        let role = RoleName::new("reader").unwrap();
        bed.root().set_role(role.clone(), ["orders:read"].try_into().unwrap()).unwrap();
        let issued = bed.root().issue(new_key("ci").role(role)).unwrap();
        let shell = rusqlite::Connection::open(bed.place.file().unwrap()).unwrap();
        shell.execute_batch("CREATE TEMP TABLE saved AS SELECT * FROM row").unwrap();
        let demanded = scope("orders:read");
        let reason = |validator: &Validator| {
            let verdict = validator.validate_for(issued.token.expose(), Demand::scope(&demanded));
            verdict.err().map(|denial| denial.reason())
        };
        for (name, kind, expected) in kinds {
            for edit in edits {
                assert_eq!(reason(&bed.validator), None);
                assert_eq!(shell.execute(edit, [kind]).unwrap(), 1);
                assert_eq!(reason(&bed.validator), expected, "{name}: {edit}");
                assert_eq!(reason(&bed.other_validator()), expected, "{name}: {edit}");
                let findings = bed.validator.findings().unwrap();
                assert_eq!(findings.len(), usize::from(!edit.starts_with("DELETE")), "{name}: {edit}");
                shell.execute("DELETE FROM row WHERE kind = ?1", [kind]).unwrap();
                shell.execute("INSERT INTO row SELECT * FROM saved WHERE kind = ?1", [kind]).unwrap();
            }
        }
        assert_eq!(reason(&bed.validator), None);
        assert_eq!(bed.validator.findings().unwrap(), []);
    }
}

#[test]
fn a_validator_is_as_far_behind_as_its_host_has_chosen_and_no_further() {
    let second = Duration::from_secs(1);
    on_both_stores(|bed| {
        let bound = BoundedStaleness::new(5 * second).unwrap();
        let lenient = bed.keys.validator_builder().bounded_staleness(bound).open().unwrap();
        assert_eq!(lenient.freshness(), Freshness::Within(5 * second));
        assert_eq!(bed.validator.freshness(), Freshness::Exact, "the default");

        let [first, second_key] = ["first", "second"].map(|name| bed.issue(name));
        assert!(lenient.validate(first.token.expose()).is_ok(), "never asked before, so it asks");
        let revoke = |key| bed.root().revoke(Revoke::of(RevokeTarget::Key(key))).unwrap();
        let reason =
            |issued: &IssuedKey| lenient.validate(issued.token.expose()).err().map(|denial| denial.reason());

        bed.clock.advance(2 * second).unwrap();
        revoke(first.key);
        bed.clock.advance(3 * second - MICRO).unwrap();
        assert_eq!(reason(&first), None, "asked less than five seconds ago");
        assert!(bed.validator.validate(first.token.expose()).is_err(), "the other asks each time");
        bed.clock.advance(MICRO).unwrap();
        assert_eq!(reason(&first), Some(DenialReason::Revoked));

        revoke(second_key.key);
        assert_eq!(reason(&second_key), None);
        lenient.catch_up().unwrap();
        assert_eq!(reason(&second_key), Some(DenialReason::Revoked), "catching up asks at once");

        bed.clock.set(bed.clock.now().minus_or_min(second));
        let third = bed.issue("third");
        assert!(
            lenient.validate(third.token.expose()).is_ok(),
            "a clock that goes back is no reason not to ask"
        );
    });
    for outside in [Duration::ZERO, Duration::from_micros(999), 61 * second] {
        assert!(BoundedStaleness::new(outside).is_err());
    }
}

//! Rules about acts and ticks: a plan is what a tick does, a tick is bounded and idempotent, the clock is read once,
//! and nothing widens what a key may do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Bed, DAY, HOUR, START, at, keyring, new_key, on_both_stores, owner, v};
use keyrota::{
    Clock, EditKey, Event, KeyManager, KeyStore, LifecycleError, ManageError, ManualClock, MemoryStore,
    OwnerLimit, RoleName, Timestamp,
};

fn revision(bed: &Bed) -> u64 {
    bed.place.open().head().unwrap().unwrap().revision.0
}

/// A bed in which a grace, an expiry and a rotation are over, and nothing is recorded yet.
fn overdue(bed: &Bed) {
    for name in ["a", "b", "c"] {
        let issued = bed.root().issue(new_key(name).lifetime(3 * DAY)).unwrap();
        bed.root().request(name).rotate(issued.key).unwrap();
    }
    bed.root().issue(new_key("alone").lifetime(2 * DAY)).unwrap();
    bed.clock.advance(4 * DAY).unwrap();
}

#[test]
fn a_plan_lists_what_the_tick_then_records_and_writes_nothing_itself() {
    on_both_stores(|bed| {
        overdue(&bed);
        let now = Clock::now(&bed.clock);
        let (before, entries) = (revision(&bed), bed.seq());
        let plan = bed.keys.plan(now).unwrap();
        assert_eq!(revision(&bed), before, "a plan writes nothing");
        bed.tick();
        let recorded: Vec<Event> = bed.entries(entries).into_iter().map(|entry| entry.event).collect();
        assert!(recorded.len() >= 10, "{recorded:?}");
        assert_eq!(plan.events, recorded);
    });
}

#[test]
fn after_a_tick_without_more_another_at_the_same_instant_writes_nothing() {
    on_both_stores(|bed| {
        overdue(&bed);
        bed.tick();
        let before = revision(&bed);
        let again = bed.keys.tick().unwrap();
        assert!(!again.more && revision(&bed) == before, "{again:?}");
        assert_eq!(bed.keys.plan(Clock::now(&bed.clock)).unwrap().events, []);
    });
}

#[test]
fn a_tick_is_bounded_and_says_that_there_is_more() {
    const KEYS: usize = 1_001;
    let bed = Bed::at(common::Place::memory(), at(START));
    bed.root().set_default_owner_limit(OwnerLimit::new(2_000).unwrap()).unwrap();
    for number in 0..KEYS {
        let owner = owner(&format!("owner-{number}"));
        bed.root().issue(keyrota::NewKey::new(owner, "ci").unwrap().lifetime(2 * DAY)).unwrap();
    }
    bed.clock.advance(3 * DAY).unwrap();
    let first = bed.keys.tick().unwrap();
    assert!(first.more && first.expired == KEYS - 1, "{first:?}");
    let second = bed.keys.tick().unwrap();
    assert!(!second.more && second.expired == 1, "{second:?}");
}

/// The mark was confirmed beyond what is due, and then the clock went back to before the mark.
#[test]
fn a_tick_whose_clock_is_before_the_mark_leaves_what_is_due() {
    on_both_stores(|bed| {
        let issued = bed.root().issue(new_key("ci").lifetime(2 * DAY)).unwrap();
        bed.clock.advance(40 * DAY).unwrap();
        bed.root().confirm_clock(Clock::now(&bed.clock)).unwrap();
        bed.clock.set(at("2027-01-10"));
        let before = revision(&bed);
        let report = bed.keys.tick().unwrap();
        assert!(matches!(report.clock, keyrota::ClockState::Behind { .. }), "{report:?}");
        assert_eq!((report.expired, revision(&bed)), (0, before));
        assert!(!bed.is_granted(issued.token.expose()), "the deadline holds all the same");
        assert_eq!(bed.keys.plan(Clock::now(&bed.clock)).unwrap().events, []);
        bed.clock.set(at("2027-02-11"));
        assert_eq!(bed.keys.tick().unwrap().expired, 1);
    });
}

/// Counts its readings, and shows another time at each.
struct Restless {
    start: Timestamp,
    readings: Arc<AtomicU64>,
}

impl Clock for Restless {
    fn now(&self) -> Timestamp {
        let reading = self.readings.fetch_add(1, Ordering::SeqCst);
        self.start.plus(u32::try_from(reading).unwrap() * HOUR).unwrap()
    }
}

#[test]
fn each_operation_reads_the_clock_once() {
    let readings = Arc::new(AtomicU64::new(0));
    let clock = Restless { start: at(START), readings: Arc::clone(&readings) };
    let keys = KeyManager::builder(MemoryStore::new(), keyring()).clock(clock).open().unwrap();
    let validator = keys.validator().unwrap();
    let root = || keys.by(keyrota::Actor::operator("root"));
    let issued = root().issue(new_key("ci")).unwrap();
    let grant = validator.validate(issued.token.expose()).unwrap();
    let once = |what: &str, act: &dyn Fn()| {
        let before = readings.load(Ordering::SeqCst);
        act();
        assert_eq!(readings.load(Ordering::SeqCst) - before, 1, "{what}");
    };
    once("validate", &|| assert!(validator.validate(issued.token.expose()).is_ok()));
    once("still_valid", &|| assert!(validator.still_valid(&grant).is_ok()));
    once("issue", &|| drop(root().issue(new_key("other"))));
    once("rotate", &|| drop(root().rotate(issued.key)));
    once("roll_back", &|| drop(root().roll_back(issued.key)));
    once("edit", &|| drop(root().edit(EditKey::of(issued.key).name("new").unwrap())));
    once("suspend", &|| root().suspend(owner("ada")).unwrap());
    once("resume", &|| root().resume(owner("ada")).unwrap());
    once("get", &|| drop(keys.get(issued.key)));
    once("tick", &|| drop(keys.tick()));
    once("revoke", &|| root().revoke(issued.key).unwrap());
}

#[test]
fn a_rotation_widens_nothing() {
    on_both_stores(|bed| {
        let role = RoleName::new("reader").unwrap();
        bed.root().set_role(role.clone(), ["bills:read"].try_into().unwrap()).unwrap();
        let new = new_key("ci").scopes(["orders:read"].try_into().unwrap()).role(role);
        let new = new.limits(keyrota::RateLimit::per_minute(60).unwrap());
        let new = new.networks(["192.0.2.0/24"].try_into().unwrap());
        let issued = bed.root().issue(new.until(at("2027-02-01"))).unwrap();
        let before = bed.keys.get(issued.key).unwrap();
        bed.clock.advance(DAY).unwrap();
        let acts: [fn(&Bed, keyrota::KeyId) -> String; 2] = [
            |bed, key| bed.rotate(key),
            |bed, key| bed.root().replace(key).unwrap().token.expose().to_owned(),
        ];
        for act in acts {
            let token = act(&bed, issued.key);
            let after = bed.keys.get(issued.key).unwrap();
            let reach = |info: &keyrota::KeyInfo| {
                let (limits, networks) = (info.limits.clone(), info.networks.clone());
                let (scopes, role) = (info.scopes.clone(), info.role.clone());
                (info.owner, scopes, role, limits, networks, info.hard_end, info.policy)
            };
            assert_eq!(reach(&after), reach(&before));
            let from = keyrota::Demand::NOTHING.from("192.0.2.7".parse::<std::net::IpAddr>().unwrap());
            let grant = bed.validator.validate_for(&token, from).unwrap();
            assert_eq!(grant.valid_until(), Some(at("2027-02-01")), "never beyond the key's hard end");
            assert_eq!(grant.owner(), before.owner);
        }
    });
}

#[test]
fn an_edit_widens_only_when_it_says_so() {
    on_both_stores(|bed| {
        let new = new_key("ci").scopes(["orders:read", "bills:*"].try_into().unwrap());
        let key = bed.root().issue(new).unwrap().key;
        let edit = |scopes: &[&str]| EditKey::of(key).scopes(scopes.try_into().unwrap());
        let before = revision(&bed);
        for wider in [&["orders:*"][..], &["*"], &["orders:read", "users:read"], &["keyrota:rotate"]] {
            let refused = bed.root().edit(edit(wider));
            assert!(matches!(refused, Err(ManageError::WouldWiden(of)) if of == key), "{wider:?}");
        }
        assert_eq!(revision(&bed), before);
        bed.root().edit(edit(&["bills:read"])).unwrap();
        assert!(bed.root().edit(edit(&["bills:*"])).is_err());
        bed.root().edit(edit(&["bills:*"]).widen()).unwrap();
        let limits = |uses| EditKey::of(key).limits(keyrota::RateLimit::per_minute(uses).unwrap());
        bed.root().edit(limits(60)).unwrap();
        assert!(bed.root().edit(limits(61)).is_err());
        bed.root().edit(EditKey::of(key).networks(Some(["192.0.2.0/24"].try_into().unwrap()))).unwrap();
        assert!(bed.root().edit(EditKey::of(key).networks(None)).is_err());
    });
}

#[test]
fn a_key_that_rotates_still_counts_once_toward_its_owner_s_limit() {
    on_both_stores(|bed| {
        bed.root().set_owner_limit(owner("ada"), Some(OwnerLimit::new(2).unwrap())).unwrap();
        let first = bed.issue("first");
        bed.rotate(first.key);
        bed.issue("second");
        let full = bed.root().issue(new_key("third"));
        assert!(matches!(full, Err(ManageError::OwnerLimitReached { .. })));
        // An ended key has given its place away, and takes one again when it is rotated.
        bed.root().revoke((first.key, v(1))).unwrap();
        bed.root().revoke((first.key, v(2))).unwrap();
        bed.issue("third");
        let full = bed.root().rotate(first.key);
        assert!(matches!(full, Err(ManageError::OwnerLimitReached { .. })), "{full:?}");
    });
}

#[test]
fn the_old_version_validates_for_the_whole_overlap_and_no_second_rotation_cuts_it_short() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let new = bed.rotate(issued.key);
        for _ in 0..23 {
            bed.clock.advance(HOUR).unwrap();
            let refused = bed.root().rotate(issued.key).unwrap_err();
            assert!(matches!(refused, ManageError::Lifecycle(LifecycleError::RotationOpen { .. })));
            bed.tick();
            assert!(bed.is_granted(issued.token.expose()) && bed.is_granted(&new));
        }
        bed.clock.advance(HOUR).unwrap();
        assert!(!bed.is_granted(issued.token.expose()) && bed.is_granted(&new));
    });
}

#[test]
fn without_a_sound_master_key_there_is_no_keyring() {
    assert!(keyrota::Keyring::from_env("KEYROTA_TEST_NOT_SET_ANYWHERE").is_err());
    assert!(keyrota::Keyring::from_file("/nonexistent/keyrota-master-key").is_err());
    for weak in [[0; 32], [0xFF; 32], *b"passwordpasswordpasswordpassword"] {
        assert!(keyrota::Keyring::from_bytes(&weak).is_err(), "{weak:?}");
    }
    let store = MemoryStore::new();
    let validator = keyrota::Validator::builder(store.clone(), keyring()).clock(ManualClock::new(at(START)));
    assert!(validator.open().is_err(), "nobody has founded the store");
    assert!(store.head().unwrap().is_none());
}

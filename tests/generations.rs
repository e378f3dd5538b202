//! A new generation of the master key, from the day on which it is current to the one on which the old one goes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod delegating;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use common::{DAY, HOUR, Place, START, at, keyring, new_key, on_both_places};
use delegating::planned::{Fault, Plan, PlannedStore};
use keyrota::{
    Actor, AuditVerdict, Claim, ClaimId, DenialReason, EventKind, Generation, IssuedKey, KeyId, KeyManager,
    KeyStore, Keyring, ManageError, ManualClock, MasterKey, OwnerLimit, RetiredGeneration, Row, RowFilter,
    RowKind, TickReport, Unavailable, Validator,
};

const FIRST: Generation = Generation::FIRST;
const SECOND: Generation = Generation::new(2);

/// The first master key alone, both with the first current, both with the second current, the second alone.
struct Rings {
    old: Keyring,
    added: Keyring,
    both: Keyring,
    new: Keyring,
}

impl Rings {
    fn new() -> Self {
        let old = keyring();
        let bytes = std::array::from_fn(|i| (i as u8).wrapping_mul(89) ^ 0x5c);
        let added = old.clone().with(SECOND, MasterKey::from_bytes(&bytes).unwrap()).unwrap();
        let both = added.clone().with_current(SECOND).unwrap();
        let new = both.clone().without(FIRST).unwrap();
        Self { old, added, both, new }
    }
}

/// A store on which processes of different keyrings work, by one clock.
struct Scene {
    rings: Rings,
    clock: ManualClock,
    place: Place,
}

impl Scene {
    fn at(place: Place) -> Self {
        Self { rings: Rings::new(), clock: ManualClock::new(at(START)), place }
    }

    fn keys(&self, ring: &Keyring) -> KeyManager {
        manager(self.place.open(), ring, &self.clock)
    }

    fn validator(&self, ring: &Keyring) -> Validator {
        Validator::builder(self.place.open(), ring.clone()).clock(self.clock.clone()).open().unwrap()
    }

    fn rows(&self) -> BTreeMap<(RowKind, String), Row> {
        rows(&*self.place.open())
    }

    /// How many rows there are of a generation.
    fn under(&self, generation: Generation) -> usize {
        self.rows().values().filter(|row| row.mac.generation == generation).count()
    }
}

fn manager(store: impl KeyStore, ring: &Keyring, clock: &ManualClock) -> KeyManager {
    let limit = OwnerLimit::new(100_000).unwrap();
    KeyManager::builder(store, ring.clone()).clock(clock.clone()).owner_limit(limit).open().unwrap()
}

fn rows(store: &dyn KeyStore) -> BTreeMap<(RowKind, String), Row> {
    let mut found = BTreeMap::new();
    for kind in RowKind::ALL {
        let mut each = |row: keyrota::RowRef<'_>| {
            found.insert((kind, row.id.to_owned()), row.to_row());
            ControlFlow::Continue(())
        };
        store.scan(kind, RowFilter::All { after: None }, &mut each).unwrap();
    }
    found
}

fn issue(keys: &KeyManager, name: &str) -> IssuedKey {
    keys.by(Actor::operator("root")).issue(new_key(name)).unwrap()
}

/// Ticks until nothing is left; the sum of what was rewritten, and the last report.
fn tick(keys: &KeyManager) -> (usize, TickReport) {
    let mut rewritten = 0;
    loop {
        let report = keys.tick().unwrap();
        rewritten += report.rewritten;
        if !report.more {
            return (rewritten, report);
        }
    }
}

fn retire(keys: &KeyManager, generation: Generation) -> Result<RetiredGeneration, ManageError> {
    keys.by(Actor::operator("root")).retire_generation(generation)
}

fn is_granted(validator: &Validator, issued: &IssuedKey) -> bool {
    validator.validate(issued.token.expose()).is_ok()
}

fn needed(keys: &KeyManager, generation: Generation) -> (u64, u64, u64, u64) {
    let found = keys.generations().unwrap();
    let one = found.iter().find(|one| one.generation == generation);
    one.map_or((0, 0, 0, 0), |one| (one.rows, one.sealed, one.digests, one.audit_entries))
}

#[test]
fn a_master_key_is_replaced_end_to_end_and_the_old_one_is_not_missed() {
    on_both_places(|place| {
        let scene = Scene::at(place);
        let old = scene.keys(&scene.rings.old);
        let root = || Actor::operator("root");
        let (used, idle, revoked) = (issue(&old, "used"), issue(&old, "idle"), issue(&old, "revoked"));
        let waiting = old.by(root()).issue(new_key("waiting").auto_rotation(true)).unwrap();
        scene.clock.set(at("2027-01-30"));
        tick(&old);
        scene.clock.set(at("2027-02-25"));
        tick(&old);
        scene.clock.set(at("2027-03-25"));
        old.by(root()).revoke(revoked.key).unwrap();
        assert_eq!(tick(&old).0, 0, "with one generation nothing is ever rewritten");
        assert_eq!(needed(&old, FIRST).1, 1, "a successor waits, sealed");

        // Added everywhere, then made current in one process after the other.
        let validator = scene.validator(&scene.rings.added);
        let keys = scene.keys(&scene.rings.both);
        let before = scene.rows();
        let (rewritten, report) = tick(&keys);
        assert_eq!(rewritten, before.len());
        let progress = report.rewriting.unwrap();
        assert_eq!((progress.generation, progress.remaining, progress.faults), (SECOND, Some(0), 0));
        assert_eq!(keys.rewriting().unwrap(), Some(progress));
        assert!(report.to_string().contains("all is rewritten under g2"), "{report}");
        assert_eq!((scene.under(FIRST), needed(&keys, FIRST).1), (0, 0));
        for (name, old) in &before {
            let new = &scene.rows()[name];
            assert_eq!((new.revision, &new.index), (old.revision, &old.index), "{name:?}");
            assert_eq!(new.body == old.body, name.0 != RowKind::Sealed, "{name:?}");
        }
        assert!(is_granted(&validator, &used) && is_granted(&scene.validator(&scene.rings.added), &idle));
        assert!(keys.check(None).unwrap().is_sound());

        // Digests follow at use, and what is not used is what keeps the old generation needed.
        assert_eq!(needed(&keys, FIRST).2, 4, "of all that has not ended");
        let current = scene.validator(&scene.rings.both);
        assert!(is_granted(&current, &used) && is_granted(&current, &waiting));
        let log = keys.audit_head().unwrap();
        current.flush().unwrap();
        assert_eq!(needed(&keys, FIRST).2, 2);
        assert_eq!(keys.audit_head().unwrap(), log, "nothing has happened to a key");
        let head = scene.place.open().head().unwrap();
        assert!(is_granted(&current, &used) && is_granted(&validator, &used));
        assert_eq!(current.flush().map(|_| scene.place.open().head().unwrap()).unwrap(), head, "once");
        let refused = retire(&keys, FIRST).unwrap_err();
        assert!(matches!(refused, ManageError::GenerationNeeded(FIRST)), "{refused}");
        let lost = keys.retirement(FIRST).unwrap();
        assert_eq!((lost.rows, lost.sealed, lost.digests, lost.audit_entries), (0, 0, 2, 0));
        let mut dying = [idle.key, waiting.key];
        dying.sort_unstable();
        assert_eq!(lost.keys, dying, "the one that nobody used, and the successor that waits");

        // The successor is claimed, with the secret that was sealed anew, and used.
        let successor = claim(&keys, &waiting);
        assert_eq!(claim(&keys, &waiting), successor, "also when the answer was lost");
        assert!(current.validate(&successor).is_ok());
        assert!(is_granted(&current, &idle));
        current.flush().unwrap();
        assert_eq!(needed(&keys, FIRST).2, 0);
        let lost = retire(&keys, FIRST).unwrap();
        assert!(!lost.is_needed() && lost.keys.is_empty());
        assert_eq!(needed(&keys, FIRST), (0, 0, 0, 0), "the retirement vouches for the entries");
        drop((current, validator, keys, old));

        // The old master key is gone from every process.
        let keys = scene.keys(&scene.rings.new);
        let validator = scene.validator(&scene.rings.new);
        assert!([&used, &idle, &waiting].iter().all(|issued| is_granted(&validator, issued)));
        assert!(validator.validate(&successor).is_ok());
        let reason = validator.validate(revoked.token.expose()).unwrap_err().reason();
        assert_eq!(reason, DenialReason::Unknown, "what is over needs no master key to be denied");
        let check = keys.check(None).unwrap();
        assert!(check.is_sound(), "{check:?}");
        assert_eq!(keys.generations().unwrap().len(), 1);
        keys.by(root()).rotate(used.key).unwrap();
        issue(&keys, "new");
        assert_eq!(tick(&keys).0, 0);
        assert!(keys.verify_audit_against(&log).unwrap().is_sound(), "an anchor from before still holds");
    });
}

fn claim(keys: &KeyManager, of: &IssuedKey) -> String {
    let id = ClaimId::new("the client's own claim").unwrap();
    let claimed = keys.by(Actor::operator("client")).claim(Claim::with_token(of.token.expose(), id)).unwrap();
    claimed.token.expose().to_owned()
}

#[test]
fn a_tick_rewrites_a_bounded_number_of_rows_and_only_after_all_that_is_due() {
    let scene = Scene::at(Place::memory());
    let old = scene.keys(&scene.rings.old);
    let brief = old.by(Actor::operator("root")).issue(new_key("brief").until(at("2027-01-02"))).unwrap();
    for _ in 0..600 {
        issue(&old, "many");
    }
    scene.clock.set(at("2027-01-03"));
    let keys = scene.keys(&scene.rings.both);
    let (mut reports, mut sum) = (Vec::new(), 0);
    while reports.last().is_none_or(|last: &TickReport| last.more) {
        reports.push(keys.tick().unwrap());
        let report = reports.last().unwrap();
        let (progress, left) = (report.rewriting.unwrap(), scene.under(FIRST));
        sum += report.rewritten;
        assert!(report.rewritten <= 1_000, "{report}");
        assert_eq!(progress.rewritten, sum as u64);
        assert_eq!(progress.remaining, Some(left as u64), "{report}");
    }
    assert!(reports.len() > 1 && sum > 1_800, "{sum} rows in {} ticks", reports.len());
    assert_eq!(reports[0].expired, 1, "what is due does not wait for it");
    assert_eq!(keys.get(brief.key).unwrap().versions[0].stage, keyrota::Stage::Ended);
    assert!(reports[0].to_string().contains("rows left to rewrite under g2"), "{}", reports[0]);
    let head = scene.place.open().head().unwrap();
    assert_eq!(keys.tick().unwrap().rewriting, None);
    assert_eq!(scene.place.open().head().unwrap(), head, "a tick that has nothing to do writes nothing");
}

/// The calls of a tick at this time, and the rows that it was shown.
fn cost(others: usize, times: &[&str]) -> Vec<(Vec<&'static str>, u64)> {
    use std::sync::atomic::{AtomicU64, Ordering};
    let (rings, clock, shown) = (Rings::new(), ManualClock::new(at(START)), Arc::new(AtomicU64::new(0)));
    let inner = keyrota::MemoryStore::new();
    let old = manager(inner.clone(), &rings.old, &clock);
    (0..others).for_each(|_| drop(issue(&old, "other")));
    clock.set(at("2027-01-10"));
    tick(&old);
    let store = PlannedStore::editing(inner, {
        let shown = Arc::clone(&shown);
        move |_| _ = shown.fetch_add(1, Ordering::Relaxed)
    });
    let keys = manager(Arc::clone(&store), &rings.both, &clock);
    tick(&keys);
    let cost = |time: &&str| {
        clock.set(at(time));
        store.plan(None);
        shown.store(0, Ordering::Relaxed);
        assert!(!keys.tick().unwrap().more);
        (store.names(), shown.load(Ordering::Relaxed))
    };
    times.iter().map(cost).collect()
}

#[test]
fn once_all_is_rewritten_a_tick_asks_no_more_than_whether_it_is() {
    let times = ["2027-01-11", "2027-01-12"];
    let (few, many) = (cost(3, &times), cost(400, &times));
    assert_eq!(few, many);
    assert_eq!(few[0].0.iter().filter(|name| **name == "commit").count(), 1, "the mark");
    assert_eq!(few[0], few[1]);
}

#[test]
fn a_row_that_was_edited_does_not_come_by_a_mac_that_is_right() {
    let (rings, clock) = (Rings::new(), ManualClock::new(at(START)));
    let inner = keyrota::MemoryStore::new();
    let issued = issue(&manager(inner.clone(), &rings.old, &clock), "edited");
    let id = issued.key.to_string();
    let edit = id.clone();
    let store = PlannedStore::editing(inner.clone(), move |row| {
        if (row.kind, &row.id) == (RowKind::Key, &edit) {
            row.index.owner = Some("mallory".to_owned());
        }
    });
    let keys = manager(Arc::clone(&store), &rings.both, &clock);
    let (_, report) = tick(&keys);
    assert_eq!((report.faults, report.rewriting.unwrap().faults), (1, 1), "{report}");
    let left = &rows(&inner)[&(RowKind::Key, id)];
    assert_eq!(left.mac.generation, FIRST, "it stays as it is");
    let others = rows(&inner).into_values().filter(|row| row.mac.generation == FIRST).count();
    assert_eq!(others, 1, "and keeps no other from being rewritten");
    let found = keys.check(None).unwrap().findings;
    assert!(found.iter().any(|found| matches!(found, keyrota::CheckFinding::EditedRow { .. })), "{found:?}");
    let validator = Validator::open(Arc::clone(&store), rings.both.clone()).unwrap();
    let denial = validator.validate(issued.token.expose()).unwrap_err();
    assert_eq!(denial.reason(), DenialReason::Tampered);
    // A second look at it is not begun for its sake.
    assert_eq!(keys.tick().unwrap().rewriting, None);
}

#[test]
fn who_does_not_hold_the_new_generation_answers_503_until_it_does() {
    on_both_places(|place| {
        let scene = Scene::at(place);
        let issued = issue(&scene.keys(&scene.rings.old), "ci");
        let lagging = scene.validator(&scene.rings.old);
        assert!(is_granted(&lagging, &issued));
        let keys = scene.keys(&scene.rings.both);
        tick(&keys);
        scene.validator(&scene.rings.both).validate(issued.token.expose()).unwrap();
        let reason = lagging.validate(issued.token.expose()).unwrap_err().reason();
        assert_eq!(reason, DenialReason::Unavailable(Unavailable::KeyringBehind(SECOND)));
        assert!(is_granted(&scene.validator(&scene.rings.added), &issued));
    });
}

#[test]
fn processes_with_different_current_generations_do_not_fight() {
    on_both_places(|place| {
        let scene = Scene::at(place);
        let (lagging, keys) = (scene.keys(&scene.rings.added), scene.keys(&scene.rings.both));
        let issued = issue(&lagging, "ci");
        let [behind, ahead] = [&scene.rings.added, &scene.rings.both].map(|ring| scene.validator(ring));
        let mut passes = 0;
        for hour in 0..12 {
            issue(&lagging, "written under the first");
            assert_eq!(tick(&lagging).0, 0, "never downward");
            passes += usize::from(tick(&keys).0 > 0);
            for validator in [&behind, &ahead, &behind, &ahead] {
                assert!(is_granted(validator, &issued));
                validator.flush().unwrap();
            }
            let version = &scene.rows()[&(RowKind::Version, format!("{}/1", issued.key))];
            let body = String::from_utf8(version.body.clone()).unwrap();
            assert!(body.contains("\"generation\":2"), "{hour}: {body}");
            // Within the hour another pass is only announced.
            issue(&lagging, "written under the first");
            let (rewritten, report) = tick(&keys);
            assert_eq!(rewritten, 0);
            let next = report.next_due.unwrap();
            assert!(next <= keyrota::Clock::now(&scene.clock).plus(HOUR).unwrap(), "{next}");
            scene.clock.advance(HOUR).unwrap();
        }
        assert_eq!(passes, 12, "one an hour");
        // The last one has the second as its current one, too.
        assert!(tick(&keys).0 > 0);
        assert_eq!(scene.under(FIRST), 0);
        for _ in 0..3 {
            scene.clock.advance(DAY).unwrap();
            let (rewritten, report) = tick(&keys);
            assert_eq!((rewritten, report.rewriting), (0, None), "{report}");
        }
    });
}

#[test]
fn a_process_that_dies_at_any_call_of_a_tick_loses_nothing() {
    for at_call in 0.. {
        let (rings, clock) = (Rings::new(), ManualClock::new(at(START)));
        let inner = keyrota::MemoryStore::new();
        let store = PlannedStore::on(inner.clone());
        let old = manager(inner.clone(), &rings.old, &clock);
        let issued: Vec<_> = (0..3).map(|_| issue(&old, "ci")).collect();
        let dying = manager(Arc::clone(&store), &rings.both, &clock);
        store.plan(Some(Plan { at: at_call, fault: Fault::Death, for_ever: true }));
        let is_through = dying.tick().is_ok();
        let calls = store.calls();
        let keys = manager(inner.clone(), &rings.both, &clock);
        tick(&keys);
        let left = rows(&inner).into_values().filter(|row| row.mac.generation == FIRST).count();
        assert_eq!(left, 0, "call {at_call}");
        assert!(keys.check(None).unwrap().is_sound(), "call {at_call}");
        let validator = keys.validator().unwrap();
        assert!(issued.iter().all(|issued| is_granted(&validator, issued)), "call {at_call}");
        if is_through && calls <= at_call {
            assert!(at_call > 15, "{at_call}");
            return;
        }
    }
}

/// Lets somebody else act before the first commit that comes after it was armed.
#[derive(Default)]
struct Meanwhile(std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl delegating::Hooks for Meanwhile {
    fn before(&self, _: &dyn KeyStore, call: delegating::Call<'_>) -> delegating::Turn {
        if matches!(call, delegating::Call::Commit(changeset) if format!("{changeset:?}").contains("Rewrite("))
            && let Some(act) = self.0.lock().unwrap().take()
        {
            act();
        }
        delegating::Turn::Go
    }
}

#[test]
fn who_writes_a_row_while_it_is_rewritten_wins() {
    let (rings, clock) = (Rings::new(), ManualClock::new(at(START)));
    let inner = keyrota::MemoryStore::new();
    let lagging = manager(inner.clone(), &rings.added, &clock);
    let issued = issue(&lagging, "ci");
    let store = Arc::new(delegating::Delegating::over(inner.clone(), Meanwhile::default()));
    let keys = manager(Arc::clone(&store), &rings.both, &clock);
    let (other, key) = (lagging.clone(), issued.key);
    let revoke = move || other.by(Actor::operator("root")).revoke(key).unwrap();
    *store.0.lock().unwrap() = Some(Box::new(revoke));
    tick(&keys);
    assert!(store.0.lock().unwrap().is_none(), "it came in between");
    let validator = keys.validator().unwrap();
    let reason = validator.validate(issued.token.expose()).unwrap_err().reason();
    assert_eq!(reason, DenialReason::Revoked);
    assert!(keys.check(None).unwrap().is_sound());
    let left = |inner: &keyrota::MemoryStore| {
        rows(inner).into_values().filter(|row| row.mac.generation == FIRST).count()
    };
    assert!(left(&inner) > 0, "what it wrote is left to another pass");
    clock.advance(HOUR).unwrap();
    tick(&keys);
    assert_eq!(left(&inner), 0);
}

#[test]
fn by_force_a_generation_goes_with_what_needs_it_and_that_is_named() {
    on_both_places(|place| {
        let scene = Scene::at(place);
        let old = scene.keys(&scene.rings.old);
        let (used, idle, over) = (issue(&old, "used"), issue(&old, "idle"), issue(&old, "over"));
        old.by(Actor::operator("root")).revoke(over.key).unwrap();
        let keys = scene.keys(&scene.rings.both);
        let current = retire(&keys, SECOND).unwrap_err();
        assert!(matches!(current, ManageError::GenerationCurrent(SECOND)), "{current}");
        let rows = scene.under(FIRST) as u64;
        let lost = keys.retirement(FIRST).unwrap();
        assert_eq!((lost.rows, lost.digests, lost.audit_entries), (rows, 2, 0));
        assert_eq!(sorted(lost.keys), sorted(vec![used.key, idle.key]), "not the one that is over");
        tick(&keys);
        let validator = scene.validator(&scene.rings.both);
        assert!(is_granted(&validator, &used));
        validator.flush().unwrap();
        let head = scene.place.open().head().unwrap();
        assert!(matches!(retire(&keys, FIRST), Err(ManageError::GenerationNeeded(FIRST))));
        assert_eq!(scene.place.open().head().unwrap(), head, "a refusal writes nothing");
        let act = || keys.by(Actor::operator("root")).request("retire-1").because("leaked");
        let lost = act().retire_generation_by_force(FIRST).unwrap();
        assert_eq!((lost.rows, lost.digests, &lost.keys), (0, 1, &vec![idle.key]));
        let seq = keys.audit_head().unwrap().seq;
        assert_eq!(act().retire_generation_by_force(FIRST).unwrap(), lost);
        assert_eq!(keys.audit_head().unwrap().seq, seq, "once for a request id");
        let entry = keys.audit(&keyrota::AuditFilter::all().after(seq - 1), 1).unwrap().pop().unwrap();
        assert_eq!(entry.event.kind, EventKind::GenerationRetired);
        assert!(entry.event.subject.unwrap().starts_with("g1; entries to "));
        let keys = scene.keys(&scene.rings.new);
        let validator = scene.validator(&scene.rings.new);
        assert!(is_granted(&validator, &used) && keys.check(None).unwrap().is_sound());
        let reason = |of: &IssuedKey| validator.validate(of.token.expose()).unwrap_err().reason();
        assert_eq!(reason(&idle), DenialReason::Unavailable(Unavailable::KeyringBehind(FIRST)));
        assert_eq!(reason(&over), DenialReason::Unknown);
    });
}

fn sorted(mut keys: Vec<KeyId>) -> Vec<KeyId> {
    keys.sort_unstable();
    keys
}

/// Shows an entry of the log as an editor would have left it.
#[derive(Default)]
struct EditedEntry(std::sync::atomic::AtomicU64);

impl delegating::Hooks for EditedEntry {
    fn shown_entry(&self, entry: &keyrota::AuditRow) -> Option<keyrota::AuditRow> {
        let mut entry = entry.clone();
        if entry.seq == self.0.load(std::sync::atomic::Ordering::Relaxed) {
            entry.body = String::from_utf8(entry.body).unwrap().replace("root", "toor").into_bytes();
            entry.actor = entry.actor.replace("root", "toor");
        }
        Some(entry)
    }
}

#[test]
fn a_retirement_vouches_for_a_sound_log_and_what_is_edited_afterwards_shows() {
    let (rings, clock) = (Rings::new(), ManualClock::new(at(START)));
    let inner = keyrota::MemoryStore::new();
    let store = Arc::new(delegating::Delegating::over(inner.clone(), EditedEntry::default()));
    let edit = |seq| store.0.store(seq, std::sync::atomic::Ordering::Relaxed);
    let issued = issue(&manager(inner.clone(), &rings.old, &clock), "ci");
    let keys = manager(Arc::clone(&store), &rings.both, &clock);
    tick(&keys);
    keys.by(Actor::operator("root")).revoke(issued.key).unwrap();
    // What is not sound is not vouched for: then its entries need their master key, and are lost with it.
    edit(2);
    let refused = retire(&keys, FIRST).unwrap_err();
    assert!(matches!(refused, ManageError::GenerationNeeded(FIRST)), "{refused}");
    let lost = keys.retirement(FIRST).unwrap();
    assert!(lost.audit_entries > 1 && lost.rows == 0 && lost.keys.is_empty(), "{lost:?}");
    edit(0);
    retire(&keys, FIRST).unwrap();
    // A third generation: the second retirement vouches for the first, too.
    let third = MasterKey::generate().unwrap();
    let three = rings.new.clone().with(Generation::new(3), third).unwrap();
    let three = three.with_current(Generation::new(3)).unwrap();
    let last = three.clone().without(SECOND).unwrap();
    for (ring, retired) in [(&rings.new, None), (&three, Some(SECOND)), (&last, None)] {
        let keys = manager(Arc::clone(&store), ring, &clock);
        tick(&keys);
        if let Some(generation) = retired {
            retire(&keys, generation).unwrap();
        }
        let verdict = keys.verify_audit().unwrap();
        assert!(verdict.is_sound(), "{verdict:?}");
        assert!(keys.check(None).unwrap().is_sound());
        edit(2);
        let verdict = keys.verify_audit().unwrap();
        assert!(matches!(verdict, AuditVerdict::BrokenAt { seq: 2.. }), "{verdict:?}");
        edit(0);
    }
    // Without any retirement the same entries cannot be verified.
    let other = keyrota::MemoryStore::new();
    issue(&manager(other.clone(), &rings.old, &clock), "ci");
    tick(&manager(other.clone(), &rings.both, &clock));
    let verdict = manager(other, &rings.new, &clock).verify_audit().unwrap();
    assert!(matches!(verdict, AuditVerdict::KeyringBehind { seq: 1, generation: FIRST }), "{verdict:?}");
}

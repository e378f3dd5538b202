//! What is left in memory: after its use no part of a token, of a master key, or of anything derived from it lies on
//! the heap, freed or not. Each search is shown to find what is there.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(clippy::print_stdout, reason = "what lies on the stack is told to whoever looks")]

mod search;
mod secrets;
mod unfreed;

use std::sync::{Mutex, MutexGuard, PoisonError};

use keyrota::{
    Actor, Demand, Evidence, Generation, KeyManager, KeyStore, Keyring, ManualClock, MasterKey, MemoryStore,
    NewKey, OwnerId, Replace, RevokeTarget, RollBack, RotateNow, Scope, Validator, VersionNo, check_token,
};

use search::{Found, Needles};
use secrets::{Masked, base64, enter, hex, master, take};

/// What the search reads lies in its buffer, so that nobody else may search, or have secrets, at the same time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nothing on the heap; what lies on the stack is told, as far as anybody looks.
fn assert_gone(needles: &Needles, when: &str) {
    let Found { heap, stack } = needles.search();
    println!("{when}: on the stack {stack:?}");
    assert!(heap.is_empty(), "{when}: {heap:?}");
}

fn keyring(master: &Masked) -> Keyring {
    Keyring::from_bytes(master.bytes().as_slice().try_into().unwrap()).unwrap()
}

fn open(store: impl KeyStore, keyring: Keyring) -> (KeyManager, Validator) {
    let clock = ManualClock::new("2027-01-01T00:00:00Z".parse().unwrap());
    let keys = KeyManager::builder(store, keyring).clock(clock).open().unwrap();
    let validator = keys.validator().unwrap();
    (keys, validator)
}

fn new_key() -> NewKey {
    let scopes = ["orders:read"].try_into().unwrap();
    NewKey::new(OwnerId::new("ada").unwrap(), "ci").unwrap().scopes(scopes)
}

/// All that shows a token or takes one.
fn live(keys: &KeyManager, validator: &Validator, needles: &mut Needles) {
    let act = || keys.by(Actor::operator("root"));
    let read: Scope = "orders:read".parse().unwrap();
    let first = act().request("issue").issue(new_key()).unwrap();
    let (key, first) = (first.key, take(needles, first.token));
    let again = act().request("issue").issue(new_key()).unwrap();
    first.with_text(|text| assert!(again.token.expose() == text && again.clone().token.expose() == text));
    drop(again);
    let second = take(needles, act().request("rotate").rotate(key).unwrap().token);
    drop(act().request("rotate").rotate(key).unwrap());
    drop(act().roll_back(RollBack::of(key)).unwrap());
    let third = take(needles, act().rotate(RotateNow::of(key).supersede()).unwrap().token);
    for token in [&first, &third] {
        token.with_text(|text| {
            check_token(text).unwrap();
            let grant = validator.validate_for(text, Demand::scope(&read)).unwrap();
            validator.still_valid(&grant).unwrap();
        });
    }
    let mut wrong = first.bytes();
    let last = wrong.len() - 20;
    wrong[last] = if wrong[last] == b'x' { b'y' } else { b'x' };
    needles.add("a mistyped token", &wrong[wrong.len() - 49..]);
    let wrong = Masked::of(&wrong);
    wrong.with_text(|text| assert!(validator.validate(text).is_err() && check_token(text).is_err()));
    let reported = second.with_text(|text| act().report_compromised(Evidence::Token(text)).unwrap());
    assert!(reported.is_some());
    let replaced = act().request("replace").replace(Replace::of(key)).unwrap();
    drop(act().request("replace").replace(Replace::of(key)).unwrap());
    drop(replaced);
    act().revoke(RevokeTarget::Version(key, VersionNo::FIRST)).unwrap();
    act().revoke(key).unwrap();
    for token in [&first, &second, &third] {
        token.with_text(|text| assert!(validator.validate(text).is_err()));
    }
    keys.tick().unwrap();
    validator.flush().unwrap();
}

fn tell(store: impl KeyStore, name: &str) {
    let mut tokens = Needles::default();
    let mut masters = Needles::default();
    let master = master();
    let (keys, validator) = open(store, keyring(&master));
    live(&keys, &validator, &mut tokens);
    assert_gone(&tokens, &format!("{name}, while the manager is open"));
    enter(&mut masters, &master);
    let held = masters.search().heap;
    for needed in ["the bytes of a master key", "a prepared key for MACs"] {
        assert!(held.contains(needed), "the search finds what the keyring holds: {held:?}");
    }
    drop((keys, validator));
    assert_gone(&tokens, &format!("{name}, after all was dropped"));
    assert_gone(&masters, &format!("{name}, after all was dropped"));
}

#[test]
fn no_token_and_no_key_is_left_on_the_heap_after_its_use_in_memory() {
    let _alone = alone();
    tell(MemoryStore::new(), "memory");
}

#[cfg(feature = "sqlite")]
#[test]
fn no_token_and_no_key_is_left_on_the_heap_after_its_use_on_sqlite() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    tell(keyrota::SqliteStore::open(folder.path().join("keys.db")).unwrap(), "SQLite");
}

#[test]
fn a_keyring_that_was_read_changed_and_dropped_leaves_nothing() {
    let _alone = alone();
    let mut needles = Needles::default();
    let masters: Vec<_> = (0..6).map(|_| master()).collect();
    masters.iter().for_each(|master| enter(&mut needles, master));
    let generation = Generation::new;
    let mut ring = Keyring::new(MasterKey::from_text(&hex(&masters[0])).unwrap());
    ring = ring.with(generation(2), MasterKey::from_text(&base64(&masters[1])).unwrap()).unwrap();
    ring = ring.with(generation(3), MasterKey::from_text(&hex(&masters[2])).unwrap()).unwrap();
    let ring = ring.with_current(generation(3)).unwrap();
    assert!(ring.clone().with(generation(1), MasterKey::from_text(&hex(&masters[5])).unwrap()).is_err());
    let exposed = ring.master(generation(2)).unwrap().clone().expose_hex();
    assert_eq!(*exposed, *hex(&masters[1]));
    drop(exposed);
    let other = MemoryStore::new();
    let (keys, validator) = open(other, ring.clone());
    drop((ring, keys, validator));

    let folder = tempfile::tempdir().unwrap();
    for (n, master) in masters[3..].iter().enumerate() {
        let path = folder.path().join("master.key");
        match n {
            0 => std::fs::write(&path, &*master.bytes()).unwrap(),
            1 => std::fs::write(&path, base64(master).as_bytes()).unwrap(),
            _ => std::fs::write(&path, hex(master).as_bytes()).unwrap(),
        }
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Keyring::from_file(&path).is_ok());
        // One character too many, which is refused, and leaves nothing either.
        let mut longer = hex(master);
        longer.push('0');
        std::fs::write(&path, longer.as_bytes()).unwrap();
        assert!(Keyring::from_file(&path).is_err());
    }
    assert_gone(&needles, "keyrings");
}

const CHILD: &str = "KEYROTA_TEST_MEMORY_CHILD";
const VARIABLE: &str = "KEYROTA_TEST_MEMORY_MASTER_KEY";

/// The environment itself lies above the stack of the main thread, as the system put it there; the library's copies go.
#[test]
fn a_master_key_from_the_environment_leaves_no_copy_on_the_heap() {
    let _alone = alone();
    if std::env::var_os(CHILD).is_some() {
        let mut needles = Needles::default();
        let keyring = Keyring::from_env(VARIABLE).unwrap();
        let text = keyring.master(Generation::FIRST).unwrap().expose_hex();
        let mut bytes = zeroize::Zeroizing::new([0u8; 32]);
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        }
        enter(&mut needles, &Masked::of(bytes.as_slice()));
        drop(text);
        assert!(needles.search().heap.contains("the bytes of a master key"));
        let (keys, validator) = open(MemoryStore::new(), keyring);
        drop((keys, validator));
        assert_gone(&needles, "environment");
        return;
    }
    for form in [hex(&master()), base64(&master())] {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["a_master_key_from_the_environment_leaves_no_copy_on_the_heap", "--exact", "--nocapture"])
            .env(CHILD, "1")
            .env(VARIABLE, &*form)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && told.contains("environment: on the stack"), "{told}");
    }
}

#[test]
fn a_copy_that_was_dropped_without_being_wiped_is_found() {
    let _alone = alone();
    let mut needles = Needles::default();
    let (keys, _validator) = open(MemoryStore::new(), keyring(&master()));
    let issued = keys.by(Actor::operator("root")).issue(new_key()).unwrap();
    let token = take(&mut needles, issued.token);
    assert_gone(&needles, "before it is leaked");
    drop(token.with_text(str::to_owned));
    assert!(needles.search().heap.contains("a token"));
}

#[test]
fn a_copy_that_was_left_where_a_text_grew_out_of_its_place_is_found() {
    let _alone = alone();
    let mut needles = Needles::default();
    let master = master();
    enter(&mut needles, &master);
    let mut text = hex(&master);
    assert!(needles.search().heap.contains("a master key in hexadecimal"), "while it is there");
    text.reserve_exact(1_000);
    drop(text);
    assert!(needles.search().heap.contains("a master key in hexadecimal"));
}

#[test]
fn twelve_bytes_of_each_secret_are_found_wherever_they_begin() {
    let _alone = alone();
    let mut needles = Needles::default();
    let master = master();
    enter(&mut needles, &master);
    assert_gone(&needles, "before they are planted");
    let find = |name: &str, part: &[u8]| {
        let planted = vec![0x11u8; 7].into_iter().chain(part.iter().copied()).collect::<Vec<u8>>();
        let mut planted = zeroize::Zeroizing::new(planted);
        assert!(needles.search().heap.contains(name), "{name}");
        planted.fill(0);
    };
    find("the bytes of a master key", &master.bytes()[20..]);
    find("the bytes of a master key", &master.bytes()[3..15]);
    find("a master key in hexadecimal", &hex(&master).as_bytes()[52..]);
    find("a master key in base64", &base64(&master).as_bytes()[11..23]);
    find("a master key in base64", &base64(&master).as_bytes()[32..]);
    assert_gone(&needles, "after they were wiped");
}

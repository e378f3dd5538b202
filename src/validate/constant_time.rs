//! What the digests decide, under valgrind's memcheck: the stored one and the computed one are marked as undefined, and
//! memcheck then reports each branch and each address that depends on them. Run by `tests/constant-time`.
//!
//! Outside of valgrind the marks are instructions that do nothing.
#![allow(unsafe_code, reason = "valgrind is spoken to by an instruction sequence and raw addresses")]
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test reports")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::crypto;
use crate::digest::SecretDigest;
use crate::encode::checksum;
use crate::token::PresentedToken;
use crate::validate::{Denial, DenialReason, Grant, Validator};
use crate::{Actor, Generation, KeyManager, Keyring, MasterKey, MemoryStore, NewKey, OwnerId};

/// A request to valgrind; `otherwise` is what there is to say where nobody listens.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
fn ask(request: usize, address: usize, length: usize, otherwise: usize) -> usize {
    let asked = [request, address, length, 0, 0, 0];
    let mut answer = otherwise;
    // SAFETY: four rotations that come to a whole number of turns and an exchange of a register with itself change
    // nothing; valgrind recognises them, and reads the six words.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") asked.as_ptr(), inout("rdx") answer,
        );
    }
    answer
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
fn ask(_request: usize, _address: usize, _length: usize, otherwise: usize) -> usize {
    otherwise
}

const IS_VALGRIND: usize = 0x1001;
const COUNT_ERRORS: usize = 0x1201;
const MAKE_UNDEFINED: usize = 0x4D43_0001;
const MAKE_DEFINED: usize = 0x4D43_0002;

/// Whether computed digests are marked; whether the verdict is marked as defined again.
static HIDES: AtomicBool = AtomicBool::new(false);
static DISCLOSES: AtomicBool = AtomicBool::new(false);

/// A digest of which memcheck does not know any bit.
pub(super) fn hidden(mut digest: SecretDigest) -> SecretDigest {
    if HIDES.load(Ordering::Relaxed) {
        hide(&mut digest.bytes);
    }
    digest
}

/// A verdict that may decide.
pub(super) fn disclosed(mut verdict: bool) -> bool {
    if DISCLOSES.load(Ordering::Relaxed) {
        ask(MAKE_DEFINED, (&raw mut verdict).addr(), 1, 0);
    }
    verdict
}

fn hide<T>(value: &mut T) {
    ask(MAKE_UNDEFINED, std::ptr::from_mut(black_box(value)).addr(), size_of::<T>(), 0);
}

/// How many errors memcheck reports of some work.
fn errors(work: impl FnOnce()) -> usize {
    let before = ask(COUNT_ERRORS, 0, 0, 0);
    work();
    ask(COUNT_ERRORS, 0, 0, 0) - before
}

/// Presents a token with both digests marked, or one of them; says how many errors that made, and the verdict.
fn present(
    validator: &Validator,
    token: &str,
    stored: bool,
    computed: bool,
) -> (usize, Result<Grant, Denial>) {
    let replica = &validator.inner.follower.replica;
    let locator = PresentedToken::parse(token.as_bytes()).unwrap().locator.words();
    if stored && let Some(position) = replica.position_of(locator) {
        let (address, length) = replica.slab.get(position).unwrap().place_of_digest();
        ask(MAKE_UNDEFINED, address, length, 0);
    }
    HIDES.store(computed, Ordering::Relaxed);
    let mut verdict = None;
    let errors = errors(|| verdict = Some(validator.validate(token)));
    HIDES.store(false, Ordering::Relaxed);
    (errors, verdict.unwrap())
}

/// A token of this locator and secret.
fn token(prefix: &str, covered: &str) -> String {
    format!("{prefix}_{covered}{}", str::from_utf8(&checksum(&[covered.as_bytes()])).unwrap())
}

#[test]
#[ignore = "says something under valgrind only, in a release build: tests/constant-time"]
fn nothing_but_the_verdict_depends_on_a_digest() {
    assert_ne!(ask(IS_VALGRIND, 0, 0, 0), 0, "run by tests/constant-time");
    let store = Arc::new(MemoryStore::new());
    let master = |n| MasterKey::from_bytes(&std::array::from_fn(|i| (i as u8).wrapping_mul(89) ^ n)).unwrap();
    let one = Keyring::new(master(1));
    let second = one.current().get() + 1;
    let both = one.clone().with(Generation::new(second), master(2)).unwrap();
    let both = both.with_current(Generation::new(second)).unwrap();
    let keys = KeyManager::open(Arc::clone(&store), one.clone()).unwrap();
    let issue = |name: &str| {
        let new = NewKey::new(OwnerId::new("ada").unwrap(), name).unwrap();
        keys.by(Actor::operator("root")).issue(new).unwrap()
    };
    let (live, revoked) = (issue("live"), issue("revoked"));
    keys.by(Actor::operator("root")).revoke(revoked.key).unwrap();
    let (live, revoked) = (live.token.expose(), revoked.token.expose());
    let covered = &live[live.len() - 61..live.len() - 6];
    let other = if covered.ends_with('x') { "y" } else { "x" };
    let presented = [
        ("the right secret", live.to_owned(), None),
        ("a wrong secret", token("key", &format!("{}{other}", &covered[..54])), Some(DenialReason::Unknown)),
        ("an unknown locator", token("key", &"7".repeat(55)), Some(DenialReason::Unknown)),
        ("another prefix", live.replacen("key_", "oth_", 1), Some(DenialReason::Unknown)),
        ("a revoked key", revoked.to_owned(), Some(DenialReason::Revoked)),
    ];
    for (held, keyring) in [("one generation", one), ("two generations", both)] {
        let validator = Validator::open(Arc::clone(&store), keyring).unwrap();
        for (what, token, expected) in &presented {
            DISCLOSES.store(true, Ordering::Relaxed);
            let (errors, verdict) = present(&validator, token, true, true);
            println!("subject\t{what}, {held}\t{errors}");
            assert_eq!(verdict.err().map(|denial| denial.reason()), *expected, "{what}, {held}");
            // The marks reach the verdict, each by itself: what is not disclosed is reported. Where nothing was found,
            // the verdict is computed all the same, and decides nothing.
            DISCLOSES.store(false, Ordering::Relaxed);
            let marks = [("stored", true, false), ("computed", false, true)];
            for (mark, stored, computed) in marks.into_iter().filter(|_| *what != "an unknown locator") {
                let (errors, _) = present(&validator, token, stored, computed);
                println!("control\tundisclosed, {mark}: {what}, {held}\t{errors}");
            }
        }
    }
    controls();
}

/// What has to be reported, whatever the optimiser does.
fn controls() {
    let digest = [7u8; 32];
    let mut secret = digest;
    hide(&mut secret);
    let equal = || {
        for (one, other) in secret.iter().zip(&digest) {
            if black_box(*one) != black_box(*other) {
                return false;
            }
        }
        true
    };
    println!("control\ta loop that ends at the first difference\t{}", errors(|| _ = black_box(equal())));
    let table: [u8; 256] = std::array::from_fn(|n| n as u8);
    let read = || black_box(&table)[usize::from(black_box(secret[31]))];
    println!("control\tan address out of a digest\t{}", errors(|| _ = black_box(read())));
    let (one, other) = ([0u64; 4].map(black_box), [0u64; 4].map(black_box));
    let mut hidden = one;
    hide(&mut hidden);
    DISCLOSES.store(true, Ordering::Relaxed);
    let compared = errors(|| _ = black_box(disclosed(crypto::ct_eq_words(hidden, other))));
    println!("subject\tthe comparison by itself\t{compared}");
}

//! Another process rotates keys, this one validates.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use keyrota::{DenialReason, SqliteStore, Validator};

use crate::process::Process;
use crate::witness::{Witness, keyring};

/// Ends the second thread, also when the first one fails.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn while_another_process_rotates_each_new_token_validates_at_once_and_no_superseded_one() {
    let time = crate::seconds();
    // A key is rotated twenty times: what a rotation costs grows with the versions that the key has had.
    let number = 50 * usize::try_from(time.as_secs()).unwrap();
    let witness = Witness::new();
    let validator = Validator::open(SqliteStore::open(witness.path()).unwrap(), keyring()).unwrap();
    let (ids, tokens): (Vec<_>, Vec<_>) = (0..number).map(|n| witness.issue(&format!("key {n}"))).unzip();
    // The versions of each key, the newest last.
    let tokens: Vec<_> = tokens.into_iter().map(|token| Mutex::new(vec![token])).collect();
    let (stop, validations) = (AtomicBool::new(false), AtomicU64::new(0));
    let validate = |token: &str| {
        validations.fetch_add(1, Relaxed);
        validator.validate(token)
    };
    let mut other = Process::start();
    other.ask(&format!("keys {}", witness.path().display()));
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    other.tell(&format!("rotate {} {}", time.as_secs(), ids.join(" ")));
    let mut rotations = 0;
    std::thread::scope(|scope| {
        // A second thread keeps the validator busy: it catches up at the same time as the one that judges.
        scope.spawn(|| {
            for n in (0..number).cycle() {
                if stop.load(Relaxed) {
                    break;
                }
                let token = tokens[n].lock().unwrap().last().unwrap().clone();
                let verdict = validate(&token);
                let reason = verdict.err().map(|denial| denial.reason());
                assert!(matches!(reason, None | Some(DenialReason::Retired)), "{reason:?}");
            }
        });
        let _stopping = Stopping(&stop);
        while let Some(answer) = other.answer() {
            let mut words = answer.split(' ');
            if words.next() != Some("token") {
                break;
            }
            let key: usize = words.next().unwrap().parse().unwrap();
            let token = words.next().unwrap().to_owned();
            assert!(validate(&token).is_ok(), "a rotation that has returned: {:?}", validate(&token));
            let mut versions = tokens[key].lock().unwrap();
            versions.push(token);
            if let [.., superseded, _, _] = versions.as_slice() {
                let reason = validate(superseded).unwrap_err().reason();
                assert!(matches!(reason, DenialReason::Retired | DenialReason::Expired), "{reason:?}");
            }
            rotations += 1;
        }
    });
    println!(
        "{rotations} rotations in {time:?} by another process, {} validations",
        validations.load(Relaxed)
    );
    assert!(rotations > 50, "{rotations}");
    assert!(witness.keys.check(None).unwrap().is_sound());
}

//! The first use: what is learned of a token, what is kept of it, and what becomes of weak ones.

use keyrota::{
    DenialReason, DigestForm, EventKind, Import, ImportSource, KeyStatus, Strength, TokenList, WeakAction,
};

use crate::common::{HOUR, on_both_stores, owner};
use crate::hooked::delegating::{Call, Delegating, Hooks, Turn};
use crate::{csv, foreign, import, line, run};

const WEAK: &str = "acme-ci-password";

#[test]
fn the_first_use_tells_the_strength_and_what_has_not_been_seen_is_reported() {
    on_both_stores(|bed| {
        let tokens = [foreign(1), foreign(2), WEAK.to_owned()];
        let keys = import(&bed, &tokens.each_ref().map(String::as_str));
        let secret = |n: usize| bed.keys.get(keys[n]).unwrap().versions[0].imported.unwrap();
        let report = bed.keys.imported().unwrap();
        assert_eq!((report.remaining, report.weak, report.over), (3, 0, 0));
        assert_eq!(report.unseen, [(DigestForm::Sha256, 3)].into());
        assert!((0..3).all(|n| secret(n).strength == Strength::Unknown && !secret(n).seen));
        for token in [&tokens[0], &tokens[2], &tokens[0]] {
            assert!(bed.is_granted(token));
        }
        let before = bed.seq();
        bed.validator.flush().unwrap();
        assert_eq!(bed.story(before), ["version_upgraded v1 new=v1"; 2]);
        let subjects: Vec<_> = bed.entries(before).iter().map(|entry| entry.event.subject.clone()).collect();
        assert!(
            subjects.contains(&Some("weak".to_owned())) && subjects.contains(&Some("sufficient".to_owned()))
        );
        assert_eq!(
            [0, 1, 2].map(|n| secret(n).strength),
            [Strength::Sufficient, Strength::Unknown, Strength::Weak]
        );
        assert_eq!([0, 1, 2].map(|n| secret(n).seen), [true, false, true]);
        let report = bed.keys.imported().unwrap();
        assert_eq!((report.remaining, report.weak), (3, 1));
        assert_eq!(report.unseen, [(DigestForm::Sha256, 1)].into());
        let unseen = bed.keys.imported_versions(None, 10).unwrap();
        let unseen: Vec<_> = unseen.iter().filter(|it| !it.secret.seen).map(|it| it.key).collect();
        assert_eq!(unseen, [keys[1]]);
        // They go on validating, here and elsewhere, and nothing is written any more.
        let other = bed.other_validator();
        for token in &tokens {
            assert!(bed.is_granted(token) && other.validate(token).is_ok());
        }
        let before = bed.seq();
        bed.clock.advance(HOUR).unwrap();
        bed.is_granted(&tokens[0]);
        bed.validator.flush().unwrap();
        assert_eq!(bed.story(before), ["version_upgraded v1 new=v1"], "the one that was seen since");
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn a_flag_is_all_that_becomes_of_a_weak_token_unless_more_is_asked() {
    on_both_stores(|bed| {
        let key = import(&bed, &[WEAK])[0];
        assert!(bed.is_granted(WEAK));
        bed.validator.flush().unwrap();
        bed.tick();
        assert!(bed.is_granted(WEAK));
        let info = bed.keys.get(key).unwrap();
        assert_eq!((info.status, info.rotates, info.next_rotation_at), (KeyStatus::Active, false, None));
    });
}

#[test]
fn a_weak_token_that_is_to_be_refused_is_revoked_once_it_shows() {
    on_both_stores(|bed| {
        let strong = foreign(1);
        let mut keys = Vec::new();
        run(&bed.keys, Import::from(csv(&[line(WEAK), line(&strong)])).weak(WeakAction::Refuse), &mut keys);
        assert!(bed.is_granted(WEAK) && bed.is_granted(&strong), "of a digest nobody can tell");
        bed.validator.flush().unwrap();
        assert_eq!(bed.denial(WEAK), Some(DenialReason::Revoked));
        assert!(bed.is_granted(&strong));
        // A token that is there is refused at once.
        let tokens = ImportSource::tokens("another-weak-one", TokenList::Any);
        let refusing = Import::from(tokens).owner(owner("ada")).weak(WeakAction::Refuse).skip_bad_lines();
        assert_eq!(bed.root().import(refusing).unwrap().skipped, 1);
        assert_eq!(bed.denial("another-weak-one"), Some(DenialReason::Unknown));
    });
}

#[test]
fn a_weak_token_that_is_to_rotate_does_so_at_the_next_tick() {
    on_both_stores(|bed| {
        let strong = foreign(1);
        let mut keys = Vec::new();
        run(&bed.keys, Import::from(csv(&[line(WEAK), line(&strong)])).weak(WeakAction::Rotate), &mut keys);
        assert!(bed.is_granted(WEAK) && bed.is_granted(&strong));
        bed.validator.flush().unwrap();
        bed.tick();
        assert!(bed.validator.validate(WEAK).unwrap().successor().is_some(), "one waits to be claimed");
        assert!(bed.validator.validate(&strong).unwrap().successor().is_none());
        assert!(!bed.keys.get(keys[1]).unwrap().rotates);
        // A token that is there shows it at once.
        let tokens = ImportSource::tokens("another-weak-one", TokenList::Any);
        let rotating = Import::from(tokens).owner(owner("ada")).weak(WeakAction::Rotate);
        assert_eq!(bed.root().import(rotating).unwrap().weak, 1);
        bed.tick();
        assert!(bed.validator.validate("another-weak-one").unwrap().successor().is_some());
    });
}

#[test]
fn a_secret_is_imported_once_whatever_has_become_of_it() {
    on_both_stores(|bed| {
        let token = foreign(1);
        let key = import(&bed, &[&token])[0];
        let again = || {
            let skipping = Import::from(csv(&[line(&token)])).skip_bad_lines();
            let digest = bed.root().import(skipping).unwrap();
            let plain = Import::from(ImportSource::tokens(&token, TokenList::Any)).owner(owner("eve"));
            let plain = bed.root().import(plain.skip_bad_lines()).unwrap();
            assert_eq!((digest.imported, plain.imported), (0, 0));
            let told = digest.problems[0].outcome.clone();
            assert_eq!(told, keyrota::LineOutcome::Skipped(keyrota::LineProblem::Known(key)));
        };
        again();
        assert!(bed.is_granted(&token));
        bed.validator.flush().unwrap();
        again();
        bed.root().revoke(key).unwrap();
        again();
        assert_eq!(bed.denial(&token), Some(DenialReason::Revoked), "nothing revives it");
    });
}

#[cfg(feature = "sqlite")]
#[test]
fn the_digest_of_the_other_system_is_nowhere_in_the_files() {
    let bed = crate::common::Bed::at(crate::common::Place::sqlite(), crate::common::at(crate::common::START));
    let tokens = [foreign(1), foreign(2), WEAK.to_owned()];
    import(&bed, &tokens.each_ref().map(String::as_str));
    let plain = "plain-token-from-a-variable-0815";
    run(
        &bed.keys,
        Import::from(ImportSource::tokens(plain, TokenList::Any)).owner(owner("ada")),
        &mut Vec::new(),
    );
    let folder = bed.place.file().unwrap().parent().unwrap().to_owned();
    let search = |when: &str| {
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            for token in tokens.iter().map(String::as_str).chain([plain]) {
                let digest = crate::sha256(token.as_bytes());
                let hex = crate::kept(DigestForm::Sha256, token);
                for needle in [token.as_bytes(), &digest, hex.as_bytes(), &hex.as_bytes()[..16]] {
                    let found = bytes.windows(needle.len()).any(|window| window == needle);
                    assert!(!found, "{when}: {} holds something of {token}", path.display());
                }
            }
        }
    };
    search("imported");
    tokens.iter().for_each(|token| assert!(bed.is_granted(token)));
    bed.validator.flush().unwrap();
    search("upgraded");
    // The search finds what is there.
    let bytes = std::fs::read(folder.join("keys.db-wal")).unwrap();
    assert!(bytes.windows(14).any(|window| window == b"imported_token"));
}

#[test]
fn an_upgrade_that_cannot_be_written_is_written_later() {
    let store = crate::hooked::Hooked::new();
    let keys = keyrota::KeyManager::open(std::sync::Arc::clone(&store), crate::common::keyring()).unwrap();
    let token = foreign(1);
    run(&keys, Import::from(csv(&[line(&token)])), &mut Vec::new());
    let validator = keys.validator().unwrap();
    assert!(validator.validate(&token).is_ok());
    store.fate(&[crate::hooked::Fate::NotWritten]);
    assert!(validator.flush().is_err());
    assert_eq!(keys.imported().unwrap().unseen.len(), 1);
    validator.flush().unwrap();
    assert!(keys.imported().unwrap().unseen.is_empty());
    let filter = keyrota::AuditFilter::all().kind(EventKind::VersionUpgraded);
    assert_eq!(keys.audit(&filter, 10).unwrap().len(), 1);
}

/// Another process, which changes one key whenever somebody is about to commit.
#[derive(Default)]
struct Restless {
    keys: std::sync::Mutex<Option<(keyrota::KeyManager, keyrota::KeyId)>>,
    acts: std::sync::atomic::AtomicU64,
}

impl Hooks for Restless {
    fn before(&self, _: &dyn keyrota::KeyStore, call: Call<'_>) -> Turn {
        if let (Call::Commit(_), Some((keys, key))) = (call, &*self.keys.lock().unwrap()) {
            let n = self.acts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let edit = keyrota::EditKey::of(*key).name(format!("name {n}")).unwrap();
            keys.by(keyrota::Actor::operator("root")).edit(edit).unwrap();
        }
        Turn::Go
    }
}

#[test]
fn a_key_that_others_keep_changing_keeps_no_other_upgrade_waiting() {
    let inner = keyrota::MemoryStore::new();
    let store = std::sync::Arc::new(Delegating::over(inner.clone(), Restless::default()));
    let keys = keyrota::KeyManager::open(std::sync::Arc::clone(&store), crate::common::keyring()).unwrap();
    let tokens: Vec<_> = (0..9).map(foreign).collect();
    let lines: Vec<_> = tokens.iter().map(|token| line(token)).collect();
    let mut imported = Vec::new();
    run(&keys, Import::from(csv(&lines)), &mut imported);
    let validator = keys.validator().unwrap();
    assert!(tokens.iter().all(|token| validator.validate(token).is_ok()));
    let other = keyrota::KeyManager::open(inner, crate::common::keyring()).unwrap();
    *store.keys.lock().unwrap() = Some((other, imported[4]));
    validator.flush().unwrap();
    let unseen = || {
        let versions = keys.imported_versions(None, 100).unwrap();
        versions.iter().filter(|it| !it.secret.seen).map(|it| it.key).collect::<Vec<_>>()
    };
    assert_eq!(unseen(), [imported[4]]);
    // It validates all the same, is reported as not seen, and its next use offers it again.
    assert_eq!(keys.imported().unwrap().unseen, [(DigestForm::Sha256, 1)].into());
    *store.keys.lock().unwrap() = None;
    assert!(validator.validate(&tokens[4]).is_ok());
    validator.flush().unwrap();
    assert!(unseen().is_empty());
    assert!(keys.check(None).unwrap().is_sound());
}

/// More tokens than there is room for what is learned of them.
#[test]
fn an_upgrade_that_finds_no_room_is_dropped_and_the_request_is_granted() {
    const ROOM: usize = 4_096;
    let keys = keyrota::KeyManager::open(keyrota::MemoryStore::new(), crate::common::keyring()).unwrap();
    let tokens: Vec<_> = (0..ROOM + 54).map(foreign).collect();
    let lines: Vec<_> = tokens.iter().map(|token| line(token)).collect();
    run(&keys, Import::from(csv(&lines)).raise_limits(), &mut Vec::new());
    let validator = keys.validator().unwrap();
    let unseen = || keys.imported().unwrap().unseen.get(&DigestForm::Sha256).copied();
    assert!(tokens.iter().all(|token| validator.validate(token).is_ok()));
    validator.flush().unwrap();
    assert_eq!(unseen(), Some(54));
    assert!(tokens.iter().all(|token| validator.validate(token).is_ok()));
    validator.flush().unwrap();
    assert_eq!(unseen(), None, "what found no room is learned with a later use");
}

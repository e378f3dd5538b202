//! The file sink: what a reader sees, and what a late or repeated put does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use keyrota::{
    Actor, Delivery, Handover, KeyId, KeyManager, ManualClock, RotationPolicy, SecretSink, SinkError,
    Validator, VersionNo,
};

use crate::secret_sink_file::SecretFiles;
use crate::support::{DAY, START, at, builder, new_key};

/// A manager that rotates one key by itself into this sink.
pub(crate) fn bed(sink: impl SecretSink) -> (KeyManager, Validator, ManualClock, KeyId) {
    let clock = ManualClock::new(at(START));
    let keys = builder(&clock).sink(sink).open().unwrap();
    let policy = RotationPolicy::builder().delivery(Delivery::Sink).build().unwrap();
    let new = new_key("worker").policy(policy).auto_rotation(true);
    let key = keys.by(Actor::operator("root")).issue(new).unwrap().key;
    let validator = keys.validator().unwrap();
    (keys, validator, clock, key)
}

/// Lets days pass, each with its ticks.
pub(crate) fn pass(keys: &KeyManager, clock: &ManualClock, days: u32) {
    for _ in 0..days {
        clock.advance(DAY).unwrap();
        while keys.tick().unwrap().more {}
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Keeps what it is given, to be given again to another sink later.
#[derive(Default)]
struct Kept(std::sync::Mutex<Vec<(VersionNo, String)>>);

impl SecretSink for Kept {
    fn put(&self, handover: &Handover<'_>) -> Result<(), SinkError> {
        self.0.lock().unwrap().push((handover.version, handover.secret.expose().to_owned()));
        Ok(())
    }
}

/// A sink that does the same as another one and then seems to fail, so that it is asked again.
struct Forgetful<S>(S);

impl<S: SecretSink> SecretSink for Forgetful<S> {
    fn put(&self, handover: &Handover<'_>) -> Result<(), SinkError> {
        self.0.put(handover)?;
        if handover.attempt < 3 { Err(SinkError::Unavailable) } else { Ok(()) }
    }
}

#[test]
fn the_service_always_has_a_token_that_validates() {
    let folder = tempfile::tempdir().unwrap();
    let files = Arc::new(SecretFiles::new(folder.path().join("secrets")).unwrap());
    let (keys, validator, clock, key) = bed(Forgetful(files.clone()));
    pass(&keys, &clock, 86);
    let token = fs::read_to_string(files.path(key)).unwrap();
    assert_eq!(validator.validate(&token).unwrap().version(), VersionNo::new(2));
    assert_eq!(keys.rotations(key).unwrap()[0].attempts, 3, "put again each time");
    pass(&keys, &clock, 83);
    let token = fs::read_to_string(files.path(key)).unwrap();
    assert_eq!(validator.validate(&token).unwrap().version(), VersionNo::new(3));
    let expected = [format!(".{key}.lock"), format!(".{key}.version"), key.to_string()];
    assert_eq!(names(&folder.path().join("secrets")), BTreeSet::from(expected), "nothing is left beside it");
}

#[cfg(unix)]
#[test]
fn only_its_owner_reads_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let files = Arc::new(SecretFiles::new(folder.path().join("a/secrets")).unwrap());
    let (keys, _, clock, key) = bed(files.clone());
    // What a crash has left, and what somebody has made readable for all.
    let beside = files.path(key).with_file_name(format!(".{key}.new"));
    fs::write(&beside, "half").unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o666)).unwrap();
    fs::write(files.path(key), "old").unwrap();
    fs::set_permissions(files.path(key), fs::Permissions::from_mode(0o644)).unwrap();
    pass(&keys, &clock, 84);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&files.path(key)), mode(files.path(key).parent().unwrap())), (0o600, 0o700));
    assert!(fs::read_to_string(files.path(key)).unwrap().starts_with("key_"));
    assert!(!beside.exists());
}

#[test]
fn a_late_put_of_an_older_version_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = SecretFiles::new(folder.path()).unwrap();
    // A sink that is given two versions in the wrong order, as by a process that was asleep.
    struct Late(Arc<SecretFiles>, Arc<Kept>);
    impl SecretSink for Late {
        fn put(&self, handover: &Handover<'_>) -> Result<(), SinkError> {
            self.1.put(handover)?;
            self.0.put(handover)
        }
    }
    let (files, kept) = (Arc::new(files), Arc::new(Kept::default()));
    let (keys, _, clock, key) = bed(Late(files.clone(), kept.clone()));
    pass(&keys, &clock, 84 + 83);
    let kept = kept.0.lock().unwrap().clone();
    assert_eq!(kept.iter().map(|(version, _)| version.get()).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(fs::read_to_string(files.path(key)).unwrap(), kept[1].1);
    files.put_file(key, kept[0].0, &kept[0].1).unwrap();
    assert_eq!(fs::read_to_string(files.path(key)).unwrap(), kept[1].1, "the newer one stays");
    files.put_file(key, kept[1].0, &kept[1].1).unwrap();
    assert_eq!(fs::read_to_string(files.path(key)).unwrap(), kept[1].1);
}

#[test]
fn a_reader_sees_the_old_token_or_the_new_one_whole() {
    let folder = tempfile::tempdir().unwrap();
    let files = Arc::new(SecretFiles::new(folder.path()).unwrap());
    let (_, _, _, key) = bed(files.clone());
    let token = |n: u32| format!("{n:010}").repeat(1_000);
    files.put_file(key, VersionNo::new(1), &token(1)).unwrap();
    let (path, is_over) = (files.path(key), Arc::new(AtomicBool::new(false)));
    let reader = thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let mut reads = 0;
            while !is_over.load(Ordering::SeqCst) {
                let text = fs::read_to_string(&path).unwrap();
                assert_eq!(text, text[..10].repeat(1_000), "torn");
                reads += 1;
            }
            reads
        }
    });
    thread::scope(|scope| {
        for writer in 0..2 {
            let (files, token) = (&files, &token);
            scope.spawn(move || {
                for n in 0..100 {
                    let version = 2 + 2 * n + writer;
                    files.put_file(key, VersionNo::new(version), &token(version)).unwrap();
                }
            });
        }
    });
    is_over.store(true, Ordering::SeqCst);
    assert!(reader.join().unwrap() > 0);
    assert_eq!(fs::read_to_string(files.path(key)).unwrap(), token(201), "the newest, whoever was last");
}

#[test]
fn a_folder_that_is_gone_is_tried_again_and_the_old_token_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("secrets");
    let files = Arc::new(SecretFiles::new(&place).unwrap());
    let (keys, _, clock, key) = bed(files.clone());
    fs::rename(&place, folder.path().join("away")).unwrap();
    pass(&keys, &clock, 84);
    let rotation = keys.rotations(key).unwrap().remove(0);
    assert!(rotation.attempts >= 1 && rotation.delivered_at.is_none(), "{rotation:?}");
    fs::rename(folder.path().join("away"), &place).unwrap();
    pass(&keys, &clock, 1);
    assert!(keys.rotations(key).unwrap()[0].delivered_at.is_some());
    assert!(files.path(key).exists());
}

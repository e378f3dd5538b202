//! A disk that is full: whoever writes is told so, existing keys go on validating, what was to be revoked is denied in
//! this process, and everything works again once there is room.

use std::path::Path;

use keyrota::{DenialReason, EventKind, ManageError, ManualClock, NewKey, StoreErrorKind};

use crate::calls::{self, Fate, File, Plan, sort};
use crate::stage::{
    Template, answers, assert_sound, assert_whole, child, copy, folder, manager, owner, root, say, start,
    thinned, try_manager,
};
use crate::write_errors::{DEEDS, Deed, Site, told};

/// Does each deed on a disk that is full at each write, torn or not, once or for ever.
fn fill_everywhere(template: &Template, step: u64) {
    let mut seen = Vec::new();
    for deed in DEEDS {
        let dry = Site::new(template);
        let (done, calls) = calls::count(sort::WRITE, || dry.carry_out(deed));
        done.unwrap();
        println!("{deed:?}: {calls} writes to fail at");
        for at in thinned(calls.saturating_sub(2), step) {
            for fate in [Fate::Refused(libc::ENOSPC), Fate::Torn(libc::ENOSPC)] {
                for for_ever in [false, true] {
                    fill(
                        template,
                        deed,
                        Plan { sorts: sort::WRITE, file: None, at, for_ever, fate },
                        &mut seen,
                    );
                }
            }
        }
    }
    assert_eq!(seen, [("not written", StoreErrorKind::Full)]);
}

fn fill(template: &Template, deed: Deed, plan: Plan, seen: &mut Vec<(&'static str, StoreErrorKind)>) {
    let context = format!("{deed:?} under {plan:?}");
    let site = Site::new(template);
    let before = site.keys.audit_head().unwrap();
    let first = calls::under(plan, || {
        let first = site.carry_out(deed);
        assert_eq!(site.denial(&site.bystander), None, "{context}");
        if deed == Deed::Revoke {
            assert!(site.denial(&site.token).is_some(), "{context}: {first:?}");
        }
        first
    });
    if let Err(error) = &first {
        if !seen.contains(&told(error)) {
            seen.push(told(error));
        }
        assert_eq!(told(error).1, StoreErrorKind::Full, "{context}: {error}");
        // Nothing was written: neither for this process, nor for one that starts after a crash of this one.
        if deed != Deed::Tick {
            let copied = copy(site.folder.path());
            let successor = manager(copied.path(), &site.clock);
            assert_eq!(site.keys.audit_head().unwrap(), before, "{context}");
            assert_eq!(successor.audit_head().unwrap(), before, "{context}, after a crash");
        }
    }
    let second = site.carry_out(deed).unwrap_or_else(|error| panic!("{context}: {error}"));
    if let Ok(first) = first {
        assert_eq!(first, second, "{context}");
    }
    site.assert_done(deed, &second, &context);
    site.assert_works(&context);
}

#[test]
fn a_disk_that_is_full_at_any_write_is_full_and_the_same_process_works_on_once_there_is_room() {
    fill_everywhere(&Template::Empty, 4);
}

#[test]
fn so_it_is_while_the_log_is_moved_into_the_file_and_begun_anew() {
    fill_everywhere(&Template::Crashed, 4);
}

/// Writes until it cannot; then tells what it may and may not; then gets room, and tells again.
fn fill_and_recover(folder: &Path, is_full: StoreErrorKind, make_room: impl FnOnce()) {
    let site = Site::in_folder(folder);
    let error = loop {
        match site.keys.by(root()).issue(NewKey::new(owner("crowd"), "one").unwrap()) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(told(&error).1, is_full, "{error}");
    assert_eq!(site.denial(&site.bystander), None);
    assert_eq!(site.denial(&site.token), None);
    let mut revoked = false;
    for _ in 0..3 {
        match site.carry_out(Deed::Revoke) {
            Ok(_) => revoked = true,
            Err(error) => assert_eq!(told(&error).1, is_full, "{error}"),
        }
        assert_eq!(site.denial(&site.token), Some(DenialReason::Revoked), "denied all the same");
        assert_eq!(site.denial(&site.bystander), None, "nobody else is");
    }
    say(&format!("full {error:?}, revoked {revoked}"));
    make_room();
    site.carry_out(Deed::Revoke).unwrap();
    assert_eq!(site.denial(&site.token), Some(DenialReason::Revoked));
    assert_eq!(site.denial(&site.bystander), None);
    assert_eq!(site.count(EventKind::KeyRevoked), 1);
    site.assert_works("with room");
    assert_sound(&site.keys, "with room");
    drop(site);
    let again = manager(folder, &ManualClock::new(start()));
    assert_sound(&again, "opened again");
    again.close().unwrap();
    assert_whole(folder, "in the end");
    say("recovered");
}

fn assert_recovers(orders: &str) -> Vec<String> {
    let output = child(orders);
    let answers = answers(&output);
    println!("{answers:?}");
    assert!(output.status.success(), "{answers:?}: {}", String::from_utf8_lossy(&output.stderr));
    answers
}

#[test]
fn files_that_may_not_grow_are_an_error_of_writing_and_the_same_process_works_on_once_they_may() {
    let folder = folder();
    let answers = assert_recovers(&format!("limited {}", folder.path().display()));
    assert_eq!(answers.last().map(String::as_str), Some("recovered"));
}

#[test]
fn a_small_file_system_that_is_full_denies_what_was_to_be_revoked_and_recovers() {
    let folder = folder();
    let answers = assert_recovers(&format!("small {}", folder.path().display()));
    if let Some(reason) = answers.iter().find(|answer| answer.starts_with("skipped")) {
        println!("{reason}");
        return;
    }
    assert_eq!(answers.last().map(String::as_str), Some("recovered"));
}

/// What a child does: it may not make any file longer than this.
pub(crate) fn live_with_limited_files(folder: &Path) {
    calls::limit_files(600_000);
    // The system knows such a file for too large, not for a disk that is full.
    fill_and_recover(folder, StoreErrorKind::Io, || calls::limit_files(u64::MAX));
}

/// What a child does: it has a file system of its own, which nobody else sees and which ends with it.
pub(crate) fn live_on_a_small_disk(folder: &Path) {
    if let Err(error) = calls::mount_memory(folder, "size=1024k") {
        say(&format!("skipped: no file system can be mounted here: {error}"));
        return;
    }
    let ballast = folder.join("ballast");
    std::fs::write(&ballast, vec![1; 300_000]).unwrap();
    fill_and_recover(folder, StoreErrorKind::Full, || std::fs::remove_file(&ballast).unwrap());
}

#[test]
fn a_store_that_a_crash_has_left_opens_on_a_full_disk() {
    let bed = Template::Crashed.copy();
    let full = |file| Plan {
        sorts: sort::WRITE,
        file: Some(file),
        at: 0,
        for_ever: true,
        fate: Fate::Refused(libc::ENOSPC),
    };
    let clock = ManualClock::new(start());
    let keys = calls::under(full(File::Database), || manager(bed.path(), &clock));
    assert_sound(&keys, "on a full disk");
    let log = Plan { sorts: sort::SYNC, fate: Fate::Refused(libc::EIO), ..full(File::Log) };
    let bed = Template::Crashed.copy();
    let refused = calls::under(log, || try_manager(bed.path(), &clock).map(drop));
    assert!(refused.is_err(), "but not where nobody can tell what is durable");
    assert_sound(&manager(bed.path(), &clock), "afterwards");
}

/// The error names what the operator can do.
#[test]
fn what_is_told_of_a_full_disk_says_to_make_room() {
    let site = Site::new(&Template::Empty);
    let plan =
        Plan { sorts: sort::WRITE, file: None, at: 0, for_ever: true, fate: Fate::Refused(libc::ENOSPC) };
    let error = calls::under(plan, || site.carry_out(Deed::Issue).unwrap_err());
    assert!(
        matches!(&error, ManageError::NotWritten(error) if error.kind() == StoreErrorKind::Full),
        "{error}"
    );
    assert!(error.to_string().contains("make room"), "{error}");
}

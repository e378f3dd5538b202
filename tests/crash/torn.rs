//! A log whose tail is cut or changed: what opens is the state after some of the commits, and an anchor kept outside
//! tells that some are missing.

use keyrota::{AuditFilter, AuditHead, AuditVerdict, KeyManager, ManualClock, NewKey};
use tempfile::TempDir;

use crate::stage::{
    HOUR, assert_sound, assert_whole, database, files, folder, is_thorough, log, manager, owner, root, start,
};

/// What a crashed process has left, and what its log said after each commit.
struct Left {
    file: Vec<u8>,
    tail: Vec<u8>,
    /// How long the write-ahead log was after each act, and the head of the audit log then.
    heads: Vec<(usize, AuditHead)>,
}

fn left() -> Left {
    let bed = folder();
    let keys = manager(bed.path(), &ManualClock::new(start()));
    let mut heads = Vec::new();
    let mut note = |keys: &KeyManager| {
        let length = std::fs::metadata(log(bed.path())).unwrap().len().try_into().unwrap();
        heads.push((length, keys.audit_head().unwrap()));
    };
    note(&keys);
    for name in ["ada", "bob", "cyd"] {
        let key = keys.by(root()).issue(NewKey::new(owner(name), "ci").unwrap()).unwrap().key;
        note(&keys);
        keys.by(root()).rotate(key).unwrap();
        note(&keys);
        keys.by(root()).revoke(key).unwrap();
        note(&keys);
    }
    let (file, tail) = files(bed.path());
    Left { file, tail, heads }
}

/// Opens the database with this log, and returns how many of the acts are there.
fn open(left: &Left, tail: &[u8], context: &str) -> Option<usize> {
    let bed: TempDir = folder();
    std::fs::write(database(bed.path()), &left.file).unwrap();
    std::fs::write(log(bed.path()), tail).unwrap();
    // Another time than that of the founding: a store that is founded again is told from the first one.
    let keys = manager(bed.path(), &ManualClock::new(start().plus(HOUR).unwrap()));
    assert_sound(&keys, context);
    let found = keys.audit_head().unwrap();
    let number = left.heads.iter().position(|(_, head)| *head == found);
    let last = left.heads.last().unwrap().1;
    match number {
        // Not even the founding was left, and the store was founded again.
        None => {
            let entries = keys.audit(&AuditFilter::all(), 100).unwrap();
            assert_eq!(entries.len() as u64, left.heads[0].1.seq, "{context}: a store of its own");
        }
        Some(number) => {
            for (_, head) in &left.heads[..=number] {
                let verdict = keys.verify_audit_against(head).unwrap();
                assert!(verdict.is_sound(), "{context}: {verdict:?}");
            }
        }
    }
    let is_all = number == Some(left.heads.len() - 1);
    let verdict = keys.verify_audit_against(&last).unwrap();
    assert_eq!(verdict.is_sound(), is_all, "{context}: {verdict:?}");
    if !is_all {
        let found = keys.audit_head().unwrap().seq;
        assert_eq!(verdict, AuditVerdict::NotAnchored { last: found, anchor: last.seq }, "{context}");
        assert!(!keys.check(Some(&last)).unwrap().is_sound(), "{context}");
    }
    keys.by(root()).issue(NewKey::new(owner("new"), "ci").unwrap()).unwrap();
    assert_sound(&keys, context);
    keys.close().unwrap();
    assert_whole(bed.path(), context);
    number
}

#[test]
fn a_log_that_is_cut_anywhere_holds_the_commits_before_the_cut_and_an_anchor_tells() {
    let left = left();
    let step = if is_thorough() { 61 } else { 1_237 };
    let mut found = Vec::new();
    let ends = left.heads.iter().flat_map(|(length, _)| [length - 1, *length, length + 1]);
    let mut cuts: Vec<_> = (0..left.tail.len()).step_by(step).chain(ends).collect();
    cuts.retain(|cut| *cut <= left.tail.len());
    cuts.sort_unstable();
    for cut in cuts {
        let number = open(&left, &left.tail[..cut], &format!("cut at {cut}"));
        let whole = left.heads.iter().rposition(|(length, _)| *length <= cut);
        assert_eq!(number, whole, "cut at {cut}: each commit that is whole is there, and no other");
        found.push(number);
    }
    found.dedup();
    assert_eq!(found.len(), left.heads.len() + 1, "each moment was found: {found:?}");
}

#[test]
fn a_log_with_a_changed_byte_holds_the_commits_before_it() {
    let left = left();
    let step = if is_thorough() { 97 } else { 2_111 };
    // The first commits make the tables; below them there is nothing to tell apart.
    for place in (left.heads[0].0..left.tail.len()).step_by(step) {
        let mut tail = left.tail.clone();
        tail[place] ^= 0x40;
        let number = open(&left, &tail, &format!("changed at {place}"));
        let before = left.heads.iter().rposition(|(length, _)| *length <= place);
        assert_eq!(number, before, "changed at {place}");
    }
}

//! What readings promise: bytes as they were sealed, own and foreign commits at once, stamps.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use crate::actor::{Actor, Context};
use crate::event::{Event, EventKind};
use crate::id::{KeyId, OwnerId, VersionNo};
use crate::store::conformance::StoreBed;
use crate::store::conformance::lab::{
    Lab, Snapshot, audit, draft, event, get, indexed, scan, settle, some, time,
};
use crate::store::{
    AuditQuery, Changeset, Draft, Revision, RowFilter, RowIndex, RowKind, Tail, UsageQuery, Write,
};
use crate::time::Timestamp;

/// Texts that a store could stumble over, each visibly or invisibly different from the others.
fn odd_texts() -> Vec<String> {
    let long = ["x".repeat(200), "é".repeat(100)];
    let odd = [
        "'",
        "\"",
        "`",
        "''",
        "\\",
        "%",
        "_",
        "*",
        "?",
        "a",
        "A",
        "a ",
        " a",
        "a\t",
        "0",
        "00",
        "0.0",
        "1e3",
        "NULL",
        "null",
        "é",
        "e\u{301}",
        "ß",
        "ss",
        "İ",
        "日本",
        "🔑",
        "\u{10FFFF}",
        "\u{202E}",
        "a/b",
        "../a",
        "a:b",
        "-- a",
        "'); DROP TABLE row; --",
        "{\"a\":1}",
        "a\nb",
        "%s",
        "$1",
        ":1",
        "?1",
    ];
    odd.into_iter().map(str::to_owned).chain(long).collect()
}

/// Commits, and checks that the store shows exactly what the changeset's seal on its head gives.
fn commit_and_compare(lab: &Lab, changes: &Changeset) {
    let head = lab.store.head().unwrap();
    let sealed = changes.seal(head.as_ref(), Tail::default()).unwrap();
    let before = head.map_or(0, |_| audit(&*lab.store, &AuditQuery::default()).len()) as u64;
    assert_eq!(lab.store.commit(changes).unwrap(), sealed.head.revision, "a commit returns its revision");
    assert_eq!(
        lab.store.head().unwrap().as_ref(),
        Some(&sealed.head),
        "the head must come back as it was sealed"
    );
    let entries = audit(&*lab.store, &AuditQuery { after: before, ..AuditQuery::default() });
    assert_eq!(entries, sealed.audit, "audit entries must come back as they were sealed");
    for write in &sealed.writes {
        let (Write::Insert(row) | Write::Replace { row, .. }) = write else { continue };
        let read = lab.get(row.kind, &row.id);
        assert_eq!(read.as_ref(), Some(row), "a row must come back as it was sealed");
        assert_eq!(row.as_ref().verify(&lab.ring), Ok(()), "the MAC of what was read must be right");
        if let Some(unique) = &row.index.unique {
            assert_eq!(
                lab.find(row.kind, unique).as_ref(),
                Some(row),
                "a row found must be as it was sealed"
            );
        }
    }
    let all = RowKind::ALL.iter().flat_map(|&kind| scan(&*lab.store, kind, RowFilter::All { after: None }));
    for row in all {
        assert_eq!(lab.get(row.kind, &row.id), Some(row), "a scan and a get must show the same row");
    }
}

/// Each row comes back with the kind, id, revision, index fields, body and MAC that its seal gave it.
pub fn rows_come_back_as_they_were_sealed(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let full = |n: usize, text: &str| RowIndex {
        parent: Some(format!("parent {text}")),
        owner: Some(format!("owner {text}")),
        due_at: Some([Timestamp::MIN, time(1_700_000_000_000_001), Timestamp::MAX][n % 3]),
        ends_at: Some([Timestamp::MAX, Timestamp::MIN, time(1)][n % 3]),
        state: Some(format!("state {text}")),
        unique: Some(format!("unique {text}")),
    };
    let drafts = |kind: RowKind, ending: &str| -> Vec<Draft> {
        let odd = odd_texts().into_iter().enumerate().map(|(n, text)| {
            let body =
                format!("{{\"text\":\"日本 {} \u{7f} {ending}\"}}", text.escape_default()).into_bytes();
            Draft { kind, index: full(n, &text), body, id: text }
        });
        let large = Draft { body: vec![b'x'; 100_000], ..draft(kind, &format!("large {kind}")) };
        odd.chain([large]).collect()
    };
    commit_and_compare(
        &lab,
        &lab.changes(|changes| {
            RowKind::ALL
                .into_iter()
                .flat_map(|kind| drafts(kind, "old"))
                .for_each(|draft| changes.insert(draft));
        }),
    );
    let old = lab.revision();
    commit_and_compare(
        &lab,
        &lab.changes(|changes| {
            drafts(RowKind::Version, "new").into_iter().for_each(|draft| changes.replace(draft, old));
        }),
    );
}

/// The head and each entry of the audit log come back with the fields, bytes and MACs that the seal gave them.
pub fn entries_and_the_head_come_back_as_they_were_sealed(bed: &dyn StoreBed) {
    let lab = Lab::open(bed);
    let mut founding = lab.founding();
    founding.record(event(1_000_000));
    commit_and_compare(&lab, &founding);
    for (n, text) in odd_texts().into_iter().enumerate() {
        commit_and_compare(
            &lab,
            &lab.changes(|changes| {
                let context =
                    Context { actor: Actor::operator(&text), reason: Some(text.clone()), request: None };
                let mut full = Event::new(time(n as i64), EventKind::VersionEnded, &context);
                full.key = Some(KeyId::new(time(n as i64), [n as u8; 10]));
                full.owner = OwnerId::new(&text).ok();
                full.version = Some(VersionNo::new(u32::MAX - n as u32));
                changes.record(full);
                changes.record(Event::new(Timestamp::MAX, EventKind::PolicySet, &context));
                changes.advance_clock(time(n as i64 * 1_000_000));
                changes.raise_floor(Revision(n as u64 / 2));
            }),
        );
    }
}

/// A field that is absent and one that is empty come back as what they are, and are told apart by scans.
pub fn an_absent_field_and_an_empty_one_stay_apart(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    commit_and_compare(
        &lab,
        &lab.changes(|changes| {
            changes.insert(draft(RowKind::Version, "absent"));
            changes.insert(indexed(RowKind::Version, "empty", |index| {
                *index = RowIndex {
                    parent: some(""),
                    owner: some(""),
                    state: some(""),
                    unique: some(""),
                    ..RowIndex::default()
                };
            }));
        }),
    );
    for filter in [RowFilter::Parent(""), RowFilter::Owner { owner: "", after: None }] {
        assert_eq!(
            lab.ids(RowKind::Version, filter),
            ["empty"],
            "an absent field is not an empty one: {filter:?}"
        );
    }
    assert_eq!(
        lab.find(RowKind::Version, "").map(|row| row.id),
        some("empty"),
        "an empty unique value is a value"
    );
}

/// Ids, owners and unique values that differ only in case, white space, normal form or quoting are different.
pub fn texts_that_look_alike_stay_apart(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let texts: BTreeSet<_> = odd_texts().into_iter().collect();
    lab.commit(|changes| {
        for text in &texts {
            changes.insert(indexed(RowKind::Version, text, |index| {
                *index = RowIndex {
                    parent: some(text),
                    owner: some(text),
                    unique: some(text),
                    ..RowIndex::default()
                };
            }));
        }
    });
    let all: Vec<_> = texts.iter().cloned().collect();
    assert_eq!(
        lab.ids(RowKind::Version, RowFilter::All { after: None }),
        all,
        "ids go in the order of their bytes"
    );
    for text in &texts {
        assert_eq!(lab.get(RowKind::Version, text).map(|row| row.id).as_ref(), Some(text), "by id");
        assert_eq!(
            lab.find(RowKind::Version, text).map(|row| row.id).as_ref(),
            Some(text),
            "by unique value"
        );
        for filter in [RowFilter::Parent(text), RowFilter::Owner { owner: text, after: None }] {
            assert_eq!(lab.ids(RowKind::Version, filter), [text.as_str()], "{filter:?}");
        }
    }
}

/// `get` and `find` call back once for a row of that kind, and not at all when there is none.
pub fn a_row_is_found_by_its_id_and_by_its_unique_value(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    lab.insert(indexed(RowKind::Version, "id", |index| index.unique = some("unique")));
    let row = lab.get(RowKind::Version, "id");
    assert!(row.is_some(), "a row must be found by its id");
    assert_eq!(lab.find(RowKind::Version, "unique"), row, "a row must be found by its unique value");
    for (kind, text) in
        [(RowKind::Key, "id"), (RowKind::Version, "unique"), (RowKind::Version, "i"), (RowKind::Version, "")]
    {
        assert_eq!(lab.get(kind, text), None, "get must find no other row: {kind} {text:?}");
    }
    for (kind, text) in [(RowKind::Key, "unique"), (RowKind::Version, "id"), (RowKind::Version, "")] {
        assert_eq!(lab.find(kind, text), None, "find must find no other row: {kind} {text:?}");
    }
}

/// The handle that committed reads the commit, by every way of reading.
pub fn a_handle_reads_its_own_commits_at_once(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    reads_each_commit(&lab, &lab);
}

/// Another handle on the data reads each commit once it has returned, by every way of reading.
pub fn another_handle_reads_each_commit(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let other = Lab::open(bed);
    reads_each_commit(&lab, &other);
    reads_each_commit(&other, &lab);
}

fn reads_each_commit(writer: &Lab, reader: &Lab) {
    let start = reader.get(RowKind::Key, "row").map(|row| row.revision);
    let mut expected = start;
    for n in 0..5 {
        let draft = indexed(RowKind::Key, "row", |index| index.unique = Some(format!("unique {n}")));
        let revision = writer.commit(|changes| {
            match expected {
                None => changes.insert(draft),
                Some(expected) => changes.replace(draft, expected),
            }
            changes.record(event(n));
        });
        expected = Some(revision);
        let found = reader.find(RowKind::Key, &format!("unique {n}"));
        assert_eq!(reader.revision(), revision, "the head must show a commit that has returned");
        assert_eq!(get(&*reader.store, RowKind::Key, "row"), found, "get and find must agree");
        assert_eq!(found.map(|row| row.revision), expected, "a row must show a commit that has returned");
        assert_eq!(Snapshot::of(&*reader.store), Snapshot::of(&*writer.store), "all handles show the same");
    }
}

/// On each handle, a stamp read after a commit of any handle returned differs from one read before it began.
pub fn a_stamp_changes_with_each_commit_of_any_handle(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let other = bed.open();
    let handles = [&lab.store, &other];
    let mut seen = [Vec::new(), Vec::new()];
    for n in 0..20_usize {
        for (handle, seen) in handles.iter().zip(&mut seen) {
            settle(&***handle);
            let stamp = handle.stamp().unwrap();
            assert!(!seen.contains(&stamp), "a stamp must change with each commit, and never come back");
            seen.push(stamp);
        }
        let changes = lab.changes(|changes| match n % 3 {
            0 => changes.insert(draft(RowKind::Key, &format!("key {n}"))),
            1 => changes.insert(draft(RowKind::Outbox, &format!("not followed {n}"))),
            _ => changes.record(event(n as i64)),
        });
        handles[n / 2 % 2].commit(&changes).unwrap();
    }
}

/// Without a commit the stamp stays as it is, whatever is read by whatever handle.
pub fn reading_does_not_move_a_stamp(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    lab.insert(draft(RowKind::Key, "key 1"));
    let other = bed.open();
    settle(&*lab.store);
    settle(&*other);
    let stamps = [lab.store.stamp().unwrap(), other.stamp().unwrap()];
    for _ in 0..3 {
        for store in [&lab.store, &other] {
            Snapshot::of(&**store);
            store.usage(&UsageQuery::default(), &mut |_, _| {}).unwrap();
            store
                .scan(RowKind::Key, RowFilter::All { after: None }, &mut |_| ControlFlow::Break(()))
                .unwrap();
        }
        settle(&*lab.store);
        let now = [lab.store.stamp().unwrap(), other.stamp().unwrap()];
        assert_eq!(now, stamps, "reading must not move a stamp");
    }
}

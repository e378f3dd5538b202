//! What holds with several threads and handles, when a callback panics, and at the end.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::audit::{self, AuditHead, Link};
use crate::store::conformance::lab::{
    Lab, Snapshot, Told, audit as entries, draft, event, get, indexed, page, patiently, scan, settle, some,
    time, try_commit,
};
use crate::store::conformance::{Durability, StoreBed};
use crate::store::{
    AuditQuery, CommitError, Draft, KeyStore, Revision, RowFilter, RowKind, SealError, StoreError,
    StoreErrorKind, UsageBatch, UsageEntry, UsageQuery,
};

fn counter(id: &str, n: u64) -> Draft {
    Draft { body: n.to_string().into_bytes(), ..draft(RowKind::Key, id) }
}

fn count(body: &[u8]) -> u64 {
    std::str::from_utf8(body).unwrap().parse().unwrap()
}

/// Sets the flag when it is dropped, so that a panic on one thread does not leave another waiting.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A panic without its message: it is no failure.
fn fall<T>() -> T {
    resume_unwind(Box::new("from a callback"))
}

/// Of several foundings at once exactly one succeeds, and the others are refused.
pub fn of_foundings_at_once_one_succeeds(bed: &dyn StoreBed) {
    // Open throughout, for a store whose data lasts no longer than its handles.
    let lab = Lab::open(bed);
    let founded: usize = std::thread::scope(|threads| {
        let spawned: Vec<_> = (0..4)
            .map(|_| {
                threads.spawn(|| {
                    let lab = Lab::open(bed);
                    let founding = lab.founding();
                    patiently(|| match lab.store.commit(&founding) {
                        Ok(_) => Ok(1),
                        Err(CommitError::Seal(SealError::Conflict)) => Ok(0),
                        Err(CommitError::NotWritten(error)) => Err(error),
                        Err(error) => panic!("a founding must succeed or be refused, but answered {error:?}"),
                    })
                })
            })
            .collect();
        spawned.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(founded, 1, "of foundings at once exactly one must succeed");
    assert_eq!(lab.revision(), Revision(1), "the others must write nothing");
}

/// Threads that read a row, count it up and repeat what conflicts lose no count; those that share no row do not
/// conflict. Each commit has a revision of its own, and the audit log's chain has no gap.
pub fn committers_at_once_lose_no_update(bed: &dyn StoreBed) {
    const THREADS: u64 = 4;
    const EACH: u64 = 20;
    let lab = Lab::founded(bed);
    let start = lab.insert(counter("counter", 0));
    let add_one = |lab: &Lab| loop {
        let row = lab.get(RowKind::Key, "counter").unwrap();
        let changes = lab.changes(|changes| {
            changes.replace(counter("counter", count(&row.body) + 1), row.revision);
            changes.record(event(1));
        });
        if let Some(revision) = try_commit(&*lab.store, &changes) {
            break revision;
        }
    };
    let add_own = |lab: &Lab, id: String| {
        let changes = lab.changes(|changes| {
            changes.insert(draft(RowKind::Outbox, &id));
            changes.record(event(2));
        });
        try_commit(&*lab.store, &changes).expect("commits that share no row must not conflict")
    };
    let mut revisions: Vec<Revision> = std::thread::scope(|threads| {
        let work = |n: u64| {
            let lab = if n.is_multiple_of(2) { Lab::of(lab.store.clone()) } else { Lab::open(bed) };
            move || {
                (0..EACH).flat_map(|m| [add_one(&lab), add_own(&lab, format!("{n} {m}"))]).collect::<Vec<_>>()
            }
        };
        let spawned: Vec<_> = (0..THREADS).map(|n| threads.spawn(work(n))).collect();
        spawned.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    revisions.sort_unstable();
    let (total, row) = (2 * THREADS * EACH, lab.get(RowKind::Key, "counter").unwrap());
    assert_eq!(count(&row.body), total / 2, "no update must be lost");
    let expected: Vec<_> = (start.0 + 1..=start.0 + total).map(Revision).collect();
    assert_eq!(revisions, expected, "each commit must have a revision of its own, without gaps");
    let mut link = AuditHead::EMPTY;
    for entry in entries(&*lab.store, &AuditQuery::default()) {
        let check = audit::check(&lab.ring, entry.mac.generation, &link, &entry.body, &entry.mac.tag);
        assert_eq!((entry.seq, check), (link.seq + 1, Link::Sound), "the audit log's chain must have no gap");
        link = AuditHead { seq: entry.seq, mac: entry.mac.tag };
    }
    let head = lab.head().read(&lab.ring).expect("the head must be as it was sealed");
    assert_eq!((head.audit, link.seq), (link, total), "the head must hold the end of the audit log's chain");
}

/// Two rows that are always changed together are never read apart, by a scan or by a page of the feed; and a
/// page's head is of the same moment as its rows.
pub fn a_reader_never_sees_half_a_commit(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let done = AtomicBool::new(false);
    let mut expected =
        lab.commit(|changes| ["left", "right"].iter().for_each(|id| changes.insert(counter(id, 0))));
    std::thread::scope(|threads| {
        for store in [lab.store.clone(), bed.open()] {
            let done = &done;
            threads.spawn(move || {
                while !done.load(Ordering::Acquire) {
                    let rows = scan(&*store, RowKind::Key, RowFilter::All { after: None });
                    let ids: Vec<_> = rows.iter().map(|row| row.id.as_str()).collect();
                    assert_eq!(ids, ["left", "right"], "a scan must see both rows");
                    assert_eq!(
                        (rows[0].revision, &rows[0].body),
                        (rows[1].revision, &rows[1].body),
                        "a scan must not see half a commit"
                    );
                    let (told, page) = page(&*store, Revision(1), 1);
                    let revisions: Vec<_> = told.iter().map(|told| told.row().revision).collect();
                    let head = page.head.expect("a founded store has a head").revision;
                    assert_eq!(revisions, [head; 2], "a page must see whole commits, and their head");
                    assert_eq!(
                        (page.up_to, page.more),
                        (head, false),
                        "a page must know where it has come to"
                    );
                }
            });
        }
        let _done = Done(&done);
        for n in 1..=100 {
            let changes = lab.changes(|changes| {
                ["left", "right"].iter().for_each(|id| changes.replace(counter(id, n), expected));
            });
            expected = try_commit(&*lab.store, &changes).expect("the only committer has no conflict");
        }
    });
}

/// Who reads the stamp, then the feed when the stamp has changed, has in the end read every commit.
pub fn a_follower_of_stamp_and_feed_misses_no_commit(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let done = AtomicBool::new(false);
    let follow = |store: Arc<dyn KeyStore>| {
        let (mut seen, mut since, mut rows) = (None, Revision(0), BTreeMap::new());
        loop {
            // Before the stamp: what was committed when this is read, the stamp must show.
            let last = done.load(Ordering::Acquire);
            if last {
                settle(&*store);
            }
            let stamp = Some(store.stamp().unwrap());
            while stamp != seen {
                let (told, page) = page(&*store, since, 2);
                since = page.up_to;
                for told in told {
                    match told {
                        Told::Row(row) => rows.insert(row.id.clone(), row),
                        Told::Gone(_, id) => rows.remove(&id),
                    };
                }
                if !page.more {
                    seen = stamp;
                }
            }
            if last {
                return rows.into_values().collect::<Vec<_>>();
            }
        }
    };
    let followed: Vec<_> = std::thread::scope(|threads| {
        let stores = [lab.store.clone(), bed.open()];
        let followers: Vec<_> = stores.into_iter().map(|store| threads.spawn(|| follow(store))).collect();
        let commits = Done(&done);
        for n in 0..100_u64 {
            let id = format!("row {}", n % 7);
            let row = lab.get(RowKind::Key, &id);
            let changes = lab.changes(|changes| match &row {
                None => changes.insert(counter(&id, n)),
                Some(row) if n % 3 == 0 => changes.delete(RowKind::Key, id, row.revision),
                Some(row) => changes.replace(counter(&id, n), row.revision),
            });
            try_commit(&*lab.store, &changes).expect("the only committer has no conflict");
        }
        drop(commits);
        followers.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let rows = scan(&*lab.store, RowKind::Key, RowFilter::All { after: None });
    for follower in followed {
        assert_eq!(follower, rows, "a follower must end with the rows of the store");
    }
}

fn batch(entries: Vec<UsageEntry>) -> UsageBatch {
    UsageBatch { writer: "w".to_owned(), sequence: 1, flushed_at: time(1), ended: false, entries }
}

/// A panic in a callback of any reading passes through; afterwards the handle reads and commits as before.
pub fn a_panic_in_a_callback_leaves_the_store_usable(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let draft = indexed(RowKind::Key, "key 1", |index| index.unique = some("unique"));
    lab.commit(|changes| {
        changes.insert(draft);
        changes.record(event(1));
    });
    let mut usage = UsageEntry::new("key 1".to_owned(), 1);
    usage.counts.allowed = 1;
    lab.store.add_usage(&batch(vec![usage])).unwrap();
    let store = &lab.store;
    type Reading<'a> = &'a dyn Fn() -> Result<(), StoreError>;
    let readings: [(&str, Reading<'_>); 7] = [
        ("get", &|| store.get(RowKind::Key, "key 1", &mut |_| fall())),
        ("find", &|| store.find(RowKind::Key, "unique", &mut |_| fall())),
        ("scan", &|| store.scan(RowKind::Key, RowFilter::All { after: None }, &mut |_| fall())),
        ("feed", &|| store.feed(Revision(0), 9, &mut |_| fall()).map(|_| ())),
        ("audit", &|| store.audit(&AuditQuery::default(), &mut |_| fall())),
        ("usage", &|| store.usage(&UsageQuery::default(), &mut |_, _| fall())),
        ("usage_writers", &|| store.usage_writers(&mut |_| fall())),
    ];
    for (name, reading) in readings {
        let caught = catch_unwind(AssertUnwindSafe(reading));
        assert!(caught.is_err(), "{name} must call back, and let the panic through");
        let id = format!("after {name}");
        let revision = lab.insert(counter(&id, 1));
        assert_eq!(lab.revision(), revision, "the handle must go on after a panic in {name}");
        assert_eq!(
            lab.get(RowKind::Key, &id).map(|row| row.revision),
            Some(revision),
            "and read what is new"
        );
        let other = bed.open();
        assert_eq!(
            Snapshot::of(&*other),
            Snapshot::of(&**store),
            "all handles must go on after a panic in {name}"
        );
    }
}

/// After `close`, each call on the handle answers `Closed`; a commit says that it was not written.
pub fn a_closed_handle_answers_closed(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let store = &lab.store;
    store.close().expect("closing succeeds");
    let batch = batch(Vec::new());
    let calls: [(&str, Result<(), StoreError>); 11] = [
        ("head", store.head().map(|_| ())),
        ("get", store.get(RowKind::Key, "key 1", &mut |_| {})),
        ("find", store.find(RowKind::Key, "key 1", &mut |_| {})),
        (
            "scan",
            store.scan(RowKind::Key, RowFilter::All { after: None }, &mut |_| ControlFlow::Continue(())),
        ),
        ("feed", store.feed(Revision(0), 9, &mut |_| {}).map(|_| ())),
        ("audit", store.audit(&AuditQuery::default(), &mut |_| ControlFlow::Continue(()))),
        ("stamp", store.stamp().map(|_| ())),
        ("add_usage", store.add_usage(&batch)),
        ("usage", store.usage(&UsageQuery::default(), &mut |_, _| {})),
        ("usage_writers", store.usage_writers(&mut |_| {})),
        ("roll_up_usage", store.roll_up_usage(time(1), 1).map(|_| ())),
    ];
    for (name, answer) in calls {
        let kind = answer.map_err(|error| error.kind());
        assert_eq!(kind, Err(StoreErrorKind::Closed), "{name} on a closed handle must answer Closed");
    }
    let answer = store.commit(&lab.changes(|changes| changes.record(event(1))));
    assert!(
        matches!(&answer, Err(CommitError::NotWritten(error)) if error.kind() == StoreErrorKind::Closed),
        "a commit on a closed handle is not written, because it is closed; but it answered {answer:?}"
    );
}

/// Closing a handle does not disturb others on the same data.
pub fn closing_a_handle_leaves_the_others_open(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let other = Lab::open(bed);
    let first = lab.insert(draft(RowKind::Key, "key 1"));
    lab.store.close().expect("closing succeeds");
    assert_eq!(other.revision(), first, "another handle must go on reading");
    let second = other.commit(|changes| changes.replace(draft(RowKind::Key, "key 1"), first));
    let third = get(&*bed.open(), RowKind::Key, "key 1").map(|row| row.revision);
    assert_eq!(third, Some(second), "another handle must go on committing");
}

/// What was committed is there when all handles were closed and the data is opened again: rows, head, audit
/// log, feed, usage.
pub fn a_durable_store_keeps_everything(bed: &dyn StoreBed) {
    if bed.durability() == Durability::WhileOpen {
        return;
    }
    let lab = Lab::founded(bed);
    let mut usage = UsageEntry::new("key 1".to_owned(), 1);
    usage.counts.allowed = 3;
    let batch = batch(vec![usage.clone()]);
    let old = lab.commit(|changes| {
        for kind in RowKind::ALL {
            changes.insert(indexed(kind, "kept", |index| {
                index.owner = some("ada");
                index.parent = some("key 1");
                index.due_at = Some(time(3));
                index.unique = some("unique");
            }));
        }
        changes.insert(draft(RowKind::Key, "early"));
        changes.insert(draft(RowKind::Key, "late"));
        changes.record(event(1));
    });
    lab.commit(|changes| changes.delete(RowKind::Key, "early", old));
    lab.commit(|changes| changes.raise_floor(Revision(3)));
    lab.commit(|changes| changes.delete(RowKind::Key, "late", old));
    lab.store.add_usage(&batch).unwrap();
    let before = Snapshot::of(&*lab.store);
    lab.store.close().expect("closing succeeds");
    drop(lab);
    let lab = Lab::open(bed);
    assert_eq!(Snapshot::of(&*lab.store), before, "what was committed must be there again");
    assert_eq!(lab.usage("key 1"), [usage], "usage must be there again");
    assert_eq!(lab.insert(draft(RowKind::Key, "next")), Revision(6), "and the store goes on");
    let answer = lab.store.commit(&lab.founding());
    assert!(
        matches!(answer, Err(CommitError::Seal(_))),
        "a store that was opened again is not empty: {answer:?}"
    );
}

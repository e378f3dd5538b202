//! What the audit log and the usage counts promise.

use std::ops::ControlFlow;

use crate::actor::{Actor, Context};
use crate::event::{Event, EventKind};
use crate::id::{KeyId, OwnerId, VersionNo};
use crate::store::conformance::StoreBed;
use crate::store::conformance::lab::{Lab, Snapshot, audit, draft, event, feed, patiently, time};
use crate::store::{AuditQuery, AuditRow, RowKind, UsageBatch, UsageEntry};
use crate::time::Timestamp;

fn key(n: u8) -> KeyId {
    KeyId::new(time(1_000_000), [n; 10])
}

/// Entries are numbered from 1 without gaps and come in that order, however many a commit has.
pub fn audit_entries_come_in_order_without_gaps(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    for entries in [1, 0, 12, 1, 3] {
        lab.commit(|changes| (0..entries).for_each(|n| changes.record(event(100 - n))));
    }
    let numbers = |after| -> Vec<u64> {
        audit(&*lab.store, &AuditQuery { after, ..AuditQuery::default() })
            .iter()
            .map(|entry| entry.seq)
            .collect()
    };
    assert_eq!(numbers(0), (1..=17).collect::<Vec<_>>(), "entries come in the order of their numbers");
    assert_eq!(numbers(9), (10..=17).collect::<Vec<_>>(), "`after` is exclusive");
    assert!(numbers(17).is_empty() && numbers(u64::MAX).is_empty(), "nothing comes after the last");
}

/// Each field of a query narrows it, alone and with the others.
pub fn audit_queries_combine_their_fields(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let actors = [Actor::operator("root"), Actor::service("root"), Actor::owner("o'hara")];
    let kinds = [EventKind::KeyIssued, EventKind::KeyRevoked];
    let owners =
        [None, Some("ada"), Some("Ada")].map(|owner| owner.map(|owner| OwnerId::new(owner).unwrap()));
    for n in 0..36_u8 {
        let pick = usize::from(n);
        let context = Context { actor: actors[pick % 3].clone(), reason: None, request: None };
        let mut event = Event::new(time(i64::from(n % 9) * 10), kinds[pick % 2], &context);
        event.key = (n % 4 > 0).then(|| key(n % 4));
        event.version = event.key.map(|_| VersionNo::new(u32::from(n) / 12 + 1));
        event.owner = owners[pick / 4 % 3];
        lab.commit(|changes| changes.record(event));
    }
    let all = audit(&*lab.store, &AuditQuery::default());
    assert_eq!(all.len(), 36, "a query that asks nothing gives all");
    let keys = [key(1), key(3), key(9)].map(|key| key.to_string());
    let texts = |texts: [&'static str; 3]| [None, Some(texts[0]), Some(texts[1]), Some(texts[2])];
    for after in [0, 11] {
        for kind in texts(["key_issued", "key_revoked", "key_%"]) {
            for actor in texts(["root", "o'hara", "nobody"]) {
                for key in [None, Some(&keys[0]), Some(&keys[1]), Some(&keys[2])] {
                    for (version, owner) in
                        [(None, None), (Some(1), None), (None, Some("ada")), (Some(2), Some("Ada"))]
                    {
                        for (from, until) in
                            [(None, None), (Some(30), None), (None, Some(30)), (Some(10), Some(60))]
                        {
                            let (from, until) = (from.map(time), until.map(time));
                            let key = key.map(String::as_str);
                            let query = AuditQuery { after, kind, actor, key, version, owner, from, until };
                            let expected: Vec<_> =
                                all.iter().filter(|row| query.matches(row)).cloned().collect();
                            assert_eq!(audit(&*lab.store, &query), expected, "{query:?}");
                        }
                    }
                }
            }
        }
    }
}

/// A query whose callback breaks gives no further entry, and the store goes on as before.
pub fn an_audit_query_stops_when_its_callback_breaks(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    lab.commit(|changes| (0..5).for_each(|n| changes.record(event(n))));
    for query in [AuditQuery::default(), AuditQuery { kind: Some("role_set"), ..AuditQuery::default() }] {
        let mut seen = Vec::new();
        let mut each = |entry: &AuditRow| {
            seen.push(entry.seq);
            if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        lab.store.audit(&query, &mut each).unwrap();
        assert_eq!(seen, [1, 2], "a query must stop when its callback breaks");
        lab.insert(draft(RowKind::Key, &format!("{query:?}")));
    }
}

fn used(key: &str, version: u32, allowed: u64, denied: u64, last_used: Option<Timestamp>) -> UsageEntry {
    let mut entry = UsageEntry::new(key.to_owned(), version);
    (entry.allowed, entry.denied, entry.last_used) = (allowed, denied, last_used);
    entry
}

fn batch(writer: &str, entries: impl IntoIterator<Item = UsageEntry>) -> UsageBatch {
    UsageBatch {
        writer: writer.to_owned(),
        flushed_at: time(5_000_000),
        entries: entries.into_iter().collect(),
    }
}

/// Counts add up by key and version, over batches, writers and entries of one batch; they come by version.
pub fn usage_adds_up_by_version(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let ada = "o'hara's 🔑";
    lab.store
        .add_usage(&batch("w1", [used(ada, 10, 1, 2, Some(time(7))), used(ada, 2, 5, 0, None)]))
        .unwrap();
    lab.store
        .add_usage(&batch("w2", [used(ada, 2, 3, 1, Some(time(9))), used("other", 2, 9, 9, None)]))
        .unwrap();
    lab.store
        .add_usage(&batch("w1", [used(ada, 10, 4, 0, None), used(ada, 10, 1, 1, Some(time(8)))]))
        .unwrap();
    lab.store.add_usage(&batch("w1", [])).unwrap();
    lab.store.add_usage(&batch("w1", [used(ada, u32::MAX, 0, 1, None)])).unwrap();
    let expected = [
        used(ada, 2, 8, 1, Some(time(9))),
        used(ada, 10, 6, 3, Some(time(8))),
        used(ada, u32::MAX, 0, 1, None),
    ];
    assert_eq!(lab.usage(ada), expected, "counts add up by version");
    assert_eq!(lab.usage("other"), [used("other", 2, 9, 9, None)], "counts are kept by key");
    assert_eq!(lab.usage("none"), [], "what was never used has no counts");
}

/// Adding counts changes no row, no head, no entry of the audit log, and tells the feed nothing.
pub fn usage_touches_no_row_and_no_revision(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let revision = lab.insert(draft(RowKind::Key, "key 1"));
    let before = Snapshot::of(&*lab.store);
    lab.store.add_usage(&batch("w1", [used("key 1", 1, 5, 5, Some(time(5)))])).unwrap();
    assert_eq!(Snapshot::of(&*lab.store), before, "usage must touch no row and no revision");
    assert_eq!(feed(&*lab.store, revision, 100).0, [], "usage must not be told by the feed");
    lab.commit(|changes| changes.replace(draft(RowKind::Key, "key 1"), revision));
    assert_eq!(lab.usage("key 1").len(), 1, "a change of the row leaves its usage");
}

/// `last_used` is the latest of all that were added, whatever order they come in.
pub fn last_used_never_falls(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    for (last, expected) in
        [(None, None), (Some(50), Some(50)), (Some(20), Some(50)), (None, Some(50)), (Some(60), Some(60))]
    {
        lab.store.add_usage(&batch("w1", [used("key 1", 1, 1, 0, last.map(time))])).unwrap();
        assert_eq!(lab.usage("key 1")[0].last_used, expected.map(time), "last_used never falls");
    }
}

/// Counts beyond the largest that a store keeps stay there; a store keeps at least 63 bits.
pub fn usage_does_not_wrap(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let enough = i64::MAX as u64;
    for (allowed, denied) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX), (7, 7)] {
        lab.store.add_usage(&batch("w1", [used("key 1", 1, allowed, denied, None)])).unwrap();
    }
    let sums = lab.usage("key 1");
    let kept = sums.iter().all(|sum| sum.allowed >= enough && sum.denied >= enough);
    assert!(sums.len() == 1 && kept, "counts must not wrap: {sums:?}");
    lab.store.add_usage(&batch("w1", [used("key 2", 1, enough, 0, None)])).unwrap();
    assert_eq!(lab.usage("key 2")[0].allowed, enough, "63 bits are kept exactly");
}

/// No count is lost when several threads add at once, by one handle and by several.
pub fn usage_from_several_threads_adds_up(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    std::thread::scope(|threads| {
        for n in 0..4 {
            let store = if n % 2 == 0 { lab.store.clone() } else { bed.open() };
            threads.spawn(move || {
                for _ in 0..25 {
                    let batch = batch(&format!("w{n}"), [used("key 1", 1, 1, 2, Some(time(n)))]);
                    patiently(|| store.add_usage(&batch));
                }
            });
        }
    });
    assert_eq!(lab.usage("key 1"), [used("key 1", 1, 100, 200, Some(time(3)))], "no count must be lost");
}

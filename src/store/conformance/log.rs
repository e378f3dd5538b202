//! What the audit log promises.

use std::ops::ControlFlow;

use crate::actor::{Actor, Context};
use crate::event::{Event, EventKind};
use crate::id::{KeyId, OwnerId, VersionNo};
use crate::store::conformance::StoreBed;
use crate::store::conformance::lab::{Lab, audit, draft, event, time};
use crate::store::{AuditQuery, AuditRow, RowKind};

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

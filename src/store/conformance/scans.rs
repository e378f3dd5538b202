//! What scans promise: their order, their cursors, and that they follow every change.

use std::ops::ControlFlow;

use crate::store::conformance::StoreBed;
use crate::store::conformance::lab::{Lab, draft, event, indexed, scan, some, time};
use crate::store::{Revision, RowFilter, RowKind};
use crate::time::Timestamp;

/// `All` gives the rows of the kind by the bytes of their ids, after the cursor and not including it.
pub fn a_scan_of_all_goes_by_id_after_its_cursor(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    lab.commit(|changes| {
        for id in ["b", "a", "é", "c", "B", "aa"] {
            changes.insert(draft(RowKind::Rotation, id));
        }
        changes.insert(draft(RowKind::Sealed, "another kind"));
        changes.insert(draft(RowKind::Policy, "another kind"));
    });
    let after = |after| lab.ids(RowKind::Rotation, RowFilter::All { after });
    assert_eq!(
        after(None),
        ["B", "a", "aa", "b", "c", "é"],
        "all rows of the kind, by the bytes of their ids"
    );
    assert_eq!(after(Some("aa")), ["b", "c", "é"], "the cursor is exclusive");
    assert_eq!(after(Some("ab")), ["b", "c", "é"], "the cursor need not be a row's id");
    assert_eq!(after(Some("")), after(None), "an empty cursor stands before all");
    assert!(
        after(Some("é")).is_empty() && after(Some("\u{10FFFF}")).is_empty(),
        "nothing comes after the last"
    );
    assert!(
        lab.ids(RowKind::Role, RowFilter::All { after: None }).is_empty(),
        "a kind without rows is empty"
    );
}

/// `Parent` gives the rows of the kind with that parent, by id.
pub fn a_scan_by_parent_goes_by_id(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    lab.commit(|changes| {
        for (kind, id, parent) in [
            (RowKind::Version, "v3", Some("key 1")),
            (RowKind::Version, "v1", Some("key 1")),
            (RowKind::Version, "v2", Some("key 10")),
            (RowKind::Version, "v0", Some("key")),
            (RowKind::Version, "v4", None),
            (RowKind::Rotation, "v5", Some("key 1")),
        ] {
            changes.insert(indexed(kind, id, |index| index.parent = parent.map(str::to_owned)));
        }
    });
    let of = |kind, parent| lab.ids(kind, RowFilter::Parent(parent));
    assert_eq!(of(RowKind::Version, "key 1"), ["v1", "v3"], "the rows of that parent and kind, by id");
    assert_eq!(of(RowKind::Rotation, "key 1"), ["v5"], "the rows of that parent and kind");
    assert!(of(RowKind::Version, "").is_empty() && of(RowKind::Sealed, "key 1").is_empty(), "and no others");
}

/// `Owner` gives the rows of the kind with that owner, by id, after the cursor and not including it.
pub fn a_scan_by_owner_goes_by_id_after_its_cursor(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    lab.commit(|changes| {
        for (kind, id, owner) in [
            (RowKind::Key, "k3", Some("ada")),
            (RowKind::Key, "k1", Some("ada")),
            (RowKind::Key, "k4", Some("ada")),
            (RowKind::Key, "k2", Some("adam")),
            (RowKind::Key, "k5", None),
            (RowKind::Version, "k0", Some("ada")),
        ] {
            changes.insert(indexed(kind, id, |index| index.owner = owner.map(str::to_owned)));
        }
    });
    let of = |owner, after| lab.ids(RowKind::Key, RowFilter::Owner { owner, after });
    assert_eq!(of("ada", None), ["k1", "k3", "k4"], "the rows of that owner and kind, by id");
    assert_eq!(of("ada", Some("k1")), ["k3", "k4"], "the cursor is exclusive");
    assert_eq!(of("ada", Some("k2")), ["k3", "k4"], "the cursor need not be a row of the owner");
    assert!(of("ada", Some("k4")).is_empty() && of("ad", None).is_empty(), "and no others");
}

/// `Due` gives the rows of the kind that are due at that time or earlier, by time and then id, after the cursor
/// and not including it; rows without a time are never due.
pub fn a_scan_of_what_is_due_goes_by_time_and_id_after_its_cursor(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    lab.commit(|changes| {
        for (kind, id, due) in [
            (RowKind::Outbox, "b", Some(20)),
            (RowKind::Outbox, "a", Some(20)),
            (RowKind::Outbox, "z", Some(10)),
            (RowKind::Outbox, "c", Some(20)),
            (RowKind::Outbox, "first", Some(0)),
            (RowKind::Outbox, "late", Some(Timestamp::MAX.unix_micros())),
            (RowKind::Outbox, "never", None),
            (RowKind::Version, "other", Some(20)),
        ] {
            changes.insert(indexed(kind, id, |index| {
                index.due_at = due.map(time);
                index.ends_at = Some(time(1));
            }));
        }
    });
    let by = |by, after: Option<(i64, &'static str)>| {
        let after = after.map(|(due, id)| (time(due), id));
        lab.ids(RowKind::Outbox, RowFilter::Due { by: time(by), after })
    };
    assert_eq!(by(20, None), ["first", "z", "a", "b", "c"], "by time and, at one time, by id; `by` included");
    assert_eq!(by(19, None), ["first", "z"], "what comes later is not due");
    assert_eq!(by(0, None), ["first"], "1970 is a time");
    assert_eq!(by(20, Some((20, "a"))), ["b", "c"], "the cursor is exclusive");
    assert_eq!(by(20, Some((10, "zz"))), ["a", "b", "c"], "the cursor need not be a row");
    assert_eq!(by(20, Some((20, ""))), ["a", "b", "c"], "a cursor at the beginning of a time");
    assert!(by(20, Some((20, "c"))).is_empty(), "nothing comes after the last");
    assert!(by(10, Some((20, ""))).is_empty(), "a cursor after `by` leaves nothing");
    let all = by(Timestamp::MAX.unix_micros(), None);
    assert_eq!(all.last().map(String::as_str), Some("late"), "the last time of all can be asked for");
    assert!(!all.contains(&"never".to_owned()), "a row without a time is never due");
}

/// On a few hundred rows, each scan gives the rows that its filter matches, and paging by cursor gives the same.
pub fn scans_agree_with_their_filters(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let mut state = 42_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut pick = |from: &[&str]| from[random(from.len() as u64) as usize].to_owned();
    let owners = ["ada", "bob", "o'hara", "Ada"];
    lab.commit(|changes| {
        for n in 0..300 {
            let id = format!("{}{n}", pick(&["a", "Z", "é", "_"]));
            changes.insert(indexed(RowKind::Version, &id, |index| {
                index.owner = Some(pick(&owners)).filter(|_| n % 7 > 0);
                index.parent = Some(pick(&["key 1", "key 2", ""])).filter(|_| n % 5 > 0);
                index.due_at =
                    pick(&["0", "1", "2", "50", "51"]).parse().ok().map(time).filter(|_| n % 3 > 0);
            }));
        }
    });
    let all = scan(&*lab.store, RowKind::Version, RowFilter::All { after: None });
    assert_eq!(all.len(), 300, "a scan of all gives all");
    let check = |filter: RowFilter<'_>| {
        let mut expected: Vec<_> = all.iter().filter(|row| filter.matches(&row.as_ref())).cloned().collect();
        if let RowFilter::Due { .. } = filter {
            expected.sort_by(|a, b| (a.index.due_at, &a.id).cmp(&(b.index.due_at, &b.id)));
        }
        let found = scan(&*lab.store, RowKind::Version, filter);
        assert_eq!(found, expected, "{filter:?} must give what it matches, in its order");
        found
    };
    for parent in ["key 1", "key 2", "", "key"] {
        check(RowFilter::Parent(parent));
    }
    for after in check(RowFilter::All { after: None }).iter().step_by(29) {
        check(RowFilter::All { after: Some(&after.id) });
    }
    for owner in owners {
        for after in check(RowFilter::Owner { owner, after: None }).iter().step_by(7) {
            check(RowFilter::Owner { owner, after: Some(&after.id) });
        }
    }
    for by in [0, 1, 2, 49, 50, 51].map(time) {
        for after in check(RowFilter::Due { by, after: None }).iter().step_by(7) {
            let due = after.index.due_at.expect("what is due has a time");
            check(RowFilter::Due { by, after: Some((due, &after.id)) });
        }
    }
}

/// A scan whose callback breaks gives no further row, and the store goes on as before.
pub fn a_scan_stops_when_its_callback_breaks(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    lab.commit(|changes| {
        for n in 0..5 {
            changes.insert(indexed(RowKind::Version, &format!("v{n}"), |index| {
                index.owner = some("ada");
                index.parent = some("key 1");
                index.due_at = Some(time(n));
            }));
        }
    });
    for filter in [
        RowFilter::All { after: None },
        RowFilter::Parent("key 1"),
        RowFilter::Owner { owner: "ada", after: None },
        RowFilter::Due { by: time(9), after: None },
    ] {
        let mut seen = Vec::new();
        let mut each = |row: crate::store::RowRef<'_>| {
            seen.push(row.id.to_owned());
            if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        lab.store.scan(RowKind::Version, filter, &mut each).unwrap();
        assert_eq!(seen, ["v0", "v1"], "a scan must stop when its callback breaks: {filter:?}");
        let revision = lab.commit(|changes| changes.record(event(1)));
        assert_eq!(lab.revision(), revision, "a scan that was stopped must not hold up a commit");
    }
}

/// A row is found by the fields that it has now: no more by those it had, nor once it is gone.
pub fn scans_follow_replacements_and_deletions(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let put = |id: &str, n: i64| {
        indexed(RowKind::Version, id, |index| {
            index.owner = Some(format!("owner {n}"));
            index.parent = Some(format!("parent {n}"));
            index.due_at = Some(time(n));
            index.unique = Some(format!("unique {n}"));
        })
    };
    let found = |n: i64| {
        let (parent, owner) = (format!("parent {n}"), format!("owner {n}"));
        let before = Some((time(n - 1), "\u{10FFFF}"));
        [
            lab.ids(RowKind::Version, RowFilter::Parent(&parent)),
            lab.ids(RowKind::Version, RowFilter::Owner { owner: &owner, after: None }),
            lab.ids(RowKind::Version, RowFilter::Due { by: time(n), after: before }),
            lab.find(RowKind::Version, &format!("unique {n}")).into_iter().map(|row| row.id).collect(),
        ]
    };
    let nothing: [Vec<String>; 4] = Default::default();
    let row = || [(); 4].map(|()| vec!["row".to_owned()]);
    let mut expected: Revision = lab.insert(put("row", 1));
    assert_eq!(found(1), row(), "a row is found by its fields");
    expected = lab.commit(|changes| changes.replace(put("row", 2), expected));
    assert_eq!(
        (found(1), found(2)),
        (nothing.clone(), row()),
        "a row is found by the fields that it has now"
    );
    expected = lab.commit(|changes| changes.replace(draft(RowKind::Version, "row"), expected));
    assert_eq!(
        (found(1), found(2)),
        (nothing.clone(), nothing.clone()),
        "a row without fields is not found by them"
    );
    expected = lab.commit(|changes| changes.replace(put("row", 1), expected));
    lab.commit(|changes| changes.delete(RowKind::Version, "row", expected));
    assert_eq!(found(1), nothing, "a row that is gone is not found");
    assert!(
        lab.ids(RowKind::Version, RowFilter::All { after: None }).is_empty(),
        "a row that is gone is not found"
    );
}

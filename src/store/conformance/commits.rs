//! What a commit promises: all or nothing, the next revision, precise conflicts.

use crate::keyring::Generation;
use crate::store::conformance::StoreBed;
use crate::store::conformance::lab::{Lab, Snapshot, audit, draft, event, indexed, keyring, some, time};
use crate::store::{
    AuditQuery, Changeset, CommitError, Draft, Head, Revision, RowKind, RowMac, SealError, Segment,
};

fn with_unique(kind: RowKind, id: &str, unique: &str) -> Draft {
    indexed(kind, id, |index| index.unique = some(unique))
}

/// A new store has no head and no rows; a commit other than the founding one is refused.
pub fn an_empty_store_has_no_head_and_only_founding_begins_it(bed: &dyn StoreBed) {
    let lab = Lab::open(bed);
    let empty = Snapshot::of(&*lab.store);
    assert_eq!(lab.store.head().unwrap(), None, "a new store has no head");
    let answer = lab.store.commit(&lab.changes(|changes| changes.insert(draft(RowKind::Key, "key 1"))));
    assert!(
        matches!(answer, Err(CommitError::Seal(SealError::Conflict))),
        "an ordinary commit on an empty store must be refused, but answered {answer:?}"
    );
    assert_eq!(Snapshot::of(&*lab.store), empty, "a refused commit must write nothing");
    assert_eq!(lab.store.commit(&lab.founding()).unwrap(), Revision(1), "founding is the first commit");
    assert_eq!(lab.revision(), Revision(1), "the head has the revision that the commit returned");
}

/// Of two foundings the second is refused and changes nothing.
pub fn founding_twice_conflicts(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let before = Snapshot::of(&*lab.store);
    let answer = lab.store.commit(&lab.founding());
    assert!(
        matches!(answer, Err(CommitError::Seal(SealError::Conflict))),
        "a second founding must be refused, but answered {answer:?}"
    );
    assert_eq!(Snapshot::of(&*lab.store), before, "a refused founding must write nothing");
}

/// When the last write of a commit conflicts, nothing of the commit is written: no row of any kind, no entry of
/// the audit log, no change of the head, nothing in the feed.
pub fn a_commit_is_all_or_nothing(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let old = lab.commit(|changes| {
        changes.insert(with_unique(RowKind::Version, "replaced", "u1"));
        changes.insert(indexed(RowKind::Version, "deleted", |index| {
            index.unique = some("u2");
            index.owner = some("ada");
            index.parent = some("key 1");
            index.due_at = Some(time(5));
        }));
        changes.insert(with_unique(RowKind::Version, "twice", "u4"));
        changes.record(event(2_000_000));
    });
    let fill = |changes: &mut Changeset| {
        changes.replace(with_unique(RowKind::Version, "replaced", "u3"), old);
        changes.delete(RowKind::Version, "deleted", old);
        changes.insert(with_unique(RowKind::Version, "new", "u2"));
        changes.delete(RowKind::Version, "twice", old);
        changes.insert(with_unique(RowKind::Version, "twice", "u5"));
        changes.raise_floor(old);
    };
    lab.conflict("all or nothing", |changes| {
        fill(changes);
        changes.expect(RowKind::Policy, "none", Some(old));
    });
    for (unique, id) in
        [("u1", Some("replaced")), ("u2", Some("deleted")), ("u3", None), ("u4", Some("twice"))]
    {
        let found = lab.find(RowKind::Version, unique).map(|row| row.id);
        assert_eq!(found.as_deref(), id, "a conflict must leave the unique value {unique} where it was");
    }
    // The same without the conflict is written, all of it.
    assert_eq!(lab.commit(fill), Revision(3), "a conflict must not use up a revision");
    let present = ["replaced", "deleted", "new", "twice"].map(|id| lab.get(RowKind::Version, id).is_some());
    assert_eq!(present, [true, false, true, true], "a commit must carry out all its writes");
}

/// A changeset that cannot be sealed on the store's head, here for a foreign master key, writes nothing.
pub fn what_cannot_be_sealed_is_not_written(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let before = Snapshot::of(&*lab.store);
    let mut foreign = Changeset::new(&keyring(0x33));
    foreign.insert(draft(RowKind::Key, "foreign"));
    let answer = lab.store.commit(&foreign);
    assert!(
        matches!(answer, Err(CommitError::Seal(SealError::HeadTampered))),
        "the store must pass on why a changeset cannot be sealed, but answered {answer:?}"
    );
    assert_eq!(Snapshot::of(&*lab.store), before, "what cannot be sealed must not be written");
}

/// When the head was edited, or an old one was put back, an ordinary commit is refused and an emergency's is not: it
/// gets the next revision and the next number behind all that the store holds, and followers load anew.
pub fn an_emergency_goes_on_behind_all_that_a_damaged_head_does_not_tell(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let mut last = 0;
    let mut old = lab.head();
    for round in 0..6_u8 {
        let row = lab.insert(draft(RowKind::Key, &format!("kept {round}")));
        let gone = lab.insert(draft(RowKind::Role, &format!("gone {round}")));
        lab.commit(|changes| (0..3).for_each(|n| changes.record(event(n))));
        lab.commit(|changes| changes.delete(RowKind::Role, format!("gone {round}"), gone));
        last += 3;
        let sound = lab.head();
        let damaged = match round {
            0 => old.clone(),
            1 => Head { body: b"not JSON".to_vec(), ..old.clone() },
            2 => Head { revision: Revision(u64::MAX / 2), floor: Revision(0), ..sound.clone() },
            3 => Head { mac: RowMac { tag: [0; 32], ..sound.mac }, ..sound.clone() },
            4 => Head { mac: RowMac { generation: Generation::new(9), ..sound.mac }, ..sound.clone() },
            _ => Head { revision: Revision(1), floor: Revision(1), body: Vec::new(), ..sound.clone() },
        };
        lab.store.commit(&Changeset::damage(&lab.ring, damaged.clone())).unwrap();
        assert_eq!(lab.head(), damaged, "a store returns its head as it got it");
        let before = Snapshot::of(&*lab.store);
        let ordinary = lab.store.commit(&lab.changes(|changes| changes.record(event(1))));
        assert!(
            matches!(ordinary, Err(CommitError::Seal(SealError::HeadTampered))),
            "{round}: an ordinary commit on a damaged head must be refused, but answered {ordinary:?}"
        );
        assert_eq!(Snapshot::of(&*lab.store), before, "{round}: what is refused must not be written");

        let segment = Segment { store: lab.store_id(), now: time(1_000_000), number: u64::from(round) + 1 };
        let mut changes = Changeset::emergency(&lab.ring, segment);
        changes.replace(draft(RowKind::Key, &format!("kept {round}")), row);
        changes.record(event(1));
        let revision = lab.store.commit(&changes).expect("an emergency's commit succeeds on a damaged head");
        assert_eq!(revision, Revision(sound.revision.0 + 1), "{round}: the next revision of all there are");
        let numbers: Vec<_> = audit(&*lab.store, &AuditQuery { after: last, ..AuditQuery::default() })
            .iter()
            .map(|entry| (entry.seq, entry.kind.clone()))
            .collect();
        let expected = [(last + 1, "chain_broken".to_owned()), (last + 2, "role_set".to_owned())];
        assert_eq!(numbers, expected, "{round}: numbers go on behind the last that the store holds");
        last += 2;
        let head = lab.head();
        assert_eq!((head.revision, head.floor), (revision, revision), "{round}: followers load anew");
        assert_eq!(lab.insert(draft(RowKind::Key, &format!("after {round}"))).0, revision.0 + 1);
        old = sound;
    }
}

/// Revisions grow by exactly one with each commit, also when it writes no row or nothing at all.
pub fn each_commit_has_the_next_revision(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let revisions = [
        lab.insert(draft(RowKind::Key, "key 1")),
        lab.insert(draft(RowKind::Outbox, "not followed")),
        lab.commit(|changes| changes.record(event(2_000_000))),
        lab.commit(|changes| changes.advance_clock(time(3_000_000))),
        lab.commit(|_| {}),
        lab.commit(|changes| changes.delete(RowKind::Key, "key 1", Revision(2))),
    ];
    assert_eq!(revisions, [2, 3, 4, 5, 6, 7].map(Revision), "each commit has the next revision");
    assert_eq!(lab.revision(), Revision(7), "the head has the revision of the last commit");
}

/// All rows that a commit writes carry the revision that it returns.
pub fn all_writes_of_a_commit_share_its_revision(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let old = lab.insert(draft(RowKind::Key, "key 1"));
    let new = lab.commit(|changes| {
        RowKind::ALL.into_iter().for_each(|kind| changes.insert(draft(kind, "row")));
        changes.replace(draft(RowKind::Key, "key 1"), old);
    });
    for (kind, id) in RowKind::ALL.map(|kind| (kind, "row")).into_iter().chain([(RowKind::Key, "key 1")]) {
        let revision = lab.get(kind, id).map(|row| row.revision);
        assert_eq!(revision, Some(new), "{kind} {id} must carry the commit's revision");
    }
}

/// An insert whose kind and id are taken conflicts; the same id in another kind does not.
pub fn an_insert_refuses_a_taken_id(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    lab.insert(draft(RowKind::Role, "reader"));
    let named =
        lab.conflict("an insert of a taken id", |changes| changes.insert(draft(RowKind::Role, "reader")));
    assert_eq!(named, (RowKind::Role, "reader".to_owned()), "a conflict names the row");
    lab.insert(draft(RowKind::Owner, "reader"));
    lab.conflict("an insert of an id that the same commit inserts", |changes| {
        changes.insert(draft(RowKind::Role, "twice"));
        changes.insert(draft(RowKind::Role, "twice"));
    });
}

/// An insert whose unique value another row of the kind has conflicts.
pub fn an_insert_refuses_a_taken_unique_value(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    for unique in ["locator", ""] {
        lab.insert(with_unique(RowKind::Version, &format!("first {unique}"), unique));
        lab.conflict("an insert of a taken unique value", |changes| {
            changes.insert(with_unique(RowKind::Version, "second", unique));
        });
    }
    lab.conflict("a unique value twice in one commit", |changes| {
        changes.insert(with_unique(RowKind::Version, "second", "twice"));
        changes.insert(with_unique(RowKind::Version, "third", "twice"));
    });
}

/// A replacement whose unique value another row has conflicts; its own value it may keep.
pub fn a_replacement_refuses_a_taken_unique_value(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    lab.insert(with_unique(RowKind::Version, "first", "u1"));
    let second = lab.insert(with_unique(RowKind::Version, "second", "u2"));
    lab.conflict("a replacement with a taken unique value", |changes| {
        changes.replace(with_unique(RowKind::Version, "second", "u1"), second);
    });
    lab.commit(|changes| changes.replace(with_unique(RowKind::Version, "second", "u2"), second));
    assert_eq!(
        lab.find(RowKind::Version, "u2").map(|row| row.id),
        some("second"),
        "a row keeps its own value"
    );
}

/// Rows of two kinds may have one unique value; rows without one never conflict.
pub fn a_unique_value_is_taken_within_one_kind_only(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    lab.commit(|changes| {
        changes.insert(with_unique(RowKind::Version, "version", "same"));
        changes.insert(with_unique(RowKind::Sealed, "sealed", "same"));
        changes.insert(draft(RowKind::Version, "without"));
        changes.insert(draft(RowKind::Version, "without, too"));
    });
    for (kind, id) in [(RowKind::Version, "version"), (RowKind::Sealed, "sealed")] {
        assert_eq!(lab.find(kind, "same").map(|row| row.id), some(id), "unique values are kept by kind");
    }
    assert_eq!(lab.find(RowKind::Outbox, "same"), None, "unique values are kept by kind");
}

/// A unique value is free once its row is deleted, or replaced by one with another value or none.
pub fn a_unique_value_is_freed_by_deletion_and_by_replacement(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let old = lab.commit(|changes| {
        for n in 1..=3 {
            changes.insert(with_unique(RowKind::Version, &format!("old {n}"), &format!("u{n}")));
        }
    });
    lab.commit(|changes| {
        changes.delete(RowKind::Version, "old 1", old);
        changes.replace(with_unique(RowKind::Version, "old 2", "other"), old);
        changes.replace(draft(RowKind::Version, "old 3"), old);
    });
    for n in 1..=3 {
        let unique = format!("u{n}");
        assert_eq!(lab.find(RowKind::Version, &unique), None, "a value that was given up is not found");
        lab.insert(with_unique(RowKind::Version, &format!("new {n}"), &unique));
        let found = lab.find(RowKind::Version, &unique).map(|row| row.id);
        assert_eq!(found, Some(format!("new {n}")), "a value that was given up can be taken");
    }
}

/// A replacement, deletion or expectation of a revision that the row no longer has, or has not yet, conflicts.
pub fn a_stale_revision_conflicts(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let old = lab.insert(draft(RowKind::Key, "key 1"));
    let now = lab.commit(|changes| changes.replace(draft(RowKind::Key, "key 1"), old));
    for wrong in [Revision(0), old, Revision(now.0 + 1)] {
        let named = [
            lab.conflict("a replacement of a stale row", |changes| {
                changes.replace(draft(RowKind::Key, "key 1"), wrong);
            }),
            lab.conflict("a deletion of a stale row", |changes| changes.delete(RowKind::Key, "key 1", wrong)),
            lab.conflict("a stale expectation", |changes| changes.expect(RowKind::Key, "key 1", Some(wrong))),
        ];
        named.iter().for_each(|named| {
            assert_eq!(named, &(RowKind::Key, "key 1".to_owned()), "a conflict names the row")
        });
    }
}

/// A replacement, deletion or expectation of a row that is not there, or no longer, conflicts.
pub fn an_absent_row_conflicts(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let old = lab.insert(draft(RowKind::Key, "deleted"));
    let gone = lab.commit(|changes| changes.delete(RowKind::Key, "deleted", old));
    for (id, revision) in [("deleted", old), ("deleted", gone), ("never", old), ("never", Revision(0))] {
        lab.conflict("a replacement of an absent row", |changes| {
            changes.replace(draft(RowKind::Key, id), revision)
        });
        lab.conflict("a deletion of an absent row", |changes| changes.delete(RowKind::Key, id, revision));
        lab.conflict("an expectation of an absent row", |changes| {
            changes.expect(RowKind::Key, id, Some(revision))
        });
    }
}

/// An expected absence conflicts with a row of that kind and id, and with no other.
pub fn an_expected_absence_holds_only_while_the_row_is_absent(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let expect_none = |changes: &mut Changeset| changes.expect(RowKind::Request, "req 1", None);
    lab.insert(draft(RowKind::Outbox, "req 1"));
    lab.commit(expect_none);
    let row = lab.insert(draft(RowKind::Request, "req 1"));
    let named = lab.conflict("an expected absence of a row that is there", expect_none);
    assert_eq!(named, (RowKind::Request, "req 1".to_owned()), "a conflict names the row");
    lab.commit(|changes| changes.delete(RowKind::Request, "req 1", row));
    lab.commit(expect_none);
}

/// An expectation leaves the row as it is, with the revision that it had.
pub fn an_expectation_that_holds_writes_nothing(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let old = lab.insert(draft(RowKind::Key, "key 1"));
    let before = lab.get(RowKind::Key, "key 1");
    lab.commit(|changes| {
        changes.expect(RowKind::Key, "key 1", Some(old));
        changes.expect(RowKind::Key, "none", None);
    });
    assert_eq!(lab.get(RowKind::Key, "key 1"), before, "an expectation must not write the row");
    assert_eq!(lab.get(RowKind::Key, "none"), None, "an expected absence must not write a row");
}

/// The writes of a commit see those before them, and only those.
pub fn writes_are_carried_out_in_order(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let old = lab.commit(|changes| {
        changes.insert(with_unique(RowKind::Version, "a", "ua"));
        changes.insert(with_unique(RowKind::Version, "b", "ub"));
    });
    let new = lab.commit(|changes| {
        changes.delete(RowKind::Version, "a", old);
        changes.insert(with_unique(RowKind::Version, "a", "new"));
        changes.replace(with_unique(RowKind::Version, "b", "ua"), old);
        changes.insert(with_unique(RowKind::Version, "c", "ub"));
    });
    for (unique, id) in [("new", "a"), ("ua", "b"), ("ub", "c")] {
        let found = lab.find(RowKind::Version, unique).map(|row| (row.id, row.revision));
        assert_eq!(found, Some((id.to_owned(), new)), "{unique} must have gone on to {id}");
    }
    lab.conflict("a value that only a later write frees", |changes| {
        changes.insert(with_unique(RowKind::Version, "d", "ua"));
        changes.delete(RowKind::Version, "b", new);
    });
    lab.conflict("an id that only a later write frees", |changes| {
        changes.insert(draft(RowKind::Version, "b"));
        changes.delete(RowKind::Version, "b", new);
    });
}

//! What the feed promises: every change of a followed kind, in order, by whole commits, down to its floor.

use crate::keyring::Generation;
use crate::store::conformance::StoreBed;
use crate::store::conformance::lab::{Lab, Told, draft, event, feed, indexed, keyring, page, some};
use crate::store::{Changeset, CommitError, FeedPage, Revision, RowKind};

fn names(told: &[Told]) -> Vec<&str> {
    told.iter().map(|told| told.name().1).collect()
}

/// Each row is told once, as it is now, in the place of the commit that last changed it.
pub fn the_feed_tells_the_last_change_of_each_row_in_the_order_of_commits(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let z = lab.insert(draft(RowKind::Role, "z"));
    lab.insert(draft(RowKind::Key, "y"));
    lab.insert(draft(RowKind::Version, "a"));
    lab.insert(draft(RowKind::Owner, "x"));
    let last = lab.commit(|changes| {
        changes.replace(indexed(RowKind::Role, "z", |index| index.state = some("now")), z);
    });
    let (told, page) = feed(&*lab.store, Revision(0), 100);
    assert_eq!(names(&told), ["y", "a", "x", "z"], "the order of commits, each row once");
    assert_eq!((page.up_to, page.more), (last, false), "the feed has come to the last commit");
    for told in &told {
        let row = told.row();
        assert_eq!(lab.get(row.kind, &row.id).as_ref(), Some(row), "the feed tells rows as they are now");
    }
    for (since, expected) in [(z, 4), (Revision(3), 3), (Revision(4), 2), (Revision(5), 1), (last, 0)] {
        let (told, page) = feed(&*lab.store, since, 100);
        assert_eq!(told.len(), expected, "only changes after {since}");
        assert_eq!(page.up_to, last, "the feed has come to the last commit");
    }
}

/// A page never ends within a commit, holds about as many items as asked for, and all pages give everything once.
pub fn the_feed_tells_whole_commits(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    for commit in 0..6 {
        lab.commit(|changes| {
            for row in 0..3 {
                changes.insert(draft([RowKind::Key, RowKind::Version][row % 2], &format!("{commit} {row}")));
            }
        });
    }
    let (all, _) = feed(&*lab.store, Revision(0), 1_000);
    assert_eq!(all.len(), 18, "the feed tells all");
    for limit in [1, 2, 3, 4, 5, 7, 17, 18, 19, 1_000] {
        let (mut since, mut pages) = (Revision(0), Vec::new());
        loop {
            let (told, page) = page(&*lab.store, since, limit);
            let last = told.iter().map(|told| told.row().revision).max().unwrap_or(since);
            let next = all.iter().map(|told| told.row().revision).find(|revision| *revision > last);
            assert_eq!(told.len() % 3, 0, "limit {limit}: a page must hold whole commits");
            assert!(told.len() <= limit + 2, "limit {limit}: a page must not hold much more than the limit");
            assert!(told.iter().all(|told| told.row().revision > since), "only changes after {since}");
            assert!(page.up_to >= last, "limit {limit}: up_to must cover what was told");
            assert!(
                next.is_none_or(|next| page.up_to < next),
                "limit {limit}: up_to must not cover what was not told"
            );
            assert!(
                page.more || next.is_none(),
                "limit {limit}: a page before the last must say that there is more"
            );
            pages.extend(told);
            if !page.more {
                assert_eq!(page.up_to, lab.revision(), "limit {limit}: the last page comes to the head");
                break;
            }
            assert!(page.up_to > since, "limit {limit}: a page with more to tell must advance");
            since = page.up_to;
        }
        assert_eq!(pages, all, "limit {limit}: all pages give everything once, in order");
    }
}

/// A commit with more items than the limit is told whole.
pub fn the_feed_tells_a_commit_larger_than_the_limit(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    lab.insert(draft(RowKind::Key, "before"));
    let large =
        lab.commit(|changes| (0..50).for_each(|n| changes.insert(draft(RowKind::Version, &format!("v{n}")))));
    lab.insert(draft(RowKind::Key, "behind"));
    let (told, page) = page(&*lab.store, Revision(2), 1);
    assert_eq!(told.len(), 50, "a commit larger than the limit must be told whole, and alone");
    assert_eq!((page.up_to, page.more), (large, true), "and the feed goes on behind it");
}

/// A deletion is told to whoever has read the row, also when it was told with others in one commit.
pub fn the_feed_tells_deletions(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let read = lab.commit(|changes| {
        for kind in [RowKind::Key, RowKind::Version, RowKind::Owner, RowKind::Role] {
            changes.insert(draft(kind, "gone"));
            changes.insert(draft(kind, "kept"));
        }
    });
    lab.insert(draft(RowKind::Key, "between"));
    let gone = lab.commit(|changes| {
        for kind in [RowKind::Key, RowKind::Version, RowKind::Owner, RowKind::Role] {
            changes.delete(kind, "gone", read);
        }
        changes.insert(draft(RowKind::Key, "with"));
    });
    let (told, _) = feed(&*lab.store, read, 1);
    assert_eq!(names(&told)[0], "between", "a deletion is told in the place of its commit");
    for kind in [RowKind::Key, RowKind::Version, RowKind::Owner, RowKind::Role] {
        let deletion = Told::Gone(kind, "gone".to_owned());
        assert_eq!(
            told.iter().filter(|told| **told == deletion).count(),
            1,
            "{kind}: a deletion must be told once"
        );
    }
    assert_eq!(told.len(), 6, "two rows and four deletions");
    assert!(feed(&*lab.store, gone, 100).0.is_empty(), "a deletion that was told is not told again");
    let (told, _) = feed(&*lab.store, Revision(1), 100);
    let rows = told.iter().filter(|told| matches!(told, Told::Row(_))).count();
    assert_eq!(rows, 6, "a row that is gone is not told as a row");
}

/// A row that was deleted and inserted again, by a later commit or the same one, is told once, as a row.
pub fn the_feed_tells_a_row_that_came_back(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let old = lab.insert(draft(RowKind::Version, "later"));
    lab.commit(|changes| changes.delete(RowKind::Version, "later", old));
    let later = lab.insert(draft(RowKind::Version, "later"));
    let old = lab.insert(draft(RowKind::Version, "at once"));
    let at_once = lab.commit(|changes| {
        changes.delete(RowKind::Version, "at once", old);
        changes.insert(draft(RowKind::Version, "at once"));
    });
    for since in [Revision(0), Revision(2), Revision(3)] {
        let (told, _) = feed(&*lab.store, since, 100);
        let rows: Vec<_> = told.iter().map(|told| (told.row().id.as_str(), told.row().revision)).collect();
        assert_eq!(
            rows,
            [("later", later), ("at once", at_once)],
            "a row that came back is told once, as a row"
        );
    }
    lab.commit(|changes| changes.delete(RowKind::Version, "later", later));
    let (told, _) = feed(&*lab.store, at_once, 100);
    assert_eq!(told, [Told::Gone(RowKind::Version, "later".to_owned())], "and can go again");
}

/// Changes of kinds that are not followed are not told; the feed passes over their commits.
pub fn the_feed_is_silent_on_kinds_that_are_not_followed(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let silent = || RowKind::ALL.into_iter().filter(|kind| !kind.is_followed());
    let old = lab.commit(|changes| silent().for_each(|kind| changes.insert(draft(kind, "row"))));
    let new = lab.commit(|changes| silent().for_each(|kind| changes.replace(draft(kind, "row"), old)));
    lab.commit(|changes| silent().for_each(|kind| changes.delete(kind, "row", new)));
    let last = lab.commit(|changes| changes.record(event(1)));
    let (told, page) = feed(&*lab.store, Revision(0), 1);
    assert_eq!(told, [], "kinds that are not followed must not be told");
    assert_eq!(page.up_to, last, "the feed passes over commits of which it has nothing to tell");
    let mixed = lab.commit(|changes| {
        RowKind::ALL.into_iter().for_each(|kind| changes.insert(draft(kind, "mixed")));
    });
    let (told, page) = feed(&*lab.store, last, 100);
    assert!(
        told.iter().all(|told| told.name().0.is_followed()),
        "kinds that are not followed must not be told"
    );
    assert_eq!((told.len(), page.up_to), (4, mixed), "the followed rows of a mixed commit are told");
}

/// Who is below the floor is told nothing and stays where it is; from the floor on, everything is told.
pub fn the_feed_below_its_floor_tells_nothing(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let row = lab.insert(draft(RowKind::Key, "early"));
    lab.commit(|changes| changes.delete(RowKind::Key, "early", row));
    let row = lab.insert(draft(RowKind::Key, "late"));
    let floor = lab.insert(draft(RowKind::Key, "kept"));
    lab.commit(|changes| changes.delete(RowKind::Key, "late", row));
    let last = lab.commit(|changes| changes.raise_floor(floor));
    assert_eq!(lab.head().floor, floor, "the head shows the floor");
    for since in (0..floor.0).map(Revision) {
        let (told, page) = page(&*lab.store, since, 100);
        assert_eq!((told.len(), page.up_to), (0, since), "below the floor nothing is told");
        assert_eq!(page.head.map(|head| head.floor), Some(floor), "the page's head shows why");
    }
    let (told, page) = feed(&*lab.store, floor, 100);
    assert_eq!(told, [Told::Gone(RowKind::Key, "late".to_owned())], "from the floor on all is told");
    assert_eq!(page.up_to, last, "from the floor on the feed comes to the head");
    lab.commit(|changes| changes.raise_floor(Revision(1)));
    assert_eq!(lab.head().floor, floor, "the floor never sinks");
}

/// Who is ahead of the head, as after the return of an old file, is told nothing and stays where it is.
pub fn the_feed_ahead_of_the_head_tells_nothing(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let last = lab.insert(draft(RowKind::Key, "key 1"));
    for since in [Revision(last.0 + 1), Revision(u64::MAX / 2), Revision(u64::MAX)] {
        let (told, page) = page(&*lab.store, since, 100);
        assert_eq!((told.len(), page.up_to), (0, since), "ahead of the head nothing is told");
        assert_eq!(page.head.map(|head| head.revision), Some(last), "the page's head shows why");
    }
}

/// The feed of a store that was never founded tells nothing.
pub fn the_feed_of_an_empty_store_is_empty(bed: &dyn StoreBed) {
    let lab = Lab::open(bed);
    let (told, page) = page(&*lab.store, Revision(0), 100);
    assert_eq!(told, [], "an empty store has nothing to tell");
    assert_eq!(page, FeedPage { head: None, up_to: Revision(0), more: false }, "an empty store has no head");
}

/// Each page holds the head as it was when the page was read.
pub fn the_feed_page_holds_the_head(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    for n in 0..3 {
        lab.insert(draft(RowKind::Key, &format!("key {n}")));
        let head = lab.head();
        for since in [Revision(0), head.revision, Revision(99)] {
            assert_eq!(page(&*lab.store, since, 1).1.head.as_ref(), Some(&head), "the page holds the head");
        }
    }
}

/// A row that is written again under another master key has the revision that it had: whoever read it before can still
/// replace it, and no follower hears of it.
pub fn a_row_that_is_written_again_keeps_its_revision_and_the_feed_is_silent(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let second = Generation::new(2);
    let master = keyring(0x11).master(Generation::FIRST).cloned().expect("a keyring holds its master key");
    let added = lab.ring.clone().with(second, master).expect("a keyring takes a second master key");
    let ring = added.clone().with_current(second).expect("a generation that is held can be the current one");
    let lab = Lab { ring: added, ..lab };
    for kind in [RowKind::Key, RowKind::Outbox] {
        let named =
            |state| indexed(kind, "again", |index| (index.unique, index.state) = (some("u"), some(state)));
        let old = lab.insert(named("first"));
        let later = lab.insert(draft(kind, "later"));
        let rewrite = |expected| {
            let mut changes = Changeset::new(&ring);
            changes.rewrite(named("first"), expected);
            lab.store.commit(&changes)
        };
        let written = rewrite(old).expect("a commit whose expectations hold succeeds");
        let row = lab.get(kind, "again").expect("a row that is written again is there");
        assert_eq!(row.revision, old, "the revision of the row, not that of the commit");
        assert_eq!(row.mac.generation, second, "what is written again is what is read");
        assert_eq!(lab.find(kind, "u"), Some(row), "it is found as before");
        let (told, page) = feed(&*lab.store, later, 100);
        assert_eq!((told, page.up_to), (Vec::new(), written), "the feed has nothing to tell of it");
        let stale = rewrite(later);
        assert!(matches!(stale, Err(CommitError::Conflict { .. })), "it may not be another row: {stale:?}");
        // As long as nobody has changed what it records, it does not matter who was first.
        let mut changes = Changeset::new(&ring);
        changes.replace(named("second"), old);
        let last = lab.store.commit(&changes).expect("a commit whose expectations hold succeeds");
        assert!(matches!(rewrite(old), Err(CommitError::Conflict { .. })), "a later row is not written over");
        let (told, _) = feed(&*lab.store, written, 100);
        let told: Vec<_> = told.iter().map(|told| told.row().revision).collect();
        assert_eq!(told, if kind.is_followed() { vec![last] } else { Vec::new() });
    }
}

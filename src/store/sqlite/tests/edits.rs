//! Edits behind the library's back, as a running process comes to know them.

use std::ops::ControlFlow;

use rusqlite::Connection;

use super::{Fixture, draft, told};
use crate::store::{Draft, KeyStore, Revision, RowFilter, RowIndex, RowKind};

#[test]
fn the_triggers_follow_the_kinds_that_the_feed_follows() {
    let followed: Vec<_> =
        RowKind::ALL.into_iter().filter(|kind| kind.is_followed()).map(RowKind::code).collect();
    assert_eq!(followed, [1, 2, 3, 4], "schema_1.sql and read.rs say so too");
}

#[test]
fn a_shell_edit_is_told_at_every_reading_until_a_commit_gives_it_a_place() {
    let fixture = Fixture::new();
    let since = fixture.insert(RowKind::Key, "k1");
    let stamp = fixture.store.stamp().unwrap();
    assert_eq!(fixture.feed(since, 100), (vec![], since, false));
    fixture.shell().execute_batch("UPDATE row SET owner = 'mallory' WHERE id = 'k1'").unwrap();
    assert_ne!(fixture.store.stamp().unwrap(), stamp);
    for _ in 0..3 {
        assert_eq!(fixture.feed(since, 100), (told(&["!k1"]), since, false));
    }
    let next = fixture.insert(RowKind::Owner, "o1");
    let (mut ids, up_to, more) = fixture.feed(since, 100);
    ids.sort();
    assert_eq!((ids, up_to, more), (told(&["!k1", "o1"]), next, false));
    assert_eq!(fixture.feed(next, 100), (vec![], next, false));
}

#[test]
fn a_row_that_a_shell_deletes_inserts_or_renames_is_told() {
    let fixture = Fixture::new();
    fixture.insert(RowKind::Key, "k1");
    fixture.insert(RowKind::Version, "v1");
    let since = fixture.insert(RowKind::Request, "r1");
    let shell = fixture.shell();
    shell.execute_batch("DELETE FROM row WHERE id IN ('k1', 'r1')").unwrap();
    assert_eq!(fixture.feed(since, 100).0, told(&["-k1"]), "requests are not followed");
    shell
        .execute_batch(
            "INSERT INTO row (kind, id, revision, body, generation, mac)
             SELECT kind, 'v2', revision, body, generation, mac FROM row WHERE id = 'v1'",
        )
        .unwrap();
    assert_eq!(fixture.feed(since, 100).0, told(&["-k1", "!v2"]));
    shell.execute_batch("UPDATE row SET id = 'v3' WHERE id = 'v2'").unwrap();
    assert_eq!(fixture.feed(since, 100).0, told(&["-k1", "-v2", "!v3"]));
    shell.execute_batch("UPDATE row SET kind = 8 WHERE id = 'v1'").unwrap();
    assert_eq!(fixture.feed(since, 100).0, told(&["-k1", "-v1", "-v2", "!v3"]));
    let next = fixture.insert(RowKind::Owner, "o1");
    assert_eq!(fixture.feed(since, 1).1, next, "the edits got the revision of the commit");
    assert_eq!(fixture.feed(next, 100).0, told(&[]));
}

#[test]
fn a_row_that_gives_way_to_a_replacement_by_a_shell_is_told() {
    let fixture = Fixture::new();
    let index = RowIndex { unique: Some("locator".to_owned()), ..RowIndex::default() };
    fixture.commit(|changeset| changeset.insert(Draft { index, ..draft(RowKind::Version, "v1") })).unwrap();
    let since = fixture.insert(RowKind::Version, "v2");
    let replace = |columns: &str, values: &str| {
        let sql = format!(
            "REPLACE INTO row ({columns}, revision, body, generation, mac)
             SELECT {values}, revision, body, generation, mac FROM row WHERE id = 'v2'"
        );
        fixture.shell().execute_batch(&sql).unwrap();
    };
    replace("kind, id, uniq", "2, 'v3', 'locator'");
    assert_eq!(fixture.feed(since, 100).0, told(&["-v1", "!v3"]), "by its unique value");
    replace("n, kind, id", "n, 2, 'v4'");
    assert_eq!(fixture.feed(since, 100).0, told(&["-v1", "-v2", "!v3", "!v4"]), "by its row number");
}

#[test]
fn an_edit_that_forges_a_later_revision_is_told_and_leads_nobody_ahead() {
    let fixture = Fixture::new();
    let since = fixture.insert(RowKind::Key, "k1");
    fixture.shell().execute_batch("UPDATE row SET revision = 1000000 WHERE id = 'k1'").unwrap();
    assert_eq!(fixture.feed(since, 1), (told(&["!k1", "!k1"]), since, false), "as edited, and as forged");
    let next = fixture.insert(RowKind::Key, "k2");
    assert_eq!(fixture.feed(since, 1), (told(&["k2", "!k1", "!k1"]), next, false));
    assert_eq!(fixture.feed(next, 1), (told(&["!k1"]), next, false), "forged rows are told at every reading");
    let healed = fixture
        .commit(|changeset| changeset.replace(draft(RowKind::Key, "k1"), Revision(1_000_000)))
        .unwrap();
    assert_eq!(fixture.feed(healed, 100).0, told(&[]));
    assert_eq!(fixture.feed(next, 100).0, told(&["k1"]));
}

#[test]
fn commits_of_the_library_touch_nothing_for_the_triggers() {
    let fixture = Fixture::new();
    let first = fixture.insert(RowKind::Key, "k1");
    let second = fixture.commit(|changeset| changeset.replace(draft(RowKind::Key, "k1"), first)).unwrap();
    fixture.commit(|changeset| changeset.delete(RowKind::Key, "k1", second)).unwrap();
    fixture.insert(RowKind::Key, "k1");
    let count: i64 = fixture.shell().query_row("SELECT count(*) FROM touched", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 0);
}

#[test]
fn a_raised_floor_forgets_deletions_and_edits_below_it() {
    let fixture = Fixture::new();
    let first = fixture.insert(RowKind::Key, "k1");
    fixture.shell().execute_batch("UPDATE row SET owner = 'mallory'").unwrap();
    let gone = fixture.commit(|changeset| changeset.delete(RowKind::Key, "k1", first)).unwrap();
    let count = |shell: Connection| -> i64 {
        shell
            .query_row("SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM touched)", [], |row| {
                row.get(0)
            })
            .unwrap()
    };
    assert_eq!(count(fixture.shell()), 2);
    fixture.commit(|changeset| changeset.raise_floor(gone)).unwrap();
    assert_eq!(count(fixture.shell()), 0);
    assert_eq!(fixture.feed(first, 100), (vec![], first, false), "below the floor nothing is told");
}

#[test]
fn a_row_that_a_shell_has_spoilt_stops_no_scan() {
    let fixture = Fixture::new();
    for id in ["k1", "k2", "k3"] {
        fixture.insert(RowKind::Key, id);
    }
    fixture
        .shell()
        .execute_batch(
            "PRAGMA ignore_check_constraints = ON;
             UPDATE row SET body = CAST(x'ff00fe' AS TEXT), mac = x'00', due_at = -5, ends_at = 9e18,
                 generation = -1, revision = -7, owner = CAST(x'c328' AS TEXT) WHERE id = 'k2'",
        )
        .unwrap();
    let mut rows = Vec::new();
    let scan = fixture.store.scan(RowKind::Key, RowFilter::All { after: None }, &mut |row| {
        rows.push((row.id.to_owned(), row.verify(&fixture.keyring).is_ok()));
        ControlFlow::Continue(())
    });
    scan.unwrap();
    assert_eq!(rows, [("k1".to_owned(), true), ("k2".to_owned(), false), ("k3".to_owned(), true)]);
    fixture
        .store
        .get(RowKind::Key, "k2", &mut |row| {
            assert_eq!((row.body, row.mac.tag), (&b"\xff\x00\xfe"[..], [0; 32]));
            assert_eq!((row.index.due_at, row.index.ends_at, row.revision), (None, None, Revision(0)));
        })
        .unwrap();
}

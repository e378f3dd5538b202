//! Handles: what two see of each other, what failures and crashes leave behind, and closing.

use std::io::{BufRead as _, BufReader};
use std::ops::ControlFlow;
use std::process::Stdio;
use std::time::Duration;

use super::{FOLDER, Fixture, again, draft, told};
use crate::store::sqlite::{SqliteStore, read, schema, usage};
use crate::store::{
    Changeset, CommitError, Draft, KeyStore, Revision, RowFilter, RowKind, SealError, StoreErrorKind,
    UsageBatch,
};
use crate::time::Timestamp;

#[test]
fn every_read_walks_along_an_index() {
    let fixture = Fixture::new();
    let shell = fixture.shell();
    let plan = |sql: &str| -> String {
        let mut statement = shell.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines = statement.raw_query().mapped(|row| row.get::<_, String>(3)).map(Result::unwrap);
        lines.collect::<Vec<_>>().join("; ")
    };
    let t = Timestamp::MIN;
    for (filter, index) in [
        (RowFilter::All { after: None }, "row_by_id (kind=?)"),
        (RowFilter::All { after: Some("a") }, "row_by_id (kind=? AND id>?)"),
        (RowFilter::Parent("a"), "row_by_parent (kind=? AND parent=?)"),
        (RowFilter::Owner { owner: "a", after: None }, "row_by_owner (kind=? AND owner=?)"),
        (RowFilter::Owner { owner: "a", after: Some("b") }, "row_by_owner (kind=? AND owner=? AND id>?)"),
        (RowFilter::Due { by: t, after: None }, "row_by_due (kind=? AND due_at<?)"),
        (
            RowFilter::Due { by: t, after: Some((t, "a")) },
            "row_by_due (kind=? AND (due_at,id)>(?,?) AND due_at<?)",
        ),
    ] {
        assert_eq!(plan(read::scan_sql(&filter)), format!("SEARCH r USING INDEX {index}"), "{filter:?}");
    }
    for sql in [read::FEED, read::FEED_PENDING].into_iter().chain(read::TAIL).chain(usage::SUMS) {
        let plan = plan(sql);
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{plan}");
    }
}

#[test]
fn two_handles_on_one_file_see_each_others_commits_through_the_stamp() {
    let fixture = Fixture::new();
    let other = SqliteStore::open(fixture.path()).unwrap();
    let mut stamp = other.stamp().unwrap();
    assert_eq!(other.stamp().unwrap(), stamp, "while nobody commits it stays");
    for id in ["a", "b", "c"] {
        let own = fixture.store.stamp().unwrap();
        let revision = fixture.insert(RowKind::Key, id);
        assert_ne!(fixture.store.stamp().unwrap(), own);
        assert_ne!(other.stamp().unwrap(), stamp);
        assert_eq!(other.head().unwrap().unwrap().revision, revision);
        stamp = other.stamp().unwrap();
    }
}

#[test]
fn a_lost_connection_is_opened_again_and_its_stamp_is_another() {
    let fixture = Fixture::new();
    let queried = SqliteStore::options().query_stamps(true).open(fixture.path()).unwrap();
    let stamp = queried.stamp().unwrap();
    queried.follower.lock().lose();
    let [before, after] = [stamp, queried.stamp().unwrap()].map(|stamp| stamp.0[2]);
    assert_ne!(before, after, "whatever the new connection's data version is");
    for held in [&fixture.store.writer, &fixture.store.reader, &fixture.store.follower] {
        held.lock().lose();
    }
    let revision = fixture.insert(RowKind::Key, "k1");
    assert_eq!(fixture.store.head().unwrap().unwrap().revision, revision);

    fixture.store.reader.lock().lose();
    let exchanged = fixture.shell();
    exchanged.pragma_update(None, "user_version", schema::SUPPORTED + 1).unwrap();
    assert_eq!(fixture.store.head().unwrap_err().kind(), StoreErrorKind::Corrupt);
    exchanged.pragma_update(None, "user_version", schema::SUPPORTED).unwrap();
    assert_eq!(fixture.store.head().unwrap().unwrap().revision, revision);
}

#[cfg(unix)]
#[test]
fn a_lost_connection_is_not_opened_again_to_another_file() {
    let fixture = Fixture::new();
    let (path, away) = (fixture.path(), fixture.folder.join("away.db"));
    fixture.store.reader.lock().lose();
    std::fs::rename(&path, &away).unwrap();
    assert_eq!(fixture.store.head().unwrap_err().kind(), StoreErrorKind::Moved, "gone");
    std::fs::copy(&away, &path).unwrap();
    assert_eq!(fixture.store.head().unwrap_err().kind(), StoreErrorKind::Moved, "a copy");
    std::fs::rename(&away, &path).unwrap();
    std::os::unix::fs::symlink("elsewhere", fixture.folder.join("keys.db-journal")).unwrap();
    assert_eq!(
        fixture.store.head().unwrap_err().kind(),
        StoreErrorKind::Corrupt,
        "what must not lie beside it"
    );
    std::fs::remove_file(fixture.folder.join("keys.db-journal")).unwrap();
    assert!(fixture.store.head().unwrap().is_some());
}

#[test]
fn a_long_reading_keeps_no_validation_waiting() {
    let fixture = Fixture::new();
    fixture.insert(RowKind::Key, "k1");
    let (sender, receiver) = std::sync::mpsc::channel();
    fixture
        .store
        .scan(RowKind::Key, RowFilter::All { after: None }, &mut |_| {
            // On another thread, because a callback must not call the store.
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let page = fixture.store.feed(Revision(0), 10, &mut |_| ()).unwrap();
                    sender.send((fixture.store.stamp().unwrap(), page.up_to)).unwrap();
                });
            });
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(receiver.recv().unwrap().0, fixture.store.stamp().unwrap());
}

#[test]
fn a_panic_in_a_callback_leaves_the_handle_usable_and_up_to_date() {
    let fixture = Fixture::new();
    fixture.insert(RowKind::Key, "k1");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        fixture.store.feed(Revision(0), 100, &mut |_| panic!("as a host's callback might"))
    }));
    assert!(panicked.is_err());
    let revision = fixture.insert(RowKind::Key, "k2");
    assert_eq!(fixture.store.head().unwrap().unwrap().revision, revision);
    assert_eq!(fixture.feed(Revision(0), 100).0, told(&["k1", "k2"]));
}

#[test]
fn a_transaction_that_was_left_open_does_not_hold_the_reader_in_the_past() {
    let fixture = Fixture::new();
    let left = "BEGIN; SELECT * FROM head";
    fixture.store.reader.lock().connection().unwrap().execute_batch(left).unwrap();
    let revision = fixture.insert(RowKind::Key, "k1");
    assert_eq!(fixture.store.head().unwrap().unwrap().revision, revision);
}

#[test]
fn a_commit_waits_for_anothers_and_is_sealed_on_what_that_one_left() {
    let fixture = Fixture::new();
    let shell = fixture.shell();
    shell.execute_batch("BEGIN IMMEDIATE; INSERT INTO writer VALUES ('w', 1, 1, 0)").unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fixture.insert(RowKind::Key, "k1"));
        std::thread::sleep(Duration::from_millis(100));
        shell.execute_batch("COMMIT").unwrap();
        assert_eq!(waiting.join().unwrap(), Revision(2));
    });
}

#[test]
fn a_lock_that_another_holds_is_busy_and_nothing_was_written() {
    let fixture = Fixture::new();
    let hurried =
        SqliteStore::options().busy_timeout(Duration::from_millis(20)).open(fixture.path()).unwrap();
    let shell = fixture.shell();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut changeset = Changeset::new(&fixture.keyring);
    changeset.insert(draft(RowKind::Key, "k1"));
    let error = hurried.commit(&changeset).unwrap_err();
    assert!(matches!(error, CommitError::NotWritten(error) if error.kind() == StoreErrorKind::Busy));
    let batch = UsageBatch {
        writer: "w".to_owned(),
        sequence: 1,
        flushed_at: Timestamp::MIN,
        ended: false,
        entries: vec![],
    };
    assert_eq!(hurried.add_usage(&batch).unwrap_err().kind(), StoreErrorKind::Busy);
    assert_eq!(hurried.head().unwrap().unwrap().revision, Revision(1), "reading goes on");
    shell.execute_batch("ROLLBACK").unwrap();
    assert_eq!(hurried.commit(&changeset).unwrap(), Revision(2));
}

#[test]
fn a_full_file_system_is_full_and_nothing_was_written() {
    let fixture = Fixture::new();
    {
        let mut slot = fixture.store.writer.lock();
        let connection = slot.connection().unwrap();
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    }
    let large = Draft { body: vec![b' '; 100_000], ..draft(RowKind::Key, "k1") };
    let error = fixture.commit(|changeset| changeset.insert(large)).unwrap_err();
    assert!(matches!(error, CommitError::NotWritten(error) if error.kind() == StoreErrorKind::Full));
    assert_eq!(fixture.feed(Revision(0), 100).0, told(&[]));
}

#[test]
fn a_store_that_may_not_be_written_says_so_and_can_be_read() {
    let fixture = Fixture::new();
    fixture.store.writer.lock().connection().unwrap().pragma_update(None, "query_only", true).unwrap();
    let error = fixture.commit(|changeset| changeset.insert(draft(RowKind::Key, "k1"))).unwrap_err();
    assert!(matches!(error, CommitError::NotWritten(error) if error.kind() == StoreErrorKind::ReadOnly));
    assert_eq!(fixture.feed(Revision(0), 100).0, told(&[]));
}

#[test]
fn a_log_that_goes_on_behind_the_head_refuses_an_ordinary_commit() {
    use crate::actor::Context;
    use crate::event::{Event, EventKind};
    for seq in [1, 2, 7, 1_i64 << 61] {
        let fixture = Fixture::new();
        fixture
            .shell()
            .execute_batch(&format!(
                "INSERT INTO audit (seq, at, kind, actor, body, generation, mac)
                 VALUES ({seq}, 0, '', '', '', 1, zeroblob(32))"
            ))
            .unwrap();
        let event = Event::new(Timestamp::MIN, EventKind::ClockConfirmed, &Context::system());
        let error = fixture
            .commit(|changeset| {
                changeset.insert(draft(RowKind::Key, "k1"));
                changeset.record(event);
            })
            .unwrap_err();
        assert!(matches!(error, CommitError::Seal(SealError::HeadTampered)), "{seq}: {error}");
        assert_eq!(fixture.feed(Revision(0), 100).0, told(&[]));
    }
}

#[test]
fn what_stands_at_the_end_of_all_numbers_uses_up_none_of_them() {
    let fixture = Fixture::new();
    fixture
        .shell()
        .execute_batch(
            "INSERT INTO audit (seq, at, kind, actor, body, generation, mac)
             VALUES (9223372036854775807, 0, '', '', '', 1, zeroblob(32)), (-5, 0, '', '', '', 1, zeroblob(32))",
        )
        .unwrap();
    fixture.commit(|changeset| changeset.insert(draft(RowKind::Key, "k1"))).unwrap();
    assert_eq!(fixture.feed(Revision(0), 100).0.len(), 1);
}

#[test]
fn after_close_every_call_says_closed_and_the_file_is_whole() {
    let fixture = Fixture::new();
    fixture.insert(RowKind::Key, "k1");
    fixture.store.close().unwrap();
    fixture.store.close().unwrap();
    assert_eq!(fixture.store.head().unwrap_err().kind(), StoreErrorKind::Closed);
    assert_eq!(fixture.store.stamp().unwrap_err().kind(), StoreErrorKind::Closed);
    let error = fixture.commit(|changeset| changeset.insert(draft(RowKind::Key, "k2"))).unwrap_err();
    assert!(matches!(error, CommitError::NotWritten(error) if error.kind() == StoreErrorKind::Closed));
    let alone = fixture.folder.join("alone.db");
    std::fs::copy(fixture.path(), &alone).unwrap();
    assert_eq!(SqliteStore::open(alone).unwrap().head().unwrap().unwrap().revision, Revision(2));
    let [log, index] = ["keys.db-wal", "keys.db-shm"].map(|name| fixture.folder.join(name));
    assert_eq!(log.metadata().unwrap().len(), 0, "the log went into the file");
    let Fixture { store, _folder, .. } = fixture;
    drop(store);
    assert!(!log.exists() && !index.exists(), "nothing stays beside the file");
}

#[test]
fn debug_shows_the_path_and_nothing_else() {
    let fixture = Fixture::new();
    let path = fixture.store.place.path.clone();
    assert_eq!(format!("{:?}", fixture.store), format!("SqliteStore {{ path: {path:?}, .. }}"));
}

/// Two rows in each commit, until something stops it.
#[cfg(unix)]
fn commit_pairs(fixture: &Fixture, mut after: impl FnMut(u64)) -> CommitError {
    for n in 0.. {
        let body = vec![b' '; 20_000];
        let row = |id| Draft { body: body.clone(), ..draft(RowKind::Key, &format!("{id}{n:08}")) };
        let both = fixture.commit(|changeset| {
            changeset.insert(row("a"));
            changeset.insert(row("b"));
        });
        match both {
            Ok(revision) => after(revision.0),
            Err(error) => return error,
        }
    }
    unreachable!()
}

/// How many rows begin with this letter.
fn count(store: &SqliteStore, letter: char) -> u64 {
    let mut count = 0;
    let scan = store.scan(RowKind::Key, RowFilter::All { after: None }, &mut |row| {
        count += u64::from(row.id.starts_with(letter));
        ControlFlow::Continue(())
    });
    scan.unwrap();
    count
}

#[cfg(unix)]
#[test]
fn a_killed_process_leaves_whole_commits_and_none_that_returned_is_missing() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let fixture = Fixture::at(std::path::Path::new(&folder));
        commit_pairs(&fixture, |revision| {
            use std::io::Write as _;
            writeln!(std::io::stderr(), "{revision}").unwrap();
        });
        return;
    }
    let test = "store::sqlite::tests::handles::a_killed_process_leaves_whole_commits_and_none_that_returned_is_missing";
    for last in [3, 20, 60] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = again(test, "true", folder.path()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut returned = 0;
        for line in lines.map_while(Result::ok) {
            returned = line.parse().unwrap_or(returned);
            if returned >= last {
                // Goes on reading afterwards: what was told before the kill was committed too.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let store = SqliteStore::open(folder.path().join("keys.db")).unwrap();
        let revision = store.head().unwrap().unwrap().revision.0;
        assert!(revision >= returned && returned >= last, "{revision} of {returned}");
        assert_eq!((count(&store, 'a'), count(&store, 'b')), (revision - 1, revision - 1));
    }
}

#[cfg(unix)]
#[test]
fn a_failed_write_of_the_log_leaves_the_outcome_open_and_the_handle_recovers() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let fixture = Fixture::at(std::path::Path::new(&folder));
        let mut stamp = fixture.store.stamp().unwrap();
        let mut committed = 0;
        let error = commit_pairs(&fixture, |_| {
            committed += 1;
            stamp = fixture.store.stamp().unwrap();
        });
        assert!(
            matches!(&error, CommitError::Unknown(error) if error.kind() == StoreErrorKind::Io),
            "{error:?} after {committed}"
        );
        assert_ne!(fixture.store.stamp().unwrap(), stamp);
        for held in [&fixture.store.writer, &fixture.store.reader, &fixture.store.follower] {
            held.lock().connection().unwrap();
            assert_eq!(held.lock().epoch(), 1, "opened again");
        }
        assert_eq!((count(&fixture.store, 'a'), count(&fixture.store, 'b')), (committed, committed));
        return;
    }
    let test = "store::sqlite::tests::handles::a_failed_write_of_the_log_leaves_the_outcome_open_and_the_handle_recovers";
    let folder = tempfile::tempdir().unwrap();
    // A limit on the size of files, in blocks of 512 or 1024 bytes, whose signal is ignored: writing fails.
    let run = again(test, "trap '' XFSZ; ulimit -f 1000", folder.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(folder.path().join("keys.db").exists(), "the test ran there");
}

//! An import that is killed in the middle, and done again.

use std::process::{Child, Stdio};
use std::time::Duration;

use crate::stage::{Stage, text};

const LINES: i64 = 5_000;

/// How many rows of a kind are committed, as anybody can see.
fn rows(stage: &Stage, kind: keyrota::RowKind) -> i64 {
    let shell = rusqlite::Connection::open(stage.path("keys.db")).unwrap();
    shell.query_row("SELECT count(*) FROM row WHERE kind = ?1", (kind.code(),), |row| row.get(0)).unwrap()
}

/// Kills it once so many versions are there; `false` where it was quicker.
fn kill_at(stage: &Stage, mut child: Child, at_least: i64) -> bool {
    let pause = Duration::from_millis(2);
    let looks = std::iter::repeat_n((), 300_000);
    for () in looks {
        if rows(stage, keyrota::RowKind::Version) >= at_least || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(pause);
    }
    // On unix this is SIGKILL: nothing of the process has a last word.
    child.kill().unwrap();
    child.wait().unwrap().code().is_none()
}

#[test]
fn an_import_that_is_killed_and_done_again_gives_every_key_once() {
    let stage = Stage::new();
    let digest = |n: i64| ring::digest::digest(&ring::digest::SHA256, format!("token number {n}").as_bytes());
    let hex = |n| digest(n).as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: String = (0..LINES).map(|n| format!("{},{},key {n}\n", hex(n), n / 5)).collect();
    std::fs::write(stage.path("keys.csv"), format!("key_hash,owner,name\n{lines}")).unwrap();
    let import = ["import", "--csv", "keys.csv", "--request", "move-1"];
    let mut kills = 0;
    for at_least in [1_000, 3_000] {
        let child = stage.command(&import).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        kills += u32::from(kill_at(&stage, child, at_least));
        let there = rows(&stage, keyrota::RowKind::Version);
        assert_eq!(there % 1_000, 0, "a batch is there or not");
        assert_eq!(rows(&stage, keyrota::RowKind::Key), there);
    }
    let before = rows(&stage, keyrota::RowKind::Version);
    assert!(kills > 0 && (1_000..LINES).contains(&before), "{kills} kills, {before} keys");
    let report = stage.json(&import);
    assert_eq!(
        (&report["before"], &report["imported"], &report["skipped"]),
        (&before.into(), &(LINES - before).into(), &0.into()),
        "{report}"
    );
    assert_eq!(stage.json(&import)["before"], LINES);
    for kind in [keyrota::RowKind::Version, keyrota::RowKind::Key] {
        assert_eq!(rows(&stage, kind), LINES);
    }
    assert_eq!(stage.json(&["import", "--remaining"])["remaining"], LINES);
    let entries = stage.json(&["audit", "query", "--kind", "keys_imported"]);
    assert_eq!(entries["entries"].as_array().unwrap().len(), 5, "one for each batch");
    for n in [0, 999, 1_000, LINES - 1] {
        let found = stage.json_with(&["find"], &format!("token number {n}"));
        let key = stage.json(&["show", &text(&found["key_id"])]);
        assert_eq!(key["key"]["name"], format!("key {n}"));
        stage.json_with(&["validate"], &format!("token number {n}"));
    }
    assert_eq!(stage.json(&["doctor"])["healthy"], true);
}

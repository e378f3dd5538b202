//! One thing after another that a second process can do to the file.

use keyrota::{DenialReason, KeyStore as _, SqliteStore, Validator};

use crate::process::Process;
use crate::witness::{Witness, keyring};

const COMMIT: &str =
    "INSERT INTO writer VALUES ('w', 1, 1, 0) ON CONFLICT (name) DO UPDATE SET flushed_at = flushed_at + 1";

#[test]
fn each_of_thousands_of_single_commits_moves_the_stamp() {
    let mut witness = Witness::new();
    let mut other = Process::on(&witness.path());
    for n in 0..3_000 {
        other.sql(COMMIT);
        witness.saw_a_change(&format!("commit {n}"));
        witness.saw_nothing("asked again");
    }
}

#[test]
fn no_checkpoint_hides_a_commit_and_no_reset_of_the_log_brings_a_stamp_back() {
    let mut witness = Witness::new();
    let mut other = Process::on(&witness.path());
    for round in 0..100 {
        for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
            for commit in 0..3 {
                other.sql(COMMIT);
                witness.saw_a_change(&format!("round {round}, commit {commit} before {mode}"));
            }
            other.sql(&format!("PRAGMA wal_checkpoint({mode})"));
            witness.may_have_seen_a_change();
        }
        // Without a commit between them, too.
        other.sql("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA wal_checkpoint(TRUNCATE)");
        witness.may_have_seen_a_change();
    }
}

#[test]
fn the_log_is_reset_by_itself_again_and_again() {
    let mut witness = Witness::new();
    let mut other = Process::on(&witness.path());
    other.sql("PRAGMA wal_autocheckpoint = 5");
    for n in 0..500 {
        other.sql(COMMIT);
        witness.saw_a_change(&format!("commit {n}"));
    }
}

#[test]
fn vacuum_and_changes_of_the_schema_move_the_stamp() {
    let mut witness = Witness::new();
    let mut other = Process::on(&witness.path());
    for sql in [
        "VACUUM",
        "CREATE TABLE guest (a)",
        "INSERT INTO guest SELECT hex(zeroblob(10000)) FROM json_each('[1,2,3,4,5,6,7,8,9]')",
        "DELETE FROM guest",
        "VACUUM",
        "ALTER TABLE guest ADD COLUMN b",
        "DROP TABLE guest",
        "PRAGMA user_version = 2",
        "PRAGMA user_version = 1",
        "REINDEX",
        "VACUUM",
    ] {
        other.sql(sql);
        witness.saw_a_change(sql);
    }
}

#[test]
fn reading_rolling_back_opening_and_closing_move_nothing_and_hide_nothing() {
    let mut witness = Witness::new();
    for n in 0..20 {
        let mut other = Process::on(&witness.path());
        other.sql("SELECT count(*) FROM row");
        other.sql("BEGIN IMMEDIATE; INSERT INTO writer VALUES ('never', 0, 0, 0); ROLLBACK");
        witness.saw_nothing("a rollback");
        other.sql(&format!("BEGIN IMMEDIATE; {COMMIT}"));
        witness.saw_nothing("an open transaction");
        other.sql("COMMIT");
        witness.saw_a_change(&format!("process {n}"));
        if n % 2 == 0 {
            other.ask("close");
        }
        other.end();
        witness.saw_nothing("closing");
        Process::on(&witness.path()).end();
        witness.saw_nothing("opening");
    }
}

#[test]
fn a_process_that_is_killed_in_mid_transaction_leaves_no_trace_and_hides_no_later_commit() {
    let mut witness = Witness::new();
    for n in 0..10 {
        let mut doomed = Process::on(&witness.path());
        begin_the_log(&mut doomed, &mut witness);
        // More than fits its cache: pages are in the log already.
        doomed.sql(
            "PRAGMA cache_size = 5; BEGIN IMMEDIATE; INSERT INTO writer SELECT 'x' || value || hex(zeroblob(3000)), 0, 0, 0 \
             FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]')",
        );
        witness.saw_nothing("pages in the log");
        doomed.kill();
        witness.saw_nothing("killed");
        let before = Witness::flushes(&witness.path());
        witness.may_have_seen_a_change();
        let mut other = Process::on(&witness.path());
        other.sql(&format!("INSERT INTO writer VALUES ('after {n}', 0, 0, 0)"));
        witness.saw_a_change("the commit after it");
        assert_eq!(Witness::flushes(&witness.path()), before + 1, "of the killed one nothing was left");
    }
}

/// Kills a process at a place within its commit, in which it adds the row `name`; how many there were before it.
fn dies_at(place: &str, name: &str, witness: &mut Witness) -> u32 {
    let mut doomed = Process::on(&witness.path());
    begin_the_log(&mut doomed, witness);
    let before = Witness::flushes(&witness.path());
    doomed.die_at(&format!("{place} INSERT INTO writer VALUES ('{name}', 0, 0, 0)"));
    before
}

/// Whoever opens a file moves what its log holds into it, and the first who writes then begins the log anew, which moves
/// the stamp before any commit. So somebody does that first.
fn begin_the_log(process: &mut Process, witness: &mut Witness) {
    process.sql(COMMIT);
    witness.saw_a_change("the log is begun anew");
}

#[test]
fn a_process_that_dies_after_its_commit_was_written_moves_the_stamp_though_nothing_returned() {
    let mut witness = Witness::new();
    for n in 0..5 {
        let before = dies_at("die-before-return", &n.to_string(), &mut witness);
        witness.saw_a_change("it is written");
        assert_eq!(Witness::flushes(&witness.path()), before + 1);
    }
}

#[test]
fn who_dies_between_the_copies_of_the_header_is_seen_by_the_next_who_reads() {
    let mut witness = Witness::new();
    for n in 0..5 {
        let before = dies_at("die-within-header", &n.to_string(), &mut witness);
        let stamp = witness.store.stamp().unwrap();
        // Nobody has seen the row yet. Whoever looks recovers the log, and that moves the stamp.
        assert_eq!(Witness::flushes(&witness.path()), before + 1);
        assert_ne!(witness.store.stamp().unwrap(), stamp);
        witness.saw_a_change("recovered");
        Process::on(&witness.path()).sql(COMMIT);
        witness.saw_a_change("the next commit, counted anew");
    }
}

#[test]
fn a_commit_whose_header_was_never_written_is_not_there() {
    let mut witness = Witness::new();
    for n in 0..5 {
        let before = dies_at("die-before-header", &n.to_string(), &mut witness);
        witness.saw_nothing("the header was not written");
        assert_eq!(Witness::flushes(&witness.path()), before);
        Process::on(&witness.path()).sql(COMMIT);
        witness.saw_a_change("the next commit");
    }
}

#[test]
fn a_log_that_dies_with_all_its_processes_is_recovered_before_the_first_stamp() {
    let mut witness = Witness::new();
    let path = witness.path();
    dies_at("die-within-header", "last", &mut witness);
    // This process lets go of the file without writing the log into it.
    let crashed = witness.folder.path().join("crashed.db");
    for suffix in ["", "-wal", "-shm"] {
        let of = |path: &std::path::Path| format!("{}{suffix}", path.display());
        // The copy is read by name alone: the original's locks stay as they are.
        std::process::Command::new("cp").args([of(&path), of(&crashed)]).status().unwrap();
    }
    let store = SqliteStore::open(&crashed).unwrap();
    assert_eq!(store.stamp_fallback(), witness.store.stamp_fallback());
    let stamp = store.stamp().unwrap();
    assert!(Witness::flushes(&crashed) > 0, "what the dead one committed");
    assert_eq!(store.stamp().unwrap(), stamp, "it was recovered when the store was opened");
    Process::on(&crashed).sql(COMMIT);
    assert_ne!(store.stamp().unwrap(), stamp);
    witness.may_have_seen_a_change();
}

#[test]
fn the_journal_mode_cannot_be_changed_under_an_open_store() {
    let mut witness = Witness::new();
    let mut other = Process::on(&witness.path());
    other.sql("PRAGMA busy_timeout = 100");
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"] {
        assert_ne!(other.ask(&format!("sql PRAGMA journal_mode = {mode}")), "ok", "{mode}");
        other.sql(COMMIT);
        witness.saw_a_change(mode);
    }
    // It gets no lock for itself alone, and without that it goes by what all share.
    other.sql("PRAGMA locking_mode = EXCLUSIVE; SELECT count(*) FROM row");
    assert_ne!(other.ask("sql PRAGMA journal_mode = DELETE"), "ok");
    let committed = other.ask(&format!("sql {COMMIT}"));
    if committed == "ok" {
        witness.saw_a_change("by a process that wanted the file for itself");
    } else {
        println!("locking_mode = EXCLUSIVE: {committed}");
        witness.saw_nothing("nothing was committed");
    }
}

#[test]
fn a_revocation_by_another_process_denies_the_next_validation() {
    let witness = Witness::new();
    let validator = Validator::open(SqliteStore::open(witness.path()).unwrap(), keyring()).unwrap();
    assert_eq!(validator.freshness(), witness.store.freshness());
    let keys: Vec<_> = (0..100).map(|n| witness.issue(&format!("key {n}"))).collect();
    let mut other = Process::start();
    other.ask(&format!("keys {}", witness.path().display()));
    for (key, token) in keys {
        validator.validate(&token).unwrap();
        assert_eq!(other.ask(&format!("revoke {key}")), "ok");
        assert_eq!(validator.validate(&token).unwrap_err().reason(), DenialReason::Revoked);
    }
}

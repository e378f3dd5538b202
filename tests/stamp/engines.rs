//! Other versions of SQLite that write to the file: whatever this machine has.

use std::process::Command;

use crate::process::{ANSWER, Process};
use crate::witness::Witness;

const COMMITS: u32 = 300;

/// A program that reads statements, one a line, and answers each, or `None` when it cannot be run.
fn program(name: &str, arguments: &[&str], version: &[&str]) -> Option<(Process, String)> {
    let mut ask = Command::new(name);
    let found = ask.args(version).output().ok().filter(|found| found.status.success())?;
    let mut command = Command::new(name);
    command.args(arguments);
    Some((Process::run(command), String::from_utf8_lossy(&found.stdout).trim().to_owned()))
}

fn writes(name: &str, program: Option<(Process, String)>, open: &str, commit: impl Fn(&str) -> String) {
    let Some((mut other, version)) = program else {
        println!("skipped: this machine has no {name} with SQLite");
        return;
    };
    println!("{name}: SQLite {version}");
    let mut witness = Witness::new();
    other.tell(&open.replace("FILE", &witness.path().display().to_string()));
    for n in 0..COMMITS {
        let sql = format!("INSERT INTO writer VALUES ('w{n}', 0, 0, 0)");
        assert_eq!(other.ask(&commit(&sql)), "ok");
        witness.saw_a_change(&format!("commit {n} of {name}"));
        witness.saw_nothing("asked again");
        if n % 50 == 49 {
            let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][n as usize / 50 % 4];
            assert_eq!(other.ask(&commit(&format!("PRAGMA wal_checkpoint({mode})"))), "ok");
            witness.may_have_seen_a_change();
            assert_eq!(other.ask(&commit("VACUUM")), "ok");
            witness.saw_a_change("VACUUM");
            // This process's version writes in between.
            witness.issue(&format!("key {n}"));
            witness.saw_a_change("a commit of this process");
        }
    }
    assert_eq!(Witness::flushes(&witness.path()), COMMITS);
    witness.may_have_seen_a_change();
    other.kill();
    assert!(witness.keys.check(None).unwrap().is_sound());
}

#[test]
fn the_commits_of_python_s_sqlite_move_the_stamp() {
    let script = format!(
        "import sqlite3, sys\nopened = None\nfor line in sys.stdin:\n line = line.strip()\n if opened is None:\n  \
         opened = sqlite3.connect(line, isolation_level=None, timeout=30)\n  continue\n \
         opened.execute(line).fetchall()\n print('{ANSWER}ok', flush=True)\n"
    );
    let version = "import sqlite3; print(sqlite3.sqlite_version)";
    let program = program("python3", &["-c", &script], &["-c", version]);
    writes("python3", program, "FILE", str::to_owned);
}

#[test]
fn the_commits_of_the_sqlite_shell_move_the_stamp() {
    let program = program("sqlite3", &["-batch"], &["--version"]);
    writes("sqlite3", program, ".open FILE", |sql| format!("{sql};\n.print '{ANSWER}ok'"));
}

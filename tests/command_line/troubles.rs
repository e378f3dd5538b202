//! What a command says, and with which exit code it ends, when something is wrong.

use std::fs::{self, OpenOptions};
use std::process::Stdio;

use crate::stage::{Answer, PROGRAM, Stage, text};

#[test]
fn a_missing_wrong_or_open_master_key_is_told() {
    let stage = Stage::new();
    let (_, token) = stage.issue(&[]);
    let with = |variable: Option<&str>| {
        let mut command = stage.command(&["list"]);
        command.env_remove("KEYROTA_MASTER_KEY_FILE");
        if let Some(key) = variable {
            command.env("KEYROTA_MASTER_KEY", key);
        }
        Answer::from(command.output().unwrap())
    };
    with(None).failed(3, "no master key: give --master-key-file");
    with(Some("abc")).failed(3, "64 hexadecimal characters");
    with(Some(&"00".repeat(32))).failed(3, "does not look random");
    let other = "8f1d0c5e77a94b3e62d0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e7";
    with(Some(other)).failed(3, "not the one that wrote this store");
    let right = stage.read("master.key");
    assert_eq!(with(Some(right.trim())).code, 0);

    stage.run(&["list", "--master-key-file", "none"]).failed(3, "cannot be read");
    for mode in [0o644, 0o660] {
        stage.set_mode("master.key", mode);
        stage.run(&["list"]).failed(3, "run chmod 600");
        stage.run_with(&["validate"], &token).failed(3, "run chmod 600");
    }
}

#[test]
fn a_database_that_is_not_there_or_none_is_told_and_not_made() {
    let stage = Stage::bare();
    stage.run(&["init", "--master-key-file", "master.key", "--db", "other.db"]);
    for command in [
        &["list"][..],
        &["tick"],
        &["issue", "--owner", "ada", "--name", "ci"],
        &["doctor"],
        &["backup", "copy"],
    ] {
        let answer = stage.run(command);
        assert_eq!(answer.code, 3, "{command:?}: {answer:?}");
        assert!((answer.err + &answer.out).contains("keyrota init"), "{command:?}");
    }
    assert!(!stage.path("keys.db").exists() && !stage.path("copy").exists());
    fs::write(stage.path("keys.db"), "this is no database").unwrap();
    stage.run(&["list"]).failed(3, "is not an SQLite database");
    fs::write(stage.path("keys.db"), "").unwrap();
    stage.run(&["list"]).failed(3, "was never founded");
    let nowhere = stage.command(&["list"]).env_remove("KEYROTA_DB").output().unwrap();
    Answer::from(nowhere).failed(2, "give --db");
}

#[test]
fn a_locked_database_is_told_after_the_wait() {
    let stage = Stage::new();
    let (key, token) = stage.issue(&[]);
    let shell = rusqlite::Connection::open(stage.path("keys.db")).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    stage.run(&["rotate", &key, "--wait", "50ms"]).failed(3, "busy");
    stage.run(&["revoke", &key, "--yes", "--wait", "50ms"]).failed(3, "busy");
    assert_eq!(
        stage.json(&["list", "--wait", "50ms"])["keys"][0]["key_id"],
        key.as_str(),
        "readers do not wait"
    );
    shell.execute_batch("ROLLBACK").unwrap();
    drop(shell);
    stage.json_with(&["validate"], &token);
    stage.json(&["rotate", &key]);
}

/// Runs a command whose files may not grow beyond some KiB.
fn with_small_files(stage: &Stage, kib: u32, command: &str) -> Answer {
    let mut shell = stage.program("bash");
    shell.args(["-c", &format!("ulimit -f {kib}; exec {PROGRAM} {command}")]).stdin(Stdio::null());
    shell.output().unwrap().into()
}

#[test]
fn a_full_disk_is_told_and_leaves_what_was_there() {
    let stage = Stage::new();
    let (key, token) = stage.issue(&[]);
    let answer = with_small_files(&stage, 4, "issue --owner ada --name two");
    assert_eq!(answer.code, 3, "{answer:?}");
    assert!(answer.err.starts_with("keyrota: ") && answer.out.is_empty(), "{answer:?}");
    let answer = with_small_files(&stage, 4, "backup copy.db");
    assert_eq!(answer.code, 3, "{answer:?}");
    let names: Vec<_> =
        fs::read_dir(stage.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("copy")), "{names:?}");
    assert_eq!(stage.json(&["list"])["keys"].as_array().unwrap().len(), 1);
    stage.json_with(&["validate"], &token);
    stage.json(&["rotate", &key]);

    let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
    if cfg!(target_os = "linux") {
        let listed = stage.command(&["list"]).stdout(full()).output().unwrap();
        Answer::from(listed).failed(3, "the output could not be written");
        let exported = stage.command(&["audit", "export"]).stdout(full()).output().unwrap();
        assert_eq!(exported.status.code(), Some(3));
    }
}

/// A pipe is read once; what is to be checked first is read twice.
#[test]
fn a_pipe_is_imported_where_nothing_is_checked_before() {
    let stage = Stage::new();
    let csv = format!("key_hash\n{}\n", "8607d7a64164f14dc0555be7d408ce12559b51e9514d4814b714f6a9a482262e");
    let import = ["import", "--csv", "/dev/stdin", "--owner", "clients"];
    stage.run_with(&import, &csv).failed(3, "a pipe cannot be read twice");
    assert_eq!(stage.json_with(&[&import[..], &["--skip-bad-lines"]].concat(), &csv)["imported"], 1);
    stage.json_with(&["validate"], "sk_live_7Fh2kQ9zXw4VbN8mT3cYpL6r");
}

/// An import that meets a full disk says under which request it goes on, also where none was given.
#[test]
fn an_import_on_a_full_disk_goes_on_where_it_was() {
    let stage = Stage::new();
    let hex = |n: usize| format!("{:064x}", n + 1);
    let lines: String = (0..2_500).map(|n| format!("{},{}\n", hex(n), n / 5)).collect();
    fs::write(stage.path("keys.csv"), format!("key_hash,owner\n{lines}")).unwrap();
    let mut command = "import --csv keys.csv --json".to_owned();
    let (mut request, mut before) = (String::new(), 0);
    for kib in [800, 1_600] {
        let stopped = with_small_files(&stage, kib, &command);
        assert_eq!(stopped.code, 3, "{kib}: {stopped:?}");
        let report: serde_json::Value = serde_json::from_str(&stopped.out).unwrap();
        before += report["imported"].as_u64().unwrap();
        let error: serde_json::Value = serde_json::from_str(&stopped.err).unwrap();
        assert_eq!(error["exit_code"], 3);
        let told = text(&error["error"]);
        let named = told.split_whitespace().skip_while(|word| *word != "--request").nth(1).unwrap();
        assert!(request.is_empty() || request == named, "{told}");
        request = named.to_owned();
        command = format!("import --csv keys.csv --json --request {request}");
    }
    assert!(before < 2_500, "{before}");
    let report = stage.json(&["import", "--csv", "keys.csv", "--request", &request]);
    let count = |name: &str| report[name].as_u64().unwrap();
    // A batch whose outcome was not known may be there.
    assert!(count("before") >= before && count("before") + count("imported") == 2_500, "{before}: {report}");
    assert_eq!(stage.json(&["import", "--remaining"])["remaining"], 2_500);
    assert_eq!(stage.json(&["doctor"])["healthy"], true);
}

/// The token of an act whose answer was lost is to be had again, as the message says.
#[test]
fn a_token_that_could_not_be_written_can_be_had_again() {
    let stage = Stage::new();
    let issue = ["issue", "--owner", "ada", "--name", "ci"];
    let mut child = stage.command(&issue).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let lost = Answer::from(child.wait_with_output().unwrap());
    lost.failed(3, "its token could not be written");
    let request = lost.err.split_whitespace().skip_while(|word| *word != "--request").nth(1).unwrap();
    let again = stage.json(&[&issue[..], &["--request", request]].concat());
    assert!(lost.err.contains(&text(&again["key_id"])));
    stage.json_with(&["validate"], &text(&again["token"]));
    assert_eq!(stage.json(&["list"])["keys"].as_array().unwrap().len(), 1);
}

#[test]
fn a_reader_that_goes_away_makes_no_noise() {
    let stage = Stage::new();
    stage.issue(&[]);
    for command in [
        &["list"][..],
        &["list", "--json"],
        &["audit", "query"],
        &["audit", "export"],
        &["plan"],
        &["doctor"],
        &["tick"],
        &["completions", "bash"],
        &["simulate", "--for", "9y"],
        &["--help"],
        &["help", "issue"],
    ] {
        let mut child = stage.command(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let answer = Answer::from(child.wait_with_output().unwrap());
        assert_eq!((answer.code, answer.err.as_str()), (0, ""), "{command:?}");
    }
}

#[test]
fn a_token_on_the_command_line_is_refused_and_not_repeated() {
    let stage = Stage::new();
    let (key, token) = stage.issue(&[]);
    let reason = format!("--reason=leaked:{token}");
    let quoted = format!("found {token} in a log");
    for command in [
        &["validate", &token][..],
        &["compromised", "--locator", &token, "--yes"],
        &["rotate", &key, "--reason", &quoted],
        &["rotate", &key, &reason],
        &["find", &token, "--json"],
        &[&token],
    ] {
        let answer = stage.run(command);
        answer.failed(2, "a token stands on the command line");
        assert!(!answer.err.contains(&token), "{command:?}");
    }
    assert_eq!(stage.json(&["show", &key])["key"]["versions"].as_array().unwrap().len(), 1);
}

/// What another system made does not look like a token of this one: it is not repeated either.
#[test]
fn a_token_of_another_system_that_is_one_argument_too_many_is_not_repeated() {
    let stage = Stage::new();
    let token = "sk_live_7Fh2kQ9zXw4VbN8mT3cYpL6r";
    for command in [
        &["validate", token][..],
        &["find", token, "--json"],
        &["compromised", token, "--yes"],
        &["claim", token],
        &["import", "--env", "API_KEYS", token],
        &[token],
    ] {
        let answer = stage.run(command);
        answer.refused(2, "rotate its key");
        assert!(!answer.err.contains("7Fh2kQ9z"), "{command:?}: {answer:?}");
    }
    stage.run(&["validate", "--scopes"]).refused(2, "--scope");
    stage.run(&["lisst"]).refused(2, "list");
}

/// Nothing is lost with an answer that nobody reads where the file holds the token.
#[test]
fn a_token_in_its_file_stays_there_also_where_nobody_reads_the_answer() {
    let stage = Stage::new();
    let issue = ["issue", "--owner", "ada", "--name", "ci", "--token-out", "token"];
    let mut child = stage.command(&issue).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let unread = Answer::from(child.wait_with_output().unwrap());
    assert_eq!((unread.code, unread.err.as_str()), (0, ""));
    stage.json_with(&["validate"], &stage.read("token"));
    if cfg!(target_os = "linux") {
        let key = text(&stage.json(&["list"])["keys"][0]["key_id"]);
        let full = Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
        let rotated =
            stage.command(&["rotate", &key, "--token-out", "second"]).stdout(full).output().unwrap();
        Answer::from(rotated).failed(3, "the output could not be written");
        stage.json_with(&["validate"], &stage.read("second"));
    }
}

/// A successor that somebody may have claimed ends with it.
#[test]
fn a_rotation_that_has_begun_is_cancelled_after_a_question_only() {
    let (stage, keys) = Stage::with_due_keys(&["one"]);
    stage.json(&["tick"]);
    stage.run(&["cancel", &keys[0].0]).failed(2, "--yes");
    assert_eq!(stage.json(&["waiting"])["waiting"].as_array().unwrap().len(), 1);
    stage.json(&["cancel", &keys[0].0, "--yes"]);
    assert_eq!(stage.json(&["waiting"])["waiting"], serde_json::json!([]));
}

/// Each command with as little as it can be called with; `#` is a key.
pub(crate) const LEAST: &[(&str, &[&str])] = &[
    ("init", &[]),
    ("issue", &["--owner", "ada", "--name", "ci"]),
    ("validate", &[]),
    ("list", &[]),
    ("show", &["#"]),
    ("edit", &["#", "--name", "x"]),
    ("rotate", &["#"]),
    ("claim", &[]),
    ("waiting", &[]),
    ("schedule", &["#", "--at", "tomorrow"]),
    ("cancel", &["#"]),
    ("deprecate", &["#", "--yes"]),
    ("rollback", &["#"]),
    ("revoke", &["#", "--yes"]),
    ("replace", &["#", "--yes"]),
    ("compromised", &["--yes"]),
    ("find", &[]),
    ("owner suspend", &["ada", "--yes"]),
    ("owner resume", &["ada"]),
    ("owner revoke-all", &["ada", "--yes"]),
    ("owner show", &["ada"]),
    ("owner list", &[]),
    ("owner set", &["ada", "--limit", "3"]),
    ("role list", &[]),
    ("role set", &["r", "--scope", "a:b"]),
    ("policy show", &[]),
    ("policy set", &["--overlap", "1h"]),
    ("tick", &[]),
    ("plan", &[]),
    ("simulate", &[]),
    ("audit query", &[]),
    ("audit export", &[]),
    ("audit verify", &[]),
    ("usage", &[]),
    ("stale", &[]),
    ("compliance", &[]),
    ("import", &["--tokens", "tokens", "--owner", "ada"]),
    ("notifications list", &["ops"]),
    ("notifications retry", &["ops", "ntf_0000000000000000000000"]),
    ("notifications drop", &["ops", "ntf_0000000000000000000000", "--yes"]),
    ("cleanup", &["--yes"]),
    ("backup", &["copy.db"]),
    ("restore", &["backup.db", "--yes"]),
    ("master-key status", &[]),
    ("master-key rotate", &[]),
    ("master-key retire", &["1", "--yes"]),
    ("doctor", &[]),
    ("completions", &["bash"]),
];

/// Every command, as it stands above.
pub(crate) fn each_command(stage: &Stage, key: &str) -> Vec<(&'static str, Vec<String>)> {
    let mut named: Vec<_> = LEAST.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut there = crate::every_command::commands(stage, &[]);
    named.sort();
    there.sort();
    assert_eq!(named, there, "all commands are here");
    let whole = |(name, least): &(&'static str, &[&str])| {
        let words = name.split(' ').chain(least.iter().copied());
        (*name, words.map(|word| if word == "#" { key } else { word }.to_owned()).collect())
    };
    LEAST.iter().map(whole).collect()
}

#[test]
fn every_command_says_that_there_is_no_master_key_or_no_database() {
    let stage = Stage::new();
    let (key, token) = stage.issue(&[]);
    stage.json(&["backup", "backup.db"]);
    fs::write(stage.path("tokens"), "7Fh2kQ9zXw4VbN8mT3cYpL6r").unwrap();
    let run = |arguments: &[String], missing: &str| {
        let mut command = stage.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        match missing {
            "master key" => command.env_remove("KEYROTA_MASTER_KEY_FILE"),
            _ => command.env("KEYROTA_DB", stage.path("none.db")),
        };
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(std::io::Write::write_all(&mut child.stdin.take().unwrap(), token.as_bytes()));
        Answer::from(child.wait_with_output().unwrap())
    };
    for (name, arguments) in each_command(&stage, &key) {
        for missing in ["master key", "database"] {
            let is_free = match name {
                "simulate" | "completions" => true,
                // They make one.
                "init" | "restore" => missing == "database",
                _ => false,
            };
            if is_free {
                continue;
            }
            let answer = run(&arguments, missing);
            let said = format!("{}{}", answer.out, answer.err);
            if matches!(name, "master-key rotate" | "master-key retire") && missing == "master key" {
                answer.failed(2, "--master-key-file");
                continue;
            }
            assert_eq!(answer.code, 3, "{name} without {missing}: {answer:?}");
            let expected = if missing == "database" { "keyrota init" } else { "no master key" };
            assert!(said.contains(expected), "{name} without {missing}: {answer:?}");
            assert!(!said.contains("panicked") && !said.contains(&token), "{name}: {answer:?}");
        }
    }
    assert!(!stage.path("none.db").exists() && !stage.path("copy.db").exists());
    stage.json_with(&["validate"], &token);
}

/// Writers say that they waited in vain; readers do not wait.
#[test]
fn every_command_on_a_locked_database_is_done_or_says_that_it_is_busy() {
    let stage = Stage::new();
    let (key, token) = stage.issue(&[]);
    stage.json(&["backup", "backup.db"]);
    fs::write(stage.path("tokens"), "7Fh2kQ9zXw4VbN8mT3cYpL6r").unwrap();
    let shell = rusqlite::Connection::open(stage.path("keys.db")).unwrap();
    shell.execute_batch("BEGIN IMMEDIATE").unwrap();
    let readers = [
        "list",
        "show",
        "waiting",
        "find",
        "owner show",
        "owner list",
        "role list",
        "policy show",
        "plan",
        "simulate",
        "audit query",
        "audit export",
        "audit verify",
        "usage",
        "stale",
        "compliance",
        "notifications list",
        "backup",
        "master-key status",
        "doctor",
        "completions",
    ];
    for (name, mut arguments) in each_command(&stage, &key) {
        // Its file is another matter.
        if matches!(name, "master-key rotate" | "master-key retire") {
            continue;
        }
        arguments.extend(["--wait".to_owned(), "30ms".to_owned()]);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let answer = stage.run_with(&arguments, &token);
        if readers.contains(&name) {
            assert_eq!(answer.code, 0, "{name}: {answer:?}");
        } else if answer.code != 0 {
            let is_denied = answer.code == 1 && !answer.err.contains("busy");
            assert!(answer.code == 3 && answer.err.contains("busy") || is_denied, "{name}: {answer:?}");
        }
        assert!(!answer.err.contains("panicked"), "{name}: {answer:?}");
    }
    shell.execute_batch("ROLLBACK").unwrap();
    drop(shell);
    stage.json_with(&["validate"], &token);
    assert_eq!(stage.json(&["show", &key])["key"]["versions"].as_array().unwrap().len(), 1);
    assert_eq!(stage.json(&["list"])["keys"].as_array().unwrap().len(), 1);
}

/// Tokens show where they are asked for, and nowhere else: not in files, lists, logs or errors.
#[test]
fn no_token_shows_where_it_was_not_asked_for() {
    let stage = Stage::new();
    let (key, first) = stage.issue(&["--metadata", r#"{"a":1}"#]);
    let second = text(&stage.json(&["rotate", &key])["token"]);
    stage.json_with(&["validate"], &second);
    stage.run_with(&["validate", "--scope", "x:y"], &first);
    stage.run_with(&["claim", "--reason", "why not"], &second).failed(1, "");
    stage.run_with(&["compromised"], &second).failed(2, "--yes");
    stage.json(&["backup", "copy.db"]);
    let mut told = String::new();
    for command in [
        &["list"][..],
        &["show", &key],
        &["audit", "query"],
        &["audit", "export"],
        &["plan"],
        &["doctor"],
        &["usage"],
        &["usage", &key],
        &["tick"],
        &["notifications", "list", "ops"],
    ] {
        for answer in [stage.run(command), stage.run(&[command, &["--json"]].concat())] {
            told.push_str(&(answer.out + &answer.err));
        }
    }
    for file in fs::read_dir(stage.folder.path()).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        told.push_str(&bytes.iter().map(|byte| char::from(*byte)).collect::<String>());
    }
    let locator = text(&stage.json(&["show", &key])["key"]["versions"][1]["locator"]);
    assert!(told.contains(&locator));
    for token in [first, second] {
        let secret = &token[token.len() - 49..token.len() - 6];
        assert!(!told.contains(secret), "the secret of a token showed");
    }
}

#[test]
fn what_cannot_be_undone_asks_or_is_told_yes() {
    let stage = Stage::new();
    let (key, token) = stage.issue(&[]);
    for command in [
        &["revoke", &key][..],
        &["replace", &key],
        &["deprecate", &key],
        &["rotate", &key, "--supersede"],
        &["rollback", &key, "--compromised"],
        &["compromised", "--fingerprint", "fp_0123456789abcdef"],
        &["owner", "suspend", "ada"],
        &["owner", "revoke-all", "ada"],
        &["cleanup"],
        &["restore", "keys.db"],
        &["tick", "--confirm-clock"],
        &["notifications", "drop", "ops", "ntf_0000000000000000000000"],
    ] {
        stage.run(command).failed(2, "--yes");
    }
    stage.json_with(&["validate"], &token);
    assert_eq!(stage.json(&["show", &key])["key"]["versions"][0]["stage"], "active");
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_2() {
    let stage = Stage::new();
    for command in [
        &["issue"][..],
        &["no-such-command"],
        &["list", "--no-such-option"],
        &["issue", "--owner", "ada", "--name", "ci", "--scope", "UPPER"],
        &["issue", "--owner", "ada", "--name", "ci", "--lifetime", "90"],
        &["issue", "--owner", "ada", "--name", "ci", "--limits", "often"],
        &["issue", "--owner", "ada", "--name", "ci", "--networks", "192.0.2.1/24"],
        &["issue", "--owner", "ada", "--name", "ci", "--metadata", "[]"],
        &["issue", "--owner", "ada", "--name", "ci", "--until", "someday"],
        &["issue", "--owner", "ada", "--name", "a\nb"],
        &["list", "--channel", "Not A Name"],
    ] {
        let answer = stage.run(command);
        assert_eq!(answer.code, 2, "{command:?}: {answer:?}");
        assert!(!answer.err.is_empty() && answer.out.is_empty(), "{command:?}: {answer:?}");
    }
    stage.run_with(&["validate"], " \n").failed(2, "on standard input");
    for command in [&["revoke", "key_0000000000000000000000", "--json"][..], &["issue", "--json"]] {
        let told = stage.run(command);
        let error: serde_json::Value = serde_json::from_str(&told.err).unwrap();
        assert_eq!((&error["exit_code"], told.code, told.out.as_str()), (&2.into(), 2, ""));
    }
}

/// A clock that jumped is not believed until somebody says so.
#[test]
fn a_tick_with_a_clock_that_jumped_is_denied_until_it_is_confirmed() {
    use keyrota::{Clock as _, KeyManager, Keyring, ManualClock, SqliteStore, SystemClock};
    let stage = Stage::bare();
    let day = std::time::Duration::from_secs(86_400);
    let clock = ManualClock::new(SystemClock.now().minus_or_min(40 * day));
    fs::write(stage.path("master.key"), "8f1d0c5e77a94b3e62d0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e7")
        .unwrap();
    stage.set_mode("master.key", 0o600);
    let keyring = Keyring::from_file(stage.path("master.key")).unwrap();
    let store = SqliteStore::open(stage.path("keys.db")).unwrap();
    drop(KeyManager::builder(store, keyring).clock(clock).open().unwrap());
    let denied = stage.run(&["tick"]);
    assert_eq!(denied.code, 1, "{denied:?}");
    assert!(denied.err.contains("--confirm-clock"), "{denied:?}");
    assert_eq!(stage.run(&["doctor"]).code, 3);
    stage.run(&["tick", "--confirm-clock"]).failed(2, "--yes");
    assert_eq!(stage.run(&["tick"]).code, 1, "nothing was confirmed");
    assert_eq!(stage.json(&["tick", "--confirm-clock", "--yes"])["clock"], "steady");
    stage.json(&["tick"]);
}

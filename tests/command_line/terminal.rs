//! A real terminal session: questions, tokens that are typed, colours, and tables that fit.

use rexpect::session::{PtySession, spawn_command};

use crate::stage::{PROGRAM, Stage, text};

/// A command at a terminal of so many columns.
fn at_terminal(stage: &Stage, columns: u32, arguments: &str) -> PtySession {
    let mut command = stage.program("bash");
    command.args(["-c", &format!("stty cols {columns} rows 40; exec {PROGRAM} {arguments}")]);
    spawn_command(command, Some(60_000)).unwrap()
}

/// All that it writes until it ends.
fn written(mut session: PtySession) -> String {
    // Each byte comes as a character of its own.
    let bytes: Vec<_> = session.exp_eof().unwrap().chars().map(|c| c as u8).collect();
    String::from_utf8(bytes).unwrap()
}

/// The columns of the widest line, without what colours it.
fn widest(text: &str) -> usize {
    let plain = without_colours(text);
    plain.lines().map(|line| line.trim_end_matches('\r').chars().count()).max().unwrap_or(0)
}

fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.split('\u{1b}');
    plain.push_str(rest.next().unwrap_or_default());
    for part in rest {
        plain.push_str(part.split_once('m').map_or(part, |(_, after)| after));
    }
    plain
}

#[test]
fn tables_fit_the_terminal_and_have_colours_there_only() {
    let stage = Stage::new();
    let long = "a name that is much longer than any terminal would like it to be, and goes on and on and on";
    let issued = stage.json(&[
        "issue",
        "--owner",
        "an owner with quite a name",
        "--name",
        long,
        "--scope",
        "orders:read",
    ]);
    let key = text(&issued["key_id"]);
    for columns in [40, 60, 80, 100, 140] {
        for arguments in ["list".to_owned(), format!("audit query --key {key}")] {
            let told = written(at_terminal(&stage, columns, &arguments));
            assert!(widest(&told) <= columns as usize, "{columns} {arguments}: {told}");
            assert!(without_colours(&told).contains(&key), "{columns} {arguments}: {told}");
        }
    }
    let told = written(at_terminal(&stage, 100, "list"));
    assert!(told.contains("\u{1b}[32mactive\u{1b}[0m") && told.contains('…'), "{told:?}");
    let piped = stage.run(&["list"]).out;
    assert!(piped.contains(long) && !piped.contains('\u{1b}'), "{piped:?}");
    let mut plain = stage.program("bash");
    plain.args(["-c", &format!("exec {PROGRAM} list")]).env("NO_COLOR", "1");
    assert!(!written(spawn_command(plain, Some(60_000)).unwrap()).contains('\u{1b}'));
    let json = written(at_terminal(&stage, 40, "list --json"));
    assert!(serde_json::from_str::<serde_json::Value>(json.trim()).is_ok(), "{json}");
}

#[test]
fn what_cannot_be_undone_is_asked_for() {
    let stage = Stage::new();
    let (key, token) = stage.issue(&[]);
    for answer in ["n", "", "yeah"] {
        let mut session = at_terminal(&stage, 100, &format!("revoke {key}"));
        let question = session.exp_string("[y/N]").unwrap();
        assert!(question.contains("\"ci\" of ada") && question.contains(&key), "{question}");
        session.send_line(answer).unwrap();
        assert!(written(session).contains("nothing was done"));
        stage.json_with(&["validate"], &token);
    }
    let mut session = at_terminal(&stage, 100, &format!("revoke {key}"));
    session.exp_string("[y/N]").unwrap();
    session.send_line("y").unwrap();
    assert!(written(session).contains("revoked"));
    assert_eq!(stage.run_with(&["validate", "--json"], &token).json(1)["reason"], "revoked");
}

/// Each of them: the question says what would be done, and whoever says no has done nothing.
#[test]
fn each_command_that_cannot_be_undone_asks_and_takes_no_for_an_answer() {
    let (stage, keys) = Stage::with_due_keys(&["one", "two"]);
    let (key, token) = &keys[0];
    stage.json(&["tick"]);
    stage.json(&["backup", "backup.db"]);
    stage.json(&["master-key", "rotate"]);
    let before = (stage.json(&["show", key]), stage.json(&["audit", "verify"])["anchor"].clone());
    for (command, question) in [
        (format!("revoke {key}"), "Revoke \"one\" of ada"),
        (format!("revoke {key} --version 1"), "Revoke v1 of \"one\""),
        (format!("replace {key} --token-out new"), "Replace \"one\""),
        (format!("deprecate {key}"), "run out, without a successor"),
        (format!("cancel {key}"), "End the successor of \"one\""),
        (format!("rotate {key} --supersede --token-out new"), "end what is still in its grace"),
        (format!("rollback {key} --compromised"), "revoke its newest version"),
        ("compromised --fingerprint fp_0123456789abcdef".to_owned(), "Revoke the version that this names"),
        ("owner suspend ada".to_owned(), "Deny all keys of ada"),
        ("owner revoke-all ada".to_owned(), "Revoke all keys that ada holds"),
        ("tick --confirm-clock".to_owned(), "Is it 20"),
        ("cleanup --older-than 36h".to_owned(), "over for 1d 12h"),
        ("restore backup.db".to_owned(), "in the place of"),
        ("notifications drop ops ntf_0000000000000000000000".to_owned(), "never told"),
        ("master-key retire 2".to_owned(), "Take g2 out of"),
    ] {
        let mut session = at_terminal(&stage, 120, &command);
        let asked = session.exp_string("[y/N]").unwrap();
        assert!(asked.contains(question), "{command}: {asked}");
        session.send_line("n").unwrap();
        assert!(written(session).contains("nothing was done"), "{command}");
    }
    assert!(!stage.path("new").exists());
    assert_eq!((stage.json(&["show", key]), stage.json(&["audit", "verify"])["anchor"].clone()), before);
    assert!(stage.json(&["master-key", "status"])["generations"].as_array().unwrap().len() == 2);
    stage.json_with(&["validate"], token);
    // And with --yes nobody is asked.
    let told = written(at_terminal(&stage, 120, &format!("revoke {key} --yes")));
    assert!(told.contains("revoked") && !told.contains("[y/N]"), "{told}");
}

/// Bars where it is known how much there is to do; in a pipe and beside JSON there is nothing.
#[test]
fn what_takes_long_shows_how_far_it_is_on_a_terminal_only() {
    let stage = Stage::new();
    let digest = |n: usize| ring::digest::digest(&ring::digest::SHA256, format!("token {n}").as_bytes());
    let hex = |n| digest(n).as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: String = (0..1_500).map(|n| format!("{},{}\n", hex(n), n / 5)).collect();
    std::fs::write(stage.path("keys.csv"), format!("key_hash,owner\n{lines}")).unwrap();
    let told = written(at_terminal(&stage, 100, "import --csv keys.csv --dry-run"));
    assert!(
        told.contains("checking [###") && told.contains("100 %") && !told.contains("importing"),
        "{told}"
    );
    let told = written(at_terminal(&stage, 100, "import --csv keys.csv"));
    assert!(told.contains("checking [###") && told.contains("importing [###"), "{told}");
    let last = told.rsplit("\u{1b}[K").next().unwrap();
    assert!(last.contains("1500 imported") && !last.contains('['), "a bar is wiped away: {last:?}");
    let told = written(at_terminal(&stage, 100, "backup one.db"));
    assert!(told.contains("copying [") && told.contains("] 100 %"), "{told}");
    for quiet in ["import --csv keys.csv --dry-run --json", "backup two.db --json", "tick --json"] {
        let told = written(at_terminal(&stage, 100, quiet));
        assert!(serde_json::from_str::<serde_json::Value>(told.trim()).is_ok(), "{quiet}: {told}");
    }
    let piped = stage.run(&["backup", "three.db"]);
    assert_eq!((piped.code, piped.err.as_str()), (0, ""));
}

#[test]
fn a_token_that_is_typed_is_not_shown() {
    let stage = Stage::new();
    let (key, token) = stage.issue(&[]);
    let mut session = at_terminal(&stage, 100, "validate");
    session.exp_string("Token (not shown):").unwrap();
    session.send_line(&token).unwrap();
    let told = written(session);
    assert!(told.contains("granted") && told.contains(&key), "{told}");
    assert!(!told.contains(&token[20..]), "{told}");
}

#[test]
fn help_fits_and_has_examples() {
    let stage = Stage::bare();
    for arguments in ["--help", "issue --help", "policy set --help", "master-key rotate --help"] {
        let told = written(at_terminal(&stage, 80, arguments));
        assert!(told.contains("Example"), "{arguments}: {told}");
    }
    assert!(stage.run(&["--help"]).out.contains("Exit codes"));
}

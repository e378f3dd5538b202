//! The commands of the README and the guide, run as they are pasted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::stage::{PROGRAM, Stage};

/// The blocks of a text that are marked ```sh: all of them, and there is no other mark for commands.
fn blocks(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        assert!(!["```console", "```bash", "```shell"].contains(&line.trim_start()), "```sh, as elsewhere");
        if line.trim_start() == "```sh" {
            let block: Vec<_> = lines.by_ref().take_while(|line| line.trim_start() != "```").collect();
            found.push(block.join("\n"));
        }
    }
    found
}

fn texts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chapters = fs::read_dir(root.join("src/guide")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = chapters.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    found.push(root.join("README.md"));
    found
}

/// Stands for `cargo` in what is pasted: an example that was built already is run as it is, and any other is built. `cargo
/// test`, alone of all, is left out: it would run these very tests.
const CARGO: &str = r#"#!/bin/bash
case "$*" in
    "run --example "*)
        if [ -x "$EXAMPLES/$3" ]; then exec "$EXAMPLES/$3"; fi
        exec "$REAL_CARGO" run --quiet --manifest-path "$ROOT/Cargo.toml" --example "$3" ;;
    test) ;;
    *) echo "nothing stands for: cargo $*" >&2; exit 1 ;;
esac
"#;

/// All blocks of a text are one session, from an empty folder on; a command that fails ends it, unless the text says
/// that it is denied.
#[test]
fn the_commands_of_the_readme_and_the_guide_run_as_pasted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut ran, mut texts_with_blocks) = (0, 0);
    for path in texts() {
        let blocks = blocks(&fs::read_to_string(&path).unwrap());
        if blocks.is_empty() {
            continue;
        }
        ran += blocks.len();
        texts_with_blocks += 1;
        let (stage, programs) = (Stage::bare(), Stage::bare());
        fs::write(programs.path("cargo"), CARGO).unwrap();
        programs.set_mode("cargo", 0o755);
        let folder = Path::new(PROGRAM).parent().unwrap();
        let rest = std::env::var("PATH").unwrap();
        let paths = format!("{}:{}:{rest}", programs.folder.path().display(), folder.display());
        let script = format!("set -euo pipefail\n{}\n", blocks.join("\n"));
        let mut shell = stage.program("bash");
        for name in ["KEYROTA_DB", "KEYROTA_MASTER_KEY_FILE", "KEYROTA_ACTOR"] {
            shell.env_remove(name);
        }
        // What cargo tells a test of its package would have the nested one build all anew.
        let is_of_package =
            |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        std::env::vars().filter(|(name, _)| is_of_package(name)).for_each(|(name, _)| {
            shell.env_remove(name);
        });
        shell.env("PATH", paths).env("EXAMPLES", folder.join("examples")).env("ROOT", root);
        shell.env("REAL_CARGO", std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let output = shell.args(["-x", "-c", &script]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {}\n{told}", path.display(), output.status);
    }
    assert!(ran >= 13 && texts_with_blocks >= 3, "{ran} blocks of {texts_with_blocks} texts");
}

/// Commands in the middle of a sentence: their options and values are there, whatever they would do.
#[test]
fn commands_that_the_readme_and_the_guide_name_make_sense() {
    let stage = Stage::new();
    let (key, token) = stage.issue(&[]);
    fs::write(stage.path("token"), token).unwrap();
    let mut seen = 0;
    for path in texts() {
        let text = fs::read_to_string(&path).unwrap();
        for command in text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("keyrota ")) {
            if command.contains('\n') || command.contains("help") {
                continue;
            }
            seen += 1;
            let said = command.strip_prefix("keyrota ").unwrap();
            let said = said.replace("KEY_ID", &key).replace("KEY", &key).replace("OWNER", "ada");
            let said = said.replace("CHANNEL", "ops").replace("--limits …", "--limits 10/s");
            let said = said.split(" < ").next().unwrap();
            let mut shell = stage.program("bash");
            let output =
                shell.args(["-c", &format!("\"$PROGRAM\" {said} --help")]).env("PROGRAM", PROGRAM).output();
            let output = output.unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {command}\n{told}", path.display());
        }
    }
    assert!(seen >= 15, "{seen}");
}

/// The chapter names every command and no other, and the exit codes of the help.
#[test]
fn the_guide_s_table_has_every_command() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chapter = fs::read_to_string(root.join("src/guide/command_line.md")).unwrap();
    let rows = chapter.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let mut named: Vec<_> = rows.map(|(command, _)| command.to_owned()).collect();
    named.retain(|command| command.starts_with(|first: char| first.is_ascii_lowercase()));
    named.sort();
    let mut there = crate::every_command::commands(&Stage::bare(), &[]);
    there.sort();
    assert_eq!(named, there);
}

/// The names of the outermost object of a shape such as `{"a", "b": [{"c"} …]}`, and whether there may be others.
fn outermost(shape: &str) -> (BTreeSet<String>, bool) {
    let (mut names, mut depth, mut is_open) = (BTreeSet::new(), 0, false);
    let mut rest = shape.chars();
    while let Some(c) = rest.next() {
        match c {
            '{' | '[' => depth += 1,
            '}' | ']' if depth == 1 => break,
            '}' | ']' => depth -= 1,
            '…' => is_open |= depth == 1,
            '"' => {
                let name: String = rest.by_ref().take_while(|c| *c != '"').collect();
                if depth == 1 {
                    names.insert(name);
                }
            }
            _ => {}
        }
    }
    (names, is_open)
}

/// What the chapter says of a command's JSON is what the command answers.
#[test]
fn the_guide_tells_the_fields_of_each_answer() {
    let chapter = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide/command_line.md"));
    let chapter = chapter.unwrap();
    let table = chapter.split("# Commands and their JSON").nth(1).unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows: BTreeMap<&str, &str> = rows.collect();
    let template = Stage::new();
    let (key, token) = template.issue(&["--scope", "a:b"]);
    template.json(&["rotate", &key]);
    template.json(&["backup", "backup.db"]);
    fs::write(template.path("tokens"), "7Fh2kQ9zXw4VbN8mT3cYpL6r").unwrap();
    let mut compared = Vec::new();
    for (name, arguments) in crate::troubles::each_command(&template, &key) {
        let stage = Stage::bare();
        for file in ["keys.db", "master.key", "backup.db", "tokens"] {
            fs::copy(template.path(file), stage.path(file)).unwrap();
        }
        let mut arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        arguments.push("--json");
        if name == "audit export" {
            arguments.extend(["--out", "log"]);
        }
        let answer = stage.run_with(&arguments, &token);
        let mut said = rows[name];
        let mut more = None;
        while let Some(other) = said.strip_prefix("as `") {
            let (other, with) = other.split_once('`').unwrap();
            more = more.or(with.split_once("with ").map(|(_, with)| with));
            said = rows[other];
        }
        if answer.code != 0 || !said.starts_with("`{") {
            continue;
        }
        let (mut names, is_open) = outermost(said.trim_start_matches('`'));
        names.extend(more.into_iter().flat_map(|more| more.split('"').skip(1).step_by(2)).map(str::to_owned));
        let value: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
        let there: BTreeSet<_> = value.as_object().unwrap().keys().cloned().collect();
        let is_told = if is_open { names.is_subset(&there) } else { names == there };
        assert!(is_told, "{name}: told {names:?}, there {there:?}");
        compared.push(name);
    }
    assert!(compared.len() >= 33, "{} {compared:?}", compared.len());
}

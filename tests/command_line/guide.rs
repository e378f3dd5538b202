//! The commands of the README and the guide, run as they are pasted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::stage::{PROGRAM, Stage};

/// The blocks of a text that are marked ```sh and use the command line.
fn blocks(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start() == "```sh" {
            let block: Vec<_> = lines.by_ref().take_while(|line| line.trim_start() != "```").collect();
            found.push(block.join("\n"));
        }
    }
    found.retain(|block| block.contains("keyrota ") && !block.contains("cargo "));
    found
}

fn texts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let chapters = fs::read_dir(root.join("src/guide")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = chapters.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    found.push(root.join("README.md"));
    found
}

/// All blocks of a text are one session, from an empty folder on; a command that fails ends it, unless the text says
/// that it is denied.
#[test]
fn the_commands_of_the_readme_and_the_guide_run_as_pasted() {
    let mut ran = 0;
    for path in texts() {
        let blocks = blocks(&fs::read_to_string(&path).unwrap());
        if blocks.is_empty() {
            continue;
        }
        ran += blocks.len();
        let stage = Stage::bare();
        let folder = Path::new(PROGRAM).parent().unwrap();
        let paths = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let script = format!("set -euo pipefail\n{}\n", blocks.join("\n"));
        let mut shell = stage.program("bash");
        shell.env_remove("KEYROTA_DB").env_remove("KEYROTA_MASTER_KEY_FILE").env("PATH", paths);
        let output = shell.args(["-x", "-c", &script]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {}\n{told}", path.display(), output.status);
    }
    assert!(ran >= 7, "{ran}");
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

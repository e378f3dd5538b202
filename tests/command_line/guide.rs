//! The commands of the README and the guide, run as they are pasted.

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

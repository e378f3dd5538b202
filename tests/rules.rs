//! The table of the sixteen rules that never bend, `rules.tsv`: rule, test, and the one-line mutation that the test
//! notices. Here the table is held to the tree; `tests/mutate` carries the mutations out and shows that each is noticed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// One line of the table.
struct Row {
    rule: u32,
    short: String,
    /// `file::function`, or `later`.
    test: String,
    /// The file that is mutated; of a rule that comes later, the reason.
    file: String,
    find: String,
    replace: String,
}

fn rows() -> Vec<Row> {
    let mut lines = include_str!("rules.tsv").lines();
    assert_eq!(lines.next(), Some("rule\tin short\ttest\tfile\tfind\treplace"));
    let text = |field: Option<&str>| field.unwrap_or_default().replace("\\n", "\n");
    let rows = lines.map(|line| {
        let mut fields = line.split('\t');
        let rule = fields.next().unwrap().parse().unwrap_or_else(|error| panic!("{line}: {error}"));
        let [short, test, file, find, replace] = std::array::from_fn(|_| text(fields.next()));
        assert!(fields.next().is_none(), "{line}: too many fields");
        Row { rule, short, test, file, find, replace }
    });
    rows.collect()
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn each_rule_has_a_row_and_those_that_come_later_a_reason() {
    let rows = rows();
    let rules: BTreeSet<_> = rows.iter().map(|row| row.rule).collect();
    assert_eq!(rules, (1..=16).collect());
    for row in rows.iter().filter(|row| row.test == "later") {
        assert!(!row.file.is_empty() && row.find.is_empty(), "rule {}: {}", row.rule, row.short);
    }
    let names: BTreeSet<_> = rows.iter().map(|row| (row.rule, &row.short)).collect();
    assert_eq!(names.len(), rows.len(), "each row says something of its own");
}

#[test]
fn each_named_test_is_in_the_tree() {
    for row in rows().iter().filter(|row| row.test != "later") {
        let (file, name) =
            row.test.split_once("::").unwrap_or_else(|| panic!("{}: file::function", row.test));
        assert!(read(file).contains(&format!("fn {name}(")), "rule {}: {} is gone", row.rule, row.test);
    }
}

fn has_its_one_place(row: &str, file: &str, find: &str, replace: &str) {
    assert_eq!(read(file).matches(find).count(), 1, "{row}: {find:?} in {file}");
    assert_ne!(find, replace, "{row}");
}

#[test]
fn each_mutation_still_has_its_one_place() {
    for row in rows().iter().filter(|row| row.test != "later") {
        let name = format!("rule {}, {}", row.rule, row.short);
        has_its_one_place(&name, &row.file, &row.find, &row.replace);
    }
}

#[test]
fn each_mutation_that_the_simulation_is_to_notice_still_has_its_one_place() {
    for line in include_str!("simulation/mutants.tsv").lines().skip(1) {
        let fields: Vec<_> = line.split('\t').map(|field| field.replace("\\n", "\n")).collect();
        let [_, name, _, file, find, replace] = fields.as_slice() else { panic!("{line}: six fields") };
        has_its_one_place(name, file, find, replace);
    }
}

//! What is read: tables in every form in which other systems keep them.

use std::io::Cursor;

use keyrota::{
    DigestForm, Import, ImportColumn, ImportReport, ImportSource, KeyInfo, LineOutcome, LineProblem,
    SourceError, TokenList,
};

use crate::common::{Bed, Place, START, at, owner};
use crate::{foreign, hex, kept, sha256};

fn bed() -> Bed {
    Bed::at(Place::memory(), at(START))
}

/// Imports all lines that can be, and tells the keys and the lines that cannot.
fn read(bed: &Bed, source: ImportSource<'_>) -> (Vec<KeyInfo>, ImportReport) {
    let mut keys = Vec::new();
    let import = Import::from(source).owner(owner("ada")).skip_bad_lines().raise_limits().each_line(|line| {
        if let LineOutcome::Imported { key, .. } = line.outcome {
            keys.push(key);
        }
    });
    let report = bed.root().import(import).unwrap();
    (keys.into_iter().map(|key| bed.keys.get(key).unwrap()).collect(), report)
}

fn lines_of(report: &ImportReport) -> Vec<(u64, String)> {
    let told = |line: &keyrota::LineReport| match &line.outcome {
        LineOutcome::Skipped(problem) => (line.line, problem.to_string()),
        other => panic!("{other:?}"),
    };
    report.problems.iter().map(told).collect()
}

#[test]
fn csv_is_read_with_quotes_and_any_of_three_separators() {
    for (separator, end) in [(',', "\n"), (';', "\r\n"), ('\t', "\n")] {
        let bed = bed();
        let hash = |n: usize| kept(DigestForm::Sha256, &foreign(n));
        let rows = [
            "\u{FEFF}\"Name\"|key_hash|user_id|hits|metadata".to_owned(),
            format!("\"a, \"\"b\"\"; c\"|{}|eve|7|\"{{\"\"team\"\": \"\"x\"\"}}\"", hash(1)),
            String::new(),
            format!("\"two\nlines\"|{}|eve||", hash(2)),
            format!("plain|{}|\"\"|0|", hash(3)),
            format!("last|{}|eve||", hash(4)),
        ];
        let text = rows.map(|row| row.replace('|', &separator.to_string())).join(end);
        let (keys, report) = read(&bed, ImportSource::csv(Cursor::new(text)));
        let names: Vec<_> = keys.iter().map(|key| key.name.as_str().to_owned()).collect();
        assert_eq!(names, ["a, \"b\"; c", "plain", "last"], "{separator:?}");
        assert_eq!((keys[0].owner, keys[1].owner), (owner("eve"), owner("ada")));
        assert_eq!(keys[0].metadata.fields().len(), 1);
        assert_eq!(report.ignored_columns, ["hits"]);
        assert_eq!(
            lines_of(&report),
            [(4, "key name holds a control, bidirectional or invisible character; remove it".to_owned())]
        );
        assert!(bed.is_granted(&foreign(1)) && bed.is_granted(&foreign(4)) && !bed.is_granted(&foreign(2)));
    }
}

/// As people write them, not as RFC 4180 has them: no line takes the next one with it.
#[test]
fn a_quote_within_a_cell_is_a_character_like_others() {
    let bed = bed();
    let hash = |n: usize| kept(DigestForm::Sha256, &foreign(n));
    let text =
        format!("name,key_hash\nthe 5\" disk,{}\n \"a, b\",{}\nc\"d\",{}\n", hash(1), hash(2), hash(3));
    let (keys, report) = read(&bed, ImportSource::csv(Cursor::new(text)));
    let names: Vec<_> = keys.iter().map(|key| key.name.as_str().to_owned()).collect();
    assert_eq!((names, report.skipped), (vec!["the 5\" disk".into(), "a, b".into(), "c\"d\"".into()], 0));
}

#[test]
fn what_is_no_table_is_told_and_does_no_harm() {
    let bed = bed();
    let csv = |text: &str| ImportSource::csv(Cursor::new(text.as_bytes().to_vec()));
    let import = |source| bed.root().import(Import::from(source).owner(owner("ada")).dry_run());
    assert!(matches!(import(csv("")), Err(keyrota::ImportError::Source(SourceError::Header))));
    assert_eq!(import(csv("key_hash\n")).unwrap().lines, 0);
    let long = format!("key_hash,name\n{},{}\nabc,x\n", "a".repeat(100_000), "b");
    assert_eq!(lines_of(&import(csv(&long)).unwrap())[0], (2, LineProblem::Unreadable.to_string()));
    assert_eq!(
        lines_of(&import(csv("key_hash,name\n\"open,x\nabc,y\n")).unwrap()),
        [(2, LineProblem::Cells.to_string())]
    );
    let bytes = ImportSource::csv(Cursor::new(b"key_hash,name\n\xFF\xFE,x\n".to_vec()));
    assert_eq!(lines_of(&import(bytes).unwrap()), [(2, LineProblem::Unreadable.to_string())]);
    let json = ImportSource::json_lines(Cursor::new(b"{\"token\":\"abc\n[1]\n\"x\"\n\n{}\n".to_vec()));
    let told: Vec<_> = lines_of(&import(json).unwrap()).into_iter().map(|(line, _)| line).collect();
    assert_eq!(told, [1, 2, 3, 5]);
    assert!(matches!(
        ImportSource::env("NO_SUCH_VARIABLE_HERE", TokenList::Any),
        Err(SourceError::Variable { .. })
    ));
}

#[test]
fn json_lines_are_objects_named_like_columns() {
    let bed = bed();
    let lines = [
        serde_json::json!({
            "hashed_key": kept(DigestForm::Sha512, &foreign(1)), "name": "django", "revoked": false,
            "created": "2026-05-01 10:00:00+00:00", "expiry_date": null, "id": "Zr9Hq0bV.sha512$$00",
        }),
        serde_json::json!({
            "longTokenHash": kept(DigestForm::Sha256LastPart, "co_short_LONGpart9GBugYXq8Xa8JM1i"),
            "scopes": ["orders:read"], "expires_at": 1_830_000_000, "metadata": {"plan": "pro", "seats": 3},
        }),
        serde_json::json!({ "api_key": foreign(3), "active": 1 }),
        serde_json::json!({ "api_key": foreign(4), "active": "no" }),
        serde_json::json!({ "api_key": foreign(5), "metadata": [1] }),
    ];
    let text = lines.map(|line| line.to_string()).join("\n");
    let (keys, report) = read(&bed, ImportSource::json_lines(Cursor::new(text)));
    assert_eq!(keys.len(), 4);
    assert_eq!(lines_of(&report), [(5, keyrota::MetadataError::NotAnObject.to_string())]);
    assert_eq!(report.ignored_columns, ["id"], "which holds a digest there");
    assert_eq!(keys[0].issued_at, at("2026-05-01 10:00"));
    assert_eq!(keys[1].versions[0].ends_at.map(|end| end.unix_seconds()), Some(1_830_000_000));
    assert_eq!(keys[1].metadata.fields().len(), 2);
    assert!(bed.is_granted(&foreign(1)) && bed.is_granted("co_short_LONGpart9GBugYXq8Xa8JM1i"));
    assert!(bed.is_granted(&foreign(3)) && !bed.is_granted(&foreign(4)));
    assert_eq!(keys[2].versions[0].imported.unwrap().strength, keyrota::Strength::Sufficient);
}

#[test]
fn a_file_of_tokens_has_one_on_each_line() {
    let bed = bed();
    let text = format!("# of the old service\nci={}\r\n\n  {}  \nbatch: short\n", foreign(1), foreign(2));
    let (keys, report) = read(&bed, ImportSource::token_lines(Cursor::new(text), TokenList::Any));
    assert_eq!(report.lines, 3);
    assert_eq!(keys[0].name.as_str(), "ci");
    assert_eq!(keys[1].name.as_str(), "imported 4");
    assert!(bed.is_granted(&foreign(1)) && bed.is_granted(&foreign(2)));
}

#[test]
fn columns_with_names_of_their_own_are_named_by_the_host() {
    let bed = bed();
    let text = format!("fp,who\n{},eve\n", hex(&sha256(b"last9GBugYXq8Xa8JM1iQWfqRGHn")));
    let source = ImportSource::csv(Cursor::new(text))
        .column("fp", ImportColumn::Digest)
        .column("who", ImportColumn::Owner)
        .form(DigestForm::Sha256LastPart);
    let (keys, report) = read(&bed, source);
    assert_eq!((keys[0].owner, report.ignored_columns.len()), (owner("eve"), 0));
    assert!(bed.is_granted("any_thing_last9GBugYXq8Xa8JM1iQWfqRGHn"));
    bed.validator.flush().unwrap();
    assert!(bed.is_granted("any_thing_last9GBugYXq8Xa8JM1iQWfqRGHn"));
    assert!(
        !bed.is_granted("other_thing_last9GBugYXq8Xa8JM1iQWfqRGHn"),
        "the whole token counts once it was seen"
    );
}

#[cfg(feature = "sqlite")]
#[test]
fn a_table_of_an_sqlite_database_is_read_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old \"system\".db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(
        "PRAGMA journal_mode = DELETE;
         CREATE TABLE \"api keys\" (
            id INTEGER PRIMARY KEY, key_hash, user_id INTEGER, name TEXT, role TEXT, status TEXT,
            created_at TEXT, expires_at INTEGER, last_used_at TEXT, metadata TEXT);",
    )
    .unwrap();
    let insert = "INSERT INTO \"api keys\" (key_hash, user_id, name, status, created_at, expires_at, metadata) \
                  VALUES (?1, ?2, ?3, ?4, '2026-01-01 00:00:00', ?5, '{\"team\": 1}')";
    old.execute_batch("BEGIN").unwrap();
    for n in 0..1_234_i64 {
        let status = if n % 5 == 0 { "revoked" } else { "active" };
        let token = foreign(n as usize);
        let end: Option<i64> = (n % 2 == 0).then_some(1_830_000_000);
        if n % 3 == 0 {
            old.execute(insert, (sha256(token.as_bytes()), n % 700, "blob", status, end)).unwrap();
        } else {
            old.execute(insert, (kept(DigestForm::Sha256, &token), n % 700, "text", status, end)).unwrap();
        }
    }
    old.execute_batch("COMMIT").unwrap();
    drop(old);
    let before = std::fs::read(&path).unwrap();
    let bed = bed();
    let (keys, report) = read(&bed, ImportSource::sqlite(&path, "api keys").unwrap());
    assert_eq!((keys.len(), report.skipped), (1_234, 0));
    assert_eq!(report.ignored_columns, ["id", "last_used_at"]);
    for n in [1, 2, 3, 999, 1_001, 1_233] {
        assert!(bed.is_granted(&foreign(n)), "{n}");
    }
    assert!(!bed.is_granted(&foreign(5)) && !bed.is_granted(&foreign(1_230)));
    assert_eq!(bed.keys.get(keys[1].id).unwrap().owner, owner("1"));
    assert_eq!(keys[2].versions[0].ends_at.map(|end| end.unix_seconds()), Some(1_830_000_000));
    // Where all is checked first, the table is read twice.
    let again = bed.root().import(Import::from(ImportSource::sqlite(&path, "api keys").unwrap()));
    assert!(matches!(again, Err(keyrota::ImportError::Refused(report)) if report.skipped == 1_234));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    for missing in ["nothing", "api keys; DROP TABLE x", "sqlite_schema", "\"api keys\""] {
        assert!(matches!(ImportSource::sqlite(&path, missing), Err(SourceError::Table(_))), "{missing}");
    }
    assert!(matches!(ImportSource::sqlite(folder.path().join("none.db"), "x"), Err(SourceError::Table(_))));
}

/// Tables whose rows have no row id, or one that a column hides: each row is read once, in more than one go.
#[cfg(feature = "sqlite")]
#[test]
fn a_table_without_row_ids_is_read_by_its_primary_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    let tables = [
        ("by_hash", "key_hash PRIMARY KEY, label TEXT", "WITHOUT ROWID"),
        ("by_two", "key_hash, label TEXT, PRIMARY KEY (label, key_hash)", "WITHOUT ROWID"),
        (
            "by_case",
            "key_hash, label TEXT COLLATE NOCASE, PRIMARY KEY (label COLLATE BINARY)",
            "WITHOUT ROWID",
        ),
        ("hidden", "key_hash, label TEXT, rowid TEXT DEFAULT 'same', OID TEXT", ""),
    ];
    for (name, columns, how) in tables {
        old.execute_batch(&format!("CREATE TABLE {name} ({columns}) {how}; BEGIN")).unwrap();
        for n in 0..1_205_usize {
            // But for the first, pairs of labels that differ in case: a chunk ends within one.
            let case = if n % 2 == 0 { "A" } else { "a" };
            let label = if n == 0 { "first".to_owned() } else { format!("row {} {case}", n.div_ceil(2)) };
            let token = foreign(n);
            let insert = format!("INSERT INTO {name} (key_hash, label) VALUES (?1, ?2)");
            match n % 3 {
                0 => old.execute(&insert, (sha256(token.as_bytes()), label)).unwrap(),
                _ => old.execute(&insert, (kept(DigestForm::Sha256, &token), label)).unwrap(),
            };
        }
        old.execute_batch("COMMIT").unwrap();
        let bed = bed();
        // Where all is checked first, it is read twice.
        let import = Import::from(ImportSource::sqlite(&path, name).unwrap()).owner(owner("ada"));
        let report = bed.root().import(import.raise_limits()).unwrap();
        assert_eq!((report.lines, report.imported, report.skipped), (1_205, 1_205, 0), "{name}");
        assert!((0..1_205).step_by(67).all(|n| bed.is_granted(&foreign(n))), "{name}");
    }
    old.execute_batch("CREATE TABLE none_left (rowid, _rowid_, oid, key_hash)").unwrap();
    let refused = ImportSource::sqlite(&path, "none_left").unwrap_err().to_string();
    assert!(refused.contains("hide its row ids; copy it"), "{refused}");
}

/// A cell that cannot be read must not look as if it said nothing: it may say that the key is revoked.
#[cfg(feature = "sqlite")]
#[test]
fn a_cell_of_a_table_that_is_no_text_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch("CREATE TABLE keys (key_hash, status, notes)").unwrap();
    for (n, status) in [(1, "X'ff7265766f6b6564'"), (2, "'active'")] {
        let hash = kept(DigestForm::Sha256, &foreign(n));
        let row = format!("INSERT INTO keys VALUES ('{hash}', CAST({status} AS TEXT), CAST(X'ff' AS TEXT))");
        old.execute_batch(&row).unwrap();
    }
    let bed = bed();
    let (keys, report) = read(&bed, ImportSource::sqlite(&path, "keys").unwrap());
    assert_eq!(lines_of(&report), [(1, LineProblem::Unreadable.to_string())]);
    assert_eq!((keys.len(), bed.is_granted(&foreign(1))), (1, false), "notes are left out");
}

#[test]
fn an_environment_variable_is_read() {
    const VARIABLE: &str = "KEYROTA_TEST_API_KEYS";
    let name = "sources::an_environment_variable_is_read";
    if std::env::var_os(VARIABLE).is_none() {
        // A variable is set for a process of its own.
        let itself = std::env::current_exe().unwrap();
        let listed = format!("ci:{},web:{}", foreign(1), foreign(2));
        let run = std::process::Command::new(itself)
            .env(VARIABLE, listed)
            .args(["--exact", name])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let bed = bed();
    let (keys, _) = read(&bed, ImportSource::env(VARIABLE, TokenList::Any).unwrap());
    assert_eq!(keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["ci", "web"]);
    assert!(bed.is_granted(&foreign(1)) && bed.is_granted(&foreign(2)));
}

//! A database that says it is ours and whose tables are not as the library made them.

use keyrota::SqliteOpenError;

use crate::scene::{Scene, assert_error, works};

/// The object that a refusal names after a SQL shell did this to a founded store.
fn found_altered(sql: &str) -> String {
    let scene = Scene::founded();
    scene.sql(sql);
    match scene.refused() {
        SqliteOpenError::AlteredSchema { object, .. } => object,
        error => panic!("{sql}: {error}"),
    }
}

#[test]
fn what_is_missing_is_named() {
    for (kind, name) in [
        ("table", "head"),
        ("table", "touched"),
        ("table", "usage"),
        ("index", "row_by_id"),
        ("index", "row_by_unique"),
        ("trigger", "row_updated"),
        ("view", "v_keys"),
    ] {
        let object = found_altered(&format!("DROP {kind} {name}"));
        assert!(object.contains(name), "{object} of {name}, or what went with it");
    }
    let scene = Scene::new();
    scene.sql("PRAGMA application_id = 0x6B726F74; PRAGMA user_version = 1");
    assert_error!(scene.refused(), AlteredSchema, "our mark and nothing else");
}

#[test]
fn what_was_altered_is_named() {
    for (sql, object) in [
        ("ALTER TABLE row ADD COLUMN note TEXT", "table \"row\""),
        ("ALTER TABLE writer RENAME COLUMN name TO title", "table \"writer\""),
        ("ALTER TABLE gone RENAME TO went", "index \"gone_by_revision\""),
        ("DROP INDEX row_by_id; CREATE INDEX row_by_id ON row (kind, id)", "index \"row_by_id\""),
        ("DROP VIEW v_keys; CREATE VIEW v_keys AS SELECT 'all is well' AS key", "view \"v_keys\""),
        (
            "DROP TRIGGER row_updated; CREATE TRIGGER row_updated AFTER UPDATE ON row BEGIN SELECT 1; END",
            "trigger \"row_updated\"",
        ),
    ] {
        assert_eq!(found_altered(sql), object, "{sql}");
    }
}

#[test]
fn a_view_in_the_place_of_a_table_is_not_read() {
    let object = found_altered(
        "DROP VIEW v_usage; ALTER TABLE usage RENAME TO hidden;
         CREATE VIEW usage AS SELECT * FROM hidden WHERE denied = 0;
         CREATE TRIGGER into_usage INSTEAD OF INSERT ON usage BEGIN SELECT 1; END",
    );
    assert!(object.contains("usage"), "{object}");
}

#[test]
fn what_was_added_to_our_tables_is_named() {
    for (sql, object) in [
        ("CREATE UNIQUE INDEX one_only ON row (kind)", "index \"one_only\""),
        ("CREATE INDEX slow ON row (body)", "index \"slow\""),
        ("CREATE TRIGGER a BEFORE DELETE ON row BEGIN SELECT RAISE(IGNORE); END", "trigger \"a\""),
        ("CREATE TRIGGER b AFTER INSERT ON audit BEGIN DELETE FROM audit; END", "trigger \"b\""),
    ] {
        assert_eq!(found_altered(sql), object, "{sql}");
    }
}

#[test]
fn tables_and_views_of_others_and_statistics_are_left_alone() {
    let scene = Scene::founded();
    scene.sql(
        "CREATE TABLE note (a UNIQUE); CREATE INDEX note_a ON note (a); CREATE VIEW names AS SELECT name FROM v_keys;
         CREATE TRIGGER noted AFTER INSERT ON note BEGIN SELECT 1; END; INSERT INTO note VALUES (1); ANALYZE",
    );
    assert_eq!(works(&scene.file()), 2);
    scene.sql("VACUUM");
    assert_eq!(works(&scene.file()), 3);
    let notes: i64 = scene.shell().query_row("SELECT count(*) FROM note", [], |row| row.get(0)).unwrap();
    assert_eq!(notes, 1);
}

#[test]
fn our_mark_on_schema_0_is_a_migration_to_be_resumed_only_where_nothing_is() {
    let scene = Scene::new();
    scene.sql("PRAGMA application_id = 0x6B726F74");
    assert_eq!(works(&scene.file()), 1);
    assert_eq!(found_altered("PRAGMA user_version = 0"), "index \"audit_by_key\"");
    let scene = Scene::new();
    scene.sql("PRAGMA application_id = 0x6B726F74; CREATE TABLE t (a)");
    assert_error!(scene.refused(), AlteredSchema);
    let scene = Scene::founded();
    scene.sql("PRAGMA user_version = -1");
    assert_error!(scene.refused(), ForeignDatabase, "a schema that no version has");
}

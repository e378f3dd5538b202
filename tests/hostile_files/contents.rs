//! Files that are no database, damaged ones, and databases of others.

use std::fs;

use keyrota::{KeyStore as _, SqliteOpenError};

use crate::scene::{Scene, assert_error, open, works};

/// Bytes that look random and are the same at each run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn a_file_of_anything_else_is_no_database() {
    let scene = Scene::new();
    let lengths = (1..=100).chain([511, 512, 513, 4_095, 4_096, 4_097, 40_960]);
    let texts = [b"dear diary".to_vec(), b"SQLite format 3".to_vec(), b"SQLite format 2\0".repeat(300)];
    let samples = lengths.flat_map(|length| [noise(length), vec![0; length]]).chain(texts);
    for sample in samples {
        fs::write(scene.file(), &sample).unwrap();
        assert_error!(scene.refused(), NotADatabase, "{} bytes", sample.len());
    }
}

#[test]
fn an_encrypted_database_is_none() {
    let scene = Scene::founded();
    let bytes = fs::read(scene.file()).unwrap();
    let encrypted: Vec<_> = bytes.iter().zip(noise(bytes.len())).map(|(byte, noise)| byte ^ noise).collect();
    fs::write(scene.file(), encrypted).unwrap();
    assert_error!(scene.refused(), NotADatabase);
}

#[test]
fn a_sound_header_before_rubbish_is_refused() {
    let scene = Scene::founded();
    let bytes = fs::read(scene.file()).unwrap();
    for kept in [16, 24, 60, 72, 99, 100, 108] {
        let mut spoilt = bytes.clone();
        spoilt[kept..].copy_from_slice(&noise(bytes.len() - kept));
        fs::write(scene.file(), &spoilt).unwrap();
        let error = scene.refused();
        assert!(
            matches!(
                error,
                SqliteOpenError::NotADatabase { .. }
                    | SqliteOpenError::Corrupt { .. }
                    | SqliteOpenError::ForeignDatabase { .. }
                    | SqliteOpenError::ReadOnlyFile { .. }
            ),
            "{kept}: {error}"
        );
    }
    let mut spoilt = bytes.clone();
    spoilt[100..4_096].copy_from_slice(&noise(3_996));
    fs::write(scene.file(), &spoilt).unwrap();
    assert_error!(scene.refused(), Corrupt, "a spoilt first page");
}

#[test]
fn a_byte_of_the_header_that_is_another_is_no_harm_or_refused_and_nothing_is_changed() {
    let scene = Scene::founded();
    let bytes = fs::read(scene.file()).unwrap();
    let (mut taken, mut refused) = (0, 0);
    for at in 0..100 {
        for other in [0x01, 0xff] {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= other;
            fs::write(scene.file(), &spoilt).unwrap();
            match scene.opened_or_unchanged() {
                Ok(store) => {
                    taken += 1;
                    store.head().unwrap();
                    store.close().unwrap();
                    assert!(open(scene.file()).is_ok(), "byte {at} by {other}");
                }
                Err(SqliteOpenError::Store { source, .. }) => panic!("byte {at} by {other}: {source:?}"),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(taken > 50 && refused > 50, "{taken} taken, {refused} refused");
}

#[test]
fn a_schema_that_cannot_be_read_is_damage() {
    let scene = Scene::founded();
    scene.sql(
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE TABLE audit (' WHERE name = 'audit'",
    );
    assert_error!(scene.refused(), Corrupt);
    let scene = Scene::founded();
    scene
        .sql("PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 1000000 WHERE name = 'audit'");
    assert_error!(scene.refused(), Corrupt);
}

#[test]
fn a_file_whose_end_is_missing_is_refused_wherever_it_was_cut() {
    let scene = Scene::founded();
    // So that the end is of a row, and not of the schema, which SQLite reads at once.
    scene.sql("CREATE TABLE note (a); INSERT INTO note VALUES (randomblob(20000))");
    let bytes = fs::read(scene.file()).unwrap();
    let pages = bytes.len() / 4_096;
    assert!(pages > 10);
    let cuts =
        (1..pages).flat_map(|page| [page * 4_096 - 1, page * 4_096, page * 4_096 + 1, page * 4_096 + 512]);
    for length in cuts.chain([bytes.len() - 1, bytes.len() - 4_095]) {
        fs::write(scene.file(), &bytes[..length]).unwrap();
        match scene.refused() {
            SqliteOpenError::Truncated { found, expected, .. } => {
                assert_eq!((found, expected), (length as u64, bytes.len() as u64));
            }
            SqliteOpenError::Corrupt { .. } => {}
            error => panic!("{length}: {error}"),
        }
    }
    for length in 1..100 {
        fs::write(scene.file(), &bytes[..length]).unwrap();
        let error = scene.refused();
        let is_damage = matches!(
            error,
            SqliteOpenError::NotADatabase { .. }
                | SqliteOpenError::Corrupt { .. }
                | SqliteOpenError::Truncated { .. }
        );
        assert!(is_damage, "{length}: {error}");
    }
    fs::write(scene.file(), &bytes).unwrap();
    assert_eq!(works(&scene.file()), 2, "whole again");
}

#[test]
fn a_longer_file_than_the_database_is_no_harm() {
    let scene = Scene::founded();
    let mut bytes = fs::read(scene.file()).unwrap();
    bytes.extend(noise(5_000));
    fs::write(scene.file(), bytes).unwrap();
    assert_eq!(works(&scene.file()), 2);
}

#[test]
fn a_database_of_another_application_is_refused() {
    for foreign in [
        "CREATE TABLE t (a)",
        "CREATE VIEW v AS SELECT 1",
        "PRAGMA application_id = 7",
        "PRAGMA application_id = 0x6B726F75",
        "PRAGMA application_id = -1",
        "PRAGMA user_version = 1",
        "PRAGMA user_version = -1",
        "PRAGMA journal_mode = WAL; CREATE TABLE t (a)",
        "PRAGMA encoding = 'UTF-16'; CREATE TABLE t (a)",
        "PRAGMA page_size = 512; CREATE TABLE t (a)",
        "CREATE TABLE row (n INTEGER PRIMARY KEY, kind, id); CREATE TABLE head (id)",
        "PRAGMA user_version = 1; CREATE TABLE row (n); CREATE TABLE head (id)",
    ] {
        let scene = Scene::new();
        scene.sql(foreign);
        assert_error!(scene.refused(), ForeignDatabase, "{foreign}");
    }
    let scene = Scene::founded();
    scene.sql("PRAGMA application_id = 0");
    assert_error!(scene.refused(), ForeignDatabase, "ours without its mark");
}

#[test]
fn a_later_schema_is_refused() {
    for version in [2, 3, i32::MAX] {
        let scene = Scene::founded();
        scene.sql(&format!("PRAGMA user_version = {version}; CREATE TABLE later (a)"));
        let error = scene.refused();
        let SqliteOpenError::NewerSchema { found, supported, .. } = error else { panic!("{error}") };
        assert_eq!((i64::from(found), supported), (version.into(), 1));
    }
    let scene = Scene::founded();
    scene.sql("PRAGMA user_version = 2");
    let running = scene.shell();
    running.execute_batch("PRAGMA wal_autocheckpoint = 0; CREATE TABLE later (a)").unwrap();
    assert_error!(scene.crashed(&["", "-wal"]).refused(), NewerSchema, "beside the log of its crash");
}

#[test]
fn a_database_that_keeps_text_otherwise_is_refused() {
    for encoding in ["UTF-16le", "UTF-16be"] {
        let scene = Scene::new();
        scene.sql(&format!("PRAGMA encoding = '{encoding}'; CREATE TABLE t (a); DROP TABLE t"));
        let error = scene.refused();
        assert!(
            matches!(&error, SqliteOpenError::ForeignEncoding { encoding: found, .. } if found == encoding),
            "{error}"
        );
        scene.sql("PRAGMA application_id = 0x6B726F74");
        assert_error!(scene.refused(), ForeignEncoding, "under our mark too");
    }
}

#[test]
fn other_page_sizes_and_a_vacuum_are_fine() {
    for setting in ["page_size = 512", "page_size = 65536", "auto_vacuum = FULL", "auto_vacuum = INCREMENTAL"]
    {
        let scene = Scene::founded();
        scene.sql(&format!("PRAGMA journal_mode = DELETE; PRAGMA {setting}; VACUUM"));
        assert_eq!(works(&scene.file()), 2, "{setting}");
        assert_eq!(works(&scene.file()), 3, "{setting}");
        let scene = Scene::new();
        scene.sql(&format!("PRAGMA {setting}; CREATE TABLE t (a); DROP TABLE t; VACUUM"));
        assert_eq!(works(&scene.file()), 1, "an empty one, {setting}");
    }
}

//! What a crash at any moment of making a store leaves behind is taken up again.

use std::fs;

use keyrota::{KeyManager, KeyStore as _};

use crate::scene::{Scene, keyring, open, works};

/// Page 1 of a database that holds nothing yet.
fn first_page(mode: &str) -> Vec<u8> {
    let scene = Scene::new();
    scene.sql(&format!("CREATE TABLE t (a); DROP TABLE t; VACUUM; PRAGMA journal_mode = {mode}"));
    fs::read(scene.file()).unwrap()
}

/// A journal that was begun on a file without pages: SQLite's header, in a sector of its own.
fn journal_of_a_founding() -> Vec<u8> {
    let mut journal = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7".to_vec();
    for word in [0_u32, 0x1234_5678, 0, 512, 4_096] {
        journal.extend(word.to_be_bytes());
    }
    journal.resize(512, 0);
    journal
}

#[test]
fn an_empty_file_and_one_with_nothing_but_a_header_are_founded() {
    let scene = Scene::new();
    fs::write(scene.file(), b"").unwrap();
    assert_eq!(works(&scene.file()), 1);
    for mode in ["WAL", "DELETE"] {
        let scene = Scene::new();
        fs::write(scene.file(), first_page(mode)).unwrap();
        assert_eq!(works(&scene.file()), 1, "{mode}");
    }
}

#[test]
fn a_crash_while_the_first_page_is_written_is_rolled_back_and_founded() {
    let page = first_page("WAL");
    assert_eq!(page.len(), 4_096);
    let journal = journal_of_a_founding();
    let mut unsynced = journal.clone();
    unsynced[..12].fill(0);
    for written in [0, 1, 100, 512, 2_048, 4_095, 4_096] {
        let scene = Scene::new();
        fs::write(scene.file(), &page[..written]).unwrap();
        fs::write(scene.beside("-journal"), &journal).unwrap();
        assert_eq!(works(&scene.file()), 1, "{written} bytes of the page beside the journal");
        assert_eq!(scene.names(), ["keys.db"]);
    }
    for journal in [vec![], unsynced] {
        let scene = Scene::new();
        fs::write(scene.file(), b"").unwrap();
        fs::write(scene.beside("-journal"), journal).unwrap();
        assert_eq!(works(&scene.file()), 1, "before the journal was synced");
    }
}

/// As many bytes of a log as a crash may leave: around each end of a frame, and within.
fn cuts(log: &[u8]) -> impl Iterator<Item = usize> + use<> {
    const FRAME: usize = 4_096 + 24;
    let length = log.len();
    let ends = (0..=(length - 32) / FRAME).map(|frames| 32 + frames * FRAME);
    let around = ends.flat_map(|end| [end - 1, end, end + 1, end + 23, end + 24, end + 2_000]);
    [0, 1, 16].into_iter().chain(around).filter(move |cut| *cut <= length).chain([length])
}

#[test]
fn a_migration_of_which_any_part_was_written_is_taken_up_again() {
    let scene = Scene::new();
    let running = open(scene.file()).unwrap();
    let (file, log) = (fs::read(scene.file()).unwrap(), fs::read(scene.beside("-wal")).unwrap());
    drop(running);
    assert!(log.len() > 20_000 && file.len() == 4_096, "all of it is in the log");
    let mut taken = [0, 0];
    for cut in cuts(&log) {
        let crashed = Scene::new();
        fs::write(crashed.file(), &file).unwrap();
        fs::write(crashed.beside("-wal"), &log[..cut]).unwrap();
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'row'";
        let other = crashed.crashed(&["", "-wal"]);
        let is_made: bool = other.shell().query_row(tables, [], |row| row.get(0)).unwrap();
        taken[usize::from(is_made)] += 1;
        assert_eq!(works(&crashed.file()), 1, "{cut} of {} bytes of the log", log.len());
    }
    assert!(taken[0] > 20 && taken[1] > 0, "before and after its end: {taken:?}");
}

#[test]
fn a_founding_of_which_any_part_was_written_is_taken_up_again() {
    let scene = Scene::new();
    drop(open(scene.file()).unwrap());
    let keys = KeyManager::open(open(scene.file()).unwrap(), keyring()).unwrap();
    let (file, log) = (fs::read(scene.file()).unwrap(), fs::read(scene.beside("-wal")).unwrap());
    keys.close().unwrap();
    let mut founded = [0, 0];
    for cut in cuts(&log) {
        let crashed = Scene::new();
        fs::write(crashed.file(), &file).unwrap();
        fs::write(crashed.beside("-wal"), &log[..cut]).unwrap();
        let store = open(crashed.file()).unwrap();
        founded[usize::from(store.head().unwrap().is_some())] += 1;
        drop(store);
        assert_eq!(works(&crashed.file()), 1, "{cut} of {} bytes of the log", log.len());
    }
    assert!(founded[0] > 5 && founded[1] > 0, "before and after its end: {founded:?}");
}

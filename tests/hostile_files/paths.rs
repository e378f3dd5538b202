//! Paths that name no file to open.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use keyrota::SqliteOpenError;

use crate::scene::{Scene, after, assert_error, make_fifo, things, works};

#[test]
fn an_empty_path_names_no_file() {
    assert_error!(Scene::new().refused_as(""), EmptyPath);
}

#[test]
fn a_database_in_memory_is_no_file() {
    assert_error!(Scene::new().refused_as(":memory:"), InMemory);
    assert!(!Path::new(":memory:").exists());
}

#[test]
fn a_uri_is_refused_whatever_it_says() {
    let scene = Scene::founded();
    let file = scene.file();
    let file = file.display();
    for uri in [
        format!("file:{file}"),
        format!("file://{file}"),
        format!("file:{file}?mode=memory"),
        format!("file:{file}?immutable=1&nolock=1"),
        "file::memory:".to_owned(),
        "file:".to_owned(),
    ] {
        assert_error!(scene.refused_as(&uri), Uri, "{uri}");
        assert!(!Path::new(&uri).exists());
    }
}

#[test]
fn a_file_that_is_named_like_a_uri_in_a_folder_is_a_file() {
    let scene = Scene::new();
    for name in ["file:keys.db?mode=memory", "keys.db?immutable=1", "a%20b#c.db", ":memory:", " ", "ключ.db"]
    {
        let path = scene.folder().join(name);
        assert_eq!(works(&path), 1);
        assert_eq!(works(&path), 2, "the same file again");
        assert!(fs::metadata(&path).unwrap().len() > 0, "{name}");
    }
}

#[test]
fn a_nul_byte_is_refused() {
    let scene = Scene::founded();
    assert_error!(scene.refused_as(after(&scene.file(), "\0")), NulInPath);
    assert_error!(scene.refused_as("\0"), NulInPath);
}

#[test]
fn a_path_that_sqlite_cannot_name_is_refused_before_anything_is_made() {
    let scene = Scene::new();
    let mut folder = scene.folder().to_owned();
    while folder.as_os_str().len() < 480 {
        folder.push("a".repeat(20));
    }
    fs::create_dir_all(&folder).unwrap();
    let of_length = |length: usize| folder.join("k".repeat(length - folder.as_os_str().len() - 1));
    assert_error!(scene.refused_as(of_length(505)), PathTooLong);
    assert_eq!(things(&folder).len(), 0);
    assert_eq!(works(&of_length(504)), 1, "the longest");
    assert_error!(scene.refused_as(scene.folder().join("k".repeat(300))), Unreachable);
}

#[test]
fn a_directory_is_refused() {
    let scene = Scene::founded();
    fs::create_dir(scene.folder().join("sub")).unwrap();
    for path in [scene.folder().to_owned(), scene.folder().join("sub"), scene.folder().join("sub/..")] {
        assert_error!(scene.refused_as(&path), Directory, "{path:?}");
    }
    for path in [".", "..", "/", "./"] {
        assert_error!(scene.refused_as(path), Directory, "{path:?}");
    }
    assert_error!(scene.refused_as(after(&scene.file(), "/")), Directory, "a slash after a file");
    assert_error!(scene.refused_as(after(&scene.folder().join("new.db"), "/")), Directory, "and after none");
}

#[test]
fn a_fifo_a_socket_and_a_device_are_refused_without_waiting_for_them() {
    let scene = Scene::new();
    make_fifo(&scene.file());
    assert_error!(scene.refused(), SpecialFile, "a FIFO");
    let socket = scene.folder().join("socket.db");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert_error!(scene.refused_as(&socket), SpecialFile, "a socket");
    for device in ["/dev/null", "/dev/zero", "/dev/full"] {
        assert_error!(scene.refused_as(device), SpecialFile, "{device}");
        assert!(!after(Path::new(device), "-wal").exists());
    }
}

#[test]
fn a_symbolic_link_is_refused_wherever_it_leads() {
    let scene = Scene::founded();
    for target in ["keys.db", "missing.db", "link.db", ".", "/dev/null"] {
        let link = scene.folder().join("link.db");
        symlink(target, &link).unwrap();
        assert_error!(scene.refused_as(&link), SymbolicLink, "{target}");
        assert!(!scene.folder().join("missing.db").exists(), "nothing is made at the end of a dangling link");
        fs::remove_file(&link).unwrap();
    }
}

#[test]
fn a_folder_may_be_named_through_links_and_the_file_is_the_same() {
    let scene = Scene::new();
    symlink(scene.folder(), scene.folder().join("here")).unwrap();
    assert_eq!(works(&scene.folder().join("here/keys.db")), 1);
    assert_eq!(works(&scene.file()), 2);
    assert_eq!(works(&scene.folder().join("./keys.db")), 3);
    fs::create_dir(scene.folder().join("sub")).unwrap();
    assert_eq!(works(&scene.folder().join("sub/../keys.db")), 4);
}

#[test]
fn a_file_in_a_missing_folder_is_refused_and_the_folder_not_made() {
    let scene = Scene::founded();
    assert_error!(scene.refused_as(scene.folder().join("no/keys.db")), FolderMissing);
    assert_error!(scene.refused_as(scene.file().join("keys.db")), FolderMissing, "under a file");
    symlink("nowhere", scene.folder().join("dangling")).unwrap();
    assert_error!(scene.refused_as(scene.folder().join("dangling/keys.db")), FolderMissing);
    symlink("round", scene.folder().join("round")).unwrap();
    assert_error!(scene.refused_as(scene.folder().join("round/keys.db")), Unreachable, "a loop of links");
}

#[test]
fn a_file_with_a_second_name_is_refused_under_both() {
    let scene = Scene::founded();
    let other = scene.folder().join("other.db");
    fs::hard_link(scene.file(), &other).unwrap();
    for path in [scene.file(), other.clone()] {
        let error = scene.refused_as(path);
        assert!(matches!(error, SqliteOpenError::HardLinked { names: 2, .. }), "{error}");
    }
    fs::remove_file(other).unwrap();
    assert_eq!(works(&scene.file()), 2);
}

#[test]
fn a_name_that_is_no_unicode_is_a_name() {
    use std::os::unix::ffi::OsStrExt as _;
    let scene = Scene::new();
    let path = scene.folder().join(std::ffi::OsStr::from_bytes(b"k\xff\xfe.db"));
    assert_eq!(works(&path), 1);
    assert_eq!(works(&path), 2);
}

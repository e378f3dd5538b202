//! Who may do what with the files.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use keyrota::{KeyManager, SqliteOpenError};

use crate::scene::{Scene, as_ordinary_user, assert_error, keyring, open, works};

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn is_root(scene: &Scene) -> bool {
    fs::metadata(scene.folder()).unwrap().uid() == 0
}

const ALL: [&str; 3] = ["", "-wal", "-shm"];

#[test]
fn a_file_that_its_owner_may_not_read_and_write_is_refused_to_root_as_well() {
    let scene = Scene::founded();
    for mode in [0o400, 0o444, 0o200, 0o000, 0o066, 0o500] {
        allow(&scene.file(), mode);
        if mode & 0o400 != 0 || is_root(&scene) {
            assert_error!(scene.refused(), ReadOnlyFile, "{mode:o}");
        } else {
            assert_error!(open(scene.file()).unwrap_err(), ReadOnlyFile, "{mode:o}");
        }
    }
    allow(&scene.file(), 0o600);
    for suffix in ["-wal", "-shm", "-journal"] {
        fs::write(scene.beside(suffix), b"").unwrap();
        allow(&scene.beside(suffix), 0o400);
        let error = scene.refused();
        let SqliteOpenError::ReadOnlyFile { path } = error else { panic!("{suffix}: {error}") };
        assert!(path.ends_with(format!("keys.db{suffix}")), "{path:?}");
        fs::remove_file(scene.beside(suffix)).unwrap();
    }
    assert_eq!(works(&scene.file()), 2);
}

#[test]
fn a_file_of_another_user_is_refused_to_root_as_well() {
    let scene = Scene::founded();
    if !is_root(&scene) {
        assert_error!(open("/etc/passwd").unwrap_err(), WrongOwner);
        return;
    }
    for suffix in ["", "-wal", "-shm", "-journal"] {
        if !suffix.is_empty() {
            fs::write(scene.beside(suffix), b"").unwrap();
        }
        chown(scene.beside(suffix), Some(65_534), None).unwrap();
        match scene.refused() {
            SqliteOpenError::WrongOwner { path, owner, user } => {
                assert_eq!((owner, user), (65_534, 0));
                assert!(path.ends_with(format!("keys.db{suffix}")), "{path:?}");
            }
            error => panic!("{suffix}: {error}"),
        }
        chown(scene.beside(suffix), Some(0), None).unwrap();
    }
    assert_eq!(works(&scene.file()), 2);
}

#[test]
fn an_ordinary_user_is_refused_a_file_of_root() {
    as_ordinary_user("rights::an_ordinary_user_is_refused_a_file_of_root", |scene| {
        let error = open("/etc/passwd").unwrap_err();
        let user = fs::metadata(scene.folder()).unwrap().uid();
        assert!(
            matches!(error, SqliteOpenError::WrongOwner { owner: 0, user: found, .. } if found == user),
            "{error}"
        );
    });
}

#[test]
fn a_folder_that_may_not_be_written_is_refused() {
    as_ordinary_user("rights::a_folder_that_may_not_be_written_is_refused", |scene| {
        works(&scene.file());
        for rights in [0o500, 0o555, 0o577] {
            allow(scene.folder(), rights);
            assert_error!(scene.refused(), ReadOnlyFolder, "{rights:o}");
            assert_error!(scene.refused_as(scene.folder().join("new.db")), ReadOnlyFolder, "{rights:o}");
        }
        allow(scene.folder(), 0o700);
        assert_eq!(works(&scene.file()), 2);
        assert_error!(open("/new.db").unwrap_err(), ReadOnlyFolder, "a folder of root");
    });
}

#[test]
fn a_folder_that_may_not_be_searched_is_refused() {
    as_ordinary_user("rights::a_folder_that_may_not_be_searched_is_refused", |scene| {
        works(&scene.file());
        let sub = scene.folder().join("sub");
        fs::create_dir(&sub).unwrap();
        for rights in [0o600, 0o400, 0o000] {
            allow(scene.folder(), rights);
            assert_error!(open(scene.file()).unwrap_err(), FolderForbidden, "{rights:o}");
            assert_error!(open(sub.join("keys.db")).unwrap_err(), FolderForbidden, "above it, {rights:o}");
        }
        allow(scene.folder(), 0o300);
        assert_eq!(works(&scene.file()), 2, "to list it is not needed");
        allow(scene.folder(), 0o700);
    });
}

#[test]
fn a_store_of_ours_that_others_may_use_is_closed_to_them() {
    for given in [0o644, 0o660, 0o666, 0o604, 0o777] {
        let scene = Scene::founded();
        allow(&scene.file(), given);
        let store = open(scene.file()).unwrap();
        for suffix in ALL {
            assert_eq!(mode(&scene.beside(suffix)) & 0o077, 0, "{suffix} of {given:o}");
        }
        drop(store);

        let running = open(scene.file()).unwrap();
        let crashed = scene.crashed(&ALL);
        drop(running);
        ALL.iter().for_each(|suffix| allow(&crashed.beside(suffix), given));
        let store = open(crashed.file()).unwrap();
        for suffix in ALL {
            assert_eq!(mode(&crashed.beside(suffix)) & 0o077, 0, "{suffix} of a crash, {given:o}");
        }
        drop(store);
        let empty = Scene::new();
        fs::write(empty.file(), b"").unwrap();
        allow(&empty.file(), given);
        works(&empty.file());
        assert_eq!(mode(&empty.file()) & 0o077, 0, "an empty file, {given:o}");
    }
}

#[test]
fn what_is_refused_keeps_its_rights() {
    let scene = Scene::new();
    scene.sql("CREATE TABLE t (a)");
    allow(&scene.file(), 0o664);
    assert_error!(scene.refused(), ForeignDatabase);
    assert_eq!(mode(&scene.file()), 0o664);
}

/// By which the test below knows that it is the process with the umask.
const UMASKED: &str = "KEYROTA_TEST_UMASKED";

#[test]
fn all_files_are_for_their_owner_alone_whatever_the_umask() {
    const TEST: &str = "rights::all_files_are_for_their_owner_alone_whatever_the_umask";
    if let Some(folder) = std::env::var_os(UMASKED) {
        let file = Path::new(&folder).join("keys.db");
        let private = || {
            for suffix in ALL {
                assert_eq!(mode(&crate::scene::after(&file, suffix)), 0o600, "{suffix}");
            }
        };
        // Founded, and opened once more under the same umask.
        for _ in 0..2 {
            let keys = KeyManager::open(open(&file).unwrap(), keyring()).unwrap();
            private();
            keys.tick().unwrap();
            private();
            keys.close().unwrap();
            assert_eq!(mode(&file), 0o600);
        }
        return;
    }
    let run = |folder: &Path, umask: &str| {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
        shell.arg(std::env::current_exe().unwrap()).args([TEST, "--exact", "--nocapture"]);
        let run = shell.env(UMASKED, folder).output().unwrap();
        let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
        assert!(run.status.success() && said.contains("1 passed"), "{umask}: {said}");
    };
    for umask in ["000", "777", "022", "077", "111"] {
        let scene = Scene::new();
        run(scene.folder(), umask);
        run(scene.folder(), "000");
        run(scene.folder(), "777");
    }
}

#[test]
fn rights_that_are_given_while_it_is_open_are_taken_at_the_next_opening() {
    let scene = Scene::founded();
    let keys = KeyManager::open(open(scene.file()).unwrap(), keyring()).unwrap();
    ALL.iter().for_each(|suffix| allow(&scene.beside(suffix), 0o644));
    keys.tick().unwrap();
    drop(open(scene.file()).unwrap());
    ALL.iter().for_each(|suffix| assert_eq!(mode(&scene.beside(suffix)), 0o600, "{suffix}"));
    allow(&scene.file(), 0o400);
    keys.tick().unwrap();
    assert_error!(open(scene.file()).unwrap_err(), ReadOnlyFile);
    keys.close().unwrap();
}

//! A handle that a forked child inherits is refused there, and goes on working in the parent.
#![cfg(all(unix, feature = "sqlite"))]
#![allow(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use keyrota::{KeyManager, KeyStore as _, Keyring, SqliteStore, StoreErrorKind};

#[test]
#[allow(unsafe_code, reason = "the only way to run code in a forked child without another dependency")]
fn an_inherited_handle_is_refused_in_the_child_and_unharmed_in_the_parent() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path().join("keys.db")).unwrap());
    let keys = KeyManager::open(Arc::clone(&store), Keyring::generate().unwrap()).unwrap();
    let inherited = Arc::clone(&store);
    let mut child = Command::new("true");
    // An error that this returns in the child becomes the error of `spawn` in the parent.
    let in_child = move || match (inherited.head(), inherited.stamp(), inherited.close()) {
        (Err(head), Err(stamp), Err(close))
            if [&head, &stamp, &close].iter().all(|error| error.kind() == StoreErrorKind::Forked) =>
        {
            Ok(())
        }
        _ => Err(std::io::Error::from_raw_os_error(1)),
    };
    // SAFETY: no other thread of this test process holds a lock that the closure needs.
    unsafe { child.pre_exec(in_child) };
    assert!(child.status().unwrap().success());
    assert!(keys.verify_audit().unwrap().is_sound());
}

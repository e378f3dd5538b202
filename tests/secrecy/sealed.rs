//! Sealed copies: tokens at rest, for as long as the answer to a request id can be had again; and no longer.

use std::ops::ControlFlow;
use std::time::Duration;

use keyrota::{
    Actor, IssuedKey, KeyId, KeyStore as _, ManageError, OwnerId, Replace, RevokeTarget, RowFilter, RowKind,
    VersionNo,
};

use crate::search::{Secrets, contents_of};
use crate::story::Bed;

/// The bodies of the sealed copies of a key.
fn sealed_copies(bed: &Bed, key: KeyId) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    bed.store
        .inner()
        .scan(RowKind::Sealed, RowFilter::Parent(&key.to_string()), &mut |row| {
            bodies.push(row.body.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    bodies
}

/// How many sealed copies the table holds in all, by SQL.
fn rows(bed: &Bed) -> i64 {
    let connection = rusqlite::Connection::open(bed.path()).unwrap();
    let sql = "SELECT count(*) FROM row WHERE kind = ?1";
    connection.query_row(sql, [RowKind::Sealed.code()], |row| row.get(0)).unwrap()
}

fn issue(bed: &Bed, owner: &str, request: &str) -> IssuedKey {
    let new = keyrota::NewKey::new(OwnerId::new(owner).unwrap(), "ci").unwrap();
    bed.keys.by(Actor::operator("root")).request(request).issue(new).unwrap()
}

#[test]
fn only_an_act_with_a_request_id_leaves_a_sealed_copy_and_it_opens_for_that_request_alone() {
    let bed = Bed::new();
    let without = bed.issue("ada", "ci");
    assert!(sealed_copies(&bed, without.key).is_empty());
    let with = issue(&bed, "ada", "request-1");
    let again = issue(&bed, "ada", "request-1");
    assert_eq!((with.key, with.token.expose()), (again.key, again.token.expose()));
    let copies = sealed_copies(&bed, with.key);
    assert_eq!((copies.len(), rows(&bed)), (1, 1));
    let mut secrets = Secrets::default();
    secrets.add_token(with.token.expose());
    secrets.assert_absent("a sealed copy", &copies[0]);
}

#[test]
fn after_a_revocation_no_sealed_copy_of_what_was_revoked_is_left() {
    let bed = Bed::new();
    let act = || bed.keys.by(Actor::operator("root"));
    let (first, second, other) = (issue(&bed, "ada", "1"), issue(&bed, "ada", "2"), issue(&bed, "bob", "3"));
    act().request("rotate-1").rotate(first.key).unwrap();
    act().request("rotate-2").rotate(second.key).unwrap();
    assert_eq!((sealed_copies(&bed, first.key).len(), rows(&bed)), (2, 5));

    act().revoke(RevokeTarget::Version(first.key, VersionNo::FIRST)).unwrap();
    assert_eq!((sealed_copies(&bed, first.key).len(), rows(&bed)), (1, 4), "that version's only");
    act().revoke(first.key).unwrap();
    assert_eq!((sealed_copies(&bed, first.key).len(), rows(&bed)), (0, 3), "all of the key's");
    act().request("replace-2").replace(Replace::of(second.key)).unwrap();
    assert_eq!((sealed_copies(&bed, second.key).len(), rows(&bed)), (1, 2), "the replacement's only");
    act().revoke(OwnerId::new("ada").unwrap()).unwrap();
    assert_eq!((sealed_copies(&bed, second.key).len(), rows(&bed)), (0, 1), "all of the owner's");
    assert_eq!(sealed_copies(&bed, other.key).len(), 1);

    let again = act().request("rotate-1").rotate(first.key);
    assert!(matches!(again, Err(ManageError::AlreadyDone { .. })), "{again:?}");
}

#[test]
fn a_sealed_copy_that_has_served_its_time_opens_no_more_and_the_tick_removes_it() {
    let bed = Bed::new();
    let issued = issue(&bed, "ada", "request-1");
    bed.clock.advance(Duration::from_secs(15 * 60)).unwrap();
    let new = keyrota::NewKey::new(OwnerId::new("ada").unwrap(), "ci").unwrap();
    let again = bed.keys.by(Actor::operator("root")).request("request-1").issue(new);
    assert!(matches!(again, Err(ManageError::AlreadyDone { .. })), "{again:?}");
    bed.keys.tick().unwrap();
    assert_eq!((sealed_copies(&bed, issued.key).len(), rows(&bed)), (0, 0));
}

#[test]
fn the_ciphertext_of_a_deleted_sealed_copy_is_wiped_from_the_file() {
    let bed = Bed::new();
    let mut ciphertexts = Secrets::default();
    let mut issued = Vec::new();
    for n in 0..6 {
        let new = issue(&bed, "ada", &format!("request-{n}"));
        let copy: serde_json::Value = serde_json::from_slice(&sealed_copies(&bed, new.key)[0]).unwrap();
        ciphertexts.add_text("a ciphertext", copy["ciphertext"].as_str().unwrap());
        issued.push(new.key);
    }
    let holds_any =
        || contents_of(bed.folder.path()).iter().any(|(_, bytes)| ciphertexts.find(bytes).is_some());
    assert!(holds_any(), "the search finds them while they are kept");
    for key in issued {
        bed.keys.by(Actor::operator("root")).revoke(key).unwrap();
    }
    bed.keys.close().unwrap();
    assert!(!holds_any());
}

#[test]
fn a_tick_leaves_nothing_of_a_deleted_sealed_copy_in_any_file_while_the_store_is_in_use() {
    let bed = Bed::new();
    let mut ciphertexts = Secrets::default();
    for n in 0..6 {
        let new = issue(&bed, "ada", &format!("request-{n}"));
        let copy: serde_json::Value = serde_json::from_slice(&sealed_copies(&bed, new.key)[0]).unwrap();
        ciphertexts.add_text("a ciphertext", copy["ciphertext"].as_str().unwrap());
    }
    let holding = || {
        let files = contents_of(bed.folder.path());
        let holding = files.into_iter().filter(|(_, bytes)| ciphertexts.find(bytes).is_some());
        holding.map(|(path, _)| path).collect::<Vec<_>>()
    };
    assert!(!holding().is_empty(), "the search finds them while they are kept");
    bed.clock.advance(Duration::from_secs(15 * 60)).unwrap();

    // Somebody who reads keeps the log from being emptied, and the tick from nothing else.
    let reader = rusqlite::Connection::open(bed.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM row").unwrap();
    assert_eq!(bed.keys.tick().unwrap().cleaned, 6);
    assert!(!holding().is_empty());
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(bed.keys.tick().unwrap().cleaned, 0);
    assert_eq!(holding(), Vec::<String>::new());
}

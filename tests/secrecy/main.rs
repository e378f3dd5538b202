//! Where no secret may be: the database file and its log, what a store is given, the audit log, everything that can be
//! printed, errors and panics. Each place is searched for every part of every secret; and that the search finds what
//! is there is tested first.
#![cfg(feature = "sqlite")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../delegating/mod.rs"]
mod delegating;
mod eavesdropper;
mod panics;
mod sealed;
mod search;
mod story;

use std::error::Error;

use keyrota::{
    Actor, AuditFilter, Evidence, KeyId, KeyStore as _, Keyring, Locator, ManageError, MasterKey, Metadata,
    NewKey, OwnerId, Prefix, RequestId, RoleName, RotationId, Scope, SqliteStore, Timestamp, check_token,
};

use search::{Secrets, contents_of};
use story::{Bed, master_bytes};

/// An error as it can be printed, with all that caused it.
fn printed(error: &dyn Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!("\ncaused by {cause} {cause:?} {cause:#?}");
        source = cause.source();
    }
    text
}

#[test]
fn the_database_file_and_its_log_hold_no_secret() {
    let bed = Bed::new();
    let story = bed.tell();
    let files = contents_of(bed.folder.path());
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"keys.db") && names.contains(&"keys.db-wal"), "{names:?}");
    for (name, bytes) in &files {
        story.secrets.assert_absent(name, bytes);
    }
    // What is certainly in there is found, so it is not hidden by the form in which SQLite stores it.
    let mut public = Secrets::default();
    public.add_text("a name", "the name of a key that leads nowhere");
    assert!(files.iter().any(|(_, bytes)| public.find(bytes).is_some()));
    bed.keys.close().unwrap();
    let files = contents_of(bed.folder.path());
    let log = files.iter().find(|(name, _)| name == "keys.db-wal");
    assert!(log.is_none_or(|(_, bytes)| bytes.is_empty()), "the log was written into the file");
    for (name, bytes) in &files {
        story.secrets.assert_absent(name, bytes);
    }
}

#[test]
fn a_store_is_given_no_secret_and_reads_none_back() {
    let bed = Bed::new();
    let story = bed.tell();
    let heard = bed.store.heard();
    for what in ["Changeset", "SealedChangeset", "RowRef", "AuditRow", "FeedPage", "UsageBatch"] {
        assert!(heard.iter().any(|text| text.contains(what)), "no {what} was heard");
    }
    for text in heard {
        story.secrets.assert_absent("what a store is given", text.as_bytes());
    }
    // The bytes of a row are printed as numbers: the search reads these, too.
    let mut public = Secrets::default();
    public.add_text("a name", "the name of a key that leads nowhere");
    assert!(bed.store.heard().iter().any(|text| public.find(text.as_bytes()).is_some()));
}

#[test]
fn the_audit_log_holds_no_secret() {
    let bed = Bed::new();
    let story = bed.tell();
    let entries = bed.keys.audit(&AuditFilter::all(), usize::MAX).unwrap();
    assert!(entries.len() > 40, "{}", entries.len());
    for entry in &entries {
        let json = serde_json::to_string(entry).unwrap();
        story.secrets.assert_absent("an entry", format!("{json} {entry:?} {entry:#?}").as_bytes());
    }
    let mut export = Vec::new();
    bed.keys.export_audit(&AuditFilter::all(), &mut export).unwrap();
    story.secrets.assert_absent("the export", &export);
}

#[test]
fn nothing_that_can_be_printed_shows_a_secret() {
    let bed = Bed::new();
    let story = bed.tell();
    assert!(story.printed.len() > 60, "{}", story.printed.len());
    for text in &story.printed {
        story.secrets.assert_absent("what was printed", text.as_bytes());
    }
    for kind in
        ["SecretToken(", "MasterKey(", "Keyring {", "IssuedKey {", "RotatedKey {", "Grant {", "Denial("]
    {
        assert!(story.printed.iter().any(|text| text.contains(kind)), "no {kind} was printed");
    }
}

#[test]
fn what_a_host_holds_prints_no_secret() {
    let bed = Bed::new();
    let story = bed.tell();
    let ring = Keyring::from_bytes(&master_bytes()).unwrap();
    let master = ring.master(keyrota::Generation::FIRST).unwrap();
    let store = SqliteStore::open(bed.path()).unwrap();
    let text = format!("{ring:?} {ring:#?} {master:?} {:?} {:?} {store:?}", bed.keys, bed.validator);
    story.secrets.assert_absent("what a host holds", text.as_bytes());
    assert_eq!(format!("{master:?}"), "MasterKey([redacted])");
    // The one way to the master key is the one that is called so.
    assert!(story.secrets.find(master.expose_hex().as_bytes()).is_some());
}

#[test]
fn an_error_about_a_token_in_the_wrong_place_does_not_repeat_it() {
    let bed = Bed::new();
    let mut secrets = Secrets::default();
    let issued = bed.issue("ada", "ci");
    let token = issued.token.expose();
    secrets.add_token(token);
    let typo = token.replace(&token[20..21], if &token[20..21] == "x" { "y" } else { "x" });
    secrets.add_token(&typo);
    let mut errors: Vec<Box<dyn Error>> = Vec::new();
    for text in [token, typo.as_str(), &token[4..], &format!("{token}{token}"), &format!("\"{token}\"")] {
        errors.extend([
            Box::new(text.parse::<KeyId>().unwrap_err()) as Box<dyn Error>,
            Box::new(text.parse::<RotationId>().unwrap_err()),
            Box::new(text.parse::<Timestamp>().unwrap_err()),
            Box::new(Locator::try_from(text.to_owned()).unwrap_err()),
            Box::new(Scope::new(text).unwrap_err()),
            Box::new(Prefix::new(text).unwrap_err()),
            Box::new(MasterKey::from_text(text).unwrap_err()),
            Box::new(Metadata::from_json(text).unwrap_err()),
            Box::new(OwnerId::new(&format!("{text} {text}")).unwrap_err()),
            Box::new(RoleName::new(format!("{text}\n")).unwrap_err()),
            Box::new(RequestId::new(format!("{text}\u{202e}")).unwrap_err()),
            Box::new(bed.validator.validate(format!("{text}!")).unwrap_err()),
        ]);
        errors.extend(check_token(&format!("{text}!")).err().map(|error| Box::new(error) as _));
        let act = || bed.keys.by(Actor::operator("root"));
        errors.push(Box::new(act().because(format!("{text}\n")).revoke(issued.key).unwrap_err()));
        errors.push(Box::new(act().request(format!("{text}\n")).rotate(issued.key).unwrap_err()));
        errors.push(Box::new(
            bed.keys.by(Actor::operator(format!("{text}\n"))).rotate(issued.key).unwrap_err(),
        ));
        errors.push(Box::new(
            NewKey::new(OwnerId::new("ada").unwrap(), format!("{text}{text}{text}")).unwrap_err(),
        ));
        let evidence = Evidence::Token(text);
        secrets.assert_absent("evidence", format!("{evidence:?} {evidence:#?}").as_bytes());
    }
    for error in &errors {
        secrets.assert_absent("an error", printed(error.as_ref()).as_bytes());
    }
}

#[test]
fn an_error_about_a_master_key_does_not_repeat_it() {
    let mut secrets = Secrets::default();
    secrets.add_master(&master_bytes());
    let folder = tempfile::tempdir().unwrap();
    let hex = MasterKey::from_bytes(&master_bytes()).unwrap().expose_hex();
    let mut texts = vec![format!("{}{}", *hex, "0"), format!("{}zz", &hex[..62]), hex[..63].to_owned()];
    texts.push(format!("key={}", *hex));
    let mut errors: Vec<Box<dyn Error>> = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        errors.push(Box::new(MasterKey::from_text(text).unwrap_err()));
        let path = folder.path().join(n.to_string());
        std::fs::write(&path, text).unwrap();
        errors.push(Box::new(Keyring::from_file(&path).unwrap_err()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            errors.push(Box::new(Keyring::from_file(&path).unwrap_err()));
        }
    }
    let bed = Bed::new();
    let wrong = Keyring::generate().unwrap();
    secrets.add_text("another master key", &wrong.master(keyrota::Generation::FIRST).unwrap().expose_hex());
    let store = SqliteStore::open(bed.path()).unwrap();
    errors.push(Box::new(keyrota::KeyManager::open(store, wrong.clone()).unwrap_err()));
    errors.push(Box::new(
        wrong.with(keyrota::Generation::FIRST, MasterKey::from_bytes(&master_bytes()).unwrap()).unwrap_err(),
    ));
    for error in &errors {
        secrets.assert_absent("an error", printed(error.as_ref()).as_bytes());
    }
}

#[test]
fn an_error_of_the_store_in_the_middle_of_an_act_carries_no_secret() {
    let bed = Bed::new();
    let mut secrets = Secrets::default();
    secrets.add_master(&master_bytes());
    let first = bed.issue("ada", "ci");
    secrets.add_token(first.token.expose());
    let act = || bed.keys.by(Actor::operator("root"));
    let new = || NewKey::new(OwnerId::new("ada").unwrap(), "ci").unwrap();
    let mut errors = Vec::new();

    // Its answer gets lost after the effect, so that the token of the failed act can still be had and looked for.
    bed.store.lose_next_answer();
    errors.push(act().request("issue-lost").issue(new()).unwrap_err());
    secrets.add_token(act().request("issue-lost").issue(new()).unwrap().token.expose());
    bed.store.lose_next_answer();
    errors.push(act().request("rotate-lost").rotate(first.key).unwrap_err());
    secrets.add_token(act().request("rotate-lost").rotate(first.key).unwrap().token.expose());
    assert!(errors.iter().all(|error| matches!(error, ManageError::OutcomeUnknown { .. })), "{errors:?}");

    // What SQLite itself says: that somebody holds the lock, and that a statement cannot be carried out.
    let other = rusqlite::Connection::open(bed.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    errors.push(act().request("issue-busy").issue(new()).unwrap_err());
    other.execute_batch("ROLLBACK; ALTER TABLE row RENAME TO gone_row;").unwrap();
    errors.push(act().request("issue-broken").issue(new()).unwrap_err());
    errors.push(act().revoke(first.key).unwrap_err());
    other
        .execute_batch("ALTER TABLE gone_row RENAME TO row; ALTER TABLE audit RENAME TO gone_audit;")
        .unwrap();
    errors.push(act().request("issue-unlogged").issue(new()).unwrap_err());
    bed.store.inner().close().unwrap();
    errors.push(act().request("issue-closed").issue(new()).unwrap_err());
    for error in &errors {
        secrets.assert_absent("an error", printed(error).as_bytes());
    }
    assert!(errors.iter().any(|error| printed(error).contains("caused by")));
    for text in bed.store.heard() {
        secrets.assert_absent("what a store is given", text.as_bytes());
    }
}

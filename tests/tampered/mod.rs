//! What the tampering tests share: a store in which much has happened, a SQL shell on it, and a corpus of edits.
#![allow(dead_code, reason = "each test file uses its part")]

mod corpus;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use keyrota::{CheckFinding, Demand, Denial, DenialClass, Grant, KeyId, NewKey, RoleName, Validator};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::common::{Bed, Place, START, at, owner, scope, v};

#[allow(unused_imports, reason = "each test file uses its part")]
pub(crate) use corpus::{Edit, corpus, edited};

/// The keys of a scene. `bystander` belongs to an owner of its own and is never edited.
pub(crate) const KEYS: [(&str, &str); 7] = [
    ("live", "ada"),
    ("revoked", "ada"),
    ("cut", "ada"),
    ("expired", "ada"),
    ("suspended", "bob"),
    ("donor", "eve"),
    ("bystander", "eve"),
];

/// The id and token of each of [`KEYS`].
type Names = Vec<(KeyId, String)>;

/// A store in which a key was revoked, a version of another, a third one has expired, and an owner is suspended.
pub(crate) struct Scene {
    pub(crate) bed: Bed,
    keys: Names,
}

impl Scene {
    /// The keys alone, at the start.
    pub(crate) fn fresh() -> Self {
        let bed = Bed::at(Place::sqlite(), at(START));
        let reader = RoleName::new("reader").unwrap();
        bed.root().set_role(reader.clone(), ["reports:read"].try_into().unwrap()).unwrap();
        let issue = |(name, of): &(&str, &str)| {
            let new = NewKey::new(owner(of), *name).unwrap().role(reader.clone());
            let new = new.scopes(["orders:read"].try_into().unwrap());
            let new = if *name == "expired" { new.until(at("2027-01-05")) } else { new };
            let issued = bed.root().request(format!("issue-{name}")).issue(new).unwrap();
            (issued.key, issued.token.expose().to_owned())
        };
        let keys = KEYS.iter().map(issue).collect();
        Self { bed, keys }
    }

    /// The scene after all that has happened: made once, then copied.
    pub(crate) fn new() -> Self {
        static MADE: OnceLock<(Vec<u8>, Names)> = OnceLock::new();
        let (file, keys) = MADE.get_or_init(|| {
            let mut file = Vec::new();
            let scene = Self::made().reopened(|path| file = std::fs::read(path).unwrap());
            (file, scene.keys)
        });
        let place = Place::sqlite();
        std::fs::write(place.file().unwrap(), file).unwrap();
        Self { bed: Bed::at(place, at("2027-01-10")), keys: keys.clone() }
    }

    fn made() -> Self {
        let scene = Self::fresh();
        scene.bed.root().revoke(scene.key("revoked")).unwrap();
        scene.bed.root().revoke((scene.key("cut"), v(1))).unwrap();
        scene.bed.root().suspend(owner("bob")).unwrap();
        scene.bed.go("2027-01-06");
        scene.bed.tick();
        scene.bed.go("2027-01-10");
        scene
    }

    fn named(&self, name: &str) -> &(KeyId, String) {
        let at = KEYS.iter().position(|(known, _)| *known == name).unwrap();
        &self.keys[at]
    }

    pub(crate) fn key(&self, name: &str) -> KeyId {
        self.named(name).0
    }

    pub(crate) fn token(&self, name: &str) -> &str {
        &self.named(name).1
    }

    /// Where a key's row is, for SQL.
    pub(crate) fn key_row(&self, name: &str) -> String {
        format!("kind = 1 AND id = '{}'", self.key(name))
    }

    /// Where the row of a key's first version is, for SQL.
    pub(crate) fn version_row(&self, name: &str) -> String {
        format!("kind = 2 AND id = '{}/1'", self.key(name))
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.bed.place.file().unwrap()
    }

    pub(crate) fn shell(&self) -> Shell {
        Shell::on(&self.file())
    }

    /// The same store, after everything on it was closed and `meanwhile` was done to its file.
    pub(crate) fn reopened(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let Self { bed: Bed { clock, keys, validator, store, place }, keys: names } = self;
        validator.close().unwrap();
        keys.close().unwrap();
        store.close().unwrap();
        drop((validator, keys, store));
        meanwhile(&place.file().unwrap());
        Self { bed: Bed::at(place, keyrota::Clock::now(&clock)), keys: names }
    }

    /// An act that has nothing to do with what was edited, and always writes.
    pub(crate) fn unrelated_act(&self) {
        let zoe = owner("zoe");
        match self.bed.keys.owner(zoe) {
            Ok(record) if record.suspended => self.bed.root().resume(zoe).unwrap(),
            _ => self.bed.root().suspend(zoe).unwrap(),
        }
    }

    pub(crate) fn bystander_goes_on(&self, validator: &Validator, after: &str) {
        let granted = validator.validate_for(self.token("bystander"), Demand::scope(&scope("orders:read")));
        assert!(granted.is_ok(), "{after}: {granted:?}");
    }

    /// What check() finds.
    pub(crate) fn found(&self) -> Vec<CheckFinding> {
        self.bed.keys.check(None).unwrap().findings
    }
}

/// A SQL shell on the live file, as an attacker has one: its edits fire the triggers.
pub(crate) struct Shell(Connection);

impl Shell {
    pub(crate) fn on(file: &Path) -> Self {
        let connection = Connection::open(file).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        Self(connection)
    }

    /// Carries out statements that have to change something, in one transaction.
    pub(crate) fn run(&self, sql: &str) {
        let before = self.0.total_changes();
        self.0
            .execute_batch(&format!("BEGIN; {sql}; COMMIT"))
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert_ne!(self.0.total_changes(), before, "{sql} changed nothing");
    }

    /// As an editor who knows of them does, on its own connection: a dropped trigger would keep the file from being
    /// opened again.
    pub(crate) fn switch_triggers_off(&self) {
        self.0.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false).unwrap();
    }

    pub(crate) fn define(&self, sql: &str) {
        self.0.execute_batch(sql).unwrap();
    }

    /// Keeps copies of all rows and the head where no store looks.
    pub(crate) fn keep_copies(&self) {
        self.define(
            "ATTACH ':memory:' AS kept; CREATE TABLE kept.row AS SELECT * FROM main.row; \
             CREATE TABLE kept.head AS SELECT * FROM main.head",
        );
    }

    /// Puts the kept copy of each of these rows back, whole.
    pub(crate) fn put_back(&self, rows: &str) {
        self.run(&format!(
            "UPDATE main.row AS r SET (revision, due_at, ends_at, state, body, mac) = (SELECT revision, due_at, \
             ends_at, state, body, mac FROM kept.row k WHERE k.kind = r.kind AND k.id = r.id) WHERE {rows}"
        ));
    }

    pub(crate) fn put_head_back(&self) {
        self.run(
            "UPDATE main.head SET (revision, floor, body, generation, mac) = \
             (SELECT revision, floor, body, generation, mac FROM kept.head)",
        );
    }

    pub(crate) fn text(&self, sql: &str) -> String {
        self.0.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// The verdict on a token that demands a scope.
pub(crate) fn verdict(validator: &Validator, token: &str, demanded: &str) -> Result<Grant, Denial> {
    let verdict = validator.validate_for(token, Demand::scope(&scope(demanded)));
    if let Err(denial) = verdict {
        assert_ne!(denial.class(), DenialClass::Unavailable, "{denial}");
    }
    verdict
}

/// Whether a validator names an edited row itself. It follows four kinds; of others only check() tells.
pub(crate) fn names(validator: &Validator, finding: &CheckFinding) -> bool {
    let CheckFinding::EditedRow { kind, id } = finding else { return true };
    let findings = validator.findings().unwrap();
    !kind.is_followed() || findings.iter().any(|found| found.kind == *kind && found.id == *id)
}

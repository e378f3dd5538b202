//! The ledger: what each commit has changed in the rows, read beside the library, and what the audit log says of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use keyrota::{AuditQuery, FeedItem, KeyStore, Revision, RowFilter, RowKind};
use serde_json::Value;

use crate::naive::Time;

/// A change of a key, as an audit entry would name it: kind, key, version.
type Change = (String, String, Option<u64>);

#[derive(Default)]
pub struct Ledger {
    revision: Revision,
    seq: u64,
    pub commits: usize,
    /// Rows of keys and versions as they stand, by id.
    pub keys: BTreeMap<String, Value>,
    pub versions: BTreeMap<String, Value>,
    pub owners: BTreeMap<String, Value>,
    rotations: BTreeMap<String, Value>,
    /// All ids, locators, digests and fingerprints that there ever were.
    ever: BTreeSet<String>,
    pub broken: Vec<String>,
}

pub fn micros(row: &Value, field: &str) -> Option<Time> {
    row.get(field).and_then(Value::as_i64)
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn is_set(row: &Value, field: &str) -> bool {
    row.get(field).is_some_and(|value| !value.is_null() && *value != Value::Bool(false))
}

/// What a commit did to the rows of one key.
#[derive(Default)]
struct Expected {
    sure: Vec<Change>,
    /// An entry that a commit may have beside the sure one.
    perhaps: Vec<Change>,
}

impl Expected {
    fn add(&mut self, kind: &str, key: &str, version: Option<u64>) {
        self.sure.push((kind.to_owned(), key.to_owned(), version));
    }
}

impl Ledger {
    /// Enters a commit.
    pub fn enter(&mut self, store: &dyn KeyStore, revision: Revision) {
        self.commits += 1;
        if revision.0 != self.revision.0 + 1 && self.revision.0 > 0 {
            self.broken.push(format!("revision {revision} follows {}", self.revision));
        }
        let mut rows = Vec::new();
        let _ = store.feed(self.revision, usize::MAX, &mut |item| match item {
            FeedItem::Row(row) => {
                rows.push((row.kind, row.id.to_owned(), serde_json::from_slice::<Value>(row.body).ok()));
            }
            FeedItem::Gone { kind, id } => rows.push((kind, id.to_owned(), None)),
            _ => {}
        });
        self.revision = revision;
        let mut expected = Expected::default();
        for (kind, id, row) in rows {
            match kind {
                RowKind::Key => self.key(id, row, &mut expected),
                RowKind::Version => self.version(id, row, &mut expected),
                RowKind::Owner => drop(row.map(|row| self.owners.insert(id, row))),
                _ => {}
            }
        }
        self.rotations(store, &mut expected);
        self.compare(store, expected);
    }

    fn never_before(&mut self, name: String) {
        if !self.ever.insert(name.clone()) {
            self.broken.push(format!("I9: {name} was there before"));
        }
    }

    fn key(&mut self, id: String, row: Option<Value>, expected: &mut Expected) {
        let Some(row) = row else {
            self.keys.remove(&id);
            self.rotations.retain(|_, rotation| text(rotation, "key") != id);
            return expected.add("key_purged", &id, None);
        };
        match self.keys.get(&id) {
            None => {
                self.never_before(format!("key {id}"));
                expected.add("key_issued", &id, Some(1));
            }
            Some(old) => {
                if !is_set(old, "revoked_at") && is_set(&row, "revoked_at") {
                    expected.add("key_revoked", &id, None);
                }
                let differs = |field: &str| old.get(field) != row.get(field);
                if ["name", "scopes", "role", "metadata", "policy"].into_iter().any(differs) {
                    expected.add("key_edited", &id, None);
                }
                if differs("auto_rotation") {
                    expected.add("auto_rotation_set", &id, None);
                }
                let fixed = ["id", "owner", "prefix", "issued_at", "never_expires", "hard_end"];
                if let Some(field) = fixed.into_iter().find(|field| differs(field)) {
                    self.broken.push(format!("I8: {field} of {id} has changed: {old} → {row}"));
                }
                if is_set(old, "revoked_at") && differs("revoked_at") {
                    self.broken.push(format!("I2: the revocation of {id} has changed"));
                }
            }
        }
        self.keys.insert(id, row);
    }

    fn version(&mut self, id: String, row: Option<Value>, expected: &mut Expected) {
        let Some(row) = row else {
            self.versions.remove(&id);
            return;
        };
        let (key, number) = (text(&row, "key").to_owned(), row["number"].as_u64());
        let mut add = |kind: &str| expected.add(kind, &key, number);
        let blank = Value::Null;
        let old = self.versions.get(&id).unwrap_or(&blank).clone();
        if old.is_null() {
            if number != Some(1) {
                add(if text(&row, "stage") == "pending" { "version_minted" } else { "version_issued" });
            }
            self.never_before(format!("version {id}"));
            for field in ["locator", "digest", "fingerprint"] {
                self.never_before(format!("{field} {}", row[field]));
            }
        } else {
            let fixed = [
                "key",
                "number",
                "locator",
                "digest",
                "fingerprint",
                "issued_at",
                "not_before",
                "expires_at",
            ];
            if let Some(field) = fixed.iter().find(|field| old.get(**field) != row.get(**field)) {
                self.broken.push(format!("I8: {field} of {id} has changed: {old} → {row}"));
            }
            if text(&old, "stage") == "ended" && text(&row, "stage") != "ended" {
                self.broken.push(format!("I5: {id} was over: {old} → {row}"));
            }
            if text(&old, "end_reason") == "revoked" && text(&row, "end_reason") != "revoked" {
                self.broken.push(format!("I2: {id} was revoked: {old} → {row}"));
            }
        }
        let becomes = |field: &str| !is_set(&old, field) && is_set(&row, field);
        let was = text(&old, "stage").to_owned();
        for (field, kind) in [("offered_at", "version_offered"), ("claim", "version_claimed")] {
            if becomes(field) {
                add(kind);
            }
        }
        if becomes("first_used_at") {
            add("version_first_used");
        }
        if was == "pending" && becomes("activated_at") {
            add("version_activated");
        }
        if becomes("delivered_at") && text(&row, "stage") == "pending" {
            add("version_delivered");
        }
        if is_set(&row, "conflict_at") && old.get("conflict_at") != row.get("conflict_at") {
            expected.perhaps.push(("claim_conflict".to_owned(), key.clone(), None));
        }
        let mut add = |kind: &str| expected.add(kind, &key, number);
        match (is_set(&old, "deprecated_at"), is_set(&row, "deprecated_at")) {
            (false, true) => add("version_deprecated"),
            (true, false) => add("version_reactivated"),
            // Its end is written later, or earlier than it was.
            (true, true) if old.get("grace_end") != row.get("grace_end") => {
                for kind in ["version_deprecated", "version_retiring"] {
                    expected.perhaps.push((kind.to_owned(), key.clone(), number));
                }
            }
            _ => {}
        }
        self.course(&id, &old, &row);
        let mut add = |kind: &str| expected.add(kind, &key, number);
        if !is_set(&old, "compromised") && is_set(&row, "compromised") {
            add("version_compromised");
        }
        if old.get("end_reason") != row.get("end_reason") {
            add("version_ended");
            // Over by time, and revoked in the same commit.
            if text(&row, "end_reason") == "revoked" && !is_set(&old, "end_reason") {
                expected.perhaps.push(("version_ended".to_owned(), key.clone(), number));
            }
        }
        if let (Some(grace), Some(end)) = (micros(&row, "grace_end"), micros(&row, "expires_at"))
            && grace > end
        {
            self.broken.push(format!("I6: the grace of {id} outlives its expiry: {row}"));
        }
        self.versions.insert(id, row);
    }

    /// I5: a stage never goes back but by a rollback, what was told of an end only comes nearer, and what has happened
    /// once does not happen again.
    fn course(&mut self, id: &str, old: &Value, row: &Value) {
        if old.is_null() {
            return;
        }
        let steps = ["pending", "active", "deprecated", "ended"];
        let step = |row: &Value| steps.iter().position(|stage| *stage == text(row, "stage"));
        let rolled_back = text(old, "stage") == "deprecated" && text(row, "stage") == "active";
        if step(row) < step(old) && !rolled_back {
            self.broken.push(format!("I5: {id} goes back: {old} → {row}"));
        }
        let later =
            micros(old, "grace_end").is_some_and(|old| micros(row, "grace_end").is_none_or(|new| new > old));
        if later && !rolled_back {
            self.broken.push(format!("I1: the end of {id} was told, and changes: {old} → {row}"));
        }
        let once = [
            "offered_at",
            "delivered_at",
            "activated_at",
            "first_used_at",
            "claim",
            "claimed_by",
            "ended_at",
        ];
        for field in once {
            if is_set(old, field) && old.get(field) != row.get(field) {
                self.broken.push(format!("I5: {field} of {id} changes: {old} → {row}"));
            }
        }
    }

    fn rotations(&mut self, store: &dyn KeyStore, expected: &mut Expected) {
        let mut found = Vec::new();
        let _ = store.scan(RowKind::Rotation, RowFilter::All { after: None }, &mut |row| {
            if row.revision == self.revision {
                found.extend(serde_json::from_slice::<Value>(row.body).map(|body| (row.id.to_owned(), body)));
            }
            ControlFlow::Continue(())
        });
        for (id, row) in found {
            let old = self.rotations.get(&id).cloned().unwrap_or(Value::Null);
            let key = text(&row, "key").to_owned();
            let (was, is) = (text(&old, "status"), text(&row, "status"));
            let may = match was {
                "" => ["scheduled", "in_progress", "grace_period", "completed", "failed"].contains(&is),
                "scheduled" => {
                    ["scheduled", "in_progress", "cancelled", "failed", "grace_period", "completed"]
                        .contains(&is)
                }
                "in_progress" => is != "scheduled" && is != "rolled_back",
                "grace_period" => ["grace_period", "completed", "rolled_back", "cancelled"].contains(&is),
                _ => false,
            };
            if !may {
                self.broken.push(format!("I5: rotation {id} was over, or goes back: {old} → {row}"));
            }
            let (has_begun, begins) = (["grace_period", "completed"], ["in_progress", "failed"]);
            let mut perhaps = |kind: &str| expected.perhaps.push((kind.to_owned(), key.clone(), None));
            if was != is {
                match (was, is) {
                    ("" | "scheduled", is) if begins.contains(&is) => perhaps("rotation_started"),
                    ("" | "scheduled" | "in_progress", is) if has_begun.contains(&is) => {
                        perhaps("rotation_started");
                        expected.add("key_rotation", &key, row["new"].as_u64());
                    }
                    _ => {}
                }
                match is {
                    "completed" => expected.add("rotation_completed", &key, None),
                    "rolled_back" => expected.add("rotation_rolled_back", &key, None),
                    "failed" => expected.add("rotation_failed", &key, None),
                    "cancelled" => expected.add("rotation_cancelled", &key, None),
                    "scheduled" => expected.add("rotation_scheduled", &key, None),
                    _ => {}
                }
            }
            if !is_set(&old, "is_failing") && is_set(&row, "is_failing") {
                expected.add("delivery_failing", &key, None);
            }
            if old.get("lagging_at") != row.get("lagging_at") {
                expected.perhaps.push(("adoption_lagging".to_owned(), key.clone(), None));
            }
            self.rotations.insert(id, row);
        }
    }

    /// I3: what has changed and what the commit's audit entries say is the same.
    fn compare(&mut self, store: &dyn KeyStore, mut expected: Expected) {
        let mut entries = Vec::new();
        let mut query = AuditQuery::default();
        query.after = self.seq;
        let _ = store.audit(&query, &mut |row| {
            self.seq += 1;
            if row.seq != self.seq {
                self.broken.push(format!("I3: entry {} of the audit log is missing", self.seq));
                self.seq = row.seq;
            }
            if let Some(key) = row.key.as_ref().filter(|_| !row.kind.starts_with("notification_")) {
                let of_version = row.kind.starts_with("version_") || row.kind.starts_with("key_");
                let version = row.version.filter(|_| of_version).map(u64::from);
                entries.push((row.kind.clone(), key.clone(), version));
            }
            ControlFlow::Continue(())
        });
        let mut unexplained: Vec<_> = entries
            .into_iter()
            .filter(|entry| {
                let lists = [&mut expected.sure, &mut expected.perhaps];
                let found = lists.into_iter().find_map(|list| {
                    let at = list.iter().position(|change| change == entry)?;
                    Some(list.swap_remove(at))
                });
                found.is_none()
            })
            .collect();
        unexplained.sort();
        if !unexplained.is_empty() || !expected.sure.is_empty() {
            self.broken.push(format!(
                "I3: of commit {}: entries without a change {unexplained:?}, changes without an entry {:?}",
                self.revision, expected.sure
            ));
        }
    }
}

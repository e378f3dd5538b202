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
        let touched: BTreeSet<_> =
            rows.iter().filter(|(kind, ..)| *kind == RowKind::Key).map(|(_, id, _)| id.clone()).collect();
        for (kind, id, row) in rows {
            match kind {
                RowKind::Key => self.key(id, row, &mut expected),
                RowKind::Version => self.version(id, row, &mut expected),
                RowKind::Owner => drop(row.map(|row| self.owners.insert(id, row))),
                _ => {}
            }
        }
        touched.iter().for_each(|key| self.rotations(store, key, &mut expected));
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
                if ["name", "scopes", "role", "metadata"].into_iter().any(differs) {
                    expected.add("key_edited", &id, None);
                }
                let fixed = ["id", "owner", "prefix", "policy", "issued_at", "never_expires", "hard_end"];
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
                add("version_issued");
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
        match (is_set(&old, "deprecated_at"), is_set(&row, "deprecated_at")) {
            (false, true) => add("version_deprecated"),
            (true, false) => add("version_reactivated"),
            _ => {}
        }
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

    fn rotations(&mut self, store: &dyn KeyStore, key: &str, expected: &mut Expected) {
        let mut found = Vec::new();
        let _ = store.scan(RowKind::Rotation, RowFilter::Parent(key), &mut |row| {
            if row.revision == self.revision {
                found.extend(serde_json::from_slice::<Value>(row.body).map(|body| (row.id.to_owned(), body)));
            }
            ControlFlow::Continue(())
        });
        for (id, row) in found {
            let old = self.rotations.get(&id).cloned().unwrap_or(Value::Null);
            if old.is_null() {
                expected.add("key_rotation", key, row["new"].as_u64());
            } else if text(&old, "status") != "grace_period" {
                self.broken.push(format!("I5: rotation {id} was over: {old} → {row}"));
            }
            match text(&row, "status") {
                "completed" => expected.add("rotation_completed", key, None),
                "cancelled" => expected.add("rotation_cancelled", key, None),
                "rolled_back" => expected.add("rotation_rolled_back", key, None),
                _ => {}
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
            if let Some(key) = &row.key {
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

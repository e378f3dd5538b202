//! Checking every row: its MAC, what it refers to, and whether its state is the one that the audit log last told.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use crate::audit::AuditHead;
use crate::error::{ManageError, ReadError};
use crate::event::{Event, EventKind};
use crate::id::{KeyId, OwnerId, VersionNo};
use crate::key::KeyRecord;
use crate::keyring::{Generation, Keyring};
use crate::owner::OwnerRecord;
use crate::records::{Records, read, version_row_id};
use crate::report::verify::{AuditVerdict, verify};
use crate::store::{RowFilter, RowKind, RowRef};
use crate::version::{EndReason, Stage, VersionRecord};

/// Something that is not as the library leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckFinding {
    /// A row was edited behind the library's back. What it describes does not validate.
    EditedRow {
        /// What it records.
        kind: RowKind,
        /// Its id.
        id: String,
    },
    /// A row was written under a master key that this process does not hold.
    UnknownGeneration {
        /// What it records.
        kind: RowKind,
        /// Its id.
        id: String,
        /// The generation that is missing.
        generation: Generation,
    },
    /// A key's owner has no row; the key does not validate.
    MissingOwner {
        /// The key.
        key: KeyId,
        /// Its owner.
        owner: OwnerId,
    },
    /// A version's key has no row; the version does not validate.
    MissingKey {
        /// The key.
        key: KeyId,
        /// The version.
        version: VersionNo,
    },
    /// The audit log tells of a version that has no row.
    MissingVersion {
        /// The key.
        key: KeyId,
        /// The version.
        version: VersionNo,
    },
    /// A version's row is sound, but not the last that was written: an older one was put back.
    OldVersion {
        /// The key.
        key: KeyId,
        /// The version.
        version: VersionNo,
    },
    /// A key's row is sound, but not the last that was written: the log says that the key was revoked.
    OldKey {
        /// The key.
        key: KeyId,
    },
    /// An owner's row is sound, but not the last that was written, or is gone: the log says otherwise of its
    /// suspension.
    OldOwner {
        /// The owner.
        owner: OwnerId,
    },
}

/// What checking the whole store found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckReport {
    /// What verifying the audit log found: the first trouble, if there is any.
    pub audit: AuditVerdict,
    /// All troubles of the audit log, in the order of its entries.
    pub troubles: Vec<AuditVerdict>,
    /// What checking the rows found. Rows are compared with the log only as far as that is sound.
    pub findings: Vec<CheckFinding>,
    /// How many rows were checked.
    pub rows: usize,
}

impl CheckReport {
    /// Whether all is as the library left it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.audit.is_sound() && self.findings.is_empty()
    }
}

/// The states that the audit log tells.
#[derive(Default)]
struct Told {
    versions: HashMap<(KeyId, VersionNo), (Stage, Option<EndReason>)>,
    revoked: HashSet<KeyId>,
    suspended: HashMap<OwnerId, bool>,
}

impl Told {
    fn hear(&mut self, event: &Event) {
        let state = match event.kind {
            EventKind::KeyIssued
            | EventKind::VersionIssued
            | EventKind::VersionActivated
            | EventKind::VersionReactivated => Some((Stage::Active, None)),
            EventKind::VersionMinted => Some((Stage::Pending, None)),
            EventKind::VersionDeprecated => Some((Stage::Deprecated, None)),
            EventKind::VersionEnded => Some((Stage::Ended, event.end_reason)),
            _ => None,
        };
        if let (Some(state), Some(key), Some(version)) = (state, event.key, event.version) {
            self.versions.insert((key, version), state);
        }
        match (event.kind, event.key, event.owner) {
            (EventKind::KeyRevoked, Some(key), _) => drop(self.revoked.insert(key)),
            (EventKind::KeyPurged, Some(key), _) => {
                self.versions.retain(|(other, _), _| *other != key);
                self.revoked.remove(&key);
            }
            (EventKind::OwnerSuspended, _, Some(owner)) => drop(self.suspended.insert(owner, true)),
            (EventKind::OwnerResumed, _, Some(owner)) => drop(self.suspended.insert(owner, false)),
            _ => {}
        }
    }
}

/// Checks every row and the audit log. Acts that are committed meanwhile can show as findings: check again then.
pub(crate) fn check(records: &Records, anchor: Option<&AuditHead>) -> Result<CheckReport, ManageError> {
    let mut told = Told::default();
    let (audit, troubles) = verify(records, anchor, |_, event| told.hear(event))?;
    let mut survey = Survey::default();
    for kind in RowKind::ALL {
        records.store.scan(kind, RowFilter::All { after: None }, &mut |row| {
            survey.look(&row, &records.keyring);
            ControlFlow::Continue(())
        })?;
    }
    let mut findings = survey.references();
    if matches!(audit, AuditVerdict::Sound { .. } | AuditVerdict::Segmented { .. }) {
        findings.extend(survey.differences(&told));
    }
    findings.sort_by_cached_key(|finding| format!("{finding:?}"));
    let Survey { findings: mut all, rows, .. } = survey;
    all.extend(findings);
    Ok(CheckReport { audit, troubles, findings: all, rows })
}

/// What the rows say, as far as they can be believed.
#[derive(Default)]
struct Survey {
    suspended: HashMap<OwnerId, bool>,
    /// Each key's owner, and whether it is revoked.
    keys: HashMap<KeyId, (OwnerId, bool)>,
    versions: HashMap<(KeyId, VersionNo), (Stage, Option<EndReason>)>,
    unbelieved: HashSet<(RowKind, String)>,
    findings: Vec<CheckFinding>,
    rows: usize,
}

impl Survey {
    fn look(&mut self, row: &RowRef<'_>, keyring: &Keyring) {
        self.rows += 1;
        let Err(error) = self.believe(row, keyring) else { return };
        let (kind, id) = (row.kind, row.id.to_owned());
        self.unbelieved.insert((kind, id.clone()));
        self.findings.push(match error {
            ReadError::KeyringBehind(generation) => CheckFinding::UnknownGeneration { kind, id, generation },
            _ => CheckFinding::EditedRow { kind, id },
        });
    }

    fn believe(&mut self, row: &RowRef<'_>, keyring: &Keyring) -> Result<(), ReadError> {
        match row.kind {
            RowKind::Owner => {
                let owner = read::<OwnerRecord>(row, keyring)?.record;
                self.suspended.insert(owner.id, owner.suspended);
            }
            RowKind::Key => {
                let key = read::<KeyRecord>(row, keyring)?.record;
                self.keys.insert(key.id, (key.owner, key.revoked_at.is_some()));
            }
            RowKind::Version => {
                let version = read::<VersionRecord>(row, keyring)?.record;
                self.versions.insert((version.key, version.number), (version.stage, version.end_reason));
            }
            kind => row.verify(keyring).map_err(|fault| ReadError::of_row(fault, kind, row.id))?,
        }
        Ok(())
    }

    /// Whether a row is not there at all; one that cannot be believed is a finding already.
    fn lacks(&self, kind: RowKind, id: &str) -> bool {
        !self.unbelieved.contains(&(kind, id.to_owned()))
    }

    /// Rows that others refer to, and that are missing.
    fn references(&self) -> Vec<CheckFinding> {
        let mut missing = Vec::new();
        for (key, (owner, _)) in &self.keys {
            if !self.suspended.contains_key(owner) && self.lacks(RowKind::Owner, owner.as_str()) {
                missing.push(CheckFinding::MissingOwner { key: *key, owner: *owner });
            }
        }
        for (key, version) in self.versions.keys() {
            if !self.keys.contains_key(key) && self.lacks(RowKind::Key, &key.to_string()) {
                missing.push(CheckFinding::MissingKey { key: *key, version: *version });
            }
        }
        missing
    }

    /// States that are not the ones that the audit log last told.
    fn differences(&self, told: &Told) -> Vec<CheckFinding> {
        let mut found = Vec::new();
        for ((key, version), state) in &told.versions {
            let (key, version) = (*key, *version);
            match self.versions.get(&(key, version)) {
                Some(stored) if stored == state => {}
                Some(_) => found.push(CheckFinding::OldVersion { key, version }),
                None if self.lacks(RowKind::Version, &version_row_id(key, version)) => {
                    found.push(CheckFinding::MissingVersion { key, version });
                }
                None => {}
            }
        }
        for key in &told.revoked {
            if self.keys.get(key).is_some_and(|(_, revoked)| !revoked) {
                found.push(CheckFinding::OldKey { key: *key });
            }
        }
        for (owner, suspended) in &told.suspended {
            let differs = match self.suspended.get(owner) {
                Some(stored) => stored != suspended,
                // No owner is ever removed: without its row it could be entered again, and would be enabled.
                None => *suspended && self.lacks(RowKind::Owner, owner.as_str()),
            };
            if differs {
                found.push(CheckFinding::OldOwner { owner: *owner });
            }
        }
        found
    }
}

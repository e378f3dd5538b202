//! The warnings that the policies of a deployment ask for: by them a tick knows what to look for, without looking at
//! each key.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ReadError;
use crate::policy::{DeploymentSettings, RotationPolicy};
use crate::records::{Record, Records, read};
use crate::store::{Changeset, Draft, Revision, RowIndex, RowKind};
use crate::time::Timestamp;

/// How long before a version's end any policy ever warned of it, in microseconds, and since when. Which of them a
/// version gets its own policy says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Warnings {
    since: BTreeMap<u64, Timestamp>,
}

impl Warnings {
    const ID: &'static str = "~warnings";

    /// Those of a policy that was set at `t`.
    pub(crate) fn of(policy: &RotationPolicy, t: Timestamp) -> Self {
        let mut warnings = Self::default();
        warnings.add(policy, t);
        warnings
    }

    pub(crate) fn add(&mut self, policy: &RotationPolicy, t: Timestamp) {
        for warning in policy.warnings() {
            self.since.entry(micros(warning)).or_insert(t);
        }
    }

    /// Each with when it was asked for first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Duration, Timestamp)> {
        self.since.iter().map(|(micros, since)| (Duration::from_micros(*micros), *since))
    }
}

/// A warning as it is stored.
pub(crate) fn micros(warning: Duration) -> u64 {
    u64::try_from(warning.as_micros()).unwrap_or(u64::MAX)
}

impl Record for Warnings {
    const KIND: RowKind = RowKind::Outbox;
    fn row_id(&self) -> String {
        Self::ID.to_owned()
    }
    fn index(&self) -> RowIndex {
        RowIndex { state: Some("asked".to_owned()), ..RowIndex::default() }
    }
}

/// All warnings that are asked for. A row that was edited is begun anew: it blocks nobody.
pub(crate) fn warnings(records: &Records) -> Result<(Warnings, Option<Revision>), ReadError> {
    let mut found = (Warnings::default(), None);
    records.store.get(RowKind::Outbox, Warnings::ID, &mut |row| {
        let warnings = read::<Warnings>(&row, &records.keyring).map(|stored| stored.record);
        found = (warnings.unwrap_or_default(), Some(row.revision));
    })?;
    Ok(found)
}

/// The policy that a row sets, of a key or of the deployment.
fn policy_of(draft: &Draft) -> Option<RotationPolicy> {
    #[derive(Deserialize)]
    struct Lives {
        policy: Option<RotationPolicy>,
    }
    const FIELD: &[u8] = br#""policy":{"#;
    let is_asked = match draft.kind {
        RowKind::Key => true,
        RowKind::Policy => draft.id == DeploymentSettings::ROW_ID,
        _ => false,
    };
    let has_one = is_asked && draft.body.windows(FIELD.len()).any(|part| part == FIELD);
    has_one.then(|| serde_json::from_slice::<Lives>(&draft.body).ok()?.policy).flatten()
}

/// Notes in an act's changeset what the policies that it sets ask for. Called when all that it writes is decided.
pub(crate) fn note_warnings(
    records: &Records,
    changeset: &mut Changeset,
    t: Timestamp,
) -> Result<(), ReadError> {
    let policies: Vec<_> = changeset.drafts().filter_map(|(draft, _)| policy_of(draft)).collect();
    if policies.is_empty() {
        return Ok(());
    }
    let (before, revision) = warnings(records)?;
    let mut after = before.clone();
    policies.iter().for_each(|policy| after.add(policy, t));
    match revision {
        _ if after == before => {}
        Some(revision) => changeset.replace(after.draft(), revision),
        None => changeset.insert(after.draft()),
    }
    Ok(())
}

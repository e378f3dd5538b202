//! What a key's rotation depends on beside its own records, read once for a tick: settings, owners, usage.

use std::collections::{HashMap, HashSet};

use crate::due::{self, Outcome, Surroundings};
use crate::error::ManageError;
use crate::id::{OwnerId, VersionNo};
use crate::key::KeyRecord;
use crate::lifecycle::{Family, Minted, RotationOrder, Silence, Transition};
use crate::owner::OwnerRecord;
use crate::policy::{DeploymentSettings, RotationPolicy};
use crate::records::{Record as _, Records, Stored, believed};
use crate::store::{Changeset, UsageQuery, UsageWriter};
use crate::time::Timestamp;

/// What was read so far.
pub(crate) struct Lookup<'a> {
    records: &'a Records,
    /// `None` where they cannot be believed: nothing is made then.
    settings: Option<DeploymentSettings>,
    owners: HashMap<OwnerId, Option<Stored<OwnerRecord>>>,
    writers: Option<Vec<UsageWriter>>,
    relied_on: HashSet<OwnerId>,
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(records: &'a Records) -> Result<Self, ManageError> {
        let settings = believed(records.get::<DeploymentSettings>(DeploymentSettings::ROW_ID))?;
        Ok(Self {
            records,
            settings: settings.map(|settings| settings.record),
            owners: HashMap::new(),
            writers: None,
            relied_on: HashSet::new(),
        })
    }

    fn owner(&mut self, id: OwnerId) -> Result<Option<&Stored<OwnerRecord>>, ManageError> {
        if !self.owners.contains_key(&id) {
            let owner = believed(self.records.get::<OwnerRecord>(id.as_str()))?;
            self.owners.insert(id, owner);
        }
        Ok(self.owners.get(&id).and_then(Option::as_ref))
    }

    /// The policy that a key lives by; the default where the deployment's cannot be believed, as nothing is made then.
    pub(crate) fn policy_of(&self, key: &KeyRecord) -> RotationPolicy {
        key.policy.or(self.settings.map(|settings| settings.policy)).unwrap_or_default()
    }

    /// Whether a key rotates by itself, as far as that can be believed.
    pub(crate) fn rotates(&mut self, key: &KeyRecord) -> Result<bool, ManageError> {
        let Some(settings) = self.settings else { return Ok(key.rotates) };
        let owner = self.owner(key.owner)?.map(|owner| &owner.record);
        Ok(due::rotates(key, owner, &settings))
    }

    /// Whether the owner of a key is there and not suspended.
    pub(crate) fn is_enabled(&mut self, key: &KeyRecord) -> Result<bool, ManageError> {
        let is_known = self.settings.is_some();
        Ok(self.owner(key.owner)?.is_some_and(|owner| !owner.record.suspended) && is_known)
    }

    /// Makes of a key what is due.
    pub(crate) fn plan(
        &mut self,
        family: &mut Family,
        t: Timestamp,
        mint: impl FnOnce(bool) -> Result<(RotationOrder, Option<Minted>), ManageError>,
    ) -> Result<Outcome, ManageError> {
        let policy = self.policy_of(&family.key);
        let (enabled, rotates) = (self.is_enabled(&family.key)?, self.rotates(&family.key)?);
        let silences = self.silences(family, t)?;
        let silence = |number| silences.get(&number).copied().unwrap_or_default();
        let around = Surroundings { policy: &policy, enabled, rotates, silence: &silence };
        due::plan(family, &around, t, mint)
    }

    /// What is known of the use of those versions of which it is asked now.
    fn silences(
        &mut self,
        family: &Family,
        t: Timestamp,
    ) -> Result<HashMap<VersionNo, Silence>, ManageError> {
        let asked = |version: &&crate::version::VersionRecord| version.quiet_at.is_some_and(|at| at <= t);
        let lagging = family.open_rotation().filter(|open| open.lagging_at.is_some_and(|at| at <= t));
        let lagging = lagging.into_iter().flat_map(|open| [open.running_out(), open.new]).flatten();
        let lagging = lagging.map(|version| (version, Silence::default()));
        let mut silences: HashMap<_, _> = family
            .versions
            .iter()
            .filter(asked)
            .map(|version| (version.number, Silence::default()))
            .chain(lagging)
            .collect();
        if silences.is_empty() {
            return Ok(silences);
        }
        let told_until = self.writers()?.iter().map(|writer| writer.flushed_at).min();
        let key = family.key.id.to_string();
        self.records.store.usage(&UsageQuery::of_key(&key), &mut |_, entry| {
            if let Some(silence) = silences.get_mut(&VersionNo::new(entry.version)) {
                silence.last_used = silence.last_used.max(entry.counts.last_used);
            }
        })?;
        silences.values_mut().for_each(|silence| silence.told_until = told_until);
        Ok(silences)
    }

    /// The processes from which counts are to be expected; where there is none any more, those that have ended.
    pub(crate) fn writers(&mut self) -> Result<&[UsageWriter], ManageError> {
        if self.writers.is_none() {
            let mut writers = Vec::new();
            self.records.store.usage_writers(&mut |writer| writers.push(writer.clone()))?;
            if writers.iter().any(|writer| !writer.ended) {
                writers.retain(|writer| !writer.ended);
            }
            self.writers = Some(writers);
        }
        Ok(self.writers.as_deref().unwrap_or_default())
    }

    /// A commit that makes or activates something relies on the owner's not being suspended meanwhile.
    pub(crate) fn rely(&mut self, key: &KeyRecord, transitions: &[Transition], changeset: &mut Changeset) {
        let relies = |step: &Transition| {
            matches!(step, Transition::RotationBegun { .. } | Transition::VersionActivated { .. })
        };
        if !transitions.iter().any(relies) || !self.relied_on.insert(key.owner) {
            return;
        }
        let revision = self.owners.get(&key.owner).and_then(Option::as_ref).map(|owner| owner.revision);
        changeset.expect(OwnerRecord::KIND, key.owner, revision);
    }

    /// Begins another commit: owners are looked at anew when somebody was in the way.
    pub(crate) fn begin(&mut self, anew: bool) {
        self.relied_on.clear();
        if anew {
            self.owners.clear();
        }
    }
}

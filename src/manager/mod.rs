//! The manager: every act on keys, and the tick.

mod act;
mod adopt;
mod adoption;
mod channel;
mod claim;
mod compliance;
mod dead_letters;
mod deliver;
mod desk;
mod edit;
mod emergency;
mod generation;
mod import;
mod imported;
mod issue;
mod log;
mod presented;
mod purge;
#[cfg(feature = "sqlite")]
mod restore;
mod revoke;
mod rotate;
mod schedule;
mod settings;
mod tick;
mod usage;
mod view;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use crate::actor::{Actor, Context};
use crate::clock::{Clock, SystemClock};
use crate::crypto;
use crate::error::{ManageError, OpenError};
use crate::event::{Event, EventKind};
use crate::id::{RoleName, StoreId};
use crate::keyring::Keyring;
use crate::notify::Channels;
use crate::outbox::Warnings;
use crate::owner::RoleRecord;
use crate::policy::{DeploymentSettings, OwnerLimit, RotationPolicy};
use crate::records::{Record, Records};
use crate::scope::ScopeSet;
use crate::sink::SecretSink;
use crate::store::{Changeset, CommitError, KeyStore, RowFilter, SealError, StoreError};
use crate::time::Timestamp;
use crate::token::{self, Prefix};
use crate::validate::{Marks, Validator, ValidatorBuilder, check_keyring};

pub use act::Act;
pub use adopt::AdoptError;
pub use adoption::{Adoption, VersionUse};
pub use claim::Claim;
pub use dead_letters::DeadLetter;
pub use deliver::DeliveryReport;
pub use edit::EditKey;
pub use emergency::{Evidence, Replace};
pub use import::{Import, ImportError};
pub use imported::{ImportedReport, ImportedSecret, ImportedVersion};
pub use issue::{IssuedKey, NewKey};
pub use log::{AuditFilter, ExportError, VersionHistory};
pub use purge::PurgeReport;
#[cfg(feature = "sqlite")]
pub use restore::Restore;
pub use revoke::{Revoke, RevokeTarget};
pub use rotate::{RollBack, RotateNow, RotatedKey};
pub use schedule::AutoRotation;
pub use usage::{
    DenialReport, KeyUsage, TopKeys, UsageAsOf, UsageFilter, UsageReport, UsageSeries, VersionUsage,
};
pub use view::{KeyFilter, KeyInfo, KeyPage, KeyStatus, VersionInfo};
pub use waiting::{WaitingClaim, WaitingPage};

/// Issues, rotates and revokes keys on a store, and does what time makes due.
///
/// Cheap to clone; clones share the store. Any number of managers, in any number of processes, may work on one
/// store. All methods block for as long as the store takes.
#[derive(Clone)]
pub struct KeyManager {
    inner: Arc<Inner>,
}

struct Inner {
    records: Records,
    clock: Arc<dyn Clock>,
    prefixes: Vec<Prefix>,
    /// As it was found when the store was opened.
    store: StoreId,
    marks: Arc<Marks>,
    sink: Option<Arc<dyn SecretSink>>,
}

/// Builds a [`KeyManager`].
#[must_use]
pub struct KeyManagerBuilder {
    records: Records,
    clock: Arc<dyn Clock>,
    prefixes: Vec<Prefix>,
    seed: DeploymentSettings,
    /// In place of those of the policy that an empty store begins with.
    warnings: Option<Vec<Duration>>,
    roles: Vec<RoleRecord>,
    sink: Option<Arc<dyn SecretSink>>,
    channels: Channels,
}

impl KeyManagerBuilder {
    /// Takes the time from this clock. Default: the system's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The prefixes that tokens may begin with; the first is the default. Without this, `key`.
    pub fn prefixes(mut self, prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        self.prefixes = prefixes.into_iter().collect();
        if self.prefixes.is_empty() {
            self.prefixes.push(Prefix::default());
        }
        self
    }

    /// The policy that an empty store begins with. A store that has one keeps it: see [`Act::set_policy`].
    pub fn policy(mut self, policy: RotationPolicy) -> Self {
        self.seed.policy = policy;
        self
    }

    /// Whether keys of an empty store rotate by themselves, unless something else is said of them or their owners. A store
    /// that has been opened before keeps its word: see [`Act::set_auto_rotation`]. Default no.
    pub fn auto_rotation(mut self, on: bool) -> Self {
        self.seed.auto_rotation = on;
        self
    }

    /// How many keys an owner may hold, for an empty store to begin with. A store that has a limit keeps it: see
    /// [`Act::set_default_owner_limit`]. Default 10.
    pub fn owner_limit(mut self, limit: OwnerLimit) -> Self {
        self.seed.owner_limit = limit;
        self
    }

    /// A role for an empty store to begin with. A store that has been opened before keeps its roles: see
    /// [`Act::set_role`].
    pub fn role(mut self, name: RoleName, scopes: ScopeSet) -> Self {
        self.roles.retain(|role| role.name != name);
        self.roles.push(RoleRecord { name, scopes });
        self
    }

    /// Where successors go of keys whose policy delivers into the sink. Of several processes on one store, those that tick
    /// without one leave such deliveries to the others.
    pub fn sink(mut self, sink: impl SecretSink) -> Self {
        self.sink = Some(Arc::new(sink));
        self
    }

    /// Opens the store; an empty one is founded with the settings given here.
    ///
    /// # Errors
    /// [`OpenError`]: among others when the keyring is not the one that wrote the store, or a channel is named badly.
    /// Nothing was changed then.
    pub fn open(mut self) -> Result<KeyManager, OpenError> {
        self.channels.check()?;
        if let Some(warnings) = self.warnings.take() {
            self.seed.policy = self.seed.policy.to_builder().warnings(warnings).build()?;
        }
        self.records.channels = Arc::new(std::mem::take(&mut self.channels));
        let store = loop_found(&self)?;
        let Self { records, clock, prefixes, sink, .. } = self;
        let marks = Marks::of(store);
        Ok(KeyManager { inner: Arc::new(Inner { records, clock, prefixes, store, marks, sink }) })
    }

    fn founding(&self) -> Result<Changeset, ManageError> {
        let now = self.clock.now();
        let context = Context::system();
        let mut changeset =
            Changeset::founding(&self.records.keyring, StoreId::new(now, crypto::random_bytes()?), now);
        changeset.record(Event::new(now, EventKind::StoreFounded, &context));
        changeset.insert(self.seed.draft());
        changeset.insert(Warnings::of(&self.seed.policy, now).draft());
        for role in &self.roles {
            changeset.insert(role.draft());
            changeset.record(Event::of_subject(now, EventKind::RoleSet, &context, role.name.as_str()));
        }
        Ok(changeset)
    }
}

/// The id that the store was founded with. Founds it unless somebody else has; of several processes that open an empty
/// one, one founds it.
fn loop_found(builder: &KeyManagerBuilder) -> Result<StoreId, OpenError> {
    let not_founded = |error: ManageError| OpenError::NotFounded(Box::new(error));
    for _ in 0..10 {
        check_keyring(&builder.records)?;
        if builder.records.store.head().map_err(|error| OpenError::Read(error.into()))?.is_some() {
            return Ok(builder.records.head()?.origin());
        }
        match builder.records.store.commit(&builder.founding().map_err(not_founded)?) {
            // Unknown, too: what the store holds now is what counts, and the next round looks.
            Ok(_) | Err(CommitError::Seal(SealError::Conflict) | CommitError::Unknown(_)) => {}
            Err(CommitError::Conflict { .. }) => {}
            Err(CommitError::Seal(error)) => return Err(crate::error::ReadError::from(error).into()),
            Err(CommitError::NotWritten(error)) => return Err(not_founded(ManageError::NotWritten(error))),
        }
    }
    Err(OpenError::Busy)
}

impl KeyManager {
    /// Begins a manager on a store, with the host's master keys.
    pub fn builder(store: impl KeyStore, keyring: Keyring) -> KeyManagerBuilder {
        KeyManagerBuilder {
            records: Records::new(Arc::new(store), keyring),
            clock: Arc::new(SystemClock),
            prefixes: vec![Prefix::default()],
            seed: DeploymentSettings::default(),
            warnings: None,
            roles: Vec::new(),
            sink: None,
            channels: Channels::default(),
        }
    }

    /// A manager with the default settings.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(store: impl KeyStore, keyring: Keyring) -> Result<Self, OpenError> {
        Self::builder(store, keyring).open()
    }

    /// Begins an act in somebody's name.
    pub fn by(&self, actor: Actor) -> Act<'_> {
        Act::new(self, actor)
    }

    /// A validator on the same store, with the same clock.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn validator(&self) -> Result<Validator, OpenError> {
        self.validator_builder().open()
    }

    /// Begins a validator on the same store, with the same clock.
    pub fn validator_builder(&self) -> ValidatorBuilder {
        Validator::from_records(self.inner.records.clone(), Arc::clone(&self.inner.clock))
    }

    /// The library's own time: the clock's, but never before the high-water mark that ticks have recorded.
    ///
    /// # Errors
    /// [`ManageError`] when the store's head cannot be read.
    pub fn now(&self) -> Result<Timestamp, ManageError> {
        Ok(self.inner.clock.now().max(self.inner.records.head()?.high_water))
    }

    /// The deployment's settings, as the store has them.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read, or the row was edited.
    pub fn settings(&self) -> Result<DeploymentSettings, ManageError> {
        act::settings(&self.inner.records)
    }

    /// All roles, by name.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read, or a row was edited.
    pub fn roles(&self) -> Result<Vec<RoleRecord>, ManageError> {
        let found = self.inner.records.scan::<RoleRecord>(RowFilter::All { after: None }, usize::MAX)?;
        Ok(found.into_iter().map(|stored| stored.map(|stored| stored.record)).collect::<Result<_, _>>()?)
    }

    /// A regular expression by which secret scanners find this deployment's tokens.
    #[must_use]
    pub fn scanner_regex(&self) -> String {
        token::scanner_regex(&self.inner.prefixes)
    }

    /// Releases the store. Other managers and validators on other handles are not touched.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn close(&self) -> Result<(), StoreError> {
        self.inner.records.store.close()
    }
}

impl std::fmt::Debug for KeyManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyManager").field("keyring", &self.inner.records.keyring).finish_non_exhaustive()
    }
}

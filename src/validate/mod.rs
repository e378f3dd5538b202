//! Validation: from a presented token to a grant or a denial, out of memory and never stale.

mod arena;
mod cells;
mod change;
#[cfg(test)]
mod constant_time;
mod counts;
mod denial;
mod entry;
mod facts;
mod findings;
mod follow;
mod grant;
mod heat;
mod imports;
mod index;
#[cfg(test)]
mod interleaved;
mod judge;
mod keeper;
mod leeway;
mod lines;
mod marks;
mod prefetch;
mod quotas;
mod replica;
mod sequence;
mod signals;
mod slab;
mod stripes;
mod sync;
mod tell;
mod till;
mod upgrades;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::crypto;
use crate::encode::hex;
use crate::error::{OpenError, ReadError};
use crate::keyring::Keyring;
use crate::notify::{Channel, ChannelFilter};
use crate::records::Records;
use crate::rotate::{ClockState, clock_state};
use crate::scope::ScopeSet;
use crate::signal::{SignalReport, SignalSettings};
use crate::store::{Freshness, KeyStore, Stamp, StoreError};
use crate::time::Timestamp;

use counts::Counts;
pub use denial::{Denial, DenialClass, DenialReason, Unavailable};
#[cfg(test)]
pub(crate) use entry::Following;
pub use findings::Finding;
use follow::Follower;
pub use grant::{Demand, Grant, Successor};
use heat::Heat;
use leeway::Leeway;
pub use leeway::{BoundedStaleness, StalenessError};
pub(crate) use marks::{Mark, Marks};
use signals::Signals;
use upgrades::Upgrades;

/// Answers whether a token is valid, from a replica of the store in memory.
///
/// Cheap to clone; clones share one replica. Each validation sees every commit, of any process, that returned
/// before the validation began; when it cannot, it answers *unavailable* and never guesses. A host may ask for less:
/// [`ValidatorBuilder::bounded_staleness`]. Validation writes nothing: what it counts goes to the store with [`Validator::flush`].
#[derive(Clone)]
pub struct Validator {
    inner: Arc<Inner>,
}

struct Inner {
    records: Records,
    clock: Arc<dyn Clock>,
    follower: Follower,
    counts: Counts,
    upgrades: Upgrades,
    marks: Arc<Marks>,
    signals: Signals,
    heat: Heat,
    /// None: every validation asks the store whether anybody has committed.
    leeway: Option<Leeway>,
    closed: AtomicBool,
}

/// Builds a [`Validator`] on a store that a manager, in this process or another, has founded.
#[must_use]
pub struct ValidatorBuilder {
    records: Records,
    clock: Arc<dyn Clock>,
    timeout: Duration,
    staleness: Option<BoundedStaleness>,
    signals: SignalSettings,
}

impl ValidatorBuilder {
    /// Takes the time from this clock. Default: the system's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// How long a validation waits for another caller's catching up before it answers *unavailable*. Default two
    /// seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Lets validations be behind the store's commits by up to this much, also behind those of this process. Default:
    /// by nothing.
    pub fn bounded_staleness(mut self, bound: BoundedStaleness) -> Self {
        self.staleness = Some(bound);
        self
    }

    /// From how many failures on alarms are told; see [`SignalSettings`].
    pub fn signals(mut self, settings: SignalSettings) -> Self {
        self.signals = settings;
        self
    }

    /// Has alarms written for a channel that another process serves. A validator that a manager has made knows that
    /// manager's channels; one that was opened by itself knows none, and raises no alarm without this.
    pub fn channel_elsewhere(mut self, name: impl Into<String>, filter: ChannelFilter) -> Self {
        let channel = Channel { name: name.into(), filter, notifier: None };
        Arc::make_mut(&mut self.records.channels).add(channel);
        self
    }

    /// Loads the replica.
    ///
    /// # Errors
    /// [`OpenError`] when the store is not founded, cannot be read, or was written under another master key; or when a
    /// channel is named badly.
    pub fn open(self) -> Result<Validator, OpenError> {
        let Self { records, clock, timeout, staleness, signals } = self;
        records.channels.check()?;
        check_keyring(&records)?;
        let head = records.head()?;
        let counts =
            Counts::new(hex(&crypto::random_bytes::<8>()
                .map_err(|error| OpenError::NotFounded(Box::new(error.into())))?));
        let follower = Follower::load(&records, timeout)?;
        let marks = Marks::of(head.origin());
        let signals = Signals::new(signals, clock.now().max(head.high_water))
            .map_err(|error| OpenError::NotFounded(Box::new(error.into())))?;
        let closed = AtomicBool::new(false);
        let leeway = staleness.map(Leeway::new);
        let inner = Inner {
            records,
            clock,
            follower,
            counts,
            upgrades: Upgrades::default(),
            marks,
            signals,
            heat: Heat::default(),
            leeway,
            closed,
        };
        // Else the first requests of a key with a quota would be denied. What fails here is tried again by each flush.
        drop(inner.lease());
        Ok(Validator { inner: Arc::new(inner) })
    }
}

/// Whether the keyring is the one that wrote the store; changes nothing.
pub(crate) fn check_keyring(records: &Records) -> Result<(), OpenError> {
    let Some(head) = records.store.head().map_err(ReadError::from)? else { return Ok(()) };
    if let Some(generation) = head.peek().and_then(|body| body.foreign_generation(&records.keyring)) {
        return Err(OpenError::WrongMasterKey(generation));
    }
    head.read(&records.keyring).map(drop).map_err(|fault| ReadError::of_head(fault).into())
}

impl Validator {
    /// Begins a validator on a founded store.
    pub fn builder(store: impl KeyStore, keyring: Keyring) -> ValidatorBuilder {
        Self::from_records(Records::new(Arc::new(store), keyring), Arc::new(SystemClock))
    }

    /// A validator with the default settings, on a store that a manager has founded.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(store: impl KeyStore, keyring: Keyring) -> Result<Self, OpenError> {
        Self::builder(store, keyring).open()
    }

    pub(crate) fn from_records(records: Records, clock: Arc<dyn Clock>) -> ValidatorBuilder {
        let (timeout, signals) = (Duration::from_secs(2), SignalSettings::default());
        ValidatorBuilder { records, clock, timeout, staleness: None, signals }
    }

    /// Whether the token is valid now.
    ///
    /// # Errors
    /// [`Denial`], which is an answer: what may be told to the client is its [`Denial::class`]. While the store cannot be
    /// reached, other text of up to 512 bytes than tokens of this library is *unavailable*, too: it may be a key that
    /// another process has imported a moment ago.
    ///
    /// # Timing
    /// Text that has not the form of a token is refused by that, unless keys of other systems were imported; whether
    /// any were is asked as of now. Beyond that, the time does not depend on the stored digest or on how much of a wrong
    /// secret is right.
    pub fn validate(&self, token: impl AsRef<[u8]>) -> Result<Grant, Denial> {
        self.validate_for(token, Demand::NOTHING)
    }

    /// Whether the token is valid now and allows what is demanded.
    ///
    /// # Errors
    /// [`Denial`].
    pub fn validate_for(&self, token: impl AsRef<[u8]>, demand: Demand<'_>) -> Result<Grant, Denial> {
        self.inner.validate(token.as_ref(), demand)
    }

    /// Whether a grant that was given earlier would be given now: for work that outlives its request. Counts nothing.
    ///
    /// # Errors
    /// [`Denial`], as of a validation with the token.
    pub fn still_valid(&self, grant: &Grant) -> Result<Grant, Denial> {
        self.inner.judge_again(grant)
    }

    /// The scopes that a grant's key holds now: its own and its role's, below its owner's ceiling.
    ///
    /// # Errors
    /// [`Denial`] when the replica cannot be brought up to date, or the key is gone.
    pub fn scopes(&self, grant: &Grant) -> Result<ScopeSet, Denial> {
        self.inner.scopes_of(grant)
    }

    /// Brings the replica up to date with the store now. Validation does so by itself.
    ///
    /// # Errors
    /// [`Denial`] with [`DenialReason::Unavailable`].
    pub fn catch_up(&self) -> Result<(), Denial> {
        self.inner.catch_up()
    }

    /// The rows that cannot be believed, and therefore deny: edited behind the library's back, or written under a
    /// master key that this process does not hold.
    ///
    /// # Errors
    /// [`Denial`] when the replica cannot be brought up to date.
    pub fn findings(&self) -> Result<Vec<Finding>, Denial> {
        self.inner.catch_up()?;
        Ok(self.inner.follower.with_keeper(|keeper| keeper.findings()))
    }

    /// How many versions the replica holds.
    ///
    /// # Errors
    /// [`Denial`] when the replica cannot be brought up to date.
    pub fn held_versions(&self) -> Result<usize, Denial> {
        self.inner.catch_up()?;
        Ok(self.inner.follower.with_keeper(|keeper| keeper.held()))
    }

    /// How fresh the replica is kept: [`Freshness::Exact`], unless the store had to fall back to a slower way of noticing
    /// commits, [`Freshness::ExactByQuery`], or is behind them by itself or by [`ValidatorBuilder::bounded_staleness`],
    /// [`Freshness::Within`].
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        let of_store = self.inner.records.store.freshness();
        match (&self.inner.leeway, of_store) {
            (None, of_store) => of_store,
            (Some(leeway), Freshness::Within(delay)) => {
                Freshness::Within(delay.saturating_add(leeway.bound.at_most()))
            }
            (Some(leeway), _) => Freshness::Within(leeway.bound.at_most()),
        }
    }

    /// Who failed most since the present hour began, as far as this process and its flushes know: each flush that finds
    /// another hour begins anew, and raises alarms of what was worth it. Counts are bounds that hold: see
    /// [`FailingSource`](crate::FailingSource).
    #[must_use]
    pub fn signals(&self) -> SignalReport {
        self.inner.signal_report()
    }

    /// Hands what was counted to the store, and leases anew of the quotas that keys have used up here; returns the number
    /// of versions that were counted. Call it every minute or so: an unflushed count is lost with the process, and a new
    /// key with a quota can be used here after the next flush. What was counted since the last flush belongs to the hour of
    /// this one; a flush without counts tells that there were none. It also records the first uses of versions, from which
    /// the time of their predecessors may count; and it raises the alarms that failures and outdated versions call for.
    ///
    /// # Errors
    /// [`StoreError`]; the counts are kept for the next flush then, and counted once even if the store had taken them.
    pub fn flush(&self) -> Result<usize, StoreError> {
        // Keys with quotas that are new are to be leased for; where that fails, what was counted is handed over still.
        let _unavailable = self.inner.catch_up();
        self.inner.flush()
    }

    /// Flushes, gives back what is left of leased quotas, and answers *unavailable* from then on. Closing one clone closes
    /// all.
    ///
    /// # Errors
    /// [`StoreError`] when the last counts could not be handed over, or leases not given back.
    pub fn close(&self) -> Result<(), StoreError> {
        self.inner.closed.store(true, Ordering::SeqCst);
        self.inner.finish()
    }
}

impl Inner {
    #[inline]
    fn stamp(&self) -> Result<Stamp, Denial> {
        self.records.store.stamp().map_err(|_| Denial::unavailable(Unavailable::Store))
    }

    /// The library's own time, by which uses are dated.
    fn now(&self) -> Timestamp {
        self.clock.now().max(self.follower.replica.high_water())
    }

    fn flush(&self) -> Result<usize, StoreError> {
        let mut used = Ok(());
        let first = || used = self.record_first_uses();
        let counted =
            self.counts.flush(&self.follower, &*self.records.store, self.now(), first, &self.signals);
        let (upgraded, leased, told) = (self.record_upgrades(), self.lease(), self.tell());
        counted.and_then(|counted| used.and(upgraded).and(leased).and(told).map(|()| counted))
    }

    /// Leases anew what is used up of quotas, by a clock that is believed.
    fn lease(&self) -> Result<(), StoreError> {
        let (now, mark) = (self.clock.now(), self.follower.replica.high_water());
        match clock_state(now, mark) {
            ClockState::Jumped { .. } => Ok(()),
            _ => quotas::renew(&self.follower, &self.records, now.max(mark)),
        }
    }

    /// Records the first uses of versions, by a clock that is believed: the old versions' time begins with them.
    fn record_first_uses(&self) -> Result<(), StoreError> {
        let (now, mark) = (self.clock.now(), self.follower.replica.high_water());
        match clock_state(now, mark) {
            ClockState::Jumped { .. } => Ok(()),
            _ => self.counts.record_first_uses(&self.records, now.max(mark)),
        }
    }

    /// Records what was learned of tokens, by the same clock: some of those that were imported may have to rotate, or to
    /// end.
    fn record_upgrades(&self) -> Result<(), StoreError> {
        let (now, mark) = (self.clock.now(), self.follower.replica.high_water());
        match clock_state(now, mark) {
            ClockState::Jumped { .. } => Ok(()),
            _ => self.upgrades.record(&self.records, now.max(mark)),
        }
    }

    fn finish(&self) -> Result<(), StoreError> {
        let mut used = Ok(());
        let first = || used = self.record_first_uses();
        let counted =
            self.counts.finish(&self.follower, &*self.records.store, self.now(), first, &self.signals);
        let (upgraded, told) = (self.record_upgrades(), self.tell());
        let left = quotas::give_back(&self.follower, &self.records);
        left.and(counted.map(drop)).and(used).and(upgraded).and(told)
    }
}

/// Best effort: what was counted since the last flush, and what is left of leases.
impl Drop for Inner {
    fn drop(&mut self) {
        // An error has nobody left to hear it; `close` reports it.
        drop(self.finish());
    }
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Validator").field("freshness", &self.freshness()).finish_non_exhaustive()
    }
}

//! Validation: from a presented token to a grant or a denial, out of memory and never stale.

mod counts;
mod denial;
mod follow;
mod grant;
mod marks;
mod replica;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLockReadGuard};
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::crypto;
use crate::digest::SecretDigest;
use crate::encode::hex;
use crate::error::{OpenError, ReadError};
use crate::id::KeyId;
use crate::key::KeyRecord;
use crate::keyring::Keyring;
use crate::lifecycle;
use crate::owner::OwnerRecord;
use crate::records::Records;
use crate::scope::ScopeSet;
use crate::store::{Freshness, KeyStore, StoreError};
use crate::time::Timestamp;
use crate::token::PresentedToken;
use crate::version::VersionRecord;

use counts::Counts;
pub use denial::{Denial, DenialClass, DenialReason, Unavailable};
use follow::{Follower, Synced};
pub use grant::{Demand, Grant};
pub(crate) use marks::{Mark, Marks};
use marks::{Marked, Snapshot};
pub use replica::Finding;
use replica::{Held, VersionSlot, is_forgotten};

/// Answers whether a token is valid, from a replica of the store in memory.
///
/// Cheap to clone; clones share one replica. Each validation sees every commit, of any process, that returned
/// before the validation began; when it cannot, it answers *unavailable* and never guesses. Validation writes
/// nothing: what it counts goes to the store with [`Validator::flush`].
#[derive(Clone)]
pub struct Validator {
    inner: Arc<Inner>,
}

struct Inner {
    records: Records,
    clock: Arc<dyn Clock>,
    follower: Follower,
    counts: Counts,
    marks: Arc<Marks>,
    closed: AtomicBool,
}

/// Builds a [`Validator`] on a store that a manager, in this process or another, has founded.
#[must_use]
pub struct ValidatorBuilder {
    records: Records,
    clock: Arc<dyn Clock>,
    timeout: Duration,
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

    /// Loads the replica.
    ///
    /// # Errors
    /// [`OpenError`] when the store is not founded, cannot be read, or was written under another master key.
    pub fn open(self) -> Result<Validator, OpenError> {
        let Self { records, clock, timeout } = self;
        check_keyring(&records)?;
        let head = records.head()?;
        let counts =
            Counts::new(hex(&crypto::random_bytes::<8>()
                .map_err(|error| OpenError::NotFounded(Box::new(error.into())))?));
        let follower = Follower::load(&records, &counts, timeout)?;
        let marks = Marks::of(head.store);
        let closed = AtomicBool::new(false);
        Ok(Validator { inner: Arc::new(Inner { records, clock, follower, counts, marks, closed }) })
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
        Self::from_records(Records { store: Arc::new(store), keyring }, Arc::new(SystemClock))
    }

    /// A validator with the default settings, on a store that a manager has founded.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(store: impl KeyStore, keyring: Keyring) -> Result<Self, OpenError> {
        Self::builder(store, keyring).open()
    }

    pub(crate) fn from_records(records: Records, clock: Arc<dyn Clock>) -> ValidatorBuilder {
        ValidatorBuilder { records, clock, timeout: Duration::from_secs(2) }
    }

    /// Whether the token is valid now.
    ///
    /// # Errors
    /// [`Denial`], which is an answer: what may be told to the client is its [`Denial::class`].
    ///
    /// # Timing
    /// Malformed text is refused by its form alone. Beyond that, the time does not depend on the stored digest or
    /// on how much of a wrong secret is right.
    pub fn validate(&self, token: impl AsRef<[u8]>) -> Result<Grant, Denial> {
        self.validate_for(token, Demand::NOTHING)
    }

    /// Whether the token is valid now and allows what is demanded.
    ///
    /// # Errors
    /// [`Denial`].
    pub fn validate_for(&self, token: impl AsRef<[u8]>, demand: Demand<'_>) -> Result<Grant, Denial> {
        let Inner { records, clock, marks, .. } = &*self.inner;
        let token = PresentedToken::parse(token.as_ref()).map_err(|_| Denial::UNKNOWN)?;
        // Before the replica: a mark that is lifted meanwhile may be lifted for what this replica does not show yet.
        let marked = marks.snapshot();
        let synced = self.inner.current()?;
        let slot = authenticate(&token, &synced, &records.keyring)?;
        let t = clock.now().max(synced.high_water);
        if !is_prefix_right(&token, slot, &synced) {
            return Err(Denial::UNKNOWN);
        }
        let result = judge(slot, &synced, [marked, marks.snapshot()], demand, t);
        match &result {
            Ok(_) => slot.counter.granted(t),
            Err(denial) if denial.key().is_some() => slot.counter.denied(),
            Err(_) => {}
        }
        result
    }

    /// Whether a grant that was given earlier would be given now: for work that outlives its request. Counts nothing.
    ///
    /// # Errors
    /// [`Denial`], as of a validation with the token.
    pub fn still_valid(&self, grant: &Grant) -> Result<Grant, Denial> {
        let Inner { clock, marks, .. } = &*self.inner;
        let marked = marks.snapshot();
        let synced = self.inner.current()?;
        let t = clock.now().max(synced.high_water);
        match synced.replica.slot_of(grant.key, grant.version) {
            Some(Held::Sound(slot)) => judge(slot, &synced, [marked, marks.snapshot()], Demand::NOTHING, t),
            Some(Held::Behind(generation)) => {
                Err(Denial::unavailable(Unavailable::KeyringBehind(*generation)))
            }
            Some(Held::Tampered) => Err(Denial::of(DenialReason::Tampered, grant.key, grant.version)),
            None => Err(Denial::UNKNOWN),
        }
    }

    /// The scopes that a grant's key holds now: its own and its role's, below its owner's ceiling.
    ///
    /// # Errors
    /// [`Denial`] when the replica cannot be brought up to date, or the key is gone.
    pub fn scopes(&self, grant: &Grant) -> Result<ScopeSet, Denial> {
        let synced = self.inner.current()?;
        let (key, owner) = key_and_owner(&synced, grant.key).map_err(|reason| match reason {
            DenialReason::Unavailable(why) => Denial::unavailable(why),
            reason => Denial::of(reason, grant.key, grant.version),
        })?;
        Ok(synced.replica.effective_scopes(key, owner))
    }

    /// Brings the replica up to date with the store now. Validation does so by itself.
    ///
    /// # Errors
    /// [`Denial`] with [`DenialReason::Unavailable`].
    pub fn catch_up(&self) -> Result<(), Denial> {
        self.inner.current().map(drop)
    }

    /// The rows that cannot be believed, and therefore deny: edited behind the library's back, or written under a
    /// master key that this process does not hold.
    ///
    /// # Errors
    /// [`Denial`] when the replica cannot be brought up to date.
    pub fn findings(&self) -> Result<Vec<Finding>, Denial> {
        Ok(self.inner.current()?.replica.findings())
    }

    /// How many versions the replica holds.
    ///
    /// # Errors
    /// [`Denial`] when the replica cannot be brought up to date.
    pub fn held_versions(&self) -> Result<usize, Denial> {
        Ok(self.inner.current()?.replica.len())
    }

    /// How fresh the replica is kept, and whether the store had to fall back to a slower way of noticing commits:
    /// [`Freshness::ExactByQuery`].
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        self.inner.records.store.freshness()
    }

    /// Hands what was counted to the store; returns the number of versions concerned.
    ///
    /// # Errors
    /// [`StoreError`]; the counts are kept for the next flush then.
    pub fn flush(&self) -> Result<usize, StoreError> {
        let Inner { records, clock, counts, .. } = &*self.inner;
        counts.flush(&*records.store, clock.now())
    }

    /// Flushes, and answers *unavailable* from then on. Closing one clone closes all.
    ///
    /// # Errors
    /// [`StoreError`] when the last counts could not be handed over.
    pub fn close(&self) -> Result<(), StoreError> {
        self.inner.closed.store(true, Ordering::SeqCst);
        self.flush().map(drop)
    }
}

impl Inner {
    /// The replica as of the store's state now.
    fn current(&self) -> Result<RwLockReadGuard<'_, Synced>, Denial> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Denial::unavailable(Unavailable::Closed));
        }
        self.follower.current(&self.records, &self.counts).map_err(Denial::unavailable)
    }
}

/// Best effort: what was counted since the last flush.
impl Drop for Inner {
    fn drop(&mut self) {
        let now = self.clock.now();
        // An error has nobody left to hear it; `close` reports it.
        drop(self.counts.flush(&*self.records.store, now));
    }
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Validator").field("freshness", &self.freshness()).finish_non_exhaustive()
    }
}

/// The slot whose secret was presented. All that is not it looks and takes alike: the same hashes, the same
/// comparison. While more than one generation is held, everybody is hashed twice, so that the time does not tell a
/// locator of an older generation from an unknown one.
fn authenticate<'a>(
    token: &PresentedToken<'_>,
    synced: &'a Synced,
    keyring: &Keyring,
) -> Result<&'a VersionSlot, Denial> {
    const NOBODY: [u8; 32] = [0; 32];
    let current = keyring.current();
    let held = synced.replica.slot(&token.locator);
    let (generation, stored) = match held {
        Some(Held::Sound(slot)) => (slot.version.digest.generation, &slot.version.digest.bytes),
        Some(Held::Behind(generation)) => {
            return Err(Denial::unavailable(Unavailable::KeyringBehind(*generation)));
        }
        Some(Held::Tampered) | None => (current, &NOBODY),
    };
    let hash = |generation| {
        let behind = Denial::unavailable(Unavailable::KeyringBehind(generation));
        Ok(SecretDigest::of(token, generation, keyring.keys(generation).ok_or(behind)?))
    };
    let under_current = hash(current)?;
    let other = if generation == current {
        keyring.generations().find(|held| *held != current)
    } else {
        Some(generation)
    };
    let under_other = other.map(hash).transpose()?;
    let presented = if generation == current { under_current } else { under_other.unwrap_or(under_current) };
    let matches = crypto::ct_eq_32(&presented.bytes, stored);
    match held {
        Some(Held::Sound(slot)) if matches => Ok(slot),
        _ => Err(Denial::UNKNOWN),
    }
}

/// What to answer to whoever presented the right secret, in the order of LIFECYCLE §2.
fn judge(
    slot: &VersionSlot,
    synced: &Synced,
    marks: [Option<Snapshot>; 2],
    demand: Demand<'_>,
    t: Timestamp,
) -> Result<Grant, Denial> {
    let VersionRecord { key, number, ended_at, .. } = slot.version;
    let denied = |reason| match reason {
        DenialReason::Unavailable(why) => Denial::unavailable(why),
        reason => Denial::of(reason, key, number),
    };
    let (record, owner) = key_and_owner(synced, key).map_err(denied)?;
    if is_forgotten(ended_at.or(lifecycle::end(&slot.version, record.hard_end)), t) {
        return Err(Denial::UNKNOWN);
    }
    let mut marked = Marked::default();
    marks.iter().for_each(|marks| marked.add(marks.as_ref(), key, number, record.owner));
    if marked.revoked {
        return Err(denied(DenialReason::Revoked));
    }
    let suspended = owner.suspended || marked.suspended;
    if let Some(refusal) = lifecycle::refusal(&slot.version, record, suspended, t) {
        return Err(denied(refusal.into()));
    }
    if demand.demanded_scope().is_some_and(|scope| !synced.replica.covers(record, owner, scope)) {
        return Err(denied(DenialReason::Scope));
    }
    Ok(Grant {
        key,
        version: number,
        owner: record.owner,
        valid_until: lifecycle::end(&slot.version, record.hard_end),
        deprecated_at: slot.version.deprecated_at,
    })
}

/// Whether the token begins as its key's tokens do. Where the key cannot be believed, the verdict says so.
fn is_prefix_right(token: &PresentedToken<'_>, slot: &VersionSlot, synced: &Synced) -> bool {
    match synced.replica.key(slot.version.key) {
        Some(Held::Sound(key)) => token.prefix == key.prefix.as_str().as_bytes(),
        _ => true,
    }
}

fn key_and_owner(synced: &Synced, key: KeyId) -> Result<(&KeyRecord, &OwnerRecord), DenialReason> {
    let behind = |generation: &_| DenialReason::Unavailable(Unavailable::KeyringBehind(*generation));
    let key = match synced.replica.key(key) {
        Some(Held::Sound(key)) => key,
        Some(Held::Behind(generation)) => return Err(behind(generation)),
        Some(Held::Tampered) | None => return Err(DenialReason::Tampered),
    };
    match synced.replica.owner(key.owner) {
        Some(Held::Sound(owner)) => Ok((key, owner)),
        Some(Held::Behind(generation)) => Err(behind(generation)),
        Some(Held::Tampered) | None => Err(DenialReason::Tampered),
    }
}

//! What the behaviour tests share: both stores, a bed with a clock that stands still, and words for verdicts.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::time::Duration;

use keyrota::{
    Act, Actor, AuditEntry, AuditFilter, DenialReason, Event, EventKind, IssuedKey, KeyId, KeyManager,
    KeyStore, Keyring, LifecycleError, ManageError, ManualClock, MemoryStore, NewKey, OwnerId, Scope, Stage,
    Timestamp, Validator, VersionNo,
};

pub(crate) const MICRO: Duration = Duration::from_micros(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// When the clock of a bed begins.
pub(crate) const START: &str = "2027-01-01T00:00:00Z";

/// `2027-02-01`, `2027-02-01 06:00` or RFC 3339.
pub(crate) fn at(text: &str) -> Timestamp {
    let full = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{}:00Z", text.replace(' ', "T")),
        _ => text.to_owned(),
    };
    full.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(crate) fn keyring_of(seed: u8) -> Keyring {
    let bytes = std::array::from_fn(|i| (i as u8).wrapping_mul(113) ^ seed.wrapping_mul(29).rotate_left(3));
    Keyring::from_bytes(&bytes).unwrap()
}

pub(crate) fn keyring() -> Keyring {
    keyring_of(7)
}

pub(crate) fn owner(name: &str) -> OwnerId {
    OwnerId::new(name).unwrap()
}

pub(crate) fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

pub(crate) fn v(number: u32) -> VersionNo {
    VersionNo::new(number)
}

/// Where a store's data lie; each `open` is another handle on the same data.
pub(crate) enum Place {
    Memory(MemoryStore),
    #[cfg(feature = "sqlite")]
    Sqlite(tempfile::TempDir),
}

impl Place {
    pub(crate) fn memory() -> Self {
        Self::Memory(MemoryStore::new())
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn sqlite() -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self::Sqlite(folder.unwrap())
    }

    #[cfg(feature = "sqlite")]
    pub(crate) fn file(&self) -> Option<std::path::PathBuf> {
        match self {
            Self::Memory(_) => None,
            Self::Sqlite(folder) => Some(folder.path().join("keys.db")),
        }
    }

    pub(crate) fn open(&self) -> Arc<dyn KeyStore> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(folder) => {
                Arc::new(keyrota::SqliteStore::open(folder.path().join("keys.db")).unwrap())
            }
        }
    }
}

/// Runs the same test on an empty memory store and on an empty SQLite file.
pub(crate) fn on_both_places(body: impl Fn(Place)) {
    body(Place::memory());
    #[cfg(feature = "sqlite")]
    body(Place::sqlite());
}

/// The same on founded stores.
pub(crate) fn on_both_stores(body: impl Fn(Bed)) {
    on_both_places(|place| body(Bed::at(place, at(START))));
}

/// A founded store with a manager and a validator on it, which share a clock.
pub(crate) struct Bed {
    pub(crate) clock: ManualClock,
    pub(crate) keys: KeyManager,
    pub(crate) validator: Validator,
    /// A handle of its own, for looking.
    pub(crate) store: Arc<dyn KeyStore>,
    pub(crate) place: Place,
}

impl Bed {
    pub(crate) fn at(place: Place, start: Timestamp) -> Self {
        let clock = ManualClock::new(start);
        let keys = KeyManager::builder(place.open(), keyring()).clock(clock.clone()).open().unwrap();
        let validator = keys.validator().unwrap();
        Self { clock, keys, validator, store: place.open(), place }
    }

    /// A validator of another process: on a handle of its own.
    pub(crate) fn other_validator(&self) -> Validator {
        Validator::builder(self.place.open(), keyring()).clock(self.clock.clone()).open().unwrap()
    }

    pub(crate) fn root(&self) -> Act<'_> {
        self.keys.by(Actor::operator("root"))
    }

    pub(crate) fn issue(&self, name: &str) -> IssuedKey {
        self.root().issue(new_key(name)).unwrap()
    }

    pub(crate) fn rotate(&self, key: KeyId) -> String {
        self.root().rotate(key).unwrap().token.expose().to_owned()
    }

    pub(crate) fn go(&self, time: &str) {
        self.clock.set(at(time));
    }

    /// Ticks until nothing is due.
    pub(crate) fn tick(&self) {
        while self.keys.tick().unwrap().more {}
    }

    /// Moves the clock there in steps that need no confirmation, with a tick at each.
    pub(crate) fn tick_to(&self, time: Timestamp) {
        while keyrota::Clock::now(&self.clock) < time {
            let next = keyrota::Clock::now(&self.clock).plus(30 * DAY).unwrap_or(Timestamp::MAX);
            self.clock.set(next.min(time));
            self.tick();
        }
    }

    pub(crate) fn is_granted(&self, token: &str) -> bool {
        self.validator.validate(token).is_ok()
    }

    /// Why a token is denied; `None` is a grant.
    pub(crate) fn denial(&self, token: &str) -> Option<DenialReason> {
        self.validator.validate(token).err().map(|denial| denial.reason())
    }

    pub(crate) fn stage(&self, key: KeyId, number: u32) -> Stage {
        self.keys.get(key).unwrap().versions[number as usize - 1].stage
    }

    /// How many entries the audit log has.
    pub(crate) fn seq(&self) -> u64 {
        self.keys.audit_head().unwrap().seq
    }

    /// The audit entries after a number.
    pub(crate) fn entries(&self, after: u64) -> Vec<AuditEntry> {
        self.keys.audit(&AuditFilter::all().after(after), 10_000).unwrap()
    }

    /// What was recorded after a number, a line for each entry: `key_rotation v2 old=v1 new=v2 until 2027-02-02`.
    pub(crate) fn story(&self, after: u64) -> Vec<String> {
        self.entries(after).iter().map(|entry| self.line(&entry.event)).collect()
    }

    /// One entry's line. A rotation whose old version is over has no deadline to tell.
    pub(crate) fn line(&self, event: &Event) -> String {
        let versions = event.key.and_then(|key| self.keys.get(key).ok()).map(|info| info.versions);
        let versions = versions.unwrap_or_default();
        let find = |wanted| versions.iter().find(|version| version.fingerprint == wanted);
        let name = |wanted| find(wanted).map_or("?".to_owned(), |version| version.number.to_string());
        let leaving = event.old_fingerprint.filter(|_| event.kind == EventKind::KeyRotation).and_then(find);
        let is_over = leaving.and_then(|version| version.ended_at).is_some_and(|ended| ended <= event.at);
        let parts = [
            Some(event.kind.to_string()),
            event.version.map(|version| version.to_string()),
            event.old_fingerprint.map(|old| format!("old={}", name(old))),
            event.new_fingerprint.map(|new| format!("new={}", name(new))),
            event.end_reason.map(|reason| format!("{reason:?}").to_lowercase()),
            event.until.filter(|_| !is_over).map(|until| format!("until {}", day(until))),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// The error of an act that writes nothing.
    pub(crate) fn refused<T>(&self, act: impl FnOnce() -> Result<T, ManageError>) -> ManageError {
        let before = self.store.head().unwrap();
        let Err(error) = act() else { panic!("the act was not refused") };
        assert_eq!(self.store.head().unwrap(), before, "{error}");
        error
    }

    /// The rule that forbids an act, which writes nothing.
    pub(crate) fn forbidden<T>(&self, act: impl FnOnce() -> Result<T, ManageError>) -> LifecycleError {
        match self.refused(act) {
            ManageError::Lifecycle(error) => error,
            other => panic!("{other}"),
        }
    }
}

/// `2027-02-02`, `2027-02-02 06:00`, or RFC 3339 where that is not all.
pub(crate) fn day(time: Timestamp) -> String {
    let text = time.to_string();
    let short = text.strip_suffix(":00Z").map(|text| text.replace('T', " "));
    short.map_or(text, |text| text.strip_suffix(" 00:00").unwrap_or(&text).to_owned())
}

pub(crate) const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// zlib's CRC-32 in base62, left-padded to 6: the token's checksum, computed without the library.
pub(crate) fn checksum(covered: &[u8]) -> String {
    let mut crc = u32::MAX;
    for byte in covered {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    let mut rest = !crc;
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    String::from_utf8(digits.to_vec()).unwrap()
}

/// A well-formed token of these parts.
pub(crate) fn token(prefix: &str, locator: &str, secret: &str) -> String {
    format!("{prefix}_{locator}{secret}{}", checksum(format!("{locator}{secret}").as_bytes()))
}

/// Prefix, locator and secret of a token.
pub(crate) fn parts(token: &str) -> (&str, &str, &str) {
    let (head, tail) = token.split_at(token.len() - 61);
    (&head[..head.len() - 1], &tail[..12], &tail[12..55])
}

/// A key of `ada` with this name.
pub(crate) fn new_key(name: &str) -> NewKey {
    NewKey::new(owner("ada"), name).unwrap()
}

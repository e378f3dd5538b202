//! The library under test: one store with two hosts on it.

use std::collections::BTreeMap;
#[cfg(feature = "sqlite")]
use std::path::PathBuf;
use std::sync::Arc;

use keyrota::{
    Grant, KeyManager, KeyStore, Keyring, ManualClock, MemoryStore, OpenError, Revision, RowKind, Validator,
};

use crate::acts::Policy;
use crate::faults::Target;
use crate::faulty::{Disk, Faulty};
use crate::naive::Time;
use crate::put::{Names, limit, policy, time};

/// Where the rows are.
pub enum Backing {
    Memory(MemoryStore),
    #[cfg(feature = "sqlite")]
    Sqlite(PathBuf),
}

impl Backing {
    pub fn open(&self) -> Arc<dyn KeyStore> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(keyrota::SqliteStore::open(file).unwrap()),
        }
    }
}

/// A process on the store, as far as a test needs one.
pub struct Host {
    pub store: Arc<Faulty>,
    /// The handle of the validator: of the first host the same, of the second its own.
    pub eyes: Arc<Faulty>,
    pub clock: ManualClock,
    pub keys: KeyManager,
    pub validator: Validator,
}

pub struct Site {
    pub name: &'static str,
    backing: Backing,
    pub disk: Arc<Disk>,
    pub hosts: Vec<Host>,
    pub names: Names,
    /// The last grant of each token.
    pub grants: BTreeMap<usize, Grant>,
    /// How many audit entries were read, and at which revision.
    pub heard: usize,
    pub head: Revision,
}

fn keyring() -> Keyring {
    Keyring::from_bytes(b"\x81\x02\xd3\x44\xa5\x06\xf7\x08\x19\xea\x0b\x8c\x0d\x7e\x0f\x10\x91\x12\xc3\x14\x15\xb6\x17\x18\xf9\x1a\x2b\x1c\x9d\x1e\x3f\x20")
        .unwrap()
}

fn other_keyring() -> Keyring {
    Keyring::from_bytes(b"\x12\x92\xd3\x44\xa5\x06\xf7\x08\x19\xea\x0b\x8c\x0d\x7e\x0f\x10\x91\x12\xc3\x14\x15\xb6\x17\x18\xf9\x1a\x2b\x1c\x9d\x1e\x3f\x21")
        .unwrap()
}

impl Site {
    pub fn new(name: &'static str, backing: Backing, first: Policy, owner_limit: u32, now: Time) -> Self {
        let mut site = Self {
            name,
            backing,
            disk: Arc::default(),
            hosts: Vec::new(),
            names: Names::default(),
            grants: BTreeMap::new(),
            heard: 0,
            head: Revision(0),
        };
        let clock = ManualClock::new(time(now));
        let founder = KeyManager::builder(site.handle(), keyring()).clock(clock);
        founder.policy(policy(first)).owner_limit(limit(owner_limit)).open().unwrap().close().unwrap();
        site.reopen([now, now], 0, true, false);
        site
    }

    fn handle(&self) -> Arc<Faulty> {
        Faulty::new(self.backing.open(), Arc::clone(&self.disk))
    }

    fn host(&self, now: Time) -> Host {
        self.host_on(self.handle(), now).unwrap_or_else(|error| panic!("a host does not open: {error}"))
    }

    /// A host that opens on this handle.
    fn host_on(&self, store: Arc<Faulty>, now: Time) -> Result<Host, OpenError> {
        let clock = ManualClock::new(time(now));
        let keys = KeyManager::builder(Arc::clone(&store), keyring()).clock(clock.clone()).open()?;
        let first = self.hosts.is_empty();
        let eyes = if first { Arc::clone(&store) } else { self.handle() };
        let validator = if first {
            keys.validator()?
        } else {
            Validator::builder(Arc::clone(&eyes), keyring()).clock(clock.clone()).open()?
        };
        Ok(Host { store, eyes, clock, keys, validator })
    }

    /// Whether a host opens on a handle that `arm` has dealt with, and what has become of the handle.
    pub fn try_open(&self, now: Time, arm: impl FnOnce(&Faulty)) -> (Result<(), OpenError>, bool) {
        let store = self.handle();
        arm(&store);
        let opened = self.host_on(Arc::clone(&store), now).map(drop);
        (opened, store.disarm())
    }

    pub fn try_wrong_key(&self) -> [Result<(), OpenError>; 2] {
        [
            KeyManager::open(self.handle(), other_keyring()).map(drop),
            Validator::open(self.handle(), other_keyring()).map(drop),
        ]
    }

    pub fn reopen(&mut self, clocks: [Time; 2], host: usize, both: bool, close: bool) {
        if close {
            let hosts = if both { &self.hosts[..] } else { &self.hosts[host..=host] };
            for host in hosts {
                // A store without room keeps no usage; closing says so.
                let flushed = host.validator.close();
                assert!(flushed.is_ok() || host.eyes.is_full(), "{flushed:?}");
                host.keys.close().unwrap();
            }
        }
        if both {
            self.hosts.clear();
            for now in clocks {
                let host = self.host(now);
                self.hosts.push(host);
            }
        } else {
            drop(self.hosts.remove(host));
            let opened = self.host(clocks[host]);
            self.hosts.insert(host, opened);
        }
    }

    /// The row of a target.
    pub fn row(&self, target: &Target) -> (RowKind, String) {
        match target {
            Target::Key(key) => (RowKind::Key, self.names.id(*key).to_string()),
            Target::Version(key, version) => (RowKind::Version, format!("{}/{version}", self.names.id(*key))),
            Target::Owner(owner) => (RowKind::Owner, (*owner).to_owned()),
        }
    }

    pub fn revision(&self) -> Revision {
        self.hosts[0].store.head().unwrap().unwrap().revision
    }
}

//! The library under test: one store with two hosts on it.

use std::collections::BTreeMap;
#[cfg(feature = "sqlite")]
use std::path::PathBuf;
use std::sync::Arc;

use keyrota::{Grant, KeyManager, KeyStore, Keyring, ManualClock, MemoryStore, Validator};

use crate::acts::Policy;
use crate::between::Between;
use crate::naive::Time;
use crate::put::{Names, limit, policy, time};

/// Where the rows are.
pub enum Backing {
    Memory(MemoryStore),
    #[cfg(feature = "sqlite")]
    Sqlite(PathBuf),
}

impl Backing {
    fn open(&self) -> Arc<dyn KeyStore> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(keyrota::SqliteStore::open(file).unwrap()),
        }
    }
}

/// A process on the store, as far as a test needs one.
pub struct Host {
    pub store: Arc<Between>,
    pub clock: ManualClock,
    pub keys: KeyManager,
    pub validator: Validator,
}

pub struct Site {
    pub name: &'static str,
    backing: Backing,
    pub hosts: Vec<Host>,
    pub names: Names,
    /// The last grant of each token.
    pub grants: BTreeMap<usize, Grant>,
    /// How many audit entries were read.
    pub heard: usize,
}

fn keyring() -> Keyring {
    Keyring::from_bytes(b"\x81\x02\xd3\x44\xa5\x06\xf7\x08\x19\xea\x0b\x8c\x0d\x7e\x0f\x10\x91\x12\xc3\x14\x15\xb6\x17\x18\xf9\x1a\x2b\x1c\x9d\x1e\x3f\x20")
        .unwrap()
}

impl Site {
    pub fn new(name: &'static str, backing: Backing, first: Policy, owner_limit: u32, now: Time) -> Self {
        let (names, grants) = (Names::default(), BTreeMap::new());
        let mut site = Self { name, backing, hosts: Vec::new(), names, grants, heard: 0 };
        let clock = ManualClock::new(time(now));
        let founder = KeyManager::builder(site.backing.open(), keyring()).clock(clock);
        founder.policy(policy(first)).owner_limit(limit(owner_limit)).open().unwrap().close().unwrap();
        site.reopen([now, now], 0, true, false);
        site
    }

    fn host(&self, now: Time) -> Host {
        let (store, clock) = (Between::new(self.backing.open()), ManualClock::new(time(now)));
        let keys = KeyManager::builder(Arc::clone(&store), keyring()).clock(clock.clone()).open().unwrap();
        let validator = if self.hosts.is_empty() {
            keys.validator().unwrap()
        } else {
            Validator::builder(self.backing.open(), keyring()).clock(clock.clone()).open().unwrap()
        };
        Host { store, clock, keys, validator }
    }

    pub fn reopen(&mut self, clocks: [Time; 2], host: usize, both: bool, close: bool) {
        if close {
            let hosts = if both { &self.hosts[..] } else { &self.hosts[host..=host] };
            for host in hosts {
                host.validator.close().unwrap();
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
}

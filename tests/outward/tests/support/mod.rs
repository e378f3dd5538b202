//! What the tests share: an authority of their own, servers that misbehave, and Python packages in a place of their own.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod authority;
pub(crate) mod hostile;
pub(crate) mod python;
pub(crate) mod receiver;

use std::time::Duration;

use keyrota::{
    KeyManager, KeyManagerBuilder, Keyring, ManualClock, MemoryStore, Networks, NewKey, OwnerId, OwnerLimit,
    Timestamp,
};

pub(crate) const START: &str = "2027-01-01T00:00:00Z";
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn loopback() -> Networks {
    Networks::new(["127.0.0.0/8", "::1"].map(|text| text.parse().unwrap())).unwrap()
}

pub(crate) fn builder(clock: &ManualClock) -> KeyManagerBuilder {
    let builder = KeyManager::builder(MemoryStore::new(), Keyring::generate().unwrap()).clock(clock.clone());
    builder.owner_limit(OwnerLimit::new(100_000).unwrap())
}

pub(crate) fn new_key(name: &str) -> NewKey {
    NewKey::new(OwnerId::new("ada").unwrap(), name).unwrap()
}

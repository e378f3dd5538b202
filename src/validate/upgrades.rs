//! Upgrades: what validation learned of imported tokens, and of those whose digest is of an older generation, kept until a
//! flush writes it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::id::{KeyId, VersionNo};
use crate::imported::Upgrade;
use crate::records::Records;
use crate::rotate::record_upgrades;
use crate::store::StoreError;
use crate::time::Timestamp;

/// What waits to be written, each version once. Bounded: what finds no room is offered again with the next use.
#[derive(Debug, Default)]
pub(crate) struct Upgrades(Mutex<HashMap<(KeyId, VersionNo), Upgrade>>);

impl Upgrades {
    /// How many wait at most.
    pub(crate) const ROOM: usize = 4096;
    /// How many one commit writes.
    const BATCH: usize = 100;

    /// Keeps an upgrade, unless it is there already, there is no room, or somebody is at them: a validation waits for
    /// nobody.
    pub(crate) fn offer(&self, version: (KeyId, VersionNo), upgrade: impl FnOnce() -> Upgrade) {
        let Ok(mut waiting) = self.0.try_lock() else { return };
        if waiting.len() < Self::ROOM && !waiting.contains_key(&version) {
            waiting.insert(version, upgrade());
        }
    }

    /// Writes what waits; what cannot be written now is kept for the next time.
    pub(crate) fn record(&self, records: &Records, now: Timestamp) -> Result<(), StoreError> {
        let mut waiting: Vec<_> = self.with(|waiting| waiting.iter().map(|(of, it)| (*of, *it)).collect());
        waiting.sort_unstable_by_key(|(version, _)| *version);
        for batch in waiting.chunks(Self::BATCH) {
            let done = record_upgrades(records, batch, now)?;
            self.with(|waiting| waiting.retain(|version, _| !done.contains(version)));
        }
        Ok(())
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<(KeyId, VersionNo), Upgrade>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imported::keyed;
    use crate::keyring::Keyring;

    #[test]
    fn what_waits_is_bounded_and_the_rest_is_dropped() {
        let ring = Keyring::generate().unwrap();
        let digest = keyed(b"token", ring.current(), ring.current_keys());
        let upgrades = Upgrades::default();
        let offer = |n: usize| {
            let upgrade = || Upgrade { digest, imported: None };
            upgrades.offer((KeyId::from(n as u128), VersionNo::FIRST), upgrade);
        };
        (0..2 * Upgrades::ROOM).for_each(offer);
        assert_eq!(upgrades.with(|waiting| waiting.len()), Upgrades::ROOM);
        let held = upgrades.0.lock().unwrap();
        offer(usize::MAX);
        assert_eq!(held.len(), Upgrades::ROOM, "who finds it locked goes on");
    }
}

//! What was written under which master key: by it one knows which generations are still needed.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;

use crate::error::ManageError;
use crate::keyring::Generation;
use crate::records::{Records, read};
use crate::report::vouched::vouched_for;
use crate::seal::SealedCopy;
use crate::store::{AuditQuery, RowFilter, RowKind};
use crate::version::VersionRecord;

/// How much of a store needs a generation of the master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GenerationUse {
    /// The generation.
    pub generation: Generation,
    /// Whether the keyring holds it.
    pub held: bool,
    /// Whether new rows are written under it.
    pub current: bool,
    /// Rows written under it; without its master key none of them can be read.
    pub rows: u64,
    /// Secrets sealed under it, as far as their rows can be read; without its master key they cannot be claimed.
    pub sealed: u64,
    /// Versions that have not ended, whose digest was computed under it, as far as their rows can be read; without its
    /// master key their tokens do not validate.
    pub digests: u64,
    /// Entries of the audit log written under it for which no retirement vouches; without its master key they cannot be
    /// verified.
    pub audit_entries: u64,
}

/// The generations that the keyring holds or the store was written under, lowest first.
pub(crate) fn generations(records: &Records) -> Result<Vec<GenerationUse>, ManageError> {
    let keyring = &records.keyring;
    let unused = |generation| GenerationUse {
        generation,
        held: keyring.generations().any(|held| held == generation),
        current: generation == keyring.current(),
        rows: 0,
        sealed: 0,
        digests: 0,
        audit_entries: 0,
    };
    let mut found: BTreeMap<_, _> = keyring.generations().map(|held| (held, unused(held))).collect();
    let mut count = |generation, add: fn(&mut GenerationUse)| {
        add(found.entry(generation).or_insert_with(|| unused(generation)));
    };
    if let Some(head) = records.store.head()? {
        count(head.mac.generation, |found| found.rows += 1);
    }
    for kind in RowKind::ALL {
        records.store.scan(kind, RowFilter::All { after: None }, &mut |row| {
            count(row.mac.generation, |found| found.rows += 1);
            match kind {
                RowKind::Version => {
                    let version = read::<VersionRecord>(&row, keyring).ok().map(|version| version.record);
                    if let Some(version) = version.filter(|version| !version.is_ended()) {
                        count(version.digest.generation, |found| found.digests += 1);
                    }
                }
                RowKind::Sealed => {
                    if let Ok(copy) = read::<SealedCopy>(&row, keyring) {
                        count(copy.record.generation(), |found| found.sealed += 1);
                    }
                }
                _ => {}
            }
            ControlFlow::Continue(())
        })?;
    }
    let after = vouched_for(records)?.to;
    records.store.audit(&AuditQuery { after, ..AuditQuery::default() }, &mut |entry| {
        count(entry.mac.generation, |found| found.audit_entries += 1);
        ControlFlow::Continue(())
    })?;
    Ok(found.into_values().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::actor::Actor;
    use crate::id::OwnerId;
    use crate::keyring::{Generation, Keyring, MasterKey};
    use crate::manager::{KeyManager, NewKey};
    use crate::store::KeyStore;
    use crate::store::memory::MemoryStore;

    #[test]
    fn each_generation_tells_what_was_written_under_it() {
        let store: Arc<dyn KeyStore> = Arc::new(MemoryStore::new());
        let first = Keyring::generate().unwrap();
        let issue = |keyring: &Keyring, name: &str| {
            let keys = KeyManager::open(Arc::clone(&store), keyring.clone()).unwrap();
            let new = NewKey::new(OwnerId::new("ada").unwrap(), name).unwrap();
            keys.by(Actor::operator("root")).issue(new).unwrap();
            keys.generations().unwrap()
        };
        let before = issue(&first, "one");
        let [only] = before.as_slice() else { panic!("{before:?}") };
        assert!(only.held && only.current && only.rows > 4, "{only:?}");
        assert_eq!((only.digests, only.audit_entries > 2), (1, true));

        let second = Generation::new(2);
        let both = first.with(second, MasterKey::generate().unwrap()).unwrap();
        let waiting = KeyManager::open(Arc::clone(&store), both.clone()).unwrap().generations().unwrap();
        assert_eq!((waiting[1].generation, waiting[1].held, waiting[1].current), (second, true, false));
        assert_eq!((waiting[1].rows, waiting[1].digests, waiting[1].audit_entries), (0, 0, 0));

        let after = issue(&both.with_current(second).unwrap(), "two");
        assert_eq!((after[0].digests, after[1].digests), (1, 1), "a digest stays with its generation");
        assert!(!after[0].current && after[1].current && after[1].rows > 2 && after[1].audit_entries >= 1);
        assert_eq!(after[0].audit_entries, only.audit_entries, "what was written stays");
    }
}

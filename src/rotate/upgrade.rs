//! Upgrades: what validation learned of imported tokens takes the place of what another system had kept of them.

use crate::actor::Context;
use crate::error::{ManageError, ReadError};
use crate::event::Event;
use crate::id::{KeyId, VersionNo};
use crate::imported::Upgrade;
use crate::lifecycle;
use crate::outbox::Committed;
use crate::records::Records;
use crate::rotate::apply::commit_as_of;
use crate::rotate::plan::family;
use crate::store::{Changeset, StoreError};
use crate::time::Timestamp;

/// How often a batch is decided again when others are at the same keys.
const ATTEMPTS: usize = 20;

/// Records these upgrades in one commit, as of `t`. Returns those of which nothing is left to be done; what cannot be
/// believed, or whom others keep changing, is left out.
pub(crate) fn record_upgrades(
    records: &Records,
    learned: &[((KeyId, VersionNo), Upgrade)],
    t: Timestamp,
) -> Result<Vec<(KeyId, VersionNo)>, StoreError> {
    for _ in 0..ATTEMPTS {
        match record(records, learned, t) {
            Ok(true) => return Ok(learned.iter().map(|(version, _)| *version).collect()),
            Ok(false) => {}
            Err(
                ManageError::Read(ReadError::Store(error))
                | ManageError::NotWritten(error)
                | ManageError::OutcomeUnknown { source: error, .. },
            ) => return Err(error),
            Err(_) => break,
        }
    }
    Ok(Vec::new())
}

/// One attempt; `false` where somebody was in the way.
fn record(
    records: &Records,
    learned: &[((KeyId, VersionNo), Upgrade)],
    t: Timestamp,
) -> Result<bool, ManageError> {
    let context = Context::system();
    let mut changeset = Changeset::new(&records.keyring);
    // One at a time: of a key with two imported versions the second is upgraded next time.
    let mut seen = None;
    for ((key, version), upgrade) in learned {
        if seen.replace(*key) == Some(*key) {
            continue;
        }
        let Some(stored) = family(records, *key)? else { continue };
        let mut after = stored.family.clone();
        let transitions = lifecycle::upgrade(&mut after, *version, upgrade, t)?;
        if transitions.is_empty() {
            continue;
        }
        stored.write(&after, &mut changeset);
        let events = transitions.iter().map(|step| Event::of_key(t, step, &after, &context));
        events.for_each(|event| changeset.record(event));
    }
    Ok(matches!(commit_as_of(records, changeset, t)?, Committed::Done(_)))
}

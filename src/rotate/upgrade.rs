//! Upgrades: what validation learned of tokens takes the place of what was kept of them, by another system or under an
//! older generation of the master key.

use crate::actor::Context;
use crate::error::ManageError;
use crate::event::Event;
use crate::id::{KeyId, VersionNo};
use crate::imported::Upgrade;
use crate::lifecycle;
use crate::outbox::Committed;
use crate::records::Records;
use crate::rotate::apply::{commit_as_of, repeated};
use crate::rotate::plan::family;
use crate::store::{Changeset, StoreError};
use crate::time::Timestamp;

/// Records these upgrades in one commit, as of `t`. Returns those of which nothing is left to be done; what cannot be
/// believed, or whom others keep changing, is left out.
pub(crate) fn record_upgrades(
    records: &Records,
    learned: &[((KeyId, VersionNo), Upgrade)],
    t: Timestamp,
) -> Result<Vec<(KeyId, VersionNo)>, StoreError> {
    let done = repeated(|| record(records, learned, t).map(|done| done.then_some(())))?;
    Ok(done.map(|()| learned.iter().map(|(version, _)| *version).collect()).unwrap_or_default())
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
        if after == stored.family {
            continue;
        }
        stored.write(&after, &mut changeset);
        let events = transitions.iter().map(|step| Event::of_key(t, step, &after, &context));
        events.for_each(|event| changeset.record(event));
    }
    Ok(matches!(commit_as_of(records, changeset, t)?, Committed::Done(_)))
}

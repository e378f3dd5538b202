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
use crate::rotate::apply::{commit_as_of, each_at_last};
use crate::rotate::plan::family;
use crate::store::{Changeset, StoreError};
use crate::time::Timestamp;

/// Records these upgrades in one commit, as of `t`, or in as few as can be had where one of them is in the way. Returns those
/// for which nothing has to wait: also what cannot be believed, and a key that others keep changing, which its next use
/// offers again. Until then it counts among the unseen.
pub(crate) fn record_upgrades(
    records: &Records,
    learned: &[((KeyId, VersionNo), Upgrade)],
    t: Timestamp,
) -> Result<Vec<(KeyId, VersionNo)>, StoreError> {
    let mut work = |learned: &[((KeyId, VersionNo), Upgrade)]| {
        let done = record(records, learned, t)?;
        Ok(done.then(|| learned.iter().map(|(version, _)| *version).collect()))
    };
    each_at_last(records, learned, &mut work, &mut |(version, _)| Some(*version))
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

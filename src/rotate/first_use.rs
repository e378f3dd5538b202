//! First uses: seen by validation, recorded here; from them the time of the predecessors may count.

use crate::actor::Context;
use crate::error::ManageError;
use crate::event::Event;
use crate::id::{KeyId, VersionNo};
use crate::lifecycle;
use crate::outbox::Committed;
use crate::records::Records;
use crate::rotate::apply::{commit_as_of, each_at_last};
use crate::rotate::lookup::Lookup;
use crate::rotate::plan::family;
use crate::store::{Changeset, StoreError};
use crate::time::Timestamp;

/// Records the first uses of these versions in one commit, as of `t`, or in as few as can be had where one of them is in the
/// way. Returns those of which nothing is left to be recorded; the others wait, because their owner is suspended, a row
/// cannot be believed, or others keep changing their key.
pub(crate) fn record_first_uses(
    records: &Records,
    used: &[(KeyId, VersionNo)],
    t: Timestamp,
) -> Result<Vec<(KeyId, VersionNo)>, StoreError> {
    each_at_last(records, used, &mut |used: &[_]| record(records, used, t), &mut |_| None)
}

/// One attempt; `None` where somebody was in the way.
fn record(
    records: &Records,
    used: &[(KeyId, VersionNo)],
    t: Timestamp,
) -> Result<Option<Vec<(KeyId, VersionNo)>>, ManageError> {
    let context = Context::system();
    let mut lookup = Lookup::new(records)?;
    let mut changeset = Changeset::new(&records.keyring);
    let mut recorded = Vec::new();
    for (key, versions) in by_key(used) {
        let Some(stored) = family(records, key)? else { continue };
        if !lookup.is_enabled(&stored.family.key)? {
            continue;
        }
        let policy = lookup.policy_of(&stored.family.key);
        let mut after = stored.family.clone();
        let mut transitions = after.settle(t);
        let before = transitions.len();
        for version in &versions {
            transitions.extend(lifecycle::first_use(&mut after, *version, &policy, t)?);
            recorded.push((key, *version));
        }
        if transitions.len() == before {
            continue;
        }
        stored.write(&after, &mut changeset);
        lookup.rely(&after.key, &transitions, &mut changeset);
        records.delete_sealed(&mut changeset, key, |copy| versions.contains(&copy.version))?;
        let events = transitions.iter().map(|step| Event::of_key(t, step, &after, &context));
        events.for_each(|event| changeset.record(event));
    }
    Ok(match commit_as_of(records, changeset, t)? {
        Committed::Done(_) => Some(recorded),
        Committed::Conflict => None,
    })
}

/// The versions of each key; they come in the order of the keys.
fn by_key(used: &[(KeyId, VersionNo)]) -> Vec<(KeyId, Vec<VersionNo>)> {
    let same_key = |a: &(KeyId, VersionNo), b: &(KeyId, VersionNo)| a.0 == b.0;
    let of_key = |chunk: &[(KeyId, VersionNo)]| {
        Some((chunk.first()?.0, chunk.iter().map(|(_, version)| *version).collect()))
    };
    used.chunk_by(same_key).filter_map(of_key).collect()
}

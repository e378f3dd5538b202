//! Retiring a generation of the master key: what would be lost with it.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use serde::Serialize;

use crate::audit::Vouched;
use crate::error::ManageError;
use crate::id::KeyId;
use crate::keyring::Generation;
use crate::records::{KeyState, Records, read};
use crate::report::verify::walk;
use crate::report::vouched::vouched_for;
use crate::seal::SealedCopy;
use crate::store::{AuditQuery, RowFilter, RowKind, RowRef};
use crate::version::VersionRecord;

/// What goes with a generation of the master key once that is taken out of every keyring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RetiredGeneration {
    /// The generation.
    pub generation: Generation,
    /// Rows written under it, which nobody can read any more. Ticks write them again under the current generation.
    pub rows: u64,
    /// Secrets sealed under it, which nobody can claim any more. Ticks seal them anew.
    pub sealed: u64,
    /// Versions that have not ended, whose digest was computed under it: their tokens validate no more. A digest is
    /// computed anew when the token is used.
    pub digests: u64,
    /// The keys that die in whole or in part, because of a row or a digest; by their ids.
    pub keys: Vec<KeyId>,
    /// Entries of the audit log that cannot be verified any more. None where the log is sound: then the retirement vouches
    /// for them, and they can be verified without the generation under which they were written.
    pub audit_entries: u64,
}

impl RetiredGeneration {
    /// Whether anything is lost.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        (self.rows, self.sealed, self.digests, self.audit_entries) != (0, 0, 0, 0)
    }
}

/// What would be lost with a generation, and what its retirement can vouch for: the log, where that is sound.
pub(crate) fn retirement(
    records: &Records,
    generation: Generation,
) -> Result<(RetiredGeneration, Option<Vouched>), ManageError> {
    let mut needs = Needs::default();
    let mut retired =
        RetiredGeneration { generation, rows: 0, sealed: 0, digests: 0, keys: Vec::new(), audit_entries: 0 };
    // Owners first: with the row of one all its keys die.
    let others = RowKind::ALL.into_iter().filter(|kind| *kind != RowKind::Owner);
    for kind in [RowKind::Owner].into_iter().chain(others) {
        records.store.scan(kind, RowFilter::All { after: None }, &mut |row| {
            needs.look(records, &row, &mut retired);
            ControlFlow::Continue(())
        })?;
    }
    retired.keys = needs.keys.into_iter().collect();
    let keys = records.keyring.current_keys();
    let mut vouched = Vouched::NOTHING;
    let (_, troubles) = walk(records, None, |row, _| {
        vouched = vouched.with(keys, row.seq, (row.mac.generation, &row.mac.tag), &row.body);
    })?;
    if troubles.is_empty() {
        return Ok((retired, Some(vouched)));
    }
    let covered = vouched_for(records)?.to;
    records.store.audit(&AuditQuery { after: covered, ..AuditQuery::default() }, &mut |entry| {
        retired.audit_entries += u64::from(entry.mac.generation == generation);
        ControlFlow::Continue(())
    })?;
    Ok((retired, None))
}

/// Who needs the generation, as the rows are gone through.
#[derive(Default)]
struct Needs {
    owners: HashSet<String>,
    keys: BTreeSet<KeyId>,
}

impl Needs {
    fn look(&mut self, records: &Records, row: &RowRef<'_>, retired: &mut RetiredGeneration) {
        let is_its = row.mac.generation == retired.generation;
        retired.rows += u64::from(is_its);
        match row.kind {
            RowKind::Owner if is_its => drop(self.owners.insert(row.id.to_owned())),
            RowKind::Key => {
                let owners = row.index.owner.is_some_and(|owner| self.owners.contains(owner));
                if (is_its || owners) && !KeyState::is_over(&row.index) {
                    self.keys.extend(row.id.parse::<KeyId>().ok());
                }
            }
            RowKind::Version => {
                let Ok(version) = read::<VersionRecord>(row, &records.keyring) else { return };
                let version = version.record;
                let needs = !version.is_ended() && version.digest.generation == retired.generation;
                retired.digests += u64::from(needs);
                if needs || is_its && !version.is_ended() {
                    self.keys.insert(version.key);
                }
            }
            RowKind::Sealed => {
                let copy = read::<SealedCopy>(row, &records.keyring);
                let needs = copy.is_ok_and(|copy| copy.record.generation() == retired.generation);
                retired.sealed += u64::from(needs);
            }
            _ => {}
        }
    }
}

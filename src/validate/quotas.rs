//! Quotas: leasing uses from the store before they are needed, and giving back what was not.

use crate::error::ReadError;
use crate::limit::{Lease, Quota, QuotaRecord};
use crate::records::{Record as _, Records};
use crate::store::{Changeset, CommitError, StoreError};
use crate::time::Timestamp;
use crate::validate::cells::Cells;
use crate::validate::follow::Follower;

/// How often one lease is tried again while other processes lease of the same quota.
const ATTEMPTS: usize = 20;

/// Leases anew for each key whose lease is half used or of a period that is over. What cannot be leased now is left for
/// the next time; the first error of the store is told.
pub(crate) fn renew(follower: &Follower, records: &Records, t: Timestamp) -> Result<(), StoreError> {
    let replica = &follower.replica;
    let mut failed = None;
    for (number, quota) in follower.with_keeper(|keeper| keeper.quotas(replica)) {
        let Some(cells) = replica.cells.get(number as usize) else { continue };
        let period = quota.refill().period(cells.issued_at(), t);
        if !cells.allowance().is_low(&quota, period) {
            continue;
        }
        match lease(records, cells, &quota, t) {
            Ok(Some(lease)) => cells.allowance().add(lease),
            Ok(None) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Gives back what is left of all leases.
pub(crate) fn give_back(follower: &Follower, records: &Records) -> Result<(), StoreError> {
    let replica = &follower.replica;
    for (number, _) in follower.with_keeper(|keeper| keeper.quotas(replica)) {
        let Some(cells) = replica.cells.get(number as usize) else { continue };
        let Some((since, unused)) = cells.allowance().close() else { continue };
        change(records, cells, |record| {
            record.give_back(since, unused);
            Some(())
        })?;
    }
    Ok(())
}

fn lease(records: &Records, cells: &Cells, quota: &Quota, t: Timestamp) -> Result<Option<Lease>, StoreError> {
    let period = quota.refill().period(cells.issued_at(), t);
    let wanted = quota.lease().saturating_sub(cells.allowance().left(period));
    change(records, cells, |record| record.lease(quota, period, wanted))
}

/// Changes the record of a quota, and decides again while other processes do. Where the outcome is not known, the answer
/// is an error, and what was leased is lost rather than used twice.
fn change<T>(
    records: &Records,
    cells: &Cells,
    mut decide: impl FnMut(&mut QuotaRecord) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    for _ in 0..ATTEMPTS {
        let stored = match records.get::<QuotaRecord>(&cells.key.to_string()) {
            Ok(stored) => stored,
            Err(ReadError::Store(error)) => return Err(error),
            // Nothing is leased of a quota whose record cannot be believed; the check of the store names it.
            Err(_) => return Ok(None),
        };
        let mut record =
            stored.as_ref().map_or_else(|| QuotaRecord::new(cells.key), |stored| stored.record.clone());
        let Some(value) = decide(&mut record) else { return Ok(None) };
        let mut changeset = Changeset::new(&records.keyring);
        match stored {
            Some(stored) => changeset.replace(record.draft(), stored.revision),
            None => changeset.insert(record.draft()),
        }
        match records.store.commit(&changeset) {
            Ok(_) => return Ok(Some(value)),
            Err(CommitError::Conflict { .. }) => {}
            Err(CommitError::Seal(_)) => return Ok(None),
            Err(CommitError::NotWritten(error) | CommitError::Unknown(error)) => return Err(error),
        }
    }
    Ok(None)
}

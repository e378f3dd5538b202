//! What retirements of a generation vouch for: the entries of the log up to them, as they were verified then.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::audit::Vouched;
use crate::crypto;
use crate::error::ManageError;
use crate::event::{Event, EventKind};
use crate::keyring::Generation;
use crate::records::Records;
use crate::store::{AuditQuery, AuditRow};

/// How far the log is vouched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VouchedFor {
    /// Up to this entry all is as a retirement found it; 0 without any.
    pub(crate) to: u64,
    /// Up to this entry something is not.
    pub(crate) broken_to: u64,
}

/// What the subject of a retirement vouches for.
fn said(row: &AuditRow) -> Option<Vouched> {
    let event = serde_json::from_slice::<Event>(&row.body).ok()?;
    let subject = event.subject.filter(|_| event.kind == EventKind::GenerationRetired)?;
    // Only for what was there before it.
    subject.split_once("; ")?.1.parse().ok().filter(|said: &Vouched| said.seq < row.seq)
}

/// Compares what retirements said with what is there, as far as the keyring holds the generation of their entries. Reads
/// the log once more, and only if something was retired.
pub(crate) fn vouched_for(records: &Records) -> Result<VouchedFor, ManageError> {
    let keyring = &records.keyring;
    let mut all: BTreeMap<Generation, (Vouched, Vec<Vouched>)> = BTreeMap::new();
    let query = AuditQuery { kind: Some(EventKind::GenerationRetired.as_str()), ..AuditQuery::default() };
    let mut last = 0;
    records.store.audit(&query, &mut |row| {
        if let Some(said) = said(row).filter(|_| keyring.keys(row.mac.generation).is_some()) {
            last = last.max(said.seq);
            all.entry(row.mac.generation).or_insert((Vouched::NOTHING, Vec::new())).1.push(said);
        }
        ControlFlow::Continue(())
    })?;
    let mut found = VouchedFor::default();
    if all.is_empty() {
        return Ok(found);
    }
    records.store.audit(&AuditQuery::default(), &mut |row| {
        if row.seq > last {
            return ControlFlow::Break(());
        }
        for (generation, (so_far, said)) in &mut all {
            let Some(keys) = keyring.keys(*generation) else { continue };
            *so_far = so_far.with(keys, row.seq, (row.mac.generation, &row.mac.tag), &row.body);
            for said in said.iter().filter(|said| said.seq == row.seq) {
                if crypto::ct_eq_32(&said.tag, &so_far.tag) {
                    found.to = found.to.max(said.seq);
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    found.broken_to = if found.to < last { last } else { 0 };
    Ok(found)
}

//! Findings: the rows that cannot be believed, and therefore deny.

use std::collections::HashMap;

use crate::keyring::Generation;
use crate::store::RowKind;
use crate::validate::change::Doubt;

/// A row that cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Finding {
    /// What the row records.
    pub kind: RowKind,
    /// Its id.
    pub id: String,
    /// The master key generation that would be needed to check it, if that is what is missing; otherwise the
    /// row was edited behind the library's back.
    pub missing_generation: Option<Generation>,
}

/// All findings of a replica.
#[derive(Debug, Default)]
pub(crate) struct Findings(HashMap<(RowKind, String), Finding>);

impl Findings {
    /// Enters or strikes out a finding.
    pub(crate) fn note(&mut self, kind: RowKind, id: impl FnOnce() -> String, doubt: Option<Doubt>) {
        match doubt {
            Some(doubt) => {
                let id = id();
                let missing_generation = match doubt {
                    Doubt::Behind(generation) => Some(generation),
                    Doubt::Tampered => None,
                };
                self.0.insert((kind, id.clone()), Finding { kind, id, missing_generation });
            }
            None if self.0.is_empty() => {}
            None => drop(self.0.remove(&(kind, id()))),
        }
    }

    /// All of them, in the order of kinds and ids.
    pub(crate) fn all(&self) -> Vec<Finding> {
        let mut findings: Vec<_> = self.0.values().cloned().collect();
        findings.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        findings
    }
}

//! Reading the audit log, and verifying its chain.

use std::ops::ControlFlow;

use crate::audit::{AuditEntry, AuditHead};
use crate::error::ManageError;
use crate::event::EventKind;
use crate::id::{KeyId, OwnerId, VersionNo};
use crate::manager::KeyManager;
use crate::report::{AuditVerdict, CheckReport, check, entry, verify};
use crate::store::{AuditQuery, UsageCounts, UsageQuery};
use crate::time::Timestamp;

/// Which entries of the audit log to read; an absent field asks nothing.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct AuditFilter {
    key: Option<KeyId>,
    owner: Option<OwnerId>,
    kind: Option<EventKind>,
    version: Option<VersionNo>,
    actor: Option<String>,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
    after: u64,
}

impl AuditFilter {
    /// All entries.
    pub fn all() -> Self {
        Self::default()
    }

    /// Entries about this key.
    pub fn key(mut self, key: KeyId) -> Self {
        self.key = Some(key);
        self
    }

    /// Entries about this version of a key.
    pub fn version(mut self, key: KeyId, version: VersionNo) -> Self {
        self.key = Some(key);
        self.version = Some(version);
        self
    }

    /// Entries by an actor of this name.
    pub fn actor(mut self, name: impl Into<String>) -> Self {
        self.actor = Some(name.into());
        self
    }

    /// Entries of this time or later.
    pub fn from(mut self, time: Timestamp) -> Self {
        self.from = Some(time);
        self
    }

    /// Entries before this time.
    pub fn until(mut self, time: Timestamp) -> Self {
        self.until = Some(time);
        self
    }

    /// Entries about this owner and its keys.
    pub fn owner(mut self, owner: OwnerId) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Entries of this kind.
    pub fn kind(mut self, kind: EventKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Entries after this number, for the next page.
    pub fn after(mut self, seq: u64) -> Self {
        self.after = seq;
        self
    }
}

/// What is known of one version: see [`KeyManager::history`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VersionHistory {
    /// The entries of the audit log that concern it, in the order of their numbers.
    pub entries: Vec<AuditEntry>,
    /// How often it was granted and, although its secret was right, denied; as far as validators have flushed their
    /// counts.
    pub usage: UsageCounts,
}

impl KeyManager {
    /// Up to `limit` entries of the audit log, in the order of their numbers.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read, or an entry is not what the library writes. That no entry was
    /// edited is what [`KeyManager::verify_audit`] tells.
    pub fn audit(&self, filter: &AuditFilter, limit: usize) -> Result<Vec<AuditEntry>, ManageError> {
        let key = filter.key.map(|key| key.to_string());
        let query = AuditQuery {
            after: filter.after,
            kind: filter.kind.map(EventKind::as_str),
            key: key.as_deref(),
            owner: filter.owner.as_ref().map(OwnerId::as_str),
            version: filter.version.map(VersionNo::get),
            actor: filter.actor.as_deref(),
            from: filter.from,
            until: filter.until,
        };
        let mut rows = Vec::new();
        self.inner.records.store.audit(&query, &mut |row| {
            if rows.len() < limit {
                rows.push(entry(row));
            }
            if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(rows.into_iter().collect::<Result<_, _>>()?)
    }

    /// All that the audit log tells of one version of a key, with the sums of its usage in the place of an entry for
    /// each use. Both stay when the key is purged.
    ///
    /// # Errors
    /// As of [`KeyManager::audit`].
    pub fn history(&self, key: KeyId, version: VersionNo) -> Result<VersionHistory, ManageError> {
        let entries = self.audit(&AuditFilter::all().version(key, version), usize::MAX)?;
        let mut usage = UsageCounts::default();
        self.inner.records.store.usage(&UsageQuery::of_key(&key.to_string()), &mut |_, entry| {
            if entry.version == version.get() {
                usage.absorb(&entry.counts);
            }
        })?;
        Ok(VersionHistory { entries, usage })
    }

    /// The head of the audit log: the number and MAC of its last entry.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read or its head was edited.
    pub fn audit_head(&self) -> Result<AuditHead, ManageError> {
        Ok(self.inner.records.head()?.audit)
    }

    /// Checks each entry of the audit log against its MAC and its predecessor, and the last against the head.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read or its head was edited. A broken chain is an answer.
    pub fn verify_audit(&self) -> Result<AuditVerdict, ManageError> {
        Ok(verify(&self.inner.records, None, |_, _| ())?.0)
    }

    /// The same, and that the log contains the entry of an anchor: an earlier head that the host kept elsewhere. Only
    /// an anchor tells a cut tail, or an old file that was put back, when the thief also has the master key or a copy.
    ///
    /// # Errors
    /// As of [`KeyManager::verify_audit`].
    pub fn verify_audit_against(&self, anchor: &AuditHead) -> Result<AuditVerdict, ManageError> {
        Ok(verify(&self.inner.records, Some(anchor), |_, _| ())?.0)
    }

    /// Checks every row and the audit log, and each key's state against what the log last told of it; lists all that
    /// is found. Holds the states of all versions in memory while it runs.
    ///
    /// # Errors
    /// As of [`KeyManager::verify_audit`].
    pub fn check(&self, anchor: Option<&AuditHead>) -> Result<CheckReport, ManageError> {
        check(&self.inner.records, anchor)
    }

    /// Writes the entries that the filter asks for as JSON Lines, one object each, in the order of their numbers: the
    /// fields of [`Event`](crate::Event) with `seq`; times in microseconds since 1970. Returns how many.
    ///
    /// # Errors
    /// [`ExportError`]: the store could not be read, or the output not written.
    pub fn export_audit(
        &self,
        filter: &AuditFilter,
        mut out: impl std::io::Write,
    ) -> Result<u64, ExportError> {
        const PAGE: usize = 1_000;
        let mut filter = filter.clone();
        let mut written = 0;
        loop {
            let page = self.audit(&filter, PAGE)?;
            for entry in &page {
                serde_json::to_writer(&mut out, entry).map_err(std::io::Error::from)?;
                out.write_all(b"\n")?;
                written += 1;
                filter.after = entry.seq;
            }
            if page.len() < PAGE {
                out.flush()?;
                return Ok(written);
            }
        }
    }
}

/// An export stopped; what was written before is whole lines, but for the last.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The store could not be read.
    #[error(transparent)]
    Manage(#[from] ManageError),
    /// The output could not be written.
    #[error("the export could not be written")]
    Output(#[from] std::io::Error),
}

crate::text::debug_as_told!(ExportError);

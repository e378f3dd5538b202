//! Compliance: the report, and its exports line by line.

use std::io::Write;

use crate::error::ManageError;
use crate::manager::KeyManager;
use crate::manager::log::{AuditFilter, ExportError};
use crate::report::{
    ComplianceQuery, ComplianceReport, Survey, Surveyed, compliance, concerns, key_fields, rotation_fields,
};

impl KeyManager {
    /// How old the secrets in use are against a maximum, what is excepted, what does not rotate or is not used, and what
    /// the audit log tells of rotations, which is verified for it.
    ///
    /// Reads each key that is not over once, with its versions and a month of its usage, and each entry of the audit log;
    /// holds the lists, 256 keys, and an id for each rotation of the period. Keys that change meanwhile are told as they
    /// were before or after.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read. Rows that were edited are part of the answer.
    pub fn compliance(&self, query: &ComplianceQuery) -> Result<ComplianceReport, ManageError> {
        compliance(&self.inner.records, query, self.now()?)
    }

    /// Writes a line of CSV for each key in use, in the order of their issue, after a line of names; returns how many
    /// keys. Holds 256 keys, however many there are. Lines end in CR and LF and all fields are quoted, as RFC 4180 has it;
    /// a field that a spreadsheet would take for a formula begins with an apostrophe. Keys whose rows were edited are left
    /// out: the report names them.
    ///
    /// # Errors
    /// [`ExportError`]: the store could not be read, or the output not written.
    pub fn export_compliance(
        &self,
        query: &ComplianceQuery,
        mut out: impl Write,
    ) -> Result<u64, ExportError> {
        out.write_all(key_fields(None).as_bytes())?;
        let mut survey = Survey::new(&self.inner.records, query, self.now()?);
        let mut written = 0;
        while let Some(chunk) = survey.next()? {
            for surveyed in chunk {
                if let Surveyed::Key(key) = surveyed {
                    out.write_all(key_fields(Some(&key)).as_bytes())?;
                    written += 1;
                }
            }
        }
        out.flush()?;
        Ok(written)
    }

    /// Writes a line of CSV for each entry of the audit log in the query's period that tells of a rotation, in the order of
    /// their numbers, after a line of names; returns how many entries. The form is that of
    /// [`export_compliance`](Self::export_compliance). Entries are not verified here: see
    /// [`verify_audit`](Self::verify_audit).
    ///
    /// # Errors
    /// [`ExportError`]: the store could not be read, or the output not written.
    pub fn export_rotations(&self, query: &ComplianceQuery, mut out: impl Write) -> Result<u64, ExportError> {
        const PAGE: usize = 1_000;
        out.write_all(rotation_fields(None).as_bytes())?;
        let mut filter = AuditFilter::all();
        filter = query.owner.map_or(filter.clone(), |owner| filter.owner(owner));
        let mut written = 0;
        loop {
            let page = self.audit(&filter, PAGE)?;
            for entry in &page {
                if concerns(query, &entry.event).is_some() {
                    out.write_all(rotation_fields(Some(entry)).as_bytes())?;
                    written += 1;
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => filter = filter.after(last.seq),
                _ => break,
            }
        }
        out.flush()?;
        Ok(written)
    }
}

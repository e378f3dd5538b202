//! Adopting: a key that only another system knows becomes a key here when it is used.

use std::collections::HashMap;

use crate::error::ManageError;
use crate::id::KeyId;
use crate::import::{ForeignKey, LegacyLookup, LineOutcome, LineProblem};
use crate::imported::MAX_TOKEN;
use crate::manager::act::{Act, Urgency};
use crate::manager::desk::{Batch, Desk, Named, Written};
use crate::manager::import::Terms;
use crate::manager::presented;
use crate::token::check_token;

/// A key of another system was not adopted.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The other system could not answer.
    #[error("the other system could not answer")]
    Lookup(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The other system accepts the key, and it cannot be taken over.
    #[error("the key cannot be taken over: {0}")]
    Refused(#[source] LineProblem),
    /// The store cannot be read or written.
    #[error(transparent)]
    Manage(#[from] ManageError),
}

crate::text::debug_as_told!(AdoptError);

impl Act<'_> {
    /// Asks another system for a token that validation did not know, and takes its key over if that accepts it; validate
    /// again then. To be called after a 401 and apart from it: it reads the store, asks somebody else, and writes.
    ///
    /// The store goes first: of a token that it knows, whatever has become of it, nobody else is asked, and the answer is
    /// its key. So a key that was revoked here stays revoked. Neither is anybody asked for a token of more than 512 bytes,
    /// or for one of this library's own form; `None` then, as where the other system does not know it.
    ///
    /// # Errors
    /// [`AdoptError`].
    pub fn adopt(
        self,
        token: impl AsRef<[u8]>,
        lookup: &dyn LegacyLookup,
    ) -> Result<Option<KeyId>, AdoptError> {
        let token = token.as_ref();
        let is_own = str::from_utf8(token).is_ok_and(|text| check_token(text).is_ok());
        if token.is_empty() || token.len() > MAX_TOKEN || is_own {
            return Ok(None);
        }
        let keys = self.keys;
        let records = &keys.inner.records;
        if let Some(known) = presented::imported(records, token)? {
            return Ok(Some(known.key));
        }
        let Some(mut key) = lookup.look_up(token).map_err(AdoptError::Lookup)? else { return Ok(None) };
        key.secret = None;
        key.set_token(token).map_err(AdoptError::Refused)?;
        let prefix = keys.prefix_of(None)?;
        let batch = Batch::of(named(key, records)?);
        let terms = Terms::default();
        let (written, _) = self.perform(
            &batch.operation(&terms),
            Urgency::Ordinary,
            |attempt| Desk::write(attempt, &batch, &terms, prefix, true, &HashMap::new()),
            |_, _, _| Ok((Written::Before, HashMap::new())),
        )?;
        match written {
            Written::Now(outcomes) => match outcomes.into_iter().next() {
                Some(LineOutcome::Imported { key, .. }) => Ok(Some(key)),
                Some(LineOutcome::Skipped(LineProblem::Known(key))) => Ok(Some(key)),
                Some(LineOutcome::Skipped(problem)) => Err(AdoptError::Refused(problem)),
                _ => Ok(None),
            },
            Written::Before | Written::Nothing(_) => {
                Ok(presented::imported(records, token)?.map(|version| version.key))
            }
        }
    }
}

fn named(key: ForeignKey, records: &crate::records::Records) -> Result<Named, AdoptError> {
    Named::new(Box::new(key), &records.keyring).map_err(AdoptError::Refused)
}

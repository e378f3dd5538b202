//! Generations of the master key: how far a new one has come, what still needs an old one, and its retirement.

use crate::error::ManageError;
use crate::event::{Event, EventKind};
use crate::keyring::Generation;
use crate::manager::KeyManager;
use crate::manager::act::{Act, Urgency};
use crate::report::{GenerationUse, RetiredGeneration, generations, retirement};
use crate::request::Operation;
use crate::rewrite::{self, Rewriting};

impl KeyManager {
    /// How much of the store was written under which generation of the master key: the generations that the keyring
    /// holds, and those that the store needs. Reads all rows and the audit log.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn generations(&self) -> Result<Vec<GenerationUse>, ManageError> {
        generations(&self.inner.records)
    }

    /// How far the ticks have brought all rows under a new generation of the master key; `None` as long as there was never
    /// more than one. Reads one row.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn rewriting(&self) -> Result<Option<Rewriting>, ManageError> {
        Ok(rewrite::stored(&self.inner.records)?.0.map(|pass| pass.progress()))
    }

    /// What would be lost if a generation were taken out of every keyring now. Reads all rows, and verifies the audit log.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn retirement(&self, generation: Generation) -> Result<RetiredGeneration, ManageError> {
        Ok(retirement(&self.inner.records, generation)?.0)
    }
}

impl Act<'_> {
    /// Gives a generation of the master key up, where nothing needs it any more: from then on it may be taken out of every
    /// keyring ([`Keyring::without`](crate::Keyring::without)), and its number is not to be used again. The audit log is
    /// verified, and the entry of this act vouches for all before it, so that those which were written under the generation
    /// can be verified without it.
    ///
    /// First make sure that no process has it as its current one any more: what such a process goes on writing nobody can
    /// read who does not hold it. Takes as long as [`KeyManager::check`](crate::KeyManager::check).
    ///
    /// # Errors
    /// [`ManageError::GenerationCurrent`], [`ManageError::GenerationNeeded`], and others.
    pub fn retire_generation(self, generation: Generation) -> Result<RetiredGeneration, ManageError> {
        self.retire(generation, false)
    }

    /// The same although something needs it, for one that is in wrong hands: returns what is lost, with the keys that die.
    ///
    /// # Errors
    /// [`ManageError::GenerationCurrent`] and others.
    pub fn retire_generation_by_force(
        self,
        generation: Generation,
    ) -> Result<RetiredGeneration, ManageError> {
        self.retire(generation, true)
    }

    fn retire(self, generation: Generation, by_force: bool) -> Result<RetiredGeneration, ManageError> {
        if generation == self.keys.inner.records.keyring.current() {
            return Err(ManageError::GenerationCurrent(generation));
        }
        self.perform(
            &Operation::new("retire_generation", &(generation, by_force)),
            Urgency::Always,
            |attempt| {
                let (lost, vouched) = retirement(attempt.records, generation)?;
                if lost.is_needed() && !by_force {
                    return Err(ManageError::GenerationNeeded(generation));
                }
                let subject = match vouched {
                    Some(vouched) => format!("{generation}; {vouched}"),
                    None => format!("{generation}; {} entries are lost", lost.audit_entries),
                };
                let kind = EventKind::GenerationRetired;
                let event = Event::of_subject(attempt.t, kind, attempt.context, &subject);
                attempt.changeset.record(event);
                Ok(lost)
            },
            |records, _, _| Ok(retirement(records, generation)?.0),
        )
    }
}

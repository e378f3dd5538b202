//! Restoring a backup, in somebody's name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::actor::{Actor, Context};
use crate::backup::{Restoration, RestoreError, RestoreReport};
use crate::clock::{Clock, SystemClock};
use crate::error::ManageError;
use crate::keyring::Keyring;

/// Puts a backup in place; see [`Restore::to`].
#[must_use = "nothing is restored until `to` is called"]
pub struct Restore {
    backup: PathBuf,
    keyring: Keyring,
    actor: Actor,
    reason: Option<String>,
    clock: Arc<dyn Clock>,
}

impl Restore {
    /// Begins to restore a backup that was written under this keyring, in somebody's name.
    pub fn new(backup: impl AsRef<Path>, keyring: Keyring, actor: Actor) -> Self {
        let backup = backup.as_ref().to_owned();
        Self { backup, keyring, actor, reason: None, clock: Arc::new(SystemClock) }
    }

    /// Says why: 1 to 500 bytes of visible text for the audit log.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Takes the time from this clock. Default: the system's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Makes the backup the store at a path. The backup itself is only read.
    ///
    /// Where there is no file, one is made. A store that is there may be in use: its contents are replaced in one
    /// commit, and every process that follows it loads anew, because the restored store has a new id. Keys and
    /// versions that the store in its place had revoked or purged since the backup, and owners that it had
    /// suspended, are revoked and suspended in the restored one too. All else that came after the backup is gone:
    /// keys issued since are unknown, usage is as it was, and an audit head kept from after the backup no longer
    /// anchors.
    ///
    /// # Errors
    /// [`RestoreError`]; what was in the file's place is as it was then.
    pub fn to(self, path: impl AsRef<Path>) -> Result<RestoreReport, RestoreError> {
        let Self { backup, keyring, actor, reason, clock } = self;
        let context = Context::new(actor, reason, None).map_err(ManageError::from)?;
        let restoration =
            Restoration { backup: &backup, keyring: &keyring, context: &context, now: clock.now() };
        restoration.to(path.as_ref())
    }
}

impl std::fmt::Debug for Restore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restore").field("backup", &self.backup).finish_non_exhaustive()
    }
}

//! Dead letters: what a channel could not be told, for somebody to look at, to retry or to drop.

use serde::Serialize;

use crate::error::ManageError;
use crate::event::{Event, EventKind};
use crate::id::NotificationId;
use crate::manager::KeyManager;
use crate::manager::act::{Act, Attempt, Urgency};
use crate::notification::Notification;
use crate::outbox::{OutboxEntry, dead_letters};
use crate::records::{Record, Stored};
use crate::request::Operation;
use crate::time::Timestamp;

/// A notification that a channel could not be told. It is kept for 90 days.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The channel.
    pub channel: String,
    /// What was to be told.
    pub notification: Notification,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was given up.
    pub since: Option<Timestamp>,
    /// What the notifier said last.
    pub error: Option<String>,
}

impl KeyManager {
    /// Up to `limit` dead letters of a channel, in the order of what they tell of. The channel need not be registered.
    ///
    /// # Errors
    /// [`ManageError`] when the store cannot be read.
    pub fn dead_letters(&self, channel: &str, limit: usize) -> Result<Vec<DeadLetter>, ManageError> {
        let dead = |stored: Stored<OutboxEntry>| {
            let OutboxEntry { channel, notification, attempts, done_at, error, .. } = stored.record;
            DeadLetter { channel, notification, attempts, since: done_at, error }
        };
        Ok(dead_letters(&self.inner.records, channel, limit)?.into_iter().map(dead).collect())
    }
}

impl Act<'_> {
    /// Puts a dead letter back into its channel's queue, to be tried as if for the first time. What its key has brought
    /// about since may have been told before it.
    ///
    /// # Errors
    /// [`ManageError`]: among others [`ManageError::UnknownDeadLetter`].
    pub fn retry_dead_letter(self, channel: &str, id: NotificationId) -> Result<(), ManageError> {
        self.dead_letter("retry_dead_letter", EventKind::NotificationRetried, channel, id)
    }

    /// Drops a dead letter: it will not be told.
    ///
    /// # Errors
    /// [`ManageError`]: among others [`ManageError::UnknownDeadLetter`].
    pub fn drop_dead_letter(self, channel: &str, id: NotificationId) -> Result<(), ManageError> {
        self.dead_letter("drop_dead_letter", EventKind::NotificationDropped, channel, id)
    }

    fn dead_letter(
        self,
        name: &str,
        kind: EventKind,
        channel: &str,
        id: NotificationId,
    ) -> Result<(), ManageError> {
        let channel: String = channel.chars().take(40).collect();
        self.perform(
            &Operation::new(name, &(&channel, id)),
            Urgency::Ordinary,
            |attempt| decide(attempt, kind, &channel, id),
            |_, _, _| Ok(()),
        )
    }
}

fn decide(
    attempt: &mut Attempt<'_>,
    kind: EventKind,
    channel: &str,
    id: NotificationId,
) -> Result<(), ManageError> {
    let dead = dead_letters(attempt.records, channel, usize::MAX)?;
    let stored = dead.into_iter().find(|stored| stored.record.notification.id == id);
    let Stored { record, revision } = stored.ok_or(ManageError::UnknownDeadLetter(id))?;
    let (key, owner) = (record.notification.key, record.notification.owner);
    if kind == EventKind::NotificationRetried {
        attempt.changeset.replace(record.revived(attempt.clock).draft(), revision);
    } else {
        attempt.changeset.delete(OutboxEntry::KIND, record.row_id(), revision);
    }
    let event = Event::of_subject(attempt.t, kind, attempt.context, &format!("{id} on {channel}"));
    attempt.changeset.record(Event { key, owner, ..event });
    Ok(())
}

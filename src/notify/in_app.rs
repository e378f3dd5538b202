//! Telling to the host's own code: by a call, or through a bounded queue.

use std::fmt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::notification::Notification;
use crate::notify::{Notifier, NotifyError};

/// Puts notifications into a queue from which the host takes them. While the queue is full they wait in the outbox.
///
/// Acknowledged is what lies in the queue: a process that dies loses what it had not taken out. A host that cannot
/// afford that acts in a [`Callback`].
#[derive(Clone)]
pub struct InApp(SyncSender<Notification>);

impl InApp {
    /// A queue that holds so many notifications, at least one, and its other end.
    #[must_use]
    pub fn queue(bound: usize) -> (Self, Receiver<Notification>) {
        let (sender, receiver) = sync_channel(bound.max(1));
        (Self(sender), receiver)
    }
}

impl Notifier for InApp {
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        self.0.try_send(notification.clone()).map_err(|error| match error {
            TrySendError::Full(_) => NotifyError::retry("the queue is full"),
            TrySendError::Disconnected(_) => NotifyError::retry("nobody takes from the queue any more"),
        })
    }
}

impl fmt::Debug for InApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InApp").finish_non_exhaustive()
    }
}

/// Calls the host's own code with each notification.
pub struct Callback<F>(F);

impl<F: Fn(&Notification) -> Result<(), NotifyError> + Send + Sync + 'static> Callback<F> {
    /// Calls this.
    pub fn new(call: F) -> Self {
        Self(call)
    }
}

impl<F: Fn(&Notification) -> Result<(), NotifyError> + Send + Sync + 'static> Notifier for Callback<F> {
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        (self.0)(notification)
    }
}

impl<F> fmt::Debug for Callback<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").finish_non_exhaustive()
    }
}

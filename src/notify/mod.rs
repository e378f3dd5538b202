//! Notifying: the port through which a host is told, and the channels that it registers.
//!
//! A [`Notifier`] is how one channel tells a notification. The library calls it outside any transaction, and again
//! until it has answered `Ok`: whoever is told may be told twice, and recognises that by the notification's id.

mod channels;
#[cfg(feature = "email")]
pub(crate) mod email;
pub(crate) mod in_app;
#[cfg(feature = "webhook")]
pub(crate) mod webhook;
pub(crate) mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::notification::Notification;

pub(crate) use channels::{Channel, Channels};
pub use channels::{ChannelError, ChannelFilter};

/// Why a notification was not told.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotifyError {
    /// It may succeed later: the library tries again, after a growing pause.
    #[error("{why}; to be tried again")]
    Retry {
        /// Not before so long, where the receiver has said it; at most a day is waited.
        after: Option<Duration>,
        /// What happened, in at most 200 bytes that are kept. It is shown to operators: put no secret in it.
        why: String,
    },
    /// It will not succeed: the notification becomes a dead letter.
    #[error("{why}; not to be tried again")]
    Permanent {
        /// What happened, in at most 200 bytes that are kept. It is shown to operators: put no secret in it.
        why: String,
    },
}

crate::text::debug_as_told!(NotifyError);

impl NotifyError {
    /// To be tried again.
    pub fn retry(why: impl Into<String>) -> Self {
        Self::Retry { after: None, why: why.into() }
    }

    /// To be tried again, but not before so long.
    pub fn retry_after(after: Duration, why: impl Into<String>) -> Self {
        Self::Retry { after: Some(after), why: why.into() }
    }

    /// Not to be tried again.
    pub fn permanent(why: impl Into<String>) -> Self {
        Self::Permanent { why: why.into() }
    }
}

/// How a channel tells a notification.
///
/// It is called from whatever thread ticks or delivers, by several at once for different notifications, never inside a
/// transaction. Give up in good time, best within 30 seconds: after a minute another process may try the same
/// notification. A notification that was told and not acknowledged, because the process died, is told again.
pub trait Notifier: Send + Sync + 'static {
    /// Tells it. `Ok` only once it has arrived.
    ///
    /// # Errors
    /// [`NotifyError`], which says whether to try again. A panic counts as an error to be tried again.
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError>;
}

impl<N: Notifier + ?Sized> Notifier for Arc<N> {
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        (**self).notify(notification)
    }
}

/// Tells it, and contains a panic where panics unwind.
pub(crate) fn tell(notifier: &dyn Notifier, notification: &Notification) -> Result<(), NotifyError> {
    match catch_unwind(AssertUnwindSafe(|| notifier.notify(notification))) {
        Ok(answer) => answer,
        Err(payload) => {
            // What was thrown can itself throw when it is dropped.
            std::mem::forget(payload);
            Err(NotifyError::retry("the notifier panicked"))
        }
    }
}

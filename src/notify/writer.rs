//! Telling to a writer: a line for each notification.

use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::notification::Notification;
use crate::notify::{Notifier, NotifyError};

/// How a [`WriterNotifier`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WriterFormat {
    /// One line for people.
    Human,
    /// One JSON object on each line.
    JsonLines,
}

/// Tells notifications by writing a line for each, to standard error, a file, a socket or a buffer, and flushes it.
pub struct WriterNotifier<W> {
    format: WriterFormat,
    out: Mutex<W>,
}

impl<W: Write + Send + 'static> WriterNotifier<W> {
    /// One line for people each.
    pub fn human(out: W) -> Self {
        Self { format: WriterFormat::Human, out: Mutex::new(out) }
    }

    /// One JSON object each, in the form that [`Notification`] documents.
    pub fn json_lines(out: W) -> Self {
        Self { format: WriterFormat::JsonLines, out: Mutex::new(out) }
    }

    /// The writer, with all that was written to it.
    pub fn into_inner(self) -> W {
        self.out.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write + Send + 'static> Notifier for WriterNotifier<W> {
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let line = match self.format {
            WriterFormat::Human => format!("{notification}\n"),
            WriterFormat::JsonLines => format!("{}\n", notification.to_json()),
        };
        // A writer that panicked once is asked again: it may have been one bad moment.
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| NotifyError::retry(format!("the line could not be written: {error}")))
    }
}

impl<W> fmt::Debug for WriterNotifier<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriterNotifier").field("format", &self.format).finish_non_exhaustive()
    }
}

//! A store as a stranger would write it: it hands everything on to another one, and writes down all that it is given
//! and all that it gives back, as `Debug` prints it.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use keyrota::{KeyStore, SqliteStore, Tail};

use crate::delegating::{Call, Delegating, Hooks, Turn};

pub(crate) struct Notes {
    heard: Mutex<Vec<String>>,
    loses_answer: AtomicBool,
    calls: AtomicUsize,
    /// The call at which it panics.
    falls_at: AtomicUsize,
}

pub(crate) type Eavesdropper = Delegating<SqliteStore, Notes>;

impl Eavesdropper {
    pub(crate) fn new(inner: SqliteStore) -> Self {
        let notes = Notes {
            heard: Mutex::default(),
            loses_answer: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            falls_at: AtomicUsize::new(usize::MAX),
        };
        Self::over(inner, notes)
    }

    pub(crate) fn inner(&self) -> &SqliteStore {
        &self.inner
    }
}

impl Notes {
    /// All that was said.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next commit is carried out, and fails all the same.
    pub(crate) fn lose_next_answer(&self) {
        self.loses_answer.store(true, Ordering::SeqCst);
    }

    /// Panics at a later call, counted from 0, after that call's effect.
    pub(crate) fn fall_at(&self, call: usize) {
        self.calls.store(0, Ordering::SeqCst);
        self.falls_at.store(call, Ordering::SeqCst);
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn hear(&self, text: String) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

impl Hooks for Notes {
    fn before(&self, inner: &dyn KeyStore, call: Call<'_>) -> Turn {
        self.hear(format!("{call:?}"));
        let Call::Commit(changeset) = call else { return Turn::Go };
        if let Ok(head) = inner.head() {
            let sealed = changeset.seal(head.as_ref(), Tail::default());
            self.hear(format!("{changeset:#?} {sealed:?} {sealed:#?}"));
        }
        if self.loses_answer.swap(false, Ordering::SeqCst) { Turn::GoThenFail } else { Turn::Go }
    }

    /// Passes an answer on, or panics with a message that tells what it was about.
    fn after(&self, call: Call<'_>, answer: &dyn Debug) {
        self.hear(format!("{answer:?}"));
        if matches!(call, Call::Freshness | Call::Scrub | Call::Close) {
            return;
        }
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.falls_at.load(Ordering::SeqCst) {
            let told = self.heard().split_off(self.heard().len().saturating_sub(4)).join(", ");
            panic!("planned: the store of the host, at {call:?}, after {told}");
        }
    }

    fn told(&self, what: &dyn Debug) {
        self.hear(format!("{what:?}"));
    }
}

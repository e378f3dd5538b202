//! A store that can be held up between reading something and handing it out.

use std::fmt::Debug;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use keyrota::{RowKind, SqliteStore};

use crate::delegating::{Call, Delegating, Hooks};

type Hook = Box<dyn FnOnce() + Send>;

/// What was read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    Feed,
    Get(RowKind),
}

#[derive(Default)]
pub(crate) struct HeldUp {
    hook: Mutex<Option<(Reading, Hook)>>,
    stamps: AtomicUsize,
}

pub(crate) type Slow = Delegating<SqliteStore, HeldUp>;

impl Slow {
    pub(crate) fn new(inner: SqliteStore) -> Self {
        Self::over(inner, HeldUp::default())
    }
}

impl HeldUp {
    /// What is to happen, once, after the next such reading and before anybody has its result.
    pub(crate) fn after_next(&self, reading: Reading, hook: impl FnOnce() + Send + 'static) {
        *self.hook.lock().unwrap() = Some((reading, Box::new(hook)));
    }

    /// How often it was asked for the stamp.
    pub(crate) fn stamps(&self) -> usize {
        self.stamps.load(Ordering::SeqCst)
    }
}

impl Hooks for HeldUp {
    fn after(&self, call: Call<'_>, _: &dyn Debug) {
        let reading = match call {
            Call::Feed(_) => Reading::Feed,
            Call::Get(kind, _) => Reading::Get(kind),
            Call::Stamp => {
                self.stamps.fetch_add(1, Ordering::SeqCst);
                return;
            }
            _ => return,
        };
        let hook = self.hook.lock().unwrap().take_if(|(awaited, _)| *awaited == reading);
        if let Some((_, hook)) = hook {
            hook();
        }
    }
}

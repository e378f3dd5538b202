//! A memory store with hooks: it counts its calls, decides the fate of commits, lets others act in between, and shows
//! rows as an editor would have left them.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses its part, and fails by panicking")]

#[path = "../delegating/mod.rs"]
pub(crate) mod delegating;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use delegating::{Call, Delegating, Hooks, Turn};
use keyrota::{AuditRow, KeyStore, MemoryStore, Row, RowFilter, RowKind, RowRef, StoreErrorKind};

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing was written, for certain.
    NotWritten,
    /// Nothing was written, and nobody can know.
    UnknownAndLost,
    /// It is durable, and nobody can know.
    UnknownAndDurable,
}

type Hook = Box<dyn FnOnce() + Send>;
type RowEdit = Box<dyn Fn(&mut Row) + Send + Sync>;
type AuditEdit = Box<dyn Fn(AuditRow) -> Option<AuditRow> + Send + Sync>;

pub(crate) type Hooked = Delegating<MemoryStore, Script>;

/// What is to happen.
#[derive(Default)]
pub(crate) struct Script {
    calls: Mutex<BTreeMap<&'static str, u64>>,
    fates: Mutex<VecDeque<Fate>>,
    usage_fate: Mutex<Option<Fate>>,
    before_commit: Mutex<Option<Hook>>,
    before_feed: Mutex<Option<Hook>>,
    after_stamp: Mutex<Option<Hook>>,
    before_versions: Mutex<Option<Hook>>,
    row_edit: Mutex<Option<RowEdit>>,
    audit_edit: Mutex<Option<AuditEdit>>,
}

impl Hooked {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }
}

impl Script {
    /// How often each method was called since the last `forget`.
    pub(crate) fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn forget(&self) {
        self.calls.lock().unwrap().clear();
    }

    /// The fate of the next commits, one each.
    pub(crate) fn fate(&self, fates: &[Fate]) {
        *self.fates.lock().unwrap() = fates.iter().copied().collect();
    }

    /// The fate of the next batch of usage; of one that was not written nobody knows that either.
    pub(crate) fn usage_fate(&self, fate: Fate) {
        *self.usage_fate.lock().unwrap() = Some(fate);
    }

    /// Called once before the next commit.
    pub(crate) fn before_commit(&self, hook: impl FnOnce() + Send + 'static) {
        *self.before_commit.lock().unwrap() = Some(Box::new(hook));
    }

    /// Called once before the next reading of the feed.
    pub(crate) fn before_feed(&self, hook: impl FnOnce() + Send + 'static) {
        *self.before_feed.lock().unwrap() = Some(Box::new(hook));
    }

    /// Called once when the next stamp was read, before it is told.
    pub(crate) fn after_stamp(&self, hook: impl FnOnce() + Send + 'static) {
        *self.after_stamp.lock().unwrap() = Some(Box::new(hook));
    }

    /// Called once before the versions of a key are read next.
    pub(crate) fn before_versions(&self, hook: impl FnOnce() + Send + 'static) {
        *self.before_versions.lock().unwrap() = Some(Box::new(hook));
    }

    /// Shows every row as this leaves it.
    pub(crate) fn edit_rows(&self, edit: impl Fn(&mut Row) + Send + Sync + 'static) {
        *self.row_edit.lock().unwrap() = Some(Box::new(edit));
    }

    /// Shows every audit entry as this leaves it, if at all.
    pub(crate) fn edit_audit(&self, edit: impl Fn(AuditRow) -> Option<AuditRow> + Send + Sync + 'static) {
        *self.audit_edit.lock().unwrap() = Some(Box::new(edit));
    }

    /// Shows everything as it is again.
    pub(crate) fn put_back(&self) {
        *self.row_edit.lock().unwrap() = None;
        *self.audit_edit.lock().unwrap() = None;
    }

    fn run(hook: &Mutex<Option<Hook>>) {
        let hook = hook.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
    }
}

impl Hooks for Script {
    fn before(&self, _: &dyn KeyStore, call: Call<'_>) -> Turn {
        if !matches!(call, Call::Freshness | Call::Close) {
            *self.calls.lock().unwrap().entry(call.name()).or_default() += 1;
        }
        let fate = match call {
            Call::Feed(_) => {
                Self::run(&self.before_feed);
                None
            }
            Call::Scan(RowKind::Version, RowFilter::Parent(_)) => {
                Self::run(&self.before_versions);
                None
            }
            Call::Commit(_) => {
                Self::run(&self.before_commit);
                self.fates.lock().unwrap().pop_front()
            }
            Call::AddUsage(_) => self.usage_fate.lock().unwrap().take(),
            _ => None,
        };
        match (fate, call) {
            (None, _) => Turn::Go,
            (Some(Fate::UnknownAndLost), Call::Commit(_)) => Turn::Lost,
            (Some(Fate::NotWritten | Fate::UnknownAndLost), _) => Turn::Fail(StoreErrorKind::Io),
            (Some(Fate::UnknownAndDurable), _) => Turn::GoThenFail,
        }
    }

    fn after(&self, call: Call<'_>, _: &dyn Debug) {
        if matches!(call, Call::Stamp) {
            Self::run(&self.after_stamp);
        }
    }

    fn shown(&self, row: RowRef<'_>) -> Option<Row> {
        let edit = self.row_edit.lock().unwrap();
        let mut row = edit.is_some().then(|| row.to_row())?;
        edit.as_ref()?(&mut row);
        Some(row)
    }

    fn shown_entry(&self, entry: &AuditRow) -> Option<AuditRow> {
        match &*self.audit_edit.lock().unwrap() {
            None => Some(entry.clone()),
            Some(edit) => edit(entry.clone()),
        }
    }
}

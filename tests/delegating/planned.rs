//! Fails at its N-th call, before or after the effect, once or for ever, for every N; or shows rows as an editor would
//! have left them.

use std::sync::{Arc, Mutex};

use keyrota::{KeyStore, MemoryStore, Row, RowRef, StoreErrorKind};

use super::{Call, Delegating, Hooks, Turn};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call fails and has no effect.
    Before,
    /// The call takes effect, and its answer is lost.
    After,
    /// The call fails and has no effect; of a commit nobody knows that.
    Lost,
    /// The call takes effect, and with it the process ends: nothing that it still calls has any.
    Death,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) at: u64,
    pub(crate) fault: Fault,
    /// Whether all later calls fare like it.
    pub(crate) for_ever: bool,
}

impl Plan {
    /// Each way to fail at this call.
    pub(crate) fn all_at(at: u64) -> Vec<Self> {
        let ways = [Fault::Before, Fault::After].map(|fault| [true, false].map(|for_ever| (fault, for_ever)));
        ways.into_iter().flatten().map(|(fault, for_ever)| Self { at, fault, for_ever }).collect()
    }
}

type Edit = Box<dyn Fn(&mut Row) + Send + Sync>;

#[derive(Default)]
pub(crate) struct Planned {
    /// Since they were last counted from 0.
    calls: Mutex<Vec<&'static str>>,
    plan: Mutex<Option<Plan>>,
    edit: Option<Edit>,
}

pub(crate) type PlannedStore<S = MemoryStore> = Delegating<S, Planned>;

impl PlannedStore {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }
}

impl<S: KeyStore> PlannedStore<S> {
    pub(crate) fn on(inner: S) -> Arc<Self> {
        Arc::new(Self::over(inner, Planned::default()))
    }

    pub(crate) fn editing(inner: S, edit: impl Fn(&mut Row) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self::over(inner, Planned { edit: Some(Box::new(edit)), ..Planned::default() }))
    }
}

impl Planned {
    /// Counts from 0 again.
    pub(crate) fn plan(&self, plan: Option<Plan>) {
        self.calls.lock().unwrap().clear();
        *self.plan.lock().unwrap() = plan;
    }

    /// From now on nothing has an effect.
    pub(crate) fn die(&self) {
        self.plan(Some(Plan { at: 0, fault: Fault::Before, for_ever: true }));
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.lock().unwrap().len() as u64
    }

    /// The calls by the names of their methods.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }
}

impl Hooks for Planned {
    fn before(&self, _: &dyn KeyStore, call: Call<'_>) -> Turn {
        if matches!(call, Call::Freshness | Call::Close) {
            return Turn::Go;
        }
        let number = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(call.name());
            calls.len() as u64 - 1
        };
        let Some(plan) = *self.plan.lock().unwrap() else { return Turn::Go };
        let is_later = number > plan.at && (plan.for_ever || plan.fault == Fault::Death);
        if number != plan.at && !is_later {
            return Turn::Go;
        }
        match plan.fault {
            Fault::Death if is_later => Turn::Fail(StoreErrorKind::Io),
            Fault::Lost if matches!(call, Call::Commit(_)) => Turn::Lost,
            Fault::Before | Fault::Lost => Turn::Fail(StoreErrorKind::Io),
            Fault::After | Fault::Death => Turn::GoThenFail,
        }
    }

    fn shown(&self, row: RowRef<'_>) -> Option<Row> {
        let edit = self.edit.as_ref()?;
        let mut row = row.to_row();
        edit(&mut row);
        Some(row)
    }
}

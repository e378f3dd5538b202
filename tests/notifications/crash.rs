//! A store that fails at its N-th call, before or after the effect, once or for ever, for every N: no notification is
//! lost, and each has the same id however often it is told.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use keyrota::{
    Actor, AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyId,
    KeyManager, KeyStore, ManageError, ManualClock, MemoryStore, NotificationId, NotificationKind,
    OwnerLimit, Revision, Row, RowFilter, RowKind, RowRef, Stamp, StoreError, StoreErrorKind, Timestamp,
    UsageBatch, UsageBucket, UsageEntry, UsageQuery, UsageWriter,
};

use crate::common::{DAY, HOUR, START, at, keyring, new_key};
use crate::stage::Ear;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The call fails and has no effect.
    Before,
    /// The call takes effect, and its answer is lost.
    After,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    at: u64,
    fault: Fault,
    for_ever: bool,
}

type Edit = Box<dyn Fn(&mut Row) + Send + Sync>;

/// A memory store that fails as planned, or shows rows as an editor would have left them.
pub(crate) struct Editing {
    inner: MemoryStore,
    calls: AtomicU64,
    plan: Mutex<Option<Plan>>,
    edit: Option<Edit>,
}

impl Editing {
    pub(crate) fn over(inner: MemoryStore, edit: impl Fn(&mut Row) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { edit: Some(Box::new(edit)), ..Self::new(inner) })
    }

    fn new(inner: MemoryStore) -> Self {
        Self { inner, calls: AtomicU64::new(0), plan: Mutex::default(), edit: None }
    }

    fn plan(&self, plan: Option<Plan>) {
        self.calls.store(0, Ordering::SeqCst);
        *self.plan.lock().unwrap() = plan;
    }

    fn fault(&self) -> Option<Fault> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let plan = (*self.plan.lock().unwrap())?;
        (call == plan.at || (plan.for_ever && call > plan.at)).then_some(plan.fault)
    }

    fn call<T>(&self, effect: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let io = || Err(StoreError::new(StoreErrorKind::Io, "planned"));
        match self.fault() {
            None => effect(),
            Some(Fault::Before) => io(),
            Some(Fault::After) => effect().and_then(|_| io()),
        }
    }

    fn shown<T>(&self, row: RowRef<'_>, each: impl FnOnce(RowRef<'_>) -> T) -> T {
        match &self.edit {
            None => each(row),
            Some(edit) => {
                let mut row = row.to_row();
                edit(&mut row);
                each(row.as_ref())
            }
        }
    }
}

impl KeyStore for Editing {
    fn head(&self) -> Result<Option<Head>, StoreError> {
        self.call(|| self.inner.head())
    }
    fn get(&self, kind: RowKind, id: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.call(|| self.inner.get(kind, id, &mut |row| self.shown(row, &mut *each)))
    }
    fn find(&self, kind: RowKind, unique: &str, each: &mut dyn FnMut(RowRef<'_>)) -> Result<(), StoreError> {
        self.call(|| self.inner.find(kind, unique, &mut |row| self.shown(row, &mut *each)))
    }
    fn scan(
        &self,
        kind: RowKind,
        filter: RowFilter<'_>,
        each: &mut dyn FnMut(RowRef<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.call(|| self.inner.scan(kind, filter, &mut |row| self.shown(row, &mut *each)))
    }
    fn feed(
        &self,
        since: Revision,
        limit: usize,
        each: &mut dyn FnMut(FeedItem<'_>),
    ) -> Result<FeedPage, StoreError> {
        self.call(|| self.inner.feed(since, limit, each))
    }
    fn audit(
        &self,
        query: &AuditQuery<'_>,
        each: &mut dyn FnMut(&AuditRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.call(|| self.inner.audit(query, each))
    }
    fn commit(&self, changeset: &Changeset) -> Result<Revision, CommitError> {
        let io = || StoreError::new(StoreErrorKind::Io, "planned");
        match self.fault() {
            None => self.inner.commit(changeset),
            Some(Fault::Before) => Err(CommitError::NotWritten(io())),
            Some(Fault::After) => {
                self.inner.commit(changeset)?;
                Err(CommitError::Unknown(io()))
            }
        }
    }
    fn stamp(&self) -> Result<Stamp, StoreError> {
        self.call(|| self.inner.stamp())
    }
    fn freshness(&self) -> Freshness {
        self.inner.freshness()
    }
    fn add_usage(&self, batch: &UsageBatch) -> Result<(), StoreError> {
        self.call(|| self.inner.add_usage(batch))
    }
    fn usage(
        &self,
        query: &UsageQuery<'_>,
        each: &mut dyn FnMut(UsageBucket, &UsageEntry),
    ) -> Result<(), StoreError> {
        self.call(|| self.inner.usage(query, each))
    }
    fn usage_writers(&self, each: &mut dyn FnMut(&UsageWriter)) -> Result<(), StoreError> {
        self.call(|| self.inner.usage_writers(each))
    }
    fn roll_up_usage(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.call(|| self.inner.roll_up_usage(now, limit))
    }
    fn scrub(&self) -> Result<(), StoreError> {
        self.call(|| self.inner.scrub())
    }
    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }
}

struct Scene {
    store: Arc<Editing>,
    clock: ManualClock,
    keys: KeyManager,
    ear: Ear,
    other: Ear,
}

impl Scene {
    fn new() -> Self {
        let (store, clock) = (Arc::new(Editing::new(MemoryStore::new())), ManualClock::new(at(START)));
        let (ear, other) = (Ear::new(), Ear::new());
        let keys = KeyManager::builder(Arc::clone(&store), keyring())
            .clock(clock.clone())
            .owner_limit(OwnerLimit::new(1_000).unwrap())
            .channel("ops", ear.clone())
            .channel("other", other.clone())
            .open()
            .unwrap();
        keys.tick().unwrap();
        Self { store, clock, keys, ear, other }
    }

    fn issue(&self, request: &str) -> Result<KeyId, ManageError> {
        let act = self.keys.by(Actor::operator("root")).request(request);
        act.issue(new_key(request)).map(|issued| issued.key).or_else(|error| match error {
            ManageError::AlreadyDone { key, .. } => Ok(key),
            error => Err(error),
        })
    }

    /// Ticks until all is told, an hour apart, so that leases and pauses are over.
    fn finish(&self) {
        for _ in 0..5 {
            while self.keys.tick().unwrap().more {}
            self.clock.advance(HOUR).unwrap();
        }
    }

    fn assert_told(&self, expected: &[NotificationKind], context: &str) {
        for ear in [&self.ear, &self.other] {
            let heard = ear.heard();
            let ids: BTreeSet<NotificationId> = heard.iter().map(|told| told.id).collect();
            let mut first = Vec::new();
            for told in &heard {
                if first.iter().all(|(id, _)| *id != told.id) {
                    first.push((told.id, told.kind));
                }
                let same = heard.iter().find(|other| other.id == told.id).unwrap();
                assert_eq!(same, told, "{context}: a repetition says the same");
            }
            let kinds: Vec<_> = first.into_iter().map(|(_, kind)| kind).collect();
            assert_eq!(kinds, expected, "{context}: each once, in order, by its id");
            assert_eq!(ids.len(), expected.len(), "{context}");
        }
        assert!(self.keys.check(None).unwrap().is_sound(), "{context}");
    }
}

/// Fails each call of `act`, in each way, and looks at what is told in the end.
fn each_fault(
    prepare: impl Fn(&Scene),
    act: impl Fn(&Scene) -> Result<(), ManageError>,
    repeats: bool,
    expected: &[NotificationKind],
) {
    let dry = Scene::new();
    prepare(&dry);
    dry.store.plan(None);
    act(&dry).unwrap();
    let calls = dry.store.calls.load(Ordering::SeqCst);
    dry.finish();
    dry.assert_told(expected, "without faults");
    assert!(calls > 3);
    for at in 0..calls {
        // Of many calls each has two of the four in turn.
        let all =
            [(Fault::Before, false), (Fault::After, true), (Fault::Before, true), (Fault::After, false)];
        let turn = if calls < 60 { &all[..] } else { all.chunks(2).nth(at as usize % 2).unwrap() };
        for &(fault, for_ever) in turn {
            let plan = Plan { at, fault, for_ever };
            let context = format!("{plan:?} of {calls}");
            let scene = Scene::new();
            prepare(&scene);
            scene.store.plan(Some(plan));
            let _ = act(&scene);
            scene.store.plan(None);
            if repeats {
                act(&scene).unwrap_or_else(|error| panic!("{context}: {error}"));
            }
            scene.finish();
            scene.assert_told(expected, &context);
        }
    }
}

#[test]
fn an_act_whose_store_fails_anywhere_is_told_if_it_is_done_and_once() {
    use NotificationKind::{Issued, Revoked, RotationStarted};
    each_fault(
        |scene| {
            scene.issue("first").unwrap();
        },
        |scene| {
            let key = scene.issue("first")?;
            let by = |request: &str| scene.keys.by(Actor::operator("root")).request(request.to_owned());
            match by("rotate").rotate(key) {
                Ok(_) | Err(ManageError::AlreadyDone { .. }) => {}
                Err(error) => return Err(error),
            }
            by("revoke").revoke(key)
        },
        true,
        &[Issued, Revoked],
    );
    each_fault(
        |_| (),
        |scene| {
            let key = scene.issue("first")?;
            match scene.keys.by(Actor::operator("root")).request("rotate").rotate(key) {
                Ok(_) | Err(ManageError::AlreadyDone { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        },
        true,
        &[Issued, RotationStarted],
    );
}

#[test]
fn a_delivery_whose_store_fails_anywhere_loses_nothing() {
    use NotificationKind::{Issued, RotationRolledBack, RotationStarted};
    each_fault(
        |scene| {
            let key = scene.issue("first").unwrap();
            scene.keys.by(Actor::operator("root")).rotate(key).unwrap();
            scene.keys.by(Actor::operator("root")).roll_back(key).unwrap();
        },
        |scene| {
            scene.keys.deliver("ops")?;
            scene.keys.deliver("other").map(drop)
        },
        false,
        &[Issued, RotationStarted, RotationRolledBack],
    );
}

#[test]
fn a_tick_whose_store_fails_anywhere_tells_what_time_has_brought_about() {
    use NotificationKind::{Expired, Expiring, Issued, Unused};
    each_fault(
        |scene| {
            let until = at("2027-01-16");
            scene.keys.by(Actor::operator("root")).issue(new_key("ci").until(until)).unwrap();
            while scene.keys.tick().unwrap().more {}
        },
        |scene| {
            for day in [7 * DAY + HOUR, 8 * DAY + HOUR, 14 * DAY + HOUR, 14 * DAY + 3 * HOUR, 15 * DAY] {
                let time = at(START).plus(day + HOUR).unwrap();
                scene.clock.set(keyrota::Clock::now(&scene.clock).max(time));
                while scene.keys.tick()?.more {}
            }
            Ok(())
        },
        true,
        &[Issued, Unused, Expiring, Expiring, Expired],
    );
}

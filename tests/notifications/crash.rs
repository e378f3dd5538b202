//! A store that fails at its N-th call, before or after the effect, once or for ever, for every N: no notification is
//! lost, and each has the same id however often it is told.

use std::collections::BTreeSet;
use std::sync::Arc;

use keyrota::{
    Actor, KeyId, KeyManager, ManageError, ManualClock, NotificationId, NotificationKind, OwnerLimit,
};

use crate::common::{DAY, HOUR, START, at, keyring, new_key};
use crate::delegating::planned::{Plan, PlannedStore};
use crate::stage::Ear;

struct Scene {
    store: Arc<PlannedStore>,
    clock: ManualClock,
    keys: KeyManager,
    ear: Ear,
    other: Ear,
}

impl Scene {
    fn new() -> Self {
        let (store, clock) = (PlannedStore::new(), ManualClock::new(at(START)));
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
    let calls = dry.store.calls();
    dry.finish();
    dry.assert_told(expected, "without faults");
    assert!(calls > 3);
    for at in 0..calls {
        // Of many calls each has two of the four in turn.
        let all = Plan::all_at(at);
        let turn =
            all.into_iter().enumerate().filter(|(n, _)| calls < 60 || (n + at as usize).is_multiple_of(2));
        for (_, plan) in turn {
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

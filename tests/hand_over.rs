//! A process that dies or whose store fails at any step of a hand-over, by sink, by claim or by announcement: it is
//! opened again and goes on, and in the end all has happened as if nothing had been. The steps are the calls to the store,
//! which are the places between which a process can die, and the call to the sink.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod delegating;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use common::{HOUR, Place, START, at, keyring, new_key};
use delegating::planned::{Fault, Plan, PlannedStore};
use keyrota::{
    Actor, AuditFilter, Claim, ClaimId, Claimant, ClockStart, Delivery, Handover, KeyId, KeyManager,
    KeyStore, LifecycleError, ManageError, ManualClock, Notification, Notifier, NotifyError, RotationId,
    RotationPolicy, RotationStatus, SecretSink, SinkError, Stage, Validator, VersionNo,
};

type Store = PlannedStore<Arc<dyn KeyStore>>;

/// How a successor comes to its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Sink(ClockStart),
    /// The sink refuses this often.
    Refusing(u32),
    Claim(Claimant, ClockStart),
    /// The operator rotates by hand when the time is announced.
    Announce,
}

/// Where the process dies in the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    BeforeTaking,
    AfterTaking,
}

/// The service behind the sink, which outlives the processes.
#[derive(Clone, Default)]
struct Service(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    /// The attempts: rotation, version, and secret.
    puts: Vec<(RotationId, VersionNo, String)>,
    held: Option<String>,
    refuses: u32,
    /// At the next put.
    death: Option<Death>,
    store: Option<Arc<Store>>,
}

impl SecretSink for Service {
    fn put(&self, handover: &Handover<'_>) -> Result<(), SinkError> {
        let mut taken = self.0.lock().unwrap();
        let token = handover.secret.expose().to_owned();
        taken.puts.push((handover.rotation, handover.version, token.clone()));
        let death = taken.death.take();
        if death.is_some() {
            taken.store.as_ref().unwrap().die();
        }
        if death == Some(Death::BeforeTaking) {
            return Err(SinkError::Unavailable);
        }
        if taken.refuses > 0 {
            taken.refuses -= 1;
            return Err(SinkError::Unavailable);
        }
        taken.held = Some(token);
        Ok(())
    }
}

/// A channel that acknowledges everything, and remembers it.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<Notification>>>);

impl Notifier for Ear {
    fn notify(&self, told: &Notification) -> Result<(), NotifyError> {
        self.0.lock().unwrap().push(told.clone());
        Ok(())
    }
}

struct Scene {
    place: Place,
    how: How,
    clock: ManualClock,
    store: Arc<Store>,
    keys: KeyManager,
    validator: Validator,
    service: Service,
    ear: Ear,
    /// In a process that never fails and never flushes.
    watcher: Validator,
    eyes: KeyManager,
    key: KeyId,
    old: String,
    /// What the client got, each time.
    got: Vec<String>,
    max_live: usize,
}

fn policy(how: How) -> RotationPolicy {
    let (delivery, starts) = match how {
        How::Sink(starts) => (Delivery::Sink, starts),
        How::Refusing(_) => (Delivery::Sink, ClockStart::FromDelivery),
        How::Claim(claimant, starts) => (Delivery::Sealed { claimant }, starts),
        How::Announce => (Delivery::Announce, ClockStart::FromDelivery),
    };
    RotationPolicy::builder().delivery(delivery).clock_starts(starts).build().unwrap()
}

fn open(store: &Arc<Store>, clock: &ManualClock, service: &Service, ear: &Ear) -> (KeyManager, Validator) {
    let keys = KeyManager::builder(Arc::clone(store), keyring())
        .clock(clock.clone())
        .sink(service.clone())
        .channel("ops", ear.clone())
        .open()
        .unwrap();
    let validator = keys.validator().unwrap();
    (keys, validator)
}

impl Scene {
    /// The moment before the rotation is due.
    fn new(place: Place, how: How) -> Self {
        let clock = ManualClock::new(at(START));
        let store = Store::on(place.open());
        let (service, ear) = (Service::default(), Ear::default());
        if let How::Refusing(times) = how {
            service.0.lock().unwrap().refuses = times;
        }
        let (keys, validator) = open(&store, &clock, &service, &ear);
        let new = new_key("ci").policy(policy(how)).auto_rotation(true);
        let issued = keys.by(Actor::operator("root")).issue(new).unwrap();
        let watcher = Validator::builder(place.open(), keyring()).clock(clock.clone()).open().unwrap();
        let eyes = KeyManager::builder(place.open(), keyring()).clock(clock.clone()).open().unwrap();
        let old = issued.token.expose().to_owned();
        for time in ["2027-01-02", "2027-01-31", "2027-03-01", "2027-03-24 23:00"] {
            clock.set(at(time));
            while keys.tick().unwrap().more {}
        }
        store.plan(None);
        let (key, max_live, got) = (issued.key, policy(how).max_live(), Vec::new());
        Self {
            place,
            how,
            clock,
            store,
            keys,
            validator,
            service,
            ear,
            watcher,
            eyes,
            key,
            old,
            got,
            max_live,
        }
    }

    /// A process begins, on what the last one has left.
    fn reopen(&mut self) {
        self.store = Store::on(self.place.open());
        (self.keys, self.validator) = open(&self.store, &self.clock, &self.service, &self.ear);
    }

    /// Does a step, and looks. Whoever fails at it is opened again, and does it once more.
    fn step(&mut self, act: impl Fn(&mut Self) -> Result<(), ManageError>) {
        for _ in 0..3 {
            let done = act(self);
            self.look();
            if done.is_ok() {
                return;
            }
            self.reopen();
        }
        panic!("it does not succeed without faults");
    }

    /// Something that the client has validates, and not more than may.
    fn look(&self) {
        let held = self.service.0.lock().unwrap().held.clone();
        let ours: Vec<_> = std::iter::once(&self.old).chain(held.as_ref()).chain(self.got.last()).collect();
        assert!(ours.iter().any(|token| self.watcher.validate(token).is_ok()), "nothing validates");
        for (what, token) in [("the service", held.as_ref()), ("the client", self.got.last())] {
            assert!(token.is_none_or(|token| self.watcher.validate(token).is_ok()), "{what} is denied");
        }
        let versions = self.eyes.get(self.key).unwrap().versions;
        let live = versions.iter().filter(|version| version.is_valid).count();
        assert!(live <= self.max_live, "{live} versions are valid");
        assert!(versions.len() <= 2, "minted anew: {versions:?}");
    }

    /// What the client does when it looks; `uses` it what it has?
    fn client(&mut self, uses: bool) {
        match self.how {
            How::Sink(_) | How::Refusing(_) => {}
            How::Claim(claim_by, _) => self.step(|scene| scene.claim(claim_by)),
            How::Announce => self.step(|scene| {
                let open = scene.keys.rotations(scene.key)?.into_iter().next_back();
                if open.is_none_or(|open| open.status == RotationStatus::Scheduled) {
                    return Ok(());
                }
                let act = scene.keys.by(Actor::operator("root")).request("by-hand");
                match act.rotate(scene.key) {
                    Ok(done) => scene.got.push(done.token.expose().to_owned()),
                    Err(ManageError::AlreadyDone { .. }) => {}
                    Err(error) => return Err(error),
                }
                Ok(())
            }),
        }
        self.step(|scene| {
            let held = scene.service.0.lock().unwrap().held.clone();
            let Some(token) = held.or(scene.got.last().cloned()).filter(|_| uses) else { return Ok(()) };
            // A process whose store fails cannot say; that is not what is looked at here.
            let _ = scene.validator.validate(token);
            scene.validator.flush().map(drop).map_err(ManageError::NotWritten)
        });
    }

    fn claim(&mut self, claim_by: Claimant) -> Result<(), ManageError> {
        let id = ClaimId::new("the claim that a client repeats").unwrap();
        let (act, claim) = match claim_by {
            Claimant::Holder => ("client", Claim::with_token(&self.old, id)),
            _ => ("host", Claim::for_owner(self.key, id)),
        };
        match self.keys.by(Actor::service(act)).claim(claim) {
            Ok(claimed) => self.got.push(claimed.token.expose().to_owned()),
            Err(ManageError::Lifecycle(
                LifecycleError::NothingToClaim
                | LifecycleError::NotClaimable
                | LifecycleError::AlreadyClaimed { .. },
            )) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// From the moment when the rotation is due until all of it is over.
    fn run(&mut self) {
        for (n, hours) in [1, 1, 2, 26, 30].into_iter().enumerate() {
            self.clock.advance(HOUR * hours).unwrap();
            self.step(|scene| {
                while scene.keys.tick()?.more {}
                Ok(())
            });
            self.client(n >= 2);
        }
    }

    /// What came of it: the kinds of the audit log's entries and of the notifications, with how many there are.
    fn outcome(&self) -> Outcome {
        let keys = &self.eyes;
        let info = keys.get(self.key).unwrap();
        let stages: Vec<_> =
            info.versions.iter().map(|version| (version.number.get(), version.stage)).collect();
        let ended = info.versions[0].end_reason.map(|reason| format!("{reason:?}"));
        let rotations: Vec<_> = keys.rotations(self.key).unwrap();
        let statuses = rotations.iter().map(|rotation| rotation.status).collect();
        let mut audit = BTreeMap::new();
        for entry in keys.audit(&AuditFilter::all().key(self.key), 1_000).unwrap() {
            *audit.entry(entry.event.kind.to_string()).or_insert(0) += 1;
        }
        let (mut told, heard) = (Vec::new(), self.ear.0.lock().unwrap().clone());
        let mut first = BTreeMap::new();
        for notification in heard {
            let before = first.entry(notification.id.to_string()).or_insert_with(|| {
                told.push(notification.kind.to_string());
                notification.clone()
            });
            assert_eq!(*before, notification, "a repetition says the same");
        }
        // That it has begun is not worth telling where it is active before anybody could be told.
        told.dedup();
        assert!(keys.check(None).unwrap().is_sound());
        Outcome { stages, ended, statuses, audit, told }
    }

    /// Who holds what in the end, and whether it was the same each time.
    fn assert_held(&self) {
        let taken = self.service.0.lock().unwrap();
        let mut puts = taken.puts.clone();
        puts.dedup();
        assert!(puts.len() <= 1, "what is put again differs: {puts:?}");
        let mut got = self.got.clone();
        got.dedup();
        assert!(got.len() <= 1, "what is claimed again differs");
        let held = match self.how {
            How::Sink(_) | How::Refusing(_) => taken.held.as_ref(),
            _ => got.first(),
        };
        let grant = self.watcher.validate(held.expect("nobody has it")).expect("what is held is denied");
        assert_eq!(grant.version(), VersionNo::new(2));
        assert!(self.watcher.validate(&self.old).is_err(), "the old version has left");
    }
}

#[derive(Debug, PartialEq)]
struct Outcome {
    stages: Vec<(u32, Stage)>,
    ended: Option<String>,
    statuses: Vec<RotationStatus>,
    audit: BTreeMap<String, u32>,
    told: Vec<String>,
}

/// What happens when nothing goes wrong, and the calls that it takes.
fn undisturbed(place: Place, how: How) -> (Outcome, Vec<&'static str>) {
    let mut scene = Scene::new(place, how);
    scene.run();
    scene.assert_held();
    let outcome = scene.outcome();
    assert_eq!(outcome.stages, [(1, Stage::Ended), (2, Stage::Active)], "{how:?}");
    assert_eq!(outcome.statuses, [RotationStatus::Completed], "{how:?}");
    for kind in ["rotation_completed", "version_ended"] {
        assert_eq!(outcome.audit.get(kind), Some(&1), "{how:?}: {outcome:?}");
    }
    (outcome, scene.store.names())
}

/// The ways to fail at a call of this name. A reading has no effect: a process that dies at it dies between commits.
fn ways(name: &str, at: u64) -> Vec<Plan> {
    let plan = |fault, for_ever| Plan { at, fault, for_ever };
    let (dies, once) = (plan(Fault::Before, true), plan(Fault::Before, false));
    match name {
        "commit" => {
            let lost = plan(if at.is_multiple_of(2) { Fault::Lost } else { Fault::After }, false);
            vec![dies, plan(Fault::Death, false), lost]
        }
        "add_usage" => vec![dies, plan(Fault::Death, false)],
        _ if at.is_multiple_of(2) => vec![dies],
        _ => vec![once],
    }
}

/// Plays a hand-over once for each way to fail at each of these calls; says how many there were.
fn each_failure(place: impl Fn() -> Place, how: How, which: impl Fn(usize, &str) -> bool) -> usize {
    let (expected, calls) = undisturbed(place(), how);
    let mut played = 0;
    for (at, name) in calls.iter().enumerate().filter(|(at, name)| which(*at, name)) {
        for plan in ways(name, at as u64) {
            let context = format!("{how:?}, {plan:?} ({name}) of {}", calls.len());
            let run = std::panic::AssertUnwindSafe(|| {
                let mut scene = Scene::new(place(), how);
                scene.store.plan(Some(plan));
                scene.run();
                scene.assert_held();
                assert_eq!(scene.outcome(), expected);
            });
            if std::panic::catch_unwind(run).is_err() {
                panic!("{context}");
            }
            played += 1;
        }
    }
    played
}

/// At each commit, and at one in so many of the other calls; `KEYROTA_HAND_OVER=1` takes all of them.
fn everywhere(how: How) {
    let share = std::env::var("KEYROTA_HAND_OVER").map_or(13, |text| text.parse().unwrap());
    let played = each_failure(Place::memory, how, |at, name| name == "commit" || at % share == 0);
    assert!(played > 50, "{how:?}: {played}");
}

#[test]
fn a_delivery_by_sink_that_dies_or_fails_anywhere_ends_as_if_it_had_not() {
    everywhere(How::Sink(ClockStart::FromDelivery));
    everywhere(How::Sink(ClockStart::FromFirstUse));
}

#[test]
fn a_delivery_to_a_sink_that_refuses_at_first_does_so_too() {
    everywhere(How::Refusing(2));
}

#[test]
fn a_claim_that_dies_or_fails_anywhere_ends_as_if_it_had_not() {
    everywhere(How::Claim(Claimant::Holder, ClockStart::FromDelivery));
    everywhere(How::Claim(Claimant::Owner, ClockStart::FromFirstUse));
}

#[test]
fn an_announced_rotation_that_dies_or_fails_anywhere_ends_as_if_it_had_not() {
    everywhere(How::Announce);
}

#[cfg(feature = "sqlite")]
#[test]
fn the_same_at_each_commit_on_sqlite() {
    each_failure(Place::sqlite, How::Sink(ClockStart::FromDelivery), |_, name| name == "commit");
}

/// The sink is no part of the store: it may have the secret or not when the process ends within it.
#[test]
fn a_process_that_dies_in_the_sink_leaves_the_same_secret_to_the_next_one() {
    for how in [How::Sink(ClockStart::FromDelivery), How::Sink(ClockStart::FromFirstUse)] {
        for death in [Death::BeforeTaking, Death::AfterTaking] {
            common::on_both_places(|place| {
                let (expected, _) = undisturbed(Place::memory(), how);
                let mut scene = Scene::new(place, how);
                {
                    let mut taken = scene.service.0.lock().unwrap();
                    (taken.death, taken.store) = (Some(death), Some(Arc::clone(&scene.store)));
                }
                scene.run();
                scene.assert_held();
                let taken = scene.service.0.lock().unwrap().puts.len();
                assert_eq!(scene.outcome(), expected, "{how:?} {death:?}");
                assert_eq!(taken, 2, "{how:?} {death:?}");
            });
        }
    }
}

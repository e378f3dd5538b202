//! The library under test, two hosts of it, and the steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keyrota::{
    Act, Actor, AuditFilter, AutoRotation, Claim, ClaimId, Claimant, Clock as _, ClockStart, Delivery,
    EditKey, KeyId, KeyManager, KeyStore as _, Keyring, LifecycleError, ManageError, ManualClock,
    MemoryStore, NewKey, OwnerId, OwnerLimit, ReadError, Replace, Retirement, Revoke, RollBack, RotateNow,
    RotationPolicy, Timestamp, Validator, VersionNo,
};

use super::On;
use super::claims::Memory;
use super::outside::{Ear, Service};
use super::steps::{Op, Pass, Step, Whose};
use crate::faulty::{Disk, Faulty};
use crate::site::Backing;

const HOUR: Duration = Duration::from_secs(3_600);
pub const DAY: Duration = Duration::from_secs(86_400);
const OWNERS: [&str; 2] = ["ada", "bob"];
pub const SKEW: Duration = Duration::from_secs(20);

pub struct Host {
    pub store: Arc<Faulty>,
    pub clock: ManualClock,
    pub keys: KeyManager,
    pub validator: Validator,
}

/// What a client of a key has.
#[derive(Clone, Default)]
pub struct Client {
    pub uses: String,
    /// What it has got, and switches to when it looks next.
    pub next: Option<String>,
}

/// An act of denial that was in trouble.
pub struct Doubt {
    pub key: KeyId,
    pub act: Doubted,
    /// Whether the process has to deny by it: it could still do something when it had failed.
    pub denies: bool,
}

pub enum Doubted {
    /// A version, or the key.
    Revoke(Option<VersionNo>),
    Replace,
}

pub struct World {
    backing: Backing,
    pub disk: Arc<Disk>,
    pub hosts: Vec<Host>,
    /// On a handle that never fails, of a process that never flushes.
    pub eyes: KeyManager,
    pub watcher: Validator,
    pub clock: ManualClock,
    pub service: Service,
    pub ear: Ear,
    pub keys: Vec<KeyId>,
    pub clients: BTreeMap<KeyId, Client>,
    /// All tokens that anybody ever got.
    pub tokens: Vec<(KeyId, VersionNo, String)>,
    pub memory: Memory,
    /// Acts of denial of which nobody knows whether they were recorded. Both hosts live in one process, in which they
    /// are denied by until somebody knows, also when a host was opened anew.
    pub doubts: Vec<Doubt>,
    pub steps: usize,
    /// Whether anything has gone wrong at this step.
    pub troubled: bool,
    /// Whether notifications may have been given up, by the time that has passed or by hand.
    pub given_up: bool,
    #[cfg(feature = "sqlite")]
    _folder: Option<tempfile::TempDir>,
}

pub fn keyring() -> Keyring {
    Keyring::from_bytes(b"\x81\x02\xd3\x44\xa5\x06\xf7\x08\x19\xea\x0b\x8c\x0d\x7e\x0f\x10\x91\x12\xc3\x14\x15\xb6\x17\x18\xf9\x1a\x2b\x1c\x9d\x1e\x3f\x20")
        .unwrap()
}

pub fn policy(number: usize) -> RotationPolicy {
    let builder = RotationPolicy::builder();
    let when_unused =
        |at_most: u32| Retirement::WhenUnused { quiet_for: 2 * DAY, at_most: at_most * DAY, notice: DAY };
    let built = match number {
        0 => builder.rotate_every(12 * DAY).overlap(DAY),
        1 => builder.rotate_every(9 * DAY).overlap(DAY).delivery(Delivery::Sink),
        2 => builder
            .rotate_every(10 * DAY)
            .overlap(2 * DAY)
            .delivery(Delivery::Sealed { claimant: Claimant::Owner })
            .clock_starts(ClockStart::FromFirstUse),
        3 => builder.rotate_every(8 * DAY).overlap(DAY).retirement(Retirement::KeepPrevious(1)),
        4 => builder
            .rotate_every(14 * DAY)
            .overlap(DAY)
            .retirement(when_unused(8))
            .clock_starts(ClockStart::FromFirstUse),
        5 => builder.rotate_every(10 * DAY).overlap(DAY).delivery(Delivery::Announce),
        6 => builder
            .rotate_every(11 * DAY)
            .overlap(DAY)
            .delivery(Delivery::Sink)
            .retirement(when_unused(6))
            .clock_starts(ClockStart::FromFirstUse),
        _ => builder.rotate_every(6 * DAY).overlap(12 * HOUR),
    };
    built.build().unwrap()
}

fn owner(number: usize) -> OwnerId {
    OwnerId::new(OWNERS[number]).unwrap()
}

/// Whether the store failed at it, so that it may be done or not.
pub fn is_trouble(error: &ManageError) -> bool {
    matches!(
        error,
        ManageError::OutcomeUnknown { .. }
            | ManageError::NotWritten(_)
            | ManageError::Busy
            | ManageError::Read(ReadError::Store(_))
    )
}

impl World {
    pub fn new(on: On) -> Self {
        #[cfg(feature = "sqlite")]
        let folder = (on == On::Sqlite).then(|| {
            let shared = std::path::Path::new("/dev/shm");
            if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap()
        });
        let backing = match on {
            On::Memory => Backing::Memory(MemoryStore::new()),
            #[cfg(feature = "sqlite")]
            On::Sqlite => Backing::Sqlite(folder.as_ref().unwrap().path().join("keys.db")),
        };
        let clock = ManualClock::new("2027-01-01T00:00:00Z".parse().unwrap());
        let disk = Arc::<Disk>::default();
        let (service, ear) = (Service::new(), Ear::new());
        // The founding commit is entered in the ledger like all others.
        let founder = KeyManager::builder(Faulty::new(backing.open(), Arc::clone(&disk)), keyring());
        let founder =
            founder.clock(clock.clone()).policy(policy(0)).owner_limit(OwnerLimit::new(50).unwrap());
        founder.open().unwrap().close().unwrap();
        let eyes = KeyManager::builder(backing.open(), keyring()).clock(clock.clone()).open().unwrap();
        let watcher = Validator::builder(backing.open(), keyring()).clock(clock.clone()).open().unwrap();
        let mut world = Self {
            backing,
            disk,
            hosts: Vec::new(),
            eyes,
            watcher,
            clock,
            service,
            ear,
            keys: Vec::new(),
            clients: BTreeMap::new(),
            tokens: Vec::new(),
            memory: Memory::default(),
            doubts: Vec::new(),
            steps: 0,
            troubled: false,
            given_up: false,
            #[cfg(feature = "sqlite")]
            _folder: folder,
        };
        world.memory.deployment(&policy(0));
        for _ in 0..2 {
            let host = world.host();
            world.hosts.push(host);
        }
        world.set_clock(world.clock.now());
        world
    }

    fn host(&self) -> Host {
        let store = Faulty::new(self.backing.open(), Arc::clone(&self.disk));
        let clock = ManualClock::new(self.clock.now());
        let keys = KeyManager::builder(Arc::clone(&store), keyring())
            .clock(clock.clone())
            .sink(self.service.clone())
            .channel("ops", self.ear.clone())
            .open()
            .unwrap();
        let validator = keys.validator().unwrap();
        Host { store, clock, keys, validator }
    }

    pub fn reopen(&mut self, host: usize) {
        let opened = self.host();
        // The last process ends without a farewell.
        std::mem::forget(std::mem::replace(&mut self.hosts[host], opened).validator);
        self.set_clock(self.clock.now());
    }

    pub fn set_clock(&mut self, now: Timestamp) {
        self.clock.set(now);
        self.hosts[0].clock.set(now);
        self.hosts[1].clock.set(now.plus(SKEW).unwrap());
    }

    pub fn t(&self) -> Timestamp {
        self.eyes.now().unwrap()
    }

    fn key(&self, back: usize) -> Option<KeyId> {
        let count = self.keys.len();
        (count > 0).then(|| self.keys[count - 1 - back % count])
    }

    #[track_caller]
    pub fn holds(&self, held: Result<(), String>) {
        if let Err(broken) = held {
            panic!("{broken}");
        }
    }

    /// A host that has died is opened again.
    fn revive(&mut self, host: usize) {
        self.troubled |= self.hosts[host].store.disarm();
        if self.hosts[host].store.is_dead() {
            self.reopen(host);
        }
    }

    /// An act under a request id. Whoever does not know what came of it repeats it, at two steps of three.
    fn act<T>(
        &mut self,
        host: usize,
        act: impl Fn(Act<'_>) -> Result<T, ManageError>,
    ) -> Result<T, ManageError> {
        let request = format!("r{}", self.steps);
        let mut result = act(self.hosts[host].keys.by(Actor::operator("root")).request(request.clone()));
        let full = self.hosts[host].store.is_full();
        self.revive(host);
        if let Err(error) = &result
            && is_trouble(error)
        {
            assert!(self.troubled || full, "an act failed, and nothing else had: {error}");
            if !self.steps.is_multiple_of(3) {
                result = act(self.hosts[host].keys.by(Actor::operator("root")).request(request));
            }
        }
        result
    }

    pub fn step(&mut self, step: &Step) {
        self.steps += 1;
        self.troubled = false;
        let host = step.host;
        if self.steps.is_multiple_of(5) {
            self.hosts.iter().for_each(|host| host.store.make_room());
        }
        if let Some((site, at)) = step.fault {
            self.hosts[host].store.arm(at, site);
        }
        if let Some(at) = step.other_ticks {
            let other = self.hosts[1 - host].keys.clone();
            self.hosts[host].store.let_in(at, move || drop(other.tick()));
        }
        self.take(step);
        self.revive(host);
        self.look(host);
    }

    fn take(&mut self, step: &Step) {
        let host = step.host;
        match step.op {
            Op::Pass(pass) => self.pass(host, pass),
            Op::Tick => self.tick(step),
            Op::Deliver => {
                let done = self.hosts[host].keys.deliver("ops");
                let full = self.hosts[host].store.is_full();
                self.revive(host);
                assert!(done.is_ok() || self.troubled || full, "{done:?}");
            }
            Op::Flush => {
                let done = self.hosts[host].validator.flush();
                let full = self.hosts[host].store.is_full();
                self.revive(host);
                assert!(done.is_ok() || self.troubled || full, "{done:?}");
                // What nobody uses is known when all have told.
                drop(self.hosts[1 - host].validator.flush());
            }
            Op::Reopen { flushes } => {
                self.revive(host);
                if flushes {
                    drop(self.hosts[host].validator.close());
                }
                self.reopen(host);
            }
            Op::Sink(mood) => self.service.held().mood = mood,
            Op::Ear(mood) => self.ear.heard().mood = mood,
            Op::Issue { owner: of, policy: own, auto, days } => self.issue(host, of, own, auto, days),
            Op::Suspend { owner: of } => drop(self.act(host, |act| act.suspend(owner(of)))),
            Op::Resume { owner: of } => drop(self.act(host, |act| act.resume(owner(of)))),
            Op::SetPolicy { policy: number } => {
                self.memory.deployment(&policy(number));
                drop(self.act(host, |act| act.set_policy(policy(number))));
            }
            Op::Management { on } => drop(self.act(host, |act| act.set_management(on))),
            Op::Purge => drop(self.act(host, |act| act.purge(10 * DAY))),
            Op::DeadLetters { drop: drops } => self.dead_letters(host, drops),
            Op::Auto { whose, on } => {
                let whose = match whose {
                    Whose::Key(key) => self.key(key).map(AutoRotation::Key),
                    Whose::Owner(of) => Some(AutoRotation::Owner(owner(of))),
                    Whose::Deployment => Some(AutoRotation::Deployment),
                };
                if let Some(whose) = whose {
                    drop(self.act(host, |act| act.set_auto_rotation(whose, on)));
                }
            }
            Op::Look { key, .. }
            | Op::Claim { key, .. }
            | Op::Schedule { key, .. }
            | Op::Cancel { key }
            | Op::Rotate { key, .. }
            | Op::RollBack { key, .. }
            | Op::Replace { key, .. }
            | Op::Deprecate { key }
            | Op::RevokeKey { key }
            | Op::RevokeVersion { key, .. }
            | Op::EditPolicy { key, .. } => {
                if let Some(key) = self.key(key) {
                    self.of_key(step, key);
                }
            }
        }
    }

    fn of_key(&mut self, step: &Step, key: KeyId) {
        let host = step.host;
        match step.op {
            Op::Look { claims, .. } => self.client(step, key, claims),
            Op::Claim { id, owner: true, .. } => {
                let id = ClaimId::new(format!("the owner's claim number {id}")).unwrap();
                let done = self.act(host, |act| act.claim(Claim::for_owner(key, id.clone())));
                drop(done.map(|claimed| self.claimed(key, &id, &claimed)));
            }
            Op::Claim { id, .. } => {
                let id = ClaimId::new(format!("a holder's claim number {id}")).unwrap();
                let token = self.clients[&key].uses.clone();
                let done = self.act(host, |act| act.claim(Claim::with_token(&token, id.clone())));
                drop(done.map(|claimed| self.claimed(key, &id, &claimed)));
            }
            Op::Schedule { days, .. } => {
                let at = self.t().plus(days * DAY).unwrap();
                drop(self.act(host, |act| act.schedule(key, at)));
            }
            Op::Cancel { .. } => {
                self.memory.decided(key);
                drop(self.act(host, |act| act.cancel(key)));
            }
            Op::Rotate { supersede, .. } => {
                let how = || if supersede { RotateNow::of(key).supersede() } else { RotateNow::of(key) };
                let done = self.act(host, |act| act.rotate(how()));
                if supersede || matches!(&done, Err(error) if is_trouble(error)) {
                    self.memory.decided(key);
                }
                if let Ok(done) = done {
                    self.shown(key, done.version, done.token.expose());
                }
            }
            Op::Replace { grace, .. } => {
                self.memory.decided(key);
                let how = || if grace { Replace::of(key).grace(HOUR) } else { Replace::of(key) };
                match self.act(host, |act| act.replace(how())) {
                    Ok(done) => self.shown(key, done.version, done.token.expose()),
                    Err(error) if is_trouble(&error) => {
                        self.doubts.push(Doubt { key, act: Doubted::Replace, denies: false });
                    }
                    Err(_) => {}
                }
            }
            Op::RollBack { compromised, .. } => {
                self.memory.decided(key);
                let how = || if compromised { RollBack::of(key).compromised() } else { RollBack::of(key) };
                drop(self.act(host, |act| act.roll_back(how())));
            }
            Op::Deprecate { .. } => {
                self.memory.decided(key);
                drop(self.act(host, |act| act.deprecate(key)));
            }
            Op::RevokeKey { .. } => self.revoke(host, key, None),
            Op::RevokeVersion { back, .. } => {
                let versions = self.eyes.get(key).map_or(0, |info| info.versions.len());
                let number = versions.saturating_sub(back).max(1);
                self.revoke(host, key, Some(VersionNo::new(number as u32)));
            }
            Op::EditPolicy { policy: number, .. } => {
                let own = number.map(policy);
                self.memory.policy(key, own.as_ref());
                drop(self.act(host, |act| act.edit(EditKey::of(key).policy(own).widen())));
            }
            _ => unreachable!("not about a key"),
        }
    }

    fn issue(&mut self, host: usize, of: usize, own: Option<usize>, auto: Option<bool>, days: Option<u32>) {
        let name = format!("key-{}", self.steps);
        let until = days.map(|days| self.t().plus(days * DAY).unwrap());
        let new = || {
            let mut new = NewKey::new(owner(of), name.clone()).unwrap();
            if let Some(number) = own {
                new = new.policy(policy(number));
            }
            if let Some(on) = auto {
                new = new.auto_rotation(on);
            }
            until.map_or(new.clone(), |until| new.until(until))
        };
        match self.act(host, |act| act.issue(new())) {
            Ok(issued) => {
                self.keys.push(issued.key);
                self.memory.policy(issued.key, own.map(policy).as_ref());
                let token = issued.token.expose().to_owned();
                self.clients.insert(issued.key, Client { uses: token.clone(), next: None });
                self.shown(issued.key, issued.version, &token);
            }
            Err(error) => assert!(
                is_trouble(&error)
                    || matches!(
                        error,
                        ManageError::ManagementDisabled
                            | ManageError::Lifecycle(LifecycleError::OwnerSuspended)
                            | ManageError::OwnerLimitReached { .. }
                    ),
                "{error}"
            ),
        }
    }

    /// A secret came out.
    fn shown(&mut self, key: KeyId, version: VersionNo, token: &str) {
        self.holds_mut(|world| world.memory.secret((key, version), token));
        if !self.tokens.iter().any(|(.., known)| known == token) {
            self.tokens.push((key, version, token.to_owned()));
        }
        if let Some(client) = self.clients.get_mut(&key) {
            client.next = Some(token.to_owned());
        }
    }

    fn holds_mut(&mut self, check: impl FnOnce(&mut Self) -> Result<(), String>) {
        let held = check(self);
        self.holds(held);
    }

    fn claimed(&mut self, key: KeyId, id: &ClaimId, claimed: &keyrota::RotatedKey) {
        assert_eq!(claimed.key, key);
        let token = claimed.token.expose().to_owned();
        self.holds_mut(|world| world.memory.claimed((key, claimed.version), id, &token));
        self.shown(key, claimed.version, &token);
    }

    fn revoke(&mut self, host: usize, key: KeyId, version: Option<VersionNo>) {
        self.memory.decided(key);
        let what = || match version {
            Some(version) => Revoke::of((key, version)),
            None => Revoke::of(key),
        };
        match self.act(host, |act| act.revoke(what())) {
            Ok(()) => self.memory.revoked(key, version),
            Err(error) if is_trouble(&error) => {
                let denies = !self.hosts[host].store.is_dead();
                self.doubts.push(Doubt { key, act: Doubted::Revoke(version), denies });
            }
            Err(_) => {}
        }
    }

    /// A client uses its token, and does as it is told.
    fn client(&mut self, step: &Step, key: KeyId, claims: bool) {
        let host = step.host;
        let put: Vec<_> = std::mem::take(&mut self.service.held().new);
        for (of, version, token) in put {
            self.shown(of, version, &token);
        }
        let client = self.clients.get_mut(&key).unwrap();
        if let Some(next) = client.next.take() {
            client.uses = next;
        }
        let token = client.uses.clone();
        let Ok(grant) = self.hosts[host].validator.validate(&token) else { return };
        let Some(successor) = grant.successor().filter(|_| claims) else { return };
        let id = ClaimId::new(format!("the client's claim after {key} {}", grant.version())).unwrap();
        match self.act(host, |act| act.claim(Claim::with_token(&token, id.clone()))) {
            Ok(claimed) => {
                assert_eq!(claimed.old_version, Some(grant.version()));
                self.claimed(key, &id, &claimed);
            }
            Err(error) => {
                let excused = is_trouble(&error)
                    || self.troubled
                    || step.other_ticks.is_some()
                    || self.t() >= successor.claim_by
                    || matches!(error, ManageError::Lifecycle(LifecycleError::AlreadyClaimed { .. }));
                assert!(excused, "I1: the successor that {token:?} was told of cannot be had: {error}");
            }
        }
    }

    fn dead_letters(&mut self, host: usize, drops: bool) {
        let Ok(dead) = self.hosts[host].keys.dead_letters("ops", 100) else { return };
        for letter in dead {
            let id = letter.notification.id;
            self.given_up |= drops;
            drop(self.act(host, |act| match drops {
                true => act.drop_dead_letter("ops", id),
                false => act.retry_dead_letter("ops", id),
            }));
            self.steps += 1_000_000;
        }
        self.steps %= 1_000_000;
    }

    fn pass(&mut self, host: usize, pass: Pass) {
        let now = self.clock.now();
        let forth = |span: Duration| now.plus(span).unwrap();
        let to = match pass {
            Pass::ToDue(off) => {
                let due = self.eyes.plan(now).ok().and_then(|plan| plan.next_due);
                let due = due.filter(|due| due.since(now) < 29 * DAY).unwrap_or(forth(DAY));
                Timestamp::from_unix_micros(due.unix_micros() + off).unwrap().max(now)
            }
            Pass::Minutes(minutes) => forth(Duration::from_secs(60) * minutes),
            Pass::Hours(hours) => forth(HOUR * hours),
            Pass::Back { hours } => now.minus_or_min(HOUR * hours),
            Pass::Leap { days } => forth(DAY * days),
        };
        self.set_clock(to);
        match pass {
            Pass::Back { .. } => self.memory.forget(),
            Pass::Leap { .. } => {
                self.given_up = true;
                drop(self.act(host, |act| act.confirm_clock(to)));
            }
            _ => {}
        }
    }

    /// Rule 13: what was planned is done; and where nothing is left, a second one writes nothing.
    fn tick(&mut self, step: &Step) {
        let host = step.host;
        let calm = step.fault.is_none() && step.other_ticks.is_none();
        let now = self.hosts[host].clock.now();
        let plan = self.hosts[host].keys.plan(now);
        let seq = self.eyes.audit_head().unwrap().seq;
        let report = self.hosts[host].keys.tick();
        let full = self.hosts[host].store.is_full();
        self.revive(host);
        let report = match report {
            Ok(report) => report,
            Err(error) => {
                return assert!(self.troubled || full, "a tick failed, and nothing else had: {error}");
            }
        };
        self.given_up |= report.dropped > 0;
        let (Ok(plan), true, false) = (plan, calm, full) else { return };
        let done = self.eyes.audit(&AuditFilter::all().after(seq), 10_000).unwrap();
        let same = plan.events.iter().zip(&done).all(|(planned, done)| {
            let done = &done.event;
            (planned.kind, planned.at, planned.key, planned.version, planned.until)
                == (done.kind, done.at, done.key, done.version, done.until)
        });
        assert!(same && done.len() >= plan.events.len(), "I5: planned {plan}, and done {done:?}");
        if !report.more {
            let revision = || self.hosts[host].store.head().unwrap().unwrap().revision;
            let before = revision();
            let again = self.hosts[host].keys.tick().unwrap();
            assert_eq!(before, revision(), "I5: a second tick writes: {report:?}, {again:?}");
        }
    }
}

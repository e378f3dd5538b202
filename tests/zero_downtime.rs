//! Zero downtime as a property: random policies, clients and misfortunes over years of injected time. Whoever acts before
//! the deadlines that it was told, in the library's own time, is never denied, but for suspension.
//!
//! ```text
//! KEYROTA_ZD_SEED=17 cargo test --test zero_downtime        this seed only
//! KEYROTA_ZD_SEEDS=5000 cargo test --release --test zero_downtime
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod delegating;
mod rotating;

use std::sync::Arc;
use std::time::Duration;

use common::{DAY, HOUR, Place, at, keyring, new_key, owner};
use delegating::planned::{Fault, Plan, PlannedStore};
use keyrota::{
    Actor, Claim, ClaimId, Clock as _, ClockStart, ClockState, Delivery, DenialReason, KeyId, KeyManager,
    KeyStore, LifecycleError, ManageError, ManualClock, OwnerLimit, ReadError, Retirement, RotationPolicy,
    SinkError, Timestamp, Validator,
};
use rotating::FlakySink;

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.roll() >> 11) % n
    }

    /// Once in `n` times.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn span(&mut self, from: Duration, to: Duration) -> Duration {
        from + Duration::from_secs(self.below((to.saturating_sub(from)).as_secs().max(1)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// Claims and switches as soon as it sees a successor.
    Prompt,
    /// Claims, and switches, at the last moment.
    Late,
    /// Claims, claims again, and tries another id.
    Twice,
    /// Loses the answer to its claim, and repeats it.
    Loses,
    /// Ten processes with one token, each with an id of its own, that share what one of them got.
    Pods,
    /// Never claims; its owner does when it is denied.
    Never,
    /// Runs on what the sink was given.
    Service,
}

/// One process of a client.
struct Pod {
    token: String,
    id: ClaimId,
    /// When it was granted last, until when by that grant, and whether a successor showed.
    last: Option<(Timestamp, Option<Timestamp>)>,
    shown: bool,
    repeats: bool,
    /// Whether something happened while it had its token and did not use it yet.
    excused: bool,
}

struct World {
    seed: u64,
    dice: Dice,
    place: Place,
    clock: ManualClock,
    /// The manager's, which may die at a call.
    store: Arc<Store>,
    keys: KeyManager,
    validator: Validator,
    sink: FlakySink,
    policy: RotationPolicy,
    client: Client,
    key: KeyId,
    pods: Vec<Pod>,
    /// What the client's processes share.
    newest: String,
    /// The longest time between two looks of a process that pays attention.
    pace: Duration,
    suspended: bool,
    /// Since when something kept the ticks from making a successor in time, of the version in use.
    troubled: bool,
    /// When something was due next, at the last tick.
    due: Option<Timestamp>,
    sink_down: bool,
    /// How many secrets of the sink the service has seen.
    put: usize,
    rotations: u32,
    denied: u32,
}

fn policy(dice: &mut Dice) -> (RotationPolicy, Client) {
    let clients = [
        Client::Prompt,
        Client::Late,
        Client::Twice,
        Client::Loses,
        Client::Pods,
        Client::Never,
        Client::Service,
    ];
    loop {
        let client = clients[dice.below(clients.len() as u64) as usize];
        let every = dice.span(5 * DAY, 200 * DAY);
        let overlap = match dice.below(4) {
            0 if matches!(client, Client::Prompt | Client::Late) => Duration::ZERO,
            0 | 1 => DAY,
            _ => dice.span(6 * HOUR, 20 * DAY),
        };
        let retirement = match dice.below(3) {
            0 => Retirement::After,
            1 => Retirement::KeepPrevious(1 + dice.below(3) as u8),
            _ => {
                let (quiet_for, notice) = (dice.span(DAY, 10 * DAY), DAY);
                Retirement::WhenUnused { quiet_for, at_most: quiet_for + notice + 3 * DAY, notice }
            }
        };
        let clock_starts = if dice.one_in(2) { ClockStart::FromDelivery } else { ClockStart::FromFirstUse };
        let delivery = if client == Client::Service { Delivery::Sink } else { Delivery::default() };
        let builder = RotationPolicy::builder().rotate_every(every).overlap(overlap).retirement(retirement);
        let jitter = if dice.one_in(3) { dice.span(HOUR, every / 3) } else { Duration::ZERO };
        let builder = builder.clock_starts(clock_starts).delivery(delivery).jitter(jitter);
        let builder = if dice.one_in(4) { builder.max_live(5 + dice.below(4) as u8) } else { builder };
        if let Ok(policy) = builder.build() {
            return (policy, client);
        }
    }
}

type Store = PlannedStore<Arc<dyn KeyStore>>;

fn open(place: &Place, clock: &ManualClock, sink: &FlakySink) -> (Arc<Store>, KeyManager, Validator) {
    let store = Store::on(place.open());
    let keys = KeyManager::builder(Arc::clone(&store), keyring())
        .clock(clock.clone())
        .sink(sink.clone())
        .owner_limit(OwnerLimit::new(1_000).unwrap())
        .open()
        .unwrap();
    let validator = Validator::builder(place.open(), keyring()).clock(clock.clone()).open().unwrap();
    (store, keys, validator)
}

impl World {
    fn new(seed: u64, place: Place) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..8 {
            dice.roll();
        }
        let (policy, client) = policy(&mut dice);
        let clock = ManualClock::new(at(common::START));
        let sink = FlakySink::default();
        let (store, keys, validator) = open(&place, &clock, &sink);
        let issued =
            keys.by(Actor::operator("root")).issue(new_key("ci").auto_rotation(true).policy(policy)).unwrap();
        let token = issued.token.expose().to_owned();
        let room =
            if policy.overlap().is_zero() { policy.lead() } else { policy.overlap().min(policy.lead()) };
        let pods = (0..if client == Client::Pods { 10 } else { 1 }).map(|_| Pod::new(&token)).collect();
        Self {
            seed,
            dice,
            place,
            clock,
            store,
            keys,
            validator,
            sink,
            policy,
            client,
            key: issued.key,
            pods,
            newest: token,
            pace: (room / 8).min(DAY / 3),
            suspended: false,
            troubled: false,
            due: None,
            sink_down: false,
            put: 0,
            rotations: 0,
            denied: 0,
        }
    }

    fn fail(&self, why: &str) -> ! {
        panic!(
            "seed {}: {why}, at {}\n{:?} under {:#?}\n{:#?}",
            self.seed,
            self.now(),
            self.client,
            self.policy,
            self.story()
        );
    }

    /// The last things that were recorded.
    fn story(&self) -> Vec<String> {
        let all = self.keys.audit(&keyrota::AuditFilter::all(), 10_000).unwrap();
        let line = |entry: &keyrota::AuditEntry| {
            let event = &entry.event;
            let version = event.version.map_or(String::new(), |version| version.to_string());
            format!(
                "{} {} {version} until {:?}",
                event.at,
                event.kind,
                event.until.map(|until| until.to_string())
            )
        };
        all.iter().rev().take(25).rev().map(line).collect()
    }

    fn now(&self) -> Timestamp {
        self.keys.now().unwrap()
    }

    /// Lets time pass: in small steps while something is about to happen, in large ones otherwise.
    fn pass(&mut self) {
        let now = self.now();
        let calm = self.pods.iter().all(|pod| {
            !pod.shown
                && pod
                    .last
                    .is_some_and(|(_, until)| until.is_none_or(|until| until.since(now) > self.policy.lead()))
        });
        let next = self.keys.plan(now).unwrap().next_due.map(|next| next.since(now));
        let step = match next {
            Some(next) if calm && next > 2 * self.pace => next - self.pace,
            _ => self.dice.span(self.pace / 4, self.pace),
        };
        self.clock.advance(step.min(29 * DAY)).unwrap();
    }

    /// What goes wrong outside of the library.
    fn misfortune(&mut self) {
        match self.dice.below(400) {
            0 => self.clock.set(self.clock.now().minus_or_min(self.dice.span(HOUR, 3 * DAY))),
            1 => {
                let jump = self.dice.span(DAY, 29 * DAY);
                self.clock.advance(jump).unwrap();
                self.troubled = true;
            }
            2 => {
                let jump = self.dice.span(31 * DAY, 400 * DAY);
                let before = self.clock.now();
                self.clock.advance(jump).unwrap();
                assert!(matches!(self.keys.tick().unwrap().clock, ClockState::Jumped { .. }));
                if self.dice.one_in(2) {
                    self.keys.by(Actor::operator("root")).confirm_clock(self.clock.now()).unwrap();
                } else {
                    self.clock.set(before);
                }
                self.troubled = true;
            }
            3..6 => {
                let act = self.keys.by(Actor::operator("root"));
                if self.suspended {
                    act.resume(owner("ada")).unwrap()
                } else {
                    act.suspend(owner("ada")).unwrap()
                }
                self.suspended = !self.suspended;
                self.troubled = true;
            }
            6..12 if self.suspended => {
                self.keys.by(Actor::operator("root")).resume(owner("ada")).unwrap();
                self.suspended = false;
            }
            12..18 => {
                let killed = self.restart();
                if self.dice.one_in(2) { std::mem::forget(killed) } else { drop(killed) }
            }
            18..24 if self.client == Client::Service => {
                self.sink_down = !self.sink_down;
                self.sink.answer(if self.sink_down { Err(SinkError::Unavailable) } else { Ok(()) });
            }
            _ => {}
        }
    }

    /// Another process takes over; returns the validator of the last one.
    fn restart(&mut self) -> Validator {
        let (store, keys, validator) = open(&self.place, &self.clock, &self.sink);
        (self.store, self.keys) = (store, keys);
        std::mem::replace(&mut self.validator, validator)
    }

    /// The process is going to die at one of the next calls to its store, before it or after it.
    fn doom(&mut self, within: u64) {
        let fault = if self.dice.one_in(2) { Fault::Before } else { Fault::Death };
        self.store.plan(Some(Plan { at: self.dice.below(within), fault, for_ever: true }));
    }

    /// A tick in the midst of which the process dies; the next process ticks when it gets to it.
    fn fatal_tick(&mut self) {
        self.doom(60);
        let died = self.keys.tick().is_err();
        self.store.plan(None);
        if died {
            std::mem::forget(self.restart());
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        if self.dice.one_in(10) {
            return;
        }
        if self.dice.one_in(25) {
            return self.fatal_tick();
        }
        if matches!(self.keys.plan(self.clock.now()).unwrap().clock, ClockState::Jumped { .. }) {
            self.keys.by(Actor::operator("root")).confirm_clock(self.clock.now()).unwrap();
            self.troubled = true;
        }
        let plan = self.keys.plan(self.clock.now()).unwrap();
        let seq = self.keys.audit_head().unwrap().seq;
        let mut report = self.keys.tick().unwrap();
        let filter = keyrota::AuditFilter::all().after(seq);
        let done = self.keys.audit(&filter, 1_000).unwrap();
        let same = plan.events.iter().zip(&done).all(|(planned, done)| {
            (planned.kind, planned.at, planned.version)
                == (done.event.kind, done.event.at, done.event.version)
        });
        if !same || done.len() < plan.events.len() {
            self.fail(&format!("the tick did not do what was planned: {plan}{done:#?}"));
        }
        while report.more {
            report = self.keys.tick().unwrap();
        }
        if self.dice.one_in(20) {
            let head = self.keys.audit_head().unwrap();
            self.keys.tick().unwrap();
            if self.keys.audit_head().unwrap() != head {
                self.fail("a second tick at the same instant did something");
            }
        }
        self.troubled |= self.due.is_some_and(|due| now.since(due) > self.policy.lead() / 4);
        self.due = report.next_due;
        let valid =
            self.keys.get(self.key).unwrap().versions.iter().filter(|version| version.is_valid).count();
        if valid > self.policy.max_live() {
            self.fail("more versions are valid than may be");
        }
    }

    /// A claim; where the process dies in the midst of it, it is repeated to the next one.
    fn claim(&mut self, pod: usize, id: &ClaimId) -> Result<String, ManageError> {
        let token = self.pods[pod].token.clone();
        let claim = |world: &Self| {
            let claim = Claim::with_token(&token, id.clone());
            let claimed = world.keys.by(Actor::service("client")).claim(claim)?;
            Ok(claimed.token.expose().to_owned())
        };
        if self.dice.one_in(8) {
            self.doom(12);
        }
        let answer = claim(self);
        self.store.plan(None);
        match answer {
            Err(
                ManageError::NotWritten(_)
                | ManageError::OutcomeUnknown { .. }
                | ManageError::Read(ReadError::Store(_)),
            ) => {
                std::mem::forget(self.restart());
                claim(self)
            }
            answer => answer,
        }
    }

    /// One look of a process: it uses its token, and acts on what it is told.
    fn look(&mut self, n: usize) {
        let now = self.now();
        let put = self.sink.tokens();
        if put.len() > self.put {
            self.put = put.len();
            self.newest.clone_from(&put[put.len() - 1]);
        }
        let is_last = |world: &Self, until: Option<Timestamp>| {
            until.is_some_and(|until| until.since(now) <= 2 * world.pace)
        };
        let until = self.pods[n].last.and_then(|(_, until)| until);
        if self.pods[n].token != self.newest
            && (self.client != Client::Late || is_last(self, until) || self.pods[n].last.is_none())
        {
            self.pods[n] = Pod { excused: self.troubled, ..Pod::new(&self.newest) };
            self.rotations += u32::from(n == 0);
            self.troubled = self.suspended;
        }
        match self.validator.validate(&self.pods[n].token) {
            Ok(grant) => {
                self.pods[n].last = Some((now, grant.valid_until()));
                self.pods[n].shown = grant.successor().is_some();
                if let Some(successor) = grant.successor() {
                    let soon = is_last(self, Some(successor.claim_by)) || is_last(self, successor.ends);
                    self.answer(n, soon);
                } else if self.pods[n].repeats {
                    self.repeat(n);
                }
            }
            Err(denial) if denial.reason() == DenialReason::Suspended && self.suspended => {
                self.pods[n].last = self.pods[n].last.map(|(_, until)| (now, until));
                // Who could not use it even once has been told nothing.
                self.pods[n].excused = true;
                self.pods[n].shown = false;
            }
            Err(denial) => self.denial(n, denial.reason(), now),
        }
    }

    /// A successor waits.
    fn answer(&mut self, n: usize, soon: bool) {
        let id = self.pods[n].id.clone();
        match self.client {
            Client::Late if !soon => {}
            Client::Never | Client::Service => {}
            Client::Loses => {
                self.claim(n, &id).unwrap();
                self.pods[n].repeats = true;
                // Its own claim ends what it was told before.
                let overlap = self.now().plus(self.policy.overlap()).unwrap();
                self.pods[n].last = self.pods[n].last.map(|(seen, until)| {
                    (seen, Some(until.map_or(overlap, |until: Timestamp| until.min(overlap))))
                });
            }
            Client::Twice => {
                let token = self.claim(n, &id).unwrap();
                match self.claim(n, &id) {
                    Ok(again) if again == token => {}
                    other => self.fail(&format!("the second answer differs: {:?}", other.err())),
                }
                let other = self.claim(n, &ClaimId::random().unwrap());
                if !matches!(
                    other,
                    Err(ManageError::Lifecycle(
                        LifecycleError::AlreadyClaimed { .. } | LifecycleError::NotClaimable
                    ))
                ) {
                    self.fail("another claim got something");
                }
                self.newest = token;
            }
            Client::Prompt | Client::Late | Client::Pods => match self.claim(n, &id) {
                Ok(token) => self.newest = token,
                Err(error) => self.fail(&format!("the claim was refused: {error}")),
            },
        }
        // With no overlap the claim itself is the moment to switch.
        if self.policy.overlap().is_zero() && self.pods[n].token != self.newest {
            self.pods[n] = Pod::new(&self.newest);
            self.rotations += 1;
            self.troubled = self.suspended;
        }
    }

    /// The answer to the claim was lost.
    fn repeat(&mut self, n: usize) {
        let id = self.pods[n].id.clone();
        match self.claim(n, &id) {
            Ok(token) => self.newest = token,
            Err(error) => self.fail(&format!("a claim could not be repeated: {error}")),
        }
        self.pods[n].repeats = false;
    }

    fn denial(&mut self, n: usize, reason: DenialReason, now: Timestamp) {
        self.denied += 1;
        let Some((seen, until)) = self.pods[n].last else {
            if self.pods[n].excused || self.troubled {
                return self.help();
            }
            self.fail(&format!("a fresh token is denied: {reason}"));
        };
        // What was told cannot be shortened by more than the notice allows.
        let notice = match self.policy.retirement() {
            Retirement::WhenUnused { notice, .. } => notice.min(self.policy.overlap().max(notice)),
            _ => self.policy.overlap(),
        };
        let alone =
            self.client != Client::Pods && !matches!(self.policy.retirement(), Retirement::WhenUnused { .. });
        let promised = if alone { until } else { until.min(seen.plus(notice).ok()) };
        if promised.is_none_or(|promised| now < promised) {
            self.fail(&format!("denied ({reason}) before {promised:?}, as told at {seen}"));
        }
        let in_pace = now.since(seen) <= self.pace;
        let diligent = !matches!(self.client, Client::Never);
        if in_pace && diligent && !self.troubled {
            self.fail(&format!("denied ({reason}) although it paid attention"));
        }
        if in_pace && diligent && self.pods[n].shown {
            self.fail(&format!("denied ({reason}) although it acted on the successor that it was shown"));
        }
        if self.dice.one_in(4) {
            self.help();
        }
    }

    /// The owner notices, and gets the client going again.
    fn help(&mut self) {
        if self.suspended {
            return;
        }
        let act = || self.keys.by(Actor::owner("ada"));
        let claimed = act().claim(Claim::for_owner(self.key, ClaimId::random().unwrap()));
        let token = match claimed {
            Ok(claimed) => claimed.token.expose().to_owned(),
            Err(_) => {
                let how = keyrota::RotateNow::of(self.key).supersede();
                act()
                    .rotate(how)
                    .unwrap_or_else(|error| self.fail(&error.to_string()))
                    .token
                    .expose()
                    .to_owned()
            }
        };
        self.newest.clone_from(&token);
        self.pods.iter_mut().for_each(|pod| *pod = Pod::new(&token));
        self.troubled = false;
        self.rotations += 1;
    }

    fn run(mut self, rotations: u32) -> u32 {
        let mut steps = 0;
        while self.rotations < rotations && steps < 20_000 {
            steps += 1;
            self.pass();
            self.misfortune();
            self.tick();
            for n in 0..self.pods.len() {
                self.look(n);
            }
            if self.dice.one_in(3) {
                self.validator.flush().unwrap();
            }
        }
        if self.rotations < rotations {
            self.fail("nothing rotates any more");
        }
        assert!(self.keys.check(None).unwrap().is_sound(), "seed {}", self.seed);
        self.denied
    }
}

impl Pod {
    fn new(token: &str) -> Self {
        let id = ClaimId::random().unwrap();
        Self { token: token.to_owned(), id, last: None, shown: false, repeats: false, excused: false }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn whoever_acts_before_the_deadlines_that_it_was_told_is_never_denied() {
    let seeds = match number("KEYROTA_ZD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("KEYROTA_ZD_SEEDS").unwrap_or(24),
    };
    for seed in seeds {
        World::new(seed, Place::memory()).run(4);
    }
}

#[cfg(feature = "sqlite")]
#[test]
fn the_same_on_sqlite() {
    for seed in 1_000_000..1_000_000 + number("KEYROTA_ZD_SEEDS").unwrap_or(3).min(200) {
        World::new(seed, Place::sqlite()).run(2);
    }
}

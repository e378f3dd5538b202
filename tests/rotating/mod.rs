//! What the tests of automatic rotation share: a bed that can be reopened, a sink that fails, and a story that is told.
#![allow(dead_code, reason = "each test file uses its part")]

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use keyrota::{
    Claim, ClaimId, Clock as _, Handover, KeyId, KeyStore, LifecycleError, ManageError, NewKey,
    RotationRecord, RowFilter, RowKind, SecretSink, SecretToken, SinkError, Validator,
};

pub(crate) use crate::common::Bed as Common;
use crate::common::{DAY, HOUR, Place, START, at, day, keyring};

/// A bed whose processes can die.
pub(crate) struct Bed {
    common: Common,
    /// Another process.
    pub(crate) other: Validator,
    /// A process that looks, and never flushes, so that looking is no use.
    watcher: Validator,
}

impl std::ops::Deref for Bed {
    type Target = Common;
    fn deref(&self) -> &Common {
        &self.common
    }
}

impl Bed {
    pub(crate) fn new(place: Place) -> Self {
        Self::of(Common::at(place, at(START)))
    }

    pub(crate) fn with_sink(place: Place, sink: impl SecretSink) -> Self {
        let mut common = Common::at(place, at(START));
        common.keys = keyrota::KeyManager::builder(common.place.open(), keyring())
            .clock(common.clock.clone())
            .sink(sink)
            .open()
            .unwrap();
        Self::of(common)
    }

    fn of(common: Common) -> Self {
        let (other, watcher) = (common.other_validator(), common.other_validator());
        Self { common, other, watcher }
    }
}

/// A sink that remembers what it was given, and answers as it is told.
#[derive(Clone, Default)]
pub(crate) struct FlakySink(Arc<Mutex<SinkState>>);

struct SinkState {
    answer: Result<(), SinkError>,
    tokens: Vec<String>,
    puts: usize,
    panics: bool,
}

impl Default for SinkState {
    fn default() -> Self {
        Self { answer: Ok(()), tokens: Vec::new(), puts: 0, panics: false }
    }
}

impl FlakySink {
    pub(crate) fn answer(&self, answer: Result<(), SinkError>) {
        self.0.lock().unwrap().answer = answer;
    }

    /// The different tokens that it was given.
    pub(crate) fn tokens(&self) -> Vec<String> {
        self.0.lock().unwrap().tokens.clone()
    }

    pub(crate) fn puts(&self) -> usize {
        self.0.lock().unwrap().puts
    }

    pub(crate) fn panic_from_now_on(&self, panics: bool) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).panics = panics;
    }
}

impl SecretSink for FlakySink {
    fn put(&self, handover: &Handover<'_>) -> Result<(), SinkError> {
        let mut state = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.puts += 1;
        if state.panics {
            drop(state);
            std::panic::resume_unwind(Box::new("a sink that fell over"));
        }
        let token = handover.secret.expose().to_owned();
        if !state.tokens.contains(&token) {
            state.tokens.push(token);
        }
        state.answer
    }
}

/// A sink that takes the secret, and whose process is gone then: nothing is recorded any more.
struct Deadly(FlakySink, Arc<dyn KeyStore>);

impl SecretSink for Deadly {
    fn put(&self, handover: &Handover<'_>) -> Result<(), SinkError> {
        let answer = self.0.put(handover);
        self.1.close().unwrap();
        answer
    }
}

pub(crate) struct Timeline {
    pub(crate) bed: Bed,
    pub(crate) key: KeyId,
    pub(crate) tokens: Vec<String>,
    verdicts: Vec<String>,
    told: u64,
    text: String,
    /// Whether validating processes flush before each tick.
    pub(crate) flushes: bool,
}

impl Timeline {
    /// A key of 2027-01-01.
    pub(crate) fn new(bed: Bed, new: NewKey) -> Self {
        let told = bed.seq();
        let issued = bed.root().issue(new).unwrap();
        let tokens = vec![issued.token.expose().to_owned()];
        let (verdicts, text) = (Vec::new(), String::new());
        let mut timeline = Self { bed, key: issued.key, tokens, verdicts, told, text, flushes: false };
        timeline.tell("issue");
        timeline
    }

    fn verdict(&self, token: &str) -> String {
        match self.bed.watcher.validate(token) {
            Ok(grant) => {
                let word = if grant.is_deprecated() { "deprecated" } else { "granted" };
                let successor =
                    grant.successor().map(|next| format!(", successor until {}", day(next.claim_by)));
                let until = grant.valid_until().map_or("for ever".to_owned(), day);
                format!("{word} until {until}{}", successor.unwrap_or_default())
            }
            Err(denial) => format!("denied: {}", denial.reason()),
        }
    }

    /// Writes down what has changed, if anything has.
    pub(crate) fn tell(&mut self, what: &str) {
        let now = self.bed.clock.now();
        let mut changes = String::new();
        for entry in self.bed.entries(self.told) {
            let line = self.bed.line(&entry.event);
            let at =
                if entry.event.at == now { String::new() } else { format!(" at {}", day(entry.event.at)) };
            let claimant = entry.event.claimant.map(|claimant| format!("{claimant:?}").to_lowercase());
            let subject = claimant.or(entry.event.subject).map(|subject| format!(" ({subject})"));
            let subject = subject.unwrap_or_default();
            writeln!(changes, "  + {line}{subject}{at}").unwrap();
            self.told = entry.seq;
        }
        let verdicts: Vec<_> = self.tokens.iter().map(|token| self.verdict(token)).collect();
        for (number, verdict) in verdicts.iter().enumerate() {
            if self.verdicts.get(number) != Some(verdict) {
                writeln!(changes, "  v{} {verdict}", number + 1).unwrap();
            }
        }
        self.verdicts = verdicts;
        if !changes.is_empty() {
            write!(self.text, "{} {what}\n{changes}", day(now)).unwrap();
        }
    }

    /// Lets the time pass, with a tick every hour of the last two days and of those when something is due, else every day.
    pub(crate) fn pass_to(&mut self, time: &str) {
        while self.bed.clock.now() < at(time) {
            let now = self.bed.clock.now();
            let left = at(time).since(now);
            let next = self.bed.keys.plan(now).unwrap().next_due;
            let is_near = next.is_some_and(|next| next.since(now) <= DAY);
            let step = if left > 2 * DAY && !is_near { DAY } else { HOUR };
            self.bed.clock.advance(step.min(left)).unwrap();
            self.tell("passes");
            if self.flushes {
                self.bed.validator.flush().unwrap();
                self.bed.other.flush().unwrap();
            }
            let plan = self.bed.keys.plan(self.bed.clock.now()).unwrap();
            let seq = self.bed.seq();
            self.bed.tick();
            self.assert_planned(&plan, seq);
            self.tell("tick");
        }
    }

    /// Rule 13: the tick recorded what was planned, but for what the sink answered.
    fn assert_planned(&self, plan: &keyrota::Plan, seq: u64) {
        let done = self.bed.entries(seq);
        assert!(done.len() >= plan.events.len(), "{plan}");
        for (planned, done) in plan.events.iter().zip(&done) {
            assert_eq!(
                (planned.kind, planned.at, planned.key, planned.version, planned.until),
                (done.event.kind, done.event.at, done.event.key, done.event.version, done.event.until)
            );
        }
        if plan.deliveries.is_empty() {
            assert_eq!(done.len(), plan.events.len(), "{plan}");
        }
    }

    pub(crate) fn jump_to(&mut self, time: &str) {
        self.bed.clock.set(at(time));
        self.tell("passes");
    }

    pub(crate) fn act(
        &mut self,
        name: &str,
        act: impl FnOnce(&Bed, KeyId) -> Result<Option<SecretToken>, ManageError>,
    ) {
        match act(&self.bed, self.key) {
            Ok(token) => {
                self.keep(token);
                self.tell(name);
            }
            Err(error) => {
                let why = match error {
                    ManageError::Lifecycle(LifecycleError::RotationOpen { until }) => {
                        format!("RotationOpen until {}", day(until))
                    }
                    ManageError::Lifecycle(LifecycleError::ScheduledTooLate { until }) => {
                        format!("ScheduledTooLate until {}", day(until))
                    }
                    ManageError::Lifecycle(LifecycleError::NothingToClaim) => "NothingToClaim".to_owned(),
                    ManageError::Lifecycle(LifecycleError::NotClaimable) => "NotClaimable".to_owned(),
                    ManageError::Lifecycle(LifecycleError::NothingToCancel) => "NothingToCancel".to_owned(),
                    ManageError::Lifecycle(LifecycleError::AlreadyClaimed { version }) => {
                        format!("AlreadyClaimed {version}")
                    }
                    ManageError::Lifecycle(LifecycleError::KeyEnded { at }) => {
                        format!("KeyEnded at {}", day(at))
                    }
                    ManageError::Lifecycle(LifecycleError::NotRollbackable) => "NotRollbackable".to_owned(),
                    ManageError::Lifecycle(LifecycleError::GraceTooLong) => "GraceTooLong".to_owned(),
                    error => panic!("{error}"),
                };
                writeln!(self.text, "{} {name}: {why}", day(self.bed.clock.now())).unwrap();
                self.tell("in spite of that");
            }
        }
    }

    pub(crate) fn rotate(&mut self) {
        self.act("rotate", |bed, key| bed.root().rotate(key).map(|new| Some(new.token)));
    }

    pub(crate) fn roll_back(&mut self) {
        self.act("roll back", |bed, key| bed.root().roll_back(key).map(|_| None));
    }

    fn keep(&mut self, token: Option<SecretToken>) {
        let new = token.map(|token| token.expose().to_owned());
        self.tokens.extend(new.filter(|token| !self.tokens.contains(token)));
    }

    /// A claim with the newest token that the client has.
    pub(crate) fn claim(&mut self, id: &str) {
        let token = self.tokens.last().unwrap().clone();
        let token = if id.ends_with('R') { self.tokens[0].clone() } else { token };
        self.claimed(id, |bed, _| {
            bed.keys.by(keyrota::Actor::service("client")).claim(Claim::with_token(&token, claim_id(id)))
        });
    }

    pub(crate) fn claim_for_owner(&mut self, id: &str) {
        self.claimed(id, |bed, key| {
            bed.keys.by(keyrota::Actor::owner("ada")).claim(Claim::for_owner(key, claim_id(id)))
        });
    }

    fn claimed(
        &mut self,
        id: &str,
        claim: impl FnOnce(&Bed, KeyId) -> Result<keyrota::RotatedKey, ManageError>,
    ) {
        self.act(&format!("claim {id:?}"), |bed, key| claim(bed, key).map(|claimed| Some(claimed.token)));
    }

    /// Uses a token in a process that flushes 40 seconds later.
    pub(crate) fn use_and_flush(&mut self, name: &str, token: usize) {
        assert!(self.bed.validator.validate(&self.tokens[token]).is_ok());
        self.bed.clock.advance(std::time::Duration::from_secs(40)).unwrap();
        self.bed.validator.flush().unwrap();
        self.bed.other.flush().unwrap();
        self.tell(&format!("{name} was used, and that is flushed"));
    }

    /// Uses a token in a process that is killed before it flushes.
    pub(crate) fn use_and_die(&mut self, name: &str, token: usize) {
        let killed = self.bed.other_validator();
        assert!(killed.validate(&self.tokens[token]).is_ok());
        std::mem::forget(killed);
        self.tell(&format!("{name} was used, and that is lost"));
    }

    /// Another process ticks, gives the sink the secret, and dies.
    pub(crate) fn put_and_die(&mut self, sink: &FlakySink) {
        let store = self.bed.place.open();
        let keys = keyrota::KeyManager::builder(Arc::clone(&store), keyring())
            .clock(self.bed.clock.clone())
            .sink(Deadly(sink.clone(), store))
            .open()
            .unwrap();
        assert!(keys.tick().is_err());
        self.tell("put, and dies");
    }

    pub(crate) fn tokens_of_the_sink(&mut self, sink: &FlakySink) {
        self.tokens.extend(sink.tokens());
        self.tell("the service has it");
    }

    pub(crate) fn rotations(&self) -> Vec<RotationRecord> {
        self.bed.keys.rotations(self.key).unwrap()
    }

    pub(crate) fn sealed_copies(&self) -> usize {
        let mut count = 0;
        self.bed
            .store
            .scan(RowKind::Sealed, RowFilter::All { after: None }, &mut |_| {
                count += 1;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        count
    }

    pub(crate) fn assert(self, expected: &str) {
        let expected = expected.trim_start_matches('\n');
        assert!(self.text == expected, "the story was:\n{}", self.text);
        assert!(self.bed.keys.check(None).unwrap().is_sound());
    }
}

/// At least 16 bytes that are this claim's own.
pub(crate) fn claim_id(text: &str) -> ClaimId {
    ClaimId::new(format!("{text:-<16}")).unwrap()
}

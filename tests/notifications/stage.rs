//! What the tests stand on: an ear that hears and answers as it is told, and a bed with a channel to it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyrota::{
    Act, Actor, ChannelFilter, KeyManager, KeyManagerBuilder, ManualClock, Notification, NotificationKind,
    Notifier, NotifyError, TickReport,
};

use crate::common::{Place, START, at, keyring, on_both_places};

type Answer = Box<dyn FnMut(&Notification) -> Result<(), NotifyError> + Send>;

/// A receiver that remembers all attempts, and which of them it has acknowledged.
#[derive(Clone)]
pub(crate) struct Ear(Arc<Mutex<Heard>>);

struct Heard {
    attempts: Vec<(Notification, bool)>,
    answer: Answer,
}

impl Ear {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Heard { attempts: Vec::new(), answer: Box::new(|_| Ok(())) })))
    }

    /// Whoever panicked in an answer has left nothing half done.
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers like this from now on.
    pub(crate) fn answers(
        &self,
        answer: impl FnMut(&Notification) -> Result<(), NotifyError> + Send + 'static,
    ) {
        self.lock().answer = Box::new(answer);
    }

    pub(crate) fn attempts(&self) -> Vec<Notification> {
        self.lock().attempts.iter().map(|(told, _)| told.clone()).collect()
    }

    /// What it has acknowledged.
    pub(crate) fn heard(&self) -> Vec<Notification> {
        let heard = self.lock();
        heard.attempts.iter().filter(|(_, heard)| *heard).map(|(told, _)| told.clone()).collect()
    }

    /// What it has acknowledged since it was asked last, as lines: `expiring v1 7d`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = self.heard().iter().map(line).collect();
        self.forget();
        lines
    }

    pub(crate) fn forget(&self) {
        self.lock().attempts.clear();
    }

    pub(crate) fn count(&self, kind: NotificationKind) -> usize {
        self.heard().iter().filter(|told| told.kind == kind).count()
    }
}

impl Notifier for Ear {
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        // The answer may panic; that it was attempted is remembered all the same.
        let at = {
            let mut heard = self.lock();
            heard.attempts.push((notification.clone(), false));
            heard.attempts.len() - 1
        };
        let mut heard = self.lock();
        let answer = (heard.answer)(notification);
        heard.attempts[at].1 = answer.is_ok();
        drop(heard);
        answer
    }
}

pub(crate) fn line(told: &Notification) -> String {
    let days = told.threshold.map(|span| format!("{}h", span.as_secs() / 3_600));
    let parts = [
        Some(told.kind.to_string()),
        told.version.map(|version| version.to_string()),
        days,
        told.subject.clone(),
        told.more.map(|more| format!("and {more} more")),
        told.owner.filter(|_| told.key.is_none()).map(|owner| owner.to_string()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

pub(crate) struct Bed {
    pub(crate) place: Place,
    pub(crate) clock: ManualClock,
    pub(crate) keys: KeyManager,
    pub(crate) ear: Ear,
}

impl Bed {
    pub(crate) fn new(place: Place) -> Self {
        Self::filtered(place, ChannelFilter::all())
    }

    pub(crate) fn filtered(place: Place, filter: ChannelFilter) -> Self {
        let (clock, ear) = (ManualClock::new(at(START)), Ear::new());
        let keys = builder(&place, &clock).filtered_channel("ops", filter, ear.clone()).open().unwrap();
        // The first tick of a store asks for nothing that was before it.
        keys.tick().unwrap();
        Self { place, clock, keys, ear }
    }

    /// Another manager on the same store, which can be given channels of its own.
    pub(crate) fn builder(&self) -> KeyManagerBuilder {
        builder(&self.place, &self.clock)
    }

    pub(crate) fn root(&self) -> Act<'_> {
        self.keys.by(Actor::operator("root"))
    }

    pub(crate) fn tick(&self) -> TickReport {
        let mut report = self.keys.tick().unwrap();
        while report.more {
            report = self.keys.tick().unwrap();
        }
        report
    }

    /// Ticks at this time, and returns what was told.
    pub(crate) fn at(&self, time: &str) -> Vec<String> {
        self.clock.set(at(time));
        self.tick();
        self.ear.lines()
    }
}

fn builder(place: &Place, clock: &ManualClock) -> KeyManagerBuilder {
    KeyManager::builder(place.open(), keyring())
        .clock(clock.clone())
        .owner_limit(keyrota::OwnerLimit::new(100_000).unwrap())
}

pub(crate) fn on_both(body: impl Fn(Bed)) {
    on_both_places(|place| body(Bed::new(place)));
}

pub(crate) fn no() -> Result<(), NotifyError> {
    Err(NotifyError::retry("not now"))
}

//! What stands outside the library: a service behind a sink, and a receiver of notifications, each in its mood.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keyrota::{
    Handover, KeyId, Notification, NotificationId, Notifier, NotifyError, SecretSink, SinkError, VersionNo,
};

use super::steps::Mood;

#[derive(Clone)]
pub struct Service(Arc<Mutex<Held>>);

pub struct Held {
    pub mood: Mood,
    /// The first secret of each version that it was given.
    pub tokens: BTreeMap<(KeyId, VersionNo), String>,
    /// What of that it has not looked at yet.
    pub new: Vec<(KeyId, VersionNo, String)>,
    pub broken: Vec<String>,
}

impl Service {
    pub fn new() -> Self {
        let (tokens, new, broken) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self(Arc::new(Mutex::new(Held { mood: Mood::Fine, tokens, new, broken })))
    }

    pub fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SecretSink for Service {
    fn put(&self, handover: &Handover<'_>) -> Result<(), SinkError> {
        let mut held = self.held();
        let (of, token) = ((handover.key, handover.version), handover.secret.expose().to_owned());
        let before = held.tokens.entry(of).or_insert_with(|| token.clone()).clone();
        if before != token {
            held.broken.push(format!("I14: the sink was given two secrets of {of:?}"));
        }
        match held.mood {
            Mood::Fine => {
                held.new.push((of.0, of.1, token));
                Ok(())
            }
            Mood::Refuses | Mood::Never => Err(SinkError::Refused),
            Mood::Panics => {
                drop(held);
                std::panic::resume_unwind(Box::new("planned: a sink that falls over"));
            }
            Mood::Forgets => {
                held.new.push((of.0, of.1, token));
                Err(SinkError::Unavailable)
            }
        }
    }
}

#[derive(Clone)]
pub struct Ear(Arc<Mutex<Heard>>);

pub struct Heard {
    pub mood: Mood,
    /// What each id said, how often, and whether it was acknowledged.
    pub told: BTreeMap<NotificationId, (Notification, u32, bool)>,
    pub broken: Vec<String>,
}

impl Ear {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Heard { mood: Mood::Fine, told: BTreeMap::new(), broken: Vec::new() })))
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notifier for Ear {
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let mut heard = self.heard();
        let answer = match heard.mood {
            Mood::Fine => Ok(()),
            Mood::Refuses | Mood::Forgets => Err(NotifyError::retry("planned")),
            Mood::Never => Err(NotifyError::permanent("planned")),
            Mood::Panics => Err(NotifyError::retry("falls over")),
        };
        let panics = heard.mood == Mood::Panics;
        let entry = heard.told.entry(notification.id).or_insert_with(|| (notification.clone(), 0, false));
        entry.1 += 1;
        entry.2 |= answer.is_ok();
        let said = entry.0.clone();
        if said != *notification {
            heard.broken.push(format!("I4: one id says {said} and {notification}"));
        }
        if panics {
            drop(heard);
            std::panic::resume_unwind(Box::new("planned: a receiver that falls over"));
        }
        answer
    }
}

//! An act: who does what, why and under which request id, decided again until nobody is in the way.

use std::time::Duration;

use crate::actor::{Actor, Context};
use crate::crypto;
use crate::encode::base62_fixed;
use crate::error::{ManageError, ReadError};
use crate::event::Event;
use crate::id::{KeyId, RequestId, VersionNo};
use crate::key::KeyRecord;
use crate::lifecycle::{Family, Transition};
use crate::manager::KeyManager;
use crate::outbox;
use crate::policy::{DeploymentSettings, RotationPolicy};
use crate::records::{Record, Records, Stored, StoredFamily};
use crate::request::{Operation, RequestRecord};
use crate::rotate::{ClockState, clock_state};
use crate::seal::SealedCopy;
use crate::store::{Changeset, CommitError, Revision, Segment};
use crate::time::Timestamp;
use crate::token::SecretToken;

/// An act to be carried out, in somebody's name. Its verbs are `issue`, `rotate`, `revoke` and the others; each
/// consumes it, so that one request id serves one operation.
#[must_use = "an act does nothing until its verb is called"]
pub struct Act<'a> {
    pub(crate) keys: &'a KeyManager,
    actor: Actor,
    reason: Option<String>,
    request: Option<String>,
}

/// How long a request id is remembered.
const REQUEST_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// How long a token that an act showed can be had again under the act's request id.
const REPLAY_KEPT: Duration = Duration::from_secs(15 * 60);
/// How often an act is decided again before it answers *busy*.
const ATTEMPTS: usize = 100;

/// Whether a damaged head of the store stands in the way of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    Ordinary,
    /// Carried out while management is switched off, too.
    Always,
    /// Revocation and suspension: nobody may block them by damaging the log.
    Emergency,
}

/// One attempt at an act: what it is decided on, and what it will write.
pub(crate) struct Attempt<'a> {
    pub(crate) records: &'a Records,
    pub(crate) context: &'a Context,
    /// What the clock showed when the act began.
    pub(crate) clock: Timestamp,
    /// The time of the act: the clock's, but never before the high-water mark.
    pub(crate) t: Timestamp,
    /// Whether the clock is farther ahead of the high-water mark than a tick would act upon.
    clock_jumped: bool,
    pub(crate) changeset: Changeset,
    /// The request id, where the caller gave one.
    asked_request: Option<&'a RequestId>,
    result: (Option<KeyId>, Option<VersionNo>),
}

impl<'a> Act<'a> {
    pub(crate) fn new(keys: &'a KeyManager, actor: Actor) -> Self {
        Self { keys, actor, reason: None, request: None }
    }

    /// Says why: 1 to 500 bytes of visible text for the audit log.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Names the act by the caller's own id: 1 to 100 bytes of visible text. Repeating the act under the same id
    /// within seven days does it once; a token that it showed can be had again for 15 minutes.
    pub fn request(mut self, id: impl Into<String>) -> Self {
        self.request = Some(id.into());
        self
    }

    /// The same act for one part of what it does, under a request id of its own.
    pub(crate) fn part(&self, number: u64) -> Self {
        let request = self.request.as_ref().map(|request| format!("{request}#{number}"));
        Self { keys: self.keys, actor: self.actor.clone(), reason: self.reason.clone(), request }
    }

    /// The same act under the request id that the caller gave, or else under a fresh one.
    pub(crate) fn named(mut self) -> Result<(Self, RequestId), ManageError> {
        let request = match self.request {
            Some(request) => RequestId::new(request)?,
            None => fresh_request()?,
        };
        self.request = Some(request.to_string());
        Ok((self, request))
    }

    /// The request id that the caller gave.
    pub(crate) fn asked(self) -> Option<String> {
        self.request
    }

    /// Decides and commits, again and again while others change what the decision relied on.
    pub(crate) fn perform<T>(
        self,
        operation: &Operation,
        urgency: Urgency,
        decide: impl FnMut(&mut Attempt<'_>) -> Result<T, ManageError>,
        repeat: impl Fn(&Records, &RequestRecord, Timestamp) -> Result<T, ManageError>,
    ) -> Result<T, ManageError> {
        Ok(self.carry_out(operation, urgency, decide, repeat)?.0)
    }

    /// The same, with the revision of the commit where there was one.
    pub(crate) fn carry_out<T>(
        self,
        operation: &Operation,
        urgency: Urgency,
        mut decide: impl FnMut(&mut Attempt<'_>) -> Result<T, ManageError>,
        repeat: impl Fn(&Records, &RequestRecord, Timestamp) -> Result<T, ManageError>,
    ) -> Result<(T, Option<Revision>), ManageError> {
        let repeat = |records: &Records, request: &RequestRecord, t| {
            repeat(records, request, t).map(|value| (value, None))
        };
        let Self { keys, actor, reason, request } = self;
        let mut context = Context::new(actor, reason, request)?;
        let asked_request = context.request.clone();
        let request = match &asked_request {
            Some(request) => request.clone(),
            None => fresh_request()?,
        };
        context.request = Some(request.clone());
        let records = &keys.inner.records;
        let now = keys.inner.clock.now();
        for _ in 0..ATTEMPTS {
            let mark = match (records.head(), urgency) {
                (Ok(head), _) => head.high_water,
                (Err(ReadError::HeadTampered | ReadError::NotFounded), Urgency::Emergency) => now,
                (Err(error), _) => return Err(error.into()),
            };
            let t = now.max(mark);
            let changeset = match urgency {
                Urgency::Ordinary | Urgency::Always => Changeset::new(&records.keyring),
                Urgency::Emergency => {
                    let number = u64::from_ne_bytes(crypto::random_bytes()?);
                    Changeset::emergency(&records.keyring, Segment { store: keys.inner.store, now, number })
                }
            };
            let known = match &asked_request {
                Some(request) => records.get::<RequestRecord>(request.as_str())?,
                None => None,
            };
            if let Some(Stored { record, .. }) = known {
                if record.operation != *operation {
                    return Err(ManageError::RequestReused(request));
                }
                return repeat(records, &record, t);
            }
            if urgency == Urgency::Ordinary && !settings(records)?.management_enabled {
                return Err(ManageError::ManagementDisabled);
            }
            let mut attempt = Attempt {
                records,
                context: &context,
                clock: now,
                t,
                clock_jumped: matches!(clock_state(now, mark), ClockState::Jumped { .. }),
                changeset,
                asked_request: asked_request.as_ref(),
                result: (None, None),
            };
            let value = match decide(&mut attempt) {
                Ok(value) => value,
                // What stands in the way may be this very request, carried out by another process meanwhile.
                Err(_) if is_known(records, asked_request.as_ref()) => continue,
                Err(error) => return Err(error),
            };
            if attempt.changeset.is_empty() {
                return Ok((value, None));
            }
            let (key, version) = attempt.result;
            let record = RequestRecord {
                id: request.clone(),
                operation: operation.clone(),
                actor: context.actor.clone(),
                at: t,
                until: t.plus(REQUEST_KEPT).unwrap_or(Timestamp::MAX),
                key,
                version,
            };
            attempt.changeset.insert(record.draft());
            outbox::note_warnings(records, &mut attempt.changeset, t)?;
            outbox::enclose(records, &mut attempt.changeset, t);
            match records.store.commit(&attempt.changeset) {
                Ok(revision) => return Ok((value, Some(revision))),
                Err(CommitError::Conflict { .. }) => {}
                Err(CommitError::Seal(error)) => return Err(ReadError::from(error).into()),
                Err(CommitError::NotWritten(error)) => return Err(ManageError::NotWritten(error)),
                Err(CommitError::Unknown(source)) => {
                    return Err(ManageError::OutcomeUnknown { request, source });
                }
            }
        }
        Err(ManageError::Busy)
    }
}

/// Whether a request that was not known when the attempt began is known now.
fn is_known(records: &Records, request: Option<&RequestId>) -> bool {
    request.is_some_and(|request| matches!(records.get::<RequestRecord>(request.as_str()), Ok(Some(_))))
}

/// An id for an act whose caller gave none, so that an unknown outcome can still be asked about.
fn fresh_request() -> Result<RequestId, ManageError> {
    let number = u128::from_be_bytes(crypto::random_bytes()?);
    let digits = base62_fixed::<22>(number);
    Ok(RequestId::new(format!("auto_{}", str::from_utf8(&digits).unwrap_or_default()))?)
}

impl Attempt<'_> {
    /// The deployment's settings.
    pub(crate) fn settings(&self) -> Result<DeploymentSettings, ManageError> {
        settings(self.records)
    }

    /// The policy that a key lives by.
    pub(crate) fn policy_of(&self, key: &KeyRecord) -> Result<RotationPolicy, ManageError> {
        key.policy.map_or_else(|| Ok(self.settings()?.policy), Ok)
    }

    /// A family as it was read, with what time has made of it by now; that is recorded in the library's own name.
    pub(crate) fn settled(&mut self, before: &StoredFamily) -> Family {
        let mut family = before.family.clone();
        let context = Context::system();
        for transition in family.settle(self.t) {
            self.changeset.record(Event::of_key(self.t, &transition, &family, &context));
        }
        family
    }

    /// The same for acts that do not rest on it: by a clock that nobody has confirmed, nothing is recorded as passed.
    pub(crate) fn settled_by_sound_clock(&mut self, before: &StoredFamily) -> Family {
        if self.clock_jumped { before.family.clone() } else { self.settled(before) }
    }

    /// Records an event for each transition.
    pub(crate) fn record(&mut self, transitions: &[Transition], family: &Family) {
        for transition in transitions {
            self.changeset.record(Event::of_key(self.t, transition, family, self.context));
        }
    }

    /// Names what the act concerned, for whoever repeats its request.
    pub(crate) fn concerns(&mut self, key: KeyId, version: Option<VersionNo>) {
        self.result = (Some(key), version);
    }

    /// Seals the token that the act shows, so that an answer that gets lost can be repeated. Only a caller who
    /// gave a request id can ask for it, so only then anything is sealed.
    pub(crate) fn keep_for_replay(
        &mut self,
        token: &SecretToken,
        key: KeyId,
        version: VersionNo,
    ) -> Result<(), ManageError> {
        let Some(request) = self.asked_request else { return Ok(()) };
        let until = self.t.plus(REPLAY_KEPT).unwrap_or(Timestamp::MAX);
        let copy = SealedCopy::for_replay(&self.records.keyring, token, key, version, request, until)?;
        self.changeset.insert(copy.draft());
        Ok(())
    }
}

pub(crate) fn settings(records: &Records) -> Result<DeploymentSettings, ManageError> {
    let stored = records.get::<DeploymentSettings>(DeploymentSettings::ROW_ID)?;
    let missing =
        || ReadError::Tampered { kind: DeploymentSettings::KIND, id: DeploymentSettings::ROW_ID.to_owned() };
    Ok(stored.ok_or_else(missing)?.record)
}

/// The token that the act of a request showed, while its sealed copy is kept, with the key as it is now.
pub(crate) fn replayed(
    records: &Records,
    request: &RequestRecord,
    now: Timestamp,
) -> Result<(Family, VersionNo, SecretToken), ManageError> {
    let done = |key| ManageError::AlreadyDone { request: request.id.clone(), key, version: request.version };
    let (Some(key), Some(version)) = (request.key, request.version) else {
        return Err(ManageError::RequestReused(request.id.clone()));
    };
    let kept = || -> Result<SealedCopy, ManageError> {
        let copy = records.get::<SealedCopy>(request.id.as_str())?.map(|copy| copy.record);
        let copy = copy.filter(|copy| copy.key == key && copy.version == version && now < copy.until);
        copy.ok_or_else(|| done(key))
    };
    let token = kept()?.open(&records.keyring).ok_or_else(|| done(key))?;
    let family = records.family(key)?.ok_or_else(|| done(key))?.family;
    // Whoever revokes the version deletes its copy: what was revoked in between is not shown again.
    kept()?;
    Ok((family, version, token))
}

//! Putting acts to the library, and its answers in the words of the naive model.

use std::collections::BTreeMap;
use std::time::Duration;

use keyrota::{
    Actor, EditKey, IssuedKey, KeyId, KeyInfo, KeyManager, LifecycleError, ManageError, NewKey, OwnerId,
    OwnerLimit, PolicyError, PurgeReport, ReadError, Replace, Revoke, RevokeTarget, RoleName, RollBack,
    RotateNow, RotatedKey, RotationPolicy, ScopeSet, SecretToken, TickReport, Timestamp, VersionNo,
};

use crate::acts::{Act, Asked, DEMANDS, OWNERS, Policy, ROLES, Scopes, Wanted};
use crate::answers::{Answer, Failure, Outcome};
use crate::asks::{key_view, micros, ticked};
use crate::naive::{LIBRARY, Time};

/// What the library answered, in its own words.
pub enum Raw {
    Done,
    Looked(Box<KeyInfo>),
    Issued(IssuedKey),
    Rotated(RotatedKey),
    Purged(PurgeReport),
    Ticked(TickReport),
}

/// Keys and tokens, by when they were first seen.
#[derive(Clone, Default)]
pub struct Names {
    pub ids: Vec<KeyId>,
    /// Key, version and text of each token; no text while its only answer was lost.
    pub tokens: Vec<(usize, u32, Option<String>)>,
    /// The request ids that the library gave of itself, beyond those of the chooser.
    pub requests: BTreeMap<u32, String>,
}

pub fn time(at: Time) -> Timestamp {
    Timestamp::from_unix_micros(at).unwrap()
}

fn span(span: Time) -> Duration {
    Duration::from_micros(span as u64)
}

fn set(scopes: &Scopes) -> ScopeSet {
    scopes.as_slice().try_into().unwrap()
}

pub fn owner(name: &str) -> OwnerId {
    OwnerId::new(name).unwrap()
}

fn role(name: &str) -> RoleName {
    RoleName::new(name).unwrap()
}

pub fn policy(Policy { lifetime, overlap }: Policy) -> RotationPolicy {
    RotationPolicy::builder().lifetime(span(lifetime)).overlap(span(overlap)).build().unwrap()
}

pub fn limit(keys: u32) -> OwnerLimit {
    OwnerLimit::new(keys).unwrap()
}

/// The name as the model spells it.
pub fn known(name: &str) -> &'static str {
    let all = OWNERS.iter().chain(&ROLES).chain(&DEMANDS).chain(&["root", "other", LIBRARY]);
    all.copied().find(|known| *known == name).unwrap_or_else(|| panic!("a strange name: {name}"))
}

fn new_key(wanted: &Wanted) -> NewKey {
    let mut new = NewKey::new(owner(wanted.owner), "ci").unwrap().scopes(set(&wanted.scopes));
    if let Some(name) = wanted.role {
        new = new.role(role(name));
    }
    if let Some(own) = wanted.policy {
        new = new.policy(policy(own));
    }
    if let Some(lifetime) = wanted.lifetime {
        new = new.lifetime(span(lifetime));
    }
    new = match (wanted.from, wanted.until) {
        (Some(from), Some(until)) => new.window(time(from), time(until)),
        (Some(from), None) => new.not_before(time(from)),
        (None, Some(until)) => new.until(time(until)),
        (None, None) => new,
    };
    if wanted.never_expires { new.never_expires() } else { new }
}

/// Puts an act to the library.
pub fn put(keys: &KeyManager, names: &Names, asked: &Asked) -> Result<Raw, ManageError> {
    let by = keys.by(Actor::operator(asked.who));
    let by = match asked.request {
        Some(request) => by.request(names.request(request)),
        None => by,
    };
    let revoke = |target: RevokeTarget, compromised| {
        if compromised { Revoke::of(target).compromised() } else { Revoke::of(target) }
    };
    let done = |()| Raw::Done;
    match &asked.act {
        Act::Issue(wanted) => by.issue(new_key(wanted)).map(Raw::Issued),
        Act::Rotate { key, supersede } => {
            let how = RotateNow::of(names.id(*key));
            let how = if *supersede { how.supersede() } else { how };
            by.rotate(how).map(Raw::Rotated)
        }
        Act::Replace { key, grace } => {
            by.replace(Replace::of(names.id(*key)).grace(span(*grace))).map(Raw::Rotated)
        }
        Act::Deprecate { key } => by.deprecate(names.id(*key)).map(|info| Raw::Looked(Box::new(info))),
        Act::RollBack { key, compromised } => {
            let how = RollBack::of(names.id(*key));
            by.roll_back(if *compromised { how.compromised() } else { how })
                .map(|info| Raw::Looked(Box::new(info)))
        }
        Act::RevokeKey { key, compromised } => {
            by.revoke(revoke(names.id(*key).into(), *compromised)).map(done)
        }
        Act::RevokeVersion { key, version, compromised } => {
            let target = (names.id(*key), VersionNo::new(*version));
            by.revoke(revoke(target.into(), *compromised)).map(done)
        }
        Act::RevokeOwner { owner: of, compromised } => {
            by.revoke(revoke(owner(of).into(), *compromised)).map(done)
        }
        Act::Suspend { owner: of } => by.suspend(owner(of)).map(done),
        Act::Resume { owner: of } => by.resume(owner(of)).map(done),
        Act::SetPolicy(next) => by.set_policy(policy(*next)).map(done),
        Act::SetDefaultLimit(keys) => by.set_default_owner_limit(limit(*keys)).map(done),
        Act::SetLimit { owner: of, limit: keys } => by.set_owner_limit(owner(of), keys.map(limit)).map(done),
        Act::SetCeiling { owner: of, ceiling } => {
            by.set_owner_ceiling(owner(of), ceiling.as_ref().map(set)).map(done)
        }
        Act::SetRole { role: name, scopes } => by.set_role(role(name), set(scopes)).map(done),
        Act::Edit { key, scopes, role: name, widen } => {
            let mut edit = EditKey::of(names.id(*key));
            edit = if let Some(scopes) = scopes { edit.scopes(set(scopes)) } else { edit };
            edit = if let Some(name) = name { edit.role(name.map(role)) } else { edit };
            by.edit(if *widen { edit.widen() } else { edit }).map(|info| Raw::Looked(Box::new(info)))
        }
        Act::Purge { retention } => by.purge(span(*retention)).map(Raw::Purged),
        Act::ConfirmClock(to) => by.confirm_clock(time(*to)).map(done),
    }
}

impl Names {
    pub fn id(&self, key: usize) -> KeyId {
        self.ids.get(key).copied().unwrap_or_else(|| "key_0000000000000000000001".parse().unwrap())
    }

    /// When a key was first seen.
    pub fn key(&mut self, id: KeyId) -> usize {
        self.ids.iter().position(|known| *known == id).unwrap_or_else(|| {
            self.ids.push(id);
            self.ids.len() - 1
        })
    }

    pub fn request(&self, request: u32) -> String {
        self.requests.get(&request).cloned().unwrap_or_else(|| format!("req-{request}"))
    }

    /// The token's text, if its answer has ever arrived.
    pub fn text(&self, token: usize) -> Option<&str> {
        self.tokens.get(token)?.2.as_deref()
    }

    /// A version whose token was lost with its answer.
    pub fn lost(&mut self, key: usize, version: u32) {
        self.tokens.push((key, version, None));
    }

    fn shown(&mut self, key: KeyId, version: VersionNo, token: &SecretToken) -> usize {
        let (key, text) = (self.key(key), token.expose());
        let known = self.tokens.iter().position(|(of, number, _)| (*of, *number) == (key, version.get()));
        let twin = self.tokens.iter().position(|(.., known)| known.as_deref() == Some(text));
        assert!(twin.is_none() || twin == known, "one token of two versions");
        let at = known.unwrap_or(self.tokens.len());
        if known.is_none() {
            self.lost(key, version.get());
        }
        let slot = &mut self.tokens[at].2;
        assert!(slot.as_deref().is_none_or(|old| old == text), "another token of one version");
        *slot = Some(text.to_owned());
        at
    }

    pub fn answer(&mut self, answer: &Result<Raw, ManageError>) -> Outcome {
        Ok(match answer.as_ref().map_err(|error| self.failure(error))? {
            Raw::Done => Answer::Done,
            Raw::Looked(info) => Answer::Looked(key_view(info)),
            Raw::Issued(issued) => Answer::Shown {
                token: self.shown(issued.key, issued.version, &issued.token),
                until: micros(issued.valid_until),
                old: None,
            },
            Raw::Rotated(done) => Answer::Shown {
                token: self.shown(done.key, done.version, &done.token),
                until: micros(done.valid_until),
                old: Some((done.old_version.map(VersionNo::get), micros(done.old_valid_until))),
            },
            Raw::Purged(report) => Answer::Purged(report.purged),
            Raw::Ticked(report) => Answer::Ticked(ticked(report)),
        })
    }

    pub fn failure(&mut self, error: &ManageError) -> Failure {
        match error {
            ManageError::Lifecycle(error) => match error {
                LifecycleError::KeyRevoked => Failure::KeyRevoked,
                LifecycleError::KeyEnded { at } => Failure::KeyEnded(at.unix_micros()),
                LifecycleError::OwnerSuspended => Failure::OwnerSuspended,
                LifecycleError::RotationOpen { until } => Failure::RotationOpen(until.unix_micros()),
                LifecycleError::TooManyLive { until } => Failure::TooManyLive(until.unix_micros()),
                LifecycleError::NoActiveVersion => Failure::NoActiveVersion,
                LifecycleError::NotRollbackable => Failure::NotRollbackable,
                LifecycleError::NoSuchVersion(version) => Failure::NoSuchVersion(version.get()),
                LifecycleError::EmptyWindow => Failure::EmptyWindow,
                LifecycleError::GraceTooLong => Failure::GraceTooLong,
                other => Failure::Other(other.to_string()),
            },
            ManageError::UnknownKey(_) => Failure::UnknownKey,
            ManageError::UnknownOwner(owner) => Failure::UnknownOwner(known(owner.as_str())),
            ManageError::UnknownRole(role) => Failure::UnknownRole(known(role.as_str())),
            ManageError::NothingToReplace(key) => Failure::NothingToReplace(self.key(*key)),
            ManageError::WouldWiden(key) => Failure::WouldWiden(self.key(*key)),
            ManageError::OwnerLimitReached { owner, limit } => {
                Failure::OwnerLimit(known(owner.as_str()), limit.get())
            }
            ManageError::Policy(PolicyError::Lifetime) => Failure::BadPolicy("Lifetime"),
            ManageError::Policy(PolicyError::Overlap) => Failure::BadPolicy("Overlap"),
            ManageError::NothingToConfirm { mark, clock } => {
                Failure::NothingToConfirm(mark.unix_micros(), clock.unix_micros())
            }
            ManageError::RequestReused(_) => Failure::RequestReused,
            ManageError::AlreadyDone { key, version, .. } => {
                Failure::AlreadyDone(self.key(*key), version.map(VersionNo::get))
            }
            ManageError::NotWritten(_) => Failure::Trouble("NotWritten"),
            ManageError::Busy => Failure::Trouble("Busy"),
            ManageError::Read(ReadError::Store(_)) => Failure::Trouble("Read"),
            ManageError::Read(ReadError::Tampered { .. }) => Failure::Trouble("Edited"),
            ManageError::OutcomeUnknown { request, .. } => Failure::Open(request.to_string()),
            other => Failure::Other(format!("{other:?}")),
        }
    }
}

/// An answer without what the model says nothing of.
pub fn comparable(model: &Outcome, mut library: Outcome) -> Outcome {
    if let (Ok(Answer::Shown { old: None, .. }), Ok(Answer::Shown { old, .. })) = (model, &mut library) {
        *old = None;
    }
    library
}

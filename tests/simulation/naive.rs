//! The naive model of a deployment: owners, settings, requests, the clock's mark and the audit log, around the keys of
//! `family.rs`. Times are microseconds since 1970; keys and tokens are named by when they were first seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::acts::{Act, Asked, Policy, Scopes, Wanted};
use crate::answers::{Answer, Failure, Outcome};
use crate::family::{Entry, Key, Version};
use crate::marks::Mark;

pub type Time = i64;
pub const SECOND: Time = 1_000_000;
pub const HOUR: Time = 3_600 * SECOND;
pub const DAY: Time = 24 * HOUR;

const REPLAY: Time = 900 * SECOND;
const REMEMBERED: Time = 7 * DAY;
/// How long the reason of an ended version is told, and how far a tick follows a clock.
pub const MONTH: Time = 30 * DAY;
/// The name in which the library itself writes.
pub const LIBRARY: &str = "keyrota";

#[derive(Clone, Debug, Default)]
pub struct Owner {
    pub suspended: bool,
    pub limit: Option<u32>,
    pub ceiling: Option<Scopes>,
}

#[derive(Clone, Debug)]
pub struct Request {
    pub name: Option<u32>,
    pub act: Arc<Act>,
    pub token: Option<usize>,
    pub until: Time,
}

/// A token that can be had again under a request id.
#[derive(Clone, Debug)]
pub struct Kept {
    pub token: usize,
    pub until: Time,
}

#[derive(Clone, Debug)]
pub struct Naive {
    pub policy: Policy,
    pub owner_limit: u32,
    pub roles: BTreeMap<&'static str, Scopes>,
    pub owners: BTreeMap<&'static str, Owner>,
    pub keys: Vec<Key>,
    /// Each token ever shown: its key and version.
    pub tokens: Vec<(usize, u32)>,
    pub requests: Vec<Request>,
    pub kept: Vec<Kept>,
    /// The high-water mark.
    pub mark: Time,
    /// In whose name entries are written now.
    who: &'static str,
    /// Whether the clock is too far ahead for anything to be recorded as passed.
    jumped: bool,
    /// What was recorded since it was last compared.
    pub log: Vec<Entry>,
    /// How many entries were recorded before those.
    pub told: usize,
    pub marks: BTreeSet<Mark>,
    /// A key whose row cannot be believed at the moment.
    pub edited: Option<usize>,
}

/// Whether scopes allow what is demanded: itself, `r:*` all of r, `*` all but the reserved resource.
pub fn covers(held: &[&str], demanded: &str) -> bool {
    held.iter().any(|held| match held.strip_suffix('*') {
        Some("") => !demanded.starts_with("keyrota:"),
        Some(resource) => demanded.starts_with(resource),
        None => *held == demanded,
    })
}

impl Naive {
    pub fn founded(policy: Policy, owner_limit: u32, now: Time) -> Self {
        let founding = Entry { by: LIBRARY, ..Entry::new("store_founded", None, now) };
        Self {
            policy,
            owner_limit,
            roles: BTreeMap::new(),
            owners: BTreeMap::new(),
            keys: Vec::new(),
            tokens: Vec::new(),
            requests: Vec::new(),
            kept: Vec::new(),
            mark: now,
            who: LIBRARY,
            jumped: false,
            log: vec![founding],
            told: 0,
            marks: BTreeSet::new(),
            edited: None,
        }
    }

    /// An act, done whole or not at all.
    pub fn perform(&mut self, asked: &Asked, now: Time) -> Outcome {
        let Asked { who, act, request } = asked.clone();
        let t = now.max(self.mark);
        if let Some(known) = self.requests.iter().find(|known| request.is_some() && known.name == request) {
            return if *known.act == act { self.repeat(known, t) } else { Err(Failure::RequestReused) };
        }
        let mut after = Self { who, jumped: now > self.mark + MONTH, ..self.clone() };
        let answer = after.decide(&act, now, t)?;
        // What changes nothing is not remembered; but an edit always is.
        if after.log.len() > self.log.len() || matches!(act, Act::Edit { .. }) {
            let token = if let Answer::Shown { token, .. } = answer { Some(token) } else { None };
            if let (Some(_), Some(token)) = (request, token) {
                after.kept.push(Kept { token, until: t + REPLAY });
            }
            after.requests.push(Request { name: request, act: Arc::new(act), token, until: t + REMEMBERED });
            *self = after;
        }
        Ok(answer)
    }

    fn repeat(&self, known: &Request, t: Time) -> Outcome {
        match (known.token, &*known.act) {
            (Some(token), _) => {
                let (key, version) = self.tokens[token];
                let mut kept = self.kept.iter().filter(|kept| kept.token == token && t < kept.until);
                kept.next().ok_or(Failure::AlreadyDone(key, Some(version)))?;
                Ok(Answer::Shown { token, until: self.keys[key].end_of(version), old: None })
            }
            (None, Act::Deprecate { key } | Act::RollBack { key, .. } | Act::Edit { key, .. }) => {
                self.look(*key, t).map(Answer::Looked)
            }
            (None, Act::Purge { .. }) => Ok(Answer::Purged(0)),
            (None, _) => Ok(Answer::Done),
        }
    }

    fn decide(&mut self, act: &Act, now: Time, t: Time) -> Outcome {
        match act {
            Act::Issue(wanted) => return self.issue(wanted, t),
            Act::Rotate { key, supersede } => return self.rotate(*key, *supersede, t),
            Act::Replace { key, grace } => return self.replace(*key, *grace, t),
            Act::Deprecate { key } => {
                return self.change(*key, t, |key, policy, news| key.run_out(policy, t, news));
            }
            Act::RollBack { key, compromised } => {
                return self
                    .change(*key, t, |key, policy, news| key.roll_back(*compromised, policy, t, news));
            }
            Act::Edit { key, scopes, role, widen } => return self.edit(*key, scopes, *role, *widen, t),
            Act::Purge { retention } => return Ok(Answer::Purged(self.purge(t - retention, t))),
            Act::RevokeKey { key, compromised } => self.revoke(self.there(*key)?, *compromised, t),
            Act::RevokeVersion { key, version, compromised } => {
                let key = self.there(*key)?;
                self.settle_if_sure(key, t);
                let mut news = Vec::new();
                let versions = &mut self.keys[key].versions;
                let revoked =
                    versions.get_mut(*version as usize - 1).ok_or(Failure::NoSuchVersion(*version))?;
                revoked.revoke(*compromised, t, &mut news);
                self.keys[key].settle_rotations(t, &mut news);
                self.tell(key, news);
                self.forget(|of| of == (key, *version));
            }
            Act::RevokeOwner { owner, compromised } => {
                self.owners.get(owner).ok_or(Failure::UnknownOwner(owner))?;
                for key in 0..self.keys.len() {
                    let Key { owner: of, revoked_at, purged, .. } = self.keys[key];
                    if of == *owner
                        && (*compromised || revoked_at.is_none())
                        && !purged
                        && self.edited != Some(key)
                    {
                        self.revoke(key, *compromised, t);
                    }
                }
            }
            Act::Suspend { owner } if self.owners.get(owner).is_some_and(|owner| owner.suspended) => {}
            Act::Suspend { owner } => {
                self.owner(owner, t).suspended = true;
                self.about(Some(owner), "owner_suspended", t);
            }
            Act::Resume { owner } => {
                let record = self.owners.get_mut(owner).ok_or(Failure::UnknownOwner(owner))?;
                if std::mem::take(&mut record.suspended) {
                    self.about(Some(owner), "owner_resumed", t);
                }
            }
            Act::SetPolicy(policy) => {
                if std::mem::replace(&mut self.policy, *policy) != *policy {
                    self.about(None, "policy_set", t);
                }
            }
            Act::SetDefaultLimit(limit) => {
                if std::mem::replace(&mut self.owner_limit, *limit) != *limit {
                    self.about(None, "policy_set", t);
                }
            }
            Act::SetLimit { owner, limit } => {
                let added = !self.owners.contains_key(owner);
                if std::mem::replace(&mut self.owner(owner, t).limit, *limit) != *limit || added {
                    self.about(Some(owner), "owner_changed", t);
                }
            }
            Act::SetCeiling { owner, ceiling } => {
                let added = !self.owners.contains_key(owner);
                if std::mem::replace(&mut self.owner(owner, t).ceiling, ceiling.clone()) != *ceiling || added
                {
                    self.about(Some(owner), "owner_changed", t);
                }
            }
            Act::SetRole { role, scopes } => {
                if self.roles.insert(role, scopes.clone()).as_ref() != Some(scopes) {
                    self.about(None, "role_set", t);
                }
            }
            Act::ConfirmClock(to) => {
                if *to <= self.mark || *to > now {
                    return Err(Failure::NothingToConfirm(self.mark, now));
                }
                self.mark = *to;
                self.about(None, "clock_confirmed", *to);
            }
        }
        Ok(Answer::Done)
    }

    fn issue(&mut self, wanted: &Wanted, t: Time) -> Outcome {
        self.claim_place(wanted.owner, t)?;
        if let Some(role) = wanted.role.filter(|role| !self.roles.contains_key(role)) {
            return Err(Failure::UnknownRole(role));
        }
        let own = match wanted.lifetime {
            Some(lifetime) => Some(wanted.policy.unwrap_or(self.policy).with_lifetime(lifetime)?),
            None => wanted.policy,
        };
        if wanted.until.is_some_and(|until| until <= wanted.from.unwrap_or(t).max(t)) {
            return Err(Failure::EmptyWindow);
        }
        let mut news = Vec::new();
        self.keys.push(Key::issue(wanted, own.unwrap_or(self.policy), own, t, &mut news));
        self.tell(self.keys.len() - 1, news);
        Ok(self.show(self.keys.len() - 1, None))
    }

    fn rotate(&mut self, key: usize, supersede: bool, t: Time) -> Outcome {
        let key = self.there(key)?;
        if self.keys[key].revoked_at.is_none() {
            match self.keys[key].lives(t) {
                true => self.enabled(key)?,
                false => self.claim_place(self.keys[key].owner, t)?,
            }
        }
        self.settle(key, t);
        let (policy, mut news) = (self.policy_of(key), Vec::new());
        let old = self.keys[key].rotate(supersede, policy, t, &mut news)?;
        self.tell(key, news);
        Ok(self.show(key, Some((old, old.and_then(|old| self.keys[key].end_of(old))))))
    }

    fn replace(&mut self, key: usize, grace: Time, t: Time) -> Outcome {
        let key = self.there(key)?;
        self.enabled(key)?;
        self.settle(key, t);
        if self.keys[key].revoked_at.is_none() && !self.keys[key].lives(t) {
            return Err(Failure::NothingToReplace(key));
        }
        let (policy, mut news) = (self.policy_of(key), Vec::new());
        let old = self.keys[key].replace(grace, policy, t, &mut news)?;
        self.tell(key, news);
        self.forget(|(of, _)| of == key);
        Ok(self.show(key, Some((old, old.and_then(|old| self.keys[key].end_of(old))))))
    }

    fn change(
        &mut self,
        key: usize,
        t: Time,
        rule: impl Fn(&mut Key, Policy, &mut Vec<Entry>) -> Result<(), Failure>,
    ) -> Outcome {
        let key = self.there(key)?;
        self.enabled(key)?;
        self.settle(key, t);
        let (policy, mut news) = (self.policy_of(key), Vec::new());
        rule(&mut self.keys[key], policy, &mut news)?;
        self.tell(key, news);
        let revoked = |version: &Version| version.end_reason == Some("Revoked");
        let versions: Vec<_> = self.keys[key].versions.iter().map(revoked).collect();
        self.forget(|(of, number)| of == key && versions[number as usize - 1]);
        self.look(key, t).map(Answer::Looked)
    }

    fn edit(
        &mut self,
        key: usize,
        scopes: &Option<Scopes>,
        new_role: Option<Option<&'static str>>,
        widen: bool,
        t: Time,
    ) -> Outcome {
        let key = self.there(key)?;
        if self.keys[key].revoked_at.is_some() {
            return Err(Failure::KeyRevoked);
        }
        self.enabled(key)?;
        let Key { scopes: old_scopes, role: old_role, .. } = self.keys[key].clone();
        let (scopes, role) = (scopes.clone().unwrap_or(old_scopes.clone()), new_role.unwrap_or(old_role));
        if let Some(role) = new_role.flatten().filter(|role| !self.roles.contains_key(role)) {
            return Err(Failure::UnknownRole(role));
        }
        let before = self.reach(&old_scopes, old_role);
        if !widen && !self.reach(&scopes, role).iter().all(|scope| covers(&before, scope)) {
            return Err(Failure::WouldWiden(key));
        }
        if (&scopes, role) != (&old_scopes, old_role) {
            self.settle_if_sure(key, t);
            (self.keys[key].scopes, self.keys[key].role) = (scopes, role);
            self.tell(key, vec![Entry::new("key_edited", None, t)]);
        }
        self.look(key, t).map(Answer::Looked)
    }

    fn reach(&self, scopes: &Scopes, role: Option<&'static str>) -> Scopes {
        let of_role = role.and_then(|role| self.roles.get(role));
        [scopes.as_slice(), of_role.map_or(&[], Vec::as_slice)].concat()
    }

    fn purge(&mut self, before: Time, t: Time) -> usize {
        let mut purged = 0;
        for key in 0..self.keys.len() {
            let last =
                self.keys[key].versions.iter().map(|version| version.ended_at).collect::<Option<Vec<_>>>();
            let last = last.and_then(|ended| ended.into_iter().max()).max(self.keys[key].revoked_at);
            let old = last.is_some_and(|last| last <= before) && self.edited != Some(key);
            if !self.keys[key].purged && old {
                self.keys[key].purged = true;
                self.tell(key, vec![Entry::new("key_purged", None, t)]);
                self.forget(|(of, _)| of == key);
                (self.keys[key].versions, self.keys[key].rotations) = (Vec::new(), Vec::new());
                purged += 1;
            }
        }
        purged
    }

    fn revoke(&mut self, key: usize, compromised: bool, t: Time) {
        self.settle_if_sure(key, t);
        let mut news = Vec::new();
        self.keys[key].revoke(compromised, t, &mut news);
        self.tell(key, news);
        self.forget(|(of, _)| of == key);
    }

    /// A key that is not purged.
    fn there(&self, key: usize) -> Result<usize, Failure> {
        self.keys.get(key).filter(|key| !key.purged).map(|_| key).ok_or(Failure::UnknownKey)
    }

    fn enabled(&self, key: usize) -> Result<(), Failure> {
        if self.owners[self.keys[key].owner].suspended { Err(Failure::OwnerSuspended) } else { Ok(()) }
    }

    fn claim_place(&mut self, owner: &'static str, t: Time) -> Result<(), Failure> {
        let limit = self.owners.get(owner).and_then(|owner| owner.limit).unwrap_or(self.owner_limit);
        // An edited row keeps its place: editing must not make room.
        let holds = |(at, key): &(usize, &Key)| key.lives(t) || (self.edited == Some(*at) && !key.purged);
        let mine = self.keys.iter().enumerate().filter(|(_, key)| key.owner == owner);
        let held = mine.filter(holds).count();
        if self.owner(owner, t).suspended {
            return Err(Failure::OwnerSuspended);
        }
        if held >= limit as usize { Err(Failure::OwnerLimit(owner, limit)) } else { Ok(()) }
    }

    /// An owner; entered when it is new.
    fn owner(&mut self, owner: &'static str, t: Time) -> &mut Owner {
        if !self.owners.contains_key(owner) {
            self.about(Some(owner), "owner_added", t);
        }
        self.owners.entry(owner).or_default()
    }

    fn policy_of(&self, key: usize) -> Policy {
        self.keys[key].policy.unwrap_or(self.policy)
    }

    fn show(&mut self, key: usize, old: Option<(Option<u32>, Option<Time>)>) -> Answer {
        let number = self.keys[key].versions.len() as u32;
        self.tokens.push((key, number));
        Answer::Shown { token: self.tokens.len() - 1, until: self.keys[key].end_of(number), old }
    }

    fn forget(&mut self, which: impl Fn((usize, u32)) -> bool) {
        let tokens = &self.tokens;
        self.kept.retain(|kept| !which(tokens[kept.token]));
    }

    /// Records what time has made of a key, in the library's own name.
    pub fn settle(&mut self, key: usize, t: Time) {
        let (owner, mut news) = (Some(self.keys[key].owner), Vec::new());
        self.keys[key].settle(t, &mut news);
        self.log.extend(news.into_iter().map(|entry| Entry { key: Some(key), owner, by: LIBRARY, ..entry }));
    }

    /// The same for acts that do not rest on it: not by a clock that nobody has confirmed.
    fn settle_if_sure(&mut self, key: usize, t: Time) {
        if !self.jumped {
            self.settle(key, t);
        }
    }

    fn tell(&mut self, key: usize, news: Vec<Entry>) {
        let (of, by) = (&self.keys[key], self.who);
        self.log.extend(news.into_iter().map(|entry| Entry {
            key: Some(key),
            owner: Some(of.owner),
            until: of.announced(&entry),
            by,
            ..entry
        }));
    }

    fn about(&mut self, owner: Option<&'static str>, kind: &'static str, at: Time) {
        let until = (kind == "clock_confirmed").then_some(at);
        self.log.push(Entry { owner, until, by: self.who, ..Entry::new(kind, None, at) });
    }
}

//! The library under test: one store with two hosts on it, asked in the words of the naive model.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keyrota::{
    Actor, EditKey, Grant, KeyId, KeyInfo, KeyManager, KeyStore, Keyring, LifecycleError, ManageError,
    ManualClock, MemoryStore, NewKey, OwnerId, OwnerLimit, PolicyError, Replace, Revoke, RevokeTarget,
    RoleName, RollBack, RotateNow, RotatedKey, RotationPolicy, ScopeSet, SecretToken, Timestamp, Validator,
    VersionNo,
};

use crate::acts::{Act, DEMANDS, OWNERS, Policy, ROLES, Scopes, Wanted};
use crate::asks::{key_view, micros};
use crate::naive::{Answer, Failure, Outcome, Time};

/// Where the rows are.
pub enum Backing {
    Memory(MemoryStore),
    #[cfg(feature = "sqlite")]
    Sqlite(PathBuf),
}

impl Backing {
    fn open(&self) -> Arc<dyn KeyStore> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(file) => Arc::new(keyrota::SqliteStore::open(file).unwrap()),
        }
    }
}

/// A process on the store, as far as a test needs one.
pub struct Host {
    pub store: Arc<dyn KeyStore>,
    pub clock: ManualClock,
    pub keys: KeyManager,
    pub validator: Validator,
}

pub struct Site {
    pub name: &'static str,
    backing: Backing,
    pub hosts: Vec<Host>,
    /// By when they were first seen.
    pub ids: Vec<KeyId>,
    pub tokens: Vec<String>,
    /// The last grant of each token.
    pub grants: Vec<Option<Grant>>,
    /// How many audit entries were read.
    pub heard: usize,
}

fn keyring() -> Keyring {
    Keyring::from_bytes(b"\x81\x02\xd3\x44\xa5\x06\xf7\x08\x19\xea\x0b\x8c\x0d\x7e\x0f\x10\x91\x12\xc3\x14\x15\xb6\x17\x18\xf9\x1a\x2b\x1c\x9d\x1e\x3f\x20")
        .unwrap()
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
    let all = OWNERS.iter().chain(&ROLES).chain(&DEMANDS);
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

impl Site {
    pub fn new(name: &'static str, backing: Backing, first: Policy, owner_limit: u32, now: Time) -> Self {
        let lists = (Vec::new(), Vec::new(), Vec::new());
        let mut site = Self {
            name,
            backing,
            hosts: Vec::new(),
            ids: lists.0,
            tokens: lists.1,
            grants: lists.2,
            heard: 0,
        };
        let clock = ManualClock::new(time(now));
        let founder = KeyManager::builder(site.backing.open(), keyring()).clock(clock);
        founder.policy(policy(first)).owner_limit(limit(owner_limit)).open().unwrap().close().unwrap();
        site.reopen([now, now], 0, true, false);
        site
    }

    fn host(&self, now: Time) -> Host {
        let (store, clock) = (self.backing.open(), ManualClock::new(time(now)));
        let keys = KeyManager::builder(Arc::clone(&store), keyring()).clock(clock.clone()).open().unwrap();
        let validator = if self.hosts.is_empty() {
            keys.validator().unwrap()
        } else {
            Validator::builder(self.backing.open(), keyring()).clock(clock.clone()).open().unwrap()
        };
        Host { store, clock, keys, validator }
    }

    pub fn reopen(&mut self, clocks: [Time; 2], host: usize, both: bool, close: bool) {
        if close {
            let hosts = if both { &self.hosts[..] } else { &self.hosts[host..=host] };
            for host in hosts {
                host.validator.close().unwrap();
                host.keys.close().unwrap();
            }
        }
        if both {
            self.hosts.clear();
            for now in clocks {
                let host = self.host(now);
                self.hosts.push(host);
            }
        } else {
            drop(self.hosts.remove(host));
            let opened = self.host(clocks[host]);
            self.hosts.insert(host, opened);
        }
    }

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

    fn shown(&mut self, key: KeyId, token: &SecretToken) -> usize {
        self.key(key);
        self.tokens.iter().position(|known| known == token.expose()).unwrap_or_else(|| {
            self.tokens.push(token.expose().to_owned());
            self.grants.push(None);
            self.tokens.len() - 1
        })
    }

    fn rotated(&mut self, done: &RotatedKey) -> Answer {
        Answer::Shown {
            token: self.shown(done.key, &done.token),
            until: micros(done.valid_until),
            old: Some((done.old_version.map(VersionNo::get), micros(done.old_valid_until))),
        }
    }

    pub fn perform(&mut self, host: usize, act: &Act, request: Option<u32>) -> Outcome {
        let keys = self.hosts[host].keys.clone();
        let by = keys.by(Actor::operator("root"));
        let by = if let Some(request) = request { by.request(format!("req-{request}")) } else { by };
        let revoke = |target: RevokeTarget, compromised| {
            if compromised { Revoke::of(target).compromised() } else { Revoke::of(target) }
        };
        let looked = |info: KeyInfo| Answer::Looked(key_view(&info));
        let done = |()| Answer::Done;
        let answer = match act {
            Act::Issue(wanted) => by.issue(new_key(wanted)).map(|issued| Answer::Shown {
                token: self.shown(issued.key, &issued.token),
                until: micros(issued.valid_until),
                old: None,
            }),
            Act::Rotate { key, supersede } => {
                let how = RotateNow::of(self.id(*key));
                let how = if *supersede { how.supersede() } else { how };
                by.rotate(how).map(|rotated| self.rotated(&rotated))
            }
            Act::Replace { key, grace } => by
                .replace(Replace::of(self.id(*key)).grace(span(*grace)))
                .map(|rotated| self.rotated(&rotated)),
            Act::Deprecate { key } => by.deprecate(self.id(*key)).map(looked),
            Act::RollBack { key, compromised } => {
                let how = RollBack::of(self.id(*key));
                by.roll_back(if *compromised { how.compromised() } else { how }).map(looked)
            }
            Act::RevokeKey { key, compromised } => {
                by.revoke(revoke(self.id(*key).into(), *compromised)).map(done)
            }
            Act::RevokeVersion { key, version, compromised } => {
                let target = (self.id(*key), VersionNo::new(*version));
                by.revoke(revoke(target.into(), *compromised)).map(done)
            }
            Act::RevokeOwner { owner: of, compromised } => {
                by.revoke(revoke(owner(of).into(), *compromised)).map(done)
            }
            Act::Suspend { owner: of } => by.suspend(owner(of)).map(done),
            Act::Resume { owner: of } => by.resume(owner(of)).map(done),
            Act::SetPolicy(next) => by.set_policy(policy(*next)).map(done),
            Act::SetDefaultLimit(keys) => by.set_default_owner_limit(limit(*keys)).map(done),
            Act::SetLimit { owner: of, limit: keys } => {
                by.set_owner_limit(owner(of), keys.map(limit)).map(done)
            }
            Act::SetCeiling { owner: of, ceiling } => {
                by.set_owner_ceiling(owner(of), ceiling.as_ref().map(set)).map(done)
            }
            Act::SetRole { role: name, scopes } => by.set_role(role(name), set(scopes)).map(done),
            Act::Edit { key, scopes, role: name, widen } => {
                let mut edit = EditKey::of(self.id(*key));
                edit = if let Some(scopes) = scopes { edit.scopes(set(scopes)) } else { edit };
                edit = if let Some(name) = name { edit.role(name.map(role)) } else { edit };
                by.edit(if *widen { edit.widen() } else { edit }).map(looked)
            }
            Act::Purge { retention } => by.purge(span(*retention)).map(|report| {
                assert!(report.purged == 0 || !report.more);
                Answer::Purged(report.purged)
            }),
            Act::ConfirmClock(to) => by.confirm_clock(time(*to)).map(done),
        };
        answer.map_err(|error| self.failure(error))
    }

    pub fn failure(&mut self, error: ManageError) -> Failure {
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
            ManageError::NothingToReplace(key) => Failure::NothingToReplace(self.key(key)),
            ManageError::WouldWiden(key) => Failure::WouldWiden(self.key(key)),
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
                Failure::AlreadyDone(self.key(key), version.map(VersionNo::get))
            }
            other => Failure::Other(format!("{other:?}")),
        }
    }
}

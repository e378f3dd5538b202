//! Making many keys with everything on, through the public interface.

use std::time::{Duration, SystemTime};

use keyrota::{
    Actor, Clock, Demand, KeyId, KeyManager, KeyStore, Keyring, ManualClock, Networks, NewKey, OwnerId,
    OwnerLimit, Prefix, RateLimit, Scope, ScopeSet, Timestamp,
};

use super::Error;
use super::tokens::Tokens;

const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const OWNERS: usize = 1_000;
/// Different sets of scopes and networks.
pub(crate) const PROFILES: usize = 50;
/// How many of the profiles have networks.
const WALLED: usize = 3;

/// What every key allows, and from where.
pub(crate) struct Asked {
    scope: Scope,
    other: Scope,
}

impl Asked {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self { scope: Scope::new("orders:read")?, other: Scope::new("orders:write")? })
    }

    /// A demand that every key meets.
    pub(crate) fn met(&self) -> Demand<'_> {
        Demand::scope(&self.scope).from([10, 1, 2, 3])
    }

    /// From where those keys that have networks are not allowed.
    pub(crate) fn elsewhere(&self) -> Demand<'_> {
        Demand::scope(&self.scope).from([192, 0, 2, 1])
    }

    /// A scope that no key has.
    pub(crate) fn too_much(&self) -> Demand<'_> {
        Demand::scope(&self.other).from([10, 1, 2, 3])
    }

    /// More uses than any rate limit ever has left.
    pub(crate) fn too_often(&self) -> Demand<'_> {
        self.met().cost(u32::MAX)
    }
}

/// Issues keys as if it were two days ago, with windows from yesterday to thirty days hence.
pub(crate) struct Issuing {
    pub(crate) keys: KeyManager,
    owners: usize,
    issued: usize,
    from: Timestamp,
    until: Timestamp,
    limit: RateLimit,
    networks: Networks,
}

/// What was issued together.
#[derive(Default)]
pub(crate) struct Issued {
    pub(crate) tokens: Tokens,
    /// Those of them that may only be used from their networks.
    pub(crate) walled: Tokens,
    pub(crate) keys: Vec<KeyId>,
}

pub(crate) fn today() -> Timestamp {
    Timestamp::saturating_from(SystemTime::now())
}

impl Issuing {
    /// Begins on an empty store.
    pub(crate) fn on(store: impl KeyStore, keyring: &Keyring, owners: usize) -> Result<Self, Error> {
        let clock = ManualClock::new(today().minus_or_min(2 * DAY));
        let (from, until) = (clock.now().plus(DAY)?, clock.now().plus(32 * DAY)?);
        let keys = KeyManager::builder(store, keyring.clone())
            .clock(clock)
            .owner_limit(OwnerLimit::new(1_000_000)?)
            .prefixes([Prefix::default(), Prefix::new("oth")?])
            .open()?;
        let limit = RateLimit::per_second(1_000_000)?.with_burst(2_000_000_000)?;
        let networks = ["10.0.0.0/8", "2001:db8::/32"].try_into()?;
        Ok(Self { keys, owners, issued: 0, from, until, limit, networks })
    }

    fn owner(&self, number: usize) -> Result<OwnerId, Error> {
        Ok(OwnerId::new(&format!("owner-{}", number % self.owners))?)
    }

    fn new_key(&self, number: usize) -> Result<NewKey, Error> {
        let profile = number % PROFILES;
        let scopes: ScopeSet = ["orders:read", &format!("area-{profile}:read")].try_into()?;
        let key = NewKey::new(self.owner(number)?, format!("key {number}"))?;
        let key = key.scopes(scopes).limits(self.limit).window(self.from, self.until);
        Ok(if profile < WALLED { key.networks(self.networks.clone()) } else { key })
    }

    fn issue_one(&self, number: usize, issued: &mut Issued) -> Result<(), Error> {
        let one = self.keys.by(Actor::service("bench")).issue(self.new_key(number)?)?;
        issued.tokens.push(one.token.expose().as_bytes());
        if number % PROFILES < WALLED {
            issued.walled.push(one.token.expose().as_bytes());
        }
        issued.keys.push(one.key);
        Ok(())
    }

    /// Issues so many keys, by several threads, each for owners of its own.
    pub(crate) fn issue(&mut self, count: usize) -> Result<Issued, Error> {
        let threads = std::thread::available_parallelism()?.get().min(self.owners).min(8);
        let numbers = self.issued..self.issued + count;
        self.issued += count;
        let this = &*self;
        let share = |thread: usize| -> Result<Issued, String> {
            let mut issued = Issued::default();
            let mine = numbers.clone().filter(|number| number % this.owners % threads == thread);
            for number in mine {
                this.issue_one(number, &mut issued).map_err(|error| error.to_string())?;
            }
            Ok(issued)
        };
        let shares: Vec<_> = std::thread::scope(|scope| {
            let share = &share;
            let spawned: Vec<_> = (0..threads).map(|thread| scope.spawn(move || share(thread))).collect();
            spawned.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut all = Issued::default();
        for share in shares {
            let share = share?;
            all.tokens.append(&share.tokens);
            all.walled.append(&share.walled);
            all.keys.extend(share.keys);
        }
        Ok(all)
    }

    /// Enters all owners, before they have keys.
    pub(crate) fn enter_owners(&self) -> Result<(), Error> {
        for number in 0..self.owners {
            let limit = Some(OwnerLimit::new(1_000_000)?);
            self.keys.by(Actor::service("bench")).set_owner_limit(self.owner(number)?, limit)?;
        }
        Ok(())
    }

    /// Suspends all owners.
    pub(crate) fn suspend_all(&self) -> Result<(), Error> {
        for number in 0..self.owners.min(self.issued) {
            self.keys.by(Actor::service("bench")).suspend(self.owner(number)?)?;
        }
        Ok(())
    }

    pub(crate) fn revoke(&self, key: KeyId) -> Result<(), Error> {
        Ok(self.keys.by(Actor::service("bench")).revoke(key)?)
    }
}

//! keyrota itself, with a rate limit on every key.

use std::hint::black_box;
use std::time::Duration;

use ::keyrota::{
    Actor, Demand, KeyManager, Keyring, MemoryStore, NewKey, OwnerId, OwnerLimit, RateLimit, Scope, ScopeSet,
};

use crate::{Peer, SCOPE};

/// A validation in memory.
///
/// # Errors
/// When a key cannot be issued.
pub fn keyrota(count: usize) -> Peer {
    let keys = KeyManager::builder(MemoryStore::new(), Keyring::generate()?)
        .owner_limit(OwnerLimit::new(1_000_000)?)
        .open()?;
    let limit = RateLimit::per_second(1_000_000)?.with_burst(2_000_000_000)?;
    let mut tokens = Vec::new();
    for number in 0..count {
        let scopes: ScopeSet = [SCOPE, &format!("area-{}:read", number % 50)].try_into()?;
        let owner = OwnerId::new(&format!("owner-{}", number % 1_000))?;
        let new = NewKey::new(owner, "peer")?.scopes(scopes).limits(limit);
        let new = new.lifetime(Duration::from_secs(30 * crate::DAY));
        tokens.push(keys.by(Actor::service("bench")).issue(new)?.token.expose().to_owned());
    }
    let validator = keys.validator()?;
    let scope = Scope::new(SCOPE)?;
    let verify = move |token: &str| black_box(validator.validate_for(token, Demand::scope(&scope))).is_ok();
    Ok((tokens, Box::new(verify)))
}

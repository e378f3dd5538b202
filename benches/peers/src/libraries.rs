//! Libraries of the registry.

use std::collections::HashMap;
use std::time::Duration;

use ::api_keys_simplified::{
    ApiKeyManagerV0, Environment, ExposeSecret as _, HashConfig, KeyConfig, KeyStatus, SecureString,
};
use ::authrs::api_key::{ApiKeyConfig, ApiKeyManager};
use ::prefixed_api_key::{PrefixedApiKey, PrefixedApiKeyController};

use crate::{Peer, Record, SCOPE};

/// `prefixed-api-key`, which parses and compares; the records are in the host's map, by short token.
///
/// # Errors
/// When a key cannot be made.
pub fn prefixed_api_key(count: usize) -> Peer {
    let controller = PrefixedApiKeyController::configure()
        .prefix("mycompany".to_owned())
        .seam_defaults()
        .finalize()
        .map_err(|error| format!("{error:?}"))?;
    let mut records = HashMap::new();
    let mut tokens = Vec::new();
    for number in 0..count {
        let (key, hash) = controller.try_generate_key_and_hash()?;
        records.insert(key.short_token().to_owned(), (hash, Record::of(number)));
        tokens.push(key.to_string());
    }
    let verify = move |token: &str| {
        let Ok(key) = PrefixedApiKey::from_string(token) else { return false };
        let known = records.get(key.short_token());
        known.is_some_and(|(hash, record)| controller.check_hash(&key, hash) && record.allows())
    };
    Ok((tokens, Box::new(verify)))
}

/// `authrs`, which keeps the keys itself and counts their uses.
///
/// # Errors
/// When a key cannot be made.
pub fn authrs(count: usize) -> Peer {
    let mut manager = ApiKeyManager::new(ApiKeyConfig::default());
    let mut tokens = Vec::new();
    for number in 0..count {
        let Record { owner, scopes, .. } = Record::of(number);
        let key = manager.create_key(owner).with_scopes(scopes).with_expires_in_days(30);
        let (key, token) = key.build().map_err(|error| error.to_string())?;
        manager.add_key(key);
        tokens.push(token);
    }
    let verify = move |token: &str| manager.validate_with_scopes(token, &[SCOPE]).is_some();
    Ok((tokens, Box::new(verify)))
}

/// `api-keys-simplified`, with Argon2 at its default or at the least that Argon2 allows; the records are in the host's
/// map, by the id that the library computes.
///
/// # Errors
/// When a key cannot be made.
pub fn api_keys_simplified(count: usize, is_cheapest: bool) -> Peer {
    let cost = if is_cheapest { HashConfig::custom(8, 1, 1).map_err(text)? } else { HashConfig::balanced() };
    let grace = Duration::from_secs(10);
    let manager = ApiKeyManagerV0::init("mycompany", KeyConfig::default(), cost, grace).map_err(text)?;
    let mut records = HashMap::new();
    let mut tokens = Vec::new();
    for number in 0..count {
        let key = manager.generate(Environment::production()).map_err(text)?;
        let hash = key.expose_hash().hash().clone();
        records.insert(manager.extract_key_id(key.key()), (hash, Record::of(number)));
        tokens.push(key.key().expose_secret().to_owned());
    }
    let verify = move |token: &str| {
        let token = SecureString::from(token.to_owned());
        records.get(&manager.extract_key_id(&token)).is_some_and(|(hash, record)| {
            matches!(manager.verify(&token, hash), Ok(KeyStatus::Valid)) && record.allows()
        })
    };
    Ok((tokens, Box::new(verify)))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

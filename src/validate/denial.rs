//! Denials: the answers of validation that are not a grant.

use std::fmt;

use crate::id::{KeyId, VersionNo};
use crate::keyring::Generation;
use crate::lifecycle::Refusal;
use crate::limit::LimitStatus;
use crate::store::CountedReason;
use crate::version::EndReason;

/// Why a validation was denied. Everything but [`DenialReason::Unknown`] and [`DenialReason::Unavailable`] is
/// told only to whoever presented the right secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DenialReason {
    /// Not a token, an unknown one, a wrong secret or a wrong prefix: these look alike.
    Unknown,
    /// The version or its key was revoked.
    Revoked,
    /// The owner is suspended.
    Suspended,
    /// The version's lifetime is over.
    Expired,
    /// The version's grace after a rotation is over: a newer version is to be used.
    Retired,
    /// The version was withdrawn before it was handed over.
    Cancelled,
    /// The version was never handed over: its secret can only have leaked.
    Undelivered,
    /// The version's window has not begun.
    NotYet,
    /// The key's or the owner's row was edited behind the library's back.
    Tampered,
    /// The request comes from outside the key's networks, or from no known address.
    Network,
    /// The scopes do not cover what was demanded.
    Scope,
    /// A rate limit of the key is reached; [`Denial::limit`] says for how long.
    RateLimit,
    /// The key's quota is used up, or none of it is leased to this process at the moment.
    Quota,
    /// No answer can be given now; try again.
    Unavailable(Unavailable),
}

/// Why no answer can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unavailable {
    /// The store cannot be read.
    Store,
    /// Another caller's catching up with the store takes too long.
    Timeout,
    /// A row was written under a master key that this process does not hold yet: add it to the keyring.
    KeyringBehind(Generation),
    /// The validator was closed.
    Closed,
}

/// What a denial means to the client: the only thing that may leave the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DenialClass {
    /// The client did not authenticate (HTTP 401).
    Unauthenticated,
    /// The client may not do this (HTTP 403).
    Forbidden,
    /// The client has to wait (HTTP 429).
    Limited,
    /// No answer can be given now (HTTP 503).
    Unavailable,
}

/// A denied validation: an answer, not a failure. Small and `Copy`; names the key once the secret has matched.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Denial {
    reason: DenialReason,
    version: Option<(KeyId, VersionNo)>,
    limit: Option<LimitStatus>,
}

impl Denial {
    pub(crate) const UNKNOWN: Self = Self { reason: DenialReason::Unknown, version: None, limit: None };

    pub(crate) fn unavailable(why: Unavailable) -> Self {
        Self { reason: DenialReason::Unavailable(why), version: None, limit: None }
    }

    pub(crate) fn of(reason: DenialReason, key: KeyId, version: VersionNo) -> Self {
        Self { reason, version: Some((key, version)), limit: None }
    }

    /// The same with the limit that was reached.
    pub(crate) fn with_limit(self, limit: LimitStatus) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Why; for the host's own eyes.
    #[must_use]
    pub fn reason(&self) -> DenialReason {
        self.reason
    }

    /// What may be told to the client.
    #[must_use]
    pub fn class(&self) -> DenialClass {
        match self.reason {
            DenialReason::Unavailable(_) => DenialClass::Unavailable,
            DenialReason::Scope => DenialClass::Forbidden,
            DenialReason::RateLimit | DenialReason::Quota => DenialClass::Limited,
            _ => DenialClass::Unauthenticated,
        }
    }

    /// The key whose secret was presented, where it matched.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        self.version.map(|(key, _)| key)
    }

    /// The version whose secret was presented, where it matched.
    #[must_use]
    pub fn version(&self) -> Option<VersionNo> {
        self.version.map(|(_, version)| version)
    }
}

impl Denial {
    /// The limit that was reached, with what to tell the client of it.
    #[must_use]
    pub fn limit(&self) -> Option<&LimitStatus> {
        self.limit.as_ref()
    }
}

impl DenialReason {
    /// As what usage counts it; nothing before the secret has matched.
    #[must_use]
    pub fn counted(self) -> Option<CountedReason> {
        Some(match self {
            Self::Unknown | Self::Unavailable(_) => return None,
            Self::Revoked => CountedReason::Revoked,
            Self::Suspended => CountedReason::Suspended,
            Self::Expired => CountedReason::Expired,
            Self::Retired => CountedReason::Retired,
            Self::Cancelled => CountedReason::Cancelled,
            Self::Undelivered => CountedReason::Undelivered,
            Self::NotYet => CountedReason::NotYet,
            Self::Tampered => CountedReason::Tampered,
            Self::Network => CountedReason::Network,
            Self::Scope => CountedReason::Scope,
            Self::RateLimit => CountedReason::RateLimit,
            Self::Quota => CountedReason::Quota,
        })
    }
}

impl From<Refusal> for DenialReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Revoked | Refusal::Ended(EndReason::Revoked) => Self::Revoked,
            Refusal::Suspended => Self::Suspended,
            Refusal::Ended(EndReason::Expired) => Self::Expired,
            Refusal::Ended(EndReason::Retired) => Self::Retired,
            Refusal::Ended(EndReason::Cancelled) => Self::Cancelled,
            Refusal::Undelivered => Self::Undelivered,
            Refusal::NotYet => Self::NotYet,
        }
    }
}

impl fmt::Display for DenialReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown token",
            Self::Revoked => "revoked",
            Self::Suspended => "the owner is suspended",
            Self::Expired => "expired",
            Self::Retired => "superseded, and its grace is over",
            Self::Cancelled => "withdrawn before it was handed over",
            Self::Undelivered => "never handed over",
            Self::NotYet => "not valid yet",
            Self::Tampered => "its record was edited behind the library's back",
            Self::Network => "not from one of its networks",
            Self::Scope => "its scopes do not cover the request",
            Self::RateLimit => "a rate limit is reached",
            Self::Quota => "its quota is used up",
            Self::Unavailable(Unavailable::Store) => "unavailable: the store cannot be read",
            Self::Unavailable(Unavailable::Timeout) => "unavailable: catching up takes too long",
            Self::Unavailable(Unavailable::KeyringBehind(_)) => "unavailable: the keyring is behind",
            Self::Unavailable(Unavailable::Closed) => "unavailable: the validator was closed",
        })
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Some((key, version)) => write!(f, "denied: {key} {version}: {}", self.reason),
            None => write!(f, "denied: {}", self.reason),
        }
    }
}

impl fmt::Debug for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Denial({self})")
    }
}

impl std::error::Error for Denial {}

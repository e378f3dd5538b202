//! Demands and grants: what a request asks for, and what it gets.

use core::net::IpAddr;

use crate::id::{KeyId, OwnerId, VersionNo};
use crate::limit::LimitStatus;
use crate::scope::Scope;
use crate::signal::Source;
use crate::time::Timestamp;
use crate::validate::entry::Following;

/// What a request demands of the token that it presents, and what is known of it.
///
/// Given before the verdict, so that a request without the scope costs a key nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Demand<'a> {
    scope: Option<&'a Scope>,
    from: Option<IpAddr>,
    named: Option<&'a str>,
    cost: u32,
}

impl<'a> Demand<'a> {
    /// Nothing but a valid token; one use.
    pub const NOTHING: Self = Self { scope: None, from: None, named: None, cost: 1 };

    /// A valid token whose key holds this scope; one use.
    pub fn scope(scope: &'a Scope) -> Self {
        Self { scope: Some(scope), ..Self::NOTHING }
    }

    /// Where the request comes from. A key that has networks is denied to whoever comes from elsewhere, and to a demand
    /// that does not say from where. Behind a proxy this is the address that you trust the proxy to tell.
    pub fn from(mut self, address: impl Into<IpAddr>) -> Self {
        self.from = Some(address.into());
        self
    }

    /// By whom the request comes, where that is better known than by its address: the name of a client, a tenant, a
    /// gateway. Failures are counted by it in place of the address, and nothing else depends on it; its first 64 bytes
    /// count.
    pub fn source(mut self, name: &'a str) -> Self {
        self.named = Some(name);
        self
    }

    /// How many uses the request counts for in the key's limits. Default 1; 0 counts for none.
    pub fn cost(mut self, uses: u32) -> Self {
        self.cost = uses;
        self
    }

    pub(crate) fn demanded_scope(&self) -> Option<&'a Scope> {
        self.scope
    }

    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.from
    }

    /// As whose its failure counts.
    pub(crate) fn counted_as(&self) -> Option<Source<'a>> {
        self.named.map(Source::Named).or(self.from.map(Source::Address))
    }

    pub(crate) fn uses(&self) -> u32 {
        self.cost
    }
}

impl Default for Demand<'_> {
    fn default() -> Self {
        Self::NOTHING
    }
}

/// A successor that waits to be claimed with the token that was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Successor {
    /// Until when it can be claimed at all.
    pub claim_by: Timestamp,
    /// Until when the token that was presented validates, by which it can be claimed; `None` is never.
    pub ends: Option<Timestamp>,
}

/// A token that validates: whose it is, and until when. Small, `Copy` and free of borrows; names and metadata
/// are asked for apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub(crate) key: KeyId,
    pub(crate) version: VersionNo,
    pub(crate) owner: OwnerId,
    pub(crate) valid_until: Option<Timestamp>,
    pub(crate) following: Following,
    pub(crate) limit: Option<LimitStatus>,
}

impl Grant {
    /// The key.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// The version whose secret was presented.
    #[must_use]
    pub fn version(&self) -> VersionNo {
        self.version
    }

    /// The owner of the key.
    #[must_use]
    pub fn owner(&self) -> OwnerId {
        self.owner
    }

    /// When the version stops validating, as announced now; `None` is never. Revocation does not wait for it.
    #[must_use]
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }

    /// Since when the version is superseded, if it is: the client should move to its successor before
    /// [`Grant::valid_until`].
    #[must_use]
    pub fn deprecated_at(&self) -> Option<Timestamp> {
        match self.following {
            Following::Superseded(since) => Some(since),
            Following::Nothing | Following::Waits(_) => None,
        }
    }

    /// The successor that waits to be claimed with this token, while one does: an unattended client learns of it by this,
    /// and claims it before both of its dates.
    #[must_use]
    pub fn successor(&self) -> Option<Successor> {
        match self.following {
            Following::Waits(claim_by) => Some(Successor { claim_by, ends: self.valid_until }),
            Following::Nothing | Following::Superseded(_) => None,
        }
    }

    /// Of the key's limits, the one with the fewest uses left after this request; `None` where it has none.
    #[must_use]
    pub fn limit(&self) -> Option<&LimitStatus> {
        self.limit.as_ref()
    }

    /// Whether the version is superseded and runs out.
    #[must_use]
    pub fn is_deprecated(&self) -> bool {
        self.deprecated_at().is_some()
    }
}

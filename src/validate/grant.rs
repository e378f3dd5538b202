//! Demands and grants: what a request asks for, and what it gets.

use crate::id::{KeyId, OwnerId, VersionNo};
use crate::scope::Scope;
use crate::time::Timestamp;

/// What a request demands of the token that it presents.
///
/// Given before the verdict, so that a request without the scope costs a key nothing.
#[derive(Clone, Copy, Debug, Default)]
#[must_use]
pub struct Demand<'a> {
    scope: Option<&'a Scope>,
}

impl<'a> Demand<'a> {
    /// Nothing but a valid token.
    pub const NOTHING: Self = Self { scope: None };

    /// A valid token whose key holds this scope.
    pub fn scope(scope: &'a Scope) -> Self {
        Self { scope: Some(scope) }
    }

    pub(crate) fn demanded_scope(&self) -> Option<&'a Scope> {
        self.scope
    }
}

/// A token that validates: whose it is, and until when. Small, `Copy` and free of borrows; names and metadata
/// are asked for apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub(crate) key: KeyId,
    pub(crate) version: VersionNo,
    pub(crate) owner: OwnerId,
    pub(crate) valid_until: Option<Timestamp>,
    pub(crate) deprecated_at: Option<Timestamp>,
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
        self.deprecated_at
    }

    /// Whether the version is superseded and runs out.
    #[must_use]
    pub fn is_deprecated(&self) -> bool {
        self.deprecated_at.is_some()
    }
}

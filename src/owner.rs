//! The owner's record: mandatory for each owner of a key, and the place where its keys are counted.

use serde::{Deserialize, Serialize};

use crate::id::{OwnerId, RoleName};
use crate::policy::OwnerLimit;
use crate::scope::ScopeSet;

/// An owner as the store remembers it. A key whose owner's record is missing does not validate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OwnerRecord {
    /// The host's name for the owner.
    pub id: OwnerId,
    /// Whether its keys are kept from validating.
    pub suspended: bool,
    /// How many keys it may hold, where that differs from the deployment's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<OwnerLimit>,
    /// The scopes beyond which none of its keys goes, whatever the key or its role says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<ScopeSet>,
    /// Whether its keys rotate by themselves, where neither the key says otherwise nor the deployment's word holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_rotation: Option<bool>,
}

impl OwnerRecord {
    pub(crate) fn new(id: OwnerId) -> Self {
        Self { id, suspended: false, limit: None, ceiling: None, auto_rotation: None }
    }
}

/// A role: a named set of scopes. A key with an unknown role gets nothing from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RoleRecord {
    /// Its name.
    pub name: RoleName,
    /// What it adds to a key's own scopes.
    pub scopes: ScopeSet,
}

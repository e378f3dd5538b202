//! Who does an act, why, and under which request id: the context of every change.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::RequestId;
use crate::text::{self, TextError};

/// What sort of actor it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ActorKind {
    /// A person who runs the host application.
    Operator,
    /// The owner of the key, through the host.
    Owner,
    /// A program acting for the host.
    Service,
    /// The library itself, in a tick.
    System,
}

/// Who does an act: named by the host, written into the audit log, never authenticated here.
///
/// The name is checked when the act is carried out: 1 to 128 bytes of visible text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Actor {
    kind: ActorKind,
    name: String,
}

impl Actor {
    /// The longest name, in bytes of UTF-8.
    pub const MAX_NAME_BYTES: usize = 128;

    /// A person who runs the host application.
    pub fn operator(name: impl Into<String>) -> Self {
        Self { kind: ActorKind::Operator, name: name.into() }
    }

    /// The owner of the key, whom the host has authenticated.
    pub fn owner(name: impl Into<String>) -> Self {
        Self { kind: ActorKind::Owner, name: name.into() }
    }

    /// A program acting for the host.
    pub fn service(name: impl Into<String>) -> Self {
        Self { kind: ActorKind::Service, name: name.into() }
    }

    /// The library itself, in a tick.
    pub(crate) fn system() -> Self {
        Self { kind: ActorKind::System, name: "keyrota".to_owned() }
    }

    /// What sort of actor it is.
    #[must_use]
    pub fn kind(&self) -> ActorKind {
        self.kind
    }

    /// The name that the host gave.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// `operator root`, `service billing` …
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ActorKind::Operator => "operator",
            ActorKind::Owner => "owner",
            ActorKind::Service => "service",
            ActorKind::System => "system",
        };
        write!(f, "{kind} {}", self.name)
    }
}

/// The checked context of one act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) actor: Actor,
    pub(crate) reason: Option<String>,
    pub(crate) request: Option<RequestId>,
}

impl Context {
    const MAX_REASON_BYTES: usize = 500;

    /// Checks what the caller said of the act.
    pub(crate) fn new(
        actor: Actor,
        reason: Option<String>,
        request: Option<String>,
    ) -> Result<Self, TextError> {
        text::check("actor", &actor.name, Actor::MAX_NAME_BYTES)?;
        if let Some(reason) = &reason {
            text::check("reason", reason, Self::MAX_REASON_BYTES)?;
        }
        Ok(Self { actor, reason, request: request.map(RequestId::new).transpose()? })
    }

    /// The context of what a tick does by itself.
    pub(crate) fn system() -> Self {
        Self { actor: Actor::system(), reason: None, request: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_reasons_and_request_ids_are_bounded_visible_text() {
        let root = || Actor::operator("root");
        assert!(Context::new(root(), Some("leaked in a build log".into()), Some("req-1".into())).is_ok());
        assert!(Context::new(Actor::operator("a\nb"), None, None).is_err());
        assert!(Context::new(Actor::operator("x".repeat(10_240)), None, None).is_err());
        assert!(Context::new(root(), Some("a\u{202E}b".into()), None).is_err());
        assert!(Context::new(root(), Some("x".repeat(10_240)), None).is_err());
        assert!(Context::new(root(), None, Some("req\0".into())).is_err());
        assert!(Context::new(root(), None, Some("x".repeat(10_240))).is_err());
    }
}

//! The acts and steps: what may be asked of a deployment.

use crate::answers::Failure;
use crate::faults::Fault;
use crate::naive::{SECOND, Time};

pub type Scopes = Vec<&'static str>;

pub const OWNERS: [&str; 3] = ["ada", "bob", "eve"];
pub const ROLES: [&str; 2] = ["clerk", "guest"];
/// What is demanded after each step.
pub const DEMANDS: [&str; 7] =
    ["*", "bills:read", "keyrota:*", "keyrota:rotate", "orders:*", "orders:read", "orders:write"];
/// A key that was never issued.
pub const NOBODY: usize = 999;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    pub lifetime: Time,
    pub overlap: Time,
}

const MINUTE: Time = 60 * SECOND;

/// A key to be issued.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub owner: &'static str,
    pub scopes: Scopes,
    pub role: Option<&'static str>,
    pub policy: Option<Policy>,
    pub lifetime: Option<Time>,
    pub from: Option<Time>,
    pub until: Option<Time>,
    pub never_expires: bool,
}

impl Wanted {
    /// A key with nothing special.
    pub fn plain(owner: &'static str) -> Self {
        Self {
            owner,
            scopes: vec!["orders:read"],
            role: None,
            policy: None,
            lifetime: None,
            from: None,
            until: None,
            never_expires: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    Issue(Wanted),
    Rotate { key: usize, supersede: bool },
    Deprecate { key: usize },
    RollBack { key: usize, compromised: bool },
    Replace { key: usize, grace: Time },
    RevokeKey { key: usize, compromised: bool },
    RevokeVersion { key: usize, version: u32, compromised: bool },
    RevokeOwner { owner: &'static str, compromised: bool },
    Suspend { owner: &'static str },
    Resume { owner: &'static str },
    SetPolicy(Policy),
    SetDefaultLimit(u32),
    SetLimit { owner: &'static str, limit: Option<u32> },
    SetCeiling { owner: &'static str, ceiling: Option<Scopes> },
    SetRole { role: &'static str, scopes: Scopes },
    Edit { key: usize, scopes: Option<Scopes>, role: Option<Option<&'static str>>, widen: bool },
    Purge { retention: Time },
    ConfirmClock(Time),
}

impl Act {
    /// The key that it is about.
    pub fn key(&self) -> Option<usize> {
        match self {
            Self::Rotate { key, .. }
            | Self::Deprecate { key }
            | Self::RollBack { key, .. }
            | Self::Replace { key, .. }
            | Self::RevokeKey { key, .. }
            | Self::RevokeVersion { key, .. }
            | Self::Edit { key, .. } => Some(*key),
            _ => None,
        }
    }
}

/// An act, in somebody's name and perhaps under a request id.
#[derive(Clone, Debug)]
pub struct Asked {
    pub who: &'static str,
    pub act: Act,
    pub request: Option<u32>,
}

#[derive(Clone, Debug)]
pub enum Step {
    Act {
        host: usize,
        asked: Asked,
    },
    Tick {
        host: usize,
    },
    /// What the clocks of the hosts show from now on.
    Clocks([Time; 2]),
    /// A token is presented: one that was shown, counted from the last.
    Validate {
        host: usize,
        back: usize,
        demanded: Option<&'static str>,
    },
    Flush {
        host: usize,
    },
    /// Opens a host again, or both at once; with a farewell or without.
    Reopen {
        host: usize,
        both: bool,
        close: bool,
    },
    /// Somebody tries another master key.
    WrongKey,
}

/// A step with what goes wrong at it. `salt` decides what is looked at afterwards.
#[derive(Clone, Debug)]
pub struct Planned {
    pub step: Step,
    pub fault: Option<Fault>,
    pub salt: u64,
}

/// The acts by name, in the order of [`Swarm`]; the first is always there.
pub const ACTS: [&str; 18] = [
    "Issue",
    "Rotate",
    "Deprecate",
    "RollBack",
    "Replace",
    "RevokeKey",
    "RevokeVersion",
    "RevokeOwner",
    "Suspend",
    "Resume",
    "SetPolicy",
    "SetDefaultLimit",
    "SetLimit",
    "SetCeiling",
    "SetRole",
    "Edit",
    "Purge",
    "ConfirmClock",
];
/// What else a host does with its store.
pub const REST: [&str; 4] = ["Tick", "Validate", "Flush", "Reopen"];

/// The first word of what `Debug` prints.
pub fn word(thing: &impl std::fmt::Debug) -> String {
    let text = format!("{thing:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

impl Step {
    pub fn name(&self) -> String {
        match self {
            Self::Act { asked, .. } => word(&asked.act),
            other => word(other),
        }
    }
}

impl Policy {
    /// With another lifetime, if that is possible.
    pub fn with_lifetime(self, lifetime: Time) -> Result<Self, Failure> {
        if lifetime < MINUTE {
            Err(Failure::BadPolicy("Lifetime"))
        } else if self.overlap >= lifetime {
            Err(Failure::BadPolicy("Overlap"))
        } else {
            Ok(Self { lifetime, ..self })
        }
    }
}

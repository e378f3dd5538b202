//! What an act answers. Keys and tokens are named by when they were first seen.

use crate::naive::Time;
use crate::views::{KeyView, Ticked};

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Done,
    Looked(KeyView),
    /// The version's end; and, where there is something to say of it, the version that leaves, with its end.
    Shown {
        token: usize,
        until: Option<Time>,
        old: Option<(Option<u32>, Option<Time>)>,
    },
    Purged(usize),
    Ticked(Ticked),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    KeyRevoked,
    KeyEnded(Time),
    OwnerSuspended,
    RotationOpen(Time),
    TooManyLive(Time),
    NoActiveVersion,
    NotRollbackable,
    NoSuchVersion(u32),
    EmptyWindow,
    GraceTooLong,
    UnknownKey,
    UnknownOwner(&'static str),
    UnknownRole(&'static str),
    NothingToReplace(usize),
    WouldWiden(usize),
    OwnerLimit(&'static str, u32),
    BadPolicy(&'static str),
    NothingToConfirm(Time, Time),
    RequestReused,
    AlreadyDone(usize, Option<u32>),
    Other(String),
}

pub type Outcome = Result<Answer, Failure>;

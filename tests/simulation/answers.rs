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
    /// The store failed on the way, and for certain nothing was written.
    Trouble(&'static str),
    /// The store failed, and it is not known whether the act was carried out; with the id that tells.
    Open(String),
    Other(String),
}

impl Failure {
    /// The rules of the lifecycle forbid the act.
    pub fn is_of_the_lifecycle(&self) -> bool {
        use Failure::{
            EmptyWindow, GraceTooLong, KeyEnded, KeyRevoked, NoActiveVersion, NoSuchVersion, NotRollbackable,
            OwnerSuspended, RotationOpen, TooManyLive,
        };
        matches!(
            self,
            KeyRevoked
                | KeyEnded(_)
                | OwnerSuspended
                | RotationOpen(_)
                | TooManyLive(_)
                | NoActiveVersion
                | NotRollbackable
                | NoSuchVersion(_)
                | EmptyWindow
                | GraceTooLong
        )
    }
}

pub type Outcome = Result<Answer, Failure>;

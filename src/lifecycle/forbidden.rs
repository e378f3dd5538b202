//! What the rules forbid.

use crate::id::VersionNo;
use crate::time::{TimeError, Timestamp};

/// An act that the rules forbid now; nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LifecycleError {
    /// The key was revoked, which is final; issue a new key.
    #[error("the key was revoked, which is final; issue a new key")]
    KeyRevoked,
    /// The key's own end has passed; issue a new key.
    #[error("the key ended at {at}, beyond which no rotation goes; issue a new key")]
    KeyEnded {
        /// The end.
        at: Timestamp,
    },
    /// The owner is suspended; resume it first.
    #[error("the owner is suspended; resume it first")]
    OwnerSuspended,
    /// A rotation is open: the old version still validates; wait, or supersede it.
    #[error("a rotation is open until {until}; wait, or say that this one supersedes it")]
    RotationOpen {
        /// When the leaving version's grace ends; until when the successor can be claimed; when the rotation begins.
        until: Timestamp,
    },
    /// The date lies outside the time in which a rotation helps.
    #[error("a rotation can be scheduled from now to {until}, when the version in use ends")]
    ScheduledTooLate {
        /// When the version in use ends.
        until: Timestamp,
    },
    /// No rotation is open that could be cancelled.
    #[error("no rotation is scheduled or in progress; one whose successor is active can be rolled back")]
    NothingToCancel,
    /// No successor waits to be claimed.
    #[error("no successor waits to be claimed")]
    NothingToClaim,
    /// The successor was claimed by somebody else, or the time to repeat this claim is over.
    #[error("{version} was claimed already; if that was not you, its owner should replace the key")]
    AlreadyClaimed {
        /// The successor.
        version: VersionNo,
    },
    /// Whoever presents this token cannot claim the successor.
    #[error("the successor cannot be claimed with this token; its owner can claim it")]
    NotClaimable,
    /// As many versions validate as may; wait, or supersede the deprecated one.
    #[error(
        "as many versions are valid as may be, until {until}; wait, or say that this rotation supersedes the deprecated one"
    )]
    TooManyLive {
        /// When the next of them ends.
        until: Timestamp,
    },
    /// The key has no active version to deprecate.
    #[error("the key has no active version")]
    NoActiveVersion,
    /// No version can become active again: its grace is over, or it is compromised or revoked; or none is leaving, because
    /// the policy keeps previous versions.
    #[error(
        "there is no version to roll back to: its grace is over, or it is compromised or revoked, and then rotate \
         instead; or the policy keeps it beside the newer one, and then revoke that first"
    )]
    NotRollbackable,
    /// The key has no version with that number.
    #[error("the key has no version {0}")]
    NoSuchVersion(VersionNo),
    /// The window is empty or already over.
    #[error("the window is empty or already over; its end must lie after its beginning and after now")]
    EmptyWindow,
    /// A date lies beyond the year 9999.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// A compromised version may validate for at most 4 hours beside its replacement.
    #[error("a compromised version may stay valid for at most 4 hours beside its replacement")]
    GraceTooLong,
    /// The key has used up all version numbers.
    #[error("the key has used up its version numbers; issue a new key")]
    VersionsExhausted,
}

crate::text::debug_as_told!(LifecycleError);

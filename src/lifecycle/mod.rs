//! The rules: what may happen to a key and its versions, and what each act changes. Pure: no clock, no store.
//!
//! Every function takes the time and a [`Family`] whose passed deadlines are settled, changes the family, and
//! returns the transitions it made; an error leaves the family as it was.

mod change;
mod deny;

use crate::digest::{Fingerprint, SecretDigest};
use crate::id::{RotationId, VersionNo};
use crate::key::KeyRecord;
use crate::rotation::{RotationRecord, RotationStatus};
use crate::time::{TimeError, Timestamp, earlier};
use crate::token::Locator;
use crate::version::{EndReason, Stage, VersionRecord};

pub(crate) use change::{RotationOrder, deprecate, issue, roll_back, rotate};
pub(crate) use deny::{replace, revoke_key, revoke_version};

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
        /// When the leaving version's grace ends.
        until: Timestamp,
    },
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
    /// No version can become active again: its grace is over, or it is compromised or revoked.
    #[error(
        "there is no version to roll back to: its grace is over, or it is compromised or revoked; rotate instead"
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

/// A key with its versions and those of its rotations that an act concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    pub(crate) key: KeyRecord,
    /// By number.
    pub(crate) versions: Vec<VersionRecord>,
    pub(crate) rotations: Vec<RotationRecord>,
}

/// One change of a record's state; each becomes one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transition {
    KeyIssued { version: VersionNo, until: Option<Timestamp> },
    VersionIssued { version: VersionNo, until: Option<Timestamp> },
    RotationStarted { rotation: RotationId, old: Option<VersionNo>, new: VersionNo, until: Option<Timestamp> },
    VersionDeprecated { version: VersionNo, until: Option<Timestamp> },
    VersionReactivated { version: VersionNo, until: Option<Timestamp> },
    VersionEnded { version: VersionNo, reason: EndReason, at: Timestamp },
    VersionCompromised { version: VersionNo },
    RotationCompleted { rotation: RotationId, at: Timestamp },
    RotationRolledBack { rotation: RotationId, at: Timestamp },
    KeyRevoked { at: Timestamp },
}

/// What a fresh secret contributes to a version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Minted {
    pub(crate) locator: Locator,
    pub(crate) digest: SecretDigest,
    pub(crate) fingerprint: Fingerprint,
}

/// Why a version whose secret was presented does not validate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Revoked,
    Suspended,
    Ended(EndReason),
    NotYet,
    Undelivered,
}

impl Family {
    pub(crate) fn version(&self, number: VersionNo) -> Option<&VersionRecord> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// When a version stops being valid, or stopped; `None` is never.
    pub(crate) fn end(&self, version: &VersionRecord) -> Option<Timestamp> {
        let deadline = end(version, self.key.hard_end);
        if version.is_ended() { earlier(version.ended_at, deadline) } else { deadline }
    }

    /// The versions that are not over at `t`: valid, or to become valid.
    pub(crate) fn live(&self, t: Timestamp) -> impl Iterator<Item = &VersionRecord> {
        self.versions.iter().filter(move |version| !version.is_ended() && !is_over(self.end(version), t))
    }

    pub(crate) fn active(&self) -> Option<&VersionRecord> {
        self.versions.iter().find(|version| version.stage == Stage::Active)
    }

    fn at_stage_mut(&mut self, stage: Stage) -> impl Iterator<Item = &mut VersionRecord> {
        self.versions.iter_mut().filter(move |version| version.stage == stage)
    }

    fn open_rotation(&self) -> Option<&RotationRecord> {
        self.rotations.iter().find(|rotation| rotation.is_open())
    }

    /// Ends what was already over, so that an act decides on what is true at `t`: versions past their end, and
    /// rotations whose leaving version has ended.
    pub(crate) fn settle(&mut self, t: Timestamp) -> Vec<Transition> {
        let mut transitions = Vec::new();
        let hard_end = self.key.hard_end;
        for version in self.versions.iter_mut().filter(|version| !version.is_ended()) {
            if let Some(at) = end(version, hard_end).filter(|end| *end <= t) {
                let reason = deadline_reason(version, hard_end);
                finish(version, reason, at, &mut transitions);
            }
        }
        self.settle_rotations(t, &mut transitions);
        transitions
    }

    pub(super) fn settle_rotations(&mut self, t: Timestamp, transitions: &mut Vec<Transition>) {
        for rotation in self.rotations.iter_mut().filter(|rotation| rotation.is_open()) {
            let leaving =
                rotation.old.and_then(|old| self.versions.iter().find(|version| version.number == old));
            let at = match leaving {
                Some(leaving) if leaving.is_ended() => leaving.ended_at.unwrap_or(t).max(rotation.started_at),
                Some(_) => continue,
                None => t,
            };
            rotation.status = RotationStatus::Completed;
            rotation.finished_at = Some(at);
            transitions.push(Transition::RotationCompleted { rotation: rotation.id, at });
        }
        self.key.open_rotation = self.open_rotation().map(|rotation| rotation.id);
    }
}

/// When a version stops being valid: its expiry, its grace or its key's end, whichever is first.
pub(crate) fn end(version: &VersionRecord, hard_end: Option<Timestamp>) -> Option<Timestamp> {
    earlier(earlier(version.expires_at, version.grace_end), hard_end)
}

fn is_over(end: Option<Timestamp>, t: Timestamp) -> bool {
    end.is_some_and(|end| t >= end)
}

/// Which deadline ends a version: its grace only if that is the earlier one.
pub(crate) fn deadline_reason(version: &VersionRecord, hard_end: Option<Timestamp>) -> EndReason {
    let expiry = earlier(version.expires_at, hard_end);
    match version.grace_end {
        Some(grace) if expiry.is_none_or(|expiry| grace < expiry) => EndReason::Retired,
        _ => EndReason::Expired,
    }
}

fn finish(version: &mut VersionRecord, reason: EndReason, at: Timestamp, transitions: &mut Vec<Transition>) {
    version.stage = Stage::Ended;
    version.ended_at.get_or_insert(at);
    version.end_reason = Some(reason);
    transitions.push(Transition::VersionEnded { version: version.number, reason, at });
}

/// What decides whether a version validates, without the rest of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) revoked: bool,
    pub(crate) ended: Option<EndReason>,
    pub(crate) end: Option<Timestamp>,
    /// What it is that ends it then.
    pub(crate) by: EndReason,
    pub(crate) delivered: bool,
    pub(crate) not_before: Timestamp,
}

impl Validity {
    pub(crate) fn of(version: &VersionRecord, key: &KeyRecord) -> Self {
        Self {
            revoked: key.revoked_at.is_some() || version.is_revoked(),
            ended: version.is_ended().then_some(version.end_reason.unwrap_or(EndReason::Cancelled)),
            end: end(version, key.hard_end),
            by: deadline_reason(version, key.hard_end),
            delivered: version.delivered_at.or(version.offered_at).is_some(),
            not_before: version.not_before,
        }
    }

    /// What to answer to whoever presented the right secret of this version; `None` is a grant.
    #[inline]
    pub(crate) fn refusal(&self, owner_suspended: bool, t: Timestamp) -> Option<Refusal> {
        if self.revoked {
            Some(Refusal::Revoked)
        } else if owner_suspended {
            Some(Refusal::Suspended)
        } else if let Some(reason) = self.ended {
            Some(Refusal::Ended(reason))
        } else if is_over(self.end, t) {
            Some(Refusal::Ended(self.by))
        } else if !self.delivered {
            Some(Refusal::Undelivered)
        } else if t < self.not_before {
            Some(Refusal::NotYet)
        } else {
            None
        }
    }
}

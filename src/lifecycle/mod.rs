//! The rules: what may happen to a key and its versions, and what each act changes. Pure: no clock, no store.
//!
//! Every function takes the time and a [`Family`] whose passed deadlines are settled, changes the family, and
//! returns the transitions it made; an error leaves the family as it was.

mod change;
mod deny;
mod forbidden;
mod handover;
mod imported;
mod retire;
mod schedule;
mod settle;

use crate::digest::{Fingerprint, SecretDigest};
use crate::id::{RotationId, VersionNo};
use crate::imported::Strength;
use crate::key::KeyRecord;
use crate::rotation::{RotationFailure, RotationRecord};
use crate::time::{Timestamp, earlier};
use crate::token::Locator;
use crate::version::{EndReason, Stage, VersionRecord};

pub(crate) use change::{RotationOrder, deprecate, issue, roll_back, rotate};
pub(crate) use deny::{replace, revoke_key, revoke_version};
pub use forbidden::LifecycleError;
pub(crate) use handover::{
    Claimed, Presenter, acknowledge, activate_orphan, begin, claim, first_use, fits, put_failed, take_lease,
};
pub(crate) use imported::{ForeignState, ForeignStatus, import, upgrade};
pub(crate) use retire::{Silence, fall_silent, note_lagging};
pub(crate) use schedule::{cancel, rotation_due, schedule};

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
    KeyIssued {
        version: VersionNo,
        until: Option<Timestamp>,
    },
    VersionIssued {
        version: VersionNo,
        until: Option<Timestamp>,
    },
    VersionMinted {
        version: VersionNo,
        until: Option<Timestamp>,
    },
    VersionOffered {
        version: VersionNo,
    },
    VersionDelivered {
        version: VersionNo,
    },
    VersionClaimed {
        version: VersionNo,
    },
    VersionActivated {
        version: VersionNo,
        until: Option<Timestamp>,
    },
    VersionFirstUsed {
        version: VersionNo,
    },
    VersionDeprecated {
        version: VersionNo,
        until: Option<Timestamp>,
    },
    VersionRetiring {
        version: VersionNo,
        until: Option<Timestamp>,
    },
    VersionReactivated {
        version: VersionNo,
        until: Option<Timestamp>,
    },
    VersionEnded {
        version: VersionNo,
        reason: EndReason,
        at: Timestamp,
    },
    VersionCompromised {
        version: VersionNo,
    },
    /// An imported version: its keyed digest took the place of what another system had kept.
    VersionUpgraded {
        version: VersionNo,
        strength: Strength,
    },
    ClaimConflict {
        version: VersionNo,
    },
    RotationScheduled {
        rotation: RotationId,
        until: Timestamp,
    },
    RotationBegun {
        rotation: RotationId,
        old: Option<VersionNo>,
        new: Option<VersionNo>,
        until: Option<Timestamp>,
    },
    RotationStarted {
        rotation: RotationId,
        old: Option<VersionNo>,
        new: VersionNo,
        until: Option<Timestamp>,
    },
    AdoptionLagging {
        rotation: RotationId,
        old: VersionNo,
        new: VersionNo,
        until: Option<Timestamp>,
    },
    DeliveryFailing {
        rotation: RotationId,
        version: VersionNo,
    },
    RotationCompleted {
        rotation: RotationId,
        at: Timestamp,
    },
    RotationFailed {
        rotation: RotationId,
        failure: RotationFailure,
        at: Timestamp,
    },
    RotationCancelled {
        rotation: RotationId,
        at: Timestamp,
    },
    RotationRolledBack {
        rotation: RotationId,
        at: Timestamp,
    },
    KeyRevoked {
        at: Timestamp,
    },
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

    fn version_mut(&mut self, number: VersionNo) -> Option<&mut VersionRecord> {
        self.versions.iter_mut().find(|version| version.number == number)
    }

    /// When a version stops being valid, or stopped; `None` is never.
    pub(crate) fn end(&self, version: &VersionRecord) -> Option<Timestamp> {
        let deadline = end(version, self.key.hard_end);
        if version.is_ended() { earlier(version.ended_at, deadline) } else { deadline }
    }

    /// The versions that are handed over and not over at `t`: valid, or to become valid.
    pub(crate) fn live(&self, t: Timestamp) -> impl Iterator<Item = &VersionRecord> {
        self.versions.iter().filter(move |version| {
            version.is_handed_over() && !version.is_ended() && !is_over(self.end(version), t)
        })
    }

    pub(crate) fn active(&self) -> Option<&VersionRecord> {
        self.versions.iter().find(|version| version.stage == Stage::Active)
    }

    /// The version that clients should use: the active one, or the last one if all that happened to it is that it
    /// expired.
    pub(crate) fn current(&self) -> Option<&VersionRecord> {
        let last = || {
            let made =
                self.versions.iter().filter(|version| version.end_reason != Some(EndReason::Cancelled));
            let last = made.max_by_key(|version| version.number)?;
            (last.end_reason == Some(EndReason::Expired) && !last.compromised).then_some(last)
        };
        self.active().or_else(last)
    }

    fn at_stage_mut(&mut self, stage: Stage) -> impl Iterator<Item = &mut VersionRecord> {
        self.versions.iter_mut().filter(move |version| version.stage == stage)
    }

    pub(crate) fn open_rotation(&self) -> Option<&RotationRecord> {
        self.rotations.iter().find(|rotation| rotation.is_open())
    }

    fn open_rotation_mut(&mut self) -> Option<&mut RotationRecord> {
        self.rotations.iter_mut().find(|rotation| rotation.is_open())
    }
}

/// When a version stops being valid: its expiry, its grace, the time of its sink or its key's end, whichever is first.
pub(crate) fn end(version: &VersionRecord, hard_end: Option<Timestamp>) -> Option<Timestamp> {
    let offered_until = version.offered_until.filter(|_| version.is_waiting());
    earlier(earlier(earlier(version.expires_at, version.grace_end), offered_until), hard_end)
}

fn is_over(end: Option<Timestamp>, t: Timestamp) -> bool {
    end.is_some_and(|end| t >= end)
}

/// Which deadline ends a version: its grace, or the time of its sink, only if that is the earlier one.
pub(crate) fn deadline_reason(version: &VersionRecord, hard_end: Option<Timestamp>) -> EndReason {
    let expiry = earlier(version.expires_at, hard_end);
    if let Some(until) = version.offered_until.filter(|_| version.is_waiting())
        && expiry.is_none_or(|expiry| until < expiry)
    {
        return EndReason::Cancelled;
    }
    match version.grace_end {
        Some(grace) if expiry.is_none_or(|expiry| grace < expiry) => EndReason::Retired,
        _ => EndReason::Expired,
    }
}

fn finish(version: &mut VersionRecord, reason: EndReason, at: Timestamp, transitions: &mut Vec<Transition>) {
    version.stage = Stage::Ended;
    version.ended_at.get_or_insert(at);
    version.end_reason = Some(reason);
    version.awaits_use = false;
    version.quiet_at = None;
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
            delivered: version.is_handed_over(),
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

//! Settling: what time alone has made of a key, so that each act decides on what is true.

use crate::lifecycle::{Family, Transition, deadline_reason, end, finish};
use crate::policy::{Claimant, Delivery};
use crate::rotation::{RotationFailure, RotationStatus};
use crate::time::Timestamp;
use crate::version::{EndReason, Stage, VersionRecord};

impl Family {
    /// Ends what was already over, so that an act decides on what is true at `t`: versions past their end, successors
    /// that nobody took over, and rotations that have come to their end by that.
    pub(crate) fn settle(&mut self, t: Timestamp) -> Vec<Transition> {
        let mut transitions = Vec::new();
        let hard_end = self.key.hard_end;
        self.withdraw_unclaimed(t, &mut transitions);
        for version in self.versions.iter_mut().filter(|version| !version.is_ended()) {
            if let Some(at) = end(version, hard_end).filter(|end| *end <= t) {
                let reason = deadline_reason(version, hard_end);
                finish(version, reason, at, &mut transitions);
            }
        }
        self.settle_rotations(t, &mut transitions);
        transitions
    }

    /// V10: the time to take the successor over has passed.
    fn withdraw_unclaimed(&mut self, t: Timestamp, transitions: &mut Vec<Transition>) {
        let Some(open) = self.open_rotation().filter(|open| open.status == RotationStatus::InProgress) else {
            return;
        };
        let (Some(number), Some(claim_by)) = (open.new, open.claim_by.filter(|claim_by| *claim_by <= t))
        else {
            return;
        };
        if self.key.revoked_at.is_some() {
            return;
        }
        let Some(version) = self.version_mut(number).filter(|version| version.is_waiting()) else { return };
        finish(version, EndReason::Cancelled, claim_by, transitions);
        self.key.lapsed = true;
        if let Some(open) = self.open_rotation_mut() {
            let failure = match open.delivery {
                Some(Delivery::Sink) => RotationFailure::Undelivered,
                _ => RotationFailure::Unclaimed,
            };
            open.failure = Some(failure);
            open.finish(RotationStatus::Failed, claim_by);
            transitions.push(Transition::RotationFailed { rotation: open.id, failure, at: claim_by });
        }
    }

    pub(super) fn settle_rotations(&mut self, t: Timestamp, transitions: &mut Vec<Transition>) {
        let revoked = self.key.revoked_at.is_some();
        for rotation in self.rotations.iter_mut().filter(|rotation| rotation.is_open()) {
            let find = |number| self.versions.iter().find(|version| Some(version.number) == number);
            let (old, new) = (find(rotation.old), find(rotation.new));
            let activated = new.and_then(|new| new.activated_at);
            let since = activated.or(rotation.started_at).unwrap_or(t);
            let verdict = match rotation.status {
                RotationStatus::GracePeriod => match find(rotation.running_out()) {
                    Some(leaving) if leaving.is_ended() => {
                        // Where what it led to is gone, too, nothing was completed by that.
                        let is_bereft = new.is_some_and(VersionRecord::is_revoked);
                        let status =
                            if is_bereft { RotationStatus::Cancelled } else { RotationStatus::Completed };
                        Some((status, leaving.ended_at.unwrap_or(t).max(since)))
                    }
                    // Without a date of its own it stays beside its successor, or is the active one again.
                    Some(leaving) if leaving.grace_end.is_some() => None,
                    _ => Some((RotationStatus::Completed, t)),
                },
                _ if revoked => Some((RotationStatus::Cancelled, t)),
                RotationStatus::InProgress => match (new, old) {
                    // Whoever withdraws the successor otherwise closes the rotation himself.
                    (Some(new), _) if new.end_reason == Some(EndReason::Expired) => {
                        rotation.failure = Some(RotationFailure::Expired);
                        Some((RotationStatus::Failed, new.ended_at.unwrap_or(t).max(since)))
                    }
                    (Some(new), _) if new.is_ended() => Some((RotationStatus::Cancelled, t)),
                    (Some(_), _) => None,
                    (None, Some(old)) if old.end_reason == Some(EndReason::Expired) => {
                        rotation.failure = Some(RotationFailure::Expired);
                        self.key.lapsed = true;
                        Some((RotationStatus::Failed, old.ended_at.unwrap_or(t).max(since)))
                    }
                    (None, Some(old)) if old.is_ended() => Some((RotationStatus::Cancelled, t)),
                    (None, Some(_)) => None,
                    (None, None) => Some((RotationStatus::Cancelled, t)),
                },
                _ => None,
            };
            let Some((status, at)) = verdict else { continue };
            rotation.finish(status, at);
            let rotation_id = rotation.id;
            transitions.push(match (status, rotation.failure) {
                (RotationStatus::Failed, Some(failure)) => {
                    Transition::RotationFailed { rotation: rotation_id, failure, at }
                }
                (RotationStatus::Cancelled, _) => Transition::RotationCancelled { rotation: rotation_id, at },
                _ => Transition::RotationCompleted { rotation: rotation_id, at },
            });
        }
        self.note_rotation();
    }

    /// Brings up to date what the key's record says of its open rotation.
    pub(super) fn note_rotation(&mut self) {
        let open = self.open_rotation();
        let waits = open.and_then(|open| {
            let by_holder = open.delivery == Some(Delivery::Sealed { claimant: Claimant::Holder });
            let waiting = self.version(open.new?)?.is_waiting();
            let active = self.versions.iter().any(|version| version.stage == Stage::Active);
            open.claim_by.filter(|_| by_holder && waiting && active && self.key.revoked_at.is_none())
        });
        self.key.open_rotation = open.map(|open| open.id);
        self.key.successor_by = waits;
    }
}

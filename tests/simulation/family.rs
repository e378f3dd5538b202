//! The naive model of one key: the rules as a reader of the documents would write them down, in plain structs and
//! without a line of the crate. States and reasons are the words that the crate's `Debug` prints.

use crate::acts::{Policy, Scopes, Wanted};
use crate::answers::Failure;
use crate::naive::{HOUR, Time};

const MAX_LIVE: usize = 2;

#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    pub number: u32,
    pub stage: &'static str,
    pub issued_at: Time,
    pub not_before: Time,
    pub expires_at: Option<Time>,
    pub grace_end: Option<Time>,
    pub deprecated_at: Option<Time>,
    pub ended_at: Option<Time>,
    pub end_reason: Option<&'static str>,
    pub compromised: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    pub old: Option<u32>,
    pub new: u32,
    pub status: &'static str,
    pub started_at: Time,
    pub finished_at: Option<Time>,
}

#[derive(Clone, Debug)]
pub struct Key {
    pub owner: &'static str,
    pub scopes: Scopes,
    pub role: Option<&'static str>,
    pub policy: Option<Policy>,
    pub issued_at: Time,
    pub never_expires: bool,
    pub hard_end: Option<Time>,
    pub revoked_at: Option<Time>,
    pub purged: bool,
    /// By number, from 1.
    pub versions: Vec<Version>,
    pub rotations: Vec<Rotation>,
}

/// One entry of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub key: Option<usize>,
    pub kind: &'static str,
    pub version: Option<u32>,
    pub owner: Option<&'static str>,
    pub at: Time,
    /// The deadline that it sets.
    pub until: Option<Time>,
    pub reason: Option<&'static str>,
    /// In whose name it was written.
    pub by: &'static str,
}

impl Entry {
    pub fn new(kind: &'static str, version: Option<u32>, at: Time) -> Self {
        Self { key: None, kind, version, owner: None, at, until: None, reason: None, by: "" }
    }
}

fn first<const N: usize>(times: [Option<Time>; N]) -> Option<Time> {
    times.into_iter().flatten().min()
}

impl Version {
    pub fn ended(&self) -> bool {
        self.stage == "Ended"
    }

    fn finish(&mut self, reason: &'static str, at: Time, news: &mut Vec<Entry>) {
        self.stage = "Ended";
        self.ended_at = self.ended_at.or(Some(at));
        self.end_reason = Some(reason);
        news.push(Entry { reason: Some(reason), ..Entry::new("version_ended", Some(self.number), at) });
    }

    fn compromise(&mut self, t: Time, news: &mut Vec<Entry>) {
        if !self.compromised {
            self.compromised = true;
            news.push(Entry::new("version_compromised", Some(self.number), t));
        }
    }

    pub fn revoke(&mut self, compromised: bool, t: Time, news: &mut Vec<Entry>) {
        if self.end_reason != Some("Revoked") {
            self.finish("Revoked", t, news);
        }
        if compromised {
            self.compromise(t, news);
        }
    }
}

impl Key {
    /// When a version stops being valid, or stopped.
    pub fn end(&self, version: &Version) -> Option<Time> {
        first([version.ended_at, version.expires_at, version.grace_end, self.hard_end])
    }

    pub fn end_of(&self, number: u32) -> Option<Time> {
        self.end(&self.versions[number as usize - 1])
    }

    /// The stage and reason of a version at `t`, recorded or not.
    pub fn over(&self, version: &Version, t: Time) -> Option<&'static str> {
        let natural = first([version.expires_at, self.hard_end]).unwrap_or(Time::MAX);
        let retired = version.grace_end.is_some_and(|grace| grace < natural);
        let passed = self.end(version).is_some_and(|end| end <= t);
        let reason = if retired { "Retired" } else { "Expired" };
        version.end_reason.or(passed.then_some(reason))
    }

    /// Whether it counts against its owner's limit.
    pub fn lives(&self, t: Time) -> bool {
        !self.purged && self.live(t).next().is_some()
    }

    pub fn live(&self, t: Time) -> impl Iterator<Item = &Version> {
        self.versions.iter().filter(move |version| self.over(version, t).is_none())
    }

    /// Records what time has made of it.
    pub fn settle(&mut self, t: Time, news: &mut Vec<Entry>) {
        for i in 0..self.versions.len() {
            let (end, over) = (self.end(&self.versions[i]), self.over(&self.versions[i], t));
            if let (false, Some(at), Some(reason)) = (self.versions[i].ended(), end, over) {
                self.versions[i].finish(reason, at, news);
            }
        }
        self.settle_rotations(t, news);
    }

    /// A rotation is complete when the version that leaves has ended.
    pub fn settle_rotations(&mut self, t: Time, news: &mut Vec<Entry>) {
        for rotation in self.rotations.iter_mut().filter(|rotation| rotation.finished_at.is_none()) {
            let left = rotation.old.map_or(Some(t), |old| self.versions[old as usize - 1].ended_at);
            if let Some(at) = left.map(|left| left.max(rotation.started_at)) {
                let successor = &self.versions[rotation.new as usize - 1];
                let (status, kind) = match successor.end_reason {
                    Some("Revoked") => ("Cancelled", "rotation_cancelled"),
                    _ => ("Completed", "rotation_completed"),
                };
                (rotation.status, rotation.finished_at) = (status, Some(at));
                news.push(Entry::new(kind, None, at));
            }
        }
    }

    /// The deadline that an entry sets: of a rotation, that of the version which leaves.
    pub fn announced(&self, entry: &Entry) -> Option<Time> {
        match entry.kind {
            "key_issued" | "version_issued" | "version_deprecated" | "version_reactivated" => {
                self.end_of(entry.version?)
            }
            "key_rotation" => {
                let rotation = self.rotations.iter().find(|rotation| Some(rotation.new) == entry.version)?;
                self.end_of(rotation.old?)
            }
            _ => None,
        }
    }

    fn open(&mut self) -> Option<&mut Rotation> {
        self.rotations.iter_mut().find(|rotation| rotation.finished_at.is_none())
    }

    fn at_stage(&mut self, stage: &str) -> Option<&mut Version> {
        self.versions.iter_mut().find(|version| version.stage == stage)
    }

    fn check_alive(&self, t: Time) -> Result<(), Failure> {
        match (self.revoked_at, self.hard_end) {
            (Some(_), _) => Err(Failure::KeyRevoked),
            (None, Some(end)) if end <= t => Err(Failure::KeyEnded(end)),
            _ => Ok(()),
        }
    }

    /// Adds a version that is active from now.
    fn mint(&mut self, kind: &'static str, from: Time, policy: Policy, t: Time, news: &mut Vec<Entry>) {
        let number = self.versions.len() as u32 + 1;
        let expires_at =
            if self.never_expires { None } else { first([Some(from + policy.lifetime), self.hard_end]) };
        self.versions.push(Version {
            number,
            stage: "Active",
            issued_at: t,
            not_before: from,
            expires_at,
            grace_end: None,
            deprecated_at: None,
            ended_at: None,
            end_reason: None,
            compromised: false,
        });
        news.push(Entry::new(kind, Some(number), t));
    }

    fn start_rotation(&mut self, old: Option<u32>, t: Time, news: &mut Vec<Entry>) {
        let new = self.versions.len() as u32;
        self.rotations.push(Rotation { old, new, status: "GracePeriod", started_at: t, finished_at: None });
        news.push(Entry::new("key_rotation", Some(new), t));
        self.settle(t, news);
    }

    /// The active version runs out, but not later than it would have anyway; says which one it is.
    fn deprecate(&mut self, overlap: Time, t: Time, news: &mut Vec<Entry>) -> Option<u32> {
        let version = self.at_stage("Active")?;
        version.stage = "Deprecated";
        version.deprecated_at = Some(t);
        version.grace_end = first([version.expires_at, Some(t + overlap)]);
        news.push(Entry::new("version_deprecated", Some(version.number), t));
        Some(version.number)
    }

    /// From when a successor is valid: not before its key is.
    fn successor_from(&self, t: Time) -> Time {
        self.versions.iter().map(|version| version.not_before).fold(t, Time::max)
    }

    /// Of those deprecated, the last.
    fn last_deprecated(&self, t: Time, wanted: impl Fn(&Version) -> bool) -> Option<u32> {
        let deprecated = self.live(t).filter(|version| version.stage == "Deprecated" && wanted(version));
        deprecated.max_by_key(|version| (version.deprecated_at, version.number)).map(|version| version.number)
    }

    pub fn rotate(
        &mut self,
        supersede: bool,
        policy: Policy,
        t: Time,
        news: &mut Vec<Entry>,
    ) -> Result<Option<u32>, Failure> {
        self.check_alive(t)?;
        let deprecated = self.versions.iter().filter(|version| version.stage == "Deprecated");
        let until = deprecated.filter_map(|version| self.end(version)).min();
        let leaving = self.open().and_then(|open| open.old);
        if supersede {
            for version in self.versions.iter_mut().filter(|version| version.stage == "Deprecated") {
                version.grace_end = Some(t);
            }
            self.settle(t, news);
        } else if let Some(old) = leaving {
            return Err(Failure::RotationOpen(self.end_of(old).unwrap_or(t)));
        } else if let (Some(until), true) = (until, self.live(t).count() >= MAX_LIVE) {
            return Err(Failure::TooManyLive(until));
        }
        let from = self.successor_from(t);
        let old = self.deprecate(policy.overlap, t, news);
        let old = old.or(self.at_stage("Deprecated").map(|version| version.number));
        self.mint("version_issued", from, policy, t, news);
        self.start_rotation(old, t, news);
        Ok(old)
    }

    pub fn run_out(&mut self, policy: Policy, t: Time, news: &mut Vec<Entry>) -> Result<(), Failure> {
        self.check_alive(t)?;
        self.deprecate(policy.overlap, t, news).ok_or(Failure::NoActiveVersion)?;
        self.settle(t, news);
        Ok(())
    }

    pub fn roll_back(
        &mut self,
        compromised: bool,
        policy: Policy,
        t: Time,
        news: &mut Vec<Entry>,
    ) -> Result<(), Failure> {
        self.check_alive(t)?;
        let leaving = self.open().and_then(|open| open.old);
        let active = self.at_stage("Active").map(|active| active.number);
        let target = match (leaving, active) {
            (Some(old), _) => {
                self.last_deprecated(t, |version| version.number == old && !version.compromised)
            }
            (None, Some(_)) => None,
            (None, None) => self.last_deprecated(t, |version| !version.compromised),
        };
        let target = target.ok_or(Failure::NotRollbackable)?;
        if compromised {
            for other in self.versions.iter_mut().filter(|other| !other.ended() && other.number != target) {
                other.revoke(true, t, news);
            }
        }
        self.deprecate(policy.overlap, t, news);
        let version = &mut self.versions[target as usize - 1];
        (version.stage, version.deprecated_at, version.grace_end) = ("Active", None, None);
        news.push(Entry::new("version_reactivated", Some(target), t));
        if let Some(open) = self.open() {
            (open.status, open.finished_at) = ("RolledBack", Some(t));
            news.push(Entry::new("rotation_rolled_back", None, t));
        }
        self.settle(t, news);
        Ok(())
    }

    /// An emergency: a fresh version, and all others revoked; the one in use may get a short grace.
    pub fn replace(
        &mut self,
        grace: Time,
        policy: Policy,
        t: Time,
        news: &mut Vec<Entry>,
    ) -> Result<Option<u32>, Failure> {
        self.check_alive(t)?;
        if grace > 4 * HOUR {
            return Err(Failure::GraceTooLong);
        }
        let from = self.successor_from(t);
        let active = self.at_stage("Active").map(|active| active.number);
        let old = active.or(self.last_deprecated(t, |_| true));
        if grace > 0 {
            self.deprecate(grace, t, news);
        }
        let graced = old.filter(|old| grace > 0 && self.over(&self.versions[*old as usize - 1], t).is_none());
        for version in &mut self.versions {
            if Some(version.number) == graced {
                version.grace_end = first([version.grace_end, Some(t + grace)]);
                version.compromise(t, news);
            } else {
                version.revoke(true, t, news);
            }
        }
        self.settle(t, news);
        // The version that leaves now leaves by this rotation, and by no other.
        if let Some(open) = self.open() {
            (open.status, open.finished_at) = ("Completed", Some(t));
            news.push(Entry::new("rotation_completed", None, t));
        }
        self.mint("version_issued", from, policy, t, news);
        self.start_rotation(old, t, news);
        Ok(old)
    }

    pub fn revoke(&mut self, compromised: bool, t: Time, news: &mut Vec<Entry>) {
        if self.revoked_at.is_none() {
            self.revoked_at = Some(t);
            news.push(Entry::new("key_revoked", None, t));
        }
        self.versions.iter_mut().for_each(|version| version.revoke(compromised, t, news));
        self.settle_rotations(t, news);
    }

    pub fn issue(
        wanted: &Wanted,
        policy: Policy,
        own: Option<Policy>,
        t: Time,
        news: &mut Vec<Entry>,
    ) -> Self {
        let mut key = Self {
            owner: wanted.owner,
            scopes: wanted.scopes.clone(),
            role: wanted.role,
            policy: own,
            issued_at: t,
            never_expires: wanted.never_expires,
            hard_end: wanted.until,
            revoked_at: None,
            purged: false,
            versions: Vec::new(),
            rotations: Vec::new(),
        };
        key.mint("key_issued", wanted.from.unwrap_or(t).max(t), policy, t, news);
        key
    }
}

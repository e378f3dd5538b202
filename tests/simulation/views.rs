//! What may be seen of the naive model at a time: keys, verdicts, what is due; and the tick.

use crate::acts::Scopes;
use crate::answers::Failure;
use crate::family::{Entry, Key, Version};
use crate::naive::{MONTH, Naive, Time, covers};

/// A version as of now, when it stops validating, and whether it validates.
pub type VersionView = (Version, Option<Time>, bool);

#[derive(Clone, Debug, PartialEq)]
pub struct KeyView {
    pub owner: &'static str,
    pub status: &'static str,
    pub scopes: Scopes,
    pub role: Option<&'static str>,
    /// Issued, the key's own end, revoked.
    pub times: [Option<Time>; 3],
    pub versions: Vec<VersionView>,
}

/// Key, version, until when, and since when it is deprecated; or why it is denied.
pub type Verdict = Result<(usize, u32, Option<Time>, Option<Time>), &'static str>;

/// One commit of a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    Families,
    Leftovers,
    /// The high-water mark alone.
    Mark,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ticked {
    pub clock: &'static str,
    pub expired: usize,
    pub retired: usize,
    pub completed: usize,
    pub cleaned: usize,
    pub next_due: Option<Time>,
}

impl Naive {
    pub fn look(&self, key: usize, t: Time) -> Result<KeyView, Failure> {
        let key = self.keys.get(key).filter(|key| !key.purged).ok_or(Failure::UnknownKey)?;
        let mut now = key.clone();
        now.settle(t, &mut Vec::new());
        let suspended = self.owners[now.owner].suspended;
        let states: Vec<_> = now.versions.iter().map(|version| state(&now, version, suspended, t)).collect();
        let status = if now.revoked_at.is_some() {
            "Revoked"
        } else if now.versions.iter().all(Version::ended) {
            "Ended"
        } else if suspended {
            "Suspended"
        } else if states.contains(&Ok(())) {
            "Active"
        } else {
            "NotYet"
        };
        let versions = now.versions.iter().zip(&states);
        Ok(KeyView {
            owner: now.owner,
            status,
            scopes: now.scopes.clone(),
            role: now.role,
            times: [Some(now.issued_at), now.hard_end, now.revoked_at],
            versions: versions
                .map(|(version, state)| (seen(version), now.end(version), state.is_ok()))
                .collect(),
        })
    }

    /// What a validation of a token answers.
    pub fn verdict(&self, token: usize, demanded: Option<&str>, t: Time) -> Verdict {
        let (of, number) = self.tokens[token];
        let key = &self.keys[of];
        if key.purged {
            return Err("Unknown");
        }
        let version = &key.versions[number as usize - 1];
        if version.ended_at.or(key.end(version)).is_some_and(|end| end + MONTH <= t) {
            return Err("Unknown");
        }
        let (revoked, suspended) = self.marked(of, number);
        if revoked {
            return Err("Revoked");
        }
        state(key, version, suspended || self.owners[key.owner].suspended, t)?;
        if demanded.is_some_and(|demanded| !self.allows(key, demanded)) {
            return Err("Scope");
        }
        Ok((of, number, key.end(version), version.deprecated_at))
    }

    fn allows(&self, key: &Key, demanded: &str) -> bool {
        let of_role: Option<&Scopes> = key.role.and_then(|role| self.roles.get(role));
        let ceiling = self.owners[key.owner].ceiling.as_ref();
        ceiling.is_none_or(|ceiling| covers(ceiling, demanded))
            && (covers(&key.scopes, demanded) || of_role.is_some_and(|scopes| covers(scopes, demanded)))
    }

    /// What a tick would commit now, one after the other.
    pub fn parts(&self, now: Time) -> Vec<Part> {
        let mut parts = Vec::new();
        if self.clock_state(now) == "Steady" {
            let due = |key: &Key| {
                let ends = key.versions.iter().filter(|version| !version.ended()).filter_map(|v| key.end(v));
                !key.purged && ends.min().is_some_and(|end| end <= now)
            };
            let mut keys = self.keys.iter().enumerate();
            if keys.any(|(at, key)| due(key) && self.edited != Some(at)) {
                parts.push(Part::Families);
            }
            let left = self.requests.iter().map(|request| request.until);
            let mut left = left.chain(self.kept.iter().map(|kept| kept.until));
            if left.any(|until| until <= now) {
                parts.push(Part::Leftovers);
            }
            if parts.is_empty() && self.mark < now {
                parts.push(Part::Mark);
            }
        }
        parts
    }

    /// One commit of a tick; returns how many rows it has cleaned away.
    pub fn tick_part(&mut self, part: Part, now: Time) -> usize {
        self.mark = now;
        match part {
            Part::Families => {
                let keys = 0..self.keys.len();
                for key in keys
                    .filter(|key| !self.keys[*key].purged && self.edited != Some(*key))
                    .collect::<Vec<_>>()
                {
                    self.settle(key, now);
                }
                0
            }
            Part::Leftovers => {
                let rows = self.requests.len() + self.kept.len();
                self.requests.retain(|request| now < request.until);
                self.kept.retain(|kept| now < kept.until);
                rows - self.requests.len() - self.kept.len()
            }
            Part::Mark => 0,
        }
    }

    /// A tick; without anything due, only the mark moves.
    pub fn tick(&mut self, now: Time) -> Ticked {
        let clock = self.clock_state(now);
        let seen = self.log.len();
        let cleaned = self.parts(now).into_iter().map(|part| self.tick_part(part, now)).sum();
        let news = &self.log[seen..];
        let ended = |reason| news.iter().filter(|entry| entry.reason == Some(reason)).count();
        let completed = news.iter().filter(|entry| entry.kind == "rotation_completed").count();
        let next_due = if clock == "Steady" { self.next_due(now) } else { None };
        Ticked { clock, expired: ended("Expired"), retired: ended("Retired"), completed, cleaned, next_due }
    }

    pub fn clock_state(&self, now: Time) -> &'static str {
        if now < self.mark {
            "Behind"
        } else if now > self.mark + MONTH {
            "Jumped"
        } else {
            "Steady"
        }
    }

    /// What a tick would record, and when something is due after it.
    pub fn plan(&self, now: Time) -> (&'static str, Vec<Entry>, Option<Time>) {
        let mut after = self.clone();
        let clock = after.tick(now).clock;
        (clock, after.log.split_off(self.log.len()), self.next_due(now))
    }

    pub fn next_due(&self, now: Time) -> Option<Time> {
        let keys = self.keys.iter().filter(|key| !key.purged).filter_map(|key| {
            key.versions
                .iter()
                .filter(|version| !version.ended())
                .filter_map(|version| key.end(version))
                .min()
        });
        let rest = self.requests.iter().map(|request| request.until);
        let rest = rest.chain(self.kept.iter().map(|kept| kept.until));
        keys.chain(rest).filter(|due| *due > now).min()
    }

    /// Keys of an owner, of a status, or all.
    pub fn list(&self, owner: Option<&str>, status: Option<&str>, t: Time) -> Vec<usize> {
        let wanted = |key: &usize| {
            self.look(*key, t).is_ok_and(|view| {
                owner.is_none_or(|owner| owner == view.owner)
                    && status.is_none_or(|status| status == view.status)
            })
        };
        (0..self.keys.len()).filter(wanted).collect()
    }

    /// Keys that live and of which nothing validates any more at a time.
    pub fn expiring(&self, before: Time, t: Time) -> Vec<usize> {
        let ends = |key: &Key| key.live(t).all(|version| key.end(version).is_some_and(|end| end < before));
        (0..self.keys.len()).filter(|key| self.keys[*key].lives(t) && ends(&self.keys[*key])).collect()
    }

    /// When something begins or ends.
    pub fn moments(&self) -> Vec<Time> {
        let versions = self.keys.iter().flat_map(|key| {
            key.versions.iter().flat_map(|version| {
                let forgotten = version.ended_at.or(key.end(version)).map(|end| end + MONTH);
                [Some(version.not_before), key.end(version), forgotten].into_iter().flatten()
            })
        });
        let kept = self.kept.iter().map(|kept| kept.until);
        let named = self.requests.iter().filter(|request| request.name.is_some());
        versions.chain(kept).chain(named.map(|request| request.until)).chain([self.mark + MONTH]).collect()
    }

    /// What no history may break, whatever the acts were.
    pub fn check_rules(&self, t: Time) -> Result<(), String> {
        for key in self.keys.iter().filter(|key| !key.purged) {
            let at = |stage| key.versions.iter().filter(|version| version.stage == stage).count();
            let beyond = |version: &&Version| {
                let grace =
                    version.grace_end.is_some_and(|grace| version.expires_at.is_some_and(|end| grace > end));
                grace || key.hard_end.is_some_and(|end| key.end(version).is_none_or(|until| until > end))
            };
            let unending = key.rotations.iter().filter(|rotation| rotation.finished_at.is_none()).count();
            if at("Active") > 1
                || key.live(t).count() > 2
                || unending > 1
                || key.versions.iter().any(|v| beyond(&v))
            {
                return Err(format!("a rule is broken at {t}: {key:?}"));
            }
        }
        Ok(())
    }
}

/// A version as it may be seen: what is over has no say any more.
fn seen(version: &Version) -> Version {
    Version { grace_end: None, expires_at: None, ..version.clone() }
}

/// Whether a version validates, or why not, to whoever presented its secret.
fn state(key: &Key, version: &Version, suspended: bool, t: Time) -> Result<(), &'static str> {
    match key.over(version, t) {
        _ if key.revoked_at.is_some() => Err("Revoked"),
        Some("Revoked") => Err("Revoked"),
        _ if suspended => Err("Suspended"),
        Some(reason) => Err(reason),
        None if t < version.not_before => Err("NotYet"),
        None => Ok(()),
    }
}

//! What may be seen of the library under test, in the words of the naive model.

use keyrota::{
    AuditFilter, ClockState, Demand, DenialReason, EndReason, Event, Evidence, KeyFilter, KeyInfo, KeyStatus,
    KeyStore, RotationStatus, Scope, Stage, TickReport, Timestamp, VersionInfo, VersionNo, check_token,
};

use crate::answers::Failure;
use crate::family::{Entry, Rotation, Version};
use crate::naive::Time;
use crate::put::{Names, known, owner, time};
use crate::site::Site;
use crate::views::{KeyView, Ticked, Verdict};

pub fn micros(at: Option<Timestamp>) -> Option<Time> {
    at.map(Timestamp::unix_micros)
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Active => "Active",
        Stage::Deprecated => "Deprecated",
        Stage::Ended => "Ended",
        _ => "another stage",
    }
}

fn end_reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Expired => "Expired",
        EndReason::Retired => "Retired",
        EndReason::Revoked => "Revoked",
        _ => "another reason",
    }
}

fn denial(reason: DenialReason) -> &'static str {
    match reason {
        DenialReason::Unknown => "Unknown",
        DenialReason::Revoked => "Revoked",
        DenialReason::Suspended => "Suspended",
        DenialReason::Expired => "Expired",
        DenialReason::Retired => "Retired",
        DenialReason::NotYet => "NotYet",
        DenialReason::Scope => "Scope",
        DenialReason::Tampered => "Edited",
        DenialReason::Unavailable(_) => "Unavailable",
        _ => "another denial",
    }
}

pub fn clock_state(state: ClockState) -> &'static str {
    match state {
        ClockState::Steady => "Steady",
        ClockState::Behind { .. } => "Behind",
        ClockState::Jumped { .. } => "Jumped",
        _ => "another state",
    }
}

fn status(status: KeyStatus) -> &'static str {
    match status {
        KeyStatus::Active => "Active",
        KeyStatus::NotYet => "NotYet",
        KeyStatus::Suspended => "Suspended",
        KeyStatus::Ended => "Ended",
        KeyStatus::Revoked => "Revoked",
        _ => "another status",
    }
}

fn version_view(version: &VersionInfo) -> (Version, Option<Time>, bool) {
    let seen = Version {
        number: version.number.get(),
        stage: stage(version.stage),
        issued_at: version.issued_at.unix_micros(),
        not_before: version.not_before.unix_micros(),
        expires_at: None,
        grace_end: None,
        deprecated_at: micros(version.deprecated_at),
        ended_at: micros(version.ended_at),
        end_reason: version.end_reason.map(end_reason),
        compromised: version.compromised,
    };
    (seen, micros(version.ends_at), version.is_valid)
}

pub fn key_view(info: &KeyInfo) -> KeyView {
    KeyView {
        owner: known(info.owner.as_str()),
        status: status(info.status),
        scopes: info.scopes.iter().map(|scope| known(scope.as_str())).collect(),
        role: info.role.as_ref().map(|role| known(role.as_str())),
        times: [Some(info.issued_at), info.hard_end, info.revoked_at].map(micros),
        versions: info.versions.iter().map(version_view).collect(),
    }
}

pub fn ticked(report: &TickReport) -> Ticked {
    Ticked {
        clock: clock_state(report.clock),
        expired: report.expired,
        retired: report.retired,
        completed: report.completed,
        cleaned: report.cleaned,
        next_due: micros(report.next_due),
    }
}

/// The same token with another secret, as well-formed as the true one.
pub fn forged(token: &str) -> String {
    let (prefix, tail) = token.split_at(token.len() - 61);
    let mut covered: Vec<u8> = tail.bytes().take(55).collect();
    covered[40] = if covered[40] == b'x' { b'y' } else { b'x' };
    let mut crc = !0u32;
    for byte in &covered {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 * (crc & 1));
        }
    }
    crc = !crc;
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[crc as usize % 62];
        crc /= 62;
    }
    covered.extend(digits);
    let forged = format!("{prefix}{}", String::from_utf8(covered).unwrap());
    check_token(&forged).unwrap();
    forged
}

impl Names {
    pub fn entry(&mut self, event: &Event) -> Entry {
        Entry {
            key: event.key.map(|key| self.key(key)),
            kind: event.kind.as_str(),
            version: event.version.map(VersionNo::get),
            owner: event.owner.map(|owner| known(owner.as_str())),
            at: event.at.unix_micros(),
            until: micros(event.until),
            reason: event.end_reason.map(end_reason),
            by: known(event.actor.name()),
        }
    }
}

impl Site {
    pub fn look(&mut self, host: usize, key: usize) -> Result<KeyView, Failure> {
        let info = self.hosts[host].keys.get(self.names.id(key));
        info.map(|info| key_view(&info)).map_err(|error| self.names.failure(&error))
    }

    fn judge(&mut self, verdict: Result<keyrota::Grant, keyrota::Denial>) -> Verdict {
        match verdict {
            Ok(grant) => {
                let until = (micros(grant.valid_until()), micros(grant.deprecated_at()));
                Ok((self.names.key(grant.key()), grant.version().get(), until.0, until.1))
            }
            Err(denied) => Err(denial(denied.reason())),
        }
    }

    /// What a validation answers, with a demand or without.
    pub fn verdict(&mut self, host: usize, token: usize, demanded: Option<&str>) -> Verdict {
        let scope: Option<Scope> = demanded.map(|demanded| demanded.parse().unwrap());
        let demand = scope.as_ref().map_or(Demand::NOTHING, Demand::scope);
        let verdict = self.hosts[host].validator.validate_for(self.names.text(token).unwrap(), demand);
        if let Ok(grant) = verdict {
            self.grants.insert(token, grant);
        }
        self.judge(verdict)
    }

    /// What an earlier grant of the token is worth now, if there was one.
    pub fn still(&mut self, host: usize, token: usize) -> Option<Verdict> {
        let grant = *self.grants.get(&token)?;
        let verdict = self.hosts[host].validator.still_valid(&grant);
        Some(self.judge(verdict))
    }

    /// What a well-formed token with a wrong secret gets, and one with another prefix.
    pub fn wrong(&mut self, host: usize, token: usize) -> [Verdict; 2] {
        let text = self.names.text(token).unwrap();
        let other_prefix = text.replacen("key_", "kex_", 1);
        [forged(text), other_prefix].map(|wrong| {
            let verdict = self.hosts[host].validator.validate(wrong);
            self.judge(verdict)
        })
    }

    /// The version that a token names, and a forged one.
    pub fn find(&mut self, host: usize, token: usize) -> [Option<(usize, u32)>; 2] {
        let text = self.names.text(token).unwrap();
        [text.to_owned(), forged(text)].map(|token| {
            let found = self.hosts[host].keys.find(Evidence::Token(&token)).unwrap();
            found.map(|(key, version)| (self.names.key(key), version.get()))
        })
    }

    /// The keys that a filter asks for, read by small pages; in the order of their ids.
    pub fn list(&mut self, host: usize, filter: &KeyFilter) -> Vec<usize> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.hosts[host].keys.list(filter, after, 3).unwrap();
            found.extend(page.keys.iter().map(|key| key.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(found.is_sorted(), "not in the order of ids: {found:?}");
        let mut found: Vec<_> = found.into_iter().map(|id| self.names.key(id)).collect();
        found.sort_unstable();
        found
    }

    pub fn list_of(&mut self, host: usize, of: Option<&str>, state: Option<&str>) -> Vec<usize> {
        let all = [
            KeyStatus::Active,
            KeyStatus::NotYet,
            KeyStatus::Suspended,
            KeyStatus::Ended,
            KeyStatus::Revoked,
        ];
        let mut filter = KeyFilter::all();
        if let Some(of) = of {
            filter = filter.owner(owner(of));
        }
        if let Some(state) = state {
            filter = filter.status(all.into_iter().find(|one| status(*one) == state).unwrap());
        }
        self.list(host, &filter)
    }

    pub fn expiring(&mut self, host: usize, before: Time) -> Vec<usize> {
        self.list(host, &KeyFilter::all().expiring_before(time(before)))
    }

    pub fn rotations(&self, host: usize, key: usize) -> Vec<Rotation> {
        let mut all: Vec<_> = self.hosts[host]
            .keys
            .rotations(self.names.id(key))
            .unwrap()
            .iter()
            .map(|rotation| Rotation {
                old: rotation.old.map(VersionNo::get),
                new: rotation.new.unwrap().get(),
                status: match rotation.status {
                    RotationStatus::GracePeriod => "GracePeriod",
                    RotationStatus::Completed => "Completed",
                    RotationStatus::Cancelled => "Cancelled",
                    RotationStatus::RolledBack => "RolledBack",
                    _ => "another status",
                },
                started_at: rotation.started_at.unwrap().unix_micros(),
                finished_at: micros(rotation.finished_at),
            })
            .collect();
        all.sort_by_key(|rotation| rotation.new);
        all
    }

    /// The audit entries since the last time.
    pub fn news(&mut self, host: usize) -> Vec<Event> {
        let head = self.hosts[host].store.head().unwrap().unwrap().revision;
        if std::mem::replace(&mut self.head, head) == head {
            return Vec::new();
        }
        let filter = AuditFilter::all().after(self.heard as u64);
        let entries = self.hosts[host].keys.audit(&filter, 10_000).unwrap();
        for entry in &entries {
            self.heard += 1;
            assert_eq!(entry.seq, self.heard as u64, "a gap in the audit log");
        }
        entries.into_iter().map(|entry| entry.event).collect()
    }

    /// What validators handed over: granted and denied, and the last grant.
    pub fn usage(&self, key: usize, version: u32) -> (u64, u64, Option<Time>) {
        let mut found = keyrota::UsageCounts::default();
        let id = self.names.id(key).to_string();
        let each = &mut |_, entry: &keyrota::UsageEntry| {
            if entry.version == version {
                found.absorb(&entry.counts);
            }
        };
        self.hosts[0].store.usage(&keyrota::UsageQuery::of_key(&id), each).unwrap();
        (found.allowed, found.denied.total(), micros(found.last_used))
    }
}

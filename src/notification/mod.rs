//! The notification: what happened, in the public form that every channel tells.

mod kind;

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::crypto;
use crate::digest::Fingerprint;
use crate::event::Event;
use crate::id::{KeyId, KeyName, NotificationId, OwnerId, RotationId, VersionNo};
use crate::policy::Claimant;
use crate::time::Timestamp;
use crate::token::Locator;
use crate::version::EndReason;

pub use kind::{NotificationKind, Severity};

/// Something that happened to a key or an owner, for whoever should know. Holds public names only, never a secret.
///
/// # JSON
///
/// `format` is 1. A later version of the library may add fields and kinds to it; whatever else changes has another
/// number. Times are RFC 3339 in UTC, `threshold` is in seconds, and fields without a value are left out:
///
/// ```json
/// {"format":1,"id":"ntf_1pKq…","kind":"expiring","severity":"warning","at":"2027-03-25T00:00:00Z",
///  "key":"key_1pKp…","name":"ci","version":1,"owner":"ada","hint":"key_4fTq0Zr1xYbA…",
///  "old_fingerprint":"fp_0123456789abcdef","ends_at":"2027-04-01T00:00:00Z","threshold":604800}
/// ```
///
/// The same notification has the same `id` on every channel and on each repetition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Notification {
    /// The number of the form that it is told in.
    pub format: u32,
    /// By which a receiver recognises it.
    pub id: NotificationId,
    /// What it is about.
    pub kind: NotificationKind,
    /// How much it matters.
    pub severity: Severity,
    /// When it happened, in the library's own time.
    #[serde(with = "rfc3339")]
    pub at: Timestamp,
    /// The key concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// What people call the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<KeyName>,
    /// The version concerned; of a rotation, the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionNo>,
    /// The owner concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerId>,
    /// What may be shown to recognise the version's token: its prefix and locator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The rotation concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationId>,
    /// Fingerprint of the version that leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_fingerprint: Option<Fingerprint>,
    /// Fingerprint of the version that comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_fingerprint: Option<Fingerprint>,
    /// Why the version ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// When the version ends, or ended; of a rotation, the old one.
    #[serde(default, with = "rfc3339_option", skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// Until when the new version can be claimed.
    #[serde(default, with = "rfc3339_option", skip_serializing_if = "Option::is_none")]
    pub claim_by: Option<Timestamp>,
    /// Which warning it is: how long before the end.
    #[serde(default, with = "seconds", skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Duration>,
    /// When the key was last used.
    #[serde(default, with = "rfc3339_option", skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Timestamp>,
    /// Who did it; nobody but time, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// Why, in the actor's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who claimed: whoever holds the token that `old_fingerprint` names, or the host for the key's owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimant: Option<Claimant>,
    /// Where a claim came from, or what an alarm is about: an address, or the name that the host gives a source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What an alarm is about, such as `version_compromised`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Of an alarm about a locator: the locator that was presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locator: Option<Locator>,
    /// How often what an alarm is about was seen when it was raised, at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How many requests were to be expected, of a key whose use has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
    /// How many others like it are not told one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<u64>,
}

impl Notification {
    /// The form that this version of the library tells.
    pub const FORMAT: u32 = 1;

    /// A notification that names nothing but its kind and time. It has its id once it is [identified](Self::identified).
    pub(crate) fn new(at: Timestamp, kind: NotificationKind) -> Self {
        Self {
            format: Self::FORMAT,
            id: NotificationId::new(at, [0; 10]),
            kind,
            severity: kind.severity(),
            at,
            key: None,
            name: None,
            version: None,
            owner: None,
            hint: None,
            rotation: None,
            old_fingerprint: None,
            new_fingerprint: None,
            end_reason: None,
            ends_at: None,
            claim_by: None,
            threshold: None,
            last_used: None,
            actor: None,
            reason: None,
            claimant: None,
            source: None,
            subject: None,
            locator: None,
            count: None,
            expected: None,
            more: None,
        }
    }

    /// What an event's notification says of it.
    pub(crate) fn of_event(event: &Event, kind: NotificationKind) -> Self {
        let by_time = event.request.is_none();
        Self {
            key: event.key,
            version: event.version,
            owner: event.owner,
            rotation: event.rotation,
            old_fingerprint: event.old_fingerprint,
            new_fingerprint: event.new_fingerprint,
            end_reason: event.end_reason,
            ends_at: event.until,
            actor: (!by_time).then(|| event.actor.clone()),
            reason: event.reason.clone(),
            claimant: event.claimant,
            source: event.source.map(|address| address.to_string()),
            severity: kind.severity_of(event.claimant),
            ..Self::new(event.at, kind)
        }
    }

    /// With the id that what it is about gives it: the same thing at the same `occurrence` has the same id, whoever
    /// tells it and how often.
    pub(crate) fn identified(mut self, occurrence: &str) -> Self {
        let threshold = self.threshold.map(|threshold| threshold.as_secs());
        let what = (self.kind, self.key, self.version, self.owner, self.rotation, threshold, &self.subject);
        let text = serde_json::to_vec(&(what, self.at, occurrence)).unwrap_or_default();
        let hash = crypto::sha256(&text);
        self.id = NotificationId::new(self.at, hash.first_chunk().copied().unwrap_or_default());
        self
    }

    /// The [JSON form](Self#json), on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        // The fields hold nothing that JSON cannot express.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// One line for people: `2027-03-25T00:00:00Z warning expiring: v1 of key "ci" of ada (key_4fTq0Zr1xYbA…), ends …`.
impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}:", self.at, self.severity, self.kind)?;
        if let Some(subject) = &self.subject {
            write!(f, " {subject}")?;
        }
        if let Some(more) = self.more {
            write!(f, " and {more} more")?;
        }
        if let Some(version) = self.version {
            write!(f, " {version}{}", if self.key.is_some() { " of" } else { "" })?;
        }
        match (&self.name, self.key) {
            (Some(name), _) => write!(f, " key {:?}", name.as_str())?,
            (None, Some(key)) => write!(f, " {key}")?,
            (None, None) => {}
        }
        match (self.owner, self.key) {
            (Some(owner), Some(_)) => write!(f, " of {owner}")?,
            (Some(owner), None) => write!(f, " {owner}")?,
            (None, _) => {}
        }
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        if let (Some(source), None) = (&self.source, self.claimant) {
            write!(f, " {source}")?;
        }
        if let (Some(locator), None) = (self.locator, &self.hint) {
            write!(f, " {locator}")?;
        }
        if let Some(count) = self.count {
            write!(f, ", {count} times")?;
        }
        if let Some(expected) = self.expected {
            write!(f, " instead of {expected}")?;
        }
        if let Some(claim_by) = self.claim_by {
            write!(f, ", claim it until {claim_by}")?;
        }
        if let Some(end) = self.ends_at {
            let how = match self.kind {
                NotificationKind::RotationStarted | NotificationKind::RotationClaimed => "the old one ends",
                NotificationKind::Expired | NotificationKind::Revoked => "ended",
                _ => "ends",
            };
            write!(f, ", {how} {end}")?;
        }
        if let Some(last) = self.last_used {
            write!(f, ", last used {last}")?;
        }
        match self.claimant {
            Some(Claimant::Holder) => f.write_str(", claimed by whoever holds the old one")?,
            Some(Claimant::Owner) => f.write_str(", claimed for its owner")?,
            None => {}
        }
        if let (Some(source), Some(_)) = (&self.source, self.claimant) {
            write!(f, " from {source}")?;
        }
        if let Some(actor) = &self.actor {
            write!(f, ", by {actor}")?;
        }
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::time::Timestamp;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

mod rfc3339_option {
    use serde::{Deserializer, Serializer};

    use crate::time::Timestamp;

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::rfc3339::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        super::rfc3339::deserialize(deserializer).map(Some)
    }
}

mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => serializer.serialize_u64(span.as_secs()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Some(Duration::from_secs(u64::deserialize(deserializer)?)))
    }
}

//! Compliance: how old the secrets in use are against a maximum, what is excepted and why, and what shows it.

mod csv;
mod evidence;
mod page;
mod survey;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::error::ManageError;
use crate::id::{KeyId, KeyName, OwnerId, VersionNo};
use crate::records::Records;
use crate::report::verify::AuditVerdict;
use crate::text::{self, TextError};
use crate::time::Timestamp;

pub(crate) use csv::{key_fields, rotation_fields};
pub(crate) use evidence::concerns;
pub use evidence::{AuditPosition, RotationCounts, RotationEvidence};
use evidence::{Evidence, of_period};
pub(crate) use survey::{Survey, Surveyed};

const DAY: Duration = Duration::from_secs(86_400);

/// What a compliance report is about. Default: all keys, 90 days, and all rotations that the audit log tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct ComplianceQuery {
    pub(crate) max_age: Duration,
    pub(crate) owner: Option<OwnerId>,
    pub(crate) from: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) exempt: BTreeMap<KeyId, String>,
    pub(crate) listed: usize,
}

impl Default for ComplianceQuery {
    fn default() -> Self {
        let exempt = BTreeMap::new();
        Self { max_age: 90 * DAY, owner: None, from: None, until: None, exempt, listed: 1_000 }
    }
}

impl ComplianceQuery {
    /// How old the current version of a key may be.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Only this owner's keys, and their rotations.
    pub fn owner(mut self, owner: OwnerId) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Only what the audit log tells of rotations from one time on and before another.
    pub fn period(mut self, from: Timestamp, until: Timestamp) -> Self {
        (self.from, self.until) = (Some(from), Some(until));
        self
    }

    /// Excepts a key from the maximum, for a reason that the report shows.
    ///
    /// # Errors
    /// [`TextError`] for a reason that is empty, longer than 200 bytes, or not on one line.
    pub fn exempt(mut self, key: KeyId, reason: impl Into<String>) -> Result<Self, TextError> {
        let reason = reason.into();
        text::check("reason", &reason, 200)?;
        self.exempt.insert(key, reason);
        Ok(self)
    }

    /// How many lines each list of a report has at most, 1 to 100 000; its totals count all. Default 1000.
    pub fn listed(mut self, lines: usize) -> Self {
        self.listed = lines.clamp(1, 100_000);
        self
    }
}

/// How a key stands to the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ComplianceStanding {
    /// Its current version is not older than the maximum.
    Within,
    /// It is older.
    Overdue,
    /// The query excepts it.
    Exempt,
    /// Its owner is suspended: it does not validate.
    Suspended,
}

impl ComplianceStanding {
    /// The stable text form, such as `overdue`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Within => "within",
            Self::Overdue => "overdue",
            Self::Exempt => "exempt",
            Self::Suspended => "suspended",
        }
    }
}

/// Why a key does not rotate by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NeverRotates {
    /// Automatic rotation is off for it; its current version expires.
    Off,
    /// Automatic rotation is off for it, and its versions never expire.
    NeverExpires,
    /// Nobody took its last successor over, and none is made any more until somebody acts.
    Lapsed,
}

impl NeverRotates {
    /// The stable text form, such as `never_expires`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NeverExpires => "never_expires",
            Self::Lapsed => "lapsed",
        }
    }
}

/// One key of which some version is valid, or becomes valid. No secret, no digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeyCompliance {
    /// The key.
    #[serde(rename = "key_id")]
    pub key: KeyId,
    /// What people call it.
    pub name: KeyName,
    /// Its owner.
    pub owner: OwnerId,
    /// What may be shown to recognise its current token.
    pub hint: String,
    /// Its current version: the one that clients should use.
    pub version: VersionNo,
    /// When that was made.
    pub issued_at: Timestamp,
    /// How old it is, in whole days.
    pub age_days: u64,
    /// How it stands to the maximum.
    pub standing: ComplianceStanding,
    /// Why it is excepted, if it is.
    pub exempt_because: Option<String>,
    /// Why it does not rotate by itself, if it does not.
    pub never_rotates: Option<NeverRotates>,
    /// When its next rotation begins by itself, where one does and none is open.
    pub next_rotation_at: Option<Timestamp>,
    /// When its current version ends; `None` is never.
    pub ends_at: Option<Timestamp>,
    /// Whether nobody used it for 30 days, or ever since it was made more than 7 days ago, as far as validating
    /// processes have flushed.
    pub is_stale: bool,
}

/// A list that may be too long to be shown whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing<T> {
    /// How many there are.
    pub total: u64,
    /// The first of them.
    pub listed: Vec<T>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { total: 0, listed: Vec::new() }
    }
}

impl<T> Listing<T> {
    fn add(&mut self, limit: usize, item: impl FnOnce() -> T) {
        self.total += 1;
        if self.listed.len() < limit {
            self.listed.push(item());
        }
    }
}

/// Whether the secrets in use are as young as they should be, and what shows it: see
/// [`KeyManager::compliance`](crate::KeyManager::compliance). `Display` is a page of text for people.
///
/// # JSON
///
/// `format` is 1. A later version of the library may add fields to it; whatever else changes has another number. Times
/// are in microseconds since 1970, `max_age` is in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ComplianceReport {
    /// The number of the form that it is told in.
    pub format: u32,
    /// When it was made.
    pub at: Timestamp,
    /// How old a current version may be.
    #[serde(serialize_with = "seconds")]
    pub max_age: Duration,
    /// The owner whose keys it is about; `None` is all.
    pub owner: Option<OwnerId>,
    /// How many keys were looked at: those with a version that is valid or becomes valid.
    pub keys: u64,
    /// How many of them have a current version that is not older than the maximum.
    pub within: u64,
    /// `within` in percent of those that are within or overdue, rounded down to two places; `None` where there is none.
    pub coverage_percent: Option<f64>,
    /// `within` in percent of all keys, exceptions included, rounded down likewise.
    pub coverage_of_all_percent: Option<f64>,
    /// Keys with an older one, the oldest first.
    pub overdue: Listing<KeyCompliance>,
    /// Keys that the maximum does not hold for, with the reason.
    pub exceptions: Listing<KeyCompliance>,
    /// Keys that do not rotate by themselves, whatever their age.
    pub never_rotating: Listing<KeyCompliance>,
    /// Keys that nobody uses.
    pub stale: Listing<KeyCompliance>,
    /// Ids of keys whose rows were edited behind the library's back: they do not validate, and are in no other number.
    pub edited: Listing<String>,
    /// What the audit log tells of rotations in the period.
    pub rotations: RotationCounts,
    /// Each of them, in the order of the log.
    pub evidence: Listing<RotationEvidence>,
    /// Those of them that failed.
    pub failed: Listing<RotationEvidence>,
    /// From when on rotations are told.
    pub from: Option<Timestamp>,
    /// Before when they are told.
    pub until: Option<Timestamp>,
    /// What verifying the whole audit log found. Evidence is of the entries before the first trouble.
    pub audit: AuditVerdict,
}

fn seconds<S: serde::Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(span.as_secs())
}

impl ComplianceReport {
    /// The form that this version of the library tells.
    pub const FORMAT: u32 = 1;

    /// The [JSON form](Self#json), on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        // The fields hold nothing that JSON cannot express.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// In percent, rounded down: nothing is shown as 100 % that is not.
fn percent(part: u64, all: u64) -> Option<f64> {
    let hundredths = u128::from(part) * 10_000 / u128::from((all > 0).then_some(all)?);
    Some(hundredths as f64 / 100.0)
}

/// Makes the report as of `t`: reads each key with its versions and a month of its use once, and each entry of the audit
/// log; holds no more than the lists.
pub(crate) fn compliance(
    records: &Records,
    query: &ComplianceQuery,
    t: Timestamp,
) -> Result<ComplianceReport, ManageError> {
    let limit = query.listed;
    let (mut keys, mut within) = (0, 0);
    let (mut exceptions, mut never_rotating) = (Listing::default(), Listing::default());
    let (mut stale, mut edited) = (Listing::default(), Listing::default());
    // The oldest ones, by age.
    let (mut overdue, mut oldest) = (0, BTreeMap::new());
    let mut survey = Survey::new(records, query, t);
    while let Some(chunk) = survey.next()? {
        for surveyed in chunk {
            let key = match surveyed {
                Surveyed::Key(key) => *key,
                Surveyed::Edited(id) => {
                    edited.add(limit, || id);
                    continue;
                }
            };
            keys += 1;
            if key.never_rotates.is_some() {
                never_rotating.add(limit, || key.clone());
            }
            if key.is_stale {
                stale.add(limit, || key.clone());
            }
            match key.standing {
                ComplianceStanding::Within => within += 1,
                ComplianceStanding::Exempt | ComplianceStanding::Suspended => {
                    exceptions.add(limit, || key);
                }
                ComplianceStanding::Overdue => {
                    overdue += 1;
                    oldest.insert((key.issued_at, key.key), key);
                    if oldest.len() > limit {
                        oldest.pop_last();
                    }
                }
            }
        }
    }
    let Evidence { counts, evidence, failed, verdict } = of_period(records, query)?;
    Ok(ComplianceReport {
        format: ComplianceReport::FORMAT,
        at: t,
        max_age: query.max_age,
        owner: query.owner,
        keys,
        within,
        coverage_percent: percent(within, within + overdue),
        coverage_of_all_percent: percent(within, keys),
        overdue: Listing { total: overdue, listed: oldest.into_values().collect() },
        exceptions,
        never_rotating,
        stale,
        edited,
        rotations: counts,
        evidence,
        failed,
        from: query.from,
        until: query.until,
        audit: verdict,
    })
}

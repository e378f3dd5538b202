//! The stored form of a policy: whole microseconds, with a number that says which fields to expect.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::{ClockStart, Delivery, PolicyError, Retirement, RotationPolicy};

/// The form that is written. The first had a lifetime and an overlap only.
const FORM: u32 = 2;

#[derive(Serialize, Deserialize)]
pub(super) struct PolicyFields {
    #[serde(default = "first_form")]
    form: u32,
    lifetime_us: u64,
    overlap_us: u64,
    #[serde(default)]
    rotate_every_us: Option<u64>,
    #[serde(default)]
    clock_starts: ClockStart,
    #[serde(default)]
    retirement: RetirementFields,
    #[serde(default)]
    delivery: Delivery,
    #[serde(default)]
    warnings_us: Option<Vec<u64>>,
    #[serde(default)]
    max_live: Option<u8>,
    #[serde(default)]
    jitter_us: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RetirementFields {
    #[default]
    After,
    KeepPrevious(u8),
    WhenUnused {
        quiet_for_us: u64,
        at_most_us: u64,
        notice_us: u64,
    },
}

fn first_form() -> u32 {
    1
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl From<RotationPolicy> for PolicyFields {
    fn from(policy: RotationPolicy) -> Self {
        let retirement = match policy.retirement {
            Retirement::After => RetirementFields::After,
            Retirement::KeepPrevious(n) => RetirementFields::KeepPrevious(n),
            Retirement::WhenUnused { quiet_for, at_most, notice } => RetirementFields::WhenUnused {
                quiet_for_us: micros(quiet_for),
                at_most_us: micros(at_most),
                notice_us: micros(notice),
            },
        };
        Self {
            form: FORM,
            lifetime_us: micros(policy.lifetime),
            overlap_us: micros(policy.overlap),
            rotate_every_us: Some(micros(policy.rotate_every)),
            clock_starts: policy.clock_starts,
            retirement,
            delivery: policy.delivery,
            warnings_us: Some(policy.warnings().map(micros).collect()),
            max_live: Some(policy.max_live),
            jitter_us: micros(policy.jitter),
        }
    }
}

impl TryFrom<PolicyFields> for RotationPolicy {
    type Error = PolicyError;
    fn try_from(fields: PolicyFields) -> Result<Self, PolicyError> {
        if fields.form > FORM {
            return Err(PolicyError::Form);
        }
        let span = Duration::from_micros;
        let retirement = match fields.retirement {
            RetirementFields::After => Retirement::After,
            RetirementFields::KeepPrevious(n) => Retirement::KeepPrevious(n),
            RetirementFields::WhenUnused { quiet_for_us, at_most_us, notice_us } => Retirement::WhenUnused {
                quiet_for: span(quiet_for_us),
                at_most: span(at_most_us),
                notice: span(notice_us),
            },
        };
        let mut policy = Self::builder()
            .lifetime(span(fields.lifetime_us))
            .overlap(span(fields.overlap_us))
            .clock_starts(fields.clock_starts)
            .retirement(retirement)
            .delivery(fields.delivery)
            .jitter(span(fields.jitter_us));
        if let Some(every) = fields.rotate_every_us {
            policy = policy.rotate_every(span(every));
        }
        if let Some(warnings) = fields.warnings_us {
            policy = policy.warnings(warnings.into_iter().map(span));
        }
        if let Some(versions) = fields.max_live {
            policy = policy.max_live(versions);
        }
        policy.build()
    }
}

//! The rotation policy: how long a version lives, and how long its predecessor stays beside it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A policy's settings contradict each other or lie outside their bounds.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The lifetime lies outside one minute to a hundred years.
    #[error("the lifetime must lie between one minute and 36500 days")]
    Lifetime,
    /// The overlap is not shorter than the lifetime.
    #[error("the overlap must be shorter than the lifetime: shorten it, or lengthen the lifetime")]
    Overlap,
    /// An owner's limit lies outside 1 to 1 000 000 keys.
    #[error("an owner's limit must lie between 1 and 1000000 keys")]
    OwnerLimit,
}

crate::text::debug_as_told!(PolicyError);

/// How versions of a key follow each other; valid by construction.
///
/// Default: a version lives for 90 days, and after a rotation its predecessor still validates for 24 hours, but
/// never beyond its own expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "PolicyFields", into = "PolicyFields")]
pub struct RotationPolicy {
    lifetime: Duration,
    overlap: Duration,
}

impl Default for RotationPolicy {
    fn default() -> Self {
        Self { lifetime: 90 * DAY, overlap: 24 * HOUR }
    }
}

impl RotationPolicy {
    /// The most versions of one key that validate at the same time.
    pub const MAX_LIVE: usize = 2;

    /// Begins a policy from the default.
    pub fn builder() -> RotationPolicyBuilder {
        RotationPolicyBuilder { policy: Self::default() }
    }

    /// Changes some settings of this policy.
    pub fn to_builder(self) -> RotationPolicyBuilder {
        RotationPolicyBuilder { policy: self }
    }

    /// How long a new version lives.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// How long a deprecated version still validates beside its successor.
    #[must_use]
    pub fn overlap(&self) -> Duration {
        self.overlap
    }
}

/// Builds a [`RotationPolicy`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct RotationPolicyBuilder {
    policy: RotationPolicy,
}

impl RotationPolicyBuilder {
    /// How long a new version lives: one minute to 36 500 days. Default 90 days.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.policy.lifetime = lifetime;
        self
    }

    /// How long a deprecated version still validates beside its successor: zero, or anything shorter than the
    /// lifetime. Default 24 hours.
    pub fn overlap(mut self, overlap: Duration) -> Self {
        self.policy.overlap = overlap;
        self
    }

    /// Checks the settings together.
    ///
    /// # Errors
    /// [`PolicyError`], which says which setting to change.
    pub fn build(self) -> Result<RotationPolicy, PolicyError> {
        let RotationPolicy { lifetime, overlap } = self.policy;
        if lifetime < Duration::from_secs(60) || lifetime > 36_500 * DAY {
            Err(PolicyError::Lifetime)
        } else if overlap >= lifetime {
            Err(PolicyError::Overlap)
        } else {
            Ok(self.policy)
        }
    }
}

/// The stored form: whole microseconds.
#[derive(Serialize, Deserialize)]
struct PolicyFields {
    lifetime_us: u64,
    overlap_us: u64,
}

impl From<RotationPolicy> for PolicyFields {
    fn from(policy: RotationPolicy) -> Self {
        let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self { lifetime_us: micros(policy.lifetime), overlap_us: micros(policy.overlap) }
    }
}

impl TryFrom<PolicyFields> for RotationPolicy {
    type Error = PolicyError;
    fn try_from(fields: PolicyFields) -> Result<Self, PolicyError> {
        Self::builder()
            .lifetime(Duration::from_micros(fields.lifetime_us))
            .overlap(Duration::from_micros(fields.overlap_us))
            .build()
    }
}

/// The settings of a whole deployment, as its store remembers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeploymentSettings {
    /// The policy of keys without one of their own.
    pub policy: RotationPolicy,
    /// How many keys an owner without a limit of its own may hold.
    pub owner_limit: OwnerLimit,
}

impl Default for DeploymentSettings {
    fn default() -> Self {
        Self { policy: RotationPolicy::default(), owner_limit: OwnerLimit(10) }
    }
}

/// How many keys an owner may hold that are neither revoked nor ended: 1 to 1 000 000, by default 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct OwnerLimit(u32);

impl OwnerLimit {
    /// A limit of so many keys.
    ///
    /// # Errors
    /// [`PolicyError::OwnerLimit`] outside 1 to 1 000 000.
    pub const fn new(keys: u32) -> Result<Self, PolicyError> {
        if keys == 0 || keys > 1_000_000 { Err(PolicyError::OwnerLimit) } else { Ok(Self(keys)) }
    }

    /// The number of keys.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for OwnerLimit {
    type Error = PolicyError;
    fn try_from(keys: u32) -> Result<Self, PolicyError> {
        Self::new(keys)
    }
}

impl From<OwnerLimit> for u32 {
    fn from(limit: OwnerLimit) -> Self {
        limit.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_valid_by_construction() {
        let build = |lifetime, overlap| RotationPolicy::builder().lifetime(lifetime).overlap(overlap).build();
        assert_eq!(build(90 * DAY, 24 * HOUR), Ok(RotationPolicy::default()));
        assert_eq!(build(HOUR, HOUR), Err(PolicyError::Overlap));
        assert_eq!(build(Duration::ZERO, Duration::ZERO), Err(PolicyError::Lifetime));
        assert_eq!(build(Duration::MAX, HOUR), Err(PolicyError::Lifetime));
        assert!(build(HOUR, Duration::ZERO).is_ok());
    }

    #[test]
    fn a_stored_policy_is_checked_when_it_is_read() {
        let text = serde_json::to_string(&RotationPolicy::default()).unwrap();
        assert_eq!(serde_json::from_str::<RotationPolicy>(&text).unwrap(), RotationPolicy::default());
        assert!(
            serde_json::from_str::<RotationPolicy>(r#"{"lifetime_us":60000000,"overlap_us":60000000}"#)
                .is_err()
        );
        assert!(OwnerLimit::new(0).is_err() && OwnerLimit::new(1_000_001).is_err());
    }
}

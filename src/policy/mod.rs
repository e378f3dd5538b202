//! The rotation policy: how long a version lives, when its successor comes, how that is handed over, and how its
//! predecessor leaves.

mod builder;
mod settings;
mod stored;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use builder::RotationPolicyBuilder;
pub(crate) use settings::SweepRecord;
pub use settings::{DeploymentSettings, OwnerLimit};

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// A policy's settings contradict each other or lie outside their bounds.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The lifetime lies outside one minute to a hundred years.
    #[error("the lifetime must lie between one minute and 36500 days")]
    Lifetime,
    /// The successor would come at once, or not before the version's end.
    #[error("the time to the next rotation must be longer than nothing and shorter than the lifetime")]
    RotateEvery,
    /// The overlap is longer than the time between a rotation and the old version's expiry.
    #[error(
        "the overlap must fit between the rotation and the old version's expiry: shorten it, rotate earlier, or lengthen the lifetime"
    )]
    Overlap,
    /// The versions to be kept would expire before they are to leave.
    #[error(
        "to keep that many previous versions, the lifetime must cover one rotation more than are kept, and the overlap"
    )]
    KeepPrevious,
    /// A version counts as unused after less than an hour.
    #[error("a version may count as unused after one hour at the earliest")]
    QuietFor,
    /// The longest stay of an unused version is longer than the time between a rotation and its expiry.
    #[error(
        "the longest stay of a superseded version must fit between the rotation and its expiry: shorten it, or rotate earlier"
    )]
    AtMost,
    /// The longest stay of an unused version leaves no room for silence and notice.
    #[error("the longest stay of a superseded version must cover the time of silence and the notice")]
    Notice,
    /// Fewer versions may be valid at once than the retirement keeps.
    #[error(
        "max_live must lie between 2 and 16, and be at least two more than the previous versions that are kept"
    )]
    MaxLive,
    /// There are more than four warnings, or one of no length.
    #[error("at most 4 warnings, each longer than nothing")]
    Warnings,
    /// Successors of some keys would come before half of the time to the next rotation has passed.
    #[error("the jitter may be at most half of the time to the next rotation")]
    Jitter,
    /// An interval of days lies outside 1 to 3650.
    #[error("the interval must lie between 1 and 3650 days")]
    Interval,
    /// The policy was written by a later version of the library.
    #[error("the policy has a form that only a later version of the library knows")]
    Form,
    /// An owner's limit lies outside 1 to 1 000 000 keys.
    #[error("an owner's limit must lie between 1 and 1000000 keys")]
    OwnerLimit,
}

crate::text::debug_as_told!(PolicyError);

/// When the old version's clock starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ClockStart {
    /// When the successor's secret was handed over: returned, claimed, or acknowledged by the sink.
    #[default]
    FromDelivery,
    /// When the successor's first use is recorded; until then the old version runs to its own expiry.
    FromFirstUse,
}

/// How a superseded version leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retirement {
    /// After the overlap.
    #[default]
    After,
    /// So many superseded versions stay until their own expiry; one that falls out of the set leaves after the overlap.
    KeepPrevious(u8),
    /// When nobody uses it any more.
    WhenUnused {
        /// For how long nobody may have used it. At least one hour.
        quiet_for: Duration,
        /// How long it stays at most.
        at_most: Duration,
        /// How long it stays after it was found unused. Commonly 24 hours.
        notice: Duration,
    },
}

/// Who may claim a successor that waits; of a claim, who did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Claimant {
    /// Whoever holds the current version's token; where it is said who may, also the host for the key's owner.
    #[default]
    Holder,
    /// The host for the key's owner; where it is said who may, nobody else.
    Owner,
}

/// How an automatic rotation hands the successor over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Delivery {
    /// The successor's secret is sealed at rest until it is claimed.
    Sealed {
        /// Who may claim it.
        #[serde(alias = "claim_by")]
        claimant: Claimant,
    },
    /// Nothing is made: those concerned are told that it is time to rotate.
    Announce,
    /// The host's `SecretSink` gets the secret.
    Sink,
}

impl Default for Delivery {
    fn default() -> Self {
        Self::Sealed { claimant: Claimant::Holder }
    }
}

/// How versions of a key follow each other; valid by construction.
///
/// Default: a version lives for 90 days; seven days before its end its successor waits to be claimed; from then on the
/// old version still validates for 24 hours, but never beyond its own expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "stored::PolicyFields", into = "stored::PolicyFields")]
pub struct RotationPolicy {
    lifetime: Duration,
    rotate_every: Duration,
    overlap: Duration,
    clock_starts: ClockStart,
    retirement: Retirement,
    delivery: Delivery,
    /// The longest first; none is zero.
    warnings: [Duration; Self::MAX_WARNINGS],
    max_live: u8,
    jitter: Duration,
}

impl Default for RotationPolicy {
    fn default() -> Self {
        Self {
            lifetime: 90 * DAY,
            rotate_every: 83 * DAY,
            overlap: 24 * HOUR,
            clock_starts: ClockStart::FromDelivery,
            retirement: Retirement::After,
            delivery: Delivery::default(),
            warnings: [7 * DAY, DAY, Duration::ZERO, Duration::ZERO],
            max_live: 2,
            jitter: Duration::ZERO,
        }
    }
}

impl RotationPolicy {
    /// The most warnings that a policy has.
    pub const MAX_WARNINGS: usize = 4;

    /// How long a new version lives.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// How long after a version was made its successor comes, where rotation is automatic.
    #[must_use]
    pub fn rotate_every(&self) -> Duration {
        self.rotate_every
    }

    /// How long before a version's expiry its successor comes: lifetime less [`RotationPolicy::rotate_every`].
    #[must_use]
    pub fn lead(&self) -> Duration {
        self.lifetime.saturating_sub(self.rotate_every)
    }

    /// How long a deprecated version still validates beside its successor.
    #[must_use]
    pub fn overlap(&self) -> Duration {
        self.overlap
    }

    /// When the old version's clock starts.
    #[must_use]
    pub fn clock_starts(&self) -> ClockStart {
        self.clock_starts
    }

    /// How a superseded version leaves.
    #[must_use]
    pub fn retirement(&self) -> Retirement {
        self.retirement
    }

    /// How an automatic rotation hands the successor over.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// How long before a version's end its owner is warned, the longest first.
    pub fn warnings(&self) -> impl Iterator<Item = Duration> {
        self.warnings.into_iter().filter(|warning| !warning.is_zero())
    }

    /// The most versions of one key that are handed over and valid at the same time.
    #[must_use]
    pub fn max_live(&self) -> usize {
        self.max_live.into()
    }

    /// By how much at most a key's successor comes earlier than it has to, so that not all keys rotate at once.
    #[must_use]
    pub fn jitter(&self) -> Duration {
        self.jitter
    }
}

/// For people: `every 83 days, each version for 90 days, …`.
impl std::fmt::Display for RotationPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let told = |span: Duration| match (span.as_secs(), span.subsec_nanos()) {
            (seconds, 0) if seconds.is_multiple_of(86_400) => format!("{} d", seconds / 86_400),
            (seconds, 0) if seconds.is_multiple_of(3_600) => format!("{} h", seconds / 3_600),
            _ => format!("{span:?}"),
        };
        let (every, lifetime) = (told(self.rotate_every), told(self.lifetime));
        write!(f, "a successor every {every}, each version for {lifetime}, the old one ")?;
        match self.retirement {
            Retirement::After => write!(f, "for {} more", told(self.overlap))?,
            Retirement::KeepPrevious(n) => {
                write!(f, "kept among {n} previous, then for {} more", told(self.overlap))?;
            }
            Retirement::WhenUnused { quiet_for, at_most, notice } => write!(
                f,
                "until unused for {} and {} of notice, at most {}",
                told(quiet_for),
                told(notice),
                told(at_most)
            )?,
        }
        f.write_str(match self.clock_starts {
            ClockStart::FromDelivery => " after the hand-over; ",
            ClockStart::FromFirstUse => " after the first use; ",
        })?;
        f.write_str(match self.delivery {
            Delivery::Sealed { claimant: Claimant::Holder } => "sealed, claimed by holder or owner",
            Delivery::Sealed { claimant: Claimant::Owner } => "sealed, claimed by the owner",
            Delivery::Announce => "announced",
            Delivery::Sink => "put into the sink",
        })
    }
}

#[cfg(test)]
mod tests;

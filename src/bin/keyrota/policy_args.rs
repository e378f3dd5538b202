//! A rotation policy as options.

use std::time::Duration;

use clap::{Args, ValueEnum};
use keyrota::{Claimant, ClockStart, Delivery, Retirement, RotationPolicy};

use crate::failure::{Done, usage};
use crate::values;

/// The options of a policy; none of them has to be given.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Policy")]
pub(crate) struct PolicyArgs {
    /// Begin from this policy, instead of the one in force
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// How long each version lives
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    lifetime: Option<Duration>,
    /// How long after a version was made its successor comes
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    rotate_every: Option<Duration>,
    /// How long the old version still validates beside its successor
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    overlap: Option<Duration>,
    /// Keep so many previous versions until their own expiry
    #[arg(long, value_name = "N", conflicts_with = "quiet_for")]
    keep_previous: Option<u8>,
    /// Let the old version go when nobody has used it for so long
    #[arg(long, value_name = "SPAN", value_parser = values::span, requires = "at_most")]
    quiet_for: Option<Duration>,
    /// With --quiet-for: how long it stays at most
    #[arg(long, value_name = "SPAN", value_parser = values::span, requires = "quiet_for")]
    at_most: Option<Duration>,
    /// With --quiet-for: how long it stays after it was found unused [default: 24h]
    #[arg(long, value_name = "SPAN", value_parser = values::span, requires = "quiet_for")]
    notice: Option<Duration>,
    /// When the old version's clock starts
    #[arg(long, value_enum)]
    clock_starts: Option<Start>,
    /// How an automatic rotation hands the successor over
    #[arg(long, value_enum)]
    delivery: Option<HandOver>,
    /// How long before a version's end to warn: up to four spans
    #[arg(long, value_name = "SPANS", value_parser = values::span, value_delimiter = ',')]
    warn: Vec<Duration>,
    /// The most versions of a key that are valid at once
    #[arg(long, value_name = "N")]
    max_live: Option<u8>,
    /// By how much at most a successor comes earlier, so that not all keys rotate at once
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    jitter: Option<Duration>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preset {
    #[value(name = "every-90-days")]
    Every90Days,
    #[value(name = "every-90-days-with-72-hours")]
    Every90DaysWith72Hours,
    KeepTwoNewest,
    Mobile,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Start {
    FromDelivery,
    FromFirstUse,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HandOver {
    /// Sealed until the holder of the current token, or its owner, claims it
    Sealed,
    /// Sealed until its owner claims it
    SealedForOwner,
    /// Nothing is made; it is told that it is time
    Announce,
    /// Into the service's secret sink
    Sink,
}

impl Preset {
    fn policy(self) -> RotationPolicy {
        match self {
            Self::Every90Days => RotationPolicy::every_90_days(),
            Self::Every90DaysWith72Hours => RotationPolicy::every_90_days_with_72_hours(),
            Self::KeepTwoNewest => RotationPolicy::keep_two_newest(),
            Self::Mobile => RotationPolicy::mobile(),
        }
    }
}

/// What asks for the policy in force, where that is what the options change.
pub(crate) type Base<'a> = &'a dyn Fn() -> Done<RotationPolicy>;

impl PolicyArgs {
    fn is_empty(&self) -> bool {
        let Self { preset, lifetime, rotate_every, overlap, keep_previous, quiet_for, .. } = self;
        let spans = [lifetime, rotate_every, overlap, quiet_for, &self.jitter];
        preset.is_none()
            && spans.iter().all(|span| span.is_none())
            && keep_previous.is_none()
            && self.clock_starts.is_none()
            && self.delivery.is_none()
            && self.warn.is_empty()
            && self.max_live.is_none()
    }

    /// The policy that the options describe; `None` when there is no option. Without a base, that of the library is
    /// changed.
    pub(crate) fn build(&self, base: Option<Base<'_>>) -> Done<Option<RotationPolicy>> {
        if self.is_empty() {
            return Ok(None);
        }
        let base = match (self.preset, base) {
            (Some(preset), _) => preset.policy(),
            (None, Some(base)) => base()?,
            (None, None) => RotationPolicy::default(),
        };
        let mut policy = base.to_builder();
        if let Some(lifetime) = self.lifetime {
            policy = policy.lifetime(lifetime);
        }
        if let Some(every) = self.rotate_every {
            policy = policy.rotate_every(every);
        }
        if let Some(overlap) = self.overlap {
            policy = policy.overlap(overlap);
        }
        if let Some(kept) = self.keep_previous {
            policy = policy.retirement(Retirement::KeepPrevious(kept));
        }
        if let (Some(quiet_for), Some(at_most)) = (self.quiet_for, self.at_most) {
            let notice = self.notice.unwrap_or(Duration::from_secs(86_400));
            policy = policy.retirement(Retirement::WhenUnused { quiet_for, at_most, notice });
        }
        if let Some(start) = self.clock_starts {
            policy = policy.clock_starts(match start {
                Start::FromDelivery => ClockStart::FromDelivery,
                Start::FromFirstUse => ClockStart::FromFirstUse,
            });
        }
        if let Some(delivery) = self.delivery {
            policy = policy.delivery(match delivery {
                HandOver::Sealed => Delivery::Sealed { claimant: Claimant::Holder },
                HandOver::SealedForOwner => Delivery::Sealed { claimant: Claimant::Owner },
                HandOver::Announce => Delivery::Announce,
                HandOver::Sink => Delivery::Sink,
            });
        }
        if !self.warn.is_empty() {
            policy = policy.warnings(self.warn.iter().copied());
        }
        if let Some(versions) = self.max_live {
            policy = policy.max_live(versions);
        }
        if let Some(jitter) = self.jitter {
            policy = policy.jitter(jitter);
        }
        policy.build().map(Some).map_err(usage)
    }
}

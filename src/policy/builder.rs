//! Building a policy: the settings, the presets, and the checks of all settings together.

use std::time::Duration;

use crate::policy::{ClockStart, DAY, Delivery, HOUR, PolicyError, Retirement, RotationPolicy};

/// Builds a [`RotationPolicy`]. What is not set keeps its value; a lifetime and the time to the next rotation follow
/// each other when only one of them is set.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct RotationPolicyBuilder {
    base: RotationPolicy,
    lifetime: Option<Duration>,
    rotate_every: Option<Duration>,
    overlap: Option<Duration>,
    retirement: Option<Retirement>,
    max_live: Option<u8>,
    warnings: Option<[Duration; RotationPolicy::MAX_WARNINGS]>,
}

/// Of a version's lifetime, the part at whose end its successor comes, where nothing else is said: 83 of 90.
const EARLY: (u32, u32) = (83, 90);

impl RotationPolicy {
    /// Begins a policy from the default.
    pub fn builder() -> RotationPolicyBuilder {
        Self::default().to_builder()
    }

    /// Changes some settings of this policy.
    pub fn to_builder(self) -> RotationPolicyBuilder {
        RotationPolicyBuilder {
            base: self,
            lifetime: None,
            rotate_every: None,
            overlap: None,
            retirement: None,
            max_live: None,
            warnings: None,
        }
    }

    /// No secret is older than 90 days; after the hand-over the old one validates for 24 hours. This is the default.
    #[must_use]
    pub fn every_90_days() -> Self {
        Self::default()
    }

    /// The same with 72 hours, for clients that are moved by hand, over a weekend.
    #[must_use]
    pub fn every_90_days_with_72_hours() -> Self {
        Self { overlap: 72 * HOUR, ..Self::default() }
    }

    /// A successor every 90 days; the newest two versions validate side by side.
    #[must_use]
    pub fn keep_two_newest() -> Self {
        Self {
            lifetime: 181 * DAY,
            rotate_every: 90 * DAY,
            retirement: Retirement::KeepPrevious(1),
            max_live: 3,
            ..Self::default()
        }
    }

    /// For what is installed on phones: a successor each year; the old version leaves when it was unused for 90 days,
    /// and a year after the successor's first use at the latest.
    #[must_use]
    pub fn mobile() -> Self {
        Self {
            lifetime: 730 * DAY,
            rotate_every: 365 * DAY,
            clock_starts: ClockStart::FromFirstUse,
            retirement: Retirement::WhenUnused { quiet_for: 90 * DAY, at_most: 365 * DAY, notice: 24 * HOUR },
            ..Self::default()
        }
    }

    /// What `{"interval_days": N, "keep_previous": bool}` comes to: a successor every `interval_days`, and the previous
    /// version either stays valid beside it until the one after comes, or leaves 24 hours after the hand-over.
    ///
    /// # Errors
    /// [`PolicyError::Interval`] outside 1 to 3650 days.
    pub fn of_interval(interval_days: u32, keep_previous: bool) -> Result<Self, PolicyError> {
        if !(1..=3_650).contains(&interval_days) {
            return Err(PolicyError::Interval);
        }
        let retirement = if keep_previous { Retirement::KeepPrevious(1) } else { Retirement::After };
        Self::builder().rotate_every(interval_days * DAY).retirement(retirement).build()
    }

    /// Reads `{"interval_days": 90, "keep_previous": true}`; `keep_previous` is `false` where it is absent.
    ///
    /// # Errors
    /// [`PolicyError::Interval`] also for what is not of this form.
    pub fn from_interval_json(text: &str) -> Result<Self, PolicyError> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Interval {
            interval_days: u32,
            #[serde(default)]
            keep_previous: bool,
        }
        let Interval { interval_days, keep_previous } =
            serde_json::from_str(text).map_err(|_| PolicyError::Interval)?;
        Self::of_interval(interval_days, keep_previous)
    }
}

impl RotationPolicyBuilder {
    /// How long a new version lives: one minute to 36 500 days. Default 90 days, or as the other settings ask for.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// How long after a version was made its successor comes. Default 83 of 90 parts of the lifetime, or earlier where
    /// the other settings ask for it.
    pub fn rotate_every(mut self, interval: Duration) -> Self {
        self.rotate_every = Some(interval);
        self
    }

    /// How long a deprecated version still validates beside its successor: from nothing to the time that is between a
    /// rotation and the old version's expiry. Default 24 hours.
    pub fn overlap(mut self, overlap: Duration) -> Self {
        self.overlap = Some(overlap);
        self
    }

    /// When the old version's clock starts. Default [`ClockStart::FromDelivery`].
    pub fn clock_starts(mut self, clock_starts: ClockStart) -> Self {
        self.base.clock_starts = clock_starts;
        self
    }

    /// How a superseded version leaves. Default [`Retirement::After`].
    pub fn retirement(mut self, retirement: Retirement) -> Self {
        self.retirement = Some(retirement);
        self
    }

    /// How an automatic rotation hands the successor over. Default sealed, for holder and owner.
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.base.delivery = delivery;
        self
    }

    /// How long before a version's end its owner is warned: at most four. Default seven days and one day.
    pub fn warnings(mut self, warnings: impl IntoIterator<Item = Duration>) -> Self {
        let mut given: Vec<Duration> = warnings.into_iter().take(RotationPolicy::MAX_WARNINGS + 2).collect();
        // One that is refused by the check stands for what does not fit.
        let fits = given.len() <= RotationPolicy::MAX_WARNINGS && !given.contains(&Duration::ZERO);
        given.sort_unstable_by(|a, b| b.cmp(a));
        given.dedup();
        let mut slots = [if fits { Duration::ZERO } else { Duration::MAX }; RotationPolicy::MAX_WARNINGS];
        slots.iter_mut().zip(given).filter(|_| fits).for_each(|(slot, warning)| *slot = warning);
        self.warnings = Some(slots);
        self
    }

    /// The most versions of one key that are handed over and valid at the same time: 2 to 16. Default two, or two more
    /// than the previous versions that are kept.
    pub fn max_live(mut self, versions: u8) -> Self {
        self.max_live = Some(versions);
        self
    }

    /// By how much at most a key's successor comes earlier than it has to. Default nothing.
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.base.jitter = jitter;
        self
    }

    /// Checks the settings together.
    ///
    /// # Errors
    /// [`PolicyError`], which says which setting to change.
    pub fn build(self) -> Result<RotationPolicy, PolicyError> {
        let overlap = self.overlap.unwrap_or(self.base.overlap);
        let retirement = self.retirement.unwrap_or(self.base.retirement);
        let kept = if let Retirement::KeepPrevious(kept) = retirement { kept } else { 0 };
        let (lifetime, rotate_every) = self.spans(overlap, retirement)?;
        let same_kind = self.retirement.is_none_or(|new| new == self.base.retirement);
        let max_live = match self.max_live {
            Some(versions) => versions,
            None if same_kind => self.base.max_live,
            None => kept.saturating_add(2),
        };
        let policy = RotationPolicy {
            lifetime: whole(lifetime),
            rotate_every: whole(rotate_every),
            overlap: whole(overlap),
            retirement: match retirement {
                Retirement::WhenUnused { quiet_for, at_most, notice } => Retirement::WhenUnused {
                    quiet_for: whole(quiet_for),
                    at_most: whole(at_most),
                    notice: whole(notice),
                },
                other => other,
            },
            warnings: self.warnings.unwrap_or(self.base.warnings).map(whole),
            max_live,
            jitter: whole(self.base.jitter),
            ..self.base
        };
        check(&policy)?;
        Ok(policy)
    }

    /// Lifetime and time to the next rotation; the one that was not set follows the other.
    fn spans(self, overlap: Duration, retirement: Retirement) -> Result<(Duration, Duration), PolicyError> {
        let (part, whole) = EARLY;
        let least_lead = match retirement {
            Retirement::WhenUnused { at_most, .. } => overlap.max(at_most),
            _ => overlap,
        };
        let sets = if let Retirement::KeepPrevious(kept) = retirement { u32::from(kept) + 1 } else { 1 };
        let changed = self.overlap.is_some() || self.retirement.is_some();
        match (self.lifetime, self.rotate_every) {
            (Some(lifetime), Some(every)) => Ok((lifetime, every)),
            (None, Some(every)) => {
                let lead =
                    (every.checked_mul(whole - part).ok_or(PolicyError::RotateEvery)? / part).max(least_lead);
                let kept = every.checked_mul(sets).and_then(|span| span.checked_add(overlap));
                let lifetime = every.checked_add(lead).zip(kept).ok_or(PolicyError::Lifetime)?;
                let least = if sets > 1 { lifetime.1 } else { Duration::ZERO };
                Ok((lifetime.0.max(least), every))
            }
            (None, None) if !changed => Ok((self.base.lifetime, self.base.rotate_every)),
            (lifetime, None) => {
                let given = lifetime.unwrap_or(self.base.lifetime);
                if given > 36_500 * DAY {
                    return Err(PolicyError::Lifetime);
                }
                // Without another lifetime, the time to the next rotation stays where it fits.
                let every = if lifetime.is_some() { given * part / whole } else { self.base.rotate_every };
                let every = every.min(given.saturating_sub(least_lead));
                let kept = given.saturating_sub(overlap) / sets;
                Ok((given, if sets > 1 { every.min(kept) } else { every }))
            }
        }
    }
}

/// In whole microseconds, as times are and as it is stored: what is read back is what was built.
fn whole(span: Duration) -> Duration {
    u64::try_from(span.as_micros()).map_or(span, Duration::from_micros)
}

fn check(policy: &RotationPolicy) -> Result<(), PolicyError> {
    let RotationPolicy { lifetime, rotate_every, overlap, .. } = *policy;
    if lifetime < Duration::from_secs(60) || lifetime > 36_500 * DAY {
        return Err(PolicyError::Lifetime);
    }
    if overlap >= lifetime {
        return Err(PolicyError::Overlap);
    }
    if rotate_every.is_zero() || rotate_every >= lifetime {
        return Err(PolicyError::RotateEvery);
    }
    let lead = policy.lead();
    if overlap > lead {
        return Err(PolicyError::Overlap);
    }
    let mut kept = 0;
    match policy.retirement {
        Retirement::After => {}
        Retirement::KeepPrevious(n) => {
            kept = n;
            let rotations = rotate_every.checked_mul(u32::from(n) + 1);
            let needed = rotations.and_then(|span| span.checked_add(overlap));
            if needed.is_none_or(|needed| lifetime < needed) {
                return Err(PolicyError::KeepPrevious);
            }
        }
        Retirement::WhenUnused { quiet_for, at_most, notice } => {
            if quiet_for < HOUR {
                return Err(PolicyError::QuietFor);
            }
            if at_most > lead {
                return Err(PolicyError::AtMost);
            }
            if quiet_for.checked_add(notice).is_none_or(|needed| at_most < needed) {
                return Err(PolicyError::Notice);
            }
        }
    }
    if policy.max_live < kept.saturating_add(2) || policy.max_live > 16 {
        return Err(PolicyError::MaxLive);
    }
    if policy.warnings.contains(&Duration::MAX) {
        return Err(PolicyError::Warnings);
    }
    if policy.jitter > rotate_every / 2 {
        return Err(PolicyError::Jitter);
    }
    Ok(())
}

//! Rate limits as arithmetic on one word each: the generic cell rate algorithm, in integers and without an atomic.
//!
//! # The unit
//! A stored word is the *theoretical arrival time*: when a limit that was charged with all uses so far will have
//! earned them again, counted from 1970. Its unit is chosen for each limit such that **one use is a whole number of
//! units** and no unit is shorter than a 36th of a microsecond, so that the year 9999 still fits 63 bits. Charging
//! adds whole units, whatever the rate, so nothing adds up: *n* uses cost exactly *n* times one use. Only the reading
//! of the clock is rounded, down, from microseconds to units, each time anew. That is exact where the span divided by
//! the uses is a fraction with a denominator of at most 36, which includes all whole microseconds; elsewhere it errs
//! by less than one unit, and never at whole multiples of the span.
//!
//! # Several threads, several limits
//! [`reserve`] charges one word after the other, each by compare-and-swap. When a limit refuses, the words before it
//! are put back, but only where they still hold what this request put there: then nobody has built upon them. So a
//! charge of an allowed request is never taken away, and **no limit ever allows more than its rule**, under any
//! interleaving. Where another request was charged in between, the refused one's charge stays, to the key's
//! disadvantage, until it is earned again; that takes a refusal that [`check`] has not foreseen and a concurrent
//! request between two swaps. With one limit there is nothing to put back: 100 uses among 8 threads allow exactly 100.

use std::num::NonZero;
use std::time::Duration;

use crate::limit::{Limits, RateLimit};
use crate::time::Timestamp;

/// No time in units is so late: a word from here on is none of a limit's, and what it counted has moved.
pub(crate) const MOVED: u64 = 3 << 62;

/// Units in a microsecond, at most: 9999-12-31 × 36 < 2^63.
const FINEST: u64 = 36;

/// How far back a clock may seem to go without having gone: threads read it, and are charged, in different orders.
const SLACK_US: u64 = 1_000_000;

/// What a limit says to a client: the fields of the usual headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LimitStatus {
    limit: u64,
    remaining: u64,
    reset_us: u64,
    retry_us: u64,
    /// Never zero, so that an optional status is not larger than a status.
    window_us: NonZero<u64>,
}

impl LimitStatus {
    /// In place of microseconds where there are none to tell: this answer is passed by value on every request.
    const NONE: u64 = u64::MAX;

    /// Of a limit that is no rate limit. `None` is a wait without end.
    pub(super) fn new(
        [limit, remaining]: [u64; 2],
        window: Option<Duration>,
        reset: Option<Duration>,
        retry: Option<Duration>,
    ) -> Self {
        let micros = |span: Option<Duration>| {
            span.and_then(|span| u64::try_from(span.as_micros()).ok()).unwrap_or(Self::NONE)
        };
        let window_us = NonZero::new(micros(window)).unwrap_or(NonZero::<u64>::MIN);
        Self { limit, remaining, reset_us: micros(reset), retry_us: micros(retry), window_us }
    }

    fn span(micros: u64) -> Option<Duration> {
        (micros != Self::NONE).then(|| Duration::from_micros(micros))
    }

    /// The most uses that the limit allows at once: its burst, or its quota.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// In how long as many uses as [`LimitStatus::limit`] are earned: the span of a rate limit whose burst is its uses, the
    /// period of a quota. `None` for a quota that is never refilled.
    #[must_use]
    pub fn window(&self) -> Option<Duration> {
        Self::span(self.window_us.get())
    }

    /// How many uses are left now, but for what other threads have set aside of a key that several use at once: see
    /// [`RateLimit`].
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// How long it takes until all uses are there again, if none is taken; `None` when they never are.
    #[must_use]
    pub fn reset_after(&self) -> Option<Duration> {
        Self::span(self.reset_us)
    }

    /// After a refusal: how long it takes until the same request would be allowed, if none comes between. `None` when
    /// it was allowed, and when waiting does not help: it costs more than the limit allows at once.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        Self::span(self.retry_us)
    }
}

/// A rate limit made ready for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Units in `micros` microseconds, in lowest terms.
    units: u64,
    micros: u64,
    /// What one use costs.
    per_use: u64,
    /// What is earned when nothing was used for long.
    tolerance: u64,
    /// How far beyond that a word is still believed.
    slack: u64,
    burst: u32,
    /// In how many microseconds a burst is earned, rounded up.
    window_us: NonZero<u64>,
}

impl Pace {
    pub(crate) fn new(limit: &RateLimit) -> Self {
        // One use is earned in span ÷ uses = p ÷ q microseconds. It gets `per_use` units, so that a microsecond has
        // per_use × q ÷ p of them; a multiple of p makes that a whole number.
        let (p, q) = lowest_terms(limit.span_us, u64::from(limit.uses));
        let per_use = if q <= FINEST { FINEST / q * p } else { FINEST.saturating_mul(p) / q };
        // A limit is never faster than 10 uses a microsecond, so that one use has at least three units.
        let per_use = per_use.max(1);
        let (units, micros) = lowest_terms(per_use.saturating_mul(q), p);
        let tolerance = per_use.saturating_mul(u64::from(limit.burst));
        let slack = SLACK_US.saturating_mul(units).div_ceil(micros);
        let window = (u128::from(limit.burst) * u128::from(limit.span_us)).div_ceil(u128::from(limit.uses));
        let window_us =
            NonZero::new(u64::try_from(window).unwrap_or(u64::MAX)).unwrap_or(NonZero::<u64>::MIN);
        Self { units, micros, per_use, tolerance, slack, burst: limit.burst, window_us }
    }

    /// What a time means to this limit.
    #[inline]
    pub(super) fn at(&self, t: Timestamp) -> Moment {
        let micros = t.unix_micros().unsigned_abs();
        let now = if self.micros == 1 {
            micros.saturating_mul(self.units)
        } else {
            let exact = u128::from(micros) * u128::from(self.units) / u128::from(self.micros);
            u64::try_from(exact).unwrap_or(u64::MAX)
        };
        Moment { micros, now, full: now.saturating_add(self.tolerance), slack: self.slack }
    }

    /// How many microseconds after a moment that many units are reached.
    #[inline]
    fn micros_until(&self, units: u64, moment: Moment) -> u64 {
        let micros = if self.micros == 1 {
            units.div_ceil(self.units)
        } else {
            let exact = (u128::from(units) * u128::from(self.micros)).div_ceil(u128::from(self.units));
            u64::try_from(exact).unwrap_or(u64::MAX)
        };
        micros.saturating_sub(moment.micros)
    }

    /// What so many uses cost.
    #[inline]
    pub(super) fn cost(&self, uses: u32) -> u64 {
        self.per_use.saturating_mul(u64::from(uses))
    }

    /// How many uses are earned in so many microseconds.
    pub(super) fn earned_in(&self, micros: u64) -> u64 {
        micros.saturating_mul(self.units) / self.micros / self.per_use
    }

    /// How many uses may be taken at once.
    pub(super) fn burst(&self) -> u32 {
        self.burst
    }

    /// Whether what is counted in one's units and by one's rule is counted in the other's, too: an equal number of each
    /// is an equal limit.
    pub(crate) fn marks(&self) -> [u64; 2] {
        [self.per_use, self.tolerance]
    }

    /// The word after a request of this cost, or `None` when it is refused. `stored` is one that is
    /// [believed](Moment::believed); zero is a limit that was never used.
    #[inline]
    pub(super) fn charge(&self, stored: u64, moment: Moment, cost: u32) -> Option<u64> {
        if cost == 0 {
            return Some(stored);
        }
        let charged = stored.max(moment.now).saturating_add(self.cost(cost));
        (charged <= moment.full).then_some(charged)
    }

    /// Charges a request of this cost; tells the word before and the word now.
    #[inline]
    pub(super) fn reserve(
        &self,
        place: &impl Place,
        moment: Moment,
        cost: u32,
    ) -> Result<(u64, u64), Refusal> {
        let mut stored = place.load();
        loop {
            let believed = moment.believed(stored).ok_or(Refusal::Moved)?;
            let Some(charged) = self.charge(believed, moment, cost) else {
                if believed != stored {
                    // Else it would be as if the burst had just been used up for ever. Whoever comes first repairs it.
                    let _lost = place.replace(stored, believed);
                }
                return Err(Refusal::Limited(self.refused(believed, moment, cost)));
            };
            match place.replace(stored, charged) {
                Ok(()) => return Ok((stored, charged)),
                Err(other) => stored = other,
            }
        }
    }

    /// Charges a request of this cost to this limit alone.
    #[inline]
    pub(crate) fn take(&self, place: &impl Place, t: Timestamp, cost: u32) -> Result<LimitStatus, Refusal> {
        let moment = self.at(t);
        self.reserve(place, moment, cost).map(|(_, charged)| self.allowed(charged, moment))
    }

    /// What to tell when a request left that word behind.
    #[inline]
    pub(super) fn allowed(&self, stored: u64, moment: Moment) -> LimitStatus {
        let remaining = moment.full.saturating_sub(stored).min(self.tolerance) / self.per_use;
        let reset_us = self.micros_until(stored, moment);
        let (limit, window_us) = (u64::from(self.burst), self.window_us);
        LimitStatus { limit, remaining, reset_us, retry_us: LimitStatus::NONE, window_us }
    }

    /// What to tell when a request of this cost was refused over that word.
    #[cold]
    pub(super) fn refused(&self, stored: u64, moment: Moment, cost: u32) -> LimitStatus {
        let charged = stored.saturating_add(self.cost(cost));
        let due = charged.saturating_sub(self.tolerance);
        let retry_us = if cost <= self.burst { self.micros_until(due, moment) } else { LimitStatus::NONE };
        LimitStatus { retry_us, ..self.allowed(stored, moment) }
    }
}

/// A time in the units of a limit, and how far its word may reach then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    micros: u64,
    /// Rounded down.
    pub(super) now: u64,
    /// Where the word is when all uses are taken.
    full: u64,
    slack: u64,
}

impl Moment {
    /// The farthest that a word of a clock that has not gone back may reach.
    #[inline]
    pub(super) fn latest(self) -> u64 {
        self.full.saturating_add(self.slack)
    }

    /// Where the word is when half of the uses are taken.
    pub(super) fn half(self) -> u64 {
        self.now + (self.full - self.now) / 2
    }

    /// What to take a stored word for. No use is charged beyond the burst, so a word that lies farther in the future
    /// was written before the clock went back: it is then as if the burst had just been used up. `None` is none of a
    /// limit's.
    #[inline]
    pub(super) fn believed(self, stored: u64) -> Option<u64> {
        (stored < MOVED).then_some(if stored > self.latest() { self.full } else { stored })
    }
}

/// Why a request was not charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The limit refuses it.
    Limited(LimitStatus),
    /// The word is not here any more: to be looked for again.
    Moved,
}

fn lowest_terms(a: u64, b: u64) -> (u64, u64) {
    let (mut divisor, mut rest) = (a, b);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor.max(1), b / divisor.max(1))
}

/// Where the word of one limit lies: an atomic. A word that is zero is a fresh limit, one from [`MOVED`] on is none.
pub(crate) trait Place {
    fn load(&self) -> u64;
    /// Puts `new` where `current` is, or says what is there instead.
    fn replace(&self, current: u64, new: u64) -> Result<(), u64>;
}

/// Of limits that allow, the one with the fewest uses left; of these the one that takes longest to reset.
fn binding(a: LimitStatus, b: LimitStatus) -> LimitStatus {
    let rank = |status: &LimitStatus| (status.remaining, std::cmp::Reverse(status.reset_us));
    if rank(&b) < rank(&a) { b } else { a }
}

/// Of limits that refuse, the one with the longest wait; that none helps is the longest.
fn longer(a: LimitStatus, b: LimitStatus) -> LimitStatus {
    if b.retry_us > a.retry_us { b } else { a }
}

/// Whether all limits would allow a request of this cost now. Charges nothing; repairs what a clock that went back
/// has left.
pub(crate) fn check<P: Place>(
    paces: &[Pace],
    places: &[P],
    t: Timestamp,
    cost: u32,
) -> Result<(), LimitStatus> {
    let mut refusal = None;
    for (pace, place) in paces.iter().zip(places) {
        let (stored, moment) = (place.load(), pace.at(t));
        // What has moved, `reserve` will say.
        let Some(believed) = moment.believed(stored) else { continue };
        if believed != stored {
            // Whoever comes first repairs it for all.
            let _lost = place.replace(stored, believed);
        }
        if pace.charge(believed, moment, cost).is_none() {
            let refused = pace.refused(believed, moment, cost);
            refusal = Some(refusal.map_or(refused, |refusal| longer(refusal, refused)));
        }
    }
    refusal.map_or(Ok(()), Err)
}

/// Charges a request of this cost to all limits, or to none when one refuses. With no limits at all, `Ok(None)`.
///
/// To be called after [`check`], which refuses without a write nearly all that is to be refused.
pub(crate) fn reserve<P: Place>(
    paces: &[Pace],
    places: &[P],
    t: Timestamp,
    cost: u32,
) -> Result<Option<LimitStatus>, Refusal> {
    let mut done = [(0, 0); Limits::MAX_RATES];
    let mut status = None;
    for (index, (pace, place)) in paces.iter().zip(places).enumerate().take(Limits::MAX_RATES) {
        let moment = pace.at(t);
        match pace.reserve(place, moment, cost) {
            Ok((stored, charged)) => {
                if let Some(done) = done.get_mut(index) {
                    *done = (stored, charged);
                }
                let allowed = pace.allowed(charged, moment);
                status = Some(status.map_or(allowed, |status| binding(status, allowed)));
            }
            Err(refusal) => {
                for (place, (before, charged)) in places.iter().zip(done).take(index) {
                    // Where somebody was charged in between, it stays: see above.
                    let _lost = place.replace(charged, before);
                }
                return Err(refusal);
            }
        }
    }
    Ok(status)
}

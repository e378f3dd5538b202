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

    /// How many uses are left now.
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

    /// A time in units, rounded down.
    #[inline]
    fn units(&self, t: Timestamp) -> u64 {
        let micros = t.unix_micros().unsigned_abs();
        if self.micros == 1 {
            return micros.saturating_mul(self.units);
        }
        let exact = u128::from(micros) * u128::from(self.units) / u128::from(self.micros);
        u64::try_from(exact).unwrap_or(u64::MAX)
    }

    /// How many microseconds after `t` that many units are reached.
    fn micros_until(&self, units: u64, t: Timestamp) -> u64 {
        let micros = if self.micros == 1 {
            units.div_ceil(self.units)
        } else {
            let exact = (u128::from(units) * u128::from(self.micros)).div_ceil(u128::from(self.units));
            u64::try_from(exact).unwrap_or(u64::MAX)
        };
        micros.saturating_sub(t.unix_micros().unsigned_abs())
    }

    /// What to take a stored word for. No use is charged beyond the burst, so a word that lies farther in the future
    /// was written before the clock went back: it is then as if the burst had just been used up.
    pub(crate) fn believed(&self, stored: u64, t: Timestamp) -> u64 {
        let full = self.units(t).saturating_add(self.tolerance);
        if stored > full.saturating_add(self.slack) { full } else { stored }
    }

    /// The word after a request of this cost, or `None` when it is refused. `stored` is one that is
    /// [believed](Pace::believed); zero is a limit that was never used.
    pub(crate) fn charge(&self, stored: u64, t: Timestamp, cost: u32) -> Option<u64> {
        if cost == 0 {
            return Some(stored);
        }
        let now = self.units(t);
        let charged = stored.max(now).saturating_add(self.per_use.saturating_mul(u64::from(cost)));
        (charged <= now.saturating_add(self.tolerance)).then_some(charged)
    }

    /// Charges a request of this cost; tells the word before and the word now.
    #[inline]
    fn reserve(&self, place: &impl Place, t: Timestamp, cost: u32) -> Result<(u64, u64), LimitStatus> {
        let mut stored = place.load();
        loop {
            let believed = self.believed(stored, t);
            let Some(charged) = self.charge(believed, t, cost) else {
                return Err(self.refused(believed, t, cost));
            };
            match place.replace(stored, charged) {
                Ok(()) => return Ok((stored, charged)),
                Err(other) => stored = other,
            }
        }
    }

    /// What to tell when a request of this cost left that word behind.
    #[inline]
    pub(crate) fn allowed(&self, stored: u64, t: Timestamp) -> LimitStatus {
        let full = self.units(t).saturating_add(self.tolerance);
        let remaining = full.saturating_sub(stored).min(self.tolerance) / self.per_use;
        let reset_us = self.micros_until(stored, t);
        let (limit, window_us) = (u64::from(self.burst), self.window_us);
        LimitStatus { limit, remaining, reset_us, retry_us: LimitStatus::NONE, window_us }
    }

    /// What to tell when a request of this cost was refused over that word.
    pub(crate) fn refused(&self, stored: u64, t: Timestamp, cost: u32) -> LimitStatus {
        let charged = stored.saturating_add(self.per_use.saturating_mul(u64::from(cost)));
        let due = charged.saturating_sub(self.tolerance);
        let retry_us = if cost <= self.burst { self.micros_until(due, t) } else { LimitStatus::NONE };
        LimitStatus { retry_us, ..self.allowed(stored, t) }
    }
}

fn lowest_terms(a: u64, b: u64) -> (u64, u64) {
    let (mut divisor, mut rest) = (a, b);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor.max(1), b / divisor.max(1))
}

/// Where the word of one limit lies: an atomic. A word that is zero is a fresh limit.
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
        let stored = place.load();
        let believed = pace.believed(stored, t);
        if believed != stored {
            // Whoever comes first repairs it for all.
            let _lost = place.replace(stored, believed);
        }
        if pace.charge(believed, t, cost).is_none() {
            let refused = pace.refused(believed, t, cost);
            refusal = Some(refusal.map_or(refused, |refusal| longer(refusal, refused)));
        }
    }
    refusal.map_or(Ok(()), Err)
}

/// Charges a request of this cost to all limits, or to none when one refuses. With no limits at all, `Ok(None)`.
///
/// To be called after [`check`], which refuses without a write nearly all that is to be refused.
#[inline]
pub(crate) fn reserve<P: Place>(
    paces: &[Pace],
    places: &[P],
    t: Timestamp,
    cost: u32,
) -> Result<Option<LimitStatus>, LimitStatus> {
    // Nearly every key has one limit at most.
    if let ([pace], [place, ..]) = (paces, places) {
        let (_, charged) = pace.reserve(place, t, cost)?;
        return Ok(Some(pace.allowed(charged, t)));
    }
    let mut done = [(0, 0); Limits::MAX_RATES];
    let mut status = None;
    for (index, (pace, place)) in paces.iter().zip(places).enumerate().take(Limits::MAX_RATES) {
        match pace.reserve(place, t, cost) {
            Ok((stored, charged)) => {
                if let Some(done) = done.get_mut(index) {
                    *done = (stored, charged);
                }
                let allowed = pace.allowed(charged, t);
                status = Some(status.map_or(allowed, |status| binding(status, allowed)));
            }
            Err(refused) => {
                for (place, (before, charged)) in places.iter().zip(done).take(index) {
                    // Where somebody was charged in between, it stays: see above.
                    let _lost = place.replace(charged, before);
                }
                return Err(refused);
            }
        }
    }
    Ok(status)
}

//! Slices: parts of a rate limit that are charged to it in advance. Whoever holds one grants uses of it without asking
//! anybody, so that threads that use one key at once do not wait for one word.
//!
//! # Why a limit with slices allows no more than its rule
//! A slice is a stretch of the limit's line of time, from where its word stood to where it was put. Stretches of
//! different slices, and of what was charged directly, never overlap, because each moved the word on. What lies in the
//! past is worth nothing: a use is taken from the part of the stretch that is still to come. So all slices together are
//! worth no more than what lies between now and the word; and that is what the word says is not there any more. Nothing
//! is ever put back: who needs what others have set aside takes it out of their slices, [all or
//! nothing](Pace::take_with).
//!
//! # What it may allow less
//! A slice is [cut](Pace::cut) only while half of the burst is left, and a refusal looks into all slices first: while
//! time stands still exactly the burst is allowed. But time passes over slices that wait while others are used, and what
//! it passes over is lost: all slices together are a sixty-fourth of the burst, and no more can be missing at once.

use crate::limit::LimitStatus;
use crate::limit::gcra::{Moment, Pace, Place, Refusal};
use crate::time::Timestamp;

/// A part of a limit that was set aside, in its units: from the first that is not used yet to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Slice {
    /// How many units are left. None, if the slice is of before the clock went back.
    fn left(self, moment: Moment) -> u64 {
        if self.to > moment.latest() { 0 } else { self.to.saturating_sub(self.from.max(moment.now)) }
    }

    /// Takes so many units, if they are there.
    fn take(&mut self, moment: Moment, units: u64) -> bool {
        let is_there = units <= self.left(moment);
        if is_there {
            self.from = self.from.max(moment.now) + units;
        }
        is_there
    }
}

impl Pace {
    /// How many slices of a limit there may be at once, and which part of its burst they come to at most.
    pub(crate) const SLICES: usize = 16;
    pub(super) const PART: u32 = 64;

    /// The most uses of one slice, or else as many as are earned in so many microseconds: enough for the word to be asked
    /// for rarely.
    const MOST: u64 = 64;
    const EARNED_IN: u64 = 100;

    /// How many units a slice has; none where the burst is too small to be cut.
    fn length(&self) -> u64 {
        let uses = Self::MOST.max(self.earned_in(Self::EARNED_IN));
        self.cost(self.burst() / (Self::PART * Self::SLICES as u32)).min(self.cost(1).saturating_mul(uses))
    }

    /// How many uses a slice still allows.
    pub(crate) fn uses(&self, slice: Slice, t: Timestamp) -> u64 {
        slice.left(self.at(t)) / self.cost(1)
    }

    /// Cuts a slice off, while at least half of the burst is left.
    fn cut(&self, place: &impl Place, moment: Moment) -> Option<Slice> {
        let length = self.length();
        let mut stored = place.load();
        loop {
            let from = moment.believed(stored).filter(|from| *from <= moment.half())?.max(moment.now);
            let slice = Slice { from, to: from.saturating_add(length) };
            match place.replace(stored, slice.to) {
                Ok(()) => return Some(slice),
                Err(other) => stored = other,
            }
        }
    }

    /// Charges a request to a slice, to one that is cut in its place, or to the limit's word. `before_cut` is called
    /// before anything is set aside.
    #[inline]
    pub(crate) fn take_of(
        &self,
        slice: &mut Slice,
        place: &impl Place,
        t: Timestamp,
        cost: u32,
        before_cut: impl FnOnce(),
    ) -> Result<LimitStatus, Refusal> {
        let (moment, units) = (self.at(t), self.cost(cost));
        let mut is_taken = slice.take(moment, units);
        if !is_taken && slice.left(moment) < self.cost(1) && self.length() > 0 {
            before_cut();
            *slice = self.cut(place, moment).unwrap_or_default();
            is_taken = slice.take(moment, units);
        }
        if !is_taken {
            self.reserve(place, moment, cost)?;
        }
        Ok(self.told(&[*slice], place, moment))
    }

    /// Charges a request to several slices and to the limit's word together, or to nothing.
    pub(crate) fn take_with(
        &self,
        slices: &mut [Slice],
        place: &impl Place,
        t: Timestamp,
        cost: u32,
    ) -> Result<LimitStatus, Refusal> {
        let moment = self.at(t);
        let uses = |slice: &Slice| u32::try_from(slice.left(moment) / self.cost(1)).unwrap_or(u32::MAX);
        let in_slices = slices.iter().map(uses).fold(0, u32::saturating_add).min(cost);
        if cost > in_slices || cost == 0 {
            self.reserve(place, moment, cost - in_slices).map_err(|refusal| match refusal {
                Refusal::Limited(_) => Refusal::Limited(self.refused(place.load(), moment, cost)),
                Refusal::Moved => Refusal::Moved,
            })?;
        }
        let mut left = in_slices;
        for slice in slices.iter_mut() {
            let taken = uses(slice).min(left);
            left -= if slice.take(moment, self.cost(taken)) { taken } else { 0 };
        }
        Ok(self.told(slices, place, moment))
    }

    /// What to tell of a limit of which these slices are known.
    fn told(&self, slices: &[Slice], place: &impl Place, moment: Moment) -> LimitStatus {
        let set_aside = slices.iter().map(|slice| slice.left(moment)).fold(0, u64::saturating_add);
        self.allowed(place.load().max(moment.now).saturating_sub(set_aside), moment)
    }
}

//! A shelf: the most frequent of any number of names, counted in eight places (Space-Saving, after Metwally, Agrawal and
//! El Abbadi).
//!
//! A name that has no place takes that of the rarest, with its count: how much of a count may be of others is kept with
//! it. So each count lies between two numbers that are known, and what is told as *at least so many* is never too much,
//! however many other names there were. Many shelves make a table: which shelf a name is counted on, its hash decides.

/// How many names have a place.
pub(crate) const WAYS: usize = 8;
/// From how many on a name is kept: until then a place is two words and some counts, so that a flood writes no names.
pub(crate) const NAMED_FROM: u32 = 8;

/// One place.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    tag: u64,
    /// How often the name was met, or another one in this place before; 0 is an empty place.
    count: u32,
    /// How much of it may be of others.
    error: u32,
    outdated: u32,
    /// How far it was told of.
    level: u8,
}

impl Counted {
    fn at_least(&self) -> u32 {
        self.count - self.error
    }
}

/// Where a name is counted: in its own place, or in that of the rarest, which it takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) at: usize,
    pub(crate) is_its: bool,
}

/// Eight places, and the names that are kept with them.
#[derive(Clone, Debug)]
pub(crate) struct Shelf<N> {
    counted: [Counted; WAYS],
    seen: u64,
    names: [Option<N>; WAYS],
}

impl<N> Default for Shelf<N> {
    fn default() -> Self {
        Self { counted: Default::default(), seen: 0, names: [const { None }; WAYS] }
    }
}

/// What is known of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frequent<N> {
    pub(crate) tag: u64,
    pub(crate) name: N,
    /// How often it was met: never more than it was.
    pub(crate) at_least: u32,
    /// How often it was met: never less than it was.
    pub(crate) at_most: u32,
    pub(crate) outdated: u32,
    pub(crate) level: u8,
}

impl<N: Copy> Shelf<N> {
    /// Where a name is counted. Without branches that depend on the counts: in a flood nobody could foresee them.
    pub(crate) fn place_of(&self, tag: u64) -> Place {
        let (mut found, mut rarest) = (WAYS, u64::MAX);
        for (at, place) in self.counted.iter().enumerate() {
            found = if place.tag == tag && place.count > 0 { at } else { found };
            rarest = rarest.min((u64::from(place.count) << 8) | at as u64);
        }
        let is_its = found < WAYS;
        Place { at: if is_its { found } else { (rarest & 0xFF) as usize }, is_its }
    }

    /// Counts a name at its place. Returns whether its name is kept by now.
    pub(crate) fn count(&mut self, to: Place, tag: u64, outdated: bool, name: impl FnOnce() -> N) -> bool {
        self.seen = self.seen.saturating_add(1);
        let (Some(place), Some(kept)) = (self.counted.get_mut(to.at), self.names.get_mut(to.at)) else {
            return false;
        };
        if !to.is_its {
            if place.at_least() >= NAMED_FROM {
                *kept = None;
            }
            *place = Counted { tag, count: place.count, error: place.count, ..Counted::default() };
        }
        // What stops counting has been told of long ago.
        place.count = place.count.saturating_add(1);
        place.outdated = place.outdated.saturating_add(outdated.into());
        if place.at_least() == NAMED_FROM {
            *kept = Some(name());
        }
        place.at_least() >= NAMED_FROM
    }

    /// Adds what was counted elsewhere for the name in a place.
    pub(crate) fn add(&mut self, at: usize, count: u32, outdated: u32) {
        self.seen = self.seen.saturating_add(count.into());
        if let Some(place) = self.counted.get_mut(at) {
            place.count = place.count.saturating_add(count);
            place.outdated = place.outdated.saturating_add(outdated);
        }
    }

    /// How often anything was counted.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// The names that are kept.
    pub(crate) fn frequent(&self) -> impl Iterator<Item = Frequent<N>> {
        self.counted.iter().zip(&self.names).filter_map(|(place, name)| {
            let Counted { tag, count, outdated, level, .. } = *place;
            let at_least = place.at_least();
            let name = (*name).filter(|_| at_least >= NAMED_FROM)?;
            Some(Frequent { tag, name, at_least, at_most: count, outdated, level })
        })
    }

    /// Notes how far was told of a name.
    pub(crate) fn note_told(&mut self, tag: u64, level: u8) {
        let places = self.counted.iter_mut().filter(|place| place.tag == tag);
        places.for_each(|place| place.level = place.level.max(level));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn count<N: Copy>(shelf: &mut Shelf<N>, tag: u64, outdated: bool, name: impl FnOnce() -> N) {
        shelf.count(shelf.place_of(tag), tag, outdated, name);
    }

    /// Numbers without a pattern.
    fn chance(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33
    }

    #[test]
    fn what_was_met_lies_between_at_least_and_at_most_whatever_else_was_met() {
        for seed in 1..40 {
            let (mut state, mut shelf, mut truth) = (seed, Shelf::default(), HashMap::<u64, u32>::new());
            for _ in 0..2_000 {
                // Few names often, and many seldom.
                let wide = chance(&mut state).is_multiple_of(3);
                let tag = if wide { chance(&mut state) % 500 } else { 1_000 + chance(&mut state) % 5 };
                count(&mut shelf, tag, false, || tag);
                *truth.entry(tag).or_default() += 1;
            }
            assert_eq!(shelf.seen(), 2_000);
            let frequent: Vec<_> = shelf.frequent().collect();
            for Frequent { tag, name, at_least, at_most, .. } in &frequent {
                assert_eq!(tag, name);
                let met = truth[tag];
                assert!(*at_least <= met && met <= *at_most, "{at_least} {met} {at_most}");
            }
            for (tag, met) in truth.iter().filter(|(_, met)| **met > 2_000 / WAYS as u32) {
                assert!(frequent.iter().any(|known| known.tag == *tag), "{tag} was met {met} times");
            }
        }
    }

    #[test]
    fn a_name_is_kept_from_its_eighth_time_on_and_goes_with_its_place() {
        let mut shelf = Shelf::default();
        (0..7).for_each(|_| count(&mut shelf, 1, false, || panic!("too early")));
        assert_eq!(shelf.frequent().count(), 0);
        count(&mut shelf, 1, true, || 'a');
        (0..3).for_each(|_| count(&mut shelf, 1, true, || panic!("again")));
        let frequent = Frequent { tag: 1, name: 'a', at_least: 11, at_most: 11, outdated: 4, level: 0 };
        assert_eq!(shelf.frequent().collect::<Vec<_>>(), [frequent]);
        shelf.note_told(1, 2);
        assert_eq!(shelf.frequent().next().map(|known| known.level), Some(2));
        (2..1_000).for_each(|tag| count(&mut shelf, tag, false, || 'b'));
        assert_eq!(shelf.frequent().count(), 0, "a flood takes every place, and has no name");
        (0..8).for_each(|_| count(&mut shelf, 1, false, || 'c'));
        let back = shelf.frequent().next().unwrap();
        assert_eq!((back.name, back.at_least, back.outdated, back.level), ('c', 8, 0, 0));
        assert!(back.at_most >= 19, "{back:?}");
    }
}

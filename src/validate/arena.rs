//! An arena: values that are added and never moved or removed, so that a reader may hold on to one without a lock.

use std::sync::OnceLock;

/// How many values the first bucket holds; each further bucket holds twice as many.
const FIRST: usize = 64;
const BUCKETS: usize = 26;

type Bucket<T> = OnceLock<Box<[OnceLock<T>]>>;

/// Values by their number. One writer adds, any number of readers read; nothing blocks.
#[derive(Debug)]
pub(crate) struct Arena<T> {
    buckets: [Bucket<T>; BUCKETS],
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { buckets: [const { OnceLock::new() }; BUCKETS] }
    }
}

/// The bucket in which a number lies, and its place there.
fn place(number: usize) -> (usize, usize) {
    let bucket = ((number / FIRST) + 1).ilog2();
    (bucket as usize, number + FIRST - (FIRST << bucket))
}

impl<T> Arena<T> {
    /// The value of a number, if it has been added.
    #[inline]
    pub(crate) fn get(&self, number: usize) -> Option<&T> {
        let (bucket, place) = place(number);
        self.buckets.get(bucket)?.get()?.get(place)?.get()
    }

    /// Adds the value of a number; a number has one value for ever.
    pub(crate) fn set(&self, number: usize, value: T) {
        let (bucket, place) = place(number);
        if let Some(bucket_of) = self.buckets.get(bucket) {
            let cells = bucket_of.get_or_init(|| (0..FIRST << bucket).map(|_| OnceLock::new()).collect());
            if let Some(cell) = cells.get(place) {
                drop(cell.set(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_place_of_its_own_and_keeps_its_first_value() {
        let arena = Arena::default();
        for number in 0..10_000 {
            assert_eq!(arena.get(number), None);
            arena.set(number, number * 3);
        }
        arena.set(77, 0);
        assert!((0..10_000).all(|number| arena.get(number) == Some(&(number * 3))));
        assert_eq!(arena.get(usize::MAX / 2), None);
        assert_eq!(
            (place(0), place(63), place(64), place(191), place(192)),
            ((0, 0), (0, 63), (1, 0), (1, 127), (2, 0))
        );
    }
}

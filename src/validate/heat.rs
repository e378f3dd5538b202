//! Heat: which versions several threads use at once, and so often that they wait for each other.

use std::sync::Mutex;
use std::time::Duration;

use crate::time::Timestamp;

/// A version is looked at each time it has been used so often.
pub(crate) const USES: u64 = 1024;
/// No longer than this may it take: some ten thousand uses a second.
const WITHIN: Duration = Duration::from_millis(100);
/// How often in succession it has to be that fast, and how often by another thread than the time before.
const TIMES: u32 = 8;
const HANDS: u32 = 2;

const PLACES: usize = 64;

/// What was seen of versions lately.
#[derive(Debug)]
pub(crate) struct Heat(Mutex<[Seen; PLACES]>);

#[derive(Clone, Copy, Debug)]
struct Seen {
    position: u32,
    at: Timestamp,
    by: usize,
    times: u32,
    hands: u32,
}

impl Default for Heat {
    fn default() -> Self {
        let nothing = Seen { position: u32::MAX, at: Timestamp::MIN, by: 0, times: 0, hands: 0 };
        Self(Mutex::new([nothing; PLACES]))
    }
}

impl Heat {
    /// Notes that a version has been used [`USES`] times more, by this thread the last time; says whether it is hot.
    /// Where others are about the same, nothing is noted.
    pub(crate) fn note(&self, position: u32, at: Timestamp, by: usize) -> bool {
        let Ok(mut places) = self.0.try_lock() else { return false };
        let Some(seen) = places.get_mut(position as usize % PLACES) else { return false };
        if seen.position != position || at.since(seen.at) > WITHIN {
            *seen = Seen { position, at, by, times: 1, hands: 0 };
            return false;
        }
        seen.hands += u32::from(seen.by != by);
        (seen.at, seen.by, seen.times) = (seen.at.max(at), by, seen.times + 1);
        let is_hot = seen.times >= TIMES && seen.hands >= HANDS;
        if is_hot {
            (seen.times, seen.hands) = (0, 0);
        }
        is_hot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(millis: u64) -> Timestamp {
        Timestamp::MIN.plus(Duration::from_millis(1_000 + millis)).unwrap()
    }

    #[test]
    fn what_two_threads_use_at_once_and_often_is_hot() {
        let heat = Heat::default();
        let hot: Vec<_> = (0..24).map(|n| heat.note(7, after(n * 90), n as usize % 2)).collect();
        assert_eq!(hot.iter().position(|hot| *hot), Some(TIMES as usize - 1));
    }

    #[test]
    fn what_one_thread_uses_or_what_is_used_seldom_is_not() {
        let heat = Heat::default();
        for n in 0..100 {
            assert!(!heat.note(7, after(n), 1), "one thread");
            assert!(!heat.note(8, after(n * 101), n as usize % 2), "seldom");
        }
    }
}

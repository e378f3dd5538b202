//! The breaker of a channel: when its receiver fails again and again, the whole channel pauses, in every process.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::outbox::entry::pause;
use crate::records::Record;
use crate::store::{RowIndex, RowKind};
use crate::time::Timestamp;

/// How many failures in a row open it.
pub(crate) const FAILURES: u32 = 3;
/// The longest pause: whatever the pauses of its notifications, a receiver that is back is noticed within this.
const LONGEST: Duration = Duration::from_secs(600);

/// A channel whose receiver fails. While it is there, one failure more opens it again, for longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Breaker {
    pub(crate) channel: String,
    times: u32,
    opened_at: Timestamp,
    pub(crate) until: Timestamp,
}

impl Breaker {
    pub(crate) const STATE: &'static str = "breaker";

    pub(crate) fn id_of(channel: &str) -> String {
        format!("~breaker/{channel}")
    }

    /// Open from now on, after the `times` that it was open before.
    pub(crate) fn open(channel: &str, before: Option<&Self>, now: Timestamp) -> Self {
        let times = before.map_or(0, |before| before.times).saturating_add(1);
        let until = now.plus(pause(times, channel).min(LONGEST)).unwrap_or(Timestamp::MAX);
        Self { channel: channel.to_owned(), times, opened_at: now, until }
    }

    /// Whether the channel pauses. A clock that went back ends the pause.
    pub(crate) fn holds(&self, now: Timestamp) -> bool {
        self.opened_at <= now && now < self.until
    }
}

impl Record for Breaker {
    const KIND: RowKind = RowKind::Outbox;
    fn row_id(&self) -> String {
        Self::id_of(&self.channel)
    }
    fn index(&self) -> RowIndex {
        RowIndex { state: Some(Self::STATE.to_owned()), ..RowIndex::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breaker_pauses_longer_each_time_and_never_longer_than_ten_minutes() {
        let at = |seconds: i64| Timestamp::from_unix_micros((1_798_761_600 + seconds) * 1_000_000).unwrap();
        let mut breaker = Breaker::open("ops", None, at(0));
        assert!(breaker.holds(at(0)) && !breaker.holds(at(-1)) && !breaker.holds(at(30)));
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            let span = breaker.until.since(at(0));
            assert!(span > last || span == LONGEST, "{span:?} after {last:?}");
            last = span;
            breaker = Breaker::open("ops", Some(&breaker), at(0));
        }
        assert_eq!(last, LONGEST);
    }
}

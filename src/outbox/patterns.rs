//! Whether keys are used as they were before: asked four times a day, some hundred keys at a time.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::error::ManageError;
use crate::id::KeyId;
use crate::notification::{Notification, NotificationKind};
use crate::outbox::enclose::Rows;
use crate::outbox::notices::{Asked, Noticed};
use crate::records::{KeyState, Records, believed};
use crate::signal::alarm::of_change;
use crate::signal::change::{self, Change, change};
use crate::store::{RowFilter, RowKind, UsageBucket, UsageQuery};
use crate::time::{Timestamp, earlier};

const DAY: Duration = Duration::from_secs(86_400);
/// How often is looked, and when first on a day: an hour after its beginning what was counted before has come in.
const INTERVAL: Duration = Duration::from_secs(6 * 3_600);
const FIRST: Duration = Duration::from_secs(3_600);
/// How many keys one question to the store is about.
const TOGETHER: usize = 250;
/// The day that is not over, the one before, and those that both are compared with.
const WINDOW: usize = change::DAYS + 2;

/// The first look after `t`.
fn next_look(t: Timestamp) -> Timestamp {
    let day = UsageBucket::day_of(t).begin();
    let mut look = day.plus(FIRST).unwrap_or(Timestamp::MAX);
    while look <= t && look < Timestamp::MAX {
        look = look.plus(INTERVAL).unwrap_or(Timestamp::MAX);
    }
    // The last interval of a day ends with the first look of the next one.
    look
}

/// Which keys are used otherwise than before.
pub(super) fn ask(
    records: &Records,
    asked: &mut Asked,
    now: Timestamp,
    limit: usize,
    noticed: &mut Noticed,
) -> Result<(), ManageError> {
    if !records.channels.ask_for(NotificationKind::Alarm) {
        return Ok(());
    }
    let (look, after) = asked.patterns.get_or_insert_with(|| (next_look(now), None));
    if now < *look {
        noticed.next_due = earlier(noticed.next_due, Some(*look));
        return Ok(());
    }
    let mut page = Vec::new();
    let mut is_cut = false;
    records.store.scan(RowKind::Key, RowFilter::All { after: after.as_deref() }, &mut |row| {
        if page.len() == limit {
            is_cut = true;
            return ControlFlow::Break(());
        }
        page.push((row.id.to_owned(), KeyState::is_over(&row.index)));
        ControlFlow::Continue(())
    })?;
    for keys in page.chunks(TOGETHER) {
        let (Some((first, _)), Some((last, _))) = (keys.first(), keys.last()) else { continue };
        let counts = counts(records, (first, last), now)?;
        for (id, days) in counts {
            let is_over = keys.iter().any(|(key, is_over)| *key == id && *is_over);
            if let Some(key) = id.parse().ok().filter(|_| !is_over)
                && let Some((change, requests)) = changed(key, &days, now)
            {
                tell(records, key, change, requests, now, noticed)?;
            }
        }
    }
    if is_cut {
        *after = page.pop().map(|(id, _)| id);
        noticed.more = true;
    } else {
        (*look, *after) = (next_look(now), None);
        noticed.next_due = earlier(noticed.next_due, Some(*look));
    }
    Ok(())
}

/// Requests on each day of a window, from today on backwards.
type Days = [u64; WINDOW];

fn counts(
    records: &Records,
    (first, last): (&str, &str),
    now: Timestamp,
) -> Result<BTreeMap<String, Days>, ManageError> {
    let today = UsageBucket::day_of(now).begin();
    let query = UsageQuery {
        first_key: Some(first),
        last_key: Some(last),
        from: Some(today.minus_or_min(DAY * (WINDOW as u32 - 1))),
        until: None,
    };
    let mut found = BTreeMap::new();
    records.store.usage(&query, &mut |bucket, entry| {
        let day = UsageBucket::day_of(bucket.begin()).begin();
        let days_ago = today.since(day).as_secs() / DAY.as_secs();
        let days = match found.get_mut(&entry.key) {
            Some(days) => days,
            None => found.entry(entry.key.clone()).or_insert([0; WINDOW]),
        };
        // What a clock that is ahead has counted is of no day yet.
        let count: Option<&mut u64> =
            days.get_mut(usize::try_from(days_ago).unwrap_or(WINDOW)).filter(|_| day <= today);
        if let Some(count) = count {
            *count = count.saturating_add(entry.counts.requests());
        }
    })?;
    Ok(found)
}

/// How a key's use has changed: today, as far as that has come, or yesterday. With what was counted, and what was to be
/// expected.
fn changed(key: KeyId, days: &Days, now: Timestamp) -> Option<(Change, (u64, u64))> {
    let millis = i64::try_from(u128::from(key) >> 80).unwrap_or(i64::MAX);
    let born = Timestamp::from_unix_micros(millis.saturating_mul(1_000)).unwrap_or(Timestamp::MAX);
    // The day of its making is not a whole one.
    let whole = |days_ago: u32| {
        let day = UsageBucket::day_of(now.minus_or_min(DAY * days_ago)).begin();
        let lived = day.since(UsageBucket::day_of(born).begin()).as_secs() / DAY.as_secs();
        usize::try_from(lived).unwrap_or(0).saturating_sub(1)
    };
    let [today, before @ ..] = days;
    let of_today = change(*today, false, before.get(..whole(0)).unwrap_or(before));
    let told = |(change, expected), requests| (change, (requests, expected));
    let [yesterday, before @ ..] = before;
    let of_yesterday = || change(*yesterday, true, before.get(..whole(1)).unwrap_or(before));
    of_today.map(|found| told(found, *today)).or_else(|| of_yesterday().map(|found| told(found, *yesterday)))
}

fn tell(
    records: &Records,
    key: KeyId,
    change: Change,
    requests: (u64, u64),
    now: Timestamp,
    noticed: &mut Noticed,
) -> Result<(), ManageError> {
    let Some(stored) = believed(records.family(key))? else { return Ok(()) };
    let told: Notification = of_change(change, requests, &stored.family.key, stored.family.active(), now);
    if !Rows::new(records).is_known(&told) {
        noticed.told.push((told, stored.revision()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn it_is_looked_at_one_seven_thirteen_and_nineteen() {
        for (t, look) in [
            ("2027-01-01T00:00:00Z", "2027-01-01T01:00:00Z"),
            ("2027-01-01T01:00:00Z", "2027-01-01T07:00:00Z"),
            ("2027-01-01T12:59:59Z", "2027-01-01T13:00:00Z"),
            ("2027-01-01T19:00:00Z", "2027-01-02T01:00:00Z"),
            ("2027-01-01T23:59:59Z", "2027-01-02T01:00:00Z"),
        ] {
            assert_eq!(next_look(at(t)), at(look), "{t}");
        }
        assert_eq!(next_look(Timestamp::MAX), Timestamp::MAX);
    }

    #[test]
    fn only_whole_days_of_a_key_s_life_are_its_history() {
        let now = at("2027-03-01T13:00:00Z");
        let used = |born: &str, today: u64| {
            let key = KeyId::new(at(born), [7; 10]);
            let mut days = [1_000; WINDOW];
            days[0] = today;
            changed(key, &days, now)
        };
        assert_eq!(used("2027-01-01T00:00:00Z", 5_000), Some((Change::More, (5_000, 1_000))));
        assert_eq!(used("2027-01-31T23:00:00Z", 5_000), Some((Change::More, (5_000, 1_000))));
        assert_eq!(used("2027-02-01T00:00:00Z", 5_000), None, "four of today's weekday are needed");
        assert_eq!(used("2027-01-01T00:00:00Z", 0), None, "today is not over");
        assert_eq!(used("2027-03-01T12:00:00Z", 5_000), None);
    }
}

//! What the usage counts promise.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::conformance::StoreBed;
use crate::store::conformance::lab::{Lab, Snapshot, draft, feed, patiently, time};
use crate::store::{
    CountedReason, RowKind, UsageBatch, UsageBucket, UsageCounts, UsageEntry, UsageQuery, UsageWriter,
};
use crate::time::Timestamp;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

fn used(key: &str, version: u32, allowed: u64, denied: u64, last_used: Option<Timestamp>) -> UsageEntry {
    let mut entry = UsageEntry::new(key.to_owned(), version);
    (entry.counts.allowed, entry.counts.last_used) = (allowed, last_used);
    entry.counts.denied.add(CountedReason::Scope, denied);
    entry
}

fn batch_at(at: Timestamp, writer: &str, entries: impl IntoIterator<Item = UsageEntry>) -> UsageBatch {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    UsageBatch {
        writer: writer.to_owned(),
        sequence: NEXT.fetch_add(1, Ordering::Relaxed),
        flushed_at: at,
        ended: false,
        entries: entries.into_iter().collect(),
    }
}

fn batch(writer: &str, entries: impl IntoIterator<Item = UsageEntry>) -> UsageBatch {
    batch_at(time(5_000_000), writer, entries)
}

type Sums = BTreeMap<(String, u32, UsageBucket), UsageCounts>;

fn parts(lab: &Lab, query: &UsageQuery<'_>) -> Sums {
    let mut sums = Sums::new();
    let each = &mut |bucket, entry: &UsageEntry| {
        sums.entry((entry.key.clone(), entry.version, bucket)).or_default().absorb(&entry.counts);
    };
    lab.store.usage(query, each).unwrap();
    sums
}

fn writers(lab: &Lab) -> Vec<UsageWriter> {
    let mut found = Vec::new();
    lab.store.usage_writers(&mut |writer| found.push(writer.clone())).unwrap();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn roll_up(lab: &Lab, now: Timestamp) -> usize {
    let mut moved = 0;
    for _ in 0..10_000 {
        let step = lab.store.roll_up_usage(now, 100).unwrap();
        moved += step;
        if step < 100 {
            return moved;
        }
    }
    panic!("rolling up must come to an end");
}

/// Counts add up by key and version, over batches, writers and entries of one batch.
pub fn usage_adds_up_by_version(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let ada = "o'hara's 🔑";
    lab.store
        .add_usage(&batch("w1", [used(ada, 10, 1, 2, Some(time(7))), used(ada, 2, 5, 0, None)]))
        .unwrap();
    lab.store
        .add_usage(&batch("w2", [used(ada, 2, 3, 1, Some(time(9))), used("other", 2, 9, 9, None)]))
        .unwrap();
    lab.store
        .add_usage(&batch("w1", [used(ada, 10, 4, 0, None), used(ada, 10, 1, 1, Some(time(8)))]))
        .unwrap();
    lab.store.add_usage(&batch("w1", [])).unwrap();
    lab.store.add_usage(&batch("w1", [used(ada, u32::MAX, 0, 1, None)])).unwrap();
    let expected = [
        used(ada, 2, 8, 1, Some(time(9))),
        used(ada, 10, 6, 3, Some(time(8))),
        used(ada, u32::MAX, 0, 1, None),
    ];
    for promise in ["counts add up by version", "and do so once they are rolled up"] {
        assert_eq!(lab.usage(ada), expected, "{promise}");
        assert_eq!(lab.usage("other"), [used("other", 2, 9, 9, None)], "counts are kept by key");
        assert_eq!(lab.usage("none"), [], "what was never used has no counts");
        roll_up(&lab, time(9_000_000));
    }
}

/// Each reason has a count of its own.
pub fn denials_are_counted_by_reason(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let mut expected = UsageCounts::default();
    for (reason, n) in CountedReason::ALL.into_iter().zip(1..) {
        let mut entry = UsageEntry::new("key 1".to_owned(), 1);
        entry.counts.denied.add(reason, n * 100);
        lab.store.add_usage(&batch("w1", [entry.clone()])).unwrap();
        expected.absorb(&entry.counts);
    }
    assert_eq!(lab.usage("key 1")[0].counts, expected, "denials are counted by reason");
    roll_up(&lab, time(9_000_000));
    assert_eq!(lab.usage("key 1")[0].counts, expected, "and kept by reason");
    lab.store.add_usage(&batch("w1", [used("key 1", 1, 0, 1, None)])).unwrap();
    expected.denied.add(CountedReason::Scope, 1);
    roll_up(&lab, time(9_000_000));
    assert_eq!(lab.usage("key 1")[0].counts, expected, "a sum that is there is added to");
}

/// A batch that is handed over again, whoever rolled it up meanwhile, adds nothing; nor does an earlier one.
pub fn a_batch_that_is_handed_over_again_adds_nothing(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let [first, second] = [1, 2].map(|n| batch("w1", [used("key 1", 1, n, n, Some(time(3)))]));
    lab.store.add_usage(&first).unwrap();
    lab.store.add_usage(&first).unwrap();
    assert_eq!(lab.usage("key 1"), first.entries, "a batch is added once");
    bed.open().add_usage(&first).unwrap();
    assert_eq!(lab.usage("key 1"), first.entries, "by whatever handle it comes");
    roll_up(&lab, time(9_000_000));
    lab.store.add_usage(&first).unwrap();
    assert_eq!(lab.usage("key 1"), first.entries, "also after it was rolled up");
    lab.store.add_usage(&second).unwrap();
    lab.store.add_usage(&first).unwrap();
    lab.store.add_usage(&second).unwrap();
    let both = [used("key 1", 1, 3, 3, Some(time(3)))];
    assert_eq!(lab.usage("key 1"), both, "a later batch is added, an earlier one is not");
    assert_eq!(writers(&lab)[0].sequence, second.sequence, "a writer does not go back");
    lab.store.add_usage(&UsageBatch { writer: "w2".to_owned(), ..first }).unwrap();
    assert_eq!(lab.usage("key 1")[0].counts.allowed, 4, "another writer has numbers of its own");
}

/// Adding counts and rolling them up changes no row, no head, no entry of the audit log, and tells the feed nothing.
pub fn usage_touches_no_row_and_no_revision(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let revision = lab.insert(draft(RowKind::Key, "key 1"));
    let before = Snapshot::of(&*lab.store);
    lab.store.add_usage(&batch("w1", [used("key 1", 1, 5, 5, Some(time(5)))])).unwrap();
    assert_eq!(Snapshot::of(&*lab.store), before, "usage must touch no row and no revision");
    roll_up(&lab, time(1_000 * DAY));
    assert_eq!(Snapshot::of(&*lab.store), before, "rolling up must touch no row and no revision");
    assert_eq!(feed(&*lab.store, revision, 100).0, [], "usage must not be told by the feed");
    lab.commit(|changes| changes.replace(draft(RowKind::Key, "key 1"), revision));
    assert_eq!(lab.usage("key 1").len(), 1, "a change of the row leaves its usage");
}

/// `last_used` is the latest of all that were added, whatever order they come in.
pub fn last_used_never_falls(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    for (last, expected) in
        [(None, None), (Some(50), Some(50)), (Some(20), Some(50)), (None, Some(50)), (Some(60), Some(60))]
    {
        lab.store.add_usage(&batch("w1", [used("key 1", 1, 1, 0, last.map(time))])).unwrap();
        for _ in 0..2 {
            assert_eq!(lab.usage("key 1")[0].counts.last_used, expected.map(time), "last_used never falls");
            roll_up(&lab, time(9_000_000));
        }
    }
}

/// Counts beyond the largest that a store keeps stay there; a store keeps 63 bits.
pub fn usage_does_not_wrap(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let enough = i64::MAX as u64;
    for (allowed, denied) in [(u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX), (7, 7)] {
        lab.store.add_usage(&batch("w1", [used("key 1", 1, allowed, denied, None)])).unwrap();
    }
    for _ in 0..2 {
        let [sum] = <[_; 1]>::try_from(lab.usage("key 1")).unwrap();
        let kept = sum.counts.allowed == enough && sum.counts.denied.get(CountedReason::Scope) == enough;
        assert!(kept, "counts must not wrap, nor fall: {sum:?}");
        roll_up(&lab, time(9_000_000));
    }
    lab.store.add_usage(&batch("w1", [used("key 2", 1, enough, 0, None)])).unwrap();
    assert_eq!(lab.usage("key 2")[0].counts.allowed, enough, "63 bits are kept exactly");
}

/// No count is lost, and none is doubled, when several threads add and roll up at once, by one handle and by several.
pub fn usage_from_several_threads_adds_up(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    std::thread::scope(|threads| {
        for n in 0..4 {
            let store = if n % 2 == 0 { lab.store.clone() } else { bed.open() };
            threads.spawn(move || {
                for _ in 0..25 {
                    let batch = batch(&format!("w{n}"), [used("key 1", 1, 1, 2, Some(time(n)))]);
                    patiently(|| store.add_usage(&batch));
                    patiently(|| store.roll_up_usage(time(9_000_000), 3));
                }
            });
        }
        let store = bed.open();
        threads.spawn(move || {
            let mut seen = 0;
            for _ in 0..50 {
                let mut sum = 0;
                store.usage(&UsageQuery::default(), &mut |_, entry| sum += entry.counts.allowed).unwrap();
                assert!((seen..=100).contains(&sum), "a reading is of one moment: {sum} after {seen}");
                seen = sum;
            }
        });
    });
    assert_eq!(lab.usage("key 1"), [used("key 1", 1, 100, 200, Some(time(3)))], "no count must be lost");
}

/// Counts belong to the hour of their flush; the hours of a day become one day two days later, and what is 400 days old
/// one total. No sum changes.
pub fn usage_is_kept_by_the_hour_then_by_the_day_then_in_all(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let flushes = [10 * DAY, 10 * DAY + HOUR - 1, 10 * DAY + HOUR, 10 * DAY + 23 * HOUR, 11 * DAY, 60 * DAY];
    for (n, at) in (1..).zip(flushes) {
        lab.store.add_usage(&batch_at(time(at), "w1", [used("key 1", 1, n, 0, Some(time(at)))])).unwrap();
    }
    let hour = |begin| UsageBucket::Hour(time(begin));
    let day = |begin| UsageBucket::Day(time(begin));
    let (first, last) = (hour(11 * DAY), hour(60 * DAY));
    let young = vec![
        (hour(10 * DAY), 3),
        (hour(10 * DAY + HOUR), 3),
        (hour(10 * DAY + 23 * HOUR), 4),
        (first, 5),
        (last, 6),
    ];
    let expected = [
        (0, young.clone()),
        (13 * DAY - 1, young),
        (13 * DAY, vec![(day(10 * DAY), 10), (first, 5), (last, 6)]),
        (14 * DAY, vec![(day(10 * DAY), 10), (day(11 * DAY), 5), (last, 6)]),
        (411 * DAY - 1, vec![(day(10 * DAY), 10), (day(11 * DAY), 5), (day(60 * DAY), 6)]),
        (411 * DAY, vec![(UsageBucket::Total, 10), (day(11 * DAY), 5), (day(60 * DAY), 6)]),
        (412 * DAY, vec![(UsageBucket::Total, 15), (day(60 * DAY), 6)]),
        (1_000 * DAY, vec![(UsageBucket::Total, 21)]),
    ];
    for (now, buckets) in expected {
        roll_up(&lab, time(now));
        let found = parts(&lab, &UsageQuery::default());
        let found: BTreeMap<_, _> = found.into_iter().map(|((.., b), counts)| (b, counts.allowed)).collect();
        assert_eq!(found, buckets.into_iter().collect(), "after a roll-up on day {}", now / DAY);
        let sum = used("key 1", 1, 21, 0, Some(time(60 * DAY)));
        assert_eq!(lab.usage("key 1"), [sum], "no sum may change");
    }
    let late = batch_at(time(10 * DAY), "w1", [used("key 1", 1, 9, 0, None)]);
    lab.store.add_usage(&late).unwrap();
    roll_up(&lab, time(1_000 * DAY));
    let total: Vec<_> = parts(&lab, &UsageQuery::default()).into_values().map(|sum| sum.allowed).collect();
    assert_eq!(total, [30], "what comes late goes where its time is kept");
}

/// A step of rolling up moves about as many entries as it may; once it has moved fewer, nothing is left, and another one
/// moves nothing and writes nothing.
pub fn rolling_up_is_bounded_and_comes_to_an_end(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let names: Vec<_> = (0..50).map(|n| format!("key {n:02}")).collect();
    for hour in 0..4 {
        let entries = names.iter().map(|name| used(name, 1, 1, 1, None));
        lab.store.add_usage(&batch_at(time(hour * HOUR), "w1", entries)).unwrap();
    }
    let sums =
        |lab: &Lab| -> u64 { parts(lab, &UsageQuery::default()).values().map(|sum| sum.allowed).sum() };
    for now in [4 * HOUR, 20 * DAY, 1_000 * DAY] {
        let now = time(now);
        let mut steps = 0;
        loop {
            let moved = lab.store.roll_up_usage(now, 30).unwrap();
            // A batch is moved as a whole.
            assert!(moved <= 80, "a step is bounded, but moved {moved}");
            assert_eq!(sums(&lab), 200, "no step may change a sum");
            if moved < 30 {
                break;
            }
            steps += 1;
            assert!(steps < 100, "rolling up must come to an end");
        }
        let stamp = lab.store.stamp().unwrap();
        assert_eq!(lab.store.roll_up_usage(now, 30).unwrap(), 0, "nothing is left");
        assert_eq!(lab.store.stamp().unwrap(), stamp, "and nothing is written");
    }
    assert!(parts(&lab, &UsageQuery::default()).keys().all(|(.., bucket)| *bucket == UsageBucket::Total));
}

/// A writer's row has its last number, its latest flush and whether it has ended; after 30 days of silence it is
/// forgotten, its counts stay.
pub fn writers_tell_how_far_they_have_flushed(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    assert_eq!(writers(&lab), [], "nobody has flushed");
    let [a, b, c] = [50, 40, 60].map(|at| batch_at(time(at), "w1", []));
    for (batch, flushed_at) in [(&a, 50), (&b, 50), (&c, 60), (&a, 60)] {
        lab.store.add_usage(batch).unwrap();
        let [writer] = <[_; 1]>::try_from(writers(&lab)).unwrap();
        assert_eq!((writer.name.as_str(), writer.ended), ("w1", false));
        assert_eq!(writer.flushed_at, time(flushed_at), "a writer does not go back");
    }
    let last = UsageBatch { ended: true, ..batch_at(time(70), "w2", [used("key 1", 1, 1, 0, None)]) };
    lab.store.add_usage(&last).unwrap();
    let both = [UsageWriter::new(&c), UsageWriter::new(&last)];
    assert_eq!(writers(&lab), both, "each writer has its own row");
    roll_up(&lab, time(30 * DAY + 60));
    assert_eq!(writers(&lab), both, "a writer is remembered for 30 days");
    assert!(roll_up(&lab, time(30 * DAY + 61)) > 0, "to forget one is a step");
    assert_eq!(writers(&lab), both[1..], "and no longer");
    assert_eq!(lab.usage("key 1").len(), 1, "counts outlive their writer");
}

/// A query narrows by the range of keys and by when buckets begin, before and after they are rolled up.
pub fn usage_queries_choose_keys_and_times(bed: &dyn StoreBed) {
    let lab = Lab::founded(bed);
    let keys = ["", "a", "a ", "b", "ä", "\u{10FFFF}"];
    for (n, at) in [(1, 0), (2, HOUR), (3, 5 * DAY), (4, 1_000 * DAY)] {
        let entries = keys.iter().map(|key| used(key, 1, n, 0, None));
        lab.store.add_usage(&batch_at(time(at), "w1", entries)).unwrap();
    }
    for _ in 0..2 {
        let all = parts(&lab, &UsageQuery::default());
        assert!(all.len() >= 2 * keys.len());
        let bounds = [None, Some(""), Some("a"), Some("a "), Some("b"), Some("c"), Some("\u{10FFFF}")];
        for first_key in bounds {
            for last_key in bounds {
                for from in [None, Some(0), Some(1), Some(HOUR), Some(1_000 * DAY), Some(1_000 * DAY + 1)] {
                    for until in [None, Some(0), Some(HOUR), Some(HOUR + 1), Some(1_000 * DAY)] {
                        let (from, until) = (from.map(time), until.map(time));
                        let query = UsageQuery { first_key, last_key, from, until };
                        let mut expected = all.clone();
                        expected.retain(|(key, _, bucket), _| {
                            query.asks_for_key(key) && query.asks_for_bucket(*bucket)
                        });
                        assert_eq!(parts(&lab, &query), expected, "{query:?}");
                    }
                }
            }
        }
        roll_up(&lab, time(1_000 * DAY));
    }
}

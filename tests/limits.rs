//! Limits of a key as they are given, kept, shown and changed: their text and stored forms, and what counts as
//! narrower.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::{Bed, DAY, HOUR, new_key, on_both_stores, owner};
use keyrota::{
    EditKey, EventKind, KeyFilter, KeyId, LimitError, Limits, ManageError, NewKey, Quota, RateLimit, Refill,
    RowKind,
};
use serde_json::{Value, json};

fn limits(text: &str) -> Limits {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The body of a key's row, as a SQL shell shows it.
fn row(bed: &Bed, key: KeyId) -> Value {
    let mut body = Value::Null;
    bed.store
        .get(RowKind::Key, &key.to_string(), &mut |row| body = serde_json::from_slice(row.body).unwrap())
        .unwrap();
    body
}

#[test]
fn a_key_keeps_the_limits_that_it_was_issued_with() {
    on_both_stores(|bed| {
        let rate = RateLimit::per_second(10).unwrap().with_burst(50).unwrap();
        let hourly = RateLimit::per_hour(1_000).unwrap();
        let quota = Quota::new(100_000, Refill::Monthly).unwrap();
        let all = Limits::new([hourly, rate, hourly]).unwrap().with_quota(quota);
        for (given, expected) in [
            (new_key("one").limits(rate), "10/s burst 50"),
            (new_key("quota").limits(quota), "quota 100000 monthly"),
            (new_key("all").limits(all), "10/s burst 50, 1000/h, quota 100000 monthly"),
            (new_key("none"), "none"),
            (new_key("none, said").limits(Limits::NONE), "none"),
        ] {
            let issued = bed.root().issue(given).unwrap();
            let info = bed.keys.get(issued.key).unwrap();
            assert_eq!(info.limits.to_string(), expected);
            let listed = bed.keys.list(&KeyFilter::all().name_contains(info.name.as_str()), None, 9).unwrap();
            assert!(listed.keys.contains(&info));
            bed.rotate(issued.key);
            assert_eq!(bed.keys.get(issued.key).unwrap().limits, info.limits, "shared by all versions");
        }
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn the_stored_form_is_json_that_people_can_read_and_is_absent_without_limits() {
    on_both_stores(|bed| {
        let body = |new: NewKey| row(&bed, bed.root().issue(new).unwrap().key);
        let plain = body(new_key("plain"));
        assert!(plain.get("limits").is_none() && plain.get("networks").is_none(), "{plain}");
        let stored = |text: &str| body(new_key("ci").limits(limits(text)))["limits"].clone();
        assert_eq!(stored("60/min"), json!({ "rates": [{ "uses": 60, "span_us": 60_000_000 }] }));
        assert_eq!(
            stored("10/s burst 50, quota 320 every 7d lease 5"),
            json!({
                "rates": [{ "uses": 10, "span_us": 1_000_000, "burst": 50 }],
                "quota": { "uses": 320, "refill": { "every_us": 604_800_000_000_u64 }, "lease": 5 },
            })
        );
        for (text, refill) in [("3 once", "never"), ("3 daily", "daily"), ("3 monthly", "monthly")] {
            let expected = json!({ "quota": { "uses": 3, "refill": refill } });
            assert_eq!(stored(&format!("quota {text}")), expected);
        }
    });
}

/// What is hashed under a request id. Requests from before there were limits are repeated under the same hash.
#[test]
fn the_arguments_of_an_act_without_limits_do_not_name_them() {
    let key = Bed::at(common::Place::memory(), common::at(common::START)).issue("ci").key;
    let issue = serde_json::to_value(new_key("ci")).unwrap();
    let edit = serde_json::to_value(EditKey::of(key)).unwrap();
    for arguments in [issue, edit] {
        assert!(arguments.get("limits").is_none() && arguments.get("networks").is_none(), "{arguments}");
    }
}

#[test]
fn a_stored_limit_is_checked_when_it_is_read() {
    let rate = |value: Value| serde_json::from_value::<RateLimit>(value);
    assert!(rate(json!({ "uses": 1, "span_us": 1_000 })).is_ok());
    for bad in [
        json!({ "uses": 0, "span_us": 1_000_000 }),
        json!({ "uses": -1, "span_us": 1_000_000 }),
        json!({ "uses": 1, "span_us": 0 }),
        json!({ "uses": 10_000_001, "span_us": 1_000_000 }),
        json!({ "uses": 1, "span_us": 1_000_000, "burst": 0 }),
        json!({ "uses": 1 }),
    ] {
        assert!(rate(bad.clone()).is_err(), "{bad}");
    }
    let quota = |value: Value| serde_json::from_value::<Quota>(value);
    assert!(quota(json!({ "uses": 1, "refill": "never" })).is_ok());
    for bad in [
        json!({ "uses": 0, "refill": "never" }),
        json!({ "uses": 1, "refill": "weekly" }),
        json!({ "uses": 1, "refill": { "every_us": 1 } }),
        json!({ "uses": 1, "refill": "never", "lease": 2 }),
    ] {
        assert!(quota(bad.clone()).is_err(), "{bad}");
    }
    let five: Vec<_> = (1..=5).map(|uses| json!({ "uses": uses, "span_us": 1_000_000 })).collect();
    assert!(serde_json::from_value::<Limits>(json!({ "rates": five[..4] })).is_ok());
    assert!(serde_json::from_value::<Limits>(json!({ "rates": five })).is_err());
    assert_eq!(serde_json::from_value::<Limits>(json!({})).unwrap(), Limits::NONE);
}

#[test]
fn the_text_form_reads_back_and_nothing_else_is_read() {
    for text in [
        "none",
        "1/s",
        "60/min",
        "1/366d",
        "5/500ms",
        "7/1001us",
        "10/15min burst 3",
        "4294967295/d",
        "10/s burst 50, 1000/h, 5000/d",
        "quota 1 once",
        "quota 1000000000000000 every 36500d",
        "quota 32 daily lease 32",
        "1/s, quota 50 every 90min",
    ] {
        assert_eq!(limits(text).to_string(), text);
        let json = serde_json::to_string(&limits(text)).unwrap();
        assert_eq!(serde_json::from_str::<Limits>(&json).unwrap(), limits(text));
    }
    for (text, canonical) in [
        ("60/1min", "60/min"),
        ("60/60s", "60/min"),
        ("1000/h,10/s burst 10", "10/s, 1000/h"),
        ("24/24h, 24/d", "24/d"),
        ("quota 160 daily lease 10", "quota 160 daily"),
    ] {
        assert_eq!(limits(text).to_string(), canonical);
    }
    let (long, many) = (format!("{}/s", "9".repeat(1_000)), format!("1/s{}", ", 1/s".repeat(300)));
    for text in [
        "",
        " ",
        "none, 1/s",
        "1/s,",
        "/s",
        "1/",
        "1",
        "1 /s",
        "+1/s",
        "-1/s",
        "1/+2s",
        "1/y",
        "1/S",
        "1.5/s",
        "1/s burst",
        "1/s burst ",
        "1/s burst +1",
        "1/s burst 1 burst 2",
        "٣/s",
        "quota",
        "quota 1",
        "quota 1 weekly",
        "quota 1 every",
        "quota 1 every d daily",
        "quota 1 once, quota 2 once",
        "quota 1 daily lease x",
        "1\n/s",
        "1/s\u{202E}",
        "1/99999999999999999999d",
        "1/9999999999999999999d",
        &long,
        &many,
    ] {
        assert!(matches!(text.parse::<Limits>(), Err(LimitError::Syntax { .. })), "{text:?}");
    }
    for (text, expected) in [
        ("0/s", LimitError::NoUses),
        ("1/367d", LimitError::Span),
        ("11/us", LimitError::Span),
        ("10001/ms", LimitError::TooFast),
        ("1/s burst 0", LimitError::Burst),
        ("1/s, 2/s, 3/s, 4/s, 5/s", LimitError::TooManyRates),
        ("quota 0 once", LimitError::NoUses),
        ("quota 1000000000000001 once", LimitError::QuotaTooLarge),
        ("quota 1 every 59min", LimitError::Refill),
        ("quota 1 once lease 2", LimitError::Lease),
    ] {
        assert_eq!(text.parse::<Limits>(), Err(expected), "{text}");
        assert!(!format!("{expected:?}").is_empty() && expected.to_string().len() < 120);
    }
}

#[test]
fn repeated_rate_limits_count_once_and_more_than_four_are_refused() {
    let rate = |uses| RateLimit::per_second(uses).unwrap();
    let four = Limits::new([rate(4), rate(1), rate(3), rate(2), rate(1), rate(4)]).unwrap();
    assert_eq!(four.rates(), [rate(1), rate(2), rate(3), rate(4)]);
    assert_eq!(Limits::new((1..=5).map(rate)), Err(LimitError::TooManyRates));
    assert_eq!(Limits::new((1..).map(rate)), Err(LimitError::TooManyRates), "an endless list ends");
    assert_eq!(Limits::new(std::iter::empty()).unwrap(), Limits::NONE);
    assert!(Limits::NONE.is_empty() && !Limits::from(rate(1)).is_empty());
    let (quota, span) = (Quota::new(1, Refill::Every(HOUR)).unwrap(), rate(5).span());
    assert_eq!((quota.uses(), quota.refill(), quota.lease()), (1, Refill::Every(HOUR), 1));
    assert_eq!((rate(5).uses(), rate(5).burst(), span), (5, 5, Duration::from_secs(1)));
    assert!(!Limits::from(quota).is_empty() && Limits::from(quota).quota() == Some(&quota));
}

/// What a key has, what it is to get, and whether it could do more then.
const CHANGES: [(&str, &str, bool); 34] = [
    ("none", "1/s", false),
    ("none", "quota 1 once", false),
    ("1/s", "none", true),
    ("quota 1 once", "none", true),
    ("60/min", "60/min", false),
    ("60/min", "59/min", false),
    ("60/min", "61/min", true),
    ("60/min", "1/s", false),
    ("1/s", "60/min", true),
    ("60/min burst 1", "1/s", false),
    ("60/min", "60/min burst 59", false),
    ("60/min", "60/min burst 61", true),
    ("60/min", "100/h", true),
    ("60/min", "100/h burst 60", false),
    ("60/min", "1000/s, 60/min", false),
    ("60/min, 1000/h", "60/min", true),
    ("60/min, 1000/h", "1000/h burst 60", false),
    ("60/min, 1000/h", "10/min, 2000/h", false),
    ("60/min, 1000/h", "20/min, 2000/h", true),
    ("60/min", "quota 1 once", true),
    ("60/min", "60/min, quota 1 once", false),
    ("60/min, quota 10 daily", "60/min", true),
    ("quota 10 daily", "quota 9 daily", false),
    ("quota 10 daily", "quota 11 daily", true),
    ("quota 10 daily", "quota 10 monthly", false),
    ("quota 10 daily", "quota 11 monthly", true),
    ("quota 10 monthly", "quota 1 daily", true),
    ("quota 10 daily", "quota 10 once", false),
    ("quota 10 once", "quota 1 monthly", true),
    ("quota 10 every 1d", "quota 10 every 7d", false),
    ("quota 10 every 2d", "quota 10 every 7d", true),
    ("quota 10 daily", "quota 10 every 48h", true),
    ("quota 160 daily", "quota 160 daily lease 160", false),
    ("quota 160 daily", "1/s, quota 100 monthly", false),
];

#[test]
fn an_edit_of_limits_widens_only_when_it_says_so() {
    on_both_stores(|bed| {
        bed.root().set_owner_limit(owner("ada"), Some(keyrota::OwnerLimit::new(100).unwrap())).unwrap();
        for (has, wanted, widens) in CHANGES {
            let key = bed.root().issue(new_key("ci").limits(limits(has))).unwrap().key;
            assert_eq!(!limits(wanted).is_within(&limits(has)), widens, "{has} to {wanted}");
            let edit = EditKey::of(key).limits(limits(wanted));
            if widens {
                let refused = bed.refused(|| bed.root().edit(edit.clone()));
                assert!(matches!(refused, ManageError::WouldWiden(told) if told == key), "{has} to {wanted}");
                assert_eq!(bed.keys.get(key).unwrap().limits, limits(has));
            }
            let edit = if widens { edit.widen() } else { edit };
            let info = bed.root().edit(edit).unwrap_or_else(|error| panic!("{has} to {wanted}: {error}"));
            assert_eq!(info.limits, limits(wanted));
            assert_eq!(bed.keys.get(key).unwrap(), info);
        }
    });
}

#[test]
fn an_edit_of_limits_is_recorded_by_name_and_leaves_the_rest() {
    on_both_stores(|bed| {
        let new = new_key("ci").limits(limits("60/min")).networks(["192.0.2.0/24"].try_into().unwrap());
        let key = bed.root().issue(new).unwrap().key;
        let before = (bed.seq(), bed.keys.get(key).unwrap());
        let info = bed.root().edit(EditKey::of(key).limits(limits("30/min"))).unwrap();
        let mut expected = before.1;
        expected.limits = limits("30/min");
        assert_eq!(info, expected);
        let [entry] = &bed.entries(before.0)[..] else { panic!("one entry") };
        assert_eq!(
            (entry.event.kind, entry.event.subject.as_deref()),
            (EventKind::KeyEdited, Some("limits"))
        );
        let seq = bed.seq();
        bed.root().edit(EditKey::of(key).limits(limits("30/min"))).unwrap();
        assert_eq!(bed.seq(), seq, "the same again changes nothing");
        bed.root().edit(EditKey::of(key).name("renamed").unwrap()).unwrap();
        assert_eq!(bed.keys.get(key).unwrap().limits, limits("30/min"));
    });
}

#[test]
fn a_request_id_tells_limits_apart() {
    on_both_stores(|bed| {
        let act = |id: &str| bed.root().request(id);
        let reused = |error: ManageError| matches!(error, ManageError::RequestReused(_));
        let issued = act("issue").issue(new_key("ci").limits(limits("60/min"))).unwrap();
        let again = act("issue").issue(new_key("ci").limits(limits("60/min"))).unwrap();
        assert_eq!(issued.token.expose(), again.token.expose());
        assert!(reused(bed.refused(|| act("issue").issue(new_key("ci").limits(limits("61/min"))))));
        assert!(reused(bed.refused(|| act("issue").issue(new_key("ci")))));
        act("edit").edit(EditKey::of(issued.key).limits(limits("10/min"))).unwrap();
        act("edit").edit(EditKey::of(issued.key).limits(limits("10/min"))).unwrap();
        assert!(reused(bed.refused(|| act("edit").edit(EditKey::of(issued.key)))));
        let none = EditKey::of(issued.key).limits(Limits::NONE).widen();
        assert!(reused(bed.refused(|| act("edit").edit(none.clone()))));
        act("none").edit(none).unwrap();
        assert!(reused(bed.refused(|| act("none").edit(EditKey::of(issued.key).widen()))));
    });
}

#[test]
fn limits_that_are_none_are_typed_errors_of_an_act_too() {
    fn act() -> Result<NewKey, ManageError> {
        Ok(new_key("ci").limits(RateLimit::per(0, DAY)?))
    }
    let error = act().unwrap_err();
    assert!(matches!(error, ManageError::Limit(LimitError::NoUses)));
    assert_eq!(error.to_string(), LimitError::NoUses.to_string());
}

#[cfg(feature = "sqlite")]
#[test]
fn limits_that_were_edited_in_the_file_deny_and_are_reported() {
    let bed = Bed::at(common::Place::sqlite(), common::at(common::START));
    let issued = bed.root().issue(new_key("ci").limits(limits("60/min"))).unwrap();
    assert!(bed.is_granted(issued.token.expose()));
    let shell = rusqlite::Connection::open(bed.place.file().unwrap()).unwrap();
    for path in ["$.limits", "$.limits.rates[0].uses"] {
        let edit = format!("UPDATE row SET body = json_set(body, '{path}', 61) WHERE kind = 1");
        assert_eq!(shell.execute(&edit, []).unwrap(), 1);
        assert_eq!(bed.denial(issued.token.expose()), Some(keyrota::DenialReason::Tampered));
        assert!(!bed.keys.check(None).unwrap().is_sound());
    }
}

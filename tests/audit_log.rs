//! The audit log as it is read: queries by filter and page, exports as JSON Lines, and anchors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::time::Duration;

use common::{Bed, at, on_both_stores, owner, v};
use keyrota::{Actor, AuditEntry, AuditFilter, AuditHead, AuditVerdict, EventKind, OwnerLimit, Revoke};
use serde_json::{Value, json};

#[test]
fn a_crowd_is_purged_in_steps_of_a_hundred_and_exported_over_several_pages() {
    on_both_stores(|bed| {
        bed.root().set_default_owner_limit(OwnerLimit::new(1_000).unwrap()).unwrap();
        let survivor = bed.issue("survivor");
        let crowd = owner("crowd");
        for number in 0..250 {
            let new = keyrota::NewKey::new(crowd, format!("key {number}")).unwrap();
            bed.root().issue(new).unwrap();
        }
        bed.root().revoke(Revoke::of(crowd).compromised()).unwrap();
        let held = bed.validator.held_versions().unwrap();
        let steps: Vec<_> = std::iter::repeat_with(|| bed.root().purge(Duration::ZERO).unwrap())
            .take(4)
            .map(|report| (report.purged, report.more))
            .collect();
        assert_eq!(steps, [(100, true), (100, true), (50, false), (0, false)]);
        assert_eq!(bed.validator.held_versions().unwrap(), held - 250);
        assert!(bed.is_granted(survivor.token.expose()));

        let seq = bed.seq();
        assert!(seq > 1_200, "{seq}");
        let mut out = Vec::new();
        assert_eq!(bed.keys.export_audit(&AuditFilter::all(), &mut out).unwrap(), seq);
        let numbers: Vec<_> = lines(&out).iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..=seq).collect::<Vec<_>>());
        let of_kind = AuditFilter::all().kind(EventKind::VersionCompromised);
        assert_eq!(bed.keys.export_audit(&of_kind, std::io::sink()).unwrap(), 250);
        assert!(bed.keys.check(None).unwrap().is_sound());

        // Pages of any size tell the same.
        let whole = bed.entries(0);
        for size in [1_000, 999, 37] {
            let mut paged: Vec<AuditEntry> = Vec::new();
            loop {
                let after = paged.last().map_or(0, |entry| entry.seq);
                let page = bed.keys.audit(&AuditFilter::all().after(after), size).unwrap();
                let is_last = page.len() < size;
                paged.extend(page);
                if is_last {
                    break;
                }
            }
            assert_eq!(paged, whole);
        }
    });
}

fn lines(out: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(out).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_export_and_a_query_tell_the_entries_that_the_filter_asks_for() {
    on_both_stores(|bed| {
        let (ci, cd) = (bed.issue("ci"), bed.issue("cd"));
        bed.root().issue(keyrota::NewKey::new(owner("bob"), "other").unwrap()).unwrap();
        bed.go("2027-01-02");
        bed.keys.by(Actor::service("portal")).because("a \"quoted\" reason\u{e9}").rotate(ci.key).unwrap();
        bed.go("2027-01-03");
        bed.keys.by(Actor::owner("ada")).revoke((ci.key, v(2))).unwrap();
        bed.root().suspend(owner("bob")).unwrap();
        let all = bed.entries(0);
        let (day2, day3) = (at("2027-01-02"), at("2027-01-03"));
        type Wanted = Box<dyn Fn(&AuditEntry) -> bool>;
        let filters: Vec<(AuditFilter, Wanted)> = vec![
            (AuditFilter::all(), Box::new(|_| true)),
            (AuditFilter::all().key(ci.key), Box::new(move |entry| entry.event.key == Some(ci.key))),
            (AuditFilter::all().key(cd.key), Box::new(move |entry| entry.event.key == Some(cd.key))),
            (
                AuditFilter::all().version(ci.key, v(2)),
                Box::new(move |entry| entry.event.key == Some(ci.key) && entry.event.version == Some(v(2))),
            ),
            (AuditFilter::all().actor("portal"), Box::new(|entry| entry.event.actor.name() == "portal")),
            (AuditFilter::all().actor("nobody"), Box::new(|_| false)),
            (AuditFilter::all().from(day2), Box::new(move |entry| entry.event.at >= day2)),
            (AuditFilter::all().until(day2), Box::new(move |entry| entry.event.at < day2)),
            (AuditFilter::all().from(day2).until(day3), Box::new(move |entry| entry.event.at == day2)),
            (AuditFilter::all().from(day3).until(day3), Box::new(|_| false)),
            (
                AuditFilter::all().kind(EventKind::KeyIssued),
                Box::new(|entry| entry.event.kind == EventKind::KeyIssued),
            ),
            (
                AuditFilter::all().owner(owner("bob")),
                Box::new(|entry| entry.event.owner == Some(owner("bob"))),
            ),
            (AuditFilter::all().after(4), Box::new(|entry| entry.seq > 4)),
            (
                AuditFilter::all().key(ci.key).from(day3).kind(EventKind::VersionEnded).actor("ada"),
                Box::new(move |entry| {
                    entry.event.kind == EventKind::VersionEnded && entry.event.actor.name() == "ada"
                }),
            ),
        ];
        for (filter, wanted) in filters {
            let expected: Vec<_> = all.iter().filter(|entry| wanted(entry)).cloned().collect();
            assert_eq!(bed.keys.audit(&filter, 1_000).unwrap(), expected, "{filter:?}");
            assert_eq!(bed.keys.audit(&filter, 2).unwrap(), expected[..expected.len().min(2)], "{filter:?}");
            let mut out = Vec::new();
            assert_eq!(
                bed.keys.export_audit(&filter, &mut out).unwrap(),
                expected.len() as u64,
                "{filter:?}"
            );
            let told = lines(&out);
            assert_eq!(
                told,
                expected.iter().map(|entry| serde_json::to_value(entry).unwrap()).collect::<Vec<_>>()
            );
            for (line, AuditEntry { seq, event, .. }) in told.iter().zip(&expected) {
                assert_eq!((&line["seq"], &line["at"]), (&json!(seq), &json!(event.at.unix_micros())));
                assert_eq!(
                    (&line["kind"], &line["actor"]["name"]),
                    (&json!(event.kind.as_str()), &json!(event.actor.name()))
                );
                assert_eq!(line.get("reason"), event.reason.as_ref().map(|reason| json!(reason)).as_ref());
                assert_eq!(line.get("key"), event.key.map(|key| json!(key.to_string())).as_ref());
            }
        }
        assert!(all.len() > 10 && bed.keys.audit(&AuditFilter::all(), 0).unwrap().is_empty());
    });
}

#[test]
fn every_earlier_head_goes_on_being_an_anchor_while_the_log_grows() {
    on_both_stores(|bed| {
        let mut anchors = vec![bed.keys.audit_head().unwrap()];
        let sound = |bed: &Bed, anchors: &[AuditHead]| {
            let head = bed.keys.audit_head().unwrap();
            for anchor in anchors {
                assert_eq!(bed.keys.verify_audit_against(anchor).unwrap(), AuditVerdict::Sound { head });
                assert!(bed.keys.check(Some(anchor)).unwrap().is_sound());
            }
            assert_eq!(bed.keys.verify_audit().unwrap(), AuditVerdict::Sound { head });
        };
        let issued = bed.issue("ci");
        type Step = fn(&Bed, keyrota::KeyId);
        let steps: [Step; 6] = [
            |bed, key| drop(bed.rotate(key)),
            |bed, _| bed.tick_to(at("2027-01-05")),
            |bed, key| drop(bed.root().replace(key).unwrap()),
            |bed, key| bed.root().revoke(key).unwrap(),
            |bed, _| bed.root().suspend(owner("ada")).unwrap(),
            |bed, _| assert_eq!(bed.root().purge(Duration::ZERO).unwrap().purged, 1),
        ];
        for step in steps {
            let before = bed.seq();
            step(&bed, issued.key);
            anchors.push(bed.keys.audit_head().unwrap());
            assert!(bed.seq() > before);
            sound(&bed, &anchors);
        }
        // An anchor is kept as text, and no other store has it.
        let text = serde_json::to_string(&anchors).unwrap();
        assert_eq!(serde_json::from_str::<Vec<AuditHead>>(&text).unwrap(), anchors);
        let elsewhere = Bed::at(common::Place::memory(), at(common::START));
        while elsewhere.seq() < anchors[2].seq {
            elsewhere.issue("other");
        }
        for anchor in &anchors[1..] {
            let verdict = elsewhere.keys.verify_audit_against(anchor).unwrap();
            assert_eq!(verdict, AuditVerdict::NotAnchored { last: elsewhere.seq(), anchor: anchor.seq });
        }
    });
}

#[test]
fn an_export_that_cannot_be_written_says_so() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
            match self.0.checked_sub(buffer.len()) {
                Some(left) => self.0 = left,
                None => return Err(std::io::ErrorKind::StorageFull.into()),
            }
            Ok(buffer.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    on_both_stores(|bed| {
        bed.issue("ci");
        for room in [0, 100, 400] {
            let error = bed.keys.export_audit(&AuditFilter::all(), Full(room)).unwrap_err();
            assert!(matches!(error, keyrota::ExportError::Output(source)
                if source.kind() == std::io::ErrorKind::StorageFull));
        }
        assert!(bed.keys.export_audit(&AuditFilter::all(), Full(100_000)).is_ok());
    });
}

#[test]
fn the_history_of_a_version_has_its_entries_and_the_sums_of_its_usage_and_no_entry_for_a_use() {
    on_both_stores(|bed| {
        let issued = bed.issue("ci");
        let second = bed.rotate(issued.key);
        let uses = |token: &str, granted: usize| {
            for _ in 0..granted {
                assert!(bed.is_granted(token));
            }
            let scope = common::scope("orders:write");
            assert!(bed.validator.validate_for(token, keyrota::Demand::scope(&scope)).is_err());
        };
        let seq = bed.seq();
        uses(issued.token.expose(), 3);
        bed.go("2027-01-01 06:00");
        uses(&second, 5);
        let other_process = bed.other_validator();
        assert!(other_process.validate(&second).is_ok());
        assert_eq!(bed.keys.history(issued.key, v(2)).unwrap().usage.allowed, 0, "nothing was flushed yet");
        bed.validator.flush().unwrap();
        other_process.flush().unwrap();
        assert_eq!(bed.seq(), seq);

        let history = |number| bed.keys.history(issued.key, v(number)).unwrap();
        let (first, second) = (history(1), history(2));
        let told = |history: &keyrota::VersionHistory| {
            let usage = history.usage;
            (usage.allowed, usage.denied.get(keyrota::CountedReason::Scope), usage.last_used)
        };
        assert_eq!(told(&first), (3, 1, Some(at(common::START))));
        assert_eq!(told(&second), (6, 1, Some(at("2027-01-01 06:00"))));
        let kinds = |entries: &[AuditEntry]| entries.iter().map(|entry| entry.event.kind).collect::<Vec<_>>();
        assert_eq!(kinds(&first.entries), [EventKind::KeyIssued, EventKind::VersionDeprecated]);
        assert_eq!(kinds(&second.entries), [EventKind::VersionIssued, EventKind::KeyRotation]);
        assert_eq!(history(3).entries, []);
    });
}

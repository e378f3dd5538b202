//! What acts bring about: each is told once, to those who asked for it, with public names only.

use keyrota::{
    ChannelError, ChannelFilter, Event, EventKind, Notification, NotificationKind, OpenError, Revoke,
    RollBack, RotateNow, Severity,
};

use crate::common::{HOUR, Place, at, new_key, on_both_places, owner};
use crate::stage::{Bed, Ear, on_both};

#[test]
fn each_act_is_told_once_and_in_order() {
    on_both(|bed| {
        let told = |act: &dyn Fn()| {
            act();
            bed.tick();
            bed.ear.lines()
        };
        let key = std::cell::OnceCell::new();
        assert_eq!(told(&|| key.set(bed.root().issue(new_key("ci")).unwrap().key).unwrap()), ["issued v1"]);
        let key = *key.get().unwrap();
        assert_eq!(told(&|| drop(bed.root().rotate(key).unwrap())), ["rotation_started v2"]);
        assert_eq!(told(&|| drop(bed.root().roll_back(key).unwrap())), ["rotation_rolled_back v2"]);
        let superseded = || drop(bed.root().rotate(RotateNow::of(key).supersede()).unwrap());
        assert_eq!(told(&superseded), ["rotation_started v3"]);
        assert_eq!(bed.at("2027-01-02T01:00:00Z"), ["rotation_completed v3"]);
        assert_eq!(told(&|| bed.root().suspend(owner("ada")).unwrap()), ["suspended ada"]);
        assert_eq!(told(&|| bed.root().suspend(owner("ada")).unwrap()), [""; 0]);
        assert_eq!(told(&|| bed.root().resume(owner("ada")).unwrap()), ["resumed ada"]);
        assert_eq!(told(&|| bed.root().revoke((key, keyrota::VersionNo::new(2))).unwrap()), ["revoked v2"]);
        assert_eq!(told(&|| bed.root().revoke(key).unwrap()), ["revoked"]);
        assert_eq!(told(&|| bed.root().revoke(key).unwrap()), [""; 0]);
        assert_eq!(told(&|| ()), [""; 0]);
    });
}

#[test]
fn a_repeated_request_is_told_once() {
    on_both(|bed| {
        for _ in 0..3 {
            bed.root().request("issue-1").issue(new_key("ci")).unwrap();
            bed.tick();
        }
        assert_eq!(bed.ear.lines(), ["issued v1"]);
    });
}

#[test]
fn after_a_revocation_nothing_is_told_but_that_and_alarms() {
    on_both(|bed| {
        let key = bed.root().issue(new_key("ci")).unwrap().key;
        bed.root().rotate(key).unwrap();
        bed.tick();
        bed.ear.forget();
        bed.root().revoke(Revoke::of(key).compromised()).unwrap();
        bed.tick();
        assert_eq!(bed.ear.lines(), ["revoked", "alarm v1 version_compromised"], "two versions, one alarm");
        for day in ["2027-01-09", "2027-01-31", "2027-02-28", "2027-03-25", "2027-04-02"] {
            assert_eq!(bed.at(day), [""; 0], "{day}");
        }
    });
}

#[test]
fn what_waits_and_asks_to_act_is_not_told_once_the_key_is_over_but_facts_are() {
    on_both(|bed| {
        let key = bed.root().issue(new_key("ci")).unwrap().key;
        bed.tick();
        bed.ear.forget();
        bed.ear.answers(|_| Err(keyrota::NotifyError::retry_after(HOUR, "later")));
        bed.root().rotate(key).unwrap();
        bed.tick();
        bed.root().revoke(key).unwrap();
        bed.ear.answers(|_| Ok(()));
        bed.clock.advance(2 * HOUR).unwrap();
        let report = bed.tick();
        assert_eq!(bed.ear.lines(), ["revoked"]);
        assert_eq!(report.next_due, None.max(report.next_due), "nothing of it is left");
        assert_eq!(bed.keys.deliver("ops").unwrap(), Default::default());
    });
}

#[test]
fn a_replaced_key_is_told_version_by_version() {
    on_both(|bed| {
        let key = bed.root().issue(new_key("ci")).unwrap().key;
        bed.root().replace(key).unwrap();
        bed.tick();
        let lines = bed.ear.lines();
        assert_eq!(
            lines,
            [
                "issued v1",
                "revoked v1",
                "alarm v1 version_compromised",
                "rotation_started v2",
                "rotation_completed v2"
            ]
        );
    });
}

#[test]
fn a_channel_is_told_what_its_filter_asks_for() {
    on_both_places(|place| {
        let bed = Bed::filtered(place, ChannelFilter::all().at_least(Severity::Warning));
        let (kinds, ada) = (Ear::new(), Ear::new());
        let keys = bed
            .builder()
            .filtered_channel("ops", ChannelFilter::all().at_least(Severity::Warning), bed.ear.clone())
            .filtered_channel("kinds", ChannelFilter::all().kinds([NotificationKind::Issued]), kinds.clone())
            .filtered_channel("ada", ChannelFilter::all().owners([owner("ada")]), ada.clone())
            .open()
            .unwrap();
        let by = || keys.by(keyrota::Actor::operator("root"));
        let key = by().issue(new_key("ci")).unwrap().key;
        by().issue(keyrota::NewKey::new(owner("eve"), "x").unwrap()).unwrap();
        by().revoke(key).unwrap();
        by().suspend(owner("eve")).unwrap();
        keys.tick().unwrap();
        assert_eq!(bed.ear.lines(), ["revoked", "suspended eve"]);
        assert_eq!(kinds.lines(), ["issued v1", "issued v1"]);
        assert_eq!(ada.lines(), ["issued v1", "revoked"]);
    });
}

#[test]
fn the_same_notification_has_the_same_id_on_every_channel() {
    let bed = Bed::new(Place::memory());
    let other = Ear::new();
    let keys = bed.builder().channel("ops", bed.ear.clone()).channel("other", other.clone()).open().unwrap();
    let key = keys.by(keyrota::Actor::operator("root")).issue(new_key("ci")).unwrap().key;
    keys.by(keyrota::Actor::operator("root")).rotate(key).unwrap();
    keys.tick().unwrap();
    assert_eq!(bed.ear.heard(), other.heard());
    let ids: std::collections::BTreeSet<_> = other.heard().iter().map(|told| told.id).collect();
    assert_eq!(ids.len(), 2);
}

#[test]
fn another_process_tells_what_was_written_for_a_channel_elsewhere() {
    on_both(|bed| {
        let writer = bed.builder().channel_elsewhere("ops", ChannelFilter::all()).open().unwrap();
        writer.by(keyrota::Actor::service("web")).issue(new_key("ci")).unwrap();
        writer.tick().unwrap();
        assert_eq!(bed.ear.lines(), [""; 0]);
        assert!(
            matches!(writer.deliver("ops"), Err(keyrota::ManageError::UnknownChannel(name)) if name == "ops")
        );
        assert_eq!(bed.keys.deliver("ops").unwrap().notified, 1);
        assert_eq!(bed.ear.lines(), ["issued v1"]);
    });
}

#[test]
fn the_json_form_is_as_it_is_documented_and_reads_back() {
    let bed = Bed::new(Place::memory());
    let issued = bed.root().issue(new_key("ci")).unwrap();
    bed.root().because("quarterly").rotate(issued.key).unwrap();
    bed.tick();
    let heard = bed.ear.heard();
    let info = bed.keys.get(issued.key).unwrap();
    let fingerprint = |at: usize| info.versions[at].fingerprint;
    let hint = |at: usize| info.hint(&info.versions[at]).to_string();
    let expected = [
        serde_json::json!({
            "format": 1, "id": heard[0].id.to_string(), "kind": "issued", "severity": "info",
            "at": "2027-01-01T00:00:00Z", "key": issued.key.to_string(), "name": "ci", "version": 1, "owner": "ada",
            "hint": hint(0), "new_fingerprint": fingerprint(0).to_string(), "ends_at": "2027-04-01T00:00:00Z",
            "actor": {"kind": "operator", "name": "root"},
        }),
        serde_json::json!({
            "format": 1, "id": heard[1].id.to_string(), "kind": "rotation_started", "severity": "info",
            "at": "2027-01-01T00:00:00Z", "key": issued.key.to_string(), "name": "ci", "version": 2, "owner": "ada",
            "hint": hint(1), "rotation": heard[1].rotation.unwrap().to_string(),
            "old_fingerprint": fingerprint(0).to_string(), "new_fingerprint": fingerprint(1).to_string(),
            "ends_at": "2027-01-02T00:00:00Z", "actor": {"kind": "operator", "name": "root"}, "reason": "quarterly",
        }),
    ];
    for (told, expected) in heard.iter().zip(expected) {
        let json = told.to_json();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), expected);
        assert_eq!(serde_json::from_str::<Notification>(&json).unwrap(), *told);
        assert!(!json.contains('\n'));
    }
    bed.ear.forget();
    bed.clock.set(at("2027-01-31"));
    bed.tick();
    bed.ear.forget();
    bed.clock.set(at("2027-03-01"));
    bed.tick();
    bed.ear.forget();
    bed.clock.set(at("2027-03-25"));
    bed.tick();
    let warning = bed.ear.heard().pop().unwrap();
    let json: serde_json::Value = serde_json::from_str(&warning.to_json()).unwrap();
    assert_eq!((json["kind"].as_str(), json["threshold"].as_u64()), (Some("expiring"), Some(604_800)));
    assert_eq!(json["old_fingerprint"], fingerprint(1).to_string());
    assert_eq!(serde_json::from_value::<Notification>(json).unwrap(), warning);
    assert!(warning.to_string().contains("warning expiring: v2 of key \"ci\" of ada"), "{warning}");
}

#[test]
fn no_notification_and_no_row_of_the_outbox_holds_a_part_of_a_secret() {
    let bed = Bed::new(Place::memory());
    let mut tokens = Vec::new();
    for n in 0..10 {
        let issued = bed.root().request(format!("i{n}")).issue(new_key("ci")).unwrap();
        tokens.push(issued.token.expose().to_owned());
        tokens
            .push(bed.root().request(format!("r{n}")).rotate(issued.key).unwrap().token.expose().to_owned());
        bed.tick();
        bed.root().revoke(Revoke::of(issued.key).compromised()).unwrap();
    }
    bed.tick();
    let mut texts: Vec<_> =
        bed.ear.heard().iter().map(|told| format!("{told} {told:?} {}", told.to_json())).collect();
    let store = bed.place.open();
    store
        .scan(keyrota::RowKind::Outbox, keyrota::RowFilter::All { after: None }, &mut |row| {
            texts.push(format!("{} {:?} {}", row.id, row.index, String::from_utf8_lossy(row.body)));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert!(texts.len() > 60, "{}", texts.len());
    for token in &tokens {
        let (_, locator, secret) = crate::common::parts(token);
        assert!(texts.iter().any(|text| text.contains(locator)), "the hint is there");
        for window in secret.as_bytes().windows(12) {
            let window = std::str::from_utf8(window).unwrap();
            assert!(texts.iter().all(|text| !text.contains(window)));
        }
    }
}

#[test]
fn channels_are_named_well_and_once() {
    let open = |names: &[&str]| {
        let bed = Bed::new(Place::memory());
        let builder = names.iter().fold(bed.builder(), |builder, name| builder.channel(*name, Ear::new()));
        builder.open().map(drop)
    };
    assert!(open(&["ops", "ops-2", "a_b"]).is_ok());
    for bad in ["", "Ops", "a b", "ops dead", "a/b", "ä", &"x".repeat(41)] {
        let error = open(&[bad]).unwrap_err();
        assert!(matches!(error, OpenError::Channel(ChannelError::Name(_))), "{bad}: {error}");
    }
    let error = open(&["ops", "ops"]).unwrap_err();
    assert!(matches!(error, OpenError::Channel(ChannelError::Twice(name)) if name == "ops"));
}

#[test]
fn rolling_back_to_a_version_is_told_and_a_compromised_successor_raises_an_alarm() {
    on_both(|bed| {
        let key = bed.root().issue(new_key("ci")).unwrap().key;
        bed.root().rotate(key).unwrap();
        bed.tick();
        bed.ear.forget();
        bed.root().roll_back(RollBack::of(key).compromised()).unwrap();
        bed.tick();
        assert_eq!(
            bed.ear.lines(),
            ["revoked v2", "alarm v2 version_compromised", "rotation_rolled_back v2"]
        );
    });
}

#[test]
fn twenty_alarms_an_hour_are_told_one_by_one_and_the_others_as_a_number() {
    on_both(|bed| {
        let leak = |n: usize| {
            for _ in 0..n {
                let key = bed.root().issue(new_key("ci")).unwrap().key;
                bed.root().revoke(Revoke::of(key).compromised()).unwrap();
            }
            bed.tick();
        };
        leak(50);
        assert_eq!(bed.ear.count(NotificationKind::Alarm), 20);
        assert_eq!(bed.ear.count(NotificationKind::Revoked), 50);
        bed.ear.forget();
        bed.clock.set(at("2027-01-01T00:59:59Z"));
        leak(5);
        assert_eq!(bed.ear.count(NotificationKind::Alarm), 0);
        let report = bed.tick();
        assert_eq!(report.next_due, Some(at("2027-01-01T01:00:00Z")));
        bed.ear.forget();
        assert_eq!(bed.at("2027-01-01T01:00:00Z"), ["alarm version_compromised and 35 more"]);
        assert_eq!(bed.at("2027-01-01T01:00:01Z"), [""; 0]);
        leak(1);
        assert_eq!(bed.ear.count(NotificationKind::Alarm), 1, "another hour");
        let audited: Vec<Event> = bed
            .keys
            .audit(&keyrota::AuditFilter::all().kind(EventKind::VersionCompromised), 1_000)
            .unwrap()
            .into_iter()
            .map(|entry| entry.event)
            .collect();
        assert_eq!(audited.len(), 56, "the log tells all of them");
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

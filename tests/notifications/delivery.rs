//! How it is told: in the order of a key, again until it is acknowledged, never for ever, and each channel by itself.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyrota::{
    Callback, InApp, KeyId, ManageError, Notification, NotificationKind, Notifier, NotifyError, RowFilter,
    RowKind, WriterNotifier,
};

use crate::common::{HOUR, Place, START, at, new_key};
use crate::stage::{Bed, Ear, no, on_both};

fn ids(told: &[Notification]) -> Vec<keyrota::NotificationId> {
    told.iter().map(|told| told.id).collect()
}

/// How many rows of the outbox stand like this.
fn standing(bed: &Bed, state: &str) -> usize {
    let mut found = 0;
    let store = bed.place.open();
    store
        .scan(RowKind::Outbox, RowFilter::All { after: None }, &mut |row| {
            found += usize::from(row.index.state == Some(state));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    found
}

#[test]
fn a_failed_attempt_is_repeated_with_the_same_id_after_a_growing_pause() {
    on_both(|bed| {
        bed.root().issue(new_key("ci")).unwrap();
        bed.ear.answers(|_| no());
        let mut times = Vec::new();
        for second in (0..4 * 3_600).step_by(10) {
            bed.clock.set(at(START).plus(Duration::from_secs(second)).unwrap());
            let before = bed.ear.attempts().len();
            bed.keys.tick().unwrap();
            times.extend(std::iter::repeat_n(second, bed.ear.attempts().len() - before));
        }
        let attempts = bed.ear.attempts();
        assert!(attempts.iter().all(|told| *told == attempts[0]));
        let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mut most = 30;
        for pause in &pauses {
            assert!(*pause >= most * 3 / 4 && *pause <= most + 10, "{pauses:?}");
            most = (most * 2).min(3_600);
        }
        assert!(pauses.len() >= 9, "{pauses:?}");
        bed.ear.answers(|_| Ok(()));
        bed.clock.set(at("2027-01-01 06:00"));
        bed.tick();
        assert_eq!(bed.ear.heard().len(), 1);
        assert_eq!(bed.keys.deliver("ops").unwrap().notified, 0);
    });
}

#[test]
fn a_receiver_that_says_when_to_come_again_is_not_asked_before() {
    on_both(|bed| {
        bed.root().issue(new_key("ci")).unwrap();
        bed.ear.answers(|_| Err(NotifyError::retry_after(HOUR / 2, "HTTP 429")));
        assert_eq!(bed.tick().next_due, Some(at("2027-01-01 00:30")));
        bed.ear.answers(|_| Ok(()));
        assert_eq!(bed.at("2027-01-01T00:29:59.999999Z"), [""; 0]);
        assert_eq!(bed.at("2027-01-01 00:30"), ["issued v1"]);
    });
}

#[test]
fn the_order_of_a_key_is_kept_and_keeps_no_other_key_waiting() {
    on_both(|bed| {
        let first = bed.root().issue(new_key("first")).unwrap().key;
        bed.ear.answers(move |told| if told.key == Some(first) { no() } else { Ok(()) });
        bed.root().rotate(first).unwrap();
        let second = bed.root().issue(new_key("second")).unwrap().key;
        bed.root().revoke(first).unwrap();
        bed.root().rotate(second).unwrap();
        let report = bed.tick();
        assert_eq!(report.retried, 1, "what comes after it waits");
        let of = |key: KeyId| {
            let heard = bed.ear.heard().into_iter().filter(|told| told.key == Some(key));
            heard.map(|told| told.kind).collect::<Vec<_>>()
        };
        use NotificationKind::{Issued, Revoked, RotationStarted};
        assert_eq!((of(first), of(second)), (vec![], vec![Issued, RotationStarted]));
        bed.ear.answers(|_| Ok(()));
        bed.clock.advance(HOUR).unwrap();
        bed.tick();
        assert_eq!(
            of(first),
            [Issued, Revoked],
            "that a rotation began is not worth telling of a revoked key"
        );
    });
}

#[test]
fn a_permanent_failure_and_one_that_lasts_a_week_become_dead_letters() {
    on_both(|bed| {
        let key = bed.root().issue(new_key("ci")).unwrap().key;
        bed.ear.answers(|_| Err(NotifyError::permanent("HTTP 410: gone\nsee there")));
        assert_eq!(bed.tick().dead, 1);
        let [dead] = &bed.keys.dead_letters("ops", 10).unwrap()[..] else { panic!("one") };
        assert_eq!((dead.attempts, dead.since, dead.channel.as_str()), (1, Some(at(START)), "ops"));
        assert_eq!(dead.error.as_deref(), Some("HTTP 410: gone\u{FFFD}see there"));
        assert_eq!(dead.notification.key, Some(key));

        bed.ear.answers(|_| no());
        bed.root().rotate(key).unwrap();
        for hour in 0..8 * 24 {
            bed.clock.set(at(START).plus(hour * HOUR).unwrap());
            bed.tick();
        }
        let dead = bed.keys.dead_letters("ops", 10).unwrap();
        let kinds: Vec<_> = dead.iter().map(|dead| dead.notification.kind).collect();
        assert_eq!(kinds[..2], [NotificationKind::Issued, NotificationKind::RotationStarted]);
        assert!(dead[1].attempts > 100, "{}", dead[1].attempts);
        assert_eq!(bed.keys.dead_letters("ops", 1).unwrap().len(), 1);
        assert_eq!(bed.keys.dead_letters("other", 10).unwrap(), []);
    });
}

#[test]
fn a_dead_letter_can_be_retried_or_dropped_once_and_the_log_says_so() {
    on_both(|bed| {
        for _ in 0..2 {
            bed.root().issue(new_key("ci")).unwrap();
        }
        bed.ear.answers(|_| Err(NotifyError::permanent("no")));
        bed.tick();
        let dead = bed.keys.dead_letters("ops", 10).unwrap();
        let [retried, dropped] = [&dead[0], &dead[1]].map(|dead| dead.notification.id);
        bed.ear.answers(|_| Ok(()));
        bed.ear.forget();
        assert_eq!(bed.at("2027-01-02"), [""; 0], "nobody tries it by itself");
        bed.root().request("r").because("receiver mended").retry_dead_letter("ops", retried).unwrap();
        bed.root().request("r").because("receiver mended").retry_dead_letter("ops", retried).unwrap();
        bed.root().drop_dead_letter("ops", dropped).unwrap();
        for id in [retried, dropped] {
            let act = |error: ManageError| matches!(error, ManageError::UnknownDeadLetter(of) if of == id);
            assert!(act(bed.root().drop_dead_letter("ops", id).unwrap_err()));
            assert!(act(bed.root().retry_dead_letter("ops", id).unwrap_err()));
        }
        bed.tick();
        assert_eq!(ids(&bed.ear.heard()), [retried]);
        assert_eq!(bed.keys.dead_letters("ops", 10).unwrap(), []);
        let log = bed.keys.audit(&keyrota::AuditFilter::all(), 100).unwrap();
        let subjects: Vec<_> =
            log.iter().rev().take(2).map(|entry| entry.event.subject.clone().unwrap()).collect();
        assert_eq!(subjects, [format!("{dropped} on ops"), format!("{retried} on ops")]);
        assert!(bed.keys.check(None).unwrap().is_sound());
    });
}

#[test]
fn a_notifier_that_panics_is_contained_and_asked_again() {
    on_both(|bed| {
        bed.root().issue(new_key("ci")).unwrap();
        let mut calls = 0;
        let other = Ear::new();
        let panics = Callback::new({
            let ear = bed.ear.clone();
            move |told: &Notification| ear.notify(told)
        });
        let keys = bed.builder().channel("ops", panics).channel("other", other.clone()).open().unwrap();
        bed.ear.answers(move |_| {
            calls += 1;
            if calls == 1 { std::panic::panic_any(Bomb) } else { Ok(()) }
        });
        keys.by(keyrota::Actor::operator("root")).issue(new_key("ci")).unwrap();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        let report = keys.tick().unwrap();
        std::panic::set_hook(hook);
        assert_eq!(report.retried, 1);
        assert_eq!(other.heard().len(), 1, "another channel is told all the same");
        bed.clock.advance(HOUR).unwrap();
        while keys.tick().unwrap().more {}
        assert_eq!(bed.ear.heard().len(), 2);
    });
}

/// Panics again when what was thrown is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn a_channel_that_fails_neither_delays_another_s_notifications_nor_repeats_them() {
    on_both(|bed| {
        let fine = Ear::new();
        let keys =
            bed.builder().channel("ops", bed.ear.clone()).channel("fine", fine.clone()).open().unwrap();
        bed.ear.answers(|_| no());
        for n in 0..30 {
            keys.by(keyrota::Actor::operator("root")).issue(new_key(&format!("k{n}"))).unwrap();
        }
        for minute in 0..30u32 {
            bed.clock.set(at(START).plus(minute * Duration::from_secs(60)).unwrap());
            while keys.tick().unwrap().more {}
            assert_eq!(fine.heard().len(), 30, "at the first tick, and never again");
        }
        assert_eq!(bed.ear.heard().len(), 0);
    });
}

#[test]
fn a_receiver_that_is_down_is_asked_now_and_then_whatever_waits_for_it() {
    let bed = Bed::new(Place::memory());
    let others: Vec<_> =
        (0..3).map(|_| bed.builder().channel("ops", bed.ear.clone()).open().unwrap()).collect();
    bed.ear.answers(|_| no());
    for n in 0..60 {
        bed.root().issue(new_key(&format!("k{n}"))).unwrap();
    }
    for minute in 0..12 * 60u32 {
        bed.clock.set(at(START).plus(minute * Duration::from_secs(60)).unwrap());
        for keys in others.iter().chain([&bed.keys]) {
            while keys.tick().unwrap().more {}
        }
    }
    let attempts = bed.ear.attempts().len();
    assert!((60..150).contains(&attempts), "{attempts} attempts in half a day by four managers");
    bed.ear.answers(|_| Ok(()));
    bed.ear.forget();
    bed.clock.set(at("2027-01-01 14:00"));
    bed.tick();
    let heard: std::collections::BTreeSet<_> = ids(&bed.ear.heard()).into_iter().collect();
    assert_eq!(
        (heard.len(), bed.ear.heard().len()),
        (60, 60),
        "within ten minutes of its return, and an hour"
    );
}

#[test]
fn what_was_told_is_kept_for_a_week_and_a_dead_letter_for_ninety_days() {
    on_both(|bed| {
        let key = bed.root().issue(new_key("ci")).unwrap().key;
        bed.tick();
        bed.ear.answers(|_| Err(NotifyError::permanent("no")));
        bed.root().suspend(crate::common::owner("ada")).unwrap();
        bed.tick();
        bed.root().revoke(key).unwrap();
        bed.ear.answers(|_| Ok(()));
        bed.tick();
        assert_eq!((standing(&bed, "delivered"), standing(&bed, "dead")), (2, 1));
        bed.at("2027-01-07T23:59:59Z");
        assert_eq!((standing(&bed, "delivered"), standing(&bed, "dead")), (2, 1));
        bed.at("2027-01-08");
        assert_eq!((standing(&bed, "delivered"), standing(&bed, "dead")), (0, 1));
        for day in ["2027-02-01", "2027-03-02", "2027-03-31T23:59:59Z"] {
            bed.at(day);
        }
        assert_eq!(standing(&bed, "dead"), 1);
        bed.at("2027-04-01");
        assert_eq!(standing(&bed, "dead"), 0);
    });
}

#[test]
fn what_nobody_serves_for_thirty_days_is_dropped() {
    on_both(|bed| {
        let writer = bed.builder().channel_elsewhere("gone", keyrota::ChannelFilter::all()).open().unwrap();
        writer.by(keyrota::Actor::operator("root")).issue(new_key("ci")).unwrap();
        for day in ["2027-01-15", "2027-01-30T23:59:59Z"] {
            bed.at(day);
        }
        assert_eq!(standing(&bed, "pending"), 1);
        bed.clock.set(at("2027-01-31"));
        let report = bed.keys.tick().unwrap();
        assert_eq!(report.dropped, 1);
        bed.tick();
        let lines = bed.ear.lines();
        assert!(lines.contains(&"alarm notifications_dropped and 1 more".to_owned()), "{lines:?}");
        assert_eq!(standing(&bed, "pending"), 0);
    });
}

#[test]
fn an_edited_row_is_not_told_and_keeps_none_from_being_told() {
    use crate::common::keyring;
    let memory = keyrota::MemoryStore::new();
    let bed = Bed::new(Place::Memory(memory.clone()));
    bed.ear.answers(|_| no());
    let key = bed.root().issue(new_key("ci")).unwrap().key;
    bed.tick();
    bed.root().revoke(key).unwrap();
    let hooked = crate::delegating::planned::PlannedStore::editing(memory, |row| {
        if row.kind == RowKind::Outbox && row.body.windows(8).any(|part| part == b"\"issued\"") {
            row.body = String::from_utf8(row.body.clone()).unwrap().replace("\"ci\"", "\"xx\"").into_bytes();
        }
    });
    let ear = Ear::new();
    let keys = keyrota::KeyManager::builder(hooked, keyring())
        .clock(bed.clock.clone())
        .channel("ops", ear.clone())
        .open()
        .unwrap();
    bed.clock.advance(HOUR).unwrap();
    let report = keys.tick().unwrap();
    assert_eq!(report.faults, 1);
    assert_eq!(ear.lines(), ["revoked"]);
}

#[test]
fn a_clock_that_goes_back_keeps_nothing_waiting() {
    on_both(|bed| {
        bed.clock.set(at("2027-06-01"));
        bed.root().issue(new_key("ci")).unwrap();
        bed.ear.answers(|_| Err(NotifyError::retry_after(20 * HOUR, "later")));
        bed.keys.deliver("ops").unwrap();
        bed.ear.answers(|_| Ok(()));
        bed.clock.set(at("2027-01-02"));
        assert_eq!(bed.keys.deliver("ops").unwrap().notified, 1);

        bed.clock.set(at("2027-01-20"));
        bed.tick();
        bed.clock.set(at("2027-01-10"));
        bed.root().issue(new_key("by the mark")).unwrap();
        assert_eq!(bed.keys.deliver("ops").unwrap().notified, 1, "made at the mark, ten days from now");
    });
}

#[test]
fn a_tick_by_a_clock_that_jumped_tells_nothing_and_a_delivery_does() {
    on_both(|bed| {
        bed.root().issue(new_key("ci")).unwrap();
        bed.clock.set(at("2037-01-01"));
        let report = bed.keys.tick().unwrap();
        assert_eq!((report.notified, report.noticed), (0, 0));
        assert_eq!(bed.keys.deliver("ops").unwrap().notified, 1);
    });
}

/// A writer that others can look into.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk that is full.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_writer_gets_a_line_for_each_for_people_or_for_programs() {
    let bed = Bed::new(Place::memory());
    let (human, json) = (Shared::default(), Shared::default());
    let keys = bed
        .builder()
        .channel("human", WriterNotifier::human(human.clone()))
        .channel("json", WriterNotifier::json_lines(json.clone()))
        .channel("full", WriterNotifier::human(Full))
        .open()
        .unwrap();
    let key = keys.by(keyrota::Actor::operator("root")).issue(new_key("ci")).unwrap().key;
    keys.by(keyrota::Actor::operator("root")).because("leaked").revoke(key).unwrap();
    let report = keys.tick().unwrap();
    assert_eq!((report.notified, report.retried), (4, 1));
    let text = |shared: &Shared| String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text(&human).lines().map(str::to_owned).collect();
    assert!(
        lines[0].starts_with("2027-01-01T00:00:00Z info issued: v1 of key \"ci\" of ada (key_"),
        "{}",
        lines[0]
    );
    assert!(lines[0].ends_with("…), ends 2027-04-01T00:00:00Z, by operator root"), "{}", lines[0]);
    assert_eq!(lines[1], "2027-01-01T00:00:00Z warning revoked: key \"ci\" of ada, by operator root: leaked");
    let told: Vec<Notification> =
        text(&json).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told.len(), 2);
    assert_eq!(lines, told.iter().map(Notification::to_string).collect::<Vec<_>>());
}

#[test]
fn a_queue_in_the_host_s_own_process_takes_what_it_has_room_for() {
    let bed = Bed::new(Place::memory());
    let (in_app, receiver) = InApp::queue(2);
    let keys = bed.builder().channel("app", in_app).open().unwrap();
    for n in 0..3 {
        keys.by(keyrota::Actor::operator("root")).issue(new_key(&format!("k{n}"))).unwrap();
        bed.clock.advance(Duration::from_millis(1)).unwrap();
    }
    let report = keys.tick().unwrap();
    assert_eq!((report.notified, report.retried), (2, 1));
    let mut taken: Vec<_> = receiver.try_iter().collect();
    bed.clock.advance(HOUR).unwrap();
    keys.tick().unwrap();
    taken.extend(receiver.try_iter());
    assert_eq!(
        taken.iter().map(|told| told.name.clone().unwrap()).map(String::from).collect::<Vec<_>>(),
        ["k0", "k1", "k2"]
    );
    drop(receiver);
    keys.by(keyrota::Actor::operator("root")).issue(new_key("late")).unwrap();
    assert_eq!(keys.tick().unwrap().retried, 1);
}

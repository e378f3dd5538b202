//! A notifier that does not answer: everything else goes on.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use keyrota::{Actor, Notification, Notifier, NotifyError, Validator};

use crate::common::{Place, keyring, new_key, on_both_places};
use crate::stage::{Bed, Ear};

/// Says that it was called, and answers when it is told to.
struct Blocking {
    called: Sender<()>,
    answer: Mutex<Receiver<()>>,
}

impl Notifier for Blocking {
    fn notify(&self, _: &Notification) -> Result<(), NotifyError> {
        self.called.send(()).unwrap();
        // A test that has failed meanwhile does not answer any more.
        self.answer.lock().unwrap().recv_timeout(Duration::from_secs(20)).unwrap();
        Ok(())
    }
}

#[test]
fn while_a_notifier_blocks_validation_other_channels_and_other_processes_go_on() {
    on_both_places(|place| {
        let bed = Bed::new(place);
        let ((called, is_called), (answer, answered)) = (channel(), channel());
        let blocking = Blocking { called, answer: Mutex::new(answered) };
        let fine = Ear::new();
        let keys = bed.builder().channel("slow", blocking).channel("fine", fine.clone()).open().unwrap();
        // Another process: its own handle, and its own attempt at both channels.
        let ear = Ear::new();
        let there = bed.builder().channel("slow", ear.clone()).channel("fine", fine.clone()).open().unwrap();
        let validator = keys.validator().unwrap();
        let elsewhere =
            Validator::builder(bed.place.open(), keyring()).clock(bed.clock.clone()).open().unwrap();
        let by = || keys.by(Actor::operator("root"));
        let first = by().issue(new_key("first")).unwrap();

        std::thread::scope(|scope| {
            let ticking = scope.spawn(|| keys.tick().unwrap());
            is_called.recv_timeout(Duration::from_secs(60)).unwrap();
            // In the same process, and in the other: acts, validation, ticks, deliveries.
            let second = by().issue(new_key("second")).unwrap();
            there.by(Actor::operator("root")).revoke(first.key).unwrap();
            for validator in [&validator, &elsewhere] {
                assert!(validator.validate(second.token.expose()).is_ok());
                assert!(validator.validate(first.token.expose()).is_err());
            }
            assert_eq!(there.deliver("fine").unwrap().notified, 3);
            let report = there.deliver("slow").unwrap();
            assert_eq!(report.notified, 1, "not the one that is being told, nor what comes after it");
            assert_eq!(ear.heard()[0].key, Some(second.key));
            assert_eq!(keys.deliver("fine").unwrap().notified, 0);
            assert!(!ticking.is_finished());
            answer.send(()).unwrap();
            is_called.recv_timeout(Duration::from_secs(60)).unwrap();
            answer.send(()).unwrap();
            let report = ticking.join().unwrap();
            assert_eq!(report.notified, 2);
        });
        assert_eq!(fine.heard().len(), 3);
        assert_eq!(there.deliver("slow").unwrap().notified, 0, "all of it is told");
    });
}

#[test]
fn whose_lease_is_over_is_tried_elsewhere_and_its_late_answer_changes_nothing() {
    let bed = Bed::new(Place::memory());
    let ((called, is_called), (answer, answered)) = (channel(), channel());
    let keys =
        bed.builder().channel("slow", Blocking { called, answer: Mutex::new(answered) }).open().unwrap();
    let ear = Ear::new();
    let there = bed.builder().channel("slow", ear.clone()).open().unwrap();
    keys.by(Actor::operator("root")).issue(new_key("first")).unwrap();
    std::thread::scope(|scope| {
        let telling = scope.spawn(|| keys.deliver("slow").unwrap());
        is_called.recv_timeout(Duration::from_secs(60)).unwrap();
        bed.clock.advance(Duration::from_micros(59_999_999)).unwrap();
        assert_eq!(there.deliver("slow").unwrap().notified, 0, "the lease holds");
        bed.clock.advance(Duration::from_micros(1)).unwrap();
        ear.answers(|_| Err(NotifyError::permanent("I cannot")));
        assert_eq!(there.deliver("slow").unwrap().dead, 1);
        answer.send(()).unwrap();
        telling.join().unwrap();
    });
    assert_eq!(there.dead_letters("slow", 10).unwrap().len(), 1, "who tried last decides");
    assert!(keys.check(None).unwrap().is_sound());
}

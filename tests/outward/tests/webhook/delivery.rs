//! What arrives, and what the answers mean to the outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyrota::{
    Actor, ChannelFilter, Claim, ClaimId, Clock, KeyManager, ManualClock, Notification, NotificationKind,
    Timestamp, Webhook, WebhookHeaders, WebhookRefused, WebhookSecret, WebhookVerifier,
};

use crate::support::authority::Authority;
use crate::support::receiver::{Received, Receiver};
use crate::support::{DAY, HOUR, START, at, builder, loopback, new_key};

fn headers(received: &Received) -> WebhookHeaders<'_> {
    WebhookHeaders::from_fn(|name| received.header(name)).unwrap()
}

/// A manager with a webhook to this receiver, and a clock that stands still.
fn bed(receiver: &Receiver, secret: &WebhookSecret) -> (KeyManager, ManualClock) {
    let clock = ManualClock::new(at(START));
    let webhook =
        Webhook::builder(receiver.url("http"), secret.clone()).allow_http().allow_networks(loopback());
    let webhook = webhook.clock(clock.clone()).build().unwrap();
    (builder(&clock).channel("hook", webhook).open().unwrap(), clock)
}

fn ticked(keys: &KeyManager) {
    while keys.tick().unwrap().more {}
}

#[test]
fn all_that_is_told_of_a_rotation_arrives_signed_and_whole_over_tls() {
    let authority = Authority::new();
    let receiver = Receiver::new(Some(authority.identity("localhost").config));
    let (clock, secret) = (ManualClock::new(at(START)), WebhookSecret::generate().unwrap());
    let (queue, inbox) = keyrota::InApp::queue(100);
    let webhook = Webhook::builder(receiver.url("https"), secret.clone())
        .allow_networks(loopback())
        .trust_only(&authority.pem)
        .clock(clock.clone())
        .build()
        .unwrap();
    let keys = builder(&clock).channel("hook", webhook).channel("queue", queue).open().unwrap();
    let root = || keys.by(Actor::operator("root"));
    let issued = root().issue(new_key("ci").auto_rotation(true)).unwrap();
    ticked(&keys);
    for day in 1..=86 {
        clock.advance(DAY).unwrap();
        ticked(&keys);
        if day == 84 {
            let claim = Claim::with_token(issued.token.expose(), ClaimId::random().unwrap());
            keys.by(Actor::service("api")).claim(claim).unwrap();
        }
    }
    root().because("leaked").revoke(issued.key).unwrap();
    ticked(&keys);

    let (received, told) = (receiver.received(), inbox.try_iter().collect::<Vec<_>>());
    let kinds: Vec<_> = told.iter().map(|told| told.kind).collect();
    assert!(kinds.len() >= 5 && kinds.contains(&NotificationKind::RotationClaimed), "{kinds:?}");
    assert_eq!(received.len(), told.len());
    let verifier = WebhookVerifier::new(secret);
    let (mut with_both, versions) = (0, keys.get(issued.key).unwrap().versions);
    for (received, told) in received.iter().zip(&told) {
        assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/hooks/keys?of=ada"));
        assert_eq!(received.header("content-type"), Some("application/json"));
        assert_eq!(received.header("webhook-id"), Some(told.id.to_string().as_str()));
        let sent = headers(received).timestamp.parse::<i64>().unwrap() * 1_000_000;
        let sent = Timestamp::from_unix_micros(sent).unwrap();
        assert_eq!(verifier.notification(&headers(received), &received.body, sent).as_ref(), Ok(told));

        let body: serde_json::Value = serde_json::from_slice(&received.body).unwrap();
        let both = told.old_fingerprint.zip(told.new_fingerprint);
        if let Some((old, new)) = both {
            with_both += 1;
            assert_eq!((old, new), (versions[0].fingerprint, versions[1].fingerprint), "{}", told.kind);
            assert_eq!(body["old_key"], old.to_string());
            assert_eq!(body["new_key"], new.to_string());
            assert_eq!(body["timestamp"], told.at.to_string());
        } else {
            assert!(body.get("old_key").is_none() && body.get("timestamp").is_none());
        }
        let text = String::from_utf8(received.body.clone()).unwrap();
        let token = issued.token.expose();
        assert!(!text.contains(&token[token.len() - 40..]), "no part of the secret");
    }
    assert!(with_both >= 1, "{kinds:?}");
}

#[test]
fn a_webhook_is_dated_when_it_is_sent_and_an_old_one_is_refused() {
    let (receiver, secret) = (Receiver::new(None), WebhookSecret::generate().unwrap());
    let (keys, clock) = bed(&receiver, &secret);
    keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap();
    receiver.answers(|_| (500, None));
    keys.deliver("hook").unwrap();
    clock.advance(HOUR).unwrap();
    receiver.answers(|_| (200, None));
    keys.deliver("hook").unwrap();
    let [first, second] = &receiver.received()[..] else { panic!("two attempts") };
    let verifier = WebhookVerifier::new(secret);
    let verified = |received: &Received| verifier.verify(&headers(received), &received.body, clock.now());
    assert_eq!(
        (headers(first).id, &first.body),
        (headers(second).id, &second.body),
        "the same id on each repetition"
    );
    assert_eq!((verified(first), verified(second)), (Err(WebhookRefused::TooOld), Ok(())));
}

#[test]
fn while_the_secret_changes_both_are_signed_by() {
    let (receiver, old, new) =
        (Receiver::new(None), WebhookSecret::generate().unwrap(), WebhookSecret::generate().unwrap());
    let webhook = Webhook::builder(receiver.url("http"), new.clone()).also_signed_by(old.clone());
    let webhook = webhook.allow_http().allow_networks(loopback()).build().unwrap();
    keyrota::Notifier::notify(&webhook, &crate::certificates::told()).unwrap();
    let received = &receiver.received()[0];
    let now =
        Timestamp::from_unix_micros(headers(received).timestamp.parse::<i64>().unwrap() * 1_000_000).unwrap();
    for secret in [old, new] {
        assert_eq!(WebhookVerifier::new(secret).verify(&headers(received), &received.body, now), Ok(()));
    }
    let other = WebhookVerifier::new(WebhookSecret::generate().unwrap());
    assert_eq!(other.verify(&headers(received), &received.body, now), Err(WebhookRefused::Signature));
}

#[test]
fn what_the_receiver_asks_to_wait_is_waited() {
    for (value, waited) in [
        ("600", 600),
        ("Fri, 01 Jan 2027 02:00:00 GMT", 7_200), // by the clock that the webhook was given
        ("999999999", 86_400),
    ] {
        let (receiver, secret) = (Receiver::new(None), WebhookSecret::generate().unwrap());
        let (keys, clock) = bed(&receiver, &secret);
        keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap();
        receiver.answers(move |_| (503, Some(("Retry-After", value.to_owned()))));
        let report = keys.deliver("hook").unwrap();
        let due = at(START).plus(Duration::from_secs(waited)).unwrap();
        assert_eq!((report.retried, report.next_due), (1, Some(due)), "{value}");
        receiver.answers(|_| (200, None));
        clock.set(due.minus_or_min(Duration::from_micros(1)));
        assert_eq!(keys.deliver("hook").unwrap().notified, 0);
        clock.set(due);
        assert_eq!(keys.deliver("hook").unwrap().notified, 1);
    }
}

#[test]
fn a_receiver_that_is_gone_makes_a_dead_letter_and_one_that_is_broken_does_not() {
    for (status, dead) in
        [(410, 1), (413, 1), (422, 1), (400, 0), (401, 0), (404, 0), (429, 0), (500, 0), (301, 0)]
    {
        let (receiver, secret) = (Receiver::new(None), WebhookSecret::generate().unwrap());
        let (keys, _) = bed(&receiver, &secret);
        keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap();
        receiver.answers(move |_| (status, None));
        let report = keys.deliver("hook").unwrap();
        assert_eq!((report.dead, report.retried), (dead, 1 - dead), "HTTP {status}");
        let letters = keys.dead_letters("hook", 10).unwrap();
        let said = letters.first().and_then(|letter| letter.error.clone());
        assert_eq!(said, (dead == 1).then(|| format!("HTTP {status}")));
    }
}

#[test]
fn several_threads_tell_at_once() {
    let (receiver, count) = (Receiver::new(None), Arc::new(AtomicUsize::new(0)));
    let webhook = Webhook::builder(receiver.url("http"), WebhookSecret::generate().unwrap());
    let webhook = webhook.allow_http().allow_networks(loopback()).build().unwrap();
    let told: Notification = crate::certificates::told();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    keyrota::Notifier::notify(&webhook, &told).unwrap();
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!((receiver.received().len(), count.load(Ordering::SeqCst)), (80, 80));
}

#[test]
fn a_channel_s_filter_holds_for_a_webhook_too() {
    let receiver = Receiver::new(None);
    let clock = ManualClock::new(at(START));
    let webhook = Webhook::builder(receiver.url("http"), WebhookSecret::generate().unwrap());
    let webhook = webhook.allow_http().allow_networks(loopback()).build().unwrap();
    let revoked = ChannelFilter::all().kinds([NotificationKind::Revoked]);
    let keys = builder(&clock).filtered_channel("hook", revoked, webhook).open().unwrap();
    let key = keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap().key;
    keys.by(Actor::operator("root")).revoke(key).unwrap();
    ticked(&keys);
    let [received] = &receiver.received()[..] else { panic!("one") };
    let told: Notification = serde_json::from_slice(&received.body).unwrap();
    assert_eq!((told.kind, told.key), (NotificationKind::Revoked, Some(key)));
}

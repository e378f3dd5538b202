//! TLS: whom the sender believes.

use keyrota::{Notification, Notifier, NotifyError, Webhook, WebhookSecret};

use crate::support::authority::{Authority, Identity};
use crate::support::receiver::Receiver;
use crate::support::{START, at, builder, loopback, new_key};

/// Some notification.
pub(crate) fn told() -> Notification {
    let (queue, inbox) = keyrota::InApp::queue(10);
    let keys = builder(&keyrota::ManualClock::new(at(START))).channel("in", queue).open().unwrap();
    keys.by(keyrota::Actor::operator("root")).issue(new_key("ci")).unwrap();
    keys.deliver("in").unwrap();
    inbox.recv().unwrap()
}

/// What comes of telling a receiver that has this identity, and how many requests it has had.
fn tell(identity: &Identity, trusted: Option<&str>) -> (Result<(), NotifyError>, usize) {
    let receiver = Receiver::new(Some(identity.config.clone()));
    let webhook = Webhook::builder(receiver.url("https"), WebhookSecret::generate().unwrap());
    let mut webhook = webhook.allow_networks(loopback());
    if let Some(pem) = trusted {
        webhook = webhook.trust_only(pem);
    }
    let answer = webhook.build().unwrap().notify(&told());
    (answer, receiver.received().len())
}

#[test]
fn only_a_certificate_of_a_trusted_authority_for_this_name_and_time_is_believed() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    assert_eq!(tell(&ours.identity("localhost"), Some(&ours.pem)), (Ok(()), 1));
    let both = format!("{}{}", theirs.pem, ours.pem);
    assert_eq!(tell(&ours.identity("localhost"), Some(&both)), (Ok(()), 1));
    for (what, identity, trusted) in [
        ("another authority", ours.identity("localhost"), Some(&theirs.pem)),
        ("another name", ours.identity("other.example"), Some(&ours.pem)),
        ("an address in place of the name", ours.identity("127.0.0.1"), Some(&ours.pem)),
        ("long over", ours.expired_identity("localhost"), Some(&ours.pem)),
        ("an authority that nobody was told to trust", ours.identity("localhost"), None),
    ] {
        let (answer, requests) = tell(&identity, trusted.map(String::as_str));
        assert_eq!(requests, 0, "{what}: nothing was sent");
        let Err(NotifyError::Retry { why, .. }) = answer else { panic!("{what}: {answer:?}") };
        assert!(why.starts_with("no TLS with the receiver: invalid peer certificate"), "{what}: {why}");
    }
}

#[test]
fn a_receiver_without_tls_gets_nothing_where_https_is_asked_for() {
    let receiver = Receiver::new(None);
    let webhook = Webhook::builder(receiver.url("https"), WebhookSecret::generate().unwrap());
    let webhook = webhook.allow_networks(loopback()).build().unwrap();
    let answer = webhook.notify(&told());
    assert!(
        matches!(&answer, Err(NotifyError::Retry { why, .. }) if why.starts_with("no TLS")),
        "{answer:?}"
    );
    assert_eq!(receiver.received().len(), 0);
}

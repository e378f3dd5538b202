//! The feed within an application: each user sees what is unread of their own, once.

use keyrota::{Actor, ManualClock, NewKey, NotificationKind, Notifier, OwnerId};
use rusqlite::Connection;

use crate::in_app_feed::Feed;
use crate::support::{START, at, builder};

#[test]
fn a_user_sees_what_is_unread_of_their_own_keys_and_marks_it() {
    let feed = Feed::new(Connection::open_in_memory().unwrap()).unwrap();
    let clock = ManualClock::new(at(START));
    let keys = builder(&clock).channel("feed", feed.clone()).open().unwrap();
    let [ada, bob] = ["ada", "bob"].map(|name| OwnerId::new(name).unwrap());
    let mut made = Vec::new();
    for owner in [ada, ada, bob] {
        clock.advance(crate::support::HOUR).unwrap();
        made.push(keys.by(Actor::operator("root")).issue(NewKey::new(owner, "ci").unwrap()).unwrap().key);
    }
    keys.deliver("feed").unwrap();
    let unread = feed.unread(ada, 10).unwrap();
    let told: Vec<_> =
        unread.iter().map(|item| (item.notification.key.unwrap(), item.notification.kind)).collect();
    assert_eq!(
        told,
        [(made[1], NotificationKind::Issued), (made[0], NotificationKind::Issued)],
        "the newest first"
    );
    assert_eq!(feed.unread(ada, 1).unwrap().len(), 1);

    let id = unread[0].notification.id.to_string();
    assert!(!feed.mark_read(bob, &id).unwrap(), "it is not bob's");
    assert!(feed.mark_read(ada, &id).unwrap());
    assert!(!feed.mark_read(ada, &id).unwrap(), "it was read before");
    // A repetition, after an acknowledgement that got lost, does not bring it back.
    feed.notify(&unread[0].notification).unwrap();
    let left: Vec<_> =
        feed.unread(ada, 10).unwrap().iter().map(|item| item.notification.key.unwrap()).collect();
    assert_eq!(left, [made[0]]);
    assert_eq!(feed.unread(bob, 10).unwrap().len(), 1);
}

//! A year of notifications by HTTP to a receiver that comes and goes: each arrives, in its key's order, without a storm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keyrota::{
    Actor, Clock, KeyId, ManualClock, Notification, NotificationId, NotificationKind as Kind, RotationPolicy,
    Webhook, WebhookHeaders, WebhookSecret, WebhookVerifier,
};

use crate::support::receiver::Receiver;
use crate::support::{DAY, HOUR, START, at, builder, loopback, new_key};

/// splitmix64: the same numbers in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

/// What the receiver made of a request.
struct Heard {
    told: Notification,
    acknowledged: bool,
}

#[test]
fn in_a_year_of_a_flapping_receiver_each_arrives_by_http_in_the_order_of_its_key_and_without_a_storm() {
    let (receiver, clock, secret) =
        (Receiver::new(None), ManualClock::new(at(START)), WebhookSecret::generate().unwrap());
    let webhook =
        Webhook::builder(receiver.url("http"), secret.clone()).allow_http().allow_networks(loopback());
    let keys = builder(&clock).channel("hook", webhook.clock(clock.clone()).build().unwrap()).open().unwrap();
    let verifier = WebhookVerifier::new(secret).tolerance(Duration::ZERO);
    // Whether it is down, and how it goes when it is not.
    let state = Arc::new(Mutex::new((false, Dice(99))));
    let heard = Arc::new(Mutex::new(Vec::<Heard>::new()));
    receiver.answers({
        let (state, heard, clock) = (Arc::clone(&state), Arc::clone(&heard), clock.clone());
        move |received| {
            let headers = WebhookHeaders::from_fn(|name| received.header(name)).unwrap();
            let told = verifier.notification(&headers, &received.body, clock.now()).unwrap();
            let (is_down, dice) = &mut *state.lock().unwrap();
            let answer = match dice.roll(10) {
                _ if *is_down => (503, Some(("Retry-After", "1800".to_owned()))),
                0 => (500, None),
                1 => (429, Some(("Retry-After", "60".to_owned()))),
                _ => (204, None),
            };
            heard.lock().unwrap().push(Heard { told, acknowledged: answer.0 == 204 });
            answer
        }
    });
    keys.tick().unwrap();

    // Ticks, and counts what the sender has to try again, and what it gives up.
    let (mut retried, mut dead) = (0, 0);
    let sum = |retried: &mut usize, dead: &mut usize| {
        loop {
            let report = keys.tick().unwrap();
            (*retried, *dead) = (*retried + report.retried, *dead + report.dead);
            if !report.more {
                break;
            }
        }
    };
    let mut dice = Dice(7);
    let policy = RotationPolicy::builder().lifetime(30 * DAY).overlap(3 * DAY).build().unwrap();
    let root = || keys.by(Actor::operator("root"));
    let (mut live, mut acts) = (Vec::<KeyId>::new(), 0usize);
    let (mut down_until, mut outages, mut most_in_a_tick) = (0, 0, 0);
    for step in 0..365 * 2u64 {
        clock.set(at(START).plus(u32::try_from(step).unwrap() * 12 * HOUR).unwrap());
        match dice.roll(6) {
            0 => {
                live.push(root().issue(new_key(&format!("k{step}")).policy(policy)).unwrap().key);
                acts += 1;
            }
            1 | 2 if !live.is_empty() => {
                let key = live[dice.roll(live.len() as u64) as usize];
                acts += usize::from(root().rotate(key).is_ok());
            }
            3 if !live.is_empty() && dice.roll(4) == 0 => {
                root().revoke(live.swap_remove(dice.roll(live.len() as u64) as usize)).unwrap();
                acts += 1;
            }
            _ => {}
        }
        // Down for up to four days, and then up for two: what fails for a week is given up.
        if step >= down_until + 4 && dice.roll(16) == 0 {
            down_until = step + 1 + dice.roll(8);
            outages += 1;
        }
        state.lock().unwrap().0 = step < down_until;
        let before = heard.lock().unwrap().len();
        sum(&mut retried, &mut dead);
        most_in_a_tick = most_in_a_tick.max(heard.lock().unwrap().len() - before);
    }
    state.lock().unwrap().0 = false;
    for hour in 0..24u32 {
        clock.set(at(START).plus(365 * DAY + hour * HOUR).unwrap());
        sum(&mut retried, &mut dead);
    }

    let heard = heard.lock().unwrap();
    let acknowledged: Vec<&Notification> =
        heard.iter().filter(|heard| heard.acknowledged).map(|heard| &heard.told).collect();
    let arrived: BTreeSet<NotificationId> = acknowledged.iter().map(|told| told.id).collect();
    for told in heard.iter().map(|heard| &heard.told).filter(|told| !arrived.contains(&told.id)) {
        // What has become pointless since is not told.
        assert!([Kind::Expiring, Kind::Unused, Kind::RotationStarted].contains(&told.kind), "{told}");
    }
    // What was acknowledged is not sent again, unless the sender did not hear of it: on a machine that stands still for
    // longer than an answer is waited for.
    let refused = heard.len() - acknowledged.len();
    assert!(
        acknowledged.len() <= arrived.len() + (retried - refused),
        "{} of {}",
        acknowledged.len(),
        arrived.len()
    );
    assert_eq!(dead, 0);
    let of_acts = acknowledged.iter().filter(|told| told.actor.is_some()).count();
    assert!(of_acts * 10 > acts * 9, "{of_acts} of {acts}, but for what was pointless");

    let mut of_keys = BTreeMap::<KeyId, Vec<&Notification>>::new();
    for told in &acknowledged {
        of_keys.entry(told.key.unwrap()).or_default().push(told);
    }
    for told in of_keys.values() {
        assert_eq!(told[0].kind, Kind::Issued);
        let revoked = told.iter().position(|told| told.kind == Kind::Revoked);
        assert!(revoked.is_none_or(|at| at == told.len() - 1));
        let by_acts: Vec<_> = told.iter().filter(|told| told.actor.is_some()).map(|told| told.at).collect();
        assert!(by_acts.is_sorted(), "{by_acts:?}");
    }
    let requests = receiver.received().len();
    assert_eq!(requests, heard.len());
    eprintln!(
        "a year: {acts} acts, {outages} outages, {} notifications of {} keys arrived by {requests} requests, \
         {most_in_a_tick} in one tick at most",
        arrived.len(),
        of_keys.len(),
    );
    assert!(arrived.len() > 400 && outages > 10, "{} notifications, {outages} outages", arrived.len());
    assert!(requests < 2 * arrived.len(), "{requests} requests");
    assert!(most_in_a_tick < 60, "{most_in_a_tick}");
}

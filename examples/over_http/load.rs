//! Many clients at once, each on a connection that it keeps, while their keys are rotated and revoked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

use keyrota::{Clock, RotationPolicy};

use super::stage::{DAY, Stage, Start, eventually, new_key};

const CLIENTS: usize = 8;

/// Tells that a client has ended, also by a panic: nobody waits for it any more.
struct Ends<'a>(&'a AtomicU64);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(u64::MAX, Ordering::SeqCst);
    }
}

/// Half of the clients lose their keys, one after the other and in the middle of their requests. Between an operator's call
/// and its return a request may get either answer; never before, and never after.
pub fn the_first_request_begun_after_a_revocation_is_denied_and_none_before_it(start: Start) {
    let stage = Stage::begin(start);
    let keys: Vec<_> = (0..CLIENTS).map(|n| stage.issue(new_key(&format!("owner{n}")))).collect();
    let flags = || (0..CLIENTS).map(|_| AtomicBool::new(false)).collect::<Vec<_>>();
    let (begun, done) = (flags(), flags());
    let answered: Vec<_> = (0..CLIENTS).map(|_| AtomicU64::new(0)).collect();
    let over = AtomicBool::new(false);
    let ready = Barrier::new(CLIENTS + 1);
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (stage, keys, begun, done, answered, over, ready) =
                (&stage, &keys, &begun, &done, &answered, &over, &ready);
            scope.spawn(move || {
                let _end = Ends(&answered[n]);
                let mut connection = stage.connect();
                ready.wait();
                while !over.load(Ordering::SeqCst) {
                    let was_done = done[n].load(Ordering::SeqCst);
                    let answer = connection.get("/orders", &keys[n].1);
                    let was_begun = begun[n].load(Ordering::SeqCst);
                    match answer.status {
                        200 => assert!(!was_done, "client {n} was let in after its key was revoked"),
                        401 => assert!(was_begun, "client {n} was kept out though its key is valid"),
                        status => panic!("client {n} got {status}: {answer:?}"),
                    }
                    answered[n].fetch_add(1, Ordering::SeqCst);
                }
                assert_eq!(connection.renewed, 0, "one connection for all of it");
            });
        }
        ready.wait();
        let wait_for_more = |clients: std::ops::Range<usize>| {
            for n in clients {
                let seen = answered[n].load(Ordering::SeqCst);
                while answered[n].load(Ordering::SeqCst) < seen.saturating_add(20) {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        };
        for n in 0..CLIENTS / 2 {
            wait_for_more(0..CLIENTS);
            begun[n].store(true, Ordering::SeqCst);
            stage.root().revoke(keys[n].0).unwrap();
            done[n].store(true, Ordering::SeqCst);
        }
        wait_for_more(0..CLIENTS);
        over.store(true, Ordering::SeqCst);
    });
    let mut connection = stage.connect();
    for (n, (_, token)) in keys.iter().enumerate() {
        assert_eq!(connection.get("/orders", token).status, if n < CLIENTS / 2 { 401 } else { 200 });
    }
}

/// An operator rotates every key by hand, again and again, and gives each client its new token; the client switches when
/// it comes to it, and none of its requests fails. When all have switched the old versions end.
pub fn no_request_fails_while_an_operator_rotates_every_key(start: Start) {
    const ROUNDS: usize = 5;
    let stage = Stage::begin(start);
    let keys: Vec<_> = (0..CLIENTS).map(|n| stage.issue(new_key(&format!("owner{n}")))).collect();
    let mailboxes: Vec<Mutex<Option<String>>> = (0..CLIENTS).map(|_| Mutex::default()).collect();
    let switched: Vec<_> = (0..CLIENTS).map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        let (stage, mailboxes, switched) = (&stage, &mailboxes, &switched);
        for (n, (_, token)) in keys.iter().enumerate() {
            scope.spawn(move || {
                let _end = Ends(&switched[n]);
                let mut connection = stage.connect();
                let mut token = token.clone();
                let mut rounds = 0;
                while rounds < ROUNDS {
                    let answer = connection.get("/orders", &token);
                    assert_eq!(answer.status, 200, "client {n} in round {rounds}: {answer:?}");
                    let Some(new) = mailboxes[n].lock().unwrap().take() else { continue };
                    let answers = [&token, &new].map(|token| connection.get("/orders", token));
                    assert_eq!(answers.each_ref().map(|answer| answer.status), [200; 2], "client {n}");
                    let told = answers.each_ref().map(|answer| answer.field("x-api-key-deprecated"));
                    assert_eq!(told, [Some("true"), None], "client {n}");
                    token = new;
                    rounds += 1;
                    switched[n].fetch_add(1, Ordering::SeqCst);
                }
                assert_eq!(connection.renewed, 0, "one connection for all of it");
            });
        }
        let mut before: Vec<_> = keys.iter().map(|(_, token)| token.clone()).collect();
        for round in 1..=ROUNDS as u64 {
            let mut new = Vec::new();
            for ((key, _), mailbox) in keys.iter().zip(mailboxes) {
                let token = stage.root().rotate(*key).unwrap().token.expose().to_owned();
                *mailbox.lock().unwrap() = Some(token.clone());
                new.push(token);
            }
            eventually(|| switched.iter().all(|switched| switched.load(Ordering::SeqCst) >= round));
            stage.clock.advance(DAY).unwrap();
            let mut connection = stage.connect();
            for old in std::mem::replace(&mut before, new) {
                assert_eq!(connection.get("/orders", &old).status, 401, "the overlap is over");
            }
        }
    });
}

/// Two months in steps of twelve hours, in which each key is rotated every four days by the service's own timer. Each client uses its key all the time,
/// claims when it is told of a successor, and switches; each makes requests in every step. None may fail.
pub fn no_request_fails_while_every_key_is_rotated_under_load(start: Start) {
    const STEPS: u64 = 2 * 60;
    let stage = Stage::begin(start);
    let policy =
        RotationPolicy::builder().lifetime(6 * DAY).rotate_every(4 * DAY).overlap(DAY).build().unwrap();
    let new = |n| new_key(&format!("owner{n}")).policy(policy).auto_rotation(true);
    let keys: Vec<_> = (0..CLIENTS).map(|n| stage.issue(new(n))).collect();
    let step = AtomicU64::new(0);
    let seen: Vec<_> = (0..CLIENTS).map(|_| AtomicU64::new(0)).collect();
    let (requests, claims) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for n in 0..CLIENTS {
            let (stage, keys, step, seen, requests, claims) =
                (&stage, &keys, &step, &seen, &requests, &claims);
            scope.spawn(move || {
                let _end = Ends(&seen[n]);
                let mut connection = stage.connect();
                let mut token = keys[n].1.clone();
                loop {
                    let at = step.load(Ordering::SeqCst);
                    let answer = connection.get("/orders", &token);
                    assert_eq!(answer.status, 200, "client {n} in step {at}: {answer:?}");
                    requests.fetch_add(1, Ordering::Relaxed);
                    if answer.field("x-api-key-claim-by").is_some() {
                        let id = format!("client {n}, for its claim in step {at}");
                        let claimed = connection.claim(&token, &id);
                        assert_eq!(claimed.status, 200, "client {n} in step {at}: {claimed:?}");
                        let old = std::mem::replace(
                            &mut token,
                            claimed.json()["token"].as_str().unwrap().to_owned(),
                        );
                        claims.fetch_add(1, Ordering::Relaxed);
                        let answer = connection.get("/orders", &old);
                        assert_eq!(answer.status, 200, "both are valid: {answer:?}");
                        assert_eq!(answer.field("x-api-key-deprecated"), Some("true"));
                    }
                    seen[n].store(at, Ordering::SeqCst);
                    if at >= STEPS {
                        break;
                    }
                }
                assert_eq!(connection.renewed, 0, "one connection for all of it");
            });
        }
        while step.load(Ordering::SeqCst) < STEPS {
            stage.clock.advance(DAY / 2).unwrap();
            let next = step.fetch_add(1, Ordering::SeqCst) + 1;
            // In these twelve hours the timer has come long since, and each client has asked.
            let is_due = || !stage.keys.plan(Clock::now(&stage.clock)).unwrap().events.is_empty();
            while is_due() || seen.iter().any(|seen| seen.load(Ordering::SeqCst) < next) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let (requests, claims) = (requests.into_inner(), claims.into_inner());
    println!("{requests} requests and {claims} claims of {CLIENTS} clients");
    assert!(claims >= 12 * CLIENTS as u64, "each key was rotated at least a dozen times: {claims}");
}

/// More claims than the service has threads wait for the disk; everybody else is answered meanwhile.
pub fn claims_that_wait_for_the_disk_delay_nobody_else(start: Start) {
    let stage = Stage::begin_with(start, DAY);
    let (_, bystander) = stage.issue(new_key("bob"));
    let of_claimants: Vec<_> =
        (0..CLIENTS).map(|n| stage.issue(new_key(&format!("owner{n}")).auto_rotation(true))).collect();
    stage.clock.advance(28 * DAY).unwrap();
    while stage.keys.tick().unwrap().more {}
    stage.clock.advance(28 * DAY).unwrap();
    while stage.keys.tick().unwrap().more {}
    stage.clock.advance(27 * DAY).unwrap();
    while stage.keys.tick().unwrap().more {}
    let holder = stage.hold_the_disk();
    let answered = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let claims: Vec<_> = of_claimants
            .iter()
            .map(|(_, token)| {
                let mut connection = stage.connect();
                connection.begin_claim(token, "made up by pod 7");
                let answered = &answered;
                scope.spawn(move || {
                    let answer = connection.answer("POST");
                    answered.fetch_add(1, Ordering::SeqCst);
                    answer.status
                })
            })
            .collect();
        // Several connections, so that each of the service's threads has to answer.
        let mut connections: Vec<_> = (0..8).map(|_| stage.connect()).collect();
        for _ in 0..5 {
            for connection in &mut connections {
                assert_eq!(connection.get("/orders", &bystander).status, 200);
            }
        }
        assert_eq!(answered.load(Ordering::SeqCst), 0, "the claims wait, and nobody else");
        drop(holder);
        let claimed = claims.into_iter().map(|claim| claim.join().unwrap()).collect::<Vec<_>>();
        assert_eq!(claimed, [200; CLIENTS]);
    });
}

//! A migration rehearsed: a service that checks its clients against a list of tokens moves to this library under live
//! traffic, and then rotates every client. No request of a client fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;

use common::{Bed, DAY, HOUR, on_both_places, owner};
use keyrota::{
    Actor, AutoRotation, Claim, ClaimId, Demand, DenialReason, Grant, Import, ImportSource, KeyManager,
    TokenList, Validator,
};

const CLIENTS: usize = 6;

/// What the service had in its environment.
fn api_keys() -> String {
    let one =
        |n: usize| format!("client-{n}:legacy-{}-{n}", "7Fh2kQ9zXw4VbN8mT3cYpL6rQeJuD5Ga".split_at(n).1);
    (0..CLIENTS).map(one).collect::<Vec<_>>().join(",")
}

fn tokens() -> Vec<String> {
    api_keys().split(',').map(|item| item.split_once(':').unwrap().1.to_owned()).collect()
}

/// How the service checks a token: first by its list, then by a validator.
enum Check {
    List(HashSet<String>),
    Validator(Validator),
}

/// One instance of the service.
struct Service {
    check: RwLock<Arc<Check>>,
    keys: KeyManager,
}

/// What the client learns of its request.
enum Answer {
    Ok(Option<Grant>),
    Denied(String),
}

impl Service {
    fn handle(&self, token: &str) -> Answer {
        let check = Arc::clone(&self.check.read().unwrap());
        match &*check {
            Check::List(list) if list.contains(token) => Answer::Ok(None),
            Check::List(_) => Answer::Denied("not in the list".to_owned()),
            Check::Validator(validator) => {
                let scope = common::scope("orders:read");
                match validator.validate_for(token, Demand::scope(&scope)) {
                    Ok(grant) => Answer::Ok(Some(grant)),
                    Err(denial) => Answer::Denied(denial.to_string()),
                }
            }
        }
    }

    fn claim(&self, token: &str, id: &ClaimId) -> String {
        let claim = Claim::with_token(token, id.clone());
        self.keys.by(Actor::service("orders")).claim(claim).unwrap().token.expose().to_owned()
    }
}

/// A client that knows nothing but its token, and what the answers to its requests say.
struct Client {
    token: Mutex<String>,
    requests: AtomicU64,
}

impl Client {
    fn run(&self, services: &[Arc<Service>], stop: &AtomicBool, failures: &Mutex<Vec<String>>) {
        while !stop.load(Ordering::Relaxed) {
            let number = self.requests.load(Ordering::Relaxed);
            let service = &services[number as usize % services.len()];
            let token = self.token.lock().unwrap().clone();
            match service.handle(&token) {
                Answer::Ok(Some(grant)) if grant.successor().is_some() => {
                    let new = service.claim(&token, &ClaimId::random().unwrap());
                    *self.token.lock().unwrap() = new;
                }
                Answer::Ok(_) => {}
                Answer::Denied(why) => failures.lock().unwrap().push(format!("request {number}: {why}")),
            }
            self.requests.fetch_add(1, Ordering::Relaxed);
            thread::yield_now();
        }
    }
}

#[test]
fn a_service_moves_from_a_list_of_tokens_under_traffic_and_rotates_every_client() {
    on_both_places(|place| {
        let bed = Bed::at(place, common::at(common::START));
        let list = || tokens().into_iter().collect();
        let instance = || {
            let keys = KeyManager::builder(bed.place.open(), common::keyring()).clock(bed.clock.clone());
            let check = RwLock::new(Arc::new(Check::List(list())));
            Arc::new(Service { check, keys: keys.open().unwrap() })
        };
        let services = [instance(), instance()];
        let client = |token| Client { token: Mutex::new(token), requests: AtomicU64::new(0) };
        let clients: Vec<_> = tokens().into_iter().map(client).collect();
        let (stop, failures) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        // Until each client has made some requests more.
        let traffic = || {
            let count = |client: &Client| client.requests.load(Ordering::Relaxed);
            let before: Vec<_> = clients.iter().map(count).collect();
            while clients.iter().zip(&before).any(|(client, before)| count(client) < before + 6) {
                thread::sleep(Duration::from_millis(1));
            }
        };
        thread::scope(|scope| {
            for client in &clients {
                scope.spawn(|| client.run(&services, &stop, &failures));
            }
            let rehearsal = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                traffic();
                // The tokens become keys, beside the running service.
                let import = || {
                    let source = ImportSource::tokens(&api_keys(), TokenList::Any);
                    Import::from(source).owner(owner("clients")).scopes(["orders:read"].try_into().unwrap())
                };
                let act = || bed.keys.by(Actor::operator("root")).request("move");
                assert_eq!(act().import(import().dry_run()).unwrap().imported, CLIENTS as u64);
                assert_eq!(act().import(import()).unwrap().imported, CLIENTS as u64);
                // One instance after the other is deployed anew.
                for service in &services {
                    traffic();
                    let validator = service.keys.validator().unwrap();
                    *service.check.write().unwrap() = Arc::new(Check::Validator(validator));
                }
                traffic();
                assert_eq!(bed.keys.imported().unwrap().remaining, CLIENTS as u64);
                // And then every client gets a token of this library, without anybody's touching it.
                for key in bed.keys.list(&Default::default(), None, 100).unwrap().keys {
                    bed.root().set_auto_rotation(AutoRotation::Key(key.id), Some(true)).unwrap();
                    bed.root().schedule(key.id, keyrota::Clock::now(&bed.clock).plus(HOUR).unwrap()).unwrap();
                }
                for _ in 0..40 {
                    bed.clock.advance(HOUR).unwrap();
                    bed.tick();
                    traffic();
                }
            }));
            stop.store(true, Ordering::Relaxed);
            if let Err(panic) = rehearsal {
                std::panic::resume_unwind(panic);
            }
        });
        assert_eq!(failures.into_inner().unwrap(), Vec::<String>::new());
        let report = bed.keys.imported().unwrap();
        assert_eq!((report.remaining, report.over), (0, CLIENTS as u64), "nothing of the list is left");
        for (client, old) in clients.iter().zip(tokens()) {
            assert!(client.token.lock().unwrap().starts_with("key_"));
            assert_eq!(bed.denial(&old), Some(DenialReason::Retired));
        }
        assert!(bed.keys.check(None).unwrap().is_sound());
        bed.clock.advance(DAY).unwrap();
    });
}

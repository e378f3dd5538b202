//! A move rehearsed: a service of two instances that knows its clients by `API_KEYS` becomes one that knows them by this
//! library, while they go on asking; then each of them gets a token of this library's own. No request fails.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use keyrota::{Actor, AutoRotation, Clock, KeyFilter, OwnerId};

use super::balancer::Balancer;
use super::before::Before;
use super::client::Connection;
use super::stage::{DAY, OFTEN, Place, Start, eventually};

const CLIENTS: usize = 8;
const HOUR: Duration = Duration::from_secs(3_600);

/// As it stands in the environment of the service: `client-0:…,client-1:…`.
fn api_keys() -> String {
    let of = |n: usize| format!("client-{n}:legacy-{n}-7Fh2kQ9zXw4VbN8mT3cYpL6rQeJuD5Ga");
    (0..CLIENTS).map(of).collect::<Vec<_>>().join(",")
}

fn tokens() -> Vec<String> {
    api_keys().split(',').filter_map(|item| Some(item.split_once(':')?.1.to_owned())).collect()
}

/// A client of the service: it has a token, and claims the next one when it is told of it.
struct Client {
    /// Whether it sends its token as `Authorization`, or else as `X-API-Key`.
    by_bearer: bool,
    token: Mutex<String>,
    requests: AtomicU64,
    claims: AtomicU64,
}

impl Client {
    fn new(number: usize, token: String) -> Self {
        let (requests, claims) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { by_bearer: number.is_multiple_of(2), token: Mutex::new(token), requests, claims }
    }

    /// Asks all the time, on one connection; what fails is told.
    fn run(&self, balancer: &Balancer, is_over: &AtomicBool, failures: &Mutex<Vec<String>>) {
        let _end = Ends(&self.requests);
        let mut connection = Connection::open(balancer.address);
        while !is_over.load(Ordering::SeqCst) {
            let token = self.token.lock().unwrap().clone();
            let bearer = format!("Bearer {token}");
            let field = if self.by_bearer {
                ("Authorization", bearer.as_str())
            } else {
                ("X-API-Key", token.as_str())
            };
            let answer = connection.ask("GET", "/orders", &[(field.0, field.1.as_bytes())], b"");
            if (answer.status, answer.body.as_str()) != (200, "[]") {
                failures.lock().unwrap().push(format!("{token}: {answer:?}"));
            } else if answer.field("x-api-key-claim-by").is_some() {
                let claimed = connection.claim(&token, &format!("{token} of this very client"));
                match claimed.json()["token"].as_str() {
                    Some(next) => *self.token.lock().unwrap() = next.to_owned(),
                    None => failures.lock().unwrap().push(format!("{token} claims: {claimed:?}")),
                }
                self.claims.fetch_add(1, Ordering::SeqCst);
            }
            self.requests.fetch_add(1, Ordering::SeqCst);
        }
        if connection.renewed > 0 {
            failures.lock().unwrap().push(format!("a connection was closed {} times", connection.renewed));
        }
    }
}

/// Tells that a client has ended, also by a panic: nobody waits for it any more.
struct Ends<'a>(&'a AtomicU64);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(u64::MAX, Ordering::SeqCst);
    }
}

/// Tells the clients that it is over, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Returns when each client has made some requests more: with two instances, to both of them.
fn traffic(clients: &[Client]) {
    let count = |client: &Client| client.requests.load(Ordering::SeqCst);
    let before: Vec<_> = clients.iter().map(count).collect();
    eventually(|| {
        clients.iter().zip(&before).all(|(client, before)| count(client) >= before.saturating_add(10))
    });
}

pub fn a_service_on_a_list_of_tokens_moves_under_traffic_and_rotates_every_client(start: Start) {
    let place = Place::new();
    let list = api_keys();
    let of_before = [Before::begin(&list), Before::begin(&list)];
    let balancer = Balancer::begin(&of_before.each_ref().map(|instance| instance.address));
    let clients: Vec<_> =
        tokens().into_iter().enumerate().map(|(number, token)| Client::new(number, token)).collect();
    // They outlive the clients, whose last requests are to be answered.
    let mut instances = Vec::new();
    let (is_over, failures) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let over = Over(&is_over);
        for client in &clients {
            scope.spawn(|| client.run(&balancer, &is_over, &failures));
        }
        traffic(&clients);
        let stranger =
            || Connection::open(balancer.address).get("/orders", "legacy-8-nobody-has-this").status;
        assert_eq!([(); 2].map(|()| stranger()), [401; 2]);

        // One instance after the other is started anew, with the same list and this library.
        for old in of_before {
            let new = place.begin(start, Some(&list), OFTEN);
            balancer.add(new.address);
            traffic(&clients);
            balancer.take_out(old.address);
            instances.push(new);
            traffic(&clients);
        }
        assert_eq!(
            *failures.lock().unwrap(),
            Vec::<String>::new(),
            "while old and new instances serve together"
        );
        let operator = place.open();
        assert_eq!(
            operator.imported().unwrap().remaining,
            CLIENTS as u64,
            "each once, by whichever instance"
        );
        assert_eq!([(); 2].map(|()| stranger()), [401; 2]);

        // Every client gets a token of this library, an hour after the other, without anybody's touching it.
        let root = || operator.by(Actor::operator("root"));
        let of_clients = KeyFilter::all().owner(OwnerId::new("clients").unwrap());
        let keys = operator.list(&of_clients, None, 100).unwrap().keys;
        assert_eq!(keys.len(), CLIENTS);
        for (number, key) in (1..).zip(&keys) {
            root().set_auto_rotation(AutoRotation::Key(key.id), Some(true)).unwrap();
            root().schedule(key.id, place.clock.now().plus(number * HOUR).unwrap()).unwrap();
        }
        for hour in 1..=CLIENTS as u64 {
            place.clock.advance(HOUR).unwrap();
            eventually(|| {
                clients.iter().map(|client| client.claims.load(Ordering::SeqCst)).sum::<u64>() >= hour
            });
            traffic(&clients);
        }
        for (client, old) in clients.iter().zip(tokens()) {
            assert!(client.token.lock().unwrap().starts_with("key_"));
            let answer = Connection::open(balancer.address).get("/orders", &old);
            let told = answer.field("x-api-key-deprecated");
            assert_eq!((answer.status, told), (200, Some("true")), "for the overlap both are valid");
        }

        // The list goes; the instances are started anew without it.
        for mut old in std::mem::take(&mut instances) {
            let new = place.begin(start, None, OFTEN);
            balancer.add(new.address);
            balancer.take_out(old.address);
            old.tell_to_stop();
            old.wait_for_its_end();
            instances.push(new);
            traffic(&clients);
        }

        // The tokens of the list end with the overlap; also where somebody still starts with it.
        place.clock.advance(DAY).unwrap();
        let late = place.begin(start, Some(&list), OFTEN);
        balancer.add(late.address);
        instances.push(late);
        traffic(&clients);
        for old in tokens() {
            let mut connection = Connection::open(balancer.address);
            assert_eq!([(); 3].map(|()| connection.get("/orders", &old).status), [401; 3]);
        }
        eventually(|| operator.imported().unwrap().over == CLIENTS as u64);
        assert_eq!(operator.imported().unwrap().remaining, 0, "nothing of the list is left");
        for key in &keys {
            let key = operator.get(key.id).unwrap();
            assert_eq!(key.versions.len(), 2, "the same key, and its second version");
        }
        assert!(operator.check(None).unwrap().is_sound());
        traffic(&clients);
        drop(over);
    });
    assert_eq!(failures.into_inner().unwrap(), Vec::<String>::new());
    let claims: Vec<_> = clients.iter().map(|client| client.claims.load(Ordering::SeqCst)).collect();
    assert_eq!(claims, [1; CLIENTS]);
}

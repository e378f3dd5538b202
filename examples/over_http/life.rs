//! A service from its beginning to its end.

use keyrota::{OwnerId, UsageFilter};

use super::client::request;
use super::stage::{DAY, Stage, Start, new_key};

pub fn routes_without_a_guard_are_open_and_others_are_not(start: Start) {
    let stage = Stage::begin(start);
    let mut connection = stage.connect();
    assert_eq!(connection.ask("GET", "/health", &[], b"").status, 200);
    assert_eq!(connection.ask("GET", "/nowhere", &[], b"").status, 404);
    for (method, path) in
        [("GET", "/whoami"), ("GET", "/orders"), ("POST", "/orders"), ("POST", "/keys/current/claim")]
    {
        assert_eq!(connection.ask(method, path, &[], b"").status, 401, "{method} {path}");
    }
}

pub fn a_handler_knows_who_asks(start: Start) {
    let stage = Stage::begin(start);
    let scopes = ["orders:read", "orders:write"].try_into().unwrap();
    let (key, of_ada) = stage.issue(new_key("ada").scopes(scopes));
    let (_, of_bob) = stage.issue(new_key("bob"));
    let mut connection = stage.connect();
    assert_eq!(
        connection.get("/whoami", &of_ada).json(),
        serde_json::json!({
            "owner": "ada", "key_id": key.to_string(), "version": 1, "scopes": ["orders:read", "orders:write"],
        })
    );
    let order = br#"{"item":"tea","count":3}"#;
    let post = |token: &str| {
        let fields = [("X-API-Key", token.as_bytes()), ("Content-Type", b"application/json")];
        stage.connect().ask("POST", "/orders", &fields, order).status
    };
    assert_eq!((post(&of_ada), post(&of_bob)), (201, 403));
    assert_eq!(connection.get("/orders", &of_ada).body, "[{\"item\":\"tea\",\"count\":3}]");
    assert_eq!(connection.get("/orders", &of_bob).body, "[]", "each owner has its own");
}

pub fn a_service_that_stops_answers_what_has_begun_and_hands_over_what_was_counted(start: Start) {
    // Its timer comes once, at the beginning.
    let mut stage = Stage::begin_with(start, DAY);
    let (key, token) = stage.issue(new_key("ada").scopes(["orders:*"].try_into().unwrap()));
    let mut idle = stage.connect();
    for _ in 0..7 {
        assert_eq!(idle.get("/orders", &token).status, 200);
    }
    let order = br#"{"item":"tea","count":3}"#;
    let fields =
        [("X-API-Key", token.as_bytes()), ("Content-Type", b"application/json"), ("Expect", b"100-continue")];
    let whole = request("POST", "/orders", &fields, order);
    let (head, body) = whole.split_at(whole.len() - order.len());
    let mut begun = stage.connect();
    begun.send(head);
    begun.wait_for_continue();
    stage.tell_to_stop();
    assert!(idle.is_closed(), "a connection without a request is closed");
    begun.send(body);
    assert_eq!(begun.answer("POST").status, 201);
    assert!(begun.is_closed());
    stage.wait_for_its_end();
    assert!(std::net::TcpStream::connect(stage.address).is_err(), "nobody listens any more");
    assert!(stage.validator.validate(&token).is_err(), "the validator was closed");
    assert_eq!(stage.keys.usage(key, &UsageFilter::all()).unwrap().usage.counts.allowed, 8);
    assert!(stage.root().suspend(OwnerId::new("ada").unwrap()).is_ok(), "the operator goes on");
}

//! Of one route, `GET /orders`, behind a key with the scope `orders:read`: each status with its fields and its body.

use keyrota::{Actor, Limits, OwnerId};

use super::client::{Answer, Connection};
use super::stage::{Stage, Start, at, new_key};

const PROBLEM: [&str; 2] = ["cache-control: no-store", "content-type: application/problem+json"];

/// Status, fields and body of a problem document, with these fields beside the usual ones.
fn assert_problem(answer: &Answer, status: u16, fields: &[&str], body: &str) {
    let mut expected: Vec<_> = PROBLEM.iter().chain(fields).copied().collect();
    expected.sort_unstable();
    assert_eq!(
        (answer.status, answer.lines()),
        (status, expected.iter().map(|line| (*line).to_owned()).collect())
    );
    assert_eq!(answer.body, body);
}

/// An answer of the service itself, with these fields beside the type of its body.
fn assert_served(answer: &Answer, fields: &[&str]) {
    let told = answer.lines().into_iter().filter(|line| !line.starts_with("content-type"));
    assert_eq!((answer.status, answer.body.as_str()), (200, "[]"));
    assert_eq!(told.collect::<Vec<_>>(), fields);
}

const INVALID: &str =
    r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"The API key is not valid."}"#;

fn assert_unauthenticated(answer: &Answer) {
    assert_problem(
        answer,
        401,
        &[r#"www-authenticate: Bearer realm="orders", error="invalid_token""#],
        INVALID,
    );
}

pub fn a_valid_key_reaches_the_service_and_is_told_nothing(start: Start) {
    let stage = Stage::begin(start);
    let (_, token) = stage.issue(new_key("ada"));
    assert_served(&stage.connect().get("/orders", &token), &[]);
}

pub fn a_key_comes_by_either_field_and_the_scheme_in_any_case(start: Start) {
    let stage = Stage::begin(start);
    let (_, token) = stage.issue(new_key("ada"));
    let mut connection = stage.connect();
    for (name, value) in [
        ("Authorization", format!("Bearer {token}")),
        ("AUTHORIZATION", format!("bearer  {token} ")),
        ("authorization", format!("BEARER {token}")),
        ("X-API-Key", token.clone()),
        ("x-api-key", format!("  {token}\t")),
    ] {
        assert_served(&connection.ask("GET", "/orders", &[(name, value.as_bytes())], b""), &[]);
    }
    let beside = [("Authorization", &b"Basic dXNlcjpwYXNz"[..]), ("X-API-Key", token.as_bytes())];
    assert_served(&connection.ask("GET", "/orders", &beside, b""), &[]);
}

pub fn a_request_without_a_key_is_asked_for_one(start: Start) {
    let stage = Stage::begin(start);
    let mut connection = stage.connect();
    for fields in [&[][..], &[("X-API-Key", &b""[..])], &[("Authorization", b"Basic dXNlcjpwYXNz")]] {
        assert_problem(
            &connection.ask("GET", "/orders", fields, b""),
            401,
            &[r#"www-authenticate: Bearer realm="orders""#],
            r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"The request presents no API key. Send it as `Authorization: Bearer <key>` or as `X-API-Key: <key>`."}"#,
        );
    }
    let (_, token) = stage.issue(new_key("ada"));
    let in_address =
        connection.ask("GET", &format!("/orders?access_token={token}&api_key={token}"), &[], b"");
    assert_eq!(in_address.status, 401, "a key in an address is none");
}

pub fn whoever_is_not_authenticated_gets_the_same_bytes(start: Start) {
    let stage = Stage::begin(start);
    let mut connection = stage.connect();
    let (_, right) = stage.issue(new_key("ada"));
    let (revoked, of_revoked) = stage.issue(new_key("ada"));
    stage.root().revoke(revoked).unwrap();
    let (_, of_suspended) = stage.issue(new_key("eve"));
    stage.root().suspend(OwnerId::new("eve").unwrap()).unwrap();
    let (_, early) = stage.issue(new_key("ada").not_before(at("2027-03-01T00:00:00Z")));
    let (_, over) = stage.issue(new_key("ada").until(at("2027-01-02T00:00:00Z")));
    let (_, elsewhere) = stage.issue(new_key("ada").networks("192.0.2.0/24".parse().unwrap()));
    stage.clock.set(at("2027-01-03T00:00:00Z"));
    let altered = |place: usize| {
        let with = if &right[place..=place] == "x" { "y" } else { "x" };
        format!("{}{with}{}", &right[..place], &right[place + 1..])
    };
    let long = "x".repeat(4_000);
    for token in [
        "nonsense",
        "key_",
        &right[1..],
        &altered(5),
        &altered(30),
        &altered(right.len() - 1),
        &format!("{right}x"),
        &of_revoked,
        &of_suspended,
        &early,
        &over,
        &elsewhere,
        &long,
    ] {
        assert_unauthenticated(&connection.get("/orders", token));
    }
    assert_served(&connection.get("/orders", &right), &[]);
}

pub fn a_request_with_several_or_malformed_keys_is_a_bad_request(start: Start) {
    let stage = Stage::begin(start);
    let (_, token) = stage.issue(new_key("ada"));
    let mut connection = stage.connect();
    let (key, bearer) = (token.as_bytes(), format!("Bearer {token}"));
    let bearer = bearer.as_bytes();
    let challenge = [r#"www-authenticate: Bearer realm="orders", error="invalid_request""#];
    for fields in [
        &[("Authorization", bearer), ("X-API-Key", key)][..],
        &[("X-API-Key", key), ("X-API-Key", key)],
        &[("Authorization", bearer), ("Authorization", bearer)],
        &[("Authorization", b"Basic dXNlcjpwYXNz"), ("Authorization", bearer)],
    ] {
        assert_problem(
            &connection.ask("GET", "/orders", fields, b""),
            400,
            &challenge,
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"The request presents more than one API key. Send one, in one field: `Authorization: Bearer <key>` or `X-API-Key: <key>`."}"#,
        );
    }
    let listed = [key, b", ", key].concat();
    for (name, value) in [
        ("X-API-Key", &listed[..]),
        ("X-API-Key", b"\xC3\xA9\xFF"),
        ("Authorization", b"Bearer one two"),
        ("Authorization", b"Bearer one,two"),
    ] {
        assert_problem(
            &connection.ask("GET", "/orders", &[(name, value)], b""),
            400,
            &challenge,
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"The field of the API key holds something else. Send `Authorization: Bearer <key>` or `X-API-Key: <key>`, and nothing beside the key."}"#,
        );
    }
}

const FORBIDDEN: &str =
    r#"www-authenticate: Bearer realm="orders", error="insufficient_scope", scope="orders:read""#;

pub fn a_key_without_the_scope_is_forbidden(start: Start) {
    let stage = Stage::begin(start);
    for scopes in [&[][..], &["orders:write"], &["bills:*"]] {
        let (_, token) = stage.issue(new_key("ada").scopes(scopes.try_into().unwrap()));
        assert_problem(
            &stage.connect().get("/orders", &token),
            403,
            &[FORBIDDEN],
            r#"{"type":"about:blank","title":"Forbidden","status":403,"detail":"The API key lacks the scope orders:read."}"#,
        );
    }
}

const LIMITED: &str = r#"{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Too Many Requests","status":429,"detail":"A limit of the API key is reached.","violated-policies":["default"]}"#;

pub fn a_key_is_told_what_is_left_of_its_limit_and_when_to_come_again(start: Start) {
    let stage = Stage::begin(start);
    let (_, token) = stage.issue(new_key("ada").limits("3/min".parse::<Limits>().unwrap()));
    let mut connection = stage.connect();
    let policy = r#"ratelimit-policy: "default";q=3;w=60"#;
    for left in [
        r#"ratelimit: "default";r=2;t=20"#,
        r#"ratelimit: "default";r=1;t=40"#,
        r#"ratelimit: "default";r=0;t=60"#,
    ] {
        assert_served(&connection.get("/orders", &token), &[policy, left]);
    }
    let fields = [r#"ratelimit: "default";r=0;t=20"#, policy, "retry-after: 20"];
    assert_problem(&connection.get("/orders", &token), 429, &fields, LIMITED);
    stage.clock.advance(std::time::Duration::from_secs(20)).unwrap();
    assert_served(&connection.get("/orders", &token), &[policy, r#"ratelimit: "default";r=0;t=60"#]);
}

pub fn a_request_that_is_refused_for_its_scope_is_not_charged(start: Start) {
    let stage = Stage::begin(start);
    let (key, token) = stage.issue(new_key("ada").limits("2/min".parse::<Limits>().unwrap()));
    let edit = |scopes: &[&str]| {
        let edit = keyrota::EditKey::of(key).scopes(scopes.try_into().unwrap()).widen();
        stage.keys.by(Actor::operator("root")).edit(edit).unwrap();
    };
    let mut connection = stage.connect();
    edit(&["bills:read"]);
    for _ in 0..5 {
        assert_eq!(connection.get("/orders", &token).status, 403);
    }
    edit(&["orders:read"]);
    assert_eq!([(); 3].map(|()| connection.get("/orders", &token).status), [200, 200, 429]);
}

pub fn a_deprecated_key_is_told_so(start: Start) {
    let stage = Stage::begin(start);
    let (key, old) = stage.issue(new_key("ada"));
    let new = stage.root().rotate(key).unwrap().token.expose().to_owned();
    let mut connection = stage.connect();
    let told = [
        "deprecation: @1798761600",
        "sunset: Sat, 02 Jan 2027 00:00:00 GMT",
        "warning: 299 - \"API key is deprecated and will be revoked soon\"",
        "x-api-key-deprecated: true",
    ];
    assert_served(&connection.get("/orders", &old), &told);
    assert_served(&connection.get("/orders", &new), &[]);
    stage.clock.set(at("2027-01-01T23:59:59.999999Z"));
    assert_served(&connection.get("/orders", &old), &told);
    stage.clock.set(at("2027-01-02T00:00:00Z"));
    assert_unauthenticated(&connection.get("/orders", &old));
    assert_served(&connection.get("/orders", &new), &[]);
}

pub fn a_waiting_successor_is_told_of(start: Start) {
    let stage = Stage::begin(start);
    let (key, token) = stage.issue(new_key("ada").auto_rotation(true));
    stage.clock.set(at("2027-01-20T00:00:00Z"));
    while stage.keys.tick().unwrap().more {}
    stage.clock.set(at("2027-02-10T00:00:00Z"));
    while stage.keys.tick().unwrap().more {}
    stage.clock.set(at("2027-03-05T00:00:00Z"));
    while stage.keys.tick().unwrap().more {}
    assert_served(&stage.connect().get("/orders", &token), &[]);
    stage.clock.set(at("2027-03-25T00:00:00Z"));
    while stage.keys.tick().unwrap().more {}
    assert_eq!(stage.keys.rotations(key).unwrap().len(), 1);
    assert_served(
        &stage.connect().get("/orders", &token),
        &[
            "link: </keys/current/claim>; rel=\"https://docs.rs/keyrota/latest/keyrota/guide/claiming/\"",
            "sunset: Thu, 01 Apr 2027 00:00:00 GMT",
            "x-api-key-claim-by: Wed, 16 Jun 2027 00:00:00 GMT",
        ],
    );
}

pub fn a_key_with_networks_is_granted_from_them_only(start: Start) {
    let stage = Stage::begin(start);
    let (_, here) = stage.issue(new_key("ada").networks("127.0.0.0/8".parse().unwrap()));
    let (_, elsewhere) = stage.issue(new_key("ada").networks("192.0.2.0/24".parse().unwrap()));
    let mut connection = stage.connect();
    assert_served(&connection.get("/orders", &here), &[]);
    let fields = [
        ("X-API-Key", elsewhere.as_bytes()),
        ("X-Forwarded-For", b"192.0.2.7"),
        ("Forwarded", b"for=192.0.2.7"),
    ];
    assert_unauthenticated(&connection.ask("GET", "/orders", &fields, b""));
}

fn assert_unavailable(answer: &Answer) {
    assert_problem(
        answer,
        503,
        &["retry-after: 1"],
        r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"The API key cannot be checked at the moment. Try again."}"#,
    );
}

pub fn where_no_answer_can_be_given_the_client_is_to_try_again(start: Start) {
    let stage = Stage::begin(start);
    let (_, token) = stage.issue(new_key("ada"));
    let mut connection = stage.connect();
    stage.validator.close().unwrap();
    for token in [token.as_str(), "key_nonsense"] {
        // Also what is no token of this library: it may have been imported a moment ago.
        assert_unavailable(&connection.get("/orders", token));
    }
}

pub fn a_service_whose_store_fails_guesses_nothing_and_goes_on_when_it_is_back(start: Start) {
    let (stage, store) = Stage::begin_on_a_store_that_fails(start);
    let (_, token) = stage.issue(new_key("ada"));
    let (leaked, of_leaked) = stage.issue(new_key("ada"));
    let mut connection = stage.connect();
    assert_served(&connection.get("/orders", &token), &[]);
    assert_served(&connection.get("/orders", &of_leaked), &[]);
    store.die();
    for token in [&token, &of_leaked, "key_nonsense"] {
        assert_unavailable(&connection.get("/orders", token));
    }
    // By the operator, whose disk does not fail.
    stage.root().revoke(leaked).unwrap();
    assert_unavailable(&connection.get("/orders", &of_leaked));
    store.plan(None);
    assert_served(&connection.get("/orders", &token), &[]);
    assert_unauthenticated(&connection.get("/orders", &of_leaked));
    assert_eq!(connection.renewed, 0);
}

pub fn one_connection_serves_grants_and_denials_and_feels_a_revocation_at_once(start: Start) {
    let stage = Stage::begin(start);
    let (key, token) = stage.issue(new_key("ada").limits("1/min".parse::<Limits>().unwrap()));
    let mut connection: Connection = stage.connect();
    assert_eq!(connection.get("/orders", "key_nonsense").status, 401);
    assert_eq!(connection.get("/orders", &token).status, 200);
    assert_eq!(connection.get("/orders", &token).status, 429);
    stage.clock.advance(std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(connection.get("/orders", &token).status, 200);
    // By the operator, who has a handle of his own on the file.
    stage.root().revoke(key).unwrap();
    assert_unauthenticated(&connection.get("/orders", &token));
    let (_, other) = stage.issue(new_key("bob"));
    assert_served(&connection.get("/orders", &other), &[]);
    assert_eq!(connection.renewed, 0);
}

pub fn a_head_request_gets_the_fields_without_the_body(start: Start) {
    let stage = Stage::begin(start);
    let (_, token) = stage.issue(new_key("ada"));
    let mut connection = stage.connect();
    let answer = connection.ask("HEAD", "/orders", &[], b"");
    assert_eq!((answer.status, answer.field("content-type")), (401, Some("application/problem+json")));
    assert_served(&connection.get("/orders", &token), &[]);
}

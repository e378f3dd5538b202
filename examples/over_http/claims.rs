//! The claim route, and the client that needs nobody to watch it.

use keyrota::Limits;

use super::stage::{Stage, Start, new_key};

const ID: &str = "made up by pod 7";
const OTHER: &str = "made up by pod 8";

pub fn a_claim_gets_the_next_token_and_its_repetition_the_same(start: Start) {
    let stage = Stage::begin(start);
    let (key, old) = stage.issue(new_key("ada").auto_rotation(true));
    stage.until_successor_waits(key);
    let mut connection = stage.connect();
    let answer = connection.claim(&old, ID);
    assert_eq!(answer.status, 200, "{answer:?}");
    let fields: Vec<_> = answer.lines().into_iter().filter(|line| line.starts_with('c')).collect();
    assert_eq!(fields, ["cache-control: no-store", "content-type: application/json"]);
    let body = answer.json();
    let new = body["token"].as_str().unwrap().to_owned();
    assert_eq!(body["key_id"], key.to_string());
    assert_eq!((&body["version"], &body["old_version"]), (&2.into(), &1.into()));
    assert_eq!(body["valid_until"], "2027-06-23T00:00:00Z");
    assert_eq!(body["old_valid_until"], "2027-03-26T00:00:00Z");
    // An answer may be lost: the old token is deprecated by then, and still gets the same one.
    let again = connection.claim(&old, ID);
    assert_eq!((again.status, &again.json()), (200, &body));
    assert_eq!(connection.get("/orders", &new).status, 200);
    assert_eq!(connection.get("/orders", &old).field("x-api-key-deprecated"), Some("true"));
}

pub fn a_claim_without_a_valid_key_gets_no_further_than_the_layer(start: Start) {
    let stage = Stage::begin(start);
    let (key, token) = stage.issue(new_key("ada").auto_rotation(true));
    stage.until_successor_waits(key);
    let mut connection = stage.connect();
    let body = format!("{{\"claim_id\":\"{ID}\"}}");
    let bare = connection.ask("POST", "/keys/current/claim", &[], body.as_bytes());
    assert_eq!((bare.status, bare.field("www-authenticate")), (401, Some("Bearer realm=\"orders\"")));
    let wrong = connection.claim("key_nonsense", ID);
    assert_eq!(wrong.field("www-authenticate"), Some("Bearer realm=\"orders\", error=\"invalid_token\""));
    stage.root().revoke(key).unwrap();
    assert_eq!(connection.claim(&token, ID).status, 401, "a revoked key claims nothing");
}

pub fn a_claim_that_is_refused_says_why(start: Start) {
    let stage = Stage::begin(start);
    let (key, token) = stage.issue(new_key("ada").auto_rotation(true));
    let mut connection = stage.connect();
    let nothing = connection.claim(&token, ID);
    assert_eq!(
        (nothing.status, &nothing.json()["detail"]),
        (404, &"no successor waits to be claimed".into())
    );
    stage.until_successor_waits(key);
    assert_eq!(connection.claim(&token, "too short").status, 400);
    let authorization = [("X-API-Key", token.as_bytes())];
    assert_eq!(connection.ask("POST", "/keys/current/claim", &authorization, b"{}").status, 400);
    assert_eq!(connection.ask("POST", "/keys/current/claim", &authorization, b"").status, 400);
    assert_eq!(connection.claim(&token, ID).status, 200);
    let late = connection.claim(&token, OTHER);
    assert_eq!((late.status, late.field("content-type")), (409, Some("application/problem+json")));
    let long = format!("{{\"claim_id\":\"{}\"}}", "x".repeat(5_000));
    let long = stage.connect().ask("POST", "/keys/current/claim", &authorization, long.as_bytes());
    assert_eq!(long.status, 413);
    assert_eq!(connection.ask("GET", "/keys/current/claim", &authorization, b"").status, 405);
}

pub fn a_claim_is_possible_when_the_limit_is_used_up(start: Start) {
    let stage = Stage::begin(start);
    let limits: Limits = "1/d".parse().unwrap();
    let (key, token) = stage.issue(new_key("ada").limits(limits).auto_rotation(true));
    stage.until_successor_waits(key);
    let mut connection = stage.connect();
    assert_eq!(connection.get("/orders", &token).status, 200);
    assert_eq!(connection.get("/orders", &token).status, 429);
    assert_eq!(connection.claim(&token, ID).status, 200);
}

/// A client of the shelf, which knows its token and what the answers tell, and nothing else.
pub fn an_unattended_client_lives_through_a_rotation(start: Start) {
    let stage = Stage::begin(start);
    let (key, token) = stage.issue(new_key("ada").auto_rotation(true));
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let base = format!("http://{}", stage.address);
    let orders = |token: &str| {
        let request = agent.get(format!("{base}/orders")).header("Authorization", format!("Bearer {token}"));
        let mut response = request.call().unwrap();
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        assert_eq!(response.headers().get("x-api-key-claim-by").is_some(), link.is_some());
        response.body_mut().read_to_string().unwrap();
        (response.status().as_u16(), link)
    };
    assert_eq!(orders(&token), (200, None));
    stage.until_successor_waits(key);
    let (200, Some(link)) = orders(&token) else { panic!("the client is not told") };
    let place = link.split_once('>').unwrap().0.trim_start_matches('<');
    let claim = agent.post(format!("{base}{place}")).header("Authorization", format!("Bearer {token}"));
    let body = claim.send(format!("{{\"claim_id\":\"{ID}\"}}")).unwrap().body_mut().read_to_string().unwrap();
    let new: serde_json::Value = serde_json::from_str(&body).unwrap();
    let new = new["token"].as_str().unwrap();
    assert_eq!((orders(&token).0, orders(new)), (200, (200, None)));
    stage.clock.advance(super::stage::DAY).unwrap();
    assert_eq!(
        (orders(&token).0, orders(new)),
        (401, (200, None)),
        "the old one is over, and nobody noticed"
    );
}

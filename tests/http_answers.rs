//! What a service says over HTTP of grants, denials and claims: golden texts, and properties of all of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod hooked;

use std::net::IpAddr;
use std::time::Duration;

use common::{Bed, DAY, HOUR, Place, at, keyring, new_key, owner, scope, token, v};
use hooked::{Fate, Hooked};
use keyrota::http::{Answers, ClaimAnswer, Credentials, CredentialsError, Header, Problem, claim_id};
use keyrota::{
    Actor, Claim, ClaimId, Demand, Denial, DenialReason, Grant, KeyManager, LifecycleError, Limits,
    ManageError, ManualClock, OwnerLimit, Quota, Refill, Retirement, Revoke, RotationPolicy,
};

fn bed() -> Bed {
    Bed::at(Place::memory(), at(common::START))
}

fn answers() -> Answers {
    Answers::new("orders").unwrap().claim_at("/keys/current/claim").unwrap()
}

fn lines<'a>(headers: impl IntoIterator<Item = Header<'a>>) -> Vec<String> {
    headers.into_iter().map(|header| format!("{}: {}", header.name(), header.value())).collect()
}

fn of_grant(grant: &Grant) -> Vec<String> {
    lines(answers().granted(grant))
}

/// Status, fields and body, as one text.
fn whole(problem: Problem<'_>) -> String {
    let (status, headers, body) = problem.into_parts();
    format!("{status}\n{}\n\n{body}", lines(headers).join("\n"))
}

fn of_denial(denial: &Denial) -> String {
    whole(answers().denied(denial, Some(&scope("orders:write"))))
}

fn limited(text: &str) -> Limits {
    text.parse().unwrap()
}

#[test]
fn an_ordinary_grant_has_nothing_to_tell() {
    let bed = bed();
    let issued = bed.issue("ci");
    let grant = bed.validator.validate(issued.token.expose()).unwrap();
    assert!(answers().granted(&grant).is_empty());
    assert_eq!(of_grant(&grant), [""; 0]);
}

#[test]
fn a_deprecated_version_is_told_of_with_both_dates() {
    let bed = bed();
    let issued = bed.issue("ci");
    bed.go("2027-02-01 10:00");
    bed.rotate(issued.key);
    bed.go("2027-02-01 12:00");
    let grant = bed.validator.validate(issued.token.expose()).unwrap();
    assert_eq!(
        of_grant(&grant),
        [
            "x-api-key-deprecated: true",
            "warning: 299 - \"API key is deprecated and will be revoked soon\"",
            "deprecation: @1801476000",
            "sunset: Tue, 02 Feb 2027 10:00:00 GMT",
        ]
    );
    assert_eq!(lines(Answers::default().granted(&grant)), of_grant(&grant), "there is nothing to claim");
}

#[test]
fn a_deprecated_version_without_an_end_has_no_sunset() {
    let bed = bed();
    let policy = RotationPolicy::builder().retirement(Retirement::KeepPrevious(1)).lifetime(181 * DAY);
    let policy = policy.rotate_every(90 * DAY).max_live(3).build().unwrap();
    let issued = bed.root().issue(new_key("ci").policy(policy).never_expires()).unwrap();
    bed.rotate(issued.key);
    let grant = bed.validator.validate(issued.token.expose()).unwrap();
    assert!(grant.is_deprecated() && grant.valid_until().is_none());
    let headers = answers();
    let headers = headers.granted(&grant);
    assert_eq!((headers.get("deprecation"), headers.get("sunset")), (Some("@1798761600"), None));
}

#[test]
fn a_successor_that_waits_is_told_of_with_the_way_to_its_claim() {
    let bed = bed();
    let issued = bed.root().issue(new_key("ci").auto_rotation(true)).unwrap();
    bed.tick_to(at("2027-03-25"));
    let grant = bed.validator.validate(issued.token.expose()).unwrap();
    let told = [
        "x-api-key-claim-by: Wed, 16 Jun 2027 00:00:00 GMT",
        "sunset: Thu, 01 Apr 2027 00:00:00 GMT",
        "link: </keys/current/claim>; rel=\"https://docs.rs/keyrota/latest/keyrota/guide/claiming/\"",
    ];
    assert_eq!(of_grant(&grant), told);
    assert_eq!(lines(Answers::default().granted(&grant)), told[..2], "where there is no claim route");
}

#[test]
fn what_is_left_of_a_limit_is_told_as_the_draft_has_it() {
    let bed = bed();
    for (limits, uses, told) in [
        ("100/min", 50, ["\"default\";q=100;w=60", "\"default\";r=50;t=30"]),
        ("10/s burst 50", 1, ["\"default\";q=50;w=5", "\"default\";r=49;t=1"]),
        ("1000/s burst 10", 3, ["\"default\";q=10;w=1", "\"default\";r=7;t=1"]),
        ("10/s, 100/min", 10, ["\"default\";q=10;w=1", "\"default\";r=0;t=1"]),
        ("quota 500 daily", 1, ["\"default\";q=500;w=86400", "\"default\";r=499;t=86400"]),
        ("quota 3 once", 2, ["\"default\";q=3", "\"default\";r=1"]),
    ] {
        let mut new = new_key(limits).limits(limited(limits));
        if limits.starts_with("quota") {
            let quota: Quota = limits.trim_start_matches("quota ").parse().unwrap();
            new = new_key(limits).limits(quota.with_lease(quota.uses()).unwrap());
        }
        let issued = bed.root().issue(new).unwrap();
        bed.validator.flush().unwrap();
        let ask = |_| bed.validator.validate(issued.token.expose()).unwrap();
        let grants: Vec<_> = (0..uses).map(ask).collect();
        let headers = of_grant(&grants[uses - 1]);
        assert_eq!(headers, [format!("ratelimit-policy: {}", told[0]), format!("ratelimit: {}", told[1])]);
    }
}

/// The draft's fields are structured fields, whose integers have fifteen digits.
#[test]
fn a_quota_of_sixteen_digits_is_told_as_the_most_that_can_be_told() {
    let bed = bed();
    let quota = Quota::new(Quota::MAX_USES, Refill::Never).unwrap();
    let issued = bed.root().issue(new_key("ci").limits(quota.with_lease(Quota::MAX_USES).unwrap())).unwrap();
    bed.validator.flush().unwrap();
    let grant = bed.validator.validate(issued.token.expose()).unwrap();
    assert_eq!(
        of_grant(&grant),
        ["ratelimit-policy: \"default\";q=999999999999999", "ratelimit: \"default\";r=999999999999999"]
    );
}

#[test]
fn a_request_without_credentials_is_asked_for_them_without_an_error() {
    assert_eq!(
        whole(answers().without_credentials(CredentialsError::Missing)),
        "401\n\
         content-type: application/problem+json\n\
         cache-control: no-store\n\
         www-authenticate: Bearer realm=\"orders\"\n\
         \n\
         {\"type\":\"about:blank\",\"title\":\"Unauthorized\",\"status\":401,\"detail\":\"The request presents no API \
         key. Send it as `Authorization: Bearer <key>` or as `X-API-Key: <key>`.\"}"
    );
}

#[test]
fn a_request_with_several_or_malformed_credentials_is_a_bad_request() {
    for (error, detail) in [
        (
            CredentialsError::Several,
            "The request presents more than one API key. Send one, in one field: `Authorization: Bearer <key>` or \
             `X-API-Key: <key>`.",
        ),
        (
            CredentialsError::Malformed,
            "The field of the API key holds something else. Send `Authorization: Bearer <key>` or `X-API-Key: <key>`, \
             and nothing beside the key.",
        ),
    ] {
        assert_eq!(
            whole(answers().without_credentials(error)),
            format!(
                "400\n\
                 content-type: application/problem+json\n\
                 cache-control: no-store\n\
                 www-authenticate: Bearer realm=\"orders\", error=\"invalid_request\"\n\
                 \n\
                 {{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"detail\":\"{detail}\"}}"
            )
        );
    }
}

const UNAUTHENTICATED: &str = "401\n\
    content-type: application/problem+json\n\
    cache-control: no-store\n\
    www-authenticate: Bearer realm=\"orders\", error=\"invalid_token\"\n\
    \n\
    {\"type\":\"about:blank\",\"title\":\"Unauthorized\",\"status\":401,\"detail\":\"The API key is not valid.\"}";

#[test]
fn whoever_is_not_authenticated_gets_the_same_bytes_whatever_the_reason() {
    let bed = bed();
    let locator = "AAAAAAAAAAAA";
    let secret = "x".repeat(43);
    let real = bed.issue("real");
    let (_, own_locator, own_secret) = common::parts(real.token.expose());
    let revoked = bed.issue("revoked");
    bed.root().revoke(revoked.key).unwrap();
    let suspended = bed.root().issue(keyrota::NewKey::new(owner("eve"), "ci").unwrap()).unwrap();
    bed.root().suspend(owner("eve")).unwrap();
    let expired = bed.root().issue(new_key("expired").until(at("2027-01-01 01:00"))).unwrap();
    let retired = bed.issue("retired");
    bed.root().rotate(retired.key).unwrap();
    let networked = bed.root().issue(new_key("net").networks("192.0.2.0/24".parse().unwrap())).unwrap();
    bed.clock.advance(25 * HOUR).unwrap();
    let later = bed.root().issue(new_key("later").not_before(at("2027-03-01"))).unwrap();
    let mut seen = Vec::new();
    for presented in [
        "",
        "nonsense",
        &token("key", locator, &secret),
        &token("key", own_locator, &secret),
        &token("another", own_locator, own_secret),
        revoked.token.expose(),
        suspended.token.expose(),
        expired.token.expose(),
        retired.token.expose(),
        networked.token.expose(),
        later.token.expose(),
    ] {
        let from: IpAddr = "203.0.113.9".parse().unwrap();
        let demanded = scope("orders:write");
        let denial =
            bed.validator.validate_for(presented, Demand::scope(&demanded).from(from).cost(9)).unwrap_err();
        assert_eq!(of_denial(&denial), UNAUTHENTICATED, "{denial}");
        seen.push(denial.reason());
    }
    seen.dedup();
    let reasons = [
        DenialReason::Unknown,
        DenialReason::Revoked,
        DenialReason::Suspended,
        DenialReason::Expired,
        DenialReason::Retired,
        DenialReason::Network,
        DenialReason::NotYet,
    ];
    assert_eq!(seen, reasons);
}

#[test]
fn a_version_that_lacks_the_scope_is_told_which() {
    let bed = bed();
    let issued = bed.issue("ci");
    let demanded = scope("orders:write");
    let denial = bed.validator.validate_for(issued.token.expose(), Demand::scope(&demanded)).unwrap_err();
    assert_eq!(
        of_denial(&denial),
        "403\n\
         content-type: application/problem+json\n\
         cache-control: no-store\n\
         www-authenticate: Bearer realm=\"orders\", error=\"insufficient_scope\", scope=\"orders:write\"\n\
         \n\
         {\"type\":\"about:blank\",\"title\":\"Forbidden\",\"status\":403,\"detail\":\"The API key lacks the scope \
         orders:write.\"}"
    );
    let untold = whole(answers().denied(&denial, None));
    assert!(
        untold.contains("error=\"insufficient_scope\"\n") && untold.contains("lacks the scope.\""),
        "{untold}"
    );
}

fn limited_answer(fields: &str) -> String {
    format!(
        "429\n\
         content-type: application/problem+json\n\
         cache-control: no-store\n\
         {fields}\n\
         \n\
         {{\"type\":\"https://iana.org/assignments/http-problem-types#quota-exceeded\",\"title\":\"Too Many \
         Requests\",\"status\":429,\"detail\":\"A limit of the API key is reached.\",\"violated-policies\":[\"default\"]}}"
    )
}

#[test]
fn a_limit_that_is_reached_says_when_to_come_again_in_whole_seconds_rounded_up() {
    let bed = bed();
    for (limits, cost, fields) in [
        (
            "2/min",
            1,
            "ratelimit-policy: \"default\";q=2;w=60\nratelimit: \"default\";r=0;t=30\nretry-after: 30",
        ),
        ("10/s", 1, "ratelimit-policy: \"default\";q=10;w=1\nratelimit: \"default\";r=0;t=1\nretry-after: 1"),
        (
            "7/min",
            3,
            "ratelimit-policy: \"default\";q=7;w=60\nratelimit: \"default\";r=1;t=18\nretry-after: 18",
        ),
        ("5/min", 6, "ratelimit-policy: \"default\";q=5;w=60\nratelimit: \"default\";r=5;t=0"),
    ] {
        let issued = bed.root().issue(new_key(limits).limits(limited(limits))).unwrap();
        let ask = || bed.validator.validate_for(issued.token.expose(), Demand::NOTHING.cost(cost));
        let denial = std::iter::repeat_with(ask).find_map(Result::err).unwrap();
        assert_eq!(of_denial(&denial), limited_answer(fields), "{limits}");
    }
}

#[test]
fn after_what_retry_after_says_the_request_is_granted() {
    let bed = bed();
    for limits in ["2/min", "10/s", "7/min", "3/s burst 1", "1000/15min", "11/h burst 2", "quota 5 daily"] {
        let mut new = new_key(limits).limits(limited(limits));
        if limits.starts_with("quota") {
            new = new_key(limits).limits("5 daily lease 5".parse::<Quota>().unwrap());
        }
        let issued = bed.root().issue(new).unwrap();
        bed.validator.flush().unwrap();
        let ask = || bed.validator.validate(issued.token.expose());
        let denial = std::iter::repeat_with(ask).find_map(Result::err).unwrap();
        let answers = answers();
        let problem = answers.denied(&denial, None);
        let wait: u64 = problem.headers().get("retry-after").unwrap().parse().unwrap();
        bed.clock.advance(Duration::from_secs(wait)).unwrap();
        bed.validator.flush().unwrap();
        assert!(ask().is_ok(), "{limits} after {wait} s");
    }
}

#[test]
fn a_quota_that_never_comes_back_does_not_say_when() {
    let bed = bed();
    let issued = bed.root().issue(new_key("ci").limits("1 once".parse::<Quota>().unwrap())).unwrap();
    bed.validator.flush().unwrap();
    bed.validator.validate(issued.token.expose()).unwrap();
    let denial = bed.validator.validate(issued.token.expose()).unwrap_err();
    assert_eq!(
        of_denial(&denial),
        limited_answer("ratelimit-policy: \"default\";q=1\nratelimit: \"default\";r=0")
    );
}

const UNAVAILABLE: &str = "503\n\
    content-type: application/problem+json\n\
    cache-control: no-store\n\
    retry-after: 1\n\
    \n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"The API key cannot be \
    checked at the moment. Try again.\"}";

#[test]
fn where_no_answer_can_be_given_the_client_is_to_try_again() {
    let bed = bed();
    let issued = bed.issue("ci");
    bed.validator.close().unwrap();
    let denial = bed.validator.validate(issued.token.expose()).unwrap_err();
    assert_eq!(of_denial(&denial), UNAVAILABLE);
}

#[test]
fn a_realm_and_a_claim_route_that_could_end_their_field_are_refused() {
    for realm in
        ["", " ", "a\"b", "a\\b", "a\r\nSet-Cookie: x=1", "a\nb", "a\0", "Ünï", "a\u{202E}", &"x".repeat(65)]
    {
        assert!(Answers::new(realm).is_err(), "{realm:?}");
    }
    let place = |place: &str| Answers::default().claim_at(place).is_ok();
    for bad in [
        "",
        "claim",
        "//elsewhere.example/claim",
        "http://plain.example/claim",
        "https://",
        "javascript:alert(1)",
        "/a>; rel=\"evil\"",
        "/a b",
        "/a\r\nb",
        "/ä",
        "/{key}",
        "/a\"b",
        &format!("/{}", "x".repeat(512)),
    ] {
        assert!(!place(bad), "{bad:?}");
    }
    for good in ["/", "/keys/current/claim", "https://api.example/claim?v=2", "/a,b;c=%20"] {
        assert!(place(good), "{good}");
    }
}

/// All that can be answered, from one key to the next: as bytes, fields cannot be ended, and documents are JSON that says
/// the status of their answer.
#[test]
fn whatever_is_answered_no_field_can_be_ended_and_each_document_says_its_status() {
    let answers = Answers::new("a realm, with: all=of;it!").unwrap().claim_at("/c?d=e&f=%00").unwrap();
    let is_value = |value: &str| {
        !value.is_empty() && value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && value.trim() == value
    };
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let mut seen = 0;
    let mut check = |headers: Vec<Header<'_>>| {
        for (at, header) in headers.iter().enumerate() {
            assert!(is_name(header.name()) && is_value(header.value()), "{header:?}");
            assert!(headers[..at].iter().all(|other| other.name() != header.name()), "twice: {header:?}");
            seen += 1;
        }
    };
    let bed = bed();
    let mut tokens = Vec::new();
    for limits in ["none", "1/s burst 1", "quota 2 monthly", "9/min, 10/h"] {
        for auto in [false, true] {
            let new = new_key(&format!("{limits} {auto}")).limits(limited(limits)).auto_rotation(auto);
            let issued = bed.root().issue(new.scopes(["orders:read"].try_into().unwrap())).unwrap();
            tokens.push((issued.key, issued.token.expose().to_owned()));
        }
    }
    let scopes = ["orders:read", "a-b.c_d/e:*", "*", "keyrota:*"].map(scope);
    let mut documents = std::collections::BTreeSet::new();
    for day in 0..100 {
        bed.clock.advance(DAY).unwrap();
        bed.tick();
        bed.validator.flush().unwrap();
        if day == 40 {
            tokens.iter().for_each(|(key, _)| drop(bed.root().rotate(*key)));
        }
        for (_, token) in &tokens {
            for demanded in &scopes {
                match bed.validator.validate_for(token, Demand::scope(demanded)) {
                    Ok(grant) => check(answers.granted(&grant).into_iter().collect()),
                    Err(denial) => {
                        let problem = answers.denied(&denial, Some(demanded));
                        check(problem.headers().iter().cloned().collect());
                        let document: serde_json::Value = serde_json::from_str(problem.body()).unwrap();
                        assert_eq!(document["status"], problem.status());
                        assert!(document["type"].is_string() && document["title"].is_string());
                        documents.insert(problem.status());
                    }
                }
            }
        }
    }
    assert!(seen > 1_000, "{seen}");
    assert_eq!(documents.into_iter().collect::<Vec<_>>(), [401, 403, 429]);
}

/// A key whose successor waits, and its token.
fn waiting(bed: &Bed) -> (keyrota::KeyId, String) {
    let issued = bed.root().issue(new_key("ci").auto_rotation(true)).unwrap();
    bed.tick_to(at("2027-03-25"));
    (issued.key, issued.token.expose().to_owned())
}

#[test]
fn a_claim_is_read_from_its_body_and_answered_with_the_token_that_nobody_may_keep() {
    let bed = bed();
    let (key, token) = waiting(&bed);
    let id = claim_id(br#"{"claim_id":"sixteen b\u0079tes...", "else": [1]}"#).unwrap();
    assert_eq!(id.expose(), b"sixteen bytes...");
    let claimed = bed.keys.by(Actor::service("api")).claim(Claim::with_token(&token, id)).unwrap();
    let answer = ClaimAnswer::of(&claimed);
    assert_eq!(lines(answer.headers()), ["content-type: application/json", "cache-control: no-store"]);
    assert_eq!(
        std::str::from_utf8(answer.expose_body()).unwrap(),
        format!(
            "{{\"token\":\"{}\",\"key_id\":\"{key}\",\"version\":2,\"valid_until\":\"2027-06-23T00:00:00Z\",\
             \"old_version\":1,\"old_valid_until\":\"2027-03-26T00:00:00Z\"}}",
            claimed.token.expose()
        )
    );
    assert!(!format!("{answer:?}").contains(claimed.token.expose()));
}

#[test]
fn a_body_that_is_no_claim_is_a_bad_request() {
    let long = format!("{{\"claim_id\":\"sixteen bytes...\",\"x\":\"{}\"}}", "x".repeat(2_048));
    for body in [
        "",
        "{}",
        "[]",
        "\"sixteen bytes...\"",
        "{\"claim_id\":\"fifteen bytes..\"}",
        "{\"claim_id\":\"aaaaaaaaaaaaaaaa\"}",
        "{\"claim_id\":16}",
        "{\"claim_id\":\"sixteen bytes...\"",
        "{\"claim_id\":\"sixteen bytes...\"} {}",
        &long,
    ] {
        let problem = claim_id(body.as_bytes()).unwrap_err();
        assert_eq!(problem.status(), 400, "{body}");
        let document: serde_json::Value = serde_json::from_str(problem.body()).unwrap();
        assert_eq!((&document["status"], &document["title"]), (&400.into(), &"Bad Request".into()));
    }
    assert!(claim_id(b"\xFF").is_err());
    assert!(claim_id(&long.as_bytes()[..1]).is_err());
}

/// The status and the detail of the answer to a claim.
fn refused(error: &ManageError) -> (u16, String) {
    let answers = answers();
    let problem = answers.claim_refused(error);
    let document: serde_json::Value = serde_json::from_str(problem.body()).unwrap();
    assert_eq!(document["status"], problem.status());
    let detail = document["detail"].as_str().unwrap().to_owned();
    match problem.status() {
        401 => assert_eq!(whole(problem.clone()), UNAUTHENTICATED),
        503 => assert_eq!(problem.headers().get("retry-after"), Some("1")),
        _ => assert_eq!(problem.headers().iter().count(), 2),
    }
    (problem.status(), detail)
}

#[test]
fn a_claim_that_is_refused_says_why_to_whoever_has_the_token() {
    let bed = bed();
    let claim = |token: &str, id: &str| {
        let id = ClaimId::new(id).unwrap();
        bed.keys.by(Actor::service("api")).claim(Claim::with_token(token, id)).unwrap_err()
    };
    let idle = bed.issue("idle");
    assert_eq!(refused(&claim("key_nonsense", "sixteen bytes...")).0, 401);
    let nothing = refused(&claim(idle.token.expose(), "sixteen bytes..."));
    assert_eq!(nothing, (404, "no successor waits to be claimed".to_owned()));
    let (key, token) = waiting(&bed);
    let id = ClaimId::new("sixteen bytes...").unwrap();
    bed.keys.by(Actor::service("api")).claim(Claim::with_token(&token, id)).unwrap();
    let (status, detail) = refused(&claim(&token, "sixteen others.."));
    assert_eq!(status, 409);
    assert!(detail.starts_with("v2 was claimed already"), "{detail}");
    bed.root().revoke(Revoke::of(key)).unwrap();
    assert_eq!(refused(&claim(&token, "sixteen bytes...")).0, 401);
    let request = keyrota::RequestId::new("claim-1").unwrap();
    for (error, status) in [
        (ManageError::Lifecycle(LifecycleError::OwnerSuspended), 401),
        (ManageError::Lifecycle(LifecycleError::NotClaimable), 409),
        (ManageError::Lifecycle(LifecycleError::AlreadyClaimed { version: v(2) }), 409),
        (ManageError::OwnerLimitReached { owner: owner("ada"), limit: OwnerLimit::new(1).unwrap() }, 409),
        (ManageError::RequestReused(request.clone()), 409),
        (ManageError::AlreadyDone { request, key, version: Some(v(2)) }, 409),
        (ManageError::Busy, 503),
    ] {
        assert_eq!(refused(&error).0, status, "{error}");
    }
}

#[test]
fn a_claim_whose_outcome_is_open_is_to_be_repeated_with_its_id() {
    let store = Hooked::new();
    let clock = ManualClock::new(at(common::START));
    let keys = KeyManager::builder(store.clone(), keyring()).clock(clock.clone()).open().unwrap();
    let issued = keys.by(Actor::operator("root")).issue(new_key("ci").auto_rotation(true)).unwrap();
    for _ in 0..84 {
        clock.advance(DAY).unwrap();
        while keys.tick().unwrap().more {}
    }
    let claim = || {
        let claim = Claim::with_token(issued.token.expose(), ClaimId::new("sixteen bytes...").unwrap());
        keys.by(Actor::service("api")).claim(claim)
    };
    store.fate(&[Fate::UnknownAndDurable]);
    let (status, detail) = refused(&claim().unwrap_err());
    assert_eq!(status, 503);
    assert!(detail.contains("Repeat it with the same claim id"), "{detail}");
    assert!(claim().is_ok(), "the same claim converges");
}

fn of<'a>(authorization: &[&'a str], api_key: &[&'a str]) -> Result<&'a str, CredentialsError> {
    let found = Credentials::of(authorization.iter().copied(), api_key.iter().copied());
    found.map(Credentials::expose)
}

#[test]
fn a_token_comes_by_bearer_or_by_x_api_key_and_in_one_field_only() {
    use CredentialsError::{Malformed, Missing, Several};
    for (authorization, api_key, expected) in [
        (&["Bearer abc"][..], &[][..], Ok("abc")),
        (&["bearer abc"], &[], Ok("abc")),
        (&["BEARER abc"], &[], Ok("abc")),
        (&["bEaReR    abc"], &[], Ok("abc")),
        (&["\t Bearer abc \t"], &[], Ok("abc")),
        (&[], &["abc"], Ok("abc")),
        (&[], &[" abc\t"], Ok("abc")),
        (&["Basic dXNlcjpwYXNz"], &["abc"], Ok("abc")),
        (&["Bearer"], &["abc"], Ok("abc")),
        (&["Bearer "], &["abc"], Ok("abc")),
        (&["Bearer abc"], &[""], Ok("abc")),
        (&[], &[], Err(Missing)),
        (&[""], &[" "], Err(Missing)),
        (&["Bearer"], &[], Err(Missing)),
        (&["Basic dXNlcjpwYXNz"], &[], Err(Missing)),
        (&["abc"], &[], Err(Missing)),
        (&["Bearerabc"], &[], Err(Missing)),
        (&["Bearers abc"], &[], Err(Missing)),
        (&["Bearer abc"], &["def"], Err(Several)),
        (&["Bearer abc"], &["abc"], Err(Several)),
        (&["Bearer abc", "Bearer abc"], &[], Err(Several)),
        (&["Basic abc", "Bearer abc"], &[], Err(Several)),
        (&["Bearer abc", ""], &[], Err(Several)),
        (&[], &["abc", "abc"], Err(Several)),
        (&["Bearer abc"], &["", ""], Err(Several)),
        (&["Bearer abc def"], &[], Err(Malformed)),
        (&["Bearer abc, Bearer def"], &[], Err(Malformed)),
        (&["Bearer abc,def"], &[], Err(Malformed)),
        (&[], &["abc, def"], Err(Malformed)),
        (&[], &["abc\u{0}"], Err(Malformed)),
        (&[], &["abc\r\nX-Admin: 1"], Err(Malformed)),
        (&[], &["ключ"], Err(Malformed)),
    ] {
        assert_eq!(of(authorization, api_key), expected, "{authorization:?} {api_key:?}");
    }
    let bytes: &[u8] = b"abc\xFF";
    assert_eq!(Credentials::of([], [bytes]), Err(Malformed));
    assert!(!format!("{:?}", Credentials::of(["Bearer abc"], [])).contains("abc"));
}

/// SplitMix64: the same numbers for the same seed.
fn dice(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Whatever comes: at most one token comes out, it stands in a field as it is, and no second field changes which.
#[test]
fn credentials_are_one_whole_token_of_one_field_whatever_comes() {
    const PIECES: [&[u8]; 16] = [
        b"Bearer",
        b"bearer",
        b"Basic",
        b" ",
        b"  ",
        b"\t",
        b",",
        b"key_abc",
        b"x",
        b"=",
        b"\r\n",
        b"\0",
        b"\xC3\xA9",
        b"\xFF",
        b"\"",
        b"BEARER ",
    ];
    let mut state = 11;
    let mut found = [0; 2];
    let mut field = || {
        let length = dice(&mut state) % 6;
        (0..length).flat_map(|_| PIECES[(dice(&mut state) % 16) as usize]).copied().collect::<Vec<u8>>()
    };
    for round in 0..100_000 {
        let fields: Vec<Vec<u8>> = (0..round % 3).map(|_| field()).collect();
        let keys: Vec<Vec<u8>> = (0..round / 3 % 3).map(|_| field()).collect();
        let Ok(credentials) = Credentials::of(&fields, &keys) else {
            found[0] += 1;
            continue;
        };
        found[1] += 1;
        let token = credentials.expose();
        assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','));
        assert!(fields.len() < 2 && keys.len() < 2, "{fields:?} {keys:?}");
        let is_key = keys.iter().any(|key| key.trim_ascii() == token.as_bytes());
        let is_bearer = fields.iter().any(|value| {
            let text = String::from_utf8_lossy(value).trim().to_owned();
            let scheme = text.to_ascii_lowercase().starts_with("bearer ");
            scheme && text[7..].trim() == token
        });
        assert!(is_key != is_bearer, "{fields:?} {keys:?}: {token}");
        for second in [vec![b"x".to_vec()], vec![Vec::new()]] {
            let fields = [fields.clone(), second.clone()].concat();
            let keys = [keys.clone(), second].concat();
            assert!(fields.len() == 1 || Credentials::of(&fields, &keys).is_err());
            assert!(keys.len() == 1 || Credentials::of(&fields, &keys).is_err());
        }
    }
    assert!(found.iter().all(|count| *count > 4_000), "{found:?}");
}

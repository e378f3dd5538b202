//! The layer without a server: what it does with other layers, and with what the service answers by itself.

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum_service::tower_layer::KeyLayer;
use http::{HeaderMap, Request, Response};
use keyrota::http::Answers;
use keyrota::{Actor, KeyId, KeyManager, Keyring, Limits, MemoryStore, NewKey, OwnerId};
use tower_layer::Layer;
use tower_service::Service;

const OWN_WARNING: &str = "199 - \"the orders of yesterday\"";

/// Answers with fields of its own, and in its body with what `Debug` shows of the request's.
#[derive(Clone)]
struct Orders;

impl Service<Request<()>> for Orders {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let shown = format!("{:?}", request.headers());
        let own = Response::builder().header("Warning", OWN_WARNING).header("Sunset", "never");
        ready(Ok(own.body(shown).unwrap()))
    }
}

struct Bed {
    keys: KeyManager,
    layer: KeyLayer,
    key: KeyId,
    token: String,
}

fn bed(limits: &str) -> Bed {
    let keys = KeyManager::open(MemoryStore::new(), Keyring::generate().unwrap()).unwrap();
    let new = NewKey::new(OwnerId::new("ada").unwrap(), "ci").unwrap();
    let new = new.scopes(["orders:read"].try_into().unwrap()).limits(limits.parse::<Limits>().unwrap());
    let issued = keys.by(Actor::operator("root")).issue(new).unwrap();
    let layer = KeyLayer::new(keys.validator().unwrap(), Answers::new("orders").unwrap());
    Bed { keys, layer, key: issued.key, token: issued.token.expose().to_owned() }
}

/// Nothing here waits, so that an answer is there at once.
fn ask<S>(service: &mut S, token: &str) -> Response<String>
where
    S: Service<Request<()>, Response = Response<String>, Error = Infallible>,
{
    let request = Request::builder().header("X-API-Key", token).body(()).unwrap();
    match pin!(service.call(request)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => panic!("the layer waits"),
    }
}

fn values<'a>(fields: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    fields.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn a_guard_of_all_routes_and_one_of_a_route_charge_and_tell_once() {
    let bed = bed("3/min");
    let mut both = bed.layer.layer(bed.layer.scope("orders:read".parse().unwrap()).layer(Orders));
    for left in ["2", "1", "0"] {
        let answer = ask(&mut both, &bed.token);
        assert_eq!(answer.status(), 200);
        let told = values(answer.headers(), "ratelimit");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("\"default\";r={left};")), "{told:?}");
    }
    assert_eq!(ask(&mut both, &bed.token).status(), 429);
}

#[test]
fn a_guard_of_a_route_inside_of_one_of_all_routes_still_demands_its_scope() {
    let bed = bed("none");
    let mut both = bed.layer.layer(bed.layer.scope("orders:write".parse().unwrap()).layer(Orders));
    assert_eq!(ask(&mut both, &bed.token).status(), 403);
}

#[test]
fn a_request_costs_what_its_guard_says() {
    let bed = bed("10/min");
    let mut dear = bed.layer.cost(4).layer(Orders);
    assert_eq!([(); 3].map(|()| ask(&mut dear, &bed.token).status().as_u16()), [200, 200, 429]);
    let mut free = bed.layer.cost(0).layer(Orders);
    assert_eq!(ask(&mut free, &bed.token).status(), 200);
}

#[test]
fn what_the_service_answers_by_itself_stands_beside_lists_and_gives_way_to_the_rest() {
    let bed = bed("none");
    let mut service = bed.layer.layer(Orders);
    assert_eq!(values(ask(&mut service, &bed.token).headers(), "sunset"), ["never"]);
    bed.keys.by(Actor::operator("root")).rotate(bed.key).unwrap();
    let answer = ask(&mut service, &bed.token);
    let told = "299 - \"API key is deprecated and will be revoked soon\"";
    assert_eq!(values(answer.headers(), "warning"), [OWN_WARNING, told]);
    let sunset = values(answer.headers(), "sunset");
    assert!(sunset.len() == 1 && sunset[0].ends_with(" GMT"), "{sunset:?}");
}

#[test]
fn what_is_behind_the_layer_does_not_show_the_key_in_its_debug() {
    let bed = bed("none");
    let answer = ask(&mut bed.layer.layer(Orders), &bed.token);
    assert!(answer.body().contains("Sensitive") && !answer.body().contains(&bed.token), "{}", answer.body());
}

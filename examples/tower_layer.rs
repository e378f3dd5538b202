//! API keys in front of any `tower` service: axum's routes, a hyper server, a client of your own. One file to copy.
//!
//! [`KeyLayer`] validates each request before its service is called. What is granted goes on with the [`Grant`] among its
//! extensions, and its answer is told of deprecation, a waiting successor and limits; what is denied never reaches the
//! service.
//!
//! **Blocking.** Validation is called directly: it is a hash and a look into memory, takes no lock and does no I/O, and a
//! way over a blocking pool would take longer than it does. Only when another commit has come in, one caller reads what
//! has changed, and those that come meanwhile wait for it: mostly some microseconds. Everything else of the library
//! writes to a disk, or may; it belongs on a blocking pool. This file needs no runtime, boxes nothing and spawns nothing.
//!
//! Run it with `cargo run --example tower_layer`. `examples/axum_service` uses this very file, and its tests serve it
//! under axum and under hyper.
#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, Ready, ready};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use keyrota::http::{Answers, Credentials, Headers, Problem};
use keyrota::{Actor, Demand, Grant, KeyManager, Keyring, MemoryStore, NewKey, OwnerId, Scope, Validator};
use tower_layer::Layer;
use tower_service::Service;

/// What is demanded of a request, and how it is answered.
#[derive(Clone)]
struct Guard {
    validator: Validator,
    answers: Answers,
    scope: Option<Scope>,
    cost: u32,
    source: fn(&Extensions) -> Option<IpAddr>,
}

/// Puts a guard in front of services. Cheap to clone.
#[derive(Clone)]
pub struct KeyLayer {
    guard: Arc<Guard>,
}

impl KeyLayer {
    /// Demands a valid token; a request counts as one use, and comes from no known address.
    pub fn new(validator: Validator, answers: Answers) -> Self {
        Self { guard: Arc::new(Guard { validator, answers, scope: None, cost: 1, source: |_| None }) }
    }

    /// The same, demanding a scope as well: one for each route. A token without it is denied before it is charged.
    #[must_use]
    pub fn scope(&self, scope: Scope) -> Self {
        self.with(|guard| guard.scope = Some(scope))
    }

    /// The same, where a request counts as so many uses.
    #[must_use]
    pub fn cost(&self, uses: u32) -> Self {
        self.with(|guard| guard.cost = uses)
    }

    /// The same, taking the client's address from there. Without it, keys that have networks are denied. Behind a proxy,
    /// tell what your proxy tells you, and only if nobody else can tell you so.
    #[must_use]
    pub fn source(&self, source: fn(&Extensions) -> Option<IpAddr>) -> Self {
        self.with(|guard| guard.source = source)
    }

    fn with(&self, change: impl FnOnce(&mut Guard)) -> Self {
        let mut guard = Guard::clone(&self.guard);
        change(&mut guard);
        Self { guard: Arc::new(guard) }
    }
}

impl<S> Layer<S> for KeyLayer {
    type Service = KeyService<S>;
    fn layer(&self, inner: S) -> KeyService<S> {
        KeyService { inner, guard: self.guard.clone() }
    }
}

/// A service behind a guard.
#[derive(Clone)]
pub struct KeyService<S> {
    inner: S,
    guard: Arc<Guard>,
}

impl<S, B, R> Service<Request<B>> for KeyService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    // What a problem document becomes a body by; axum's `Body` and `http_body_util::Full` have it.
    R: From<Cow<'static, str>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Answer<S::Future, R>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.guard.admit(&mut request) {
            Ok(grant) => {
                let told = grant.map(|grant| (grant, self.guard.clone()));
                Answer { state: State::Granted { answer: self.inner.call(request), told } }
            }
            Err(problem) => Answer { state: State::Denied { answer: Some(respond(problem)) } },
        }
    }
}

impl Guard {
    /// Validates the request; what comes back is the grant of which its answer is to be told.
    fn admit<B>(&self, request: &mut Request<B>) -> Result<Option<Grant>, Problem<'_>> {
        for field in ["authorization", "x-api-key"] {
            if let http::header::Entry::Occupied(mut values) = request.headers_mut().entry(field) {
                // From here on they are left out of every `Debug`, and of what HTTP/2 remembers.
                values.iter_mut().for_each(|value| value.set_sensitive(true));
            }
        }
        let fields = request.headers();
        let credentials = Credentials::of(fields.get_all("authorization"), fields.get_all("x-api-key"))
            .map_err(|error| self.answers.without_credentials(error))?;
        // A guard in front of all routes has charged and told already what this one, of a single route, would again.
        let is_inner = request.extensions().get::<Grant>().is_some();
        let demand = self.scope.as_ref().map_or(Demand::NOTHING, Demand::scope);
        let mut demand = demand.cost(if is_inner { 0 } else { self.cost });
        if let Some(address) = (self.source)(request.extensions()) {
            demand = demand.from(address);
        }
        let grant = self
            .validator
            .validate_for(credentials.expose(), demand)
            .map_err(|denial| self.answers.denied(&denial, self.scope.as_ref()))?;
        request.extensions_mut().insert(grant);
        Ok((!is_inner).then_some(grant))
    }
}

pin_project_lite::pin_project! {
    /// The answer to a request: the service's own, with what it is told, or the guard's.
    pub struct Answer<F, R> {
        #[pin]
        state: State<F, R>,
    }
}

pin_project_lite::pin_project! {
    #[project = StateParts]
    enum State<F, R> {
        Granted { #[pin] answer: F, told: Option<(Grant, Arc<Guard>)> },
        Denied { answer: Option<Response<R>> },
    }
}

impl<F, R, E> Future for Answer<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateParts::Granted { answer, told } => {
                let mut response = ready!(answer.poll(context))?;
                if let Some((grant, guard)) = told {
                    add(response.headers_mut(), guard.answers.granted(grant));
                }
                Poll::Ready(Ok(response))
            }
            // Whoever asks again after the answer waits for ever; no caller may.
            StateParts::Denied { answer } => {
                answer.take().map_or(Poll::Pending, |answer| Poll::Ready(Ok(answer)))
            }
        }
    }
}

/// An answer as the `http` crate has it.
pub fn respond<R: From<Cow<'static, str>>>(problem: Problem<'_>) -> Response<R> {
    let (status, headers, body) = problem.into_parts();
    let mut response = Response::new(R::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    add(response.headers_mut(), headers);
    response
}

/// Adds fields to those of an answer.
pub fn add(to: &mut HeaderMap, headers: Headers<'_>) {
    for header in headers {
        let name = HeaderName::from_static(header.name());
        let is_list = header.is_list();
        let value = match header.into_value() {
            Cow::Borrowed(text) => HeaderValue::from_str(text),
            Cow::Owned(text) => HeaderValue::try_from(text),
        };
        let Ok(value) = value else { continue };
        if is_list {
            to.append(name, value);
        } else {
            to.insert(name, value);
        }
    }
}

/// A service that needs no server: it says whose request it was.
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
        let owner = request.extensions().get::<Grant>().map(Grant::owner);
        ready(Ok(Response::new(owner.map_or_else(String::new, |owner| format!("the orders of {owner}")))))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let keys = KeyManager::open(MemoryStore::new(), Keyring::generate()?)?;
    let root = || keys.by(Actor::operator("root"));
    let new = NewKey::new(OwnerId::new("ada")?, "ci")?.scopes(["orders:read"].try_into()?);
    let issued = root().issue(new)?;

    let layer = KeyLayer::new(keys.validator()?, Answers::new("orders")?);
    let mut reading = layer.scope("orders:read".parse()?).layer(Orders);
    let mut writing = layer.scope("orders:write".parse()?).layer(Orders);

    let bearer = format!("Bearer {}", issued.token.expose());
    show("without a key", &mut reading, Request::new(()));
    show("with a key", &mut reading, Request::builder().header("Authorization", &bearer).body(())?);
    show("for another scope", &mut writing, Request::builder().header("Authorization", &bearer).body(())?);
    root().rotate(issued.key)?;
    show("after a rotation", &mut reading, Request::builder().header("Authorization", &bearer).body(())?);
    root().revoke(issued.key)?;
    show("after a revocation", &mut reading, Request::builder().header("Authorization", &bearer).body(())?);
    Ok(())
}

/// Asks once; nothing here ever waits, so that no runtime is needed.
fn show(
    what: &str,
    service: &mut impl Service<Request<()>, Response = Response<String>, Error = Infallible>,
    request: Request<()>,
) {
    let answer = pin!(service.call(request));
    if let Poll::Ready(Ok(response)) = answer.poll(&mut Context::from_waker(Waker::noop())) {
        println!("\n── {what}: {}", response.status());
        for (name, value) in response.headers() {
            println!("{name}: {}", value.to_str().unwrap_or("(not text)"));
        }
        println!("{}", response.body());
    }
}

//! API keys in front of actix's routes: one file to copy.
//!
//! [`KeyGuard`] validates each request before its handler is called, in place. What is granted goes on with the [`Grant`]
//! among its extensions, and its answer is told of deprecation, a waiting successor and limits; what is denied never
//! reaches the handler. Nothing is boxed but the body of a problem document.

use std::borrow::Cow;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{Error, HttpMessage, HttpResponse};
use keyrota::http::{Answers, Credentials, Headers, Problem};
use keyrota::{Demand, Grant, Scope, Validator};

/// What is demanded of a request, and how it is answered.
#[derive(Clone)]
struct Demands {
    validator: Validator,
    answers: Answers,
    scope: Option<Scope>,
    cost: u32,
}

/// Stands in front of a route, a scope or an application: `.wrap(guard)`. Cheap to clone.
#[derive(Clone)]
pub struct KeyGuard {
    demands: Arc<Demands>,
}

impl KeyGuard {
    /// Demands a valid token; a request counts as one use. The client's address is the connection's: behind a proxy, take
    /// in its place what your proxy tells you, and only if nobody else can tell you so.
    pub fn new(validator: Validator, answers: Answers) -> Self {
        Self { demands: Arc::new(Demands { validator, answers, scope: None, cost: 1 }) }
    }

    /// The same, demanding a scope as well: one for each route. A token without it is denied before it is charged.
    #[must_use]
    pub fn scope(&self, scope: Scope) -> Self {
        self.with(|demands| demands.scope = Some(scope))
    }

    /// The same, where a request counts as so many uses.
    #[must_use]
    pub fn cost(&self, uses: u32) -> Self {
        self.with(|demands| demands.cost = uses)
    }

    fn with(&self, change: impl FnOnce(&mut Demands)) -> Self {
        let mut demands = Demands::clone(&self.demands);
        change(&mut demands);
        Self { demands: Arc::new(demands) }
    }
}

impl<S, B> Transform<S, ServiceRequest> for KeyGuard
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = Guarded<S>;
    type InitError = ();
    type Future = Ready<Result<Guarded<S>, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(Guarded { inner, demands: self.demands.clone() }))
    }
}

/// A service behind a guard.
pub struct Guarded<S> {
    inner: S,
    demands: Arc<Demands>,
}

impl<S, B> Service<ServiceRequest> for Guarded<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = Answer<S::Future, B>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&self, mut request: ServiceRequest) -> Self::Future {
        for field in ["authorization", "x-api-key"] {
            if let Some(value) = request.headers_mut().get_mut(field) {
                // From here on it is left out of every `Debug`.
                value.set_sensitive(true);
            }
        }
        match self.demands.admit(&request) {
            Ok(grant) => {
                let told = grant.map(|grant| (grant, self.demands.clone()));
                Answer { state: State::Granted { answer: self.inner.call(request), told } }
            }
            Err(problem) => {
                let response = request.into_response(respond(problem)).map_into_right_body();
                Answer { state: State::Denied { answer: Some(response) } }
            }
        }
    }
}

impl Demands {
    /// Validates the request; what comes back is the grant of which its answer is to be told.
    fn admit(&self, request: &ServiceRequest) -> Result<Option<Grant>, Problem<'_>> {
        let fields = request.headers();
        let credentials = Credentials::of(fields.get_all("authorization"), fields.get_all("x-api-key"))
            .map_err(|error| self.answers.without_credentials(error))?;
        // A guard in front of all routes has charged and told already what this one, of a single route, would again.
        let is_inner = request.extensions().get::<Grant>().is_some();
        let demand = self.scope.as_ref().map_or(Demand::NOTHING, Demand::scope);
        let mut demand = demand.cost(if is_inner { 0 } else { self.cost });
        if let Some(peer) = request.peer_addr() {
            demand = demand.from(peer.ip());
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
    pub struct Answer<F, B> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project_lite::pin_project! {
    #[project = StateParts]
    enum State<F, B> {
        Granted { #[pin] answer: F, told: Option<(Grant, Arc<Demands>)> },
        Denied { answer: Option<ServiceResponse<EitherBody<B>>> },
    }
}

impl<F, B> Future for Answer<F, B>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
    B: MessageBody,
{
    type Output = Result<ServiceResponse<EitherBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateParts::Granted { answer, told } => {
                let mut response = ready!(answer.poll(context))?.map_into_left_body();
                if let Some((grant, demands)) = told {
                    add(response.headers_mut(), demands.answers.granted(grant));
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

/// An answer as actix has it.
pub fn respond(problem: Problem<'_>) -> HttpResponse {
    let (status, headers, body) = problem.into_parts();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = match body {
        Cow::Borrowed(body) => HttpResponse::build(status).body(body),
        Cow::Owned(body) => HttpResponse::build(status).body(body),
    };
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

//! The layer alone, in front of a service of hyper's, without any framework.

#[path = "../../over_http/mod.rs"]
mod over_http;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::thread::JoinHandle;

use axum_service::tower_layer::KeyLayer;
use http::{Extensions, Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use keyrota::Grant;
use keyrota::http::Answers;
use over_http::stage::Parts;
use tower_layer::Layer;
use tower_service::Service;

#[derive(Clone, Copy)]
struct Peer(IpAddr);

fn peer(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<Peer>().map(|Peer(address)| *address)
}

/// What stands behind the layer, and says whether it was let through without a grant.
#[derive(Clone)]
struct Orders;

impl Service<Request<Incoming>> for Orders {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let is_granted = request.extensions().get::<Grant>().is_some();
        std::future::ready(Ok(Response::new(Full::from(if is_granted { "[]" } else { "nobody" }))))
    }
}

/// Says where the connection comes from.
#[derive(Clone)]
struct WithPeer<S>(S, Peer);

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for WithPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Incoming>) -> S::Future {
        request.extensions_mut().insert(self.1);
        self.0.call(request)
    }
}

fn start(parts: Parts) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(serve(parts));
    })
}

async fn serve(parts: Parts) {
    let answers = Answers::new("orders").unwrap().claim_at("/keys/current/claim").unwrap();
    let layer = KeyLayer::new(parts.validator, answers).source(peer).scope("orders:read".parse().unwrap());
    parts.listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(parts.listener).unwrap();
    let mut stop = parts.stop;
    loop {
        let (stream, address): (_, SocketAddr) = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            _ = &mut stop => return,
        };
        let service = WithPeer(layer.layer(Orders), Peer(address.ip()));
        tokio::spawn(async move {
            let mut server = hyper::server::conn::http1::Builder::new();
            // A client that goes away is not the server's failure.
            drop(
                server
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                    .await,
            );
        });
    }
}

answers!(start);

//! A receiver that a service would have: hyper, with or without TLS.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, server::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A status, and a header beside it.
pub(crate) type Answer = (u16, Option<(&'static str, String)>);

type Answers = Box<dyn FnMut(&Received) -> (Answer, String) + Send>;

#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    answers: Arc<Mutex<Answers>>,
}

impl Receiver {
    pub(crate) fn new(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let receiver = Self {
            address: listener.local_addr().unwrap(),
            received: Arc::default(),
            answers: Arc::new(Mutex::new(Box::new(|_| ((204, None), String::new())))),
        };
        let served = receiver.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(served.serve(listener, tls));
        });
        receiver
    }

    async fn serve(self, listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let acceptor = tls.map(TlsAcceptor::from);
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (receiver, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                let service = service_fn(|request| receiver.take(request));
                // Whoever gives up on the way is none of the receiver's business.
                match acceptor {
                    Some(acceptor) => {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    }
                    None => {
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    }
                }
            });
        }
    }

    async fn take(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        let received = Received {
            method: parts.method.to_string(),
            path: parts.uri.to_string(),
            headers: parts.headers.iter().map(header).collect(),
            body: body.collect().await.unwrap().to_bytes().to_vec(),
        };
        let ((status, header), body) = (self.answers.lock().unwrap())(&received);
        self.received.lock().unwrap().push(received);
        let mut answer = Response::builder().status(status);
        if let Some((name, value)) = header {
            answer = answer.header(name, value);
        }
        Ok(answer.body(Full::from(body)).unwrap())
    }

    /// Answers like this from now on.
    pub(crate) fn answers(&self, mut answers: impl FnMut(&Received) -> Answer + Send + 'static) {
        *self.answers.lock().unwrap() = Box::new(move |received| (answers(received), String::new()));
    }

    /// Answers with a status and a body from now on.
    pub(crate) fn serves(&self, mut serves: impl FnMut(&Received) -> (u16, String) + Send + 'static) {
        *self.answers.lock().unwrap() = Box::new(move |received| {
            let (status, body) = serves(received);
            ((status, None), body)
        });
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}/hooks/keys?of=ada", self.address.port())
    }
}

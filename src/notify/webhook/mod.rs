//! Telling by HTTP: each notification is a signed request to one URL (Standard Webhooks).

mod address;
mod answer;
mod body;
mod receiver;
mod resolve;
mod signing;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::Resolver;
use ureq::unversioned::transport::DefaultConnector;

use crate::clock::{Clock, SystemClock};
use crate::network::Networks;
use crate::notification::Notification;
use crate::notify::{Notifier, NotifyError};

pub use receiver::{WebhookHeaders, WebhookRefused, WebhookVerifier};
use resolve::{AddressRefused, CheckedResolver, SystemLookup};
pub use signing::{WebhookSecret, WebhookSecretError};

/// After a minute another process may try the same notification.
const LONGEST: Duration = Duration::from_secs(45);
const USER_AGENT: &str = concat!("keyrota/", env!("CARGO_PKG_VERSION"));
/// What is read of an answer: its status and its headers, in so many bytes.
const HEADERS: usize = 16 * 1024;

/// A webhook cannot be made of what was given. No part of the URL is told: it may hold a secret.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// The text is not an absolute URL of `http` or `https`, or longer than 2048 bytes.
    #[error("the webhook's URL is not an absolute URL of http or https of at most 2048 bytes")]
    Url,
    /// The URL is of `http`, and that was not allowed.
    #[error("the webhook's URL is not of https; allow_http allows http where nobody listens")]
    NotHttps,
    /// The URL names a user or a password, which would be sent to whoever is there, and shown where URLs are shown.
    #[error("the webhook's URL names a user or a password; webhooks are signed instead")]
    UserInfo,
    /// The text holds no certificate in the PEM form.
    #[error("the trusted certificates hold none in the PEM form, or one that cannot be read")]
    Certificates,
    /// A time limit is zero or longer than 45 seconds.
    #[error("a time limit is zero or longer than 45 seconds, after which another process may try as well")]
    TimeLimit,
}

crate::text::debug_as_told!(WebhookError);

/// Tells notifications by HTTP `POST`, signed as [Standard Webhooks](https://www.standardwebhooks.com) says.
///
/// The body is the notification's [JSON form](Notification#json). Where it tells both of a rotation's fingerprints, they
/// are also in `old_key` and `new_key`, with the time in `timestamp`. `webhook-id` is the notification's id.
///
/// * **Where to:** `https`, unless [`allow_http`](WebhookBuilder::allow_http); to addresses of the public internet, unless
///   [`allow_networks`](WebhookBuilder::allow_networks). All addresses of a name are checked, and a checked one is
///   connected to. Redirections are not followed, and proxies that the environment names are not used.
/// * **How long:** 5 seconds to connect and 15 in all. Of the answer only the status and `Retry-After` are read.
/// * **What an answer means:** 2xx is told. 410 (gone), 413, 415 and 422 are refused for good. Everything else is tried
///   again, and so is what gets no answer; `Retry-After` is honoured, up to a day.
///
/// Each request has a connection of its own; its name is looked up in a thread that ends with the lookup.
#[derive(Clone)]
pub struct Webhook {
    agent: Agent,
    url: Uri,
    secrets: Vec<WebhookSecret>,
    clock: Arc<dyn Clock>,
}

/// Settings of a [`Webhook`].
#[must_use]
pub struct WebhookBuilder {
    url: String,
    secrets: Vec<WebhookSecret>,
    clock: Arc<dyn Clock>,
    http: bool,
    networks: Option<Networks>,
    certificates: Option<String>,
    to_connect: Duration,
    in_all: Duration,
}

impl Webhook {
    /// A webhook to this URL, signed by this secret.
    pub fn builder(url: impl Into<String>, secret: WebhookSecret) -> WebhookBuilder {
        WebhookBuilder {
            url: url.into(),
            secrets: vec![secret],
            clock: Arc::new(SystemClock),
            http: false,
            networks: None,
            certificates: None,
            to_connect: Duration::from_secs(5),
            in_all: Duration::from_secs(15),
        }
    }
}

impl WebhookBuilder {
    /// Signs by this secret as well, until all receivers verify by the other one.
    pub fn also_signed_by(mut self, secret: WebhookSecret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// Allows `http`: whoever listens on the way can read it, and nobody can change it unnoticed.
    pub fn allow_http(mut self) -> Self {
        self.http = true;
        self
    }

    /// Allows addresses that are not public, within these networks: a receiver of your own, `127.0.0.1` in a test. Not
    /// for URLs that others give you.
    pub fn allow_networks(mut self, networks: Networks) -> Self {
        self.networks = Some(networks);
        self
    }

    /// Trusts these authorities, in the PEM form, and no others. Default: those that Mozilla trusts.
    pub fn trust_only(mut self, pem: impl Into<String>) -> Self {
        self.certificates = Some(pem.into());
        self
    }

    /// How long to wait at most until a connection stands, its name looked up and TLS agreed upon; and how long in all,
    /// 45 seconds at most. Default: 5 and 15 seconds.
    pub fn time_limits(mut self, to_connect: Duration, in_all: Duration) -> Self {
        (self.to_connect, self.in_all) = (to_connect, in_all);
        self
    }

    /// The clock by which requests are dated. Default: the system's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The webhook.
    ///
    /// # Errors
    /// [`WebhookError`].
    pub fn build(self) -> Result<Webhook, WebhookError> {
        self.build_with(SystemLookup::default())
    }

    fn build_with(self, lookup: impl Resolver) -> Result<Webhook, WebhookError> {
        let url = parse(&self.url)?;
        if url.scheme_str() == Some("http") && !self.http {
            return Err(WebhookError::NotHttps);
        }
        if [self.to_connect, self.in_all].iter().any(|limit| limit.is_zero() || *limit > LONGEST) {
            return Err(WebhookError::TimeLimit);
        }
        let roots = roots(self.certificates.as_deref())?;
        let config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .https_only(!self.http)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(USER_AGENT)
            .max_response_header_size(HEADERS)
            .max_idle_connections(0)
            .timeout_resolve(Some(self.to_connect))
            .timeout_connect(Some(self.to_connect))
            .timeout_global(Some(self.in_all))
            .build();
        let resolver = CheckedResolver { lookup, allowed: self.networks };
        let agent = Agent::with_parts(config, DefaultConnector::new(), resolver);
        Ok(Webhook { agent, url, secrets: self.secrets, clock: self.clock })
    }
}

/// A URL that can be posted to.
fn parse(text: &str) -> Result<Uri, WebhookError> {
    let is_plain =
        text.len() <= 2_048 && text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains('#');
    let url: Uri = text.parse().map_err(|_| WebhookError::Url)?;
    let authority = url.authority().ok_or(WebhookError::Url)?;
    if authority.as_str().contains('@') {
        return Err(WebhookError::UserInfo);
    }
    // What the parser makes of a port that is none is none.
    let port = authority.as_str().get(authority.host().len()..).unwrap_or_default();
    let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let is_known = matches!(url.scheme_str(), Some("http" | "https"));
    (is_plain && is_known && has_port && !authority.host().is_empty()).then_some(url).ok_or(WebhookError::Url)
}

/// Whom to believe: these and nobody else, or else whom Mozilla does.
fn roots(pem: Option<&str>) -> Result<RootCerts, WebhookError> {
    pem.map_or(Ok(RootCerts::WebPki), |pem| Ok(RootCerts::new_with_certs(&certificates(pem)?)))
}

fn certificates(pem: &str) -> Result<Vec<Certificate<'static>>, WebhookError> {
    let mut found = Vec::new();
    for item in parse_pem(pem.as_bytes()) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| WebhookError::Certificates)? {
            found.push(certificate);
        }
    }
    (!found.is_empty()).then_some(found).ok_or(WebhookError::Certificates)
}

impl Notifier for Webhook {
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let (id, body) = (notification.id.to_string(), body::body(notification));
        let timestamp = self.clock.now().unix_seconds().to_string();
        let signature = signing::signatures(&self.secrets, &id, &timestamp, &body);
        let request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json")
            .header("connection", "close")
            .header("webhook-id", &id)
            .header("webhook-timestamp", &timestamp)
            .header("webhook-signature", &signature);
        let answer = request.send(&body).map_err(|error| NotifyError::retry(why(error)))?;
        let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        answer::judge(answer.status().as_u16(), retry_after, self.clock.now())
    }
}

/// Why there was no answer, without the URL and without what the receiver has sent.
fn why(error: ureq::Error) -> String {
    use ureq::Error::{HostNotFound, Io, LargeResponseHeader, Other, Protocol, Rustls, Timeout};
    match error {
        Timeout(_) => "the receiver did not answer in time".to_owned(),
        HostNotFound => "the receiver's name leads nowhere".to_owned(),
        LargeResponseHeader(..) => "the receiver's answer is too large".to_owned(),
        Protocol(_) => "the receiver's answer is not HTTP".to_owned(),
        Other(error) if error.is::<AddressRefused>() => error.to_string(),
        Rustls(error) => format!("no TLS with the receiver: {error}"),
        // What TLS refuses comes in this kind.
        Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            format!("no TLS with the receiver: {error}")
        }
        Io(error) => format!("no connection with the receiver: {}", error.kind()),
        _ => "the receiver was not reached".to_owned(),
    }
}

/// Of the URL only the host: its path may be what others must not know.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("host", &self.url.host()).finish_non_exhaustive()
    }
}

impl fmt::Debug for WebhookBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookBuilder").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! What a webhook connects to, by whatever name; the rest is tested against real receivers elsewhere.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ureq::config::Config;
use ureq::unversioned::resolver::ResolvedSocketAddrs;
use ureq::unversioned::transport::NextTimeout;

use super::*;
use crate::notification::NotificationKind;
use crate::time::Timestamp;

fn secret() -> WebhookSecret {
    WebhookSecret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap()
}

fn told() -> Notification {
    let at = Timestamp::from_unix_micros(1_798_761_600_000_000).unwrap();
    Notification::new(at, NotificationKind::Alarm).identified("x")
}

fn networks(texts: &[&str]) -> Networks {
    Networks::new(texts.iter().map(|text| text.parse().unwrap())).unwrap()
}

/// A name server that answers the questions one after the other, the last answer for ever.
#[derive(Debug)]
struct Answers(Vec<Vec<SocketAddr>>, AtomicUsize);

impl Answers {
    fn new(answers: &[&[SocketAddr]]) -> Arc<Self> {
        Arc::new(Self(answers.iter().map(|answer| answer.to_vec()).collect(), AtomicUsize::new(0)))
    }
}

#[derive(Debug)]
struct Lookup(Arc<Answers>);

impl Resolver for Lookup {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let Answers(answers, asked) = &*self.0;
        let asked = asked.fetch_add(1, Ordering::SeqCst);
        let mut found = self.empty();
        answers[asked.min(answers.len() - 1)].iter().for_each(|address| found.push(*address));
        Ok(found)
    }
}

/// Answers 204 to everybody, and counts them.
fn receiver(address: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(address).unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let mut request = Vec::new();
            let mut buffer = [0; 4_096];
            while !request.ends_with(b"}") {
                let read = stream.read(&mut buffer).unwrap_or(0);
                request.extend_from_slice(&buffer[..read]);
                if read == 0 {
                    break;
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n");
        }
    });
    (address, count)
}

fn refused(told: Result<(), NotifyError>) -> bool {
    told == Err(NotifyError::retry(AddressRefused.to_string()))
}

#[test]
fn no_spelling_of_an_inner_address_is_connected_to_unless_it_is_allowed() {
    let (address, count) = receiver("127.0.0.1:0");
    let port = address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "0.0.0.0",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "10.0.0.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
    ] {
        let webhook = Webhook::builder(format!("http://{host}:{port}/"), secret()).allow_http();
        let answer = webhook.build().unwrap().notify(&told());
        let not_found = answer == Err(NotifyError::retry("the receiver's name leads nowhere"));
        let unknown =
            matches!(&answer, Err(NotifyError::Retry { why, .. }) if why.starts_with("no connection"));
        // Some systems do not know some of the spellings.
        assert!(refused(answer.clone()) || not_found || unknown, "{host}: {answer:?}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0, "nothing has connected");

    let allowed = |texts: &[&str]| {
        let webhook = Webhook::builder(format!("http://127.0.0.1:{port}/"), secret()).allow_http();
        webhook.allow_networks(networks(texts)).build().unwrap().notify(&told())
    };
    assert!(refused(allowed(&["127.0.0.2"])));
    assert_eq!(allowed(&["127.0.0.0/8"]), Ok(()));
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn a_name_that_leads_to_one_bad_address_among_good_ones_is_refused_whole() {
    let (address, count) = receiver("127.0.0.1:0");
    let inner = SocketAddr::new("169.254.169.254".parse().unwrap(), 80);
    for answer in [vec![inner, address], vec![address, inner]] {
        let answers = Answers::new(&[&answer]);
        let webhook = Webhook::builder("http://receiver.example/", secret()).allow_http();
        let webhook = webhook.allow_networks(networks(&["127.0.0.1"])).build_with(Lookup(answers)).unwrap();
        assert!(refused(webhook.notify(&told())));
    }
    let nothing = Webhook::builder("http://receiver.example/", secret()).allow_http();
    assert!(refused(nothing.build_with(Lookup(Answers::new(&[&[]]))).unwrap().notify(&told())));
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[test]
fn a_name_is_looked_up_once_for_each_request_and_the_address_that_was_checked_is_connected_to() {
    let ((first, of_first), (second, of_second)) = (receiver("127.0.0.1:0"), receiver("127.0.0.2:0"));
    let answers = Answers::new(&[&[first], &[second]]);
    let webhook = Webhook::builder("http://receiver.example/", secret()).allow_http();
    let webhook = webhook.allow_networks(networks(&["127.0.0.1"]));
    let webhook = webhook.build_with(Lookup(Arc::clone(&answers))).unwrap();
    assert_eq!(webhook.notify(&told()), Ok(()));
    assert_eq!(answers.1.load(Ordering::SeqCst), 1, "not asked again between check and connection");
    assert!(
        refused(webhook.notify(&told())),
        "what was checked for the last request is not good for this one"
    );
    assert_eq!((of_first.load(Ordering::SeqCst), of_second.load(Ordering::SeqCst)), (1, 0));
}

#[test]
fn a_url_is_absolute_of_https_and_without_a_user() {
    let of = |url: &str| Webhook::builder(url, secret()).build().map(drop);
    for good in [
        "https://example.com",
        "https://example.com/a/b?c=d",
        "HTTPS://example.com:8443/",
        "https://[2606:4700::1]/",
    ] {
        assert_eq!(of(good), Ok(()), "{good}");
    }
    for (bad, error) in [
        ("", WebhookError::Url),
        ("example.com", WebhookError::Url),
        ("/path", WebhookError::Url),
        ("https:///path", WebhookError::Url),
        ("https://", WebhookError::Url),
        ("ftp://example.com/", WebhookError::Url),
        ("file:///etc/passwd", WebhookError::Url),
        ("https://example.com/#x", WebhookError::Url),
        ("https://example.com/\r\nX: y", WebhookError::Url),
        ("https://example.com/ x", WebhookError::Url),
        ("https://exämple.com/", WebhookError::Url),
        ("https://example.com:99999/", WebhookError::Url),
        ("https://example.com:/", WebhookError::Url),
        ("https://user@example.com/", WebhookError::UserInfo),
        ("https://user:pass@example.com/", WebhookError::UserInfo),
        ("https://example.com@127.0.0.1/", WebhookError::UserInfo),
        ("https://@example.com/", WebhookError::UserInfo),
        ("http://example.com/", WebhookError::NotHttps),
    ] {
        assert_eq!(of(bad), Err(error), "{bad:?}");
    }
    let long = format!("https://example.com/{}", "x".repeat(2_048));
    assert_eq!(of(&long), Err(WebhookError::Url));
    assert_eq!(Webhook::builder("http://example.com/", secret()).allow_http().build().map(drop), Ok(()));
}

#[test]
fn limits_and_certificates_are_checked_when_it_is_made() {
    let base = || Webhook::builder("https://example.com", secret());
    let second = Duration::from_secs(1);
    for (connect, all) in
        [(Duration::ZERO, second), (second, Duration::ZERO), (second, 46 * second), (46 * second, second)]
    {
        assert_eq!(base().time_limits(connect, all).build().map(drop), Err(WebhookError::TimeLimit));
    }
    assert_eq!(base().time_limits(45 * second, 45 * second).build().map(drop), Ok(()));
    for pem in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"] {
        assert_eq!(base().trust_only(pem).build().map(drop), Err(WebhookError::Certificates), "{pem}");
    }
}

#[test]
fn neither_secret_nor_path_is_printed() {
    let builder = Webhook::builder("https://hooks.example.com/T0KEN?k=T0KEN", secret());
    let printed = format!("{builder:?}") + &format!("{:?}", builder.build().unwrap());
    assert!(printed.contains("hooks.example.com"), "{printed}");
    assert!(!printed.contains("T0KEN") && !printed.contains("C2FVsBQI"), "{printed}");
}

/// What a receiver of these tests could not show: none has a certificate of a public authority.
#[test]
fn whoever_names_an_authority_trusts_that_one_and_nobody_else() {
    let one = include_str!("../authority.pem");
    for (pem, count) in [(one.to_owned(), 1), (one.repeat(2), 2)] {
        let RootCerts::Specific(trusted) = roots(Some(&pem)).unwrap() else { panic!("not those alone") };
        assert_eq!(trusted.len(), count);
    }
    assert!(matches!(roots(None), Ok(RootCerts::WebPki)));
}

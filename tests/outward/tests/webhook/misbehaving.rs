//! Receivers that do not keep to the rules: each ends in good time, in bounded memory, and with the right decision.

use std::thread;
use std::time::{Duration, Instant};

use keyrota::{Notifier, NotifyError, Webhook, WebhookSecret};

use crate::certificates::told;
use crate::support::hostile::{Connection, Server};
use crate::support::loopback;

const TO_CONNECT: Duration = Duration::from_millis(300);
const IN_ALL: Duration = Duration::from_millis(600);
/// Whatever a receiver does, nobody waits longer; with room for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the sender's buffers and the system's hold together.
const MEMORY: u64 = 24 * 1_024 * 1_024;

fn tell_at(server: &Server, scheme: &str) -> Result<(), NotifyError> {
    let url = format!("{scheme}://127.0.0.1:{}/", server.address.port());
    let webhook = Webhook::builder(url, WebhookSecret::generate().unwrap()).allow_http();
    let webhook = webhook.allow_networks(loopback()).time_limits(TO_CONNECT, IN_ALL).build().unwrap();
    let (told, began) = (told(), Instant::now());
    let answer = webhook.notify(&told);
    let took = began.elapsed();
    assert!(took < PATIENCE, "{took:?}");
    answer
}

/// Tells a receiver that does this once it has heard the request.
fn tell(does: impl Fn(Connection) + Send + Sync + 'static) -> (Result<(), NotifyError>, Server) {
    let server = Server::new(move |mut connection| {
        connection.request();
        does(connection);
    });
    (tell_at(&server, "http"), server)
}

fn retried(answer: Result<(), NotifyError>) -> String {
    match answer {
        Err(NotifyError::Retry { why, after: None }) => why,
        other => panic!("{other:?}"),
    }
}

const LATE: &str = "the receiver did not answer in time";
const NO_HTTP: &str = "the receiver's answer is not HTTP";

#[test]
fn a_receiver_that_is_slow_or_silent_is_waited_for_until_the_limit_and_tried_again() {
    let silent = |mut connection: Connection| connection.listen();
    assert_eq!(retried(tell(silent).0), LATE);
    let head = "HTTP/1.1 200 OK\r\nx-drip: ";
    let slow = move |mut connection: Connection| {
        connection.say(head);
        connection.drip("drop by drop ", Duration::from_millis(20));
    };
    let began = Instant::now();
    assert_eq!(retried(tell(slow).0), LATE);
    assert!(began.elapsed() >= IN_ALL, "it is given its time");
    let slow_status = |mut connection: Connection| {
        connection.drip("HTTP/1.1 200 OK\r\nx: y\r\n", Duration::from_millis(100))
    };
    assert_eq!(retried(tell(slow_status).0), LATE);
    let later = |mut connection: Connection| {
        while connection.say("HTTP/1.1 100 Continue\r\n\r\n") {
            thread::sleep(Duration::from_millis(5));
        }
    };
    let why = retried(tell(later).0);
    assert!(why == LATE || why == NO_HTTP, "{why}");
}

#[test]
fn a_receiver_that_does_not_take_the_connection_up_is_given_up() {
    // TLS is waited for, and never comes, or comes drop by drop.
    let silent = Server::new(|mut connection| connection.listen());
    assert_eq!(retried(tell_at(&silent, "https")), LATE);
    let slow =
        Server::new(|mut connection| connection.drip("\x16\x03\x03\x40\x00\x02", Duration::from_millis(50)));
    assert_eq!(retried(tell_at(&slow, "https")), LATE);
    let other = Server::new(|mut connection| {
        connection.say("SSH-2.0-OpenSSH_9.6\r\n");
        connection.listen();
    });
    let why = retried(tell_at(&other, "https"));
    assert!(why.starts_with("no TLS with the receiver"), "{why}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let webhook = Webhook::builder(format!("http://127.0.0.1:{nobody}/"), WebhookSecret::generate().unwrap());
    let webhook = webhook.allow_http().allow_networks(loopback()).build().unwrap();
    assert_eq!(retried(webhook.notify(&told())), "no connection with the receiver: connection refused");
}

#[test]
fn an_answer_without_end_is_not_kept() {
    let large_header = |mut connection: Connection| {
        connection.say("HTTP/1.1 200 OK\r\nx-large: ");
        connection.say_for_ever("x");
    };
    let many_headers = |mut connection: Connection| {
        connection.say("HTTP/1.1 200 OK\r\n");
        connection.say_for_ever("x-many: headers\r\n");
    };
    let no_line = |mut connection: Connection| connection.say_for_ever("x");
    for does in [large_header, many_headers, no_line] {
        let (answer, server) = tell(does);
        let why = retried(answer);
        assert!(why == "the receiver's answer is too large" || why == NO_HTTP, "{why}");
        thread::sleep(Duration::from_millis(50));
        eprintln!("an endless header: {} KiB taken", server.written() / 1_024);
        assert!(server.written() < MEMORY, "{}", server.written());
    }
    // The status is all that counts: the body is not waited for.
    for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"] {
        let (answer, server) = tell(move |mut connection| {
            connection.say(head);
            connection.say_for_ever("10\r\n0123456789abcdef\r\n");
        });
        assert_eq!(answer, Ok(()));
        thread::sleep(Duration::from_millis(50));
        eprintln!("an endless body: {} KiB taken", server.written() / 1_024);
        assert!(server.written() < MEMORY, "{}", server.written());
    }
}

/// The time in all is long, so that whoever does not keep the one to connect shows it.
#[test]
fn a_connection_that_never_stands_is_given_up_long_before_the_time_in_all_is_over() {
    let silent = Server::new(|mut connection| connection.listen());
    let url = format!("https://127.0.0.1:{}/", silent.address.port());
    let webhook = Webhook::builder(url, WebhookSecret::generate().unwrap()).allow_networks(loopback());
    let webhook = webhook.time_limits(TO_CONNECT, 4 * PATIENCE).build().unwrap();
    let (told, began) = (told(), Instant::now());
    assert_eq!(retried(webhook.notify(&told)), LATE);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

/// The time is long, so that whoever waits for the body shows it.
#[test]
fn the_body_of_an_answer_is_neither_read_nor_waited_for() {
    let heads = ["content-length: 1000000", "transfer-encoding: chunked", "connection: close"];
    for (status, head) in [200, 410, 503].into_iter().flat_map(|status| heads.map(|head| (status, head))) {
        let server = Server::new(move |mut connection| {
            connection.request();
            connection.say(format!("HTTP/1.1 {status} Word\r\n{head}\r\n\r\n"));
            connection.listen();
        });
        let url = format!("http://127.0.0.1:{}/", server.address.port());
        let webhook = Webhook::builder(url, WebhookSecret::generate().unwrap()).allow_http();
        let webhook = webhook.allow_networks(loopback()).time_limits(PATIENCE, 4 * PATIENCE).build().unwrap();
        let (told, began) = (told(), Instant::now());
        let answer = webhook.notify(&told);
        assert!(began.elapsed() < PATIENCE, "{status}, {head}: {:?}", began.elapsed());
        let expected = match status {
            200 => Ok(()),
            410 => Err(NotifyError::permanent("HTTP 410")),
            _ => Err(NotifyError::retry("HTTP 503")),
        };
        assert_eq!(answer, expected, "{status}, {head}");
    }
}

#[test]
fn a_receiver_that_goes_in_the_middle_is_tried_again() {
    for said in ["", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"] {
        let closes = tell(move |mut connection| {
            connection.say(said);
            connection.close();
        });
        let why = retried(closes.0);
        assert!(why.starts_with("no connection") || why == NO_HTTP, "{said:?}: {why}");
    }
    // Without having heard the request: the system resets the connection.
    let resets = Server::new(Connection::reset);
    let why = retried(tell_at(&resets, "http"));
    assert!(why.starts_with("no connection"), "{why}");
    let resets = Server::new(Connection::reset);
    let why = retried(tell_at(&resets, "https"));
    assert!(why.starts_with("no connection"), "{why}");
}

#[test]
fn a_redirection_is_not_followed() {
    for status in [300, 301, 302, 303, 307, 308] {
        let elsewhere = Server::new(|mut connection| {
            connection.say("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            connection.close();
        });
        let target = elsewhere.address.port();
        let (answer, server) = tell(move |mut connection| {
            connection.say(format!(
                "HTTP/1.1 {status} Moved\r\nlocation: http://127.0.0.1:{target}/\r\ncontent-length: 0\r\n\r\n"
            ));
            connection.close();
        });
        assert_eq!(retried(answer), format!("HTTP {status}: redirections are not followed"));
        assert_eq!((server.connections(), elsewhere.connections()), (1, 0));
    }
}

#[test]
fn an_answer_that_lies_about_itself_is_judged_by_its_status_alone() {
    for (said, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nshort", Ok(())),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 7\r\n\r\nsurplus", Ok(())),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope", Ok(())),
        ("HTTP/1.0 202 Accepted\r\n\r\n", Ok(())),
        ("HTTP/1.1 200 OK\r\nretry-after: 9\r\ncontent-length: 0\r\n\r\n", Ok(())),
        ("HTTP/1.1 410 Gone\r\ncontent-length: 99\r\n\r\n", Err(NotifyError::permanent("HTTP 410"))),
        ("HTTP/1.1 500 200 OK\r\ncontent-length: 0\r\n\r\n", Err(NotifyError::retry("HTTP 500"))),
        (
            "HTTP/1.1 503 No\r\nretry-after: \u{e4}\u{0}x\r\ncontent-length: 0\r\n\r\n",
            Err(NotifyError::retry(NO_HTTP)),
        ),
    ] {
        let (answer, _) = tell(move |mut connection| {
            connection.say(said);
            connection.close();
        });
        assert_eq!(answer, expected, "{said:?}");
    }
    for said in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 99 x\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "\0\0\0\0",
    ] {
        let (answer, _) = tell(move |mut connection| {
            connection.say(said);
            connection.close();
        });
        // Whatever it is, nothing has arrived.
        let why = retried(answer);
        assert!(
            why == NO_HTTP || why.starts_with("no connection") || why.starts_with("HTTP 99"),
            "{said:?}: {why}"
        );
    }
}

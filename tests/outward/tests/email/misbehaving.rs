//! Mail servers that do not keep to the rules: each ends in good time, in bounded memory, and with the right decision.

use std::thread;
use std::time::{Duration, Instant};

use keyrota::{Notifier, NotifyError};

use crate::script::{IN_ALL, answering, email, tell, told};
use crate::support::hostile::{Connection, Server};

const PATIENCE: Duration = Duration::from_secs(5);
/// What the reader's buffer and the system's hold together.
const MEMORY: u64 = 24 * 1_024 * 1_024;

fn retried(answer: Result<(), NotifyError>) -> String {
    match answer {
        Err(NotifyError::Retry { why, after: None }) => why,
        other => panic!("{other:?}"),
    }
}

const LATE: &str = "the mail server did not answer in time";
const NO_SMTP: &str = "the mail server does not speak SMTP";

#[test]
fn a_code_says_whether_it_is_tried_again() {
    for (answers, expected) in [
        (&[][..], Ok(())),
        (
            &[("RCPT", "550 no such user\r\n")],
            Err(NotifyError::permanent("1 of 1 recipients refused for good: 550 no such user")),
        ),
        (&[("RCPT", "452 full\r\n")], Err(NotifyError::retry("the mail server said: 452 full"))),
        (&[("RCPT", "552 full\r\n")], Err(NotifyError::retry("the mail server said: 552 full"))),
        (
            &[("MAIL", "553 not you\r\n")],
            Err(NotifyError::permanent("1 of 1 recipients refused for good: 553 not you")),
        ),
        (&[("MAIL", "451 later\r\n")], Err(NotifyError::retry("the mail server said: 451 later"))),
        (
            &[("DATA", "554 no\r\n")],
            Err(NotifyError::permanent("1 of 1 recipients refused for good: 554 no")),
        ),
        (&[("DATA", "250 strange\r\n")], Err(NotifyError::retry("the mail server said: 250 strange"))),
        (
            &[(".", "554-spam\r\n554 really\r\n")],
            Err(NotifyError::permanent("1 of 1 recipients refused for good: 554-spam")),
        ),
        (&[(".", "450 grey\r\n")], Err(NotifyError::retry("the mail server said: 450 grey"))),
        (&[("RCPT", "421 closing\r\n")], Err(NotifyError::retry("the mail server said: 421 closing"))),
        // What is not about the mail is not the mail's fault.
        (&[("!", "554 go away\r\n")], Err(NotifyError::retry("the mail server refused the connection: 554"))),
        (&[("EHLO", "550 no\r\n")], Err(NotifyError::retry("the mail server refused EHLO: 550"))),
    ] {
        assert_eq!(tell(&answering(answers)), expected, "{answers:?}");
    }
}

#[test]
fn a_server_that_is_slow_or_silent_is_waited_for_until_the_limit() {
    let silent = |mut connection: Connection| connection.listen();
    let slow = |mut connection: Connection| connection.drip("220 hel", Duration::from_millis(20));
    let slow_lines = |mut connection: Connection| connection.drip("220-hello\r\n", Duration::from_millis(5));
    let late = |mut connection: Connection| {
        connection.say("220 hello\r\n");
        connection.line();
        connection.drip("250-one more\r\n", Duration::from_millis(5));
    };
    for does in [silent, slow, slow_lines, late] {
        let began = Instant::now();
        assert_eq!(retried(tell(&Server::new(does))), LATE);
        let took = began.elapsed();
        assert!(took >= IN_ALL && took < PATIENCE, "{took:?}");
    }
    // The same within TLS: each byte of a handshake would begin the wait anew.
    for does in [silent, |mut connection: Connection| {
        connection.drip("\x16\x03\x03\x40\x00\x02", Duration::from_millis(50))
    }] {
        let began = Instant::now();
        let server = Server::new(does);
        assert_eq!(retried(email(&server).tls().build().unwrap().notify(&told())), LATE);
        assert!(began.elapsed() < PATIENCE);
    }
    // One that does not read the mail.
    let deaf = Server::new(|mut connection| {
        connection.say("220 hello\r\n");
        for answer in ["250 a\r\n", "250 b\r\n", "250 c\r\n", "354 d\r\n"] {
            connection.line();
            connection.say(answer);
        }
        thread::sleep(PATIENCE);
    });
    let large = |_: &keyrota::Notification| keyrota::Mail::new("large", "x".repeat(250_000));
    let began = Instant::now();
    let answer = email(&deaf).allow_unencrypted().template(large).build().unwrap().notify(&told());
    assert_eq!(retried(answer), LATE);
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn a_reply_without_end_is_not_kept() {
    for said in ["x", "220-hello\r\n", "220-"] {
        let server = Server::new(move |mut connection| connection.say_for_ever(said));
        let why = retried(tell(&server));
        assert!(why == "the mail server's reply is too long" || why == NO_SMTP, "{said:?}: {why}");
        thread::sleep(Duration::from_millis(50));
        eprintln!("an endless reply: {} KiB taken", server.written() / 1_024);
        assert!(server.written() < MEMORY, "{}", server.written());
    }
}

#[test]
fn a_server_that_goes_in_the_middle_is_tried_again() {
    for said in ["", "2", "220 hello", "220-hello\r\n", "220 hello\r\n"] {
        let server = Server::new(move |mut connection| {
            connection.say(said);
            connection.close();
        });
        let why = retried(tell(&server));
        assert!(why.starts_with("no connection with the mail server"), "{said:?}: {why}");
    }
    let why = retried(tell(&Server::new(Connection::reset)));
    assert!(why.starts_with("no connection with the mail server"), "{why}");
    // After the mail, before its acknowledgement: it may have arrived, and is sent again.
    let server = answering(&[(".", "")]);
    assert_eq!(retried(tell(&server)), LATE);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = answering(&[]);
    let answer = email(&server).port(nobody).allow_unencrypted().build().unwrap().notify(&told());
    assert_eq!(retried(answer), "no connection with the mail server: connection refused");
}

#[test]
fn what_is_no_smtp_is_said_so() {
    for said in [
        "HTTP/1.1 400 Bad Request\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "\r\n",
        "220-a\r\n250 b\r\n",
        "999 x\r\n",
        "\0\0\0\0\n",
    ] {
        let server = Server::new(move |mut connection| {
            connection.say(said);
            connection.listen();
        });
        assert_eq!(retried(tell(&server)), NO_SMTP, "{said:?}");
    }
}

/// A man in the middle writes replies behind the server's own, so that they are taken for answers to later commands.
#[test]
fn a_reply_that_nobody_asked_for_ends_the_talk() {
    const UNASKED: &str = "the mail server said more than it was asked";
    assert_eq!(retried(tell(&answering(&[("MAIL", "250 ok\r\n250 ok\r\n")]))), UNASKED);
    assert_eq!(retried(tell(&answering(&[("!", "220 hello\r\n250 ok\r\n")]))), UNASKED);
    let injected = answering(&[
        ("EHLO", "250-x\r\n250 STARTTLS\r\n"),
        ("STARTTLS", "220 go\r\n250-x\r\n250 AUTH PLAIN\r\n"),
    ]);
    assert_eq!(retried(email(&injected).build().unwrap().notify(&told())), UNASKED);
}

#[test]
fn without_encryption_neither_mail_nor_password_is_sent() {
    let server = answering(&[("EHLO", "250-x\r\n250 AUTH PLAIN LOGIN\r\n")]);
    let answer = email(&server).login("keys", "secret").build().unwrap().notify(&told());
    assert_eq!(retried(answer), "the mail server offers no STARTTLS");
    let refused = email(&server).login("keys", "secret").allow_unencrypted().build();
    assert_eq!(refused.map(drop).unwrap_err(), keyrota::EmailError::LoginUnencrypted);
    let refusing = answering(&[("EHLO", "250-x\r\n250 STARTTLS\r\n"), ("STARTTLS", "454 not now\r\n")]);
    let answer = email(&refusing).login("keys", "secret").build().unwrap().notify(&told());
    assert_eq!(retried(answer), "the mail server refused STARTTLS: 454");
}

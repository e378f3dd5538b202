//! Mails as a real mail server gets them: aiosmtpd, a server of Python's, which reads them with Python's own library.

use keyrota::{
    Actor, Email, EmailAddress, EmailBuilder, KeyManager, Mail, ManualClock, Notification, NotifyError,
    OwnerId,
};
use serde_json::{Value, json};

use crate::support::authority::{Authority, Identity};
use crate::support::python::Program;
use crate::support::{START, at, builder, new_key};

/// A server that says of each mail what it is, and logs in whom it knows.
const SERVER: &str = r#"
import asyncio, email, email.policy, json, ssl, sys
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

certificate, key, mode = sys.argv[1:4]
context = None
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

class Handler:
    def __init__(self):
        self.busy = 0
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody"):
            return "550 5.1.1 no such user"
        if address.startswith("busy") and self.busy < 2:
            self.busy += 1
            return "450 4.2.1 mailbox busy"
        envelope.rcpt_tos.append(address)
        return "250 OK"
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        part = lambda kind: (mail.get_body((kind,)) or mail).get_content() if mail.get_body((kind,)) else None
        print(json.dumps({
            "from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": server.transport.get_extra_info("ssl_object") is not None,
            "user": session.auth_data.login.decode() if session.authenticated else None,
            "headers": [[name.lower(), str(value)] for name, value in mail.items()],
            "text": part("plain"), "html": part("html"), "defects": [str(d) for d in mail.defects],
            "ascii": envelope.content.isascii(),
        }))
        return "250 OK"

def authenticate(server, session, envelope, mechanism, data):
    assert isinstance(data, LoginPassword)
    known = data.login == b"keys" and data.password == b"p\xc3\xa4ss word"
    return AuthResult(success=known, handled=False, auth_data=data)

handler = Handler()
def factory():
    return SMTP(handler, tls_context=context if mode != "tls" else None, require_starttls=mode == "starttls",
                authenticator=authenticate, auth_required=mode == "login", auth_require_tls=mode == "login",
                auth_exclude_mechanism=sys.argv[4:] or None)
async def serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context if mode == "tls" else None)
    print(server.sockets[0].getsockname()[1])
    await server.serve_forever()
asyncio.run(serve())
"#;

struct Server {
    python: Program,
    port: u16,
    authority: Authority,
    _folder: tempfile::TempDir,
}

impl Server {
    /// A server that wants TLS (`tls`), STARTTLS (`starttls`), also a log-in (`login`), or that has none (`plain`).
    fn new(mode: &str) -> Option<Self> {
        let authority = Authority::new();
        let identity = authority.identity("localhost");
        Self::with(mode, authority, &identity, &[])
    }

    fn with(mode: &str, authority: Authority, identity: &Identity, more: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let files = [("certificate.pem", &identity.certificate_pem), ("key.pem", &identity.key_pem)];
        let [certificate, key] = files.map(|(name, text)| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            if mode == "plain" { String::new() } else { path.display().to_string() }
        });
        let arguments = [&[certificate.as_str(), &key, mode], more].concat();
        let (python, port) = Program::start(SERVER, &arguments)?;
        Some(Self { python, port: port.parse().unwrap(), authority, _folder: folder })
    }

    fn email(&self, to: &[&str]) -> EmailBuilder {
        let to: Vec<EmailAddress> = to.iter().map(|to| address(to)).collect();
        let recipients = move |_: Option<OwnerId>| -> Result<_, NotifyError> { Ok(to.clone()) };
        let email = Email::builder("localhost", address("keys@example.com"), recipients);
        email.port(self.port).trust_only(&self.authority.pem)
    }

    /// The next mail that it has got.
    fn mail(&mut self) -> Value {
        serde_json::from_str(&self.python.line()).unwrap()
    }
}

fn address(text: &str) -> EmailAddress {
    EmailAddress::new(text).unwrap()
}

fn bed(email: EmailBuilder) -> (KeyManager, ManualClock) {
    let clock = ManualClock::new(at(START));
    let email = email.clock(clock.clone()).build().unwrap();
    (builder(&clock).channel("mail", email).open().unwrap(), clock)
}

fn header<'a>(mail: &'a Value, name: &str) -> &'a str {
    let headers = mail["headers"].as_array().unwrap();
    let mut found =
        headers.iter().filter(|header| header[0] == name).map(|header| header[1].as_str().unwrap());
    let value = found.next().unwrap_or_default();
    assert_eq!(found.next(), None, "{name} twice");
    value
}

#[test]
fn a_mail_arrives_by_starttls_and_by_tls_with_all_that_it_has_to_say() {
    for mode in ["starttls", "tls"] {
        let Some(mut server) = Server::new(mode) else { return };
        let email = server.email(&["ada@example.org"]);
        let (keys, _) = bed(if mode == "tls" { email.tls() } else { email });
        let key = keys.by(Actor::operator("root")).issue(new_key("nightly <b>\"import\" & ünïcode")).unwrap();
        let report = keys.deliver("mail").unwrap();
        assert_eq!((report.notified, report.retried, report.dead), (1, 0, 0), "{mode}");
        let mail = server.mail();
        assert_eq!(mail["from"], "keys@example.com");
        assert_eq!((&mail["to"], &mail["tls"]), (&json!(["ada@example.org"]), &json!(true)));
        assert_eq!((&mail["ascii"], &mail["defects"]), (&json!(true), &json!([])));
        let names: Vec<_> =
            mail["headers"].as_array().unwrap().iter().map(|header| header[0].as_str().unwrap()).collect();
        for name in &names {
            let known = [
                "from",
                "to",
                "subject",
                "date",
                "message-id",
                "auto-submitted",
                "mime-version",
                "content-type",
            ];
            assert!(known.contains(name), "{name}");
        }
        assert_eq!(header(&mail, "to"), "ada@example.org");
        assert_eq!(header(&mail, "date"), "Fri, 01 Jan 2027 00:00:00 +0000");
        assert_eq!(header(&mail, "auto-submitted"), "auto-generated");
        assert!(
            header(&mail, "message-id").starts_with("<ntf_")
                && header(&mail, "message-id").ends_with("@example.com>")
        );
        let subject = header(&mail, "subject");
        assert!(subject.contains("nightly <b>") && subject.contains("ünïcode"), "{subject}");
        let (text, html) = (mail["text"].as_str().unwrap(), mail["html"].as_str().unwrap());
        let hint = key.token.hint().to_string();
        for part in [hint.as_str(), "2027-04-01 00:00 UTC", "operator root", "have it revoked"] {
            assert!(text.contains(part) && html.contains(part), "{part}: {text}\n{html}");
        }
        assert!(html.contains("&lt;b&gt;") && !html.contains("<b>"), "{html}");
        assert!(!text.contains(key.token.expose()) && !html.contains(key.token.expose()));
    }
}

#[test]
fn only_a_server_with_a_believed_certificate_gets_a_mail() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    for (what, identity) in [
        ("another authority", theirs.identity("localhost")),
        ("another name", ours.identity("other.example")),
        ("long over", ours.expired_identity("localhost")),
    ] {
        for mode in ["starttls", "tls"] {
            let trusted = Authority { pem: ours.pem.clone(), ..Authority::new() };
            let Some(server) = Server::with(mode, trusted, &identity, &[]) else { return };
            let email = server.email(&["ada@example.org"]);
            let (keys, _) = bed(if mode == "tls" { email.tls() } else { email });
            keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap();
            let report = keys.deliver("mail").unwrap();
            assert_eq!((report.notified, report.retried), (0, 1), "{what} by {mode}");
        }
    }
}

#[test]
fn a_server_without_starttls_gets_a_mail_only_where_that_is_allowed() {
    let Some(mut server) = Server::new("plain") else { return };
    let (keys, _) = bed(server.email(&["ada@example.org"]));
    keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap();
    assert_eq!(keys.deliver("mail").unwrap().retried, 1);
    let (keys, _) = bed(server.email(&["ada@example.org"]).allow_unencrypted());
    keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap();
    assert_eq!(keys.deliver("mail").unwrap().notified, 1);
    assert_eq!(server.mail()["tls"], false);
}

#[test]
fn who_has_the_password_may_send_and_a_wrong_one_is_tried_again() {
    for without in [&[][..], &["PLAIN"], &["LOGIN"]] {
        let authority = Authority::new();
        let identity = authority.identity("localhost");
        let Some(mut server) = Server::with("login", authority, &identity, without) else { return };
        let (keys, _) = bed(server.email(&["ada@example.org"]).login("keys", "päss word"));
        keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap();
        assert_eq!(keys.deliver("mail").unwrap().notified, 1, "without {without:?}");
        assert_eq!(server.mail()["user"], "keys");
        for email in
            [server.email(&["ada@example.org"]).login("keys", "wrong"), server.email(&["ada@example.org"])]
        {
            let (keys, _) = bed(email);
            keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap();
            let report = keys.deliver("mail").unwrap();
            assert_eq!((report.notified, report.retried), (0, 1), "it is the operator's to mend");
        }
    }
}

#[test]
fn each_recipient_gets_one_mail_however_often_it_is_tried_for_the_others() {
    let Some(mut server) = Server::new("starttls") else { return };
    let (keys, clock) = bed(server.email(&[
        "ada@example.org",
        "busy@example.org",
        "nobody@example.org",
        "zoe@example.org",
        "ada@example.org",
    ]));
    keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap();
    let mut reports = Vec::new();
    for _ in 0..3 {
        let report = keys.deliver("mail").unwrap();
        reports.push((report.notified, report.retried, report.dead));
        clock.advance(crate::support::HOUR).unwrap();
    }
    assert_eq!(reports, [(0, 1, 0), (0, 1, 0), (0, 0, 1)], "busy twice, and one will never have it");
    let got: Vec<_> = (0..3).map(|_| server.mail()).collect();
    let to: Vec<_> = got.iter().map(|mail| mail["to"][0].as_str().unwrap()).collect();
    assert_eq!(to, ["ada@example.org", "zoe@example.org", "busy@example.org"]);
    assert!(got.iter().all(|mail| mail["to"].as_array().unwrap().len() == 1), "none sees another's address");
    assert_eq!(header(&got[0], "message-id"), header(&got[2], "message-id"));
    let letters = keys.dead_letters("mail", 10).unwrap();
    let why = letters[0].error.as_deref().unwrap();
    assert_eq!(why, "1 of 4 recipients refused for good: 550 5.1.1 no such user");

    // Once the mailbox is no longer busy, and nobody refuses: told.
    let (keys, _) = bed(server.email(&["busy@example.org"]));
    keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap();
    assert_eq!(keys.deliver("mail").unwrap().notified, 1);
}

#[test]
fn nothing_that_a_template_or_a_name_holds_becomes_a_header_or_a_command() {
    let Some(mut server) = Server::new("starttls") else { return };
    let evil = |told: &Notification| {
        let name = told.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
        let subject = format!("{name}\r\nBcc: eve@example.org\r\n\r\nbody\u{2028}\u{0}");
        let text =
            "first\r\n.\r\nMAIL FROM:<eve@example.org>\r\nRCPT TO:<eve@example.org>\r\n.\nQUIT\r.\rend";
        Mail::new(subject, text).html("<p>.\r\n.\r\nQUIT</p>")
    };
    let (keys, _) = bed(server.email(&["ada@example.org"]).template(evil));
    keys.by(Actor::operator("root")).issue(new_key("Bcc: eve@example.org")).unwrap();
    assert_eq!(keys.deliver("mail").unwrap().notified, 1);
    let mail = server.mail();
    assert_eq!(mail["to"], json!(["ada@example.org"]));
    assert_eq!(header(&mail, "bcc"), "");
    assert_eq!(header(&mail, "subject").trim_end(), "Bcc: eve@example.org  Bcc: eve@example.org    body");
    let text = mail["text"].as_str().unwrap();
    assert!(
        text.contains("MAIL FROM:<eve@example.org>") && text.contains("QUIT") && text.contains("end"),
        "{text:?}"
    );
    assert!(mail["html"].as_str().unwrap().contains("QUIT"));
    // The server has had no other mail.
    let (keys, _) = bed(server.email(&["zoe@example.org"]));
    keys.by(Actor::operator("root")).issue(new_key("next")).unwrap();
    keys.deliver("mail").unwrap();
    assert_eq!(server.mail()["to"], json!(["zoe@example.org"]));
}

#[test]
fn who_gets_it_is_asked_each_time_and_nobody_is_an_answer() {
    let Some(mut server) = Server::new("starttls") else { return };
    let directory = |owner: Option<OwnerId>| match owner.map(|owner| owner.to_string()).as_deref() {
        Some("ada") => Ok(vec![address("ada@example.org")]),
        Some("bob") => Ok(Vec::new()),
        Some(_) => Err(NotifyError::permanent("no address is known")),
        None => Ok(vec![address("ops@example.org")]),
    };
    let email = Email::builder("localhost", address("keys@example.com"), directory);
    let (keys, _) = bed(email.port(server.port).trust_only(&server.authority.pem));
    for owner in ["ada", "bob", "eve"] {
        let new = keyrota::NewKey::new(OwnerId::new(owner).unwrap(), "ci").unwrap();
        keys.by(Actor::operator("root")).issue(new).unwrap();
    }
    let report = keys.deliver("mail").unwrap();
    assert_eq!((report.notified, report.dead), (2, 1));
    assert_eq!(server.mail()["to"], json!(["ada@example.org"]));
}

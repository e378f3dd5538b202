//! The signatures are those of Standard Webhooks: its Python package, in a receiver of Python's own, believes them, and
//! what it signs we believe.

use keyrota::{Actor, ManualClock, Timestamp, Webhook, WebhookHeaders, WebhookSecret, WebhookVerifier};

use crate::support::authority::Authority;
use crate::support::python::Program;
use crate::support::{START, at, builder, loopback, new_key};

/// A receiver of HTTPS that says of each request whether the package believes it; and signs one of its own at first.
const RECEIVER: &str = r#"
import datetime, http.server, json, ssl, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

certificate, key, secret, other = sys.argv[1:5]

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        believed = []
        for known in (secret, other):
            try:
                believed.append(Webhook(known).verify(body, headers)["kind"])
            except WebhookVerificationError as error:
                believed.append(str(error))
        edited = body.replace(b"issued", b"Issued")
        try:
            believed.append(Webhook(secret).verify(edited, headers))
        except WebhookVerificationError as error:
            believed.append(str(error))
        print(json.dumps(believed))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_): pass

server = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
now = datetime.datetime.now(datetime.timezone.utc)
signed = Webhook(secret).sign("msg_of_python", now, '{"of": "python"}')
print(json.dumps([server.server_port, str(int(now.timestamp())), signed]))
server.serve_forever()
"#;

#[test]
fn a_receiver_in_python_believes_our_signatures_and_we_believe_its() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let identity = authority.identity("localhost");
    let files = [("certificate.pem", &identity.certificate_pem), ("key.pem", &identity.key_pem)];
    let [certificate, key] = files.map(|(name, text)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    });
    let [secret, other] = [(); 2].map(|()| WebhookSecret::generate().unwrap());
    let arguments = [certificate.as_str(), &key, secret.expose(), other.expose()];
    let Some((mut python, ready)) = Program::start(RECEIVER, &arguments) else { return };
    let (port, timestamp, signature): (u16, String, String) = serde_json::from_str(&ready).unwrap();

    // Python's clock is the system's, and so must ours be.
    let clock = ManualClock::new(at(START));
    let webhook = |secret: &WebhookSecret| {
        let webhook = Webhook::builder(format!("https://localhost:{port}/"), secret.clone());
        webhook.allow_networks(loopback()).trust_only(&authority.pem)
    };
    let keys = builder(&clock)
        .channel("one", webhook(&secret).build().unwrap())
        .channel("both", webhook(&other).also_signed_by(secret.clone()).build().unwrap())
        .channel("stranger", webhook(&WebhookSecret::generate().unwrap()).build().unwrap())
        .channel("late", webhook(&secret).clock(clock.clone()).build().unwrap())
        .open()
        .unwrap();
    keys.by(Actor::operator("root")).issue(new_key("ci")).unwrap();
    let mut believed = |channel: &str| {
        assert_eq!(keys.deliver(channel).unwrap().notified, 1);
        serde_json::from_str::<[String; 3]>(&python.line()).unwrap()
    };
    let no = "No matching signature found";
    assert_eq!(believed("one"), ["issued", no, no], "with one secret, with another, and edited");
    assert_eq!(believed("both"), ["issued", "issued", no], "while the secret changes");
    assert_eq!(believed("stranger"), [no, no, no]);
    let [late, ..] = believed("late");
    assert!(late.contains("timestamp"), "dated by another clock: {late}");

    let now = Timestamp::from_unix_micros(timestamp.parse::<i64>().unwrap() * 1_000_000).unwrap();
    let headers = WebhookHeaders { id: "msg_of_python", timestamp: &timestamp, signature: &signature };
    let verifier = WebhookVerifier::new(secret);
    assert_eq!(verifier.verify(&headers, br#"{"of": "python"}"#, now), Ok(()));
}

//! A client on one connection that it keeps: it sees each byte, and it notices when the connection is closed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Long, because a busy machine may stand still.
const PATIENCE: Duration = Duration::from_secs(600);

/// One connection; a new one where the server has said that it closes this one.
pub struct Connection {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
    closes: bool,
    /// How often there was a new one.
    pub renewed: usize,
}

/// An answer, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Their names in lower case; without the date and what belongs to the connection.
    pub fields: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `name: value`, a line each, sorted.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        lines.sort();
        lines
    }
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Self { address, stream: connect(address), closes: false, renewed: 0 }
    }

    /// `GET` with this key.
    pub fn get(&mut self, path: &str, token: &str) -> Answer {
        self.ask("GET", path, &[("X-API-Key", token.as_bytes())], b"")
    }

    /// A claim with this key and id.
    pub fn claim(&mut self, token: &str, id: &str) -> Answer {
        self.begin_claim(token, id);
        self.answer("POST")
    }

    /// The same, whose answer is fetched later.
    pub fn begin_claim(&mut self, token: &str, id: &str) {
        let body = format!("{{\"claim_id\":\"{id}\"}}");
        let authorization = format!("Bearer {token}");
        let fields = [("Authorization", authorization.as_bytes()), ("Content-Type", b"application/json")];
        self.begin(&request("POST", "/keys/current/claim", &fields, body.as_bytes()));
    }

    pub fn ask(&mut self, method: &str, path: &str, fields: &[(&str, &[u8])], body: &[u8]) -> Answer {
        self.begin(&request(method, path, fields, body));
        self.answer(method)
    }

    fn begin(&mut self, request: &[u8]) {
        if self.closes {
            self.stream = connect(self.address);
            self.closes = false;
            self.renewed += 1;
        }
        self.send(request);
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// The next answer, to a request of this method.
    pub fn answer(&mut self, method: &str) -> Answer {
        let status = self.line();
        let status = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.expect("a status line; was the connection closed?");
        let mut fields = Vec::new();
        let mut length = 0;
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(':') else { break };
            let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
            match name.as_str() {
                "content-length" => length = value.parse().unwrap(),
                "transfer-encoding" => panic!("this client reads answers of a known length only"),
                "connection" => self.closes = value.eq_ignore_ascii_case("close"),
                "date" | "keep-alive" => {}
                _ => fields.push((name, value)),
            }
        }
        let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
        self.stream.read_exact(&mut body).unwrap();
        Answer { status, fields, body: String::from_utf8(body).unwrap() }
    }

    /// Until the server asks for the body of a request that expects it to.
    pub fn wait_for_continue(&mut self) {
        assert_eq!(self.line(), "HTTP/1.1 100 Continue");
        assert_eq!(self.line(), "");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Whether the other side has closed the connection, now or soon.
    pub fn is_closed(&mut self) -> bool {
        self.stream.read(&mut [0]).is_ok_and(|read| read == 0)
    }
}

fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::new(stream)
}

/// A request, as bytes.
pub fn request(method: &str, path: &str, fields: &[(&str, &[u8])], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
    for (name, value) in fields {
        bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    if !body.is_empty() {
        bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    bytes
}

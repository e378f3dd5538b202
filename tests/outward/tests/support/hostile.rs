//! Servers that do not keep to any rule, each connection in a thread of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How much a server has written, and how many connections it has had.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) connections: AtomicU64,
    pub(crate) written: AtomicU64,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) counts: Arc<Counts>,
}

impl Server {
    /// Does this to everybody who connects.
    pub(crate) fn new(does: impl Fn(Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let (counter, does) = (Arc::clone(&counts), Arc::new(does));
        thread::spawn(move || {
            for stream in listener.incoming() {
                counter.connections.fetch_add(1, Ordering::SeqCst);
                let connection = Connection { stream: stream.unwrap(), counts: Arc::clone(&counter) };
                let does = Arc::clone(&does);
                thread::spawn(move || does(connection));
            }
        });
        Self { address, counts }
    }

    pub(crate) fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn written(&self) -> u64 {
        self.counts.written.load(Ordering::SeqCst)
    }
}

pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    counts: Arc<Counts>,
}

impl Connection {
    /// Writes; `false` once nobody reads any more.
    pub(crate) fn say(&mut self, text: impl AsRef<[u8]>) -> bool {
        let text = text.as_ref();
        let is_said = self.stream.write_all(text).is_ok();
        if is_said {
            self.counts.written.fetch_add(text.len() as u64, Ordering::SeqCst);
        }
        is_said
    }

    /// The same for ever.
    pub(crate) fn say_for_ever(&mut self, text: &str) {
        let text = text.repeat(64 * 1_024 / text.len() + 1);
        while self.say(&text) {}
    }

    /// A byte at a time, for ever from the beginning.
    pub(crate) fn drip(&mut self, text: &str, pause: Duration) {
        for byte in text.as_bytes().iter().cycle() {
            if !self.say([*byte]) {
                return;
            }
            thread::sleep(pause);
        }
    }

    /// Hears one line, or what comes before the end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") && self.stream.read(&mut byte).unwrap_or(0) == 1 {
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }

    /// Hears a request of HTTP with its body.
    pub(crate) fn request(&mut self) {
        let mut length = 0;
        loop {
            let line = self.line().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        let _ = self.stream.read_exact(&mut body);
    }

    /// Hears until the other side has gone.
    pub(crate) fn listen(&mut self) {
        let mut buffer = [0; 4_096];
        while self.stream.read(&mut buffer).unwrap_or(0) > 0 {}
    }

    /// Closes what it says, and keeps on hearing.
    pub(crate) fn close(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.listen();
    }

    /// Goes without a word, so that the other side is told that the connection was reset: what was sent and not read
    /// makes the system say so.
    pub(crate) fn reset(self) {
        thread::sleep(Duration::from_millis(50));
        drop(self.stream);
    }
}

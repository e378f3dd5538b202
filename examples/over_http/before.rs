//! The service as it was: the same route behind a list of tokens, and nothing of this library.

use std::collections::HashSet;
use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::balancer::{Closes, field, read_message};

const GRANTED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]";
const DENIED: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

/// One instance of it.
pub struct Before {
    pub address: SocketAddr,
    stops: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Before {
    /// `API_KEYS` is a list of `name:token` with commas between them.
    pub fn begin(api_keys: &str) -> Self {
        let tokens = api_keys.split(',').filter_map(|item| item.split_once(':'));
        let tokens: Arc<HashSet<String>> = Arc::new(tokens.map(|(_, token)| token.to_owned()).collect());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stops = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stops);
        let server = std::thread::spawn(move || {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                let tokens = Arc::clone(&tokens);
                connections
                    .push((stream.try_clone().unwrap(), std::thread::spawn(move || serve(stream, &tokens))));
            }
            for (stream, connection) in connections {
                // Whoever has gone already is not to be told.
                let _gone = stream.shutdown(Shutdown::Both);
                connection.join().unwrap();
            }
        });
        Self { address, stops, server: Some(server) }
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        self.stops.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        let ended = self.server.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

fn serve(stream: TcpStream, tokens: &HashSet<String>) {
    let _end = Closes(stream.try_clone().unwrap());
    let mut answers = stream.try_clone().unwrap();
    let mut requests = BufReader::new(stream);
    while let Some(request) = read_message(&mut requests) {
        let bearer = field(&request, "authorization").and_then(|value| value.strip_prefix("Bearer "));
        let token = bearer.or(field(&request, "x-api-key"));
        let is_known = token.is_some_and(|token| tokens.contains(token));
        if answers.write_all(if is_known { GRANTED } else { DENIED }).is_err() {
            return;
        }
    }
}

//! What stands in front of the instances of a service: it hands each request on to one of them, over connections that it
//! keeps, and takes an instance out only once that has answered what it was given.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// An instance, and how many requests it has not answered yet.
#[derive(Clone)]
struct Instance {
    address: SocketAddr,
    open: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Shared {
    instances: Mutex<Vec<Instance>>,
    requests: AtomicUsize,
    stops: AtomicBool,
}

pub struct Balancer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

impl Balancer {
    /// In front of these instances.
    pub fn begin(instances: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let of_server = Arc::clone(&shared);
        let server = std::thread::spawn(move || {
            let mut connections = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if of_server.stops.load(Ordering::SeqCst) {
                    break;
                }
                let shared = Arc::clone(&of_server);
                let client = stream.try_clone().unwrap();
                connections.push((client, std::thread::spawn(move || shared.hand_on(stream))));
            }
            for (client, connection) in connections {
                // Whoever has gone already is not to be told.
                let _gone = client.shutdown(Shutdown::Both);
                drop(connection.join());
            }
        });
        let balancer = Self { address, shared, server: Some(server) };
        instances.iter().for_each(|address| balancer.add(*address));
        balancer
    }

    pub fn add(&self, address: SocketAddr) {
        self.shared.instances.lock().unwrap().push(Instance { address, open: Arc::default() });
    }

    /// Gives this instance no further request, and returns when it has answered all that it was given.
    pub fn take_out(&self, address: SocketAddr) {
        let mut instances = self.shared.instances.lock().unwrap();
        let place = instances.iter().position(|instance| instance.address == address).unwrap();
        let instance = instances.swap_remove(place);
        drop(instances);
        super::stage::eventually(|| instance.open.load(Ordering::SeqCst) == 0);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        let ended = self.server.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

impl Shared {
    /// The instance whose turn it is; from now on it has one request more.
    fn next(&self) -> Instance {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        let instances = self.instances.lock().unwrap();
        let instance = instances[number % instances.len()].clone();
        instance.open.fetch_add(1, Ordering::SeqCst);
        instance
    }

    fn hand_on(&self, stream: TcpStream) {
        let _end = Closes(stream.try_clone().unwrap());
        stream.set_nodelay(true).unwrap();
        let mut answers = stream.try_clone().unwrap();
        let mut requests = BufReader::new(stream);
        let mut kept: HashMap<SocketAddr, BufReader<TcpStream>> = HashMap::new();
        while let Some(request) = read_message(&mut requests) {
            let instance = self.next();
            let connection = kept.entry(instance.address).or_insert_with(|| {
                let stream = TcpStream::connect(instance.address).unwrap();
                stream.set_nodelay(true).unwrap();
                BufReader::new(stream)
            });
            connection.get_mut().write_all(&request).unwrap();
            let answer = read_message(connection);
            instance.open.fetch_sub(1, Ordering::SeqCst);
            let Some(answer) = answer else { return };
            if answers.write_all(&answer).is_err() {
                return;
            }
        }
    }
}

/// Closes a connection, also by a panic: nobody waits for its answers any more.
pub struct Closes(pub TcpStream);

impl Drop for Closes {
    fn drop(&mut self) {
        // Whoever has gone already is not to be told.
        let _gone = self.0.shutdown(Shutdown::Both);
    }
}

/// A request or an answer as it came, with a body of a known length or none; nothing where the connection has ended.
pub fn read_message(from: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let begins = message.len();
        if from.read_until(b'\n', &mut message).ok()? == 0 {
            return None;
        }
        if message[begins..].trim_ascii().is_empty() {
            break;
        }
    }
    let length = field(&message, "content-length").map_or(0, |length| length.parse().unwrap());
    let begins = message.len();
    message.resize(begins + length, 0);
    from.read_exact(&mut message[begins..]).ok()?;
    Some(message)
}

/// The value of a field of a message.
pub fn field<'a>(message: &'a [u8], name: &str) -> Option<&'a str> {
    let lines = message.split(|byte| *byte == b'\n').take_while(|line| !line.trim_ascii().is_empty());
    let fields = lines.filter_map(|line| std::str::from_utf8(line).ok()?.split_once(':'));
    fields.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

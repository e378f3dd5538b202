//! A service that runs, and beside it an operator: another process on the same file, as far as the library can tell.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use keyrota::{
    Act, Actor, IssuedKey, KeyId, KeyManager, KeyStore, Keyring, ManualClock, NewKey, OwnerId, SqliteStore,
    Timestamp, Validator,
};
use tokio::sync::oneshot;

use super::client::Connection;
use super::delegating::planned::PlannedStore;

pub const DAY: Duration = Duration::from_secs(86_400);

/// How often upkeep comes in a service that nobody waits for a minute for.
pub const OFTEN: Duration = Duration::from_millis(5);

/// What an adapter begins with.
pub struct Parts {
    pub listener: TcpListener,
    pub keys: KeyManager,
    pub validator: Validator,
    /// What is in its environment, where that has any.
    pub api_keys: Option<String>,
    pub upkeep_every: Duration,
    /// When it is to stop.
    pub stop: oneshot::Receiver<()>,
}

/// Begins to serve; the thread ends when the service has.
pub type Start = fn(Parts) -> JoinHandle<()>;

/// A file, and a clock, that all who work on it share.
pub struct Place {
    pub clock: ManualClock,
    keyring: Keyring,
    folder: tempfile::TempDir,
}

/// One instance of a service.
pub struct Instance {
    pub address: SocketAddr,
    pub validator: Validator,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

pub struct Stage {
    pub address: SocketAddr,
    pub clock: ManualClock,
    /// The operator's.
    pub keys: KeyManager,
    /// The service's.
    pub validator: Validator,
    service: Instance,
    place: Place,
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A key of this owner that may read orders.
pub fn new_key(owner: &str) -> NewKey {
    let new = NewKey::new(OwnerId::new(owner).unwrap(), "ci").unwrap();
    new.scopes(["orders:read"].try_into().unwrap())
}

/// Waits for it, longer than any machine that is merely busy takes.
pub fn eventually(happened: impl Fn() -> bool) {
    for _ in 0..300_000 {
        if happened() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("it did not happen");
}

impl Place {
    /// On 2027-01-01, with nothing in it.
    pub fn new() -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let clock = ManualClock::new(at("2027-01-01T00:00:00Z"));
        Self { clock, keyring: Keyring::generate().unwrap(), folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("keys.db")
    }

    /// A handle of its own on the file, as another process has it.
    pub fn store(&self) -> SqliteStore {
        // A machine that is busy may stand still in the middle of a write.
        SqliteStore::options().busy_timeout(Duration::from_secs(20)).open(self.file()).unwrap()
    }

    pub fn open(&self) -> KeyManager {
        self.open_on(self.store())
    }

    fn open_on(&self, store: impl KeyStore) -> KeyManager {
        KeyManager::builder(store, self.keyring.clone()).clock(self.clock.clone()).open().unwrap()
    }

    /// An instance with this in its environment.
    pub fn begin(&self, start: Start, api_keys: Option<&str>, upkeep_every: Duration) -> Instance {
        self.begin_on(self.store(), start, api_keys, upkeep_every)
    }

    fn begin_on(
        &self,
        store: impl KeyStore,
        start: Start,
        api_keys: Option<&str>,
        upkeep_every: Duration,
    ) -> Instance {
        let keys = self.open_on(store);
        let validator = keys.validator().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let parts = Parts {
            listener,
            keys,
            validator: validator.clone(),
            api_keys: api_keys.map(str::to_owned),
            upkeep_every,
            stop: stopped,
        };
        Instance { address, validator, stop: Some(stop), server: Some(start(parts)) }
    }
}

impl Instance {
    pub fn tell_to_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Whoever has ended by himself hears it no more.
            let _gone = stop.send(());
        }
    }

    pub fn wait_for_its_end(&mut self) {
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.tell_to_stop();
        if !std::thread::panicking() {
            self.wait_for_its_end();
        }
    }
}

impl Stage {
    /// With a service whose upkeep comes every few milliseconds.
    pub fn begin(start: Start) -> Self {
        Self::begin_with(start, OFTEN)
    }

    pub fn begin_with(start: Start, upkeep_every: Duration) -> Self {
        let place = Place::new();
        let service = place.begin(start, None, upkeep_every);
        Self::of(place, service)
    }

    /// With a service whose store fails when it is told to.
    pub fn begin_on_a_store_that_fails(start: Start) -> (Self, Arc<PlannedStore<SqliteStore>>) {
        let place = Place::new();
        let store = PlannedStore::on(place.store());
        let service = place.begin_on(Arc::clone(&store), start, None, OFTEN);
        (Self::of(place, service), store)
    }

    fn of(place: Place, service: Instance) -> Self {
        let keys = place.open();
        let (address, validator) = (service.address, service.validator.clone());
        Self { address, clock: place.clock.clone(), keys, validator, service, place }
    }

    pub fn root(&self) -> Act<'_> {
        self.keys.by(Actor::operator("root"))
    }

    pub fn issue(&self, new: NewKey) -> (KeyId, String) {
        let IssuedKey { key, token, .. } = self.root().issue(new).unwrap();
        (key, token.expose().to_owned())
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Lets 83 days pass, and waits until the service's own timer has made this key's successor.
    pub fn until_successor_waits(&self, key: KeyId) {
        self.until_successors_wait(&[key]);
    }

    /// The same for several keys.
    pub fn until_successors_wait(&self, keys: &[KeyId]) {
        self.clock.advance(83 * DAY).unwrap();
        // More than a tick believes at once; commonly the days pass one by one.
        self.root().confirm_clock(keyrota::Clock::now(&self.clock)).unwrap();
        eventually(|| keys.iter().all(|key| !self.keys.rotations(*key).unwrap().is_empty()));
    }

    /// Somebody who holds the database's write lock until he goes: a long backup, or a disk that does not answer.
    pub fn hold_the_disk(&self) -> rusqlite::Connection {
        let holder = rusqlite::Connection::open(self.place.file()).unwrap();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        holder
    }

    pub fn tell_to_stop(&mut self) {
        self.service.tell_to_stop();
    }

    pub fn wait_for_its_end(&mut self) {
        self.service.wait_for_its_end();
    }
}

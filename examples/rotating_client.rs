//! The client's half of a rotation: an unattended program that keeps its own API key fresh.
//!
//! It uses its token, learns from the answer that a successor waits, makes up a claim id and writes that down first,
//! claims, writes the new token down atomically, switches, and falls back to the other token when one is refused. It is
//! killed at the worst moment on the way, and comes back.
//!
//! The service's half stands in for HTTP: `Service` is what its endpoints would do.
//!
//! Run it with `cargo run --example rotating_client`.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyrota::{
    Actor, Claim, ClaimId, KeyManager, Keyring, ManualClock, MemoryStore, NewKey, OwnerId, Successor,
    Validator,
};

const DAY: Duration = Duration::from_secs(86_400);

/// What the service answers to a request.
enum Answer {
    /// 200, with the headers that tell of a successor.
    Fine { successor: Option<Successor>, sunset: Option<String> },
    /// 401.
    Unauthorized,
}

/// The service's endpoints.
struct Service {
    keys: KeyManager,
    validator: Validator,
}

impl Service {
    /// `GET /orders`
    fn orders(&self, token: &str) -> Answer {
        match self.validator.validate(token) {
            Ok(grant) => Answer::Fine {
                successor: grant.successor(),
                sunset: grant.valid_until().map(|until| until.to_string()),
            },
            Err(_) => Answer::Unauthorized,
        }
    }

    /// `POST /keys/current/claim`, with the client's own id in the body. Answers the new token, or nothing.
    fn claim(&self, token: &str, id: &[u8]) -> Option<String> {
        let claim = Claim::with_token(token, ClaimId::new(id).ok()?);
        match self.keys.by(Actor::service("api")).claim(claim) {
            Ok(claimed) => Some(claimed.token.expose().to_owned()),
            Err(error) => {
                println!("  service  refuses the claim: {error}");
                None
            }
        }
    }
}

/// The client's memory: one file for each thing, each replaced as a whole.
struct Disk(PathBuf);

impl Disk {
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.join(name)).ok()
    }

    fn text(&self, name: &str) -> Option<String> {
        String::from_utf8(self.read(name)?).ok()
    }

    /// Writes beside, then renames: whoever is killed in between finds the old or the new content. A real client would
    /// also sync the file and keep it readable to itself only.
    fn write(&self, name: &str, content: &[u8]) -> std::io::Result<()> {
        let beside = self.0.join(format!("{name}.new"));
        std::fs::write(&beside, content)?;
        std::fs::rename(beside, self.0.join(name))
    }

    fn remove(&self, name: &str) {
        drop(std::fs::remove_file(self.0.join(name)));
    }
}

/// One run of the client: from its start until it is stopped, or killed.
fn run(service: &Service, disk: &Disk, killed_before_it_stores: bool) -> Result<(), Box<dyn Error>> {
    let token = disk.text("token").ok_or("the client was given no token")?;
    match service.orders(&token) {
        Answer::Unauthorized => {
            // The switch may have been half done: the token from before may still be good.
            let before = disk.text("token.before").ok_or("both tokens are refused: a person is needed")?;
            println!("  client   401; falls back to the token from before");
            disk.write("token", before.as_bytes())?;
        }
        Answer::Fine { successor: None, sunset } => {
            println!("  client   works; its token is good until {}", sunset.unwrap_or_default());
            // A claim whose answer got lost: while it is open, it can be made again, and gets the very same token.
            if let Some(id) = disk.read("claim") {
                adopt(service, disk, &token, &id, false)?;
            }
        }
        Answer::Fine { successor: Some(successor), .. } => {
            println!("  client   works, and learns of a successor: claim it by {}", successor.claim_by);
            // The id first: after a crash it is known which claim to make again.
            let id = match disk.read("claim") {
                Some(id) => id,
                None => {
                    let id = ClaimId::random()?.expose().to_vec();
                    disk.write("claim", &id)?;
                    id
                }
            };
            adopt(service, disk, &token, &id, killed_before_it_stores)?;
        }
    }
    Ok(())
}

fn adopt(service: &Service, disk: &Disk, token: &str, id: &[u8], killed: bool) -> Result<(), Box<dyn Error>> {
    let Some(new) = service.claim(token, id) else { return Ok(()) };
    if killed {
        println!("  client   is killed with the answer in its hands");
        return Ok(());
    }
    disk.write("token.before", token.as_bytes())?;
    disk.write("token", new.as_bytes())?;
    disk.remove("claim");
    println!("  client   has stored its new token, and uses it from now on");
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("keyrota-client-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let result = story(&folder);
    std::fs::remove_dir_all(&folder)?;
    result
}

fn story(folder: &Path) -> Result<(), Box<dyn Error>> {
    let clock = ManualClock::new("2027-01-01T00:00:00Z".parse()?);
    let keys = KeyManager::builder(MemoryStore::new(), Keyring::generate()?).clock(clock.clone()).open()?;
    let service = Service { validator: keys.validator()?, keys };
    let disk = Disk(folder.to_owned());
    let new = NewKey::new(OwnerId::new("ada")?, "nightly import")?.auto_rotation(true);
    let issued = service.keys.by(Actor::operator("root")).issue(new)?;
    disk.write("token", issued.token.expose().as_bytes())?;

    let pass = |days: u32, what: &str| -> Result<(), Box<dyn Error>> {
        for _ in 0..days {
            clock.advance(DAY)?;
            while service.keys.tick()?.more {}
        }
        println!("\n{}: {what}", keyrota::Clock::now(&clock));
        Ok(())
    };
    pass(10, "an ordinary day")?;
    run(&service, &disk, false)?;
    pass(74, "the successor waits since yesterday; the client is killed after its claim")?;
    run(&service, &disk, true)?;
    pass(0, "it starts again, with the old token and the id of its claim")?;
    run(&service, &disk, false)?;
    pass(1, "a day later the old token is over, and nobody noticed")?;
    run(&service, &disk, false)?;

    match service.orders(issued.token.expose()) {
        Answer::Unauthorized => println!("  service  answers 401 to the old token"),
        Answer::Fine { .. } => return Err("the old token is still good".into()),
    }
    Ok(())
}

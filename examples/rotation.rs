//! A year of automatic rotation in a second of injected time: three keys under three policies, and what happens to each,
//! as a timeline. A tick every hour does it all; nobody watches.
//!
//! Run it with `cargo run --example rotation`.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use keyrota::{
    Actor, AuditFilter, Claim, ClaimId, ClientBehaviour, Clock, Delivery, Handover, KeyId, KeyManager,
    Keyring, ManualClock, MemoryStore, NewKey, OwnerId, RotationPolicy, SecretSink, SinkError, Timestamp,
    Validator,
};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A secrets manager that takes what it is given.
struct Vault;

impl SecretSink for Vault {
    fn put(&self, handover: &Handover<'_>) -> Result<(), SinkError> {
        // Here the secret would go to the service: `handover.secret.expose()`.
        println!("            vault         took {} of {}", handover.version, handover.name);
        Ok(())
    }
}

/// A client that claims its successor two days after it sees it.
struct Client {
    key: KeyId,
    token: String,
    seen: Option<Timestamp>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let clock = ManualClock::new("2027-01-01T00:00:00Z".parse()?);
    let keys = KeyManager::builder(MemoryStore::new(), Keyring::generate()?)
        .clock(clock.clone())
        .sink(Vault)
        .open()?;
    let validator = keys.validator()?;
    let ada = OwnerId::new("ada")?;
    let root = || Actor::operator("root");

    let plain = RotationPolicy::every_90_days();
    let kept = RotationPolicy::of_interval(90, true)?;
    let vault = RotationPolicy::builder().lifetime(60 * DAY).delivery(Delivery::Sink).build()?;
    println!("What the policies come to:");
    for (name, policy) in [("shop", plain), ("report", kept), ("worker", vault)] {
        println!("  {name:8} {policy}");
    }
    println!("\nWhat would become of a client of `shop` that never claims:");
    let never = plain.simulate(clock.now(), 200 * DAY, ClientBehaviour::never_claims())?;
    never.to_string().lines().for_each(|line| println!("  {line}"));

    println!("\nA year:");
    let mut names = HashMap::new();
    let mut clients = Vec::new();
    for (name, policy) in [("shop", plain), ("report", kept), ("worker", vault)] {
        let new = NewKey::new(ada, name)?.policy(policy).auto_rotation(true);
        let issued = keys.by(root()).issue(new)?;
        names.insert(issued.key, name);
        // What the vault gets, no client has to claim.
        if policy.delivery() != Delivery::Sink {
            let token = issued.token.expose().to_owned();
            clients.push(Client { key: issued.key, token, seen: None });
        }
    }
    let mut told = 0;
    let end = clock.now().plus(365 * DAY)?;
    while clock.now() < end {
        for client in &mut clients {
            live(client, &keys, &validator, clock.now())?;
        }
        while keys.tick()?.more {}
        told = tell(&keys, &names, told)?;
        clock.advance(HOUR)?;
    }
    println!("\nWhat a tick would do now:\n{}", keys.plan(clock.now())?);
    Ok(())
}

/// An hour in a client's life: it uses its token, and learns from the answer that a successor waits.
fn live(
    client: &mut Client,
    keys: &KeyManager,
    validator: &Validator,
    now: Timestamp,
) -> Result<(), Box<dyn Error>> {
    let grant = validator.validate(&client.token)?;
    let Some(_successor) = grant.successor() else {
        client.seen = None;
        return Ok(());
    };
    if now.since(*client.seen.get_or_insert(now)) < 2 * DAY {
        return Ok(());
    }
    let claim = Claim::with_token(&client.token, ClaimId::random()?);
    let claimed = keys.by(Actor::service("client")).claim(claim)?;
    debug_assert_eq!(claimed.key, client.key);
    claimed.token.expose().clone_into(&mut client.token);
    Ok(())
}

/// Tells what was recorded since the last time, one line for each thing that a person would want to know.
fn tell(keys: &KeyManager, names: &HashMap<KeyId, &str>, after: u64) -> Result<u64, Box<dyn Error>> {
    let mut last = after;
    for entry in keys.audit(&AuditFilter::all().after(after), 1_000)? {
        last = entry.seq;
        let event = entry.event;
        let Some(name) = event.key.and_then(|key| names.get(&key)) else { continue };
        let version = event.version.map(|version| version.to_string()).unwrap_or_default();
        let what = match event.kind.as_str() {
            "key_issued" => "issued".to_owned(),
            "rotation_started" => "a successor waits".to_owned(),
            "version_claimed" => "claimed".to_owned(),
            "version_activated" => "is the active one".to_owned(),
            "version_deprecated" => "is superseded".to_owned(),
            "version_ended" => {
                event.end_reason.map(|reason| format!("ended: {reason:?}").to_lowercase()).unwrap_or_default()
            }
            "rotation_completed" => "rotation complete".to_owned(),
            _ => continue,
        };
        let until = event.until.map(|until| format!(", until {}", day(until))).unwrap_or_default();
        println!("{}  {name:8} {version:3} {what}{until}", day(event.at));
    }
    Ok(last)
}

fn day(time: Timestamp) -> String {
    time.to_string().chars().take(10).collect()
}

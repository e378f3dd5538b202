//! The whole life of a key on a real SQLite file: issue, validate, rotate, roll back, rotate again, let the grace
//! pass, revoke, and read the audit log. The clock is injected, so that a month passes in a moment.
//!
//! Run it with `cargo run --example quickstart`.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::time::Duration;

use keyrota::{
    Actor, AuditFilter, AuditVerdict, Demand, KeyManager, Keyring, ManualClock, NewKey, OwnerId, Scope,
    SqliteStore, Timestamp, Validator,
};

const HOUR: Duration = Duration::from_secs(3_600);

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("keyrota-quickstart-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let result = story(&folder);
    std::fs::remove_dir_all(&folder)?;
    result
}

fn story(folder: &std::path::Path) -> Result<(), Box<dyn Error>> {
    // In your service: `Keyring::from_env("KEYROTA_MASTER_KEY")?` and no clock.
    let keyring = Keyring::generate()?;
    let clock = ManualClock::new("2027-01-01T09:00:00Z".parse()?);
    let store = SqliteStore::open(folder.join("keys.db"))?;
    let keys = KeyManager::builder(store, keyring).clock(clock.clone()).open()?;
    let validator = keys.validator()?;
    let root = || Actor::operator("root");
    let read: Scope = "orders:read".parse()?;

    let say = |text: String| println!("{}  {text}", clock_face(&clock));

    chapter("1  Issue a key: its token is shown once");
    let ada = OwnerId::new("ada")?;
    let new = NewKey::new(ada, "ci")?.scopes(["orders:read"].try_into()?);
    let first = keys.by(root()).because("ada's build needs to read orders").issue(new)?;
    say(format!("issued   {} of ada, valid until {}", first.key, day(first.valid_until)));
    say(format!("token    {}", first.token.expose()));

    chapter("2  Validate: from memory, and never stale");
    let grant = validator.validate_for(first.token.expose(), Demand::scope(&read))?;
    say(format!("v1       granted to {}, scope {read}", grant.owner()));
    let write: Scope = "orders:write".parse()?;
    if let Err(denial) = validator.validate_for(first.token.expose(), Demand::scope(&write)) {
        say(format!("v1       denied for scope {write}: {}", denial.reason()));
    }

    chapter("3  Rotate: both versions validate for 24 hours");
    let second = keys.by(root()).because("regular rotation").rotate(first.key)?;
    say(format!("rotated  {} comes, v1 leaves by {}", second.version, day(second.old_valid_until)));
    show(&say, &validator, "v1", first.token.expose());
    show(&say, &validator, "v2", second.token.expose());

    chapter("4  Roll back: something still runs on the old token");
    clock.advance(6 * HOUR)?;
    keys.by(root()).because("the nightly job was forgotten").roll_back(first.key)?;
    say("rolled   back to v1; v2 runs out".to_owned());
    show(&say, &validator, "v1", first.token.expose());
    show(&say, &validator, "v2", second.token.expose());

    chapter("5  Rotate again, and let the grace pass");
    clock.advance(24 * HOUR)?;
    let third = keys.by(root()).because("now everybody is ready").rotate(first.key)?;
    say(format!("rotated  {} comes, v1 leaves by {}", third.version, day(third.old_valid_until)));
    clock.advance(24 * HOUR)?;
    show(&say, &validator, "v1", first.token.expose());
    show(&say, &validator, "v3", third.token.expose());
    let report = keys.tick()?;
    say(format!(
        "tick     recorded: {} retired, {} rotation completed (v1 was denied without it)",
        report.retired, report.completed
    ));

    chapter("6  Revoke: immediate, final, in every process on this file");
    clock.advance(HOUR)?;
    keys.by(root()).because("leaked in a build log").revoke(first.key)?;
    show(&say, &validator, "v3", third.token.expose());

    chapter("7  The audit log: one chain, every link checked");
    for entry in keys.audit(&AuditFilter::all(), 100)? {
        let event = &entry.event;
        let version = event.version.map(|version| version.to_string()).unwrap_or_default();
        let reason = event.reason.as_deref().unwrap_or("");
        println!(
            "  {:>2}  {}  {:<20} {version:<3} {:<16} {reason}",
            entry.seq,
            event.at,
            event.kind,
            event.actor.to_string()
        );
    }
    match keys.verify_audit()? {
        AuditVerdict::Sound { head } => {
            println!("\n  sound: {} entries, none edited, none missing", head.seq)
        }
        broken => println!("\n  NOT SOUND: {broken:?}"),
    }
    validator.close()?;
    keys.close()?;
    Ok(())
}

fn chapter(title: &str) {
    println!("\n── {title}");
}

fn show(say: &impl Fn(String), validator: &Validator, name: &str, token: &str) {
    say(match validator.validate(token) {
        Ok(grant) if grant.is_deprecated() => {
            format!("{name}       granted, deprecated, until {}", day(grant.valid_until()))
        }
        Ok(grant) => format!("{name}       granted, until {}", day(grant.valid_until())),
        Err(denial) => format!("{name}       denied: {}", denial.reason()),
    });
}

fn day(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "for ever".to_owned(), |time| time.to_string().replace('T', " ").replace(":00Z", ""))
}

fn clock_face(clock: &ManualClock) -> String {
    day(Some(keyrota::Clock::now(clock)))
}

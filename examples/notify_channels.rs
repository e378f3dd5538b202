//! Several channels, one of which fails: a console for people, a log for programs, the host's own code, and a webhook
//! whose receiver is down for two hours. Nothing is lost, nobody waits for anybody else, and what cannot be told is kept
//! for a person to look at. The clock is injected, so that three months pass in a moment.
//!
//! Run it with `cargo run --example notify_channels`.
#![expect(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::fs::File;
use std::time::Duration;

use keyrota::{
    Actor, Callback, ChannelFilter, Clock as _, InApp, KeyManager, Keyring, ManualClock, NewKey,
    Notification, NotificationKind, Notifier, NotifyError, OwnerId, Severity, SqliteStore, Timestamp,
    WriterNotifier,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Stands for an HTTP client. Its receiver is down in the first two hours, and refuses for good what it does not know.
struct Webhook {
    clock: ManualClock,
    down_until: Timestamp,
}

impl Notifier for Webhook {
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        if self.clock.now() < self.down_until {
            // What the receiver says in `Retry-After` is honoured.
            return Err(NotifyError::retry_after(10 * MINUTE, "HTTP 503"));
        }
        if notification.kind == NotificationKind::Unused {
            return Err(NotifyError::permanent("HTTP 422: kind not known"));
        }
        // The receiver remembers the id: should our acknowledgement get lost, it is told again, with the same one.
        println!("{}  webhook   accepted {} ({})", face(&self.clock), notification.kind, notification.id);
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("keyrota-notify-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let result = story(&folder);
    std::fs::remove_dir_all(&folder)?;
    result
}

fn story(folder: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let clock = ManualClock::new("2027-01-01T09:00:00Z".parse()?);
    let ada = OwnerId::new("ada")?;

    chapter("1  Four channels, each told what it asks for");
    let console = Callback::new({
        let clock = clock.clone();
        move |notification: &Notification| {
            println!("{}  console   {notification}", face(&clock));
            Ok(())
        }
    });
    let log = File::create(folder.join("notifications.jsonl"))?;
    let (in_app, inbox) = InApp::queue(100);
    let webhook = Webhook { clock: clock.clone(), down_until: clock.now().plus(120 * MINUTE)? };
    let matters = ChannelFilter::all().at_least(Severity::Warning);
    let keys = KeyManager::builder(SqliteStore::open(folder.join("keys.db"))?, Keyring::generate()?)
        .clock(clock.clone())
        .filtered_channel("console", matters, console)
        .channel("log", WriterNotifier::json_lines(log))
        .filtered_channel("ada-inbox", ChannelFilter::all().owners([ada]), in_app)
        .channel("webhook", webhook)
        .open()?;
    let root = || keys.by(Actor::operator("root"));

    chapter("2  Something happens while the webhook's receiver is down");
    let key = root().issue(NewKey::new(ada, "ci")?)?.key;
    let leaked = root().issue(NewKey::new(OwnerId::new("bob")?, "deploy")?)?.key;
    root().because("leaked in a build log").revoke(leaked)?;
    let mut attempts = 0;
    for _ in 0..18 {
        let report = tick(&keys)?;
        attempts += report.retried;
        clock.advance(10 * MINUTE)?;
    }
    println!("{}  webhook   {attempts} attempts failed, with growing pauses between them", face(&clock));

    chapter("3  Months pass, and nobody uses or rotates ada's key");
    for _ in 0..90 {
        clock.advance(DAY)?;
        tick(&keys)?;
    }

    chapter("4  What the webhook refused for good is kept for a person");
    for dead in keys.dead_letters("webhook", 10)? {
        let error = dead.error.unwrap_or_default();
        println!("{}  dead      {} of {key}: {error}", face(&clock), dead.notification.kind);
        root().because("the receiver need not know").drop_dead_letter("webhook", dead.notification.id)?;
    }

    chapter("5  Nothing was lost");
    let written = std::fs::read_to_string(folder.join("notifications.jsonl"))?;
    println!("  log        {} lines of JSON, the first of them:", written.lines().count());
    println!("             {}", written.lines().next().unwrap_or_default());
    let inbox: Vec<_> = inbox.try_iter().map(|notification| notification.kind.to_string()).collect();
    println!("  ada-inbox  {}", inbox.join(", "));
    println!("  waiting    {} dead letters", keys.dead_letters("webhook", 10)?.len());
    keys.close()?;
    Ok(())
}

/// What a service does each minute, on whatever thread it likes.
fn tick(keys: &KeyManager) -> Result<keyrota::TickReport, keyrota::ManageError> {
    loop {
        let report = keys.tick()?;
        if !report.more {
            return Ok(report);
        }
    }
}

fn chapter(title: &str) {
    println!("\n── {title}");
}

fn face(clock: &ManualClock) -> String {
    clock.now().to_string().replace('T', " ").replace(":00Z", "")
}

//! A feed within your own application: what concerns a user's keys waits in your own database until the user has read it.
//!
//! Run it with `cargo run --example in_app_feed`.
#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyrota::{
    Actor, ChannelFilter, KeyManager, Keyring, ManualClock, MemoryStore, NewKey, Notification, Notifier,
    NotifyError, OwnerId, Severity,
};
use rusqlite::{Connection, params};

/// The feed's table, in the application's own database.
#[derive(Clone)]
pub struct Feed(Arc<Mutex<Connection>>);

/// One line of a feed, and whether the user has read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What it tells.
    pub notification: Notification,
    /// Whether the user has read it.
    pub is_read: bool,
}

impl Feed {
    /// A feed in this database; the table is made if it is not there.
    ///
    /// # Errors
    /// What the database says.
    pub fn new(database: Connection) -> rusqlite::Result<Self> {
        database.execute_batch(
            "CREATE TABLE IF NOT EXISTS feed (
                id TEXT PRIMARY KEY, owner TEXT NOT NULL, at INTEGER NOT NULL, told TEXT NOT NULL,
                is_read INTEGER NOT NULL DEFAULT 0
            ) STRICT;
            CREATE INDEX IF NOT EXISTS feed_of_owner ON feed (owner, is_read, at);",
        )?;
        Ok(Self(Arc::new(Mutex::new(database))))
    }

    fn database(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `GET /notifications`: what the user has not read yet, the newest first. The caller has authenticated the user.
    ///
    /// # Errors
    /// What the database says.
    pub fn unread(&self, user: OwnerId, limit: u32) -> Result<Vec<Item>, Box<dyn Error>> {
        let database = self.database();
        let mut query = database.prepare_cached(
            "SELECT told, is_read FROM feed WHERE owner = ?1 AND is_read = 0 ORDER BY at DESC, id DESC LIMIT ?2",
        )?;
        let rows = query
            .query_map(params![user.as_str(), limit], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
        rows.map(|row| {
            let (told, is_read) = row?;
            Ok(Item { notification: serde_json::from_str(&told)?, is_read })
        })
        .collect()
    }

    /// `POST /notifications/{id}/read`: `false` is that this user has no such unread one. That it is the user's own is
    /// part of the question, so that nobody clears another's.
    ///
    /// # Errors
    /// What the database says.
    pub fn mark_read(&self, user: OwnerId, id: &str) -> rusqlite::Result<bool> {
        let update = "UPDATE feed SET is_read = 1 WHERE owner = ?1 AND id = ?2 AND is_read = 0";
        Ok(self.database().execute(update, params![user.as_str(), id])? == 1)
    }
}

impl Notifier for Feed {
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let Some(owner) = notification.owner else { return Ok(()) };
        // What is told again, because nobody could note that it was told, is there already: also if it was read since.
        let insert =
            "INSERT INTO feed (id, owner, at, told) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO NOTHING";
        let at = notification.at.unix_micros();
        let values = params![notification.id.to_string(), owner.as_str(), at, notification.to_json()];
        let inserted = self.database().execute(insert, values);
        inserted.map(drop).map_err(|error| NotifyError::retry(format!("the feed's database: {error}")))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let feed = Feed::new(Connection::open_in_memory()?)?;
    let clock = ManualClock::new("2027-01-01T09:00:00Z".parse()?);
    let (ada, bob) = (OwnerId::new("ada")?, OwnerId::new("bob")?);
    let keys = KeyManager::builder(MemoryStore::new(), Keyring::generate()?)
        .clock(clock.clone())
        .filtered_channel("feed", ChannelFilter::all().at_least(Severity::Info), feed.clone())
        .open()?;
    let root = || keys.by(Actor::operator("root"));
    root().issue(NewKey::new(ada, "ci")?.auto_rotation(true))?;
    let leaked = root().issue(NewKey::new(bob, "deploy")?)?.key;
    root().because("leaked in a build log").revoke(leaked)?;
    for _ in 0..84 {
        clock.advance(Duration::from_secs(86_400))?;
        while keys.tick()?.more {}
    }
    for user in [ada, bob] {
        println!("unread for {user}:");
        for item in feed.unread(user, 10)? {
            println!("  {}", item.notification);
        }
    }
    let newest = feed.unread(ada, 1)?.remove(0).notification.id.to_string();
    println!("bob may not mark ada's: {}", feed.mark_read(bob, &newest)?);
    println!("ada marks the newest:   {}", feed.mark_read(ada, &newest)?);
    println!("unread for ada now:     {}", feed.unread(ada, 10)?.len());
    Ok(())
}

//! What teams write themselves: the SHA-256 of the token, looked up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::{Peer, Record};

const TABLE: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE api_keys (
        id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, owner TEXT NOT NULL, scopes TEXT NOT NULL,
        expires_at INTEGER NOT NULL, revoked INTEGER NOT NULL
    )";
const FIND: &str = "SELECT owner, scopes, expires_at FROM api_keys WHERE hash = ?1 AND revoked = 0";

fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

fn token() -> String {
    let mut random = [0; 32];
    SystemRandom::new().fill(&mut random).unwrap();
    random.iter().fold("sk_live_".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// A file with keys, which lives as long as the connection that is used.
struct Table {
    connection: Connection,
    _folder: tempfile::TempDir,
}

impl Table {
    fn filled(count: usize) -> Result<(Vec<String>, Self), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let mut connection = Connection::open(folder.path().join("keys.db"))?;
        connection.execute_batch(TABLE)?;
        let filling = connection.transaction()?;
        let mut tokens = Vec::new();
        for number in 0..count {
            let (token, Record { owner, scopes, expires_at }) = (token(), Record::of(number));
            filling
                .prepare_cached("INSERT INTO api_keys VALUES (NULL, ?1, ?2, ?3, ?4, 0)")?
                .execute(params![hash(&token), owner, scopes.join(" "), expires_at as i64])?;
            tokens.push(token);
        }
        filling.commit()?;
        Ok((tokens, Self { connection, _folder: folder }))
    }

    fn find(&self, hash: &[u8; 32]) -> Option<Record> {
        let mut find = self.connection.prepare_cached(FIND).ok()?;
        let record = find.query_row([hash], |row| {
            let scopes: String = row.get(1)?;
            let scopes = scopes.split(' ').map(str::to_owned).collect();
            Ok(Record { owner: row.get(0)?, scopes, expires_at: row.get::<_, i64>(2)? as u64 })
        });
        record.optional().ok()?
    }
}

/// A lookup in SQLite at each request.
///
/// # Errors
/// When the file cannot be made.
pub fn uncached_lookup(count: usize) -> Peer {
    let (tokens, table) = Table::filled(count)?;
    let verify = move |token: &str| table.find(&hash(token)).is_some_and(|record| record.allows());
    Ok((tokens, Box::new(verify)))
}

/// A lookup in SQLite whose answers are kept for a minute, revoked or not.
///
/// # Errors
/// When the file cannot be made.
pub fn cached_lookup(count: usize) -> Peer {
    let (tokens, table) = Table::filled(count)?;
    let kept =
        moka::sync::Cache::builder().max_capacity(1_000_000).time_to_live(Duration::from_secs(60)).build();
    let verify = move |token: &str| {
        let hash = hash(token);
        let known = kept.get(&hash).or_else(|| {
            let record = Arc::new(table.find(&hash)?);
            kept.insert(hash, Arc::clone(&record));
            Some(record)
        });
        known.is_some_and(|record: Arc<Record>| record.allows())
    };
    Ok((tokens, Box::new(verify)))
}

/// A map in memory, which nothing keeps up to date: the least that anybody gets away with.
///
/// # Errors
/// None.
pub fn hash_map(count: usize) -> Peer {
    let tokens: Vec<_> = (0..count).map(|_| token()).collect();
    let records = tokens.iter().enumerate().map(|(number, token)| (hash(token), Record::of(number)));
    let records: HashMap<_, _> = records.collect();
    let verify = move |token: &str| records.get(&hash(token)).is_some_and(Record::allows);
    Ok((tokens, Box::new(verify)))
}

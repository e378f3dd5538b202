//! The search: every part of every secret, in each form in which it could be written down.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::mem::ManuallyDrop;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// How many characters of a secret are too many.
const WINDOW: usize = 12;
/// The characters of a token behind its locator: 43 of the secret and 6 of the checksum.
const SECRET: usize = 43;
const CHECKSUM: usize = 6;

/// What must not be found. Each needle is a window of a secret in some form.
pub(crate) struct Secrets {
    needles: HashMap<Vec<u8>, String>,
    /// The lengths of needles that there are.
    lengths: Vec<usize>,
    /// For each possible beginning of three bytes whether a needle begins so.
    beginnings: Vec<bool>,
}

impl Default for Secrets {
    fn default() -> Self {
        Self { needles: HashMap::new(), lengths: Vec::new(), beginnings: vec![false; 1 << 24] }
    }
}

fn beginning(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The characters of base64 that depend on these bytes alone, when `before` bytes, modulo three, stand before them.
fn base64_within(engine: &impl base64::Engine, before: usize, bytes: &[u8]) -> String {
    let encoded = engine.encode([&vec![0; before], bytes].concat());
    let first = (before * 8).div_ceil(6);
    let last = (before + bytes.len()) * 8 / 6;
    encoded[first..last].to_owned()
}

impl Secrets {
    /// A token: each window of its secret part, as it is and in other forms, and the whole of it.
    pub(crate) fn add_token(&mut self, token: &str) {
        let tail = &token[token.len() - SECRET - CHECKSUM..];
        let secret = &tail[..SECRET];
        assert!(tail.bytes().all(|byte| byte.is_ascii_alphanumeric()), "not a token");
        self.add_text("the secret of a token", tail);
        self.add_windows("a whole token", token.as_bytes(), token.len());
        self.add_encoded("the secret of a token", secret.as_bytes(), 2 * WINDOW);
    }

    /// A master key: each window of its bytes, and of these in hexadecimal and base64.
    pub(crate) fn add_master(&mut self, bytes: &[u8; 32]) {
        self.add_windows("the bytes of a master key", bytes, WINDOW);
        self.add_encoded("a master key", bytes, WINDOW);
    }

    /// Each window of a text.
    pub(crate) fn add_text(&mut self, name: &str, text: &str) {
        self.add_windows(name, text.as_bytes(), WINDOW);
    }

    fn add_encoded(&mut self, name: &str, bytes: &[u8], of_hex: usize) {
        let hex = hex(bytes);
        self.add_windows(&format!("{name} in hexadecimal"), hex.as_bytes(), of_hex);
        self.add_windows(&format!("{name} in hexadecimal"), hex.to_uppercase().as_bytes(), of_hex);
        for before in 0..3 {
            let standard = base64_within(&STANDARD_NO_PAD, before, bytes);
            self.add_windows(&format!("{name} in base64"), standard.as_bytes(), WINDOW);
            let for_urls = base64_within(&URL_SAFE_NO_PAD, before, bytes);
            self.add_windows(&format!("{name} in base64"), for_urls.as_bytes(), WINDOW);
        }
    }

    fn add_windows(&mut self, name: &str, bytes: &[u8], length: usize) {
        for window in bytes.windows(length) {
            self.beginnings[beginning(window)] = true;
            self.needles.entry(window.to_vec()).or_insert_with(|| name.to_owned());
        }
        if !self.lengths.contains(&length) {
            self.lengths.push(length);
        }
    }

    /// What is found of a secret, if anything is; also among bytes that `Debug` has printed as numbers.
    pub(crate) fn find(&self, haystack: &[u8]) -> Option<&str> {
        self.find_plain(haystack).or_else(|| self.find_plain(&numbers(haystack)))
    }

    fn find_plain(&self, haystack: &[u8]) -> Option<&str> {
        (0..haystack.len().saturating_sub(2))
            .filter(|at| self.beginnings[beginning(&haystack[*at..])])
            .find_map(|at| {
                let window = |length: &usize| haystack.get(at..at + length);
                let needle = |window: &[u8]| self.needles.get(window).map(String::as_str);
                self.lengths.iter().filter_map(window).find_map(needle)
            })
    }

    /// Fails without printing what it found.
    pub(crate) fn assert_absent(&self, place: &str, haystack: &[u8]) {
        assert!(!self.needles.is_empty(), "nothing to look for");
        if let Some(name) = self.find(haystack) {
            panic!("{place} holds {name}");
        }
    }
}

/// The bytes that stand in a text as decimal numbers with commas, as `Debug` prints them.
fn numbers(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in text.split(|byte| !(byte.is_ascii_digit() || *byte == b',' || byte.is_ascii_whitespace())) {
        let numbers = part.split(|byte| *byte == b',');
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.trim().parse::<u8>().ok();
        bytes.extend(numbers.filter_map(number));
    }
    bytes
}

/// All files of a folder. They stay open: closing one would drop the locks that SQLite holds on it in this process.
pub(crate) fn contents_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        let mut file = ManuallyDrop::new(File::open(entry.path()).unwrap());
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        (entry.file_name().into_string().unwrap(), bytes)
    };
    std::fs::read_dir(folder).unwrap().map(read).collect()
}

/// As long as a token is, and with nothing in common with any other.
const TOKEN: &str = "acme_live_0123456789abQwErTyUiOpAsDfGhJkLzXcVbNm1928374650aLsKdJfHgQpWoEi";

fn planted() -> Secrets {
    let mut secrets = Secrets::default();
    secrets.add_token(TOKEN);
    secrets.add_master(&crate::story::master_bytes());
    secrets
}

fn secret() -> &'static str {
    &TOKEN[TOKEN.len() - SECRET - CHECKSUM..TOKEN.len() - CHECKSUM]
}

#[test]
fn the_search_finds_a_secret_that_was_planted_in_a_text() {
    let secrets = planted();
    let master = crate::story::master_bytes();
    let around = |text: &str| format!("{{\"some\": \"{text}\", \"other\": [1, 2, 3]}}").into_bytes();
    for at in 0..=SECRET - WINDOW {
        assert!(secrets.find(&around(&secret()[at..at + WINDOW])).is_some(), "window {at}");
        assert!(secrets.find(&secret().as_bytes()[at..at + WINDOW]).is_some(), "window {at} alone");
    }
    for forms in [secret().as_bytes(), &master] {
        assert!(secrets.find(&around(&hex(forms))).is_some());
        assert!(secrets.find(&around(&hex(forms).to_uppercase())).is_some());
        for before in 0..5 {
            let long = [&vec![7; before], forms, b"behind"].concat();
            assert!(secrets.find(&around(&STANDARD_NO_PAD.encode(&long))).is_some(), "{before} before");
            assert!(secrets.find(&around(&URL_SAFE_NO_PAD.encode(&long))).is_some(), "{before} before");
            assert!(secrets.find(format!("{long:?}").as_bytes()).is_some(), "as numbers");
            assert!(secrets.find(format!("{long:#?}").as_bytes()).is_some(), "as numbers, one a line");
            let sealed = STANDARD_NO_PAD.encode(&long).into_bytes();
            assert!(secrets.find(format!("{sealed:?}").as_bytes()).is_some(), "as the numbers of base64");
            assert!(secrets.find(&long).is_some(), "as bytes");
        }
    }
    assert!(secrets.find(&around(&secret()[..WINDOW - 1])).is_none(), "eleven characters are not a window");
    assert!(secrets.find(&around(&TOKEN[..22])).is_none(), "prefix and locator are public");
    assert!(std::panic::catch_unwind(|| planted().assert_absent("here", TOKEN.as_bytes())).is_err());
}

#[test]
fn the_search_finds_a_secret_that_was_planted_in_a_file_and_in_a_database() {
    let secrets = planted();
    let folder = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(folder.path().join("clean"), &noise).unwrap();
    let (head, tail) = noise.split_at(77_777);
    let planted = [head, &secret().as_bytes()[20..20 + WINDOW], tail].concat();
    std::fs::write(folder.path().join("planted"), planted).unwrap();

    let database = rusqlite::Connection::open(folder.path().join("host.db")).unwrap();
    let mode: String = database.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    database.execute_batch("CREATE TABLE note (body TEXT)").unwrap();
    let body = format!("{{\"token\": \"{TOKEN}\"}}");
    database.execute("INSERT INTO note VALUES (?1)", [&body]).unwrap();

    let mut found = Vec::new();
    for (name, bytes) in contents_of(folder.path()) {
        if secrets.find(&bytes).is_some() {
            found.push(name);
        }
    }
    found.sort_unstable();
    assert_eq!(found, ["host.db-wal", "planted"]);
    database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let files = contents_of(folder.path());
    let (_, file) = files.iter().find(|(name, _)| name == "host.db").unwrap();
    assert!(secrets.find(file).is_some());
}

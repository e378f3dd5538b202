//! What the tests stand on: folders, templates of databases, child processes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use keyrota::{
    Actor, AuditVerdict, KeyManager, Keyring, ManualClock, NewKey, OwnerId, OwnerLimit, SqliteStore,
    Timestamp,
};
use tempfile::TempDir;

/// What a child process is to do, in its environment.
pub(crate) const ORDERS: &str = "KEYROTA_TEST_ORDERS";
/// What an answer of a child begins with, so that it is told from what the test harness prints.
pub(crate) const ANSWER: &str = "@@ ";

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn start() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().unwrap()
}

pub(crate) fn keyring() -> Keyring {
    Keyring::from_bytes(&std::array::from_fn(|i| (i as u8).wrapping_mul(113) ^ 0xa7)).unwrap()
}

pub(crate) fn root() -> Actor {
    Actor::operator("root")
}

pub(crate) fn owner(name: &str) -> OwnerId {
    OwnerId::new(name).unwrap()
}

/// A folder for a database: in memory where the system has that, which makes a sync of the disk cheap.
pub(crate) fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(folder) = tempfile::tempdir_in(memory)
    {
        return folder;
    }
    tempfile::tempdir().unwrap()
}

pub(crate) fn database(folder: &Path) -> PathBuf {
    folder.join("keys.db")
}

pub(crate) fn log(folder: &Path) -> PathBuf {
    folder.join("keys.db-wal")
}

/// Opens a database, which founds it when it is empty.
pub(crate) fn manager(folder: &Path, clock: &ManualClock) -> KeyManager {
    try_manager(folder, clock).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn try_manager(folder: &Path, clock: &ManualClock) -> Result<KeyManager, String> {
    let store = SqliteStore::options().busy_timeout(Duration::from_millis(200)).open(database(folder));
    KeyManager::builder(store.map_err(|error| error.to_string())?, keyring())
        .clock(clock.clone())
        .owner_limit(OwnerLimit::new(100_000).unwrap())
        .open()
        .map_err(|error| error.to_string())
}

/// What an act of a story begins with.
pub(crate) enum Template {
    /// No file at all.
    Empty,
    /// A store with a log that a crash has left: opening moves it into the file, and the next act begins it anew, above
    /// what it held.
    Crashed,
}

impl Template {
    /// A folder of its own with the files of the template.
    pub(crate) fn copy(&self) -> TempDir {
        let folder = folder();
        if let Self::Crashed = self {
            static CRASHED: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
            let (file, tail) = CRASHED.get_or_init(crashed);
            std::fs::write(database(folder.path()), file).unwrap();
            std::fs::write(log(folder.path()), tail).unwrap();
        }
        folder
    }
}

/// The bytes of a database and of its log, as they are in the middle of a process's life.
pub(crate) fn files(folder: &Path) -> (Vec<u8>, Vec<u8>) {
    // Reading by another descriptor drops the locks of this process, but nobody else has these files open.
    (std::fs::read(database(folder)).unwrap(), std::fs::read(log(folder)).unwrap())
}

/// The database and its log, as whoever starts after a restart of the machine finds them.
pub(crate) fn copy(from: &Path) -> TempDir {
    let folder = folder();
    for file in [database, log] {
        if file(from).exists() {
            std::fs::copy(file(from), file(folder.path())).unwrap();
        }
    }
    folder
}

fn crashed() -> (Vec<u8>, Vec<u8>) {
    let folder = folder();
    let keys = manager(folder.path(), &ManualClock::new(start()));
    for _ in 0..15 {
        keys.by(root()).issue(NewKey::new(owner("crowd"), "one").unwrap()).unwrap();
    }
    files(folder.path())
}

/// Each row is as the library wrote it, the audit log's chain is whole, and the rows say what the log says.
pub(crate) fn assert_sound(keys: &KeyManager, context: &str) {
    let verdict = keys.verify_audit().unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(matches!(verdict, AuditVerdict::Sound { .. }), "{context}: {verdict:?}");
    let report = keys.check(None).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(report.is_sound(), "{context}: {report:?}");
}

/// SQLite itself finds nothing wrong with the file.
pub(crate) fn assert_whole(folder: &Path, context: &str) {
    let shell = rusqlite::Connection::open(database(folder)).unwrap();
    let verdict: String = shell.pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok", "{context}");
}

/// Carries out orders in a child process of this same program, to its end.
pub(crate) fn child(orders: &str) -> Output {
    begin_child(orders).wait_with_output().unwrap()
}

/// The same; it is talked to by its input and output.
pub(crate) fn begin_child(orders: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child_entry", "--exact", "--nocapture", "--test-threads=1"])
        .env(ORDERS, orders)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The answers among what a child has said. A line without its end was cut off by its death, and was not said.
pub(crate) fn answers(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    lines.filter_map(|line| line.split_once(ANSWER).map(|(_, answer)| answer.trim_end().to_owned())).collect()
}

/// One line in one write: whoever has read it knows that what it says was done before.
pub(crate) fn say(answer: &str) {
    use std::io::Write as _;
    writeln!(std::io::stdout().lock(), "{ANSWER}{answer}").unwrap();
}

/// What a child process does.
pub(crate) fn obey(orders: &str) {
    let words: Vec<_> = orders.split_whitespace().collect();
    match *words {
        ["story", folder, at, fate] => crate::killed::live(Path::new(folder), at.parse().unwrap(), fate),
        ["limited", folder] => crate::full::live_with_limited_files(Path::new(folder)),
        ["small", folder] => crate::full::live_on_a_small_disk(Path::new(folder)),
        ["hold", folder] => crate::write_errors::hold_the_lock(Path::new(folder)),
        _ => panic!("no such orders: {orders}"),
    }
}

/// Does all of it, on as many threads as the machine has processors.
pub(crate) fn for_each<T: Sync>(all: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::SeqCst)) {
                    work(one);
                }
            });
        }
    });
}

/// Whether everything is to be tried, however long it takes, and not a part of it.
pub(crate) fn is_thorough() -> bool {
    std::env::var_os("KEYROTA_CRASH_ALL").is_some()
}

/// Each so-manieth, always with the first and the last; all of them in a thorough run.
pub(crate) fn thinned(count: u64, each: u64) -> impl Iterator<Item = u64> {
    let each = if is_thorough() { 1 } else { each };
    (0..count).filter(move |n| n % each == 0 || n + 1 == count)
}

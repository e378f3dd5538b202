//! What the tests stand on: child processes, a folder for the file, counters that processes share, verdicts.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use keyrota::{
    Actor, AuditFilter, AuditVerdict, Denial, DenialReason, EventKind, Grant, KeyId, KeyManager,
    KeyStore as _, Keyring, ManualClock, NewKey, OwnerId, OwnerLimit, RotationPolicy, SqliteStore, Timestamp,
};

/// Set in the environment of a child process.
pub(crate) const CHILD: &str = "KEYROTA_TEST_CHILD";
/// What an answer begins with, so that it is told from what the test harness prints.
pub(crate) const ANSWER: &str = "@@ ";
/// How long an answer may take; then all children are killed and the test fails.
const WATCHDOG: Duration = Duration::from_secs(120);

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn start() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().unwrap()
}

pub(crate) fn keyring() -> Keyring {
    Keyring::from_bytes(&[
        0x81, 0x02, 0xd3, 0x44, 0xa5, 0x06, 0xf7, 0x08, 0x19, 0xea, 0x0b, 0x8c, 0x0d, 0x7e, 0x0f, 0x10, 0x91,
        0x12, 0xc3, 0x14, 0x15, 0xb6, 0x17, 0x18, 0xf9, 0x1a, 0x2b, 0x1c, 0x9d, 0x1e, 0x3f, 0x20,
    ])
    .unwrap()
}

pub(crate) fn root() -> Actor {
    Actor::operator("root")
}

pub(crate) fn owner(name: &str) -> OwnerId {
    OwnerId::new(name).unwrap()
}

/// A child process. It is killed when this is dropped, also by a test that fails.
pub(crate) struct Process {
    child: Child,
    commands: ChildStdin,
    answers: Receiver<String>,
}

impl Process {
    pub(crate) fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_entry", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (commands, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, answers) = channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = String::new();
            // A line without its end was cut off by the death of the child, and was not said.
            while output.read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
                let answer = line.split_once(ANSWER).map(|(_, answer)| answer.trim_end().to_owned());
                if answer.is_some_and(|answer| sender.send(answer).is_err()) {
                    return;
                }
                line.clear();
            }
        });
        Self { child, commands, answers }
    }

    /// Several of them, each with the file open and the clock at `time`.
    pub(crate) fn start_on(path: &Path, time: Timestamp, count: usize) -> Vec<Self> {
        let mut processes: Vec<_> = (0..count).map(|_| Self::start()).collect();
        for answer in ask_all(&mut processes, &format!("open {} {}", path.display(), time.unix_micros())) {
            assert!(answer.starts_with("opened "), "{answer}");
        }
        processes
    }

    /// Gives a command, and does not wait for its answer.
    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
        self.commands.flush().unwrap();
    }

    /// The next answer.
    pub(crate) fn answer(&self) -> String {
        match self.answers.recv_timeout(WATCHDOG) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => {
                panic!("the child ended without an answer; see its output")
            }
            Err(RecvTimeoutError::Timeout) => panic!("the child gave no answer in {WATCHDOG:?}"),
        }
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    /// Kills the child with SIGKILL. Returns what it had still said.
    pub(crate) fn kill(&mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.answers.iter().collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it is dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gives all processes the same command before waiting for any of their answers.
pub(crate) fn ask_all(processes: &mut [Process], command: &str) -> Vec<String> {
    processes.iter_mut().for_each(|process| process.tell(command));
    processes.iter().map(Process::answer).collect()
}

/// Gives all processes the same command, each as soon as all are ready for it.
pub(crate) fn ask_all_at_once(processes: &mut [Process], place: &Path, command: &str) -> Vec<String> {
    let number = processes.len();
    for process in processes.iter_mut() {
        process.tell(&format!("meet {} {number}", place.display()));
        process.tell(command);
    }
    let answer = |process: &Process| {
        assert_eq!(process.answer(), "met");
        process.answer()
    };
    processes.iter().map(answer).collect()
}

/// A folder for a database: in memory where the system has that, which makes a sync of the disk cheap.
pub(crate) fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir()
        && let Ok(folder) = tempfile::tempdir_in(memory)
    {
        return folder;
    }
    tempfile::tempdir().unwrap()
}

/// A counter that processes share: the length of a file. Adding and reading are each one atomic system call, so that
/// whoever reads a number knows that all which came before it, in whatever process, has happened.
pub(crate) struct Tally(File);

impl Tally {
    pub(crate) fn open(path: PathBuf) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(path).unwrap())
    }

    pub(crate) fn add(&self) {
        (&self.0).write_all(b".").unwrap();
    }

    pub(crate) fn count(&self) -> usize {
        self.0.metadata().unwrap().len().try_into().unwrap()
    }
}

/// A database file with a manager of this process on it.
pub(crate) struct Bed {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) clock: ManualClock,
    pub(crate) keys: KeyManager,
}

impl Bed {
    /// A founded store in which each owner may hold so many keys.
    pub(crate) fn new(owner_limit: u32) -> Self {
        Self::found(folder(), owner_limit, RotationPolicy::default())
    }

    pub(crate) fn found(folder: tempfile::TempDir, owner_limit: u32, policy: RotationPolicy) -> Self {
        let clock = ManualClock::new(start());
        let store = SqliteStore::open(folder.path().join("keys.db")).unwrap();
        let keys = KeyManager::builder(store, keyring())
            .clock(clock.clone())
            .owner_limit(OwnerLimit::new(owner_limit).unwrap())
            .policy(policy);
        Self { keys: keys.open().unwrap(), folder, clock }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("keys.db")
    }

    pub(crate) fn processes(&self, count: usize) -> Vec<Process> {
        Process::start_on(&self.path(), start(), count)
    }

    pub(crate) fn issue(&self, name: &str) -> (KeyId, String) {
        let issued = self.keys.by(root()).issue(NewKey::new(owner(name), "ci").unwrap()).unwrap();
        (issued.key, issued.token.expose().to_owned())
    }

    pub(crate) fn rotate(&self, key: KeyId) -> String {
        self.keys.by(root()).rotate(key).unwrap().token.expose().to_owned()
    }

    pub(crate) fn count(&self, kind: EventKind) -> usize {
        self.keys.audit(&AuditFilter::all().kind(kind), usize::MAX).unwrap().len()
    }

    /// The number of the last commit.
    pub(crate) fn revision(&self) -> u64 {
        SqliteStore::open(self.path()).unwrap().head().unwrap().unwrap().revision.0
    }

    pub(crate) fn assert_sound(&self) {
        assert_sound(&self.keys);
    }
}

/// Each row is as the library wrote it, the audit log's chain is whole, and the rows say what the log says.
pub(crate) fn assert_sound(keys: &KeyManager) {
    let verdict = keys.verify_audit().unwrap();
    assert!(matches!(verdict, AuditVerdict::Sound { .. }), "{verdict:?}");
    let report = keys.check(None).unwrap();
    assert!(report.is_sound(), "{report:?}");
}

/// A verdict as one letter.
pub(crate) fn letter(verdict: &Result<Grant, Denial>) -> char {
    match verdict.as_ref().map_err(|denial| denial.reason()) {
        Ok(_) => 'g',
        Err(DenialReason::Suspended) => 's',
        Err(DenialReason::Revoked) => 'r',
        Err(DenialReason::Expired) => 'e',
        Err(DenialReason::Retired) => 't',
        Err(DenialReason::Unknown) => 'u',
        Err(DenialReason::Unavailable(_)) => '-',
        Err(_) => '?',
    }
}

//! A folder with a database and a master key, and commands run in it.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_keyrota");

pub(crate) struct Stage {
    pub(crate) folder: tempfile::TempDir,
}

/// What a command answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code().expect("no signal ended it");
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Answer {
    /// The JSON of an answer that came with this exit code: one object on one line, and nothing else.
    pub(crate) fn json(&self, code: i32) -> Value {
        assert_eq!((self.code, self.err.as_str()), (code, ""), "{self:?}");
        assert_eq!(self.out.matches('\n').count(), 1, "{self:?}");
        let value: Value = serde_json::from_str(&self.out).unwrap();
        assert!(value.is_object());
        value
    }

    /// It ended with this code and said why, in however many lines.
    pub(crate) fn refused(&self, code: i32, told: &str) {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        assert!(self.err.contains(told) && !self.err.contains("panicked"), "{self:?}");
    }

    pub(crate) fn failed(&self, code: i32, told: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.err.contains(told) && self.err.starts_with("keyrota: "), "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
    }
}

impl Stage {
    /// A folder with nothing in it.
    pub(crate) fn bare() -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self { folder: folder.unwrap() }
    }

    /// A folder with a database.
    pub(crate) fn new() -> Self {
        let stage = Self::bare();
        stage.json(&["init"]);
        stage
    }

    /// A folder with a database of yesterday, in which the successors of so many keys are due; and their tokens.
    pub(crate) fn with_due_keys(names: &[&str]) -> (Self, Vec<(String, String)>) {
        use keyrota::{
            Actor, Clock as _, KeyManager, Keyring, ManualClock, NewKey, OwnerId, RotationPolicy, SystemClock,
        };
        const HOUR: std::time::Duration = std::time::Duration::from_secs(3_600);
        let stage = Self::bare();
        let keyring = Keyring::generate().unwrap();
        fs::write(stage.path("master.key"), keyring.expose_text().as_bytes()).unwrap();
        stage.set_mode("master.key", 0o600);
        let policy = RotationPolicy::builder().lifetime(48 * HOUR).rotate_every(24 * HOUR).overlap(HOUR);
        let store = keyrota::SqliteStore::open(stage.path("keys.db")).unwrap();
        let builder = KeyManager::builder(store, keyring)
            .clock(ManualClock::new(SystemClock.now().minus_or_min(25 * HOUR)));
        let keys = builder.policy(policy.build().unwrap()).auto_rotation(true).open().unwrap();
        let issue = |name: &&str| {
            let new = NewKey::new(OwnerId::new("ada").unwrap(), *name).unwrap();
            let issued = keys.by(Actor::operator("root")).issue(new).unwrap();
            (issued.key.to_string(), issued.token.expose().to_owned())
        };
        let issued = names.iter().map(issue).collect();
        (stage, issued)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program with the variables of this folder, and no others that could matter.
    pub(crate) fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KEYROTA")) {
            command.env_remove(name);
        }
        command
            .env("KEYROTA_DB", self.path("keys.db"))
            .env("KEYROTA_MASTER_KEY_FILE", self.path("master.key"))
            .env("KEYROTA_ACTOR", "root")
            .env_remove("NO_COLOR")
            .env("TERM", "xterm")
            .current_dir(self.folder.path());
        command
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(PROGRAM);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Answer {
        self.command(arguments).output().unwrap().into()
    }

    /// The same with something on standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Answer {
        let mut command = self.command(arguments);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Whoever answers without reading closes the pipe.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        child.wait_with_output().unwrap().into()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat()).json(0)
    }

    pub(crate) fn json_with(&self, arguments: &[&str], input: &str) -> Value {
        self.run_with(&[arguments, &["--json"]].concat(), input).json(0)
    }

    /// A key with its token.
    pub(crate) fn issue(&self, more: &[&str]) -> (String, String) {
        let issued = self.json(&[&["issue", "--owner", "ada", "--name", "ci"], more].concat());
        (text(&issued["key_id"]), text(&issued["token"]))
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn mode(&self, name: &str) -> u32 {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(self.path(name)).unwrap().permissions().mode() & 0o777
    }

    pub(crate) fn set_mode(&self, name: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}")).to_owned()
}

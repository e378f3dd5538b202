//! Child processes, which carry out commands.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Set in the environment of a child process.
pub(crate) const CHILD: &str = "KEYROTA_TEST_CHILD";
/// What an answer begins with, so that it is told from what the test harness prints.
pub(crate) const ANSWER: &str = "@@ ";

/// A process that answers each line with a line. It is killed when this is dropped, also by a test that fails.
pub(crate) struct Process {
    child: Killed,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// This test program once more.
    pub(crate) fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["child_entry", "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, "1");
        Self::run(command)
    }

    /// With the database open in a plain connection.
    pub(crate) fn on(path: &Path) -> Self {
        let mut process = Self::start();
        process.ask(&format!("open {}", path.display()));
        process
    }

    pub(crate) fn run(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child: Killed(child), commands, answers: BufReader::new(answers) }
    }

    /// Gives a command, and does not wait for its answer.
    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    /// The next answer, or `None` when the process has ended.
    pub(crate) fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.answers.read_line(&mut line).unwrap() > 0 {
            if let Some((_, answer)) = line.split_once(ANSWER) {
                return Some(answer.trim_end().to_owned());
            }
            line.clear();
        }
        None
    }

    pub(crate) fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer().unwrap_or_else(|| panic!("the child ended at: {command}"))
    }

    /// Has a statement carried out that must succeed.
    pub(crate) fn sql(&mut self, sql: &str) {
        assert_eq!(self.ask(&format!("sql {sql}")), "ok", "{sql}");
    }

    /// Gives a command at which the process has to die before it answers.
    pub(crate) fn die_at(mut self, command: &str) {
        self.tell(command);
        assert_eq!(self.answer(), None, "{command}");
        assert!(!self.child.0.wait().unwrap().success());
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.0.kill().unwrap();
        self.child.0.wait().unwrap();
    }

    /// Lets it end by itself, with all that it closes.
    pub(crate) fn end(self) {
        let Self { mut child, commands, answers } = self;
        drop(commands);
        // Read to the end, so that its last words find a reader.
        answers.lines().for_each(drop);
        child.0.wait().unwrap();
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // An error means that it is dead already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

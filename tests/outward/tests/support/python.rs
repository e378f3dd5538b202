//! Python packages for the tests, installed once into a place of their own beside what cargo builds.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// What is installed, at these versions.
const PACKAGES: [&str; 3] = ["standardwebhooks==1.1.0", "aiosmtpd==1.4.6", "hvac==2.4.0"];

/// The interpreter that has the packages. Without Python or without a way to its packages there is none, which is said
/// loudly; where `KEYROTA_NEEDS_PYTHON` is set, that fails.
pub(crate) fn interpreter() -> Option<&'static PathBuf> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(install) {
        Ok(python) => Some(python),
        Err(why) if std::env::var_os("KEYROTA_NEEDS_PYTHON").is_some() => panic!("no Python packages: {why}"),
        Err(why) => {
            eprintln!("\n=== LEFT OUT: this test needs Python with {PACKAGES:?}: {why} ===\n");
            None
        }
    }
}

fn install() -> Result<PathBuf, String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("python");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let run = |command: &mut Command| -> Result<(), String> {
        let output = command.output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    };
    let has_all = |python: &PathBuf| {
        run(Command::new(python).args(["-c", "import standardwebhooks, aiosmtpd, hvac"])).is_ok()
    };
    if has_all(&python) {
        return Ok(python);
    }
    // Several test binaries may come here at once: one installs, and the others wait for it.
    std::fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).map_err(|error| error.to_string())?;
    let lock = std::fs::File::create(folder.with_extension("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if !has_all(&python) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(&python).args(pip).args(PACKAGES))?;
    }
    Ok(python)
}

/// A program that says a line once it is ready, and lines about what it gets.
pub(crate) struct Program {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Program {
    /// Runs a script, and waits for its first line, which it returns.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Option<(Self, String)> {
        let mut command = Command::new(interpreter()?);
        command
            .args(["-u", "-W", "ignore", "-c", script])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut program = Self { child, lines };
        let ready = program.line();
        Some((program, ready))
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

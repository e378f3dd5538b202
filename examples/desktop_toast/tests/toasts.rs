//! Toasts on a real message bus, whose desktop is a small one of the test's own; and where there is no desktop.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use keyrota::{
    Actor, ChannelFilter, Clock, KeyManager, Keyring, ManualClock, MemoryStore, NewKey, OwnerId, Severity,
};
use keyrota_desktop_toast::DesktopToast;

const BUS: &str = "DBUS_SESSION_BUS_ADDRESS";

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bus at this place, once it answers; `None` where the program is not installed.
fn bus(at: &Path) -> Option<Running> {
    let address = format!("--address=unix:path={}", at.display());
    let bus = Command::new("dbus-daemon").args(["--session", "--nofork", "--nopidfile", &address]).spawn();
    let bus = Running(bus.ok()?);
    while !at.exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(bus)
}

/// What a desktop is told: a summary, a body, and for how many milliseconds it stays.
type Shown = (String, String, i32);

struct Desktop(Sender<Shown>);

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Desktop {
    #[allow(clippy::too_many_arguments, reason = "as the interface has it")]
    fn notify(
        &self,
        _app: String,
        _replaces: u32,
        _icon: String,
        summary: String,
        body: String,
        _actions: Vec<String>,
        _hints: std::collections::HashMap<String, zbus::OwnedVariant>,
        stays: i32,
    ) -> u32 {
        self.0.send((summary, body, stays)).unwrap();
        1
    }
}

#[test]
fn without_a_desktop_the_program_says_so_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = format!("unix:path={}", folder.path().join("bus").display());
    for address in [Some(nowhere), None] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_keyrota-desktop-toast"));
        program.env_remove(BUS).env_remove("DISPLAY").env("XDG_RUNTIME_DIR", folder.path());
        let output = program.envs(address.map(|address| (BUS, address))).output().unwrap();
        let (said, told) =
            (String::from_utf8(output.stderr).unwrap(), String::from_utf8(output.stdout).unwrap());
        assert!(output.status.success(), "{said}");
        assert!(said.starts_with("no desktop shows toasts here: ") && said.contains("revoked"), "{said}");
        assert_eq!(told, "0 shown, 1 to be tried again, 0 lost\n");
    }
}

#[test]
fn a_toast_waits_for_the_desktop_and_is_shown_with_what_is_to_be_known() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("bus");
    // The environment is a process's own, so another process has to be asked.
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--ignored", "--nocapture", "shows_a_toast_once_there_is_a_desktop"]);
    let output = child.env(BUS, format!("unix:path={}", place.display())).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    print!("{said}");
}

#[test]
#[ignore = "run by the test above, in an environment of its own"]
fn shows_a_toast_once_there_is_a_desktop() {
    let address = std::env::var(BUS).unwrap();
    let clock = ManualClock::new("2027-01-01T00:00:00Z".parse().unwrap());
    let keys = KeyManager::builder(MemoryStore::new(), Keyring::generate().unwrap())
        .clock(clock.clone())
        .filtered_channel("desktop", ChannelFilter::all().at_least(Severity::Warning), DesktopToast)
        .open()
        .unwrap();
    let root = || keys.by(Actor::operator("root"));
    let key = root().issue(NewKey::new(OwnerId::new("ada").unwrap(), "<b>ci</b>").unwrap()).unwrap().key;
    root().because("leaked").revoke(key).unwrap();
    let report = keys.deliver("desktop").unwrap();
    assert_eq!((report.notified, report.retried, report.dead), (0, 1, 0));

    let Some(_bus) = bus(Path::new(address.trim_start_matches("unix:path="))) else {
        eprintln!("\n=== LEFT OUT: this test needs dbus-daemon ===\n");
        return;
    };
    let (tell, shown) = channel();
    let desktop = zbus::connection::Builder::address(address.as_str()).name("org.freedesktop.Notifications");
    let desktop = desktop.serve_at("/org/freedesktop/Notifications", Desktop(tell)).build();
    let _desktop = zbus::block_on(desktop).unwrap();
    clock.set(report.next_due.unwrap());
    let report = keys.deliver("desktop").unwrap();
    assert_eq!((report.notified, report.retried, report.dead), (1, 0, 0), "at {}", clock.now());
    let (summary, body, stays) = shown.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(summary, "revoked: <b>ci</b>");
    assert!(
        body.contains("&lt;b&gt;ci&lt;/b&gt;") && !body.contains('<') && body.contains("leaked"),
        "{body}"
    );
    assert_eq!(stays, 0, "until it is clicked");
}

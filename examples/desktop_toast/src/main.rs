//! Shows one notification on the desktop; without one it says so, and keeps it.
//!
//! Run it with `cargo run --package keyrota-desktop-toast`.
use std::error::Error;

use keyrota::{Actor, ChannelFilter, KeyManager, Keyring, MemoryStore, NewKey, OwnerId, Severity};
use keyrota_desktop_toast::{DesktopToast, Outspoken};

fn main() -> Result<(), Box<dyn Error>> {
    let matters = ChannelFilter::all().at_least(Severity::Warning);
    let keys = KeyManager::builder(MemoryStore::new(), Keyring::generate()?)
        .filtered_channel("desktop", matters, Outspoken(DesktopToast))
        .open()?;
    let key = keys.by(Actor::operator("root")).issue(NewKey::new(OwnerId::new("ada")?, "ci")?)?.key;
    keys.by(Actor::operator("root")).because("leaked in a build log").revoke(key)?;
    let report = keys.deliver("desktop")?;
    println!("{} shown, {} to be tried again, {} lost", report.notified, report.retried, report.dead);
    Ok(())
}

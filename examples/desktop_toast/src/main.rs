//! Notifications on the desktop of whoever runs this: for a developer's own machine, or an operator's.
//!
//! Run it with `cargo run --package keyrota-desktop-toast`.
use std::error::Error;

use keyrota::{
    Actor, ChannelFilter, KeyManager, Keyring, MemoryStore, NewKey, Notification, Notifier, NotifyError,
    OwnerId, Severity,
};
use notify_rust::{Notification as Toast, Timeout};

/// Shows each notification as a toast.
struct DesktopToast;

impl Notifier for DesktopToast {
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let name = notification.name.as_ref().map_or("", |name| name.as_str());
        let mut toast = Toast::new();
        toast.appname("keyrota").summary(&format!("{}: {name}", notification.kind));
        // Some desktops take a part of HTML for what it says; names come from outside.
        let body = notification.to_string();
        toast.body(&body.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"));
        // What asks somebody to act stays until it is clicked.
        let stays = notification.severity >= Severity::Warning;
        toast.timeout(if stays { Timeout::Never } else { Timeout::Default });
        // Without a desktop it is tried again for a week, and then kept as a dead letter.
        let shown = toast.show().map(drop);
        shown.map_err(|error| NotifyError::retry(format!("the desktop shows no toast: {error}")))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let matters = ChannelFilter::all().at_least(Severity::Warning);
    let keys = KeyManager::builder(MemoryStore::new(), Keyring::generate()?)
        .filtered_channel("desktop", matters, DesktopToast)
        .open()?;
    let key = keys.by(Actor::operator("root")).issue(NewKey::new(OwnerId::new("ada")?, "ci")?)?.key;
    keys.by(Actor::operator("root")).because("leaked in a build log").revoke(key)?;
    let report = keys.deliver("desktop")?;
    println!("{} shown, {} to be tried again", report.notified, report.retried);
    Ok(())
}

//! Notifications on the desktop of whoever runs this: for a developer's own machine, or an operator's.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use keyrota::{Notification, Notifier, NotifyError, Severity};
use notify_rust::{Notification as Toast, Timeout};

/// A desktop that hangs is not waited for longer: ticks have other channels to serve.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shows each notification as a toast.
#[derive(Clone, Copy, Debug, Default)]
pub struct DesktopToast;

/// The same for people, as the desktop takes it.
fn toast(notification: &Notification) -> Toast {
    let name = notification.name.as_ref().map_or("", |name| name.as_str());
    let mut toast = Toast::new();
    toast.appname("keyrota").summary(&format!("{}: {name}", notification.kind));
    // Some desktops take a part of HTML for what it says; names come from outside.
    let body = notification.to_string();
    toast.body(&body.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"));
    // What asks somebody to act stays until it is clicked.
    let stays = notification.severity >= Severity::Warning;
    toast.timeout(if stays { Timeout::Never } else { Timeout::Default });
    toast
}

impl Notifier for DesktopToast {
    /// Without a desktop it is tried again for a week, and then kept as a dead letter: nothing is lost meanwhile.
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let (toast, (tell, told)) = (toast(notification), mpsc::channel());
        thread::spawn(move || tell.send(toast.show().map(drop)));
        match told.recv_timeout(PATIENCE) {
            Ok(shown) => {
                shown.map_err(|error| NotifyError::retry(format!("no desktop shows toasts here: {error}")))
            }
            Err(_) => Err(NotifyError::retry("the desktop does not answer")),
        }
    }
}

/// A channel that also says at once, to whoever runs the program, why nothing is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outspoken(pub DesktopToast);

impl Notifier for Outspoken {
    fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let told = self.0.notify(notification);
        if let Err(why) = &told {
            eprintln!("{why}: {notification}");
        }
        told
    }
}

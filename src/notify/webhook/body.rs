//! The body: the notification's public form, and of a rotation who has left and who has come.

use serde::Serialize;

use crate::digest::Fingerprint;
use crate::notification::Notification;

#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    notification: &'a Notification,
    #[serde(flatten)]
    rotated: Option<Rotated>,
}

/// Fingerprints, as everywhere outside: never a secret.
#[derive(Serialize)]
struct Rotated {
    old_key: Fingerprint,
    new_key: Fingerprint,
    timestamp: String,
}

pub(super) fn body(notification: &Notification) -> Vec<u8> {
    let both = notification.old_fingerprint.zip(notification.new_fingerprint);
    let rotated = both.map(|(old_key, new_key)| {
        // As every other time in it.
        Rotated { old_key, new_key, timestamp: notification.at.to_string() }
    });
    // The fields hold nothing that JSON cannot express.
    serde_json::to_vec(&Body { notification, rotated }).unwrap_or_default()
}

//! The channels that a host has registered: their names, what each is told, and how.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::id::OwnerId;
use crate::notification::{Notification, NotificationKind, Severity};
use crate::notify::Notifier;

/// The channels of a manager contradict each other or are named badly.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The name is not of 1 to 40 lower-case letters, digits, `-` and `_`.
    #[error("the channel {0:?} is not named by 1 to 40 lower-case letters, digits, `-` and `_`")]
    Name(String),
    /// Two channels have the same name.
    #[error("there are two channels {0:?}; give each a name of its own")]
    Twice(String),
}

crate::text::debug_as_told!(ChannelError);

/// What a channel is told. Default: everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ChannelFilter {
    kinds: Option<BTreeSet<NotificationKind>>,
    owners: Option<BTreeSet<OwnerId>>,
    least: Option<Severity>,
}

impl ChannelFilter {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only these kinds.
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = NotificationKind>) -> Self {
        self.kinds = Some(kinds.into_iter().collect());
        self
    }

    /// Only what matters at least so much.
    pub fn at_least(mut self, severity: Severity) -> Self {
        self.least = Some(severity);
        self
    }

    /// Only what concerns these owners.
    pub fn owners(mut self, owners: impl IntoIterator<Item = OwnerId>) -> Self {
        self.owners = Some(owners.into_iter().collect());
        self
    }

    /// Whether a notification is among those asked for.
    #[must_use]
    pub fn matches(&self, notification: &Notification) -> bool {
        let is_of = |owners: &BTreeSet<_>| notification.owner.is_some_and(|owner| owners.contains(&owner));
        self.asks_for(notification.kind)
            && self.least.is_none_or(|least| notification.severity >= least)
            && self.owners.as_ref().is_none_or(is_of)
    }

    fn asks_for(&self, kind: NotificationKind) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind))
    }
}

/// One channel.
#[derive(Clone)]
pub(crate) struct Channel {
    pub(crate) name: String,
    pub(crate) filter: ChannelFilter,
    /// How it is told; `None` where another process does that.
    pub(crate) notifier: Option<Arc<dyn Notifier>>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.name)
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

/// All channels of a manager.
#[derive(Clone, Debug, Default)]
pub(crate) struct Channels {
    all: Vec<Channel>,
}

impl Channels {
    pub(crate) fn add(&mut self, channel: Channel) {
        self.all.push(channel);
    }

    pub(crate) fn check(&self) -> Result<(), ChannelError> {
        let mut names = BTreeSet::new();
        for Channel { name, .. } in &self.all {
            let allowed =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
            if name.is_empty() || name.len() > 40 || !name.bytes().all(allowed) {
                return Err(ChannelError::Name(name.chars().take(60).collect()));
            }
            if !names.insert(name) {
                return Err(ChannelError::Twice(name.clone()));
            }
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.all.iter()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Channel> {
        self.all.iter().find(|channel| channel.name == name)
    }

    /// The names of those that are told this.
    pub(crate) fn of(&self, notification: &Notification) -> impl Iterator<Item = &str> {
        let told = self.all.iter().filter(|channel| channel.filter.matches(notification));
        told.map(|channel| channel.name.as_str())
    }

    /// Whether anybody wants this kind at all.
    pub(crate) fn ask_for(&self, kind: NotificationKind) -> bool {
        self.all.iter().any(|channel| channel.filter.asks_for(kind))
    }
}

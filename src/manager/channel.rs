//! Registering channels with a manager.

use std::sync::Arc;
use std::time::Duration;

use crate::manager::KeyManagerBuilder;
use crate::notify::{Channel, ChannelFilter, Notifier};
use crate::policy::RotationPolicy;

impl KeyManagerBuilder {
    /// Registers a channel that is told everything, under a name of 1 to 40 lower-case letters, digits, `-` and `_`.
    ///
    /// Whoever acts or ticks on a store writes the notifications for the channels that it has registered. So register
    /// the same channels in each process; with [`channel_elsewhere`](Self::channel_elsewhere) where others tell them.
    pub fn channel(self, name: impl Into<String>, notifier: impl Notifier) -> Self {
        self.filtered_channel(name, ChannelFilter::all(), notifier)
    }

    /// Registers a channel that is told what its filter asks for.
    pub fn filtered_channel(
        self,
        name: impl Into<String>,
        filter: ChannelFilter,
        notifier: impl Notifier,
    ) -> Self {
        self.register(name.into(), filter, Some(Arc::new(notifier)))
    }

    /// Registers a channel that another process serves: what is told on it is written here, and told there. What nobody
    /// has tried for 30 days is dropped, and so are the oldest notifications of a channel on which 10 000 wait; an
    /// alarm tells how many.
    pub fn channel_elsewhere(self, name: impl Into<String>, filter: ChannelFilter) -> Self {
        self.register(name.into(), filter, None)
    }

    /// How long before its end a version that nothing has replaced is warned of, in the policy that an empty store begins
    /// with: at most four times, by default 7 days and 1 day before. A store that has a policy keeps its word, and so does
    /// a key that has one of its own: see [`RotationPolicyBuilder::warnings`](crate::RotationPolicyBuilder::warnings). Of
    /// a key that lives no longer than that, those warnings become one that comes with its making.
    pub fn expiry_warnings(mut self, warnings: impl IntoIterator<Item = Duration>) -> Self {
        self.warnings = Some(warnings.into_iter().take(RotationPolicy::MAX_WARNINGS + 1).collect());
        self
    }

    fn register(mut self, name: String, filter: ChannelFilter, notifier: Option<Arc<dyn Notifier>>) -> Self {
        self.channels.add(Channel { name, filter, notifier });
        self
    }
}

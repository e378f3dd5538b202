//! The sink: where a host's own service takes a successor's secret.

use crate::id::{KeyId, KeyName, OwnerId, RotationId, VersionNo};
use crate::time::Timestamp;
use crate::token::SecretToken;

/// A successor's secret on its way to where it will be used.
#[derive(Debug)]
#[non_exhaustive]
pub struct Handover<'a> {
    /// The key.
    pub key: KeyId,
    /// Its owner.
    pub owner: OwnerId,
    /// What people call it.
    pub name: &'a KeyName,
    /// The version: the same until the sink has acknowledged it.
    pub version: VersionNo,
    /// The rotation.
    pub rotation: RotationId,
    /// When the version ends; `None` is never.
    pub valid_until: Option<Timestamp>,
    /// How many times it was tried, this one included.
    pub attempt: u32,
    /// The secret. It validates already, so that the service may use it before it has acknowledged it.
    pub secret: &'a SecretToken,
}

/// Why a sink did not take a secret; it is tried again later. There is no text in it that could hold a secret.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The service cannot be reached now, or did not answer in time.
    #[error("the sink cannot be reached")]
    Unavailable,
    /// The service refused the secret.
    #[error("the sink refused the secret")]
    Refused,
}

crate::text::debug_as_told!(SinkError);

/// Takes successors' secrets to the service that uses them: a secrets manager, a configuration, another host.
///
/// The same version may be put several times, by several processes, and has to be taken each time: whoever dies between
/// the call and its acknowledgement leaves it to the next tick. Called outside of any transaction, for as long as it
/// takes; after five minutes another process may try, too.
pub trait SecretSink: Send + Sync + 'static {
    /// Takes one secret.
    ///
    /// # Errors
    /// [`SinkError`]: it is tried again, after one minute at first and after an hour at most.
    fn put(&self, handover: &Handover<'_>) -> Result<(), SinkError>;
}

impl<S: SecretSink + ?Sized> SecretSink for std::sync::Arc<S> {
    fn put(&self, handover: &Handover<'_>) -> Result<(), SinkError> {
        (**self).put(handover)
    }
}

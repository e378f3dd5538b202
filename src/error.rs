//! The umbrella errors: of opening, and of an act.

use crate::crypto::RandomError;
use crate::id::{KeyId, NotificationId, OwnerId, RequestId, RoleName, VersionNo};
use crate::key::MetadataError;
use crate::keyring::Generation;
use crate::lifecycle::LifecycleError;
use crate::limit::LimitError;
use crate::network::NetworkError;
use crate::notify::ChannelError;
use crate::policy::{OwnerLimit, PolicyError};
use crate::store::{RowFault, RowKind, SealError, StoreError};
use crate::text::TextError;
use crate::time::{TimeError, Timestamp};
use crate::token::Prefix;

/// What the library read from its store cannot be used.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row was edited behind the library's back; what it describes does not validate.
    #[error("{kind} {id} was edited behind the library's back; restore it from a backup, or revoke it")]
    Tampered {
        /// What the row records.
        kind: RowKind,
        /// Its id.
        id: String,
    },
    /// The head of the store was edited.
    #[error("the head of the store was edited behind the library's back; run the audit's verification")]
    HeadTampered,
    /// An entry of the audit log is not what the library writes.
    #[error("entry {0} of the audit log was edited behind the library's back; run the audit's verification")]
    AuditTampered(u64),
    /// A row was written under a master key that this process does not hold.
    #[error("the store was written under master key generation {0}, which the keyring does not hold; add it")]
    KeyringBehind(Generation),
    /// The store was emptied, or never opened by a `KeyManager`.
    #[error("the store is not founded; open it with a KeyManager first")]
    NotFounded,
}

crate::text::debug_as_told!(ReadError);

impl ReadError {
    pub(crate) fn of_row(fault: RowFault, kind: RowKind, id: &str) -> Self {
        match fault {
            RowFault::Tampered => Self::Tampered { kind, id: id.to_owned() },
            RowFault::UnknownGeneration(generation) => Self::KeyringBehind(generation),
        }
    }

    pub(crate) fn of_head(fault: RowFault) -> Self {
        match fault {
            RowFault::Tampered => Self::HeadTampered,
            RowFault::UnknownGeneration(generation) => Self::KeyringBehind(generation),
        }
    }
}

/// A manager or a validator cannot be opened; nothing was changed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store cannot be read, or holds what cannot be used.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The master key is not the one that wrote this store.
    #[error("the master key of generation {0} is not the one that wrote this store; give the right one")]
    WrongMasterKey(Generation),
    /// The store was not founded for lack of randomness or room, or by a fault of the store.
    #[error("the store could not be founded")]
    NotFounded(#[source] Box<ManageError>),
    /// Someone founds the store again and again.
    #[error("the store stays busy; try again")]
    Busy,
    /// A channel is named badly, or two have the same name.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The settings that an empty store was to begin with contradict each other.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

crate::text::debug_as_told!(OpenError);

/// An act was not carried out. Except for [`ManageError::OutcomeUnknown`], nothing was changed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ManageError {
    /// A text is empty, too long, or holds a forbidden character.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A date lies outside the years 1970 to 9999.
    #[error(transparent)]
    Time(#[from] TimeError),
    /// A policy's settings contradict each other.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The metadata is too large or not an object.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A limit is out of its bounds.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// A text is no network, or a list of networks is empty or too long.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The rules of the lifecycle forbid it now.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// The operating system gave no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The store cannot be read, or holds what cannot be used.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Management is switched off; switch it on first.
    #[error("the management of keys is switched off; switch it on first")]
    ManagementDisabled,
    /// The token is none of this store's.
    #[error("the token is unknown")]
    UnknownToken,
    /// There is no such key.
    #[error("there is no key {0}")]
    UnknownKey(KeyId),
    /// No version of the key is left to be replaced; rotate it instead.
    #[error("no version of {0} is left to be replaced; rotate it instead")]
    NothingToReplace(KeyId),
    /// The key could do more afterwards than before; say so with `widen()`, or give it less.
    #[error("{0} could do more afterwards than before; say so with widen(), or give it less")]
    WouldWiden(KeyId),
    /// There is no such role; set it first.
    #[error("there is no role {0}; set it first")]
    UnknownRole(RoleName),
    /// There is no such owner.
    #[error("there is no owner {0:?}")]
    UnknownOwner(OwnerId),
    /// The prefix is not among those that the manager was built with.
    #[error("the prefix {0:?} is not among the configured ones; add it to the manager's builder")]
    PrefixNotAllowed(Prefix),
    /// The owner holds as many keys as it may; revoke one, or raise its limit.
    #[error("owner {owner:?} holds its {} keys; revoke one, or raise its limit", limit.get())]
    OwnerLimitReached {
        /// The owner.
        owner: OwnerId,
        /// Its limit.
        limit: OwnerLimit,
    },
    /// The time to be confirmed is not between the high-water mark and what the clock shows.
    #[error(
        "the time to confirm must lie after the high-water mark {mark} and not after the clock's {clock}"
    )]
    NothingToConfirm {
        /// The high-water mark.
        mark: Timestamp,
        /// What the clock shows.
        clock: Timestamp,
    },
    /// No channel of this name is registered here, or another process serves it.
    #[error(
        "no channel {0:?} is registered here, or another process serves it; register it with its notifier"
    )]
    UnknownChannel(String),
    /// There is no dead letter with this id on this channel: it was retried, dropped, or has been removed.
    #[error("there is no dead letter {0} on this channel; it was retried, dropped, or has been removed")]
    UnknownDeadLetter(NotificationId),
    /// The request id was used for another act, or with other arguments; use a fresh one.
    #[error("request id {0} was used for another act or with other arguments; use a fresh one")]
    RequestReused(RequestId),
    /// The act of this request id was carried out, and its token is no longer to be had.
    #[error(
        "the act of request {request} was carried out and its token is no longer kept; rotate {key} for a new one"
    )]
    AlreadyDone {
        /// The request id.
        request: RequestId,
        /// The key that the act made or changed.
        key: KeyId,
        /// The version that the act made.
        version: Option<VersionNo>,
    },
    /// The generation of the master key is the current one here; make another one current first.
    #[error("{0} is the current generation of the master key here; make another one current first")]
    GenerationCurrent(Generation),
    /// Something still needs the generation of the master key, and would be lost with it.
    #[error(
        "something still needs generation {0} of the master key; tick until all is written again, and ask what is left"
    )]
    GenerationNeeded(Generation),
    /// Others change the same rows again and again; try again.
    #[error("others keep changing the same key or owner; nothing was written, try again")]
    Busy,
    /// The store wrote nothing, for certain.
    #[error("nothing was written: {0}")]
    NotWritten(#[source] StoreError),
    /// It is not known whether the act was carried out: repeat it under this request id.
    #[error("it is not known whether the act was carried out; repeat it with request id {request}")]
    OutcomeUnknown {
        /// The request id under which a repetition converges on one result.
        request: RequestId,
        /// What the store said.
        source: StoreError,
    },
}

crate::text::debug_as_told!(ManageError);

impl From<StoreError> for ManageError {
    fn from(error: StoreError) -> Self {
        Self::Read(error.into())
    }
}

impl From<SealError> for ReadError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Conflict => Self::NotFounded,
            SealError::HeadTampered => Self::HeadTampered,
            SealError::UnknownGeneration(generation) => Self::KeyringBehind(generation),
        }
    }
}

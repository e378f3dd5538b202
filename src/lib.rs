//! Embeddable, synchronous API keys.
#![cfg_attr(keyrota_docs, feature(doc_cfg))]

// Words.
mod actor;
mod crypto;
mod encode;
mod id;
mod keyring;
mod secret;
mod text;
mod time;

// Domain: pure, without I/O, clock or lock.
mod audit;
mod digest;
mod due;
mod event;
mod key;
mod lifecycle;
mod owner;
mod policy;
mod request;
mod rotation;
mod scope;
mod seal;
mod token;
mod version;

// Ports and adapters.
mod clock;
mod error;
mod store;

// Engines.
mod records;
mod rotate;
mod validate;

// Face.
mod manager;

// The public interface is:
pub use crate::actor::{Actor, ActorKind};
pub use crate::audit::{AuditEntry, AuditHead};
pub use crate::clock::{Clock, ManualClock, SystemClock};
pub use crate::crypto::RandomError;
pub use crate::digest::Fingerprint;
pub use crate::error::{ManageError, OpenError, ReadError};
pub use crate::event::{Event, EventKind};
pub use crate::id::{KeyId, KeyName, OwnerId, RequestId, RoleName, RotationId, StoreId, VersionNo};
pub use crate::key::{Metadata, MetadataError};
pub use crate::keyring::{Generation, Keyring, KeyringError, MasterKey};
pub use crate::lifecycle::LifecycleError;
pub use crate::manager::{
    Act, AuditFilter, AuditVerdict, IssuedKey, KeyFilter, KeyInfo, KeyManager, KeyManagerBuilder, KeyPage,
    KeyStatus, NewKey, RevokeTarget, RollBack, RotateNow, RotatedKey, VersionInfo,
};
pub use crate::owner::{OwnerRecord, RoleRecord};
pub use crate::policy::{DeploymentSettings, OwnerLimit, PolicyError, RotationPolicy, RotationPolicyBuilder};
pub use crate::rotate::{ClockState, Plan, TickReport};
pub use crate::scope::{Scope, ScopeSet};
pub use crate::store::memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use crate::store::sqlite::{SqliteOpenError, SqliteOptions, SqliteStore};
pub use crate::text::TextError;
pub use crate::time::{TimeError, Timestamp};
pub use crate::token::{Hint, Locator, Prefix, SecretToken, TokenError, check_token, scanner_regex};
pub use crate::validate::{
    Demand, Denial, DenialClass, DenialReason, Finding, Grant, Unavailable, Validator, ValidatorBuilder,
};
pub use crate::version::{EndReason, Stage};

#[cfg(feature = "conformance")]
pub use crate::store::conformance;
pub use crate::store::{
    AuditQuery, AuditRow, Changeset, CommitError, FeedItem, FeedPage, Freshness, Head, KeyStore, Revision,
    Row, RowFilter, RowIndex, RowIndexRef, RowKind, RowMac, RowRef, SealError, SealedChangeset, Stamp,
    StoreError, StoreErrorKind, UsageBatch, UsageEntry, Write,
};

#![doc = include_str!("../README.md")]
//!
//! # Where to begin
//!
//! [`KeyManager`] carries out acts: [`KeyManager::by`] names the actor, and the [`Act`] that it returns has the verbs.
//! [`Validator`] answers whether a token is valid: a [`Grant`] or a [`Denial`]. [`SqliteStore`] and [`MemoryStore`]
//! keep the rows; [`KeyStore`] is the trait behind both. [`Keyring`] holds your master keys.
//!
//! The [guide] begins with a [quick start](guide::quick_start), and has chapters on
//!
//! * [how rotation works](guide::rotation),
//! * [choosing a policy](guide::policy),
//! * [claiming](guide::claiming), for those who write clients and for those who serve them,
//! * [notifications](guide::notifications), and with the features `webhook` and `email` on telling by these,
//! * [sinks](guide::sinks), which put each new token where its service reads it,
//! * [alarms](guide::alarms),
//! * [compliance evidence](guide::compliance),
//! * [HTTP](guide::http): keys in front of a service's routes, with the texts of [`mod@http`],
//! * [importing](guide::importing) the keys that you have already,
//! * [the command line](guide::command_line),
//! * [rolling out](guide::rollout), [security](guide::security) and [troubleshooting](guide::troubleshooting).
//!
//! # Words
//!
//! A **key** is the stable identity: owner, name, scopes, metadata. A **version** is one secret of a key; a rotation
//! adds one. A **token** is the text that a client sends: prefix, locator, secret and checksum. The **locator** is its
//! public part, safe in logs; a **fingerprint** is the public name of a secret. **Grace** is the time in which a
//! deprecated version still validates beside its successor. The **high-water mark** is the latest time that a tick has
//! recorded; the library's own time is the later of the mark and the clock.
//!
//! # Time
//!
//! All times are [`Timestamp`]s in microseconds. Windows are half open: a version is valid at its `not_before` and no
//! longer at its end. A [`Clock`] is read once for each operation; [`ManualClock`] makes a year pass in a test.
//!
//! # Errors
//!
//! [`OpenError`] for opening, [`ManageError`] for acts, [`Denial`] for validation, each with what to do in its text. An
//! act that answers [`ManageError::OutcomeUnknown`] names a request id: repeat the act under it, and it is done once.
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
mod claim;
mod digest;
mod due;
mod event;
mod imported;
mod key;
mod lifecycle;
mod limit;
mod network;
mod notice;
mod notification;
mod owner;
mod policy;
mod request;
mod rotation;
mod scope;
mod seal;
mod signal;
mod token;
mod version;

// Ports and adapters.
mod clock;
mod error;
mod notify;
mod sink;
mod store;

// Engines.
#[cfg(feature = "sqlite")]
mod backup;
mod import;
mod outbox;
mod records;
mod report;
mod rewrite;
mod rotate;
mod validate;

// Face.
mod manager;

pub mod guide;
pub mod http;

// The public interface is:
pub use crate::actor::{Actor, ActorKind};
pub use crate::audit::{AuditEntry, AuditHead};
#[cfg(feature = "sqlite")]
pub use crate::backup::{CarriedOver, RestoreError, RestoreReport};
pub use crate::claim::ClaimId;
pub use crate::clock::{Clock, ManualClock, SystemClock};
pub use crate::crypto::RandomError;
pub use crate::digest::Fingerprint;
pub use crate::error::{ManageError, OpenError, ReadError};
pub use crate::event::{Event, EventKind};
pub use crate::id::{
    KeyId, KeyName, NotificationId, OwnerId, RequestId, RoleName, RotationId, StoreId, VersionNo,
};
pub use crate::import::{
    ForeignKey, ImportColumn, ImportReport, ImportSource, LegacyLookup, LineOutcome, LineProblem, LineReport,
    SourceError, TokenList,
};
pub use crate::imported::{DigestError, DigestForm, ForeignDigest, Strength, WeakAction};
pub use crate::key::{Metadata, MetadataError};
pub use crate::keyring::{Generation, Keyring, KeyringError, MasterKey};
pub use crate::lifecycle::LifecycleError;
pub use crate::limit::{LimitError, LimitStatus, Limits, Quota, RateLimit, Refill};
#[cfg(feature = "sqlite")]
pub use crate::manager::Restore;
pub use crate::manager::{
    Act, AdoptError, Adoption, AuditFilter, AutoRotation, Claim, DeadLetter, DeliveryReport, DenialReport,
    EditKey, Evidence, ExportError, Import, ImportError, ImportedReport, ImportedSecret, ImportedVersion,
    IssuedKey, KeyFilter, KeyInfo, KeyManager, KeyManagerBuilder, KeyPage, KeyStatus, KeyUsage, NewKey,
    PurgeReport, Replace, Revoke, RevokeTarget, RollBack, RotateNow, RotatedKey, TopKeys, UsageAsOf,
    UsageFilter, UsageReport, UsageSeries, VersionHistory, VersionInfo, VersionUsage, VersionUse,
    WaitingClaim, WaitingPage,
};
pub use crate::network::{Network, NetworkError, Networks};
pub use crate::notification::{Notification, NotificationKind, Severity};
#[cfg(feature = "email")]
pub use crate::notify::email::{
    Email, EmailAddress, EmailAddressError, EmailBuilder, EmailError, Mail, MailTemplate, Recipients,
    StandardMail,
};
pub use crate::notify::in_app::{Callback, InApp};
#[cfg(feature = "webhook")]
pub use crate::notify::webhook::{
    Webhook, WebhookBuilder, WebhookError, WebhookHeaders, WebhookRefused, WebhookSecret, WebhookSecretError,
    WebhookVerifier,
};
pub use crate::notify::writer::{WriterFormat, WriterNotifier};
pub use crate::notify::{ChannelError, ChannelFilter, Notifier, NotifyError};
pub use crate::owner::{OwnerRecord, RoleRecord};
pub use crate::policy::{
    Claimant, ClockStart, Delivery, DeploymentSettings, OwnerLimit, PolicyError, Retirement, RotationPolicy,
    RotationPolicyBuilder,
};
pub use crate::report::{
    AuditPosition, AuditVerdict, CheckFinding, CheckReport, ComplianceQuery, ComplianceReport,
    ComplianceStanding, GenerationUse, KeyCompliance, Listing, NeverRotates, RetiredGeneration,
    RotationCounts, RotationEvidence,
};
pub use crate::rewrite::Rewriting;
pub use crate::rotate::{
    ClientBehaviour, ClockState, Plan, PlannedDelivery, Simulation, TickReport, Unsettled,
};
pub use crate::rotation::{DeliveryLease, RotationFailure, RotationRecord, RotationStatus};
pub use crate::scope::{Scope, ScopeSet};
pub use crate::signal::{FailingLocator, FailingSource, SignalReport, SignalSettings};
pub use crate::sink::{Handover, SecretSink, SinkError};
pub use crate::store::memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use crate::store::sqlite::{
    BackupError, SqliteBackup, SqliteOpenError, SqliteOptions, SqliteStore, StampFallback,
};
pub use crate::text::TextError;
pub use crate::time::{TimeError, Timestamp};
pub use crate::token::{Hint, Locator, Prefix, SecretToken, TokenError, check_token, scanner_regex};
pub use crate::validate::{
    BoundedStaleness, Demand, Denial, DenialClass, DenialReason, Finding, Grant, StalenessError, Successor,
    Unavailable, Validator, ValidatorBuilder,
};
pub use crate::version::{EndReason, Stage};

#[cfg(any(test, feature = "conformance"))]
pub use crate::store::conformance;
pub use crate::store::{
    AuditQuery, AuditRow, Changeset, CommitError, CountedReason, DenialCounts, FeedItem, FeedPage, Freshness,
    Head, KeyStore, Revision, Row, RowFilter, RowIndex, RowIndexRef, RowKind, RowMac, RowRef, SealError,
    SealedChangeset, Stamp, StoreError, StoreErrorKind, Tail, UsageBatch, UsageBucket, UsageCounts,
    UsageEntry, UsageQuery, UsageWriter, Write,
};

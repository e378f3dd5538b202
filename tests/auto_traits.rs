//! What a host relies on without reading it anywhere: which types cross threads, live for ever, are copied, and how
//! large they are.

use std::error::Error;
use std::mem::size_of;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use keyrota::*;

const fn crosses_threads<T: Send + Sync + 'static>() {}
const fn is_copied<T: Copy>() {}
const fn is_cloned<T: Clone>() {}
const fn is_an_error<T: Error + Send + Sync + 'static>() {}
const fn survives_a_panic<T: UnwindSafe + RefUnwindSafe>() {}

macro_rules! each {
    ($promise:ident: $($kind:ty),* $(,)?) => {
        const _: () = {
            $($promise::<$kind>();)*
        };
    };
}

each!(crosses_threads:
    Actor, ActorKind, AuditEntry, AuditFilter, AuditHead, AuditRow, AuditVerdict, Changeset, CheckFinding,
    CheckReport, ClockState, DeploymentSettings, EditKey, EndReason, Event, EventKind, FeedPage, Finding,
    Fingerprint, Freshness, Generation, Grant, Head, Hint, IssuedKey, KeyFilter, KeyId, KeyInfo, KeyManager,
    KeyManagerBuilder, KeyName, KeyPage, KeyStatus, Keyring, LimitStatus, Limits, Locator, ManualClock, MasterKey, MemoryStore,
    Metadata, Network, Networks, NewKey, OwnerId, OwnerLimit, OwnerRecord, Plan, Prefix, PurgeReport, Quota, RateLimit, Refill, Replace, RequestId, Revision,
    Revoke, RevokeTarget, RoleName, RoleRecord, RollBack, RotateNow, RotatedKey, RotationId, RotationPolicy,
    RotationPolicyBuilder, RotationRecord, RotationStatus, Row, RowIndex, RowKind, RowMac, Scope, ScopeSet,
    SealedChangeset, SecretToken, Stage, Stamp, Tail, StoreErrorKind, StoreId, SystemClock, TickReport, Timestamp, WaitingClaim, WaitingPage,
    Unavailable, VersionHistory, UsageBatch, UsageEntry, CountedReason, DenialCounts, DenialReport, KeyUsage, TopKeys,
    UsageAsOf, UsageBucket, UsageCounts, UsageFilter, UsageQuery<'static>, UsageReport, UsageSeries, UsageWriter, VersionUsage,
    Validator, ValidatorBuilder, VersionInfo, VersionNo, Write,
    DenialClass, DenialReason, Act<'static>, AuditQuery<'static>, Demand<'static>, Evidence<'static>,
    FeedItem<'static>, RowFilter<'static>, RowIndexRef<'static>, RowRef<'static>,
    Notification, NotificationId, NotificationKind, Severity, ChannelFilter, DeadLetter, DeliveryReport, InApp,
    Callback<fn(&Notification) -> Result<(), NotifyError>>, WriterFormat, WriterNotifier<Vec<u8>>,
    Adoption, AutoRotation, Claim<'static>, Claimant, ClaimId, ClientBehaviour, ClockStart, Delivery,
    DeliveryLease, Handover<'static>, PlannedDelivery, Retirement, RotationFailure, Simulation, Successor, Unsettled,
    VersionUse, BoundedStaleness,
    AuditPosition, GenerationUse, ComplianceQuery, ComplianceReport, ComplianceStanding, FailingLocator, FailingSource, KeyCompliance,
    Listing<KeyCompliance>, NeverRotates, RetiredGeneration, Rewriting, RotationCounts, RotationEvidence, SignalReport,
    SignalSettings,
    http::Answers, http::ClaimAnswer, http::Credentials<'static>, http::Header<'static>, http::Headers<'static>,
    http::Problem<'static>,
    Arc<dyn KeyStore>, Arc<dyn Clock>, Arc<dyn Notifier>, Arc<dyn SecretSink>,
);
each!(is_an_error:
    ChannelError, SinkError, CommitError, Denial, ExportError, KeyringError, LifecycleError, LimitError, ManageError,
    MetadataError, NetworkError, NotifyError, OpenError, StalenessError,
    PolicyError, RandomError, ReadError, SealError, StoreError, TextError, TimeError, TokenError,
    http::CredentialsError,
);
each!(is_an_error: AdoptError, DigestError, ImportError, LineProblem, SourceError);
each!(crosses_threads:
    DigestForm, ForeignDigest, ForeignKey, ImportColumn, ImportReport, ImportedReport, ImportedSecret, ImportedVersion,
    LineOutcome, LineReport, Strength, TokenList, WeakAction, Arc<dyn LegacyLookup>,
);
// What is being read is nobody else's meanwhile.
const fn moves_to_a_thread<T: Send>() {}
each!(moves_to_a_thread: Import<'static>, ImportSource<'static>);
#[cfg(feature = "sqlite")]
each!(is_an_error: BackupError, RestoreError, SqliteOpenError);
#[cfg(feature = "sqlite")]
each!(crosses_threads:
    CarriedOver, Restore, RestoreReport, SqliteStore, SqliteOptions, StampFallback,
);
#[cfg(feature = "sqlite")]
each!(moves_to_a_thread: SqliteBackup<'static>);
#[cfg(feature = "webhook")]
each!(is_an_error: WebhookError, WebhookRefused, WebhookSecretError);
#[cfg(feature = "webhook")]
each!(crosses_threads: Webhook, WebhookBuilder, WebhookHeaders<'static>, WebhookSecret, WebhookVerifier);
#[cfg(feature = "email")]
each!(is_an_error: EmailAddressError, EmailError);
#[cfg(feature = "email")]
each!(crosses_threads:
    Email, EmailAddress, EmailBuilder, Mail, StandardMail, Arc<dyn Recipients>, Arc<dyn MailTemplate>,
);

// The two answers of validation are passed about by value, and kept.
each!(is_copied: Grant, Denial, DenialClass, DenialReason, Demand<'static>);
// What a host hands to each of its threads.
each!(is_cloned: KeyManager, Validator, MemoryStore, Keyring, ManualClock, http::Answers);
// Answers, ids and errors are plain data, so a host may keep them over a `catch_unwind`.
each!(survives_a_panic:
    Grant, Denial, KeyId, OwnerId, VersionNo, Timestamp, Event, KeyInfo, LifecycleError, TextError, TimeError,
    PolicyError, TokenError, SecretToken, Keyring, MasterKey,
);

/// The ports are object-safe: a host chooses its store and its clock at run time.
#[test]
fn a_store_and_a_clock_can_be_chosen_at_run_time() {
    let store: Arc<dyn KeyStore> = Arc::new(MemoryStore::new());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let keys = KeyManager::builder(store.clone(), Keyring::generate().unwrap()).clock(clock).open().unwrap();
    assert_eq!(keys.settings().unwrap(), DeploymentSettings::default());
    assert!(store.head().unwrap().is_some());
}

/// Every validation returns one of these two. Before you let one grow: it is written on the hot path, by value, for
/// each request of the host. Names and metadata are asked for apart.
#[cfg(target_pointer_width = "64")]
#[test]
fn the_answers_of_validation_stay_small() {
    assert_eq!(size_of::<Grant>(), 160);
    assert_eq!(size_of::<Denial>(), 72);
    assert_eq!(size_of::<Result<Grant, Denial>>(), 160, "the two answers share their place");
}

/// A large error makes every `Result` that can hold it large. Box what is rare.
#[test]
fn errors_stay_small() {
    for (name, size) in [
        ("CommitError", size_of::<CommitError>()),
        ("ExportError", size_of::<ExportError>()),
        ("KeyringError", size_of::<KeyringError>()),
        ("LifecycleError", size_of::<LifecycleError>()),
        ("ManageError", size_of::<ManageError>()),
        ("OpenError", size_of::<OpenError>()),
        ("ReadError", size_of::<ReadError>()),
        ("SealError", size_of::<SealError>()),
        ("StoreError", size_of::<StoreError>()),
        ("TextError", size_of::<TextError>()),
        ("http::Problem", size_of::<http::Problem<'static>>()),
    ] {
        assert!(size <= 128, "{name} has {size} bytes");
    }
    #[cfg(feature = "sqlite")]
    assert!(size_of::<SqliteOpenError>() <= 128);
}

/// No public type is forgotten above.
#[test]
fn every_public_type_is_among_those_asserted() {
    let asserted = include_str!("auto_traits.rs");
    let is_asserted = |name: &str| {
        asserted.split(|found: char| !found.is_alphanumeric() && found != '_').any(|word| word == name)
    };
    let paragraphs = include_str!("public_api.txt").split("== ").filter(|text| {
        text.lines().any(|line| line.starts_with("pub struct") || line.starts_with("pub enum"))
    });
    let names =
        paragraphs.filter_map(|text| text.lines().next()).filter(|name| !name.contains("conformance::"));
    let names = names.map(|name| name.rsplit("::").next().unwrap_or(name));
    let forgotten: Vec<_> = names.filter(|name| !is_asserted(name)).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}

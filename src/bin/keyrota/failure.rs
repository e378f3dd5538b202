//! What went wrong, and with which exit code the process says so.

use std::io;

use keyrota::{
    BackupError, ExportError, KeyringError, ManageError, OpenError, RestoreError, SqliteOpenError, StoreError,
};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was denied, or there is nothing of the kind: exit code 1.
    Denied(String),
    /// The same, and the answer has told why.
    Answered,
    /// The command line makes no sense: exit code 2.
    Usage(String),
    /// The store, the master key or a file failed: exit code 3.
    Store(String),
    /// The store failed, and the answer has told how.
    Unsound,
    /// Nobody reads any more what is written; that is no failure.
    Closed,
}

impl Failure {
    /// The exit code, as the guide documents it.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Denied(_) | Self::Answered => 1,
            Self::Usage(_) => 2,
            Self::Store(_) | Self::Unsound => 3,
        }
    }

    /// What there is to tell, if it was not told already.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Denied(text) | Self::Usage(text) | Self::Store(text) => Some(text),
            Self::Answered | Self::Unsound | Self::Closed => None,
        }
    }
}

/// The result of everything here.
pub(crate) type Done<T = ()> = Result<T, Failure>;

/// An argument that the library refuses.
pub(crate) fn usage(error: impl std::fmt::Debug) -> Failure {
    Failure::Usage(format!("{error:?}"))
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Store(format!("the output could not be written: {error}")),
        }
    }
}

impl From<ManageError> for Failure {
    fn from(error: ManageError) -> Self {
        let text = format!("{error:?}");
        match error {
            ManageError::Text(_)
            | ManageError::Time(_)
            | ManageError::Policy(_)
            | ManageError::Metadata(_)
            | ManageError::Limit(_)
            | ManageError::Network(_)
            | ManageError::PrefixNotAllowed(_) => Self::Usage(text),
            ManageError::WouldWiden(key) => Self::Denied(format!(
                "{key} could do more afterwards than before; say so with --widen, or give it less"
            )),
            ManageError::UnknownRole(role) => Self::Denied(format!(
                "there is no role {role}; make it with `keyrota role set {role} --scope …`"
            )),
            ManageError::OutcomeUnknown { request, .. } => {
                Self::Store(format!("{text}: the same command with --request {request}"))
            }
            ManageError::Random(_)
            | ManageError::Read(_)
            | ManageError::Busy
            | ManageError::NotWritten(_) => Self::Store(text),
            _ => Self::Denied(text),
        }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Manage(error) => error.into(),
            ExportError::Output(error) => error.into(),
            other => Self::Store(format!("{other:?}")),
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        match error {
            RestoreError::Manage(error) => error.into(),
            other => Self::Store(format!("{other:?}")),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Channel(error) => usage(error),
            other => Self::Store(format!("{other:?}")),
        }
    }
}

macro_rules! of_the_store {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Store(format!("{error:?}"))
            }
        })*
    };
}

of_the_store!(BackupError, KeyringError, SqliteOpenError, StoreError);

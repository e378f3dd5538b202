//! Problems: why a line is not imported. None repeats what the line says: a column that was mistaken for another one may
//! hold a token.

use crate::id::KeyId;
use crate::imported::DigestError;
use crate::key::MetadataError;
use crate::lifecycle::LifecycleError;
use crate::text::TextError;

/// Why a line is not imported.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineProblem {
    /// There is neither a token nor a digest.
    #[error("there is neither a token nor a digest; name the column that has it")]
    NoSecret,
    /// There are two tokens, or a token and a digest, that do not belong together.
    #[error("the token is not that of the digest beside it")]
    TwoSecrets,
    /// The digest cannot be used.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The token is longer than 512 bytes.
    #[error("the token is longer than 512 bytes")]
    TokenTooLong,
    /// The token has the form of this library's own; such tokens are issued, not imported.
    #[error("the token has the form of this library's own tokens, which are issued and not imported")]
    OwnForm,
    /// The token is weak, and weak ones are refused.
    #[error("the token is weak, and weak ones are refused; issue a new key instead")]
    Weak,
    /// Nobody owns it.
    #[error("there is no owner; name the column, or give one for all")]
    NoOwner,
    /// A text is empty, too long, or holds a forbidden character.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A cell does not have the form that its column asks for.
    #[error("{column} does not have the form {form}")]
    Form {
        /// The column.
        column: &'static str,
        /// The form, in words.
        form: &'static str,
    },
    /// The metadata cannot be kept.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The role is not known; set it first.
    #[error("the role is not known; set it first")]
    UnknownRole,
    /// The owner is suspended.
    #[error("the owner is suspended; resume it first")]
    OwnerSuspended,
    /// The owner would hold more keys than it may.
    #[error("the owner would hold more than its {limit} keys; raise its limit, or have it raised")]
    OwnerLimit {
        /// Its limit.
        limit: u32,
    },
    /// The rules do not allow such a key: it ends before it begins.
    #[error(transparent)]
    Lifecycle(#[from] LifecycleError),
    /// The same secret stands in an earlier line.
    #[error("the same secret stands in an earlier line")]
    Repeated,
    /// The secret was imported before, whatever has become of its key.
    #[error("the secret was imported before, as {0}")]
    Known(KeyId),
    /// The line is longer than 64 KiB, or is not UTF-8.
    #[error("the line is longer than 64 KiB, or is not UTF-8")]
    Unreadable,
    /// The line does not have as many cells as the first one, or a quote is not closed.
    #[error("the line does not have as many cells as the first one, or a quote is not closed")]
    Cells,
    /// The line is not a JSON object.
    #[error("the line is not a JSON object")]
    Json,
}

crate::text::debug_as_told!(LineProblem);

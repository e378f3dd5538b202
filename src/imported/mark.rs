//! The mark of an imported version: where its secret came from, and what is known of it.

use serde::{Deserialize, Serialize};

use crate::digest::SecretDigest;
use crate::imported::form::DigestForm;
use crate::imported::strength::Strength;
use crate::token::Locator;

/// What becomes of an imported key whose token turns out to be weak. What is not known to be weak stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WeakAction {
    /// It goes on, and reports name it.
    #[default]
    Flag,
    /// It rotates by itself from then on, and first of all at once.
    Rotate,
    /// It is not imported; where that shows only later, it is revoked.
    Refuse,
}

/// What is learned of a version when its token is used: nothing but this of the token is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upgrade {
    /// Of the whole token, under the current generation.
    pub(crate) digest: SecretDigest,
    /// Of an imported token: the version's name under the same generation, and how strong it is.
    pub(crate) imported: Option<(Locator, Strength)>,
}

/// What an imported version remembers of its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImportedMark {
    /// How the other system kept it, by which it is looked up.
    pub(crate) form: DigestForm,
    #[serde(default)]
    pub(crate) strength: Strength,
    #[serde(default)]
    pub(crate) weak: WeakAction,
}

//! What a service says and hears over HTTP in a key's matters, as plain strings: no framework and no client of one.
//!
//! 1. [`Credentials::of`] takes the token out of a request's `Authorization` and `X-API-Key` fields, or says which
//!    [`CredentialsError`] keeps it from that.
//! 2. [`Answers`] has the realm and the place of the claim route. Of a [`Grant`] it makes the [`Headers`] that the
//!    service adds to its own answer; of a [`Denial`], a [`CredentialsError`] or a claim's error the [`Problem`] that it
//!    answers instead: a status, headers and a problem document.
//! 3. [`claim_id`] reads the body of a claim, and [`ClaimAnswer`] is the body that answers one.
//!
//! The names of headers are in lower case, as HTTP/2 and the constructors from static text of the usual crates want
//! them. The [guide](crate::guide::http) shows all of it in front of a service.

mod challenge;
mod claim;
mod credentials;
mod date;
mod granted;
mod header;
mod limit;
mod problem;

use std::sync::Arc;

use crate::error::ManageError;
use crate::scope::Scope;
use crate::text::TextError;
use crate::validate::{Denial, Grant};

use challenge::Challenges;
pub use claim::{ClaimAnswer, claim_id};
pub use credentials::{Credentials, CredentialsError};
pub use granted::CLAIM_RELATION;
pub use header::{Header, Headers};
pub use problem::Problem;

/// How one service answers: under its realm, and with its claim route if it has one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Answers {
    challenges: Arc<Challenges>,
    /// The value of the `Link` field.
    claim: Option<Arc<str>>,
}

impl Answers {
    /// Answers of the service of this realm, which a challenge names: 1 to 64 visible ASCII characters and spaces, without
    /// `"` and `\`. It has no claim route.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn new(realm: &str) -> Result<Self, TextError> {
        Ok(Self { challenges: Arc::new(Challenges::new(realm)?), claim: None })
    }

    /// The same, telling of the claim route at this place: a path from the root, such as `/keys/current/claim`, or an
    /// `https` address; up to 512 characters of a URI. Clients send their tokens there, so there is no `http`.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn claim_at(self, place: &str) -> Result<Self, TextError> {
        Ok(Self { claim: Some(granted::link_to(place)?), ..self })
    }

    /// What to add to the service's own answer to a request that was granted: that the version is deprecated, that a
    /// successor waits, what is left of a limit. Mostly nothing.
    #[must_use]
    pub fn granted(&self, grant: &Grant) -> Headers<'_> {
        granted::headers(grant, self.claim.as_deref())
    }

    /// What to answer to a request that was denied. `demanded` is the scope that the request was validated for.
    ///
    /// All that is [unauthenticated](crate::DenialClass::Unauthenticated) gets the same answer, byte for byte.
    #[must_use]
    pub fn denied(&self, denial: &Denial, demanded: Option<&Scope>) -> Problem<'_> {
        Problem::of_denial(denial, demanded, &self.challenges)
    }

    /// What to answer to a request without credentials that can be validated.
    #[must_use]
    pub fn without_credentials(&self, error: CredentialsError) -> Problem<'_> {
        Problem::of_credentials(error, &self.challenges)
    }

    /// What to answer to a claim that was not carried out.
    #[must_use]
    pub fn claim_refused(&self, error: &ManageError) -> Problem<'_> {
        Problem::of_claim(error, &self.challenges)
    }
}

/// Of the realm `api`, without a claim route.
impl Default for Answers {
    fn default() -> Self {
        Self { challenges: Arc::new(Challenges::of_checked("api")), claim: None }
    }
}

//! Claiming: whoever holds the current version, or the host for the key's owner, gets the successor that waits.

use core::net::IpAddr;

use crate::claim::ClaimId;
use crate::crypto;
use crate::digest::SecretDigest;
use crate::encode::hex;
use crate::error::ManageError;
use crate::event::Event;
use crate::id::{KeyId, VersionNo};
use crate::lifecycle::{self, Claimed, Family, LifecycleError, Presenter, Refusal, Validity};
use crate::manager::act::{Act, Attempt, Urgency};
use crate::manager::emergency::by_locator;
use crate::manager::issue::claim_place;
use crate::manager::presented;
use crate::manager::rotate::{RotatedKey, enabled_owner};
use crate::records::{Record as _, Records};
use crate::request::{Operation, RequestRecord};
use crate::seal::SealedCopy;
use crate::time::Timestamp;
use crate::token::PresentedToken;

/// How to claim a successor.
#[derive(Clone)]
#[must_use]
pub struct Claim<'a> {
    by: By<'a>,
    id: ClaimId,
    from: Option<IpAddr>,
}

#[derive(Clone, Copy)]
enum By<'a> {
    Token(&'a str),
    Owner(KeyId),
}

impl<'a> Claim<'a> {
    /// By the token of the current version. The same id gets the same successor until that is used for the first time, or
    /// the current version has ended; another id gets nothing.
    ///
    /// Whoever has stolen the token can claim with it, too: the owner is told of each claim.
    pub fn with_token(token: &'a str, id: ClaimId) -> Self {
        Self { by: By::Token(token), id, from: None }
    }

    /// By the host, which has authenticated the key's owner.
    pub fn for_owner(key: KeyId, id: ClaimId) -> Self {
        Self { by: By::Owner(key), id, from: None }
    }

    /// Where the claim comes from, for the audit log; a key that has networks is claimed by token from there only.
    pub fn from(mut self, address: impl Into<IpAddr>) -> Self {
        self.from = Some(address.into());
        self
    }
}

impl std::fmt::Debug for Claim<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.by {
            By::Token(_) => f.write_str("Claim(by token [redacted])"),
            By::Owner(key) => write!(f, "Claim(for the owner of {key})"),
        }
    }
}

/// What a claim comes to: a successor, or a conflict that is recorded and then told.
type Answer = Result<RotatedKey, VersionNo>;

impl Act<'_> {
    /// Claims the successor that an automatic rotation has made; the same claim shows its token again until it is used. Also while management is switched off: whoever was told
    /// to claim must be able to.
    ///
    /// # Errors
    /// [`ManageError::UnknownToken`] for a token that is none of this store's; among others
    /// [`LifecycleError::NothingToClaim`], [`LifecycleError::AlreadyClaimed`], which is recorded as an alarm, and
    /// [`LifecycleError::NotClaimable`].
    pub fn claim(self, claim: Claim<'_>) -> Result<RotatedKey, ManageError> {
        let presented = match claim.by {
            By::Token(token) => hex(&crypto::sha256(token.as_bytes())),
            By::Owner(key) => key.to_string(),
        };
        let answer: Answer = self.perform(
            &Operation::new("claim", &(presented, claim.id.digest())),
            Urgency::Always,
            |attempt| decide(attempt, &claim),
            repeated,
        )?;
        answer.map_err(|version| LifecycleError::AlreadyClaimed { version }.into())
    }
}

fn decide(attempt: &mut Attempt<'_>, claim: &Claim<'_>) -> Result<Answer, ManageError> {
    let (key, presenter) = match claim.by {
        By::Owner(key) => (key, Presenter::Owner),
        By::Token(token) => {
            let (key, version) = authenticate(attempt.records, token)?;
            (key, Presenter::Holder(version))
        }
    };
    let before = attempt.records.family(key)?.ok_or(ManageError::UnknownKey(key))?;
    let counted = before.family.live(attempt.t).next().is_some();
    if counted || before.family.key.revoked_at.is_some() {
        enabled_owner(attempt, &before.family.key)?;
    }
    let mut family = attempt.settled(&before);
    if let Presenter::Holder(version) = presenter {
        admit(&family, version, claim, attempt.t)?;
    }
    let policy = attempt.policy_of(&family.key)?;
    let (claimed, transitions) =
        lifecycle::claim(&mut family, presenter, claim.id.digest(), &policy, attempt.t)?;
    for step in &transitions {
        let event = Event::of_key(attempt.t, step, &family, attempt.context);
        attempt.changeset.record(event.claimed(presenter, &family, claim.from));
    }
    let (Claimed::Now(version) | Claimed::Before(version) | Claimed::ByAnother(version)) = claimed;
    attempt.concerns(key, Some(version));
    let open = |records: &Records| -> Result<_, ManageError> {
        let copy = records.get::<SealedCopy>(&SealedCopy::claim_row_id(key, version))?;
        let copy = copy.ok_or(LifecycleError::AlreadyClaimed { version })?;
        let token = copy.record.open(&records.keyring).ok_or(LifecycleError::NothingToClaim)?;
        Ok((copy, token))
    };
    match claimed {
        Claimed::ByAnother(_) => {
            before.write(&family, &mut attempt.changeset);
            Ok(Err(version))
        }
        Claimed::Before(_) => {
            let (_, token) = open(attempt.records)?;
            Ok(Ok(RotatedKey::new(&family, version, token)))
        }
        Claimed::Now(_) => {
            if !counted {
                claim_place(attempt, family.key.owner, Some(key))?;
            }
            let (copy, token) = open(attempt.records)?;
            before.write(&family, &mut attempt.changeset);
            let until = family.version(version).and_then(|version| version.claim_until);
            let (keyring, until) = (&attempt.records.keyring, until.unwrap_or(attempt.t));
            let kept = copy.record.kept_until(keyring, &token, until)?;
            attempt.changeset.replace(kept.draft(), copy.revision);
            Ok(Ok(RotatedKey::new(&family, version, token)))
        }
    }
}

/// The version whose token it is. Whatever is wrong with it, the answer is the same.
fn authenticate(records: &Records, text: &str) -> Result<(KeyId, VersionNo), ManageError> {
    let Ok(token) = PresentedToken::parse(text.as_bytes()) else {
        let version = presented::imported(records, text.as_bytes())?.ok_or(ManageError::UnknownToken)?;
        return Ok((version.key, version.number));
    };
    let version = by_locator(records, token.locator)?.ok_or(ManageError::UnknownToken)?;
    let generation = version.digest.generation;
    let keys = records.keyring.keys(generation).ok_or(ManageError::UnknownToken)?;
    let presented = SecretDigest::of(&token, generation, keys);
    if !crypto::ct_eq_32(&presented.bytes, &version.digest.bytes) {
        return Err(ManageError::UnknownToken);
    }
    let key = records.get::<crate::key::KeyRecord>(&version.key.to_string())?;
    key.filter(|key| token.has_prefix(&key.record.prefix)).ok_or(ManageError::UnknownToken)?;
    Ok((version.key, version.number))
}

/// Whether the version whose token was presented is valid there.
fn admit(family: &Family, number: VersionNo, claim: &Claim<'_>, t: Timestamp) -> Result<(), LifecycleError> {
    let version = family.version(number).ok_or(LifecycleError::NoSuchVersion(number))?;
    match Validity::of(version, &family.key).refusal(false, t) {
        None => {}
        Some(Refusal::Revoked) => return Err(LifecycleError::KeyRevoked),
        Some(_) => return Err(LifecycleError::NotClaimable),
    }
    let allowed = family.key.networks.as_ref();
    if allowed.is_some_and(|networks| !claim.from.is_some_and(|from| networks.contains(from))) {
        return Err(LifecycleError::NotClaimable);
    }
    Ok(())
}

/// What the claim of a request got. The request names the token that was presented, so whoever repeats it has it.
fn repeated(records: &Records, request: &RequestRecord, t: Timestamp) -> Result<Answer, ManageError> {
    let (Some(key), Some(version)) = (request.key, request.version) else {
        return Err(ManageError::RequestReused(request.id.clone()));
    };
    let done = || ManageError::AlreadyDone { request: request.id.clone(), key, version: Some(version) };
    let copy = records.get::<SealedCopy>(&SealedCopy::claim_row_id(key, version))?;
    let copy = copy.map(|copy| copy.record).filter(|copy| t < copy.until).ok_or_else(done)?;
    let family = records.family(key)?.ok_or_else(done)?.family;
    let is_open = family.version(version).is_some_and(|version| {
        version.delivered_at.is_some() && !version.is_ended() && version.first_used_at.is_none()
    });
    let token = copy.open(&records.keyring).filter(|_| is_open).ok_or_else(done)?;
    Ok(Ok(RotatedKey::new(&family, version, token)))
}

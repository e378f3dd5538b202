//! Sealed copies: a token at rest under the seal key, so that an answer which got lost can be repeated.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::crypto::RandomError;
use crate::id::{KeyId, RequestId, VersionNo};
use crate::keyring::{Generation, Keyring};
use crate::time::Timestamp;
use crate::token::SecretToken;
use crate::version::EndReason;

/// What the row ids of the copies begin with that are claimed.
const CLAIM: &str = "claim\t";

/// What a sealed copy is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SealPurpose {
    /// To repeat the answer to a request id.
    Replay,
    /// To be claimed, or put into the sink.
    Claim,
}

/// A token sealed at rest, bound to its key, version and purpose. Deleted when `until` has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealedCopy {
    pub(crate) key: KeyId,
    pub(crate) version: VersionNo,
    pub(crate) purpose: SealPurpose,
    /// The request whose answer it repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<RequestId>,
    pub(crate) until: Timestamp,
    generation: Generation,
    ciphertext: String,
}

impl SealedCopy {
    /// Seals the token that an act showed, for repetitions of its request until a deadline.
    pub(crate) fn for_replay(
        keyring: &Keyring,
        token: &SecretToken,
        key: KeyId,
        version: VersionNo,
        request: &RequestId,
        until: Timestamp,
    ) -> Result<Self, RandomError> {
        Self::seal(keyring, token, (key, version), Some(request.clone()), until)
    }

    /// Seals the token of a successor until it is handed over, at the latest by a deadline.
    pub(crate) fn for_claim(
        keyring: &Keyring,
        token: &SecretToken,
        key: KeyId,
        version: VersionNo,
        until: Timestamp,
    ) -> Result<Self, RandomError> {
        Self::seal(keyring, token, (key, version), None, until)
    }

    fn seal(
        keyring: &Keyring,
        token: &SecretToken,
        (key, version): (KeyId, VersionNo),
        request: Option<RequestId>,
        until: Timestamp,
    ) -> Result<Self, RandomError> {
        let mut copy = Self {
            key,
            version,
            purpose: if request.is_some() { SealPurpose::Replay } else { SealPurpose::Claim },
            request,
            until,
            generation: keyring.current(),
            ciphertext: String::new(),
        };
        let sealed = keyring.current_keys().seal.seal(&copy.context(), token.expose().as_bytes())?;
        copy.ciphertext = STANDARD.encode(sealed);
        Ok(copy)
    }

    /// The same copy, with its token, kept until another deadline.
    pub(crate) fn kept_until(
        &self,
        keyring: &Keyring,
        token: &SecretToken,
        until: Timestamp,
    ) -> Result<Self, RandomError> {
        Self::seal(keyring, token, (self.key, self.version), self.request.clone(), until)
    }

    /// The same copy, sealed under the current generation; `None` when it does not open.
    pub(crate) fn sealed_anew(&self, keyring: &Keyring) -> Result<Option<Self>, RandomError> {
        let token = self.open(keyring);
        token.map(|token| self.kept_until(keyring, &token, self.until)).transpose()
    }

    /// The generation under which the token is sealed; that of the copy's row may be a later one.
    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// The token; `None` when the copy was moved or edited, or its generation is not held.
    pub(crate) fn open(&self, keyring: &Keyring) -> Option<SecretToken> {
        let sealed = STANDARD.decode(&self.ciphertext).ok()?;
        SecretToken::from_buffer(keyring.keys(self.generation)?.seal.open(&self.context(), &sealed).ok()?)
    }

    fn context(&self) -> Vec<u8> {
        let (key, version) = (self.key, self.version);
        match (self.purpose, &self.request) {
            (SealPurpose::Replay, Some(request)) => {
                format!("keyrota seal v1\0replay\0{key}\0{version}\0{request}").into_bytes()
            }
            _ => format!("keyrota seal v1\0claim\0{key}\0{version}").into_bytes(),
        }
    }

    /// Whether the copy is to go with the end of its version, given why that ended: what waited for a claim always, what
    /// an act showed once where its secret is not to be used any more.
    pub(crate) fn goes_with(&self, ended: Option<EndReason>) -> bool {
        self.purpose == SealPurpose::Claim || matches!(ended, Some(EndReason::Revoked | EndReason::Cancelled))
    }

    /// The row id of the copy that is claimed. A request id holds no control character, so that none is this.
    pub(crate) fn claim_row_id(key: KeyId, version: VersionNo) -> String {
        format!("{CLAIM}{key}/{}", version.get())
    }

    pub(crate) fn is_claim_row_id(id: &str) -> bool {
        id.starts_with(CLAIM)
    }

    /// What sorts after the row ids of the copies of this key that are claimed, or else before those of all keys.
    pub(crate) fn after_claims_of(key: Option<KeyId>) -> String {
        key.map_or_else(|| CLAIM.to_owned(), |key| format!("{CLAIM}{key}/\u{10FFFF}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Prefix;

    #[test]
    fn a_sealed_copy_opens_for_its_own_version_and_request_only() {
        let keyring = Keyring::generate().unwrap();
        let token = SecretToken::generate(Prefix::default()).unwrap();
        let key = KeyId::new(Timestamp::MIN, [1; 10]);
        let request = RequestId::new("req-1").unwrap();
        let copy = SealedCopy::for_replay(&keyring, &token, key, VersionNo::FIRST, &request, Timestamp::MAX)
            .unwrap();
        assert_eq!(copy.open(&keyring).unwrap().expose(), token.expose());
        assert!(SealedCopy { version: VersionNo::new(2), ..copy.clone() }.open(&keyring).is_none());
        assert!(
            SealedCopy { request: RequestId::new("req-2").ok(), ..copy.clone() }.open(&keyring).is_none()
        );
        assert!(copy.open(&Keyring::generate().unwrap()).is_none());
        let waiting = SealedCopy::for_claim(&keyring, &token, key, VersionNo::FIRST, Timestamp::MAX).unwrap();
        assert_eq!(waiting.open(&keyring).unwrap().expose(), token.expose());
        assert!(SealedCopy { version: VersionNo::new(2), ..waiting }.open(&keyring).is_none());
        assert!(SealedCopy { purpose: SealPurpose::Claim, ..copy.clone() }.open(&keyring).is_none());
        let text = serde_json::to_string(&copy).unwrap();
        assert!(!text.contains(&token.expose()[20..32]));
    }
}

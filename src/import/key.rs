//! A key of another system: what one line says of it, each cell checked as it comes in.

use crate::id::{KeyName, OwnerId, RoleName};
use crate::import::column::ImportColumn;
use crate::import::dates;
use crate::import::problem::LineProblem;
use crate::imported::{DigestForm, ForeignDigest, MAX_TOKEN, Strength};
use crate::key::Metadata;
use crate::lifecycle::{ForeignState, ForeignStatus};
use crate::scope::ScopeSet;
use crate::secret::SecretBuffer;
use crate::time::Timestamp;
use crate::token::check_token;

/// A key of another system, to be taken over: by its token, or by the digest that the other system has of it.
///
/// What is not said of it is made up by nobody: without an expiry it does not expire until it is rotated, without scopes
/// it may do nothing beyond being valid.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ForeignKey {
    pub(crate) secret: Option<ForeignSecret>,
    pub(crate) owner: Option<OwnerId>,
    pub(crate) name: Option<KeyName>,
    pub(crate) role: Option<RoleName>,
    pub(crate) scopes: Option<ScopeSet>,
    pub(crate) metadata: Metadata,
    pub(crate) state: ForeignState,
    pub(crate) hard_end: Option<Timestamp>,
    /// A digest whose column says nothing of its form has this one.
    form: Option<DigestForm>,
}

/// What there is of a secret.
#[derive(Clone, Debug)]
pub(crate) enum ForeignSecret {
    Token(SecretBuffer),
    Digest(ForeignDigest),
}

impl ForeignSecret {
    /// How it is looked up: a token like SHA-256 of it.
    pub(crate) fn digest(&self) -> ForeignDigest {
        match self {
            Self::Token(token) => ForeignDigest::of_token(DigestForm::Sha256, token.expose()),
            Self::Digest(digest) => *digest,
        }
    }

    pub(crate) fn strength(&self) -> Strength {
        match self {
            Self::Token(token) => Strength::of(token.expose()),
            Self::Digest(_) => Strength::Unknown,
        }
    }
}

impl ForeignKey {
    /// A key of this owner. Its secret is still to be given, unless it is the answer of a
    /// [`LegacyLookup`](crate::LegacyLookup).
    pub fn new(owner: OwnerId) -> Self {
        Self { owner: Some(owner), ..Self::default() }
    }

    /// One whose digests, where nothing else says so, have this form.
    pub(crate) fn of_form(form: Option<DigestForm>) -> Self {
        Self { form, ..Self::default() }
    }

    /// Says one thing of the key, as a cell of that column says it. Empty text says nothing.
    ///
    /// # Errors
    /// [`LineProblem`], which does not repeat the text.
    pub fn set(&mut self, column: ImportColumn, text: &str) -> Result<(), LineProblem> {
        // Around a cell, blanks mean nothing; no header carries a token that begins or ends with one.
        let trimmed = text.trim();
        let is_absent = trimmed.is_empty() || ["null", "none", "NULL"].contains(&trimmed);
        if is_absent {
            return Ok(());
        }
        let date = || {
            let form = "of a date such as 2027-01-31T12:00:00Z, or of seconds since 1970";
            dates::parse(trimmed).map(Some).ok_or(LineProblem::Form { column: column.as_str(), form })
        };
        let state = &mut self.state;
        match column {
            ImportColumn::Token => return self.set_token(trimmed.as_bytes()),
            ImportColumn::Digest => return self.set_digest(ForeignDigest::parse(trimmed, self.form)?),
            ImportColumn::DigestOf(form) => {
                return self.set_digest(ForeignDigest::parse(trimmed, Some(form))?);
            }
            ImportColumn::Owner => self.owner = Some(OwnerId::new(trimmed)?),
            ImportColumn::Name => self.name = Some(KeyName::new(trimmed)?),
            ImportColumn::Role => self.role = Some(RoleName::new(trimmed)?),
            ImportColumn::Scopes => self.scopes = Some(scopes(trimmed)?),
            ImportColumn::Metadata => self.metadata = Metadata::from_json(trimmed)?,
            ImportColumn::Status => state.status = worse(state.status, status(trimmed)?),
            ImportColumn::Revoked => {
                let said =
                    if flag(column, trimmed)? { ForeignStatus::Revoked } else { ForeignStatus::Active };
                state.status = worse(state.status, said);
            }
            ImportColumn::Active => {
                let said =
                    if flag(column, trimmed)? { ForeignStatus::Active } else { ForeignStatus::Revoked };
                state.status = worse(state.status, said);
            }
            ImportColumn::CreatedAt => state.created_at = date()?,
            ImportColumn::NotBefore => state.not_before = date()?,
            ImportColumn::ExpiresAt => state.expires_at = date()?,
            ImportColumn::DeprecatedAt => {
                state.deprecated_at = date()?;
                state.status = worse(state.status, ForeignStatus::Deprecated);
            }
            ImportColumn::GraceEnd => state.grace_end = date()?,
            ImportColumn::RevokedAt => {
                state.revoked_at = date()?;
                state.status = worse(state.status, ForeignStatus::Revoked);
            }
            ImportColumn::HardEnd => self.hard_end = date()?,
            ImportColumn::Ignored => {}
        }
        Ok(())
    }

    pub(crate) fn set_token(&mut self, token: &[u8]) -> Result<(), LineProblem> {
        if token.len() > MAX_TOKEN {
            return Err(LineProblem::TokenTooLong);
        }
        if str::from_utf8(token).is_ok_and(|text| check_token(text).is_ok()) {
            return Err(LineProblem::OwnForm);
        }
        match &self.secret {
            None => {}
            Some(ForeignSecret::Digest(digest))
                if *digest == ForeignDigest::of_token(digest.form(), token) => {}
            Some(_) => return Err(LineProblem::TwoSecrets),
        }
        self.secret = Some(ForeignSecret::Token(SecretBuffer::concat(&[token])));
        Ok(())
    }

    fn set_digest(&mut self, digest: ForeignDigest) -> Result<(), LineProblem> {
        match &self.secret {
            None => self.secret = Some(ForeignSecret::Digest(digest)),
            // Whoever has the token needs no digest of it.
            Some(ForeignSecret::Token(token))
                if ForeignDigest::of_token(digest.form(), token.expose()) == digest => {}
            Some(_) => return Err(LineProblem::TwoSecrets),
        }
        Ok(())
    }
}

/// Of two things that are said of a key's state, the one that lets it do less.
fn worse(one: ForeignStatus, other: ForeignStatus) -> ForeignStatus {
    let rank = |status: &ForeignStatus| match status {
        ForeignStatus::Active => 0,
        ForeignStatus::Deprecated => 1,
        ForeignStatus::Ended => 2,
        ForeignStatus::Revoked => 3,
    };
    std::cmp::max_by_key(one, other, rank)
}

fn status(text: &str) -> Result<ForeignStatus, LineProblem> {
    match text.to_ascii_lowercase().as_str() {
        "active" | "enabled" | "valid" | "live" | "current" | "ok" => Ok(ForeignStatus::Active),
        "deprecated" | "superseded" | "rotating" | "grace" | "grace_period" => Ok(ForeignStatus::Deprecated),
        // What is only switched off there cannot be switched on again here: it gets a new key.
        "revoked" | "disabled" | "inactive" | "suspended" | "blocked" | "deleted" | "compromised" => {
            Ok(ForeignStatus::Revoked)
        }
        "expired" | "retired" | "ended" => Ok(ForeignStatus::Ended),
        _ => Err(LineProblem::Form {
            column: ImportColumn::Status.as_str(),
            form: "active, deprecated, revoked or expired",
        }),
    }
}

fn flag(column: ImportColumn, text: &str) -> Result<bool, LineProblem> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" | "on" => Ok(true),
        "false" | "f" | "no" | "n" | "0" | "off" => Ok(false),
        _ => Err(LineProblem::Form { column: column.as_str(), form: "true or false" }),
    }
}

fn scopes(text: &str) -> Result<ScopeSet, LineProblem> {
    let form = "of a list of scopes such as orders:read";
    let wrong = || LineProblem::Form { column: ImportColumn::Scopes.as_str(), form };
    let words: Vec<String> = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|_| wrong())?
    } else {
        let words = text.split([',', ' ', ';']).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    ScopeSet::try_from(words.as_slice()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(cells: &[(&str, &str)]) -> Result<ForeignKey, LineProblem> {
        let mut key = ForeignKey::default();
        cells.iter().try_for_each(|(name, text)| key.set(ImportColumn::named(name), text))?;
        Ok(key)
    }

    const HASH: &str = "8607d7a64164f14dc0555be7d408ce12559b51e9514d4814b714f6a9a482262e";
    const TOKEN: &str = "sk_live_7Fh2kQ9zXw4VbN8mT3cYpL6r";

    #[test]
    fn a_line_is_read_by_the_names_that_other_systems_use() {
        let key = key(&[
            ("Key-Hash", HASH),
            ("user_id", " ada "),
            ("label", "ci"),
            ("role", "reader"),
            ("permissions", "[\"orders:read\", \"orders:write\"]"),
            ("status", "Deprecated"),
            ("created", "2026-01-01 00:00:00"),
            ("expiry_date", "2028-01-01"),
            ("graceUntil", "2027-06-01"),
            ("metadata", "{\"team\":\"a\"}"),
            ("hits", "7"),
            ("revoked_at", "NULL"),
        ])
        .unwrap();
        assert_eq!(key.owner, OwnerId::new("ada").ok());
        assert_eq!(key.state.status, ForeignStatus::Deprecated);
        assert_eq!(key.scopes, Some(["orders:read", "orders:write"].try_into().unwrap()));
        assert_eq!(
            key.state.expires_at.map(|time| time.to_string()).as_deref(),
            Some("2028-01-01T00:00:00Z")
        );
        assert!(matches!(key.secret, Some(ForeignSecret::Digest(_))));
        assert_eq!(key.metadata.fields().len(), 1);
    }

    #[test]
    fn whatever_says_that_a_key_is_revoked_is_believed() {
        for cell in [
            ("status", "inactive"),
            ("revoked", "1"),
            ("is_active", "false"),
            ("enabled", "no"),
            ("deleted_at", "2027-01-01"),
        ] {
            for cells in [[cell, ("status", "active")], [("status", "active"), cell]] {
                assert_eq!(key(&cells).unwrap().state.status, ForeignStatus::Revoked, "{cells:?}");
            }
        }
        assert_eq!(key(&[("revoked", "f"), ("active", "t")]).unwrap().state.status, ForeignStatus::Active);
        assert!(key(&[("status", "whatever")]).is_err() && key(&[("revoked", "maybe")]).is_err());
    }

    #[test]
    fn a_token_and_a_digest_beside_it_belong_together() {
        let both = |token, hash| key(&[("token", token), ("hash", hash)]).map(|key| key.secret);
        assert!(matches!(both(TOKEN, HASH), Ok(Some(ForeignSecret::Token(_)))));
        assert!(matches!(
            key(&[("hash", HASH), ("token", TOKEN)]).unwrap().secret,
            Some(ForeignSecret::Token(_))
        ));
        assert_eq!(both("another", HASH).unwrap_err(), LineProblem::TwoSecrets);
        assert_eq!(key(&[("hash", HASH), ("token", "x")]).unwrap_err(), LineProblem::TwoSecrets);
        let long = "x".repeat(513);
        assert_eq!(key(&[("token", &long)]).unwrap_err(), LineProblem::TokenTooLong);
    }

    #[test]
    fn no_problem_repeats_what_the_line_says() {
        for column in
            ["owner", "name", "role", "scopes", "status", "revoked", "created_at", "metadata", "hash"]
        {
            let secret = format!("s3cr3t\u{202E}{}", "y".repeat(200));
            let problem = key(&[(column, &secret)]).unwrap_err();
            let shown = format!("{problem} {problem:?}");
            assert!(!shown.contains("s3cr3t") && !shown.contains("yyyy"), "{column}: {shown}");
        }
    }
}

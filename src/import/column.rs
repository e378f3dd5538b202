//! Columns: what a cell of another system's table says, by the names that such tables use.

use crate::imported::DigestForm;

/// What a column of another system's table says of a key. Names are recognised in any case, with `_`, `-` or blanks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImportColumn {
    /// The token itself: `token`, `api_key`, `key`, `secret`, `plaintext`.
    Token,
    /// Its digest, in a form that shows by itself or was announced: `key_hash`, `hashed_key`, `hash`, `digest` …
    Digest,
    /// Its digest in one form: `sha256`, `sha512`; `long_token_hash` is [`DigestForm::Sha256LastPart`].
    DigestOf(DigestForm),
    /// `owner`, `owner_id`, `user_id`, `tenant_id`, `organization_id`, `account_id` …
    Owner,
    /// `name`, `label`, `title`, `description`.
    Name,
    /// `role`.
    Role,
    /// A JSON array, or a list with commas or blanks: `scopes`, `permissions`.
    Scopes,
    /// `status`, `state`.
    Status,
    /// Whether it is revoked: `revoked`, `is_revoked`, `disabled`.
    Revoked,
    /// Whether it is not revoked: `active`, `is_active`, `enabled`.
    Active,
    /// `created_at`, `created`, `issued_at`.
    CreatedAt,
    /// `not_before`, `valid_from`.
    NotBefore,
    /// `expires_at`, `expires`, `expiry_date`, `expiration`, `valid_until`.
    ExpiresAt,
    /// `deprecated_at`.
    DeprecatedAt,
    /// When a deprecated key ends: `grace_end`, `grace_until`, `grace_period_end`, `sunset_at`.
    GraceEnd,
    /// A key with such a date is revoked: `revoked_at`, `disabled_at`, `deleted_at`.
    RevokedAt,
    /// The end of the key, which its successors do not pass either: `hard_end`.
    HardEnd,
    /// A JSON object: `metadata`, `meta`.
    Metadata,
    /// Anything else. It is left out.
    Ignored,
}

impl ImportColumn {
    /// What a column of this name says.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let plain: String = name
            .trim()
            .chars()
            .filter(|c| !matches!(c, '_' | '-' | ' '))
            .flat_map(char::to_lowercase)
            .collect();
        match plain.as_str() {
            "token" | "apikey" | "apitoken" | "key" | "secret" | "plaintext" => Self::Token,
            "keyhash" | "hashedkey" | "hash" | "digest" | "keydigest" | "tokenhash" | "hashedtoken"
            | "tokendigest" | "apikeyhash" | "secrethash" => Self::Digest,
            "sha256" | "keysha256" | "tokensha256" => Self::DigestOf(DigestForm::Sha256),
            "sha512" | "keysha512" | "tokensha512" => Self::DigestOf(DigestForm::Sha512),
            "longtokenhash" => Self::DigestOf(DigestForm::Sha256LastPart),
            "owner" | "ownerid" | "user" | "userid" | "tenant" | "tenantid" | "account" | "accountid"
            | "organization" | "organizationid" | "organisation" | "organisationid" | "orgid" => Self::Owner,
            "name" | "keyname" | "label" | "title" | "description" => Self::Name,
            "role" => Self::Role,
            "scopes" | "scope" | "permissions" => Self::Scopes,
            "status" | "state" => Self::Status,
            "revoked" | "isrevoked" | "disabled" | "isdisabled" => Self::Revoked,
            "active" | "isactive" | "enabled" | "isenabled" => Self::Active,
            "createdat" | "created" | "issuedat" | "createdon" => Self::CreatedAt,
            "notbefore" | "validfrom" => Self::NotBefore,
            "expiresat" | "expires" | "expirydate" | "expiry" | "expiration" | "expireson" | "validuntil" => {
                Self::ExpiresAt
            }
            "deprecatedat" => Self::DeprecatedAt,
            "graceend" | "graceuntil" | "graceperiodend" | "graceendsat" | "graceperiodendsat"
            | "sunsetat" => Self::GraceEnd,
            "revokedat" | "disabledat" | "deletedat" => Self::RevokedAt,
            "hardend" => Self::HardEnd,
            "metadata" | "meta" => Self::Metadata,
            // `id` is left out, too: djangorestframework-api-key keeps a digest in it.
            _ => Self::Ignored,
        }
    }

    /// As a report names it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Digest | Self::DigestOf(_) => "digest",
            Self::Owner => "owner",
            Self::Name => "name",
            Self::Role => "role",
            Self::Scopes => "scopes",
            Self::Status => "status",
            Self::Revoked => "revoked",
            Self::Active => "active",
            Self::CreatedAt => "created_at",
            Self::NotBefore => "not_before",
            Self::ExpiresAt => "expires_at",
            Self::DeprecatedAt => "deprecated_at",
            Self::GraceEnd => "grace_end",
            Self::RevokedAt => "revoked_at",
            Self::HardEnd => "hard_end",
            Self::Metadata => "metadata",
            Self::Ignored => "ignored",
        }
    }
}

//! `find`: the key that a token, a locator or a fingerprint names.

use clap::Args;
use keyrota::{Evidence, Fingerprint, KeyId, Locator, VersionNo};
use serde_json::json;
use zeroize::Zeroizing;

use crate::failure::{Done, Failure, usage};
use crate::out::Out;
use crate::place::Place;
use crate::terminal::read_token;

/// What is known of a secret.
#[derive(Args, Debug)]
pub(crate) struct Known {
    /// The public part of the token, as logs show it, instead of a token on standard input
    #[arg(long, conflicts_with = "fingerprint")]
    locator: Option<String>,
    /// The fingerprint, as the audit log and notifications show it
    #[arg(long)]
    fingerprint: Option<String>,
}

/// The same, read.
pub(crate) enum Found {
    Token(Zeroizing<String>),
    Locator(Locator),
    Fingerprint(Fingerprint),
}

impl Known {
    pub(crate) fn read(&self) -> Done<Found> {
        Ok(match (&self.locator, &self.fingerprint) {
            (Some(locator), _) => {
                // A hint is the prefix and the locator.
                let locator = locator.rsplit('_').next().unwrap_or(locator).trim_end_matches('…');
                Found::Locator(locator.to_owned().try_into().map_err(usage)?)
            }
            (None, Some(fingerprint)) => Found::Fingerprint(fingerprint.clone().try_into().map_err(usage)?),
            (None, None) => Found::Token(read_token()?),
        })
    }
}

impl Found {
    pub(crate) fn evidence(&self) -> Evidence<'_> {
        match self {
            Self::Token(token) => Evidence::Token(token),
            Self::Locator(locator) => Evidence::Locator(*locator),
            Self::Fingerprint(fingerprint) => Evidence::Fingerprint(*fingerprint),
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota find < token
  keyrota find --locator 4fTq0Zr1xYbA
  keyrota find --fingerprint fp_0123456789abcdef

A token whose secret is wrong finds nothing. Nothing is counted as a use.

JSON: {\"key_id\", \"version\"}, both null with exit code 1 where nothing is found")]
pub(crate) struct Find {
    #[command(flatten)]
    known: Known,
}

impl Find {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let known = self.known.read()?;
        let found = place.keys()?.find(known.evidence())?;
        named(found, "", out)
    }
}

/// Answers with what evidence names.
pub(crate) fn named(found: Option<(KeyId, VersionNo)>, what: &str, out: &mut Out) -> Done {
    let (key, version) = found.unzip();
    out.answer(&json!({ "key_id": key, "version": version }), |out| match found {
        Some((key, version)) => out.line(&format!("{key} {version}{what}")),
        None => out.line("nothing of the kind is known"),
    })?;
    if found.is_some() { Ok(()) } else { Err(Failure::Answered) }
}

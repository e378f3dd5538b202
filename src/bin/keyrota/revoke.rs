//! `revoke`, `replace` and `compromised`: what ends secrets at once and for good.

use std::time::Duration;

use clap::Args;
use keyrota::{KeyId, Replace as Replacing, Revoke as Revoking, VersionNo};
use serde_json::json;

use crate::failure::Done;
use crate::find::{Known, named};
use crate::keys::{called, changed};
use crate::out::Out;
use crate::place::Place;
use crate::terminal::confirm;
use crate::token::TokenOut;
use crate::values;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota revoke key_1pKq…
  keyrota revoke key_1pKq… --version 2 --compromised --reason \"in a build log\" --yes

JSON: {\"key_id\", \"done\", \"version\"}")]
pub(crate) struct Revoke {
    key_id: KeyId,
    /// This version only
    #[arg(long, value_name = "N", value_parser = values::version)]
    version: Option<VersionNo>,
    /// Its secret has leaked: what was claimed with it is revoked, too
    #[arg(long)]
    compromised: bool,
}

impl Revoke {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        confirm(place, || {
            let key = place.keys()?.get(self.key_id)?;
            let version = self.version.map_or(String::new(), |version| format!("{version} of "));
            Ok(format!("Revoke {version}{} for good?", called(&key)))
        })?;
        let keys = place.keys()?;
        let how = match self.version {
            Some(version) => Revoking::of((self.key_id, version)),
            None => Revoking::of(self.key_id),
        };
        place.act(&keys).revoke(if self.compromised { how.compromised() } else { how })?;
        let what = self.version.map_or("revoked".to_owned(), |version| format!("{version} revoked"));
        changed(self.key_id, &what, json!({ "version": self.version }), out)
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota replace key_1pKq… --token-out new-token --reason \"leaked\" --yes
  keyrota replace key_1pKq… --grace 1h

JSON: {\"key_id\", \"version\", \"valid_until\", \"old_version\", \"old_valid_until\", \"token\" or \"token_file\"}")]
pub(crate) struct Replace {
    key_id: KeyId,
    /// Let the version in use validate so much longer, at most 4h; so can whoever stole it
    #[arg(long, value_name = "SPAN", value_parser = values::span)]
    grace: Option<Duration>,
    #[command(flatten)]
    token_out: TokenOut,
}

impl Replace {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        confirm(place, || {
            let key = place.keys()?.get(self.key_id)?;
            Ok(format!("Replace {}, and revoke all its other versions?", called(&key)))
        })?;
        let keys = place.keys()?;
        let reserved = self.token_out.reserve()?;
        let (act, request) = place.act_with_token(&keys)?;
        let replaced = act.replace(Replacing::of(self.key_id).grace(self.grace.unwrap_or_default()))?;
        reserved.show(
            out,
            replaced,
            &format!("repeat the command with --request {request} within 15 minutes"),
        )
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota compromised --yes < token
  keyrota compromised --locator 4fTq0Zr1xYbA --reason \"found on a paste site\"

JSON: {\"key_id\", \"version\"} of what was revoked, both null with exit code 1 where nothing is found")]
pub(crate) struct Compromised {
    #[command(flatten)]
    known: Known,
}

impl Compromised {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        confirm(place, || Ok("Revoke the version that this names, for good?".to_owned()))?;
        let known = self.known.read()?;
        let keys = place.keys()?;
        let found = place.act(&keys).report_compromised(known.evidence())?;
        named(found, ": revoked", out)
    }
}

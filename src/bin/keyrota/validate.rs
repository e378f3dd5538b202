//! `validate`: whether a token is valid now.

use std::net::IpAddr;

use clap::Args;
use keyrota::{Demand, Scope};
use serde_json::json;

use crate::failure::{Done, Failure};
use crate::out::{self, Out};
use crate::place::Place;
use crate::terminal::read_token;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota validate < token
  pass show api/ci | keyrota validate --scope orders:read --from 192.0.2.7

A validation here is a real one: it counts as a use, and as the first use of a successor.

JSON: {\"valid\": true, \"key_id\", \"version\", \"owner\", \"scopes\", \"valid_until\", \"deprecated_at\",
       \"successor\": {\"claim_by\", \"ends_at\"}}
  or: {\"valid\": false, \"reason\", \"key_id\", \"version\"} with exit code 1; key and version only where the
      secret was right")]
pub(crate) struct Validate {
    /// What the request needs
    #[arg(long)]
    scope: Option<Scope>,
    /// Where the request comes from
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// How many uses it counts for
    #[arg(long, value_name = "N", default_value_t = 1)]
    cost: u32,
}

impl Validate {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let token = read_token()?;
        let keys = place.keys()?;
        let validator = keys.validator()?;
        let mut demand = self.scope.as_ref().map_or(Demand::NOTHING, Demand::scope).cost(self.cost);
        if let Some(from) = self.from {
            demand = demand.from(from);
        }
        let grant = match validator.validate_for(token.as_bytes(), demand) {
            Ok(grant) => grant,
            Err(denial) => {
                let (key, version) = (denial.key(), denial.version());
                validator.close()?;
                let reason = denial.reason().to_string();
                let answer = json!({ "valid": false, "reason": reason, "key_id": key, "version": version });
                out.answer(&answer, |out| {
                    let version = version.map_or(String::new(), |version| version.to_string());
                    let key = key.map_or(String::new(), |key| key.to_string());
                    out.fields(&[
                        ("answer", "denied".to_owned()),
                        ("reason", reason.clone()),
                        ("key_id", key),
                        ("version", version),
                    ])
                })?;
                return Err(match denial.class() {
                    keyrota::DenialClass::Unavailable => Failure::Unsound,
                    _ => Failure::Answered,
                });
            }
        };
        let scopes = validator.scopes(&grant).map_err(|denial| Failure::Store(denial.to_string()))?;
        validator.close()?;
        let successor = grant.successor();
        let answer = json!({
            "valid": true, "key_id": grant.key(), "version": grant.version(), "owner": grant.owner(),
            "scopes": scopes, "valid_until": grant.valid_until(), "deprecated_at": grant.deprecated_at(),
            "successor": successor.map(|waits| json!({ "claim_by": waits.claim_by, "ends_at": waits.ends })),
        });
        out.answer(&answer, |out| {
            let waits =
                |waits: keyrota::Successor| format!("waits to be claimed by {}", out::time(waits.claim_by));
            out.fields(&[
                ("answer", "granted".to_owned()),
                ("key_id", grant.key().to_string()),
                ("version", grant.version().to_string()),
                ("owner", grant.owner().to_string()),
                ("scopes", scopes.to_string()),
                ("valid until", out::time_or(grant.valid_until(), "for ever")),
                ("deprecated", grant.deprecated_at().map_or(String::new(), out::time)),
                ("successor", successor.map_or(String::new(), waits)),
            ])
        })
    }
}

//! `simulate`: the dates that a policy produces.

use std::time::Duration;

use clap::Args;
use keyrota::{ClientBehaviour, KeyId, RotationPolicy, Timestamp};
use serde_json::json;

use crate::failure::{Done, Failure};
use crate::out::Out;
use crate::place::Place;
use crate::policy::object;
use crate::policy_args::PolicyArgs;
use crate::values;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota simulate --lifetime 90d --rotate-every 83d --claims-after 2d
  keyrota simulate --preset mobile --from 2027-01-01 --for 3y --uses-after 30d
  keyrota simulate --key key_1pKq… --never-claims

Needs a database only with --key.

JSON: {\"policy\", \"from\", \"until\", \"events\": [{\"at\", \"kind\", \"version\", \"until\", …} …], \"most_live\", \"ends_at\"}")]
pub(crate) struct Simulate {
    /// Begin from the policy that this key lives by
    #[arg(long, value_name = "KEY_ID", conflicts_with = "preset")]
    key: Option<KeyId>,
    /// When the key is issued [default: now]
    #[arg(long, value_name = "DATE", value_parser = values::date)]
    from: Option<Timestamp>,
    /// How long to look ahead
    #[arg(long = "for", value_name = "SPAN", default_value = "1y", value_parser = values::span)]
    span: Duration,
    /// The client claims each successor so long after it was made
    #[arg(long, value_name = "SPAN", default_value = "0s", value_parser = values::span)]
    claims_after: Duration,
    /// The client claims nothing
    #[arg(long, conflicts_with = "claims_after")]
    never_claims: bool,
    /// The client uses each successor so long after it was claimed
    #[arg(long, value_name = "SPAN", default_value = "0s", value_parser = values::span)]
    uses_after: Duration,
    #[command(flatten)]
    policy: PolicyArgs,
}

impl Simulate {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let base = || match self.key {
            Some(key) => Ok(place.keys()?.policy_of(key)?),
            None => Ok(RotationPolicy::default()),
        };
        let policy = match self.policy.build(Some(&base))? {
            Some(policy) => policy,
            None => base()?,
        };
        let from = self.from.map_or_else(|| values::date("now").map_err(Failure::Usage), Ok)?;
        let client = if self.never_claims {
            ClientBehaviour::never_claims()
        } else {
            ClientBehaviour::claims_after(self.claims_after).uses_after(self.uses_after)
        };
        let simulation = policy.simulate(from, self.span, client)?;
        let answer = json!({
            "policy": object(&policy)?, "from": from, "until": from.plus(self.span).ok(),
            "events": simulation.events, "most_live": simulation.most_live, "ends_at": simulation.ends_at,
        });
        out.answer(&answer, |out| {
            out.line(&format!("{policy}\n"))?;
            out.line(&simulation.to_string())
        })
    }
}

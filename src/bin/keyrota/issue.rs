//! `issue`: a new key.

use clap::Args;
use keyrota::{Limits, Metadata, Networks, NewKey, OwnerId, Prefix, RoleName, Scope, ScopeSet, Timestamp};

use crate::failure::{Done, usage};
use crate::out::Out;
use crate::place::Place;
use crate::policy_args::PolicyArgs;
use crate::token::TokenOut;
use crate::values::{self, Switch};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota issue --owner ada --name ci --scope orders:read --lifetime 90d
  keyrota issue --owner ada --name deploy --scope orders:read orders:write --role deployer --token-out token
  keyrota issue --owner acme --name partner --limits \"10/s burst 50, quota 100000 monthly\" --networks 192.0.2.0/24

JSON: {\"key_id\", \"version\", \"valid_until\", \"token\" or \"token_file\"}")]
pub(crate) struct Issue {
    /// Whose key it is
    #[arg(long)]
    owner: OwnerId,
    /// What people call it
    #[arg(long)]
    name: String,
    /// What it may do: resource:action, resource:* or *
    #[arg(long, num_args = 1.., value_delimiter = ',')]
    scope: Vec<Scope>,
    /// A role whose scopes are added
    #[arg(long, value_parser = values::role)]
    role: Option<RoleName>,
    /// From when it is valid
    #[arg(long, value_name = "DATE", value_parser = values::date)]
    not_before: Option<Timestamp>,
    /// When it ends for good
    #[arg(long, value_name = "DATE", value_parser = values::date)]
    until: Option<Timestamp>,
    /// Its versions do not expire by themselves
    #[arg(long, conflicts_with_all = ["lifetime", "until"])]
    never_expires: bool,
    /// How often it may be used, such as "10/s burst 50, 1000/h, quota 100000 monthly"
    #[arg(long)]
    limits: Option<Limits>,
    /// From where it may be used, such as 192.0.2.0/24,2001:db8::/32
    #[arg(long, value_name = "NETWORKS")]
    networks: Option<Networks>,
    /// What to keep with it: a JSON object
    #[arg(long, value_name = "JSON", value_parser = values::metadata)]
    metadata: Option<Metadata>,
    /// What its tokens begin with [default: key]
    #[arg(long, value_parser = values::prefix)]
    prefix: Option<Prefix>,
    /// Whether it rotates by itself
    #[arg(long, value_enum)]
    auto_rotation: Option<Switch>,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    token_out: TokenOut,
}

impl Issue {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let new = self.new_key()?;
        let keyring = place.keyring()?;
        let builder = place.builder(place.store()?, keyring).prefixes(self.prefix);
        let keys = builder.open()?;
        let policy = self.policy.build(Some(&|| Ok(keys.settings()?.policy)))?;
        let new = match policy {
            Some(policy) => new.policy(policy),
            None => new,
        };
        let reserved = self.token_out.reserve()?;
        let (act, request) = place.act_with_token(&keys)?;
        let issued = act.issue(new)?;
        let again = format!("repeat the command with --request {request} within 15 minutes");
        reserved.show(out, issued, &again)
    }

    fn new_key(&self) -> Done<NewKey> {
        let scopes = ScopeSet::new(self.scope.iter().cloned()).map_err(usage)?;
        let mut new = NewKey::new(self.owner, &self.name).map_err(usage)?.scopes(scopes);
        if let Some(role) = &self.role {
            new = new.role(role.clone());
        }
        if let Some(from) = self.not_before {
            new = new.not_before(from);
        }
        if let Some(until) = self.until {
            new = new.until(until);
        }
        if self.never_expires {
            new = new.never_expires();
        }
        if let Some(limits) = &self.limits {
            new = new.limits(limits.clone());
        }
        if let Some(networks) = &self.networks {
            new = new.networks(networks.clone());
        }
        if let Some(metadata) = &self.metadata {
            new = new.metadata(metadata.clone());
        }
        if let Some(prefix) = self.prefix {
            new = new.prefix(prefix);
        }
        Ok(match self.auto_rotation.and_then(Switch::word) {
            Some(on) => new.auto_rotation(on),
            None => new,
        })
    }
}

//! `policy`: how versions follow each other, in the deployment or for a key.

use clap::{Args, Subcommand};
use keyrota::{AutoRotation, DeploymentSettings, EditKey, KeyId, KeyManager, OwnerLimit, RotationPolicy};
use serde_json::{Value, json};

use crate::failure::{Done, Failure, usage};
use crate::out::{self, Out};
use crate::place::Place;
use crate::policy_args::PolicyArgs;
use crate::values::{self, Switch};

#[derive(Subcommand, Debug)]
#[command(
    after_help = "JSON: {\"policy\": {…, \"text\"}, \"key_id\", \"own\", \"settings\": {\"owner_limit\", \"auto_rotation\", \"management_enabled\"}}"
)]
pub(crate) enum Policy {
    /// Show the policy of the deployment, or the one that a key lives by
    Show(Show),
    /// Set the policy of the deployment, or of a key
    Set(Box<Set>),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota policy show
  keyrota policy show key_1pKq…")]
pub(crate) struct Show {
    key_id: Option<KeyId>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota policy set --lifetime 90d --rotate-every 83d --overlap 24h
  keyrota policy set --preset keep-two-newest
  keyrota policy set --key key_1pKq… --lifetime 30d
  keyrota policy set --key key_1pKq… --inherit
  keyrota policy set --auto-rotation on

Versions that there are keep the dates that they were told.")]
pub(crate) struct Set {
    /// Of this key only
    #[arg(long, value_name = "KEY_ID")]
    key: Option<KeyId>,
    /// Take the key's own policy away
    #[arg(long, requires = "key")]
    inherit: bool,
    /// Whether keys rotate by themselves, where nothing else is said of them or their owners
    #[arg(long, value_enum, conflicts_with = "key")]
    auto_rotation: Option<Switch>,
    /// How many keys an owner may hold
    #[arg(long, value_name = "N", conflicts_with = "key")]
    owner_limit: Option<u32>,
    /// Switch the management of keys on or off; what denies a key goes on working
    #[arg(long, value_name = "on|off", conflicts_with = "key", value_parser = values::on_off)]
    management: Option<bool>,
    #[command(flatten)]
    policy: PolicyArgs,
}

impl Policy {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        match self {
            Self::Show(Show { key_id }) => shown(&place.keys()?, *key_id, out),
            Self::Set(set) => set.run(place, out),
        }
    }
}

/// A policy as an object, with the sentence that tells it.
pub(crate) fn object(policy: &RotationPolicy) -> Done<Value> {
    let mut object = out::json(policy)?;
    if let Value::Object(fields) = &mut object {
        fields.remove("form");
        fields.insert("text".to_owned(), json!(policy.to_string()));
    }
    Ok(object)
}

fn shown(keys: &KeyManager, key: Option<KeyId>, out: &mut Out) -> Done {
    let settings = keys.settings()?;
    let DeploymentSettings { owner_limit, auto_rotation, management_enabled, .. } = settings;
    let (policy, own) = match key {
        Some(key) => (keys.policy_of(key)?, keys.get(key)?.policy.is_some()),
        None => (settings.policy, true),
    };
    let of_all = json!({
        "owner_limit": owner_limit, "auto_rotation": auto_rotation, "management_enabled": management_enabled,
    });
    let answer = json!({ "policy": object(&policy)?, "key_id": key, "own": own, "settings": of_all });
    out.answer(&answer, |out| {
        let word = |on: bool| if on { "on" } else { "off" }.to_owned();
        let mut fields = vec![("policy", policy.to_string())];
        if key.is_none() {
            fields.push(("auto rotation", word(auto_rotation)));
            fields.push(("keys an owner may hold", owner_limit.get().to_string()));
            fields.push(("management", word(management_enabled)));
        } else if !own {
            fields.push(("whose", "the deployment's".to_owned()));
        }
        out.fields(&fields)
    })
}

impl Set {
    fn run(&self, place: &Place, out: &mut Out) -> Done {
        let limit = self.owner_limit.map(OwnerLimit::new).transpose().map_err(usage)?;
        let keys = place.keys()?;
        let base = || match self.key {
            Some(key) => Ok(keys.policy_of(key)?),
            None => Ok(keys.settings()?.policy),
        };
        let policy = self.policy.build(Some(&base))?;
        let acts = [self.auto_rotation.is_some(), limit.is_some(), self.management.is_some()];
        let acts = acts.iter().filter(|wanted| **wanted).count();
        match (policy, self.key) {
            (Some(_), _) if self.inherit => {
                return Err(Failure::Usage(
                    "--inherit takes the key's policy away: give no other option".to_owned(),
                ));
            }
            (None, None) if acts == 0 => return Err(nothing()),
            (None, Some(_)) if !self.inherit => return Err(nothing()),
            (policy, _) if acts + usize::from(policy.is_some()) > 1 && place.request.is_some() => {
                return Err(Failure::Usage("with --request, set one thing with each command".to_owned()));
            }
            (policy, Some(key)) => drop(place.act(&keys).edit(EditKey::of(key).policy(policy))?),
            (Some(policy), None) => place.act(&keys).set_policy(policy)?,
            (None, None) => {}
        }
        if let Some(switch) = self.auto_rotation {
            place.act(&keys).set_auto_rotation(AutoRotation::Deployment, switch.word())?;
        }
        if let Some(limit) = limit {
            place.act(&keys).set_default_owner_limit(limit)?;
        }
        if let Some(enabled) = self.management {
            place.act(&keys).set_management(enabled)?;
        }
        shown(&keys, self.key, out)
    }
}

fn nothing() -> Failure {
    Failure::Usage("what is to be set? see `keyrota policy set --help`".to_owned())
}

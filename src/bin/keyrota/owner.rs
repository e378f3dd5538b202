//! `owner`: what concerns all keys of an owner.

use clap::{Args, Subcommand};
use keyrota::{AutoRotation, KeyManager, OwnerId, OwnerLimit, OwnerRecord, Revoke, Scope, ScopeSet};
use serde_json::json;

use crate::failure::{Done, Failure, usage};
use crate::out::Out;
use crate::place::Place;
use crate::table::Table;
use crate::terminal::confirm;
use crate::values::Switch;

#[derive(Subcommand, Debug)]
#[command(
    after_help = "JSON: {\"owner\": {\"id\", \"suspended\", \"limit\", \"ceiling\", \"auto_rotation\"}}; list: {\"owners\": […]}"
)]
pub(crate) enum Owner {
    /// Deny all keys of an owner, until it is resumed
    Suspend(Named),
    /// Let an owner's keys validate again
    Resume(Named),
    /// Revoke all keys that an owner holds, for good
    RevokeAll(Named),
    /// Show an owner
    Show(Named),
    /// List owners
    #[command(after_help = "Example:\n  keyrota owner list")]
    List,
    /// Set an owner's limit, ceiling of scopes, or whether its keys rotate
    Set(Set),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota owner suspend ada --reason \"invoice open\" --yes
  keyrota owner resume ada
  keyrota owner revoke-all ada --yes
  keyrota owner show ada")]
pub(crate) struct Named {
    owner: OwnerId,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  keyrota owner set ada --limit 50 --ceiling orders:* --auto-rotation on")]
pub(crate) struct Set {
    owner: OwnerId,
    /// How many keys it may hold
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// As many keys as the deployment says
    #[arg(long, conflicts_with = "limit")]
    no_limit: bool,
    /// The scopes beyond which none of its keys goes
    #[arg(long, num_args = 1.., value_delimiter = ',')]
    ceiling: Vec<Scope>,
    /// Without a ceiling
    #[arg(long, conflicts_with = "ceiling")]
    no_ceiling: bool,
    /// Whether its keys rotate by themselves
    #[arg(long, value_enum)]
    auto_rotation: Option<Switch>,
}

impl Owner {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        match self {
            Self::Suspend(Named { owner }) => {
                confirm(place, || Ok(format!("Deny all keys of {owner}, until it is resumed?")))?;
                let keys = known(place, *owner)?;
                place.act(&keys).suspend(*owner)?;
                told(&keys.owner(*owner)?, out)
            }
            Self::Resume(Named { owner }) => {
                let keys = known(place, *owner)?;
                place.act(&keys).resume(*owner)?;
                told(&keys.owner(*owner)?, out)
            }
            Self::RevokeAll(Named { owner }) => {
                confirm(place, || Ok(format!("Revoke all keys that {owner} holds, for good?")))?;
                let keys = known(place, *owner)?;
                place.act(&keys).revoke(Revoke::of(*owner))?;
                told(&keys.owner(*owner)?, out)
            }
            Self::Show(Named { owner }) => told(&place.keys()?.owner(*owner)?, out),
            Self::List => list(&place.keys()?, out),
            Self::Set(set) => set.run(place, out),
        }
    }
}

/// A manager, where the owner is there: a name that was mistyped must not look as if it had been suspended.
fn known(place: &Place, owner: OwnerId) -> Done<KeyManager> {
    let keys = place.keys()?;
    match keys.owner(owner) {
        // In an emergency, what is damaged does not stand in the way; the act says what it can do.
        Ok(_) | Err(keyrota::ManageError::Read(_)) => Ok(keys),
        Err(error) => Err(error.into()),
    }
}

fn limit(record: &OwnerRecord) -> String {
    record.limit.map_or("the deployment's".to_owned(), |limit| limit.get().to_string())
}

fn ceiling(record: &OwnerRecord) -> String {
    record.ceiling.as_ref().map_or("none".to_owned(), ToString::to_string)
}

fn rotation(record: &OwnerRecord) -> String {
    match record.auto_rotation {
        Some(true) => "on",
        Some(false) => "off",
        None => "as the deployment says",
    }
    .to_owned()
}

fn standing(record: &OwnerRecord) -> String {
    if record.suspended { "suspended" } else { "active" }.to_owned()
}

fn told(record: &OwnerRecord, out: &mut Out) -> Done {
    out.answer(&json!({ "owner": record }), |out| {
        out.fields(&[
            ("owner", record.id.to_string()),
            ("status", standing(record)),
            ("limit", limit(record)),
            ("ceiling", ceiling(record)),
            ("auto rotation", rotation(record)),
        ])
    })
}

fn list(keys: &KeyManager, out: &mut Out) -> Done {
    let owners = keys.owners()?;
    out.answer(&json!({ "owners": owners }), |out| {
        let mut table = Table::new(["owner…", "status", "limit…", "ceiling…", "auto rotation…"]);
        for owner in &owners {
            table.row([owner.id.to_string(), standing(owner), limit(owner), ceiling(owner), rotation(owner)]);
        }
        out.table(&table)
    })
}

impl Set {
    fn run(&self, place: &Place, out: &mut Out) -> Done {
        let limit = self.limit.map(OwnerLimit::new).transpose().map_err(usage)?;
        let ceiling = ScopeSet::new(self.ceiling.iter().cloned()).map_err(usage)?;
        let sets_limit = limit.is_some() || self.no_limit;
        let sets_ceiling = !ceiling.is_empty() || self.no_ceiling;
        let acts = [sets_limit, sets_ceiling, self.auto_rotation.is_some()];
        match acts.iter().filter(|wanted| **wanted).count() {
            0 => return Err(Failure::Usage("what is to be set? see `keyrota owner set --help`".to_owned())),
            1 => {}
            _ if place.request.is_some() => {
                return Err(Failure::Usage("with --request, set one thing with each command".to_owned()));
            }
            _ => {}
        }
        let keys = place.keys()?;
        if sets_limit {
            place.act(&keys).set_owner_limit(self.owner, limit)?;
        }
        if sets_ceiling {
            place.act(&keys).set_owner_ceiling(self.owner, (!self.no_ceiling).then_some(ceiling))?;
        }
        if let Some(switch) = self.auto_rotation {
            place.act(&keys).set_auto_rotation(AutoRotation::Owner(self.owner), switch.word())?;
        }
        told(&keys.owner(self.owner)?, out)
    }
}

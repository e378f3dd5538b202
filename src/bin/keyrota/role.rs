//! `role`: named sets of scopes.

use clap::{Args, Subcommand};
use keyrota::{RoleName, RoleRecord, Scope, ScopeSet};
use serde_json::json;

use crate::failure::{Done, usage};
use crate::out::Out;
use crate::place::Place;
use crate::table::Table;
use crate::values;

#[derive(Subcommand, Debug)]
#[command(after_help = "JSON: {\"roles\": [{\"name\", \"scopes\"} …]}")]
pub(crate) enum Role {
    /// List roles
    #[command(after_help = "Example:\n  keyrota role list")]
    List,
    /// Set the scopes of a role, for all keys that have it
    Set(Set),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  keyrota role set deployer --scope releases:write releases:read")]
pub(crate) struct Set {
    #[arg(value_parser = values::role)]
    role: RoleName,
    /// What whoever has the role may do
    #[arg(long, num_args = 1.., value_delimiter = ',', required = true)]
    scope: Vec<Scope>,
}

impl Role {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        if let Self::Set(Set { role, scope }) = self {
            let scopes = ScopeSet::new(scope.iter().cloned()).map_err(usage)?;
            place.act(&keys).set_role(role.clone(), scopes)?;
        }
        told(&keys.roles()?, out)
    }
}

fn told(roles: &[RoleRecord], out: &mut Out) -> Done {
    out.answer(&json!({ "roles": roles }), |out| {
        let mut table = Table::new(["role…", "scopes…"]);
        for role in roles {
            table.row([role.name.to_string(), role.scopes.to_string()]);
        }
        out.table(&table)
    })
}

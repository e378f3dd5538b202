//! The command line as a whole.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::failure::{Done, Failure};
use crate::out::Out;
use crate::place::Place;
use crate::{
    audit, claim, compliance, doctor, find, import, init, issue, keys, master_key, notifications, owner,
    policy, revoke, role, rotate, schedule, simulate, tick, upkeep, usage, validate,
};

/// API keys on SQLite: issue, validate, rotate, revoke
#[derive(Parser, Debug)]
#[command(
    name = "keyrota",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  export KEYROTA_DB=keys.db KEYROTA_MASTER_KEY_FILE=master.key
  keyrota init
  keyrota issue --owner ada --name ci --scope orders:read --lifetime 90d
  keyrota validate --scope orders:read < token
  keyrota rotate KEY_ID --token-out new-token

Exit codes:
  0  done
  1  denied, or nothing found
  2  the command line makes no sense, or asks for what needs --yes
  3  the store, the master key or a file failed

Spans are written as 90d, 24h, 15min, 2w, 1y; dates as 2027-03-01, \"2027-03-01 14:30\", tomorrow, \"in 3d\",
\"2w ago\". All times are UTC. A token is read from standard input, never from the command line."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Make a database, and a master key where there is none
    Init(Box<init::Init>),
    /// Issue a key; its token is shown once
    Issue(Box<issue::Issue>),
    /// Say whether the token on standard input is valid; counts as a use
    Validate(validate::Validate),
    /// List keys
    List(keys::List),
    /// Show a key with its versions and rotations
    Show(keys::Show),
    /// Change a key's name, scopes, role, limits, networks, metadata or policy
    Edit(Box<keys::Edit>),
    /// Give a key a new version at once; its token is shown once
    Rotate(rotate::Rotate),
    /// Take over the successor that waits, by the current token or for the key's owner
    Claim(claim::Claim),
    /// List the successors that wait to be claimed
    Waiting(claim::Waiting),
    /// Rotate a key at a later time
    Schedule(schedule::Schedule),
    /// Withdraw a rotation whose successor is not active yet
    Cancel(schedule::Cancel),
    /// Let the version in use run out after the overlap, without a successor
    Deprecate(rotate::Deprecate),
    /// Go back to the version before, while that is in its grace
    Rollback(rotate::Rollback),
    /// Revoke a key, or one version of it, at once and for good
    Revoke(revoke::Revoke),
    /// Emergency: a new version, and all others revoked
    Replace(revoke::Replace),
    /// Report a leaked secret by its token (standard input), locator or fingerprint, and revoke it
    Compromised(revoke::Compromised),
    /// Find the key of a token (standard input), locator or fingerprint
    Find(find::Find),
    /// Owners: suspend, resume, revoke all keys, limits
    Owner {
        #[command(subcommand)]
        command: owner::Owner,
    },
    /// Roles: named sets of scopes
    Role {
        #[command(subcommand)]
        command: role::Role,
    },
    /// The rotation policy, of the deployment or of a key
    Policy {
        #[command(subcommand)]
        command: policy::Policy,
    },
    /// Do what is due
    Tick(tick::Tick),
    /// Say what a tick would do, and write nothing
    Plan(tick::Plan),
    /// Say which dates a policy produces, without a database
    Simulate(Box<simulate::Simulate>),
    /// The audit log
    Audit {
        #[command(subcommand)]
        command: audit::Audit,
    },
    /// How often keys were used, and denied
    Usage(usage::Usage),
    /// List keys that nobody has used for long
    Stale(usage::Stale),
    /// Say how old the secrets in use are, and what shows that they rotate
    Compliance(compliance::Compliance),
    /// Take over the keys of another system
    Import(Box<import::Import>),
    /// Notifications that could not be told
    Notifications {
        #[command(subcommand)]
        command: notifications::Notifications,
    },
    /// Remove keys that have been over for long
    Cleanup(upkeep::Cleanup),
    /// Copy the database, while it is in use
    Backup(upkeep::Backup),
    /// Put a backup in the database's place; what was revoked since stays revoked
    Restore(upkeep::Restore),
    /// The master key's generations
    #[command(name = "master-key")]
    MasterKey {
        #[command(subcommand)]
        command: master_key::MasterKey,
    },
    /// Examine database, master key, clock, integrity and what is overdue, and say what to do
    Doctor(doctor::Doctor),
    /// Print a completion script for a shell
    Completions(Completions),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  keyrota completions bash > ~/.local/share/bash-completion/completions/keyrota")]
pub(crate) struct Completions {
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, out: &mut Out) -> Done {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "keyrota", &mut script);
        out.answer(&serde_json::json!({ "script": String::from_utf8_lossy(&script) }), |out| {
            out.line(&String::from_utf8_lossy(&script))
        })
    }
}

/// Refuses a command line that holds a token, before anything repeats it: whoever lists processes has seen it.
pub(crate) fn without_tokens() -> Done {
    let holds = |text: &str| {
        let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        parts.into_iter().any(|part| keyrota::check_token(part).is_ok())
    };
    if std::env::args_os().skip(1).any(|argument| holds(&argument.to_string_lossy())) {
        return Err(Failure::Usage(
            "a token stands on the command line, where others can read it: rotate its key, and give tokens on standard input"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Does not repeat an argument that no command takes: it may be a token of another system, which nothing else tells.
pub(crate) fn stray(error: &clap::Error) -> Option<Failure> {
    let argument = match error.get(ContextKind::InvalidArg).or(error.get(ContextKind::InvalidSubcommand)) {
        Some(ContextValue::String(argument)) => argument,
        _ => return None,
    };
    // Words of this length are no tokens, and it helps to see them.
    let is_word = argument.len() < 16 || argument.starts_with('-') && argument.len() < 32;
    let is_stray = matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand);
    (is_stray && !is_word).then(|| {
        Failure::Usage(
            "an argument of the command line is one too many; if it is a token, others could read it: rotate its key, \
             and give tokens on standard input"
                .to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }
}

//! `rotate`, `deprecate` and `rollback`.

use clap::Args;
use keyrota::{KeyId, RollBack, RotateNow};

use crate::failure::Done;
use crate::keys::{called, shown};
use crate::out::Out;
use crate::place::Place;
use crate::terminal::confirm;
use crate::token::TokenOut;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota rotate key_1pKq…
  keyrota rotate key_1pKq… --token-out new-token --reason \"the client moves\"

The old version validates for the overlap of its policy.

JSON: {\"key_id\", \"version\", \"valid_until\", \"old_version\", \"old_valid_until\", \"token\" or \"token_file\"}")]
pub(crate) struct Rotate {
    key_id: KeyId,
    /// End an earlier rotation's old version now, if that is still in its grace
    #[arg(long)]
    supersede: bool,
    #[command(flatten)]
    token_out: TokenOut,
}

impl Rotate {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let keys = place.keys()?;
        let mut how = RotateNow::of(self.key_id);
        if self.supersede {
            confirm(place, || {
                Ok(format!("Rotate {}, and end what is still in its grace?", called(&keys.get(self.key_id)?)))
            })?;
            how = how.supersede();
        }
        let reserved = self.token_out.reserve()?;
        let (act, request) = place.act_with_token(&keys)?;
        let rotated = act.rotate(how)?;
        reserved.show(out, rotated, &format!("repeat the command with --request {request} within 15 minutes"))
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  keyrota deprecate key_1pKq… --yes

JSON: as of `keyrota show`")]
pub(crate) struct Deprecate {
    key_id: KeyId,
}

impl Deprecate {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        confirm(place, || {
            let key = place.keys()?.get(self.key_id)?;
            Ok(format!("Let {} run out, without a successor?", called(&key)))
        })?;
        let keys = place.keys()?;
        let key = place.act(&keys).deprecate(self.key_id)?;
        shown(&keys, &key, out)
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota rollback key_1pKq…
  keyrota rollback key_1pKq… --compromised --yes

JSON: as of `keyrota show`")]
pub(crate) struct Rollback {
    key_id: KeyId,
    /// The newer version's secret has leaked: revoke it at once
    #[arg(long)]
    compromised: bool,
}

impl Rollback {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let mut how = RollBack::of(self.key_id);
        if self.compromised {
            confirm(place, || {
                let key = place.keys()?.get(self.key_id)?;
                Ok(format!("Roll {} back, and revoke its newest version?", called(&key)))
            })?;
            how = how.compromised();
        }
        let keys = place.keys()?;
        let key = place.act(&keys).roll_back(how)?;
        shown(&keys, &key, out)
    }
}

//! `claim`, the successor that waits, and `waiting`, all that wait.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use keyrota::{Claim as Claiming, ClaimId, KeyId};
use serde_json::json;
use zeroize::Zeroizing;

use crate::failure::{Done, Failure};
use crate::out::{self, Out};
use crate::place::Place;
use crate::table::Table;
use crate::terminal::read_token;
use crate::token::{TokenOut, private_file};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota claim --claim-id-file claim.id --token-out new-token < token
  keyrota claim --for-owner key_1pKq… --token-out new-token

The claim id is made before the claim and written into its file (mode 0600): with the same id the same successor
can be had again, until it is used. Keep it like a token, and delete it afterwards.

JSON: {\"key_id\", \"version\", \"valid_until\", \"old_version\", \"old_valid_until\", \"token\" or \"token_file\"}")]
pub(crate) struct Claim {
    /// Claim as the host, for the owner of this key, instead of by the token on standard input
    #[arg(long, value_name = "KEY_ID")]
    for_owner: Option<KeyId>,
    /// The claim id's file: read where it is there, made where it is not
    #[arg(long, value_name = "FILE")]
    claim_id_file: Option<PathBuf>,
    #[command(flatten)]
    token_out: TokenOut,
}

impl Claim {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let token = match self.for_owner {
            Some(_) => None,
            None => Some(read_token()?),
        };
        let keys = place.keys()?;
        let id = match &self.claim_id_file {
            Some(path) => claim_id(path)?,
            None => ClaimId::random().map_err(|error| Failure::Store(error.to_string()))?,
        };
        let reserved = self.token_out.reserve()?;
        let claim = match (self.for_owner, &token) {
            (Some(key), _) => Claiming::for_owner(key, id),
            (None, token) => Claiming::with_token(token.as_ref().map_or("", |token| token), id),
        };
        let claimed = place.act(&keys).claim(claim)?;
        let again = match &self.claim_id_file {
            Some(path) => format!("claim again with --claim-id-file {}", path.display()),
            None => "rotate the key, and give --claim-id-file the next time".to_owned(),
        };
        reserved.show(out, claimed, &again)
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  keyrota waiting

JSON: {\"waiting\": [{\"key_id\", \"name\", \"owner\", \"rotation\", \"version\", \"claimant\", \"since\", \"claim_by\", \"current\",
       \"current_ends_at\"} …], \"next\"}; `next` goes to --after")]
pub(crate) struct Waiting {
    /// After this key, for the next page
    #[arg(long, value_name = "KEY_ID")]
    after: Option<KeyId>,
    /// How many: up to 1000
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

impl Waiting {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let page = place.keys()?.waiting_claims(self.after, self.limit)?;
        out.answer(&json!({ "waiting": page.claims, "next": page.next }), |out| {
            let mut table =
                Table::new(["key_id", "owner…", "name…", "version", "claimant", "claim by", "old one ends"]);
            for waits in &page.claims {
                table.row([
                    waits.key.to_string(),
                    waits.owner.to_string(),
                    waits.name.to_string(),
                    waits.version.to_string(),
                    out::word(&waits.claimant),
                    out::time(waits.claim_by),
                    out::time_or(waits.current_ends_at, ""),
                ]);
            }
            if page.claims.is_empty() { out.line("nothing waits") } else { out.table(&table) }?;
            page.next.map_or(Ok(()), |next| out.line(&format!("more: --after {next}")))
        })
    }
}

/// The claim id in a file; a fresh one where there is no file.
fn claim_id(path: &Path) -> Done<ClaimId> {
    let failed = |error: std::io::Error| Failure::Store(format!("the claim id {path:?}: {error}"));
    match std::fs::read(path).map(Zeroizing::new) {
        Ok(bytes) => ClaimId::new(bytes.trim_ascii())
            .map_err(|error| Failure::Usage(format!("{path:?} holds no claim id: {error}"))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let random = ClaimId::random().map_err(|error| Failure::Store(error.to_string()))?;
            let hex = random.expose().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let hex = Zeroizing::new(hex);
            let mut file = private_file(path)?;
            file.write_all(hex.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            ClaimId::new(hex.as_bytes()).map_err(|error| Failure::Store(error.to_string()))
        }
        Err(error) => Err(failed(error)),
    }
}

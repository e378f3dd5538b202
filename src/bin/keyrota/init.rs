//! `init`: a database, and a master key where there is none.

use clap::Args;
use keyrota::{KeyStore as _, Keyring, MasterKey, OwnerLimit};
use serde_json::json;

use crate::failure::{Done, Failure, usage};
use crate::keyring_file;
use crate::out::Out;
use crate::place::{MASTER_KEY, Place};
use crate::policy_args::PolicyArgs;

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  keyrota init --db keys.db --master-key-file master.key
  keyrota init --preset keep-two-newest --auto-rotation --owner-limit 50

The file of the master key is made (mode 0600) where there is none. Keep a copy of it where the database is
not: without it, every key is lost. A database that is there stays as it is.

JSON: {\"db\", \"founded\", \"master_key_file\", \"master_key_made\"}")]
pub(crate) struct Init {
    #[command(flatten)]
    policy: PolicyArgs,
    /// Keys rotate by themselves, unless something else is said of them or their owners
    #[arg(long)]
    auto_rotation: bool,
    /// How many keys an owner may hold
    #[arg(long, value_name = "N")]
    owner_limit: Option<u32>,
}

impl Init {
    pub(crate) fn run(&self, place: &Place, out: &mut Out) -> Done {
        let db = place.db()?;
        let policy = self.policy.build(None)?;
        let limit = self.owner_limit.map(OwnerLimit::new).transpose().map_err(usage)?;
        let missing = place.master_key_file().filter(|path| path.symlink_metadata().is_err());
        if missing.is_none() && place.master_key_file().is_none() && std::env::var_os(MASTER_KEY).is_none() {
            return Err(Failure::Store(format!(
                "no master key: give --master-key-file, which is made where there is none, or set {MASTER_KEY}"
            )));
        }
        // A key that was made new is none of a database that is there already.
        if let (Some(path), Ok(_)) = (missing, db.symlink_metadata()) {
            return Err(Failure::Store(format!(
                "{db:?} is there, and its master key {path:?} is not: give the file of its master key"
            )));
        }
        let keyring = match missing {
            Some(path) => {
                let keyring = Keyring::new(MasterKey::generate()?);
                keyring_file::write_new(path, &keyring)?;
                keyring
            }
            None => place.keyring()?,
        };
        let store = place.open(db)?;
        let founded = store.head()?.is_none();
        let mut builder = place.builder(store, keyring).auto_rotation(self.auto_rotation);
        if let Some(policy) = policy {
            builder = builder.policy(policy);
        }
        if let Some(limit) = limit {
            builder = builder.owner_limit(limit);
        }
        builder.open()?;
        let file = place.master_key_file().map(|path| path.display().to_string());
        let answer = json!({
            "db": db.display().to_string(), "founded": founded,
            "master_key_file": file, "master_key_made": missing.is_some(),
        });
        out.answer(&answer, |out| {
            let made = if founded { "made" } else { "was there, and stays as it is" };
            let key = if missing.is_some() { "made; keep a copy where the database is not" } else { "found" };
            out.fields(&[("database", format!("{} {made}", db.display())), ("master key", key.to_owned())])
        })
    }
}

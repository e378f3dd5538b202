//! What every command needs: which database, which master key, in whose name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use keyrota::{
    Act, Actor, ChannelFilter, ClaimId, KeyManager, KeyManagerBuilder, KeyStore as _, Keyring, SqliteStore,
};

use crate::failure::{Done, Failure};
use crate::values;

/// The variable that holds a master key itself.
pub(crate) const MASTER_KEY: &str = "KEYROTA_MASTER_KEY";

#[derive(Args, Debug)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Place {
    /// The database file
    #[arg(long, global = true, env = "KEYROTA_DB", value_name = "FILE", hide_env_values = true)]
    db: Option<PathBuf>,
    /// The file of the master key (mode 0600); without it, the variable KEYROTA_MASTER_KEY holds the key itself
    #[arg(long, global = true, env = "KEYROTA_MASTER_KEY_FILE", value_name = "FILE", hide_env_values = true)]
    master_key_file: Option<PathBuf>,
    /// Answer with one JSON object
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Do not ask before doing what cannot be undone
    #[arg(long, short, global = true)]
    pub(crate) yes: bool,
    /// In whose name to act, for the audit log [default: who is logged in]
    #[arg(long, global = true, env = "KEYROTA_ACTOR", value_name = "NAME", hide_env_values = true)]
    actor: Option<String>,
    /// Why, for the audit log
    #[arg(long, global = true, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Your own id of this act: repeated under the same id within seven days, it is done once
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) request: Option<String>,
    /// A channel that your service serves: what this command brings about is told there
    #[arg(long, global = true, env = "KEYROTA_CHANNELS", value_name = "NAME", value_delimiter = ',')]
    channel: Vec<String>,
    /// How long to wait while another process writes
    #[arg(long, global = true, value_name = "SPAN", default_value = "5s", value_parser = values::span)]
    wait: Duration,
}

impl Place {
    /// The path of the database.
    pub(crate) fn db(&self) -> Done<&Path> {
        let missing = || Failure::Usage("which database? give --db, or set KEYROTA_DB".to_owned());
        self.db.as_deref().ok_or_else(missing)
    }

    /// The channels that were named.
    pub(crate) fn channels(&self) -> impl Iterator<Item = &str> {
        self.channel.iter().map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(crate) fn master_key_file(&self) -> Option<&Path> {
        self.master_key_file.as_deref()
    }

    /// The master keys.
    pub(crate) fn keyring(&self) -> Done<Keyring> {
        if let Some(path) = &self.master_key_file {
            return Ok(Keyring::from_file(path)?);
        }
        if std::env::var_os(MASTER_KEY).is_none() {
            return Err(Failure::Store(format!(
                "no master key: give --master-key-file, or set KEYROTA_MASTER_KEY_FILE or {MASTER_KEY}"
            )));
        }
        Ok(Keyring::from_env(MASTER_KEY)?)
    }

    /// The database as a store; it must be there.
    pub(crate) fn store(&self) -> Done<SqliteStore> {
        let path = self.db()?;
        if path.symlink_metadata().is_err() {
            return Err(Failure::Store(format!(
                "there is no database {path:?}; make one with `keyrota init`"
            )));
        }
        let store = self.open(path)?;
        if store.head()?.is_none() {
            return Err(Failure::Store(format!("{path:?} was never founded; run `keyrota init`")));
        }
        Ok(store)
    }

    /// Opens the database, or makes it.
    pub(crate) fn open(&self, path: &Path) -> Done<SqliteStore> {
        Ok(SqliteStore::options().busy_timeout(self.wait).open(path)?)
    }

    /// A manager's builder with the channels that others serve.
    pub(crate) fn builder(&self, store: SqliteStore, keyring: Keyring) -> KeyManagerBuilder {
        let builder = KeyManager::builder(store, keyring);
        self.channels().fold(builder, |builder, name| builder.channel_elsewhere(name, ChannelFilter::all()))
    }

    /// A manager on the database.
    pub(crate) fn keys(&self) -> Done<KeyManager> {
        let keyring = self.keyring()?;
        Ok(self.builder(self.store()?, keyring).open()?)
    }

    /// Who acts.
    pub(crate) fn actor(&self) -> Actor {
        let login = || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
        let name = self.actor.clone().or_else(login).filter(|name| !name.is_empty());
        Actor::operator(name.unwrap_or_else(|| "command line".to_owned()))
    }

    /// An act in the name of whoever runs this.
    pub(crate) fn act<'a>(&self, keys: &'a KeyManager) -> Act<'a> {
        let mut act = keys.by(self.actor());
        if let Some(reason) = &self.reason {
            act = act.because(reason);
        }
        match &self.request {
            Some(request) => act.request(request),
            None => act,
        }
    }

    /// An act that shows a token: always under a request id, so that a lost answer can be repeated.
    pub(crate) fn act_with_token<'a>(&self, keys: &'a KeyManager) -> Done<(Act<'a>, String)> {
        let request = match &self.request {
            Some(request) => request.clone(),
            None => {
                let random = ClaimId::random().map_err(|error| Failure::Store(error.to_string()))?;
                let hex: String = random.expose().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
                format!("cli-{hex}")
            }
        };
        Ok((self.act(keys).request(&request), request))
    }
}

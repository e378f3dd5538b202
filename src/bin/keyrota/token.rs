//! Showing a token, once: on standard output, or into a new file that only its owner can read.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use keyrota::{IssuedKey, KeyId, RotatedKey, SecretToken, Timestamp, VersionNo};
use serde_json::{Map, Value, json};

use crate::failure::{Done, Failure};
use crate::out::{self, Out};

#[derive(Args, Debug)]
pub(crate) struct TokenOut {
    /// Write the token into this new file (mode 0600) instead of showing it
    #[arg(long, value_name = "FILE")]
    token_out: Option<PathBuf>,
}

/// Makes a new file that only its owner can read and write.
pub(crate) fn private_file(path: &Path) -> Done<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| Failure::Store(format!("{path:?} could not be made: {error}")))
}

/// A place for a token, taken before the token is made: what cannot be written must not be made.
pub(crate) struct Reserved<'a> {
    file: Option<(&'a Path, File)>,
    /// Whether the file holds the token.
    kept: bool,
}

impl TokenOut {
    pub(crate) fn reserve(&self) -> Done<Reserved<'_>> {
        let file = match &self.token_out {
            Some(path) => Some((path.as_path(), private_file(path)?)),
            None => None,
        };
        Ok(Reserved { file, kept: false })
    }
}

/// What an act has made, with its token.
pub(crate) struct Shown {
    key: KeyId,
    version: VersionNo,
    token: SecretToken,
    valid_until: Option<Timestamp>,
    old: Option<(Option<VersionNo>, Option<Timestamp>)>,
}

impl From<IssuedKey> for Shown {
    fn from(made: IssuedKey) -> Self {
        let IssuedKey { key, version, token, valid_until, .. } = made;
        Self { key, version, token, valid_until, old: None }
    }
}

impl From<RotatedKey> for Shown {
    fn from(made: RotatedKey) -> Self {
        let RotatedKey { key, version, token, valid_until, old_version, old_valid_until, .. } = made;
        Self { key, version, token, valid_until, old: Some((old_version, old_valid_until)) }
    }
}

impl Reserved<'_> {
    /// Shows a token. `again` says how the same token can be had once more if it cannot be written.
    pub(crate) fn show(mut self, out: &mut Out, shown: impl Into<Shown>, again: &str) -> Done {
        let shown = shown.into();
        let written = self.write(&shown).and_then(|()| {
            // Once the file holds the token, nothing is lost with the answer.
            self.kept = self.file.is_some();
            self.tell(out, &shown)
        });
        written.map_err(|failure| {
            if self.kept {
                return failure;
            }
            let Shown { key, version, .. } = shown;
            let why = failure.text().unwrap_or("nobody reads the output").to_owned();
            Failure::Store(format!(
                "{key} {version} was made, and its token could not be written ({why}): {again}"
            ))
        })
    }

    fn write(&mut self, shown: &Shown) -> Done {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let written = file.write_all(shown.token.expose().as_bytes()).and_then(|()| file.write_all(b"\n"));
        let written = written.and_then(|()| file.sync_all());
        written.map_err(|error| Failure::Store(format!("{path:?}: {error}")))
    }

    fn tell(&self, out: &mut Out, shown: &Shown) -> Done {
        let file = self.file.as_ref().map(|(path, _)| path.display().to_string());
        let mut object = Map::new();
        object.insert("key_id".to_owned(), json!(shown.key));
        object.insert("version".to_owned(), json!(shown.version));
        object.insert("valid_until".to_owned(), json!(shown.valid_until));
        if let Some((version, until)) = shown.old {
            object.insert("old_version".to_owned(), json!(version));
            object.insert("old_valid_until".to_owned(), json!(until));
        }
        match &file {
            Some(path) => object.insert("token_file".to_owned(), json!(path)),
            None => object.insert("token".to_owned(), json!(shown.token.expose())),
        };
        let none = || "it ends".to_owned();
        let old = shown.old.and_then(|(version, until)| {
            Some(format!("{} until {}", version?, until.map_or_else(none, out::time)))
        });
        out.answer(&Value::Object(object), |out| {
            out.fields(&[
                ("key_id", shown.key.to_string()),
                ("version", shown.version.to_string()),
                ("valid until", out::time_or(shown.valid_until, "for ever")),
                ("old version", old.unwrap_or_default()),
                ("token file", file.clone().unwrap_or_default()),
                ("token", if file.is_none() { shown.token.expose().to_owned() } else { String::new() }),
            ])?;
            if file.is_none() { out.line("\nThe token is shown this once.") } else { Ok(()) }
        })
    }
}

impl Drop for Reserved<'_> {
    /// A file without a token is of no use.
    fn drop(&mut self) {
        if let (Some((path, _)), false) = (&self.file, self.kept) {
            drop(std::fs::remove_file(path));
        }
    }
}

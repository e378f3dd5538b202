//! The file of the master keys, written so that no crash leaves half of one.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use keyrota::{ClaimId, Keyring};

use crate::failure::{Done, Failure};
use crate::token::private_file;

/// Writes a file where there is none.
pub(crate) fn write_new(path: &Path, keyring: &Keyring) -> Done {
    let file = private_file(path)?;
    fill(path, file, keyring).inspect_err(|_| drop(std::fs::remove_file(path)))
}

/// Puts other master keys in the place of those in the file: all of them, or none.
pub(crate) fn replace(path: &Path, keyring: &Keyring) -> Done {
    let failed = |error: std::io::Error| Failure::Store(format!("{path:?} could not be replaced: {error}"));
    let random = ClaimId::random().map_err(|error| Failure::Store(error.to_string()))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(random.expose().iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>());
    let beside = PathBuf::from(name);
    let file = private_file(&beside)?;
    let written = fill(&beside, file, keyring).and_then(|()| std::fs::rename(&beside, path).map_err(failed));
    written.inspect_err(|_| drop(std::fs::remove_file(&beside)))?;
    sync_folder(path).map_err(failed)
}

fn fill(path: &Path, mut file: std::fs::File, keyring: &Keyring) -> Done {
    let written = file.write_all(keyring.expose_text().as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| Failure::Store(format!("{path:?} could not be written: {error}")))?;
    sync_folder(path).map_err(|error| Failure::Store(format!("{path:?} could not be kept: {error}")))
}

/// Makes a new name durable, where folders can be synchronised.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { std::fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

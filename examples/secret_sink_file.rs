//! A sink that puts each key's current token into a file, for a service that reads it from there: a mounted secret, a
//! file that a process watches. A reader sees the old token or the new one, whole, also after a crash.
//!
//! Run it with `cargo run --example secret_sink_file`.
#![allow(clippy::print_stdout, reason = "an example talks to a person")]

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyrota::{
    Actor, Delivery, Handover, KeyId, KeyManager, Keyring, ManualClock, MemoryStore, NewKey, OwnerId,
    RotationPolicy, SecretSink, SinkError, VersionNo,
};

/// Writes `<folder>/<key id>` for each key. The folder belongs to this sink: nobody else writes into it.
pub struct SecretFiles {
    folder: PathBuf,
}

impl SecretFiles {
    /// Files in this folder, which is made if it is not there, readable by its owner only.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        let mut maker = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(maker.recursive(true), 0o700);
        maker.recursive(true).create(&folder)?;
        Ok(Self { folder })
    }

    /// Where the service finds a key's token.
    #[must_use]
    pub fn path(&self, key: KeyId) -> PathBuf {
        self.folder.join(key.to_string())
    }

    pub(crate) fn put_file(&self, key: KeyId, version: VersionNo, token: &str) -> io::Result<()> {
        // A process that was asleep may come back with an older version than the one that is there. So one at a time,
        // and each looks first. The lock ends with the process.
        let lock = File::create(self.folder.join(format!(".{key}.lock")))?;
        lock.lock()?;
        let mark = self.folder.join(format!(".{key}.version"));
        let there = match fs::read_to_string(&mark) {
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        if there > version.get() {
            return Ok(());
        }
        // The mark comes first: after a crash in between the same version is put again, and no older one.
        replace(&mark, version.get().to_string().as_bytes())?;
        replace(&self.path(key), token.as_bytes())
    }
}

/// Makes a file hold these bytes: at no moment, and after no loss of power, does it hold a part of them.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let missing = || io::Error::from(io::ErrorKind::InvalidInput);
    let (folder, name) = (path.parent().ok_or_else(missing)?, path.file_name().ok_or_else(missing)?);
    let beside = folder.join(format!(".{}.new", name.to_string_lossy()));
    // What a crash has left behind may have another mode.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.write(true).create_new(true).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    // The new name is kept by the folder, which has to be written, too.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

impl SecretSink for SecretFiles {
    fn put(&self, handover: &Handover<'_>) -> Result<(), SinkError> {
        let put = self.put_file(handover.key, handover.version, handover.secret.expose());
        put.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => SinkError::Refused,
            _ => SinkError::Unavailable,
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("keyrota-files-{}", std::process::id()));
    let result = story(&folder);
    fs::remove_dir_all(&folder)?;
    result
}

fn story(folder: &Path) -> Result<(), Box<dyn Error>> {
    let files = std::sync::Arc::new(SecretFiles::new(folder)?);
    let clock = ManualClock::new("2027-01-01T00:00:00Z".parse()?);
    let keys = KeyManager::builder(MemoryStore::new(), Keyring::generate()?)
        .clock(clock.clone())
        .sink(files.clone())
        .open()?;
    let validator = keys.validator()?;
    let policy = RotationPolicy::builder().delivery(Delivery::Sink).build()?;
    let new = NewKey::new(OwnerId::new("ada")?, "worker")?.policy(policy).auto_rotation(true);
    let issued = keys.by(Actor::operator("root")).issue(new)?;
    // The first token was shown to whoever issued the key; the sink gets all that follow.
    replace(&files.path(issued.key), issued.token.expose().as_bytes())?;
    for day in 1..=170 {
        clock.advance(Duration::from_secs(86_400))?;
        while keys.tick()?.more {}
        // The service reads its file anew before each request, or when it is told that it has changed.
        let grant = validator.validate(fs::read_to_string(files.path(issued.key))?)?;
        if day % 83 <= 1 && day > 1 {
            println!("day {day}: the service runs on {} of {}", grant.version(), issued.key);
        }
    }
    Ok(())
}

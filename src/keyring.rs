//! The keyring: the host's numbered master keys, and the keys derived from each.

mod several;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::crypto::{self, AeadKey, Derivation, MacKey, RandomError};
use crate::encode::{hex, unhex};
use crate::secret::{OF_KEY, SecretBytes, on_wiped_stack};

/// The number of a master key in its keyring; rows remember under which one they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(u32);

impl Generation {
    /// The generation of a keyring that holds a single master key.
    pub const FIRST: Self = Self(1);

    /// Generation `number`.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "g{}", self.0)
    }
}

/// A keyring cannot be made from what was given.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// The environment variable is not set; set it to 32 random bytes in hexadecimal or base64.
    #[error("the environment variable {name} is not set; set it to 32 random bytes in hexadecimal or base64")]
    MissingVariable {
        /// The variable.
        name: String,
    },
    /// The text is neither 64 hexadecimal characters nor the base64 of 32 bytes.
    #[error("a master key is 32 bytes: 64 hexadecimal characters, or base64")]
    Syntax,
    /// The bytes do not look random; take 32 bytes from a generator.
    #[error(
        "the master key does not look random ({why}); take 32 bytes from a generator, such as `openssl rand -hex 32`"
    )]
    Weak {
        /// What gave it away.
        why: &'static str,
    },
    /// The file cannot be read.
    #[error("the master key file {path:?} cannot be read")]
    File {
        /// The path that was given.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others than the owner of the file may read or change it; run `chmod 600`.
    #[error("the master key file {path:?} has mode {mode:03o}: others may read or change it; run chmod 600")]
    FileTooOpen {
        /// The path that was given.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The keyring holds another master key under that number.
    #[error(
        "the keyring already holds another master key as generation {0}; give the new one a number of its own"
    )]
    GenerationTaken(Generation),
    /// The keyring holds no master key under that number.
    #[error("the keyring holds no generation {0}; add it before making it current")]
    NoSuchGeneration(Generation),
    /// The operating system gave no randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

crate::text::debug_as_told!(KeyringError);

/// A host's root secret of 32 bytes, checked to look random; wiped on drop, never printed.
#[derive(Clone)]
pub struct MasterKey(SecretBytes<32>);

impl MasterKey {
    /// A master key from raw bytes. The caller wipes its own copy.
    ///
    /// # Errors
    /// [`KeyringError::Weak`] when the bytes do not look random: few distinct values, a repeated half, a
    /// sequence, or text.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyringError> {
        weakness(bytes).map_or(Ok(Self(SecretBytes::copy_of(bytes))), |why| Err(KeyringError::Weak { why }))
    }

    /// A master key from 64 hexadecimal characters or the base64 (standard or URL-safe) of 32 bytes; white
    /// space around it is dropped.
    ///
    /// # Errors
    /// [`KeyringError::Syntax`] or [`KeyringError::Weak`].
    pub fn from_text(text: &str) -> Result<Self, KeyringError> {
        on_wiped_stack::<OF_KEY, _>(|| Self::decode(text.trim()))
    }

    fn decode(text: &str) -> Result<Self, KeyringError> {
        use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
        let config = GeneralPurposeConfig::new();
        let config = config.with_decode_padding_mode(DecodePaddingMode::Indifferent);
        if let Some(bytes) = unhex::<32>(text.as_bytes()).map(Zeroizing::new) {
            return Self::from_bytes(&bytes);
        }
        let mut bytes = Zeroizing::new([0u8; 32]);
        // Room for what `decode_slice` may want beyond the 32 bytes that count.
        let mut buffer = Zeroizing::new([0u8; 40]);
        for alphabet in [base64::alphabet::STANDARD, base64::alphabet::URL_SAFE] {
            let decoded = GeneralPurpose::new(&alphabet, config).decode_slice(text, buffer.as_mut_slice());
            if let (Ok(32), Some(used)) = (decoded, buffer.get(..32)) {
                bytes.copy_from_slice(used);
                return Self::from_bytes(&bytes);
            }
        }
        Err(KeyringError::Syntax)
    }

    /// A fresh master key from the operating system's generator.
    ///
    /// # Errors
    /// [`KeyringError::Random`] when the system gives no randomness.
    pub fn generate() -> Result<Self, KeyringError> {
        Ok(Self(SecretBytes::fill(|out| crypto::fill_random(out))?))
    }

    /// The key as 64 hexadecimal characters, to be put where the host keeps its secrets. Wiped on drop.
    #[must_use]
    pub fn expose_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex(self.0.expose()))
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey([redacted])")
    }
}

/// Why 32 bytes cannot have come from a generator; each test errs on random bytes with probability < 2⁻⁴⁰.
fn weakness(bytes: &[u8; 32]) -> Option<&'static str> {
    let (first, second) = bytes.split_at(16);
    let is_new = |(at, byte): &(usize, &u8)| !bytes.iter().take(*at).any(|before| before == *byte);
    let step =
        |pair: &[u8]| pair.last().copied().unwrap_or(0).wrapping_sub(pair.first().copied().unwrap_or(0));
    let mut steps = bytes.windows(2).map(step);
    let first_step = steps.next();
    if bytes.iter().enumerate().filter(is_new).count() < 12 {
        Some("few distinct bytes")
    } else if first == second {
        Some("the second half repeats the first")
    } else if steps.all(|step| Some(step) == first_step) {
        Some("a sequence")
    } else if bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
        Some("it is text")
    } else {
        None
    }
}

/// The keys of one generation, one for each purpose, so that none can stand in for another.
pub(crate) struct GenerationKeys {
    pub(crate) digest: MacKey,
    pub(crate) row: MacKey,
    pub(crate) audit: MacKey,
    pub(crate) seal: AeadKey,
    check: [u8; 16],
}

impl GenerationKeys {
    fn derive(master: &MasterKey) -> Self {
        let derivation = Derivation::new(b"keyrota v1", &master.0);
        let check = derivation.key(b"check").expose().first_chunk().copied().unwrap_or_default();
        Self {
            digest: MacKey::new(&derivation.key(b"digest")),
            row: MacKey::new(&derivation.key(b"row")),
            audit: MacKey::new(&derivation.key(b"audit")),
            seal: AeadKey::new(derivation.key(b"seal")),
            check,
        }
    }

    /// A value that a store remembers to recognise the master key; it reveals nothing about it.
    pub(crate) fn check(&self) -> &[u8; 16] {
        &self.check
    }
}

/// The host's master keys by generation, of which one is current: new rows are written under it.
///
/// Cheap to clone. Losing the master keys means losing every key; keep them where the database is not.
#[derive(Clone)]
pub struct Keyring {
    generations: Arc<BTreeMap<Generation, Arc<Held>>>,
    current: Generation,
    /// The current generation's, which each validation needs.
    used: Arc<Held>,
}

/// A master key and what derives from it. It stays where it was made: a map that moved it would leave copies.
struct Held {
    master: MasterKey,
    keys: GenerationKeys,
}

impl Held {
    fn new(master: MasterKey) -> Arc<Self> {
        on_wiped_stack::<OF_KEY, _>(|| {
            let keys = GenerationKeys::derive(&master);
            Arc::new(Self { master, keys })
        })
    }
}

impl Keyring {
    /// A keyring of one master key, as generation 1.
    #[must_use]
    pub fn new(master: MasterKey) -> Self {
        Self::of(Generation::FIRST, master)
    }

    fn of(current: Generation, master: MasterKey) -> Self {
        let used = Held::new(master);
        Self { generations: Arc::new([(current, Arc::clone(&used))].into()), current, used }
    }

    /// A keyring of one master key from raw bytes, as generation 1.
    ///
    /// # Errors
    /// [`KeyringError::Weak`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyringError> {
        MasterKey::from_bytes(bytes).map(Self::new)
    }

    /// A keyring from a file of what [`Keyring::from_text`] reads, or of 32 raw bytes.
    ///
    /// On Unix the file must be readable and writable by its owner alone.
    ///
    /// # Errors
    /// [`KeyringError::File`], [`KeyringError::FileTooOpen`], or as of [`Keyring::from_text`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyringError> {
        use std::io::Read as _;
        let path = path.as_ref();
        let unreadable = |source| KeyringError::File { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            use std::io::{Error, ErrorKind};
            return Err(unreadable(Error::new(ErrorKind::InvalidInput, "not a regular file")));
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = metadata.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(KeyringError::FileTooOpen { path: path.to_owned(), mode });
            }
        }
        let mut content = Zeroizing::new(Vec::with_capacity(several::LONGEST));
        file.take(several::LONGEST as u64).read_to_end(&mut content).map_err(unreadable)?;
        if let Ok(bytes) = <&[u8; 32]>::try_from(content.as_slice()) {
            return Self::from_bytes(bytes);
        }
        Self::from_text(str::from_utf8(&content).map_err(|_| KeyringError::Syntax)?)
    }

    /// A keyring of one fresh master key, as generation 1; keep [`MasterKey::expose_hex`] of it, or what is
    /// written under it is lost when the process ends.
    ///
    /// # Errors
    /// [`KeyringError::Random`].
    pub fn generate() -> Result<Self, KeyringError> {
        MasterKey::generate().map(Self::new)
    }

    /// This keyring with one more master key; the current generation stays as it is.
    ///
    /// # Errors
    /// [`KeyringError::GenerationTaken`] when another master key has that number.
    pub fn with(self, generation: Generation, master: MasterKey) -> Result<Self, KeyringError> {
        let new = Held::new(master);
        match self.keys(generation) {
            Some(held) if held.check == new.keys.check => return Ok(self),
            Some(_) => return Err(KeyringError::GenerationTaken(generation)),
            None => {}
        }
        let mut generations = BTreeMap::clone(&self.generations);
        generations.insert(generation, new);
        Ok(Self { generations: Arc::new(generations), ..self })
    }

    /// This keyring with another current generation.
    ///
    /// # Errors
    /// [`KeyringError::NoSuchGeneration`].
    pub fn with_current(self, generation: Generation) -> Result<Self, KeyringError> {
        let used = self.generations.get(&generation).map(Arc::clone);
        let used = used.ok_or(KeyringError::NoSuchGeneration(generation))?;
        Ok(Self { current: generation, used, ..self })
    }

    /// The generation under which new rows are written.
    #[must_use]
    pub fn current(&self) -> Generation {
        self.current
    }

    /// The generations held, lowest first.
    pub fn generations(&self) -> impl Iterator<Item = Generation> + '_ {
        self.generations.keys().copied()
    }

    /// The master key of a generation, to be kept by the host.
    #[must_use]
    pub fn master(&self, generation: Generation) -> Option<&MasterKey> {
        self.generations.get(&generation).map(|held| &held.master)
    }

    /// The derived keys of a generation.
    pub(crate) fn keys(&self, generation: Generation) -> Option<&GenerationKeys> {
        self.generations.get(&generation).map(|held| &held.keys)
    }

    /// The derived keys of the current generation.
    pub(crate) fn current_keys(&self) -> &GenerationKeys {
        &self.used.keys
    }

    /// A generation that is held beside the current one.
    pub(crate) fn other(&self) -> Option<Generation> {
        if self.generations.len() > 1 { self.generations().find(|held| *held != self.current) } else { None }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held: Vec<_> = self.generations().map(Generation::get).collect();
        f.debug_struct("Keyring").field("generations", &held).field("current", &self.current.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "8f1d0c5e77a94b3e62d0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e7";

    #[test]
    fn a_master_key_reads_from_hexadecimal_and_base64_alike() {
        let hexadecimal = MasterKey::from_text(GOOD).unwrap();
        let raw = unhex::<32>(GOOD.as_bytes()).unwrap();
        for engine in [
            &base64::engine::general_purpose::STANDARD,
            &base64::engine::general_purpose::STANDARD_NO_PAD,
            &base64::engine::general_purpose::URL_SAFE,
        ] {
            let text = format!(" {}\n", engine.encode(raw));
            assert_eq!(MasterKey::from_text(&text).unwrap().0.expose(), hexadecimal.0.expose());
        }
        assert_eq!(*hexadecimal.expose_hex(), GOOD);
        for bad in ["", "abc", &GOOD[1..], "not base64 !!", "AAAA"] {
            assert!(matches!(MasterKey::from_text(bad), Err(KeyringError::Syntax)), "{bad}");
        }
    }

    #[test]
    fn weak_master_keys_are_refused_with_the_reason() {
        let sequence: [u8; 32] = std::array::from_fn(|i| i as u8);
        let repeated: [u8; 32] = std::array::from_fn(|i| (i as u8 % 16).wrapping_mul(37));
        let text = *b"correct horse battery staple etc";
        let is_weak = |bytes| matches!(MasterKey::from_bytes(bytes), Err(KeyringError::Weak { .. }));
        assert!([[0; 32], [255; 32], sequence, repeated, text].iter().all(is_weak));
        for _ in 0..1000 {
            assert!(MasterKey::from_bytes(MasterKey::generate().unwrap().0.expose()).is_ok());
        }
    }

    #[test]
    fn a_missing_variable_is_named() {
        let error = Keyring::from_env("KEYROTA_TEST_NO_SUCH").unwrap_err().to_string();
        assert!(error.contains("KEYROTA_TEST_NO_SUCH is not set"));
    }

    #[cfg(unix)]
    #[test]
    fn a_master_key_file_is_refused_when_others_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        std::fs::write(&path, GOOD).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Keyring::from_file(&path), Err(KeyringError::FileTooOpen { mode: 0o640, .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Keyring::from_file(&path).is_ok());
        std::fs::write(&path, unhex::<32>(GOOD.as_bytes()).unwrap()).unwrap();
        assert!(Keyring::from_file(&path).is_ok(), "32 raw bytes");
        assert!(matches!(Keyring::from_file(folder.path()), Err(KeyringError::File { .. })));
        assert!(matches!(Keyring::from_file(folder.path().join("none")), Err(KeyringError::File { .. })));
    }

    #[test]
    fn generations_are_numbered_and_one_is_current() {
        let second = Generation::new(2);
        let ring = Keyring::generate().unwrap();
        assert!(matches!(ring.clone().with_current(second), Err(KeyringError::NoSuchGeneration(_))));
        let taken = ring.clone().with(Generation::FIRST, MasterKey::generate().unwrap());
        assert!(matches!(taken, Err(KeyringError::GenerationTaken(_))));
        let ring = ring.with(second, MasterKey::generate().unwrap()).unwrap().with_current(second).unwrap();
        assert_eq!(ring.current(), second);
        assert_eq!(ring.generations().count(), 2);
        assert_ne!(ring.keys(Generation::FIRST).unwrap().check(), ring.current_keys().check());
    }

    #[test]
    fn debug_shows_no_secret() {
        let ring = Keyring::from_bytes(&unhex::<32>(GOOD.as_bytes()).unwrap()).unwrap();
        let text = format!("{ring:?} {:?}", ring.master(Generation::FIRST));
        assert!(!text.contains(&GOOD[..12]) && text.contains("redacted"));
    }
}

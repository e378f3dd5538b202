//! Several master keys as one text, for a file or a variable.

use zeroize::Zeroizing;

use crate::keyring::{Generation, Keyring, KeyringError, MasterKey};

/// More generations than this are refused: they are retired, not hoarded.
pub(super) const MOST: usize = 32;
/// The room that one generation takes: its number, the key, the mark and what divides.
const ROOM: usize = 80;
/// The longest text that is read.
pub(super) const LONGEST: usize = MOST * ROOM;

impl Keyring {
    /// A keyring from text: a single master key, as [`MasterKey::from_text`] reads it, is generation 1; several are
    /// written as `g1:KEY` with a comma or a line end between them, and the current one with a star, as in
    /// `g1:KEY,g2*:KEY`. At most 32.
    ///
    /// # Errors
    /// [`KeyringError::Syntax`], also unless exactly one is current; [`KeyringError::GenerationTaken`];
    /// [`KeyringError::Weak`].
    pub fn from_text(text: &str) -> Result<Self, KeyringError> {
        let text = text.trim();
        if !text.starts_with('g') || !text.contains(':') {
            return MasterKey::from_text(text).map(Self::new);
        }
        let parts = || text.split([',', '\n', '\r']).map(str::trim).filter(|part| !part.is_empty());
        if parts().count() > MOST {
            return Err(KeyringError::Syntax);
        }
        let mut current = None;
        let mut keyring: Option<Self> = None;
        for part in parts() {
            let (name, key) = part.split_once(':').ok_or(KeyringError::Syntax)?;
            let starred = name.trim_end();
            let number = starred.strip_suffix('*').unwrap_or(starred).strip_prefix('g');
            let number = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
            let generation = number.and_then(|number| number.parse().ok()).map(Generation::new);
            let generation = generation.ok_or(KeyringError::Syntax)?;
            if starred.ends_with('*') && current.replace(generation).is_some() {
                return Err(KeyringError::Syntax);
            }
            let master = MasterKey::from_text(key)?;
            keyring = Some(match keyring {
                None => Self::of(generation, master),
                Some(keyring) if keyring.generations.contains_key(&generation) => {
                    return Err(KeyringError::GenerationTaken(generation));
                }
                Some(keyring) => keyring.with(generation, master)?,
            });
        }
        keyring
            .zip(current)
            .ok_or(KeyringError::Syntax)
            .and_then(|(keyring, current)| keyring.with_current(current))
    }

    /// A keyring from an environment variable that holds what [`Keyring::from_text`] reads.
    ///
    /// # Errors
    /// [`KeyringError::MissingVariable`], or as of [`Keyring::from_text`].
    pub fn from_env(variable: &str) -> Result<Self, KeyringError> {
        let text = match std::env::var(variable) {
            Ok(text) => Zeroizing::new(text),
            Err(std::env::VarError::NotPresent) => {
                return Err(KeyringError::MissingVariable { name: variable.to_owned() });
            }
            Err(std::env::VarError::NotUnicode(text)) => {
                return Err(Zeroizing::new(text.into_encoded_bytes())).map_err(|_| KeyringError::Syntax);
            }
        };
        Self::from_text(&text)
    }

    /// The whole keyring as [`Keyring::from_text`] reads it, a line for each master key, to be put where the host keeps
    /// its secrets. Wiped on drop.
    #[must_use]
    pub fn expose_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.generations.len() * ROOM));
        for (generation, held) in self.generations.iter() {
            let star = if *generation == self.current { "*" } else { "" };
            for part in [&*generation.to_string(), star, ":", &held.master.expose_hex(), "\n"] {
                text.push_str(part);
            }
        }
        text
    }

    /// This keyring without one of its master keys, but the current. Whatever was written under it can no longer be
    /// read.
    ///
    /// # Errors
    /// [`KeyringError::NoSuchGeneration`], also for the current one.
    pub fn without(self, generation: Generation) -> Result<Self, KeyringError> {
        if generation == self.current || !self.generations.contains_key(&generation) {
            return Err(KeyringError::NoSuchGeneration(generation));
        }
        let mut generations = std::collections::BTreeMap::clone(&self.generations);
        generations.remove(&generation);
        Ok(Self { generations: std::sync::Arc::new(generations), ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn several() -> Keyring {
        let second = MasterKey::generate().unwrap();
        let keyring = Keyring::generate().unwrap().with(Generation::new(7), second).unwrap();
        keyring.with_current(Generation::new(7)).unwrap()
    }

    fn same(left: &Keyring, right: &Keyring) -> bool {
        let held = |keyring: &Keyring| -> Vec<_> {
            keyring.generations().map(|g| (g, keyring.master(g).unwrap().expose_hex().to_string())).collect()
        };
        held(left) == held(right) && left.current() == right.current()
    }

    #[test]
    fn a_keyring_reads_back_from_its_text() {
        let keyring = several();
        let text = keyring.expose_text();
        assert!(text.starts_with("g1:") && text.contains("\ng7*:"));
        assert!(same(&Keyring::from_text(&text).unwrap(), &keyring));
        let on_one_line = text.trim().replace('\n', ",");
        assert!(same(&Keyring::from_text(&on_one_line).unwrap(), &keyring));
        let lone = Keyring::generate().unwrap();
        let hex = lone.master(Generation::FIRST).unwrap().expose_hex();
        assert!(same(&Keyring::from_text(&format!(" {}\n", *hex)).unwrap(), &lone));
        assert!(text.len() <= LONGEST);
    }

    #[test]
    fn a_text_that_leaves_something_open_is_refused() {
        let key = || MasterKey::generate().unwrap().expose_hex().to_string();
        let bad = [
            format!("g1:{},g2:{}", key(), key()),
            format!("g1*:{},g2*:{}", key(), key()),
            format!("g1*:{},g:{}", key(), key()),
            format!("g1*:{},2:{}", key(), key()),
            format!("g1*:{},g+2:{}", key(), key()),
            format!("g1*:{},g2", key()),
            format!("g1*:{},g2:abc", key()),
            "g1*:".to_owned(),
            String::new(),
            (1..=33).map(|n| format!("g{n}{}:{}\n", if n == 1 { "*" } else { "" }, key())).collect(),
        ];
        for text in bad {
            let refused = Keyring::from_text(&text).map(drop).unwrap_err();
            assert!(matches!(refused, KeyringError::Syntax), "{refused:?}: {}", text.len());
        }
        let twice = format!("g1*:{},g1:{}", key(), key());
        assert!(matches!(Keyring::from_text(&twice), Err(KeyringError::GenerationTaken(Generation::FIRST))));
    }

    #[test]
    fn the_current_generation_cannot_be_left_out() {
        let keyring = several();
        assert!(keyring.clone().without(Generation::new(7)).is_err());
        assert!(keyring.clone().without(Generation::new(3)).is_err());
        let rest = keyring.without(Generation::FIRST).unwrap();
        assert_eq!(rest.generations().collect::<Vec<_>>(), [Generation::new(7)]);
    }
}

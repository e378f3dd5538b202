//! Strength: how hard a token of another system is to guess, as far as its text shows it.

use serde::{Deserialize, Serialize};

/// How hard an imported token is to guess. Of a digest alone nobody can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Strength {
    /// Nothing but its digest has been seen yet.
    #[default]
    Unknown,
    /// Its text cannot hold 80 random bits: whoever gets hold of an unsalted digest finds it.
    Weak,
    /// Its text has room for 80 random bits. That they are random, no text shows.
    Sufficient,
}

/// What a token has to have room for.
const BITS: f64 = 80.0;

impl Strength {
    /// Its stable name, such as `weak`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Weak => "weak",
            Self::Sufficient => "sufficient",
        }
    }

    /// Of a token that was seen. An upper bound of what is in it: by the kinds of its characters, and by how they are
    /// spread; runs and repetitions count once.
    pub(crate) fn of(token: &[u8]) -> Self {
        if bits(token) >= BITS { Self::Sufficient } else { Self::Weak }
    }
}

fn bits(token: &[u8]) -> f64 {
    // A fixed beginning, as in `sk_live_…`, is known to everybody.
    let random = token.rsplit(|byte| matches!(byte, b'_' | b'.' | b':')).max_by_key(|part| part.len());
    let random = random.unwrap_or_default();
    let mut counts = [0u32; 256];
    let mut fresh = 0.0;
    for (at, byte) in random.iter().enumerate() {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
        let step = |back: usize| at.checked_sub(back).and_then(|before| random.get(before)).copied();
        // The third of a run such as `aaa`, `abc` or `321` adds nothing.
        let run = match (step(1), step(2)) {
            (Some(one), Some(two)) => {
                let difference = byte.wrapping_sub(one);
                difference == one.wrapping_sub(two) && matches!(difference, 0 | 1 | 255)
            }
            _ => false,
        };
        fresh += if run { 0.0 } else { 1.0 };
    }
    fresh -= repeated(random) as f64;
    let length = random.len() as f64;
    let spread: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count))
        .map(|count| count / length * (length / count).log2())
        .sum();
    let by_kind = alphabet(random).log2();
    (fresh * by_kind.min(spread + 0.5)).max(0.0)
}

/// How many characters at the end repeat the beginning as a whole.
fn repeated(random: &[u8]) -> usize {
    let period = (1..=random.len() / 2).find(|period| {
        let ahead = random.iter().skip(*period);
        random.iter().zip(ahead).all(|(a, b)| a == b)
    });
    period.map_or(0, |period| random.len() - period)
}

/// From how many characters such a text is drawn, at most.
fn alphabet(text: &[u8]) -> f64 {
    let any = |is: fn(&u8) -> bool| text.iter().any(is);
    let all = |is: fn(&u8) -> bool| text.iter().all(is);
    if all(u8::is_ascii_digit) {
        return 10.0;
    }
    let is_hex = |lower: bool| {
        let foreign =
            move |byte: &u8| if lower { byte.is_ascii_uppercase() } else { byte.is_ascii_lowercase() };
        text.iter().all(|byte| (byte.is_ascii_hexdigit() || *byte == b'-') && !foreign(byte))
    };
    if is_hex(true) || is_hex(false) {
        return 16.0;
    }
    let kinds = [
        (any(u8::is_ascii_digit), 10.0),
        (any(u8::is_ascii_lowercase), 26.0),
        (any(u8::is_ascii_uppercase), 26.0),
        (any(u8::is_ascii_punctuation), 4.0),
        (!all(u8::is_ascii_graphic), 64.0),
    ];
    kinds.iter().filter(|(there, _)| *there).map(|(_, size)| *size).sum::<f64>().max(2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_generators_make_is_sufficient() {
        for token in [
            "sk_live_7Fh2kQ9zXw4VbN8mT3cYpL6r",
            "bDzNbdcX.i5CCDJaCmiVTgjq0j10XmDI8u6XcO8GK",
            "mycompany_937Q3qbH_9GBugYXq8Xa8JM1iQWfqRGHn",
            // 128 bits in hexadecimal, a UUID of version 4, 32 bytes in base64.
            "9f86d081884c7d659a2feaa0c55ad015",
            "6e4d1b0a-93c7-4f28-8e15-7b2c9d0f3a64",
            "mJv8Q2xk0dR1sYzTn4WbEo7PfHc9LgUa3iKqXrBt5VM=",
        ] {
            assert_eq!(
                Strength::of(token.as_bytes()),
                Strength::Sufficient,
                "{token} {}",
                bits(token.as_bytes())
            );
        }
    }

    #[test]
    fn what_people_make_up_is_weak() {
        for token in [
            "",
            "_",
            "secret",
            "password123",
            "test-key-1",
            "sk_live_test_key_for_the_ci",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "0123456789abcdefghijklmnopqrstuvwxyz",
            "abcd1234abcd1234abcd1234abcd1234",
            "1234567890123456",
            "9f86d081884c7d65",
            "changeme-changeme-changeme-changeme",
        ] {
            assert_eq!(Strength::of(token.as_bytes()), Strength::Weak, "{token} {}", bits(token.as_bytes()));
        }
    }

    #[test]
    fn nothing_is_too_long_or_too_strange_to_be_judged() {
        assert_eq!(Strength::of(&[0xFF; 512]), Strength::Weak);
        let all: Vec<u8> = (0..=255).map(|byte: u8| byte.wrapping_mul(167)).collect();
        assert_eq!(Strength::of(&all), Strength::Sufficient);
    }
}

//! Scopes: what a key may do, as `resource:action`, `resource:*` or `*`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::TextError;

/// The resource of key management itself, which `*` never covers.
const RESERVED: &str = "keyrota";

/// One scope: `orders:read`, `orders:*` (all actions), or `*` (everything but the reserved resource `keyrota`).
///
/// Resource and action are 1 to 64 characters each: lower-case letters, digits, `_`, `-`, `.` and `/`, beginning
/// with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope {
    text: String,
    /// A hash of the text: nearly always different where the texts are, without a look at their memory.
    tag: u32,
    /// Whether it covers others than itself.
    is_wide: bool,
}

/// The hash of a scope's text (FNV-1a); what it finds equal is compared all the same.
fn tag(text: &str) -> u32 {
    text.bytes().fold(0x811C_9DC5, |tag, byte| (tag ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl Scope {
    /// Takes a scope after checking its form.
    ///
    /// # Errors
    /// [`TextError::Syntax`].
    pub fn new(text: &str) -> Result<Self, TextError> {
        fn word(text: &str) -> bool {
            (1..=64).contains(&text.len())
                && text.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.' | b'/')
                })
                && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        }
        let well_formed = text == "*"
            || text
                .split_once(':')
                .is_some_and(|(resource, action)| word(resource) && (action == "*" || word(action)));
        if well_formed {
            Ok(Self { text: text.to_owned(), tag: tag(text), is_wide: text.ends_with('*') })
        } else {
            Err(TextError::Syntax { field: "scope", form: "resource:action, resource:* or *" })
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn resource(&self) -> Option<&str> {
        self.text.split_once(':').map(|(resource, _)| resource)
    }

    /// Whether holding this scope allows all that `demanded` names.
    #[must_use]
    pub fn covers(&self, demanded: &Self) -> bool {
        (self.tag == demanded.tag && self.text == demanded.text)
            || (self.is_wide && self.covers_widely(demanded))
    }

    #[inline(never)]
    fn covers_widely(&self, demanded: &Self) -> bool {
        if self.text == "*" {
            return demanded.resource() != Some(RESERVED);
        }
        self.resource().is_some() && self.resource() == demanded.resource()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl FromStr for Scope {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Scope {
    type Error = TextError;
    fn try_from(text: String) -> Result<Self, TextError> {
        Self::new(&text)
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.text
    }
}

/// A set of scopes. The empty set grants nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// The most scopes that a set may hold.
    pub const MAX_SCOPES: usize = 64;

    /// The set that grants nothing.
    pub const EMPTY: Self = Self(Vec::new());

    /// A set of these scopes; repetitions count once.
    ///
    /// # Errors
    /// [`TextError::TooLong`] when there are more than [`ScopeSet::MAX_SCOPES`].
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, TextError> {
        let mut scopes: Vec<_> = scopes.into_iter().collect();
        scopes.sort();
        scopes.dedup();
        if scopes.len() > Self::MAX_SCOPES {
            return Err(TextError::TooLong { field: "scopes", max: Self::MAX_SCOPES });
        }
        Ok(Self(scopes))
    }

    /// Whether the set allows all that `demanded` names.
    #[must_use]
    pub fn covers(&self, demanded: &Scope) -> bool {
        self.0.iter().any(|scope| scope.covers(demanded))
    }

    /// Whether this set allows nothing that `other` does not.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.iter().all(|scope| other.covers(scope))
    }

    /// What both sets allow.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let narrower =
            |a: &Self, b: &Self| a.0.iter().filter(|scope| b.covers(scope)).cloned().collect::<Vec<_>>();
        let mut scopes = narrower(self, other);
        scopes.extend(narrower(other, self));
        scopes.sort();
        scopes.dedup();
        Self(scopes)
    }

    /// What at least one of the sets allows.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut scopes = self.0.clone();
        scopes.extend(other.0.iter().cloned());
        scopes.sort();
        scopes.dedup();
        Self(scopes)
    }

    /// Whether the set grants nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The scopes, sorted.
    pub fn iter(&self) -> std::slice::Iter<'_, Scope> {
        self.0.iter()
    }
}

/// `orders:read, orders:write`, or `none`.
impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(Scope::as_str).collect();
        f.pad(if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }.as_str())
    }
}

impl<'a> IntoIterator for &'a ScopeSet {
    type Item = &'a Scope;
    type IntoIter = std::slice::Iter<'a, Scope>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl TryFrom<Vec<Scope>> for ScopeSet {
    type Error = TextError;
    fn try_from(scopes: Vec<Scope>) -> Result<Self, TextError> {
        Self::new(scopes)
    }
}

impl From<ScopeSet> for Vec<Scope> {
    fn from(set: ScopeSet) -> Self {
        set.0
    }
}

impl TryFrom<&[&str]> for ScopeSet {
    type Error = TextError;
    fn try_from(texts: &[&str]) -> Result<Self, TextError> {
        let scopes: Result<Vec<_>, _> = texts.iter().map(|text| Scope::new(text)).collect();
        Self::new(scopes?)
    }
}

impl<const N: usize> TryFrom<[&str; N]> for ScopeSet {
    type Error = TextError;
    fn try_from(texts: [&str; N]) -> Result<Self, TextError> {
        Self::try_from(texts.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    fn set<const N: usize>(texts: [&str; N]) -> ScopeSet {
        texts.try_into().unwrap()
    }

    #[test]
    fn a_scope_names_a_resource_and_an_action() {
        for good in ["orders:read", "orders:*", "*", "v1/orders:read", "a-b.c_d:1"] {
            assert_eq!(scope(good).as_str(), good);
        }
        let long = format!("{}:read", "a".repeat(65));
        for bad in [
            "",
            ":",
            "orders",
            "orders:",
            ":read",
            "*:read",
            "*:*",
            "o:r:x",
            "Orders:read",
            "orders:re ad",
            "ord*:read",
            "-a:b",
            &long,
        ] {
            assert!(Scope::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wildcards_cover_their_resource_and_never_the_reserved_one() {
        assert!(scope("orders:*").covers(&scope("orders:read")) && scope("*").covers(&scope("orders:*")));
        assert!(scope("*").covers(&scope("*")) && scope("orders:read").covers(&scope("orders:read")));
        for (held, demanded) in [
            ("orders:read", "orders:write"),
            ("orders:read", "orders:*"),
            ("orders:*", "orders2:read"),
            ("orders:*", "*"),
            ("*", "keyrota:rotate"),
            ("*", "keyrota:*"),
        ] {
            assert!(!scope(held).covers(&scope(demanded)), "{held} covers {demanded}");
        }
        assert!(scope("keyrota:*").covers(&scope("keyrota:rotate")));
    }

    #[test]
    fn the_empty_set_grants_nothing_and_lies_within_everything() {
        assert!(!ScopeSet::EMPTY.covers(&scope("orders:read")));
        assert!(ScopeSet::EMPTY.is_within(&ScopeSet::EMPTY));
        assert_eq!(set(["orders:read"]).intersection(&ScopeSet::EMPTY), ScopeSet::EMPTY);
    }

    #[test]
    fn an_intersection_allows_what_both_allow() {
        let (key, ceiling) = (set(["*", "keyrota:rotate"]), set(["orders:*", "bills:read"]));
        assert_eq!(key.intersection(&ceiling), set(["bills:read", "orders:*"]));
        assert_eq!(set(["orders:read", "x:y"]).intersection(&set(["*"])), set(["orders:read", "x:y"]));
        assert_eq!(set(["keyrota:rotate"]).intersection(&set(["*"])), ScopeSet::EMPTY);
        assert!(set(["orders:read"]).is_within(&ceiling) && !set(["*"]).is_within(&ceiling));
    }

    #[test]
    fn a_set_is_sorted_without_repetitions_and_bounded() {
        assert_eq!(set(["b:x", "a:x", "b:x"]).iter().map(Scope::as_str).collect::<Vec<_>>(), ["a:x", "b:x"]);
        let many: Vec<_> = (0..65).map(|i| scope(&format!("r{i}:x"))).collect();
        assert!(ScopeSet::new(many).is_err());
        assert_eq!(set(["a:x", "b:*"]).to_string(), "a:x, b:*");
        assert!(serde_json::from_str::<ScopeSet>("[\"nonsense\"]").is_err());
    }
}

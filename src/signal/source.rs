//! Sources: where a request comes from, as its host says.

use core::net::{IpAddr, Ipv6Addr};
use std::fmt;

use crate::text::is_forbidden;

/// How many bytes of a name are looked at.
const MAX_BYTES: usize = 64;

/// The source of a request, borrowed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    Address(IpAddr),
    Named(&'a str),
}

/// An address as it is counted: whoever has one address of IPv6 has a network of 2⁶⁴.
fn network(address: IpAddr) -> (bool, u64) {
    match address.to_canonical() {
        IpAddr::V4(address) => (false, address.to_bits().into()),
        IpAddr::V6(address) => (true, (address.to_bits() >> 64) as u64),
    }
}

/// The first bytes of a name.
fn beginning(name: &str) -> &[u8] {
    name.as_bytes().get(..MAX_BYTES).unwrap_or(name.as_bytes())
}

impl Source<'_> {
    /// Its hash, by a hash of two words that nobody outside can foresee.
    pub(crate) fn hash(self, hash: impl Fn([u64; 2]) -> u64) -> u64 {
        match self {
            Self::Address(address) => {
                let (is_v6, bits) = network(address);
                hash([is_v6.into(), bits])
            }
            Self::Named(name) => {
                let name = beginning(name);
                name.chunks(8).fold(hash([2, name.len() as u64]), |so_far, chunk| {
                    let mut word = [0; 8];
                    word.iter_mut().zip(chunk).for_each(|(slot, byte)| *slot = *byte);
                    hash([so_far, u64::from_le_bytes(word)])
                })
            }
        }
    }

    /// To be kept.
    pub(crate) fn name(self) -> SourceName {
        match self {
            Self::Address(address) => {
                let (is_v6, bits) = network(address);
                if is_v6 { SourceName::V6(bits) } else { SourceName::V4(bits as u32) }
            }
            Self::Named(name) => {
                let (mut bytes, name) = ([0; MAX_BYTES], beginning(name));
                bytes.iter_mut().zip(name).for_each(|(slot, byte)| *slot = *byte);
                SourceName::Text { length: name.len() as u8, bytes }
            }
        }
    }
}

/// The name of a source, in a place of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceName {
    V4(u32),
    /// The upper half.
    V6(u64),
    Text {
        length: u8,
        bytes: [u8; MAX_BYTES],
    },
}

/// As it may be shown: on one line, without characters that deceive.
impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(bits) => core::net::Ipv4Addr::from_bits(*bits).fmt(f),
            Self::V6(upper) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*upper) << 64)),
            Self::Text { length, bytes } => {
                let bytes = bytes.get(..usize::from(*length)).unwrap_or_default();
                let shown = |c: char| if is_forbidden(c) { '\u{FFFD}' } else { c };
                String::from_utf8_lossy(bytes).chars().map(shown).collect::<String>().fmt(f)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Source<'static> {
        Source::Address(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_counted_by_itself_and_one_of_ipv6_with_its_network() {
        let hash = |source: Source<'_>| source.hash(|[a, b]| a.wrapping_mul(31).wrapping_add(b));
        for (a, b, are_one) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8::1", "2001:db8::ffff:1:2:3", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(hash(of(a)) == hash(of(b)), are_one, "{a} {b}");
            assert_eq!(of(a).name() == of(b).name(), are_one, "{a} {b}");
        }
        assert_eq!(of("2001:db8:0:7::1").name().to_string(), "2001:db8:0:7::/64");
        assert_eq!(of("::ffff:192.0.2.1").name().to_string(), "192.0.2.1");
    }

    #[test]
    fn a_name_is_shown_on_one_line_and_cut_where_it_is_long() {
        let shown = |name: &str| Source::Named(name).name().to_string();
        assert_eq!(shown("gateway-7"), "gateway-7");
        assert_eq!(shown("a\nb\u{202E}c\0"), "a\u{FFFD}b\u{FFFD}c\u{FFFD}");
        assert_eq!(shown(&"x".repeat(1_000)), "x".repeat(64));
        assert_eq!(shown(&format!("{}é", "x".repeat(63))), format!("{}\u{FFFD}", "x".repeat(63)));
        let hash = |name: &str| Source::Named(name).hash(|[a, b]| (a ^ 7).wrapping_mul(31).wrapping_add(b));
        assert_ne!(hash("a"), hash("a\0"));
        assert_ne!(hash(&"x".repeat(63)), hash(&"x".repeat(64)));
        assert_eq!(hash(&"x".repeat(65)), hash(&"x".repeat(64)));
    }
}

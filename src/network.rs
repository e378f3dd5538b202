//! Networks from which a key may be used, as CIDR blocks of IPv4 and IPv6.
//!
//! Own code in place of a crate: what a block is takes few lines, and mapped addresses, bits beyond a prefix and
//! errors that name the right text would be ours to write in any case. Addresses are `core`'s, which has no sockets.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text is no network, or a list of them is empty or too long.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The text is not an address, with or without the length of a prefix.
    #[error("not a network such as 192.0.2.0/24, 192.0.2.7 or 2001:db8::/32")]
    Syntax,
    /// The prefix is longer than an address.
    #[error("the prefix is longer than {max} bits, the length of such an address")]
    PrefixTooLong {
        /// The length of an address.
        max: u8,
    },
    /// The address has bits beyond its prefix; write the network that it lies in, or the address without a prefix.
    #[error("the address has bits beyond its prefix; write {network}, or the address without a prefix")]
    BitsBeyondPrefix {
        /// The network that it lies in.
        network: Network,
    },
    /// A list without a network would allow nothing; to allow everything, give no list.
    #[error("a list of networks must have at least one; to allow all addresses, give no list")]
    Empty,
    /// The list has too many networks.
    #[error("a key has at most {} networks; use shorter prefixes", Networks::MAX)]
    TooMany,
}

crate::text::debug_as_told!(NetworkError);

/// A block of addresses: `192.0.2.0/24`, `2001:db8::/32`, or a single address.
///
/// An IPv6 block holds no IPv4 address: `::/0` is all of IPv6 and none of IPv4. An IPv4-mapped address, such as
/// `::ffff:192.0.2.1`, is the IPv4 address, and a block of them the IPv4 block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    // In this order networks are sorted.
    is_v6: bool,
    first: u128,
    prefix: u8,
}

/// Family and number of an address; a mapped one is IPv4.
fn numbered(address: IpAddr) -> (bool, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (false, u128::from(address.to_bits())),
        IpAddr::V6(address) => (true, address.to_bits()),
    }
}

impl Network {
    /// The block of addresses that begin with the first `prefix` bits of `address`.
    ///
    /// # Errors
    /// [`NetworkError`] when the prefix is too long, or the address has bits beyond it.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, NetworkError> {
        let max = if address.is_ipv4() { 32 } else { 128 };
        if prefix > max {
            return Err(NetworkError::PrefixTooLong { max });
        }
        // A mapped address with a prefix that reaches into its IPv4 part is a block of IPv4.
        let (is_v6, number, prefix) = match (address, numbered(address), prefix.checked_sub(96)) {
            (IpAddr::V6(_), (false, number), Some(prefix)) => (false, number, prefix),
            (IpAddr::V6(address), ..) => (true, address.to_bits(), prefix),
            (IpAddr::V4(_), (_, number), _) => (false, number, prefix),
        };
        let network = Self { is_v6, first: number, prefix };
        let first = number & !network.host_bits();
        if first == number {
            Ok(network)
        } else {
            Err(NetworkError::BitsBeyondPrefix { network: Self { first, ..network } })
        }
    }

    /// The first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        if self.is_v6 {
            Ipv6Addr::from_bits(self.first).into()
        } else {
            Ipv4Addr::from_bits(u32::try_from(self.first).unwrap_or_default()).into()
        }
    }

    /// How many leading bits all addresses share.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (is_v6, number) = numbered(address);
        is_v6 == self.is_v6 && (self.first..=self.last()).contains(&number)
    }

    /// Whether all addresses of this network lie in `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.is_v6 == other.is_v6 && other.first <= self.first && self.last() <= other.last()
    }

    fn bits(&self) -> u8 {
        if self.is_v6 { 128 } else { 32 }
    }

    fn host_bits(&self) -> u128 {
        let hosts = u32::from(self.bits() - self.prefix);
        u128::MAX.checked_shr(128 - hosts).unwrap_or(0)
    }

    fn last(&self) -> u128 {
        self.first | self.host_bits()
    }

    /// The two networks that it consists of.
    fn halves(&self) -> Option<[Self; 2]> {
        let prefix = self.prefix + 1;
        let lower = Self { prefix, ..*self };
        (prefix <= self.bits()).then(|| [lower, Self { first: lower.last() + 1, ..lower }])
    }
}

/// A single address.
impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        let (is_v6, first) = numbered(address);
        Self { is_v6, first, prefix: if is_v6 { 128 } else { 32 } }
    }
}

/// `192.0.2.0/24`; a single address without its prefix.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == self.bits() {
            write!(f, "{}", self.address())
        } else {
            write!(f, "{}/{}", self.address(), self.prefix)
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Network {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Syntax)?;
        let Some(prefix) = prefix else { return Ok(address.into()) };
        let is_plain = prefix.len() <= 3
            && prefix.bytes().all(|byte| byte.is_ascii_digit())
            && (prefix == "0" || !prefix.starts_with('0'));
        let bits: u16 = prefix.parse().ok().filter(|_| is_plain).ok_or(NetworkError::Syntax)?;
        // Beyond eight bits it is too long for any address.
        Self::new(address, u8::try_from(bits).unwrap_or(u8::MAX))
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;
    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// The networks from which a key may be used: one to 64. A key without such a list may be used from everywhere.
///
/// Networks that lie within others of the list are left out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<Network>", into = "Vec<Network>")]
pub struct Networks(Vec<Network>);

impl Networks {
    /// The most networks of one key.
    pub const MAX: usize = 64;

    /// A list of these networks.
    ///
    /// # Errors
    /// [`NetworkError::Empty`], [`NetworkError::TooMany`].
    pub fn new(networks: impl IntoIterator<Item = Network>) -> Result<Self, NetworkError> {
        let mut sorted: Vec<_> = networks.into_iter().take(Self::MAX + 1).collect();
        if sorted.is_empty() {
            return Err(NetworkError::Empty);
        }
        if sorted.len() > Self::MAX {
            return Err(NetworkError::TooMany);
        }
        // Wider ones come before those within them, and two networks never overlap in part.
        sorted.sort();
        sorted.dedup_by(|network, wider| network.is_within(wider));
        Ok(Self(sorted))
    }

    /// Whether the address lies in one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (is_v6, number) = numbered(address);
        let after = self.0.partition_point(|network| (network.is_v6, network.first) <= (is_v6, number));
        let nearest = after.checked_sub(1).and_then(|index| self.0.get(index));
        nearest.is_some_and(|network| network.is_v6 == is_v6 && number <= network.last())
    }

    /// Whether all of their addresses lie in `other`.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.iter().all(|network| other.covers(network))
    }

    fn covers(&self, network: &Network) -> bool {
        self.0.iter().any(|own| network.is_within(own))
            || (self.0.iter().any(|own| own.is_within(network))
                && network.halves().is_some_and(|halves| halves.iter().all(|half| self.covers(half))))
    }

    /// The networks, sorted: IPv4 first.
    pub fn iter(&self) -> std::slice::Iter<'_, Network> {
        self.0.iter()
    }
}

/// `192.0.2.0/24, 2001:db8::/32`.
impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(Network::to_string).collect();
        f.pad(&texts.join(", "))
    }
}

impl FromStr for Networks {
    type Err = NetworkError;
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let networks: Result<Vec<_>, _> =
            text.split(',').take(Self::MAX + 1).map(|text| text.trim().parse()).collect();
        Self::new(networks?)
    }
}

impl<'a> IntoIterator for &'a Networks {
    type Item = &'a Network;
    type IntoIter = std::slice::Iter<'a, Network>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl TryFrom<Vec<Network>> for Networks {
    type Error = NetworkError;
    fn try_from(networks: Vec<Network>) -> Result<Self, NetworkError> {
        Self::new(networks)
    }
}

impl From<Networks> for Vec<Network> {
    fn from(networks: Networks) -> Self {
        networks.0
    }
}

impl<const N: usize> TryFrom<[&str; N]> for Networks {
    type Error = NetworkError;
    fn try_from(texts: [&str; N]) -> Result<Self, NetworkError> {
        let networks: Result<Vec<_>, _> = texts.into_iter().map(str::parse).collect();
        Self::new(networks?)
    }
}

//! Which addresses a webhook may be sent to. Pure: names are looked up elsewhere.
//!
//! A URL often comes from a customer, and what it points at is reached from inside the host's network. So what is not
//! plainly an address of the public internet is refused, unless the host has allowed it.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::network::Networks;

/// Blocks of IPv4 that are not the public internet's (IANA's special-purpose registry): first address, prefix.
const SPECIAL_V4: &[(Ipv4Addr, u32)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // this network, unspecified
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // shared by a carrier's NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local: a cloud's metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // relays of 6to4
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 3),     // multicast, reserved, broadcast
];

/// All of IPv6 that is given out. Outside of it lie loopback, unspecified, mapped and compatible addresses, both NAT64
/// prefixes, discard-only, unique local, link-local, site-local and multicast.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What lies inside of it and is not the public internet's, or leads to an IPv4 address of somebody's choice.
const SPECIAL_V6: &[(Ipv6Addr, u32)] = &[
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments: Teredo, benchmarks, ORCHID
    (Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4
    (Ipv6Addr::new(0x3FFF, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// Whether an address is plainly one of the public internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let is_in = |(first, prefix): &(Ipv4Addr, u32)| {
                (address.to_bits() ^ first.to_bits()).leading_zeros() >= *prefix
            };
            !SPECIAL_V4.iter().any(is_in)
        }
        IpAddr::V6(address) => {
            let is_in = |(first, prefix): &(Ipv6Addr, u32)| {
                (address.to_bits() ^ first.to_bits()).leading_zeros() >= *prefix
            };
            is_in(&GLOBAL_V6) && !SPECIAL_V6.iter().any(is_in)
        }
    }
}

/// Whether something may be sent there.
pub(super) fn may_be_reached(address: IpAddr, allowed: Option<&Networks>) -> bool {
    is_public(address) || allowed.is_some_and(|allowed| allowed.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The first and the last address of each block, with a name that a reader of a failure understands.
    #[test]
    fn what_is_not_plainly_the_public_internet_is_refused_to_the_last_address() {
        for (what, first, last) in [
            ("unspecified", "0.0.0.0", "0.255.255.255"),
            ("private", "10.0.0.0", "10.255.255.255"),
            ("CGNAT", "100.64.0.0", "100.127.255.255"),
            ("loopback", "127.0.0.0", "127.255.255.255"),
            ("link-local", "169.254.0.0", "169.254.255.255"),
            ("metadata", "169.254.169.254", "169.254.169.254"),
            ("private", "172.16.0.0", "172.31.255.255"),
            ("protocol", "192.0.0.0", "192.0.0.255"),
            ("documentation", "192.0.2.0", "192.0.2.255"),
            ("6to4 relay", "192.88.99.0", "192.88.99.255"),
            ("private", "192.168.0.0", "192.168.255.255"),
            ("benchmark", "198.18.0.0", "198.19.255.255"),
            ("documentation", "198.51.100.0", "198.51.100.255"),
            ("documentation", "203.0.113.0", "203.0.113.255"),
            ("multicast", "224.0.0.0", "239.255.255.255"),
            ("reserved", "240.0.0.0", "255.255.255.255"),
            ("unspecified", "::", "::"),
            ("loopback", "::1", "::1"),
            ("compatible", "::127.0.0.1", "::8.8.8.8"),
            ("mapped", "::ffff:0.0.0.0", "::ffff:255.255.255.255"),
            ("mapped public", "::ffff:8.8.8.8", "::ffff:1.1.1.1"),
            ("NAT64", "64:ff9b::", "64:ff9b::ffff:ffff"),
            ("NAT64 to metadata", "64:ff9b::169.254.169.254", "64:ff9b::127.0.0.1"),
            ("local NAT64", "64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"),
            ("discard-only", "100::", "100::ffff:ffff:ffff:ffff"),
            ("Teredo", "2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("benchmark", "2001:2::", "2001:2:0:ffff:ffff:ffff:ffff:ffff"),
            ("ORCHID", "2001:10::", "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("documentation", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("6to4", "2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("6to4 of loopback", "2002:7f00:1::", "2002:a00:1::1"),
            ("documentation", "3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("segment routing", "5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("unique local", "fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("link-local", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("site-local", "fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("multicast", "ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ] {
            for address in [first, last] {
                assert!(!is_public(ip(address)), "{what}: {address}");
                assert!(!may_be_reached(ip(address), None), "{what}: {address}");
            }
        }
    }

    #[test]
    fn the_neighbours_of_what_is_refused_are_public() {
        for address in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "8.8.8.8",
            "2001:200::1",
            "2001:4860:4860::8888",
            "2001:db7::1",
            "2001:db9::1",
            "2003::1",
            "2606:4700::1111",
            "3ffe:ffff::1",
            "3fff:1000::1",
            "2000::1",
        ] {
            assert!(is_public(ip(address)), "{address}");
        }
        assert!(!is_public(ip("1fff::1")) && !is_public(ip("4000::1")));
    }

    #[test]
    fn what_the_host_allows_is_reached_and_nothing_beside_it() {
        let of = |texts: &[&str]| Networks::new(texts.iter().map(|text| text.parse().unwrap())).unwrap();
        let allowed = of(&["127.0.0.1", "10.1.0.0/16", "fd00::/8"]);
        for (address, reached) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true), // the same address, in another spelling
            ("127.0.0.2", false),
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("64:ff9b::10.1.0.1", false),
            ("2002:a01:1::", false),
            ("8.8.8.8", true),
        ] {
            assert_eq!(may_be_reached(ip(address), Some(&allowed)), reached, "{address}");
        }
    }
}

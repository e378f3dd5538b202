//! Allowed networks of a key: what text is one, which addresses lie in it, and how they are kept and changed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use common::{new_key, on_both_stores};
use ipnet::IpNet;
use keyrota::{EditKey, ManageError, Network, NetworkError, Networks, RowKind};
use serde_json::{Value, json};

fn network(text: &str) -> Network {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn networks(texts: &[&str]) -> Networks {
    Networks::new(texts.iter().map(|text| network(text))).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// SplitMix64: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }
}

#[test]
fn a_network_is_an_address_with_the_length_of_a_prefix() {
    for (text, shown) in [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("2001:db8:0:0:0:0:0:1", "2001:db8::1"),
        ("::/0", "::/0"),
        ("::1/128", "::1"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ] {
        let read = network(text);
        assert_eq!((read.to_string(), format!("{read:?}")), (shown.to_owned(), shown.to_owned()));
        assert_eq!(network(shown), read);
        assert_eq!(Network::new(read.address(), read.prefix()), Ok(read));
        assert_eq!(serde_json::from_value::<Network>(json!(text)).unwrap(), read);
        assert_eq!(serde_json::to_value(read).unwrap(), json!(shown));
    }
    assert_eq!((network("10.0.0.0/8").address(), network("10.0.0.0/8").prefix()), (ip("10.0.0.0"), 8));
    assert_eq!(Network::from(ip("::ffff:10.0.0.1")), network("10.0.0.1"));
}

#[test]
fn other_text_is_a_typed_error() {
    let long = "1".repeat(10_000);
    for text in [
        "",
        " ",
        "/",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/ 8",
        "10.0.0.0/+8",
        "10.0.0.0/-1",
        "10.0.0.0/08",
        "10.0.0.0/8/8",
        "10.0.0.0/255.0.0.0",
        " 10.0.0.0/8",
        "10.0.0.0/8\n",
        "10.0.0/8",
        "10.0.0.256/8",
        "010.0.0.0/8",
        "10.0.0.0/٨",
        "::1%eth0",
        "fe80::1%1/64",
        "[::1]",
        "[::]/0",
        "::g",
        "localhost",
        "*",
        "10.0.0.0/99999",
        "10.0.0.0/1e1",
        "10.0.0.0/8\u{202E}",
        &long,
    ] {
        assert_eq!(text.parse::<Network>(), Err(NetworkError::Syntax), "{text:?}");
        assert!(serde_json::from_value::<Network>(json!(text)).is_err());
    }
    for (text, max) in
        [("10.0.0.0/33", 32), ("10.0.0.0/999", 32), ("::/129", 128), ("::ffff:1.2.3.4/129", 128)]
    {
        assert_eq!(text.parse::<Network>(), Err(NetworkError::PrefixTooLong { max }), "{text}");
    }
    assert_eq!(Network::new(ip("10.0.0.0"), 255), Err(NetworkError::PrefixTooLong { max: 32 }));
}

#[test]
fn bits_beyond_the_prefix_are_refused_and_the_error_names_the_right_text() {
    for (text, fixed) in [
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("255.255.255.255/0", "0.0.0.0/0"),
        ("192.0.2.1/31", "192.0.2.0/31"),
        ("2001:db8::1/32", "2001:db8::/32"),
        ("::1/127", "::/127"),
        ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
    ] {
        let error = text.parse::<Network>().unwrap_err();
        assert_eq!(error, NetworkError::BitsBeyondPrefix { network: network(fixed) });
        assert!(error.to_string().contains(&format!("write {fixed}, or")), "{error}");
    }
}

#[test]
fn a_mapped_address_is_the_ipv4_address_and_the_families_are_apart() {
    let v4 = network("192.0.2.0/24");
    assert!(v4.contains(ip("192.0.2.0")) && v4.contains(ip("192.0.2.255")) && !v4.contains(ip("192.0.3.0")));
    assert!(v4.contains(ip("::ffff:192.0.2.9")) && !v4.contains(ip("::ffff:192.0.3.9")));
    assert!(
        !v4.contains(ip("::192.0.2.9")) && !v4.contains(ip("64:ff9b::192.0.2.9")),
        "compatible is not mapped"
    );
    let all_v6 = networks(&["::/0"]);
    assert!(all_v6.contains(ip("::1")) && all_v6.contains(ip("ffff::")));
    assert!(!all_v6.contains(ip("192.0.2.1")) && !all_v6.contains(ip("::ffff:192.0.2.1")));
    assert!(!network("::/0").contains(ip("::ffff:192.0.2.1")));
    let all_v4 = networks(&["0.0.0.0/0"]);
    assert!(
        all_v4.contains(ip("::ffff:192.0.2.1")) && !all_v4.contains(ip("::1")) && !all_v4.contains(ip("::"))
    );
    assert!(!v4.is_within(&network("::/0")) && !all_v4.is_within(&all_v6) && !all_v6.is_within(&all_v4));
    assert!(networks(&["::ffff:10.0.0.0/104"]).contains(ip("10.1.2.3")));
}

#[test]
fn an_independent_implementation_finds_the_same_addresses() {
    let mut dice = Dice(1);
    let mut found = [0; 2];
    for _ in 0..3_000 {
        let list: Vec<(Network, IpNet)> = (0..1 + dice.below(12))
            .map(|_| {
                let text = if dice.below(2) == 0 {
                    let bits = Ipv4Addr::from_bits(0x0A00_0000 | dice.below(1 << 16) as u32);
                    IpNet::new(bits.into(), (14 + dice.below(19)) as u8)
                } else {
                    let low = u128::from(dice.below(1 << 16)) << 48 | u128::from(dice.below(4));
                    let bits = Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | low);
                    IpNet::new(bits.into(), (30 + dice.below(99)) as u8)
                };
                let net = text.unwrap().trunc();
                (network(&net.to_string()), net)
            })
            .collect();
        let ours = Networks::new(list.iter().map(|(own, _)| *own)).unwrap();
        for _ in 0..40 {
            // Near the edges of one of them, where mistakes are.
            let (_, near) = list[dice.below(list.len() as u64) as usize];
            let edge = if dice.below(2) == 0 { near.network() } else { near.broadcast() };
            let off = dice.below(3) as i128 - 1;
            let address: IpAddr = match edge {
                IpAddr::V4(edge) => {
                    Ipv4Addr::from_bits(edge.to_bits().wrapping_add_signed(off as i32)).into()
                }
                IpAddr::V6(edge) => Ipv6Addr::from_bits(edge.to_bits().wrapping_add_signed(off)).into(),
            };
            let expected = list.iter().any(|(_, net)| net.contains(&address));
            assert_eq!(ours.contains(address), expected, "{address} in {ours}");
            assert_eq!(list.iter().any(|(own, _)| own.contains(address)), expected, "{address} in {ours}");
            if let IpAddr::V4(v4) = address {
                assert_eq!(ours.contains(v4.to_ipv6_mapped().into()), expected);
            }
            found[usize::from(expected)] += 1;
        }
        for (own, net) in &list {
            for (other, other_net) in &list {
                assert_eq!(own.is_within(other), other_net.contains(net), "{own} in {other}");
            }
        }
    }
    assert!(found.iter().all(|count| *count > 10_000), "{found:?}");
}

#[test]
fn a_list_is_within_another_exactly_when_all_of_its_addresses_are() {
    let mut dice = Dice(2);
    let mut answers = [0; 2];
    for _ in 0..4_000 {
        let mut list = || {
            let count = 1 + dice.below(6);
            let blocks = (0..count).map(|_| {
                let prefix = 24 + dice.below(9) as u8;
                let host = dice.below(256) as u32 & !(u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0));
                Network::new(Ipv4Addr::from_bits(0x0A00_0000 | host).into(), prefix).unwrap()
            });
            Networks::new(blocks).unwrap()
        };
        let (narrow, wide) = (list(), list());
        let mut every = (0..256).map(|host| IpAddr::from(Ipv4Addr::from_bits(0x0A00_0000 | host)));
        let expected = every.all(|address| !narrow.contains(address) || wide.contains(address));
        assert_eq!(narrow.is_within(&wide), expected, "{narrow} within {wide}");
        answers[usize::from(expected)] += 1;
        assert!(narrow.is_within(&narrow));
    }
    assert!(answers.iter().all(|count| *count > 300), "{answers:?}");
    let halves = networks(&["0.0.0.0/1", "128.0.0.0/1"]);
    assert!(networks(&["0.0.0.0/0"]).is_within(&halves) && halves.is_within(&networks(&["0.0.0.0/0"])));
    let deep = (0..64).map(|bit| Network::from(IpAddr::from(Ipv6Addr::from_bits(1_u128 << (2 * bit)))));
    let deep = Networks::new(deep).unwrap();
    assert!(!networks(&["::/0"]).is_within(&deep), "the longest search ends");
}

#[test]
fn a_list_is_sorted_without_what_lies_in_others_and_bounded() {
    let list =
        networks(&["::1", "10.1.0.0/16", "10.0.0.0/8", "10.1.2.3", "::/64", "9.0.0.0/8", "10.0.0.0/8"]);
    assert_eq!(list.to_string(), "9.0.0.0/8, 10.0.0.0/8, ::/64");
    assert_eq!(list.to_string().parse::<Networks>(), Ok(list.clone()));
    assert_eq!(list.iter().count(), 3);
    let many = |count: u32| (0..count).map(|host| Network::from(IpAddr::from(Ipv4Addr::from_bits(host))));
    assert_eq!(Networks::new(many(64)).unwrap().iter().count(), 64);
    assert_eq!(Networks::new(many(65)), Err(NetworkError::TooMany));
    assert_eq!(
        Networks::new((0..).flat_map(|_| many(1))),
        Err(NetworkError::TooMany),
        "an endless list ends"
    );
    assert_eq!(Networks::new([]), Err(NetworkError::Empty));
    assert_eq!("".parse::<Networks>(), Err(NetworkError::Syntax));
    assert!(serde_json::from_value::<Networks>(json!([])).is_err());
    assert!(serde_json::from_value::<Networks>(json!(["10.0.0.1/8"])).is_err());
    let all: Vec<String> = many(65).map(|network| network.to_string()).collect();
    assert!(serde_json::from_value::<Networks>(json!(all)).is_err());
    assert_eq!(all.join(",").parse::<Networks>(), Err(NetworkError::TooMany));
}

#[test]
fn a_key_keeps_its_networks_through_every_rotation() {
    on_both_stores(|bed| {
        let list = networks(&["2001:db8::/32", "192.0.2.0/24"]);
        let issued = bed.root().issue(new_key("ci").networks(list.clone())).unwrap();
        let mut body = Value::Null;
        let each = &mut |row: keyrota::RowRef<'_>| body = serde_json::from_slice(row.body).unwrap();
        bed.store.get(RowKind::Key, &issued.key.to_string(), each).unwrap();
        assert_eq!(body["networks"], json!(["192.0.2.0/24", "2001:db8::/32"]));
        let kept = |what: &str| {
            assert_eq!(bed.keys.get(issued.key).unwrap().networks, Some(list.clone()), "{what}");
        };
        kept("issued");
        bed.rotate(issued.key);
        kept("rotated");
        bed.root().roll_back(issued.key).unwrap();
        kept("rolled back");
        bed.root().replace(issued.key).unwrap();
        kept("replaced");
        bed.root().deprecate(issued.key).unwrap();
        kept("deprecated");
        assert_eq!(bed.keys.get(bed.issue("free").key).unwrap().networks, None);
    });
}

#[test]
fn an_edit_of_networks_widens_only_when_it_says_so() {
    on_both_stores(|bed| {
        let some = |texts: &[&str]| (!texts.is_empty()).then(|| networks(texts));
        // What the key has, what it is to get, and whether that reaches further; without any it is everywhere.
        for (has, wanted, widens) in [
            (&[][..], &["10.0.0.0/8"][..], false),
            (&["10.0.0.0/8"], &[], true),
            (&["10.0.0.0/8"], &["10.0.0.0/9", "10.255.0.1"], false),
            (&["10.0.0.0/8"], &["10.0.0.0/7"], true),
            (&["10.0.0.0/8"], &["10.0.0.0/8", "::1"], true),
            (&["10.0.0.0/9", "10.128.0.0/9"], &["10.0.0.0/8"], false),
            (&["0.0.0.0/0", "::/0"], &[], true),
            (&["::/0"], &["10.0.0.1"], true),
            (&["::ffff:10.0.0.0/104"], &["10.0.0.0/16"], false),
        ] {
            let new = some(has).into_iter().fold(new_key("ci"), keyrota::NewKey::networks);
            let key = bed.root().issue(new).unwrap().key;
            let before = bed.seq();
            let edit = EditKey::of(key).networks(some(wanted));
            if widens {
                let refused = bed.refused(|| bed.root().edit(edit.clone()));
                assert!(
                    matches!(refused, ManageError::WouldWiden(told) if told == key),
                    "{has:?} {wanted:?}"
                );
            }
            let edit = if widens { edit.widen() } else { edit };
            assert_eq!(bed.root().edit(edit).unwrap().networks, some(wanted), "{has:?} {wanted:?}");
            assert_eq!(bed.keys.get(key).unwrap().networks, some(wanted));
            assert_eq!(bed.entries(before)[0].event.subject.as_deref(), Some("networks"));
        }
    });
}

#[test]
fn a_request_id_tells_networks_that_are_taken_away_from_such_that_are_not_named() {
    on_both_stores(|bed| {
        let key = bed.root().issue(new_key("ci").networks(networks(&["10.0.0.0/8"]))).unwrap().key;
        let act = || bed.root().request("req");
        act().edit(EditKey::of(key).networks(None).widen()).unwrap();
        act().edit(EditKey::of(key).networks(None).widen()).unwrap();
        let error = bed.refused(|| act().edit(EditKey::of(key).widen()));
        assert!(matches!(error, ManageError::RequestReused(_)));
    });
}

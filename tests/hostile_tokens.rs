//! Whatever is not a valid token gets one and the same answer, and costs the store nothing but a look at its stamp.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;
mod delegating;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use common::{Bed, DAY, DIGITS, Place, at, checksum, keyring, new_key, on_both_places, owner, parts, token};
use delegating::{Call, Delegating, Hooks, Turn};
use keyrota::{
    Denial, DenialClass, DenialReason, KeyManager, KeyStore, ManualClock, NewKey, Prefix, UsageQuery,
    Validator, check_token,
};

/// Counts the calls that reach a store.
#[derive(Default)]
struct Counts(Mutex<BTreeMap<&'static str, u64>>);

impl Counts {
    /// What was called since the last time that this was asked.
    fn take(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Hooks for Counts {
    fn before(&self, _: &dyn KeyStore, call: Call<'_>) -> Turn {
        *self.0.lock().unwrap().entry(call.name()).or_default() += 1;
        Turn::Go
    }
}

type CountingStore = Delegating<Arc<dyn KeyStore>, Counts>;

/// Keys in every state, and a validator whose store counts.
struct Target {
    store: Arc<CountingStore>,
    validator: Validator,
    keys: KeyManager,
    /// Valid, `key_`.
    mine: String,
    /// Valid, another owner's.
    theirs: String,
    /// Valid, `acme_live_`.
    live: String,
    /// Of a revoked, a suspended owner's, an expired and a retired version.
    denied: Vec<String>,
    _place: Place,
}

impl Target {
    fn new(place: Place) -> Self {
        let clock = ManualClock::new(at("2027-01-01"));
        let prefixes = ["key", "acme_live"].map(|prefix| Prefix::new(prefix).unwrap());
        let keys = KeyManager::builder(place.open(), keyring()).clock(clock.clone()).prefixes(prefixes);
        let keys = keys.open().unwrap();
        let bed = Bed { validator: keys.validator().unwrap(), clock, keys, store: place.open(), place };
        let of = |name: &str| NewKey::new(owner(name), "ci").unwrap();
        let issue = |new| {
            let issued = bed.root().issue(new).unwrap();
            (issued.key, issued.token.expose().to_owned())
        };
        let (mine, theirs) = (issue(new_key("ci")).1, issue(of("eve")).1);
        let live = issue(new_key("live").prefix(Prefix::new("acme_live").unwrap())).1;
        let (revoked, suspended) = (issue(new_key("revoked")), issue(of("mallory")));
        let (expired, retired) = (issue(new_key("expired").lifetime(2 * DAY)), issue(new_key("retired")));
        bed.root().revoke(revoked.0).unwrap();
        bed.root().suspend(owner("mallory")).unwrap();
        bed.root().rotate(retired.0).unwrap();
        bed.clock.advance(2 * DAY).unwrap();
        let denied = [revoked, suspended, expired, retired].map(|(_, token)| token).to_vec();
        let store = Arc::new(CountingStore::over(bed.place.open(), Counts::default()));
        let validator = Validator::builder(Arc::clone(&store), keyring()).clock(bed.clock.clone());
        let validator = validator.open().unwrap();
        let Bed { keys, place, .. } = bed;
        Self { store, validator, keys, mine, theirs, live, denied, _place: place }
    }

    /// The answer to all of these: one and the same, without the store.
    fn assert_unknown<T: AsRef<[u8]>>(&self, tokens: impl IntoIterator<Item = T>) {
        let reference = self.validator.validate("").unwrap_err();
        let texts =
            |denial: &Denial| (denial.to_string(), format!("{denial:?}"), denial.reason().to_string());
        self.validator.catch_up().unwrap();
        self.store.take();
        let mut tried = 0;
        for token in tokens {
            let token = token.as_ref();
            let shown = || token[..token.len().min(100)].escape_ascii().to_string();
            let denial = self.validator.validate(token).expect_err(&shown());
            assert_eq!(denial, reference, "{}", shown());
            assert_eq!(texts(&denial), texts(&reference), "{}", shown());
            assert_eq!(denial.reason(), DenialReason::Unknown, "{}", shown());
            assert_eq!(denial.class(), DenialClass::Unauthenticated, "{}", shown());
            assert_eq!((denial.key(), denial.version()), (None, None), "{}", shown());
            tried += 1;
        }
        assert!(tried > 0);
        let calls = self.store.take();
        assert!(calls.keys().all(|name| *name == "stamp"), "{calls:?}");
        assert!(calls.values().all(|count| *count <= tried), "{calls:?}");
        assert_eq!(self.validator.flush().unwrap(), 0, "nothing was counted");
        let idle = [("add_usage", 1), ("stamp", 1)];
        assert_eq!(self.store.take(), BTreeMap::from(idle), "it only says that there is nothing to tell");
        for token in [&self.mine, &self.theirs, &self.live] {
            assert!(self.validator.validate(token).is_ok());
        }
        assert_eq!(self.validator.flush().unwrap(), 3, "only the right ones were counted");
    }
}

fn on_targets(body: impl Fn(Target)) {
    on_both_places(|place| body(Target::new(place)));
}

#[test]
fn the_checksum_of_a_token_is_zlib_s_crc_32_in_base62() {
    assert_eq!(checksum(b"123456789"), {
        let (mut rest, mut digits) = (0xCBF4_3926_u32, Vec::new());
        while rest > 0 {
            digits.push(DIGITS[(rest % 62) as usize]);
            rest /= 62;
        }
        digits.reverse();
        String::from_utf8(digits).unwrap()
    });
    on_targets(|target| {
        for issued in [&target.mine, &target.theirs, &target.live] {
            let (prefix, locator, secret) = parts(issued);
            assert_eq!(token(prefix, locator, secret), *issued);
        }
    });
}

#[test]
fn text_that_is_no_token_is_unknown_and_never_reaches_the_store() {
    on_targets(|target| {
        let good = target.mine.as_bytes();
        let with = |before: &[u8], after: &[u8]| [before, good, after].concat();
        let mut junk: Vec<Vec<u8>> = vec![
            b"".to_vec(),
            b"_".to_vec(),
            b"key".to_vec(),
            b"key_".to_vec(),
            b"acme_live_".to_vec(),
            vec![b'a'; 10 << 20],
            vec![0; 10 << 20],
            vec![0xFF; 10 << 20],
            vec![b'_'; 10 << 20],
            good.repeat((10 << 20) / good.len()),
            with(&vec![b' '; 10 << 20], b""),
            with(b"", &vec![b'\n'; 10 << 20]),
            with(good, b""),
            with(&[good, b" "].concat(), b""),
            vec![0; good.len()],
            vec![0xFF; good.len()],
            vec![0x80; 61],
            b"\xC3\x28\xA0\xA1\xE2\x28\xA1\xF0\x28\x8C\x28\xF8".to_vec(),
            format!("Bearer {}", target.mine).into_bytes(),
            format!("\"{}\"", target.mine).into_bytes(),
            format!("\u{FEFF}{}", target.mine).into_bytes(),
            target.mine.to_uppercase().into_bytes(),
            target.mine.to_lowercase().into_bytes(),
            good.iter().rev().copied().collect(),
            good.iter().flat_map(|byte| [*byte, 0]).collect(),
        ];
        for edge in [&b"\n"[..], b"\r\n", b" ", b"\t", b"\0", b"_", b"0", b"\xFF", "\u{200B}".as_bytes()] {
            junk.extend([with(edge, b""), with(b"", edge), with(edge, edge)]);
        }
        target.assert_unknown(junk);
    });
}

#[test]
fn every_truncation_is_unknown() {
    on_targets(|target| {
        let good = target.live.as_bytes();
        let cuts = (0..good.len()).flat_map(|at| [&good[..at], &good[at + 1..]]);
        let gaps = (0..good.len()).map(|at| [&good[..at], &good[at + 1..]].concat());
        target.assert_unknown(cuts.map(<[u8]>::to_vec).chain(gaps));
        let doubled = (0..good.len()).map(|at| [&good[..=at], &good[at..]].concat());
        target.assert_unknown(doubled);
    });
}

#[test]
fn every_change_of_one_character_is_unknown() {
    on_targets(|target| {
        let good = target.mine.as_bytes();
        let others = [b'0', b'9', b'A', b'Z', b'a', b'z', b'_', b'-', b' ', b'\n', 0, 0x7F, 0x80, 0xFF];
        let changed = (0..good.len()).flat_map(|at| {
            let neighbours = [good[at].wrapping_add(1), good[at].wrapping_sub(1), good[at] ^ 0x20];
            let others = others.into_iter().chain(neighbours).filter(move |other| *other != good[at]);
            others.map(move |other| [&good[..at], &[other], &good[at + 1..]].concat())
        });
        let swapped = (1..good.len()).filter(|at| good[*at] != good[at - 1]).map(|at| {
            let mut swapped = good.to_vec();
            swapped.swap(at, at - 1);
            swapped
        });
        target.assert_unknown(changed.chain(swapped));
    });
}

#[test]
fn every_change_of_one_character_under_a_right_checksum_is_unknown() {
    on_targets(|target| {
        let (prefix, locator, secret) = parts(&target.mine);
        let covered = format!("{locator}{secret}");
        let changed: Vec<_> = (0..covered.len())
            .flat_map(|at| {
                let covered = covered.clone();
                DIGITS.iter().step_by(7).filter_map(move |other| {
                    let mut bytes = covered.clone().into_bytes();
                    if bytes[at] == *other {
                        return None;
                    }
                    bytes[at] = *other;
                    let text = String::from_utf8(bytes).unwrap();
                    Some(token(prefix, &text[..12], &text[12..]))
                })
            })
            .collect();
        assert!(changed.iter().all(|token| check_token(token).is_ok()));
        assert!(changed.len() > 400);
        target.assert_unknown(changed);
    });
}

#[test]
fn look_alike_letters_are_unknown() {
    on_targets(|target| {
        let full_width = |c: char| char::from_u32(c as u32 + 0xFEE0).unwrap();
        let cyrillic = [('a', 'а'), ('c', 'с'), ('e', 'е'), ('o', 'о'), ('p', 'р'), ('x', 'х'), ('y', 'у')];
        let upper = [('A', 'А'), ('B', 'В'), ('E', 'Е'), ('K', 'К'), ('M', 'М'), ('T', 'Т'), ('k', 'к')];
        let look_alike = |c: char| {
            let found = cyrillic.iter().chain(&upper).find(|(latin, _)| *latin == c);
            found.map_or(full_width(c), |(_, other)| *other)
        };
        let good: Vec<char> = target.mine.chars().collect();
        let one_changed = |change: &dyn Fn(char) -> char| -> Vec<String> {
            let changed = |at: usize| good.iter().enumerate().map(move |(i, c)| (i == at, *c));
            let text = |at| changed(at).map(|(here, c)| if here { change(c) } else { c }).collect();
            (0..good.len()).map(text).collect()
        };
        let mut tokens = one_changed(&full_width);
        tokens.extend(one_changed(&look_alike));
        tokens.push(target.mine.chars().map(full_width).collect());
        tokens.push(target.mine.chars().map(look_alike).collect());
        tokens.extend(good.iter().map(|mark| target.mine.replace(*mark, &format!("{mark}\u{0301}"))));
        target.assert_unknown(tokens);
    });
}

#[test]
fn a_well_formed_token_with_an_unknown_locator_or_a_wrong_secret_is_unknown() {
    on_targets(|target| {
        let (prefix, locator, secret) = parts(&target.mine);
        let (_, their_locator, their_secret) = parts(&target.theirs);
        let mut tokens = vec![
            token(prefix, "000000000000", secret),
            token(prefix, "zzzzzzzzzzzz", secret),
            token(prefix, their_locator, secret),
            token(prefix, locator, their_secret),
            token(prefix, locator, &"0".repeat(43)),
            token(prefix, &secret[..12], &format!("{}{locator}", &secret[12..])),
        ];
        for denied in &target.denied {
            let (_, locator, own) = parts(denied);
            tokens.extend([token(prefix, locator, secret), token("acme_live", locator, own)]);
        }
        assert!(tokens.iter().all(|token| check_token(token).is_ok()));
        target.assert_unknown(tokens);
        let reasons =
            target.denied.iter().map(|token| target.validator.validate(token).unwrap_err().reason());
        let told =
            [DenialReason::Revoked, DenialReason::Suspended, DenialReason::Expired, DenialReason::Retired];
        assert!(reasons.eq(told), "the right secret is told the reason");
    });
}

#[test]
fn the_right_secret_under_another_prefix_is_unknown() {
    on_targets(|target| {
        let (_, locator, secret) = parts(&target.mine);
        let of_mine = ["acme_live", "acme", "live", "KEY", "Key", "kez", "ke", "keyy", "key_", "_key", "k"];
        let (_, live_locator, live_secret) = parts(&target.live);
        let of_live =
            ["key", "acme_test", "acme", "acme_LIVE", "ACME_LIVE", "live", "acme-live", "acme__live"];
        let long = ["a".repeat(24), "a".repeat(25), "é".repeat(12), "\0".repeat(3)];
        let mine = of_mine.into_iter().chain(long.iter().map(String::as_str));
        let tokens: Vec<_> = mine
            .map(|prefix| token(prefix, locator, secret))
            .chain(of_live.map(|prefix| token(prefix, live_locator, live_secret)))
            .chain([format!("{locator}{secret}{}", checksum(format!("{locator}{secret}").as_bytes()))])
            .collect();
        target.assert_unknown(tokens);
    });
}

#[test]
fn wrong_tokens_never_show_up_as_usage() {
    on_targets(|target| {
        let (prefix, locator, secret) = parts(&target.theirs);
        let wrong = token(prefix, locator, &secret.chars().rev().collect::<String>());
        let key = target.keys.find(keyrota::Evidence::Token(&target.theirs)).unwrap().unwrap().0;
        for _ in 0..100 {
            assert!(target.validator.validate(&wrong).is_err());
            assert!(target.validator.validate(token("acme_live", locator, secret)).is_err());
        }
        target.validator.flush().unwrap();
        let mut counted = 0;
        target.store.usage(&UsageQuery::of_key(&key.to_string()), &mut |_, _| counted += 1).unwrap();
        assert_eq!((counted, target.keys.last_used(key).unwrap()), (0, None));
        assert_eq!(target.keys.find(keyrota::Evidence::Token(&wrong)).unwrap(), None);
    });
}

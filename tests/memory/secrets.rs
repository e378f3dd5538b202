//! The secrets of a story: what is looked for of them, and how the test keeps them without being found itself.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use keyrota::SecretToken;
use ring::hkdf;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::search::Needles;

/// Bytes that are kept under a mask, so that the search does not find this copy.
pub(crate) struct Masked {
    bytes: Vec<u8>,
    mask: Vec<u8>,
}

impl Masked {
    pub(crate) fn of(secret: &[u8]) -> Self {
        let mut mask = vec![0; secret.len()];
        SystemRandom::new().fill(&mut mask).unwrap();
        let mut bytes = Vec::with_capacity(secret.len());
        bytes.extend(secret.iter().zip(&mask).map(|(byte, mask)| byte ^ mask));
        Self { bytes, mask }
    }

    /// The bytes, for a moment.
    pub(crate) fn bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(self.bytes.len()));
        plain.extend(self.bytes.iter().zip(&self.mask).map(|(byte, mask)| byte ^ mask));
        plain
    }

    pub(crate) fn with_text<T>(&self, with: impl FnOnce(&str) -> T) -> T {
        with(str::from_utf8(&self.bytes()).unwrap())
    }
}

/// Enters a token and keeps it under a mask; what the library returned goes.
pub(crate) fn take(needles: &mut Needles, token: SecretToken) -> Masked {
    let text = token.expose();
    // The 43 characters of the secret and the 6 of the checksum; what stands before them is public.
    needles.add("a token", &text.as_bytes()[text.len() - 49..]);
    Masked::of(text.as_bytes())
}

/// A fresh master key under a mask. Nothing is allocated for it but what is wiped.
pub(crate) fn master() -> Masked {
    let mut bytes = Zeroizing::new([0u8; 32]);
    SystemRandom::new().fill(bytes.as_mut_slice()).unwrap();
    Masked::of(bytes.as_slice())
}

/// The forms of a master key as a host keeps it.
pub(crate) fn hex(master: &Masked) -> Zeroizing<String> {
    // Room for one more character, which a test adds.
    let mut text = Zeroizing::new(String::with_capacity(65));
    for byte in master.bytes().iter() {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap());
        }
    }
    text
}

pub(crate) fn base64(master: &Masked) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(64));
    STANDARD.encode_string(&*master.bytes(), &mut text);
    text
}

/// Enters a master key, in each form, and all that is derived from it; of this work no trace stays on the stack.
pub(crate) fn enter(needles: &mut Needles, master: &Masked) {
    #[inline(never)]
    fn wipe_stack() {
        std::hint::black_box(&mut [0u8; 128 * 1024]);
    }
    enter_on_stack(needles, master);
    wipe_stack();
}

#[inline(never)]
fn enter_on_stack(needles: &mut Needles, master: &Masked) {
    needles.add("the bytes of a master key", &master.bytes());
    needles.add("a master key in hexadecimal", hex(master).as_bytes());
    needles.add("a master key in base64", base64(master).as_bytes());
    let mut for_urls = Zeroizing::new(String::with_capacity(64));
    URL_SAFE_NO_PAD.encode_string(&*master.bytes(), &mut for_urls);
    needles.add("a master key in base64", for_urls.as_bytes());

    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"keyrota v1").extract(&master.bytes());
    let derived = |purpose: &[u8]| {
        let mut key = Zeroizing::new([0u8; 32]);
        prk.expand(&[purpose], hkdf::HKDF_SHA256).unwrap().fill(key.as_mut_slice()).unwrap();
        key
    };
    needles.add("a derived key for sealing", derived(b"seal").as_slice());
    for purpose in [&b"digest"[..], b"row", b"audit"] {
        let key = derived(purpose);
        needles.add("a derived key for MACs", key.as_slice());
        for pad in [0x36, 0x5C] {
            needles.add("a prepared key for MACs", prepared(&key, pad).as_slice());
        }
    }
}

/// What HMAC-SHA256 keeps of a key: the state after the padded key's block (RFC 2104, FIPS 180-4). Whoever has it needs
/// the key no more.
fn prepared(key: &[u8; 32], pad: u8) -> Zeroizing<[u8; 32]> {
    let mut block = Zeroizing::new([pad; 64]);
    block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    let mut w = Zeroizing::new([0u32; 64]);
    for (word, bytes) in w.iter_mut().zip(block.chunks_exact(4)) {
        *word = u32::from_be_bytes(bytes.try_into().unwrap());
    }
    for i in 16..64 {
        let s0 = w[i - 15].rotate_right(7) ^ w[i - 15].rotate_right(18) ^ (w[i - 15] >> 3);
        let s1 = w[i - 2].rotate_right(17) ^ w[i - 2].rotate_right(19) ^ (w[i - 2] >> 10);
        w[i] = w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1);
    }
    let (constants, first) = (roots(64, 3), roots(8, 2));
    let mut state: [u32; 8] = first.clone().try_into().unwrap();
    for i in 0..64 {
        let [a, b, c, d, e, f, g, h] = state;
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let one = h.wrapping_add(s1).wrapping_add(choice).wrapping_add(constants[i]).wrapping_add(w[i]);
        let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let two = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
        state = [one.wrapping_add(two), a, b, c, d.wrapping_add(one), e, f, g];
    }
    let mut out = Zeroizing::new([0u8; 32]);
    for ((bytes, word), first) in out.chunks_exact_mut(4).zip(state).zip(first) {
        bytes.copy_from_slice(&word.wrapping_add(first).to_ne_bytes());
    }
    out
}

/// The first 32 bits of the fractional parts of the square or cube roots of the first primes.
fn roots(count: usize, degree: u32) -> Vec<u32> {
    let primes = (2u128..).filter(|n| (2..*n).all(|divisor| n % divisor != 0)).take(count);
    let root = |prime: u128| {
        // The largest x with (x / 2^32)^degree <= prime.
        let target = prime << (32 * degree);
        (0..36).rev().fold(0u128, |x, bit| {
            let next = x | 1 << bit;
            if next.pow(degree) <= target { next } else { x }
        }) as u32
    };
    primes.map(root).collect()
}

#[test]
fn the_constants_are_those_of_the_standard() {
    assert_eq!(roots(2, 2), [0x6a09_e667, 0xbb67_ae85]);
    assert_eq!(roots(64, 3)[63], 0xc671_78f2);
}

//! The encodings of the wire: base62 (`0-9A-Za-z`), hexadecimal and the CRC-32 checksum.

/// The base62 alphabet in ASCII order, so that encoded text of one width sorts as the number does.
pub(crate) const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The base62 digit with this value; values above 61 wrap.
pub(crate) fn base62_digit(value: u8) -> u8 {
    BASE62.get(usize::from(value % 62)).copied().unwrap_or(b'0')
}

/// `value` in base62, left-padded with `0` to `N` characters; higher digits are dropped.
pub(crate) fn base62_fixed<const N: usize>(mut value: u128) -> [u8; N] {
    // Ten digits at a time, which fit 64 bits: a division of 128 bits is a call, and ids are told by the thousand.
    const TEN: u128 = 62_u128.pow(10);
    let mut out = [b'0'; N];
    for slots in out.rchunks_mut(10) {
        let mut ten = (value % TEN) as u64;
        value /= TEN;
        for slot in slots.iter_mut().rev() {
            *slot = base62_digit((ten % 62) as u8);
            ten /= 62;
        }
    }
    out
}

/// The number behind base62 text; `None` on a foreign character or when it does not fit.
pub(crate) fn base62_value(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0u128, |value, &byte| {
        let digit = BASE62.binary_search(&byte).ok()?;
        value.checked_mul(62)?.checked_add(digit as u128)
    })
}

/// Whether all bytes are base62 characters.
#[inline]
pub(crate) fn is_base62(text: &[u8]) -> bool {
    // Without leaving early, so that many bytes are looked at together; the last of them twice, if need be.
    let is = |byte: &u8| ((byte | 0x20).wrapping_sub(b'a') < 26) | (byte.wrapping_sub(b'0') < 10);
    let are = |bytes: &[u8]| bytes.iter().fold(true, |all, byte| all & is(byte));
    let (blocks, rest) = text.as_chunks::<16>();
    let last = text.last_chunk::<16>();
    blocks.iter().fold(last.map_or_else(|| are(rest), |last| are(last)), |all, block| all & are(block))
}

/// The zlib CRC-32 of `data` in six base62 characters.
pub(crate) fn checksum(data: &[&[u8]]) -> [u8; 6] {
    let mut crc = crc32fast::Hasher::new();
    data.iter().for_each(|part| crc.update(part));
    // In 32 bits: a division of 128 bits is a call of some tens of nanoseconds, and each token is checked by this.
    let mut rest = crc.finalize();
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = base62_digit((rest % 62) as u8);
        rest /= 62;
    }
    digits
}

/// Whether `check`, which is [base62](is_base62), is the [`checksum`] of `data`. Read instead of written: without the
/// divisions.
#[inline]
pub(crate) fn is_checksum(check: &[u8; 6], data: &[u8]) -> bool {
    const PLACES: [u64; 6] = [916_132_832, 14_776_336, 238_328, 3_844, 62, 1];
    let digit = |byte: u8| byte.wrapping_sub(b'0' + 7 * u8::from(byte >= b'A') + 6 * u8::from(byte >= b'a'));
    let value = check.iter().zip(PLACES).map(|(byte, place)| u64::from(digit(*byte)) * place).sum::<u64>();
    value == u64::from(crc32fast::hash(data))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
        text
    })
}

/// `N` bytes from exactly `2 * N` hexadecimal characters of either case.
pub(crate) fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != N * 2 {
        return None;
    }
    let mut out = [0; N];
    for (slot, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *slot = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(out)
}

/// Serde form of byte arrays: lower-case hexadecimal text.
pub(crate) mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&super::hex(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(d: D) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(d)?;
        super::unhex(text.as_bytes()).ok_or_else(|| D::Error::custom("not hexadecimal of the right length"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_zlib_crc_32_in_base62() {
        // The check value of CRC-32/ISO-HDLC is 0xCBF43926 = 3421780262.
        let mut value = 3_421_780_262u128;
        let mut expected = [b'0'; 6];
        for slot in expected.iter_mut().rev() {
            *slot = BASE62[(value % 62) as usize];
            value /= 62;
        }
        assert_eq!(checksum(&[b"123456789"]), expected);
        assert_eq!(checksum(&[b"1234", b"56789"]), expected);
        assert_eq!(checksum(&[]), *b"000000");
    }

    #[test]
    fn the_one_checksum_of_a_text_is_told_from_all_others() {
        for n in 0..2_000_u32 {
            let data = n.wrapping_mul(2_654_435_761).to_le_bytes();
            let check = checksum(&[&data]);
            assert!(is_checksum(&check, &data));
            for at in 0..check.len() {
                for other in BASE62.iter().filter(|other| **other != check[at]) {
                    let mut wrong = check;
                    wrong[at] = *other;
                    assert!(!is_checksum(&wrong, &data), "{wrong:?} for {check:?}");
                }
            }
        }
    }

    #[test]
    fn a_byte_that_is_no_base62_character_is_noticed_wherever_it_stands() {
        for length in [1, 12, 15, 16, 17, 61, 64] {
            let mut text = vec![b'Z'; length];
            for at in 0..length {
                for byte in 0..=255_u8 {
                    text[at] = byte;
                    assert_eq!(is_base62(&text), byte.is_ascii_alphanumeric(), "{byte} at {at} of {length}");
                }
                text[at] = b'0';
            }
        }
        assert!(is_base62(b""));
    }

    #[test]
    fn base62_of_one_width_sorts_as_the_number_and_reads_back() {
        let (small, large) = (base62_fixed::<22>(u128::MAX - 1), base62_fixed::<22>(u128::MAX));
        assert!(small < large);
        assert_eq!(base62_value(&large), Some(u128::MAX));
        assert_eq!(base62_value(b"zzzzzzzzzzzzzzzzzzzzzz"), None, "more than 128 bits");
        assert_eq!(base62_value(b"a_b"), None);
    }

    #[test]
    fn hexadecimal_reads_back_in_both_cases_and_refuses_the_rest() {
        assert_eq!(unhex::<3>(b"00fFa1"), Some([0, 255, 161]));
        assert_eq!(hex(&[0, 255, 161]), "00ffa1");
        assert_eq!(unhex::<3>(b"00fFa"), None);
        assert_eq!(unhex::<1>(b"0g"), None);
        assert_eq!(unhex::<1>("é".as_bytes()), None);
    }
}

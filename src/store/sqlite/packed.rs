//! The packed form of usage entries: what one row of `usage_batch` holds.
//!
//! Format 1 is the entries one after the other, each of them: the length of the key's id and its bytes; the version; the
//! grants; the microseconds of the last grant and one more, or 0 where there was none; a set of the reasons for denials,
//! the first of [`CountedReason::ALL`] as its lowest bit; and for each of these how often. All numbers are LEB128: seven
//! bits a byte, the lowest first, the highest bit set in all but the last.

use std::borrow::Cow;

use crate::store::{CountedReason, UsageCounts, UsageEntry};
use crate::time::Timestamp;

/// The format that is written, and the only one that is read. Another one comes with another schema.
pub(super) const FORMAT: i64 = 1;

/// An entry as it is read: its key is not yet a text of its own.
pub(super) struct Unpacked<'a> {
    pub(super) key: &'a [u8],
    pub(super) version: u32,
    pub(super) counts: UsageCounts,
}

impl Unpacked<'_> {
    pub(super) fn key(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.key)
    }
}

fn put(body: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        body.push(number as u8 | 0x80);
        number >>= 7;
    }
    body.push(number as u8);
}

pub(super) fn pack(entries: &[UsageEntry]) -> Vec<u8> {
    let mut body = Vec::with_capacity(entries.len() * 48);
    for UsageEntry { key, version, counts } in entries {
        put(&mut body, key.len() as u64);
        body.extend_from_slice(key.as_bytes());
        put(&mut body, (*version).into());
        put(&mut body, counts.allowed);
        put(&mut body, counts.last_used.map_or(0, |time| time.unix_micros().unsigned_abs() + 1));
        put(&mut body, counts.denied.iter().fold(0, |set, (reason, _)| set | 1 << reason as u32));
        counts.denied.iter().for_each(|(_, count)| put(&mut body, count));
    }
    body
}

/// The entries up to the end, or up to where somebody has damaged the body.
pub(super) fn unpack(body: &[u8]) -> impl Iterator<Item = Unpacked<'_>> {
    let mut rest = body;
    std::iter::from_fn(move || entry(&mut rest))
}

fn entry<'a>(rest: &mut &'a [u8]) -> Option<Unpacked<'a>> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (key, after) = rest.split_at_checked(length)?;
    *rest = after;
    let version = u32::try_from(number(rest)?).ok()?;
    let mut counts = UsageCounts { allowed: number(rest)?, ..UsageCounts::default() };
    if let Some(micros) = number(rest)?.checked_sub(1) {
        counts.last_used = Timestamp::from_unix_micros(i64::try_from(micros).ok()?).ok();
    }
    let set = number(rest)?;
    for reason in CountedReason::ALL.into_iter().filter(|reason| set >> *reason as u32 & 1 == 1) {
        counts.denied.add(reason, number(rest)?);
    }
    (set >> CountedReason::ALL.len() == 0).then_some(Unpacked { key, version, counts })
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        let bits = u64::from(byte & 0x7F);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<UsageEntry> {
        let mut all = vec![UsageEntry::new(String::new(), 0), UsageEntry::new("k".repeat(300), u32::MAX)];
        let counts = &mut all[1].counts;
        (counts.allowed, counts.last_used) = (i64::MAX as u64, Some(Timestamp::MAX));
        CountedReason::ALL
            .into_iter()
            .zip([1, 127, 128, 16_384])
            .for_each(|(reason, n)| counts.denied.add(reason, n));
        counts.denied.add(CountedReason::Quota, i64::MAX as u64);
        let mut third = UsageEntry::new("key \u{1F511}".to_owned(), 3);
        (third.counts.allowed, third.counts.last_used) = (128, Some(Timestamp::MIN));
        all.push(third);
        all
    }

    fn unpacked(body: &[u8]) -> Vec<UsageEntry> {
        let entry = |entry: Unpacked<'_>| UsageEntry {
            key: entry.key().into_owned(),
            version: entry.version,
            counts: entry.counts,
        };
        unpack(body).map(entry).collect()
    }

    #[test]
    fn what_was_packed_comes_out_again() {
        assert_eq!(unpacked(&pack(&entries())), entries());
        assert_eq!(unpacked(&[]), []);
    }

    #[test]
    fn a_damaged_body_tells_what_stands_before_the_damage_and_comes_to_an_end() {
        let body = pack(&entries());
        for length in 0..body.len() {
            let told = unpacked(&body[..length]);
            assert!(told.len() < 3 && entries().starts_with(&told), "cut at {length}");
        }
        for at in 0..body.len() {
            for bit in 0..8 {
                let mut edited = body.clone();
                edited[at] ^= 1 << bit;
                assert!(unpacked(&edited).len() <= body.len());
            }
        }
        assert!(unpacked(&[0xFF; 64]).is_empty(), "a number that does not end");
        assert!(unpacked(&[0, 1, 0, 0, 0x80, 0x40]).is_empty(), "a reason that there is not");
    }
}

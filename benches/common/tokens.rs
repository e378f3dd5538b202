//! Many tokens in one buffer, so that a benchmark's own data stays out of the way, and forged ones beside them.

/// `key_`, locator, secret, checksum.
pub(crate) const LENGTH: usize = 4 + COVERED + 6;
pub(crate) const COVERED: usize = 12 + 43;
pub(crate) const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Tokens of one length, one behind the other.
#[derive(Clone, Default)]
pub(crate) struct Tokens(Vec<u8>);

/// Numbers that look random and are the same in each run.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }
}

/// The last six characters of a token with these characters before them.
pub(crate) fn checksum(covered: &[u8]) -> [u8; 6] {
    let mut rest = crc32fast::hash(covered);
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits
}

impl Tokens {
    pub(crate) fn len(&self) -> usize {
        self.0.len() / LENGTH
    }

    pub(crate) fn push(&mut self, token: &[u8]) {
        assert_eq!(token.len(), LENGTH);
        self.0.extend_from_slice(token);
    }

    pub(crate) fn append(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Gives back what it was given too much room.
    pub(crate) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    /// The token for a call: one after the other, from the beginning again behind the last.
    #[inline]
    pub(crate) fn at(&self, call: usize) -> &[u8] {
        let from = (call % self.len()) * LENGTH;
        &self.0[from..from + LENGTH]
    }

    /// What of the token is hashed.
    #[inline]
    pub(crate) fn covered(&self, call: usize) -> &[u8] {
        &self.at(call)[4..4 + COVERED]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.chunks_exact(LENGTH)
    }

    /// At most so many of them, in random order: who reads them in turn meets the keys at random, while the tokens
    /// themselves come in a row, as they come with a request.
    pub(crate) fn shuffled(&self, most: usize, chance: &mut Chance) -> Self {
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        let mut shuffled = Self::default();
        for at in 0..order.len().min(most) {
            let other = at + chance.below(order.len() - at);
            order.swap(at, other);
            shuffled.push(self.at(order[at] as usize));
        }
        shuffled
    }

    /// The same, each changed; with a right checksum again if wanted.
    pub(crate) fn forged(&self, is_checked: bool, mut forge: impl FnMut(&mut [u8])) -> Self {
        let mut forged = self.clone();
        for token in forged.0.chunks_exact_mut(LENGTH) {
            forge(token);
            if is_checked {
                let check = checksum(&token[4..4 + COVERED]);
                token[4 + COVERED..].copy_from_slice(&check);
            }
        }
        forged
    }

    /// With right locators and wrong secrets.
    pub(crate) fn with_wrong_secrets(&self) -> Self {
        self.forged(true, |token| token[4 + 54] = if token[4 + 54] == b'x' { b'y' } else { b'x' })
    }

    /// So many tokens that nobody has issued.
    pub(crate) fn unknown(count: usize, chance: &mut Chance) -> Self {
        let blank = Self([b"key_".as_slice(), &[b'0'; LENGTH - 4]].concat().repeat(count));
        blank.forged(true, |token| token[4..].fill_with(|| BASE62[chance.below(62)]))
    }

    /// With a character that no token has.
    pub(crate) fn malformed(&self) -> Self {
        self.forged(false, |token| token[40] = b'-')
    }

    /// With a character mistyped.
    pub(crate) fn mistyped(&self) -> Self {
        self.forged(false, |token| token[40] = if token[40] == b'x' { b'y' } else { b'x' })
    }

    /// With a prefix that belongs to other keys.
    pub(crate) fn with_other_prefix(&self) -> Self {
        self.forged(false, |token| token[..3].copy_from_slice(b"oth"))
    }
}

//! Three keyed hashes, all from one secret seed of the institution.
//!
//! - [`Seed::digest`], 64 bits and very fast: tells a retry from another request with the same id.
//! - [`Seed::wide`], 128 bits, SipHash-2-4-128 (Aumasson and Bernstein, 2012): ids that the bank derives,
//!   and idempotency keys.
//! - [`Seed::table`], 64 bits, SipHash-1-3: where client data picks a slot of a hash table.
//!
//! The pure crates may not depend on a hash library, and a pseudo-random function of short input is all
//! that is needed here: none of these is evidence. What is evidence is hashed in `proof`.
//!
//! The seed is kept beside the data for ever: digests are journaled, so under another seed every retry
//! would look like another request.

/// 32 secret bytes from which every keyed hash of a book is derived.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    words: [u64; 4],
}

impl core::fmt::Debug for Seed {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str("Seed(secret)")
    }
}

/// Odd constants that keep a zero seed from cancelling: the first digits of √2, √3, √5 and √7.
const OFFSETS: [u64; 4] =
    [0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1];

impl Seed {
    /// From 32 bytes of true randomness, drawn once per institution.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        let mut words = OFFSETS;
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word ^= u64::from_le_bytes(*chunk);
        }
        Self { words }
    }

    /// A key for tables that are nobody else's.
    pub(crate) const fn pair(&self) -> [u64; 2] {
        let [first, second, third, fourth] = self.words;
        [first ^ second.rotate_left(32), third ^ fourth.rotate_left(32)]
    }

    /// A 64-bit digest of `bytes`. Not for evidence: it says "the same request" to one bank's own branch.
    ///
    /// Each 16 bytes are folded by one 64×64→128 multiplication with secret words on both sides.
    #[inline]
    #[must_use]
    pub fn digest(&self, bytes: &[u8]) -> u64 {
        let [first, second, third, fourth] = self.words;
        let mut state = first ^ length(bytes);
        let (chunks, rest) = bytes.as_chunks::<16>();
        for chunk in chunks {
            let (low, high) = halves(chunk);
            state = fold(low ^ second, high ^ state);
        }
        if !rest.is_empty() {
            let mut chunk = [0; 16];
            for (to, from) in chunk.iter_mut().zip(rest) {
                *to = *from;
            }
            let (low, high) = halves(&chunk);
            state = fold(low ^ third, high ^ state);
        }
        fold(state ^ fourth, third)
    }

    /// A 128-bit pseudo-random function of `bytes` for `purpose`; purposes never meet.
    #[must_use]
    pub fn wide(&self, purpose: Purpose, bytes: &[u8]) -> u128 {
        let [first, second, third, fourth] = self.words;
        let (low, high) = sip::<2, 4>(first ^ third, second ^ fourth ^ purpose.tweak(), 0xee, bytes);
        u128::from(low) | (u128::from(high) << 64)
    }

    /// A 64-bit pseudo-random function of `bytes`, for slots of tables that client data chooses.
    #[must_use]
    pub fn table(&self, bytes: &[u8]) -> u64 {
        let [first, second, third, fourth] = self.words;
        sip::<1, 3>(first ^ fourth, second ^ third, 0, bytes).0
    }
}

/// A 128-bit hash that anybody can compute: it tells things apart that come from one bank, and proves nothing.
#[must_use]
#[inline]
pub(crate) fn unkeyed(bytes: &[u8]) -> u128 {
    let [first, second, _, _] = OFFSETS;
    let (low, high) = sip::<2, 4>(first, second, 0xee, bytes);
    u128::from(low) | (u128::from(high) << 64)
}

/// What a wide hash is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Ids of transfers that the bank derives.
    TransferId,
    /// Idempotency keys of clients.
    IdempotencyKey,
    /// Idempotency keys of imports.
    ImportKey,
    /// Long references, of which the record keeps the hash.
    Reference,
}

impl Purpose {
    const fn tweak(self) -> u64 {
        match self {
            Self::TransferId => 0x0101_0101_0101_0101,
            Self::IdempotencyKey => 0x0202_0202_0202_0202,
            Self::Reference => 0x0303_0303_0303_0303,
            Self::ImportKey => 0x0404_0404_0404_0404,
        }
    }
}

#[inline]
fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length fits 64 bits")
}

#[inline]
fn halves(chunk: &[u8; 16]) -> (u64, u64) {
    split(u128::from_le_bytes(*chunk))
}

#[inline]
#[expect(clippy::as_conversions, reason = "the two halves of 128 bits; nothing is lost")]
const fn split(wide: u128) -> (u64, u64) {
    (wide as u64, (wide >> 64) as u64)
}

#[inline]
fn fold(left: u64, right: u64) -> u64 {
    let (low, high) = split(u128::from(left).wrapping_mul(u128::from(right)));
    low ^ high
}

/// SipHash with `COMPRESS` rounds a word and `FINISH` at the end; `variant` 0xee gives 128 bits, 0 gives 64.
fn sip<const COMPRESS: usize, const FINISH: usize>(
    key0: u64,
    key1: u64,
    variant: u64,
    bytes: &[u8],
) -> (u64, u64) {
    let mut state = [
        key0 ^ 0x736f_6d65_7073_6575,
        key1 ^ 0x646f_7261_6e64_6f6d ^ variant,
        key0 ^ 0x6c79_6765_6e65_7261,
        key1 ^ 0x7465_6462_7974_6573,
    ];
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        absorb::<COMPRESS>(&mut state, u64::from_le_bytes(*chunk));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    absorb::<COMPRESS>(&mut state, u64::from_le_bytes(last) | (length(bytes) << 56));
    let wide = variant != 0;
    state[2] ^= if wide { 0xee } else { 0xff };
    let low = squeeze::<FINISH>(&mut state);
    if !wide {
        return (low, 0);
    }
    state[1] ^= 0xdd;
    (low, squeeze::<FINISH>(&mut state))
}

fn absorb<const ROUNDS: usize>(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    for _ in 0..ROUNDS {
        round(state);
    }
    state[0] ^= word;
}

fn squeeze<const ROUNDS: usize>(state: &mut [u64; 4]) -> u64 {
    for _ in 0..ROUNDS {
        round(state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

fn round(state: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *state = [a, b, c, d];
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use core::hash::Hasher;

    const fn key() -> (u64, u64) {
        (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908)
    }

    #[test]
    fn siphash_2_4_is_that_of_its_paper() {
        // Appendix A of the paper: key 00…0f, message 00…0e.
        let (key0, key1) = key();
        let message: std::vec::Vec<u8> = (0..15).collect();
        assert_eq!(sip::<2, 4>(key0, key1, 0, &message).0, 0xa129_ca61_49be_45e5);
        assert_eq!(sip::<2, 4>(key0, key1, 0, &[]).0, 0x726f_db47_dd0e_0e31);
    }

    #[test]
    fn siphash_128_of_nothing_is_the_published_vector() {
        let (key0, key1) = key();
        let (low, high) = sip::<2, 4>(key0, key1, 0xee, &[]);
        assert_eq!(low.to_le_bytes(), [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6]);
        assert_eq!(high.to_le_bytes(), [0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93]);
    }

    #[test]
    fn siphash_1_3_agrees_with_the_standard_library() {
        for length in 0..40_u8 {
            let message: std::vec::Vec<u8> = (0..length).collect();
            let mut theirs = std::hash::DefaultHasher::new();
            theirs.write(&message);
            assert_eq!(sip::<1, 3>(0, 0, 0, &message).0, theirs.finish(), "length {length}");
        }
    }

    #[test]
    fn digests_see_every_bit_and_the_seed() {
        let seed = Seed::new([7; 32]);
        for length in [1_usize, 15, 16, 17, 96, 112] {
            let base = std::vec![0_u8; length];
            let mut seen = std::collections::BTreeSet::from([seed.digest(&base)]);
            for bit in 0..length * 8 {
                let mut changed = base.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(seen.insert(seed.digest(&changed)), "bit {bit} of {length} bytes is not seen");
            }
            assert_ne!(seed.digest(&base), Seed::new([8; 32]).digest(&base));
        }
        assert_ne!(seed.digest(&[0; 16]), seed.digest(&[0; 32]));
    }

    #[test]
    fn purposes_do_not_meet() {
        let seed = Seed::new([1; 32]);
        let purposes = [Purpose::TransferId, Purpose::IdempotencyKey, Purpose::ImportKey, Purpose::Reference];
        let hashes = purposes.map(|purpose| seed.wide(purpose, b"x"));
        assert_eq!(std::collections::BTreeSet::from(hashes).len(), purposes.len());
    }
}

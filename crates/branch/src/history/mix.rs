//! Fast 64-bit mixing, by folded 64×64→128 multiplication (the idea of wyhash and its kin).
//!
//! It spreads client-chosen ids under a secret seed and tells a flipped bit in a side file. It is no
//! cryptographic hash: what an outsider must not forge is hashed by `proof`.

const ODD: [u64; 4] =
    [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];

fn fold(left: u64, right: u64) -> u64 {
    let wide = u128::from(left) * u128::from(right);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// A secret seed, so that nobody outside can choose values that meet in one bucket.
#[derive(Clone, Copy)]
pub(crate) struct Seed(u64, u64);

impl Seed {
    /// From sixteen secret bytes.
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        let whole = u128::from_le_bytes(secret);
        Self((whole as u64) ^ ODD[0], ((whole >> 64) as u64) ^ ODD[1])
    }

    /// Spreads 128 bits over 64.
    #[inline]
    pub(crate) fn hash(self, value: u128) -> u64 {
        let once = fold((value as u64) ^ self.0, ((value >> 64) as u64) ^ self.1);
        fold(once ^ ODD[2], self.1 ^ ODD[3])
    }
}

/// The checksum of block `index` of a side file: notices flipped bits and blocks in the wrong place.
pub(crate) fn checksum(index: u64, payload: &[u8]) -> u64 {
    let mut lanes = [index ^ ODD[0], index ^ ODD[1], index ^ ODD[2], index ^ ODD[3]];
    let mut chunks = payload.chunks_exact(64);
    for chunk in &mut chunks {
        for (lane, pair) in lanes.iter_mut().zip(chunk.chunks_exact(16)) {
            let (left, right) = (word(&pair[..8]), word(&pair[8..]));
            *lane = fold(*lane ^ left, right ^ ODD[3]).wrapping_add(left.rotate_left(32) ^ right);
        }
    }
    for rest in chunks.remainder().chunks(8) {
        lanes[0] = fold(lanes[0] ^ word(rest), ODD[2]).wrapping_add(word(rest));
    }
    fold(fold(lanes[0] ^ ODD[1], lanes[1]) ^ ODD[2], fold(lanes[2] ^ ODD[0], lanes[3]) ^ ODD[3])
}

fn word(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_moved_block_is_noticed() {
        let payload: Vec<u8> = (0..4088_u32).map(|byte| (byte * 7) as u8).collect();
        let right = checksum(3, &payload);
        assert_ne!(right, checksum(4, &payload), "another place");
        let mut flipped = payload;
        for bit in 0..flipped.len() * 8 {
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(right, checksum(3, &flipped), "bit {bit}");
            flipped[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn seeds_differ() {
        let (one, two) = (Seed::new([1; 16]), Seed::new([2; 16]));
        assert_ne!(one.hash(7), two.hash(7));
        assert_ne!(one.hash(7), one.hash(8));
        assert_ne!(one.hash(7), one.hash(7 << 64));
    }
}

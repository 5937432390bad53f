//! A blocked Bloom filter: one cache line answers "surely not here".
//!
//! A key sets one bit in each of the eight words of one block of 64 bytes (the split block filter of
//! Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", in Parquet's layout
//! with wider words). At 20 bits a key about one absent key in three thousand is let through.

use std::sync::atomic::{AtomicU64, Ordering};

const BITS_PER_KEY: usize = 20;
const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

#[derive(Default)]
#[repr(align(64))]
struct Block([AtomicU64; 8]);

/// Says of a hash whether it may have been added.
pub(super) struct Filter {
    blocks: Vec<Block>,
}

impl Filter {
    /// An empty filter with room for `keys`.
    pub(super) fn for_keys(keys: usize) -> Self {
        let blocks = (keys * BITS_PER_KEY).div_ceil(512).max(1);
        Self { blocks: std::iter::repeat_with(Block::default).take(blocks).collect() }
    }

    fn block(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.blocks.len() as u128) >> 64) as usize
    }

    fn bit(hash: u64, word: usize) -> u64 {
        // The lowest 16 bits of a hash are not kept in run files, so the bits come from those above.
        1 << (((hash >> 16) as u32).wrapping_mul(SALTS[word]) >> 26)
    }

    /// Adds a hash; only its top 48 bits count. One thread adds at a time, any may ask meanwhile.
    pub(super) fn add(&self, hash: u64) {
        let block = &self.blocks[self.block(hash >> 16 << 16)];
        for (word, bits) in block.0.iter().enumerate() {
            // No other thread writes, so nothing is lost between load and store.
            bits.store(bits.load(Ordering::Relaxed) | Self::bit(hash, word), Ordering::Relaxed);
        }
    }

    /// Whether a hash may have been added; `false` is certain.
    #[inline]
    pub(super) fn may_have(&self, hash: u64) -> bool {
        let block = &self.blocks[self.block(hash >> 16 << 16)];
        block
            .0
            .iter()
            .enumerate()
            .all(|(word, bits)| bits.load(Ordering::Relaxed) & Self::bit(hash, word) != 0)
    }

    /// Touches the line a later [`Filter::may_have`] will need.
    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u64 {
        self.blocks[self.block(hash >> 16 << 16)].0[0].load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> usize {
        self.blocks.len() * size_of::<Block>()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.bytes());
        for word in self.blocks.iter().flat_map(|block| &block.0) {
            bytes.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let block = |bytes: &[u8]| {
            let block = Block::default();
            for (into, from) in block.0.iter().zip(bytes.chunks_exact(8)) {
                into.store(word(from), Ordering::Relaxed);
            }
            block
        };
        Self { blocks: bytes.chunks_exact(64).map(block).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::mix::Seed;

    #[test]
    fn it_never_denies_what_was_added_and_rarely_grants_what_was_not() {
        let seed = Seed::new([9; 16]);
        let filter = Filter::for_keys(100_000);
        (0..100_000_u128).for_each(|key| filter.add(seed.hash(key)));
        let filter = Filter::decode(&filter.encode());
        assert!((0..100_000_u128).all(|key| filter.may_have(seed.hash(key))));
        let granted = (100_000..1_100_000_u128).filter(|key| filter.may_have(seed.hash(*key))).count();
        assert!(granted < 1_000, "{granted} of a million strangers let through");
    }
}

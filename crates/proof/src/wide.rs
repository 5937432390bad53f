//! Many keyed hashes of equal length at once, in the widest vectors the processor has.
//!
//! BLAKE3 computes 4 to 16 chunks side by side when it is given one long input; for many short
//! inputs its plain API computes one after another. `Platform::hash_many` is the entry point
//! beneath, and takes what a chunk is made of: key words, counter and flags (BLAKE3 paper, section
//! 2). It is public but not covered by semver, hence the pinned version, and the property test that
//! compares it with the plain API.

use blake3::IncrementCounter;
use blake3::platform::Platform;

use crate::Hash;
use crate::domain::Key;

// The flags of the BLAKE3 paper, table 3.
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 1 << 1;
const ROOT: u8 = 1 << 3;
const KEYED_HASH: u8 = 1 << 4;

/// Inputs handed over in one call: a multiple of the widest vectors, small enough for the stack.
pub(crate) const GROUP: usize = 32;

/// A key prepared for many hashes.
pub(crate) struct Wide {
    platform: Platform,
    key: [u32; 8],
}

impl Wide {
    pub(crate) fn new(key: &Key) -> Self {
        let (words, _) = key.as_chunks::<4>();
        let mut key = [0; 8];
        for (word, bytes) in key.iter_mut().zip(words) {
            *word = u32::from_le_bytes(*bytes);
        }
        Self { platform: Platform::detect(), key }
    }

    /// `out[i] = keyed_hash(key, inputs[i])` for as many as there are inputs.
    ///
    /// `N` is a multiple of 64 up to 1024: whole blocks of one chunk.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than `inputs`.
    pub(crate) fn hash<const N: usize>(&self, inputs: &[&[u8; N]], out: &mut [Hash]) {
        const { assert!(N > 0 && N <= 1024 && N.is_multiple_of(64), "inputs are whole blocks of one chunk") };
        assert!(out.len() >= inputs.len(), "a place for every hash");
        self.platform.hash_many(
            inputs,
            &self.key,
            0,
            IncrementCounter::No,
            KEYED_HASH,
            CHUNK_START,
            CHUNK_END | ROOT,
            out.as_flattened_mut(),
        );
    }
}

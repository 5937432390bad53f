//! Numbers that look random, and UUIDv7s made of them: a few nanoseconds each, the same from the same seed.
//!
//! For load only. Ids and keys of real customers come from the operating system.

/// SplitMix64 (Steele, Lea, Flood 2014): one addition, two multiplications.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, by multiplication; the bias is below 2⁻³² and does not matter here.
    #[inline]
    pub(super) const fn below(&mut self, bound: u32) -> u32 {
        scale(self.next() >> 32, bound)
    }

    /// A UUIDv7 (RFC 9562, 5.7) of the millisecond `millis`: 74 random bits from one draw and a half.
    #[inline]
    pub(super) const fn uuid7(&mut self, millis: u64) -> u128 {
        let low = self.next();
        let twelve = (self.0 >> 20) & 0xfff;
        let high = millis << 16 | 7 << 12 | twelve;
        (high as u128) << 64 | (low & (u64::MAX >> 2) | 1 << 63) as u128
    }
}

/// `bits`, of which there are 32, scaled to `0..bound`.
#[inline]
pub(super) const fn scale(bits: u64, bound: u32) -> u32 {
    (((bits & 0xffff_ffff) * bound as u64) >> 32) as u32
}

/// Milliseconds since 1970.
pub(super) fn now_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_version_7_of_their_millisecond_and_do_not_repeat() {
        let mut random = Random::new(7);
        let mut seen = HashSet::new();
        for _ in 0..100_000 {
            let id = random.uuid7(0x0192_3456_789a);
            assert_eq!(((id >> 76) & 0xf, (id >> 62) & 3, id >> 80), (7, 2, 0x0192_3456_789a));
            assert!(seen.insert(id));
        }
    }

    #[test]
    fn below_reaches_every_number_and_none_beyond() {
        let mut random = Random::new(1);
        let mut counts = [0; 7];
        for _ in 0..70_000 {
            counts[random.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}

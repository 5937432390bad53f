//! Numbers in as few bytes as they need: seven bits a byte, least first (LEB128), and signed ones by zigzag.

/// Appends `value`.
#[inline]
pub(crate) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Appends `value`.
#[inline]
pub(crate) fn put_wide(bytes: &mut Vec<u8>, mut value: u128) {
    if let Ok(value) = u64::try_from(value) {
        return put(bytes, value);
    }
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Appends a signed `value`.
pub(crate) fn put_signed(bytes: &mut Vec<u8>, value: i64) {
    put(bytes, ((value << 1) ^ (value >> 63)) as u64);
}

/// Reads numbers from the front of bytes; `None` where they end too early or a number is too large.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Option<u64> {
        u64::try_from(self.take_wide()?).ok()
    }

    pub(crate) fn take_u32(&mut self) -> Option<u32> {
        u32::try_from(self.take()?).ok()
    }

    #[inline]
    pub(crate) fn take_wide(&mut self) -> Option<u128> {
        // Most numbers are of one or two bytes.
        if let Some([byte @ 0..0x80, ..]) = self.bytes.get(self.at..) {
            self.at += 1;
            return Some(u128::from(*byte));
        }
        let mut value = 0_u128;
        for shift in (0..128).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u128::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    pub(crate) fn take_signed(&mut self) -> Option<i64> {
        let value = self.take()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn skip(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(bytes)?;
        let skipped = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_is_taken(plain: u64, wide: u128, signed: i64) {
            let mut bytes = Vec::new();
            put(&mut bytes, plain);
            put_wide(&mut bytes, wide);
            put_signed(&mut bytes, signed);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.take(), Some(plain));
            prop_assert_eq!(reader.take_wide(), Some(wide));
            prop_assert_eq!(reader.take_signed(), Some(signed));
            prop_assert_eq!(reader.take(), None);
        }
    }
}

//! Packed transfers as they travel: 96 bytes each, little-endian, and 32-byte results (docs/api.md).

/// The media type of a packed batch.
pub const MEDIA_TYPE: &str = "application/vnd.skerry.transfers";
/// Bytes of one packed transfer.
pub const TRANSFER_BYTES: usize = 96;
/// Bytes of one result.
pub const RESULT_BYTES: usize = 32;

/// The flag of a pending transfer.
pub const PENDING: u32 = 1 << 1;

/// The fields of a packed transfer that a loader sets; the others are zero.
#[derive(Debug, Clone, Copy, Default)]
pub struct Packed {
    /// A UUIDv7.
    pub id: u128,
    /// Account reference: branch · 2⁴⁸ + serial.
    pub debit: u64,
    /// Account reference.
    pub credit: u64,
    /// Minor units.
    pub amount: u64,
    /// The client's classification.
    pub code: u16,
    /// Flags as docs/api.md lists them.
    pub flags: u32,
    /// Seconds until a pending transfer expires.
    pub timeout_seconds: u32,
}

impl Packed {
    /// Appends the 96 bytes to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut bytes = [0; TRANSFER_BYTES];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.id.to_le_bytes());
        put(16, &self.debit.to_le_bytes());
        put(24, &self.credit.to_le_bytes());
        put(32, &self.amount.to_le_bytes());
        put(42, &self.code.to_le_bytes());
        put(44, &self.flags.to_le_bytes());
        put(80, &self.timeout_seconds.to_le_bytes());
        out.extend_from_slice(&bytes);
    }
}

/// The code of each result: 0 is accepted, 1 accepted and on its way to another branch.
pub fn codes(results: &[u8]) -> impl Iterator<Item = u16> {
    results.chunks_exact(RESULT_BYTES).map(|result| u16::from_le_bytes([result[0], result[1]]))
}

/// The reference of the customer account with this 16-digit number; `None` if it is not one.
#[must_use]
pub fn account_reference(number: &str) -> Option<u64> {
    let digits: u64 = number.parse().ok().filter(|_| number.len() == 16)?;
    if digits % 97 != 1 {
        return None;
    }
    let (branch, serial) = (digits / 1_000_000_000_000, digits / 100 % 10_000_000_000);
    Some(branch << 48 | serial)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_96_bytes_with_its_fields_where_the_document_says() {
        let mut out = Vec::new();
        Packed { id: 1, debit: 2, credit: 3, amount: 4, code: 5, flags: 6, timeout_seconds: 7 }
            .write(&mut out);
        assert_eq!(out.len(), TRANSFER_BYTES);
        assert_eq!((out[0], out[16], out[24], out[32], out[42], out[44], out[80]), (1, 2, 3, 4, 5, 6, 7));
        assert_eq!(out.iter().map(|byte| u32::from(*byte)).sum::<u32>(), 28);
    }

    #[test]
    fn an_account_number_with_a_wrong_digit_has_no_reference() {
        let check = 98 - (10_000_000_001_u64 * 100) % 97;
        let number = format!("{:014}{check:02}", 10_000_000_001_u64);
        assert_eq!(account_reference(&number), Some(1 << 48 | 1));
        assert_eq!(account_reference(&format!("1{}", &number[1..])), None);
        assert_eq!(account_reference("12"), None);
    }
}

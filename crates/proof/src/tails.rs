//! The tails area of a batch: the variable parts of those records that have one.
//!
//! ```text
//! empty, or:
//! count u32 │ (record index u32, end offset u32) · count │ bytes
//! ```
//!
//! Indexes rise; offsets count from the beginning of the bytes, each tail begins where the one
//! before ends, and the last ends with the area. A batch without tails has an area of no bytes.

use alloc::vec::Vec;

const ENTRY: usize = 8;

/// A checked view of a tails area.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tails<'a> {
    directory: &'a [[u8; ENTRY]],
    bytes: &'a [u8],
}

/// Why bytes are not a tails area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TailError {
    /// The directory is longer than the area, or states no tails.
    #[error("the directory of tails does not fit its area")]
    Directory,
    /// Record indexes that do not rise or go beyond the batch.
    #[error("tail {0} belongs to no record, or is out of order")]
    Index(u32),
    /// Offsets that run backwards or beyond the area, or leave bytes over.
    #[error("the bytes of tail {0} lie outside the area")]
    Offset(u32),
}

impl<'a> Tails<'a> {
    /// Checks and views an area.
    ///
    /// # Errors
    ///
    /// [`TailError`]; the numbers count tails, not records.
    pub fn parse(area: &'a [u8], record_count: u32) -> Result<Self, TailError> {
        if area.is_empty() {
            return Ok(Self::default());
        }
        let (count, rest) = area.split_first_chunk().ok_or(TailError::Directory)?;
        let count = usize::try_from(u32::from_le_bytes(*count)).map_err(|_| TailError::Directory)?;
        let directory_length = count.checked_mul(ENTRY).ok_or(TailError::Directory)?;
        let (directory, bytes) = rest.split_at_checked(directory_length).ok_or(TailError::Directory)?;
        let (directory, _) = directory.as_chunks();
        let tails = Self { directory, bytes };
        tails.check(record_count)?;
        Ok(tails)
    }

    fn check(&self, record_count: u32) -> Result<(), TailError> {
        let total = u32::try_from(self.bytes.len()).map_err(|_| TailError::Directory)?;
        let mut next_index = 0;
        let mut begin = 0;
        for (number, entry) in (0..).zip(self.directory) {
            let (index, end) = read_entry(entry);
            if index < next_index || index >= record_count {
                return Err(TailError::Index(number));
            }
            if end < begin || end > total {
                return Err(TailError::Offset(number));
            }
            next_index = index.saturating_add(1);
            begin = end;
        }
        match self.directory.len() {
            0 => Err(TailError::Directory),
            _ if begin != total => Err(TailError::Offset(u32::MAX)),
            _ => Ok(()),
        }
    }

    /// How many records have a tail.
    #[must_use]
    pub fn count(&self) -> usize {
        self.directory.len()
    }

    /// The tail of the record at `index` in the batch.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&'a [u8]> {
        let found = self.directory.binary_search_by_key(&index, |entry| read_entry(entry).0).ok()?;
        Some(self.at(found)?.1)
    }

    /// The tails in order: record index and bytes.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        let tails = *self;
        (0..self.directory.len()).map_while(move |number| tails.at(number))
    }

    fn at(&self, number: usize) -> Option<(u32, &'a [u8])> {
        let (index, end) = read_entry(self.directory.get(number)?);
        let before = number.checked_sub(1).and_then(|before| self.directory.get(before));
        let begin = before.map_or(0, |entry| read_entry(entry).1);
        let range = usize::try_from(begin).ok()?..usize::try_from(end).ok()?;
        Some((index, self.bytes.get(range)?))
    }

    /// Appends the area for `tails` (record index and bytes, indexes rising) to `out`.
    ///
    /// # Panics
    ///
    /// If the indexes do not rise, or if the tails take 4 GiB or more.
    pub fn encode(tails: &[(u32, &[u8])], out: &mut Vec<u8>) {
        assert!(tails.is_sorted_by(|(left, _), (right, _)| left < right), "tails are out of order");
        let Ok(count @ 1..) = u32::try_from(tails.len()) else {
            assert!(tails.is_empty(), "more tails than records");
            return;
        };
        out.extend_from_slice(&count.to_le_bytes());
        let mut end: usize = 0;
        for (index, tail) in tails {
            end = end.saturating_add(tail.len());
            let end = u32::try_from(end).expect("a batch is smaller than 4 GiB");
            out.extend_from_slice(&index.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
        for (_, tail) in tails {
            out.extend_from_slice(tail);
        }
    }
}

/// Record index and end offset.
const fn read_entry(entry: &[u8; ENTRY]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = *entry;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tails_take_no_bytes() {
        let mut area = Vec::new();
        Tails::encode(&[], &mut area);
        assert!(area.is_empty());
        assert_eq!(Tails::parse(&area, 0).unwrap().count(), 0);
    }

    #[test]
    fn tails_are_found_by_record() {
        let mut area = Vec::new();
        Tails::encode(&[(1, b"one"), (4, b""), (7, b"seven")], &mut area);
        let tails = Tails::parse(&area, 8).unwrap();
        assert_eq!(tails.get(1), Some(b"one".as_slice()));
        assert_eq!(tails.get(4), Some(b"".as_slice()));
        assert_eq!(tails.get(7), Some(b"seven".as_slice()));
        assert_eq!(tails.get(2), None);
        assert_eq!(tails.iter().count(), 3);
    }

    #[test]
    fn each_fault_has_its_name() {
        let mut area = Vec::new();
        Tails::encode(&[(1, b"one"), (4, b"four")], &mut area);
        assert_eq!(Tails::parse(&area, 4).unwrap_err(), TailError::Index(1));
        assert_eq!(Tails::parse(&area[..10], 8).unwrap_err(), TailError::Directory);
        assert_eq!(Tails::parse(&area[..3], 8).unwrap_err(), TailError::Directory);
        assert_eq!(Tails::parse(&[0; 4], 8).unwrap_err(), TailError::Directory);
        assert_eq!(Tails::parse(&area[..area.len() - 1], 8).unwrap_err(), TailError::Offset(1));
        let entries = |first: [u32; 2], second: [u32; 2]| {
            let words = [[2, first[0], first[1], second[0]].as_slice(), &[second[1]]].concat();
            let mut area: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            area.extend_from_slice(b"bytes");
            Tails::parse(&area, 8).map(|tails| tails.count())
        };
        assert_eq!(entries([1, 2], [4, 5]), Ok(2));
        assert_eq!(entries([4, 2], [1, 5]), Err(TailError::Index(1)));
        assert_eq!(entries([4, 2], [4, 5]), Err(TailError::Index(1)));
        assert_eq!(entries([1, 5], [4, 3]), Err(TailError::Offset(1)));
        assert_eq!(entries([1, 6], [4, 5]), Err(TailError::Offset(0)));
        area.push(0);
        assert_eq!(Tails::parse(&area, 8).unwrap_err(), TailError::Offset(u32::MAX));
    }
}

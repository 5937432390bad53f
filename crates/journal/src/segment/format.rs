//! The bytes of a segment file around its batches: header, footer, sparse index.
//!
//! ```text
//! open    header 256, zeros to 4096 │ batch, end mark 40, zeros to 4096 │ batch, … │ reserved zeros
//! sealed  the same, then the footer in place of the reserved zeros        (aligned layout)
//!         header 256 │ batch │ batch │ … │ footer                          (packed layout)
//! ```
//!
//! Little-endian throughout; docs/journal-format.md has the tables. Header and footer carry a BLAKE3 checksum of
//! their own bytes, because no batch hash covers them.

use crate::seam::{Head, Position};
use crate::storage::SECTOR;

/// Bytes of a segment header.
pub(crate) const SEGMENT_HEADER_LENGTH: usize = 256;
/// Bytes at the very end of a sealed segment: footer length and a magic.
pub(crate) const TRAILER_LENGTH: usize = 16;

const FORMAT: u16 = 1;
const SEGMENT_MAGIC: &[u8; 8] = b"SKSEGMT1";
const FOOTER_MAGIC: &[u8; 8] = b"SKFOOTR1";
const TRAILER_MAGIC: &[u8; 8] = b"SKSEALED";
const FOOTER_FIXED: usize = 72;
const CHECKSUM: usize = 32;
const ENTRY: usize = 16;
/// A new index entry is made for a batch that begins this many bytes after the last entry.
const STRIDE: u64 = 64 << 10;

/// Bytes of the end mark that follows a batch in the aligned layout.
pub(crate) const END_MARK_LENGTH: usize = 40;
const END_MARK_MAGIC: &[u8; 8] = b"SKBATEND";

/// What follows a batch in the aligned layout: its header's hash. No batch behind it vouches for the header of the last
/// one yet, so this does.
pub(crate) fn end_mark(hash: &[u8; 32]) -> [u8; END_MARK_LENGTH] {
    let mut bytes = [0; END_MARK_LENGTH];
    bytes[..8].copy_from_slice(END_MARK_MAGIC);
    bytes[8..].copy_from_slice(hash);
    bytes
}

/// How batches lie in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Each on a boundary of 4096 bytes, so that no sync rewrites an acknowledged sector.
    Aligned,
    /// One directly behind the other.
    Packed,
}

impl Layout {
    pub(crate) const fn data_start(self) -> u64 {
        match self {
            Self::Aligned => SECTOR,
            Self::Packed => 256,
        }
    }

    /// Where the batch behind one of `length` bytes at `offset` begins.
    pub(crate) const fn next(self, offset: u64, length: u64) -> u64 {
        let end = offset.saturating_add(length);
        match self {
            Self::Aligned => end.saturating_add(END_MARK_LENGTH as u64).next_multiple_of(SECTOR),
            Self::Packed => end,
        }
    }
}

/// The head of a segment file: whose it is and what its first batch continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) layout: Layout,
    pub(crate) branch: u16,
    pub(crate) epoch: u64,
    pub(crate) start: Head,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_LENGTH] {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_LENGTH);
        bytes.extend_from_slice(SEGMENT_MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.push(match self.layout {
            Layout::Aligned => 1,
            Layout::Packed => 2,
        });
        bytes.push(0);
        bytes.extend_from_slice(&256_u32.to_le_bytes());
        bytes.extend_from_slice(&self.branch.to_le_bytes());
        bytes.extend_from_slice(&[0; 6]);
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        put_head(&mut bytes, &self.start);
        bytes.resize(SEGMENT_HEADER_LENGTH - CHECKSUM, 0);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        bytes.try_into().expect("a segment header is 256 bytes")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..SEGMENT_HEADER_LENGTH)?;
        let (content, sum) = bytes.split_at(SEGMENT_HEADER_LENGTH - CHECKSUM);
        let mut fields = Fields(content);
        if fields.take(8)? != SEGMENT_MAGIC || sum != checksum(content) || fields.u16()? != FORMAT {
            return None;
        }
        let layout = match fields.take(2)? {
            [1, 0] => Layout::Aligned,
            [2, 0] => Layout::Packed,
            _ => return None,
        };
        let _length = fields.u32()?;
        let branch = fields.u16()?;
        let _zero = fields.take(6)?;
        let epoch = fields.u64()?;
        Some(Self { layout, branch, epoch, start: fields.head()? })
    }
}

/// The foot of a sealed segment: where its batches end, and a sparse index of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Offset behind the last batch (in the aligned layout: behind its padding).
    pub(crate) data_end: u64,
    /// The place after the last batch.
    pub(crate) head: Head,
    pub(crate) index: SparseIndex,
}

impl Footer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = FOOTER_MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        let count = u32::try_from(self.index.entries.len()).expect("a segment has fewer than 2^32 entries");
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&self.data_end.to_le_bytes());
        put_head(&mut bytes, &self.head);
        for (position, offset) in &self.index.entries {
            bytes.extend_from_slice(&position.to_le_bytes());
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        let length = (bytes.len() + TRAILER_LENGTH) as u64;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(TRAILER_MAGIC);
        bytes
    }

    /// Reads a footer that begins at the beginning of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.take(8)? != FOOTER_MAGIC || fields.u16()? != FORMAT || fields.u16()? != 0 {
            return None;
        }
        let count = usize::try_from(fields.u32()?).ok()?;
        let data_end = fields.u64()?;
        let head = fields.head()?;
        let length = count.checked_mul(ENTRY)?;
        let entries = fields.take(length)?;
        let content = bytes.get(..FOOTER_FIXED.checked_add(length)?)?;
        if fields.take(CHECKSUM)? != checksum(content) {
            return None;
        }
        let mut entries = Fields(entries);
        let mut index = SparseIndex::default();
        while let (Some(position), Some(offset)) = (entries.u64(), entries.u64()) {
            index.entries.push((position, offset));
        }
        Some(Self { data_end, head, index })
    }

    pub(crate) fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(FOOTER_MAGIC)
    }
}

/// The length of the footer that ends with this trailer.
pub(crate) fn footer_length(trailer: &[u8]) -> Option<u64> {
    let mut fields = Fields(trailer);
    let length = fields.u64()?;
    (fields.take(8)? == TRAILER_MAGIC).then_some(length)
}

/// Some of a segment's batches: first position and offset, both rising, the first batch always among them.
///
/// At most one entry for 64 KiB of segment: 64 KiB of memory for a segment of 256 MiB.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SparseIndex {
    entries: Vec<(u64, u64)>,
}

impl SparseIndex {
    /// Offers a batch to the index.
    pub(crate) fn offer(&mut self, position: u64, offset: u64) {
        if self.entries.last().is_none_or(|(_, last)| offset >= last.saturating_add(STRIDE)) {
            self.entries.push((position, offset));
        }
    }

    /// Offset of the last indexed batch that begins at or before `position`.
    pub(crate) fn find(&self, position: u64) -> Option<u64> {
        let after = self.entries.partition_point(|(first, _)| *first <= position);
        let (_, offset) = self.entries.get(after.checked_sub(1)?)?;
        Some(*offset)
    }
}

/// BLAKE3 of `bytes`; guards what no batch hash covers.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

pub(crate) fn put_head(bytes: &mut Vec<u8>, head: &Head) {
    bytes.extend_from_slice(&head.position.0.to_le_bytes());
    bytes.extend_from_slice(&head.batch.to_le_bytes());
    bytes.extend_from_slice(&head.hash);
}

/// Takes little-endian fields from the front.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn head(&mut self) -> Option<Head> {
        Some(Head { position: Position(self.u64()?), batch: self.u64()?, hash: self.array()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(number: u64) -> Head {
        Head { position: Position(number * 10), batch: number, hash: [7; 32] }
    }

    #[test]
    fn header_and_footer_come_back_and_no_flipped_bit_passes() {
        let header = SegmentHeader { layout: Layout::Packed, branch: 3, epoch: 9, start: head(4) };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Some(header));
        let mut index = SparseIndex::default();
        for number in 0..100 {
            index.offer(number * 10, 256 + number * 40_000);
        }
        let footer = Footer { data_end: 4_000_256, head: head(100), index };
        let foot = footer.encode();
        assert_eq!(Footer::decode(&foot), Some(footer));
        assert_eq!(footer_length(&foot[foot.len() - TRAILER_LENGTH..]), Some(foot.len() as u64));
        for at in 0..bytes.len() {
            let mut flipped = bytes;
            flipped[at] ^= 4;
            assert_eq!(SegmentHeader::decode(&flipped), None, "byte {at}");
        }
        for at in 0..foot.len() - TRAILER_LENGTH {
            let mut flipped = foot.clone();
            flipped[at] ^= 4;
            assert_eq!(Footer::decode(&flipped), None, "byte {at}");
            assert_eq!(Footer::decode(&foot[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn the_index_finds_the_entry_at_or_before() {
        let mut index = SparseIndex::default();
        assert_eq!(index.find(0), None);
        for number in 0..100 {
            index.offer(10 + number, 4096 * (number + 1));
        }
        assert_eq!(index.entries.len(), 7);
        assert_eq!(index.find(9), None);
        assert_eq!(index.find(10), Some(4096));
        assert_eq!(index.find(25), Some(4096));
        assert_eq!(index.find(26), Some(4096 * 17));
        assert_eq!(index.find(1000), Some(4096 * 97));
    }
}

//! A section of a side file that finds a blob by a number: accounts and codes.
//!
//! ```text
//! groups: key − first key of the group, length, blob · … (about a kilobyte; a long blob ends its group)
//! directory: first key u64 · offset u64, per group, sorted
//! ```
//!
//! Every 128th directory row is kept in memory, so a find reads one page of the directory and one group.

use super::side::{SideError, SideFile, SideWriter};
use super::varint::{self, Reader};

const GROUP_BYTES: usize = if cfg!(test) { 64 } else { 1024 };
/// A blob this long ends its group, so that headers lie close together.
const LONG: usize = if cfg!(test) { 48 } else { 512 };
/// Headers of a group lie in its first so many bytes.
const PROBE: usize = 2048;
const ROW: usize = 16;
const STRIDE: usize = if cfg!(test) { 2 } else { 128 };

/// Writes blobs in the order of their keys.
pub(crate) struct BlobWriter {
    start: u64,
    rows: Vec<(u64, u64)>,
    /// The group begun, not yet appended.
    group: Vec<u8>,
    last: Option<u64>,
    count: u64,
}

impl BlobWriter {
    pub(crate) fn new(writer: &SideWriter) -> Self {
        let start = writer.offset();
        Self { start, rows: Vec::new(), group: Vec::new(), last: None, count: 0 }
    }

    /// Appends the blob of `key`, which is greater than the last.
    pub(crate) fn push(&mut self, writer: &mut SideWriter, key: u64, blob: &[u8]) -> Result<(), SideError> {
        assert!(self.last.is_none_or(|last| last < key), "blobs are written in the order of their keys");
        self.last = Some(key);
        self.count += 1;
        if self.group.is_empty() {
            self.rows.push((key, writer.offset()));
        }
        let (first, _) = self.rows[self.rows.len() - 1];
        varint::put(&mut self.group, key - first);
        varint::put(&mut self.group, blob.len() as u64);
        self.group.extend_from_slice(blob);
        if blob.len() >= LONG || self.group.len() >= GROUP_BYTES { self.close(writer) } else { Ok(()) }
    }

    fn close(&mut self, writer: &mut SideWriter) -> Result<(), SideError> {
        writer.append(&self.group)?;
        self.group.clear();
        Ok(())
    }

    /// Writes the directory; returns where it is for [`Blobs::open`].
    pub(crate) fn finish(mut self, writer: &mut SideWriter) -> Result<BlobExtent, SideError> {
        self.close(writer)?;
        let directory = writer.offset();
        let mut bytes = Vec::with_capacity(self.rows.len() * ROW);
        for (key, offset) in &self.rows {
            bytes.extend_from_slice(&key.to_le_bytes());
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        writer.append(&bytes)?;
        Ok(BlobExtent { start: self.start, directory, rows: self.rows.len() as u64, count: self.count })
    }
}

/// Where a section of blobs lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobExtent {
    start: u64,
    directory: u64,
    rows: u64,
    count: u64,
}

impl BlobExtent {
    pub(crate) const ENCODED: usize = 32;

    pub(crate) fn encode(self) -> Vec<u8> {
        [self.start, self.directory, self.rows, self.count].into_iter().flat_map(u64::to_le_bytes).collect()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let extent = Self { start: word(0)?, directory: word(8)?, rows: word(16)?, count: word(24)? };
        (extent.start <= extent.directory).then_some(extent)
    }
}

/// A blob found: where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) start: u64,
    pub(crate) length: usize,
    /// Its first bytes, which the search has read anyway.
    pub(crate) begins: Vec<u8>,
}

/// A section of blobs, open for finding.
#[derive(Debug)]
pub(crate) struct Blobs {
    extent: BlobExtent,
    /// Every 128th first key.
    top: Vec<u64>,
}

impl Blobs {
    /// Reads the directory once and keeps its top.
    pub(crate) fn open(file: &SideFile, extent: BlobExtent) -> Result<Self, SideError> {
        let rows = file.read(extent.directory, extent.rows as usize * ROW)?;
        let top = rows.chunks_exact(ROW).step_by(STRIDE).map(|row| pair(row).0).collect();
        Ok(Self { extent, top })
    }

    /// How many blobs there are.
    pub(crate) fn count(&self) -> u64 {
        self.extent.count
    }

    /// Memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.top.len() * 8
    }

    /// The blob of `key`.
    pub(crate) fn find(&self, file: &SideFile, key: u64) -> Result<Option<Blob>, SideError> {
        let Some(page) = self.top.partition_point(|first| *first <= key).checked_sub(1) else {
            return Ok(None);
        };
        let first_row = page * STRIDE;
        let rows = (self.extent.rows as usize - first_row).min(STRIDE + 1);
        let bytes = file.read(self.extent.directory + (first_row * ROW) as u64, rows * ROW)?;
        let rows: Vec<_> = bytes.chunks_exact(ROW).map(pair).collect();
        let Some(row) = rows.partition_point(|(first, _)| *first <= key).checked_sub(1) else {
            return Err(file.damaged(self.extent.directory, "its directory is out of order"));
        };
        let (first, start) = rows[row];
        let end = rows.get(row + 1).map_or(self.extent.directory, |(_, offset)| *offset);
        let Some(length) = end.checked_sub(start).filter(|_| start >= self.extent.start) else {
            return Err(file.damaged(self.extent.directory, "a group of its directory has no extent"));
        };
        let group = file.read(start, (length as usize).min(PROBE))?;
        let found = scan(&group, length as usize, key - first);
        let Some(found) = found else { return Err(file.damaged(start, "a group of blobs cannot be read")) };
        Ok(found.map(|(at, length)| {
            let begins = group[at.min(group.len())..(at + length).min(group.len())].to_vec();
            Blob { start: start + at as u64, length, begins }
        }))
    }
}

/// Looks through the headers of a group of `length` bytes, of which `group` is the beginning.
/// `None`: it makes no sense; `Some(None)`: no such key.
fn scan(group: &[u8], length: usize, wanted: u64) -> Option<Option<(usize, usize)>> {
    let mut reader = Reader::new(group);
    while reader.at() < length {
        let (key, blob) = (reader.take()?, usize::try_from(reader.take()?).ok()?);
        let at = reader.at();
        if key == wanted {
            return (at + blob <= length).then_some(Some((at, blob)));
        }
        if key > wanted || at + blob >= length {
            break;
        }
        reader.skip(blob)?;
    }
    Some(None)
}

fn pair(row: &[u8]) -> (u64, u64) {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    (word(&row[..8]), word(&row[8..ROW]))
}

//! A section of a side file that finds positions by hash: ids and references.
//!
//! ```text
//! pages: 2^bits of them, entries of 9 bytes in the order they came: hash bits 40 · offset 32
//! directory: 2^bits + 1 counts of entries before each page, u32
//! ```
//!
//! Of a hash the top 48 bits count. The top `bits` (at least 8) name the page and the lower 40 are
//! stored, so the 48 can be told again when tables are merged. A find gives candidates: whoever asks
//! compares them with the records themselves.

use super::side::{SideError, SideFile, SideWriter};

const ENTRY: usize = 9;
const PAGE_BITS_MIN: u32 = 8;
const ENTRIES_PER_PAGE: usize = 128;

/// One entry: the hash (its top 48 bits) and what it leads to, as an offset from the file's first position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) hash: u64,
    pub(crate) offset: u32,
}

impl Slot {
    fn page(self, bits: u32) -> usize {
        (self.hash >> (64 - bits)) as usize
    }

    fn encode(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..5].copy_from_slice(&(self.hash >> 16).to_le_bytes()[..5]);
        bytes[5..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    /// `page_hash` holds the top eight bits, in place.
    fn decode(bytes: &[u8], page_hash: u64) -> Self {
        let mut low = [0; 8];
        low[..5].copy_from_slice(&bytes[..5]);
        let mut offset = [0; 4];
        offset.copy_from_slice(&bytes[5..ENTRY]);
        Self {
            hash: (page_hash & (0xff << 56)) | (u64::from_le_bytes(low) << 16),
            offset: u32::from_le_bytes(offset),
        }
    }
}

/// Where a table lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Table {
    start: u64,
    count: u32,
    bits: u32,
}

impl Table {
    pub(crate) const ENCODED: usize = 16;

    pub(crate) fn encode(self) -> [u8; Self::ENCODED] {
        let mut bytes = [0; Self::ENCODED];
        bytes[..8].copy_from_slice(&self.start.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..].copy_from_slice(&self.bits.to_le_bytes());
        bytes
    }

    /// `None` if no table can look so.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let start = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let count = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
        let bits = u32::from_le_bytes(bytes.get(12..16)?.try_into().ok()?);
        (PAGE_BITS_MIN..=32).contains(&bits).then_some(Self { start, count, bits })
    }

    /// How many entries it has.
    pub(crate) fn count(self) -> u32 {
        self.count
    }

    fn bits_for(count: usize) -> u32 {
        let pages = (count / ENTRIES_PER_PAGE).max(1);
        pages.next_power_of_two().trailing_zeros().max(PAGE_BITS_MIN)
    }

    fn directory(self) -> u64 {
        self.start + u64::from(self.count) * ENTRY as u64
    }

    /// Where the table ends.
    pub(crate) fn end(self) -> u64 {
        self.directory() + ((1_u64 << self.bits) + 1) * 4
    }

    /// Offsets of all entries whose 48 bits are those of `hash`, the newest last.
    pub(crate) fn find(self, file: &SideFile, hash: u64) -> Result<Vec<u32>, SideError> {
        let page = hash >> (64 - self.bits);
        let ends = file.read(self.directory() + page * 4, 8)?;
        let (first, end) = (word(&ends, 0), word(&ends, 1));
        if first > end || end > self.count {
            return Err(file.damaged(self.directory(), "a page of the table has no extent"));
        }
        let bytes =
            file.read(self.start + u64::from(first) * ENTRY as u64, (end - first) as usize * ENTRY)?;
        let wanted = (hash >> 16 << 16, hash);
        let slots = bytes.chunks_exact(ENTRY).map(|entry| Slot::decode(entry, wanted.1));
        Ok(slots.filter(|slot| slot.hash == wanted.0).map(|slot| slot.offset).collect())
    }

    /// All entries whose top eight bits are `region`, in page order.
    pub(crate) fn region(self, file: &SideFile, region: u8) -> Result<Vec<Slot>, SideError> {
        let pages = 1_u64 << (self.bits - PAGE_BITS_MIN);
        let ends_at = |page: u64| file.read(self.directory() + page * 4, 4).map(|bytes| word(&bytes, 0));
        let first = ends_at(u64::from(region) * pages)?;
        let end = ends_at((u64::from(region) + 1) * pages)?;
        if first > end || end > self.count {
            return Err(file.damaged(self.directory(), "a region of the table has no extent"));
        }
        let bytes =
            file.read(self.start + u64::from(first) * ENTRY as u64, (end - first) as usize * ENTRY)?;
        let top = u64::from(region) << 56;
        Ok(bytes.chunks_exact(ENTRY).map(|entry| Slot::decode(entry, top)).collect())
    }
}

fn word(bytes: &[u8], index: usize) -> u32 {
    let mut whole = [0; 4];
    whole.copy_from_slice(&bytes[index * 4..index * 4 + 4]);
    u32::from_le_bytes(whole)
}

/// Writes `slots`; entries of one hash keep their order.
pub(crate) fn write_table(writer: &mut SideWriter, slots: &[Slot]) -> Result<Table, SideError> {
    let mut table = TableWriter::new(writer, slots.len());
    table.push(writer, slots)?;
    table.finish(writer)
}

/// Writes a table region by region, so that a merge holds one region at a time.
pub(crate) struct TableWriter {
    table: Table,
    /// Entries before each page.
    starts: Vec<u32>,
}

impl TableWriter {
    /// Begins a table of `count` entries at the writer's offset.
    pub(crate) fn new(writer: &SideWriter, count: usize) -> Self {
        let count_u32 = u32::try_from(count).expect("a table has fewer than 2^32 entries");
        let table = Table { start: writer.offset(), count: count_u32, bits: Table::bits_for(count) };
        Self { table, starts: vec![0] }
    }

    /// Adds entries, all of later pages than those before (regions 0, 1, 2… or all at once).
    pub(crate) fn push(&mut self, writer: &mut SideWriter, slots: &[Slot]) -> Result<(), SideError> {
        let bits = self.table.bits;
        let Some((least, most)) = slots.iter().map(|slot| slot.page(bits)).fold(None, widen) else {
            return Ok(());
        };
        self.extend_to(least);
        let before = *self.starts.last().expect("there is a first page");
        let mut places = vec![0_u32; most - least + 1];
        for slot in slots {
            places[slot.page(bits) - least] += 1;
        }
        let mut sum = 0;
        for place in &mut places {
            (*place, sum) = (sum, sum + *place);
            self.starts.push(before + sum);
        }
        let mut bytes = vec![0; slots.len() * ENTRY];
        for slot in slots {
            let place = &mut places[slot.page(bits) - least];
            let at = *place as usize * ENTRY;
            bytes[at..at + ENTRY].copy_from_slice(&slot.encode());
            *place += 1;
        }
        writer.append(&bytes)
    }

    /// Pages without entries, up to `page`.
    fn extend_to(&mut self, page: usize) {
        let before = *self.starts.last().expect("there is a first page");
        assert!(self.starts.len() <= page + 1, "pages are written in order");
        self.starts.resize(page + 1, before);
    }

    /// Writes the directory.
    pub(crate) fn finish(mut self, writer: &mut SideWriter) -> Result<Table, SideError> {
        self.extend_to(1 << self.table.bits);
        assert_eq!(self.starts.last(), Some(&self.table.count), "a table holds what it was begun for");
        let mut bytes = Vec::with_capacity(self.starts.len() * 4);
        for start in &self.starts {
            bytes.extend_from_slice(&start.to_le_bytes());
        }
        writer.append(&bytes)?;
        Ok(self.table)
    }
}

fn widen(range: Option<(usize, usize)>, page: usize) -> Option<(usize, usize)> {
    Some(range.map_or((page, page), |(least, most)| (least.min(page), most.max(page))))
}

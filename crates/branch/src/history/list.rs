//! The blob of one account (or code) in a span: what moved by dates, and where its records are.
//!
//! ```text
//! entries · blocks · date groups · bytes of the groups           varints
//! groups: business date (delta) · value date − business date · debits · credits
//! blocks: 76 bytes each, only if there are more entries than one block takes
//! entries: (offset − the one before) × 4 + posted × 2 + credit   varints; a block's first has delta 0
//! ```
//!
//! A block says what moved before it in this span, so running totals start anywhere, and the least and
//! greatest of its dates and times, so a filter passes over it unread.

use super::asked::{AsOf, Side, Totals};
use super::blobs::Blob;
use super::columns::{Row, Zone};
use super::side::{SideError, SideFile};
use super::varint::{self, Reader};

/// Entries of a full block. (Tests use small sizes throughout, so that little data crosses every border.)
pub(crate) const BLOCK_ENTRIES: usize = if cfg!(test) { 8 } else { 128 };
const BLOCK_BYTES: usize = 76;
/// The most bytes that the four counts at the front take.
const FRONT_BYTES: usize = 40;

/// One record in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) offset: u32,
    pub(crate) side: Side,
    pub(crate) posted: bool,
}

/// What moved on one pair of dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) booked: i32,
    pub(crate) value: i32,
    pub(crate) moved: Totals,
}

impl Group {
    /// Whether a balance as of `dates` counts it.
    pub(crate) fn counts(&self, dates: &AsOf) -> bool {
        dates.business_date.is_none_or(|date| self.booked <= date.0)
            && dates.value_date.is_none_or(|date| self.value <= date.0)
    }
}

struct Block {
    first: u32,
    count: u32,
    byte: u32,
    before: Totals,
    zone: Zone,
}

/// Builds lists one after another, keeping its memory.
#[derive(Default)]
pub(crate) struct ListBuilder {
    groups: Vec<Group>,
    /// Full blocks.
    blocks: Vec<Block>,
    /// Rows of the block begun.
    rows: Vec<Row>,
    /// Where its entries begin, and what moved before it.
    begun: (usize, Totals),
    entries: Vec<u8>,
    last: u32,
    moved: Totals,
    group_bytes: Vec<u8>,
    blob: Vec<u8>,
}

impl ListBuilder {
    /// Adds the next record, in journal order.
    #[inline]
    pub(crate) fn push(&mut self, row: &Row, side: Side) {
        if self.rows.len() == BLOCK_ENTRIES {
            self.close_block();
        }
        if self.rows.is_empty() {
            self.begun = (self.entries.len(), self.moved);
            self.last = row.offset;
        }
        let delta = u64::from(row.offset - self.last);
        varint::put(
            &mut self.entries,
            delta << 2 | u64::from(row.posted) << 1 | u64::from(side == Side::Credit),
        );
        self.last = row.offset;
        self.rows.push(*row);
        if row.posted {
            self.moved.add(side, row.amount);
            match self.groups.last_mut() {
                Some(last) if last.booked == row.booked && last.value == row.value => {
                    last.moved.add(side, row.amount);
                }
                _ => self.begin_group(row, side),
            }
        }
    }

    fn begin_group(&mut self, row: &Row, side: Side) {
        // An account that hops between dates must not pile up groups.
        if self.groups.len() >= 4096 && self.groups.len().is_power_of_two() {
            self.fold_groups();
        }
        self.groups.push(Group { booked: row.booked, value: row.value, moved: Totals::of(side, row.amount) });
    }

    fn close_block(&mut self) {
        let mut zone = Zone::EMPTY;
        self.rows.iter().for_each(|row| zone.add(row));
        let (byte, before) = self.begun;
        let first = self.rows.first().map_or(0, |row| row.offset);
        let count = self.rows.len() as u32;
        self.blocks.push(Block { first, count, byte: byte as u32, before, zone });
        self.rows.clear();
    }

    fn fold_groups(&mut self) {
        self.groups.sort_by_key(|group| (group.booked, group.value));
        self.groups.dedup_by(|later, earlier| {
            let same = (later.booked, later.value) == (earlier.booked, earlier.value);
            if same {
                earlier.moved = earlier.moved.plus(later.moved);
            }
            same
        });
    }

    /// The blob of what was pushed; the builder is empty again.
    pub(crate) fn finish(&mut self) -> &[u8] {
        self.encode_groups();
        let only_first = self.rows.first().map_or(0, |row| row.offset);
        if !self.blocks.is_empty() {
            self.close_block();
        }
        let count = self.blocks.iter().map(|block| block.count as usize).sum::<usize>() + self.rows.len();
        self.blob.clear();
        varint::put(&mut self.blob, count as u64);
        varint::put(&mut self.blob, self.blocks.len() as u64);
        varint::put(&mut self.blob, self.groups.len() as u64);
        varint::put(&mut self.blob, self.group_bytes.len() as u64);
        self.blob.extend_from_slice(&self.group_bytes);
        if self.blocks.is_empty() {
            // The only block's offset, so that its first entry is a delta as everywhere else.
            varint::put(&mut self.blob, u64::from(only_first));
        }
        for block in &self.blocks {
            encode_block(block, &mut self.blob);
        }
        self.blob.extend_from_slice(&self.entries);
        self.moved = Totals::default();
        self.groups.clear();
        self.blocks.clear();
        self.rows.clear();
        self.entries.clear();
        &self.blob
    }

    fn encode_groups(&mut self) {
        if self.groups.len() > 1 {
            self.fold_groups();
        }
        self.group_bytes.clear();
        let mut before = 0;
        for group in &self.groups {
            varint::put_signed(&mut self.group_bytes, i64::from(group.booked) - before);
            varint::put_signed(&mut self.group_bytes, i64::from(group.value) - i64::from(group.booked));
            varint::put_wide(&mut self.group_bytes, group.moved.debits);
            varint::put_wide(&mut self.group_bytes, group.moved.credits);
            before = i64::from(group.booked);
        }
    }
}

fn encode_block(block: &Block, bytes: &mut Vec<u8>) {
    for number in [block.first, block.count, block.byte] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&block.before.debits.to_le_bytes());
    bytes.extend_from_slice(&block.before.credits.to_le_bytes());
    bytes.extend_from_slice(&block.zone.encode());
}

fn decode_block(bytes: &[u8]) -> Option<Block> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let u128_at = |at: usize| Some(u128::from_le_bytes(bytes.get(at..at + 16)?.try_into().ok()?));
    Some(Block {
        first: u32_at(0)?,
        count: u32_at(4)?,
        byte: u32_at(8)?,
        before: Totals { debits: u128_at(12)?, credits: u128_at(28)? },
        zone: Zone::decode(bytes.get(44..BLOCK_BYTES)?)?,
    })
}

/// A list found in a span; its blocks are read as they are asked for.
#[derive(Debug, Clone)]
pub(crate) struct List {
    blob: Blob,
    /// How many records are in it.
    pub(crate) count: usize,
    blocks: usize,
    /// What moved in this span, by dates, sorted.
    pub(crate) groups: Vec<Group>,
    blocks_at: usize,
    /// For a list without blocks: the first offset.
    only_first: u32,
    entries_at: usize,
}

impl List {
    /// Reads counts and groups.
    pub(crate) fn open(file: &SideFile, blob: Blob) -> Result<Self, SideError> {
        let damaged = || file.damaged(blob.start, "a list cannot be read");
        let front = slice(file, &blob, 0, FRONT_BYTES.min(blob.length))?;
        let mut reader = Reader::new(&front);
        let mut take = || reader.take().and_then(|number| usize::try_from(number).ok()).ok_or_else(damaged);
        let (count, blocks, group_count, group_bytes) = (take()?, take()?, take()?, take()?);
        let groups_at = reader.at();
        let rest = (group_bytes + 10).min(blob.length.saturating_sub(groups_at));
        let bytes = slice(file, &blob, groups_at, rest)?;
        let mut reader = Reader::new(&bytes);
        let groups = read_groups(&mut reader, group_count).ok_or_else(damaged)?;
        let blocks_at = groups_at + group_bytes;
        let (only_first, entries_at) = if blocks == 0 {
            let only_first = reader.take_u32().ok_or_else(damaged)?;
            (only_first, groups_at + reader.at())
        } else {
            (0, blocks_at + blocks * BLOCK_BYTES)
        };
        if entries_at > blob.length {
            return Err(damaged());
        }
        Ok(Self { blob, count, blocks, groups, blocks_at, only_first, entries_at })
    }

    /// What moved in the whole span.
    pub(crate) fn moved(&self) -> Totals {
        self.groups.iter().fold(Totals::default(), |sum, group| sum.plus(group.moved))
    }

    /// How many blocks it has; at least one.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.max(1)
    }

    fn block(&self, file: &SideFile, index: usize) -> Result<Block, SideError> {
        if self.blocks == 0 {
            let zone =
                Zone { time_us: (0, u64::MAX), booked: (i32::MIN, i32::MAX), value: (i32::MIN, i32::MAX) };
            let count = self.count as u32;
            return Ok(Block { first: self.only_first, count, byte: 0, before: Totals::default(), zone });
        }
        let bytes = slice(file, &self.blob, self.blocks_at + index * BLOCK_BYTES, BLOCK_BYTES)?;
        decode_block(&bytes).ok_or_else(|| file.damaged(self.blob.start, "a block of a list cannot be read"))
    }

    /// Where block `index` begins, what moved before it in this span, and its zone.
    pub(crate) fn head(&self, file: &SideFile, index: usize) -> Result<(u32, Totals, Zone), SideError> {
        self.block(file, index).map(|block| (block.first, block.before, block.zone))
    }

    /// The block that an offset falls in, or would.
    pub(crate) fn block_of(&self, file: &SideFile, offset: u32) -> Result<usize, SideError> {
        let (mut low, mut high) = (0, self.blocks());
        while high - low > 1 {
            let middle = (low + high) / 2;
            if self.block(file, middle)?.first <= offset {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The records of block `index`.
    pub(crate) fn items(&self, file: &SideFile, index: usize) -> Result<Vec<Item>, SideError> {
        let damaged = || file.damaged(self.blob.start, "the entries of a list cannot be read");
        let block = self.block(file, index)?;
        let start = self.entries_at + block.byte as usize;
        let end = if index + 1 < self.blocks {
            self.entries_at + self.block(file, index + 1)?.byte as usize
        } else {
            self.blob.length
        };
        let length = end.checked_sub(start).ok_or_else(damaged)?;
        let bytes = slice(file, &self.blob, start, length)?;
        let mut reader = Reader::new(&bytes);
        let mut offset = block.first;
        let mut items = Vec::with_capacity(block.count as usize);
        for _ in 0..block.count {
            let packed = reader.take().ok_or_else(damaged)?;
            let delta = u32::try_from(packed >> 2).map_err(|_| damaged())?;
            offset = offset.checked_add(delta).ok_or_else(damaged)?;
            let side = if packed & 1 == 1 { Side::Credit } else { Side::Debit };
            items.push(Item { offset, side, posted: packed & 2 == 2 });
        }
        Ok(items)
    }
}

/// Bytes of a blob, from what the search has read or from the file.
fn slice(file: &SideFile, blob: &Blob, at: usize, length: usize) -> Result<Vec<u8>, SideError> {
    if at + length > blob.length {
        return Err(file.damaged(blob.start, "a list is shorter than it says"));
    }
    match blob.begins.get(at..at + length) {
        Some(bytes) => Ok(bytes.to_vec()),
        None => file.read(blob.start + at as u64, length),
    }
}

fn read_groups(reader: &mut Reader<'_>, count: usize) -> Option<Vec<Group>> {
    let mut groups = Vec::new();
    let mut booked = 0_i64;
    for _ in 0..count {
        booked = booked.checked_add(reader.take_signed()?)?;
        let value = booked.checked_add(reader.take_signed()?)?;
        let moved = Totals { debits: reader.take_wide()?, credits: reader.take_wide()? };
        groups.push(Group { booked: i32::try_from(booked).ok()?, value: i32::try_from(value).ok()?, moved });
    }
    Some(groups)
}

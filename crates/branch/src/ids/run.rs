//! One immutable run of ids on disk, and its filter in memory.
//!
//! ```text
//! table (history/table.rs) · filter blocks · footer
//! footer: magic 8 · first position u64 · end position u64 · head hash 32 · least id 16 · greatest id 16 ·
//!         table 16 · filter start u64 · filter bytes u64
//! ```
//!
//! A run stands for the journal's positions `first..end`, and for the header hash of the batch that
//! ends there: a run whose hash is not the journal's is thrown away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::history::side::{SideError, SideFile, SideFolder, SideWriter};
use crate::history::table::{Slot, Table, TableWriter, write_table};

use super::filter::Filter;

const MAGIC: [u8; 8] = *b"SKIDS\0\x01\0";
pub(super) const PREFIX: &str = "ids-";
pub(super) const SUFFIX: &str = ".run";

/// What a run stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) head: [u8; 32],
    pub(super) range: (u128, u128),
}

impl Extent {
    fn name(&self) -> String {
        format!("{PREFIX}{:020}-{:020}{SUFFIX}", self.first, self.end)
    }
}

/// A run, open for finding.
pub(super) struct Run {
    pub(super) extent: Extent,
    file: SideFile,
    table: Table,
    filter_at: (u64, u64),
    /// `None` when the bound on memory leaves this run to the disk alone.
    filter: Option<Filter>,
    /// The filter that this run shares with its neighbours, if it was written since opening.
    pub(super) shared: Option<Arc<Shared>>,
}

/// One filter over the ids of several runs that follow each other: a stranger is told by one look for all of them.
///
/// It lives in memory only. After opening the runs have their own filters alone, until newer ones take over.
pub(super) struct Shared {
    filter: Filter,
    room: AtomicUsize,
}

impl Shared {
    pub(super) fn with_room(ids: usize) -> Self {
        Self { filter: Filter::for_keys(ids), room: AtomicUsize::new(ids) }
    }

    pub(super) fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    fn add(&self, slots: &[Slot]) {
        slots.iter().for_each(|slot| self.filter.add(slot.hash));
        self.room.fetch_sub(slots.len().min(self.room()), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn may_have(&self, hash: u64) -> bool {
        self.filter.may_have(hash)
    }

    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u64 {
        self.filter.touch(hash)
    }

    pub(super) fn bytes(&self) -> usize {
        self.filter.bytes()
    }
}

impl Run {
    pub(super) fn name(&self) -> &str {
        self.file.name()
    }

    pub(super) fn count(&self) -> u64 {
        u64::from(self.table.count())
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file.length()
    }

    pub(super) fn filter_bytes(&self) -> usize {
        self.filter.as_ref().map_or(0, Filter::bytes)
    }

    /// Whether `id` may be in here, by range and filter.
    #[inline]
    pub(super) fn may_have(&self, id: u128, hash: u64) -> bool {
        let spanned = self.extent.range.0 <= id && id <= self.extent.range.1;
        spanned && self.filter.as_ref().is_none_or(|filter| filter.may_have(hash))
    }

    #[inline]
    pub(super) fn touch(&self, hash: u64) -> u64 {
        self.filter.as_ref().map_or(0, |filter| filter.touch(hash))
    }

    /// Positions whose ids have this hash, the newest first.
    pub(super) fn candidates(&self, hash: u64) -> Result<Vec<u64>, SideError> {
        let offsets = self.table.find(&self.file, hash)?;
        Ok(offsets.into_iter().rev().map(|offset| self.extent.first + u64::from(offset)).collect())
    }

    /// Writes a run of entries in the order of their positions, and adds them to the shared filter.
    pub(super) fn write(
        folder: &SideFolder,
        extent: Extent,
        slots: &[Slot],
        shared: Arc<Shared>,
    ) -> Result<Self, SideError> {
        let mut writer = folder.create(&extent.name())?;
        let filter = Filter::for_keys(slots.len());
        slots.iter().for_each(|slot| filter.add(slot.hash));
        let table = write_table(&mut writer, slots)?;
        shared.add(slots);
        let run = Self::finish(writer, extent, table, filter)?;
        Ok(Self { shared: Some(shared), ..run })
    }

    /// Writes one run for several that follow each other.
    pub(super) fn merge(folder: &SideFolder, runs: &[Arc<Self>]) -> Result<Self, SideError> {
        let (first, last) = (&runs[0].extent, &runs[runs.len() - 1].extent);
        let least = runs.iter().map(|run| run.extent.range.0).min().unwrap_or(u128::MAX);
        let most = runs.iter().map(|run| run.extent.range.1).max().unwrap_or(0);
        let extent = Extent { first: first.first, end: last.end, head: last.head, range: (least, most) };
        let count = runs.iter().map(|run| run.table.count() as usize).sum();
        let mut writer = folder.create(&extent.name())?;
        let filter = Filter::for_keys(count);
        let mut table = TableWriter::new(&writer, count);
        for region in 0..=u8::MAX {
            let mut slots = Vec::new();
            for run in runs {
                let base =
                    u32::try_from(run.extent.first - extent.first).expect("a run spans 2^32 positions");
                let found = run.table.region(&run.file, region)?;
                slots.extend(found.into_iter().map(|slot| Slot { offset: slot.offset + base, ..slot }));
            }
            slots.iter().for_each(|slot| filter.add(slot.hash));
            table.push(&mut writer, &slots)?;
        }
        let table = table.finish(&mut writer)?;
        let same = runs.iter().all(|run| same(run.shared.as_ref(), runs[0].shared.as_ref()));
        let shared = runs[0].shared.clone().filter(|_| same);
        let run = Self::finish(writer, extent, table, filter)?;
        Ok(Self { shared, ..run })
    }

    fn finish(
        mut writer: SideWriter,
        extent: Extent,
        table: Table,
        filter: Filter,
    ) -> Result<Self, SideError> {
        let bytes = filter.encode();
        let filter_at = (writer.offset(), bytes.len() as u64);
        writer.append(&bytes)?;
        let file = writer.finish(&footer(&extent, table, filter_at))?;
        Ok(Self { extent, file, table, filter_at, filter: Some(filter), shared: None })
    }

    /// Opens a run without its filter.
    pub(super) fn open(folder: &SideFolder, name: &str) -> Result<Self, SideError> {
        let file = folder.open(name)?;
        let bytes = file.footer()?;
        let Some((extent, table, filter_at)) =
            read_footer(&bytes).filter(|(extent, ..)| extent.name() == name)
        else {
            return Err(file.damaged(file.length(), "its footer is not that of an id run"));
        };
        Ok(Self { extent, file, table, filter_at, filter: None, shared: None })
    }

    /// Brings the filter into memory.
    pub(super) fn load_filter(&mut self) -> Result<(), SideError> {
        let bytes = self.file.read(self.filter_at.0, self.filter_at.1 as usize)?;
        self.filter = Some(Filter::decode(&bytes));
        Ok(())
    }

    /// Leaves the filters to the disk.
    pub(super) fn without_filter(&self) -> Self {
        let file = self.file.clone();
        Self {
            extent: self.extent,
            file,
            table: self.table,
            filter_at: self.filter_at,
            filter: None,
            shared: None,
        }
    }
}

/// Whether two runs are under the same shared filter.
pub(super) fn same(left: Option<&Arc<Shared>>, right: Option<&Arc<Shared>>) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => Arc::ptr_eq(left, right),
        (None, None) => true,
        _ => false,
    }
}

fn footer(extent: &Extent, table: Table, filter_at: (u64, u64)) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&extent.first.to_le_bytes());
    bytes.extend_from_slice(&extent.end.to_le_bytes());
    bytes.extend_from_slice(&extent.head);
    bytes.extend_from_slice(&extent.range.0.to_le_bytes());
    bytes.extend_from_slice(&extent.range.1.to_le_bytes());
    bytes.extend_from_slice(&table.encode());
    bytes.extend_from_slice(&filter_at.0.to_le_bytes());
    bytes.extend_from_slice(&filter_at.1.to_le_bytes());
    bytes
}

fn read_footer(bytes: &[u8]) -> Option<(Extent, Table, (u64, u64))> {
    let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let u128_at = |at: usize| Some(u128::from_le_bytes(bytes.get(at..at + 16)?.try_into().ok()?));
    if bytes.get(..8)? != MAGIC {
        return None;
    }
    let extent = Extent {
        first: u64_at(8)?,
        end: u64_at(16)?,
        head: bytes.get(24..56)?.try_into().ok()?,
        range: (u128_at(56)?, u128_at(72)?),
    };
    let table = Table::decode(bytes.get(88..88 + Table::ENCODED)?)?;
    let filter_at = (u64_at(104)?, u64_at(112)?);
    let whole = filter_at.0 == table.end() && filter_at.1 % 64 == 0 && filter_at.1 > 0;
    whole.then_some((extent, table, filter_at))
}

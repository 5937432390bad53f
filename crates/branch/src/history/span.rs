//! A sealed span: the side file of a range of the journal.
//!
//! ```text
//! accounts (blobs of lists) · codes (the same) · references (table) · days · zones · footer
//! days: first offset u32 · accounting date i32, per change
//! zones: first offset u32 · zone 32, per 1,024 transfers
//! ```
//!
//! It stands for positions `first..end` and names the header hash of the batch that ends there.

use super::blobs::{BlobExtent, Blobs};
use super::columns::Zone;
use super::list::List;
use super::side::{SideError, SideFile, SideFolder};
use super::table::Table;

const MAGIC: [u8; 8] = *b"SKSPAN\x01\0";
pub(crate) const PREFIX: &str = "span-";
pub(crate) const SUFFIX: &str = ".side";

/// What a span stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) head: [u8; 32],
    pub(crate) zone: Zone,
}

impl Extent {
    pub(crate) fn name(&self) -> String {
        format!("{PREFIX}{:020}-{:020}{SUFFIX}", self.first, self.end)
    }
}

/// Where its sections lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sections {
    pub(crate) accounts: BlobExtent,
    pub(crate) codes: BlobExtent,
    pub(crate) references: Table,
    pub(crate) days: (u64, u32),
    pub(crate) zones: (u64, u32),
}

/// Transfers under one zone.
pub(crate) const ZONE_ROWS: usize = if cfg!(test) { 8 } else { 1024 };
const ZONE_BYTES: usize = 4 + Zone::ENCODED;

/// A sealed span, open for questions.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) extent: Extent,
    pub(crate) file: SideFile,
    accounts: Blobs,
    codes: Blobs,
    references: Table,
    days: Vec<(u32, i32)>,
    zones: (u64, u32),
}

impl Span {
    /// Opens a finished file.
    pub(crate) fn open(folder: &SideFolder, name: &str) -> Result<Self, SideError> {
        let file = folder.open(name)?;
        let footer = file.footer()?;
        let Some((extent, sections)) = read_footer(&footer).filter(|(extent, _)| extent.name() == name)
        else {
            return Err(file.damaged(file.length(), "its footer is not that of a span"));
        };
        let days = file.read(sections.days.0, sections.days.1 as usize * 8)?;
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        let days = days.chunks_exact(8).map(|day| (word(&day[..4]), word(&day[4..]) as i32)).collect();
        Ok(Self {
            extent,
            accounts: Blobs::open(&file, sections.accounts)?,
            codes: Blobs::open(&file, sections.codes)?,
            references: sections.references,
            days,
            zones: sections.zones,
            file,
        })
    }

    /// The list of an account's key.
    pub(crate) fn account(&self, key: u64) -> Result<Option<List>, SideError> {
        self.accounts.find(&self.file, key)?.map(|blob| List::open(&self.file, blob)).transpose()
    }

    /// The list of a code.
    pub(crate) fn code(&self, code: u16) -> Result<Option<List>, SideError> {
        self.codes.find(&self.file, u64::from(code))?.map(|blob| List::open(&self.file, blob)).transpose()
    }

    /// Offsets whose references may have this hash, in order.
    pub(crate) fn reference(&self, hash: u64) -> Result<Vec<u32>, SideError> {
        self.references.find(&self.file, hash)
    }

    /// The accounting date of the batch at `offset`.
    pub(crate) fn day(&self, offset: u32) -> i32 {
        let at = self.days.partition_point(|(first, _)| *first <= offset);
        at.checked_sub(1).and_then(|at| self.days.get(at)).map_or(0, |(_, date)| *date)
    }

    /// First offsets and zones of all its transfers, in order.
    pub(crate) fn zones(&self) -> Result<Vec<(u32, Zone)>, SideError> {
        let bytes = self.file.read(self.zones.0, self.zones.1 as usize * ZONE_BYTES)?;
        let decode = |row: &[u8]| {
            let first = u32::from_le_bytes(row.get(..4)?.try_into().ok()?);
            Some((first, Zone::decode(&row[4..])?))
        };
        let rows: Option<Vec<_>> = bytes.chunks_exact(ZONE_BYTES).map(decode).collect();
        rows.ok_or_else(|| self.file.damaged(self.zones.0, "its zones cannot be read"))
    }

    /// Memory held.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.accounts.bytes() + self.codes.bytes() + self.days.len() * 8
    }

    /// Accounts in it.
    pub(crate) fn accounts(&self) -> u64 {
        self.accounts.count()
    }
}

pub(crate) fn footer(extent: &Extent, sections: &Sections) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&extent.first.to_le_bytes());
    bytes.extend_from_slice(&extent.end.to_le_bytes());
    bytes.extend_from_slice(&extent.head);
    bytes.extend_from_slice(&extent.zone.encode());
    bytes.extend_from_slice(&sections.accounts.encode());
    bytes.extend_from_slice(&sections.codes.encode());
    bytes.extend_from_slice(&sections.references.encode());
    bytes.extend_from_slice(&sections.days.0.to_le_bytes());
    bytes.extend_from_slice(&sections.days.1.to_le_bytes());
    bytes.extend_from_slice(&sections.zones.0.to_le_bytes());
    bytes.extend_from_slice(&sections.zones.1.to_le_bytes());
    bytes
}

fn read_footer(bytes: &[u8]) -> Option<(Extent, Sections)> {
    let u64_at = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    if bytes.get(..8)? != MAGIC {
        return None;
    }
    let zone = Zone::decode(bytes.get(56..88)?)?;
    let extent =
        Extent { first: u64_at(8)?, end: u64_at(16)?, head: bytes.get(24..56)?.try_into().ok()?, zone };
    let sections = Sections {
        accounts: BlobExtent::decode(bytes.get(88..88 + BlobExtent::ENCODED)?)?,
        codes: BlobExtent::decode(bytes.get(120..120 + BlobExtent::ENCODED)?)?,
        references: Table::decode(bytes.get(152..152 + Table::ENCODED)?)?,
        days: (u64_at(168)?, u32_at(176)?),
        zones: (u64_at(180)?, u32_at(188)?),
    };
    Some((extent, sections))
}

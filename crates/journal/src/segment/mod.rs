//! One segment file: its name, its bytes, and reading them.
//!
//! A segment knows where its batches begin (by a sparse index and by walking headers) and nothing of its neighbours.

pub(crate) mod format;
pub(crate) mod walk;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use skerry_proof::batch::HEADER_LENGTH;
use skerry_proof::{BatchHeader, Hash};

use crate::batch::check_header;
use crate::error::{Damage, DamageKind, ReadError};
use crate::seam::Head;
use crate::storage::{Storage, StorageError, StorageFile, read_exact_at};
use format::{
    Footer, Layout, SEGMENT_HEADER_LENGTH, SegmentHeader, SparseIndex, TRAILER_LENGTH, footer_length,
};

/// Sealing copies a segment without its padding if that is more than one part in so many.
const PADDING_SHARE: u64 = 8;

/// What a segment's file name tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    pub(crate) first_position: u64,
    pub(crate) sealed: bool,
}

impl SegmentName {
    /// `seg-<first position, 20 digits>.open` or `.seal`.
    pub(crate) fn format(&self) -> String {
        format!("seg-{:020}.{}", self.first_position, if self.sealed { "seal" } else { "open" })
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (digits, ending) = name.strip_prefix("seg-")?.split_once('.')?;
        let sealed = match ending {
            "seal" => true,
            "open" => false,
            _ => return None,
        };
        if digits.len() != 20 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        Some(Self { first_position: digits.parse().ok()?, sealed })
    }
}

/// A segment that readers can see.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    /// With the folder, for messages.
    pub(crate) path: String,
    pub(crate) name: SegmentName,
    pub(crate) file: F,
    pub(crate) header: SegmentHeader,
    extent: RwLock<Extent>,
    /// Batches that were asked for lately, by first position: a statement asks for the same few again and again.
    asked: Mutex<BTreeMap<u64, Found>>,
}

/// Batches whose places a segment remembers: about 100 KiB.
const ASKED_MAX: usize = 256;

#[derive(Debug, Clone)]
struct Extent {
    /// The place after the last durable batch here.
    head: Head,
    /// Offset behind it.
    data_end: u64,
    /// Bytes of the batches without padding; not kept for sealed segments.
    batch_bytes: u64,
    index: SparseIndex,
}

/// Where a batch lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) header: BatchHeader,
    pub(crate) hash: Hash,
    /// The place it continues, if that is known.
    pub(crate) before: Option<Head>,
}

impl<F: StorageFile> Segment<F> {
    /// A segment whose content is known.
    pub(crate) fn new(
        place: &str,
        name: SegmentName,
        file: F,
        header: SegmentHeader,
        footer: Footer,
        batch_bytes: u64,
    ) -> Self {
        let Footer { data_end, head, index } = footer;
        let path = format!("{place}/{}", name.format());
        let extent = RwLock::new(Extent { head, data_end, batch_bytes, index });
        Self { path, name, file, header, extent, asked: Mutex::default() }
    }

    /// Opens a sealed segment: reads and checks its header and its footer, not its batches.
    pub(crate) fn open_sealed<S: Storage<File = F>>(
        storage: &S,
        name: SegmentName,
        branch: Option<u16>,
    ) -> Result<Self, ReadError> {
        let file = storage.open(&name.format(), false)?;
        let place = storage.place();
        let length = file.length()?;
        let damage = |offset, kind| Damage {
            file: format!("{place}/{}", name.format()),
            offset,
            position: name.first_position,
            kind,
        };
        let header = read_header(&file)?.ok_or_else(|| damage(0, DamageKind::SegmentHeader))?;
        if header.start.position.0 != name.first_position {
            return Err(damage(0, DamageKind::SegmentHeader).into());
        }
        if branch.is_some_and(|branch| branch != header.branch) {
            return Err(damage(0, DamageKind::ForeignBranch(header.branch)).into());
        }
        let (start, footer) =
            read_footer(&file, length)?.ok_or_else(|| damage(length, DamageKind::Footer))?;
        let empty = footer.head.batch <= header.start.batch || footer.head.position <= header.start.position;
        if footer.data_end != start || empty {
            return Err(damage(start, DamageKind::Footer).into());
        }
        Ok(Self::new(&place, name, file, header, footer, 0))
    }

    pub(crate) fn start(&self) -> Head {
        self.header.start
    }

    pub(crate) fn layout(&self) -> Layout {
        self.header.layout
    }

    /// The place after the last durable batch here.
    pub(crate) fn head(&self) -> Head {
        self.read_extent(|extent| extent.head)
    }

    /// Offset behind the last durable batch.
    pub(crate) fn data_end(&self) -> u64 {
        self.read_extent(|extent| extent.data_end)
    }

    /// What a footer written now would say.
    pub(crate) fn footer(&self) -> Footer {
        self.read_extent(|extent| Footer {
            data_end: extent.data_end,
            head: extent.head,
            index: extent.index.clone(),
        })
    }

    /// Makes a batch that has become durable visible to readers.
    pub(crate) fn publish(&self, position: u64, offset: u64, length: u64, head: Head) {
        let mut extent = self.extent.write().unwrap_or_else(PoisonError::into_inner);
        extent.index.offer(position, offset);
        extent.data_end = self.layout().next(offset, length);
        extent.batch_bytes += length;
        extent.head = head;
    }

    /// Whether so much of the segment is padding that copying it without is worth the writing.
    pub(crate) fn is_worth_packing(&self) -> bool {
        self.read_extent(|extent| (extent.data_end - extent.batch_bytes) * PADDING_SHARE > extent.data_end)
    }

    fn read_extent<T>(&self, look: impl FnOnce(&Extent) -> T) -> T {
        look(&self.extent.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The batch that holds `position`, which lies between this segment's start and head.
    pub(crate) fn find(&self, position: u64) -> Result<Found, ReadError> {
        let asked = self.asked().range(..=position).next_back().map(|(_, found)| *found);
        if let Some(found) = asked.filter(|found| found.header.end_position() > position) {
            return Ok(found);
        }
        let found = self.search(position)?;
        let mut asked = self.asked();
        if asked.len() >= ASKED_MAX {
            asked.clear();
        }
        asked.insert(found.header.first_position, found);
        Ok(found)
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<u64, Found>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn search(&self, position: u64) -> Result<Found, ReadError> {
        let entry = self.read_extent(|extent| extent.index.find(position));
        let mut offset = entry.unwrap_or(self.layout().data_start());
        let mut before = (offset == self.layout().data_start()).then(|| self.start());
        loop {
            let found = self.header_at(offset, before.as_ref(), position)?;
            if found.header.end_position() > position {
                if found.header.first_position > position {
                    return Err(self.damage(
                        offset,
                        position,
                        DamageKind::Chain("the index points elsewhere"),
                    ));
                }
                return Ok(found);
            }
            before = Some(crate::batch::head_after(&found.header, found.hash));
            offset = self.layout().next(offset, found.header.batch_length());
        }
    }

    fn header_at(&self, offset: u64, before: Option<&Head>, position: u64) -> Result<Found, ReadError> {
        let mut bytes = [0; HEADER_LENGTH];
        if offset >= self.data_end() || !read_exact_at(&self.file, offset, &mut bytes)? {
            return Err(self.damage(offset, position, DamageKind::CutOff));
        }
        let (header, hash) = check_header(&bytes, self.header.branch, before)
            .map_err(|kind| self.damage(offset, before.map_or(position, |before| before.position.0), kind))?;
        Ok(Found { offset, header, hash, before: before.copied() })
    }

    /// Reads `buffer.len()` bytes at `offset`, all of which must be there.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8], position: u64) -> Result<(), ReadError> {
        if read_exact_at(&self.file, offset, buffer)? {
            return Ok(());
        }
        Err(self.damage(offset, position, DamageKind::CutOff))
    }

    pub(crate) fn damage(&self, offset: u64, position: u64, kind: DamageKind) -> ReadError {
        Damage { file: self.path.clone(), offset, position, kind }.into()
    }
}

/// The header of a segment file, if it has a readable one.
pub(crate) fn read_header<F: StorageFile>(file: &F) -> Result<Option<SegmentHeader>, StorageError> {
    let mut bytes = [0; SEGMENT_HEADER_LENGTH];
    let got = file.read_at(0, &mut bytes)?;
    Ok(bytes.get(..got).and_then(SegmentHeader::decode))
}

/// The footer at the very end of a file of `length` bytes and where it begins, if there is a readable one.
fn read_footer<F: StorageFile>(file: &F, length: u64) -> Result<Option<(u64, Footer)>, StorageError> {
    let mut trailer = [0; TRAILER_LENGTH];
    let Some(at) = length.checked_sub(TRAILER_LENGTH as u64) else { return Ok(None) };
    if !read_exact_at(file, at, &mut trailer)? {
        return Ok(None);
    }
    let Some(start) = footer_length(&trailer).and_then(|footer| length.checked_sub(footer)) else {
        return Ok(None);
    };
    let mut bytes = vec![0; usize::try_from(length - start).unwrap_or(0)];
    if !read_exact_at(file, start, &mut bytes)? {
        return Ok(None);
    }
    Ok(Footer::decode(&bytes).map(|footer| (start, footer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_others_are_left_alone() {
        for sealed in [true, false] {
            let name = SegmentName { first_position: 42, sealed };
            assert_eq!(SegmentName::parse(&name.format()), Some(name));
        }
        for other in
            ["MARK", "seg-1.open", "seg-00000000000000000042.tmp", "seg-0000000000000000004x.seal", ""]
        {
            assert_eq!(SegmentName::parse(other), None, "{other}");
        }
    }
}

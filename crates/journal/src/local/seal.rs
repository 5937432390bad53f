//! Sealing: giving a full segment its footer, in place or in a copy without padding.
//!
//! In place, the footer goes behind the last batch, into sectors nothing acknowledged ever lay in. A copy is whole and
//! durable before it takes its name, and only when that name is durable does the original go.

use std::sync::Arc;

use crate::coverage::Mark as Covered;
use crate::error::ReadError;
use crate::seam::Head;
use crate::segment::format::{Footer, Layout, SegmentHeader, SparseIndex};
use crate::segment::walk::Walk;
use crate::segment::{Segment, SegmentName};
use crate::storage::{Storage, StorageError, StorageFile, remove_if_there};

/// A copy is synced after so many bytes, so that it never fills the page cache in the way of the writer.
const COPY_SYNC_BYTES: usize = 4 << 20;

/// Seals `segment`, which nobody appends to any more and whose batches are all known to be durable where they lie.
pub(super) fn seal<S: Storage>(
    storage: &S,
    segment: &Segment<S::File>,
) -> Result<Segment<S::File>, ReadError> {
    if !segment.is_worth_packing() {
        Covered::SealedInPlace.hit();
        return seal_in_place(storage, segment);
    }
    Covered::SealedPacked.hit();
    // A walk needs a handle of its own on the segment.
    let file = storage.open(&segment.name.format(), false)?;
    let (header, footer) = (segment.header, segment.footer());
    let again = Segment::new(&storage.place(), segment.name.clone(), file, header, footer, 0);
    rewrite(storage, &Arc::new(again), true)
}

fn sealed_name(name: &SegmentName) -> SegmentName {
    SegmentName { sealed: true, ..name.clone() }
}

fn seal_in_place<S: Storage>(storage: &S, segment: &Segment<S::File>) -> Result<Segment<S::File>, ReadError> {
    let (open, sealed) = (segment.name.format(), sealed_name(&segment.name));
    let file = storage.open(&open, true)?;
    let footer = segment.footer();
    let bytes = footer.encode();
    file.write_at(footer.data_end, &bytes)?;
    file.release_beyond(footer.data_end + bytes.len() as u64)?;
    file.sync_data()?;
    storage.rename(&open, &sealed.format())?;
    storage.sync_dir()?;
    Segment::open_sealed(storage, sealed, Some(segment.header.branch))
}

/// Copies the batches of `segment` into a new, packed, sealed file, and removes the original if `remove`.
pub(super) fn rewrite<S: Storage>(
    storage: &S,
    segment: &Arc<Segment<S::File>>,
    remove: bool,
) -> Result<Segment<S::File>, ReadError> {
    let sealed = sealed_name(&segment.name);
    copy_packed(segment, storage)?;
    if remove {
        remove_if_there(storage, &segment.name.format())?;
        storage.sync_dir()?;
    }
    Segment::open_sealed(storage, sealed, Some(segment.header.branch))
}

/// Copies the batches of `segment`, checked, into a packed, sealed file of `target`, durably. Returns where they end.
pub(super) fn copy_packed<F: StorageFile, T: Storage>(
    segment: &Arc<Segment<F>>,
    target: &T,
) -> Result<Head, ReadError> {
    let header = SegmentHeader { layout: Layout::Packed, ..segment.header };
    let mut packing = Packing::begin(target, header)?;
    let mut walk = Walk::new(Arc::clone(segment), segment.layout().data_start(), Some(segment.start()));
    let mut scratch = Vec::new();
    while !walk.is_at_end() {
        let (segment, found, bytes) = walk.step()?;
        super::scan::verify(segment, found.offset, &found.header, bytes, &mut scratch)?;
        packing.put(
            crate::batch::head_after(&found.header, found.hash),
            found.header.first_position,
            bytes,
        )?;
    }
    Ok(packing.end()?)
}

/// A packed, sealed file while it is being written: whole and durable before it takes its name.
pub(super) struct Packing<'a, T: Storage> {
    target: &'a T,
    name: String,
    draft: String,
    writing: Copy<T::File>,
    footer: Footer,
}

impl<'a, T: Storage> Packing<'a, T> {
    pub(super) fn begin(target: &'a T, header: SegmentHeader) -> Result<Self, StorageError> {
        let name = SegmentName { first_position: header.start.position.0, sealed: true }.format();
        let draft = format!("{name}.tmp");
        remove_if_there(target, &draft)?;
        let file = target.create(&draft)?;
        let mut writing = Copy { file, offset: 0, buffer: Vec::new() };
        writing.put(&header.encode())?;
        let footer = Footer { data_end: 0, head: header.start, index: SparseIndex::default() };
        Ok(Self { target, name, draft, writing, footer })
    }

    /// Puts a batch that was checked; `after` is the place after it.
    pub(super) fn put(&mut self, after: Head, first_position: u64, bytes: &[u8]) -> Result<(), StorageError> {
        self.footer.index.offer(first_position, self.writing.end());
        self.footer.head = after;
        self.writing.put(bytes)
    }

    /// Returns where the batches end.
    pub(super) fn end(mut self) -> Result<Head, StorageError> {
        self.footer.data_end = self.writing.end();
        self.writing.put(&self.footer.encode())?;
        self.writing.finish()?;
        self.target.rename(&self.draft, &self.name)?;
        self.target.sync_dir()?;
        Ok(self.footer.head)
    }
}

struct Copy<F> {
    file: F,
    offset: u64,
    buffer: Vec<u8>,
}

impl<F: StorageFile> Copy<F> {
    fn end(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= COPY_SYNC_BYTES {
            self.finish()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), StorageError> {
        self.file.reserve(self.end())?;
        self.file.write_at(self.offset, &self.buffer)?;
        self.file.sync_data()?;
        self.offset = self.end();
        self.buffer.clear();
        Ok(())
    }
}

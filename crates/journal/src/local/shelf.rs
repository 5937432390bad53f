//! A cold folder for a journal that is kept elsewhere than in local files: the same sealed segments, read by the same code.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::Mode;
use super::cold::Cold;
use super::reader::{LocalReader, Shared};
use super::seal::Packing;
use crate::batch::{BatchView, SealedBatch};
use crate::coverage::Mark as Covered;
use crate::error::{ArchiveError, ReadError};
use crate::seam::{Head, JournalReader};
use crate::segment::format::{Layout, SegmentHeader};
use crate::storage::{Storage, StorageError};

/// Copies all durable batches that `reader` reaches into sealed segments of the empty folder `target`, each checked on the way:
/// what [`export`](crate::export) does, for a journal that is kept anywhere.
///
/// # Errors
///
/// Damage in the source ends the export; the names of whole segments only are in `target`.
pub fn export_from<R: JournalReader, T: Storage>(
    reader: &R,
    branch: u16,
    target: &T,
    segment_bytes: u64,
) -> Result<Head, ArchiveError> {
    let mut start = reader.origin()?;
    let (mut packing, mut bytes): (Option<Packing<'_, T>>, u64) = (None, 0);
    let mut failed = None;
    let mut copy = |batch: BatchView<'_>| -> Result<(), StorageError> {
        let mut open = match packing.take() {
            Some(open) => open,
            None => {
                let (layout, epoch) = (Layout::Packed, batch.header.epoch);
                Packing::begin(target, SegmentHeader { layout, branch, epoch, start })?
            }
        };
        start = batch.head_after();
        open.put(start, batch.header.first_position, batch.bytes)?;
        bytes += batch.header.batch_length();
        if bytes >= segment_bytes {
            bytes = 0;
            open.end()?;
        } else {
            packing = Some(open);
        }
        Ok(())
    };
    let from = reader.origin()?.position;
    reader.scan(from, &mut |batch| match copy(batch) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if let Some(open) = packing {
        open.end()?;
    }
    Ok(start)
}

/// A branch's cold folder, for other implementations of the seam. It need not be there at every moment.
#[derive(Debug)]
pub struct Shelf<S> {
    cold: Cold<S>,
    branch: u16,
}

impl<S: Storage> Shelf<S> {
    /// The folder `storage`, for `branch`.
    #[must_use]
    pub fn new(storage: S, branch: u16) -> Self {
        Self { cold: Cold::new(storage, branch), branch }
    }

    /// Makes ready to take what begins at `start`, where what was put before must end.
    ///
    /// # Errors
    ///
    /// [`ReadError::ColdAway`] if the folder, or what must lie in it, is not there.
    pub fn begin(&self, start: Head) -> Result<(), ArchiveError> {
        self.cold.begin(start)
    }

    /// Puts the verified batches from `start` to `end`, which `next` gives in turn, durably. What lies there already is not
    /// put again.
    ///
    /// # Errors
    ///
    /// [`ArchiveError::Clash`] if something else begins at `start` there; what `next` met; the machine's refusal.
    ///
    /// # Panics
    ///
    /// If `next` gives other batches than it promised.
    pub fn put(
        &self,
        start: Head,
        end: Head,
        next: &mut dyn FnMut() -> Result<Option<SealedBatch>, ReadError>,
    ) -> Result<(), ArchiveError> {
        if self.cold.has(start, end)? {
            Covered::CopiedBefore.hit();
            // The name of an earlier attempt's copy may be seen and yet not be durable.
            return Ok(self.cold.storage().sync_dir()?);
        }
        let mut packing: Option<Packing<'_, S>> = None;
        while let Some(batch) = next()? {
            let header = batch.header();
            let packing = match &mut packing {
                Some(packing) => packing,
                none => {
                    let (layout, branch, epoch) = (Layout::Packed, self.branch, header.epoch);
                    let begun =
                        Packing::begin(self.cold.storage(), SegmentHeader { layout, branch, epoch, start })?;
                    none.insert(begun)
                }
            };
            packing.put(Head::after(&batch), header.first_position, batch.bytes())?;
        }
        let put = packing.expect("something lies between start and end").end()?;
        assert_eq!(put, end, "the batches are those that were promised");
        Ok(())
    }

    /// Reads what lies there before `end`.
    #[must_use]
    pub fn reader(&self, end: Head) -> LocalReader<S> {
        let storage = self.cold.storage();
        let (dummy, cold) = (storage.clone(), Some(storage.clone()));
        let shared = Shared::new(dummy, self.branch, Mode::Threaded, Vec::new(), end, None, cold);
        LocalReader::of(&Arc::new(shared), true)
    }
}

//! The writer: puts one batch after the other into the open segment, and syncs each before the next is written.

use std::sync::{Arc, mpsc};
use std::time::Instant;

use super::reader::Shared;
use super::{LocalOptions, Mode};
use crate::batch::SealedBatch;
use crate::coverage::Mark as Covered;
use crate::error::{AppendFault, AppendFaultKind};
use crate::seam::{Appended, Head};
use crate::segment::format::{Footer, Layout, SegmentHeader, SparseIndex, end_mark};
use crate::segment::{Segment, SegmentName};
use crate::storage::{Storage, StorageError, StorageErrorKind, StorageFile, remove_if_there};

type Files<S> = Arc<Segment<<S as Storage>::File>>;

#[derive(Debug)]
pub(super) struct Writer<S: Storage> {
    shared: Arc<Shared<S>>,
    options: LocalOptions,
    epoch: u64,
    current: Option<Current<S>>,
    since_mark: u64,
    sealing: mpsc::Sender<Files<S>>,
}

#[derive(Debug)]
struct Current<S: Storage> {
    segment: Files<S>,
    offset: u64,
    reserved: u64,
}

impl<S: Storage> Writer<S> {
    pub(super) fn new(
        shared: Arc<Shared<S>>,
        options: LocalOptions,
        epoch: u64,
        sealing: mpsc::Sender<Files<S>>,
    ) -> Self {
        Self { shared, options, epoch, current: None, since_mark: 0, sealing }
    }

    /// Makes `batch` durable, or says why not. After a fault this writer is not to be used again.
    pub(super) fn append(&mut self, batch: SealedBatch) -> Result<Appended, AppendFault> {
        let number = batch.header().batch;
        let fault = |kind| move |source| AppendFault { kind, batch: number, source: Some(Arc::new(source)) };
        let length = batch.bytes().len() as u64;
        // Whatever fails up to here has written nothing of the batch.
        let current = self.room_for(length).map_err(|source| {
            let full = source.kind == StorageErrorKind::Full;
            let kind = if full { AppendFaultKind::Full } else { AppendFaultKind::Uncertain };
            fault(kind)(source)
        })?;
        let segment = Arc::clone(&current.segment);
        let offset = current.offset;
        current.offset = segment.layout().next(offset, length);
        let written = segment.file.write_at(offset, batch.bytes());
        let marked = written.and_then(|()| segment.file.write_at(offset + length, &end_mark(&batch.hash())));
        marked.map_err(fault(AppendFaultKind::Uncertain))?;
        let sync_us = self.sync(&segment.file).map_err(fault(AppendFaultKind::Uncertain))?;

        let head = Head::after(&batch);
        segment.publish(batch.header().first_position, offset, length, head);
        self.shared.advance(head, length, sync_us);
        self.since_mark += 1;
        if self.since_mark >= self.options.mark_every {
            self.rest();
        }
        Ok(Appended { head, batch })
    }

    /// Nothing waits: time for the mark.
    pub(super) fn rest(&mut self) {
        // A mark that could not be written covers less than it might; the next one covers all.
        if self.since_mark > 0 {
            match self.shared.write_mark() {
                Ok(()) => self.since_mark = 0,
                Err(_refused) => Covered::MarkFailed.hit(),
            }
        }
    }

    fn sync(&self, file: &S::File) -> Result<u64, StorageError> {
        if self.options.mode == Mode::Stepped {
            return file.sync_data().map(|()| 0);
        }
        let begun = Instant::now();
        file.sync_data()?;
        Ok(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The open segment with `length` bytes reserved at its offset.
    fn room_for(&mut self, length: u64) -> Result<&mut Current<S>, StorageError> {
        let full =
            |current: &Current<S>| Layout::Aligned.next(current.offset, length) > self.options.segment_bytes;
        if self.current.as_ref().is_some_and(full) {
            // What the mark covers need not be copied at the next opening.
            self.rest();
            if let Some(old) = self.current.take() {
                // Without a sealer (it ended, or panicked) the next opening seals.
                let _sent = self.sealing.send(old.segment);
            }
        }
        let current = match self.current.take() {
            Some(current) => current,
            None => self.begin_segment()?,
        };
        let current = self.current.insert(current);
        let need = Layout::Aligned.next(current.offset, length);
        if need > current.reserved {
            let ahead = (current.reserved + self.options.reserve_bytes).min(self.options.segment_bytes);
            // Near a full disk what is needed may still fit where what is wished for does not.
            let reserve = |to: u64| current.segment.file.reserve(to).map(|()| to);
            current.reserved = reserve(need.max(ahead)).or_else(|_| {
                Covered::SmallReserve.hit();
                reserve(need)
            })?;
        }
        Ok(current)
    }

    fn begin_segment(&self) -> Result<Current<S>, StorageError> {
        let start = self.shared.durable();
        let name = SegmentName { first_position: start.position.0, sealed: false };
        let storage = self.shared.storage();
        let header =
            SegmentHeader { layout: Layout::Aligned, branch: self.options.branch, epoch: self.epoch, start };
        let made = self.make_file(&name, &header);
        let (file, reserved) = match made {
            Ok(made) => made,
            Err(error) => {
                // Best effort: an empty segment is no harm, the next opening removes it.
                let _removed = remove_if_there(storage, &name.format());
                return Err(error);
            }
        };
        let data_end = Layout::Aligned.data_start();
        let footer = Footer { data_end, head: start, index: SparseIndex::default() };
        let segment = Arc::new(Segment::new(&storage.place(), name, file, header, footer, 0));
        self.shared.add(Arc::clone(&segment));
        Ok(Current { segment, offset: data_end, reserved })
    }

    fn make_file(&self, name: &SegmentName, header: &SegmentHeader) -> Result<(S::File, u64), StorageError> {
        let storage = self.shared.storage();
        let file = storage.create(&name.format())?;
        let wish = self.options.reserve_bytes.min(self.options.segment_bytes).max(header.layout.data_start());
        let reserved = match file.reserve(wish) {
            Ok(()) => wish,
            Err(error) if error.kind == StorageErrorKind::Full => {
                Covered::SmallReserve.hit();
                file.reserve(header.layout.data_start())?;
                header.layout.data_start()
            }
            Err(error) => return Err(error),
        };
        file.write_at(0, &header.encode())?;
        file.sync_data()?;
        storage.sync_dir()?;
        Ok((file, reserved))
    }
}

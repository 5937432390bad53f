//! Walking a segment's batches in order through a window of its bytes.
//!
//! The window reads ahead, so that small batches do not cost a system call each. The walk checks headers and the
//! chain; bodies are checked by whoever takes them, so that another thread can do it.

use std::sync::Arc;

use skerry_proof::batch::HEADER_LENGTH;
use skerry_proof::{BatchHeader, Hash};

use super::format::{END_MARK_LENGTH, Footer, Layout, SparseIndex, end_mark};
use super::{Found, Segment};
use crate::batch::{check_header, damage_of, head_after};
use crate::error::{DamageKind, ReadError};
use crate::seam::Head;
use crate::storage::{SECTOR, StorageError, StorageFile};

/// How much the window reads at once.
const WINDOW: usize = 4 << 20;

/// Bytes of a file, read ahead.
#[derive(Debug)]
pub(crate) struct Window {
    bytes: Vec<u8>,
    start: u64,
    filled: usize,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, filled: 0 }
    }

    /// Up to `length` bytes at `offset`; fewer only where the file ends (or `limit`, if that is less, and less is there).
    pub(crate) fn at<F: StorageFile>(
        &mut self,
        file: &F,
        offset: u64,
        length: usize,
        limit: u64,
    ) -> Result<&[u8], StorageError> {
        let inside = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let skip = match inside {
            Some(skip) if skip + length <= self.filled => skip,
            _ => {
                let left = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX);
                let want = length.max(WINDOW.min(left));
                if self.bytes.len() < want {
                    self.bytes.resize(want, 0);
                }
                self.start = offset;
                self.filled = file.read_at(offset, &mut self.bytes[..want])?;
                0
            }
        };
        let end = (skip + length).min(self.filled);
        Ok(&self.bytes[skip.min(end)..end])
    }
}

/// A batch on the way: its segment, its place and header, its bytes.
pub(crate) type Stepped<'a, F> = (&'a Arc<Segment<F>>, Found, &'a [u8]);

/// Steps over the batches of one segment up to its durable end at the time the walk began.
#[derive(Debug)]
pub(crate) struct Walk<F> {
    segment: Arc<Segment<F>>,
    window: Window,
    offset: u64,
    data_end: u64,
    before: Option<Head>,
}

impl<F: StorageFile> Walk<F> {
    /// Begins at `offset`. `before` is the place the batch there must continue, if it is known.
    pub(crate) fn new(segment: Arc<Segment<F>>, offset: u64, before: Option<Head>) -> Self {
        let data_end = segment.data_end();
        Self { segment, window: Window::new(), offset, data_end, before }
    }

    pub(crate) fn segment(&self) -> &Arc<Segment<F>> {
        &self.segment
    }

    /// The place in front of the next batch, if it is known.
    pub(crate) fn before(&self) -> Option<Head> {
        self.before
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.offset >= self.data_end
    }

    /// The next batch and its bytes, which must be there: header and chain checked, body not.
    pub(crate) fn step(&mut self) -> Result<Stepped<'_, F>, ReadError> {
        let offset = self.offset;
        let segment = &self.segment;
        let position = self.before.map_or(segment.name.first_position, |before| before.position.0);
        let front = self.window.at(&segment.file, offset, HEADER_LENGTH, self.data_end)?;
        let (header, hash) = check_header(front, segment.header.branch, self.before.as_ref())
            .map_err(|kind| segment.damage(offset, position, kind))?;
        let length = header.batch_length();
        let next = segment.layout().next(offset, length);
        let bytes = self.window.at(&segment.file, offset, length as usize, self.data_end)?;
        if next > self.data_end || bytes.len() as u64 != length {
            return Err(segment.damage(offset, position, DamageKind::CutOff));
        }
        let before = self.before.replace(head_after(&header, hash));
        self.offset = next;
        Ok((segment, Found { offset, header, hash, before }, bytes))
    }
}

/// What a segment that was never sealed holds.
#[derive(Debug)]
pub(crate) struct Contents {
    /// What its footer would say.
    pub(crate) footer: Footer,
    /// Bytes of its batches without padding.
    pub(crate) batch_bytes: u64,
    /// The first bad batch, if the good ones are followed by anything but zeros and a footer.
    pub(crate) bad: Option<Bad>,
}

/// A batch that does not hold, and whether it may be a torn tail.
#[derive(Debug)]
pub(crate) struct Bad {
    pub(crate) offset: u64,
    pub(crate) kind: DamageKind,
    /// Offset of something that was written after it was durable.
    pub(crate) evidence: Option<u64>,
}

/// Reads a segment that was never sealed, checking every batch whole, up to the first that does not hold.
pub(crate) fn examine<F: StorageFile>(file: &F, branch: u16, start: Head) -> Result<Contents, StorageError> {
    let layout = Layout::Aligned;
    let mut window = Window::new();
    let mut scratch = Vec::new();
    let mut footer = Footer { data_end: layout.data_start(), head: start, index: SparseIndex::default() };
    let mut batch_bytes = 0;
    let length = file.length()?;
    loop {
        let offset = footer.data_end;
        let front = window.at(file, offset, HEADER_LENGTH, length)?;
        if Footer::begins(front) {
            return Ok(Contents { footer, batch_bytes, bad: None });
        }
        let front_is_empty = front.iter().all(|byte| *byte == 0);
        let checked = match check_header(front, branch, Some(&footer.head)) {
            Ok((header, hash)) => {
                let whole = header.batch_length() as usize + END_MARK_LENGTH;
                let bytes = window.at(file, offset, whole, length)?;
                check_whole(&header, hash, bytes, &mut scratch).map(|()| (header, hash))
            }
            Err(kind) => Err(kind),
        };
        match checked {
            Ok((header, hash)) => {
                footer.index.offer(header.first_position, offset);
                footer.data_end = layout.next(offset, header.batch_length());
                footer.head = head_after(&header, hash);
                batch_bytes += header.batch_length();
            }
            Err(kind) => {
                let evidence = evidence_behind(file, &mut window, branch, &footer.head, offset, length)?;
                let clean = front_is_empty && evidence.is_none();
                let bad = (!clean).then_some(Bad { offset, kind, evidence });
                return Ok(Contents { footer, batch_bytes, bad });
            }
        }
    }
}

/// Checks a batch of the aligned layout, body and end mark.
fn check_whole(
    header: &BatchHeader,
    hash: Hash,
    bytes: &[u8],
    scratch: &mut Vec<Hash>,
) -> Result<(), DamageKind> {
    let length = header.batch_length() as usize;
    let (batch, mark) = bytes.split_at_checked(length).ok_or(DamageKind::CutOff)?;
    header.verify_body(batch.get(HEADER_LENGTH..).unwrap_or_default(), scratch).map_err(damage_of)?;
    if mark != end_mark(&hash) {
        return Err(DamageKind::EndMark);
    }
    Ok(())
}

/// Looks behind the bad batch at `offset` for the beginning of a later one, or for a footer. Neither is written before the
/// batch in front of it is durable, so either proves that the bad one was.
fn evidence_behind<F: StorageFile>(
    file: &F,
    window: &mut Window,
    branch: u16,
    head: &Head,
    offset: u64,
    length: u64,
) -> Result<Option<u64>, StorageError> {
    let mut at = (offset + 1).next_multiple_of(SECTOR);
    while at < length {
        let front = window.at(file, at, HEADER_LENGTH, length)?;
        let later = check_header(front, branch, None)
            .is_ok_and(|(header, _)| header.batch > head.batch && header.first_position > head.position.0);
        if later || Footer::begins(front) {
            return Ok(Some(at));
        }
        at += SECTOR;
    }
    Ok(None)
}

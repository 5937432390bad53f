//! The cold folder: where old sealed segments went, read through by whoever may wait for it.
//!
//! No file is kept open, so that a volume can be unmounted at any time; whoever reaches into it then is told so. What is
//! remembered, within a bound, is where batches lie in a segment: its header and its footer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{ArchiveError, ReadError};
use crate::seam::{Head, Position};
use crate::segment::format::{Footer, SegmentHeader};
use crate::segment::{Segment, SegmentName};
use crate::storage::{Storage, StorageError};

/// Footers that are remembered; one of a full segment holds some 64 KiB of index.
const REMEMBERED: usize = 32;

/// A branch's cold folder.
#[derive(Debug)]
pub(super) struct Cold<S> {
    storage: S,
    branch: u16,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// First positions of the segments that were there when last looked.
    firsts: Vec<u64>,
    /// Those read last, the latest at the end.
    contents: VecDeque<(u64, SegmentHeader, Footer)>,
}

type Opened<S> = Result<Arc<Segment<<S as Storage>::File>>, ReadError>;

impl<S: Storage> Cold<S> {
    pub(super) fn new(storage: S, branch: u16) -> Self {
        Self { storage, branch, known: Mutex::default() }
    }

    pub(super) fn storage(&self) -> &S {
        &self.storage
    }

    /// Makes the folder at the first archiving; what holds it must be there.
    pub(super) fn make(&self) -> Result<(), ReadError> {
        self.storage.make().map_err(|error| self.away(0, None, Some(error)))
    }

    /// What is to be said when `position` cannot be reached.
    pub(super) fn away(
        &self,
        position: u64,
        name: Option<SegmentName>,
        source: Option<StorageError>,
    ) -> ReadError {
        crate::coverage::Mark::ColdAway.hit();
        let segment =
            name.map_or_else(|| format!("the segment with position {position}"), |name| name.format());
        ReadError::ColdAway { position, segment, place: self.storage.place(), source: source.map(Box::new) }
    }

    /// The segment that holds `position`.
    pub(super) fn segment_of(&self, position: Position) -> Opened<S> {
        if let Some(first) = self.candidate(position) {
            let segment = self.open(first, position.0)?;
            if segment.head().position > position {
                return Ok(segment);
            }
        }
        // Not known yet: archived since, or the folder has just come back.
        self.look(position.0)?;
        let first = self.candidate(position).ok_or_else(|| self.away(position.0, None, None))?;
        let segment = self.open(first, position.0)?;
        if segment.head().position > position { Ok(segment) } else { Err(self.away(position.0, None, None)) }
    }

    /// Where the segment that holds `position` ends.
    pub(super) fn end_of(&self, position: Position) -> Result<Head, ReadError> {
        self.segment_of(position).map(|segment| segment.head())
    }

    /// The segments from the one that holds `from` to the one that ends at `end`, opened as they are asked for.
    pub(super) fn between(
        self: &Arc<Self>,
        from: Position,
        end: Position,
    ) -> Result<impl Iterator<Item = Opened<S>> + Send + use<S>, ReadError> {
        let first = self.segment_of(from)?;
        if first.head().position < end {
            self.look(from.0)?;
        }
        let behind = first.head().position.0;
        let rest: Vec<u64> = {
            let known = self.known();
            known.firsts.iter().copied().filter(|first| (behind..end.0).contains(first)).collect()
        };
        let cold = Arc::clone(self);
        let rest = rest.into_iter().map(move |first| cold.open(first, first));
        Ok(std::iter::once(Ok(first)).chain(rest))
    }

    /// All segments before `end`.
    pub(super) fn all_before(
        self: &Arc<Self>,
        end: Position,
    ) -> Result<impl Iterator<Item = Opened<S>> + Send + use<S>, ReadError> {
        let origin = self.origin(end)?;
        self.between(origin.position, end)
    }

    /// Where the first segment begins, if the archive reaches up to `end`.
    pub(super) fn origin(&self, end: Position) -> Result<Head, ReadError> {
        let last = Position(end.0.saturating_sub(1));
        self.look(last.0)?;
        let first = self.known().firsts.first().copied();
        let first = first.ok_or_else(|| self.away(last.0, None, None))?;
        // That it reaches up to here must be seen, not assumed.
        drop(self.segment_of(last)?);
        Ok(self.open(first, first)?.start())
    }

    /// Whether a copy of what lies between `start` and `head` is there already: a sealed name is only ever given to a whole
    /// copy.
    pub(super) fn has(&self, start: Head, head: Head) -> Result<bool, ArchiveError> {
        let first = start.position.0;
        self.look(first)?;
        if self.known().firsts.binary_search(&first).is_err() {
            return Ok(false);
        }
        let there = Segment::open_sealed(&self.storage, name(first), Some(self.branch))?;
        if (there.start(), there.head()) == (start, head) {
            return Ok(true);
        }
        Err(ArchiveError::Clash { file: there.path })
    }

    /// Makes ready to take what begins at `start`. An empty folder where the archive should be is a volume that is not
    /// mounted: nothing may begin there.
    pub(super) fn begin(&self, start: Head) -> Result<(), ArchiveError> {
        self.make()?;
        if start.position > Position(0) && self.end_of(Position(start.position.0 - 1))? != start {
            return Err(self.away(start.position.0 - 1, None, None).into());
        }
        Ok(())
    }

    /// The last segment known to begin at or before `position`.
    fn candidate(&self, position: Position) -> Option<u64> {
        let known = self.known();
        let after = known.firsts.partition_point(|first| *first <= position.0);
        known.firsts.get(after.checked_sub(1)?).copied()
    }

    /// Looks at what is there now.
    fn look(&self, position: u64) -> Result<(), ReadError> {
        let files = self.storage.list().map_err(|error| self.away(position, None, Some(error)))?;
        let names = files.iter().filter_map(|file| SegmentName::parse(file)).filter(|name| name.sealed);
        let mut firsts: Vec<u64> = names.map(|name| name.first_position).collect();
        firsts.sort_unstable();
        self.known().firsts = firsts;
        Ok(())
    }

    fn open(&self, first: u64, position: u64) -> Opened<S> {
        crate::coverage::Mark::ReadFromCold.hit();
        let name = name(first);
        let away = |error| self.away(position, Some(name.clone()), Some(error));
        let remembered = {
            let known = self.known();
            known.contents.iter().find(|(known, ..)| *known == first).cloned()
        };
        if let Some((_, header, footer)) = remembered {
            // Opened all the same: what was taken away is missed at once.
            let file = self.storage.open(&name.format(), false).map_err(away)?;
            return Ok(Arc::new(Segment::new(&self.storage.place(), name, file, header, footer, 0)));
        }
        let segment = match Segment::open_sealed(&self.storage, name.clone(), Some(self.branch)) {
            Err(ReadError::Storage(error)) => return Err(away(error)),
            other => other?,
        };
        let mut known = self.known();
        if known.contents.len() == REMEMBERED {
            known.contents.pop_front();
        }
        known.contents.push_back((first, segment.header, segment.footer()));
        drop(known);
        Ok(Arc::new(segment))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Consistent between any two of its changes.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(first_position: u64) -> SegmentName {
    SegmentName { first_position, sealed: true }
}

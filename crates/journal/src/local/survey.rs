//! What lies in a journal's folder, looked at without changing anything: the chain of segments, where it ends, what is
//! left over, and every reason not to open it.

use std::sync::Arc;

use crate::coverage::Mark as Covered;
use crate::error::{Damage, DamageKind, OpenError, ReadError};
use crate::mark::{self, Mark};
use crate::seam::Head;
use crate::segment::format::{Layout, SegmentHeader};
use crate::segment::walk::{Bad, Contents, examine};
use crate::segment::{Segment, SegmentName, read_header};
use crate::storage::{Storage, StorageError, StorageFile};

/// A segment that was never sealed, read whole.
#[derive(Debug)]
pub(super) struct Unsealed<F> {
    pub(super) name: SegmentName,
    file: F,
    header: SegmentHeader,
    pub(super) contents: Contents,
}

/// A segment, one way or the other.
#[derive(Debug)]
pub(super) enum Entry<F> {
    Sealed(Segment<F>),
    Unsealed(Unsealed<F>),
}

impl<F: StorageFile> Entry<F> {
    /// The epoch of the owner who began the segment, and who alone wrote in it.
    pub(super) fn epoch(&self) -> u64 {
        match self {
            Self::Sealed(segment) => segment.header.epoch,
            Self::Unsealed(unsealed) => unsealed.header.epoch,
        }
    }
}

/// The folder as it is.
#[derive(Debug)]
pub(super) struct Survey<F> {
    /// In order, each continuing the one before.
    pub(super) entries: Vec<Entry<F>>,
    /// Where the first begins.
    pub(super) start: Head,
    /// Where the last good batch ends.
    pub(super) head: Head,
    pub(super) mark: Option<Mark>,
    /// Files that mean nothing any more.
    pub(super) leftovers: Vec<String>,
    /// File and offset where good batches end and something else begins.
    pub(super) torn: Option<(String, u64)>,
    /// The last segment holds bytes that only a declared loss lets us leave behind.
    pub(super) lossy: bool,
}

impl<F: StorageFile> Unsealed<F> {
    fn is_empty(&self) -> bool {
        self.contents.footer.head == self.header.start
    }

    /// The segment as readers see it.
    pub(super) fn into_segment(self, place: &str) -> Segment<F> {
        let Contents { footer, batch_bytes, .. } = self.contents;
        Segment::new(place, self.name, self.file, self.header, footer, batch_bytes)
    }
}

impl<F: StorageFile> Survey<F> {
    /// All of it as readers see it.
    pub(super) fn into_segments(self, place: &str) -> Vec<Arc<Segment<F>>> {
        let segment = |entry| match entry {
            Entry::Sealed(segment) => Arc::new(segment),
            Entry::Unsealed(unsealed) => Arc::new(unsealed.into_segment(place)),
        };
        self.entries.into_iter().map(segment).collect()
    }
}

/// Looks at everything. With `accept_loss` an early end and a damaged last segment are not errors.
///
/// # Errors
///
/// [`OpenError::Damaged`] with the place; [`OpenError::Storage`].
pub(super) fn survey<S: Storage>(
    storage: &S,
    branch: u16,
    accept_loss: bool,
) -> Result<Survey<S::File>, OpenError> {
    let place = storage.place();
    let refused = |error: StorageError| OpenError::of_storage(&place, error);
    let files = storage.list().map_err(refused)?;
    let (names, mut leftovers) = sort_names(&files);
    let mark = mark::read(storage, branch, !names.is_empty() && !accept_loss)?;
    let start = mark.map(|mark| mark.start);
    let mut looking = Looking { storage, branch, accept_loss, mark, place: place.clone() };

    let mut survey = Survey {
        entries: Vec::new(),
        start: Head::default(),
        head: Head::default(),
        mark,
        leftovers: Vec::new(),
        torn: None,
        lossy: false,
    };
    let mut cursor = start;
    let last = names.last().cloned();
    for name in names {
        let is_last = Some(&name) == last.as_ref();
        match looking.look(&name, cursor, is_last)? {
            None => leftovers.push(name.format()),
            Some(entry) => {
                let (begins, ends) = ends_of(&entry);
                let first = survey.entries.is_empty();
                looking.check_continues(&name, cursor, begins)?;
                if first {
                    survey.start = begins;
                }
                cursor = Some(ends);
                survey.entries.push(entry);
            }
        }
    }
    survey.head = cursor.unwrap_or_default();
    if survey.entries.is_empty() {
        survey.start = survey.head;
    }
    survey.leftovers = leftovers;
    looking.check_end(&mut survey)?;
    Ok(survey)
}

fn ends_of<F: StorageFile>(entry: &Entry<F>) -> (Head, Head) {
    match entry {
        Entry::Sealed(segment) => (segment.start(), segment.head()),
        Entry::Unsealed(unsealed) => (unsealed.header.start, unsealed.contents.footer.head),
    }
}

/// Segments in order of position, a sealed one in favour of its open twin; and what is left over from interrupted work.
fn sort_names(files: &[String]) -> (Vec<SegmentName>, Vec<String>) {
    let mut names: Vec<SegmentName> = files.iter().filter_map(|file| SegmentName::parse(file)).collect();
    names.sort_by_key(|name| (name.first_position, !name.sealed));
    let mut leftovers: Vec<String> = Vec::new();
    leftovers.extend(files.iter().filter(|file| file.starts_with("seg-") && file.ends_with(".tmp")).cloned());
    names.dedup_by(|open, sealed| {
        let twins = open.first_position == sealed.first_position;
        if twins {
            Covered::SealedTwin.hit();
            leftovers.push(open.format());
        }
        twins
    });
    (names, leftovers)
}

struct Looking<'a, S> {
    storage: &'a S,
    branch: u16,
    accept_loss: bool,
    mark: Option<Mark>,
    place: String,
}

impl<S: Storage> Looking<'_, S> {
    /// The segment `name`; `None` if the file means nothing any more.
    fn look(
        &mut self,
        name: &SegmentName,
        cursor: Option<Head>,
        is_last: bool,
    ) -> Result<Option<Entry<S::File>>, OpenError> {
        let start = self.mark.map_or(0, |mark| mark.start.position.0);
        if name.sealed {
            let segment = Segment::open_sealed(self.storage, name.clone(), Some(self.branch));
            let segment = segment.map_err(|error| self.refused(error))?;
            // Archived, and the power went before its removal was durable.
            let archived = segment.head().position.0 <= start;
            return Ok((!archived).then_some(Entry::Sealed(segment)));
        }
        let file = self.storage.open(&name.format(), false).map_err(|error| self.storage_refused(error))?;
        let header = read_header(&file).map_err(|error| self.storage_refused(error))?;
        let Some(header) = header.filter(|header| {
            header.start.position.0 == name.first_position && header.layout == Layout::Aligned
        }) else {
            return self.headless(name, &file, cursor.unwrap_or_default(), is_last);
        };
        if header.branch != self.branch {
            return Err(self.damage(name, 0, name.first_position, DamageKind::ForeignBranch(header.branch)));
        }
        let contents =
            examine(&file, self.branch, header.start).map_err(|error| self.storage_refused(error))?;
        let unsealed = Unsealed { name: name.clone(), file, header, contents };
        // What the mark covers was there once: then a bad first batch is damage, to be named where it lies. Where a loss was
        // declared nothing of the segment is left, and it is put aside.
        let end = unsealed.contents.footer.head.position;
        let covered = self.mark.is_some_and(|mark| mark.durable.position > end);
        let bad = unsealed.contents.bad.as_ref();
        let harmless = self.accept_loss || bad.is_none_or(|bad| bad.evidence.is_none() && !covered);
        if unsealed.is_empty() && is_last && harmless {
            Covered::EmptySegment.hit();
            return Ok(None);
        }
        if let Some(bad) = &unsealed.contents.bad {
            self.check_bad(name, bad, unsealed.contents.footer.head, is_last)?;
        }
        Ok(Some(Entry::Unsealed(unsealed)))
    }

    /// A file without a readable header: made, but the power went before anything in it was durable. Unless it holds more.
    fn headless(
        &self,
        name: &SegmentName,
        file: &S::File,
        start: Head,
        is_last: bool,
    ) -> Result<Option<Entry<S::File>>, OpenError> {
        let contents = examine(file, self.branch, start).map_err(|error| self.storage_refused(error))?;
        let evidence = contents.bad.is_some_and(|bad| bad.evidence.is_some());
        if is_last && contents.footer.head == start && !evidence {
            Covered::HeadlessSegment.hit();
            return Ok(None);
        }
        Err(self.damage(name, 0, name.first_position, DamageKind::SegmentHeader))
    }

    /// A bad batch is a torn tail only in the last segment, with nothing behind it, and not covered by the mark.
    fn check_bad(&self, name: &SegmentName, bad: &Bad, head: Head, is_last: bool) -> Result<(), OpenError> {
        let position = head.position.0;
        let covered = self.mark.is_some_and(|mark| mark.durable.position > head.position);
        let damage = |kind| Err(self.damage(name, bad.offset, position, kind));
        match bad.evidence {
            _ if is_last && self.accept_loss => Ok(()),
            Some(offset) => damage(DamageKind::NotATornTail(Box::new(bad.kind.clone()), offset)),
            None if covered || !is_last => damage(bad.kind.clone()),
            None => Ok(()),
        }
    }

    fn check_continues(
        &self,
        name: &SegmentName,
        cursor: Option<Head>,
        begins: Head,
    ) -> Result<(), OpenError> {
        let Some(cursor) = cursor.filter(|cursor| *cursor != begins) else { return Ok(()) };
        let kind = if begins.position > cursor.position {
            DamageKind::MissingSegment(cursor.position.0)
        } else {
            DamageKind::Chain("the segment does not continue the one before it")
        };
        Err(self.damage(name, 0, cursor.position.0, kind))
    }

    /// Nothing that the mark covers may be missing at the end.
    fn check_end(&self, survey: &mut Survey<S::File>) -> Result<(), OpenError> {
        let last = survey.entries.last();
        let (file, offset) = match last {
            Some(Entry::Sealed(segment)) => (segment.path.clone(), segment.data_end()),
            Some(Entry::Unsealed(last)) => {
                (format!("{}/{}", self.place, last.name.format()), last.contents.footer.data_end)
            }
            None => (self.place.clone(), 0),
        };
        let durable = self.mark.map(|mark| mark.durable).unwrap_or_default();
        let position = survey.head.position.0;
        let error = |kind| Err(Damage { file: file.clone(), offset, position, kind }.into());
        if let Some(Entry::Unsealed(Unsealed { contents: Contents { bad: Some(bad), .. }, .. })) = last {
            Covered::TornTail.hit();
            survey.torn = Some((file.clone(), bad.offset));
            survey.lossy = bad.evidence.is_some() || durable.position > survey.head.position;
        }
        if self.accept_loss {
            return Ok(());
        }
        if durable.position > survey.head.position {
            return error(DamageKind::Truncated { have: position, durable: durable.position.0 });
        }
        if durable.position == survey.head.position && durable != survey.head {
            return error(DamageKind::Chain("its end is not the one known to be durable"));
        }
        Ok(())
    }

    fn damage(&self, name: &SegmentName, offset: u64, position: u64, kind: DamageKind) -> OpenError {
        Damage { file: format!("{}/{}", self.place, name.format()), offset, position, kind }.into()
    }

    fn storage_refused(&self, error: StorageError) -> OpenError {
        OpenError::of_storage(&self.place, error)
    }

    fn refused(&self, error: ReadError) -> OpenError {
        OpenError::of_read(&self.place, error)
    }
}

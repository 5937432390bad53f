//! What writer, sealer and readers share, and the reader itself.
//!
//! Readers take the durable head first and the table of segments second; the writer publishes the other way round.
//! So a reader finds a segment for everything before the head it has seen.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use skerry_proof::batch::HEADER_LENGTH;
use skerry_proof::{RECORD_LENGTH, Tails};

use super::cold::Cold;
use super::scan::{Ahead, Trail, scan_ahead, scan_inline};
use super::{LocalOptions, Mode, archive, seal, survey};
use crate::batch::{BatchView, SealedBatch, StoredRecord};
use crate::error::{ArchiveError, DamageKind, OpenError, ReadError};
use crate::mark::{Mark, MarkFile};
use crate::seam::{Head, JournalReader, JournalStats, Position, Shelved};
use crate::segment::{Found, Segment};
use crate::storage::{Storage, StorageError};

type Table<F> = Vec<Arc<Segment<F>>>;

/// The state of an open journal that more than one thread sees.
#[derive(Debug)]
pub(super) struct Shared<S: Storage> {
    storage: S,
    branch: u16,
    mode: Mode,
    table: RwLock<Table<S::File>>,
    durable: RwLock<Head>,
    stats: Mutex<JournalStats>,
    cold: Option<Arc<Cold<S>>>,
    mark: Mutex<Option<MarkFile<S::File>>>,
}

impl<S: Storage> Shared<S> {
    pub(super) fn new(
        storage: S,
        branch: u16,
        mode: Mode,
        table: Table<S::File>,
        durable: Head,
        mark: Option<MarkFile<S::File>>,
        cold: Option<S>,
    ) -> Self {
        Self {
            storage,
            branch,
            mode,
            table: RwLock::new(table),
            durable: RwLock::new(durable),
            stats: Mutex::default(),
            cold: cold.map(|storage| Arc::new(Cold::new(storage, branch))),
            mark: Mutex::new(mark),
        }
    }

    pub(super) fn storage(&self) -> &S {
        &self.storage
    }

    pub(super) fn branch(&self) -> u16 {
        self.branch
    }

    pub(super) fn cold(&self) -> Option<&Arc<Cold<S>>> {
        self.cold.as_ref()
    }

    pub(super) fn durable(&self) -> Head {
        *self.durable.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> JournalStats {
        *self.stats_mut()
    }

    fn stats_mut(&self) -> MutexGuard<'_, JournalStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn segments(&self) -> Table<S::File> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The segment that holds `position`, if it is not before all of them.
    fn segment_with(&self, position: Position) -> Option<Arc<Segment<S::File>>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let after = table.partition_point(|segment| segment.start().position <= position);
        table.get(after.checked_sub(1)?).map(Arc::clone)
    }

    /// Takes in what the folder holds now, for readers that are not the owner's.
    fn survey_again(&self) -> Result<(), OpenError> {
        let found = survey_live(&self.storage, self.branch)?;
        let durable = found.head;
        let table = found.into_segments(&self.storage.place());
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
        *self.durable.write().unwrap_or_else(PoisonError::into_inner) = durable;
        Ok(())
    }

    /// Adds the new last segment.
    pub(super) fn add(&self, segment: Arc<Segment<S::File>>) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).push(segment);
    }

    /// Puts the sealed form of a segment in the place of the open one.
    fn replace(&self, sealed: Segment<S::File>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let start = sealed.start();
        if let Some(place) = table.iter_mut().find(|segment| segment.start() == start) {
            *place = Arc::new(sealed);
        }
    }

    /// Forgets the first `count` segments.
    pub(super) fn forget_first(&self, count: usize) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).drain(..count);
    }

    /// Tells readers that a batch has become durable.
    pub(super) fn advance(&self, head: Head, bytes: u64, sync_us: u64) {
        *self.durable.write().unwrap_or_else(PoisonError::into_inner) = head;
        let mut stats = self.stats_mut();
        stats.batches += 1;
        stats.bytes += bytes;
        stats.syncs += 1;
        stats.sync_us_total += sync_us;
        stats.sync_us_last = sync_us;
        stats.sync_us_max = stats.sync_us_max.max(sync_us);
    }

    /// Writes the durable mark as of now.
    pub(super) fn write_mark(&self) -> Result<(), StorageError> {
        self.change_mark(|_| ())
    }

    pub(super) fn change_mark(&self, change: impl FnOnce(&mut Mark)) -> Result<(), StorageError> {
        let mut file = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = file.as_mut() else { return Ok(()) };
        let mut mark = file.last();
        mark.durable = self.durable();
        change(&mut mark);
        file.write(mark)
    }

    /// Seals a full segment. A failure is counted and leaves it as it is: the next opening tries again.
    pub(super) fn seal(&self, segment: &Segment<S::File>) {
        let sealed = seal::seal(&self.storage, segment);
        let mut stats = self.stats_mut();
        match sealed {
            Ok(sealed) => {
                stats.seals += 1;
                drop(stats);
                self.replace(sealed);
            }
            Err(_counted) => {
                crate::coverage::Mark::SealFailed.hit();
                stats.seal_failures += 1;
            }
        }
    }
}

/// Surveys while an owner may write: it renames, removes and appends between two of our looks, which each for itself then looks like
/// damage. What is damaged stays so.
fn survey_live<S: Storage>(storage: &S, branch: u16) -> Result<survey::Survey<S::File>, OpenError> {
    let mut attempts = 1;
    loop {
        match survey::survey(storage, branch, false) {
            Err(_) if attempts < LOOKS_MAX => attempts += 1,
            found => return found,
        }
    }
}

/// Looks at a folder that do not come out well before it is believed.
const LOOKS_MAX: u32 = 8;

/// Where a position lies.
enum Lies<S: Storage> {
    /// In this segment of the table.
    Here(usize),
    /// In the cold folder, which ends at this position.
    Cold(Arc<Cold<S>>, Position),
}

/// The table, where in it or before it a position lies, and how far it was durable.
type Located<S> = (Table<<S as Storage>::File>, Lies<S>, Head);

/// Reads a local journal by position; any number of them on any thread.
#[derive(Debug)]
pub struct LocalReader<S: Storage> {
    shared: Arc<Shared<S>>,
    /// Whether it reads through to the cold folder.
    far: bool,
    /// Whether it is not the owner's, and has to look for what is new.
    watches: bool,
}

impl<S: Storage> Clone for LocalReader<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), far: self.far, watches: self.watches }
    }
}

impl<S: Storage> LocalReader<S> {
    pub(super) fn of(shared: &Arc<Shared<S>>, far: bool) -> Self {
        Self { shared: Arc::clone(shared), far, watches: false }
    }

    /// See [`JournalStore::look`](crate::JournalStore::look).
    pub(super) fn watching(storage: &S, cold: Option<S>, options: LocalOptions) -> Result<Self, OpenError> {
        let found = survey_live(storage, options.branch)?;
        let durable = found.head;
        let table = found.into_segments(&storage.place());
        let shared = Shared::new(storage.clone(), options.branch, options.mode, table, durable, None, cold);
        Ok(Self { shared: Arc::new(shared), far: true, watches: true })
    }

    /// Opens a journal for reading only: an export, a backup, an archive, or a folder that nobody writes to.
    /// Takes no lock and changes nothing. What is there now is what it sees.
    ///
    /// # Errors
    ///
    /// [`OpenError`] as for opening; a torn tail is no error, its batches are not shown.
    pub fn open_existing(storage: &S, branch: u16) -> Result<Self, OpenError> {
        Self::open_existing_with(storage, None, branch)
    }

    /// The same, reading through to `cold` for what was archived there.
    ///
    /// # Errors
    ///
    /// As [`LocalReader::open_existing`]; that the cold folder is not there is told when something is read from it.
    pub fn open_existing_with(storage: &S, cold: Option<S>, branch: u16) -> Result<Self, OpenError> {
        let found = survey::survey(storage, branch, false)?;
        let durable = found.head;
        let table = found.into_segments(&storage.place());
        let shared = Shared::new(storage.clone(), branch, Mode::Threaded, table, durable, None, cold);
        Ok(Self { shared: Arc::new(shared), far: true, watches: false })
    }

    /// The branch whose journal this is.
    #[must_use]
    pub fn branch(&self) -> u16 {
        self.shared.branch()
    }

    /// How many segment files there are.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.shared.segments().len()
    }

    /// The first place that is here.
    #[must_use]
    pub fn start_head(&self) -> Head {
        let head = self.head();
        let table = self.shared.table.read().unwrap_or_else(PoisonError::into_inner);
        table.first().map_or(head, |first| first.start())
    }

    /// See [`export`](crate::export).
    pub(crate) fn export<T: Storage>(&self, target: &T) -> Result<Head, ArchiveError> {
        archive::export(&self.shared, target)
    }

    fn locate(&self, position: Position) -> Result<Located<S>, ReadError> {
        let durable = self.head();
        let table = self.shared.segments();
        if position >= durable.position {
            return Err(ReadError::Beyond { position: position.0, durable: durable.position.0 });
        }
        let after = table.partition_point(|segment| segment.start().position <= position);
        if let Some(index) = after.checked_sub(1) {
            return Ok((table, Lies::Here(index), durable));
        }
        let first = table.first().map_or(durable, |first| first.start()).position;
        match self.cold() {
            Some(cold) => Ok((table, Lies::Cold(Arc::clone(cold), first), durable)),
            None => Err(ReadError::Archived { first: first.0 }),
        }
    }

    fn cold(&self) -> Option<&Arc<Cold<S>>> {
        self.shared.cold().filter(|_| self.far)
    }

    fn segment_of(&self, position: Position) -> Result<Arc<Segment<S::File>>, ReadError> {
        if position < self.head().position
            && let Some(segment) = self.shared.segment_with(position)
        {
            return Ok(segment);
        }
        match self.locate(position)? {
            (table, Lies::Here(index), _) => Ok(Arc::clone(&table[index])),
            (_, Lies::Cold(cold, _), _) => cold.segment_of(position),
        }
    }

    fn trail(&self, from: Position) -> Result<Option<Trail<S::File>>, ReadError> {
        if from == self.head().position {
            return Ok(None);
        }
        let (mut table, lies, durable) = self.locate(from)?;
        let mut ahead: Ahead<S::File> = match lies {
            Lies::Here(index) => Box::new(table.split_off(index).into_iter().map(Ok)),
            Lies::Cold(cold, end) => Box::new(cold.between(from, end)?.chain(table.into_iter().map(Ok))),
        };
        let first = ahead.next().transpose()?.expect("a trail begins in a segment");
        Trail::begin(first, ahead, from, durable).map(Some)
    }

    /// A refusal of the machine that was met in the cold folder is told as such.
    fn told(&self, position: Position, error: ReadError) -> ReadError {
        match (error, self.cold()) {
            (ReadError::Storage(error), Some(cold)) if position < self.start() => {
                cold.away(position.0, None, Some(error))
            }
            (error, _) => error,
        }
    }

    fn record_at(&self, position: Position) -> Result<StoredRecord, ReadError> {
        let segment = &*self.segment_of(position)?;
        let found = segment.find(position.0)?;
        let index = position.0 - found.header.first_position;
        let mut record = [0; RECORD_LENGTH];
        let at = found.offset + (HEADER_LENGTH as u64) + index * (RECORD_LENGTH as u64);
        segment.read(at, &mut record, position.0)?;
        let index = u32::try_from(index).expect("a batch has fewer than 2^32 records");
        let tail = self.tail_of(segment, &found, index, position.0)?;
        Ok(StoredRecord { position, header: found.header, record, tail })
    }

    fn tail_of(
        &self,
        segment: &Segment<S::File>,
        found: &Found,
        index: u32,
        position: u64,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let Found { offset, header, .. } = found;
        if header.tails_length == 0 {
            return Ok(None);
        }
        let start = offset + HEADER_LENGTH as u64 + header.records_length() + u64::from(header.actors_length);
        let mut area = vec![0; header.tails_length as usize];
        segment.read(start, &mut area, position)?;
        match Tails::parse(&area, header.record_count) {
            Ok(tails) => Ok(tails.get(index).map(<[u8]>::to_vec)),
            Err(_malformed) => Err(segment.damage(start, position, DamageKind::Extras)),
        }
    }
}

impl<S: Storage> JournalReader for LocalReader<S> {
    fn start(&self) -> Position {
        self.start_head().position
    }

    fn origin(&self) -> Result<Head, ReadError> {
        let start = self.start_head();
        match self.cold() {
            Some(cold) if start.position > Position(0) => cold.origin(start.position),
            _ => Ok(start),
        }
    }

    fn copy_old(&self, before: Position, most: usize) -> Result<Shelved, ArchiveError> {
        archive::copy_old(&self.shared, before, most)
    }

    fn head(&self) -> Head {
        self.shared.durable()
    }

    fn look_again(&self) -> Result<Head, OpenError> {
        if self.watches {
            self.shared.survey_again()?;
        }
        Ok(self.head())
    }

    fn read(&self, from: Position, bytes_max: usize) -> Result<Vec<SealedBatch>, ReadError> {
        let Some(mut trail) = self.trail(from)? else { return Ok(Vec::new()) };
        let (mut batches, mut total, mut scratch) = (Vec::new(), 0, Vec::new());
        while total == 0 || total < bytes_max {
            let Some(step) = trail.step()? else { break };
            step.verify(&mut scratch)?;
            if total > 0 && total + step.bytes.len() > bytes_max {
                break;
            }
            total += step.bytes.len();
            batches.push(SealedBatch::verified(step.header, step.hash, step.bytes.to_vec()));
        }
        Ok(batches)
    }

    fn read_record(&self, position: Position) -> Result<StoredRecord, ReadError> {
        self.record_at(position).map_err(|error| self.told(position, error))
    }

    fn scan(
        &self,
        from: Position,
        visit: &mut dyn FnMut(BatchView<'_>) -> ControlFlow<()>,
    ) -> Result<Head, ReadError> {
        let Some(trail) = self.trail(from)? else { return Ok(self.head()) };
        match self.shared.mode {
            Mode::Stepped => scan_inline(trail, visit),
            Mode::Threaded => scan_ahead(trail, visit),
        }
    }
}

//! The journal over local files: segments, the durable mark, one writer.
//!
//! ```text
//! append ─► Lane (queue of at most `in_flight_max`) ─► Writer: write, sync, publish ─► Lane ─► poll
//!                     threaded: an I/O thread                   │ full segment
//!                     stepped: `step()`                         └─► Sealer (own thread, or `step()`)
//! ```
//!
//! The two modes differ in who calls the writer, and in nothing else: what is simulated is what runs.

mod archive;
mod cold;
mod lane;
mod open;
mod reader;
mod scan;
mod seal;
mod shelf;
mod survey;
mod writer;

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::batch::{BATCH_BYTES_MAX, SealedBatch, continues};
use crate::error::{AppendErrorKind, AppendFault, ArchiveError, OpenError};
use crate::seam::{Appended, Head, Journal, JournalStats, JournalStore, Opened, Position, Shelved, Wake};
use crate::segment::Segment;
use crate::storage::Storage;
pub use lane::Lane;
pub use reader::LocalReader;
use reader::Shared;
pub use shelf::{Shelf, export_from};
use writer::Writer;

/// Who does the writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// A thread of its own: appends overlap with the caller's work.
    #[default]
    Threaded,
    /// The caller, one batch a [`Journal::step`]: deterministic.
    Stepped,
}

/// How a local journal is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalOptions {
    /// The branch whose journal it is; a journal of another is refused.
    pub branch: u16,
    /// A segment that would grow beyond this is sealed and a new one begun.
    pub segment_bytes: u64,
    /// How much space is reserved at a time, ahead of writing.
    pub reserve_bytes: u64,
    /// How many batches may be in flight.
    pub in_flight_max: usize,
    /// The durable mark is written after so many batches (and when idle, at the end of a segment, and at closing).
    pub mark_every: u64,
    /// Who does the writing.
    pub mode: Mode,
    /// An operator has declared a loss: the journal opens although it ends before its durable mark or although a
    /// batch of its last, unsealed segment is damaged. What lies behind is put aside, not removed.
    pub accept_loss: bool,
    /// Whether opening reads and checks every batch of every sealed segment, not only those of the last one.
    pub verify_sealed: bool,
}

impl LocalOptions {
    /// The usual ones for `branch`: segments of 256 MiB, three batches in flight.
    #[must_use]
    pub const fn new(branch: u16) -> Self {
        Self {
            branch,
            segment_bytes: 256 << 20,
            reserve_bytes: 32 << 20,
            in_flight_max: 3,
            mark_every: 256,
            mode: Mode::Threaded,
            accept_loss: false,
            verify_sealed: false,
        }
    }
}

/// A folder and how to open the journal in it.
#[derive(Debug, Clone)]
pub struct LocalStore<S> {
    /// The folder.
    pub storage: S,
    /// How to open it.
    pub options: LocalOptions,
    /// Where old segments go, if anywhere; it need not be there at every moment.
    pub cold: Option<S>,
}

impl<S: Storage> JournalStore for LocalStore<S> {
    type Journal = LocalJournal<S>;

    fn open(&self) -> Result<Opened<LocalJournal<S>>, OpenError> {
        LocalJournal::open_with(&self.storage, self.cold.clone(), self.options)
    }

    /// Each look reads the last segment whole: fit for tests and for now and then.
    fn look(&self) -> Result<LocalReader<S>, OpenError> {
        LocalReader::watching(&self.storage, self.cold.clone(), self.options)
    }
}

/// A journal in a folder, open for appending. Dropping it in threaded mode finishes what is in flight first.
#[derive(Debug)]
pub struct LocalJournal<S: Storage> {
    shared: Arc<Shared<S>>,
    lane: Arc<Lane>,
    engine: Option<Engine<S>>,
    epoch: u64,
    taken: Head,
    options: LocalOptions,
    checks: u64,
    _lock: S::Lock,
}

#[derive(Debug)]
enum Engine<S: Storage> {
    Threaded { writer: JoinHandle<()>, sealer: JoinHandle<()> },
    Stepped { writer: Box<Writer<S>>, to_seal: mpsc::Receiver<Arc<Segment<S::File>>> },
}

impl<S: Storage> LocalJournal<S> {
    /// Opens (or begins) the journal in `storage`. See [`JournalStore::open`].
    ///
    /// # Errors
    ///
    /// [`OpenError`] with file and place.
    pub fn open(storage: &S, options: LocalOptions) -> Result<Opened<Self>, OpenError> {
        Self::open_with(storage, None, options)
    }

    /// The same with a cold folder, which is not touched now.
    ///
    /// # Errors
    ///
    /// As [`LocalJournal::open`].
    pub fn open_with(storage: &S, cold: Option<S>, options: LocalOptions) -> Result<Opened<Self>, OpenError> {
        let ready = open::open(storage, cold, options)?;
        let (sealing, to_seal) = mpsc::channel();
        let lane = Arc::new(Lane::default());
        let writer = Writer::new(Arc::clone(&ready.shared), options, ready.recovery.epoch, sealing);
        let engine = match options.mode {
            Mode::Stepped => Engine::Stepped { writer: Box::new(writer), to_seal },
            Mode::Threaded => spawn(&ready.shared, &lane, writer, to_seal)?,
        };
        let journal = Self {
            shared: ready.shared,
            lane,
            engine: Some(engine),
            epoch: ready.recovery.epoch,
            taken: ready.recovery.head,
            options,
            checks: 0,
            _lock: ready.lock,
        };
        Ok(Opened { journal, recovery: ready.recovery })
    }

    /// Waits until `poll` has something to tell or `timeout` is over. For drivers without a loop of their own.
    pub fn wait(&self, timeout: Duration) {
        self.lane.wait_finished(timeout);
    }

    /// Does what `close` and `drop` have in common: ends the threads after their work.
    fn finish(&mut self) {
        match self.engine.take() {
            Some(Engine::Threaded { writer, sealer }) => {
                self.lane.stop();
                // A thread that panicked has told its fault through the lane already.
                let _writer_ended = writer.join();
                let _sealer_ended = sealer.join();
            }
            Some(Engine::Stepped { .. }) | None => (),
        }
    }

    fn check(&self, batch: &SealedBatch) -> Result<(), AppendErrorKind> {
        let header = batch.header();
        if self.lane.has_failed() {
            return Err(AppendErrorKind::Stopped);
        }
        if self.lane.in_flight() >= self.options.in_flight_max {
            return Err(AppendErrorKind::Busy);
        }
        if header.branch != self.options.branch {
            return Err(AppendErrorKind::OutOfOrder("it belongs to another branch"));
        }
        if header.epoch != self.epoch {
            return Err(AppendErrorKind::OutOfOrder("it carries another epoch"));
        }
        if header.record_count == 0 {
            return Err(AppendErrorKind::OutOfOrder("it has no records"));
        }
        if header.batch_length() > BATCH_BYTES_MAX {
            return Err(AppendErrorKind::OutOfOrder("it is longer than any batch may be"));
        }
        continues(&self.taken, header).map_err(AppendErrorKind::OutOfOrder)
    }
}

impl<S: Storage> Journal for LocalJournal<S> {
    type Reader = LocalReader<S>;

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn head(&self) -> Head {
        self.shared.durable()
    }

    fn taken(&self) -> Head {
        self.taken
    }

    fn in_flight(&self) -> usize {
        self.lane.in_flight()
    }

    fn append(&mut self, batch: SealedBatch) -> Result<(), (AppendErrorKind, SealedBatch)> {
        if let Err(kind) = self.check(&batch) {
            return Err((kind, batch));
        }
        self.taken = Head::after(&batch);
        self.lane.submit(batch);
        Ok(())
    }

    fn poll(&mut self) -> Option<Result<Appended, AppendFault>> {
        self.lane.poll()
    }

    /// The folder's lock is held by the owner: while it is one, nobody else can be.
    fn confirm(&mut self) -> u64 {
        self.checks += 1;
        self.checks
    }

    fn confirmed(&self) -> u64 {
        self.checks
    }

    fn step(&mut self) -> bool {
        let Some(Engine::Stepped { writer, to_seal }) = &mut self.engine else { return false };
        if let Some(batch) = self.lane.take() {
            self.lane.finish(writer.append(batch));
            return true;
        }
        match to_seal.try_recv() {
            Ok(segment) => {
                self.shared.seal(&segment);
                true
            }
            Err(_) => false,
        }
    }

    fn on_progress(&mut self, wake: Wake) {
        self.lane.set_wake(wake);
    }

    fn reader(&self) -> LocalReader<S> {
        LocalReader::of(&self.shared, false)
    }

    fn far_reader(&self) -> LocalReader<S> {
        LocalReader::of(&self.shared, true)
    }

    fn stats(&self) -> JournalStats {
        self.shared.stats()
    }

    fn release(&mut self, copied: Shelved) -> Result<Position, ArchiveError> {
        archive::release(&self.shared, copied)
    }

    fn close(mut self) -> Vec<Result<Appended, AppendFault>> {
        while self.step() {}
        self.finish();
        // Refused by the machine: the mark then covers less, and opening will copy the last segment.
        let _marked = self.shared.write_mark();
        std::iter::from_fn(|| self.lane.poll()).collect()
    }
}

impl<S: Storage> Drop for LocalJournal<S> {
    fn drop(&mut self) {
        self.finish();
    }
}

fn spawn<S: Storage>(
    shared: &Arc<Shared<S>>,
    lane: &Arc<Lane>,
    mut writer: Writer<S>,
    to_seal: mpsc::Receiver<Arc<Segment<S::File>>>,
) -> Result<Engine<S>, OpenError> {
    let branch = shared.branch();
    let fail = |source| OpenError::Thread { source };
    let sealing = Arc::clone(shared);
    let sealer = std::thread::Builder::new()
        .name(format!("seal-{branch:04}"))
        .spawn(move || to_seal.iter().for_each(|segment| sealing.seal(&segment)))
        .map_err(fail)?;
    let lane = Arc::clone(lane);
    let writer = std::thread::Builder::new()
        .name(format!("journal-{branch:04}"))
        .spawn(move || {
            lane.run(
                |batch| match batch {
                    Some(batch) => Some(writer.append(batch)),
                    None => {
                        writer.rest();
                        None
                    }
                },
                MARK_IDLE,
            );
        })
        .map_err(fail)?;
    Ok(Engine::Threaded { writer, sealer })
}

/// After so long without a batch the durable mark is written.
const MARK_IDLE: Duration = Duration::from_millis(250);

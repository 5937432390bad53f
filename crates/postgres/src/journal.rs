//! A branch's journal in a store: how it is opened, and the owner's side of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skerry_journal::batch::{BATCH_BYTES_MAX, continues};
use skerry_journal::{
    AppendErrorKind, AppendFault, Appended, ArchiveError, Head, Journal, JournalStats, JournalStore, Lane,
    OpenError, Opened, Position, SealedBatch, Shelf, Shelved, Storage, Wake,
};
use tokio::sync::Notify;

use crate::open::{self, Ready};
use crate::pool::Pool;
use crate::reader::PostgresReader;
use crate::shared::{Shared, Told, lock};
use crate::writer::Writer;

/// How a journal is kept in PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// The branch whose journal it is.
    pub branch: u16,
    /// Says whose bank it is; tables of another one are refused.
    pub bank: String,
    /// Positions in a span, each with a table of its own. Fixed when the branch's journal is founded.
    pub span_records: u64,
    /// How many batches may be in flight.
    pub in_flight_max: usize,
    /// The durable mark is written after so many batches (and when idle, and at closing).
    pub mark_every: u64,
    /// An operator has declared a loss: the journal opens although it ends before what was once told.
    pub accept_loss: bool,
}

impl PostgresOptions {
    /// The usual ones: spans of four million records (some 512 MiB), three batches in flight.
    #[must_use]
    pub fn new(branch: u16, bank: &str) -> Self {
        Self {
            branch,
            bank: bank.to_owned(),
            span_records: 4 << 20,
            in_flight_max: 3,
            mark_every: 256,
            accept_loss: false,
        }
    }
}

/// A store, and how to open a branch's journal in it. Clones remember together what was told.
#[derive(Debug, Clone)]
pub struct PostgresStore<S> {
    /// Connections to the store; branches share them for reading.
    pub(crate) pool: Pool,
    pub(crate) options: PostgresOptions,
    /// A folder of this machine for the durable mark.
    pub(crate) mark: Option<S>,
    /// Where old spans go, if anywhere; it need not be there at every moment.
    pub(crate) cold: Option<S>,
    pub(crate) told: Arc<Mutex<Told>>,
}

impl<S: Storage> PostgresStore<S> {
    /// The journal that `options` name, in the store that `pool` reaches. `mark` is a folder of this machine that outlives the
    /// process: what it holds finds a store that has lost data. `cold` is where old spans go.
    #[must_use]
    pub fn new(pool: Pool, options: PostgresOptions, mark: Option<S>, cold: Option<S>) -> Self {
        Self { pool, options, mark, cold, told: Arc::default() }
    }

    /// The same with other spans, for branches that are founded from now on.
    #[must_use]
    pub fn with_spans(mut self, records: u64) -> Self {
        self.options.span_records = records;
        self
    }

    /// The same, to be opened although it ends before what was once told.
    #[must_use]
    pub fn accepting_loss(mut self) -> Self {
        self.options.accept_loss = true;
        self
    }

    /// The same journal reached by `pool`, as another process of this machine would open it: only the mark remembers.
    #[must_use]
    pub fn with_memory_of_the_mark_only(&self, pool: Pool) -> Self {
        Self { pool, told: Arc::default(), ..self.clone() }
    }

    fn place(&self) -> String {
        format!("{}, branch {}", self.pool.server().place(), self.options.branch)
    }
}

impl<S: Storage> JournalStore for PostgresStore<S> {
    type Journal = PostgresJournal<S>;

    fn open(&self) -> Result<Opened<PostgresJournal<S>>, OpenError> {
        let place = self.place();
        let Ready { link, tables, ends, recovery, mark } = open::open(self, &place)?;
        let shelf = self.cold.clone().map(|folder| Shelf::new(folder, self.options.branch));
        let known = (self.pool.clone(), tables, place);
        let opened = (recovery.epoch, ends);
        let shared = Arc::new(Shared::new(known, opened, shelf, Arc::clone(&self.told), mark));
        let (lane, work) = (Arc::new(Lane::default()), Arc::new(Notify::new()));
        let checks = Arc::<Checks>::default();
        let (ended, end) = mpsc::channel();
        let handle = self.pool.server().handle();
        let writer = Writer::new(
            Arc::clone(&shared),
            Arc::clone(&lane),
            Arc::clone(&work),
            (link, Arc::clone(&checks)),
            self.options.mark_every,
        );
        handle.spawn(writer.run(ended));
        let journal = PostgresJournal {
            taken: recovery.head,
            shared,
            lane,
            work,
            end,
            in_flight_max: self.options.in_flight_max.max(1),
            checks,
        };
        Ok(Opened { journal, recovery })
    }

    fn look(&self) -> Result<PostgresReader<S>, OpenError> {
        let place = self.place();
        let branch = self.options.branch;
        let row = open::look(&self.pool, branch, &place)?;
        let shelf = self.cold.clone().map(|folder| Shelf::new(folder, branch));
        let known = (self.pool.clone(), row.tables(branch), place);
        let shared = Shared::new(known, (row.epoch, row.ends), shelf, Arc::default(), None);
        Ok(PostgresReader::watching(&Arc::new(shared)))
    }

    fn forgive(&self, epoch: u64) -> Result<(), OpenError> {
        let mut told = lock(&self.told);
        if told.epoch < epoch {
            told.durable = Head::default();
        }
        open::forgive(self, epoch)
    }

    fn patience(&self, attempts: u32) -> Option<Duration> {
        Some(BACK_OFF.saturating_mul(1 << attempts.min(6)).min(BACK_OFF_MAX))
    }
}

/// Checks that were asked for, and those that came out well.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    pub(crate) asked: AtomicU64,
    pub(crate) confirmed: AtomicU64,
}

/// From a fault to the first attempt at opening again; doubled with each one in vain.
const BACK_OFF: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(3);

/// A journal in a store, open for appending. Dropping it finishes what is in flight first.
#[derive(Debug)]
pub struct PostgresJournal<S: Storage> {
    shared: Arc<Shared<S>>,
    lane: Arc<Lane>,
    work: Arc<Notify>,
    /// Ends with the writer.
    end: mpsc::Receiver<()>,
    taken: Head,
    in_flight_max: usize,
    checks: Arc<Checks>,
}

impl<S: Storage> PostgresJournal<S> {
    fn check(&self, batch: &SealedBatch) -> Result<(), AppendErrorKind> {
        let header = batch.header();
        if self.lane.has_failed() {
            return Err(AppendErrorKind::Stopped);
        }
        if self.lane.in_flight() >= self.in_flight_max {
            return Err(AppendErrorKind::Busy);
        }
        if header.branch != self.shared.tables.branch {
            return Err(AppendErrorKind::OutOfOrder("it belongs to another branch"));
        }
        if header.epoch != self.shared.epoch {
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

    /// Lets the writer end after its work, and waits for that: for as long as a commit may take.
    fn finish(&self) {
        self.lane.stop();
        self.work.notify_one();
        // It never sends: the channel ends when the writer does.
        let _ended = self.end.recv();
    }
}

impl<S: Storage> Journal for PostgresJournal<S> {
    type Reader = PostgresReader<S>;

    fn epoch(&self) -> u64 {
        self.shared.epoch
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
        self.work.notify_one();
        Ok(())
    }

    fn poll(&mut self) -> Option<Result<Appended, AppendFault>> {
        self.lane.poll()
    }

    fn confirm(&mut self) -> u64 {
        let number = self.checks.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.work.notify_one();
        number
    }

    fn confirmed(&self) -> u64 {
        self.checks.confirmed.load(Ordering::Acquire)
    }

    fn step(&mut self) -> bool {
        false
    }

    fn on_progress(&mut self, wake: Wake) {
        self.lane.set_wake(wake);
    }

    fn reader(&self) -> PostgresReader<S> {
        PostgresReader::of(&self.shared, false)
    }

    fn far_reader(&self) -> PostgresReader<S> {
        PostgresReader::of(&self.shared, true)
    }

    fn stats(&self) -> JournalStats {
        self.shared.stats()
    }

    fn release(&mut self, copied: Shelved) -> Result<Position, ArchiveError> {
        crate::archive::release(&self.shared, copied)
    }

    fn close(self) -> Vec<Result<Appended, AppendFault>> {
        self.finish();
        // Refused by the machine: the mark then covers less than it might.
        let _marked = self.shared.write_mark();
        std::iter::from_fn(|| self.lane.poll()).collect()
    }
}

impl<S: Storage> Drop for PostgresJournal<S> {
    fn drop(&mut self) {
        self.finish();
    }
}

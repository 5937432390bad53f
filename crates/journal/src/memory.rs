//! The journal in memory: the seam's promises without files, for simulation and for tests of what stands above.
//!
//! The batches live in the [`MemoryStore`]; opening it again raises the epoch and fences the older owner. Nothing becomes
//! durable but by [`Journal::step`], so a test decides when.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::batch::{BatchView, SealedBatch, StoredRecord, continues};
use crate::error::{AppendErrorKind, AppendFault, AppendFaultKind, ArchiveError, OpenError, ReadError};
use crate::seam::{
    Appended, Head, Journal, JournalReader, JournalStats, JournalStore, Opened, Position, Recovery, Shelved,
    Wake,
};

#[derive(Debug, Default)]
struct World {
    epoch: u64,
    start: Head,
    head: Head,
    /// The end of what was told durable.
    told: Head,
    batches: VecDeque<Arc<SealedBatch>>,
    /// The archive, from the beginning of all.
    cold: Vec<Arc<SealedBatch>>,
    cold_away: bool,
    fail_next: Option<(AppendFaultKind, bool)>,
    stats: JournalStats,
}

/// Where the batches are. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    world: Arc<Mutex<World>>,
    accept_loss: bool,
    forgets_to_raise: bool,
}

/// A journal over it.
#[derive(Debug)]
pub struct MemoryJournal {
    store: MemoryStore,
    epoch: u64,
    /// What this owner knows to be durable; its readers end there, whatever another owner has appended since.
    durable: Arc<Mutex<Head>>,
    taken: Head,
    waiting: VecDeque<SealedBatch>,
    finished: VecDeque<Result<Appended, AppendFault>>,
    failed: bool,
    /// Checks asked for, and those that came out well.
    checks: u64,
    confirmed: u64,
}

/// Reads it.
#[derive(Debug, Clone)]
pub struct MemoryReader {
    store: MemoryStore,
    far: bool,
    /// The end of the owner whose reader it is; `None` reads all that is there.
    owned: Option<Arc<Mutex<Head>>>,
}

const IN_FLIGHT_MAX: usize = 3;

impl MemoryStore {
    /// Lets the next append end in a fault of `kind`; the batch is durable nevertheless if `durable`.
    pub fn fail_next(&self, kind: AppendFaultKind, durable: bool) {
        self.world().fail_next = Some((kind, durable));
    }

    /// Lets the next append be as usual.
    pub fn calm(&self) {
        self.world().fail_next = None;
    }

    /// What a standby that is promoted without the last `batches` has: they are gone, whoever was told of them.
    pub fn lose(&self, batches: usize) {
        let mut world = self.world();
        for _ in 0..batches.min(world.batches.len()) {
            world.batches.pop_back();
        }
        world.head = world.batches.back().map_or(world.start, |last| Head::after(last));
    }

    /// What an old backup has: as [`lose`](Self::lose), and the store does not know of what it has lost.
    pub fn lose_unnoticed(&self, batches: usize) {
        self.lose(batches);
        let mut world = self.world();
        world.told = world.head;
    }

    /// Whether it has lost something that it told, and knows.
    #[must_use]
    pub fn misses_some(&self) -> bool {
        let world = self.world();
        !world.holds(&world.told)
    }

    /// The same batches, to be opened although some that were told are gone.
    #[must_use]
    pub fn accepting_loss(&self) -> Self {
        Self { accept_loss: true, ..self.clone() }
    }

    /// The same batches, opened without raising the epoch: a deliberate bug, which the simulator must see.
    #[must_use]
    pub fn forgetting_to_raise(&self) -> Self {
        Self { forgets_to_raise: true, ..self.clone() }
    }

    /// How many batches there are, those in the archive left out.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.world().batches.len()
    }

    /// Takes the archive away, or brings it back.
    pub fn take_cold_away(&self, away: bool) {
        self.world().cold_away = away;
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JournalStore for MemoryStore {
    type Journal = MemoryJournal;

    fn open(&self) -> Result<Opened<MemoryJournal>, OpenError> {
        let mut world = self.world();
        world.epoch += u64::from(!self.forgets_to_raise || world.epoch == 0);
        if self.accept_loss {
            world.told = world.head;
        } else if !world.holds(&world.told) {
            let (journal, position) = (world.head.position.0, world.told.position.0);
            let disagrees = position <= journal;
            return Err(OpenError::Rewound { place: "memory".to_owned(), journal, position, disagrees });
        }
        world.stats = JournalStats::default();
        let recovery = Recovery {
            head: world.head,
            start: world.start.position,
            epoch: world.epoch,
            ..Recovery::default()
        };
        let journal = MemoryJournal {
            store: self.clone(),
            epoch: world.epoch,
            durable: Arc::new(Mutex::new(world.head)),
            taken: world.head,
            waiting: VecDeque::new(),
            finished: VecDeque::new(),
            failed: false,
            checks: 0,
            confirmed: 0,
        };
        Ok(Opened { journal, recovery })
    }

    fn look(&self) -> Result<MemoryReader, OpenError> {
        Ok(MemoryReader::of(self))
    }
}

impl World {
    /// Whether a batch ends at `place`, or it lies before all that is here.
    fn holds(&self, place: &Head) -> bool {
        place.position <= self.start.position || self.batches.iter().any(|batch| Head::after(batch) == *place)
    }

    fn keep(&mut self, batch: &SealedBatch) {
        self.head = Head::after(batch);
        self.batches.push_back(Arc::new(batch.clone()));
        self.stats.batches += 1;
        self.stats.bytes += batch.bytes().len() as u64;
    }

    fn append(&mut self, epoch: u64, batch: SealedBatch) -> Result<Appended, AppendFault> {
        let fault =
            |kind, batch: &SealedBatch| AppendFault { kind, batch: batch.header().batch, source: None };
        if epoch != self.epoch {
            return Err(fault(AppendFaultKind::Fenced, &batch));
        }
        if continues(&self.head, batch.header()).is_err() {
            // What it was to follow is gone: only opening anew tells.
            return Err(fault(AppendFaultKind::Uncertain, &batch));
        }
        if let Some((kind, durable)) = self.fail_next.take() {
            if durable {
                self.keep(&batch);
            }
            return Err(fault(kind, &batch));
        }
        self.keep(&batch);
        Ok(Appended { head: self.head, batch })
    }
}

fn end_of(durable: &Mutex<Head>) -> Head {
    *durable.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryJournal {
    fn read_by_owner(&self, far: bool) -> MemoryReader {
        MemoryReader { store: self.store.clone(), far, owned: Some(Arc::clone(&self.durable)) }
    }

    /// Carries out a check that was asked for.
    fn check(&mut self) -> bool {
        if self.failed || self.checks == self.confirmed {
            return false;
        }
        if self.store.world().epoch == self.epoch {
            self.confirmed = self.checks;
        } else {
            self.failed = true;
            let (kind, batch) = (AppendFaultKind::Fenced, self.taken.batch);
            self.finished.push_back(Err(AppendFault { kind, batch, source: None }));
        }
        true
    }
}

impl Journal for MemoryJournal {
    type Reader = MemoryReader;

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn head(&self) -> Head {
        end_of(&self.durable)
    }

    fn taken(&self) -> Head {
        self.taken
    }

    fn in_flight(&self) -> usize {
        self.waiting.len() + self.finished.len()
    }

    fn append(&mut self, batch: SealedBatch) -> Result<(), (AppendErrorKind, SealedBatch)> {
        let refused = if self.failed {
            Some(AppendErrorKind::Stopped)
        } else if self.store.world().epoch != self.epoch {
            Some(AppendErrorKind::Fenced)
        } else if self.in_flight() >= IN_FLIGHT_MAX {
            Some(AppendErrorKind::Busy)
        } else if batch.header().epoch != self.epoch {
            Some(AppendErrorKind::OutOfOrder("it carries another epoch"))
        } else {
            continues(&self.taken, batch.header()).err().map(AppendErrorKind::OutOfOrder)
        };
        if let Some(kind) = refused {
            return Err((kind, batch));
        }
        self.taken = Head::after(&batch);
        self.waiting.push_back(batch);
        Ok(())
    }

    fn poll(&mut self) -> Option<Result<Appended, AppendFault>> {
        let news = self.finished.pop_front()?;
        if let Ok(appended) = &news {
            // An owner of before may hear late.
            let mut world = self.store.world();
            if appended.head.position > world.told.position {
                world.told = appended.head;
            }
        }
        Some(news)
    }

    fn confirm(&mut self) -> u64 {
        self.checks += 1;
        self.checks
    }

    fn confirmed(&self) -> u64 {
        self.confirmed
    }

    fn step(&mut self) -> bool {
        let Some(batch) = self.waiting.pop_front() else { return self.check() };
        let outcome = self.store.world().append(self.epoch, batch);
        match &outcome {
            Ok(appended) => *self.durable.lock().unwrap_or_else(PoisonError::into_inner) = appended.head,
            Err(_) => {
                self.failed = true;
                self.waiting.clear();
            }
        }
        self.finished.push_back(outcome);
        true
    }

    fn on_progress(&mut self, _wake: Wake) {}

    fn reader(&self) -> MemoryReader {
        self.read_by_owner(false)
    }

    fn far_reader(&self) -> MemoryReader {
        self.read_by_owner(true)
    }

    fn stats(&self) -> JournalStats {
        self.store.world().stats
    }

    fn release(&mut self, copied: Shelved) -> Result<Position, ArchiveError> {
        let mut world = self.store.world();
        while let Some(batch) = world.batches.front() {
            let head = Head::after(batch);
            if head.position > copied.end().position {
                break;
            }
            world.start = head;
            world.batches.pop_front();
        }
        Ok(world.start.position)
    }

    fn close(mut self) -> Vec<Result<Appended, AppendFault>> {
        while self.step() {}
        std::iter::from_fn(|| self.poll()).collect()
    }
}

impl MemoryReader {
    /// Reads what is in `store`, also without an owner.
    #[must_use]
    pub fn of(store: &MemoryStore) -> Self {
        Self { store: store.clone(), far: true, owned: None }
    }

    /// The batch that holds `from` and those behind it.
    fn from(&self, from: Position) -> Result<Vec<Arc<SealedBatch>>, ReadError> {
        let end = self.head().position;
        let world = self.store.world();
        if from == end {
            return Ok(Vec::new());
        }
        // Also where the store has lost what its owner knew.
        if from > end || from >= world.head.position {
            return Err(ReadError::Beyond { position: from.0, durable: world.head.position.min(end).0 });
        }
        if from < world.start.position && !self.far {
            return Err(ReadError::Archived { first: world.start.position.0 });
        }
        if from < world.start.position && world.cold_away {
            return Err(away(from.0));
        }
        let archived =
            world.cold.iter().take_while(|batch| Head::after(batch).position <= world.start.position);
        let all = archived.chain(&world.batches);
        let ours = all.filter(|batch| Head::after(batch).position <= end);
        Ok(ours.filter(|batch| batch.header().end_position() > from.0).cloned().collect())
    }
}

fn away(position: u64) -> ReadError {
    let (segment, place) = ("its batch".to_owned(), "in memory".to_owned());
    ReadError::ColdAway { position, segment, place, source: None }
}

impl JournalReader for MemoryReader {
    fn start(&self) -> Position {
        self.store.world().start.position
    }

    fn origin(&self) -> Result<Head, ReadError> {
        let world = self.store.world();
        if !self.far || world.start == Head::default() {
            return Ok(world.start);
        }
        if world.cold_away { Err(away(0)) } else { Ok(Head::default()) }
    }

    fn copy_old(&self, before: Position, most: usize) -> Result<Shelved, ArchiveError> {
        let mut world = self.store.world();
        if world.cold_away {
            return Err(away(world.start.position.0).into());
        }
        let mut end = world.start;
        let old: Vec<_> = world
            .batches
            .iter()
            .take_while(|batch| Head::after(batch).position <= before)
            .take(most)
            .cloned()
            .collect();
        for batch in old {
            end = Head::after(&batch);
            if world.cold.last().is_none_or(|last| last.header().batch < batch.header().batch) {
                world.cold.push(batch);
            }
        }
        Ok(Shelved::before(end))
    }

    fn head(&self) -> Head {
        self.owned.as_ref().map_or_else(|| self.store.world().head, |durable| end_of(durable))
    }

    fn look_again(&self) -> Result<Head, OpenError> {
        Ok(self.head())
    }

    fn read(&self, from: Position, bytes_max: usize) -> Result<Vec<SealedBatch>, ReadError> {
        let mut total = 0;
        let mut batches = Vec::new();
        for batch in self.from(from)? {
            if total > 0 && total + batch.bytes().len() > bytes_max {
                break;
            }
            total += batch.bytes().len();
            batches.push(SealedBatch::clone(&batch));
        }
        Ok(batches)
    }

    fn read_record(&self, position: Position) -> Result<StoredRecord, ReadError> {
        let batches = self.from(position)?;
        let durable = self.head().position.0;
        let batch = batches.first().ok_or(ReadError::Beyond { position: position.0, durable })?;
        let view = batch.view();
        let index = u32::try_from(position.0 - view.header.first_position)
            .expect("a batch has fewer than 2^32 records");
        let (record, tail) = view.parts().record(index).expect("the batch was found by this position");
        Ok(StoredRecord { position, header: view.header, record: *record, tail: tail.map(<[u8]>::to_vec) })
    }

    fn scan(
        &self,
        from: Position,
        visit: &mut dyn FnMut(BatchView<'_>) -> ControlFlow<()>,
    ) -> Result<Head, ReadError> {
        let mut done = self.head();
        for batch in self.from(from)? {
            done = Head::after(&batch);
            if visit(batch.view()).is_break() {
                break;
            }
        }
        Ok(done)
    }
}

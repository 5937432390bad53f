//! The id index: which record a transfer id leads to.
//!
//! Every new transfer asks it once ("have I seen this id?") and adds itself once, so it is on the hot
//! path and built for the answer "no". The newest ids are in a [memtable]; full ones are frozen,
//! written as immutable [run]s by a job on another thread, and merged in tiers by further jobs. A
//! run is asked only if its range of ids and its filter let the id through.
//!
//! ```text
//! insert ──► memtable ── durable, full ──► frozen ── IdsWork ──► run · run · run ── IdsWork ──► run
//! find   ──► memtable, frozen (exact), runs (candidates, compared with the record in the journal)
//! ```
//!
//! An id leads to its own record; besides, what *resolved* a hold or reversed a transfer is found by the
//! id of the hold or transfer ([`Ids::find_resolution`]).
//!
//! It refuses to know accounts, amounts and time. It starts no thread: jobs are handed out and taken back.
//!
//! # Invariants
//!
//! - **I1**: what was inserted is found, until the branch forgets its memory.
//! - **I2**: runs hold only what is durable, without gaps from the first position, and name the head hash
//!   they stand for; opening throws away what is not the journal's, and says from where to insert again.
//! - **I3**: memory is bounded: one memtable, [`IdsConfig::frozen_max`] + 1 that are frozen or empty, filters for
//!   [`IdsConfig::filter_ids_max`] ids. Older runs are asked on disk.

mod config;
mod filter;
mod memtable;
mod reader;
mod run;
#[cfg(test)]
mod tests;
mod work;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use skerry_ledger::TransferId;

use crate::history::asked::resolution_of;
use crate::history::mix::Seed;
use crate::history::records::{RECORD_BYTES, Raw};
use crate::history::{Records, SideError, SideFolder};

pub use config::{IdsConfig, IdsStats};
use memtable::Memtable;
pub use reader::IdsReader;
use run::Run;
pub use work::{IdsDone, IdsWork};

/// A memtable that takes no more; everything before `end` is durable.
struct Frozen {
    table: Arc<Memtable>,
    first: u64,
    end: u64,
    head: [u8; 32],
    /// The least and greatest id.
    range: (u128, u128),
}

impl Frozen {
    #[inline]
    fn spans(&self, id: u128) -> bool {
        self.range.0 <= id && id <= self.range.1
    }
}

/// Runs that follow each other and share a filter; or one run that shares none.
#[derive(Clone)]
struct Group {
    shared: Option<Arc<run::Shared>>,
    range: (u128, u128),
    runs: Vec<Arc<Run>>,
}

impl Group {
    #[inline]
    fn spans(&self, id: u128) -> bool {
        self.range.0 <= id && id <= self.range.1
    }

    #[inline]
    fn may_have(&self, id: u128, hash: u64) -> bool {
        self.spans(id) && self.shared.as_ref().is_none_or(|shared| shared.may_have(hash))
    }

    #[inline]
    fn touch(&self, hash: u64) -> u64 {
        match &self.shared {
            Some(shared) => shared.touch(hash),
            None => self.runs.iter().fold(0, |sum, run| sum.wrapping_add(run.touch(hash))),
        }
    }
}

/// All that the index holds, runs and frozen tables oldest first.
#[derive(Clone)]
struct Parts {
    runs: Vec<Arc<Run>>,
    /// The same runs, as finds go through them.
    groups: Vec<Group>,
    frozen: Vec<Arc<Frozen>>,
    active: Arc<Memtable>,
}

impl Parts {
    fn regroup(&mut self) {
        self.groups.clear();
        for run in &self.runs {
            match self.groups.last_mut() {
                Some(group)
                    if group.shared.is_some() && run::same(group.shared.as_ref(), run.shared.as_ref()) =>
                {
                    group.range =
                        (group.range.0.min(run.extent.range.0), group.range.1.max(run.extent.range.1));
                    group.runs.push(Arc::clone(run));
                }
                _ => self.groups.push(Group {
                    shared: run.shared.clone(),
                    range: run.extent.range,
                    runs: vec![Arc::clone(run)],
                }),
            }
        }
    }
}

/// What the writer shares with readers.
struct Shared {
    parts: RwLock<Parts>,
    durable: AtomicU64,
}

/// The id index, owned by the writer.
pub struct Ids {
    seed: Seed,
    config: IdsConfig,
    folder: SideFolder,
    records: Arc<dyn Records>,
    parts: Parts,
    /// The first position the active memtable stands for.
    active_first: u64,
    /// The least and greatest id in it.
    active_range: (u128, u128),
    /// The next memtable, made by a job.
    /// Memtables whose ids lie in runs, to be used again; a reader may still look at one.
    /// At most as many as may be frozen at once.
    emptied: Vec<Arc<Memtable>>,
    /// The filter that the next runs share.
    filter: Option<Arc<run::Shared>>,
    shared: Arc<Shared>,
    working: bool,
    obsolete: Vec<String>,
    false_leads: std::cell::Cell<u64>,
}

impl std::fmt::Debug for Ids {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.stats().fmt(out)
    }
}

impl Ids {
    /// Opens the runs in `folder` that agree with the journal behind `records`, whose first position is
    /// `start`, and throws the others away.
    ///
    /// The caller then inserts every record from [`Ids::position`] to the journal's end, calling
    /// [`Ids::durable`] now and then.
    ///
    /// # Errors
    ///
    /// [`SideError`] if the machine or the journal fails. A damaged run is no error: it is rebuilt.
    pub fn open(
        folder: SideFolder,
        records: Arc<dyn Records>,
        config: IdsConfig,
        start: u64,
    ) -> Result<Self, SideError> {
        assert!(config.entries() < Memtable::ENTRIES_MAX, "memtable_ids is too large");
        let runs = work::open_runs(&folder, &*records, start, config.filter_ids_max)?;
        let active_first = runs.last().map_or(start, |run| run.extent.end);
        let active = Arc::new(Memtable::new(config.entries()));
        let mut parts = Parts { runs, groups: Vec::new(), frozen: Vec::new(), active };
        parts.regroup();
        let shared = Shared { parts: RwLock::new(parts.clone()), durable: AtomicU64::new(active_first) };
        Ok(Self {
            seed: Seed::new(config.secret),
            config,
            folder,
            records,
            parts,
            active_first,
            active_range: (u128::MAX, 0),
            emptied: Vec::new(),
            filter: None,
            shared: Arc::new(shared),
            working: false,
            obsolete: Vec::new(),
            false_leads: std::cell::Cell::new(0),
        })
    }

    /// Everything before this position is in runs; after opening, insert from here.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.parts.runs.last().map_or(self.active_first, |run| run.extent.end)
    }

    /// Brings the memory that finding these ids will need nearer, all at once.
    ///
    /// A find alone waits for one cache miss after another; called with the ids of the next dozens of transfers
    /// this lets the machine fetch for all of them at the same time. It changes nothing and may be left out.
    #[inline]
    pub fn warm(&self, ids: impl Iterator<Item = TransferId>) {
        let mut sum = 0_u64;
        for id in ids {
            let hash = self.seed.hash(id.0);
            sum = sum.wrapping_add(u64::from(self.parts.active.touch(hash)));
            for frozen in self.parts.frozen.iter().filter(|frozen| frozen.spans(id.0)) {
                sum = sum.wrapping_add(u64::from(frozen.table.touch(hash)));
            }
            for group in self.parts.groups.iter().filter(|group| group.spans(id.0)) {
                sum = sum.wrapping_add(group.touch(hash));
            }
        }
        std::hint::black_box(sum);
    }

    /// The position of the record with this id, durable or not.
    ///
    /// # Errors
    ///
    /// [`SideError`] if a run or the journal cannot be read; the branch must not go on guessing. A damaged run is
    /// gone when the error is returned, and opening again rebuilds it.
    #[inline]
    pub fn find(&self, id: TransferId) -> Result<Option<u64>, SideError> {
        let hash = self.seed.hash(id.0);
        if let Some(position) = self.parts.active.find(hash, id.0) {
            return Ok(Some(position));
        }
        for frozen in self.parts.frozen.iter().rev().filter(|frozen| frozen.spans(id.0)) {
            if let Some(position) = frozen.table.find(hash, id.0) {
                return Ok(Some(position));
            }
        }
        for group in self.parts.groups.iter().rev() {
            if group.may_have(id.0, hash)
                && let Some(position) = self.find_in(group, id, hash)?
            {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    #[cold]
    fn find_in(&self, group: &Group, id: TransferId, hash: u64) -> Result<Option<u64>, SideError> {
        for run in group.runs.iter().rev().filter(|run| run.may_have(id.0, hash)) {
            match confirm(&self.folder, &*self.records, run, id, hash)? {
                None => {
                    crate::coverage::Mark::FalseLead.hit();
                    self.false_leads.set(self.false_leads.get() + 1);
                }
                found => return Ok(found),
            }
        }
        Ok(None)
    }

    /// The position of the record that resolved the hold `id`, or reversed the transfer `id`.
    ///
    /// # Errors
    ///
    /// As [`Ids::find`].
    pub fn find_resolution(&self, id: TransferId) -> Result<Option<u64>, SideError> {
        self.find(resolution_of(id))
    }

    /// Leads `id` to `position`. Positions never run backwards.
    ///
    /// # Panics
    ///
    /// If the writer did not heed [`Ids::must_wait`] and put more than
    /// [`IdsConfig::in_flight_max`] entries in flight.
    #[inline]
    pub fn insert(&mut self, id: TransferId, position: u64) {
        debug_assert!(position >= self.active_first, "the index holds this position already");
        self.active_range = (self.active_range.0.min(id.0), self.active_range.1.max(id.0));
        self.parts.active.insert(self.seed.hash(id.0), id.0, position);
    }

    /// Leads the id of a hold or transfer to what resolved or reversed it.
    pub fn insert_resolution(&mut self, id: TransferId, position: u64) {
        self.insert(resolution_of(id), position);
    }

    /// Inserts what a record holds: its id if it is of a money kind, and what it resolves. For replay.
    pub fn insert_record(&mut self, position: u64, record: &[u8; RECORD_BYTES]) {
        let raw = Raw(record);
        if let Some(id) = raw.index_id() {
            self.insert(id, position);
        }
        if let Some(related) = raw.related() {
            self.insert_resolution(related, position);
        }
    }

    /// Says that everything before `end` is durable and `head` is the header hash of the batch that ends there.
    /// A full memtable is frozen here, so call it after each batch.
    pub fn durable(&mut self, end: u64, head: [u8; 32]) {
        self.shared.durable.store(end, Ordering::Release);
        if self.parts.active.len() >= self.config.memtable_ids && end > self.active_first {
            self.freeze(end, head);
        }
    }

    /// Freezes what is durable; what is not goes on into the next memtable.
    fn freeze(&mut self, end: u64, head: [u8; 32]) {
        crate::coverage::Mark::MemtableFrozen.hit();
        let rest = self.empty_table();
        self.parts.active.copy_after(self.seed, end, &rest);
        let table = std::mem::replace(&mut self.parts.active, Arc::new(rest));
        // The range may be wider than what is before `end`; that costs a look, never a find.
        let range = self.active_range;
        self.parts.frozen.push(Arc::new(Frozen { table, first: self.active_first, end, head, range }));
        if self.parts.active.len() == 0 {
            self.active_range = (u128::MAX, 0);
        }
        self.active_first = end;
        self.publish();
    }

    /// An empty memtable: one used again, if there is one that nobody looks at any more.
    fn empty_table(&mut self) -> Memtable {
        let free = self.emptied.iter().position(|table| Arc::strong_count(table) == 1);
        match free.and_then(|index| Arc::into_inner(self.emptied.swap_remove(index))) {
            Some(mut table) => {
                crate::coverage::Mark::MemtableUsedAgain.hit();
                table.clear();
                table
            }
            None => Memtable::new(self.config.entries()),
        }
    }

    /// Whether the jobs have fallen so far behind that the writer must take no more until one is done.
    #[must_use]
    pub fn must_wait(&self) -> bool {
        self.parts.frozen.len() > self.config.frozen_max
            || self.parts.active.len() > self.config.memtable_ids + self.config.in_flight_max / 2
    }

    /// A job for another thread, if there is one and none is out.
    pub fn take_work(&mut self) -> Option<IdsWork> {
        if self.working {
            return None;
        }
        let work = work::choose(self)?;
        self.working = true;
        Some(work)
    }

    /// Takes a job back. After an error the job will be handed out again.
    ///
    /// # Errors
    ///
    /// That of the job.
    pub fn finish(&mut self, done: Result<IdsDone, SideError>) -> Result<(), SideError> {
        self.working = false;
        work::adopt(self, done?);
        self.parts.regroup();
        self.publish();
        Ok(())
    }

    /// A finder for other threads, which compares with the same records.
    #[must_use]
    pub fn reader(&self) -> IdsReader {
        self.reader_over(Arc::clone(&self.records))
    }

    /// A finder for other threads that compares with `records`: those of a reader that may wait for the archive.
    #[must_use]
    pub fn reader_over(&self, records: Arc<dyn Records>) -> IdsReader {
        IdsReader { seed: self.seed, folder: self.folder.clone(), records, shared: Arc::clone(&self.shared) }
    }

    /// Counts and sizes.
    #[must_use]
    pub fn stats(&self) -> IdsStats {
        let tables = self.parts.frozen.iter().map(|frozen| frozen.table.bytes()).sum::<usize>();
        let emptied = self.emptied.iter().map(|table| table.bytes()).sum::<usize>();
        let filters = self.parts.runs.iter().map(|run| run.filter_bytes()).sum::<usize>();
        let groups = self.parts.groups.iter().filter_map(|group| group.shared.as_ref());
        let shared = groups.map(|shared| shared.bytes()).sum::<usize>();
        IdsStats {
            memtable_ids: self.parts.active.len(),
            frozen: self.parts.frozen.len(),
            runs: self.parts.runs.len(),
            run_ids: self.parts.runs.iter().map(|run| run.count()).sum(),
            file_bytes: self.parts.runs.iter().map(|run| run.file_bytes()).sum(),
            memory_bytes: self.parts.active.bytes() + tables + emptied + filters + shared,
            false_leads: self.false_leads.get(),
        }
    }

    fn publish(&self) {
        *self.shared.parts.write().unwrap_or_else(PoisonError::into_inner) = self.parts.clone();
    }
}

/// Compares the candidates of a run with the records they lead to.
#[cold]
fn confirm(
    folder: &SideFolder,
    records: &dyn Records,
    run: &Run,
    id: TransferId,
    hash: u64,
) -> Result<Option<u64>, SideError> {
    let candidates = run.candidates(hash).map_err(|error| folder.discard(error))?;
    let mut found = Vec::with_capacity(candidates.len());
    match records.read(&candidates, &mut found) {
        // What lies in the archive cannot be compared before it was recalled. Until then an id that 48 bits of keyed hash lead
        // to was used: to take it for new would move money twice.
        Err(SideError::Archived { position }) => {
            crate::coverage::Mark::ArchivedId.hit();
            return Ok(Some(position));
        }
        other => other?,
    }
    let same = |record: &[u8; RECORD_BYTES]| {
        let raw = Raw(record);
        raw.index_id() == Some(id) || raw.related().is_some_and(|related| resolution_of(related) == id)
    };
    Ok(candidates.iter().zip(&found).find(|(_, record)| same(record)).map(|(position, _)| *position))
}

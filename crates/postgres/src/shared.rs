//! What the owner of a journal, its writer and its readers share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use skerry_journal::mark::MarkFile;
use skerry_journal::{Head, JournalStats, Shelf, Storage, StorageError};

use crate::pool::Pool;
use crate::schema::Tables;

/// What was told durable last, by any owner that this process has had: an exact memory where the mark is a lower bound.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    pub(crate) durable: Head,
    pub(crate) epoch: u64,
}

/// The state of an open journal that more than one thread sees.
#[derive(Debug)]
pub(crate) struct Shared<S: Storage> {
    pub(crate) pool: Pool,
    pub(crate) tables: Tables,
    /// Store and branch, for messages.
    pub(crate) place: String,
    pub(crate) epoch: u64,
    pub(crate) shelf: Option<Shelf<S>>,
    pub(crate) told: Arc<Mutex<Told>>,
    durable: RwLock<Head>,
    start: RwLock<Head>,
    stats: Mutex<JournalStats>,
    mark: Mutex<Option<MarkFile<S::File>>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these hold is consistent between any two changes.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a journal begins and ends when it is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) start: Head,
    pub(crate) head: Head,
}

impl<S: Storage> Shared<S> {
    pub(crate) fn new(
        (pool, tables, place): (Pool, Tables, String),
        (epoch, ends): (u64, Ends),
        shelf: Option<Shelf<S>>,
        told: Arc<Mutex<Told>>,
        mark: Option<MarkFile<S::File>>,
    ) -> Self {
        Self {
            pool,
            tables,
            place,
            epoch,
            shelf,
            told,
            durable: RwLock::new(ends.head),
            start: RwLock::new(ends.start),
            stats: Mutex::default(),
            mark: Mutex::new(mark),
        }
    }

    pub(crate) fn durable(&self) -> Head {
        *self.durable.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn start(&self) -> Head {
        *self.start.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begins_at(&self, start: Head) {
        *self.start.write().unwrap_or_else(PoisonError::into_inner) = start;
    }

    /// The store says that it ends here, to one who is not its owner.
    pub(crate) fn ends_at(&self, head: Head) {
        *self.durable.write().unwrap_or_else(PoisonError::into_inner) = head;
    }

    pub(crate) fn stats(&self) -> JournalStats {
        *lock(&self.stats)
    }

    /// A batch of `bytes` has become durable, `took_us` after it was sent.
    pub(crate) fn advance(&self, head: Head, bytes: u64, took_us: u64) {
        *self.durable.write().unwrap_or_else(PoisonError::into_inner) = head;
        *lock(&self.told) = Told { durable: head, epoch: self.epoch };
        let mut stats = lock(&self.stats);
        stats.batches += 1;
        stats.bytes += bytes;
        stats.syncs += 1;
        stats.sync_us_total += took_us;
        stats.sync_us_last = took_us;
        stats.sync_us_max = stats.sync_us_max.max(took_us);
    }

    /// Writes the durable mark as of now, where there is one.
    pub(crate) fn write_mark(&self) -> Result<(), StorageError> {
        let mut file = lock(&self.mark);
        let Some(file) = file.as_mut() else { return Ok(()) };
        let mut mark = file.last();
        (mark.epoch, mark.durable, mark.start) = (self.epoch, self.durable(), self.start());
        file.write(mark)
    }
}

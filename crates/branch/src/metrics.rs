//! How the branch is doing, as figures that anybody may look at without disturbing the writer.

use skerry_journal::{Appended, SealedBatch};

use crate::clock::Now;
use crate::meters::Histogram;

/// Figures since opening. Times are microseconds.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Refusals given, journaled or not.
    pub refusals: u64,
    /// Batches sealed.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Their bytes, padding not counted.
    pub bytes: u64,
    /// Records per batch.
    pub batch_records: Histogram,
    /// From sealing to durable.
    pub durable_us: Histogram,
    /// From taking a request to its reply.
    pub reply_us: Histogram,
    /// In which nothing was taken because derived files were behind.
    pub behind_us_total: u64,
    /// The longest such time.
    pub behind_us_max: u64,
    behind_since_us: Option<u64>,
    /// Records replayed at the opening: those after the snapshot that it began from.
    pub replayed: u64,
    /// Snapshots written.
    pub snapshots: u64,
    /// Snapshots that failed.
    pub snapshot_failures: u64,
    /// Checkpoints signed and kept.
    pub checkpoints: u64,
    /// Attempts to sign or keep one that failed.
    pub checkpoint_failures: u64,
    /// Why the last attempt failed; `None` once one has succeeded.
    pub checkpoint_fault: Option<String>,
    /// Checks of the owner asked of the journal's store, because the lease was no good any more.
    pub owner_checks: u64,
    sealed_us: std::collections::VecDeque<u64>,
}

impl Metrics {
    /// Of a branch that has just replayed so many records.
    pub(crate) fn opened(replayed: u64) -> Self {
        Self { replayed, ..Self::default() }
    }

    pub(crate) fn sealed(&mut self, batch: &SealedBatch, now: Now) {
        let records = u64::from(batch.header().record_count);
        self.batches += 1;
        self.records += records;
        self.bytes += batch.header().batch_length();
        self.batch_records.record(records);
        self.sealed_us.push_back(now.monotonic_us);
    }

    pub(crate) fn durable(&mut self, _: &Appended, now: Now) {
        if let Some(sealed_us) = self.sealed_us.pop_front() {
            self.durable_us.record(now.monotonic_us.saturating_sub(sealed_us));
        }
    }

    pub(crate) fn checked(&mut self) {
        self.owner_checks += 1;
    }

    pub(crate) fn replied(&mut self, now: Now, taken_us: u64) {
        self.reply_us.record(now.monotonic_us.saturating_sub(taken_us));
    }

    /// Counts the time in which the writer waits for derived files.
    pub(crate) fn behind(&mut self, is_behind: bool, now: Now) {
        match (is_behind, self.behind_since_us) {
            (true, None) => self.behind_since_us = Some(now.monotonic_us),
            (false, Some(since)) => {
                let waited = now.monotonic_us.saturating_sub(since);
                self.behind_us_total += waited;
                self.behind_us_max = self.behind_us_max.max(waited);
                self.behind_since_us = None;
            }
            _ => {}
        }
    }

    pub(crate) fn checkpoint(&mut self, result: &Result<u64, String>) {
        match result {
            Ok(_) => self.checkpoints += 1,
            Err(_) => self.checkpoint_failures += 1,
        }
        self.checkpoint_fault = result.as_ref().err().cloned();
    }

    pub(crate) fn snapshot(&mut self, result: &Result<u64, String>) {
        match result {
            Ok(_) => self.snapshots += 1,
            Err(_) => self.snapshot_failures += 1,
        }
    }
}

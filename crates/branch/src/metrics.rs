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
    /// Snapshots written.
    pub snapshots: u64,
    /// Snapshots that failed.
    pub snapshot_failures: u64,
    sealed_us: std::collections::VecDeque<u64>,
}

impl Metrics {
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

    pub(crate) fn replied(&mut self, now: Now, taken_us: u64) {
        self.reply_us.record(now.monotonic_us.saturating_sub(taken_us));
    }

    pub(crate) fn snapshot(&mut self, result: &Result<u64, String>) {
        match result {
            Ok(_) => self.snapshots += 1,
            Err(_) => self.snapshot_failures += 1,
        }
    }
}

//! The bounds of an id index, and what it says of itself.

/// The bounds of an id index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdsConfig {
    /// Keys the hash, so that clients cannot choose ids that collide. The same for the life of the files.
    pub secret: [u8; 16],
    /// Entries (an id, or a resolution) of a memtable before it is frozen; at most 980,000. About 30 bytes each.
    /// Few enough that its slots stay in the processor's cache.
    pub memtable_ids: usize,
    /// Entries that the memtable has room for beyond these: what may be inserted and not yet durable.
    pub in_flight_max: usize,
    /// Frozen memtables that may wait for their job before [`Ids::must_wait`].
    pub frozen_max: usize,
    /// Ids under one filter that several runs share.
    pub shared_ids: usize,
    /// Ids whose filters are kept in memory, newest first; 5 bytes each.
    pub filter_ids_max: u64,
    /// So many runs of a tier become one of the next.
    pub merge_fan: usize,
    /// No merge makes a run of more ids than this.
    pub run_ids_max: u64,
}

impl IdsConfig {
    /// The usual bounds with this secret.
    #[must_use]
    pub const fn new(secret: [u8; 16]) -> Self {
        Self {
            secret,
            memtable_ids: 280_000,
            in_flight_max: 1 << 16,
            frozen_max: 3,
            shared_ids: 8 << 20,
            filter_ids_max: 32 << 20,
            merge_fan: 10,
            run_ids_max: 36 << 20,
        }
    }

    /// How many ids a new shared filter is for: not more than a bank with such memtables needs.
    pub(super) fn shared_room(&self) -> usize {
        self.shared_ids.min(self.entries() * 64).max(self.entries())
    }

    pub(super) const fn entries(&self) -> usize {
        self.memtable_ids + self.in_flight_max
    }
}

/// Counts and sizes for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IdsStats {
    /// Entries in the memtable.
    pub memtable_ids: usize,
    /// Frozen memtables waiting for their job.
    pub frozen: usize,
    /// Runs on disk.
    pub runs: usize,
    /// Entries in them.
    pub run_ids: u64,
    /// Their bytes on disk.
    pub file_bytes: u64,
    /// Memory held, filters included.
    pub memory_bytes: usize,
    /// False leads: a filter let through what was not there. (Each cost a read.)
    pub false_leads: u64,
}

//! What a branch is run with: bounds, intervals and secrets. Nothing here is journaled.

use std::sync::Arc;

use skerry_book::{Purpose, Seed};
use skerry_proof::HashAlgorithm;

use crate::api::GatewayKey;
use crate::history::HistoryConfig;
use crate::ids::IdsConfig;
use crate::leash::Leash;
use crate::queue::Limits;
use crate::sabotage::Sabotage;

/// How a branch is run. All bounds are shown in its metrics.
#[derive(Debug, Clone)]
pub struct Options {
    /// The branch's number, 1…9999.
    pub branch: u16,
    /// The institution's short name, as checkpoints state it; at most 64 bytes.
    pub institution: String,
    /// The hash behind record roots and history: fixed when the branch was founded.
    pub evidence: HashAlgorithm,
    /// The institution's secret seed: digests, derived ids, tables.
    pub seed: Seed,
    /// The secret shared with the gateway.
    pub gateway: GatewayKey,
    /// Bounds of the queue, quotas.
    pub limits: Limits,
    /// Batches handed to the journal and not yet durable: one being synced and this less one waiting.
    pub in_flight_max: usize,
    /// A checkpoint is signed at least so often while there is something new; microseconds.
    pub checkpoint_us: u64,
    /// A snapshot is taken once so many records have come since the last.
    pub snapshot_records: u64,
    /// Snapshots kept.
    pub snapshots_kept: usize,
    /// Pages of a snapshot's image that are taken in one turn, four accounts each: below a millisecond for the usual 4,096.
    pub freeze_pages: usize,
    /// Hold expiries journaled in one batch at most.
    pub expiries_per_batch: u32,
    /// Payments to another branch are sent again after so long without an answer; microseconds.
    pub resend_us: u64,
    /// Bounds of the id index.
    pub ids: IdsConfig,
    /// Bounds of the history.
    pub history: HistoryConfig,
    /// The lease that the branch is held under; without one nobody else can have it (its files are locked, or an operator sees to it).
    pub leash: Option<Arc<dyn Leash>>,
    /// Deliberate bugs.
    pub sabotage: Sabotage,
}

impl Options {
    /// Whether nobody else can have the branch now, as far as its host knows.
    pub(crate) fn is_held(&self) -> bool {
        self.leash.as_ref().is_none_or(|leash| leash.holds())
    }

    /// The defaults for `branch`.
    #[must_use]
    pub fn new(branch: u16, institution: &str, seed: Seed, gateway: GatewayKey) -> Self {
        let secret = seed.wide(Purpose::TransferId, b"id index and history").to_le_bytes();
        Self {
            branch,
            institution: institution.to_owned(),
            evidence: HashAlgorithm::Blake3,
            seed,
            gateway,
            limits: Limits::default(),
            in_flight_max: 2,
            checkpoint_us: 10 * 60 * 1_000_000,
            snapshot_records: 4_000_000,
            snapshots_kept: 2,
            freeze_pages: 4_096,
            expiries_per_batch: 1024,
            resend_us: 500_000,
            ids: IdsConfig::new(secret),
            history: HistoryConfig::new(branch, secret),
            leash: None,
            sabotage: Sabotage::default(),
        }
    }
}

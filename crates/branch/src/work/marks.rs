//! Places in the journal at which something is to be made: checkpoints, snapshots, erasures.
//!
//! What they need of the state is taken when the batch is sealed; they become jobs only when that batch is
//! durable, so nothing outlives a failure that the journal does not hold.
//!
//! # Invariants
//!
//! - No snapshot is frozen while an erasure that it holds is not done: replay from it would not do it again.

use std::collections::VecDeque;

use skerry_book::BookImage;
use skerry_book::channel::Sum;
use skerry_journal::{Journal, JournalReader};
use skerry_ledger::{Moved, MovedKind};
use skerry_proof::checkpoint::{ChannelTotal, Checkpoint, CurrencyTotal, Payments};

use super::Work;
use crate::clock::Now;
use crate::jobs::{Job, Snapshot};
use crate::keys::KeyRef;
use crate::snapshot::Mark;

/// What waits for its batch to become durable.
enum Wanted {
    Sign(Box<Checkpoint>),
    Snapshot(Box<(Mark, BookImage, Checkpoint)>),
    Erase(KeyRef),
}

/// The pause after the first failure to sign, and the longest.
const RETRY_US: u64 = 1_000_000;
const RETRY_US_MAX: u64 = 60_000_000;

/// Everything that is due, under way, or waiting for durability.
pub(crate) struct Marks {
    /// With how many batches must be durable, in order.
    waiting: VecDeque<(u64, Wanted)>,
    /// Posted so far, by currency number: both sides of double entry alike.
    totals: Vec<(u16, u128)>,
    checkpoint_wanted: bool,
    /// The place of the last checkpoint made or under way.
    checkpoint_position: u64,
    checkpoint_us: u64,
    signing: u32,
    /// Attempts to sign that have failed since one succeeded.
    failures: u32,
    /// The place of the last checkpoint that is signed and kept.
    signed_position: u64,
    snapshot_wanted: bool,
    snapshot_position: u64,
    snapshot_under_way: bool,
    /// A snapshot whose image is being taken, and how many batches it stands for.
    freezing: Option<Box<(u64, Mark, Checkpoint)>>,
    erasing: Vec<KeyRef>,
}

impl Marks {
    /// For a branch that opened from a snapshot at `snapshot_position`, with these totals posted.
    pub(crate) fn new(
        totals: Vec<(u16, u128)>,
        snapshot_position: u64,
        checkpoint_position: u64,
        now: Now,
    ) -> Self {
        Self {
            waiting: VecDeque::new(),
            totals,
            checkpoint_wanted: false,
            checkpoint_position,
            checkpoint_us: now.monotonic_us,
            signing: 0,
            failures: 0,
            signed_position: checkpoint_position,
            snapshot_wanted: false,
            snapshot_position,
            snapshot_under_way: false,
            freezing: None,
            erasing: Vec::new(),
        }
    }

    /// Counts what was posted.
    #[inline]
    pub(crate) fn moved(&mut self, moved: &Moved) {
        if !matches!(moved.kind, MovedKind::Posted | MovedKind::HoldPosted) {
            return;
        }
        let currency = moved.currency.number();
        match self.totals.iter_mut().find(|(known, _)| *known == currency) {
            Some((_, total)) => *total += u128::from(moved.amount),
            None => self.totals.push((currency, u128::from(moved.amount))),
        }
    }

    /// A checkpoint is to be made at the next seal.
    pub(crate) fn want_checkpoint(&mut self) {
        self.checkpoint_wanted = true;
    }

    /// A snapshot is to be made at the next seal.
    pub(crate) fn want_snapshot(&mut self) {
        self.snapshot_wanted = true;
    }

    /// The key is to be destroyed once `batches` are durable.
    pub(crate) fn erasing(&mut self, key: KeyRef, batches: u64) {
        self.erasing.push(key);
        self.waiting.push_back((batches, Wanted::Erase(key)));
    }

    /// The key is destroyed.
    pub(crate) fn erased(&mut self, key: KeyRef) {
        self.erasing.retain(|erasing| *erasing != key);
    }

    pub(crate) fn signed(&mut self, result: Result<u64, String>) {
        self.signing = self.signing.saturating_sub(1);
        self.checkpointed(result);
    }

    /// What came of signing. Without a signature the branch goes on: its checkpoints are late, its payments are not.
    pub(crate) fn checkpointed(&mut self, result: Result<u64, String>) {
        match result {
            Ok(position) => {
                self.failures = 0;
                self.signed_position = self.signed_position.max(position);
            }
            Err(error) => {
                crate::coverage::Mark::CheckpointFailed.hit();
                tracing::error!("could not sign a checkpoint, payments go on: {error}");
                // Tried again after a pause, about what is there then; see `due`.
                self.failures = self.failures.saturating_add(1);
                self.checkpoint_wanted = true;
                self.checkpoint_position = self.signed_position;
            }
        }
    }

    /// Whether a checkpoint is due at `now`. After a failure the next attempt waits: 1 s, 2 s, 4 s … a minute.
    fn due(&self, now: Now, interval_us: u64) -> bool {
        let wait_us = match self.failures {
            0 if self.checkpoint_wanted => return true,
            0 => interval_us,
            failures => RETRY_US.saturating_mul(1 << failures.min(7).saturating_sub(1)).min(RETRY_US_MAX),
        };
        self.signing == 0 && now.monotonic_us >= self.checkpoint_us.saturating_add(wait_us)
    }

    pub(crate) fn snapshot_done(&mut self, result: Result<u64, String>) {
        self.snapshot_under_way = false;
        match result {
            Ok(position) => self.snapshot_position = self.snapshot_position.max(position),
            Err(error) => {
                crate::coverage::Mark::SnapshotFailed.hit();
                tracing::error!("could not write a snapshot: {error}");
            }
        }
    }

    /// Turns into jobs what `batches` being durable allows.
    pub(crate) fn durable<R: JournalReader>(&mut self, batches: u64, jobs: &mut VecDeque<Job<R>>) {
        if self.waiting.front().is_some_and(|(needs, _)| *needs > batches) {
            crate::coverage::Mark::MarkWaited.hit();
        }
        while self.waiting.front().is_some_and(|(needs, _)| *needs <= batches) {
            let Some((_, wanted)) = self.waiting.pop_front() else { return };
            jobs.push_back(job(wanted));
        }
    }

    fn totals(&self) -> Vec<CurrencyTotal> {
        let mut totals: Vec<CurrencyTotal> = self
            .totals
            .iter()
            .map(|(currency, total)| CurrencyTotal { currency: *currency, debits: *total, credits: *total })
            .collect();
        totals.sort_unstable_by_key(|total| total.currency);
        totals
    }

    /// Whether all that was begun is done; for shutting down.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.signing == 0 && !self.snapshot_under_way && self.erasing.is_empty()
    }
}

fn job<R>(wanted: Wanted) -> Job<R> {
    match wanted {
        Wanted::Sign(checkpoint) => Job::Sign(checkpoint),
        Wanted::Erase(key) => Job::Erase(key),
        Wanted::Snapshot(parts) => {
            let (mark, image, checkpoint) = *parts;
            Job::Snapshot(Box::new(Snapshot { mark, image, checkpoint }))
        }
    }
}

impl<J: Journal> Work<J> {
    /// Takes what checkpoints and snapshots need of the state, when one is due at the batch just sealed.
    pub(super) fn mark_when_due(&mut self, now: Now) {
        let position = self.sealed.position.0;
        let marks = &mut self.marks;
        let checkpoint = marks.due(now, self.options.checkpoint_us) && position > marks.checkpoint_position;
        let snapshot = (marks.snapshot_wanted
            || position - marks.snapshot_position >= self.options.snapshot_records)
            && !marks.snapshot_under_way
            && marks.erasing.is_empty();
        if snapshot {
            self.mark_snapshot();
        } else if checkpoint {
            let stated = self.state_checkpoint();
            self.marks.signing += 1;
            self.marks.waiting.push_back((self.sealed.batch, Wanted::Sign(Box::new(stated))));
        }
        if checkpoint || snapshot {
            self.marks.checkpoint_wanted = false;
            self.marks.checkpoint_position = position;
            self.marks.checkpoint_us = now.monotonic_us;
        }
    }

    fn mark_snapshot(&mut self) {
        let stated = self.state_checkpoint();
        let mut extra = Vec::new();
        for (currency, total) in &self.marks.totals {
            extra.extend_from_slice(&currency.to_le_bytes());
            extra.extend_from_slice(&total.to_le_bytes());
        }
        let mut peaks = u32::try_from(self.mmr.peaks().len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
        peaks.extend_from_slice(self.mmr.peaks().as_flattened());
        peaks.extend(extra);
        let mark = Mark {
            branch: self.writer.branch,
            incarnation: self.writer.incarnation,
            head: self.sealed,
            time_us: self.sealed_time_us,
            business_date: stated.business_date,
            extra: peaks,
        };
        self.book.begin_image();
        let marks = &mut self.marks;
        marks.snapshot_wanted = false;
        marks.snapshot_under_way = true;
        marks.snapshot_position = self.sealed.position.0;
        marks.freezing = Some(Box::new((self.sealed.batch, mark, stated)));
        self.freeze();
    }

    /// Goes on with the image of a snapshot. Returns whether there was anything to do.
    pub(super) fn freeze(&mut self) -> bool {
        if self.marks.freezing.is_none() {
            return false;
        }
        let Some(image) = self.book.advance_image(self.options.freeze_pages) else {
            crate::coverage::Mark::FrozenInSlices.hit();
            return true;
        };
        let Some(frozen) = self.marks.freezing.take() else { return true };
        let (batch, mark, stated) = *frozen;
        let wanted = Wanted::Snapshot(Box::new((mark, image, stated)));
        if self.options.sabotage.hasty_derived() {
            self.jobs.push_back(job(wanted));
        } else {
            self.marks.waiting.push_back((batch, wanted));
            let durable = self.journal.head().batch;
            self.marks.durable(durable, &mut self.jobs);
        }
        true
    }

    /// What went over its channels; while there are more than a checkpoint can tell apart, those of the first peers.
    fn channel_totals(&self) -> Vec<ChannelTotal> {
        let sum = |sum: Sum| Payments { count: sum.count, amount: sum.amount };
        let rows = self.book.channels().flat_map(|(peer, channel)| {
            channel.sums().map(move |(currency, totals)| ChannelTotal {
                peer,
                currency,
                sent: sum(totals.sent),
                settled: sum(totals.settled),
                returned: sum(totals.returned),
                received: sum(totals.received),
                refused: sum(totals.refused),
            })
        });
        rows.take(usize::from(u16::MAX)).collect()
    }

    fn state_checkpoint(&self) -> Checkpoint {
        Checkpoint {
            algorithm: self.mmr.algorithm(),
            institution: self.options.institution.clone(),
            branch: self.writer.branch,
            incarnation: self.writer.incarnation,
            epoch: self.writer.epoch,
            position: self.sealed.position.0,
            batches: self.sealed.batch,
            head: self.sealed.hash,
            history_root: self.mmr.root(),
            business_date: self.book.day().map_or(0, |day| day.0),
            time_us: self.sealed_time_us,
            totals: self.marks.totals(),
            channels: self.channel_totals(),
            state_digest: None,
        }
    }

    /// A checkpoint or snapshot that is due while nothing happens is made about the last batch sealed.
    pub(crate) fn mark_idle(&mut self, now: Now) {
        if self.filling.is_empty() && self.sealed.batch > 0 {
            self.mark_when_due(now);
            let durable = self.journal.head().batch;
            self.marks.durable(durable, &mut self.jobs);
        }
    }
}

//! The memory below [`FaultStorage`](super::FaultStorage): cache, platter, and what a power cut makes of them.
//!
//! A file's `cache` is what reads show. `dirty` holds, per sector changed since the last sync, what the platter
//! has; so the platter is the cache with those sectors put back. `lost` is the same for sectors that a failed sync
//! dropped: no later sync brings them, only writing them again does. Names work likewise: `names` is what
//! is seen, `pending` the changes a power cut may drop one by one.

use std::collections::{BTreeMap, BTreeSet};

use super::random::Random;
use super::{FaultKind, FaultPlan, fail};
use crate::storage::{StorageError, StorageErrorKind};

/// Bytes that reach the platter together or not at all, unless the seed tears one.
const SECTOR: usize = 512;
type Sector = Box<[u8]>;

/// A change speaks of the file that had the name when it was made: where an earlier one was dropped it touches no other file.
#[derive(Debug)]
enum NameChange {
    Link(String, usize),
    Rename(String, String, usize),
    Unlink(String, usize),
}

impl NameChange {
    fn path(&self) -> &str {
        match self {
            Self::Link(path, _) | Self::Rename(path, ..) | Self::Unlink(path, _) => path,
        }
    }
}

#[derive(Debug, Default)]
struct Node {
    cache: Vec<u8>,
    dirty: BTreeMap<usize, Sector>,
    lost: BTreeMap<usize, Sector>,
    platter_length: usize,
}

#[derive(Debug)]
pub(super) struct Disk {
    pub(super) plan: FaultPlan,
    pub(super) capacity: Option<u64>,
    pub(super) read_only: bool,
    pub(super) fail_sync_in: Option<u64>,
    pub(super) short_write_in: Option<u64>,
    pub(super) power_lost_in: Option<u64>,
    pub(super) dark: bool,
    pub(super) delay_us: u64,
    pub(super) locks: BTreeSet<String>,
    /// Folders that are not there now.
    pub(super) away: BTreeSet<String>,
    /// Counts power cuts: a file or lock from before one is dead.
    pub(super) boot: u64,
    nodes: Vec<Node>,
    names: BTreeMap<String, usize>,
    platter_names: BTreeMap<String, usize>,
    pending: Vec<NameChange>,
    counts: BTreeMap<FaultKind, u64>,
    random: Random,
}

impl Disk {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            plan: FaultPlan::default(),
            capacity: None,
            read_only: false,
            fail_sync_in: None,
            short_write_in: None,
            power_lost_in: None,
            dark: false,
            delay_us: 0,
            locks: BTreeSet::new(),
            away: BTreeSet::new(),
            boot: 0,
            nodes: Vec::new(),
            names: BTreeMap::new(),
            platter_names: BTreeMap::new(),
            pending: Vec::new(),
            counts: BTreeMap::new(),
            random: Random::new(seed),
        }
    }

    pub(super) fn count(&self, kind: FaultKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    fn tally(&mut self, kind: FaultKind) {
        *self.counts.entry(kind).or_insert(0) += 1;
    }

    /// Whether an operation may go on at all. `boot` is that of the handle, if there is one.
    pub(super) fn check(
        &mut self,
        boot: Option<u64>,
        path: &str,
        action: &'static str,
        changes: bool,
    ) -> Result<(), StorageError> {
        if self.dark || boot.is_some_and(|boot| boot != self.boot) {
            return Err(fail(StorageErrorKind::Io, action, path, None, "the power was cut"));
        }
        if self.away.iter().any(|folder| path.starts_with(folder.as_str())) {
            return Err(fail(StorageErrorKind::NotFound, action, path, None, "the folder was taken away"));
        }
        if changes && self.read_only {
            self.tally(FaultKind::ReadOnly);
            return Err(fail(StorageErrorKind::ReadOnly, action, path, None, "read-only"));
        }
        Ok(())
    }

    /// The same for a change, which also brings a planned loss of power nearer.
    pub(super) fn change(
        &mut self,
        boot: Option<u64>,
        path: &str,
        action: &'static str,
    ) -> Result<(), StorageError> {
        if let Some(left) = self.power_lost_in {
            self.power_lost_in = left.checked_sub(1);
            self.dark |= left == 0;
        }
        self.check(boot, path, action, true)
    }

    pub(super) fn find(&self, path: &str) -> Option<usize> {
        self.names.get(path).copied()
    }

    pub(super) fn names_under(&self, prefix: &str) -> Vec<String> {
        let within =
            |path: &String| path.strip_prefix(prefix).filter(|name| !name.contains('/')).map(str::to_owned);
        self.names.keys().filter_map(within).collect()
    }

    pub(super) fn create(&mut self, path: &str) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node::default());
        self.change_names(NameChange::Link(path.to_owned(), node));
        node
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(node) = self.find(from) else { return false };
        self.change_names(NameChange::Rename(from.to_owned(), to.to_owned(), node));
        true
    }

    pub(super) fn unlink(&mut self, path: &str) -> bool {
        let Some(node) = self.find(path) else { return false };
        self.change_names(NameChange::Unlink(path.to_owned(), node));
        true
    }

    fn change_names(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.pending.push(change);
    }

    pub(super) fn sync_names(&mut self, prefix: &str) {
        let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|change| change.path().starts_with(prefix));
        self.pending = rest;
        for change in &synced {
            apply(&mut self.platter_names, change);
        }
    }

    pub(super) fn sync_fails(&mut self) -> bool {
        let slow = self.plan.slow_sync_ppm;
        if self.random.chance(slow) {
            self.delay_us += self.random.below(self.plan.slow_sync_us_max);
            self.tally(FaultKind::SlowSync);
        }
        let commanded = due(&mut self.fail_sync_in);
        let fails = self.random.chance(self.plan.failed_sync_ppm) || commanded;
        if fails {
            self.tally(FaultKind::FailedSync);
        }
        fails
    }

    pub(super) fn write_fails(&mut self) -> bool {
        let fails = self.random.chance(self.plan.failed_write_ppm);
        if fails {
            self.tally(FaultKind::FailedWrite);
        }
        fails
    }

    pub(super) fn read_fails(&mut self) -> bool {
        let fails = self.random.chance(self.plan.failed_read_ppm);
        if fails {
            self.tally(FaultKind::FailedRead);
        }
        fails
    }

    /// How much of a write of `length` bytes happens, if this one is to stop in the middle.
    pub(super) fn short_write(&mut self, length: usize) -> Option<usize> {
        let commanded = due(&mut self.short_write_in);
        if !self.random.chance(self.plan.short_write_ppm) && !commanded {
            return None;
        }
        self.tally(FaultKind::ShortWrite);
        Some(size(self.random.below(length as u64)))
    }

    pub(super) fn read(&self, node: usize, offset: u64, buffer: &mut [u8]) -> usize {
        let Some(rest) = self.nodes.get(node).and_then(|node| node.cache.get(size(offset)..)) else {
            return 0;
        };
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        count
    }

    /// `false` if there is no room; then nothing was written.
    pub(super) fn write(&mut self, node: usize, offset: u64, bytes: &[u8]) -> bool {
        let start = size(offset);
        let end = start + bytes.len();
        if !self.grow(node, end as u64) {
            return false;
        }
        let node = &mut self.nodes[node];
        for sector in start / SECTOR..end.div_ceil(SECTOR) {
            node.save(sector);
        }
        node.cache[start..end].copy_from_slice(bytes);
        true
    }

    pub(super) fn length(&self, node: usize) -> u64 {
        self.nodes.get(node).map_or(0, |node| node.cache.len() as u64)
    }

    /// Makes the file at least `length` long; `false` if there is no room.
    pub(super) fn grow(&mut self, node: usize, length: u64) -> bool {
        let more = length.saturating_sub(self.length(node));
        let used: u64 = self.names.values().map(|node| self.length(*node)).sum();
        if more > 0 && self.capacity.is_some_and(|capacity| used + more > capacity) {
            self.tally(FaultKind::DiskFull);
            return false;
        }
        if more > 0 {
            self.nodes[node].cache.resize(size(length), 0);
        }
        true
    }

    pub(super) fn shrink(&mut self, node: usize, length: u64) {
        let node = &mut self.nodes[node];
        let length = size(length);
        // What lies beyond must be able to come back after a power cut: its old content is kept as dirty.
        for sector in length.div_ceil(SECTOR)..node.platter_length.div_ceil(SECTOR) {
            node.save(sector);
        }
        node.cache.truncate(length);
    }

    pub(super) fn sync(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.dirty.clear();
        node.platter_length = node.cache.len();
    }

    /// What a failed sync does: some dirty sectors are on the platter, the others never will be, and all look clean.
    pub(super) fn lose_some(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        let dirty = std::mem::take(&mut node.dirty);
        for (sector, old) in dirty {
            if self.random.chance(500_000) {
                node.lost.insert(sector, old);
            }
        }
    }

    pub(super) fn flip_bit(&mut self, node: usize, offset: u64, bit: u8) -> bool {
        let offset = size(offset);
        let node = &mut self.nodes[node];
        let Some(byte) = node.cache.get_mut(offset) else { return false };
        *byte ^= 1 << (bit % 8);
        for saved in [&mut node.dirty, &mut node.lost] {
            if let Some(old) = saved.get_mut(&(offset / SECTOR)).and_then(|old| old.get_mut(offset % SECTOR))
            {
                *old ^= 1 << (bit % 8);
            }
        }
        self.tally(FaultKind::BitFlip);
        true
    }

    pub(super) fn power_cut(&mut self) {
        self.tally(FaultKind::PowerCut);
        self.boot += 1;
        self.dark = false;
        self.power_lost_in = None;
        self.fail_sync_in = None;
        self.short_write_in = None;
        self.locks.clear();
        for change in std::mem::take(&mut self.pending) {
            if self.random.chance(500_000) {
                self.tally(FaultKind::LostEntry);
            } else {
                apply(&mut self.platter_names, &change);
            }
        }
        self.names = self.platter_names.clone();
        for index in 0..self.nodes.len() {
            self.cut_node(index);
        }
    }

    fn cut_node(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let dirty = std::mem::take(&mut node.dirty);
        // A cut that spares all, takes all, or chooses by sector: the extremes must come up often.
        let loss_ppm = match self.random.below(4) {
            0 => 0,
            1 => 1_000_001,
            _ => 500_000,
        };
        let total = dirty.len();
        let mut lost = 0;
        for (sector, old) in dirty {
            if self.random.chance(loss_ppm) {
                lost += 1;
                // Now and then the sector itself is torn: its first bytes are new, the rest is old.
                let keep =
                    if self.random.chance(100_000) { size(self.random.below(SECTOR as u64)) } else { 0 };
                node.restore(sector, &old, keep);
            }
        }
        for (sector, old) in std::mem::take(&mut node.lost) {
            node.restore(sector, &old, 0);
        }
        let grown = node.cache.len() != node.platter_length;
        let length_lost = grown && self.random.chance(300_000);
        if length_lost {
            node.cache.resize(node.platter_length, 0);
        }
        node.platter_length = node.cache.len();
        if length_lost {
            self.tally(FaultKind::LostLength);
        }
        match lost {
            0 => (),
            _ if lost == total => self.tally(FaultKind::LostWrites),
            _ => self.tally(FaultKind::TornWrite),
        }
    }
}

impl Node {
    /// Remembers what the platter has at `sector`, before its first change since the last sync.
    fn save(&mut self, sector: usize) {
        if self.dirty.contains_key(&sector) {
            return;
        }
        let old = self.lost.remove(&sector).unwrap_or_else(|| {
            let mut old = vec![0; SECTOR];
            let start = (sector * SECTOR).min(self.cache.len());
            let end = (start + SECTOR).min(self.cache.len());
            old[..end - start].copy_from_slice(&self.cache[start..end]);
            old.into_boxed_slice()
        });
        self.dirty.insert(sector, old);
    }

    /// Puts the platter's bytes back, but for the first `keep`.
    fn restore(&mut self, sector: usize, old: &[u8], keep: usize) {
        let start = (sector * SECTOR + keep).min(self.cache.len());
        let end = ((sector + 1) * SECTOR).min(self.cache.len());
        if start < end {
            self.cache[start..end].copy_from_slice(&old[keep..keep + (end - start)]);
        }
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    let mut take_off = |path: &str, node| {
        if names.get(path) == Some(node) {
            names.remove(path);
        }
    };
    match change {
        NameChange::Link(path, node) => drop(names.insert(path.clone(), *node)),
        NameChange::Rename(from, to, node) => {
            take_off(from, node);
            names.insert(to.clone(), *node);
        }
        NameChange::Unlink(path, node) => take_off(path, node),
    }
}

/// Counts a command down; true when its turn has come.
fn due(left: &mut Option<u64>) -> bool {
    let now = *left == Some(0);
    *left = left.and_then(|left| left.checked_sub(1));
    now
}

fn size(number: u64) -> usize {
    usize::try_from(number).expect("this disk is smaller than the address space")
}

//! Who has a branch, as far as this process has heard, and what it said last.
//!
//! Pure but for its locks: time comes in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skerry_branch::Watcher;
use skerry_bus::{Moment, Name};
use skerry_proof::KeyHistory;

use super::wire::Here;
use crate::seat::Health;

/// A process that was not heard of for so long does not count as having the branch.
pub(crate) const SILENCE_US: u64 = 2_000_000;

/// One branch.
#[derive(Default)]
pub(crate) struct Stand {
    /// The highest epoch heard of.
    pub(crate) epoch: AtomicU64,
    pub(crate) durable: AtomicU64,
    pub(crate) covered: AtomicU64,
    pub(crate) watcher: Mutex<Option<Watcher>>,
    view: Mutex<View>,
}

/// What was said last.
#[derive(Default)]
pub(crate) struct View {
    /// Who has it; none if it was given up or has fallen silent.
    pub(crate) holder: Option<Name>,
    /// Who had it last.
    pub(crate) last: Option<Name>,
    pub(crate) heard: Moment,
    /// When it lost its last holder.
    pub(crate) lost: Option<Moment>,
    /// How it is doing, without meters and figures.
    pub(crate) health: Health,
    /// The same with them, of some moments ago.
    pub(crate) full: Option<Health>,
    /// When somebody last wanted them, and when they were last asked for.
    pub(crate) wanted: Option<Moment>,
    pub(crate) asked: Option<Moment>,
    /// The id of the key that signs now, and the history that ends with it.
    pub(crate) key: Option<[u8; 16]>,
    pub(crate) keys: Option<Arc<KeyHistory>>,
    pub(crate) keys_asked: Option<Moment>,
}

/// What an announcement changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Heard {
    /// It counts; else it is of a holder that is none any more.
    pub(crate) taken: bool,
    /// More is durable.
    pub(crate) moved: bool,
    /// Another process has it now, or nobody.
    pub(crate) changed: bool,
}

impl Stand {
    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an announcement, unless an epoch above its own has been heard of.
    pub(crate) fn hear(&self, here: Here, now: Moment) -> Heard {
        let Ok(node) = Name::new(&here.node) else { return Heard::default() };
        let mut view = self.view();
        let seen = self.epoch.load(Ordering::Acquire);
        let same = view.last == Some(node);
        let counts = match here.epoch {
            // Not open: worth showing if there is nothing better.
            0 => same || view.holder.is_none(),
            // An epoch is one opening's: whoever says it has the branch, whoever else was shown meanwhile.
            epoch => epoch >= seen,
        };
        if !counts {
            return Heard::default();
        }
        let changed = view.holder != (!here.gone).then_some(node);
        if here.gone {
            view.lose(now);
        } else {
            (view.holder, view.last, view.lost) = (Some(node), Some(node), None);
        }
        view.heard = now;
        view.key = here.key.or(view.key);
        view.health = here.health;
        drop(view);
        let moved = self.stands_at(here.epoch, here.position, here.covered);
        Heard { taken: true, moved, changed }
    }

    /// Takes note of where the branch stands under `epoch`; true if more is durable than was known.
    pub(crate) fn stands_at(&self, epoch: u64, position: u64, covered: u64) -> bool {
        let seen = self.epoch.load(Ordering::Acquire);
        if epoch == 0 || epoch < seen {
            return false;
        }
        if epoch > seen {
            // A declared loss takes positions back: the new epoch's word counts alone.
            self.epoch.store(epoch, Ordering::Release);
            self.covered.store(covered, Ordering::Release);
            return self.durable.swap(position, Ordering::AcqRel) != position;
        }
        self.covered.fetch_max(covered, Ordering::AcqRel);
        self.durable.fetch_max(position, Ordering::AcqRel) < position
    }

    /// Whether a word under `epoch` is older than what was heard of.
    pub(crate) fn is_stale(&self, epoch: u64) -> bool {
        epoch != 0 && epoch < self.epoch.load(Ordering::Acquire)
    }

    /// Who has it now.
    pub(crate) fn holder(&self) -> Option<Name> {
        self.view().holder
    }

    /// `node` has said that it does not have it, or is not there.
    pub(crate) fn deny(&self, node: Name, now: Moment) {
        let mut view = self.view();
        if view.holder == Some(node) {
            view.lose(now);
        }
    }

    /// Gives up a holder that has fallen silent; true if it did.
    pub(crate) fn check(&self, now: Moment) -> bool {
        let mut view = self.view();
        let silent = view.holder.is_some() && now.0.saturating_sub(view.heard.0) > SILENCE_US;
        if silent {
            view.lose(now);
        }
        silent
    }

    /// Whether nobody has had it for as long as a silence lasts.
    pub(crate) fn is_lost(&self, now: Moment) -> bool {
        self.view().lost.is_some_and(|lost| now.0.saturating_sub(lost.0) > SILENCE_US)
    }

    /// Whether somebody has it, or had it `patience_us` ago or less.
    pub(crate) fn may_be_asked(&self, now: Moment, patience_us: u64) -> bool {
        let view = self.view();
        let lately = |lost: Moment| now.0.saturating_sub(lost.0) <= patience_us;
        view.holder.is_some() || view.lost.is_some_and(lately)
    }

    /// How it is doing, as far as this process has heard.
    pub(crate) fn health(&self, now: Moment) -> Health {
        let mut view = self.view();
        view.wanted = Some(now);
        let light = view.health.clone();
        if view.holder.is_none() {
            let reason = match view.last {
                None => "no process that has it was heard of".to_owned(),
                Some(last) => {
                    let silent = now.0.saturating_sub(view.heard.0) / 1_000;
                    format!("no process has it; process {last} last said so, {silent} ms ago")
                }
            };
            let capacity = light.capacity;
            return Health { state: "away".into(), reason: Some(reason), capacity, ..light };
        }
        let position = self.durable.load(Ordering::Acquire).max(light.position);
        match view.full.clone() {
            None => Health { position, ..light },
            Some(full) => Health {
                meters: full.meters,
                figures: full.figures,
                histograms: full.histograms,
                position,
                ..light
            },
        }
    }
}

impl View {
    fn lose(&mut self, now: Moment) {
        self.holder = None;
        self.lost = Some(now);
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;

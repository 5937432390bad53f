//! What is counted of each bus, and how it stands.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How one bus is doing, since the process began. The process itself, [`LOCAL`](crate::LOCAL), is the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Figures {
    /// Its name.
    pub name: String,
    /// Whether this process sends on it.
    pub chosen: bool,
    /// Whether there is a way to it.
    pub up: bool,
    /// Messages handed to it.
    pub sent: u64,
    /// Messages that came over it and went to a branch.
    pub heard: u64,
    /// Messages dropped because somewhere a queue was full.
    pub dropped_busy: u64,
    /// Messages dropped because there was no way to it.
    pub dropped_away: u64,
    /// Messages dropped because they were no message of a branch of this institution, or not to the branch that they came to.
    pub refused: u64,
    /// Times the way to it was lost.
    pub links_lost: u64,
}

/// The same while it is counted, from any thread.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) up: AtomicBool,
    pub(crate) sent: AtomicU64,
    pub(crate) heard: AtomicU64,
    pub(crate) busy: AtomicU64,
    pub(crate) away: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) links_lost: AtomicU64,
    /// Messages that found this process's queue on the bus full: what the bus itself counts.
    pub(crate) missed: AtomicU64,
}

impl Line {
    pub(crate) fn new(name: &str, up: bool) -> Self {
        Self { name: name.to_owned(), up: AtomicBool::new(up), ..Self::default() }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(crate) fn figures(&self, chosen: bool) -> Figures {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Figures {
            name: self.name.clone(),
            chosen,
            up: self.is_up(),
            sent: read(&self.sent),
            heard: read(&self.heard),
            dropped_busy: read(&self.busy) + read(&self.missed),
            dropped_away: read(&self.away),
            refused: read(&self.refused),
            links_lost: read(&self.links_lost),
        }
    }
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
